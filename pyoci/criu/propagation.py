"""Which mounts have a propagation that CRIU can't restore. Pure.

CRIU copies the peer group of a mount from another mount (MOVE_MOUNT_SET_GROUP). The kernel allows that only from a
mount whose root contains that of the other. CRIU also has an older way, which follows links of the container on the
host. Restore never uses it.
"""

from pyoci.config.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any, Protocol, TypeVar

    class Mount(Protocol):
        """A mount of an image or of mountinfo. `shared` and `master` are numbers of peer groups, 0 without one."""

        device: Any
        root: str
        point: str
        shared: int
        master: int

    M = TypeVar("M", bound=Mount)

_SHOWN = 3
HINT = "make the volumes rprivate in config.json"


def find(
    mounts: "Sequence[M]", root: "M | None", external: "Collection[M]", host_groups: "Collection[int]" = ()
) -> "list[str]":
    """Return the mount points of some mounts whose propagation CRIU can't restore; [] if it can restore all.

    `root` is the root of init. `external` are the mounts that CRIU gets from outside, without the root. `host_groups`
    are the peer groups in which the host has mounts: CRIU restores the mounts of the container in others.
    """
    outside = [*external, *([root] if root is not None else [])]
    lost = [mount.point for mount in outside if mount.shared in host_groups]
    if lost:
        return lost
    groups: dict[tuple[int, int], list[M]] = {}
    for mount in mounts:
        if mount.shared or mount.master:
            groups.setdefault((mount.shared, mount.master), []).append(mount)
    first = {shared: _widest(found) for (shared, _), found in groups.items() if shared}
    for (shared, master), found in groups.items():
        sources = [_widest(found)] if shared else []
        if master in first:
            sources.append(first[master])
        beside = [mount.point for mount in found if not all(_contains(source, mount) for source in sources)]
        if beside:
            return [sources[0].point, *beside]
    for master in sorted({mount.master for mount in mounts} - first.keys() - {0}):
        slaves = [mount for mount in mounts if mount.master == master]
        if not _have_one_source(slaves, root, external):
            return [mount.point for mount in slaves]
    return []


def show(points: "list[str]") -> str:
    """Return text for the mounts that `find` returns: at most three mount points."""
    shown = [printable(point) for point in points[:_SHOWN]]
    more = f" and {len(points) - _SHOWN} more" if len(points) > _SHOWN else ""
    return f"the mounts at {', '.join(shown)}{more}"


def _have_one_source(slaves: "list[M]", root: "M | None", external: "Collection[M]") -> bool:
    """Whether CRIU gets one mount for slaves of the host that is in their group and contains all of them.

    CRIU copies the group from what it gets for one of them, and which one is a matter of chance.
    """
    own = {id(mount) for mount in external}
    by_root: dict[tuple[object, str], set[int]] = {}
    for mount in external:
        by_root.setdefault((mount.device, mount.root), set()).add(mount.master)
    sources: set[tuple[object, str, int]] = set()
    for mount in slaves:
        if id(mount) in own:
            sources.add((mount.device, mount.root, mount.master))
            continue
        inside = {
            (mount.device, above, master)
            for above in _and_above(mount.root)
            for master in by_root.get((mount.device, above), ())
        }
        if not inside and root is not None and _contains(root, mount):
            inside = {(root.device, root.root, root.master)}
        if not inside:
            return False
        sources |= inside
    if len(sources) > 1:
        return False
    ((device, at, master),) = sources
    return master == slaves[0].master and all(
        mount.device == device and at in _and_above(mount.root) for mount in slaves
    )


def _and_above(path: str) -> "set[str]":
    """Return an absolute path and the directories that contain it."""
    found = {path, "/"}
    while path:
        path = path.rpartition("/")[0]
        found.add(path or "/")
    return found


def _widest(mounts: "list[M]") -> "M":
    return min(mounts, key=lambda mount: len(mount.root))


def _contains(source: "M", mount: "M") -> bool:
    """Whether the root of `source` contains that of `mount`."""
    if source.device != mount.device:
        return False
    return source.root in ("/", mount.root) or mount.root.startswith(source.root + "/")


__all__ = ["find", "show"]
