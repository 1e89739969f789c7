"""Check what the kernel has made of an image, before a restored process runs an instruction of its own.

CRIU gives the processes their filters and credentials last, before it notifies the runtime with `pre-resume`. Until
the runtime answers, all of them are stopped. CRIU ignores a failure of this notification, so the caller has to kill
the container before it answers.
"""

import posix

from pyoci import _native
from pyoci.compiler.namespaces import Namespaces
from pyoci.compiler.paths import clean
from pyoci.config.constants import NAMESPACE_FILES
from pyoci.config.text import printable
from pyoci.criu import confinement
from pyoci.criu.confinement import Resolved, Thread
from pyoci.criu.credentials import Allowance
from pyoci.criu.shape import is_below
from pyoci.errors import SetupError, reason
from pyoci.host import files
from pyoci.host.processes import with_descendants
from pyoci.linux import CAP_SYS_ADMIN, O_PATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, S_IFCHR, S_IFMT
from pyoci.mountinfo import MountInfo, mount_of, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pyoci.criu.images import Image
    from pyoci.types import Config

_NAMESPACES = {kind: NAMESPACE_FILES[kind] for kind in sorted(NAMESPACE_FILES)}
_LABELS = ("attr/apparmor/current", "attr/current")
_MAX_FILE = 64 << 20  # bytes of a file in /proc
_NULL = posix.makedev(1, 3)
STANDARD_STREAMS = (0, 1, 2)


def check(
    pid: int,
    config: "Config",
    cgroup_path: str,
    image: "Image",
    *,
    rootfs: str,
    pids: "Collection[int]" = (),
    criu: int = -1,
    lsm_profile: str = "",
    inherited: "Collection[int]" = STANDARD_STREAMS,
) -> None:
    """Check init, whose pid is given, and every other process of the container.

    `cgroup_path`  the container's cgroup below the mount; "" without one
    `rootfs`       the path of the root filesystem
    `pids`         the processes in the cgroup, which may have left the tree below init
    `criu`         the pid of CRIU. A process of `pids` in its mount namespace is not the container's
    `lsm_profile`  the option --lsm-profile
    `inherited`    the runtime's descriptors that CRIU may have given to the container

    Raises SetupError for the first process that has more power or less confinement than config.json says.
    """
    try:
        others = _others(pids, criu) if pids else []
        for where, text in _Check(pid, config, cgroup_path, image, lsm_profile, inherited, rootfs).problems(
            rootfs, others
        ):
            raise SetupError(f"cannot restore the container: {text}", where=where)
    except OSError as error:
        text = f"cannot restore the container: cannot examine its processes: {reason(error.errno or 0)}"
        raise SetupError(text) from error


class _Check:
    def __init__(
        self,
        pid: int,
        config: "Config",
        cgroup_path: str,
        image: "Image",
        lsm_profile: str,
        inherited: "Collection[int]",
        rootfs: str,
    ) -> None:
        self.init = pid
        self.config = config
        self.cgroup_path = cgroup_path
        linux = config.get("linux", {})
        self.namespaces = Namespaces(linux, (0, 0))
        self.has_filter = bool(linux.get("seccomp"))
        self.allowance = Allowance(config, lsm_profile)
        process = config.get("process", {})
        self.lsm = "apparmor" if process.get("apparmorProfile") or lsm_profile.startswith("apparmor:") else ""
        self.lsm = "selinux" if process.get("selinuxLabel") or lsm_profile.startswith("selinux:") else self.lsm
        self.own = _native.namespaces("self", _NAMESPACES)
        self.inits = _native.namespaces(str(pid), _NAMESPACES)
        self.shared = {kind for kind, inode in self.inits.items() if inode == self.own[kind]}
        self.own_cgroups = files.read("/proc/self/cgroup")
        self.host_devices = {mount.device for mount in _mounts("self")}
        self.mounts: dict[int, list[MountInfo]] = {}  # by mount namespace
        self.mount_ids: set[int] = set()
        self.inherited = {_identity(f"/proc/self/fd/{fd}") for fd in inherited if files.exists(f"/proc/self/fd/{fd}")}
        inherited_filters = Thread(files.read("/proc/self/status")).filters or 0  # of a runtime in a container
        self.filters = {
            thread.id: inherited_filters + sum(1 for _ in image.chain(thread))
            for task in image.tasks
            for thread in task.threads
        }
        self.external = {mount.point for mounts in image.mounts.values() for mount in mounts if mount.key}
        self.known = _location(rootfs)
        self.uids = self.gids = [(0, 0, 1 << 32)]

    def problems(self, rootfs: str, others: "list[int]") -> "Iterator[tuple[str, str]]":
        """Yield the JSON pointer and the text of everything that is wrong."""
        if self.inits.keys() != self.own.keys():
            yield "", "its first process has ended"
            return
        paths = {kind: posix.stat(path).st_ino for kind, (path, _) in self.namespaces.joined.items()}
        yield from self._named(self.init, confinement.check_namespaces(self.inits, self.own, paths, self.namespaces))
        yield from self._id_maps()
        processes = list(with_descendants(self.init))
        processes += [pid for pid in others if pid not in processes]
        for pid in processes:
            yield from self._process(pid)
        for pid in processes:
            yield from self._files(pid)
        if "mount" in self.namespaces.new and not self.allowance.may(CAP_SYS_ADMIN):
            yield from self._confining_mounts(processes, rootfs)

    def _named(self, pid: int, problems: "Iterator[tuple[str, str]]") -> "Iterator[tuple[str, str]]":
        for where, text in problems:
            name = printable(files.read(f"/proc/{pid}/comm").decode("utf-8", "surrogateescape").rstrip("\n"))
            yield where, f"process {pid} ({name}) {text}"

    # --- processes

    def _id_maps(self) -> "Iterator[tuple[str, str]]":
        if "user" in self.shared:
            return
        self.uids = confinement.id_map(files.read(f"/proc/{self.init}/uid_map"))
        self.gids = confinement.id_map(files.read(f"/proc/{self.init}/gid_map"))
        if "user" in self.namespaces.new:
            linux = self.config.get("linux", {})
            uids, gids = linux.get("uidMappings", []), linux.get("gidMappings", [])
            yield from self._named(self.init, confinement.check_id_map("uid", self.uids, uids))
            yield from self._named(self.init, confinement.check_id_map("gid", self.gids, gids))

    def _process(self, pid: int) -> "Iterator[tuple[str, str]]":
        """Check the threads of a process, and the namespaces and the cgroup that it has unless it is dead."""
        lives = False
        for tid in posix.listdir(f"/proc/{pid}/task"):
            thread = Thread(files.read(f"/proc/{pid}/task/{tid}/status"), self._label(f"/proc/{pid}/task/{tid}"))
            if thread.is_dead:
                continue
            lives = True
            confinement.translated(thread.credentials, self.uids, self.gids)
            filters = self.filters.get(thread.id)
            found = confinement.check_thread(
                thread, self.allowance, lsm=self.lsm, filters=filters, has_filter=self.has_filter
            )
            yield from self._named(pid, found)
        if lives:
            yield from self._surroundings(pid)

    def _surroundings(self, pid: int) -> "Iterator[tuple[str, str]]":
        its = _native.namespaces(str(pid), _NAMESPACES)
        if pid != self.init:
            yield from self._named(pid, confinement.check_nested(its, self.inits, self.own))
        cgroup = files.read(f"/proc/{pid}/cgroup")
        yield from self._named(pid, confinement.check_cgroup(cgroup, self.own_cgroups, self.cgroup_path))
        mounts = its.get("mount", 0)
        if mounts != self.own["mount"] and mounts not in self.mounts:
            self.mounts[mounts] = _mounts(pid)
            self.mount_ids.update(mount.id for mount in self.mounts[mounts])
            if mounts == self.inits.get("mount"):
                external = [mount for mount in self.mounts[mounts] if mount.point in self.external]
                self.known += [(mount.device, mount.root) for mount in external]
            found = confinement.check_host_filesystems(self.mounts[mounts], self.host_devices, self.known, self.shared)
            yield from self._named(pid, found)

    def _label(self, thread: str) -> str:
        """Return the label of a thread; "" if config.json has none to compare it with."""
        for name in _LABELS if self.lsm == "apparmor" else _LABELS[1:] if self.lsm else ():
            try:
                label = files.read(f"{thread}/{name}").rstrip(b"\n\0").decode("utf-8", "surrogateescape")
            except FileNotFoundError:
                continue
            return label.rpartition(" (")[0] or label if self.lsm == "apparmor" else label
        return ""

    # --- files

    def _files(self, pid: int) -> "Iterator[tuple[str, str]]":
        """Check that directories and open files of a process are not the host's."""
        if "mount" in self.shared:
            return
        for name in ("root", "cwd", "exe"):
            fd = _open(f"/proc/{pid}/{name}")
            if fd < 0:
                continue  # a dead process
            try:
                mount = mount_of(files.read(f"/proc/self/fdinfo/{fd}"))
                foreign = mount not in self.mount_ids and not _is_internal(fd)
            finally:
                posix.close(fd)
            if foreign:
                yield from self._named(pid, iter([("/root/path", f"has its {name} outside the container")]))
        for number in _names(f"/proc/{pid}/fd"):
            link = f"/proc/{pid}/fd/{number}"
            target = posix.readlink(link)
            mount = mount_of(files.read(f"/proc/{pid}/fdinfo/{number}")) if target.startswith("/") else -1
            if not confinement.leads_to_host(target, self.own, self.shared, mount, self.mount_ids):
                continue
            if _identity(link) in self.inherited or _is_internal(link):
                continue
            text = f"has descriptor {number} open, which leads to {printable(target)} of the host"
            yield from self._named(pid, iter([("", text)]))

    # --- mounts

    def _confining_mounts(self, processes: "list[int]", rootfs: str) -> "Iterator[tuple[str, str]]":
        """Check mounts below the root directory of the container, which a process may have left with chroot(2)."""
        mounts = {mount.id: mount for mount in self.mounts[self.inits["mount"]]}
        expected = _identity(rootfs)
        for pid in processes:
            root = _open(f"/proc/{pid}/root")
            if root < 0:
                continue
            try:
                if _identity(root) != expected or mount_of(files.read(f"/proc/self/fdinfo/{root}")) not in mounts:
                    continue
                yield from self._named(self.init, confinement.check_mounts(self.config, _Root(root, mounts).resolve))
                return
            finally:
                posix.close(root)
        yield "/root/path", "every process has another root directory than the container's"


# --- reading


def _others(pids: "Collection[int]", criu: int) -> "list[int]":
    """Return the pids of processes outside CRIU's mount namespace, which every container leaves."""
    mount = {"mount": NAMESPACE_FILES["mount"]}
    its = _native.namespaces(str(criu), mount)
    return [pid for pid in pids if _native.namespaces(str(pid), mount) != its]


def _names(directory: str) -> "list[str]":
    """Return the entries of a directory in /proc, none if the process is dead."""
    try:
        return posix.listdir(directory)
    except FileNotFoundError:
        return []


def _mounts(pid: "int | str") -> "list[MountInfo]":
    return parse(files.read(f"/proc/{pid}/mountinfo", limit=_MAX_FILE).decode("utf-8", "surrogateescape"))


def _location(path: str) -> "list[tuple[str, str]]":
    """Return the device of a directory and its path in that filesystem; [] if no mount of the runtime shows it."""
    fd = posix.open(path, O_PATH | posix.O_CLOEXEC)
    try:
        number, path = mount_of(files.read(f"/proc/self/fdinfo/{fd}")), posix.readlink(f"/proc/self/fd/{fd}")
    finally:
        posix.close(fd)
    return [
        (mount.device, clean(f"{mount.root}/{path.removeprefix(mount.point)}"))
        for mount in _mounts("self")
        if mount.id == number and is_below(path, mount.point)
    ]


def _open(path: str) -> int:
    """Open what a link in /proc leads to; -1 if it leads nowhere."""
    try:
        return posix.open(path, O_PATH | posix.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _identity(path: "str | int") -> "tuple[int, int]":
    """Return what identifies a file."""
    status = posix.stat(path)
    return status.st_dev, status.st_ino


def _is_internal(path: "str | int") -> bool:
    """Whether a file is in the kernel's own mount of tmpfs, in which memfds and shared memory are."""
    fd = posix.memfd_create("pyoci")
    try:
        return posix.fstat(fd).st_dev == posix.stat(path).st_dev
    finally:
        posix.close(fd)


class _Root:
    """An open root directory, with the mounts below it by number. Paths never lead out of it."""

    def __init__(self, fd: int, mounts: "dict[int, MountInfo]") -> None:
        self._fd = fd
        self._mounts = mounts
        self._found: dict[str, tuple[MountInfo | None, bool] | None] = {}

    def resolve(self, path: str) -> "Resolved | None":
        """Resolve a path; return None if it does not exist."""
        path = confinement.relative(path)
        found = self._find(path)
        if found is None:
            return None
        outer = self._find(path.rpartition("/")[0] or ".") if path != "." else None
        return Resolved(found[0], outer[0] if outer else None, is_null=found[1])

    def _find(self, path: str) -> "tuple[MountInfo | None, bool] | None":
        """Return the mount of a path, and whether the path is /dev/null; None if it does not exist."""
        if path not in self._found:
            self._found[path] = self._look_up(path)
        return self._found[path]

    def _look_up(self, path: str) -> "tuple[MountInfo | None, bool] | None":
        flags, resolve = O_PATH | posix.O_CLOEXEC, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
        try:
            fd = _native.openat2(self._fd, path, flags, resolve=resolve)
        except OSError:
            return None
        try:
            status = posix.fstat(fd)
            is_null = status.st_mode & S_IFMT == S_IFCHR and status.st_rdev == _NULL
            return self._mounts.get(mount_of(files.read(f"/proc/self/fdinfo/{fd}"))), is_null
        finally:
            posix.close(fd)


__all__ = ["check"]
