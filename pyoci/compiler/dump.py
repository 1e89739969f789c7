"""From a running container to CRIU's request for `checkpoint`. Pure.

What a container consists of comes from the kernel, not from config.json: mounts may have come and gone since create,
and the bundle may be another by now.
"""

from pyoci.compiler import verbs
from pyoci.compiler.operations import Plan
from pyoci.compiler.paths import SYSTEM_DIRECTORIES
from pyoci.compiler.verbs.numbers import CRIU_INPUT, FIRST_SLOT
from pyoci.criu import propagation, rpc
from pyoci.criu.unsupported import judge_mounts
from pyoci.errors import SetupError
from pyoci.linux import CLONE_NEWNET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from pyoci.criu.rpc import Options
    from pyoci.mountinfo import MountInfo
    from pyoci.request import CheckpointRequest, CriuOptions

DUMP_LOG = "dump.log"
# The names by which CRIU's images refer to joined namespaces are those of runc.
EXTERNAL_NAMESPACES = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}
LOG_LEVEL = 4  # debug: CRIU's log has the reasons for what it reports
# These filesystems show a namespace. If the container has its own, a mount that the host has too shows the host's.
_NAMESPACE_OF = {"proc": "pid", "sysfs": "net", "mqueue": "ipc"}


PROGRAM_FDS = 4  # CRIU's descriptors: three standard streams, and the socket of the conversation
ENVIRONMENT = (f"PATH={':'.join(SYSTEM_DIRECTORIES)}",)  # where CRIU looks for tar, ip and iptables-restore


class DumpPlan:
    """What `checkpoint` does: `plan` of the process that becomes CRIU, and CRIU's `request`."""

    __slots__ = ("plan", "request")

    def __init__(self, plan: Plan, request: rpc.Request) -> None:
        self.plan = plan
        self.request = request


class Dumped:
    """Facts about a container that is to be dumped.

    pid           of init
    mounts        init's
    host_devices  the devices ("major:minor") of the filesystems that the runtime has mounted
    host_groups   the peer groups in which the runtime has mounts
    shared        the namespaces that init shares with the runtime, by their names in /proc/PID/ns
    external      the inodes of namespaces that config.json joins by path, by their names in config.json
    freezer       the directory of the container's cgroup, "" if CRIU need not freeze it
    has_subgroups whether the container's cgroup has others below it
    files         CRIU's names of host files that are open as standard streams: "file[1b:2af]"
    has_iptables  whether CRIU can execute iptables-restore
    """

    __slots__ = (
        *("external", "files", "freezer", "has_iptables", "has_subgroups", "host_devices", "host_groups", "mounts"),
        *("pid", "shared"),
    )

    def __init__(
        self,
        pid: int,
        *,
        mounts: "list[MountInfo]",
        host_devices: "Collection[str]",
        host_groups: "Collection[int]" = (),
        shared: "Collection[str]" = (),
        external: "Mapping[str, int] | None" = None,
        freezer: str = "",
        has_subgroups: bool = False,
        files: "Iterable[str]" = (),
        has_iptables: bool = True,
    ) -> None:
        self.pid = pid
        self.mounts = mounts
        self.host_devices = host_devices
        self.host_groups = host_groups
        self.shared = shared
        self.external = external or {}
        self.freezer = freezer
        self.has_subgroups = has_subgroups
        self.files = files
        self.has_iptables = has_iptables


def compile_dump(
    dumped: Dumped, request: "CheckpointRequest", program: str = "criu", config_file: str = ""
) -> DumpPlan:
    """Return the plan, and the request without the descriptors of the image directory and the work directory.

    Raises SetupError if `restore` would reject the mounts of the container.
    """
    _check_mounts(dumped)
    return DumpPlan(_plan(program), _request(dumped, request, config_file))


def _check_mounts(dumped: Dumped) -> None:
    """Raise SetupError for mounts that `restore` rejects. The container would be lost."""
    points = external_mounts(dumped)
    for problem in judge_mounts(dumped.mounts, points):
        raise SetupError(f"cannot checkpoint the container: {problem}", hint="unmount it")
    root = next((mount for mount in reversed(dumped.mounts) if mount.point == "/"), None)
    external = [mount for mount in dumped.mounts if mount.point in points]
    found = propagation.find(dumped.mounts, root, external, dumped.host_groups)
    if found:
        text = f"CRIU can't restore the propagation of {propagation.show(found)}"
        raise SetupError(f"cannot checkpoint the container: {text}", hint=propagation.HINT)


def _plan(program: str) -> Plan:
    """Return the plan of the process that becomes CRIU. It does not end with the runtime: CRIU must undo what it did.

    An interrupt of the caller's terminal would do the same harm, so CRIU gets a session of its own.
    """
    plan = Plan()
    plan.becomes_criu = True
    plan.slots = FIRST_SLOT
    plan.init = [
        verbs.Setsid(),
        verbs.SetUmask(umask=0o077),  # images have the memory of the container
        verbs.ResetSignals(),
        verbs.NumberFds(first=CRIU_INPUT, count=PROGRAM_FDS, number=0),
        verbs.CloseFds(first=PROGRAM_FDS),
        verbs.ExecHost(path=program, argv=("criu", "swrk", str(PROGRAM_FDS - 1)), envp=ENVIRONMENT),
    ]
    return plan


def _request(dumped: Dumped, request: "CheckpointRequest", config_file: str) -> rpc.Request:
    options: Options = {
        "pid": dumped.pid,
        "log_level": LOG_LEVEL,
        "log_file": DUMP_LOG,
        "notify_scripts": True,
        "orphan_pts_master": True,
        "leave_running": request.leave_running or request.pre_dump,
        **common(request.options, soft=dumped.has_subgroups),
    }
    # By default CRIU runs iptables-restore to lock a network. It speaks to nftables without another program.
    if not dumped.has_iptables and not request.options.network_lock:
        options["network_lock"] = rpc.NETWORK_LOCKS["nftables"]
    if dumped.freezer:
        options["freeze_cgroup"] = dumped.freezer
    if "net" not in dumped.shared and "network" not in dumped.external:
        # Devices have their other end outside, and the hooks of an engine set the network up again. runc does the same
        # for every container, so --empty-ns changes nothing.
        options["empty_ns"] = CLONE_NEWNET
    external = [
        f"{name}[{dumped.external[kind]}]:{key}"
        for kind, (name, key) in EXTERNAL_NAMESPACES.items()
        if kind in dumped.external
    ]
    if not request.pre_dump:
        external += [f"mnt[{point}]:{point}" for point in external_mounts(dumped)]
        external += dumped.files
    if external:
        options["external"] = external
    if request.parent_path:
        options["parent_img"] = request.parent_path
    if request.pre_dump or request.parent_path:
        options["track_mem"] = True
    if request.page_server is not None:
        address, port = request.page_server
        options["ps"] = {"address": address, "port": port}
    if request.status_fd is not None:
        options["status_fd"] = request.status_fd
    if config_file:
        options["config_file"] = config_file
    return rpc.Request(rpc.PRE_DUMP if request.pre_dump else rpc.DUMP, options)


def common(given: "CriuOptions", *, soft: bool) -> "Options":
    """Return CRIU's options that checkpoint and restore share.

    `soft`: whether CRIU takes care of the cgroups below the container's, unless the caller wants something else. If
    not, every process stays in the container's cgroup. CRIU would also dump the host's cgroups of version 1.
    """
    mode = given.manage_cgroups_mode or ("soft" if soft else "ignore")
    options: Options = {"manage_cgroups": mode != "ignore", "manage_cgroups_mode": rpc.CGROUP_MODES[mode]}
    for name in (
        *("tcp_established", "tcp_skip_in_flight", "tcp_close", "ext_unix_sk", "shell_job", "file_locks"),
        *("link_remap", "auto_dedup", "lazy_pages"),
    ):
        if getattr(given, name):
            options[name] = True
    if given.network_lock:
        options["network_lock"] = rpc.NETWORK_LOCKS[given.network_lock]
    return options


def external_mounts(dumped: Dumped) -> "list[str]":
    """Return the mount points of mounts that show a filesystem of the host, without the root filesystem.

    CRIU dumps the content of each other filesystem, or mounts it again.
    """
    points: dict[str, None] = {}
    inside = [mount for mount in dumped.mounts if mount.point == "/"][-1:]
    left = [mount for mount in dumped.mounts if mount.point != "/"]
    for mount in left:
        # CRIU mounts a cgroup2 filesystem again, at the cgroup of the namespace's root
        if mount.type == "cgroup2" or (mount.root == "/" and not _is_from_host(mount, dumped)):
            inside.append(mount)
    for mount in left:
        if mount not in inside and not any(shows(other, mount) for other in inside):
            points[mount.point] = None
    return list(points)


def _is_from_host(mount: "MountInfo", dumped: Dumped) -> bool:
    """Whether the host has mounted the filesystem, and the container can't mount it as its own."""
    return mount.device in dumped.host_devices and _NAMESPACE_OF.get(mount.type, "") not in dumped.shared


def shows(other: "MountInfo", mount: "MountInfo") -> bool:
    """Whether `other` shows everything that `mount` shows."""
    if other.device != mount.device:
        return False
    return other.root == "/" or mount.root == other.root or mount.root.startswith(other.root + "/")


__all__ = ["DumpPlan", "Dumped", "common", "compile_dump", "external_mounts", "shows"]
