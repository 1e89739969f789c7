"""Find every problem of a config, with its place in the text. Only used if there is one, and for the full report."""

from pyoci.config import checks, reader
from pyoci.config.jsonio import JsonError, decode, loads
from pyoci.config.messages import mismatch, missing
from pyoci.config.positions import Positions
from pyoci.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    # A value that breaks the schema: its JSON pointer, what the schema expects, and the value. For a missing property:
    # the object's pointer, the property's name in a tuple, and the object.
    Fault = tuple[str, str | tuple[str], object]
    FindFaults = Callable[[object], Iterable[Fault]]


def problems(data: bytes, find_faults: "FindFaults", *, process: bool = False) -> list[Problem]:
    """The problems of the document in `data`, in the order of the text.

    If the JSON has problems, it returns only those. Otherwise it returns the schema's, which `find_faults` finds, and
    those that `checks` finds in the parts that fit the schema.
    """
    try:
        document = loads(data)
    except JsonError as error:
        return error.problems
    found = _collect(document, find_faults, process=process)
    if not found:
        return []
    del document  # it may be large, and so may the positions
    return _place(decode(data), found)


def problems_below(document: object, find_faults: "FindFaults", prefix: str) -> list[Problem]:
    """The problems below the pointer `prefix`, with pointers relative to it. The caller has made up the rest."""
    return [
        Problem(where.removeprefix(prefix), f"expected {message}, found {number}" if number else message)
        for where, message, number in _collect(document, find_faults, process=False)
        if f"{where}/".startswith(f"{prefix}/")
    ]


class TooManyProblems(Exception):
    """The report has MAX_PROBLEMS problems. More would not help the user, and a hostile document can have millions."""


class ProblemList:
    """Collects problems; raises TooManyProblems when there are MAX_PROBLEMS."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        # (JSON pointer, message, ""); for a number that must be an integer: (pointer, expectation, the number)
        self.items: list[tuple[str, str, str]] = []

    def add(self, where: str, message: str, number: str = "") -> None:
        self.items.append((where, message, number))
        if len(self.items) >= reader.MAX_PROBLEMS:
            raise TooManyProblems


def _collect(document: object, find_faults: "FindFaults", *, process: bool) -> list[tuple[str, str, str]]:
    found = ProblemList()
    try:
        broken = []
        for where, expectation, value in find_faults(document):
            if isinstance(expectation, tuple):
                broken.append(f"{where}/{expectation[0]}")
                found.add(where, missing(expectation[0]))
                continue
            broken.append(where)
            if isinstance(value, float):
                found.add(where, expectation, str(value))
            else:
                found.add(where, mismatch(expectation, value))
        if "" not in broken:
            checks.run(document, found.add, process=process, broken=broken)
    except TooManyProblems:
        pass
    return found.items


def _place(text: str, found: list[tuple[str, str, str]]) -> list[Problem]:
    positions = Positions(text, [where for where, _, _ in found])
    placed = []
    for where, message, number in found:
        if number:  # only the text has its spelling: 1e3, not 1000.0
            message = f"expected {message}, found {positions.number(where)}"
        placed.append(Problem(where, message, *positions.value(where)))
    placed.sort(key=lambda problem: (problem.line, problem.column))
    return placed
