# Write JSON: values to bytes. json.pxi reads it.

cdef struct _JsonOutput:
    uint8_t *start
    Py_ssize_t used
    Py_ssize_t size
    bint indent


def json_dumps(object value, bint indent=False):
    """Format `value` as JSON text in UTF-8: on one line without spaces, or indented by two spaces per level.

    Accepts dict with str names, list, tuple, str, int, bool and None. Escapes control characters and DEL. Writes a lone
    surrogate, which stands for a byte of a name that is not UTF-8, as its escape.

    Raises TypeError for other types, and ValueError for nesting deeper than 1000 levels, such as a list in itself.
    """
    cdef _JsonOutput out
    memset(&out, 0, sizeof(out))
    out.indent = indent
    try:
        _json_write(&out, value, 0)
        return PyBytes_FromStringAndSize(<const char *>out.start, out.used)
    finally:
        PyMem_Free(out.start)


cdef int _json_reserve(_JsonOutput *out, Py_ssize_t more) except -1:
    """Make room for `more` bytes."""
    cdef Py_ssize_t size
    cdef void *start
    if out.size - out.used >= more:
        return 0
    size = 2 * out.size + more + 256
    start = PyMem_Realloc(out.start, size)
    if start == NULL:
        raise MemoryError
    out.start = <uint8_t *>start
    out.size = size
    return 0


cdef int _json_put(_JsonOutput *out, const char *data, Py_ssize_t size) except -1:
    _json_reserve(out, size)
    memcpy(out.start + out.used, data, size)
    out.used += size
    return 0


cdef int _json_break_line(_JsonOutput *out, int depth) except -1:
    """Begin a new line at `depth` if the output is indented."""
    if not out.indent:
        return 0
    _json_reserve(out, 1 + 2 * depth)
    out.start[out.used] = c"\n"
    memset(out.start + out.used + 1, c" ", 2 * depth)
    out.used += 1 + 2 * depth
    return 0


cdef int _json_write(_JsonOutput *out, object value, int depth) except -1:
    if value is None:
        return _json_put(out, b"null", 4)
    if value is True:
        return _json_put(out, b"true", 4)
    if value is False:
        return _json_put(out, b"false", 5)
    if isinstance(value, str):
        return _json_write_string(out, value)
    if isinstance(value, int):
        return _json_write_digits(out, int.__repr__(value))
    if depth >= _JSON_MAX_DEPTH:
        raise ValueError(f"cannot write JSON: nested deeper than {_JSON_MAX_DEPTH} levels")
    if isinstance(value, dict):
        return _json_write_object(out, value, depth + 1)
    if isinstance(value, (list, tuple)):
        return _json_write_array(out, value, depth + 1)
    raise TypeError(f"cannot write JSON: a {type(value).__name__} has no place in it")


cdef int _json_write_object(_JsonOutput *out, object members, int depth) except -1:
    cdef bint first = True
    if not members:
        return _json_put(out, b"{}", 2)
    _json_put(out, b"{", 1)
    for name, value in (<dict>members).items():  # subclasses too
        if not isinstance(name, str):
            raise TypeError(f"cannot write JSON: a member name is a {type(name).__name__}, not a str")
        if not first:
            _json_put(out, b",", 1)
        first = False
        _json_break_line(out, depth)
        _json_write_string(out, name)
        _json_put(out, b": ", 2 if out.indent else 1)
        _json_write(out, value, depth)
    _json_break_line(out, depth - 1)
    return _json_put(out, b"}", 1)


cdef int _json_write_array(_JsonOutput *out, object items, int depth) except -1:
    cdef bint first = True
    if not items:
        return _json_put(out, b"[]", 2)
    _json_put(out, b"[", 1)
    for item in items:
        if not first:
            _json_put(out, b",", 1)
        first = False
        _json_break_line(out, depth)
        _json_write(out, item, depth)
    _json_break_line(out, depth - 1)
    return _json_put(out, b"]", 1)


cdef int _json_write_string(_JsonOutput *out, object text) except -1:
    cdef int kind = PyUnicode_KIND(text)
    cdef void *data = PyUnicode_DATA(text)
    cdef Py_ssize_t index, length = PyUnicode_GET_LENGTH(text)
    cdef uint8_t *at
    _json_reserve(out, 6 * length + 2)  # every character may become \uXXXX
    at = out.start + out.used
    at[0] = c'"'
    at += 1
    for index in range(length):
        at += _json_put_character(at, PyUnicode_READ(kind, data, index))
    at[0] = c'"'
    out.used = at + 1 - out.start
    return 0


cdef inline int _json_put_character(uint8_t *at, uint32_t code) noexcept:
    """Write `code` for use in a string, escaped if necessary. Return the number of bytes, 6 at most."""
    cdef const char *digits = b"0123456789abcdef"
    cdef char letter
    if code == c'"' or code == c"\\":
        letter = <char>code
    elif 0x20 <= code < 0x7F:
        at[0] = <uint8_t>code
        return 1
    elif code == c"\n":
        letter = c"n"
    elif code == c"\t":
        letter = c"t"
    elif code == c"\r":
        letter = c"r"
    elif code == c"\b":
        letter = c"b"
    elif code == c"\f":
        letter = c"f"
    elif code < 0x20 or code == 0x7F or 0xD800 <= code < 0xE000:
        at[0] = c"\\"
        at[1] = c"u"
        at[2] = digits[code >> 12]
        at[3] = digits[code >> 8 & 0xF]
        at[4] = digits[code >> 4 & 0xF]
        at[5] = digits[code & 0xF]
        return 6
    else:
        return _json_utf8_put(at, code)
    at[0] = c"\\"
    at[1] = letter
    return 2


cdef int _json_write_digits(_JsonOutput *out, object digits) except -1:
    """Write the ASCII str `digits` unchanged."""
    return _json_put(out, <const char *>PyUnicode_DATA(digits), PyUnicode_GET_LENGTH(digits))
