"""Find the program criu, and the configuration file that it reads.

Both decide what runs with root's privileges. So the runtime ignores $PATH, and rejects a file that others can change.
"""

import posix

from pyoci.compiler.paths import SYSTEM_DIRECTORIES, clean
from pyoci.errors import PyociError, reason
from pyoci.host import facts, files, trust
from pyoci.host.programs import Program, TimedOut
from pyoci.linux import CAP_SYS_ADMIN, S_IFMT, S_IFREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

# 3.17 is the first to restore restartable sequences, which glibc 2.35 and later use in every thread, and the mounts of
# kernels since 5.15. The freezer of cgroup v2 needs 3.14.
MIN_VERSION = (3, 17)
NO_NEW_PRIVS_VERSION = (3, 19)  # the first to save it
CONFIG_ANNOTATION = "org.criu.config"
CONFIG_ROOT = "/etc/criu/"
CONFIG_FILES = ("/etc/criu/pyoci.conf", "/etc/criu/runc.conf", "/etc/criu/crun.conf")
TIMEOUT = 10  # seconds; printing its version needs milliseconds


def find(given: "str | None", action: str) -> str:
    """Return the path of criu: the `given` one, or the first in SYSTEM_DIRECTORIES.

    `action` begins the error, such as `checkpoint the container`. Raises PyociError if this process lacks privileges,
    if there is no such program, or if others can change it.
    """
    _require_privileges(action)
    path = given or next(filter(files.exists, (f"{directory}/criu" for directory in SYSTEM_DIRECTORIES)), "")
    if not path:
        raise PyociError(
            f"cannot {action}: criu is not installed",
            hint=f"install the package criu, or pass --criu; pyoci looks in {', '.join(SYSTEM_DIRECTORIES[:4])}",
        )
    _check_program(path, action)
    return path


def has_helper(name: str) -> bool:
    """Whether CRIU can execute another program, such as iptables-restore, by its name."""
    return any(files.exists(f"{directory}/{name}") for directory in SYSTEM_DIRECTORIES)


class Version:
    """The version of criu, which the program prints beside what the runtime does meanwhile. Raises PyociError.

    As a context, it requires at the end that the version is late enough for `action`, such as `restore the container`.
    `no_new_privs`: whether the container's processes have it. `restore` rejects images that lack it.
    """

    __slots__ = ("_action", "_no_new_privs", "_path", "_program", "_text")

    def __init__(self, path: str, action: str, *, no_new_privs: bool = False) -> None:
        self._path = path
        self._action = action
        self._no_new_privs = no_new_privs
        self._text = ""
        try:
            self._program = Program(path, ["criu", "--version"])
        except OSError as error:
            raise PyociError(f"cannot run {path}: {reason(error.errno or 0)}") from error

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self._wait()
        self._require()

    def _wait(self) -> None:
        """Wait for the end of the program. Raises PyociError if it does not end."""
        try:
            self._text, _ = self._program.wait(TIMEOUT)
        except TimedOut:
            raise PyociError(f"cannot run {self._path}: it has not ended within {TIMEOUT} seconds") from None

    def read(self) -> "tuple[int, ...]":
        """Return what the program has printed, such as (4, 2, 1). Raises PyociError."""
        for line in self._text.splitlines():
            name, _, text = line.partition(": ")
            numbers = text.strip().split(".")
            if name == "Version" and all(number.isascii() and number.isdigit() for number in numbers):
                return tuple(int(number[:9]) for number in numbers)
        raise PyociError(f"cannot read the version of {self._path}: it printed `{self._text.strip()[:200]}`")

    def _require(self) -> None:
        """Raise PyociError if criu is too old, or if it has not printed its version."""
        found, least, why = self.read(), MIN_VERSION, ""
        if self._no_new_privs and found < NO_NEW_PRIVS_VERSION:
            least, why = NO_NEW_PRIVS_VERSION, " to save noNewPrivileges"
        if found < least:
            numbers, needed = (".".join(map(str, parts)) for parts in (found, least))
            raise PyociError(
                f"cannot {self._action}: {self._path} is version {numbers}; pyoci needs {needed}{why}",
                hint="install a later criu, or pass --criu",
            )


def config_file(annotations: "Mapping[str, str]") -> "str | None":
    """Return the configuration file for a container, which overrides options of CRIU. None if there is none.

    That is the annotation org.criu.config, or the first of CONFIG_FILES that exists. An empty annotation asks for no
    file. Raises PyociError for a file that is missing, or that others can change.

    The annotation may come from an image. CRIU executes what the file names, and prints words that it does not know. So
    the file must be in /etc/criu, where no engine unpacks images.
    """
    if CONFIG_ANNOTATION not in annotations:
        path = next(filter(files.exists, CONFIG_FILES), "")
        where = ""
    else:
        path = annotations[CONFIG_ANNOTATION]
        where = f"/annotations/{CONFIG_ANNOTATION}"
    if not path:
        return None
    if where and (not path.startswith(CONFIG_ROOT) or clean(path) != path):
        raise PyociError(f"cannot use CRIU's configuration `{path}`: expected a file below {CONFIG_ROOT}", where=where)
    try:
        mode = posix.stat(path).st_mode
        trust.check(path)
    except OSError as error:
        raise PyociError(f"cannot use CRIU's configuration {path}: {reason(error.errno or 0)}", where=where) from error
    except trust.Untrusted as error:
        raise PyociError(f"cannot use CRIU's configuration {path}: {error}", where=where, hint=_OWNERS) from None
    if mode & S_IFMT != S_IFREG:
        raise PyociError(f"cannot use CRIU's configuration {path}: it is not a regular file", where=where)
    return path


_OWNERS = "only root may be able to write the file and the directories above it"


def _require_privileges(action: str) -> None:
    """Raise PyociError unless this process is root of the initial user namespace. CRIU needs that to restore pids."""
    host = facts.in_initial_user_namespace()
    if posix.geteuid() != 0 or not host or not facts.grantable_capabilities() >> CAP_SYS_ADMIN & 1:
        raise PyociError(
            f"cannot {action}: CRIU needs CAP_SYS_ADMIN in the initial user namespace",
            hint="call pyoci as root of the host",
        )


def _check_program(path: str, action: str) -> None:
    try:
        mode = posix.stat(path).st_mode
        trust.check(path)
    except OSError as error:
        raise PyociError(f"cannot {action}: cannot run {path}: {reason(error.errno or 0)}") from error
    except trust.Untrusted as error:
        raise PyociError(f"cannot {action}: cannot trust {path}: {error}", hint=_OWNERS) from None
    if mode & S_IFMT != S_IFREG or not mode & 0o111:
        raise PyociError(f"cannot {action}: cannot run {path}: it is not an executable file")


__all__ = ["Version", "config_file", "find", "has_helper"]
