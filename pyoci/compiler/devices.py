"""`linux.devices`, the default devices and the standard links → operations.

Implements config-linux.md "Devices", "Default Devices" and runtime-linux.md "Dev symbolic links". A process in a user
namespace can't make device nodes. If the runtime may, it makes them in a tmpfs of the host's user namespace, where they
work. Only the runtime and init see that tmpfs; the container gets a mount of each node. Otherwise the container gets
mounts of the host's nodes, with the host's owner and mode.
"""

from pyoci.compiler import verbs
from pyoci.compiler.operations import Part, Slots
from pyoci.compiler.paths import clean
from pyoci.compiler.verbs.numbers import INIT
from pyoci.errors import ConfigError, Problem
from pyoci.linux import S_IFBLK, S_IFCHR, S_IFIFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyoci.compiler.verbs import ChildOp, ParentOp
    from pyoci.types import Config, Device, IdMapping, Linux

NODE_TYPES = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}

DEFAULT_DEVICES = (
    ("/dev/null", 1, 3), ("/dev/zero", 1, 5), ("/dev/full", 1, 7),
    ("/dev/random", 1, 8), ("/dev/urandom", 1, 9), ("/dev/tty", 5, 0),
)  # fmt: skip

# The child makes them only if the mounts brought a procfs. It looks for /proc/self instead of /proc/self/fd: if it is
# not in the container's pid namespace, it has no directory there, and the link self leads nowhere.
LINKS = (
    ("/proc/self/fd", "/dev/fd"), ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"), ("/proc/self/fd/2", "/dev/stderr"),
)  # fmt: skip

PTMX = "/dev/ptmx"

# Where nodes come from. In a joined user namespace, the runtime knows their owners on the host only once init is there.
CHILD, RUNTIME, RUNTIME_ONCE_JOINED, HOST = range(4)


def compile_devices(config: "Config", slots: Slots, source: int) -> Part:
    """Make the nodes of the config, then the default ones that it does not name, then the links.

    Skips a default node if the config mounts something on it. Makes nothing in a /dev that is a bind mount, because it
    belongs to the caller. A node that a bind mount brings along keeps its mode and owner.
    """
    mounted = _mounted(config)
    if source in (RUNTIME, RUNTIME_ONCE_JOINED):
        part = _make_by_runtime(config, slots, mounted, at_once=source == RUNTIME)
    elif source == HOST:
        part = _bind_host_nodes(config, slots, mounted)
    else:
        part = Part(_mknod(device, path, where, mounted) for device, path, where in _nodes(config, mounted))
    if not _covering(mounted, "/dev")[1]:
        part.child.append(verbs.Symlink(target="pts/ptmx", path=PTMX))
        part.child += [verbs.Symlink(target=target, path=link, condition="/proc/self") for target, link in LINKS]
    return part


def _nodes(config: "Config", mounted: "list[tuple[str, bool]]") -> "Iterator[tuple[Device, str, str]]":
    """Yield each device with its path and its pointer, which is "" for a default device."""
    devices = config.get("linux", {}).get("devices", ())
    dev_is_bound = _covering(mounted, "/dev")[1]
    defaults = {path for path, _, _ in DEFAULT_DEVICES}
    for index, device in enumerate(devices):
        path = clean(device["path"])
        if path == PTMX and (device["type"], device["major"], device["minor"]) == ("c", 5, 2):
            continue  # the host's multiplexer would open the host's terminals; the container gets a link instead
        if dev_is_bound and path.startswith("/dev/"):
            continue
        if path in defaults and _covering(mounted, path)[0] == path:
            continue  # docker run --privileged lists every node of the host; the mount is the user's choice
        yield device, path, f"/linux/devices/{index}"
    if dev_is_bound:
        return
    named = {clean(device["path"]) for device in devices}
    for path, major, minor in DEFAULT_DEVICES:
        if path not in named and _covering(mounted, path)[0] != path:
            yield {"type": "c", "path": path, "major": major, "minor": minor}, path, ""


def _mounted(config: "Config") -> "list[tuple[str, bool]]":
    """Return the destination of each mount in order, and whether it is a bind mount."""
    return [
        (clean(mount["destination"]), not {"bind", "rbind"}.isdisjoint(mount.get("options", ())))
        for mount in config.get("mounts", ())
        if "remount" not in mount.get("options", ())
    ]


def _covering(mounted: "list[tuple[str, bool]]", path: str) -> "tuple[str, bool]":
    """Return the topmost mount that `path` is on, and whether it is a bind mount; "" if it is on the root."""
    for destination, bind in reversed(mounted):
        if path == destination or path.startswith(f"{destination}/"):
            return destination, bind
    return "", False


def _make_by_runtime(config: "Config", slots: Slots, mounted: "list[tuple[str, bool]]", *, at_once: bool) -> Part:
    """Make nodes in the host's user namespace, with owners of the container. The child makes FIFOs itself."""
    nodes = list(_nodes(config, mounted))
    made = [node for node in nodes if node[0]["type"] != "p"]
    if not made:
        return Part(_mknod(device, path, where, mounted) for device, path, where in nodes)
    linux = config["linux"]
    label = linux.get("mountLabel", "")
    filesystem = slots.new()
    first = verbs.MakeDeviceFilesystem(
        "/linux/mountLabel" if label else "/linux/devices", label=label, filesystem=filesystem
    )
    making: list[ParentOp] = []
    for name, (device, path, where) in enumerate(made):
        uid, gid = _host_owner(linux, device, where) if at_once else (device.get("uid", 0), device.get("gid", 0))
        making.append(
            verbs.MakeDevice(
                where,
                path=path,
                kind=device["type"],
                name=str(name),
                filesystem=filesystem,
                major=device["major"],
                minor=device["minor"],
                mode=NODE_TYPES[device["type"]] | device.get("fileMode", 0o666),
                uid=uid,
                gid=gid,
                owner_in_container=not at_once,
            )
        )
    trees = [slots.new() for _ in made]
    child: list[ChildOp] = [
        verbs.OpenDevices("/linux/devices", filesystem=filesystem, first=trees[0], count=len(trees))
    ]
    for device, path, where in nodes:
        is_fifo = device["type"] == "p"
        child.append(
            _mknod(device, path, where, mounted) if is_fifo else verbs.BindDevice(where, path=path, tree=trees.pop(0))
        )
    if at_once:
        return Part(child, opening=[first, *making])
    return Part(child, opening=[first], at={INIT: making})


def _bind_host_nodes(config: "Config", slots: Slots, mounted: "list[tuple[str, bool]]") -> Part:
    """Bind the host's nodes, with the host's owner and mode."""
    part = Part()
    for device, path, where in _nodes(config, mounted):
        kind = device["type"]
        if kind == "p":
            part.child.append(_mknod(device, path, where, mounted))
            continue
        slot = slots.new()
        part.warnings += [
            f"{where}/{key}: ignored: the container gets the host's device, because a user namespace can't make nodes"
            for key in ("uid", "gid")
            if device.get(key)
        ]
        major, minor = device.get("major", 0), device.get("minor", 0)
        part.opening.append(verbs.OpenDevice(where, path=path, kind=kind, tree=slot, major=major, minor=minor))
        part.child.append(verbs.BindDevice(where, path=path, tree=slot))
    return part


def _host_owner(linux: "Linux", device: "Device", where: str) -> "tuple[int, int]":
    """Return the owner's uid and gid on the host.

    Ignores an unmapped owner of a default device, which is container root. Other checks report that root is missing.
    """
    ids = []
    for name, inside, mappings in (
        ("uid", device.get("uid", 0), linux.get("uidMappings", ())),
        ("gid", device.get("gid", 0), linux.get("gidMappings", ())),
    ):
        outside = _host_id(mappings, inside)
        if outside < 0 and where:
            text = f"cannot set the owner of the device: {inside} is not in /linux/{name}Mappings"
            raise ConfigError([Problem(f"{where}/{name}" if name in device else where, text)])
        ids.append(max(outside, 0))
    return ids[0], ids[1]


def _host_id(mappings: "Iterable[IdMapping]", id: int) -> int:
    """Return the host's id for an id of the container, or -1 if it is not mapped."""
    for mapping in mappings:
        if mapping["containerID"] <= id < mapping["containerID"] + mapping["size"]:
            return int(mapping["hostID"] + id - mapping["containerID"])
    return -1


def _mknod(device: "Device", path: str, where: str, mounted: "list[tuple[str, bool]]") -> "ChildOp":
    kind = device["type"]
    return verbs.Mknod(
        where,
        path=path,
        kind=kind,
        mode=NODE_TYPES[kind] | device.get("fileMode", 0o666),
        major=device.get("major", 0),
        minor=device.get("minor", 0),
        uid=device.get("uid", 0),
        gid=device.get("gid", 0),
        keep_existing=_covering(mounted, path)[1],
    )
