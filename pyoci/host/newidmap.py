"""Map ids with newuidmap and newgidmap, for a user who may not write the maps.

They are set-user-ID programs of the package uidmap (shadow). /etc/subuid and /etc/subgid list the ranges that the
administrator has assigned to each user.
"""

import posix

from pyoci import _native
from pyoci.errors import SetupError, reason
from pyoci.host.processes import send_signal, wait_ended
from pyoci.linux import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.verbs import RunIdMapper

TIMEOUT = 60  # seconds; the program may query a directory service for the user's ranges
# Engines run commands without PATH. The first directory is that of NixOS.
_MAX_OUTPUT = 4096  # bytes
_PATH = ("/run/wrappers/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def run(op: "RunIdMapper", pid: int) -> None:
    """Run the program `op.name` to write the map `op.lines` of a process. Raises SetupError, with its output."""
    program = _find(op)
    arguments = [op.name, str(pid), *op.lines.split()]
    output, status = _run(program, arguments, op)
    if status:
        why = output or f"it exited with status {posix.waitstatus_to_exitcode(status)}"
        ranges = "subuid" if op.name == "newuidmap" else "subgid"
        raise SetupError(
            f"cannot map ids with {program}: {why.removeprefix(f'{op.name}: ')}",
            where=op.where,
            hint=f"/etc/{ranges} lists the ranges that a user may map",
        )


def _find(op: "RunIdMapper") -> str:
    for directory in _PATH:
        path = f"{directory}/{op.name}"
        try:
            posix.stat(path)
        except OSError:
            continue
        return path
    raise SetupError(
        f"cannot map ids: {op.name} is not installed; it is needed to map ids other than your own",
        where=op.where,
        hint=f"install the package uidmap, or shadow; pyoci looks in {':'.join(_PATH)}",
    )


def _run(program: str, arguments: "list[str]", op: "RunIdMapper") -> "tuple[str, int]":
    """Run the program. Returns its output as one line, and its wait status."""
    output = _native.new_memfd("output")  # a pipe would have no end while a descendant keeps it open
    actions: list[tuple[int, ...]] = [(posix.POSIX_SPAWN_DUP2, output, number) for number in (1, 2)]
    try:
        try:
            child = posix.posix_spawn(
                program,
                arguments,
                {},
                file_actions=[(posix.POSIX_SPAWN_OPEN, 0, "/dev/null", posix.O_RDONLY, 0), *actions],
            )
        except OSError as error:
            raise SetupError(f"cannot run {program}: {reason(error.errno or 0)}", where=op.where) from error
        pidfd = posix.pidfd_open(child)
        ended = wait_ended(pidfd, TIMEOUT)
        if not ended:
            send_signal(pidfd, SIGKILL)
        posix.close(pidfd)
        _, status = posix.waitpid(child, 0)
        if not ended:
            raise SetupError(f"cannot map ids: {program} has not ended within {TIMEOUT} seconds", where=op.where)
        text = posix.pread(output, _MAX_OUTPUT, 0)
    finally:
        posix.close(output)
    return "; ".join(text.decode("utf-8", "backslashreplace").strip().splitlines()), status
