"""newuidmap and newgidmap: what maps ids for a user who may not.

They are set-user-ID programs of the package uidmap (shadow), and know from /etc/subuid and /etc/subgid which ranges the
administrator has assigned to whom.
"""

import posix

from pyoci.errors import SetupError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.plan.operations import Op

# Engines run commands without any PATH. NixOS keeps such programs in the first one.
_PATH = ("/run/wrappers/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def run(op: "Op", pid: int) -> None:
    """Have program `op.s1` write the map `op.s2` of a process. Raises SetupError, with what the program says."""
    program = _find(op)
    arguments = [op.s1, str(pid), *op.s2.split()]
    said, status = _run(program, arguments, op)
    if status:
        why = said or f"it exited with status {posix.waitstatus_to_exitcode(status)}"
        ranges = "subuid" if op.s1 == "newuidmap" else "subgid"
        raise SetupError(
            f"cannot map ids with {program}: {why.removeprefix(f'{op.s1}: ')}",
            where=op.where,
            hint=f"/etc/{ranges} says which ranges a user may map",
        )


def _find(op: "Op") -> str:
    for directory in _PATH:
        path = f"{directory}/{op.s1}"
        try:
            posix.stat(path)
        except OSError:
            continue
        return path
    raise SetupError(
        f"cannot map ids: {op.s1} is not installed; it is needed to map ids other than your own",
        where=op.where,
        hint=f"it is in the package uidmap, or shadow; looked for in {':'.join(_PATH)}",
    )


def _run(program: str, arguments: "list[str]", op: "Op") -> "tuple[str, int]":
    """What it wrote, in one line, and its wait status."""
    ours, its = posix.pipe2(posix.O_CLOEXEC)
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    actions = [(posix.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((null, its, its))]
    try:
        child = posix.posix_spawn(program, arguments, {}, file_actions=actions)
    except OSError as error:
        posix.close(ours)
        raise SetupError(f"cannot run {program}: {reason(error.errno or 0)}", where=op.where) from error
    finally:
        posix.close(its)
        posix.close(null)
    said = b""
    while part := posix.read(ours, 4096):
        said = (said + part)[:4096]
    posix.close(ours)
    _, status = posix.waitpid(child, 0)
    return "; ".join(said.decode("utf-8", "backslashreplace").strip().splitlines()), status
