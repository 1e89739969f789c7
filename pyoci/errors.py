"""The errors of pyoci.

PyociError                   every expected failure: one line for the user, exit status 1
├─ ConfigError(problems)     config.json breaks the specification; all problems with their places
├─ ContainerNotFound         --root has no container with this id
├─ ContainerExists           another container has the id
├─ StatusError               the container's status does not allow the operation
├─ SetupError                an operation of the plan failed, with the system call and the kernel's reason
├─ HookError                 a hook failed, with its output
├─ CgroupError               pyoci can't create the cgroup or apply a limit
├─ StateError                the state directory or record.json can't be used
└─ UsageError                the command line is wrong

A message is `cannot <verb> <object>: <reason>`, in lower case, without a full stop. The kernel's reasons are in lower
case too, because engines match them byte by byte (`no such file or directory`).
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
    """Return the kernel's text for `errno` in lower case, as engines match it."""
    text = posix.strerror(errno)
    return text[:1].lower() + text[1:]


class PyociError(Exception):
    """Base class of all expected failures.

    message  the reason, in one line
    where    the JSON pointer of the value in config.json that caused it, or the name of an option or a variable, or ""
    hint     advice to the user, or ""
    status   the exit status of the command
    """

    status = 1

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    @property
    def pointer(self) -> str:
        """The JSON pointer of the value that caused the failure, or ""; unlike `where`, never the name of an option."""
        return self.where if self.where.startswith("/") else ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} (hint: {self.hint})" if self.hint else text


class Problem:
    """One problem of a config: its JSON pointer, what is wrong, and its place in the file.

    `line` and `column` count from 1; 0 is an unknown place. A missing property has the place of the object that lacks
    it. `file` is the name of the file, or "" for a text that no file has.
    """

    __slots__ = ("column", "file", "line", "message", "where")

    def __init__(self, where: str, message: str, line: int = 0, column: int = 0, file: str = "config.json") -> None:
        self.file = file
        self.where = where
        self.message = message
        self.line = line
        self.column = column

    @property
    def pointer(self) -> str:
        """The JSON pointer, as in `PyociError.pointer`."""
        return self.where

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line and self.file else ""
        return f"{place}{self.where or '/'}: {self.message}"

    def __repr__(self) -> str:
        return f"Problem({str(self)!r})"


class ConfigError(PyociError):
    """The config breaks the specification. `problems` lists every problem. `command` prints all of them."""

    def __init__(self, problems: "Sequence[Problem]", command: str = "pyoci validate") -> None:
        first = str(problems[0])
        more = len(problems) - 1
        tail = f" (and {more} more{f': see `{command}`' if command else ''})" if more else ""
        super().__init__(first + tail)
        self.problems = list(problems)

    @property
    def pointer(self) -> str:
        """The JSON pointer of the first problem."""
        return self.problems[0].where


class ContainerNotFound(PyociError):
    """No container has this id. Engines look for `does not exist` in the message."""


class ContainerExists(PyociError):
    """Another container has this id."""


class StatusError(PyociError):
    """The container's status does not allow the operation."""


class SetupError(PyociError):
    """An operation of the plan failed."""


class HookError(PyociError):
    """A hook failed."""


class CgroupError(PyociError):
    """pyoci could not create, limit, join or remove a cgroup."""


class StateError(PyociError):
    """The state directory or a file in it can't be used."""


class UsageError(PyociError):
    """The command line is wrong."""
