"""JSON in and out: strict RFC 8259 in UTF-8, as section "Configuration" of the specification asks.

Two readers read by the same rules. The one of the extension is fast, and accepts or refuses. The one in
`careful` is slow, and says what is wrong and where; it reads again what the fast one refuses, and everything
where the extension is not built.
"""

try:
    from pyoci._native import json_dumps as _native_dumps
    from pyoci._native import json_loads as _native_loads
except ImportError:  # a checkout in which nothing is built
    _native_dumps = _native_loads = None  # type: ignore[assignment]

from pyoci.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Self

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
MAX_DIGITS = 20  # of an unsigned 64-bit integer

_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_CONSTANTS = {True: "true", False: "false", None: "null"}


class JsonError(ValueError):
    """The bytes are not a document that we read. Every problem found is in `problems`."""

    def __init__(self, problems: "Sequence[Problem]") -> None:
        super().__init__(str(problems[0]))
        self.problems = list(problems)


class Real(float):
    """A number written with a fraction or an exponent: no integer, not even 1.0. It keeps its spelling."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> "Self":
        number = super().__new__(cls, text)
        number.text = text
        return number


def loads(data: bytes) -> "Any":
    """The value of the JSON document `data`, without the object members whose value is null.

    A number with a fraction or an exponent is a float, even 1.0. Raises JsonError for more than 16 MiB,
    anything but UTF-8 without a byte order mark, a name that an object repeats, NaN and Infinity, integers of
    more than 20 digits, floats out of range, U+0000 and lone surrogates in strings, and nesting deeper
    than 64.
    """
    refused = None
    if len(data) <= MAX_BYTES and _native_loads is not None:
        try:
            return _native_loads(data, MAX_DEPTH)
        except ValueError as error:
            refused = error
    from pyoci.config import reader

    value, problems, _ = reader.parse(decode(data))
    if problems:
        raise JsonError(problems)
    if refused is not None:  # two readers that disagree: believe the one that refuses
        raise JsonError([Problem("", str(refused.args[0]))])
    return value


def decode(data: bytes) -> str:
    """The text of `data`. Raises JsonError if it is too long, or not UTF-8 without a byte order mark."""
    if len(data) > MAX_BYTES:
        raise JsonError([Problem("", f"the document has {len(data)} bytes, more than the limit of {MAX_BYTES}")])
    if data[:3] == b"\xef\xbb\xbf":
        raise JsonError([Problem("", "expected UTF-8 without a byte order mark, found one", 1, 1)])
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:2]:
        raise JsonError([Problem("", "expected UTF-8, found what looks like UTF-16 or UTF-32", 1, 1)])
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        newline = before.rfind(b"\n")
        column = len(str(before[newline + 1 :], "utf-8")) + 1
        problem = Problem("", f"the byte 0x{data[error.start]:02x} is not UTF-8", before.count(b"\n") + 1, column)
    raise JsonError([problem])


def dumps(value: "Any", *, indent: int | None = None) -> str:
    """`value` as JSON: compact, or over several lines with `indent` spaces for each level.

    Takes what `loads` returns, None and tuples too. Control characters, DEL and surrogates are escaped, other
    characters stand for themselves. Raises ValueError for NaN and infinities, TypeError for any other type.
    """
    if _native_dumps is not None and indent in (None, 2):
        try:
            return str(_native_dumps(value, indent=indent is not None), "utf-8")
        except TypeError:  # a float, or something worse
            pass
    parts: list[str] = []
    _write(value, parts.append, "\n" if indent is not None else "", " " * (indent or 0))
    return "".join(parts)


def quote(text: str) -> str:
    """`text` as a JSON string with all escaped that is not printable: safe in logs and on terminals."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join([_escape(character) for character in text]) + '"'


def _escape(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 | code >> 10:04x}\\u{0xDC00 | code & 0x3FF:04x}"


def _write(value: "Any", out: "Callable[[str], object]", newline: str, step: str) -> None:
    """Hand `value` to `out` piece by piece. `newline` is a line break and the indentation of this level."""
    if value is None or value is True or value is False:
        out(_CONSTANTS[value])
    elif isinstance(value, str):
        out('"' + "".join([_json_character(character) for character in value]) + '"')
    elif isinstance(value, int):
        out(int.__repr__(value))
    elif isinstance(value, float):
        if value - value != 0:
            raise ValueError(f"cannot write {value!r} as JSON")
        out(value.text if isinstance(value, Real) else float.__repr__(value))
    elif isinstance(value, dict):
        members = [f"{_name(name)}:{' ' if newline else ''}" for name in value]
        _write_items(list(value.values()), members, "{}", out, newline, step)
    elif isinstance(value, list | tuple):
        _write_items(value, [""] * len(value), "[]", out, newline, step)
    else:
        raise TypeError(f"cannot write a value of type {type(value).__name__} as JSON")


def _write_items(
    items: "Sequence[Any]",
    labels: list[str],
    brackets: str,
    out: "Callable[[str], object]",
    newline: str,
    step: str,
) -> None:
    if not items:
        out(brackets)
        return
    inner = newline + step
    separator = brackets[0]
    for label, item in zip(labels, items, strict=True):
        out(separator + inner + label)
        _write(item, out, inner, step)
        separator = ","
    out(newline + brackets[1])


def _name(name: "Any") -> str:
    if not isinstance(name, str):
        raise TypeError(f"cannot write a name of type {type(name).__name__} as JSON")
    return '"' + "".join([_json_character(character) for character in name]) + '"'


def _json_character(character: str) -> str:
    """As the extension writes it: what RFC 8259 and terminals need escaped is, and no more."""
    if character < " " or character in '"\\\x7f' or "\ud800" <= character <= "\udfff":
        return _escape(character)
    return character
