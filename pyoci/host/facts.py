"""Facts about this host that plans depend on. Each command probes them anew."""

import fcntl
import posix

from pyoci import _native
from pyoci.cgroups import hierarchy
from pyoci.compiler.facts import Host
from pyoci.config.constants import RLIMITS
from pyoci.errors import CgroupError
from pyoci.host import files, kernel_mounts
from pyoci.host.processes import require_procfs
from pyoci.linux import CAP_SYS_ADMIN, CAP_SYS_CHROOT

_JOINS = 1 << CAP_SYS_ADMIN | 1 << CAP_SYS_CHROOT  # what joining a mount namespace requires (setns(2))
_ALL_IDS = b"0 0 4294967295"  # the uid_map of the initial user namespace


def probe(root: str = "", *, as_root: bool = False) -> Host:
    """Read the facts from /proc, without privileges.

    `root` is the state root of a create. `as_root` returns the facts for a runtime with every privilege.
    """
    in_namespace = not in_initial_user_namespace()
    system = posix.uname()
    capabilities = grantable_capabilities(as_root=as_root)
    return Host(
        system.machine,
        _cgroup_mount(),
        capabilities=capabilities,
        uid=0 if as_root else posix.geteuid(),
        gid=0 if as_root else posix.getegid(),
        user_namespace=in_namespace,
        setgroups=may_set_groups("self"),
        apparmor=_flag("/sys/module/apparmor/parameters/enabled", b"Y"),
        selinux=files.exists("/sys/fs/selinux/enforce"),
        open_files=_native.getrlimit(RLIMITS["RLIMIT_NOFILE"]),
        user_manager=not as_root and _has_user_manager(in_namespace=in_namespace),
        kernel=kernel_version(system.release),
        owns_pids=not in_namespace or _owns_pids(),
        kernel_mounts=kernel_mounts.find(root, as_root=as_root) if root and capabilities & _JOINS == _JOINS else "",
    )


def in_initial_user_namespace() -> bool:
    """Whether every id maps to itself. Without procfs, or with a kernel without user namespaces, that is assumed."""
    try:
        return b" ".join(_native.read_small("/proc/self/uid_map").split()) == _ALL_IDS
    except FileNotFoundError:
        return True


def _owns_pids() -> bool:
    """Whether this process's user namespace owns its pid namespace (ioctl_nsfs(2))."""
    pids = posix.open("/proc/self/ns/pid", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        owner = fcntl.ioctl(pids, _native.IOCTLS["NS_GET_USERNS"])
    except OSError:
        return False  # the owner is neither this user namespace nor a descendant of it
    finally:
        posix.close(pids)
    found, own = posix.fstat(owner), posix.stat("/proc/self/ns/user")
    posix.close(owner)
    return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)


def kernel_version(release: str) -> "tuple[int, int]":
    """Return the major and minor version in `6.12.9-amd64` or `6.12-rc3`; (0, 0) for a release of another form."""
    major, _, rest = release.partition(".")
    minor = rest[: next((n for n, character in enumerate(rest) if not character.isdigit()), len(rest))]
    return (int(major), int(minor)) if major.isdigit() and minor else (0, 0)


def _has_user_manager(*, in_namespace: bool) -> bool:
    """Whether the user's systemd manages this process's units, and not the system's.

    It does for every user but root, and for root in such a user's namespace. Only the environment distinguishes the
    latter from root of a system container.
    """
    environment = posix.environ
    session = environment.get(b"XDG_RUNTIME_DIR") or environment.get(b"DBUS_SESSION_BUS_ADDRESS")
    return posix.geteuid() != 0 or bool(in_namespace and session)


def _cgroup_mount() -> str:
    """Return the mount point of cgroup v2, "" if it is not mounted. Only containers with a cgroup need it."""
    try:
        return hierarchy.find_mount()
    except CgroupError:
        return ""


def grantable_capabilities(*, as_root: bool = False) -> int:
    """Return the capabilities that a child can get: those in the permitted set and in the bounding set.

    `as_root` returns those of root here. Without procfs, root is assumed to have all. Raises StateError.
    """
    try:
        status = files.read("/proc/self/status")
    except FileNotFoundError:
        if not as_root:
            require_procfs()
        from pyoci.compiler.process import ALL_CAPABILITIES

        return ALL_CAPABILITIES
    bounding = _capability_set(status, b"\nCapBnd:")
    return bounding if as_root else _capability_set(status, b"\nCapPrm:") & bounding


def _capability_set(status: bytes, name: bytes) -> int:
    start = status.index(name) + len(name)
    return int(status[start : status.index(b"\n", start)], 16)


def may_set_groups(pid: "int | str") -> bool:
    """Whether the user namespace of a process allows setgroups(2)."""
    try:
        return _native.read_small(f"/proc/{pid}/setgroups").strip() != b"deny"
    except OSError:
        return True  # a kernel without user namespaces


def _flag(path: str, value: bytes) -> bool:
    try:
        return files.exists(path) and files.read(path).strip() == value
    except OSError:
        return False
