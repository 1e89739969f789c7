"""Configs for tests: one as Docker sends it, and parts of configs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
]  # fmt: skip
MASKED = [
    "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug",
    "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
]  # fmt: skip
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
MAPPINGS = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def docker_like(rootfs: str) -> dict[str, Any]:
    """A config as Docker sends it, with a program that does nothing."""
    return {
        "ociVersion": "1.2.1",
        "root": {"path": rootfs},
        "hostname": "victim",
        "process": {
            "args": ["/bin/true"],
            "env": ["PATH=/bin", "HOME=/root"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "capabilities": {name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")},
        },
        "mounts": [
            mount("/proc", "proc", "nosuid", "noexec", "nodev"),
            mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
            mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            mount("/sys/fs/cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"),
            mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("mount", "network", "uts", "pid", "ipc", "cgroup")],
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READONLY),
            "resources": {"devices": [{"allow": False, "access": "rwm"}, *_ALLOWED]},
        },
    }


_ALLOWED = [
    {"allow": True, "type": "c", "access": "m"},
    *({"allow": True, "type": "c", "major": 1, "minor": n, "access": "rwm"} for n in (3, 5, 7, 8, 9)),
    *({"allow": True, "type": "c", "major": 5, "minor": n, "access": "rwm"} for n in (0, 2)),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
]


def mount(destination: str, type: str, *options: str, source: str = "") -> dict[str, Any]:
    """An entry of `mounts`."""
    return {"destination": destination, "type": type, "source": source or type, "options": list(options)}


def bind(source: "str | Path", destination: str, *options: str) -> dict[str, Any]:
    """A bind mount."""
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["rbind", *options]}
