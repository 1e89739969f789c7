"""Every problem of a config, with its place in the text. Used when there is one, and for the full report."""

from pyoci.config import checks, reader
from pyoci.config.jsonio import JsonError, decode, loads
from pyoci.config.messages import mismatch, missing
from pyoci.config.positions import Positions
from pyoci.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    # A fault that the schema finds: JSON pointer, expectation and value; for a missing property, the object's
    # pointer, the name in a tuple, and the object.
    Fault = tuple[str, str | tuple[str], Any]


def problems(data: bytes, find_faults: "Callable[[Any], Iterable[Fault]]", *, process: bool = False) -> list[Problem]:
    """The problems of the document in `data`, in the order of the text.

    They are those of JSON alone if there are any; else those of the schema, which `find_faults` finds, and
    those of `checks` where the schema has none.
    """
    try:
        document = loads(data)
    except JsonError as error:
        return error.problems
    collected = _collect(document, find_faults, process=process)
    if not collected:
        return []
    del document  # it may be large, and so may what comes now
    return _place(decode(data), collected)


def problems_below(document: "Any", find_faults: "Callable[[Any], Iterable[Fault]]", prefix: str) -> list[Problem]:
    """The problems of a config that lie below the pointer `prefix`, and without it: the rest is not the caller's."""
    found = []
    for where, message, *real in _collect(document, find_faults, process=False):
        if f"{where}/".startswith(f"{prefix}/"):
            text = f"expected {message}, found {real[0]}" if real else message
            found.append(Problem(where.removeprefix(prefix), text))
    return found


def _collect(
    document: "Any", find_faults: "Callable[[Any], Iterable[Fault]]", *, process: bool
) -> "list[tuple[Any, ...]]":
    collected = Some()  # of (JSON pointer, message), or (JSON pointer, expectation, number)
    try:
        broken = []
        for where, expectation, value in find_faults(document):
            if isinstance(expectation, tuple):
                broken.append(f"{where}/{expectation[0]}")
                collected.add(where, missing(expectation[0]))
                continue
            broken.append(where)
            if isinstance(value, float):
                collected.add(where, expectation, value)
            else:
                collected.add(where, mismatch(expectation, value))
        if "" not in broken:
            checks.run(document, collected.add, process=process, broken=broken)
    except Enough:
        pass
    return collected.items


def _place(text: str, collected: "list[tuple[Any, ...]]") -> list[Problem]:
    positions = Positions(text, [where for where, *_ in collected])
    placed = []
    for where, message, *real in collected:
        if real:  # its spelling is in the text alone: 1e3, not 1000.0
            message = f"expected {message}, found {positions.number(where)}"
        placed.append(Problem(where, message, *positions.value(where)))
    placed.sort(key=lambda problem: (problem.line, problem.column))
    return placed


class Enough(Exception):
    """More problems would not help."""


class Some:
    """Collects tuples; raises Enough when there are MAX_PROBLEMS."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: list[Any] = []

    def add(self, *item: "Any") -> None:
        self.items.append(item)
        if len(self.items) >= reader.MAX_PROBLEMS:
            raise Enough
