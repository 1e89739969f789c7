"""A first process that has moved out of the container's cgroup: its new cgroup, and the container's processes there.

A container that sees the host's hierarchy may do that, as buildkitd does in a privileged pod. What manages the first
cgroup removes it once it is empty. The other cgroup may hold any processes of the host. Only those in the container's
pid namespace belong to the container.
"""

import posix

from pyoci.cgroups.cgroupfs import Cgroup
from pyoci.cgroups.directories import GONE, errno_of, open_below, pids_at
from pyoci.cgroups.hierarchy import path_of
from pyoci.errors import CgroupError

_ATTEMPTS = 16  # it may move on meanwhile


def path(cgroup: Cgroup, pid: int) -> str:
    """Where `pid` is now, as a path from the mount; "" if it has not left the container's cgroup, or has ended."""
    try:
        where = path_of(pid)
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if f"{where}/".startswith(f"{cgroup.path}/") else where


def cgroup_of(cgroup: Cgroup, pid: int) -> Cgroup:
    """The cgroup that `pid` is in. Raises `CgroupError`, or FileNotFoundError if it has ended."""
    for attempt in range(_ATTEMPTS):
        where = path_of(pid)
        if _is_outside(where):
            raise CgroupError(
                f"cannot find the cgroup of the container's first process: {where} is outside of this cgroup namespace"
            )
        try:
            return Cgroup.at(cgroup, where)
        except CgroupError as error:
            if errno_of(error) not in GONE or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def members(cgroup: Cgroup, pid: int) -> "list[int]":
    """The container's processes in the cgroup that its first one, `pid`, has moved to; [] if it has not moved."""
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
    """Whether both processes are there and in the same pid namespace."""
    namespace = _pid_namespace(one)
    return namespace is not None and namespace == _pid_namespace(other)


def _is_outside(where: str) -> bool:
    return f"{where}/".startswith("/../")


def _pid_namespace(pid: int) -> "tuple[int, int] | None":
    """Device and inode of the namespace. None if the process has ended, or the runtime may not look."""
    try:
        status = posix.stat(f"/proc/{pid}/ns/pid")
    except OSError:
        return None
    return status.st_dev, status.st_ino
