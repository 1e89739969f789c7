"""Where the cgroup v2 hierarchy is mounted, and where in it a cgroup lies.

It is found through /proc/self/mountinfo, so unified and hybrid hosts are the same.
"""

import posix

from pyoci.cgroups.directories import is_there, read_file
from pyoci.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PATH_POINTER = "/linux/cgroupsPath"


def find_mount() -> str:
    """The mount point of the cgroup v2 hierarchy.

    Of several, a mount of the hierarchy's root goes before one of a part, the two usual places before others,
    and what was mounted first before what came later. Raises `CgroupError` if there is none.
    """
    found = []
    for order, (root, path, device) in enumerate(mounts("cgroup2")):
        usual = {"/sys/fs/cgroup": 0, "/sys/fs/cgroup/unified": 1}.get(path, 2)
        found.append((root != "/", usual, order, path, device))
    for _, _, _, path, device in sorted(found):
        if is_mounted(path, device):
            return path
    raise CgroupError(
        "cannot find the cgroup v2 hierarchy: no cgroup2 file system is mounted",
        hint="mount one, or run with --cgroup-manager disabled",
    )


def mounts(kind: str) -> "Iterator[tuple[str, str, str]]":
    """The mounts of a type of file system: what of it is mounted, where, and its device as "major:minor"."""
    for line in read_file("/proc/self/mountinfo").split("\n"):
        if f" - {kind} " in line:
            _, _, device, root, path, *_ = line.split(" ")
            yield root, _unescape(path), device


def is_mounted(path: str, device: str) -> bool:
    """Whether `path` still shows the mount of `device` ("major:minor") and nothing on top of it."""
    major, _, minor = device.partition(":")
    try:
        return posix.stat(path).st_dev == posix.makedev(int(major), int(minor))
    except OSError:
        return False


def _unescape(path: str) -> str:
    """A path of mountinfo, where blank, tab, newline and backslash are `\\` and three octal digits."""
    head, *escaped = path.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in escaped)


def cgroup_path(cgroups_path: str, id: str) -> str:
    """The path from the mount for `linux.cgroupsPath` ("" when unset) of container `id`.

    An absolute one counts from the mount. A relative one, and the id when there is none, go beside the cgroup
    of the caller: in its parent, since v2 lets a cgroup have either processes or limited children.
    """
    parts = (cgroups_path or id).removesuffix("/").split("/")
    absolute = parts[0] == ""
    if absolute:
        del parts[0]
    if not parts or any(part in ("", ".", "..") or "\0" in part or "\n" in part for part in parts):
        raise CgroupError(
            f"cannot use cgroup path {cgroups_path!r}: not a plain path below the mount", where=PATH_POINTER
        )
    return "/" + "/".join(parts) if absolute else f"{_own_parent()}/{'/'.join(parts)}"


def _own_parent() -> str:
    """The parent of the caller's own cgroup as a path from the mount, "" when it is the root."""
    parent = path_of().rpartition("/")[0]
    return "" if "/.." in parent else parent  # outside of our cgroup namespace: not visible here


def path_of(pid: "int | str" = "self") -> str:
    """The cgroup of a process, by default the caller's own, as a path from the mount; "" without a v2 hierarchy."""
    for line in read_file(f"/proc/{pid}/cgroup").split("\n"):
        if line.startswith("0::"):
            return line[3:]
    return ""


def refusal(cgroups_path: str, id: str, mount: str) -> str:
    """Why a process that is not root of the host may not make this cgroup and put a process into it; "" if it may.

    What it takes (cgroups(7), "Delegation"): to write to the directory above, and to the cgroup.procs of the cgroup
    that both the new one and the process' own lie in.
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
            return f"{file} is not this user's to write to"
    return ""


def page_sizes() -> "list[str]":
    """The sizes of huge pages that hugetlb files are named after: `2MB`, `1GB`."""
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
