# Compare JSON texts that differ in a few values. `list` reads the records of a thousand containers.

cdef const uint8_t *_simple_string_end(const uint8_t *at, const uint8_t *end) noexcept:
    """Return what follows a string of printable ASCII without escapes; NULL if there is none at `at`."""
    if at == end or at[0] != c'"':
        return NULL
    at += 1
    while at < end and 0x20 <= at[0] < 0x7F and at[0] != c'"' and at[0] != c"\\":
        at += 1
    return at + 1 if at < end and at[0] == c'"' else NULL


cdef const uint8_t *_simple_number_end(const uint8_t *at, const uint8_t *end) noexcept:
    """Return what follows a number of 1 to 18 digits without a leading zero; NULL if there is none at `at`."""
    cdef const uint8_t *start = at
    while at < end and c"0" <= at[0] <= c"9":
        at += 1
    return at if 0 < at - start <= 18 and (start[0] != c"0" or at - start == 1) else NULL


cdef const uint8_t *_simple_array_end(const uint8_t *at, const uint8_t *end) noexcept:
    """Return what follows an array of simple strings; NULL if there is none at `at`."""
    if end - at >= 2 and at[0] == c"[" and at[1] == c"]":
        return at + 2
    if at == end or at[0] != c"[":
        return NULL
    while True:
        at = _simple_string_end(at + 1, end)
        if at == NULL or at == end:
            return NULL
        if at[0] == c"]":
            return at + 1
        if at[0] != c",":
            return NULL


def match_json(bytes text not None, list parts not None):
    """Return the values in `text` if it consists of `parts`; else None.

    A part is text as bytes, or the type of a value: str, int or list, which stands for an array of strings. Numbers
    have no sign and at most 18 digits, strings have no escapes and are ASCII. The list of values has None for an array.
    """
    cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(text)
    cdef const uint8_t *end = at + PyBytes_GET_SIZE(text)
    cdef const uint8_t *start
    cdef Py_ssize_t size
    cdef list values = []
    for part in parts:
        start = at
        if type(part) is bytes:
            size = PyBytes_GET_SIZE(part)
            if end - at < size or memcmp(at, PyBytes_AS_STRING(part), size):
                return None
            at += size
        elif part is str:
            at = _simple_string_end(at, end)
            if at == NULL:
                return None
            values.append(PyUnicode_DecodeUTF8(<const char *>start + 1, at - start - 2, NULL))
        elif part is int:
            at = _simple_number_end(at, end)
            if at == NULL:
                return None
            values.append(_json_int(start, at))
        else:
            at = _simple_array_end(at, end)
            if at == NULL:
                return None
            values.append(None)
    return values if at == end else None
