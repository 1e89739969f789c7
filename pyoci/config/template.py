"""The config.json that `pyoci spec` writes: a shell on a terminal with few privileges, as in runc."""

from pyoci.version import SPEC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.types import Config, Mount, NamespaceType

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_NAMESPACES: "tuple[NamespaceType, ...]" = ("pid", "network", "ipc", "uts", "mount", "cgroup")


def default() -> "Config":
    """A config for root: `sh` on a terminal in `rootfs`, in new namespaces."""
    return {
        "ociVersion": SPEC,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": list(_CAPABILITIES),
                "effective": list(_CAPABILITIES),
                "permitted": list(_CAPABILITIES),
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "pyoci",
        "mounts": _mounts(),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in _NAMESPACES],
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


def _mounts() -> "list[Mount]":
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
    """Return `config`, changed for a user without privileges, who becomes root in a user namespace.

    - Such a user can't set up a network. The container shares the host's, and binds /sys, because only the owner of a
      network namespace may mount sysfs.
    - It can't limit resources.
    - It has no other ids to give to files.
    """
    namespaces = [namespace for namespace in config["linux"]["namespaces"] if namespace["type"] != "network"]
    changed: Config = {
        **config,
        "mounts": [_rootless_mount(mount) for mount in config["mounts"]],
        "linux": {
            **config["linux"],
            "uidMappings": [{"containerID": 0, "hostID": uid, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": gid, "size": 1}],
            "namespaces": [*namespaces, {"type": "user"}],
        },
    }
    del changed["linux"]["resources"]
    return changed


def _rootless_mount(mount: "Mount") -> "Mount":
    if mount["destination"] == "/sys":
        options = ["rbind", "nosuid", "noexec", "nodev", "ro"]
        return {"destination": "/sys", "type": "none", "source": "/sys", "options": options}
    options = [option for option in mount["options"] if not option.startswith(("uid=", "gid="))]
    return {**mount, "options": options}
