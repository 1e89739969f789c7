"""Where the problems of a config stand in its text. Used only when there are problems."""

from pyoci.config import reader
from pyoci.config.messages import MAX_SHOWN
from pyoci.pointer import split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class Positions:
    """The lines and columns, both from 1, of the values at some JSON pointers of `text`.

    A pointer that leads nowhere has the place of the nearest value around it.
    """

    __slots__ = ("_places", "_text")

    def __init__(self, text: str, pointers: "Iterable[str]") -> None:
        wanted: dict[str, Any] = {}
        for pointer in pointers:
            node = wanted
            for token in split(pointer):
                node = node.setdefault(token, {})
        self._text = text
        self._places = reader.parse(text, wanted)[2]

    def value(self, pointer: str) -> tuple[int, int]:
        """The place where the value starts."""
        return reader.place(self._text, self._nearest(pointer)[0])

    def name(self, pointer: str) -> tuple[int, int]:
        """The place where the member's name starts; for an array's element, the element itself."""
        return reader.place(self._text, self._nearest(pointer)[1])

    def number(self, pointer: str) -> str:
        """The spelling of the number at `pointer`, shortened if it is long."""
        start = self._places[pointer][0]
        ahead = self._text[start : start + MAX_SHOWN]
        spelling = ahead[: len(ahead) - len(ahead.lstrip("0123456789+-.eE"))]
        return spelling if len(spelling) < MAX_SHOWN else f"{spelling}…"

    def _nearest(self, pointer: str) -> tuple[int, int]:
        while pointer not in self._places:
            pointer = pointer.rpartition("/")[0]
        return self._places[pointer]
