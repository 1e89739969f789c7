"""Processes of the host, by pid: what /proc/PID/stat says about them, how to signal them and how to wait for them.

A pid alone can pass to another process. So the runtime identifies a process by its pid, its start time and the id of
the boot, and signals it through a pidfd.
"""

import errno
import posix
import select
import time

from pyoci import _native
from pyoci.errors import StateError, reason
from pyoci.host import files
from pyoci.linux import PF_EXITING, PF_KTHREAD, SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Identity(Protocol):
        """What identifies a process beyond the reuse of its pid, which is -1 for a process that never existed."""

        pid: int
        start_time: int
        boot_id: str

    Status = tuple[int, ...]  # what `process_status` returns


_STATE, _PARENT, _FLAGS, _THREADS, _START, _PENDING, _EXIT = range(7)
STOPPED_AGAIN = "another process stops the container's process again and again while the runtime sets it up"
TRACER_TIMEOUT = 2  # seconds in which a tracer has to release a process that has ended
# The process does not exist. If the number is that of a thread, pidfd_open(2) fails with EINVAL or ENOENT.
_NO_PROCESS = (errno.ESRCH, errno.EINVAL, errno.ENOENT)


# --- looking at a process


def require_procfs() -> None:
    """Raise StateError where no procfs is mounted on /proc, because every process would seem to have ended."""
    if not files.exists("/proc/self"):
        raise StateError("cannot look at processes: no procfs is mounted on /proc", hint="mount -t proc proc /proc")


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 if it does not exist."""
    status = _native.process_status(pid)
    return status[_START] if status else 0


def start_time_and_killed(pid: int) -> "tuple[int, bool]":
    """Return the start time of a process that was just cloned, and whether SIGKILL has already reached it."""
    status = _native.process_status(pid)
    return (status[_START], _is_killed(status)) if status else (0, False)


def is_exiting(pid: int) -> bool:
    """Whether a process is exiting or gone. An exiting process may have closed some of its descriptors."""
    status = _native.process_status(pid)
    return not status or bool(status[_FLAGS] & PF_EXITING)


def state(pid: int) -> bytes:
    """Return the state letter of a process, as in /proc/PID/stat; b"" if it does not exist."""
    status = _native.process_status(pid)
    return bytes([status[_STATE]]) if status else b""


def has_executed_a_file(pid: int) -> bool:
    """Whether a process runs a program from a file with a name: no longer the helper, which has none.

    False also if the process has ended, or if the runtime may not look at it.
    """
    try:
        return not posix.readlink(f"/proc/{pid}/exe").endswith(" (deleted)")
    except OSError:
        return False


def parent(pid: int) -> int:
    """Return the pid of the parent; 0 if the process does not exist or its parent is in another pid namespace."""
    return parent_and_start_time(pid)[0]


def parent_and_start_time(pid: int) -> "tuple[int, int]":
    """Return the pid of a process' parent, and when the process started.

    Both are 0 if the process does not exist. The parent is 0 if it is in another pid namespace.
    """
    status = _native.process_status(pid)
    return (status[_PARENT], status[_START]) if status else (0, 0)


def wait_status(pid: int) -> int:
    """Return the wait status of a child that has ended but that its tracer still holds; 0 if it can't be read."""
    status = _native.process_status(pid)
    return status[_EXIT] if status else 0


def is_kernel_thread(pid: int, name: bytes) -> bool:
    """Whether this is the kernel's thread of that name. A program can have the name, but never the flag."""
    try:
        data = _native.read_small(f"/proc/{pid}/stat")
    except OSError:
        return False
    begin, end = data.index(b"("), data.rindex(b")")
    return data[begin + 1 : end] == name and bool(int(data[end + 2 :].split()[6]) & PF_KTHREAD)


def with_descendants(pid: int) -> "Iterator[int]":
    """Yield a process and all below it. If processes are not stopped, some may come or go meanwhile. Raises OSError."""
    left = [pid]
    while left:
        pid = left.pop()
        yield pid
        try:
            for tid in posix.listdir(f"/proc/{pid}/task"):
                left += map(int, files.read(f"/proc/{pid}/task/{tid}/children").split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended


def boot_id() -> str:
    """Return the id of this boot. A pid and a start time mean nothing in another one."""
    return _native.read_small("/proc/sys/kernel/random/boot_id").decode("ascii").strip()


def _is_killed(status: "Status") -> bool:
    """Whether SIGKILL is pending or was delivered."""
    return bool(status[_PENDING] >> (SIGKILL - 1) & 1) or status[_EXIT] & 0x7F == SIGKILL


def _is_ending(status: "Status") -> bool:
    """Whether a process has ended or is certain to end. If only its first thread has exited, the others go on."""
    return _is_killed(status) or bool(status[_FLAGS] & PF_EXITING and status[_THREADS] <= 1)


# --- opening, signalling and waiting


def open_process(identity: "Identity", *, lasting: bool = False) -> int:
    """Open a pidfd of the process; -1 if it has ended or never existed.

    The identity is verified after the pidfd was opened. With `lasting`, this also returns -1 for a process that is
    certain to end. Raises StateError if the process can't be examined, since a live one must not pass for an ended one.
    """
    if identity.pid < 0:
        return -1
    try:
        fd = posix.pidfd_open(identity.pid)
    except OSError as error:
        if error.errno in _NO_PROCESS:
            return -1
        raise StateError(f"cannot open process {identity.pid}: {reason(error.errno or 0)}") from error
    try:
        status = _status_of(identity)
    except StateError:
        posix.close(fd)
        raise
    # A zombie has ended, unless other threads of it live.
    if status and not (lasting and _is_ending(status)) and not wait_ended(fd, 0):
        return fd
    posix.close(fd)
    return -1


def is_lasting(identity: "Identity", boot: str = "") -> bool:
    """Whether the process lives, and neither SIGKILL nor an exit of its last thread is about to end it.

    `boot` is `boot_id()`, if the caller has it. Raises StateError if the process can't be examined.
    """
    status = _status_of(identity, boot) if identity.pid > 0 else None
    return status is not None and not _is_ending(status)


def _status_of(identity: "Identity", boot: str = "") -> "Status | None":
    """Return the status of the process; None if it does not exist. Raises StateError."""
    try:
        status = _native.process_status(identity.pid)
        if not status:
            require_procfs()
            return None
        if status[_START] != identity.start_time or (boot or boot_id()) != identity.boot_id:
            return None
        return status
    except OSError as error:
        raise StateError(f"cannot read the status of process {identity.pid}: {reason(error.errno or 0)}") from error


def open_pid(pid: int) -> int:
    """Open a pidfd of whichever process has this pid now; -1 if none has."""
    try:
        return posix.pidfd_open(pid)
    except OSError:
        return -1


def send_signal(pidfd: int, signal: int) -> bool:
    """Signal a process; return False if it has ended."""
    try:
        _native.pidfd_send_signal(pidfd, signal)
    except ProcessLookupError:
        return False
    return True


def wait_ended(pidfd: int, seconds: float) -> bool:
    """Wait until a process has ended; return False after `seconds`."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def reap(pid: int, seconds: float) -> "int | None":
    """Reap a child that ends within `seconds`, and return its wait status.

    Returns None if the child does not end, or if its tracer holds it for TRACER_TIMEOUT seconds after its end.
    This polls, because the kernel has no event for a tracer that releases a process.
    """
    reaped, status = posix.waitpid(pid, posix.WNOHANG)
    if reaped:
        return status
    pidfd = posix.pidfd_open(pid)
    timeout = TRACER_TIMEOUT if wait_ended(pidfd, seconds) else 0
    posix.close(pidfd)
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        reaped, status = posix.waitpid(pid, posix.WNOHANG)
        if reaped:
            return status
        if time.monotonic() > deadline:
            return None
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
