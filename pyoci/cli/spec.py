"""The config.json that `pyoci spec` writes: a shell on a terminal, with few privileges, like runc's."""

import errno
import posix

from pyoci.errors import PyociError, reason
from pyoci.host import files
from pyoci.version import SPEC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Config = dict[str, Any]

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")


def default() -> "Config":
    """A config for root: `sh` on a terminal in `rootfs`, in namespaces of its own."""
    capabilities = {kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")}
    return {
        "ociVersion": SPEC,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": capabilities,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "pyoci",
        "mounts": _mounts(),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": [
                "/proc/acpi",
                "/proc/asound",
                "/proc/interrupts",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/sched_debug",
                "/proc/scsi",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/sys/devices/virtual/powercap",
                "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def _mounts() -> "list[Config]":
    rows = (
        ("/proc", "proc", "proc", "nosuid noexec nodev"),
        ("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
        ("/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
        ("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"),  # noqa: S108 - a mount
        ("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
        ("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
        ("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro"),
    )
    return [
        {"destination": destination, "type": kind, "source": source, "options": options.split()}
        for destination, kind, source, options in rows
    ]


def rootless(config: "Config", uid: int, gid: int) -> "Config":
    """`config` made fit for a user without privileges, who becomes root in a user namespace.

    Such a user can't set up a network (so the host's is shared, and then sysfs can't be mounted: it is
    bound), can't limit resources, and has no other ids to give to files.
    """
    linux = {key: value for key, value in config["linux"].items() if key != "resources"}
    kinds = [entry for entry in linux["namespaces"] if entry["type"] != "network"]
    return config | {
        "mounts": [_rootless_mount(mount) for mount in config["mounts"]],
        "linux": linux
        | {
            "uidMappings": [{"containerID": 0, "hostID": uid, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": gid, "size": 1}],
            "namespaces": [*kinds, {"type": "user"}],
        },
    }


def _rootless_mount(mount: "Config") -> "Config":
    if mount["destination"] == "/sys":
        options = ["rbind", "nosuid", "noexec", "nodev", "ro"]
        return {"destination": "/sys", "type": "none", "source": "/sys", "options": options}
    options = [option for option in mount["options"] if not option.startswith(("uid=", "gid="))]
    return mount | {"options": options}


def write(path: str, text: str) -> None:
    """Write the new file `path`. Raises PyociError, also when it exists."""
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    try:
        fd = posix.open(path, flags, 0o666)
        try:
            files.write_all(fd, text.encode("utf-8", "replace"))
        finally:
            posix.close(fd)
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise PyociError(f"cannot write {path}: it exists", hint="remove it first") from error
        raise PyociError(f"cannot write {path}: {reason(error.errno or 0)}") from error
