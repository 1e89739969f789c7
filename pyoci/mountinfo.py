"""The lines of /proc/PID/mountinfo (proc_pid_mountinfo(5)), and the mount of an open file. Pure."""


class MountInfo:
    """One mount.

    id, parent    numbers of the mount and of the one that it is mounted on
    device        "major:minor" of the filesystem, which two mounts of it have in common
    root          the directory or file of the filesystem that the mount shows
    point         where it is mounted, below the root directory of the process
    options       of the mount, such as "ro,nosuid"
    shared        the peer group that it is in, 0 without one
    master        the peer group that it gets mounts from, 0 without one
    type, source  of the filesystem
    """

    __slots__ = ("device", "id", "master", "options", "parent", "point", "root", "shared", "source", "type")

    def __init__(self, line: str) -> None:
        mount, _, filesystem = line.partition(" - ")
        number, parent, self.device, root, point, self.options, *optional = mount.split(" ")
        self.id = int(number)
        self.parent = int(parent)
        self.root = unescape(root)
        self.point = unescape(point)
        self.shared = self.master = 0
        for field in optional:
            name, _, group = field.partition(":")
            if name == "shared":
                self.shared = int(group)
            elif name == "master":
                self.master = int(group)
        self.type, source, *_ = filesystem.split(" ")
        self.source = unescape(source)


def parse(text: str) -> "list[MountInfo]":
    """Return the mounts in the order of the file. A mount may come before the one that it is mounted on."""
    return [MountInfo(line) for line in text.split("\n") if line]


def mount_of(fdinfo: bytes) -> int:
    """Return the number of the mount through which a descriptor was opened: from /proc/PID/fdinfo/FD, or -1."""
    for line in fdinfo.split(b"\n"):
        if line.startswith(b"mnt_id:"):
            return int(line.split()[1])
    return -1


def unescape(path: str) -> str:
    """Decode a path of mountinfo: a blank, tab, newline or backslash is `\\` and three octal digits."""
    start, *parts = path.split("\\")
    return start + "".join(chr(int(part[:3], 8)) + part[3:] for part in parts)


__all__ = ["MountInfo", "mount_of", "parse", "unescape"]
