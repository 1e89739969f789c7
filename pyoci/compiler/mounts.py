"""`mounts` → operations: bind mounts are cloned by the runtime before the first mount, filesystems are made by the
child.

Implements config.md "Mounts" and config-linux.md "Default Filesystems". What depends on the root filesystem (a
missing target, a symlink) is in the contracts of `bind_mount` and `mount`.
"""

from pyoci.compiler import idmap
from pyoci.compiler.operations import (
    COPY_UP,
    INHERIT_MODE,
    ONE_STRING,
    READONLY_AT_LAST,
    TARGET_BELOW_PROC,
    TARGET_PROC,
    TARGET_REAL,
    Op,
)
from pyoci.compiler.paths import clean, join
from pyoci.errors import ConfigError, Problem, PyociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyoci.compiler.operations import Plan

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
NOATIME, STRICTATIME, NODIRATIME, NOSYMFOLLOW = 0x10, 0x20, 0x80, 0x200000
ATIME = 0x70  # the field of which NOATIME and STRICTATIME are values; relatime is 0

RECURSIVE = 1  # beside a propagation type in a `remount`
MS_REC, UNBINDABLE, PRIVATE, SLAVE, SHARED = 0x4000, 1 << 17, 1 << 18, 1 << 19, 1 << 20

# option: (attributes set, attributes cleared). An access-time mode is a value of one field, so it clears the whole
# field.
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

# The same for the mount and everything below it. `rnodev` is missing in the specification's table, not in its intent.
RECURSIVE_ATTRIBUTES = {"r" + option: change for option, change in ATTRIBUTES.items()}

# Flags of the whole filesystem: what fsconfig is told. They do nothing on a bind mount, whose filesystem is somebody
# else's.
SUPERBLOCK = {
    "sync": "sync", "async": "async", "dirsync": "dirsync", "lazytime": "lazytime", "nolazytime": "nolazytime",
    "mand": "mand", "nomand": "nomand",
}  # fmt: skip

# Accepted and never passed on: `defaults` says nothing; `silent` and `loud` are about kernel messages; no filesystem a
# container can make takes i_version by a flag any more.
IGNORED = ("defaults", "silent", "loud", "iversion", "noiversion")

PROPAGATION = {
    "private": (PRIVATE, False), "rprivate": (PRIVATE, True),
    "shared": (SHARED, False), "rshared": (SHARED, True),
    "slave": (SLAVE, False), "rslave": (SLAVE, True),
    "unbindable": (UNBINDABLE, False), "runbindable": (UNBINDABLE, True),
}  # fmt: skip

OTHER = ("bind", "rbind", "remount", "tmpcopyup", "copy-symlink", *idmap.OPTIONS)

# Every option this runtime knows; anything else is the filesystem's own.
MOUNT_OPTIONS = (*ATTRIBUTES, *RECURSIVE_ATTRIBUTES, *SUPERBLOCK, *IGNORED, *PROPAGATION, *OTHER)

# What lxcfs serves: the only files below /proc that a mount may cover.
COVERED_PROC_FILES = (
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
    "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
)  # fmt: skip

NOTIFY = "NOTIFY_SOCKET"
"""The `where` of what is due to this variable of the runtime's environment, and no property's."""
_NOTIFY_TARGET = "/run/notify"

# cgroup2's own options: they are of the one hierarchy there is, so only who mounts it for the host can change them.
CGROUP2_OPTIONS = (
    "nsdelegate", "favordynmods", "nofavordynmods", "memory_localevents", "memory_recursiveprot",
    "memory_hugetlb_accounting", "pids_localevents",
)  # fmt: skip

# Their files get their SELinux labels from the policy: they exist before they are mounted, and refuse a context= then.
_UNLABELLED = ("proc", "sysfs", "cgroup2", "mqueue")


class Mount:
    """One entry of `mounts`, its options sorted into what the kernel takes separately."""

    __slots__ = (
        "attr_clear",
        "attr_set",
        "bind",
        "copy_symlink",
        "copy_up",
        "data",
        "data_where",
        "destination",
        "idmap_recursive",
        "idmap_where",
        "propagation",
        "rbind",
        "recursive_clear",
        "recursive_set",
        "remount",
        "source",
        "type",
        "where",
    )  # fmt: skip

    def __init__(self, entry: "dict[str, Any]", index: int) -> None:
        self.where = f"/mounts/{index}"
        self.destination = clean(entry["destination"])
        self.type: str = entry.get("type", "")
        self.source: str = entry.get("source", "")
        self.attr_set = self.attr_clear = self.recursive_set = self.recursive_clear = 0
        self.propagation: list[tuple[int, bool, str]] = []
        self.data: list[str] = []
        self.data_where: list[str] = []
        self.bind = self.rbind = self.remount = self.copy_up = self.copy_symlink = self.idmap_recursive = False
        # the pointer of what asks for an idmapped mount, "" if nothing does: mappings do without the option
        self.idmap_where = f"{self.where}/uidMappings" if entry.get("uidMappings") else ""
        for n, option in enumerate(entry.get("options", ())):
            self._take(option, f"{self.where}/options/{n}")
        recursive = self.recursive_set | self.recursive_clear
        self.attr_set &= ~recursive
        self.attr_clear &= ~recursive

    def _take(self, option: str, where: str) -> None:
        """One option; the later of a contradicting pair wins. A recursive one is for this mount, too, and wins over a
        plain one, wherever it stands: the kernel sets it when the mount is made."""
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

    def target_flags(self) -> int:
        """How the executor has to treat the destination."""
        if self.destination == "/proc":
            return TARGET_PROC | TARGET_REAL
        # the host's, bound, needs its masks as much as one of the container's own
        if self.destination == "/sys" or (self.type in ("proc", "sysfs") and not self.bind):
            return TARGET_REAL
        return TARGET_BELOW_PROC if self.destination in COVERED_PROC_FILES else 0


def _parts(option: str) -> "list[str]":
    """An option of a filesystem as fsconfig(2) takes it: one at a time, where mount(2) takes all with commas between.
    The quotes around an SELinux label are no part of it.
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
    """Whether the comma between them is the value's own: of the nodes of tmpfs' mpol, in the quotes of a label or in
    front of one of its categories, such as c7, and after a backslash that is itself behind none (overlay).
    """
    first, last = pieces[0], pieces[-1]
    if first.startswith("mpol="):
        return piece[:1].isdigit()
    if first.startswith(_LABELS):
        return quotes % 2 == 1 or (piece[:1] == "c" and piece[1:2].isdigit())
    return (len(last) - len(last.rstrip("\\"))) % 2 == 1


def _unquoted(option: str) -> str:
    return option.replace('"', "") if option.startswith(_LABELS) else option


_LABELS = ("context=", "fscontext=", "defcontext=", "rootcontext=")  # of SELinux


def compile_mounts(
    plan: "Plan", config: "dict[str, Any]", bundle: str, cgroup_mount: str, kernel: "tuple[int, int]" = (0, 0)
) -> "Iterator[Op]":
    """The child's operations for every entry, in the order listed; sources of binds go to `plan.before`.

    Raises PyociError for an option that can't be applied.
    """
    label = config.get("linux", {}).get("mountLabel", "")
    own = {entry["type"] for entry in config.get("linux", {}).get("namespaces", ())}
    mappings = idmap.Mappings(plan, config.get("linux", {}))
    made: dict[str, Op] = {}
    for index, entry in enumerate(config.get("mounts", ())):
        mount = Mount(entry, index)
        if mount.type in ("cgroup", "cgroup2") and not mount.bind:
            _to_cgroup2(mount, "cgroup" in own, cgroup_mount)
        _check(mount)
        if mount.remount:
            ops = _remount(mount)
            if (mount.attr_clear | mount.recursive_clear) & RDONLY and mount.destination in made:
                made[mount.destination].flags &= ~READONLY_AT_LAST
        else:
            users = mappings.slot(entry, mount.idmap_where) if mount.idmap_where else 0
            if mount.bind:
                ops = list(_bind(plan, mount, bundle, users))
            else:
                # who makes a user namespace does not own the message queues in it, and only their owner may label them
                given = "" if mount.type == "mqueue" and "user" in own else label
                ops = list(_filesystem(plan, mount, given, users, kernel))
            made[mount.destination] = ops[0]
        yield from ops


def mount_notify(plan: "Plan", socket: str) -> Op:
    """The folder of the container's socket for sd_notify, over whatever the config mounts."""
    folder = socket.rpartition("/")[0]
    slot = plan.new_slot()
    plan.before.append(Op("open_tree", NOTIFY, folder, a=slot, b=RDONLY | NOSUID | NODEV | NOEXEC, flags=2 | 8))
    return Op("bind_mount", NOTIFY, _NOTIFY_TARGET, folder, a=slot)


def notify_variable(socket: str) -> "list[str]":
    """What tells the program of it."""
    return [f"NOTIFY_SOCKET={_NOTIFY_TARGET}/{socket.rpartition('/')[2]}"]


def has_writable_cgroup(config: "dict[str, Any]") -> bool:
    """Whether a mount is the one with which the specification's "Cgroup ownership" asks for the cgroup."""
    return any(
        entry.get("source") == "cgroup"
        and clean(entry["destination"]) == "/sys/fs/cgroup"
        and "ro" not in entry.get("options", ())
        for entry in config.get("mounts", ())
    )


def finish_mounts(ops: "list[Op]") -> "Iterator[Op]":
    """What has to wait until every mount point exists: a read-only tmpfs may hold the targets of later mounts."""
    for op in ops:
        if op.verb == "mount" and op.flags & READONLY_AT_LAST:
            yield Op("set_mount_attributes", op.where, a=op.c, b=RDONLY)


def _to_cgroup2(mount: Mount, private: bool, cgroup_mount: str) -> None:
    """`type: cgroup` is cgroup v2 here. Without a cgroup namespace the host's mount is bound instead of made again,
    since a new mount from the initial namespace would reset the options of the host's. The bind keeps those options;
    engines copy them into the config (containerd), or ask for others, which only the host's own mount could get."""
    if private or not cgroup_mount:
        mount.type = "cgroup2"
        return
    mount.bind = mount.rbind = True
    mount.source = cgroup_mount
    kept = [n for n, option in enumerate(mount.data) if option not in CGROUP2_OPTIONS]
    mount.data = [mount.data[n] for n in kept]
    mount.data_where = [mount.data_where[n] for n in kept]


def _check(mount: Mount) -> None:
    problem = None
    if mount.destination == "/" and not mount.remount:
        problem = Problem(f"{mount.where}/destination", "cannot mount over the container's root")
    elif mount.bind and not mount.remount:
        fs_data = [(o, w) for o, w in zip(mount.data, mount.data_where, strict=True) if o not in SUPERBLOCK.values()]
        if fs_data:
            problem = Problem(
                fs_data[0][1], f"cannot apply `{fs_data[0][0]}` to a bind mount: it is an option of a filesystem"
            )
        elif not mount.source:
            problem = Problem(mount.where, "a bind mount needs a source")
    elif not mount.type and not mount.remount:
        problem = Problem(mount.where, "a mount needs a type, or the option bind or rbind")
    if mount.copy_up and (mount.bind or mount.remount or mount.type != "tmpfs"):
        problem = Problem(mount.where, "tmpcopyup applies to a new tmpfs only")
    if mount.copy_symlink and (mount.remount or not mount.bind):
        problem = Problem(mount.where, "copy-symlink applies to a bind mount only")
    if mount.remount and not mount.bind and "dirsync" in mount.data:
        where = mount.data_where[mount.data.index("dirsync")]
        problem = Problem(where, "a remount can't change dirsync: a filesystem has it from its first mount on")
    if problem:
        raise ConfigError([problem])


def _bind(plan: "Plan", mount: Mount, bundle: str, users: int) -> "Iterator[Op]":
    slot = plan.new_slot()
    source = mount.source if mount.source.startswith("/") else join(bundle, mount.source)
    # A copy of a mount of the host is a peer of the original. It becomes a slave, as the whole tree of the container
    # does, unless the config asks for sharing: then what is mounted in either is to be seen in the other.
    shared = any(flag == SHARED for flag, _, _ in mount.propagation)
    plan.before.append(
        Op(
            "open_tree",
            f"{mount.where}/source",
            source,
            a=slot,
            b=mount.attr_set,
            c=mount.attr_clear,
            d=mount.recursive_set | mount.recursive_clear << 32,
            flags=int(mount.rbind) | (0 if shared else 2) | (4 if mount.copy_symlink else 0),
        )
    )
    if users:
        plan.before.append(Op("idmap_tree", mount.idmap_where, source, a=slot, b=users, c=mount.idmap_recursive))
    yield Op("bind_mount", mount.where, mount.destination, source, a=slot, flags=mount.target_flags())
    for flag, recursive, where in mount.propagation:
        yield Op("set_propagation", where, a=slot, b=flag, c=recursive)


def _filesystem(plan: "Plan", mount: Mount, label: str, users: int, kernel: "tuple[int, int]") -> "Iterator[Op]":
    slot = plan.new_slot()
    flags = mount.target_flags()
    attributes = mount.attr_set | mount.recursive_set
    read_only = attributes & RDONLY
    data = list(mount.data)
    if mount.source:
        data.insert(0, f"source={mount.source}")
    if label and mount.type not in _UNLABELLED and not any(option.startswith("context=") for option in data):
        data.append(f"context={label}")
    if mount.type == "tmpfs":
        attributes &= ~RDONLY  # until everything on it is in place: finish_mounts
        if not any(option.startswith("mode=") for option in data):
            flags |= INHERIT_MODE
        if mount.copy_up:
            flags |= COPY_UP
        if read_only:
            flags |= READONLY_AT_LAST
    elif read_only and mount.type not in ("proc", "sysfs", "cgroup2"):
        data.append("ro")
    count = len(data)
    if any(len(option) > _SURELY_SHORT for option in data):
        by_layer = _append_layers(data) if mount.type == "overlay" and kernel >= _APPENDS_LAYERS else data
        if any(map(_is_long, by_layer)):
            data, count = _as_one_string(mount, data)
            flags |= ONE_STRING
        else:
            data, count = by_layer, len(by_layer)
    yield Op(
        "mount",
        mount.where,
        mount.type,
        "",
        mount.destination,
        options=data,
        a=count,
        b=attributes,
        c=slot,
        d=users,
        flags=flags,
    )
    if label and mount.type == "mqueue":
        yield Op("label_mount", "/linux/mountLabel", label, mount.destination, a=slot, b=len(label.encode()) + 1)
    for flag, recursive, where in mount.propagation:
        yield Op("set_propagation", where, a=slot, b=flag, c=recursive)


# What the kernel takes of a filesystem's options: a key and a value of fsconfig(2), and all of them in mount(2).
_LONGEST_OPTION, _LONGEST_STRING = 255, 4095
_SURELY_SHORT = 63  # characters
_APPENDS_LAYERS = (6, 8)  # the Linux whose overlay takes `lowerdir` layer by layer

# Options that are flags in mount(2): only a filesystem with the kernel's newer interface takes them as text.
_FLAGS = {
    "ro": (1, 0), "rw": (0, 1), "sync": (0x10, 0), "async": (0, 0x10), "dirsync": (0x80, 0),
    "mand": (0x40, 0), "nomand": (0, 0x40), "lazytime": (1 << 25, 0), "nolazytime": (0, 1 << 25),
}  # fmt: skip


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _is_long(option: str) -> bool:
    """Whether fsconfig(2) refuses this option for its length."""
    key, _, value = option.partition("=")
    return max(_length(key), _length(value)) > _LONGEST_OPTION


def _append_layers(data: "list[str]") -> "list[str]":
    """The options of an overlay, with one for each layer in place of a long `lowerdir`."""
    lower = [option for option in data if option.startswith("lowerdir")]
    if len(lower) != 1 or not _is_long(lower[0]):
        return data
    layers = _layers(lower[0].removeprefix("lowerdir="))
    place = data.index(lower[0])
    return [*data[:place], *layers, *data[place + 1 :]] if layers else data


def _layers(lowerdir: str) -> "list[str]":
    """`lowerdir` taken apart as overlayfs does it: `:` is between layers, `::` before one of data alone, and a
    backslash makes the next character the name's own. [] for what overlayfs refuses: that is for the kernel to say."""
    options: list[str] = []
    key, layer, at = "lowerdir+", "", 0
    while at <= len(lowerdir):
        character, after = lowerdir[at : at + 1], lowerdir[at + 1 : at + 2]
        at += 1
        if character == "\\" and after:
            layer += after
            at += 1
        elif character not in ("", ":", "\\"):
            layer += character
        elif not layer or character == "\\" or (key == "datadir+" and character and after != ":"):
            return []
        else:
            options.append(f"{key}={layer}")
            layer = ""
            if after == ":":
                key = "datadir+"
                at += 1
    return options


def _as_one_string(mount: Mount, data: "list[str]") -> "tuple[list[str], int]":
    """The source and one string with the other options, as mount(2) takes them, and its flags.

    Raises PyociError if that is too long, too.
    """
    source, flags = "source=none", 0
    parts = []
    for option in data:
        if option.startswith("source="):
            source = option
        elif option in _FLAGS:
            change, clear = _FLAGS[option]
            flags = flags & ~clear | change
        else:
            key, _, value = option.partition("=")
            parts.append(f'{key}="{value}"' if option.startswith(_LABELS) and "," in value else option)
    together = ",".join(parts)
    if max(_length(together), _length(source) - len("source=")) > _LONGEST_STRING:
        raise _too_long(mount, data)
    return [source, together], flags


def _too_long(mount: Mount, data: "list[str]") -> PyociError:
    """The error for options that the kernel takes in no way."""
    option = max(data, key=_length)
    key, _, value = option.partition("=")
    places = (w for o, w in zip(mount.data, mount.data_where, strict=True) if o.partition("=")[0] == key.rstrip("+"))
    return PyociError(
        f"cannot {'re' * mount.remount}mount {mount.type or mount.destination}"
        f"{'' if mount.remount else f' on {mount.destination}'}: option `{key[:32]}` has {_length(value)} bytes",
        where=next(places, mount.where),
        hint=f"use shorter paths: the kernel takes {_LONGEST_OPTION} bytes"
        + ("" if mount.remount else f", or {_LONGEST_STRING} in all options together"),
    )


def _remount(mount: Mount) -> "list[Op]":
    """Change a mount that is there: its attributes, and for other than binds the filesystem's own options."""
    ops = []
    data = [] if mount.bind else mount.data
    if any(map(_is_long, data)):
        raise _too_long(mount, data)
    if mount.recursive_set or mount.recursive_clear:
        ops.append(
            Op("remount", mount.where, mount.destination, b=mount.recursive_set, c=mount.recursive_clear, d=RECURSIVE)
        )
    if mount.attr_set or mount.attr_clear or data or not (ops or mount.propagation):
        ops.append(
            Op(
                "remount", mount.where, mount.destination, options=data, a=len(data),
                b=mount.attr_set, c=mount.attr_clear,
            )
        )  # fmt: skip
    for flag, recursive, where in mount.propagation:
        ops.append(Op("remount", where, mount.destination, d=flag | recursive * RECURSIVE))
    return ops


def option_where(config: "dict[str, Any]", op: Op, number: int) -> str:
    """The JSON pointer of the `number`th (from 1) option that a `mount` operation hands to its filesystem."""
    option = op.options[number - 1] if 0 < number <= len(op.options) else ""
    if option == f"context={config.get('linux', {}).get('mountLabel')}":
        return "/linux/mountLabel"
    index = int(op.where.rsplit("/", 1)[1])
    layer = option.startswith(("lowerdir+=", "datadir+="))
    for n, text in enumerate(config["mounts"][index].get("options", ())):
        parts = _parts(text)
        if option in parts or (layer and any(part.startswith("lowerdir=") for part in parts)):
            return f"{op.where}/options/{n}"
    return op.where


def idmap_where(config: "dict[str, Any]", op: Op) -> str:
    """The JSON pointer of what asks for the id mapping of a `mount` operation."""
    index = int(op.where.rsplit("/", 1)[1])
    return Mount(config["mounts"][index], index).idmap_where


__all__ = ["MOUNT_OPTIONS", "Mount", "compile_mounts", "finish_mounts", "idmap_where", "option_where"]
