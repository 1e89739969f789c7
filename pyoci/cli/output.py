"""The output of commands: on standard output, or in a new file."""

import errno
import posix

from pyoci.config.text import printable
from pyoci.errors import PyociError, reason
from pyoci.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyoci.errors import Problem
    from pyoci.record import ExtendedState

_BUFFER = 1 << 16  # characters


def print_data(text: str) -> int:
    """Write the data that the command was called for to standard output. Returns exit status 0; raises PyociError."""
    try:
        files.write_all(1, text.encode("utf-8", "replace"))
    except OSError as error:
        raise PyociError(f"cannot write to standard output: {reason(error.errno or 0)}") from error
    return 0


def print_json(value: object, indent: "int | None" = None) -> int:
    """Write `value` as JSON to standard output."""
    return print_data(to_json(value, indent))


def print_lines(lines: "Iterable[str]") -> int:
    """Write `lines` to standard output, with unprintable characters escaped."""
    return print_data("".join(f"{printable(line)}\n" for line in lines))


def write_new(path: str, text: str) -> None:
    """Create the file `path` with this text. Raises PyociError if it exists or can't be written."""
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    try:
        fd = posix.open(path, flags, 0o666)
        try:
            files.write_all(fd, text.encode("utf-8", "replace"))
        finally:
            posix.close(fd)
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise PyociError(f"cannot write {path}: it exists", hint="remove it first") from error
        raise PyociError(f"cannot write {path}: {reason(error.errno or 0)}") from error


def to_json(value: object, indent: "int | None" = None) -> str:
    """`value` as JSON, with a line break at the end."""
    from pyoci.config.jsonio import dumps

    return dumps(value, indent=indent) + "\n"


def print_containers(states: "Iterable[ExtendedState]", *, format: str, quiet: bool) -> int:
    """Print what `list` prints: ids only if `quiet`, else JSON or a table. All but a table is printed as it comes."""
    if quiet:
        return _print_pieces(f"{state['id']}\n" for state in states)
    return _print_pieces(_json_array(states) if format == "json" else _table(states))


def _print_pieces(pieces: "Iterable[str]") -> int:
    """Write pieces of text to standard output, several at a time."""
    kept: list[str] = []
    size = 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece)
        if size > _BUFFER:
            print_data("".join(kept))
            kept, size = [], 0
    return print_data("".join(kept))


def _json_array(values: "Iterable[object]") -> "Iterator[str]":
    """The text of `to_json` for a list, one element after the other."""
    from pyoci.config.jsonio import dumps

    separator = "["
    for value in values:
        yield separator + dumps(value)
        separator = ","
    yield "]\n" if separator == "," else "[]\n"


def problems(found: "Iterable[Problem]") -> "list[dict[str, object]]":
    """The problems that `validate --json` prints."""
    names = ("where", "message", "line", "column")
    return [{name: getattr(problem, name) for name in names} for problem in found]


def _table(states: "Iterable[ExtendedState]") -> "Iterator[str]":
    """A table as runc prints it: columns at least 12 wide, 3 apart."""
    rows: list[tuple[str, ...]] = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    for state in states:
        cells = [state["id"], str(state["pid"]), state["status"], state["bundle"], state["created"], state["owner"]]
        rows.append(tuple(cells if "".join(cells).isprintable() else map(printable, cells)))
    form = "".join([f"%-{max(12, 3 + max(map(len, column)))}s" for column in zip(*rows, strict=True)])
    for row in rows:
        yield (form % row).rstrip() + "\n"
