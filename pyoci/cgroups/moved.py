"""An init process that has moved out of the container's cgroup: its new cgroup, and the container's processes there.

A container that sees the host's hierarchy may do that, as buildkitd does in a privileged pod. The manager of the first
cgroup removes it once it is empty. The new cgroup may hold any processes of the host. Only those in the container's
pid namespace belong to the container.
"""

import posix

from pyoci.cgroups.cgroupfs import Cgroup
from pyoci.cgroups.directories import GONE, errno_of, open_below, pids_at
from pyoci.cgroups.hierarchy import path_of
from pyoci.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.cgroups.driver import Driver

MAX_ATTEMPTS = 16  # the process may move on meanwhile


def path(cgroup: "Driver", pid: int) -> str:
    """Return the path of the cgroup that `pid` has moved to; "" if it is in the container's cgroup, or has ended."""
    try:
        where = path_of(pid)
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if f"{where}/".startswith(f"{cgroup.path}/") else where


def cgroup_of(cgroup: "Driver", pid: int) -> Cgroup:
    """Return the cgroup that `pid` is in. Raises CgroupError, or FileNotFoundError if the process has ended."""
    for attempt in range(MAX_ATTEMPTS):
        where = path_of(pid)
        if _is_outside(where):
            raise CgroupError(
                f"cannot find the cgroup of the container's first process: {where} is outside of this cgroup namespace"
            )
        try:
            return Cgroup.existing(cgroup.mount, where)
        except CgroupError as error:
            if errno_of(error) not in GONE or attempt == MAX_ATTEMPTS - 1:
                raise
    raise AssertionError


def members(cgroup: "Driver", pid: int) -> "list[int]":
    """Return the container's processes in the cgroup that its init `pid` has moved to; [] if it has not moved."""
    where = path(cgroup, pid)
    if not where or _is_outside(where):
        return [pid] if where else []
    try:
        fd = open_below(cgroup.mount, where)
    except OSError as error:
        if error.errno not in GONE:
            raise
        return [pid]
    try:
        return [pid, *(each for each in pids_at(fd, "cgroup.procs") if each != pid and share_pids(each, pid))]
    finally:
        posix.close(fd)


def share_pids(one: int, other: int) -> bool:
    """Whether both processes exist and are in the same pid namespace."""
    namespace = _pid_namespace(one)
    return namespace is not None and namespace == _pid_namespace(other)


def _is_outside(where: str) -> bool:
    return f"{where}/".startswith("/../")


def _pid_namespace(pid: int) -> "tuple[int, int] | None":
    """Return device and inode of the namespace; None if the process has ended, or the runtime may not look."""
    try:
        status = posix.stat(f"/proc/{pid}/ns/pid")
    except OSError:
        return None
    return status.st_dev, status.st_ino


__all__ = ["cgroup_of", "members", "path", "share_pids"]
