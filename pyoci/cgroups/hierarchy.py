"""Where the cgroup v2 hierarchy is mounted, and where in it a cgroup lies.

One of the two usual places answers on almost every host. Elsewhere /proc/self/mountinfo has the answer, which takes
milliseconds on a host with thousands of mounts.
"""

import posix

from pyoci import _native
from pyoci.cgroups.directories import is_there, read_file
from pyoci.errors import CgroupError
from pyoci.linux import CGROUP2_SUPER_MAGIC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PATH_POINTER = "/linux/cgroupsPath"

_USUAL = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")  # on unified and on hybrid hosts
_ROOT_INODE = 1


def find_mount() -> str:
    """Return the mount point of the cgroup v2 hierarchy.

    If there are several, a mount of the hierarchy's root comes before a mount of a part, the two usual places come
    before others, and an earlier mount comes before a later one. Raises CgroupError if there is none.
    """
    for path in _USUAL:
        if shows_whole_hierarchy(path):
            return path
    found = []
    for order, (root, path, device) in enumerate(mounts("cgroup2")):
        usual = _USUAL.index(path) if path in _USUAL else len(_USUAL)
        found.append((root != "/", usual, order, path, device))
    for _, _, _, path, device in sorted(found):
        if is_mounted(path, device):
            return path
    raise CgroupError(
        "cannot find the cgroup v2 hierarchy: no cgroup2 file system is mounted",
        hint="mount one, or pass --cgroup-manager disabled",
    )


def shows_whole_hierarchy(path: str) -> bool:
    """Whether `path` is the root of the cgroup v2 hierarchy, and not a part of it."""
    try:
        return _native.filesystem_type(path) == CGROUP2_SUPER_MAGIC and posix.stat(path).st_ino == _ROOT_INODE
    except OSError:
        return False


def mounts(kind: str) -> "Iterator[tuple[str, str, str]]":
    """Yield the mounts of a file system type: (root in the file system, mount point, device "major:minor").

    Without procfs, none is known.
    """
    from pyoci.mountinfo import unescape  # only hosts with an unusual mount point get here

    try:
        lines = read_file("/proc/self/mountinfo").split("\n")
    except FileNotFoundError:
        return
    for line in lines:
        if f" - {kind} " in line:
            _, _, device, root, path, *_ = line.split(" ")
            yield root, unescape(path), device


def is_mounted(path: str, device: str) -> bool:
    """Whether `path` shows the mount of `device` ("major:minor"), and no later mount covers it."""
    major, _, minor = device.partition(":")
    try:
        return posix.stat(path).st_dev == posix.makedev(int(major), int(minor))
    except OSError:
        return False


def cgroup_path(cgroups_path: str, id: str) -> str:
    """Return the path below the mount for `linux.cgroupsPath` ("" if unset) of container `id`.

    An absolute path is relative to the mount. A relative path, or the id if there is no path, is relative to the parent
    of the caller's own cgroup, because a v2 cgroup has either processes or limited children. Raises CgroupError.
    """
    parts = (cgroups_path or id).removesuffix("/").split("/")
    absolute = parts[0] == ""
    if absolute:
        del parts[0]
    if not parts or any(part in ("", ".", "..") or "\0" in part or "\n" in part for part in parts):
        raise CgroupError(
            f"cannot use cgroup path {cgroups_path!r}: it is not a plain path below the mount", where=PATH_POINTER
        )
    return "/" + "/".join(parts) if absolute else f"{_own_parent()}/{'/'.join(parts)}"


def _own_parent() -> str:
    """Return the parent of the caller's own cgroup as a path below the mount, "" for the root."""
    parent = path_of().rpartition("/")[0]
    return "" if "/.." in parent else parent  # outside of this cgroup namespace: not visible here


def path_of(pid: "int | str" = "self") -> str:
    """Return the cgroup of a process as a path below the mount; "" without a v2 hierarchy."""
    for line in read_file(f"/proc/{pid}/cgroup").split("\n"):
        if line.startswith("0::"):
            return line[3:]
    return ""


def refusal(cgroups_path: str, id: str, mount: str) -> str:
    """Return why this process, without the host's root, may not create the cgroup and put a process into it.

    Returns "" if it may. cgroups(7), "Delegation", requires write access to the parent directory, and to cgroup.procs
    of the closest common ancestor of the new cgroup and the process's own.
    """
    if not mount:
        return "no cgroup2 file system is mounted"
    path = cgroup_path(cgroups_path, id)
    above = path
    while above and not is_there(mount + above):
        above = above.rpartition("/")[0]
    own = path_of()
    common = path
    while common and not f"{own}/".startswith(f"{common}/"):
        common = common.rpartition("/")[0]
    for file in (f"{mount}{above}", f"{mount}{common}/cgroup.procs"):
        if not posix.access(file, posix.W_OK, effective_ids=True):
            return f"this user may not write to {file}"
    return ""


def page_sizes() -> "list[str]":
    """Return the sizes of huge pages as in the names of hugetlb files: `2MB`, `1GB`."""
    names = []
    try:
        entries = posix.listdir("/sys/kernel/mm/hugepages")
    except OSError:
        return []
    for entry in sorted(entries):
        kilobytes = entry.removeprefix("hugepages-").removesuffix("kB")
        size, unit = int(kilobytes), "KB"
        for larger in ("MB", "GB"):
            if size >= 1024:
                size, unit = size // 1024, larger
        names.append(f"{size}{unit}")
    return names
