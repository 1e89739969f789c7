"""From a config and the images of a checkpoint to the plan of the process that becomes CRIU, and CRIU's request.

The plan has one child. It enters the container's cgroup as init does, so that everything CRIU does counts for the
container, and ends with it. In a mount namespace of its own it brings together what CRIU restores mounts from. Nothing
of that shows on the host, and nothing is left when the process ends.

CRIU sets up namespaces, mounts and processes from the images. The points of the plan, which create reaches with its
child, come with CRIU's notifications.
"""

from pyoci.compiler import cgroup, hooks, mounts, process, rootfs, seccomp, verbs
from pyoci.compiler import namespaces as kinds
from pyoci.compiler.create import raise_fd_limit, rootfs_path
from pyoci.compiler.dump import ENVIRONMENT, EXTERNAL_NAMESPACES, LOG_LEVEL, common
from pyoci.compiler.mount_options import SLAVE
from pyoci.compiler.operations import Part, Plan, Slots
from pyoci.compiler.sources import ACTION, DIRECTORY, ROOT, YARD, Sources, bring_sources
from pyoci.compiler.verbs.numbers import (
    CGROUP,
    CONSOLE,
    CREATED,
    CRIU_INPUT,
    FIRST_SLOT,
    HOOKS,
    INIT,
    NET_DEVICES,
    READY,
    RPC,
    STDIN,
)
from pyoci.criu import rpc
from pyoci.errors import PyociError
from pyoci.linux import CLONE_NEWNS, SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyoci.compiler.facts import Host, Options
    from pyoci.compiler.namespaces import Namespaces
    from pyoci.compiler.verbs import ChildOp, ParentOp
    from pyoci.criu.images import Image
    from pyoci.criu.rpc import Options as CriuOptions
    from pyoci.request import RestoreRequest
    from pyoci.types import Config

RESTORE_LOG = "restore.log"
# Descriptors of CRIU, after its own standard streams: the socket, the runtime's standard streams, namespaces.
RPC_FD = RPC - CRIU_INPUT
_FIRST_STREAM = STDIN - CRIU_INPUT
_FIRST_NAMESPACE = FIRST_SLOT - CRIU_INPUT
IMAGES = "images"  # the images for root of a user namespace, below DIRECTORY
# The points of the plan at CRIU's notifications.
NOTIFICATIONS = {
    rpc.SETUP_NAMESPACES: (INIT, NET_DEVICES, HOOKS),
    rpc.ORPHAN_PTS_MASTER: (CONSOLE,),
    rpc.POST_RESTORE: (READY,),
    rpc.PRE_RESUME: (CREATED,),
}
_STANDARD_STREAMS = 3
# The first with MOVE_MOUNT_SET_GROUP. Without it CRIU mounts as before version 3.17, through links of the container.
_MIN_KERNEL = (5, 15)
_REPLACED = ("pipe:[", "socket:[", "file[")  # CRIU's names of files from outside the container
# CRIU's names for the namespaces that it joins by path.
_JOINED = {"uts": "uts", "ipc": "ipc", "time": "time", "user": "user"}


class RestorePlan:
    """The plan of the process that becomes CRIU.

    `plan`             its operations, and the runtime's, with those at CRIU's notifications in `at`
    `options`          CRIU's request, without descriptors of directories and standard streams
    `manages_cgroups`  whether CRIU moves processes to cgroups; then its option `cg_root` is the container's cgroup
    """

    __slots__ = ("manages_cgroups", "options", "plan")

    def __init__(self, plan: Plan, options: "CriuOptions", *, manages_cgroups: bool) -> None:
        self.plan = plan
        self.options = options
        self.manages_cgroups = manages_cgroups

    @property
    def request(self) -> rpc.Request:
        """The request as far as it is known now."""
        return rpc.Request(rpc.RESTORE, self.options)


def compile_restore(
    config: "Config",
    host: "Host",
    options: "Options",
    images: "Image",
    request: "RestoreRequest",
    program: str,
    *,
    directories: "Sequence[tuple[str, str]]" = (),
    descriptors: "Sequence[str]" = (),
    places: "Mapping[str, str] | None" = None,
) -> RestorePlan:
    """Return the plan and the request for `restore` by the CRIU at `program`.

    `directories`: the image directory and its parents: where each is relative to the others, and a path of it.
    `descriptors`: what the container's standard streams were when it was dumped.
    `places`: the mount point of each destination in the config that leads through symlinks of the root filesystem.
    Raises PyociError if this host can't apply the config, or if the images are not those of such a container.
    """
    linux, slots = config.get("linux", {}), Slots()
    namespaces = kinds.Namespaces(linux, host.kernel)
    _check(namespaces, program, host.kernel)
    process.check_labels(process.of_config(config), linux.get("mountLabel", ""), host)
    joins = _Joins(namespaces, slots)
    mounted = _compile_mounts(config, host, options, slots, joins)
    tmpfs = slots.new()
    sources = Sources(config, host, slots, mounted, rootfs_path(config, options), places or {})
    brought = bring_sources(sources, images, tmpfs)
    directories = directories or [("checkpoint", request.image_path)]
    open_images, share_images = _share_images(namespaces, slots, tmpfs, directories)
    manages_cgroups = _manages_cgroups(namespaces, images, request)
    cgroups = [] if manages_cgroups else list(kinds.cgroup_namespace(namespaces))
    asking, limits = _cgroup(config, host, options, cgroups)
    raised = raise_fd_limit(slots.count, host, options)
    plan = Plan()
    for part in (
        raised,
        rootfs.open_rootfs(rootfs_path(config, options)),
        Part(before=joins.opening, opening=[*open_images, *brought.opening], alongside=[verbs.RecordProcess()]),
        asking,
        limits,
        _resource_group(config, options),
        Part(before=[verbs.ProtectStdio()], alongside=[verbs.SaveExecSettings()]),
        Part(at=_points(config, options, namespaces)),
    ):
        plan.add(part)
    plan.init = [
        verbs.SetPdeathsig(signal=SIGKILL),
        *_keyring(config, options),
        *_mount_namespace(namespaces.where["mount"], tmpfs),
        *share_images,
        *brought.child,
        *joins.bring(tmpfs),
        *asking.child,
        *raised.child,
        verbs.ResetAffinity(),
        *_inherited(config),
        *_execute(program, joins),
    ]
    _keep_for_later(plan, config, host)
    plan.no_cgroup = options.no_cgroup if options.cgroup_manager == "disabled" else ""
    plan.slots = slots.count
    plan.becomes_criu = True
    asked = _request(request, joins, brought.external, manages_cgroups=manages_cgroups)
    asked |= _from_host(namespaces, joins, descriptors, directories[0][0])
    return RestorePlan(plan, asked, manages_cgroups=manages_cgroups)


def _compile_mounts(
    config: "Config", host: "Host", options: "Options", slots: Slots, joins: "_Joins"
) -> "mounts.CompiledMounts":
    """Compile the mounts of the config as create does. The runtime opens their sources, and CRIU mounts them."""
    return mounts.compile_mounts(
        config,
        slots,
        bundle=options.bundle,
        cgroup_mount=host.cgroup_mount,
        kernel=host.kernel,
        joined_users=joins.slots.get("user", 0),
        notify=options.notify if process.of_config(config) else "",
    )


def _keep_for_later(plan: Plan, config: "Config", host: "Host") -> None:
    """Add what `delete` and `exec` need. The images are of a program that has started, so no poststart hooks run."""
    profile = config.get("linux", {}).get("seccomp")
    plan.poststop = hooks.host_hooks(config, "poststop")
    plan.filter = seccomp.compile_filter(profile, host.arch) if profile else None


def _keyring(config: "Config", options: "Options") -> "Iterator[ChildOp]":
    """Join a new session keyring, which CRIU and the processes that it makes inherit. Images have no keyrings."""
    if not options.new_keyring:
        return
    program = process.of_config(config)
    yield from process.early_keyring(program)
    if program.get("selinuxLabel"):
        yield verbs.OpenProc("/process/selinuxLabel", path="", visible=False)
        yield from process.labelled_keyring(program)


def _inherited(config: "Config") -> "Iterator[ChildOp]":
    """Set what images lack, and processes inherit from CRIU: the memory policy and the I/O priority."""
    policy = config.get("linux", {}).get("memoryPolicy")
    if policy:
        from pyoci.compiler import memory_policy  # most containers have none

        yield memory_policy.set_memory_policy(policy)
    for op in process.priorities(process.of_config(config)):
        if isinstance(op, verbs.SetIoPriority):
            yield op


def _check(namespaces: "Namespaces", program: str, kernel: "tuple[int, int]") -> None:
    """Reject what CRIU can't restore. Raises PyociError."""
    if "mount" not in namespaces.new:
        where = namespaces.joined["mount"][1] if "mount" in namespaces.joined else "/linux/namespaces"
        raise PyociError(f"{ACTION}: CRIU restores no container without its own mount namespace", where=where)
    if "cgroup" in namespaces.joined:
        raise PyociError(f"{ACTION}: CRIU can't join a cgroup namespace", where=namespaces.joined["cgroup"][1])
    if "user" in namespaces.new:
        for kind, (_, where) in namespaces.joined.items():
            text = f"CRIU makes the user namespace first, from which it can't join a {kind} namespace"
            raise PyociError(f"{ACTION}: {text}", where=where)
    if kernel < _MIN_KERNEL:
        raise PyociError(f"{ACTION}: CRIU follows links of the container to the host before Linux 5.15")
    if f"{program}/".startswith(f"{DIRECTORY}/"):
        text = f"cannot run criu from {program}: it would not find itself in {DIRECTORY}, which restore covers for it"
        raise PyociError(text, hint="install it in another directory")


def _manages_cgroups(namespaces: "Namespaces", images: "Image", request: "RestoreRequest") -> bool:
    """Whether CRIU moves processes to their cgroups, and makes the cgroup namespace.

    By default all processes stay in CRIU's cgroup, which is the container's. CRIU must help if there were cgroups below
    it, and if the container's user namespace owns the cgroup namespace.
    """
    mode = request.options.manage_cgroups_mode
    needed = images.has_sub_cgroups or (namespaces.own_user and "cgroup" in namespaces.new)
    return mode != "ignore" if mode else needed


class _Joins:
    """The namespaces that the container joins by path. The runtime opens them.

    CRIU inherits those of network and pids as descriptors. It opens the others as files in its mount namespace.
    """

    __slots__ = ("_namespaces", "inherited", "opening", "slots")

    def __init__(self, namespaces: "Namespaces", slots: Slots) -> None:
        self._namespaces = namespaces
        self.inherited = [kind for kind in EXTERNAL_NAMESPACES if kind in namespaces.joined]
        # the first ones are inherited, in the order of their slots
        self.slots = {kind: slots.new() for kind in (*self.inherited, *(k for k in _JOINED if k in namespaces.joined))}
        self.opening: list[ParentOp] = [
            verbs.OpenNamespace(where, path=path, kind=kind, namespace=slot, flag=kinds.CLONE_FLAGS[kind])
            for kind, slot in self.slots.items()
            for path, where in (namespaces.joined[kind],)
        ]

    def bring(self, tmpfs: int) -> "list[ChildOp]":
        """Bring the files of namespaces to the tmpfs in slot `tmpfs`."""
        return [
            verbs.AddSource(where, source=path, name=f"{kind}-namespace", sources=tmpfs, tree=slot, clone=True)
            for kind, slot in self.slots.items()
            if kind in _JOINED
            for path, where in (self._namespaces.joined[kind],)
        ]

    def inherited_fds(self) -> "list[Mapping[str, str | int]]":
        """Return CRIU's names of the namespaces that it inherits, with its descriptors."""
        return [
            {"key": EXTERNAL_NAMESPACES[kind][1], "fd": _FIRST_NAMESPACE + n} for n, kind in enumerate(self.inherited)
        ]

    def options(self) -> "CriuOptions":
        """Return the options of CRIU."""
        options: CriuOptions = {}
        joined: list[Mapping[str, str | int]] = [
            {"ns": _JOINED[kind], "ns_file": f"{DIRECTORY}/{kind}-namespace"} for kind in self.slots if kind in _JOINED
        ]
        if joined:
            options["join_ns"] = joined
        return options


def _mount_namespace(where: str, tmpfs: int) -> "list[ChildOp]":
    """Make CRIU's mount namespace, whose mounts do not show on the host."""
    return [
        verbs.Unshare(where, kinds="mount", types=CLONE_NEWNS),
        verbs.SetPropagation(where, path="/", kind=SLAVE, recursive=True),
        verbs.MountSources(where, path=DIRECTORY, yard=YARD, sources=tmpfs),
    ]


def _execute(program: str, joins: _Joins) -> "list[ChildOp]":
    """Execute CRIU with the descriptors that it is to have.

    What it prints before it opens its log must not reach the streams of the container.
    """
    count = _FIRST_NAMESPACE + len(joins.inherited)
    return [
        verbs.SetUmask(umask=-1),
        verbs.ResetSignals(),
        verbs.NumberFds(first=CRIU_INPUT, count=count, number=0),
        verbs.CloseFds(first=count),
        verbs.ExecHost(path=program, argv=["criu", "swrk", str(RPC_FD)], envp=ENVIRONMENT),
    ]


def _cgroup(config: "Config", host: "Host", options: "Options", cgroups: "list[ChildOp]") -> "tuple[Part, Part]":
    """Return the parts that make the cgroup and that limit it. The limit of processes waits for CRIU.

    The device filter comes early, because the images decide which devices CRIU opens.
    `cgroups`: the child's operations once it is in the cgroup.
    """
    if options.cgroup_manager == "disabled":
        return Part(cgroups), cgroup.compile_disabled(config, options)
    if options.cgroup_manager == "systemd":
        unit = cgroup.compile_unit(config, host, options, opens_devices=False, clones_more=True)
        where = verbs.Sync("/linux/cgroupsPath", point=CGROUP)
        return Part([where, *cgroups], alongside=unit.asking), _given(config, unit.part)
    limits = cgroup.compile_cgroupfs(config, host, options, opens_devices=False)
    return Part(cgroups), _given(config, limits)


def _given(config: "Config", limits: Part) -> Part:
    """Give the cgroup to the container's user, too, if the config asks for it."""
    namespaces = {entry["type"] for entry in config.get("linux", {}).get("namespaces", ()) if not entry.get("path")}
    if "cgroup" in namespaces and mounts.has_writable_cgroup(config):
        given = cgroup.give_cgroup(config, mapped="user" in namespaces)
        limits.at = {**limits.at, READY: [*limits.at[READY], *given.at[READY]]}
    return limits


def _resource_group(config: "Config", options: "Options") -> Part:
    linux = config.get("linux", {})
    if "intelRdt" not in linux:
        return Part()
    from pyoci.compiler import intel_rdt

    made, join_group = intel_rdt.compile_rdt(linux["intelRdt"], options.container_id)
    return Part(before=made, alongside=[join_group])


def _points(config: "Config", options: "Options", namespaces: "Namespaces") -> "dict[int, list[ParentOp]]":
    """Return what the runtime does at the notifications of CRIU."""
    points: dict[int, list[ParentOp]] = {INIT: [verbs.RecordProcess()]}
    linux = config.get("linux", {})
    points[NET_DEVICES] = _network(namespaces)
    if linux.get("netDevices"):
        from pyoci.compiler import net_devices

        points[NET_DEVICES] += net_devices.move_net_devices(linux).at[NET_DEVICES]
    on_host = hooks.host_hooks(config, "prestart", "createRuntime")
    if on_host:
        points[HOOKS] = [verbs.FillHookState("/hooks"), *on_host]
    if process.of_config(config).get("terminal"):
        points[CONSOLE] = [verbs.SendConsole("/process/terminal")]
    points[READY] = [verbs.SendPidfd()] if options.pidfd_socket else []
    points[CREATED] = [verbs.Commit()]
    return points


def _streams(descriptors: "Sequence[str]") -> "list[Mapping[str, str | int]]":
    """Give the restored processes the standard streams of the runtime in place of those that they had.

    What CRIU dumped as a part of the container, such as its /dev/null, is not replaced.
    """
    streams = descriptors[:_STANDARD_STREAMS]
    return [{"key": key, "fd": _FIRST_STREAM + n} for n, key in enumerate(streams) if key.startswith(_REPLACED)]


def _share_images(
    namespaces: "Namespaces", slots: Slots, tmpfs: int, directories: "Sequence[tuple[str, str]]"
) -> "tuple[list[ParentOp], list[ChildOp]]":
    """Let root of a new user namespace read the images. Returns operations of the runtime and of the child."""
    if "user" not in namespaces.new:
        return [], []
    where = namespaces.where["user"]
    opening: list[ParentOp] = []
    child: list[ChildOp] = []
    for n, (place, path) in enumerate(directories):
        images, name = slots.new(), f"{IMAGES}-{n}"
        opening.append(verbs.OpenTree(where, path=path, tree=images))
        child += [
            verbs.StageTree(where, source=path, name=f"{name}-lower", sources=tmpfs, tree=images),
            verbs.ShareImages(
                where,
                name=f"{IMAGES}/{place}",
                upper=f"{DIRECTORY}/{name}-upper",
                work=f"{DIRECTORY}/{name}-work",
                sources=tmpfs,
                images=images,
            ),
        ]
    return opening, child


def _network(namespaces: "Namespaces") -> "list[ParentOp]":
    """Set up a new network namespace, which CRIU makes without devices, addresses and kernel parameters."""
    if "network" not in namespaces.new:
        return []
    written = [op for op in kinds.sysctl(namespaces.linux) if isinstance(op, verbs.WriteSysctl)]
    parameters = [
        (op.where, op.path.removeprefix("sys/"), op.value) for op in written if op.path.startswith("sys/net/")
    ]
    return [verbs.SetUpNetwork(namespaces.where["network"], parameters=tuple(parameters))]


def _request(
    request: "RestoreRequest", joins: _Joins, external: "list[str]", *, manages_cgroups: bool
) -> "CriuOptions":
    options: CriuOptions = {
        "log_level": LOG_LEVEL,
        "log_file": RESTORE_LOG,
        "root": f"{DIRECTORY}/{ROOT}",
        "rst_sibling": True,
        "notify_scripts": True,
        "orphan_pts_master": True,
        **common(request.options, soft=manages_cgroups),
        **joins.options(),
    }
    if external:
        options["external"] = external
    if manages_cgroups:
        options["cgroup_yard"] = f"{DIRECTORY}/{YARD}"
    for name in ("lsm_profile", "lsm_mount_context"):
        if getattr(request.options, name):
            options[name] = getattr(request.options, name)
    return options


def _from_host(
    namespaces: "Namespaces", joins: _Joins, descriptors: "Sequence[str]", images_place: str
) -> "CriuOptions":
    """Return CRIU's options for what the images lack or can't name: descriptors, shared images, the network."""
    options: CriuOptions = {}
    inherited = [*joins.inherited_fds(), *_streams(descriptors)]
    if inherited:
        options["inherit_fd"] = inherited
    if "user" in namespaces.new:
        options["images_dir"] = f"{DIRECTORY}/{IMAGES}/{images_place}"
    if "network" in namespaces.new:
        options["empty_ns"] = kinds.CLONE_FLAGS["network"]
    return options


__all__ = ["NOTIFICATIONS", "RESTORE_LOG", "RPC_FD", "RestorePlan", "compile_restore"]
