# Strict JSON (RFC 8259): bytes to values. json_write.pxi writes it.
#
# The hot path can't load the standard `json`. And two readers of one config.json must never understand it differently:
# this parser rejects text that others repair, guess or drop. It checks UTF-8 itself, because CPython's check would
# import `encodings` to report an error.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.version cimport PY_VERSION_HEX
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

cdef extern from *:
    int __builtin_ctzll(unsigned long long word) nogil

cdef extern from "endian.h":
    uint64_t le64toh(uint64_t word) nogil

cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    object PyUnicode_New(Py_ssize_t size, uint32_t largest)
    void PyUnicode_InternInPlace(PyObject **text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    int PyUnicode_KIND(object text)
    void *PyUnicode_DATA(object text)
    uint32_t PyUnicode_READ(int kind, void *data, Py_ssize_t index)
    object PyLong_FromString(const char *text, char **end, int base)
    double PyOS_string_to_double(const char *text, char **end, PyObject *overflow) except? -1.0
    bint Py_IS_INFINITY(double number)
    PyObject *PyDict_GetItem(object members, object name)

# Each level uses one or two C stack frames, so this limit holds whatever the caller passes.
cdef enum:
    _JSON_MAX_DEPTH = 1000
    _JSON_MAX_DIGITS = 20
    _JSON_NAMES = 512
    _JSON_LONGEST_NAME = 32
    _JSON_HAS_ESCAPES = 1  # what a string has
    _JSON_HAS_OTHERS = 2  # characters that are not ASCII

# Names of members that were read before. Making such a string and its hash anew would take most of the parser's time.
# A name has one place, by its length and three characters. So names from outside displace each other, but slow nothing
# down.
cdef PyObject *_json_names[_JSON_NAMES]


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────

cdef struct _JsonText:
    const uint8_t *start
    const uint8_t *at       # the next byte to read
    const uint8_t *end
    int max_depth


def json_loads(bytes data not None, int max_depth=64):
    """Parse the JSON text `data` to dict, list, str, int, float, bool or None.

    Drops `null` members of objects, because the runtime specification treats them as absent. `null` elements of arrays
    become None. A number with a fraction or an exponent becomes a float, even 1.0.

    Raises ValueError(reason, offset in bytes) if `data` breaks RFC 8259. Also rejects malformed UTF-8, a byte order
    mark, duplicate names in an object, NUL and lone surrogates in strings, integers of more than 20 digits, floats out
    of range, and nesting deeper than `max_depth` (1000 at most).
    """
    cdef _JsonText text
    text.start = text.at = <const uint8_t *>PyBytes_AS_STRING(data)
    text.end = text.start + PyBytes_GET_SIZE(data)
    text.max_depth = min(max_depth, _JSON_MAX_DEPTH)
    if text.end - text.start >= 3 and memcmp(text.start, b"\xef\xbb\xbf", 3) == 0:
        raise _json_fault(&text, text.start, "unexpected byte order mark")
    _json_skip_space(&text)
    value = _json_value(&text, 0)
    _json_skip_space(&text)
    if text.at < text.end:
        raise _json_fault(&text, text.at, "unexpected data after the value")
    return value


cdef object _json_fault(_JsonText *text, const uint8_t *where, str reason):
    return ValueError(reason, where - text.start)


cdef inline void _json_skip_space(_JsonText *text) noexcept:
    while text.at < text.end and text.at[0] in (c" ", c"\n", c"\t", c"\r"):
        text.at += 1


cdef inline bint _json_take(_JsonText *text, char expected) noexcept:
    """Skip `expected` and the space after it. Return False if another character comes next."""
    if text.at == text.end or text.at[0] != <uint8_t>expected:
        return False
    text.at += 1
    _json_skip_space(text)
    return True


cdef inline bint _json_take_word(_JsonText *text, const char *word, Py_ssize_t size) noexcept:
    if text.end - text.at < size or memcmp(text.at, word, size) != 0:
        return False
    text.at += size
    return True


cdef object _json_value(_JsonText *text, int depth):
    cdef uint8_t first
    if text.at == text.end:
        raise _json_fault(text, text.at, "unexpected end, expected a value")
    first = text.at[0]
    if first == c'"':
        return _json_string(text)
    if first == c"{" or first == c"[":
        if depth >= text.max_depth:
            raise _json_fault(text, text.at, f"nested deeper than {text.max_depth} levels")
        return _json_object(text, depth + 1) if first == c"{" else _json_array(text, depth + 1)
    if first == c"-" or c"0" <= first <= c"9":
        return _json_number(text)
    if _json_take_word(text, b"true", 4):
        return True
    if _json_take_word(text, b"false", 5):
        return False
    if _json_take_word(text, b"null", 4):
        return None
    raise _json_fault(text, text.at, "expected a value")


cdef dict _json_object(_JsonText *text, int depth):
    cdef dict members = {}
    cdef set absent = None  # names whose value is null: dropped, but still duplicates
    cdef const uint8_t *place
    _json_take(text, c"{")
    if _json_take(text, c"}"):
        return members
    while True:
        place = text.at
        if place == text.end or place[0] != c'"':
            raise _json_fault(text, place, "expected a member name in double quotes")
        name = _json_name(text)
        if name in members or absent is not None and name in absent:
            raise _json_fault(text, place, f"duplicate member name {name[:80]!r}")
        _json_skip_space(text)
        if not _json_take(text, c":"):
            raise _json_fault(text, text.at, "expected ':' after the member name")
        value = _json_value(text, depth)
        if value is not None:
            members[name] = value
        elif absent is None:
            absent = {name}
        else:
            absent.add(name)
        if _json_closes(text, c"}", "expected ',' or '}' after the member"):
            return members


cdef list _json_array(_JsonText *text, int depth):
    cdef list items = []
    _json_take(text, c"[")
    if _json_take(text, c"]"):
        return items
    while True:
        items.append(_json_value(text, depth))
        if _json_closes(text, c"]", "expected ',' or ']' after the element"):
            return items


cdef bint _json_closes(_JsonText *text, char closing, str reason) except -1:
    """Skip the character after a member or element. Return True for `closing`, False for a comma."""
    cdef const uint8_t *comma
    _json_skip_space(text)
    if _json_take(text, closing):
        return True
    comma = text.at
    if not _json_take(text, c","):
        raise _json_fault(text, comma, reason)
    if text.at < text.end and text.at[0] == <uint8_t>closing:
        raise _json_fault(text, comma, "unexpected trailing comma")
    return False


cdef inline const uint8_t *_json_digits_end(_JsonText *text, const uint8_t *at) noexcept:
    while at < text.end and c"0" <= at[0] <= c"9":
        at += 1
    return at


cdef object _json_number(_JsonText *text):
    cdef const uint8_t *start = text.at
    cdef const uint8_t *digits = start + (start[0] == c"-")
    cdef const uint8_t *at = _json_digits_end(text, digits)
    cdef const uint8_t *part
    cdef bint whole = True
    if at == digits:
        raise _json_fault(text, at, "expected a digit")
    if digits[0] == c"0" and at - digits > 1:
        raise _json_fault(text, start, "unexpected leading zero in a number")
    if at < text.end and at[0] == c".":
        whole = False
        part = at + 1
        at = _json_digits_end(text, part)
        if at == part:
            raise _json_fault(text, at, "expected a digit")
    if at < text.end and at[0] in (c"e", c"E"):
        whole = False
        part = at + 1
        if part < text.end and part[0] in (c"+", c"-"):
            part += 1
        at = _json_digits_end(text, part)
        if at == part:
            raise _json_fault(text, at, "expected a digit")
    text.at = at
    if not whole:
        return _json_float(text, start)
    if at - digits > _JSON_MAX_DIGITS:
        raise _json_fault(text, start, f"integer of more than {_JSON_MAX_DIGITS} digits")
    return _json_int(start, at)


cdef object _json_int(const uint8_t *start, const uint8_t *end):
    """Convert an optional sign and 1 to 20 digits."""
    cdef char copy[_JSON_MAX_DIGITS + 2]
    cdef long number = 0
    cdef const uint8_t *at = start
    cdef bint negative = start[0] == c"-"
    if end - start > 18:  # may not fit a long
        memcpy(copy, start, end - start)
        copy[end - start] = 0
        return PyLong_FromString(copy, NULL, 10)
    at += negative
    while at < end:
        number = number * 10 + (at[0] - c"0")
        at += 1
    return -number if negative else number


cdef object _json_float(_JsonText *text, const uint8_t *start):
    """Convert the number from `start` to text.at, which matches the grammar."""
    cdef char *end = NULL  # passing it allows other text after the number
    cdef double number = PyOS_string_to_double(<const char *>start, &end, NULL)
    if Py_IS_INFINITY(number):
        raise _json_fault(text, start, "number out of range")
    return number


# A string is read in one or two passes. The first finds its end, and rejects bad strings. The second replaces escapes,
# if there are any. A character in UTF-8 is never longer than its escape, so the result fits into the original size.

cdef object _json_string(_JsonText *text):
    cdef int has = 0
    cdef const uint8_t *start = text.at + 1
    cdef const uint8_t *end = _json_string_end(text, &has)
    text.at = end + 1
    if has & _JSON_HAS_ESCAPES:
        return _json_unescape(start, end)
    if has:
        return PyUnicode_DecodeUTF8(<const char *>start, end - start, NULL)
    return _json_ascii(start, end - start)


cdef object _json_ascii(const uint8_t *start, Py_ssize_t size):
    made = PyUnicode_New(size, 0x7F)
    memcpy(PyUnicode_DATA(made), start, size)
    return made


cdef object _json_name(_JsonText *text):
    """Read a string that is the name of a member."""
    cdef int has = 0
    cdef const uint8_t *start = text.at + 1
    cdef Py_ssize_t size = _json_string_end(text, &has) - start
    cdef PyObject **place
    if has or not 0 < size <= _JSON_LONGEST_NAME:
        return _json_string(text)
    text.at = start + size + 1
    place = &_json_names[(start[0] + 7 * start[size // 2] + 31 * start[size - 1] + 61 * size) % _JSON_NAMES]
    if place[0] == NULL or PyUnicode_GET_LENGTH(<object>place[0]) != size \
            or memcmp(PyUnicode_DATA(<object>place[0]), start, size):
        made = _json_ascii(start, size)
        Py_XDECREF(place[0])
        Py_INCREF(made)
        place[0] = <PyObject *>made
        if PY_VERSION_HEX >> 16 != 0x030C:  # the first releases of CPython 3.12 never free an interned string
            PyUnicode_InternInPlace(place)
    return <object>place[0]


cdef inline uint64_t _json_specials(uint64_t word) noexcept:
    """Set the high bit of the first of 8 bytes that is a quote, a backslash, a control character or not ASCII.

    Returns 0 if there is none. Higher bits may be set, too.
    """
    cdef uint64_t ones = 0x0101010101010101
    cdef uint64_t quotes = word ^ (ones * 0x22), slashes = word ^ (ones * 0x5C)
    return (word | (word - ones * 0x20) | (quotes - ones) | (slashes - ones)) & (ones * 0x80)


cdef const uint8_t *_json_string_end(_JsonText *text, int *has) except NULL:
    """Check the string whose opening quote is at text.at. Return its closing quote, and what the string has."""
    cdef const uint8_t *at = text.at + 1
    cdef uint64_t word, specials
    cdef int size
    while at < text.end:
        if text.end - at >= 8:
            memcpy(&word, at, 8)
            specials = _json_specials(le64toh(word))
            if specials == 0:
                at += 8
                continue
            at += __builtin_ctzll(specials) // 8
        if at[0] == c'"':
            return at
        if at[0] < 0x20:
            raise _json_fault(text, at, f"unescaped control character 0x{at[0]:02x} in a string")
        if at[0] == c"\\":
            has[0] |= _JSON_HAS_ESCAPES
            at += _json_escape_size(text, at)
        elif at[0] < 0x80:
            at += 1
        else:
            size = _json_utf8_size(at, text.end)
            if size == 0:
                raise _json_fault(text, at, "malformed UTF-8 in a string")
            has[0] |= _JSON_HAS_OTHERS
            at += size
    raise _json_fault(text, text.at, "unterminated string")


cdef int _json_escape_size(_JsonText *text, const uint8_t *at) except 0:
    """Size of the escape at `at` in bytes: 2, 6, or 12 for a surrogate pair."""
    cdef int code
    if text.end - at < 2:
        raise _json_fault(text, text.at, "unterminated string")
    if at[1] in (c'"', c"\\", c"/", c"b", c"f", c"n", c"r", c"t"):
        return 2
    if at[1] != c"u":
        raise _json_fault(text, at, "unknown escape in a string")
    code = _json_hex4(at + 2, text.end)
    if code < 0:
        raise _json_fault(text, at, "expected four hexadecimal digits after \\u")
    if code == 0:
        raise _json_fault(text, at, "NUL in a string")
    if not 0xD800 <= code < 0xE000:
        return 6
    if code < 0xDC00 and text.end - at >= 12 and at[6] == c"\\" and at[7] == c"u" \
            and 0xDC00 <= _json_hex4(at + 8, text.end) < 0xE000:
        return 12
    raise _json_fault(text, at, "lone surrogate in a string")


cdef int _json_hex4(const uint8_t *at, const uint8_t *end) noexcept:
    """The value of four hexadecimal digits, or -1."""
    cdef int value = 0, index
    if end - at < 4:
        return -1
    for index in range(4):
        if c"0" <= at[index] <= c"9":
            value = value * 16 + at[index] - c"0"
        elif c"a" <= (at[index] | 0x20) <= c"f":
            value = value * 16 + (at[index] | 0x20) - c"a" + 10
        else:
            return -1
    return value


cdef object _json_unescape(const uint8_t *at, const uint8_t *end):
    """Decode a string with escapes, which `_json_string_end` has checked."""
    cdef bytes buffer = PyBytes_FromStringAndSize(NULL, end - at)
    cdef uint8_t *start = <uint8_t *>PyBytes_AS_STRING(buffer)
    cdef uint8_t *out = start
    cdef uint32_t code
    while at < end:
        if at[0] != c"\\":
            out[0] = at[0]
            at += 1
            out += 1
        elif at[1] != c"u":
            out[0] = _json_short_escape(at[1])
            at += 2
            out += 1
        else:
            code = _json_hex4(at + 2, end)
            at += 6
            if 0xD800 <= code < 0xE000:
                code = 0x10000 + ((code - 0xD800) << 10) + (_json_hex4(at + 2, end) - 0xDC00)
                at += 6
            out += _json_utf8_put(out, code)
    return PyUnicode_DecodeUTF8(<const char *>start, out - start, NULL)


cdef uint8_t _json_short_escape(uint8_t letter) noexcept:
    if letter == c"n":
        return c"\n"
    if letter == c"t":
        return c"\t"
    if letter == c"r":
        return c"\r"
    if letter == c"b":
        return c"\b"
    if letter == c"f":
        return c"\f"
    return letter


cdef int _json_utf8_size(const uint8_t *at, const uint8_t *end) noexcept:
    """Size of the character at `at` (not ASCII) in bytes; 0 if it is not UTF-8 (Unicode, table 3-7)."""
    cdef uint8_t first = at[0], least = 0x80, most = 0xBF
    cdef int size, index
    if 0xC2 <= first <= 0xDF:
        size = 2
    elif 0xE0 <= first <= 0xEF:
        size = 3
        if first == 0xE0:
            least = 0xA0  # below: overlong
        elif first == 0xED:
            most = 0x9F   # above: surrogates
    elif 0xF0 <= first <= 0xF4:
        size = 4
        if first == 0xF0:
            least = 0x90  # below: overlong
        elif first == 0xF4:
            most = 0x8F   # above: past U+10FFFF
    else:
        return 0
    if end - at < size or not least <= at[1] <= most:
        return 0
    for index in range(2, size):
        if not 0x80 <= at[index] <= 0xBF:
            return 0
    return size


cdef int _json_utf8_put(uint8_t *out, uint32_t code) noexcept:
    """Write `code`, which must not be a surrogate, in UTF-8. Return the number of bytes."""
    if code < 0x80:
        out[0] = code
        return 1
    if code < 0x800:
        out[0] = 0xC0 | (code >> 6)
        out[1] = 0x80 | (code & 0x3F)
        return 2
    if code < 0x10000:
        out[0] = 0xE0 | (code >> 12)
        out[1] = 0x80 | (code >> 6 & 0x3F)
        out[2] = 0x80 | (code & 0x3F)
        return 3
    out[0] = 0xF0 | (code >> 18)
    out[1] = 0x80 | (code >> 12 & 0x3F)
    out[2] = 0x80 | (code >> 6 & 0x3F)
    out[3] = 0x80 | (code & 0x3F)
    return 4


# ── Checking ────────────────────────────────────────────────────────────────────────────────────────────

def each_has_types(dict data not None, dict types not None):
    """Whether each value of `data` is a dict with these members, as in `has_types`."""
    for value in data.values():
        if type(value) is not dict or not has_types(value, types):
            return False
    return True


def has_types(dict data not None, dict types not None):
    """Whether each key of `types` is in `data`, with a value of exactly that type. A bool is not an int here."""
    cdef PyObject *value
    for key, kind in types.items():
        value = PyDict_GetItem(data, key)
        if value == NULL or type(<object>value) is not kind:
            return False
    return True
