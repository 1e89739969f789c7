"""Hooks that run on the host: prestart, createRuntime, poststart, poststop.

Implements config.md "POSIX-platform Hooks". A hook gets the state on stdin, exactly the argv and environment of the
config, and a process group of its own. It inherits no other descriptor. At its timeout the runtime kills the group.
"""

import posix

from pyoci import _native
from pyoci.errors import HookError, reason
from pyoci.linux import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, SIGSYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyoci.types import Hook

_SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE


def state_file(data: bytes = b"") -> int:
    """Create a memory file for the state that hooks read from stdin. Without `data`, `fill` writes it later."""
    fd = _native.new_memfd("state")
    if data:
        fill(fd, data)
    return fd


def fill(fd: int, data: bytes) -> None:
    """Write the state and seal it, so that a hook can't change what the next hook reads."""
    import fcntl

    posix.write(fd, data)
    fcntl.fcntl(fd, F_ADD_SEALS, _SEALS)


def run(
    where: str, path: str, argv: "Sequence[str]", envp: "Sequence[str]", timeout_ms: int, state_fd: int, cwd_fd: int
) -> None:
    """Run one hook and wait for its end. Raises HookError if it can't be executed, fails, or times out."""
    try:
        status, timed_out, output = _native.hook(path, list(argv), list(envp), cwd_fd, state_fd, timeout_ms)
    except OSError as error:
        raise exec_failure(where, path, error.errno or 0) from error
    if timed_out or status:
        raise failure(where, path, status, timed_out=timed_out, timeout_ms=timeout_ms, output=output)


def _prefix(where: str) -> str:
    """Return runc's words: users search for them when a hook fails, such as a GPU vendor's."""
    _, _, kind, index = where.split("/")
    return f"error running {kind} hook #{index}:"


def exec_failure(where: str, path: str, error: int) -> HookError:
    """Return the error for a hook that can't be executed."""
    return HookError(f"{_prefix(where)} cannot run {path}: {reason(error)}", where=where)


def failure(where: str, path: str, status: int, *, timed_out: bool, timeout_ms: int, output: bytes) -> HookError:
    """Return the error for a hook that failed or timed out, with its output."""
    if timed_out:
        how = f"timed out after {timeout_ms // 1000} s"
    elif status & 0x7F:
        how = f"was killed by signal {status & 0x7F}"
        if status & 0x7F == SIGSYS:
            how += ", bad system call"
            if where.startswith("/hooks/startContainer/"):  # only these hooks run under the filter
                how += ": the seccomp filter forbids it"
    else:
        how = f"exited with status {status >> 8 & 0xFF}"
    text = output.decode("utf-8", "backslashreplace").strip()
    return HookError(f"{_prefix(where)} {path} {how}" + (f": {text}" if text else ""), where=where)


def run_recorded(entries: "list[Hook]", kind: str, state: bytes, cwd_fd: int) -> "list[HookError]":
    """Run every hook of a list in the record, even if earlier ones fail. Returns the failures."""
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
    """Do the same as `pyoci.compiler.hooks.timeout_ms`, which commands with recorded hooks don't load."""
    return int(min(entry.get("timeout", 0), 1_000_000_000)) * 1000


def run_entry(entry: "Hook", where: str, state_fd: int, cwd_fd: int) -> None:
    """Run one hook as the config describes it. Raises HookError."""
    argv = entry.get("args") or [entry["path"]]
    run(where, entry["path"], argv, entry.get("env", []), _timeout_ms(entry), state_fd, cwd_fd)
