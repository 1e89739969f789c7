"""The options of a mount: their tables, and one entry of `mounts` with its options sorted.

Implements the table "Linux mount options" of config.md. To add an option, add it to the table of the system call that
takes it. pyoci passes an option that is in no table to the filesystem.
"""

from pyoci import linux
from pyoci.compiler import idmap
from pyoci.compiler.paths import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci import types

RDONLY, NOSUID = linux.MOUNT_ATTR_RDONLY, linux.MOUNT_ATTR_NOSUID
NODEV, NOEXEC = linux.MOUNT_ATTR_NODEV, linux.MOUNT_ATTR_NOEXEC
NOATIME, STRICTATIME, ATIME = linux.MOUNT_ATTR_NOATIME, linux.MOUNT_ATTR_STRICTATIME, linux.MOUNT_ATTR__ATIME
NODIRATIME, NOSYMFOLLOW = linux.MOUNT_ATTR_NODIRATIME, linux.MOUNT_ATTR_NOSYMFOLLOW
# Attributes that confine, with their options. mount(2) and mount_setattr(2) have the same numbers for them.
CONFINING = {RDONLY: "ro", NOSUID: "nosuid", NODEV: "nodev", NOEXEC: "noexec"}

MS_REC = linux.MS_REC
UNBINDABLE, PRIVATE, SLAVE, SHARED = linux.MS_UNBINDABLE, linux.MS_PRIVATE, linux.MS_SLAVE, linux.MS_SHARED

# option: (attributes set, attributes cleared). Access-time modes are values of one field, so each clears the field.
ATTRIBUTES = {
    "ro": (RDONLY, 0), "rw": (0, RDONLY),
    "nosuid": (NOSUID, 0), "suid": (0, NOSUID),
    "nodev": (NODEV, 0), "dev": (0, NODEV),
    "noexec": (NOEXEC, 0), "exec": (0, NOEXEC),
    "noatime": (NOATIME, ATIME), "atime": (0, ATIME),
    "relatime": (0, ATIME), "norelatime": (0, ATIME),
    "strictatime": (STRICTATIME, ATIME), "nostrictatime": (0, ATIME),
    "nodiratime": (NODIRATIME, 0), "diratime": (0, NODIRATIME),
    "nosymfollow": (NOSYMFOLLOW, 0), "symfollow": (0, NOSYMFOLLOW),
}  # fmt: skip

# The same for the mount and everything below it. The specification's table lacks only `rnodev`, by oversight.
RECURSIVE_ATTRIBUTES = {"r" + option: change for option, change in ATTRIBUTES.items()}

# Flags of the whole filesystem, for fsconfig. They have no effect on a bind mount, whose filesystem exists already.
SUPERBLOCK = {
    "sync": "sync", "async": "async", "dirsync": "dirsync", "lazytime": "lazytime", "nolazytime": "nolazytime",
    "mand": "mand", "nomand": "nomand",
}  # fmt: skip

# Options that pyoci accepts and does not pass on: `defaults` changes nothing; `silent` and `loud` are about kernel
# messages; no filesystem that a container can make still takes i_version as a flag.
IGNORED = ("defaults", "silent", "loud", "iversion", "noiversion")

PROPAGATION = {
    "private": (PRIVATE, False), "rprivate": (PRIVATE, True),
    "shared": (SHARED, False), "rshared": (SHARED, True),
    "slave": (SLAVE, False), "rslave": (SLAVE, True),
    "unbindable": (UNBINDABLE, False), "runbindable": (UNBINDABLE, True),
}  # fmt: skip

OTHER = ("bind", "rbind", "remount", "tmpcopyup", "copy-symlink", *idmap.OPTIONS)

# Every option that pyoci knows. It passes any other option to the filesystem.
MOUNT_OPTIONS = (*ATTRIBUTES, *RECURSIVE_ATTRIBUTES, *SUPERBLOCK, *IGNORED, *PROPAGATION, *OTHER)

# The files that lxcfs serves. A mount may cover no other file below /proc.
COVERED_PROC_FILES = (
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
    "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
)  # fmt: skip


class Mount:
    """One entry of `mounts`, with its options sorted by the system call that takes them."""

    __slots__ = (
        "attr_clear", "attr_set", "bind", "copy_symlink", "copy_up", "data", "data_where", "destination",
        "idmap_recursive", "idmap_where", "propagation", "rbind", "readonly_where", "recursive_clear", "recursive_set",
        "remount", "source", "type", "where",
    )  # fmt: skip

    def __init__(self, entry: "types.Mount", index: int) -> None:
        self.where = f"/mounts/{index}"
        self.destination = clean(entry["destination"])
        self.type: str = entry.get("type", "")
        self.source: str = entry.get("source", "")
        self.attr_set = self.attr_clear = self.recursive_set = self.recursive_clear = 0
        self.propagation: list[tuple[int, bool, str]] = []
        self.data: list[str] = []
        self.data_where: list[str] = []
        self.readonly_where = self.where  # the pointer of the option that makes it read-only
        self.bind = self.rbind = self.remount = self.copy_up = self.copy_symlink = self.idmap_recursive = False
        # the pointer of the property that asks for an idmapped mount, or "". Mappings need no option.
        self.idmap_where = f"{self.where}/uidMappings" if entry.get("uidMappings") else ""
        for n, option in enumerate(entry.get("options", ())):
            where = f"{self.where}/options/{n}"
            self._take(option, where)
            if option in ("ro", "rro"):
                self.readonly_where = where
        recursive = self.recursive_set | self.recursive_clear
        self.attr_set &= ~recursive
        self.attr_clear &= ~recursive

    def _take(self, option: str, where: str) -> None:
        """Sort one option. Of two that contradict each other, the later wins.

        A recursive option applies to this mount, too. It wins over a plain one in any order, because the kernel sets
        it when it makes the mount.
        """
        if option in ATTRIBUTES:
            change, clear = ATTRIBUTES[option]
            self.attr_set = self.attr_set & ~clear | change
            self.attr_clear = self.attr_clear & ~change | clear
        elif option in RECURSIVE_ATTRIBUTES:
            change, clear = RECURSIVE_ATTRIBUTES[option]
            self.recursive_set = self.recursive_set & ~clear | change
            self.recursive_clear = self.recursive_clear & ~change | clear
        elif option in PROPAGATION:
            flag, recursive = PROPAGATION[option]
            self.propagation.append((flag, recursive, where))
        elif option == "bind":
            self.bind = True
        elif option == "rbind":
            self.bind = self.rbind = True
        elif option == "remount":
            self.remount = True
        elif option == "tmpcopyup":
            self.copy_up = True
        elif option == "copy-symlink":
            self.copy_symlink = True
        elif option in idmap.OPTIONS:
            self.idmap_recursive = idmap.OPTIONS[option]
            self.idmap_where = where
        elif option in SUPERBLOCK:
            self.data.append(SUPERBLOCK[option])
            self.data_where.append(where)
        elif option not in IGNORED:
            parts = _parts(option)
            self.data += parts
            self.data_where += [where] * len(parts)

    @property
    def is_readonly(self) -> bool:
        """Whether an option makes the mount read-only."""
        return bool((self.attr_set | self.recursive_set) & RDONLY)

    @property
    def target_proc(self) -> bool:
        """Whether only the root of a procfs may go to the destination."""
        return self.destination == "/proc"

    @property
    def target_real(self) -> bool:
        """Whether the destination must be a directory behind no symlink.

        Masked and read-only paths name files of proc and sysfs by this path.
        """
        return self.destination in ("/proc", "/sys") or (self.type in ("proc", "sysfs") and not self.bind)

    @property
    def target_below_proc(self) -> bool:
        """Whether the destination is a file below /proc that a mount may cover."""
        return self.destination in COVERED_PROC_FILES


def _parts(option: str) -> "list[str]":
    """Split an option at its commas, because fsconfig(2) takes one option at a time.

    Drops the quotes around an SELinux label.
    """
    if "," not in option:
        return [_unquoted(option)] if option else []
    parts: list[list[str]] = []  # pieces with commas between them
    quotes = 0  # in the last part
    for piece in option.split(","):
        if parts and _goes_on(parts[-1], quotes, piece):
            parts[-1].append(piece)
            quotes += piece.count('"')
        else:
            parts.append([piece])
            quotes = piece.count('"')
    return [_unquoted(part) for part in map(",".join, parts) if part]


def _goes_on(pieces: "list[str]", quotes: int, piece: str) -> bool:
    """Whether the comma between them belongs to the value.

    It does between the nodes of tmpfs' mpol, in the quotes of a label, before a category of a label, such as c7, and
    after a backslash that no other backslash escapes (overlay).
    """
    first, last = pieces[0], pieces[-1]
    if first.startswith("mpol="):
        return piece[:1].isdigit()
    if first.startswith(LABEL_OPTIONS):
        return quotes % 2 == 1 or (piece[:1] == "c" and piece[1:2].isdigit())
    return (len(last) - len(last.rstrip("\\"))) % 2 == 1


def _unquoted(option: str) -> str:
    return option.replace('"', "") if option.startswith(LABEL_OPTIONS) else option


LABEL_OPTIONS = ("context=", "fscontext=", "defcontext=", "rootcontext=")  # of SELinux
