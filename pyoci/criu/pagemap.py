"""How much memory a file pagemap-N.img says is in pages-N.img. Pure.

CRIU reads that much without looking at the size of the file. If memory is missing, it reads for ever.
"""

from pyoci._native import count_pages
from pyoci.criu import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_HEAD = 8  # bytes: two words that name the format
_SIZE = 4  # bytes of the size before each message
_MAX_FIRST = 64  # bytes of the first message, which has one number


def needed(chunks: "Iterable[bytes]") -> "tuple[int, int]":
    """Return N of pages-N.img, and how many pages the processes need of it. Raises ValueError.

    `chunks` are the parts of the file: a process with much memory has a large one.
    """
    number, pages, rest, at = -1, 0, b"", _HEAD
    for chunk in chunks:
        rest += chunk
        if number < 0:
            end = at + _SIZE + int.from_bytes(rest[at : at + _SIZE], "little")
            if end - at - _SIZE > _MAX_FIRST:
                raise ValueError("it names no pages")
            if len(rest) < at + _SIZE or len(rest) < end:
                continue
            number, at = _number(rest[at + _SIZE : end]), end
        count, end = count_pages(rest, at)
        pages, rest, at = pages + count, rest[end:], 0
    if number < 0:
        raise ValueError("it names no pages")
    if rest:
        raise ValueError("it is too short")
    return number, pages


def _number(message: bytes) -> int:
    value = wire.decode(message).get(1, [-1])[-1]
    if not isinstance(value, int) or value < 0:
        raise ValueError("it names no pages")
    return value


__all__ = ["needed"]
