"""Stop, resume and signal every process of a cgroup.

The functions take a descriptor of the cgroup's directory, and its path for messages. They wait with poll(2): the kernel
reports every change of `cgroup.events`.
"""

import errno
import posix
import select
import time

from pyoci import _native
from pyoci.cgroups.directories import READ, failure, write_at
from pyoci.errors import CgroupError
from pyoci.linux import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 10.0  # seconds that processes get to freeze or to die

FROZEN = b"frozen 1"
EMPTY = b"populated 0"


def is_frozen(dirfd: int, path: str) -> bool:
    """Whether the processes are stopped, or about to stop: a signal lets a frozen process run for a moment.

    Raises CgroupError.
    """
    try:
        requested = _native.read_small("cgroup.freeze", dirfd).startswith(b"1")
        return requested or FROZEN in _native.read_small("cgroup.events", dirfd)
    except OSError as error:
        raise failure("read the state of", path, error) from error


def freeze(dirfd: int, path: str, timeout: float) -> None:
    """Stop every process and wait until they have stopped.

    After `timeout` seconds this thaws the cgroup again and raises CgroupError.
    """
    try:
        write_at(dirfd, "cgroup.freeze", b"1")
        if wait_for(dirfd, time.monotonic() + timeout, FROZEN):
            return
        write_at(dirfd, "cgroup.freeze", b"0")
    except OSError as error:
        raise failure("freeze", path, error) from error
    raise CgroupError(f"cannot freeze cgroup {path}: not done after {timeout:g} s")


def thaw(dirfd: int, path: str, timeout: float) -> None:
    """Resume every process and wait until they run, or have ended. Raises CgroupError after `timeout` seconds."""
    try:
        write_at(dirfd, "cgroup.freeze", b"0")
        # If processes are killed while they are frozen and the cgroup has a child, Linux may report `frozen 1` forever.
        if wait_for(dirfd, time.monotonic() + timeout, b"frozen 0", EMPTY):
            return
    except OSError as error:
        raise failure("thaw", path, error) from error
    raise CgroupError(
        f"cannot thaw cgroup {path}: not done after {timeout:g} s", hint="check whether an ancestor is frozen"
    )


def wait_for(dirfd: int, deadline: float, *lines: bytes) -> bool:
    """Wait until `cgroup.events` has one of `lines`. Returns False if `deadline` (time.monotonic) comes first."""
    fd = posix.open("cgroup.events", READ, dir_fd=dirfd)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        # A read arms the file, and any later change ends the poll. So no change is missed in between.
        while True:
            events = posix.pread(fd, 4096, 0)
            if any(line in events for line in lines):
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poll.poll(left * 1000)
    finally:
        posix.close(fd)


def signal_all(dirfd: int, path: str, signal: int, list_pids: "Callable[[], list[int]]") -> None:
    """Send `signal` to every process, including processes that are just being forked.

    If the kernel can't do that by itself, this freezes the cgroup and signals the processes that `list_pids` returns.
    """
    if signal == SIGKILL:
        try:
            write_at(dirfd, "cgroup.kill", b"1")
            return
        except OSError as error:
            # Linux before 5.14 has no such file, and a threaded cgroup rejects the write.
            if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                raise
    _signal_frozen(dirfd, path, signal, list_pids)


def _signal_frozen(dirfd: int, path: str, signal: int, list_pids: "Callable[[], list[int]]") -> None:
    """Signal each process while the cgroup is frozen: then no process forks, and no pid changes its owner.

    No container takes over a frozen cgroup either. So what `list_pids` finds out now stays true.
    """
    was_frozen = is_frozen(dirfd, path)
    if not was_frozen:
        try:
            freeze(dirfd, path, TIMEOUT)
        except CgroupError:
            # If a process is stuck in the kernel, SIGKILL still reaches the others.
            if signal != SIGKILL:
                raise
    try:
        for pid in list_pids():
            try:
                posix.kill(pid, signal)
            except ProcessLookupError:
                pass  # it ended by itself
    finally:
        if not was_frozen:
            thaw(dirfd, path, TIMEOUT)


__all__ = ["EMPTY", "FROZEN", "TIMEOUT", "freeze", "is_frozen", "signal_all", "thaw", "wait_for"]
