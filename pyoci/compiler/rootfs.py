"""`root`, `linux.rootfsPropagation`, `maskedPaths` and `readonlyPaths` → operations.

Implements config.md "Root" and config-linux.md "Rootfs Mount Propagation", "Masked Paths", "Readonly Paths". The child
protects paths with `mask_path` and `readonly_path`, after it has pivoted the root and before any program of the
container runs.
"""

from pyoci.compiler import verbs
from pyoci.compiler.mount_options import PRIVATE, RDONLY, SHARED, SLAVE, UNBINDABLE
from pyoci.compiler.operations import Part
from pyoci.compiler.paths import clean
from pyoci.compiler.verbs.numbers import NULL, ROOTFS
from pyoci.linux import PROC_SUPER_MAGIC, SYSFS_MAGIC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyoci.compiler.verbs import ChildOp
    from pyoci.types import Config

PROPAGATION = {"shared": SHARED, "slave": SLAVE, "private": PRIVATE, "unbindable": UNBINDABLE}


def open_rootfs(rootfs: str) -> Part:
    """Clone the mounts of the root filesystem the first thing after the clone."""
    return Part(opening=[verbs.OpenRootfs("/root/path", path=rootfs, tree=ROOTFS)])


def prepare_rootfs(rootfs: str) -> "Iterator[ChildOp]":
    """Keep later mounts from propagating to the host, and attach the root filesystem.

    If `rootfs` is "", the mount namespace does not have that path.
    """
    yield verbs.SetPropagation("/linux/rootfsPropagation", path="/", kind=SLAVE, recursive=True)
    yield verbs.AttachRootfs("/root/path", path=rootfs) if rootfs else verbs.CoverRoot("/root/path")


def pivot(no_pivot: bool) -> "Iterator[ChildOp]":
    """Make the root filesystem `/`."""
    yield verbs.MoveRoot("/root/path") if no_pivot else verbs.PivotRoot("/root/path")


def enter() -> "Iterator[ChildOp]":
    """Make the root filesystem `/` of the container's processes only. They stay in the runtime's mount namespace."""
    yield verbs.EnterRoot("/root/path")


def finish_rootfs(config: "Config") -> "Iterator[ChildOp]":
    """Set the propagation of `/` and make it read-only, once every mount point exists."""
    propagation = config.get("linux", {}).get("rootfsPropagation")
    if propagation:
        yield verbs.SetPropagation(
            "/linux/rootfsPropagation", tree=ROOTFS, kind=PROPAGATION[propagation], recursive=False
        )
    if config["root"].get("readonly"):
        yield verbs.SetMountAttributes("/root/readonly", tree=ROOTFS, attr_set=RDONLY)


def protect_paths(config: "Config") -> Part:
    """Make paths read-only first, so that a masked path below one stays masked. Skip a path that is listed again."""
    linux = config.get("linux", {})
    own = _procfs_and_sysfs(config)
    ops = [
        _protect(verbs.ReadonlyPath, f"/linux/readonlyPaths/{index}", path, own)
        for index, path in _once(linux.get("readonlyPaths", ()))
    ]
    masked = linux.get("maskedPaths", ())
    if not masked:
        return Part(ops)
    if linux.get("mountLabel"):
        ops.append(verbs.MakeMaskDirectory("/linux/mountLabel", label=linux["mountLabel"]))
    ops += [_protect(verbs.MaskPath, f"/linux/maskedPaths/{index}", path, own) for index, path in _once(masked)]
    null = verbs.OpenNull("/linux/maskedPaths", path="/dev/null", kind="c", tree=NULL, major=1, minor=3)
    return Part(ops, opening=[null])


def _once(paths: "Sequence[str]") -> "list[tuple[int, str]]":
    """Return each path once, with its first index. Sort instead of hashing: a config may choose paths that collide."""
    cleaned = sorted((clean(path), index) for index, path in enumerate(paths))
    first = [entry for n, entry in enumerate(cleaned) if n == 0 or cleaned[n - 1][0] != entry[0]]
    return sorted((index, path) for path, index in first)


def _procfs_and_sysfs(config: "Config") -> "dict[str, int]":
    """Return the mounts of /proc and /sys that must be a procfs and a sysfs, with their types as in statfs(2)."""
    own: dict[str, int] = {}
    for mount in config.get("mounts", ()):
        destination, options = clean(mount["destination"]), mount.get("options", ())
        if "remount" in options:
            continue
        if destination == "/proc":
            own[destination] = PROC_SUPER_MAGIC
        elif destination == "/sys":
            own.pop(destination, 0)
            if mount.get("type") == "sysfs" and not {"bind", "rbind"} & set(options):
                own[destination] = SYSFS_MAGIC
    return own


def _protect(
    verb: "type[verbs.MaskPath | verbs.ReadonlyPath]", where: str, path: str, own: "dict[str, int]"
) -> "ChildOp":
    for mount, magic in own.items():
        if f"{path}/".startswith(f"{mount}/"):
            return verb(where, path=path, mount=mount, below=path[len(mount) :] or "/", filesystem=magic)
    return verb(where, path=path)
