"""`exec`: one more process in a container that exists → operations.

The specification leaves this operation to runtimes; its process is one as in config.md "Process", and goes through the
same operations as the first one's. What differs is where. A bootstrap process, cloned straight into the cgroup, joins
the namespaces of the container's first process, all at once and through its pidfd. A pid namespace takes effect in a
child only; so the container can't see the bootstrap process, and does not see the program's process before that has the
container's credentials and nothing of the host's: one with CAP_SYS_PTRACE could make use of them.
"""

from pyoci.compiler import process as parts
from pyoci.compiler import verbs
from pyoci.compiler.namespaces import CLONE_FLAGS
from pyoci.compiler.operations import Part, Plan, Slots, Start
from pyoci.compiler.verbs.numbers import HELD, INIT, READY, ROOTFS
from pyoci.linux import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyoci.compiler.facts import Host
    from pyoci.compiler.seccomp import Filter
    from pyoci.compiler.verbs import ChildOp, ParentOp
    from pyoci.types import Linux, Process


class ExecTarget:
    """A container that is to get one more process.

    `id` is its id, `namespaces` are the types of which its first process is not in the runtime's own.
    `linux` is what its config has for every process: personality, memoryPolicy. `seccomp` is its filter, None if it
    has none; `rdt` its resource groups; `annotations` the config's. `setgroups`: its user namespace lets groups be set.
    `listener`: the agent that gets the filter's listener, and what to report to it.
    `keyring`: it has a session keyring of its own. `early_filter`: the filter admits what is done under it when the
    bootstrap process loads it already.
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
    """Return the plan for `process` in `container`. Raises PyociError for what is not possible on this host."""
    parts.check_labels(process, "", host)
    slots = Slots()
    enter = _enter(process, container, preserve_fds, slots)
    start = _start(process, container, host, preserve_fds)
    ready = _ready(process, container, host, foreground=foreground, pidfd_socket=pidfd_socket)
    plan = Plan()
    for part in (
        ready,
        enter,
        start.part,
        _affinity(process),
        _oom_score(process, host),
        _resource_groups(container),
        Part(before=[verbs.ProtectStdio()]),
    ):
        plan.add(part)
    plan.bootstrap = [*enter.child, *start.part.child, *start.clone]
    plan.init = start.program
    plan.slots = slots.count
    return plan


def _ready(process: "Process", container: ExecTarget, host: "Host", *, foreground: bool, pidfd_socket: bool) -> Part:
    """Check the process before it sees the program, and hand it to the engine."""
    ready: list[ParentOp] = []
    if host.may_mount:  # /proc/PID/ns of a process that is not dumpable is root's to read; others trust the kernel
        ready.append(verbs.VerifyNamespaces(namespaces=", ".join(container.namespaces)))
    ready.append(verbs.CheckInit(id=container.id))
    if foreground:
        ready.append(verbs.TakeSignals())
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
        return Part(at={INIT: [op]})
    return Part(at={HELD: [op] if process.get("execCPUAffinity") else [verbs.EnterCgroup(), op]})


def _resource_groups(container: ExecTarget) -> Part:
    if not container.rdt:
        return Part()
    return Part(at={INIT: [verbs.JoinRdtGroup(group=" and ".join(path or "/" for path in container.rdt))]})


def _enter(process: "Process", container: ExecTarget, preserve_fds: int, slots: Slots) -> Part:
    """Enter the container's namespaces and root.

    The container can't see this process. So everything that takes a privilege, or reveals one, happens here.
    """
    part = Part([verbs.HideCaller(), verbs.SetPdeathsig(signal=SIGKILL), verbs.SetDumpable(dumpable=0)])
    # through the host's procfs, which shows this process
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
        # no descriptor of the host is open in the container (CVE-2016-9962)
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
    """Become the container's user, and clone the program's process, which then has nothing of the host's."""
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
