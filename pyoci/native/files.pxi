# Files that commands look at by the hundred. Python's own functions cost more than the system calls that they make.

cdef enum:
    FIRST_READ = 4096  # Linux allocates and clears a buffer of the requested size
    MAX_SMALL = 16384


cdef ssize_t read_at(int dirfd, const char *path, char *content) noexcept nogil:
    """Read a small file to `content`, which has room for MAX_SMALL bytes. Return its size, or -1 with errno."""
    cdef ssize_t size, more = 0
    cdef int error
    cdef int fd = openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
    if fd < 0:
        return -1
    size = read(fd, content, FIRST_READ)
    if size == FIRST_READ:
        more = read(fd, content + FIRST_READ, MAX_SMALL - FIRST_READ)
    error = errno
    close(fd)
    if size < 0 or more < 0:
        set_errno(error)
        return -1
    if size + more == MAX_SMALL:
        set_errno(EFBIG)
        return -1
    return size + more


def read_small(path, int dirfd=AT_FDCWD):
    """Read a file of less than 16 KiB, without following a symlink at the end of the path.

    One read(2) suffices for less than 4 KiB. So the contents must come at once, as from a regular file, or from a file
    of the kernel that has a single record. Raises OSError, with EFBIG for a larger file.
    """
    cdef char content[MAX_SMALL]
    cdef ssize_t size = read_at(dirfd, path_bytes(path), content)
    if size < 0:
        raise failure()
    return content[:size]


def read_private(str directory, str name, str absent, int dirfd, uid_t owner):
    """Read a small file in a directory below `dirfd`, as `read_small` does.

    Returns None unless it is a directory that no user but `owner` can change, and that has no file named `absent`.
    Raises OSError.
    """
    cdef char content[MAX_SMALL]
    cdef ssize_t size
    cdef stat_t found
    cdef bytes path = path_bytes(directory)
    if fstatat(dirfd, path, &found, AT_SYMLINK_NOFOLLOW):
        raise failure()
    if found.st_mode & S_IFMT != S_IFDIR or found.st_uid != owner or found.st_mode & 0o022:
        return None
    size = read_at(dirfd, path + b"/" + path_bytes(name), content)
    if size < 0:
        raise failure()
    if fstatat(dirfd, path + b"/" + path_bytes(absent), &found, AT_SYMLINK_NOFOLLOW) == 0 or errno != ENOENT:
        return None
    return content[:size]


cdef enum:
    STAT_PARENT = 1  # indexes of fields after the state
    STAT_FLAGS = 6
    STAT_THREADS = 17
    STAT_START = 19
    STAT_PENDING = 28
    STAT_EXIT = 49
    STAT_FIELDS = 50


def process_status(int pid):
    """Return what /proc/PID/stat says about a process, or None if it does not exist. Raises OSError.

    These are numbers: the letter of the state, the parent, the flags, the count of threads, the start time, the pending
    signals, and the wait status.
    """
    cdef char path[32]
    cdef char content[MAX_SMALL]
    cdef uint64_t fields[STAT_FIELDS]
    cdef ssize_t size, at
    cdef int field = 0
    memcpy(path, b"/proc/", 6)
    write_number(path + 6, <unsigned int>pid)
    memcpy(path + strlen(path), b"/stat", 6)
    size = read_at(AT_FDCWD, path, content)
    if size < 0 and errno != ENOENT and errno != ESRCH:
        raise failure()
    if size <= 0:
        return None
    at = size - 1
    while at > 0 and content[at] != c")":  # the name in parentheses may contain anything
        at -= 1
    at = min(at + 2, size - 1)
    memset(fields, 0, sizeof(fields))
    cdef int state = content[at]
    while at < size and field < STAT_FIELDS:
        if content[at] == c" ":
            field += 1
        elif c"0" <= content[at] <= c"9":
            fields[field] = fields[field] * 10 + (content[at] - c"0")
        at += 1
    return (
        state, fields[STAT_PARENT], fields[STAT_FLAGS], fields[STAT_THREADS], fields[STAT_START], fields[STAT_PENDING],
        fields[STAT_EXIT],
    )


def read_file(path, dirfd, Py_ssize_t limit):
    """Read a file, up to `limit` bytes, without following a symlink at the end of the path. Raises OSError.

    The first read(2) is small, as in `read_small`. The others go on until the end of the file.
    """
    cdef char content[MAX_SMALL]
    cdef list parts = []
    cdef Py_ssize_t room = FIRST_READ, size = 0
    cdef int error = 0
    cdef int directory = AT_FDCWD if dirfd is None else dirfd
    cdef int fd = openat(directory, path_bytes(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
    if fd < 0:
        raise failure()
    while limit > 0:
        size = read(fd, content, <size_t>min(limit, room))
        if size < 0 and errno == EINTR:
            continue
        if size <= 0:
            error = errno
            break
        parts.append(content[:size])
        limit -= size
        room = MAX_SMALL
    close(fd)
    if size < 0:
        set_errno(error)
        raise failure()
    return b"".join(parts)


def list_names(int directory):
    """Return the names in an open directory, from its beginning; [] if it was removed. Raises OSError."""
    cdef char buffer[MAX_SMALL]
    cdef list names = []
    cdef linux_dirent64 *entry
    cdef const char *name
    cdef long size = 1, offset
    if lseek(directory, 0, SEEK_SET) < 0:
        raise failure()
    while size > 0:
        size = syscall(SYS_getdents64, directory, buffer, sizeof(buffer))
        offset = 0
        while offset < size:
            entry = <linux_dirent64 *>(buffer + offset)
            offset += entry.d_reclen
            name = entry.d_name
            if is_plain_name(name):
                names.append(name.decode("utf-8", "surrogateescape"))
    if size < 0 and errno != ENOENT:
        raise failure()
    return names


def namespaces(str pid, dict names):
    """Return the inodes of a process' namespaces. `names` maps each key of the result to a name in /proc/PID/ns.

    Leaves out namespaces that the kernel does not have, and those of a process that has ended. All namespaces are in
    one filesystem, so the inode identifies them. Raises OSError.
    """
    cdef stat_t found
    cdef dict inodes = {}
    cdef int error = 0
    cdef int directory = open(path_bytes(f"/proc/{pid}/ns"), O_PATH | O_DIRECTORY | O_CLOEXEC)
    if directory < 0:
        if errno == ENOENT or errno == ESRCH:
            return inodes
        raise failure()
    for kind, name in names.items():
        if fstatat(directory, path_bytes(name), &found, 0) == 0:
            inodes[kind] = found.st_ino
        elif errno != ENOENT and errno != ESRCH:
            error = errno
            break
    close(directory)
    if error:
        set_errno(error)
        raise failure()
    return inodes


def exists_at(path, int dirfd):
    """Whether a directory has an entry of this name, even a dangling symlink. Raises OSError."""
    cdef stat_t found
    if fstatat(dirfd, path_bytes(path), &found, AT_SYMLINK_NOFOLLOW) == 0:
        return True
    if errno != ENOENT:
        raise failure()
    return False


def stat_at(path, int dirfd):
    """Return the mode, the owner and the inode of a file, without following a symlink at the end of the path.

    An empty path stands for `dirfd` itself. Raises OSError.
    """
    cdef stat_t found
    if fstatat(dirfd, path_bytes(path), &found, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise failure()
    return found.st_mode, found.st_uid, found.st_ino
