"""The messages in CRIU's image files: fields by number, each read strictly. Pure.

CRIU's parser and this one must agree on every image, or a hostile image could show them different values. CRIU takes
the last of several values of a field, joins messages, cuts numbers to their size, and ends strings at NUL. It never
writes such images, so `Message` rejects them.
"""

from pyoci.criu import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyoci.criu.wire import Value

MAX_ENTRIES = 1 << 20  # in a file

COMMON_MAGIC = 0x54564319
"""The first word of every file but inventory.img."""
_SIZE = 4  # bytes of a word


class Message:
    """A message. Each method reads the field of that number, and raises ValueError for a value of another kind.

    A field without a default must be there.
    """

    __slots__ = ("_fields",)

    def __init__(self, data: bytes) -> None:
        self._fields = wire.decode(data)

    def has(self, field: int) -> bool:
        """Whether the message has the field."""
        return field in self._fields

    def number(self, field: int, default: "int | None" = None, *, bits: int = 32) -> int:
        """Return an unsigned number."""
        values = self._fields.get(field)
        if values is None and default is not None:
            return default
        return _number(field, _only(field, values), bits)

    def flag(self, field: int) -> bool:
        """Return a bool; False if the message has none."""
        return bool(self.number(field, 0, bits=1))

    def data(self, field: int) -> bytes:
        """Return bytes."""
        return _bytes(field, _only(field, self._fields.get(field)))

    def text(self, field: int, default: "str | None" = None) -> str:
        """Return a string. Bytes that are not UTF-8 become surrogates, as in Python's file names."""
        values = self._fields.get(field)
        if values is None and default is not None:
            return default
        return _text(field, _only(field, values))

    def message(self, field: int) -> "Message":
        """Return a message inside this one."""
        return Message(self.data(field))

    def numbers(self, field: int) -> "list[int]":
        """Return every value of a repeated number."""
        return [_number(field, value, 32) for value in self._fields.get(field, ())]

    def texts(self, field: int) -> "list[str]":
        """Return every value of a repeated string."""
        return [_text(field, value) for value in self._fields.get(field, ())]

    def messages(self, field: int) -> "list[Message]":
        """Return every value of a repeated message."""
        return [Message(_bytes(field, value)) for value in self._fields.get(field, ())]


def _only(field: int, values: "list[Value] | None") -> "Value":
    if values is None:
        raise ValueError(f"field {field} is missing")
    if len(values) > 1:
        raise ValueError(f"field {field} occurs {len(values)} times")
    return values[0]


def _number(field: int, value: "Value", bits: int) -> int:
    if not isinstance(value, int):
        raise ValueError(f"field {field} is not a number")
    if value >> bits:
        raise ValueError(f"field {field} is too large")
    return value


def _bytes(field: int, value: "Value") -> bytes:
    if isinstance(value, int):
        raise ValueError(f"field {field} is a number")
    return value


def _text(field: int, value: "Value") -> str:
    data = _bytes(field, value)
    if b"\0" in data:
        raise ValueError(f"field {field} has a NUL byte")
    return data.decode("utf-8", "surrogateescape")


def entries(data: bytes, magic: int, *, common: bool = True) -> "Iterator[Message]":
    """Yield the messages of a file that begins with `magic`. Raises ValueError."""
    at = 0
    for expected in (COMMON_MAGIC, magic) if common else (magic,):
        found = _word(data, at)
        if found != expected:
            raise ValueError(f"it begins with {found:#x} instead of {expected:#x}")
        at += _SIZE
    count = 0
    while at < len(data):
        size = _word(data, at)
        at += _SIZE
        if size > len(data) - at:
            raise ValueError("it is truncated")
        count += 1
        if count > MAX_ENTRIES:
            raise ValueError(f"it has more than {MAX_ENTRIES} entries")
        yield Message(data[at : at + size])
        at += size


def first_entry(data: bytes, magic: int) -> Message:
    """Return the first message of a file that something else follows. Raises ValueError."""
    for message in entries(data, magic):
        return message
    raise ValueError("it has no entry")


def only_entry(data: bytes, magic: int, *, common: bool = True) -> Message:
    """Return the only message of a file. Raises ValueError for more or less."""
    found = list(entries(data, magic, common=common))
    if len(found) != 1:
        raise ValueError(f"it has {len(found)} entries instead of 1")
    return found[0]


def _word(data: bytes, at: int) -> int:
    if len(data) - at < _SIZE:
        raise ValueError("it is truncated")
    return int.from_bytes(data[at : at + _SIZE], "little")
