"""The errors of pyoci.

PyociError                   one clear line for the person at the terminal, exit status 1
├─ ConfigError(problems)     config.json breaks the specification: every problem with its place
├─ ContainerNotFound         no container of this id under --root
├─ ContainerExists           the id is taken
├─ StatusError               the container's status does not allow the operation
├─ SetupError                an operation of the plan failed: which, at which system call, why
├─ HookError                 a hook failed: which, how, what it wrote
├─ CgroupError               the cgroup can't be made, or a limit can't be applied
├─ StateError                the state directory or record.json can't be trusted
└─ UsageError                the command line is wrong

Messages are lower case, without a full stop, `cannot <verb> <object>: <reason>`; errno texts are lower
case too, since engines match them byte by byte (`no such file or directory`).
"""

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Log(Protocol):
        """Where the runtime reports what does not end a command."""

        @property
        def debugs(self) -> bool:
            """Whether debug messages are kept. Composing them may be expensive."""
            ...

        def warning(self, message: str) -> None:
            """Report a problem that the command survives."""

        def debug(self, message: str) -> None:
            """Report a step of the command."""


def reason(errno: int) -> str:
    """The kernel's reason for `errno` in lower case, as engines match it."""
    text = posix.strerror(errno)
    return text[:1].lower() + text[1:]


class PyociError(Exception):
    """Base of all expected failures.

    `where` is the JSON pointer into config.json that the failure comes from ("" when it has none);
    `hint` is advice for the person who reads it ("" when we have none). `status` is the exit status of the command
    that ends with it.
    """

    status = 1

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    @property
    def pointer(self) -> str:
        """The JSON pointer to the value at fault, or "": `where` may also name an option or a variable."""
        return self.where if self.where.startswith("/") else ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} (hint: {self.hint})" if self.hint else text


class Problem:
    """One fault of a config: JSON pointer, what is wrong and what was expected, and its place in the file.

    `line` and `column` count from 1; 0 means that the place is not known (a missing top-level property has
    the place of the object which lacks it). `file` is its name, "" if the text is none that a person could open.
    """

    __slots__ = ("column", "file", "line", "message", "where")

    def __init__(self, where: str, message: str, line: int = 0, column: int = 0, file: str = "config.json") -> None:
        self.file = file
        self.where = where
        self.message = message
        self.line = line
        self.column = column

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line and self.file else ""
        return f"{place}{self.where or '/'}: {self.message}"

    def __repr__(self) -> str:
        return f"Problem({str(self)!r})"


class ConfigError(PyociError):
    """config.json is not a configuration that can be run. Every problem found is in `problems`."""

    def __init__(self, problems: "Sequence[Problem]") -> None:
        first = str(problems[0])
        more = len(problems) - 1
        tail = f" (and {more} more: see `pyoci validate`)" if more else ""
        super().__init__(first + tail)
        self.problems = list(problems)

    @property
    def pointer(self) -> str:
        """The JSON pointer of the first problem."""
        return self.problems[0].where


class ContainerNotFound(PyociError):
    """No container of this id. Engines look for `does not exist`."""


class ContainerExists(PyociError):
    """The id is taken."""


class StatusError(PyociError):
    """The operation is not allowed in the container's status."""


class SetupError(PyociError):
    """An operation of the plan failed in the kernel."""


class HookError(PyociError):
    """A hook failed."""


class CgroupError(PyociError):
    """A cgroup could not be made, limited, joined or removed."""


class StateError(PyociError):
    """The state directory or a file in it can't be trusted."""


class UsageError(PyociError):
    """The command line is wrong."""
