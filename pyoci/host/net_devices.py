"""`linux.netDevices`, the runtime's side: requests to the mover, the process that moves the devices.

The mover also sets up the network namespace of a restored container.

Moving a device needs two network namespaces, and the runtime never changes its own. So it executes itself once more, as
the mover (`host/netlink.py`, a command in `cli.INTERNAL`). The mover gets the container's network namespace as a
descriptor. It enters no other namespace of the container, so its files are the host's. It ends before init continues.
"""

import posix
import sys

from pyoci import _native
from pyoci.compiler.net_devices import WHERE
from pyoci.config.jsonio import dumps, loads
from pyoci.errors import PyociError, SetupError, reason
from pyoci.host import files
from pyoci.host.processes import wait_ended
from pyoci.linux import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypedDict

    from pyoci.compiler.verbs import MoveNetDevice

    class Device(TypedDict):
        """A device of the request. `where` is the JSON pointer of the device, `nameWhere` the one of its new name."""

        device: str
        name: str
        where: str
        nameWhere: str

    class Address(TypedDict):
        """An address of a device. `attributes` has values of netlink in hexadecimal digits, by the attribute's number.

        `unknown`: the kernel has reported an attribute that pyoci does not know.
        """

        family: int
        prefixlen: int
        scope: int
        flags: int
        preferred: int
        valid: int
        attributes: dict[str, str]
        unknown: bool

    class Moved(TypedDict):
        """A device that has moved, with its properties on the host."""

        device: str
        where: str
        index: int
        hostIndex: int
        up: bool
        master: int
        addresses: list[Address]


MOVER = "move-net-devices"
TIMEOUT = 60  # seconds; the kernel lets one process at a time change network devices
NETWORK = 3  # the descriptor of the namespace in the mover, after request, answer and errors


def move(ops: "Sequence[MoveNetDevice]", network: int) -> "list[Moved]":
    """Move the devices of `move_net_device` operations into a network namespace. Returns what `bring_back` needs.

    Raises SetupError, and then every device is back on the host.
    """
    devices = [{"device": op.device, "name": op.name, "where": op.where, "nameWhere": op.name_where} for op in ops]
    answer = _ask({"move": devices}, network)
    error = answer.get("error")
    if error:
        raise SetupError(error["message"], where=error["where"], hint=error["hint"])
    moved: list[Moved] = answer["moved"]
    return moved


def bring_back(moved: "list[Moved]", network: int) -> "list[str]":
    """Undo a move: restore names, addresses and links. Returns a message for each device that can't be restored."""
    try:
        answer = _ask({"bringBack": moved}, network)
    except (PyociError, OSError) as failure:
        return [f"cannot move the network devices back: {failure}"]
    error = answer.get("error")
    return [error["message"]] if error else answer["warnings"]


def set_up(parameters: "Sequence[tuple[str, str, str]]", network: int) -> None:
    """Bring loopback up in a network namespace, and write its kernel parameters: pointer, path and value.

    Raises SetupError.
    """
    answer = _ask({"setUp": parameters}, network)
    error = answer.get("error")
    if error:
        raise SetupError(error["message"], where=error["where"], hint=error["hint"])


def _ask(request: "dict[str, object]", network: int) -> "dict[str, Any]":
    """Send the mover a request, and return its answer. Raises SetupError if it gives no answer."""
    fds: list[int] = []
    try:
        fds.extend(_native.new_memfd(name) for name in ("request", "answer", "errors"))
        _fill(fds[0], dumps(request).encode("utf-8", "surrogateescape"))
        status = _run([*fds, network])
        if status != 0:
            errors = _contents(fds[2]).decode("utf-8", "backslashreplace").strip().rpartition("\n")[2]
            how = f"was killed by signal {status & 0x7F}" if status & 0x7F else f"exited with status {status >> 8}"
            raise SetupError(f"cannot move network devices: the mover {how}: {errors or 'no message'}", where=WHERE)
        answer: dict[str, Any] = loads(_contents(fds[1]))
    finally:
        for fd in fds:
            posix.close(fd)
    if not _is_answer(answer, "moved" if "move" in request else "warnings"):
        raise SetupError("cannot move network devices: the mover gave no answer", where=WHERE)
    return answer


def _is_answer(answer: "Any", result: str) -> bool:
    """Whether the answer is a complete error, or has a list as `result`."""
    if type(answer) is not dict:
        return False
    error = answer.get("error")
    if error:
        return type(error) is dict and all(type(error.get(key)) is str for key in ("message", "where", "hint"))
    kind = dict if result == "moved" else str
    entries = answer.get(result)
    return type(entries) is list and all(type(entry) is kind for entry in entries)


def _run(fds: "list[int]") -> int:
    """Run the mover with these descriptors, numbered from 0. Returns its wait status.

    It has a process group of its own, so that Ctrl-C at a terminal leaves no device half way.
    """
    command = _command()
    actions = [(posix.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds)]
    try:
        pid = posix.posix_spawn(command[0], command, {}, file_actions=actions, setpgroup=0)
    except OSError as error:
        raise SetupError(
            f"cannot run {command[0]} to move network devices: {reason(error.errno or 0)}", where=WHERE
        ) from error
    try:
        pidfd = posix.pidfd_open(pid)
        if not wait_ended(pidfd, TIMEOUT):
            posix.kill(pid, SIGKILL)
        posix.close(pidfd)
    finally:
        _, status = posix.waitpid(pid, 0)
    return status


def _command() -> "list[str]":
    """Return the command of the mover: the installed executable, or this Python with the absolute part of its path."""
    if "_pyoci_executable" in sys.modules:
        return [posix.readlink("/proc/self/exe"), MOVER]
    path = [directory for directory in sys.path if directory.startswith("/")]
    code = f"import sys; sys.path[:] = {path!r}; from pyoci import cli; sys.exit(cli.main([{MOVER!r}]))"
    return [sys.executable, "-I", "-S", "-c", code]


def _fill(fd: int, data: bytes) -> None:
    files.write_all(fd, data)
    posix.lseek(fd, 0, 0)


def _contents(fd: int) -> bytes:
    return posix.pread(fd, posix.fstat(fd).st_size, 0)
