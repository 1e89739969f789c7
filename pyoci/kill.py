"""kill: a signal for init, or for every process of the container.

Implements runtime.md "Kill".
"""

import posix

from pyoci.errors import StatusError
from pyoci.host.processes import open_pid, open_process, send_signal, wait_ended
from pyoci.linux import SIGKILL, SIGTERM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.cgroups.driver import Driver
    from pyoci.container import Container
    from pyoci.record import Record


def kill(container: "Container", signal: int = SIGTERM, *, all: bool = False) -> None:
    """Signal init, or with `all` every process of the container.

    Raises StatusError if the container has stopped or is being created: its process takes no signals yet, and SIGKILL
    would make the create fail.
    """
    if container.is_being_created():
        raise StatusError("cannot signal a container that is still being created")
    if all and _signal_all(container, signal):
        return
    cgroup = container.own_cgroup() if _others_survive(container.record, signal) else None
    if _signal_init(container.record, signal):
        if cgroup is not None:
            cgroup.kill(signal)
    elif not _signal_survivors(cgroup, signal):
        raise StatusError("container not running")


def _others_survive(record: "Record", signal: int) -> bool:
    """Whether SIGKILL for init leaves the other processes alive: the kernel ends them only with their pid namespace."""
    return signal == SIGKILL and record.shares_pids


def _signal_init(record: "Record", signal: int) -> bool:
    """Signal init; return False if it has ended or is certain to end: the container's status is `stopped` then."""
    pidfd = open_process(record, lasting=True)
    if pidfd < 0:
        return False
    try:
        return send_signal(pidfd, signal)
    finally:
        posix.close(pidfd)


def _signal_survivors(cgroup: "Driver | None", signal: int) -> bool:
    """Signal what init has left in the cgroup; return False if there is nothing."""
    return cgroup is not None and bool(cgroup.pids()) and cgroup.kill(signal)


def _signal_all(container: "Container", signal: int) -> bool:
    """Signal every process. Returns False, and sends nothing, if only init is known."""
    reached = container.own_cgroup().kill(signal)
    pids = container.moved_pids()
    init = open_process(container.record) if pids else -1
    if init < 0:
        return reached
    for pid in pids:
        _signal_moved(container.record.pid, init, pid, signal)
    posix.close(init)
    return True


def _signal_moved(init_pid: int, init: int, pid: int, signal: int) -> None:
    """Signal `pid` if it is init or in the pid namespace of init, whose pidfd is `init`."""
    from pyoci.cgroups import moved

    pidfd = open_pid(pid)
    if pidfd < 0:
        return
    belongs = pid == init_pid or moved.share_pids(pid, init_pid)
    if belongs and not wait_ended(init, 0) and not wait_ended(pidfd, 0):  # so neither pid was reused meanwhile
        send_signal(pidfd, signal)
    posix.close(pidfd)


__all__ = ["kill"]
