"""Protocol buffers as CRIU uses them: fields to bytes, and back. Pure.

Implements https://protobuf.dev/programming-guides/encoding/ without a schema. The caller knows the meaning of each
field by its number.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Value = int | bytes
    Fields = dict[int, list[Value]]

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5  # wire types
_FIXED = {_I64: 8, _I32: 4}  # bytes
_MAX_VARINT = 10  # bytes of 64 bits
_MASK = (1 << 64) - 1
_MAX_FIELD = (1 << 29) - 1


def encode(fields: "Iterable[tuple[int, Value]]") -> bytes:
    """Return the message with these fields, in order.

    An int becomes a varint; a negative one has 64 bits, as int32 and int64 have. Bytes become a string, bytes or a
    message inside this one.
    """
    message = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            message += _varint(number << 3 | _VARINT) + _varint(value & _MASK)
        else:
            message += _varint(number << 3 | _LEN) + _varint(len(value)) + value
    return bytes(message)


def decode(data: bytes) -> "Fields":
    """Return the values of each field, in order. Raises ValueError if the message is damaged.

    A varint or a fixed-size value is an unsigned int; `signed` converts one. Everything else is bytes, which may be a
    message that `decode` reads in turn.
    """
    fields: Fields = {}
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number <= _MAX_FIELD:
            raise ValueError(f"field number {number} at byte {at}")
        value: Value
        if kind == _VARINT:
            value, at = _read_varint(data, at)
        else:
            if kind == _LEN:
                size, at = _read_varint(data, at)
            elif kind in _FIXED:
                size = _FIXED[kind]
            else:
                raise ValueError(f"wire type {kind} at byte {at}")
            if size > len(data) - at:
                raise ValueError(f"field {number} ends {size - (len(data) - at)} bytes after its message")
            value = data[at : at + size]
            at += size
            if kind in _FIXED:
                value = int.from_bytes(value, "little")
        fields.setdefault(number, []).append(value)
    return fields


def signed(value: int, bits: int = 64) -> int:
    """Return the signed number that an unsigned value of the wire stands for: int32, int64 or sfixed."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _read_varint(data: bytes, at: int) -> "tuple[int, int]":
    """Return the number at this byte, and where it ends."""
    value = 0
    for place, byte in enumerate(data[at : at + _MAX_VARINT]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value & _MASK, at + place + 1
    raise ValueError(f"no number at byte {at}")
