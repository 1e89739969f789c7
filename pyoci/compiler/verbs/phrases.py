"""Numbers of the kernel as the words that `pyoci plan` prints."""

from pyoci import linux
from pyoci.config.constants import CAPABILITIES

_ATTRIBUTES = (
    (linux.MOUNT_ATTR_RDONLY, "RDONLY"), (linux.MOUNT_ATTR_NOSUID, "NOSUID"), (linux.MOUNT_ATTR_NODEV, "NODEV"),
    (linux.MOUNT_ATTR_NOEXEC, "NOEXEC"), (linux.MOUNT_ATTR_NOATIME, "NOATIME"),
    (linux.MOUNT_ATTR_STRICTATIME, "STRICTATIME"), (linux.MOUNT_ATTR_NODIRATIME, "NODIRATIME"),
    (linux.MOUNT_ATTR_NOSYMFOLLOW, "NOSYMFOLLOW"),
)  # fmt: skip
_ATIME = linux.MOUNT_ATTR__ATIME  # the access-time field of mount attributes: clearing it is not worth a word
_PROPAGATION = {
    0: "", linux.MS_UNBINDABLE: "UNBINDABLE", linux.MS_PRIVATE: "PRIVATE", linux.MS_SLAVE: "SLAVE",
    linux.MS_SHARED: "SHARED",
}  # fmt: skip
_SECCOMP_FLAGS = (
    (1, "TSYNC"), (2, "LOG"), (4, "SPEC_ALLOW"), (8, "NEW_LISTENER"), (0x10, "TSYNC_ESRCH"),
    (0x20, "WAIT_KILLABLE_RECV"),
)  # fmt: skip
_INFINITY = (1 << 64) - 1
_FEW = 4  # missing capabilities, from which on a set is printed by the ones that it has


def flags(value: int, names: "tuple[tuple[int, str], ...]") -> str:
    """The names of the bits of `value`."""
    return "|".join(name for bit, name in names if value & bit)


def attributes(set_: int, clear: int = 0) -> str:
    """Mount attributes that are set, and after a minus sign those that are cleared."""
    parts = []
    if set_:
        parts.append(flags(set_, _ATTRIBUTES))
    if clear & ~_ATIME:
        parts.append("-" + flags(clear & ~_ATIME, _ATTRIBUTES))
    return " ".join(parts)


def propagation(kind: int) -> str:
    """A propagation type of mount_setattr(2)."""
    return _PROPAGATION[kind]


def capabilities(mask: int) -> str:
    """A set of capabilities as its names, or as what is missing from the full one."""
    names = [name.removeprefix("CAP_") for name, bit in CAPABILITIES.items() if mask >> bit & 1]
    missing = [name.removeprefix("CAP_") for name, bit in CAPABILITIES.items() if not mask >> bit & 1]
    if not names:
        return "none"
    if len(missing) < _FEW:
        return "all" + (f" but {','.join(missing)}" if missing else "")
    return ",".join(names)


def limit(value: int) -> str:
    """A resource limit of prlimit(2)."""
    return "infinity" if value == _INFINITY else str(value)


def filter_size(instructions: int, seccomp_flags: int) -> str:
    """A seccomp filter by its size and the flags of seccomp(2)."""
    names = flags(seccomp_flags, _SECCOMP_FLAGS)
    return f"{instructions} instructions" + (f"  {names}" if names else "")
