"""Whether an image has the shape of the container that config.json describes. Pure.

An image is not trusted more than a root filesystem. Restored processes must have at most the power that a program
started from config.json could have gained, and at least its confinement. This module checks what the image asks for,
before CRIU starts. `restored` checks what the kernel has made of it, before a restored process runs.

Programs may have dropped privileges, changed their user, loaded filters, and made namespaces and mounts. A program
with CAP_SYS_ADMIN may also have unmounted what config.json mounts.
"""

from pyoci.compiler.mount_options import CONFINING, NODEV, NOEXEC, NOSUID, RDONLY, Mount
from pyoci.compiler.namespaces import Namespaces
from pyoci.compiler.paths import clean
from pyoci.compiler.process import of_config
from pyoci.compiler.seccomp import compile_filter
from pyoci.config.constants import RLIMITS
from pyoci.config.text import printable
from pyoci.criu import images, propagation
from pyoci.criu.credentials import Allowance
from pyoci.criu.images import SECCOMP_MODE_FILTER, root_mount
from pyoci.criu.unsupported import HARMLESS_FILESYSTEMS, KERNEL_FILESYSTEMS
from pyoci.errors import ConfigError, Problem
from pyoci.linux import CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN, CAP_SYS_NICE, CAP_SYS_RESOURCE, CAP_SYSLOG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyoci.compiler.facts import Host
    from pyoci.criu.images import Image, Task, Thread
    from pyoci.criu.images import Mount as ImageMount
    from pyoci.types import Config

MAX_PROBLEMS = 20

_CONFIG_TYPES = {"cgroup": ("cgroup", "cgroup2"), "cgroup2": ("cgroup", "cgroup2")}
# Files that programs open only with a capability, or with CAP_SYS_ADMIN.
_PRIVILEGED = {
    images.PACKET_SOCKET: (CAP_NET_RAW, "a packet socket"),
    images.FANOTIFY: (CAP_SYS_ADMIN, "a fanotify group"),
    images.TUN: (CAP_NET_ADMIN, "a TUN device"),
    images.BPF_MAP: (CAP_BPF, "a BPF map"),
}
_REALTIME = {1: "SCHED_FIFO", 2: "SCHED_RR", 6: "SCHED_DEADLINE"}
_EXTERNAL_NAMESPACES = ("network", "pid")  # those whose images say that they come from outside


def check(image: "Image", config: "Config", host: "Host", *, lsm_profile: str = "", shell_job: bool = False) -> None:
    """Raise ConfigError with every reason not to restore the image as the container of this config.

    `lsm_profile` is the option --lsm-profile, which replaces the labels in the image. With `shell_job` the image may
    have a terminal of the caller. The compiler of the restore checks the external mounts itself.
    """
    found: list[Problem] = []
    for where, message in Shape(image, config, host, lsm_profile, shell_job=shell_job).problems():
        found.append(Problem(where, f"cannot restore the container: {message}"))
        if len(found) == MAX_PROBLEMS:
            break
    if found:
        raise ConfigError(found, command="")


def unrestorable(image: "Image") -> "Iterator[tuple[str, str]]":
    """Yield the reasons not to restore an image as any container: the JSON pointer that is concerned, and a text."""
    for task in image.tasks:
        # A process may have made namespaces, but never gets the host's.
        for kind, number in task.namespaces.items():
            same = image.init.namespaces[kind]
            if number != same and (kind in ("user", "pid") or number == image.host[kind]):
                yield "/linux/namespaces", f"{_name(task)} has another {kind} namespace than init"
    if image.has_policies:
        yield "/process/apparmorProfile", "the image has AppArmor policies, which CRIU would load on the host"
    root = root_mount(image.init_mounts) if image.init_mounts else None
    known = [mount for mount in image.init_mounts if mount.key or mount is root]
    mounts = [mount for each in image.mounts.values() for mount in each]
    beside = propagation.find(mounts, root, [mount for mount in mounts if mount.key])
    if beside:
        yield "/mounts", f"CRIU can't restore the propagation of {propagation.show(beside)}"
    for mount in mounts:
        if mount.key:
            continue  # the restore has a source for it, or fails
        if not _is_plain(mount.root):
            yield "/mounts", f"the image has {printable(mount.root)} at {printable(mount.point)}"
        if mount is root or mount.type in HARMLESS_FILESYSTEMS or mount.type in KERNEL_FILESYSTEMS:
            continue  # CRIU takes the container's root filesystem for `root`
        if not any(_shows(other, mount) for other in known):
            yield "/mounts", f"the image has a filesystem at {printable(mount.point)} that pyoci does not restore"


def _shows(other: "ImageMount", mount: "ImageMount") -> bool:
    """Whether CRIU can only bind `mount`: it shows a part of `other`, which comes from outside."""
    return (
        (other.device, other.type) == (mount.device, mount.type)
        and is_below(mount.root, other.root)
        # CRIU does not know how to mount an unsupported filesystem
        and (mount.type == "unsupported" or (other.source, other.options) == (mount.source, mount.options))
    )


class Shape:
    """An image beside a config. `problems` compares them."""

    def __init__(self, image: "Image", config: "Config", host: "Host", lsm_profile: str, *, shell_job: bool) -> None:
        self.image = image
        self.config = config
        self.linux = config.get("linux", {})
        self.process = of_config(config)
        self.namespaces = Namespaces(self.linux, host.kernel)
        self.allowance = Allowance(config, lsm_profile)
        self.may = self.allowance.may
        self.shell_job = shell_job
        seccomp = self.linux.get("seccomp")
        self.filter = compile_filter(seccomp, host.arch).program if seccomp else b""

    def problems(self) -> "Iterator[tuple[str, str]]":
        """Yield the JSON pointer and the text of each reason not to restore."""
        yield from self._namespaces()
        yield from self._id_maps()
        for task in self.image.tasks:
            if task.is_dead:
                continue
            yield from self._limits(task)
            for thread in task.threads:
                who = _name(task, thread)
                yield from self._credentials(who, thread)
                yield from self._seccomp(who, thread)
        yield from unrestorable(self.image)
        yield from self._files()
        for mounts in self.image.mounts.values():
            yield from self._mounts(mounts)
        if "mount" in self.namespaces.new and self.image.init_mounts and not self.may(CAP_SYS_ADMIN):
            yield from self._mount_attributes(self.image.init_mounts)
        yield from self._terminal()

    # --- namespaces

    def _namespaces(self) -> "Iterator[tuple[str, str]]":
        """Compare init's namespaces. An id of the host's means that CRIU leaves init in the runtime's namespace."""
        own = {kind for kind, number in self.image.init.namespaces.items() if number != self.image.host[kind]}
        for kind in self.namespaces.new:
            if kind not in own:
                yield self.namespaces.where[kind], f"the image has no {kind} namespace"
            elif self._external(kind):
                yield self.namespaces.where[kind], f"the image has a {kind} namespace from outside"
        for kind in self.namespaces.joined:
            if kind in _EXTERNAL_NAMESPACES and kind in own and not self._external(kind):
                yield self.namespaces.where[kind], f"the image has a {kind} namespace of its own"
        for kind in sorted(
            own - self.namespaces.where.keys() - {"time"}
        ):  # CRIU restores into a new one, for its clocks
            yield "/linux/namespaces", f"the image has a {kind} namespace of its own"

    def _external(self, kind: str) -> bool:
        return bool(self.image.external.get((kind, self.image.init.namespaces[kind])))

    def _id_maps(self) -> "Iterator[tuple[str, str]]":
        if "user" not in self.namespaces.new:
            return
        found = self.image.id_maps.get(self.image.init.namespaces.get("user", -1))
        if found is None:
            return  # no user namespace, which `_namespaces` reports
        wanted_uids, wanted_gids = self.linux.get("uidMappings", []), self.linux.get("gidMappings", [])
        for name, maps, wanted in (("uid", found.uids, wanted_uids), ("gid", found.gids, wanted_gids)):
            if sorted(maps) != sorted((each["containerID"], each["hostID"], each["size"]) for each in wanted):
                yield f"/linux/{name}Mappings", f"the image has other {name} mappings"

    # --- processes

    def _credentials(self, who: str, thread: "Thread") -> "Iterator[tuple[str, str]]":
        has = thread.credentials
        for where, what in (*self.allowance.excess(has), *self.allowance.foreign_label(has.label, self.image.lsm)):
            yield where, f"{who} {what}"
        wanted = self.process.get("selinuxLabel")
        if wanted and has.socket_label not in ("", wanted):
            yield "/process/selinuxLabel", f"{who} gives new sockets the label {printable(has.socket_label)}"
        realtime = _REALTIME.get(thread.policy)
        if (
            realtime
            and not self._may_on_host(CAP_SYS_NICE)
            and self.process.get("scheduler", {}).get("policy") != realtime
        ):
            yield "/process/scheduler", f"{who} has the scheduling policy {realtime}"

    def _seccomp(self, who: str, thread: "Thread") -> "Iterator[tuple[str, str]]":
        if not self.filter:
            return
        if thread.mode != SECCOMP_MODE_FILTER:
            yield "/linux/seccomp", f"{who} has no seccomp filter"
        elif all(each.program != self.filter for each in self.image.chain(thread)):
            yield "/linux/seccomp", f"{who} has another seccomp filter (restore with the runtime that made the image)"

    def _limits(self, task: "Task") -> "Iterator[tuple[str, str]]":
        """Compare limits that only CAP_SYS_RESOURCE of the host raises."""
        if self._may_on_host(CAP_SYS_RESOURCE):
            return
        for index, limit in enumerate(self.process.get("rlimits", ())):
            resource = RLIMITS[limit["type"]]
            if resource < len(task.rlimits) and task.rlimits[resource][1] > limit["hard"]:
                yield f"/process/rlimits/{index}", f"{_name(task)} has a higher {limit['type']}"
        wanted, found = self.process.get("oomScoreAdj"), task.oom_score_adj
        if wanted is not None and found is not None and found < wanted:
            yield "/process/oomScoreAdj", f"{_name(task)} has the OOM score adjustment {found}"

    def _may_on_host(self, capability: int) -> bool:
        """Whether a program could use the capability for what the kernel allows in the initial user namespace only."""
        return self.may(capability) and not self.namespaces.own_user

    def _terminal(self) -> "Iterator[tuple[str, str]]":
        wanted, found = bool(self.process.get("terminal")), self.image.has_terminal()
        if wanted and not found:
            yield "/process/terminal", "the image has no terminal"
        elif found and not wanted and not self.shell_job:
            yield "/process/terminal", "the image has a terminal (pass --shell-job if it is the caller's)"

    def _files(self) -> "Iterator[tuple[str, str]]":
        """Find open files that no program could have opened. CRIU opens them with the runtime's privileges."""
        procfs = {mount.id for mounts in self.image.mounts.values() for mount in mounts if mount.type == "proc"}
        for file in self.image.files:
            needed, what = _PRIVILEGED.get(file.type, (None, ""))
            if file.is_raw:
                needed, what = CAP_NET_RAW, "a raw socket"
            elif file.mount in procfs and file.path.endswith("/kmsg"):
                needed, what = CAP_SYSLOG, "the log of the kernel"
            if needed is not None and not self.may(needed) and not self.may(CAP_SYS_ADMIN):
                yield "/process/capabilities/bounding", f"the image has {what} open, which no program could have opened"

    # --- mounts

    def _mounts(self, mounts: "list[ImageMount]") -> "Iterator[tuple[str, str]]":
        """Check each mount of a kernel filesystem that CRIU would make. `unrestorable` checks the others."""
        for mount in mounts:
            if not mount.key and mount.type in KERNEL_FILESYSTEMS and not self._explains(mount, mounts):
                yield "/mounts", f"the image has another {mount.type} at {printable(mount.point)}"

    def _explains(self, mount: "ImageMount", mounts: "list[ImageMount]") -> bool:
        """Whether config.json mounts such a filesystem there, or the mount covers a part of one with itself.

        Elsewhere, the paths that config.json masks would be visible. A program that may mount can do that anyway.
        """
        if self.may(CAP_SYS_ADMIN):
            return True
        if mount.root == "/" or mount.type in ("cgroup", "cgroup2"):
            types = _CONFIG_TYPES.get(mount.type, (mount.type,))
            return any(
                entry.get("type") in types and is_below(mount.point, clean(entry["destination"]))
                for entry in self.config.get("mounts", ())
            )
        return any(
            other.device == mount.device
            and other.root == "/"
            and mount.point == f"{other.point.rstrip('/')}{mount.root}"
            for other in mounts
        )

    def _mount_attributes(self, mounts: "list[ImageMount]") -> "Iterator[tuple[str, str]]":
        """Compare the attributes that confine programs which can't change them."""
        if self.config.get("root", {}).get("readonly") and not root_mount(mounts).flags & RDONLY:
            yield "/root/readonly", "the image has a writable root filesystem"
        points = {mount.point: mount for mount in mounts}
        for index, entry in enumerate(self.config.get("mounts", ())):
            wanted = Mount(entry, index)
            found = points.get(wanted.destination)
            if found is None or wanted.remount:
                continue  # a destination may be a link: `restored` resolves it
            lacking = (wanted.attr_set | wanted.recursive_set) & ~(found.flags | found.sb_flags & RDONLY)
            if lacking & _ALL_CONFINING:
                yield f"{wanted.where}/options", f"the image has this mount without {attributes(lacking)}"
        for index, path in enumerate(self.linux.get("readonlyPaths", ())):
            found = points.get(clean(path))
            if found is not None and not found.flags & RDONLY:
                yield f"/linux/readonlyPaths/{index}", "the image has this path writable"


_ALL_CONFINING = RDONLY | NOSUID | NODEV | NOEXEC


def is_below(path: str, directory: str) -> bool:
    """Whether an absolute path is the directory or in it."""
    return path == directory or directory == "/" or path.startswith(directory + "/")


def _is_plain(path: str) -> bool:
    """Whether a path is one as the kernel writes it: absolute, and every component is a name."""
    return path == "/" or (path[:1] == "/" and not {"", ".", ".."} & {*path[1:].split("/")})


def attributes(bits: int) -> str:
    """Return the names of the confining mount attributes among these."""
    return ", ".join(name for bit, name in CONFINING.items() if bits & bit)


def _name(task: "Task", thread: "Thread | None" = None) -> str:
    process = f"process {task.pid} ({printable(task.name)})"
    if thread is None or thread.id == task.pid:
        return process
    return f"thread {thread.id} of {process}"


__all__ = ["check"]
