"""Parse the options and operands of a command line, as Go's flag package does.

Engines are written for that package:

- `-flag` equals `--flag`, and `--flag value` equals `--flag=value`.
- A switch may be written as `--switch=false`.
- The last of repeated options counts.
- Names can't be abbreviated.
- `-` is an operand, and `--` ends the options.

argparse can't do this, and needs more time than creating a container.
"""

from pyoci.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_SWITCH_VALUES = {
    "1": True, "t": True, "T": True, "true": True, "TRUE": True, "True": True,
    "0": False, "f": False, "F": False, "false": False, "FALSE": False, "False": False,
}  # fmt: skip


class Option:
    """One option: its names, the long one first; the name of its value, "" for a switch; and what it does.

    pyoci accepts a `hidden` option for callers that pass it, and leaves it out of the help.
    """

    __slots__ = ("help", "hidden", "names", "value")

    def __init__(self, names: str, value: str, help: str, *, hidden: bool = False) -> None:
        self.names = names.split()
        self.value = value
        self.help = help
        self.hidden = hidden


class UnknownOption(UsageError):
    """There is no option of this `name`. Engines match the message."""

    def __init__(self, argument: str, name: str) -> None:
        super().__init__(f"flag provided but not defined: {argument}")
        self.name = name


class Values:
    """The options on the command line, by their long names."""

    __slots__ = ("_all", "_given")

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._all: dict[str, list[str]] = {}

    def put(self, name: str, value: str) -> None:
        """Keep a value. The last one counts, except for `all`. A switch has the value "true" or "false"."""
        self._given[name] = value
        self._all.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        """The value of an option, "" if it was not given."""
        return self._given.get(name, "")

    def all(self, name: str) -> "list[str]":
        """Every value of an option that may be repeated, in order."""
        return self._all.get(name, [])

    def on(self, name: str) -> bool:
        """Whether a switch is on."""
        return self._given.get(name) == "true"

    def count(self, name: str) -> int:
        """The value of an option that counts something, 0 if it was not given. Raises UsageError."""
        text = self._given.get(name, "0")
        if not (text.isascii() and text.isdigit()) or len(text) > 9:
            raise UsageError(f"cannot use `{text}` for --{name}: expected a count")
        return int(text)


def by_name(options: "Iterable[Option]") -> "dict[str, Option]":
    """Return options by each of their names."""
    return {name: option for option in options for name in option.names}


def parse(by_name: "dict[str, Option]", arguments: "list[str]", given: Values, *, mixed: bool) -> "list[str]":
    """Put the options of `arguments` into `given` and return the operands.

    Options end at the first operand, unless `mixed`. Raises UsageError at the first fault; `given` then has the
    options before it.
    """
    operands: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            return [*operands, *rest]
        if argument == "-" or not argument.startswith("-"):
            operands.append(argument)
            if mixed:
                continue
            return [*operands, *rest]
        name, equals, value = argument.removeprefix("-").removeprefix("-").partition("=")
        option = by_name.get(name)
        if option is None:
            raise UnknownOption(argument.partition("=")[0], name)
        if not option.value:
            value = _switch(argument, value) if equals else "true"
        elif not equals:
            following = next(rest, None)
            if following is None:
                raise UsageError(f"flag needs an argument: {argument}")
            value = following
        given.put(option.names[0], value)
    return operands


def _switch(argument: str, value: str) -> str:
    if value not in _SWITCH_VALUES:
        raise UsageError(f"cannot use `{argument}`: expected true or false")
    return "true" if _SWITCH_VALUES[value] else "false"
