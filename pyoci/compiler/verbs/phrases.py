"""Numbers of the kernel as the words that `pyoci plan` prints."""

from pyoci import linux
from pyoci.config.constants import CAPABILITIES

_ATTRIBUTES = (
    (linux.MOUNT_ATTR_RDONLY, "RDONLY"), (linux.MOUNT_ATTR_NOSUID, "NOSUID"), (linux.MOUNT_ATTR_NODEV, "NODEV"),
    (linux.MOUNT_ATTR_NOEXEC, "NOEXEC"), (linux.MOUNT_ATTR_NOATIME, "NOATIME"),
    (linux.MOUNT_ATTR_STRICTATIME, "STRICTATIME"), (linux.MOUNT_ATTR_NODIRATIME, "NODIRATIME"),
    (linux.MOUNT_ATTR_NOSYMFOLLOW, "NOSYMFOLLOW"),
)  # fmt: skip
_ATIME = linux.MOUNT_ATTR__ATIME  # the access-time field, of which a plan shows only the new value
_PROPAGATION = {
    0: "", linux.MS_UNBINDABLE: "UNBINDABLE", linux.MS_PRIVATE: "PRIVATE", linux.MS_SLAVE: "SLAVE",
    linux.MS_SHARED: "SHARED",
}  # fmt: skip
_SECCOMP_FLAGS = (
    (1, "TSYNC"), (2, "LOG"), (4, "SPEC_ALLOW"), (8, "NEW_LISTENER"), (0x10, "TSYNC_ESRCH"),
    (0x20, "WAIT_KILLABLE_RECV"),
)  # fmt: skip
_INFINITY = (1 << 64) - 1
_FEW = 4  # with fewer missing capabilities, a plan shows a set as "all but …"


def flags(value: int, names: "tuple[tuple[int, str], ...]") -> str:
    """Name the bits of `value`."""
    return "|".join(name for bit, name in names if value & bit)


def attributes(set_: int, clear: int = 0) -> str:
    """Name the mount attributes to set, and after a minus sign those to clear."""
    parts = []
    if set_:
        parts.append(flags(set_, _ATTRIBUTES))
    if clear & ~_ATIME:
        parts.append("-" + flags(clear & ~_ATIME, _ATTRIBUTES))
    return " ".join(parts)


def propagation(kind: int) -> str:
    """Name a propagation type of mount_setattr(2)."""
    return _PROPAGATION[kind]


def capabilities(mask: int) -> str:
    """Name a set's capabilities, or the few that it lacks."""
    names = [name.removeprefix("CAP_") for name, bit in CAPABILITIES.items() if mask >> bit & 1]
    missing = [name.removeprefix("CAP_") for name, bit in CAPABILITIES.items() if not mask >> bit & 1]
    if not names:
        return "none"
    if len(missing) < _FEW:
        return "all" + (f" but {','.join(missing)}" if missing else "")
    return ",".join(names)


def limit(value: int) -> str:
    """Print a resource limit of prlimit(2)."""
    return "infinity" if value == _INFINITY else str(value)


def filter_size(instructions: int, seccomp_flags: int) -> str:
    """Describe a seccomp filter by its size and the flags of seccomp(2)."""
    names = flags(seccomp_flags, _SECCOMP_FLAGS)
    return f"{instructions} instructions" + (f"  {names}" if names else "")
