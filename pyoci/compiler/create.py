"""From a config to a plan: the table of contents of a container.

`compile_container` is pure: it derives the operations from the config, facts about the host and the options. It never
reads the root filesystem. Read `_setup` to see what happens inside a container, in order, and why.
"""

from pyoci.compiler import cgroup, devices, hooks, host_mounts, mounts, process, rootfs, seccomp, verbs
from pyoci.compiler import namespaces as kinds
from pyoci.compiler.operations import Part, Plan, Slots, Start, ignore
from pyoci.compiler.paths import join
from pyoci.compiler.verbs.numbers import CGROUP, CREATED, HOST_PROC, ID_MAPS, INIT, LISTENER, READY
from pyoci.config.constants import RLIMITS
from pyoci.errors import ConfigError, Problem
from pyoci.linux import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyoci.compiler.facts import Host, Options
    from pyoci.compiler.mounts import CompiledMounts
    from pyoci.compiler.namespaces import IdMapWriter, Namespaces
    from pyoci.compiler.seccomp import Filter
    from pyoci.compiler.verbs import ChildOp, ParentOp
    from pyoci.types import Config, Process


def compile_container(config: "Config", host: "Host", options: "Options") -> Plan:
    """Return the plan for `create`. Raises PyociError with the JSON pointer of a setting that this host can't apply."""
    linux, program, slots = config.get("linux", {}), process.of_config(config), Slots()
    namespaces = kinds.Namespaces(linux, host.kernel)
    process.check_labels(program, linux.get("mountLabel", ""), host)
    if not host.may_mount and not (namespaces.own_user and namespaces.has("mount")):
        raise ConfigError([Problem("/linux/namespaces", _NEEDS_USER_NAMESPACE)])
    writer = kinds.IdMapWriter(linux, namespaces, host.uid, host.gid, host.capabilities)
    # Files in /proc of a process that is not dumpable belong to root. A runtime without root writes to them earlier.
    dumpable = not host.may_mount and "user" in namespaces.new
    begin = list(_begin(program, options, dumpable=dumpable))
    entry = kinds.enter_namespaces(namespaces, writer, slots, begin, dumpable=dumpable, privileged=host.may_mount)
    leaves_host = host_mounts.leaves_host(config, host, options, namespaces)
    if leaves_host:
        host_mounts.leave_host(entry, namespaces, slots, host.kernel_mounts)
    entry.init += kinds.enter_early(namespaces)
    filter_, filtering = _seccomp(config, host, options, at_once=namespaces.settles_first)
    mounted = mounts.compile_mounts(
        config,
        slots,
        bundle=options.bundle,
        cgroup_mount=host.cgroup_mount,
        kernel=host.kernel,
        joined_users=entry.joined_users,
        notify=options.notify if program and namespaces.has("mount") else "",
    )
    setup = _setup(config, host, options, namespaces, mounted, slots, leaves_host=leaves_host)
    start = _start(config, host, options, namespaces, writer, filter_)
    asking, limits = _cgroup(config, host, options, namespaces, mounted)
    raised = raise_fd_limit(slots.count, host, options)
    parts = [
        raised,
        _ignored_handlers(config.get("annotations", {})),
        rootfs.open_rootfs(rootfs_path(config, options)),
        entry.part,
        _record(namespaces),
        asking,
        filtering,
        *setup,
        start.part,
        limits,
        _oom_score(program, namespaces, dumpable=dumpable),
        _resource_group(config, options, namespaces),
        _host_proc(namespaces),
        Part(before=[verbs.ProtectStdio()], alongside=[verbs.SaveExecSettings()]),
    ]
    plan = Plan()
    for part in parts:
        plan.add(part)
    clones = [] if host.may_mount else _clone_in_child(plan)
    inside = [op for part in setup for op in part.child]
    ops = [*entry.init, *clones, *inside, *start.part.child, *raised.child, *start.clone]
    plan.bootstrap = [*entry.bootstrap, *ops] if namespaces.settles_first else entry.bootstrap
    plan.init = start.program if namespaces.settles_first else [*ops, *start.program]
    plan.clone_flags = entry.clone_flags
    plan.guards_memory = "user" in namespaces.new and not dumpable
    plan.poststart = hooks.host_hooks(config, "poststart")
    plan.poststop = hooks.host_hooks(config, "poststop")
    plan.filter = filter_
    plan.no_cgroup = options.no_cgroup if options.cgroup_manager == "disabled" else ""
    plan.slots = slots.count
    return plan


# --- the container's process, in order


def _begin(program: "Process", options: "Options", *, dumpable: bool) -> "Iterator[ChildOp]":
    """Protect the first process from others, and join its keyring, before anything else."""
    yield verbs.HideCaller()
    yield verbs.SetPdeathsig(signal=SIGKILL)
    if not dumpable:
        yield verbs.SetDumpable(dumpable=0)
    if options.new_keyring:
        yield from process.early_keyring(program)


def _setup(
    config: "Config",
    host: "Host",
    options: "Options",
    namespaces: "Namespaces",
    mounted: "CompiledMounts",
    slots: Slots,
    *,
    leaves_host: bool,
) -> "list[Part]":
    """Set up the container, from its namespaces to the container's user and program."""
    linux, program = config.get("linux", {}), process.of_config(config)
    own_mounts, by_systemd = namespaces.has("mount"), options.cgroup_manager == "systemd"
    return [
        Part(() if by_systemd else kinds.cgroup_namespace(namespaces)),
        Part(rootfs.prepare_rootfs("" if leaves_host else rootfs_path(config, options)) if own_mounts else ()),
        Part(hooks.open_bundle(config, options.bundle) if own_mounts else ()),
        # only now, because container root, an ordinary user on the host, may not be able to reach the rootfs by path
        Part(_become_root(namespaces)),
        # before the container's mounts, so that none of them can cover a file of this procfs
        Part(_open_proc(config, namespaces, host)),
        Part(process.labelled_keyring(program) if options.new_keyring else ()),
        _mounts_in_unit(mounted, namespaces) if by_systemd else mounted.part,
        devices.compile_devices(config, slots, nodes_of(namespaces, host)),
        _net_devices(config),
        hooks.create_hooks(config, namespaces, slots),
        Part(rootfs.pivot(options.no_pivot) if own_mounts else rootfs.enter()),
        Part(process.console(program, taken_later=namespaces.settles_first)),
        Part(mounted.finish),
        Part([verbs.MakeDirectory("/process/cwd", path=program["cwd"])] if program.get("cwd") else ()),
        Part(kinds.identity(config, namespaces)),
        Part(kinds.sysctl(linux)),
        Part(rootfs.finish_rootfs(config)),
        rootfs.protect_paths(config),
        Part([verbs.ResetAffinity()]),
        Part(process.personality(linux)),
    ]


def _start(
    config: "Config",
    host: "Host",
    options: "Options",
    namespaces: "Namespaces",
    writer: "IdMapWriter",
    filter_: "Filter | None",
) -> Start:
    """Become the container's user, and go on to the program."""
    program, settles_first = process.of_config(config), namespaces.settles_first
    handed_over = [*process.hand_over(program, pidfd_socket=options.pidfd_socket)]
    commit: list[ParentOp] = [verbs.Commit()]
    if not program:
        part = Part(at={READY: handed_over, CREATED: commit})
        return Start(part, *process.without_program(options.preserve_fds, settles_first=settles_first))
    # a process that enters a user namespace has every capability there
    grantable = process.ALL_CAPABILITIES if namespaces.own_user else host.capabilities
    capabilities = process.Capabilities(program, grantable, seccomp=filter_ is not None)
    notify = options.notify if namespaces.has("mount") else ""
    env = process.environment(program, mounts.notify_variable(notify) if notify else ())
    allowed = host.setgroups and not writer.denies_setgroups
    groups = process.Groups(program, host, allowed=allowed, annotations=config.get("annotations", {}))
    limits = process.limits_and_priorities(program, config.get("linux", {}), host)
    start_hooks = hooks.start_hooks(config, env)
    fds = options.preserve_fds
    become = process.become_container_user(program, env, capabilities, groups, fds, outside_pids=settles_first)
    rest = (program, env, start_hooks, filter_, capabilities, limits.child)
    clone, own = process.settled_start(*rest) if settles_first else ([], list(process.start(*rest)))
    ready: list[ParentOp] = [verbs.FillStartState("/hooks/startContainer")] if start_hooks else []
    part = Part(
        [*process.security_labels(program), *become],
        at={READY: [*ready, *handed_over, *limits.at[READY]], CREATED: commit},
        warnings=[*capabilities.warnings, *groups.part.warnings],
        ignored=groups.part.ignored,
    )
    return Start(part, clone, own)


# --- the parts


def _become_root(namespaces: "Namespaces") -> "Iterator[ChildOp]":
    if namespaces.own_user and not namespaces.needs_bootstrap:
        yield verbs.BecomeRoot(namespaces.where["user"])


def _open_proc(config: "Config", namespaces: "Namespaces", host: "Host") -> "Iterator[ChildOp]":
    """Open the procfs through which the child writes: a new one, or the one at /proc.

    A process can't mount a procfs if another user namespace owns its pid namespace.
    """
    program = process.of_config(config)
    if config.get("linux", {}).get("sysctl") or program.get("apparmorProfile") or program.get("selinuxLabel"):
        visible = not namespaces.has("pid") and (namespaces.own_user or not host.owns_pids)
        yield verbs.OpenProc("/linux", path="/proc" if visible else "", visible=visible)


def _mounts_in_unit(mounted: "CompiledMounts", namespaces: "Namespaces") -> Part:
    """Wait for systemd's cgroup just before the first filesystem that shows it, as late as possible."""
    wait = [verbs.Sync("/linux/cgroupsPath", point=CGROUP), *kinds.cgroup_namespace(namespaces)]
    mounted.part.child[mounted.cgroup_at : mounted.cgroup_at] = wait
    return mounted.part


def nodes_of(namespaces: "Namespaces", host: "Host") -> int:
    """Decide who makes device nodes. The config does not have the id mappings of a joined user namespace."""
    if not (namespaces.own_user or host.user_namespace):
        return devices.CHILD
    needed = process.CAP_SYS_ADMIN | process.CAP_MKNOD | process.CAP_CHOWN | process.CAP_FOWNER
    if host.user_namespace or host.capabilities & needed != needed:
        return devices.HOST
    return devices.RUNTIME if "user" in namespaces.new else devices.RUNTIME_ONCE_JOINED


def _net_devices(config: "Config") -> Part:
    linux = config.get("linux", {})
    if not linux.get("netDevices"):
        return Part()
    from pyoci.compiler import net_devices  # most containers have none

    return net_devices.move_net_devices(linux)


def _seccomp(config: "Config", host: "Host", options: "Options", *, at_once: bool) -> "tuple[Filter | None, Part]":
    """Compile the filter beside the child's work, or `at_once` if the plan depends on what it admits."""
    profile = config.get("linux", {}).get("seccomp")
    if not profile:
        return None, Part()
    compiled = seccomp.compile_filter(profile, host.arch)
    if at_once:
        compiled.program  # noqa: B018 - compiles it
    part = Part(warnings=compiled.warnings)
    if not compiled.is_compiled:
        part.alongside = [verbs.WriteFilter(seccomp.WHERE, filter=compiled)]
    if compiled.has_listener:
        path, metadata = join(options.bundle, profile["listenerPath"]), profile.get("listenerMetadata", "")
        part.at = {LISTENER: [verbs.SendListener(f"{seccomp.WHERE}/listenerPath", path=path, metadata=metadata)]}
    return compiled, part


def _cgroup(
    config: "Config", host: "Host", options: "Options", namespaces: "Namespaces", mounted: "CompiledMounts"
) -> "tuple[Part, Part]":
    """Return the part that asks for the cgroup, and the part that limits it and gives it to the container's user."""
    if options.cgroup_manager == "disabled":
        return Part(), cgroup.compile_disabled(config, options)
    asking = Part()
    if options.cgroup_manager == "systemd":
        clones_more = namespaces.settles_first or hooks.run_in_container(config)
        unit = cgroup.compile_unit(config, host, options, opens_devices=mounted.opens_devices, clones_more=clones_more)
        asking, limits = _beside_init(namespaces, unit.asking), unit.part
    else:
        limits = cgroup.compile_cgroupfs(config, host, options, opens_devices=mounted.opens_devices)
    if "cgroup" in namespaces.new and mounts.has_writable_cgroup(config):
        given = cgroup.give_cgroup(config, mapped=namespaces.own_user)
        limits.at = {**limits.at, READY: [*limits.at[READY], *given.at[READY]]}
    return asking, limits


def _beside_init(namespaces: "Namespaces", ops: "list[ParentOp]") -> Part:
    """Do `ops` to init while it works. If a bootstrap process settles for init, use that: init inherits them."""
    if namespaces.needs_bootstrap and not namespaces.settles_first:
        return Part(at={INIT: ops})
    return Part(alongside=ops)


def _record(namespaces: "Namespaces") -> Part:
    """Record the first child, and then the process that a bootstrap process clones."""
    at: dict[int, list[ParentOp]] = {INIT: [verbs.RecordProcess()]} if namespaces.needs_bootstrap else {}
    return Part(alongside=[verbs.RecordProcess()], at=at)


def _oom_score(program: "Process", namespaces: "Namespaces", *, dumpable: bool) -> Part:
    """Set the OOM score of the process that runs the program."""
    adjustment = program.get("oomScoreAdj")
    if adjustment is None:
        return Part()
    ops = [verbs.WriteOomScoreAdj("/process/oomScoreAdj", adjustment=adjustment)]
    if dumpable:
        return Part(at={ID_MAPS: ops})
    return Part(at={INIT: ops}) if namespaces.needs_bootstrap else Part(alongside=ops)


def _resource_group(config: "Config", options: "Options", namespaces: "Namespaces") -> Part:
    linux = config.get("linux", {})
    if "intelRdt" not in linux:
        return Part()
    from pyoci.compiler import intel_rdt  # most containers have none

    made, join_group = intel_rdt.compile_rdt(linux["intelRdt"], options.container_id)
    part = _beside_init(namespaces, [join_group])
    part.before = made
    if namespaces.settles_first:
        # The bootstrap process passes the group on, unless it clones the program's process before it has joined.
        part.at = {INIT: [join_group]}
    return part


def _host_proc(namespaces: "Namespaces") -> Part:
    """Open the host's procfs for a process that settles outside the container's pid namespace."""
    if not namespaces.settles_first:
        return Part()
    return Part(before=[verbs.OpenHostProc(namespaces.where["pid"], path="/proc", tree=HOST_PROC)])


# crun's annotations that ask for another kind of container, with what pyoci runs instead.
_HANDLERS = {
    "run.oci.handler": "pyoci has no handlers and runs the program in a plain container",
    "module.wasm.image/variant": "pyoci has no WebAssembly handler and runs the program in a plain container",
}


def _ignored_handlers(annotations: "dict[str, str]") -> Part:
    found = [ignore(name, annotations[name], why) for name, why in _HANDLERS.items() if annotations.get(name)]
    return Part(
        warnings=[warning for part in found for warning in part.warnings],
        ignored=[op for part in found for op in part.ignored],
    )


def raise_fd_limit(slots: int, host: "Host", options: "Options") -> Part:
    """Raise the runtime's limit on descriptors if a plan has very many mounts. Each has one until it is attached.

    The soft limit protects programs that can't handle large descriptors. The runtime exceeds it only during create. The
    child restores the caller's soft limit, which needs no privilege, before the runtime sets the limits of the config.
    """
    soft, hard = host.open_files
    needed = min(slots + options.preserve_fds + _OTHER_DESCRIPTORS, hard)
    if needed <= soft:
        return Part()
    name, resource = "RLIMIT_NOFILE", RLIMITS["RLIMIT_NOFILE"]
    back = verbs.SetRlimit(name=name, resource=resource, soft=soft, hard=hard)
    return Part([back], before=[verbs.RaiseOwnRlimit(name=name, resource=resource, soft=needed, hard=hard)])


_OTHER_DESCRIPTORS = 64  # that the runtime may have open besides those of the plan

_NEEDS_USER_NAMESPACE = (
    "cannot make a container without a user and a mount namespace of its own: this needs CAP_SYS_ADMIN "
    "(`pyoci spec --rootless` writes a config for a user without privileges)"
)


def _clone_in_child(plan: Plan) -> "list[ChildOp]":
    """Move the clones of the host's mounts from the runtime's operations to the child, which may mount."""
    for op in plan.opening:
        if isinstance(op, verbs.MakeUserNamespace | verbs.IdmapTree):
            raise ConfigError([Problem(op.where, "cannot map the ids of a mount: needs CAP_SYS_ADMIN on the host")])
    clones = [verbs.by_child(op) for op in plan.opening if type(op) in verbs.CLONES]
    plan.opening = [op for op in plan.opening if type(op) not in verbs.CLONES]
    return clones


def rootfs_path(config: "Config", options: "Options") -> str:
    """Return `root.path`, relative to the bundle unless it is absolute."""
    return join(options.bundle, config["root"]["path"]).rstrip("/") or "/"


__all__ = ["compile_container", "nodes_of", "raise_fd_limit", "rootfs_path"]
