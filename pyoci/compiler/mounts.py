"""`mounts` → operations.

The runtime clones the sources of bind mounts before the first mount. The child makes filesystems. Implements config.md
"Mounts" and config-linux.md "Default Filesystems". The contracts of `bind_mount` and `mount` say what depends on the
root filesystem, such as a missing target or a symlink.
"""

from pyoci.compiler import idmap, verbs
from pyoci.compiler.mount_options import (
    LABEL_OPTIONS,
    MOUNT_OPTIONS,
    NODEV,
    NOEXEC,
    NOSUID,
    RDONLY,
    SHARED,
    SUPERBLOCK,
    Mount,
)
from pyoci.compiler.operations import Part, Slots
from pyoci.compiler.paths import clean, join
from pyoci.errors import ConfigError, Problem, PyociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyoci import types
    from pyoci.compiler.verbs import ChildOp, ParentOp
    from pyoci.types import Config

    Option = tuple[str, str]  # an option of a filesystem, and the JSON pointer of the property that asked for it

NOTIFY = "NOTIFY_SOCKET"
"""The `where` of operations that come from this variable of the runtime's environment, not from a property."""
_NOTIFY_TARGET = "/run/notify"

# Options of cgroup2. They belong to the one hierarchy of the host, so only the host's own mount can change them.
CGROUP2_OPTIONS = (
    "nsdelegate", "favordynmods", "nofavordynmods", "memory_localevents", "memory_recursiveprot",
    "memory_hugetlb_accounting", "pids_localevents",
)  # fmt: skip

# Filesystems whose files get their SELinux labels from the policy. They exist before a mount, and reject `context=`.
_UNLABELLED = ("proc", "sysfs", "cgroup2", "mqueue")


class CompiledMounts:
    """What `mounts` adds to a plan.

    `part`            the mounts in the order listed; the runtime opens the sources of bind mounts for them
    `cgroup_at`       the index of the first operation that shows a cgroup, or their number
    `opens_devices`   whether a filesystem is on a device of the host, which the device filter may deny
    `finish`          the operations that wait until every mount point exists, because a read-only tmpfs may hold some
    """

    __slots__ = ("cgroup_at", "finish", "opens_devices", "part")

    def __init__(self, part: Part, cgroup_at: int, finish: "list[ChildOp]", *, opens_devices: bool) -> None:
        self.part = part
        self.cgroup_at = cgroup_at
        self.finish = finish
        self.opens_devices = opens_devices


def compile_mounts(
    config: "Config",
    slots: Slots,
    *,
    bundle: str = "",
    cgroup_mount: str = "",
    kernel: "tuple[int, int]" = (0, 0),
    joined_users: int = 0,
    notify: str = "",
) -> CompiledMounts:
    """Compile every entry of `mounts`, and the mount of the `notify` socket's directory unless that is "".

    `joined_users` is the slot of the user namespace that the container joins, 0 if it joins none. Raises PyociError for
    an option that can't be applied.
    """
    compiler = _Compiler(config.get("linux", {}), slots, bundle, cgroup_mount, kernel, joined_users)
    for index, entry in enumerate(config.get("mounts", ())):
        compiler.add(entry, index)
    if notify:
        compiler.take(_mount_notify(slots.new(), notify))
    return compiler.compiled()


class _Compiler:
    """What compile_mounts knows after each entry.

    `deferred` has the operation that makes a tmpfs read-only, by the slot of its mount. `newest` has the slot of the
    newest mount at each destination.
    """

    __slots__ = (
        *("bundle", "cgroup_at", "cgroup_mount", "child", "deferred", "id_maps", "kernel", "label", "namespaces"),
        *("newest", "opening", "opens_devices", "slots"),
    )

    def __init__(
        self,
        linux: "types.Linux",
        slots: Slots,
        bundle: str,
        cgroup_mount: str,
        kernel: "tuple[int, int]",
        joined_users: int,
    ) -> None:
        self.slots = slots
        self.bundle = bundle
        self.cgroup_mount = cgroup_mount
        self.kernel = kernel
        self.label = linux.get("mountLabel", "")
        self.namespaces = {entry["type"] for entry in linux.get("namespaces", ())}
        self.id_maps = idmap.MountIdMaps(linux, slots, joined_users)
        self.opening: list[ParentOp] = []
        self.child: list[ChildOp] = []
        self.deferred: dict[int, ChildOp] = {}
        self.newest: dict[str, int] = {}
        self.cgroup_at = -1
        self.opens_devices = False

    def add(self, entry: "types.Mount", index: int) -> None:
        """Compile one entry of `mounts`."""
        mount = Mount(entry, index)
        if mount.type in ("cgroup", "cgroup2") and not mount.bind:
            _to_cgroup2(mount, "cgroup" in self.namespaces, self.cgroup_mount)
        _check(mount)
        if mount.remount:
            self.child += _remount(mount)
            if (mount.attr_clear | mount.recursive_clear) & RDONLY:
                self.deferred.pop(self.newest.get(mount.destination, 0), None)
            return
        users = 0
        if mount.idmap_where:
            users, made = self.id_maps.find(entry, mount.idmap_where)
            self.opening += made
        slot = self.newest[mount.destination] = self.slots.new()
        if mount.bind:
            self.take(_bind(mount, slot, self.bundle, users))
        else:
            self._add_filesystem(mount, slot, users)

    def take(self, part: Part) -> None:
        """Take the operations of a bind mount."""
        self.opening += part.opening
        self.child += part.child

    def _add_filesystem(self, mount: Mount, slot: int, users: int) -> None:
        if mount.type == "cgroup2" and self.cgroup_at < 0:
            self.cgroup_at = len(self.child)
        # The runtime, which creates the user namespace, does not own the message queues in it. Only their owner may
        # label them.
        label = "" if mount.type == "mqueue" and "user" in self.namespaces else self.label
        op = _filesystem(mount, slot, label, users, self.kernel)
        self.opens_devices = self.opens_devices or any("=/" in option for option in op.options)
        self.child += [op, *_label(mount, slot, label), *_propagation(mount, slot)]
        if mount.type == "tmpfs" and mount.is_readonly:
            self.deferred[slot] = verbs.SetMountAttributes(mount.where, tree=slot, attr_set=RDONLY)

    def compiled(self) -> CompiledMounts:
        """Return the mounts compiled so far."""
        return CompiledMounts(
            Part(self.child, opening=self.opening),
            self.cgroup_at if self.cgroup_at >= 0 else len(self.child),
            list(self.deferred.values()),
            opens_devices=self.opens_devices,
        )


def _mount_notify(slot: int, socket: str) -> Part:
    """Mount the directory of the container's socket for sd_notify, over whatever the config mounts."""
    directory = socket.rpartition("/")[0]
    source = verbs.OpenTree(
        NOTIFY,
        path=directory,
        tree=slot,
        attr_set=RDONLY | NOSUID | NODEV | NOEXEC,
        slave=True,
        notify_directory=True,
    )
    mount = verbs.BindMount(NOTIFY, target=_NOTIFY_TARGET, source=directory, tree=slot)
    return Part([mount], opening=[source])


def notify_variable(socket: str) -> "list[str]":
    """Return the variable by which the program finds the socket."""
    return [f"NOTIFY_SOCKET={_NOTIFY_TARGET}/{socket.rpartition('/')[2]}"]


def has_writable_cgroup(config: "Config") -> bool:
    """Whether a mount asks to give the cgroup to the container's user (the specification's "Cgroup ownership")."""
    return any(
        entry.get("source") == "cgroup"
        and clean(entry["destination"]) == "/sys/fs/cgroup"
        and "ro" not in entry.get("options", ())
        for entry in config.get("mounts", ())
    )


def _to_cgroup2(mount: Mount, private: bool, cgroup_mount: str) -> None:
    """Mount cgroup2 for `type: cgroup`, or without a cgroup namespace bind the host's mount of it.

    A new mount from the initial namespace would reset the options of the host's mount. The bind keeps them. It drops
    the options of cgroup2 from the config: containerd copies them there, and only the host's own mount can change them.
    """
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
    elif not mount.type and not mount.remount:
        problem = Problem(mount.where, "a mount needs a type, or the option bind or rbind")
    if mount.copy_up and (mount.bind or mount.remount or mount.type != "tmpfs"):
        problem = Problem(mount.where, "tmpcopyup applies to a new tmpfs only")
    if mount.copy_symlink and (mount.remount or not mount.bind):
        problem = Problem(mount.where, "copy-symlink applies to a bind mount only")
    if mount.remount and not mount.bind and "dirsync" in mount.data:
        where = mount.data_where[mount.data.index("dirsync")]
        problem = Problem(where, "cannot change dirsync in a remount: a filesystem gets it at its first mount")
    if problem:
        raise ConfigError([problem])


def _bind(mount: Mount, slot: int, bundle: str, users: int) -> Part:
    source = mount.source if mount.source.startswith("/") else join(bundle, mount.source)
    # The clone of a host's mount is a peer of the original. It becomes a slave, like the container's whole tree, unless
    # the config asks for sharing. Then a mount on either shows on the other.
    shared = any(kind == SHARED for kind, _, _ in mount.propagation)
    opening: list[ParentOp] = [
        verbs.OpenTree(
            f"{mount.where}/source",
            path=source,
            tree=slot,
            attr_set=mount.attr_set,
            attr_clear=mount.attr_clear,
            recursive_set=mount.recursive_set,
            recursive_clear=mount.recursive_clear,
            recursive=mount.rbind,
            slave=not shared,
            no_follow=mount.copy_symlink,
        )
    ]
    if users:
        recursive = mount.idmap_recursive
        opening.append(
            verbs.IdmapTree(mount.idmap_where, source=source, tree=slot, namespace=users, recursive=recursive)
        )
    attach = verbs.BindMount(
        mount.where,
        target=mount.destination,
        source=source,
        tree=slot,
        target_real=mount.target_real,
        target_proc=mount.target_proc,
        target_below_proc=mount.target_below_proc,
    )
    return Part([attach, *_propagation(mount, slot)], opening=opening)


def _propagation(mount: Mount, tree: int) -> "Iterator[ChildOp]":
    for kind, recursive, where in mount.propagation:
        yield verbs.SetPropagation(where, tree=tree, kind=kind, recursive=recursive)


def _filesystem(mount: Mount, slot: int, label: str, users: int, kernel: "tuple[int, int]") -> verbs.Mount:
    attributes = mount.attr_set | mount.recursive_set
    data = list(zip(mount.data, mount.data_where, strict=True))
    if mount.source:
        data.insert(0, (f"source={mount.source}", mount.where))
    if label and mount.type not in _UNLABELLED and not any(option.startswith("context=") for option, _ in data):
        data.append((f"context={label}", "/linux/mountLabel"))
    is_tmpfs = mount.type == "tmpfs"
    if is_tmpfs:
        attributes &= ~RDONLY  # until every mount point on it exists: CompiledMounts.finish
    elif mount.is_readonly and mount.type not in ("proc", "sysfs", "cgroup2"):
        data.append(("ro", mount.readonly_where))
    flags, one_string = 0, False
    if any(len(option) > _SHORT for option, _ in data):
        by_layer = _append_layers(data) if mount.type == "overlay" and kernel >= _APPENDS_LAYERS else data
        one_string = any(_is_long(option) for option, _ in by_layer)
        if one_string:
            data, flags = _as_one_string(mount, data)
        else:
            data = by_layer
    return verbs.Mount(
        mount.where,
        type=mount.type,
        options=[option for option, _ in data],
        pointers=[where for _, where in data],
        target=mount.destination,
        mount_flags=flags if one_string else 0,
        attributes=attributes,
        tree=slot,
        users=users,
        target_real=mount.target_real,
        target_proc=mount.target_proc,
        target_below_proc=mount.target_below_proc,
        copy_up=mount.copy_up,
        inherit_mode=is_tmpfs and not any(option.startswith("mode=") for option, _ in data),
        one_string=one_string,
        idmap_where=mount.idmap_where,
    )


def _label(mount: Mount, slot: int, label: str) -> "Iterator[ChildOp]":
    """Label message queues once they are mounted."""
    if label and mount.type == "mqueue":
        yield verbs.LabelMount("/linux/mountLabel", label=label, target=mount.destination, tree=slot)


# The kernel's limits, in bytes: a key or value of fsconfig(2), and all options together in mount(2).
_MAX_OPTION, _MAX_STRING = 255, 4095
_SHORT = 63  # characters, which are under _MAX_OPTION bytes in any encoding
_APPENDS_LAYERS = (6, 8)  # the first Linux whose overlay takes `lowerdir` layer by layer

# Options that are flags of mount(2): set and cleared. Only filesystems with the newer interface take them as text.
_FLAGS = {
    "ro": (1, 0), "rw": (0, 1), "sync": (0x10, 0), "async": (0, 0x10), "dirsync": (0x80, 0),
    "mand": (0x40, 0), "nomand": (0, 0x40), "lazytime": (1 << 25, 0), "nolazytime": (0, 1 << 25),
}  # fmt: skip


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _is_long(option: str) -> bool:
    """Whether this option is too long for fsconfig(2)."""
    key, _, value = option.partition("=")
    return max(_length(key), _length(value)) > _MAX_OPTION


def _append_layers(data: "list[Option]") -> "list[Option]":
    """Return the options of an overlay, with one for each layer in place of a long `lowerdir`."""
    lower = [entry for entry in data if entry[0].startswith("lowerdir")]
    if len(lower) != 1 or not _is_long(lower[0][0]):
        return data
    option, where = lower[0]
    layers = [(layer, where) for layer in _layers(option.removeprefix("lowerdir="))]
    place = data.index(lower[0])
    return [*data[:place], *layers, *data[place + 1 :]] if layers else data


def _layers(lowerdir: str) -> "list[str]":
    """Split `lowerdir` as overlayfs does.

    `:` separates layers, `::` precedes a layer that has data only, and a backslash escapes the next character. Returns
    [] for a text that overlayfs rejects, so that the kernel reports it.
    """
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


def _as_one_string(mount: Mount, data: "list[Option]") -> "tuple[list[Option], int]":
    """Return the source, one string with the other options, and flags, as mount(2) takes them.

    Raises PyociError if that is still too long.
    """
    source, flags = "source=none", 0
    parts = []
    for option, _ in data:
        if option.startswith("source="):
            source = option
        elif option in _FLAGS:
            change, clear = _FLAGS[option]
            flags = flags & ~clear | change
        else:
            key, _, value = option.partition("=")
            parts.append(f'{key}="{value}"' if option.startswith(LABEL_OPTIONS) and "," in value else option)
    together = ",".join(parts)
    if max(_length(together), _length(source) - len("source=")) > _MAX_STRING:
        raise _too_long(mount, data)
    return [(source, mount.where), (together, mount.where)], flags


def _too_long(mount: Mount, data: "list[Option]") -> PyociError:
    """Return the error for options that are too long for both system calls."""
    option, where = max(data, key=lambda entry: _length(entry[0]))
    key, _, value = option.partition("=")
    return PyociError(
        f"cannot {'re' * mount.remount}mount {mount.type or mount.destination}"
        f"{'' if mount.remount else f' on {mount.destination}'}: option `{key[:32]}` has {_length(value)} bytes",
        where=where,
        hint=f"use shorter paths: the kernel takes {_MAX_OPTION} bytes"
        + ("" if mount.remount else f", or {_MAX_STRING} in all options together"),
    )


def _remount(mount: Mount) -> "Iterator[ChildOp]":
    """Change the attributes and propagation of a mount and, unless it is a bind mount, the filesystem's options."""
    data = [] if mount.bind else list(zip(mount.data, mount.data_where, strict=True))
    if any(_is_long(option) for option, _ in data):
        raise _too_long(mount, data)
    recursive = bool(mount.recursive_set or mount.recursive_clear)
    if recursive:
        yield verbs.Remount(
            mount.where,
            target=mount.destination,
            attr_set=mount.recursive_set,
            attr_clear=mount.recursive_clear,
            recursive=True,
        )
    if mount.attr_set or mount.attr_clear or data or not (recursive or mount.propagation):
        yield verbs.Remount(
            mount.where,
            target=mount.destination,
            options=[option for option, _ in data],
            pointers=[where for _, where in data],
            attr_set=mount.attr_set,
            attr_clear=mount.attr_clear,
        )
    for kind, below, where in mount.propagation:
        yield verbs.Remount(where, target=mount.destination, propagation=kind, recursive=below)


__all__ = ["MOUNT_OPTIONS", "CompiledMounts", "Mount", "compile_mounts"]
