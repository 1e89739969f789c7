"""Map ids with newuidmap and newgidmap, for a user who may not write the maps.

They are set-user-ID programs of the package uidmap (shadow). /etc/subuid and /etc/subgid list the ranges that the
administrator has assigned to each user.
"""

import posix

from pyoci.compiler.paths import SYSTEM_DIRECTORIES
from pyoci.errors import SetupError, reason
from pyoci.host.programs import Program, TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.verbs import RunIdMapper

TIMEOUT = 60  # seconds; the program may query a directory service for the user's ranges
# Engines run commands without PATH. The first directory is that of NixOS.
_PATH = ("/run/wrappers/bin", *SYSTEM_DIRECTORIES)


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
    try:
        output, status = Program(program, arguments).wait(TIMEOUT)
    except OSError as error:
        raise SetupError(f"cannot run {program}: {reason(error.errno or 0)}", where=op.where) from error
    except TimedOut:
        text = f"cannot map ids: {program} has not ended within {TIMEOUT} seconds"
        raise SetupError(text, where=op.where) from None
    return "; ".join(output.strip().splitlines()), status
