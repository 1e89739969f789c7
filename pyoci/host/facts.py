"""Facts about this host that plans depend on, probed when they are asked for."""

import fcntl
import posix

from pyoci import _native
from pyoci.cgroups import hierarchy
from pyoci.compiler.create import Host
from pyoci.config.constants import RLIMITS
from pyoci.errors import CgroupError
from pyoci.host import files

_WHOLE_RANGE = b"0 0 4294967295"
_NS_GET_USERNS = 0xB701


def probe(*, as_root: bool = False) -> Host:
    """The facts, read from /proc. Works without privileges; `as_root`: for a runtime that has all that can be had."""
    uid_map = b" ".join(files.read("/proc/self/uid_map").split())
    system = posix.uname()
    return Host(
        system.machine,
        _cgroup_mount(),
        capabilities=grantable_capabilities(as_root=as_root),
        uid=0 if as_root else posix.geteuid(),
        gid=0 if as_root else posix.getegid(),
        user_namespace=uid_map != _WHOLE_RANGE,
        setgroups=may_set_groups("self"),
        apparmor=_flag("/sys/module/apparmor/parameters/enabled", b"Y"),
        selinux=files.exists("/sys/fs/selinux/enforce"),
        open_files=_native.getrlimit(RLIMITS["RLIMIT_NOFILE"]),
        user_manager=not as_root and _has_user_manager(in_namespace=uid_map != _WHOLE_RANGE),
        kernel=kernel_version(system.release),
        owns_pids=uid_map == _WHOLE_RANGE or _owns_pids(),
    )


def _owns_pids() -> bool:
    """Whether this process' user namespace owns its pid namespace (ioctl_nsfs(2))."""
    pids = posix.open("/proc/self/ns/pid", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        owner = fcntl.ioctl(pids, _NS_GET_USERNS)
    except OSError:
        return False  # the owner is neither this user namespace nor one below it
    finally:
        posix.close(pids)
    its, ours = posix.fstat(owner), posix.stat("/proc/self/ns/user")
    posix.close(owner)
    return (its.st_dev, its.st_ino) == (ours.st_dev, ours.st_ino)


def kernel_version(release: str) -> "tuple[int, int]":
    """Major and minor version, as in `6.12.9-amd64` or `6.12-rc3`; (0, 0) for a release that has none."""
    major, _, rest = release.partition(".")
    minor = rest[: next((n for n, character in enumerate(rest) if not character.isdigit()), len(rest))]
    return (int(major), int(minor)) if major.isdigit() and minor else (0, 0)


def _has_user_manager(*, in_namespace: bool) -> bool:
    """Whether the systemd to ask is the user's: for whoever is not root, and for root in a user namespace of such a
    one's, whom only the environment tells from root in a machine's."""
    environment = posix.environ
    session = environment.get(b"XDG_RUNTIME_DIR") or environment.get(b"DBUS_SESSION_BUS_ADDRESS")
    return posix.geteuid() != 0 or bool(in_namespace and session)


def _cgroup_mount() -> str:
    """Where cgroup v2 is mounted, "" if it is not: an error only for a container that gets a cgroup."""
    try:
        return hierarchy.find_mount()
    except CgroupError:
        return ""


def grantable_capabilities(*, as_root: bool = False) -> int:
    """The capabilities that a child can be given: permitted, and not dropped from the bounding set."""
    sets = {}
    for line in files.read("/proc/self/status").split(b"\n"):
        if line.startswith(b"Cap"):
            name, _, value = line.partition(b":")
            sets[name] = int(value.strip(), 16)
    return sets[b"CapBnd"] if as_root else sets[b"CapPrm"] & sets[b"CapBnd"]


def may_set_groups(pid: "int | str") -> bool:
    """Whether the user namespace of a process lets it, in principle, set its groups."""
    try:
        return files.read(f"/proc/{pid}/setgroups").strip() != b"deny"
    except OSError:
        return True  # a kernel without user namespaces


def _flag(path: str, value: bytes) -> bool:
    try:
        return files.read(path).strip() == value
    except OSError:
        return False
