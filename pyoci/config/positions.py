"""The lines and columns of the problems of a config. Only used when there are problems."""

from pyoci.config import reader
from pyoci.config.messages import MAX_SHOWN
from pyoci.pointer import split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyoci.config.reader import Wanted


class Positions:
    """The lines and columns, both from 1, of the values at some JSON pointers of `text`.

    A pointer to a value that the document lacks has the position of the nearest value around it.
    """

    __slots__ = ("_places", "_text")

    def __init__(self, text: str, pointers: "Iterable[str]") -> None:
        wanted: Wanted = {}
        for pointer in pointers:
            node = wanted
            for token in split(pointer):
                node = node.setdefault(token, {})
        self._text = text
        self._places = reader.parse(text, wanted)[2]

    def value(self, pointer: str) -> tuple[int, int]:
        """The position of the value."""
        return reader.place(self._text, self._nearest(pointer)[0])

    def name(self, pointer: str) -> tuple[int, int]:
        """The position of the member's name; for an element of an array, of the element."""
        return reader.place(self._text, self._nearest(pointer)[1])

    def number(self, pointer: str) -> str:
        """The number at `pointer` as the document writes it, shortened if it is long."""
        start = self._places[pointer][0]
        ahead = self._text[start : start + MAX_SHOWN]
        spelling = ahead[: len(ahead) - len(ahead.lstrip("0123456789+-.eE"))]
        return spelling if len(spelling) < MAX_SHOWN else f"{spelling}…"

    def _nearest(self, pointer: str) -> tuple[int, int]:
        while pointer not in self._places:
            pointer = pointer.rpartition("/")[0]
        return self._places[pointer]
