"""Read and write JSON: strict RFC 8259 in UTF-8, as section "Configuration" of the specification demands.

Two readers apply the same rules. The extension's is fast, and only accepts or rejects. The one in `reader` is slow,
and says what is wrong and where. It reads again what the extension rejects, and everything if the extension is not
built.
"""

try:
    from pyoci._native import json_dumps as _native_dumps
    from pyoci._native import json_loads as _native_loads
except ImportError:  # a checkout in which nothing is built
    _native_dumps = _native_loads = None  # type: ignore[assignment]

from pyoci.config.text import MAX_BYTES, MAX_DEPTH, Real, encode
from pyoci.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_CONSTANTS = {True: "true", False: "false", None: "null"}


class JsonError(ValueError):
    """The bytes are not a JSON document that pyoci accepts. `problems` lists everything wrong with it."""

    def __init__(self, problems: "Sequence[Problem]") -> None:
        super().__init__(str(problems[0]))
        self.problems = list(problems)


def loads(data: bytes) -> "Any":
    """Return the value of the JSON document `data`, without object members whose value is null.

    A number with a fraction or an exponent is a float, even 1.0. Raises JsonError for

    - more than 16 MiB, or nesting deeper than 64;
    - anything but UTF-8, and for a byte order mark;
    - a name that an object repeats;
    - NaN, Infinity, floats out of range, and integers of more than 20 digits;
    - U+0000 and lone surrogates in strings.
    """
    rejected = None
    if len(data) <= MAX_BYTES and _native_loads is not None:
        try:
            return _native_loads(data, MAX_DEPTH)
        except ValueError as error:
            rejected = error
    from pyoci.config import reader

    value, problems, _ = reader.parse(decode(data))
    if problems:
        raise JsonError(problems)
    if rejected is not None:  # the readers disagree: believe the stricter one
        raise JsonError([Problem("", str(rejected.args[0]))])
    return value


def decode(data: bytes) -> str:
    """Return the text of `data`. Raises JsonError if it is too long, has a byte order mark, or is not UTF-8."""
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


def dumps(value: object, *, indent: int | None = None) -> str:
    """Return `value` as JSON: on one line, or with `indent` spaces for each level.

    Takes what `loads` returns, and None and tuples. Escapes control characters, DEL and surrogates. Raises ValueError
    for NaN and infinities, TypeError for any other type.
    """
    if _native_dumps is not None and indent in (None, 2):
        try:
            return str(_native_dumps(value, indent=indent is not None), "utf-8")
        except TypeError:  # a float, or a type that the code below rejects with a better message
            pass
    parts: list[str] = []
    _write(value, parts.append, "\n" if indent is not None else "", " " * (indent or 0))
    return "".join(parts)


def _write(value: object, out: "Callable[[str], object]", newline: str, step: str) -> None:
    """Pass `value` to `out` piece by piece. `newline` is a line break and the indentation of this level."""
    if value is None or value is True or value is False:
        out(_CONSTANTS[value])
    elif isinstance(value, str):
        out(encode(value))
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
    items: "Sequence[object]",
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


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"cannot write a name of type {type(name).__name__} as JSON")
    return encode(name)
