"""`root`, `linux.rootfsPropagation`, `maskedPaths` and `readonlyPaths` → operations.

Implements config.md "Root" and config-linux.md "Rootfs Mount Propagation", "Masked Paths", "Readonly Paths". Masked
and read-only paths are decided here, applied by `mask_path` and `readonly_path` in the executor, after the root has
been pivoted and before any program of the container runs.
"""

from pyoci.compiler.mounts import PRIVATE, RDONLY, SHARED, SLAVE, UNBINDABLE
from pyoci.compiler.operations import NULL, ROOTFS, Op
from pyoci.compiler.paths import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from pyoci.compiler.operations import Plan

PROPAGATION = {"shared": SHARED, "slave": SLAVE, "private": PRIVATE, "unbindable": UNBINDABLE}


PROC_SUPER_MAGIC, SYSFS_MAGIC = 0x9FA0, 0x62656572


def open_rootfs(plan: "Plan", rootfs: str) -> None:
    """The runtime clones the root filesystem's mount tree before anything else."""
    plan.before.append(Op("open_rootfs", "/root/path", rootfs, a=ROOTFS))


def prepare_rootfs(rootfs: str) -> "Iterator[Op]":
    """Nothing mounted from here on reaches the host; then the root filesystem is put in place."""
    yield Op("set_propagation", "/linux/rootfsPropagation", "/", a=-1, b=SLAVE, c=1)
    yield Op("attach_rootfs", "/root/path", rootfs)


def pivot(no_pivot: bool) -> "Iterator[Op]":
    """The root filesystem becomes `/`."""
    yield Op("move_root" if no_pivot else "pivot_root", "/root/path")


def enter() -> "Iterator[Op]":
    """The root filesystem becomes `/` of the container alone, whose mount namespace is the runtime's."""
    yield Op("enter_root", "/root/path")


def finish_rootfs(config: "dict[str, Any]") -> "Iterator[Op]":
    """Propagation and read-only of `/`, once nothing has to be made there any more."""
    propagation = config.get("linux", {}).get("rootfsPropagation")
    if propagation:
        yield Op("set_propagation", "/linux/rootfsPropagation", a=ROOTFS, b=PROPAGATION[propagation], c=0)
    if config["root"].get("readonly"):
        yield Op("set_mount_attributes", "/root/readonly", a=ROOTFS, b=RDONLY)


def protect_paths(plan: "Plan", config: "dict[str, Any]") -> "Iterator[Op]":
    """Read-only paths first, so that a masked path below one stays masked. A path that is listed again is skipped."""
    linux = config.get("linux", {})
    own = _kernels_own(config)
    for index, path in _once(linux.get("readonlyPaths", ())):
        yield _protect("readonly_path", f"/linux/readonlyPaths/{index}", path, own)
    masked = linux.get("maskedPaths", ())
    if masked:
        plan.before.append(Op("open_null", "/linux/maskedPaths", "/dev/null", a=NULL))
        if linux.get("mountLabel"):
            yield Op("make_mask_directory", "/linux/mountLabel", linux["mountLabel"])
    for index, path in _once(masked):
        yield _protect("mask_path", f"/linux/maskedPaths/{index}", path, own)


def _once(paths: "Sequence[str]") -> "list[tuple[int, str]]":
    """Each path with its first index. Sorted, not hashed: what a config has may all have one hash."""
    cleaned = sorted((clean(path), index) for index, path in enumerate(paths))
    first = [entry for n, entry in enumerate(cleaned) if n == 0 or cleaned[n - 1][0] != entry[0]]
    return sorted((index, path) for path, index in first)


def _kernels_own(config: "dict[str, Any]") -> "dict[str, int]":
    """The mounts of /proc and /sys that are certain to be a procfs and a sysfs, with their types as in statfs(2)."""
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


def _protect(verb: str, where: str, path: str, own: "dict[str, int]") -> Op:
    for mount, magic in own.items():
        if f"{path}/".startswith(f"{mount}/"):
            return Op(verb, where, path, mount, path[len(mount) :] or "/", c=magic)
    return Op(verb, where, path)
