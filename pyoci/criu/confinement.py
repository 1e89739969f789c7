"""Whether restored processes have the confinement that config.json asks for, by the kernel's facts. Pure.

Each function yields the JSON pointer and the text of everything that is wrong. `restored` reads the facts.
"""

from pyoci.compiler.mount_options import CONFINING, Mount
from pyoci.compiler.paths import clean
from pyoci.config.constants import NAMESPACE_FILES
from pyoci.config.text import printable
from pyoci.criu.credentials import Credentials
from pyoci.criu.images import SECCOMP_MODE_FILTER
from pyoci.criu.shape import is_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from pyoci.compiler.namespaces import Namespaces
    from pyoci.criu.credentials import Allowance
    from pyoci.mountinfo import MountInfo
    from pyoci.types import Config, IdMapping

    Problems = Iterator[tuple[str, str]]
    IdMap = list[tuple[int, int, int]]
    Location = tuple[str, str]  # of a directory or file: the device, and the path in its filesystem

_CGROUPS = ("cgroup", "cgroup2")
# The namespace that a filesystem shows: the host and a container that share the namespace have it both.
_NAMESPACE_OF = {"proc": "pid", "sysfs": "network", "mqueue": "ipc"}
_UNMAPPED = -1


class Thread:
    """What /proc says about a thread. Ids are the host's.

    id       in the innermost pid namespace
    filters  how many seccomp filters it has; None on Linux before 5.9
    """

    __slots__ = ("credentials", "filters", "id", "is_dead", "mode", "name")

    def __init__(self, status: bytes, label: str = "") -> None:
        found = {}
        for line in status.split(b"\n"):
            key, _, value = line.partition(b":\t")
            if key in _STATUS:
                found[key] = value
        self.name = found[b"Name"].decode("utf-8", "surrogateescape")
        self.is_dead = found[b"State"][:1] in (b"Z", b"X")
        self.id = int(found[b"NSpid"].split()[-1])
        self.mode = int(found.get(b"Seccomp", b"0"))
        self.filters = int(found[b"Seccomp_filters"]) if b"Seccomp_filters" in found else None
        self.credentials = Credentials(
            uids=_numbers(found[b"Uid"]),
            gids=_numbers(found[b"Gid"]),
            groups=_numbers(found[b"Groups"]),
            inheritable=int(found[b"CapInh"], 16),
            permitted=int(found[b"CapPrm"], 16),
            effective=int(found[b"CapEff"], 16),
            bounding=int(found[b"CapBnd"], 16),
            ambient=int(found[b"CapAmb"], 16),
            no_new_privs=found[b"NoNewPrivs"] == b"1",
            label=label,
        )


_STATUS = frozenset(
    b"Name State NSpid Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters".split()
)


def _numbers(text: bytes) -> "list[int]":
    return [int(word) for word in text.split()]


def id_map(text: bytes) -> "IdMap":
    """Return the lines of uid_map or gid_map: the first id inside, the first id outside, and how many there are."""
    lines = [line.split() for line in text.split(b"\n") if line]
    return [(int(inside), int(outside), int(count)) for inside, outside, count in lines]


def translated(credentials: Credentials, uids: "IdMap", gids: "IdMap") -> Credentials:
    """Return the credentials with the container's ids."""
    credentials.uids = [_inside(uid, uids) for uid in credentials.uids]
    credentials.gids = [_inside(gid, gids) for gid in credentials.gids]
    credentials.groups = [_inside(gid, gids) for gid in credentials.groups]
    return credentials


def _inside(number: int, maps: "IdMap") -> int:
    for inside, outside, count in maps:
        if outside <= number < outside + count:
            return number - outside + inside
    return _UNMAPPED


# --- processes


def check_thread(
    thread: Thread, allowance: "Allowance", *, lsm: str, filters: "int | None", has_filter: bool
) -> "Problems":
    """Compare a thread with what config.json allows. `filters` is how many seccomp filters it must have at least."""
    has = thread.credentials
    yield from allowance.excess(has)
    yield from allowance.foreign_label(has.label, lsm)
    if has_filter and thread.mode != SECCOMP_MODE_FILTER:
        yield "/linux/seccomp", "has no seccomp filter"
    elif filters is not None and thread.filters is not None and thread.filters < filters:
        yield "/linux/seccomp", f"has {thread.filters} seccomp filters instead of {filters}"


def check_namespaces(
    its: "Mapping[str, int]", own: "Mapping[str, int]", paths: "Mapping[str, int]", namespaces: "Namespaces"
) -> "Problems":
    """Compare init's namespaces, by type and inode, with the runtime's `own`, and with those of the config's paths."""
    for kind, inode in its.items():
        where = namespaces.where.get(kind, "/linux/namespaces")
        if kind in namespaces.new:
            if inode == own[kind]:
                yield where, f"is in the runtime's {kind} namespace"
        elif kind in namespaces.joined:
            if inode != paths[kind]:
                yield f"{where}/path", f"is in another {kind} namespace"
        elif inode != own[kind] and kind != "time":  # CRIU restores into a new one, for its clocks
            yield where, f"is in a {kind} namespace of its own"


def check_nested(its: "Mapping[str, int]", inits: "Mapping[str, int]", own: "Mapping[str, int]") -> "Problems":
    """Compare the namespaces of another process with init's. It may have made some, but never gets the runtime's."""
    for kind, inode in its.items():
        if inode != inits[kind] and (kind in ("user", "pid") or inode == own[kind]):
            yield "/linux/namespaces", f"is in another {kind} namespace than init"


def check_id_map(kind: str, found: "IdMap", mappings: "Iterable[IdMapping]") -> "Problems":
    """Compare the id map of a new user namespace. `kind` is uid or gid."""
    if sorted(found) != sorted((each["containerID"], each["hostID"], each["size"]) for each in mappings):
        yield f"/linux/{kind}Mappings", f"has other {kind} mappings"


def check_cgroup(its: bytes, runtimes: bytes, path: str) -> "Problems":
    """Compare /proc/PID/cgroup with the runtime's own, and with the path of the container's cgroup v2.

    In a hierarchy of cgroup v1, processes stay where the runtime is, or systemd moves them to their unit.
    """
    if not path:
        return
    own = dict(_cgroups(runtimes))
    for hierarchy, found in _cgroups(its):
        if not is_below(found, path) and (hierarchy.startswith("0:") or found != own.get(hierarchy)):
            yield "/linux/cgroupsPath", f"is in the cgroup {printable(found)}"


def _cgroups(text: bytes) -> "Iterator[tuple[str, str]]":
    """Yield each hierarchy, with its number and controllers, and the path of the cgroup in it."""
    for line in text.decode("utf-8", "surrogateescape").split("\n"):
        if line:
            number, controllers, path = line.split(":", 2)
            yield f"{number}:{controllers}", path


# --- mounts


def check_host_filesystems(
    mounts: "list[MountInfo]", host_devices: "Collection[str]", known: "Collection[Location]", shared: "Collection[str]"
) -> "Problems":
    """Find filesystems of the host that config.json does not have.

    `host_devices` are those of the runtime's mounts, `known` what the container may see of them, and `shared` the types
    of namespaces that the container shares with the host.
    """
    for mount in mounts:
        if mount.device not in host_devices or mount.type in _CGROUPS or _NAMESPACE_OF.get(mount.type) in shared:
            continue
        if not any(device == mount.device and is_below(mount.root, root) for device, root in known):
            yield "/mounts", f"has a filesystem of the host at {printable(mount.point)}"


class Resolved:
    """A path in the container, resolved: its mount, the mount of its directory, and whether it is /dev/null."""

    __slots__ = ("is_null", "mount", "outer")

    def __init__(self, mount: "MountInfo | None", outer: "MountInfo | None", *, is_null: bool) -> None:
        self.mount = mount
        self.outer = outer
        self.is_null = is_null

    @property
    def is_mount_point(self) -> bool:
        """Whether a mount is attached there."""
        return self.mount is not None and self.mount is not self.outer

    @property
    def is_readonly(self) -> bool:
        """Whether the mount is read-only."""
        return self.mount is not None and "ro" in self.mount.options.split(",")


def check_mounts(config: "Config", resolve: "Callable[[str], Resolved | None]") -> "Problems":
    """Check that the mounts are there that confine programs which can't unmount them.

    `resolve` resolves a path in the container's root, and returns None if it does not exist.
    """
    linux = config.get("linux", {})
    root = resolve("/")
    if config.get("root", {}).get("readonly") and not (root and root.is_readonly):
        yield "/root/readonly", "has a writable root filesystem"
    yield from _check_configured(config, resolve)
    for index, path in enumerate(linux.get("readonlyPaths", ())):
        found = resolve(path)
        if found is not None and not found.is_readonly:
            yield f"/linux/readonlyPaths/{index}", f"can write to {printable(path)}"
    for index, path in enumerate(linux.get("maskedPaths", ())):
        found = resolve(path)
        if found is not None and not _is_masked(found):
            yield f"/linux/maskedPaths/{index}", f"can see {printable(path)}"


def _check_configured(config: "Config", resolve: "Callable[[str], Resolved | None]") -> "Problems":
    """Check each of `mounts` that no later one covers."""
    mounts = [Mount(entry, index) for index, entry in enumerate(config.get("mounts", ()))]
    for index, mount in enumerate(mounts):
        path = mount.destination
        if mount.remount or path == "/" or any(is_below(path, other.destination) for other in mounts[index + 1 :]):
            continue
        found = resolve(path)
        if found is None or not found.is_mount_point:
            yield mount.where, f"has no mount at {printable(path)}"
            continue
        options = found.mount.options.split(",") if found.mount else []
        asked = mount.attr_set | mount.recursive_set
        lacking = [name for bit, name in CONFINING.items() if asked & bit and name not in options]
        if lacking:
            yield f"{mount.where}/options", f"has {printable(path)} without {', '.join(lacking)}"


def _is_masked(found: Resolved) -> bool:
    """Whether it is a mount of /dev/null, or of an empty filesystem."""
    if not found.is_mount_point or found.mount is None:
        return False
    return found.is_null or (found.mount.type == "tmpfs" and found.is_readonly)


# --- descriptors


def leads_to_host(
    target: str, own: "Mapping[str, int]", shared: "Collection[str]", mount: int, mounts: "Collection[int]"
) -> bool:
    """Whether an open file is the host's: a namespace of the runtime's, or a file in no mount of the container.

    `target` is what the link in /proc/PID/fd says. Files of the kernel's internal mounts have such links, too: the
    caller recognises those.
    """
    if target.startswith("/"):
        return mount not in mounts
    kind, opened, inode = target.partition(":[")
    kind = _LINK_KINDS.get(kind, kind)
    return bool(opened) and kind in own and kind not in shared and inode.rstrip("]") == str(own[kind])


_LINK_KINDS = {name: kind for kind, name in NAMESPACE_FILES.items()}


def relative(path: str) -> str:
    """Return a path of config.json as it is below an open root directory."""
    return clean(path).lstrip("/") or "."


__all__ = ["Resolved", "Thread"]
