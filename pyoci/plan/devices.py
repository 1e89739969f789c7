"""`linux.devices`, the default devices and the standard links → operations.

Implements config-linux.md "Devices", "Default Devices" and runtime-linux.md "Dev symbolic links". In a user namespace
nodes can't be made. The config's own are made by the runtime and bound, if it may make nodes and knows whose they are
to be; for all others the host's are bound, with the owner and mode that they have.
"""

from pyoci.errors import ConfigError, Problem
from pyoci.plan.operations import Op
from pyoci.plan.paths import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from pyoci.plan.operations import Plan

S_IFIFO, S_IFCHR, S_IFBLK = 0o010000, 0o020000, 0o060000
NODE_TYPES = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}

DEFAULT_DEVICES = (
    ("/dev/null", 1, 3), ("/dev/zero", 1, 5), ("/dev/full", 1, 7),
    ("/dev/random", 1, 8), ("/dev/urandom", 1, 9), ("/dev/tty", 5, 0),
)  # fmt: skip

# A link is made only where its target exists once the mounts are done: no /proc, no links.
LINKS = (
    ("/proc/self/fd", "/dev/fd"), ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"), ("/proc/self/fd/2", "/dev/stderr"),
)  # fmt: skip

PTMX = "/dev/ptmx"

CHILD, RUNTIME, HOST = range(3)  # where nodes come from: whoever makes them, or those that the host has


def compile_devices(plan: "Plan", config: "dict[str, Any]", nodes_of: int) -> "Iterator[Op]":
    """The nodes of the config, then the defaults it does not name, then the links.

    A /dev that is a bind mount is the caller's: nothing is made there.
    """
    devices = config.get("linux", {}).get("devices", ())
    named = {clean(device["path"]) for device in devices}
    dev_is_bound = _dev_is_bound(config)
    for index, device in enumerate(devices):
        path = clean(device["path"])
        if path == PTMX and (device["type"], device["major"], device["minor"]) == ("c", 5, 2):
            continue  # the host's multiplexer would open the host's terminals: the link below is the container's
        if dev_is_bound and path.startswith("/dev/"):
            continue
        where = f"/linux/devices/{index}"
        if nodes_of == RUNTIME and device["type"] != "p":
            yield from _made_by_runtime(plan, device, path, where, config["linux"])
        else:
            yield from _node(plan, device, path, where, bind=nodes_of != CHILD)
    if dev_is_bound:
        return
    for path, major, minor in DEFAULT_DEVICES:
        if path not in named:
            device = {"type": "c", "major": major, "minor": minor}
            yield from _node(plan, device, path, "", bind=nodes_of != CHILD)
    yield Op("symlink", "", "pts/ptmx", PTMX)
    for target, link in LINKS:
        yield Op("symlink", "", target, link, target)


def _dev_is_bound(config: "dict[str, Any]") -> bool:
    for mount in config.get("mounts", ()):
        if clean(mount["destination"]) == "/dev":
            return bool({"bind", "rbind"} & set(mount.get("options", ())))
    return False


def _made_by_runtime(
    plan: "Plan", device: "dict[str, Any]", path: str, where: str, linux: "dict[str, Any]"
) -> "Iterator[Op]":
    """A node of the host's own namespaces, with an owner of the container's."""
    owner = 0
    for name in ("uid", "gid"):
        host_id = _on_host(linux.get(f"{name}Mappings", ()), device.get(name, 0))
        if host_id < 0:
            text = f"cannot own the device: {device.get(name, 0)} is not in /linux/{name}Mappings"
            raise ConfigError([Problem(f"{where}/{name}" if name in device else where, text)])
        owner = owner << 32 | host_id
    slot = plan.new_slot()
    mode = NODE_TYPES[device["type"]] | device.get("fileMode", 0o666)
    kind, major, minor = device["type"], device["major"], device["minor"]
    plan.before.append(Op("make_device", where, path, kind, a=slot, b=major, c=minor, d=owner, flags=mode))
    yield Op("bind_device", where, path, a=slot)


def _on_host(mappings: "Iterable[dict[str, Any]]", id: int) -> int:
    """The host's id for one of the container, -1 if it has none."""
    for mapping in mappings:
        if mapping["containerID"] <= id < mapping["containerID"] + mapping["size"]:
            return int(mapping["hostID"] + id - mapping["containerID"])
    return -1


def _node(plan: "Plan", device: "dict[str, Any]", path: str, where: str, *, bind: bool) -> "Iterator[Op]":
    kind = device["type"]
    major, minor = device.get("major", 0), device.get("minor", 0)
    if bind and kind != "p":
        slot = plan.new_slot()
        plan.warnings.extend(
            f"{where}/{key}: ignored: the host's device is bound, since a user namespace can't make nodes"
            for key in ("uid", "gid")
            if device.get(key)
        )
        plan.before.append(Op("open_device", where, path, kind, a=slot, b=major, c=minor))
        yield Op("bind_device", where, path, a=slot)
        return
    mode = NODE_TYPES[kind] | device.get("fileMode", 0o666)
    owner = device.get("uid", 0) << 32 | device.get("gid", 0)
    yield Op("mknod", where, path, kind, a=mode, b=major, c=minor, d=owner)
