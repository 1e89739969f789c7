"""From a config to a plan: the table of contents of a container.

`compile_container` is pure: config, facts about the host and the command's options in, operations out. It never looks
at the root filesystem. Read `_init` to see what happens inside a container, in order, and why in that order.
"""

from pyoci.cgroups import device_filter, resources
from pyoci.compiler import devices, hooks, mounts, namespaces, process, rootfs, seccomp, verbs
from pyoci.compiler.operations import Plan
from pyoci.compiler.paths import join
from pyoci.compiler.verbs.numbers import CGROUP, CREATED, HOST_PROC, ID_MAPS, INIT, LISTENER, READY
from pyoci.config.constants import RLIMITS
from pyoci.errors import ConfigError, Problem, PyociError
from pyoci.linux import CAP_SETGID, SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyoci.cgroups.resources import Write
    from pyoci.compiler.verbs import ChildOp, ParentOp
    from pyoci.types import Config, Linux, Process, Resources


class Host:
    """Facts about this host that a plan depends on.

    `arch` is uname -m; `cgroup_mount` the cgroup v2 mount point ("" if there is none); `capabilities` the mask of
    what this process may grant; `uid` and `gid` its effective ids; `user_namespace` whether it runs in one, and
    `setgroups` whether that lets processes set their groups; `apparmor` and `selinux` whether the LSM is enabled;
    `open_files` the soft and hard limit on this process' descriptors; `user_manager` whether a unit is for the user's
    systemd to make, not for the system's; `kernel` is the major and minor version of Linux; `owns_pids` whether its
    user namespace owns its pid namespace, and so may mount a procfs.
    """

    __slots__ = (
        *("apparmor", "arch", "capabilities", "cgroup_mount", "gid", "kernel", "open_files", "owns_pids", "selinux"),
        *("setgroups", "uid", "user_manager", "user_namespace"),
    )

    def __init__(
        self,
        arch: str = "x86_64",
        cgroup_mount: str = "/sys/fs/cgroup",
        *,
        capabilities: int = (1 << 41) - 1,
        uid: int = 0,
        gid: int = 0,
        user_namespace: bool = False,
        setgroups: bool = True,
        apparmor: bool = False,
        selinux: bool = False,
        open_files: "tuple[int, int]" = (1024, 1 << 19),
        user_manager: bool = False,
        kernel: "tuple[int, int]" = (6, 18),
        owns_pids: bool = True,
    ) -> None:
        self.arch = arch
        self.cgroup_mount = cgroup_mount
        self.capabilities = capabilities
        self.uid = uid
        self.gid = gid
        self.user_namespace = user_namespace
        self.setgroups = setgroups
        self.apparmor = apparmor
        self.selinux = selinux
        self.open_files = open_files
        self.user_manager = user_manager
        self.kernel = kernel
        self.owns_pids = owns_pids

    @property
    def may_mount(self) -> bool:
        """Whether this process has power over its own mounts; who has not, needs a user namespace for a container."""
        return bool(self.capabilities & process.CAP_SYS_ADMIN)

    @property
    def rootless(self) -> bool:
        """Whether it has no power over the host: what the host refuses, such as a cgroup, it does without."""
        return self.user_namespace or not self.may_mount

    @property
    def holds_groups(self) -> bool:
        """Whether its supplementary groups are root's on the host, or such as it may choose there."""
        return not self.user_namespace and (self.uid == 0 or bool(self.capabilities & 1 << CAP_SETGID))


class Options:
    """What the command line and the environment add to the config. `bundle` is absolute; `no_cgroup` says why
    `cgroup_manager` had to be disabled, if it had; `notify` is where the container's socket for sd_notify will be on
    the host, in a folder of its own, "" if nobody wants to hear from it."""

    __slots__ = (
        *("bundle", "cgroup_manager", "container_id", "new_keyring", "no_cgroup", "no_pivot", "notify"),
        *("pidfd_socket", "preserve_fds"),
    )

    def __init__(
        self,
        bundle: str,
        container_id: str = "",
        *,
        preserve_fds: int = 0,
        no_pivot: bool = False,
        new_keyring: bool = True,
        cgroup_manager: str = "cgroupfs",
        no_cgroup: str = "",
        notify: str = "",
        pidfd_socket: bool = False,
    ) -> None:
        self.bundle = bundle
        self.container_id = container_id
        self.preserve_fds = preserve_fds
        self.no_pivot = no_pivot
        self.new_keyring = new_keyring
        self.cgroup_manager = cgroup_manager
        self.no_cgroup = no_cgroup
        self.notify = notify
        self.pidfd_socket = pidfd_socket


def compile_container(config: "Config", host: Host, options: Options) -> Plan:
    """The plan for `create`. Raises PyociError with the JSON pointer of what can't be done on such a host."""
    plan = Plan()
    linux = config.get("linux", {})
    own = namespaces.Namespaces(linux, host.kernel)
    _ignore_handlers(plan, config.get("annotations", {}))
    check_labels(process.of_config(config), linux.get("mountLabel", ""), host)
    if not host.may_mount and not (own.own_user and own.has("mount")):
        raise ConfigError([Problem("/linux/namespaces", _NEEDS_USER_NAMESPACE)])
    mapper = namespaces.Mapper(linux, own, host.uid, host.gid, host.capabilities)

    rootfs.open_rootfs(plan, rootfs_path(config, options))
    # files of a process that is not dumpable are root's: a runtime that is not has to write to them before
    late = not host.may_mount and "user" in own.new
    _begin(plan, own, process.early_keyring(process.of_config(config)) if options.new_keyring else (), dumpable=late)
    namespaces.enter_namespaces(plan, own, mapper, dumpable=late, privileged=host.may_mount)
    place = len(plan.init)
    plan.init.extend(_init(plan, config, host, options, own, mapper))
    if not host.may_mount:
        plan.init[place:place] = _clone_mounts(plan)
    hooks.later_hooks(plan, config)
    if options.cgroup_manager == "systemd":
        from pyoci.compiler import unit  # loaded by those who need it

        unit.compile_unit(plan, config, host, options.container_id, _of_init(plan, own))
    else:
        _cgroup(plan, config, options, host)
    if options.cgroup_manager != "disabled" and "cgroup" in own.new and mounts.has_writable_cgroup(config):
        _own_cgroup(plan, process.of_config(config), mapped=own.own_user)
    adjustment = process.of_config(config).get("oomScoreAdj")
    if adjustment is not None:
        early = plan.at[ID_MAPS] if late else _of_program(plan, own)
        early.append(verbs.WriteOomScoreAdj("/process/oomScoreAdj", adjustment=adjustment))
    if "intelRdt" in linux:
        from pyoci.compiler import intel_rdt  # most containers have none

        intel_rdt.compile_rdt(plan, linux["intelRdt"], options.container_id, _of_init(plan, own))
    _make_room(plan, *host.open_files, options.preserve_fds)
    if own.settles_first:
        _settle_first(plan, own)
    plan.before.append(verbs.ProtectStdio())
    plan.alongside = [verbs.RecordProcess(), *plan.alongside, verbs.SaveExecSettings()]
    if own.needs_bootstrap:
        plan.at[INIT] = [verbs.RecordProcess(), *plan.at.get(INIT, ())]
    return plan


def _begin(plan: Plan, own: "namespaces.Namespaces", keyring: "Iterable[ChildOp]", *, dumpable: bool) -> None:
    """What the first process does before anything else, and a process that it clones does again."""
    first = plan.bootstrap if own.needs_bootstrap else plan.init
    first.append(verbs.HideCaller())
    first.append(verbs.SetPdeathsig(signal=SIGKILL))
    if not dumpable:
        first.append(verbs.SetDumpable(dumpable=0))
    first.extend(keyring)
    if own.settles_first:
        return
    if own.needs_bootstrap:
        plan.init.extend((verbs.SetPdeathsig(signal=SIGKILL), verbs.SetDumpable(dumpable=0)))
    plan.init.append(verbs.Setsid())


def _settle_first(plan: Plan, own: "namespaces.Namespaces") -> None:
    """The bootstrap process does all that comes before the clone of the container's process."""
    at = next(index for index, op in enumerate(plan.init) if isinstance(op, verbs.CloneInit)) + 1
    plan.bootstrap.extend(plan.init[:at])
    del plan.init[:at]
    plan.before.append(verbs.OpenHostProc(own.where["pid"], path="/proc", tree=HOST_PROC))


# crun's annotations that ask for another kind of container, with what this runtime makes instead.
_HANDLERS = {
    "run.oci.handler": "pyoci has no handlers and runs the program in a plain container",
    "module.wasm.image/variant": "pyoci has no WebAssembly handler and runs the program in a plain container",
}


def _ignore_handlers(plan: Plan, annotations: "dict[str, str]") -> None:
    for name, why in _HANDLERS.items():
        if annotations.get(name):
            plan.ignore(name, annotations[name], why)


def _make_room(plan: Plan, soft: int, hard: int, preserved: int) -> None:
    """Each mount has a descriptor until it is attached, and longer. The soft limit is there to protect programs that
    can't cope with large numbers: for very many the runtime takes what it needs of the hard one for as long as it makes
    the container, and the container's program gets the soft limit of the caller.
    """
    needed = min(plan.slots + preserved + _OTHER_DESCRIPTORS, hard)
    if needed <= soft:
        return
    name, limit = "RLIMIT_NOFILE", RLIMITS["RLIMIT_NOFILE"]
    plan.before.insert(0, verbs.RaiseOwnRlimit(name=name, resource=limit, soft=needed, hard=hard))
    ready = next(
        index
        for index, op in enumerate(plan.init)
        if isinstance(op, verbs.SetUmask) or (isinstance(op, verbs.Sync) and op.point == READY)
    )
    # by itself, which takes no privilege, and before the runtime sets the limits of the config
    plan.init.insert(ready, verbs.SetRlimit(name=name, resource=limit, soft=soft, hard=hard))


_OTHER_DESCRIPTORS = 64  # what the runtime has open besides those of the plan

_NEEDS_USER_NAMESPACE = (
    "cannot make a container without a user and a mount namespace of its own: this takes CAP_SYS_ADMIN "
    "(`pyoci spec --rootless` writes a config for a user without privileges)"
)


def _clone_mounts(plan: Plan) -> "list[ChildOp]":
    """What the runtime clones of the host's mounts if it may, to be cloned by the container's first process."""
    cloned = []
    for op in list(plan.before):
        if isinstance(op, verbs.MakeUserNamespace | verbs.IdmapTree):
            raise ConfigError([Problem(op.where, "cannot map the ids of a mount: it takes CAP_SYS_ADMIN on the host")])
        if type(op) in verbs.CLONES:
            plan.before.remove(op)
            cloned.append(verbs.by_child(op))
    return cloned


def _of_init(plan: Plan, own: "namespaces.Namespaces") -> "list[ParentOp]":
    """Where the parent's operations on the container's init go: beside its work, but not before it is there."""
    if own.settles_first:
        return plan.alongside  # it inherits them of the bootstrap process
    return plan.at.setdefault(INIT, []) if own.needs_bootstrap else plan.alongside


def _of_program(plan: Plan, own: "namespaces.Namespaces") -> "list[ParentOp]":
    """Where the parent's operations on the program's process go, which a bootstrap process may have cloned already."""
    return plan.at.setdefault(INIT, []) if own.needs_bootstrap else plan.alongside


def _init(
    plan: Plan,
    config: "Config",
    host: Host,
    options: Options,
    own: "namespaces.Namespaces",
    mapper: "namespaces.Mapper",
) -> "Iterator[ChildOp]":
    linux = config.get("linux", {})
    program = process.of_config(config)
    filter_ = _seccomp(plan, linux, host, options, at_once=own.settles_first)
    early = options.cgroup_manager != "systemd"

    if early:
        yield from namespaces.cgroup_namespace(own)

    if own.has("mount"):
        yield from rootfs.prepare_rootfs(rootfs_path(config, options))
        yield from hooks.open_bundle(config, options.bundle)
    if own.own_user and not own.needs_bootstrap:
        # only now: the path to the rootfs may be closed to the user that container root is on the host
        yield verbs.BecomeRoot(own.where["user"])
    if _needs_proc(config):
        # before the container's mounts, so that nothing of theirs can cover a file of this procfs
        yield open_proc("/linux", own_user=own.own_user, own_pids=own.has("pid"), host=host)
    if options.new_keyring:
        yield from process.labelled_keyring(program)
    mount_ops = list(mounts.compile_mounts(plan, config, options.bundle, host.cgroup_mount, host.kernel))
    notify = options.notify if program and own.has("mount") else ""
    if notify:
        mount_ops.append(mounts.mount_notify(plan, notify))
    yield from mount_ops if early else _mounts_in_unit(mount_ops, own)
    yield from devices.compile_devices(plan, config, _nodes_of(own, host))
    if linux.get("netDevices"):
        from pyoci.compiler import net_devices  # most containers have none

        yield from net_devices.move_net_devices(plan, linux)
    yield from hooks.create_hooks(plan, config, own)
    yield from rootfs.pivot(options.no_pivot) if own.has("mount") else rootfs.enter()
    yield from process.console(program, taken_later=own.settles_first)
    yield from mounts.finish_mounts(mount_ops)
    if program.get("cwd"):
        yield verbs.MakeDirectory("/process/cwd", path=program["cwd"])
    yield from namespaces.identity(config, own)
    yield from namespaces.sysctl(linux)
    yield from rootfs.finish_rootfs(config)
    yield from rootfs.protect_paths(plan, config)
    yield verbs.ResetAffinity()
    yield from personality(linux)
    if not program:
        yield from _without_process(options, settles_first=own.settles_first)
        return
    # who enters a user namespace has every capability there
    grantable = process.ALL_CAPABILITIES if own.own_user else host.capabilities
    capabilities = process.Capabilities(program, grantable, seccomp=filter_ is not None)
    plan.warnings.extend(capabilities.warnings)
    env = process.environment(program, mounts.notify_variable(notify) if notify else ())
    groups = process.Groups(
        plan,
        program,
        host,
        allowed=host.setgroups and not mapper.denies_setgroups,
        annotations=config.get("annotations", {}),
    )
    yield from process.security_labels(program)
    outside = own.settles_first
    yield from process.settle(program, env, capabilities, groups, options.preserve_fds, outside_pids=outside)
    ready = plan.at.setdefault(READY, [])
    if config.get("hooks", {}).get("startContainer"):
        ready.append(verbs.FillStartState("/hooks/startContainer"))
    ready.extend(hand_over(program, pidfd_socket=options.pidfd_socket))
    by_child = settings(plan, program, linux, host)
    plan.at[CREATED] = [verbs.Commit()]
    start = process.settled_start if own.settles_first else process.start
    yield from start(program, env, hooks.start_hooks(config, env), filter_, capabilities, by_child)


def _mounts_in_unit(mount_ops: "list[ChildOp]", own: "namespaces.Namespaces") -> "Iterator[ChildOp]":
    """systemd makes the cgroup while the process mounts: it waits for that as late as it can, ahead of a file system
    that shows the cgroup."""
    shows = (n for n, op in enumerate(mount_ops) if isinstance(op, verbs.Mount) and op.type == "cgroup2")
    first = next(shows, len(mount_ops))
    yield from mount_ops[:first]
    yield verbs.Sync("/linux/cgroupsPath", point=CGROUP)
    yield from namespaces.cgroup_namespace(own)
    yield from mount_ops[first:]


def personality(linux: "Linux") -> "Iterator[ChildOp]":
    """`linux.personality`, which every process of the container has."""
    if linux.get("personality"):
        domain = linux["personality"]["domain"]
        yield verbs.SetPersonality("/linux/personality/domain", name=domain, personality=process.PERSONALITIES[domain])


def hand_over(program: "Process", *, pidfd_socket: bool) -> "Iterator[ParentOp]":
    """What the engine gets of a process that is ready."""
    if program.get("terminal"):
        yield verbs.SendConsole("/process/terminal")
    if pidfd_socket:
        yield verbs.SendPidfd()


def settings(plan: Plan, program: "Process", linux: "Linux", host: Host) -> "list[ChildOp]":
    """What is set of a process that is ready: the runtime's part goes into the plan, the process' own is returned."""
    by_runtime, by_process = plan.at.setdefault(READY, []), list(_memory_policy(linux))
    # Without these capabilities the runtime has no say over a process of another user, who may still lower what it has.
    may = bool(host.capabilities & process.CAP_SYS_NICE) and not host.user_namespace
    if may:
        by_runtime.extend(map(verbs.by_runtime, process.priorities(program)))
    else:
        by_process.extend(process.priorities(program))
    if host.capabilities & process.CAP_SYS_RESOURCE:
        by_runtime.extend(map(verbs.by_runtime, process.rlimits(program)))
    else:
        by_process.extend(process.rlimits(program))
    return by_process


def _nodes_of(own: "namespaces.Namespaces", host: Host) -> int:
    """Who makes device nodes. A user namespace that is joined has mappings that the config does not tell."""
    if not (own.own_user or host.user_namespace):
        return devices.CHILD
    needed = process.CAP_MKNOD | process.CAP_CHOWN | process.CAP_FOWNER
    if host.user_namespace or host.capabilities & needed != needed:
        return devices.HOST
    return devices.RUNTIME if "user" in own.new else devices.RUNTIME_ONCE_JOINED


def _without_process(options: Options, *, settles_first: bool) -> "Iterator[ChildOp]":
    """A container may be created without `process`; it can't be started, and `start` says so."""
    if settles_first:
        yield verbs.DropBounding("/process", keep=0)
        yield verbs.CloseFds(first=3 + options.preserve_fds)
        yield verbs.SetCapabilities("/process")
        yield verbs.CloneInit("/linux/namespaces", signal=SIGKILL)
        yield verbs.Setsid()
    yield verbs.Sync(point=READY)
    yield verbs.SetPdeathsig(signal=0)
    if not settles_first:
        yield verbs.CloseFds(first=3 + options.preserve_fds)
    yield verbs.Sync(point=CREATED)
    yield verbs.WaitStart()


def rootfs_path(config: "Config", options: Options) -> str:
    """`root.path`, relative to the bundle unless it is absolute."""
    return join(options.bundle, config["root"]["path"]).rstrip("/") or "/"


def _needs_proc(config: "Config") -> bool:
    program = process.of_config(config)
    return bool(config.get("linux", {}).get("sysctl") or program.get("apparmorProfile") or program.get("selinuxLabel"))


def open_proc(where: str, *, own_user: bool, own_pids: bool, host: Host) -> "ChildOp":
    """The procfs through which the container's process writes: a new one, or the one at /proc where the process is in a
    pid namespace of the runtime's that another user namespace owns, and so may not mount one."""
    visible = not own_pids and (own_user or not host.owns_pids)
    return verbs.OpenProc(where, path="/proc" if visible else "", visible=visible)


def _memory_policy(linux: "Linux") -> "Iterator[ChildOp]":
    if linux.get("memoryPolicy"):
        from pyoci.compiler import memory_policy

        yield memory_policy.set_memory_policy(linux["memoryPolicy"])


def _seccomp(plan: Plan, linux: "Linux", host: Host, options: Options, *, at_once: bool) -> "seccomp.Filter | None":
    if not linux.get("seccomp"):
        return None
    compiled = seccomp.compile_filter(linux["seccomp"], host.arch)
    plan.warnings.extend(compiled.warnings)
    plan.filter = compiled
    if at_once:
        compiled.program  # noqa: B018 - what the plan is depends on what it says
    if not compiled.is_compiled:
        plan.alongside.append(verbs.WriteFilter(seccomp.WHERE, filter=compiled))
    if compiled.notify:
        path = join(options.bundle, linux["seccomp"]["listenerPath"])
        metadata = linux["seccomp"].get("listenerMetadata", "")
        plan.at[LISTENER] = [verbs.SendListener(f"{seccomp.WHERE}/listenerPath", path=path, metadata=metadata)]
    return compiled


def _cgroup(plan: Plan, config: "Config", options: Options, host: Host) -> None:
    """The cgroup before the clone, which goes straight into it; limits and device filter while the child sets up."""
    linux = config.get("linux", {})
    limits = resources.as_meant(linux.get("resources", {}), config.get("ociVersion", ""))
    writes = resources.writes(limits)
    if options.cgroup_manager == "disabled":
        plan.no_cgroup = options.no_cgroup
        if writes:
            why = options.no_cgroup or "the cgroup manager is disabled"
            plan.warnings.append(f"/linux/resources: ignored: the container gets no cgroup: {why}")
        return
    path = linux.get("cgroupsPath") or f"{options.container_id}, beside the runtime's own cgroup"
    plan.before.append(verbs.MakeCgroup("/linux/cgroupsPath", path=path, writes=writes))
    write_limits(plan, writes, plan.alongside)
    filter_devices(plan, limits, plan.alongside, host)


def write_limits(plan: Plan, writes: "list[Write]", early: "list[ParentOp]") -> None:
    """The cgroup's limits, `early` but for that of processes."""
    for write in writes:
        op = verbs.WriteCgroup(write.where, write=write)
        if write.controller == "pids":
            plan.at.setdefault(READY, []).append(op)  # not before every process of the set-up was cloned
        else:
            early.append(op)


def filter_devices(plan: Plan, limits: "Resources", early: "list[ParentOp]", host: Host) -> None:
    """The device filter, `early` if it can be."""
    if host.rootless:
        return  # only the host's root may load a device filter; nobody else can make a device either
    program = device_filter.compile_rules(limits.get("devices", []))
    if program:
        op = verbs.AttachDeviceFilter("/linux/resources/devices", program=program)
        # the filter is for the container's programs: the device of a filesystem that the config mounts is opened before
        late = any(
            isinstance(other, verbs.Mount) and any("=/" in option for option in other.options) for other in plan.init
        )
        (plan.at.setdefault(READY, []) if late else early).append(op)


def _own_cgroup(plan: Plan, program: "Process", *, mapped: bool) -> None:
    """The container's user may use the cgroup that it sees: when its user namespace, if it has one, is complete."""
    uid = program.get("user", {}).get("uid", 0)
    plan.at.setdefault(READY, []).append(verbs.ChownCgroup("/process/user/uid", uid=uid, mapped=mapped))


def check_labels(program: "Process", mount_label: str, host: Host) -> None:
    """Raise ConfigError for a label that no security module would enforce."""
    problems = []
    if program.get("apparmorProfile") and not host.apparmor:
        problems.append(
            Problem(
                "/process/apparmorProfile", "cannot apply an AppArmor profile: AppArmor is not enabled on this host"
            )
        )
    if program.get("selinuxLabel") and not host.selinux:
        problems.append(
            Problem("/process/selinuxLabel", "cannot apply an SELinux label: SELinux is not enabled on this host")
        )
    if mount_label and not host.selinux:
        problems.append(Problem("/linux/mountLabel", "cannot apply a mount label: SELinux is not enabled on this host"))
    if problems:
        raise ConfigError(problems)


__all__ = ["Host", "Options", "PyociError", "compile_container", "rootfs_path"]
