"""`linux.devices`, the default devices and the standard links → operations.

Implements config-linux.md "Devices", "Default Devices" and runtime-linux.md "Dev symbolic links". In a user namespace
nodes can't be made: the host's are bound instead, with the owner and mode that they have.
"""

from pyoci.plan.operations import Op
from pyoci.plan.paths import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
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


def compile_devices(plan: "Plan", config: "dict[str, Any]", bind: bool) -> "Iterator[Op]":
    """The nodes of the config, then the defaults it does not name, then the links.

    A /dev that is a bind mount is the caller's: nothing is made there. `bind`: the host's nodes are bound.
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
        yield from _node(plan, device, path, f"/linux/devices/{index}", bind)
    if dev_is_bound:
        return
    for path, major, minor in DEFAULT_DEVICES:
        if path not in named:
            yield from _node(plan, {"type": "c", "major": major, "minor": minor}, path, "", bind)
    yield Op("symlink", "", "pts/ptmx", PTMX)
    for target, link in LINKS:
        yield Op("symlink", "", target, link, target)


def _dev_is_bound(config: "dict[str, Any]") -> bool:
    for mount in config.get("mounts", ()):
        if clean(mount["destination"]) == "/dev":
            return bool({"bind", "rbind"} & set(mount.get("options", ())))
    return False


def _node(plan: "Plan", device: "dict[str, Any]", path: str, where: str, bind: bool) -> "Iterator[Op]":
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
