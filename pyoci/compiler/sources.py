"""What CRIU restores mounts from: the root filesystem, and a source for each external mount of the images.

An external mount shows a filesystem from outside the container. The images have its mount point as its key, and
config.json has its source: a bind mount, a device of the host, or /dev/null for a masked file. The runtime clones each
source as create does. The child attaches the clones where CRIU looks for them, one mount at each place.

The images are not trusted. CRIU gives every mount the attributes that the images have, so they must have those of
config.json.
"""

from pyoci.compiler import devices, verbs
from pyoci.compiler import namespaces as kinds
from pyoci.compiler.create import nodes_of
from pyoci.compiler.mount_options import CONFINING
from pyoci.compiler.paths import clean
from pyoci.compiler.process import CAP_MKNOD, CAP_SYS_ADMIN
from pyoci.compiler.verbs.numbers import NO_SLOT, NULL, ROOTFS
from pyoci.config.text import printable
from pyoci.criu.images import root_mount
from pyoci.errors import PyociError
from pyoci.linux import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
    S_IFCHR,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from pyoci.compiler import mounts
    from pyoci.compiler.facts import Host
    from pyoci.compiler.operations import Slots
    from pyoci.compiler.verbs import ChildOp, ParentOp
    from pyoci.criu.images import Image, Mount
    from pyoci.types import Config

DIRECTORY = "/tmp"  # noqa: S108 - only CRIU sees it
"""Where CRIU finds the sources, in its own mount namespace. It also covers the directories that CRIU makes in /tmp."""
ROOT, YARD = "root", "cgroup"
ACTION = "cannot restore the container"

_CGROUPS = ("cgroup", "cgroup2")

# Flags of mount(2), and the attributes of mount_setattr(2).
_MS_NOATIME, _MS_NODIRATIME, _MS_RELATIME = 1 << 10, 1 << 11, 1 << 21
_SAME_NUMBERS = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
_OTHER_NUMBERS = ((_MS_NOATIME, MOUNT_ATTR_NOATIME), (_MS_NODIRATIME, MOUNT_ATTR_NODIRATIME))
_EVERY = _SAME_NUMBERS | MOUNT_ATTR_NODIRATIME


class Source:
    """What config.json has at a mount point.

    `where`       the pointer of the property
    `path`        a path of the host, for messages
    `tree`        the slot of its clone
    `below`       a path in the clone, "" for its root
    `attributes`  those that the mount must have; `inherited`, those that each mount below it must have
    `recursive`   whether the clone has the mounts below, too
    `required`    whether the images must have a mount there
    `kind`        DIRECTORY_OR_FILE, as the root of the clone; FILE; or MOUNT_POINT, where a mount of the clone begins
    """

    __slots__ = ("attributes", "below", "inherited", "kind", "path", "recursive", "required", "tree", "where")

    def __init__(
        self,
        where: str,
        path: str,
        tree: int,
        *,
        below: str = "",
        attributes: int = 0,
        inherited: int = 0,
        recursive: bool = False,
        required: bool = False,
        kind: int = 0,
    ) -> None:
        self.where = where
        self.path = path
        self.tree = tree
        self.below = below
        self.attributes = attributes
        self.inherited = inherited
        self.recursive = recursive
        self.required = required
        self.kind = kind


DIRECTORY_OR_FILE, FILE, MOUNT_POINT = range(3)


class Sources:
    """The sources that config.json has, by mount point, and the runtime's operations that clone them.

    `places`: the mount point of each path of config.json that leads through symlinks of the root filesystem.
    """

    __slots__ = ("_masked", "_places", "_slots", "_sources", "opening", "root")

    def __init__(
        self,
        config: "Config",
        host: "Host",
        slots: "Slots",
        mounted: "mounts.CompiledMounts",
        rootfs: str,
        places: "Mapping[str, str]",
    ) -> None:
        self._places = places
        self._slots = slots
        self._sources: dict[str, Source] = {}
        self._masked: dict[str, Source] = {}
        self.opening: list[ParentOp] = list(mounted.part.opening)
        readonly = MOUNT_ATTR_RDONLY if config["root"].get("readonly") else 0
        self.root = Source("/root/path", rootfs, ROOTFS, attributes=readonly, recursive=True)
        self._add_masks(config, host)
        self._add_devices(config, host)
        self._add_binds(mounted.part.child, host.cgroup_mount)

    def find(self, key: str, *, count: int) -> Source:
        """Return the source of the external mounts with this key, of which there are `count` in a namespace.

        A mask on the file of a bind mount has the same key. CRIU can give both only the same source.
        Raises PyociError if config.json does not explain the key.
        """
        if key in self._masked and (count > 1 or key not in self._sources):
            return self._masked[key]
        if key in self._sources:
            return self._sources[key]
        above = max((path for path in self._sources if key.startswith(f"{path}/")), key=len, default="")
        if not above or not self._sources[above].recursive:
            text = f"the checkpoint has an external mount at {printable(key)}, which config.json does not have"
            raise PyociError(f"{ACTION}: {text}")
        source, below = self._sources[above], key[len(above) + 1 :]
        return Source(
            source.where,
            f"{source.path.rstrip('/')}/{below}",
            source.tree,
            below=below,
            attributes=source.inherited,
            inherited=source.inherited,
            kind=MOUNT_POINT,
        )

    def missing(self, points: "Collection[str]") -> "tuple[str, Source] | None":
        """Return the first bind mount of config.json that is at none of these mount points."""
        for path, source in self._sources.items():
            if source.required and path not in points:
                return path, source
        return None

    def _place(self, path: str) -> str:
        path = clean(path)
        return self._places.get(path, path)

    def _add_binds(self, ops: "Sequence[ChildOp]", cgroup_mount: str) -> None:
        opened = {op.tree: op for op in self.opening if isinstance(op, verbs.OpenTree)}
        for op in ops:
            if isinstance(op, verbs.BindMount):
                tree = opened[op.tree]
                self._sources[self._place(op.target)] = Source(
                    op.where,
                    op.source,
                    op.tree,
                    attributes=tree.attr_set | tree.recursive_set,
                    inherited=tree.recursive_set,
                    recursive=tree.recursive,
                    required=not (tree.no_follow or tree.notify_directory or op.source == cgroup_mount),
                )
            elif isinstance(op, verbs.Remount):
                self._change(self._place(op.target), op)

    def _change(self, place: str, op: "verbs.Remount") -> None:
        """Apply a remount to the attributes that mounts must have."""
        for path, source in self._sources.items():
            if path == place or (op.recursive and path.startswith(f"{place}/")):
                source.attributes = source.attributes & ~op.attr_clear | op.attr_set
                if op.recursive:
                    source.inherited = source.inherited & ~op.attr_clear | op.attr_set

    def _add_devices(self, config: "Config", host: "Host") -> None:
        """Add the nodes that the container gets as mounts, because a user namespace can't make nodes."""
        makers = nodes_of(kinds.Namespaces(config.get("linux", {}), host.kernel), host)
        if makers == devices.CHILD:
            return
        # CRIU joins a user namespace too late for the runtime to learn the owners on the host from it
        joined = makers == devices.RUNTIME_ONCE_JOINED
        part = devices.compile_devices(config, self._slots, devices.HOST if joined else makers)
        self.opening += part.opening
        filesystem, first = NO_SLOT, 0
        for op in part.child:
            if isinstance(op, verbs.OpenDevices):
                filesystem, first = op.filesystem, op.first
            elif isinstance(op, verbs.BindDevice) and filesystem == NO_SLOT:
                source = Source(op.where, op.path, op.tree, attributes=MOUNT_ATTR_RDONLY, kind=FILE)
                self._sources[self._place(op.path)] = source
            elif isinstance(op, verbs.BindDevice):
                source = Source(op.where, op.path, filesystem, below=str(op.tree - first), kind=FILE)
                self._sources[self._place(op.path)] = source

    def _add_masks(self, config: "Config", host: "Host") -> None:
        """Add masked files.

        The runtime makes a node for them if it can. The images decide whether the mount is read-only, and through a
        writable one, container root could change the mode of the host's node.
        """
        linux = config.get("linux", {})
        masked = linux.get("maskedPaths", ())
        if not masked:
            return
        where = "/linux/maskedPaths"
        needed = CAP_SYS_ADMIN | CAP_MKNOD
        if host.user_namespace or host.capabilities & needed != needed:
            self.opening.append(verbs.OpenNull(where, path=_NULL_DEVICE, kind="c", tree=NULL, major=1, minor=3))
            tree, below, attributes = NULL, "", MOUNT_ATTR_RDONLY
        else:
            tree, below, attributes = self._slots.new(), "null", 0
            self.opening += _make_null(where, tree, below, linux.get("mountLabel", ""))
        for index, path in enumerate(masked):
            self._masked[self._place(path)] = Source(
                f"{where}/{index}", _NULL_DEVICE, tree, below=below, attributes=attributes, kind=FILE
            )


_NULL_DEVICE = "/dev/null"


def _make_null(where: str, filesystem: int, name: str, label: str) -> "Iterator[ParentOp]":
    """Make a node for masks, in a tmpfs of its own."""
    at = "/linux/mountLabel" if label else where
    yield verbs.MakeDeviceFilesystem(at, label=label, filesystem=filesystem)
    yield verbs.MakeDevice(
        where,
        path=_NULL_DEVICE,
        kind="c",
        name=name,
        filesystem=filesystem,
        major=1,
        minor=3,
        mode=S_IFCHR | 0o666,
        uid=0,
        gid=0,
        owner_in_container=False,
    )


class Brought:
    """How the sources come to CRIU.

    `opening`   the runtime's operations, which clone the sources
    `child`     the child's operations, which attach them
    `external`  CRIU's option of this name: the place of each external mount
    """

    __slots__ = ("child", "external", "opening")

    def __init__(self, opening: "list[ParentOp]", child: "list[ChildOp]", external: "list[str]") -> None:
        self.opening = opening
        self.child = child
        self.external = external


def bring_sources(sources: Sources, images: "Image", tmpfs: int) -> Brought:
    """Bring the sources of all external mounts to the tmpfs in slot `tmpfs`, and make missing mount points.

    Raises PyociError if the images and config.json do not agree.
    """
    found = {
        key: sources.find(key, count=max(_count(mounts, key) for mounts in images.mounts.values()))
        for key in images.external_keys()
    }
    for mounts in images.mounts.values():
        _check(mounts, found, sources)
    lacking = sources.missing({mount.point for mount in images.init_mounts})
    if lacking is not None:
        point, source = lacking
        raise PyociError(f"{ACTION}: the checkpoint has no mount at {point}", where=source.where)
    used = [sources.root, *sorted(found.values(), key=lambda source: not source.recursive)]
    staged: dict[int, tuple[str, Source]] = {}
    for source in used:
        if source.recursive or source.below or source.tree == NULL:
            staged.setdefault(source.tree, (f"tree-{len(staged)}", source))
    child: list[ChildOp] = [
        verbs.StageTree(source.where, source=source.path, name=name, sources=tmpfs, tree=tree)
        for tree, (name, source) in staged.items()
    ]
    child += _mount_points(images.init_mounts, found, sources)
    root = root_mount(images.init_mounts)
    child.append(_add(ROOT, sources.root, tmpfs, root.flags, clone=True))
    for n, (key, source) in enumerate(found.items()):
        child.append(_add(str(n), source, tmpfs, _common_flags(images, key), clone=source.tree in staged))
    child += [
        verbs.UnstageTree(source.where, source=source.path, name=name, sources=tmpfs)
        for name, source in staged.values()
        if source.recursive
    ]
    external = [f"mnt[{key}]:{DIRECTORY}/{n}" for n, key in enumerate(found)]
    return Brought(_needed(sources.opening, used), child, external)


def _count(mounts: "Sequence[Mount]", key: str) -> int:
    return sum(mount.key == key for mount in mounts)


def _common_flags(images: "Image", key: str) -> int:
    """Return the flags that all mounts with this key have. CRIU adds the others."""
    flags = -1
    for mounts in images.mounts.values():
        for mount in mounts:
            if mount.key == key:
                flags &= mount.flags
    return flags


def _add(name: str, source: Source, tmpfs: int, flags: int, *, clone: bool) -> "ChildOp":
    """Add a source with the attributes of these flags of mount(2).

    A second mount of the same filesystem gets from CRIU those of its source. And root of a user namespace can't change
    attributes.
    """
    set_ = flags & _SAME_NUMBERS
    for flag, attribute in _OTHER_NUMBERS:
        if flags & flag:
            set_ |= attribute
    if not flags & (_MS_NOATIME | _MS_RELATIME):
        set_ |= MOUNT_ATTR_STRICTATIME
    return verbs.AddSource(
        source.where,
        source=source.path,
        name=name,
        below=source.below,
        sources=tmpfs,
        tree=source.tree,
        attr_set=set_,
        attr_clear=_EVERY & ~set_ | MOUNT_ATTR__ATIME,
        clone=clone,
        is_mount=source.kind == MOUNT_POINT,
    )


def _check(mounts: "list[Mount]", found: "Mapping[str, Source]", sources: Sources) -> None:
    """Check that the images ask for every attribute of config.json. CRIU sets those of the images, and no others."""
    root = root_mount(mounts)
    for mount in mounts:
        source = found[mount.key] if mount.key else sources.root if mount is root else None
        if source is None:
            continue
        lacking = [name for bit, name in CONFINING.items() if source.attributes & bit and not mount.flags & bit]
        if lacking:
            text = f"the checkpoint mounts {printable(mount.point)} without {', '.join(lacking)}"
            raise PyociError(f"{ACTION}: {text}", where="/root/readonly" if source is sources.root else source.where)


def _mount_points(mounts: "Sequence[Mount]", found: "Mapping[str, Source]", sources: Sources) -> "Iterator[ChildOp]":
    """Make the mount points that are in a source. The images contain the others."""
    by_id = {mount.id: mount for mount in mounts}
    made: set[str] = set()
    for mount in mounts:
        above = by_id.get(mount.parent)
        if above is None or mount.point in made:
            continue
        base = found[above.key] if above.key else sources.root if above.parent not in by_id else None
        relative = mount.point if above.point == "/" else mount.point[len(above.point) :]
        source = found.get(mount.key)
        if base is None or not relative.strip("/") or (source is not None and source.kind == MOUNT_POINT):
            continue
        if source is None and not (mount.root == "/" or mount.type in _CGROUPS):
            continue  # a bind mount in the container, of a file or a directory
        made.add(mount.point)
        by_source = source is not None and source.kind == DIRECTORY_OR_FILE
        yield verbs.MakeMountPoint(
            source.where if source is not None else base.where,
            path=mount.point,
            below=f"/{base.below}{relative}" if base.below else relative,
            tree=base.tree,
            like=source.tree if by_source and source is not None else NO_SLOT,
            directory=source is None,
        )


def _needed(opening: "Sequence[ParentOp]", used: "Sequence[Source]") -> "list[ParentOp]":
    """Return the operations that open what is used."""
    trees = {source.tree for source in used}
    nodes = {(source.tree, source.below) for source in used}
    maps = {op.namespace for op in opening if isinstance(op, verbs.IdmapTree) and op.tree in trees}
    needed: list[ParentOp] = []
    for op in opening:
        if isinstance(op, verbs.MakeUserNamespace):
            keep = op.namespace in maps
        elif isinstance(op, verbs.MakeDeviceFilesystem):
            keep = op.filesystem in trees
        elif isinstance(op, verbs.MakeDevice):
            keep = (op.filesystem, op.name) in nodes
        else:
            keep = getattr(op, "tree", NO_SLOT) in trees
        if keep:
            needed.append(op)
    return needed


__all__ = ["ACTION", "DIRECTORY", "ROOT", "YARD", "Brought", "Source", "Sources", "bring_sources"]
