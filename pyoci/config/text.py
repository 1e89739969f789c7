"""JSON values as text: what the reader, the writer and the messages share. This module imports none of them."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    # A value of a JSON document.
    Json = str | float | bool | None | list["Json"] | dict[str, "Json"]

MAX_BYTES = 16 * 1024 * 1024  # of a document
MAX_DEPTH = 64
MAX_DIGITS = 20  # of an unsigned 64-bit integer

_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


class Real(float):
    """A number written with a fraction or an exponent, such as 1.0 or 1e3. It keeps its spelling in `text`."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> "Self":
        number = super().__new__(cls, text)
        number.text = text
        return number


def quote(text: str) -> str:
    """`text` as a JSON string in which every unprintable character is escaped: safe in logs and on terminals."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join([_escape(character) for character in text]) + '"'


def encode(text: str) -> str:
    """`text` as a JSON string, as the extension writes it. Escapes what RFC 8259 and terminals need escaped."""
    return '"' + "".join([_escape(each) if _needs_escape(each) else each for each in text]) + '"'


def _needs_escape(character: str) -> bool:
    return character < " " or character in '"\\\x7f' or "\ud800" <= character <= "\udfff"


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


def printable(text: str) -> str:
    """`text` on one line, with control characters and undecodable bytes as escapes."""
    return text if text.isprintable() else "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    code = ord(character)
    if character == "\n":
        return "\\n"
    if character.isprintable():
        return character
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
