"""Values in GVariant's text format, which annotations use for systemd's properties: `'a'`, `uint64 5`, `['b', 'c']`.

Pure. Implements the text format that GLib documents, for the types of D-Bus: without maybes and placeholders.
"""

from pyoci.dbus.wire import Variant, dictionary, types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

KEYWORDS = {
    "boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t",
    "handle": "h", "double": "d", "string": "s", "objectpath": "o", "signature": "g",
}  # fmt: skip

_RANGES = {
    "y": (0, 255), "n": (-1 << 15, (1 << 15) - 1), "q": (0, (1 << 16) - 1), "i": (-1 << 31, (1 << 31) - 1),
    "u": (0, (1 << 32) - 1), "x": (-1 << 63, (1 << 63) - 1), "t": (0, (1 << 64) - 1), "h": (0, (1 << 31) - 1),
}  # fmt: skip
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_NUMBER = frozenset("+-.0123456789abcdefxABCDEFX")
_MAX_DEPTH = 16
_MAX_TYPE = 255  # characters


def parse(text: str) -> Variant:
    """Parse `text`, a single value. Raises ValueError with the reason."""
    parser = _Parser(text)
    literal = parser.literal()
    if parser.peek():
        raise ValueError(f"unexpected `{text[parser.at :]}` after the value")
    return _with_type(literal)


def _with_type(literal: "_Literal") -> Variant:
    signature = literal.type_()
    if len(signature) > _MAX_TYPE:
        raise ValueError(f"its type is longer than {_MAX_TYPE} characters")
    list(types(signature))  # valid parts can make an invalid type
    return Variant(signature, literal.as_(signature))


class _Literal:
    """A value whose type may depend on its neighbours: 2 in the array `[uint64 1, 2]`.

    fixed    the type that the text determines, or ""
    default  the type otherwise
    build    makes the value of a type
    """

    def __init__(self, default: str, build: "Callable[[str], Any]", fixed: str = "") -> None:
        self.default = default
        self.build = build
        self.fixed = fixed

    def type_(self) -> str:
        return self.fixed or self.default

    def as_(self, signature: str) -> "Any":
        if self.fixed and self.fixed != signature:
            raise ValueError(f"expected a value of type `{signature}`, found one of type `{self.fixed}`")
        return self.build(signature)


class _Parser:
    """A recursive descent parser."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._depth = 0

    def peek(self) -> str:
        """Skip blanks and return the next character, "" at the end."""
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def literal(self) -> _Literal:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError("nested too deep")
        character = self.peek()
        if character in ("'", '"'):
            literal = _string(self._quoted())
        elif character == "b" and self.text[self.at + 1 : self.at + 2] in ("'", '"'):
            self.at += 1
            data = self._quoted().encode("latin-1") + b"\0"
            literal = _Literal("ay", _only("ay", data), "ay")
        elif character == "[":
            literal = self._array()
        elif character == "(":
            literal = self._tuple()
        elif character == "{":
            literal = self._dictionary()
        elif character == "<":
            self.at += 1
            inner = self.literal()
            self._expect(">")
            literal = _Literal("v", _only("v", _with_type(inner)), "v")
        elif character == "@":
            literal = self._annotated()
        elif character and (character in "+-." or character.isdigit()):
            literal = self._number()
        else:
            literal = self._word()
        self._depth -= 1
        return literal

    def _expect(self, character: str) -> None:
        if self.peek() != character:
            found = f"`{self.text[self.at :]}`" if self.peek() else "the end"
            raise ValueError(f"expected `{character}` instead of {found}")
        self.at += 1

    def _list(self, end: str) -> "list[_Literal]":
        """Parse literals separated by commas, up to `end`."""
        self.at += 1
        found: list[_Literal] = []
        while self.peek() != end:
            found.append(self.literal())
            if self.peek() != end:
                self._expect(",")
        self.at += 1
        return found

    def _array(self) -> _Literal:
        members = self._list("]")

        def build(signature: str) -> "Any":
            if signature[0] != "a" or signature[1] == "{":
                raise ValueError(f"expected a value of type `{signature}`, found an array")
            return [member.as_(signature[1:]) for member in members]

        if not members:
            return _Literal("as", build)  # systemd accepts it as the empty value of most of its lists
        element = _common(members)
        return _Literal("a" + element, build, "a" + element if any(member.fixed for member in members) else "")

    def _tuple(self) -> _Literal:
        members = self._list(")")
        if not members:
            raise ValueError("a tuple needs members")

        def build(signature: str) -> "Any":
            parts = list(types(signature[1:-1])) if signature[0] == "(" else []
            if len(parts) != len(members):
                raise ValueError(f"expected a value of type `{signature}`, found a tuple of {len(members)}")
            return tuple(member.as_(part) for member, part in zip(members, parts, strict=True))

        return _Literal(f"({''.join(member.type_() for member in members)})", build)

    def _dictionary(self) -> _Literal:
        self.at += 1
        keys: list[_Literal] = []
        values: list[_Literal] = []
        while self.peek() != "}":
            keys.append(self.literal())
            self._expect(":")
            values.append(self.literal())
            if self.peek() != "}":
                self._expect(",")
        self.at += 1
        if not keys:
            raise ValueError("an empty dictionary needs its type, such as `@a{sv} {}`")

        if len(kind := _common(keys)) != 1 or kind == "v":
            raise ValueError(f"a dictionary's keys can't be of type `{kind}`")

        def build(signature: str) -> "Any":
            if signature[:2] != "a{":
                raise ValueError(f"expected a value of type `{signature}`, found a dictionary")
            key, value = types(signature[2:-1])
            return dictionary(key, [(k.as_(key), v.as_(value)) for k, v in zip(keys, values, strict=True)])

        return _Literal(f"a{{{kind}{_common(values)}}}", build)

    def _annotated(self) -> _Literal:
        """Parse `@TYPE VALUE`."""
        start = self.at + 1
        end = start
        while self.text[end : end + 1] and not self.text[end].isspace():
            end += 1
        signature = self.text[start:end]
        if len(list(types(signature))) != 1:
            raise ValueError(f"`{signature}` is not one type")
        self.at = end
        if signature[:2] == "a{" and self.peek() == "{":
            opened = self.at
            self.at += 1
            if self.peek() == "}":
                self.at += 1
                return _Literal(signature, _only(signature, {}), signature)
            self.at = opened
        value = self.literal().as_(signature)
        return _Literal(signature, _only(signature, value), signature)

    def _word(self) -> _Literal:
        """Parse `true`, `false`, or a type's name with a value."""
        start = self.at
        while self.text[self.at : self.at + 1] and self.text[self.at] in _LETTERS:
            self.at += 1
        word = self.text[start : self.at]
        if word in ("true", "false"):
            return _Literal("b", _only("b", word == "true"), "b")
        if word in ("inf", "nan"):
            return _Literal("d", _only("d", float(word)), "d")
        if word not in KEYWORDS:
            found = f"`{self.text[start:]}`" if self.text[start:] else "the end"
            raise ValueError(f"expected a value instead of {found}")
        signature = KEYWORDS[word]
        value = self.literal().as_(signature)
        return _Literal(signature, _only(signature, value), signature)

    def _number(self) -> _Literal:
        start = self.at
        while self.text[self.at : self.at + 1] in _NUMBER and self.text[self.at : self.at + 1]:
            self.at += 1
        token = self.text[start : self.at]
        digits = token.lstrip("+-").lower()
        try:
            if "." in token or ("e" in digits and not digits.startswith("0x")):
                real = float(token)
                return _Literal("d", _only("d", real), "d")
            # As in C, 0x is hexadecimal and 0 is octal.
            octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
            integer = int(token, 8) if octal else int(token, 0)
        except ValueError:
            raise ValueError(f"`{token}` is not a number") from None

        def build(signature: str) -> "Any":
            if signature == "d":
                try:
                    return float(integer)
                except OverflowError:
                    raise ValueError(f"{integer} is too large for type `d`") from None
            least, most = _RANGES.get(signature, (0, -1))
            if not least <= integer <= most:
                raise ValueError(f"{integer} is not of type `{signature}`")
            return integer

        return _Literal("i", build)

    def _quoted(self) -> str:
        quote = self.text[self.at]
        self.at += 1
        found: list[str] = []
        while (character := self.text[self.at : self.at + 1]) != quote:
            self.at += 1
            if character == "\\":
                character = self._escape()
            elif not character:
                raise ValueError("a string has no end")
            found.append(character)
        self.at += 1
        return "".join(found)

    def _escape(self) -> str:
        character = self.text[self.at : self.at + 1]
        self.at += 1
        length = {"u": 4, "U": 8}.get(character)
        if length:
            digits = self.text[self.at : self.at + length]
            self.at += length
            try:
                return chr(int(digits, 16))
            except (ValueError, OverflowError):
                raise ValueError(f"`\\{character}{digits}` is not a character") from None
        return _ESCAPES.get(character, character)


_PATH_CHARACTERS = frozenset("/_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def _string(text: str) -> _Literal:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("a string has a character that D-Bus does not allow")

    def build(signature: str) -> str:
        if signature not in ("s", "o", "g"):
            raise ValueError(f"expected a value of type `{signature}`, found a string")
        if signature == "g":
            list(types(text))
        elif signature == "o" and text != "/" and not _is_path(text):
            raise ValueError(f"`{text}` is not an object path")
        return text

    return _Literal("s", build)


def _is_path(text: str) -> bool:
    return text[:1] == "/" and text[-1] != "/" and "//" not in text and _PATH_CHARACTERS.issuperset(text)


def _only(signature: str, value: "Any") -> "Callable[[str], Any]":
    """Return a function that builds `value` if the type is `signature`, and rejects other types."""

    def build(wanted: str) -> "Any":
        if wanted != signature:
            raise ValueError(f"expected a value of type `{wanted}`, found one of type `{signature}`")
        return value

    return build


def _common(literals: "list[_Literal]") -> str:
    """Return the type that all of them share: the first fixed type, or else the default of the first literal."""
    for literal in literals:
        if literal.fixed:
            return literal.fixed
    return literals[0].type_()


__all__ = ["parse"]
