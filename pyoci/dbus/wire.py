"""D-Bus messages: values to bytes, and back. Pure.

Implements "Type System", "Marshaling" and "Message Format" of the D-Bus Specification for a client that calls methods
and receives signals, without descriptors. Python values by D-Bus type:

    s, o, g                   str
    b; integers; d            bool; int; float
    ay; other arrays          bytes; list
    arrays of entries         dict, or a list of pairs if the keys are not strings
    structs                   tuple
    v                         Variant
"""

import _struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4

_StructError: "type[Exception]" = _struct.error  # type: ignore[attr-defined]

# Header fields, with their types.
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE = range(1, 9)
_FIELD_TYPES = {
    PATH: "o", INTERFACE: "s", MEMBER: "s", ERROR_NAME: "s", REPLY_SERIAL: "u", DESTINATION: "s", SENDER: "s",
    SIGNATURE: "g",
}  # fmt: skip

MAX_MESSAGE = 1 << 27  # bytes
_FIXED_HEADER = 16  # bytes at the start of every message
_MAX_ARRAY = 1 << 26  # bytes
_MAX_DEPTH = 32  # of arrays, and the same of structs

# type: (format of struct, size), where the size is the alignment too
_FIXED = {
    "y": ("B", 1), "b": ("I", 4), "n": ("h", 2), "q": ("H", 2), "i": ("i", 4), "u": ("I", 4), "x": ("q", 8),
    "t": ("Q", 8), "d": ("d", 8), "h": ("I", 4),
}  # fmt: skip
_ALIGNMENT = {kind: size for kind, (_, size) in _FIXED.items()} | {
    "s": 4, "o": 4, "g": 1, "v": 1, "a": 4, "(": 8, "{": 8,
}  # fmt: skip
_STRUCTS = {order: {kind: _struct.Struct(order + code) for kind, (code, _) in _FIXED.items()} for order in ("<", ">")}


class Variant:
    """A value together with its type."""

    __slots__ = ("signature", "value")

    def __init__(self, signature: str, value: "Any") -> None:
        self.signature = signature
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Variant) and (self.signature, self.value) == (other.signature, other.value)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Variant({self.signature!r}, {self.value!r})"


class Message:
    """A received message: its kind, its serial, its header fields by number, and the values of its body."""

    __slots__ = ("body", "fields", "kind", "serial")

    def __init__(self, kind: int, serial: int, fields: "dict[int, Any]", body: "list[Any]") -> None:
        self.kind = kind
        self.serial = serial
        self.fields = fields
        self.body = body


class MalformedMessage(Exception):
    """The received bytes are not a D-Bus message."""


def encode(kind: int, serial: int, fields: "dict[int, Any]", signature: str = "", *body: "Any") -> bytes:
    """Encode a message in little endian. Raises ValueError for a value that does not match its type."""
    content = bytearray()
    for type_, value in zip(types(signature), body, strict=True):
        _put(content, type_, value)
    if signature:
        fields = {**fields, SIGNATURE: signature}
    header = bytearray((ord("l"), kind, 0, 1))
    _put(header, "u", len(content))
    _put(header, "u", serial)
    _put(header, "a(yv)", [(code, Variant(_FIELD_TYPES[code], value)) for code, value in fields.items()])
    _pad(header, 8)
    return bytes(header + content)


def size(data: bytes, at: int = 0) -> int:
    """Return the size of the message at `at` in bytes, 0 if too little of it has arrived to know.

    Raises MalformedMessage.
    """
    start, length = _extent(data, at) if len(data) - at >= _FIXED_HEADER else (0, 0)
    return start + length


def decode(data: bytes, wanted: "Callable[[Message], bool]" = lambda _: True) -> "tuple[Message, int] | None":
    """Decode the first message of `data`. Returns it with its size, or None if it is incomplete.

    Any process on the bus may send us messages. This decodes the body only if the message with its header is `wanted`.
    It returns the index of a descriptor as a number. Raises MalformedMessage.
    """
    end = size(data)
    if not end or len(data) < end:
        return None
    reader = _Reader(data, _order(data))
    reader.end = end
    reader.at = 8
    try:
        message = Message(data[1], reader.fixed("u"), dict(_fields(reader)), [])
        reader.at, _ = _extent(data, 0)
        if wanted(message):
            message.body = [reader.value(type_) for type_ in types(message.fields.get(SIGNATURE, ""))]
    except (ValueError, IndexError, _StructError, TypeError) as error:
        raise MalformedMessage(str(error)) from error
    return message, end


def _extent(data: bytes, at: int) -> "tuple[int, int]":
    """Return the sizes of the message's header and of its body."""
    if data[at] not in b"lB" or data[at + 3] != 1:
        raise MalformedMessage("unknown endianness or version")
    read = _STRUCTS[_order(data, at)]["u"].unpack_from
    length, fields_length = read(data, at + 4)[0], read(data, at + 12)[0]
    start = 16 + fields_length + -(16 + fields_length) % 8
    if start + length > MAX_MESSAGE:
        raise MalformedMessage("too long")
    return start, length


def _order(data: bytes, at: int = 0) -> str:
    return "<" if data[at] == ord("l") else ">"


def _fields(reader: "_Reader") -> "Iterator[tuple[int, Any]]":
    for code, value in reader.value("a(yv)"):
        if value.signature != _FIELD_TYPES.get(code, value.signature):
            raise ValueError(f"header field {code} has a wrong type")
        yield code, value.value


def types(signature: str) -> "Iterator[str]":
    """Yield the complete types of a signature. Raises ValueError."""
    at = 0
    while at < len(signature):
        end = _end_of_type(signature, at)
        yield signature[at:end]
        at = end


def _end_of_type(signature: str, at: int, arrays: int = 0, structs: int = 0) -> int:
    if at >= len(signature) or max(arrays, structs) > _MAX_DEPTH:
        raise ValueError(f"`{signature}` is not a signature")
    kind = signature[at]
    if kind in _FIXED or kind in "sogv":
        return at + 1
    if kind == "a" and signature[at + 1 : at + 2] == "{":
        key = _end_of_type(signature, at + 2, arrays + 1, structs)
        end = _end_of_type(signature, key, arrays + 1, structs)
        if signature[end : end + 1] == "}" and signature[at + 2] not in "av(":
            return end + 1
    elif kind == "a":
        return _end_of_type(signature, at + 1, arrays + 1, structs)
    elif kind == "(":
        end = at + 1
        while signature[end : end + 1] != ")":
            end = _end_of_type(signature, end, arrays, structs + 1)
        if end > at + 1:
            return end + 1
    raise ValueError(f"`{signature}` is not a signature")


def _pad(buffer: bytearray, alignment: int) -> None:
    buffer.extend(bytes(-len(buffer) % alignment))


def _put(buffer: bytearray, type_: str, value: "Any") -> None:
    """Append a value of a complete type."""
    kind = type_[0]
    _pad(buffer, _ALIGNMENT[kind])
    if kind in _FIXED:
        try:
            buffer.extend(_STRUCTS["<"][kind].pack(value))
        except _StructError as error:
            raise ValueError(f"{value!r} is not of type {kind}: {error}") from error
    elif kind in "so":
        data = _text(value, kind)
        buffer.extend(_STRUCTS["<"]["u"].pack(len(data)) + data + b"\0")
    elif kind == "g":
        data = _text(value, kind)
        buffer.extend(bytes((len(data),)) + data + b"\0")
    elif kind == "v":
        _put(buffer, "g", value.signature)
        _put(buffer, value.signature, value.value)
    elif kind == "(":
        for member, part in zip(types(type_[1:-1]), value, strict=True):
            _put(buffer, member, part)
    else:
        _put_array(buffer, type_[1:], value)


def _text(value: str, kind: str) -> bytes:
    data = value.encode()
    if b"\0" in data or (kind == "g" and len(data) > 255):
        raise ValueError(f"{value!r} is not of type {kind}")
    return data


def _put_array(buffer: bytearray, element: str, values: "Iterable[Any]") -> None:
    at = len(buffer)
    buffer.extend(bytes(4))
    _pad(buffer, _ALIGNMENT[element[0]])
    start = len(buffer)
    if element == "y":
        buffer.extend(values)
    elif element[0] == "{":
        key, value = types(element[1:-1])
        for entry in values.items() if isinstance(values, dict) else values:
            _pad(buffer, 8)
            _put(buffer, key, entry[0])
            _put(buffer, value, entry[1])
    else:
        for value in values:
            _put(buffer, element, value)
    if len(buffer) - start > _MAX_ARRAY:
        raise ValueError("an array is too long")
    buffer[at : at + 4] = _STRUCTS["<"]["u"].pack(len(buffer) - start)


def dictionary(key: str, entries: "list[tuple[Any, Any]]") -> "dict[str, Any] | list[tuple[Any, Any]]":
    """Return a dict if the basic type `key` is a string, else the entries themselves.

    CPython hashes numbers without a secret, so a sender could choose numbers that collide.
    """
    return dict(entries) if key in "sog" else entries


class _Reader:
    """Reads the values of a message, one after the other."""

    def __init__(self, data: bytes, order: str) -> None:
        self.data = data
        self.at = 0
        self.end = len(data)
        self._structs = _STRUCTS[order]

    def fixed(self, kind: str) -> "Any":
        format_ = self._structs[kind]
        self._align(format_.size)
        at = self._advance(format_.size)
        return format_.unpack_from(self.data, at)[0]

    def value(self, type_: str, depth: int = 0) -> "Any":
        kind = type_[0]
        if depth > 2 * _MAX_DEPTH:
            raise ValueError("nested too deep")
        if kind == "b":
            return bool(self.fixed("u"))
        if kind in _FIXED:
            return self.fixed(kind)
        if kind in "so":
            return self._string(self.fixed("u"))
        if kind == "g":
            return self._string(self.fixed("y"))
        if kind == "v":
            signature = self.value("g")
            (only,) = types(signature)
            return Variant(only, self.value(only, depth + 1))
        if kind == "(":
            self._align(8)
            return tuple(self.value(member, depth + 1) for member in types(type_[1:-1]))
        return self._array(type_[1:], depth + 1)

    def _array(self, element: str, depth: int) -> "Any":
        length = self.fixed("u")
        self._align(_ALIGNMENT[element[0]])
        if length > _MAX_ARRAY or self.at + length > self.end:
            raise ValueError("an array is too long")
        end = self.at + length
        if element == "y":
            return self.data[self._advance(length) : end]
        found: list[Any] = []
        while self.at < end:
            if element[0] == "{":
                self._align(8)
                found.append(tuple(self.value(part, depth + 1) for part in types(element[1:-1])))
            else:
                found.append(self.value(element, depth))
        if self.at != end:
            raise ValueError("an array has a wrong length")
        return dictionary(element[1], found) if element[0] == "{" else found

    def _string(self, length: int) -> str:
        at = self._advance(length + 1)
        if self.data[at + length]:
            raise ValueError("a string does not end with NUL")
        return self.data[at : at + length].decode()

    def _align(self, alignment: int) -> None:
        self.at += -self.at % alignment

    def _advance(self, size: int) -> int:
        at = self.at
        self.at += size
        if self.at > self.end:
            raise ValueError("the message ends too early")
        return at


__all__ = ["MalformedMessage", "Message", "Variant", "decode", "dictionary", "encode", "size", "types"]
