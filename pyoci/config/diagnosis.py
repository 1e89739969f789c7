"""Every problem of a config, with its place in the text. Used when there is one, and for the full report."""

from pyoci.config import careful, checks
from pyoci.config.positions import Positions
from pyoci.config.words import mismatch, missing
from pyoci.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    # A fault that the schema finds: JSON pointer, expectation and value; for a missing property, the object's
    # pointer, the name in a tuple, and the object.
    Fault = tuple[str, str | tuple[str], Any]


def problems(
    text: str, find_faults: "Callable[[Any], Iterable[Fault]]", *, process: bool = False
) -> "tuple[Any, list[Problem]]":
    """The document in `text`, and its problems in the order of the text.

    They are those of JSON alone if there are any; else those of the schema, which `find_faults` finds, and
    those of `checks` where the schema has none.
    """
    document, found, _ = careful.parse(text)
    if found:
        return document, found
    collected = Some()
    try:
        broken = []
        for where, expectation, value in find_faults(document):
            if isinstance(expectation, tuple):
                broken.append(f"{where}/{expectation[0]}")
                collected.add(where, missing(expectation[0]))
            else:
                broken.append(where)
                collected.add(where, mismatch(expectation, value))
        if "" not in broken:
            checks.run(document, collected.add, process=process, broken=broken)
    except Enough:
        pass
    positions = Positions(text, [where for where, _ in collected.items])
    placed = [Problem(where, message, *positions.value(where)) for where, message in collected.items]
    placed.sort(key=lambda problem: (problem.line, problem.column))
    return document, placed


class Enough(Exception):
    """More problems would not help."""


class Some:
    """Collects tuples; raises Enough when there are MAX_PROBLEMS."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: list[Any] = []

    def add(self, *item: "Any") -> None:
        self.items.append(item)
        if len(self.items) >= careful.MAX_PROBLEMS:
            raise Enough
