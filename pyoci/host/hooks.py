"""Hooks that run on the host: prestart, createRuntime, poststart, poststop.

Implements config.md "POSIX-platform Hooks". A hook gets the state on stdin, exactly the argv and environment of the
config, a process group of its own and no descriptor of ours; it is killed with its group at its timeout.
"""

import posix

from pyoci import _native
from pyoci.errors import HookError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyoci.types import Hook

_SEALS = 0x000F  # F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
_F_ADD_SEALS = 1033
_SIGSYS = 31


def state_file(data: bytes = b"") -> int:
    """A memory file for the state that hooks read from stdin, empty if it is to be filled later."""
    fd = posix.memfd_create("state", posix.MFD_CLOEXEC | posix.MFD_ALLOW_SEALING)
    if data:
        fill(fd, data)
    return fd


def fill(fd: int, data: bytes) -> None:
    """Write the state and seal it: one hook can't change what the next one reads."""
    import fcntl

    posix.write(fd, data)
    fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)


def run(
    where: str, path: str, argv: "Sequence[str]", envp: "Sequence[str]", timeout_ms: int, state_fd: int, cwd_fd: int
) -> None:
    """Run one hook to its end. Raises HookError if it can't be executed, fails, or takes too long."""
    try:
        status, timed_out, output = _native.hook(path, list(argv), list(envp), cwd_fd, state_fd, timeout_ms)
    except OSError as error:
        raise unstarted(where, path, error.errno or 0) from error
    if timed_out or status:
        raise failure(where, path, status, timed_out=timed_out, timeout_ms=timeout_ms, output=output)


def _failing(where: str) -> str:
    """As runc says it: what is known of the errors of hooks, such as those of GPUs, is found by these words."""
    _, _, kind, index = where.split("/")
    return f"error running {kind} hook #{index}:"


def unstarted(where: str, path: str, error: int) -> HookError:
    """The error for a hook that could not be executed."""
    return HookError(f"{_failing(where)} cannot run {path}: {reason(error)}", where=where)


def failure(where: str, path: str, status: int, *, timed_out: bool, timeout_ms: int, output: bytes) -> HookError:
    """The error for a hook that ended badly, with what it wrote."""
    if timed_out:
        how = f"timed out after {timeout_ms // 1000} s"
    elif status & 0x7F:
        how = f"was killed by signal {status & 0x7F}"
        if status & 0x7F == _SIGSYS:
            how += ", bad system call"
            if where.startswith("/hooks/startContainer/"):  # no others run under it
                how += ": the seccomp filter forbids it"
    else:
        how = f"exited with status {status >> 8 & 0xFF}"
    text = output.decode("utf-8", "backslashreplace").strip()
    return HookError(f"{_failing(where)} {path} {how}" + (f": {text}" if text else ""), where=where)


def run_recorded(entries: "list[Hook]", kind: str, state: bytes, cwd_fd: int) -> "list[HookError]":
    """Run every hook of a list kept in the state; all of them, whatever the earlier ones did. Returns the failures."""
    failures: list[HookError] = []
    fd = state_file(state) if entries else -1
    for index, entry in enumerate(entries):
        try:
            run_entry(entry, f"/hooks/{kind}/{index}", fd, cwd_fd)
        except HookError as error:
            failures.append(error)
    if fd >= 0:
        posix.close(fd)
    return failures


def _timeout_ms(entry: "Hook") -> int:
    """As `pyoci.compiler.hooks.timeout_ms`, which the commands that run recorded hooks need not load."""
    return int(min(entry.get("timeout", 0), 1_000_000_000)) * 1000


def run_entry(entry: "Hook", where: str, state_fd: int, cwd_fd: int) -> None:
    """Run one hook as the config describes it."""
    argv = entry.get("args") or [entry["path"]]
    run(where, entry["path"], argv, entry.get("env", []), _timeout_ms(entry), state_fd, cwd_fd)
