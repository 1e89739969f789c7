"""`root`, `linux.rootfsPropagation`, `maskedPaths` and `readonlyPaths` → operations.

Implements config.md "Root" and config-linux.md "Rootfs Mount Propagation", "Masked Paths", "Readonly Paths". Masked
and read-only paths are decided here, applied by `mask_path` and `readonly_path` in the executor, after the root has
been pivoted and before any program of the container runs.
"""

from pyoci.plan.mounts import PRIVATE, RDONLY, SHARED, SLAVE, UNBINDABLE
from pyoci.plan.operations import NULL, ROOTFS, Op
from pyoci.plan.paths import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyoci.plan.operations import Plan

PROPAGATION = {"shared": SHARED, "slave": SLAVE, "private": PRIVATE, "unbindable": UNBINDABLE}


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


def finish_rootfs(config: "dict[str, Any]") -> "Iterator[Op]":
    """Propagation and read-only of `/`, once nothing has to be made there any more."""
    propagation = config.get("linux", {}).get("rootfsPropagation")
    if propagation:
        yield Op("set_propagation", "/linux/rootfsPropagation", a=ROOTFS, b=PROPAGATION[propagation], c=0)
    if config["root"].get("readonly"):
        yield Op("set_mount_attributes", "/root/readonly", a=ROOTFS, b=RDONLY)


def protect_paths(plan: "Plan", linux: "dict[str, Any]") -> "Iterator[Op]":
    """Read-only paths first, so that a masked path below one stays masked."""
    for index, path in enumerate(linux.get("readonlyPaths", ())):
        yield Op("readonly_path", f"/linux/readonlyPaths/{index}", clean(path))
    masked = linux.get("maskedPaths", ())
    if masked:
        plan.before.append(Op("open_null", "/linux/maskedPaths", "/dev/null", a=NULL))
    for index, path in enumerate(masked):
        yield Op("mask_path", f"/linux/maskedPaths/{index}", clean(path))
