# The entries of pagemap-N.img of CRIU. A process with much memory has millions.

cdef enum: MAX_ENTRY = 1 << 12  # bytes
cdef uint64_t MAX_PAGES = <uint64_t>1 << 40  # more than an address space has


def count_pages(bytes data, Py_ssize_t at):
    """Count the pages that the entries from `at` say are in pages-M.img. Raises ValueError.

    Returns the sum, and where the first entry begins that `data` has not whole.
    """
    cdef const unsigned char *bytes_ = data
    cdef Py_ssize_t size = len(data), end
    cdef uint64_t pages = 0, more
    cdef const char *wrong
    while size - at >= 4:
        end = (bytes_[at] | bytes_[at + 1] << 8 | bytes_[at + 2] << 16 | <Py_ssize_t>bytes_[at + 3] << 24) + at + 4
        if end - at - 4 > MAX_ENTRY:
            raise ValueError("it has an entry that is too large")
        if end == at + 4:  # a file may have a terabyte of zeros that take no space
            raise ValueError("it has an empty entry")
        if end > size:
            break
        more = 0
        wrong = entry_pages(bytes_ + at + 4, bytes_ + end, &more)
        pages += more
        if wrong is not NULL or more > MAX_PAGES or pages > MAX_PAGES:
            raise ValueError(wrong.decode() if wrong is not NULL else "it has too many pages")
        at = end
    return pages, at


cdef const char *entry_pages(const unsigned char *at, const unsigned char *end, uint64_t *pages) noexcept nogil:
    """Read how many pages of an entry are in the file. Returns what is wrong, or NULL.

    Images of old versions of CRIU have a bool instead of the flags, and the number in another field.
    """
    cdef uint64_t fields[16]
    cdef bint present[16]
    cdef uint64_t value
    cdef unsigned char byte
    cdef int key, shift, i
    for i in range(16):
        fields[i] = 0
        present[i] = False
    while at < end:
        key = at[0]
        at += 1
        if key & 0x87:  # not a varint, or a large number of a field
            return "it has a field that is not a number"
        value = 0
        shift = 0
        byte = 0x80
        while byte & 0x80:
            if at >= end or shift > 63:
                return "it has a field that is not a number"
            byte = at[0]
            value |= <uint64_t>(byte & 0x7F) << shift
            shift += 7
            at += 1
        fields[key >> 3] = value
        present[key >> 3] = True
    # 2: number in old images, 3: in the parent in old images, 4: flags (1 in the parent, 4 present), 5: number
    if (fields[4] & 5) == 4 if present[4] else fields[3] == 0:
        pages[0] = fields[5] if present[5] else fields[2]
    return NULL
