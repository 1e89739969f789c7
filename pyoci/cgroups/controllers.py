"""Enable controllers for a cgroup, in `cgroup.subtree_control` of each ancestor."""

import errno

from pyoci.cgroups.directories import errno_of, read_file, words_at, write_at
from pyoci.errors import CgroupError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.cgroups.resources import Write

HINTS = {
    errno.EACCES: "it is not delegated to this user (cgroups(7), Delegation)",
    errno.EBUSY: "a cgroup with processes of its own can't have limited children; move them into a child",
    errno.ENOENT: "its parent does not have this controller",
    errno.EOPNOTSUPP: "it is a threaded cgroup",
}


def enable(dirfd: int, path: str, mount: str, ancestors: list[int], writes: "list[Write]") -> None:
    """Enable the controllers that `writes` need in every ancestor that does not have them enabled yet.

    `dirfd` is the cgroup at `path` below `mount`; `ancestors` are the directories from the mount to its parent. Skips
    controllers that only lifted limits need, if they are not available. Raises CgroupError with the pointer of a limit.
    """
    from pyoci.cgroups.resources import controllers  # only commands that set limits load this

    needed, optional = controllers(writes)
    if not needed and not optional:
        return
    enabled = words_at(dirfd, "cgroup.controllers")
    if all(name in enabled for name in (*needed, *optional)):
        return
    available = words_at(ancestors[0], "cgroup.controllers")
    for name in needed:
        if name not in available:
            where = next(write.where for write in writes if write.controller == name and not write.default)
            raise _not_available(name, mount, where)
    for name in (*needed, *optional):
        if name not in enabled and name in available:
            _enable_one(name, path, ancestors, writes, optional=name in optional)


def enable_available(dirfd: int, ancestors: list[int]) -> None:
    """Enable every other controller that is available.

    They measure what a container without limits uses, and a container that manages cgroups of its own needs them.
    """
    enabled = words_at(dirfd, "cgroup.controllers")
    missing = [name for name in words_at(ancestors[0], "cgroup.controllers") if name not in enabled]
    for fd in ancestors if missing else ():
        present = words_at(fd, "cgroup.subtree_control")
        if not _try_enable(fd, [name for name in missing if name not in present]):
            # A cgroup with processes of its own can enable some controllers and not others: try each.
            missing = [name for name in missing if name in present or _try_enable(fd, [name])]


def _enable_one(name: str, path: str, ancestors: list[int], writes: "list[Write]", *, optional: bool) -> None:
    parts = path.split("/")
    for depth, fd in enumerate(ancestors):
        if name in words_at(fd, "cgroup.subtree_control"):
            continue
        try:
            write_at(fd, "cgroup.subtree_control", f"+{name}".encode())
        except OSError as error:
            if optional:
                return
            ancestor = "/".join(parts[: depth + 1]) or "/"
            raise CgroupError(
                f"cannot enable controller {name} in cgroup {ancestor}: {reason(errno_of(error))}",
                where=next(write.where for write in writes if write.controller == name),
                hint=HINTS.get(errno_of(error), ""),
            ) from error


def _try_enable(fd: int, names: list[str]) -> bool:
    """Enable all of these controllers, or none. Returns whether that worked."""
    try:
        if names:
            write_at(fd, "cgroup.subtree_control", " ".join(f"+{name}" for name in names).encode())
    except OSError:
        return False
    return True


def _not_available(name: str, mount: str, where: str) -> CgroupError:
    hint = ""
    for line in read_file("/proc/cgroups").split("\n"):
        subsystem, *numbers = line.split()[:2] or [""]
        if subsystem == ("blkio" if name == "io" else name) and numbers != ["0"]:
            hint = f"on this host it serves cgroup v1, unless the kernel is booted with cgroup_no_v1={subsystem}"
    return CgroupError(
        f"cannot apply: the requested cgroup controller `{name}` is not available "
        f"in this host's cgroup v2 hierarchy ({mount})",
        where=where,
        hint=hint,
    )


__all__ = ["enable", "enable_available"]
