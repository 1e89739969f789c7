"""`exec`: one more process in a container that exists → operations.

The specification leaves this operation to runtimes. The new process is a `process` as in config.md, and goes through
the same operations as the container's first process.

The runtime clones a bootstrap process straight into the cgroup. That joins the namespaces of the container's first
process, all at once and through its pidfd. A pid namespace takes effect in the next child only, so the container can't
see the bootstrap process. The container sees the program's process once that has the container's credentials, and
nothing of the host. Until then, a process of the container with CAP_SYS_PTRACE could take over the runtime's power.
"""

from pyoci.compiler import process as parts
from pyoci.compiler import verbs
from pyoci.compiler.namespaces import CLONE_FLAGS
from pyoci.compiler.operations import Part, Plan, Slots, Start
from pyoci.compiler.verbs.numbers import HELD, READY, ROOTFS
from pyoci.linux import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyoci.compiler.facts import Host
    from pyoci.compiler.seccomp import Filter
    from pyoci.compiler.verbs import ChildOp, ParentOp
    from pyoci.types import Linux, Process


class ExecTarget:
    """A container that gets one more process.

    `namespaces`    the types of namespaces that its first process does not share with the runtime
    `linux`         the properties that apply to every process: personality and memoryPolicy
    `seccomp`       its filter, or None
    `rdt`           its resource groups
    `annotations`   those of the config
    `setgroups`     whether its user namespace lets processes set their groups
    `keyring`       whether it has its own session keyring
    `early_filter`  whether the bootstrap process can load the filter, because that admits the operations that follow
    `listener`      the agent that gets the filter's listener, and the metadata for it
    """

    __slots__ = (
        *("annotations", "early_filter", "id", "keyring", "linux", "listener", "namespaces", "rdt", "seccomp"),
        "setgroups",
    )

    def __init__(
        self,
        id: str,
        namespaces: "list[str]",
        linux: "Linux",
        seccomp: "Filter | None" = None,
        rdt: "Sequence[str]" = (),
        *,
        annotations: "dict[str, str] | None" = None,
        setgroups: bool = True,
        keyring: bool = True,
        early_filter: bool = True,
        listener: "tuple[str, str] | None" = None,
    ) -> None:
        self.id = id
        self.namespaces = namespaces
        self.linux = linux
        self.seccomp = seccomp
        self.rdt = rdt
        self.annotations = annotations or {}
        self.setgroups = setgroups
        self.keyring = keyring
        self.early_filter = early_filter
        self.listener = listener


def compile_exec(
    process: "Process",
    container: ExecTarget,
    host: "Host",
    *,
    preserve_fds: int = 0,
    foreground: bool = False,
    pidfd_socket: bool = False,
) -> Plan:
    """Return the plan for `process` in `container`. Raises PyociError for a setting that this host can't apply."""
    parts.check_labels(process, "", host)
    slots = Slots()
    enter = _enter(process, container, preserve_fds, slots)
    start = _start(process, container, host, preserve_fds)
    plan = Plan()
    for part in (
        _check(container, host),
        enter,
        start.part,
        _affinity(process),
        _oom_score(process, host),
        _resource_groups(container),
        # last, because the engine should get no process that can still fail
        _hand_over(process, container, foreground=foreground, pidfd_socket=pidfd_socket),
        Part(before=[verbs.ProtectStdio()]),
    ):
        plan.add(part)
    plan.bootstrap = [*enter.child, *start.part.child, *start.clone]
    plan.init = start.program
    plan.slots = slots.count
    return plan


def _check(container: ExecTarget, host: "Host") -> Part:
    """Check the new process before it runs the program."""
    checks: list[ParentOp] = []
    if host.may_mount:  # only root may read /proc/PID/ns of a process that is not dumpable
        checks.append(verbs.VerifyNamespaces(namespaces=", ".join(container.namespaces)))
    return Part(at={READY: [*checks, verbs.CheckInit(id=container.id)]})


def _hand_over(process: "Process", container: ExecTarget, *, foreground: bool, pidfd_socket: bool) -> Part:
    """Hand the new process to the engine, and its filter's listener to the agent."""
    ready: list[ParentOp] = [verbs.TakeSignals()] if foreground else []
    ready += parts.hand_over(process, pidfd_socket=pidfd_socket)
    if container.seccomp is None or not container.seccomp.has_listener or container.listener is None:
        return Part(at={READY: ready})
    path, metadata = container.listener
    return Part(
        at={READY: [*ready, verbs.TraceChild()]}, after={READY: [verbs.SendListener(path=path, metadata=metadata)]}
    )


def _affinity(process: "Process") -> Part:
    """Set the CPUs before and after the process enters the cgroup. It is then not cloned into the cgroup."""
    affinity = process.get("execCPUAffinity")
    if not affinity:
        return Part()
    where = "/process/execCPUAffinity"
    held: list[ParentOp] = []
    if affinity.get("initial"):
        held.append(verbs.SetAffinity(f"{where}/initial", cpus=affinity["initial"]))
    held.append(verbs.EnterCgroup())
    if affinity.get("final"):
        held.append(verbs.SetAffinity(f"{where}/final", cpus=affinity["final"]))
    return Part(at={HELD: held})


def _oom_score(process: "Process", host: "Host") -> Part:
    """Set the OOM score. A runtime without root may write only to the files of a process that is still dumpable."""
    adjustment = process.get("oomScoreAdj")
    if adjustment is None:
        return Part()
    op = verbs.WriteOomScoreAdj("/process/oomScoreAdj", adjustment=adjustment)
    if host.may_mount:
        return Part(at={READY: [op]})
    return Part(at={HELD: [op] if process.get("execCPUAffinity") else [verbs.EnterCgroup(), op]})


def _resource_groups(container: ExecTarget) -> Part:
    if not container.rdt:
        return Part()
    return Part(at={READY: [verbs.JoinRdtGroup(group=" and ".join(path or "/" for path in container.rdt))]})


def _enter(process: "Process", container: ExecTarget, preserve_fds: int, slots: Slots) -> Part:
    """Enter the container's namespaces and root.

    The container can't see this process. So every operation that needs a privilege, or reveals one, happens here.
    """
    part = Part([verbs.HideCaller(), verbs.SetPdeathsig(signal=SIGKILL), verbs.SetDumpable(dumpable=0)])
    # before it joins the namespaces: the host's procfs shows this process, the container's does not
    if container.keyring:
        part.child += parts.early_keyring(process)
        part.child += parts.labelled_keyring(process)
    part.child += parts.security_labels(process)
    if "mount" not in container.namespaces:
        part.before.append(verbs.OpenContainerRoot(id=container.id, root=ROOTFS))
        part.child.append(verbs.EnterRoot())
    if container.namespaces:
        slot, names = slots.new(), ", ".join(container.namespaces)
        part.before.append(verbs.OpenContainer(id=container.id, namespaces=names, process=slot))
        # closes the host's descriptors before the container can reach them (CVE-2016-9962)
        part.child.append(verbs.CloseFds(first=3 + preserve_fds, keep=slot))
        flags = 0
        for kind in container.namespaces:
            flags |= CLONE_FLAGS[kind]
        part.child.append(verbs.JoinNamespace(kind=names, namespaces=slot, types=flags))
    if "user" in container.namespaces:
        part.child.append(verbs.BecomeRoot())
    part.child.append(verbs.OpenRoot())
    part.child += parts.console(process, on_dev_console=False)
    if not process.get("execCPUAffinity"):
        part.child.append(verbs.ResetAffinity())
    part.child += parts.personality(container.linux)
    return part


def _start(process: "Process", container: ExecTarget, host: "Host", preserve_fds: int) -> Start:
    """Become the container's user, and clone the program's process, which inherits nothing of the host."""
    grantable = parts.ALL_CAPABILITIES if "user" in container.namespaces else host.capabilities
    capabilities = parts.Capabilities(process, grantable, seccomp=container.seccomp is not None)
    env = parts.environment(process)
    groups = parts.Groups(process, host, allowed=container.setgroups, annotations=container.annotations)
    become = parts.become_container_user(process, env, capabilities, groups, preserve_fds, outside_pids=True)
    limits = parts.limits_and_priorities(process, container.linux, host)
    clone: list[ChildOp] = [parts.set_umask(process), verbs.ResetSignals()]
    program: list[ChildOp] = [verbs.Setsid()]
    if process.get("terminal"):
        program.append(verbs.TakeTerminal("/process/terminal"))
    program.append(verbs.Sync(point=READY))
    if container.seccomp is not None and container.early_filter:
        clone += [*limits.child, *parts.load_filter(container.seccomp, capabilities, quiet=True)]
    else:
        program += limits.child
        if container.seccomp is not None:
            program += parts.load_filter(container.seccomp, capabilities)
    clone.append(verbs.CloneInit(signal=0))
    program.append(parts.exec_program(process, env))
    part = Part(
        become,
        at=limits.at,
        warnings=[*capabilities.warnings, *groups.part.warnings],
        ignored=groups.part.ignored,
    )
    return Start(part, clone, program)
