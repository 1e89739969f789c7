"""`exec`: one more process in a container that exists → operations.

The specification leaves this operation to runtimes; its process is one as in config.md "Process", and goes through the
same operations as the first one's. What differs is where. A bootstrap process, cloned straight into the cgroup, joins
the namespaces of the container's first process, all at once and through its pidfd. A pid namespace takes effect in a
child only; so the container can't see the bootstrap process, and does not see the program's process before that has the
container's credentials and nothing of the host's: one with CAP_SYS_PTRACE could make use of them.
"""

from pyoci.compiler import create, verbs
from pyoci.compiler import process as parts
from pyoci.compiler.namespaces import CLONE_FLAGS
from pyoci.compiler.operations import Plan
from pyoci.compiler.verbs.numbers import HELD, INIT, READY, ROOTFS
from pyoci.linux import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyoci.compiler.create import Host
    from pyoci.compiler.seccomp import Filter
    from pyoci.compiler.verbs import ChildOp, ParentOp
    from pyoci.types import ExecCPUAffinity, Linux, Process


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
    """The plan for `process` in `container`. Raises PyociError for what can't be done on such a host."""
    plan = Plan()
    create.check_labels(process, "", host)
    tail: list[ChildOp] = []
    ready: list[ParentOp] = plan.at.setdefault(READY, [])
    if host.may_mount:  # a process that is not dumpable is root's to look at; others have the kernel's word for it
        ready.append(verbs.VerifyNamespaces(namespaces=", ".join(container.namespaces)))
    ready.append(verbs.CheckInit(id=container.id))
    if foreground:
        ready.append(verbs.TakeSignals())
    ready.extend(create.hand_over(process, pidfd_socket=pidfd_socket))
    if container.seccomp is not None and container.seccomp.notify and container.listener is not None:
        path, metadata = container.listener
        ready.append(verbs.TraceChild())
        plan.after[READY] = [verbs.SendListener(path=path, metadata=metadata)]
    plan.bootstrap.extend(_bootstrap(plan, process, container, host, preserve_fds, tail))
    plan.init.extend(_init(process, tail))
    plan.before.append(verbs.ProtectStdio())
    if process.get("execCPUAffinity"):
        plan.at[HELD] = list(_affinity(process["execCPUAffinity"]))
    adjustment = process.get("oomScoreAdj")
    if adjustment is not None:
        if not host.may_mount and HELD not in plan.at:
            plan.at[HELD] = [verbs.EnterCgroup()]
        # whoever is not root may write only to the files of a process that is dumpable
        point = INIT if host.may_mount else HELD
        plan.at.setdefault(point, []).append(verbs.WriteOomScoreAdj("/process/oomScoreAdj", adjustment=adjustment))
    if container.rdt:
        plan.at.setdefault(INIT, []).append(
            verbs.JoinRdtGroup(group=" and ".join(path or "/" for path in container.rdt))
        )
    return plan


def _affinity(affinity: "ExecCPUAffinity") -> "Iterator[ParentOp]":
    """Before and after the process enters the cgroup, which it is then not born in."""
    for name, cpus in (("initial", affinity.get("initial")), ("", ""), ("final", affinity.get("final"))):
        if not name:
            yield verbs.EnterCgroup()
        elif cpus:
            yield verbs.SetAffinity(f"/process/execCPUAffinity/{name}", cpus=cpus)


def _bootstrap(
    plan: Plan, process: "Process", container: ExecTarget, host: "Host", preserve_fds: int, tail: "list[ChildOp]"
) -> "Iterator[ChildOp]":
    """From the runtime to a process that has all that the program has, and nothing more, but for the pid namespace.

    Here, where the container can't see this process, everything happens that takes a privilege, or shows one.
    """
    yield verbs.HideCaller()
    yield verbs.SetPdeathsig(signal=SIGKILL)
    yield verbs.SetDumpable(dumpable=0)
    # by the host's procfs, which shows this process
    if container.keyring:
        yield from parts.early_keyring(process)
        yield from parts.labelled_keyring(process)
    yield from parts.security_labels(process)
    if "mount" not in container.namespaces:
        plan.before.append(verbs.OpenContainerRoot(id=container.id, root=ROOTFS))
        yield verbs.EnterRoot()
    if container.namespaces:
        slot = plan.new_slot()
        names = ", ".join(container.namespaces)
        plan.before.append(verbs.OpenContainer(id=container.id, namespaces=names, process=slot))
        # nothing of the host is open in the container (CVE-2016-9962)
        yield verbs.CloseFds(first=3 + preserve_fds, keep=slot)
        flags = 0
        for kind in container.namespaces:
            flags |= CLONE_FLAGS[kind]
        yield verbs.JoinNamespace(kind=names, namespaces=slot, types=flags)
    if "user" in container.namespaces:
        yield verbs.BecomeRoot()
    yield verbs.OpenRoot()
    yield from parts.console(process, on_dev_console=False)
    if not process.get("execCPUAffinity"):
        yield verbs.ResetAffinity()
    yield from create.personality(container.linux)
    grantable = parts.ALL_CAPABILITIES if "user" in container.namespaces else host.capabilities
    capabilities = parts.Capabilities(process, grantable, seccomp=container.seccomp is not None)
    plan.warnings.extend(capabilities.warnings)
    env = parts.environment(process)
    groups = parts.Groups(plan, process, host, allowed=container.setgroups, annotations=container.annotations)
    yield from parts.settle(process, env, capabilities, groups, preserve_fds, outside_pids=True)
    settings = create.settings(plan, process, container.linux, host)
    yield parts.set_umask(process)
    yield verbs.ResetSignals()
    if container.seccomp is not None and container.early_filter:
        yield from settings
        yield from parts.load_filter(container.seccomp, capabilities, quiet=True)
    elif container.seccomp is not None:
        tail.extend(settings)
        tail.extend(parts.load_filter(container.seccomp, capabilities))
    else:
        tail.extend(settings)
    tail.append(parts.exec_program(process, env))
    yield verbs.CloneInit(signal=0)


def _init(process: "Process", tail: "list[ChildOp]") -> "Iterator[ChildOp]":
    """The program's process: what is its own, and can't be inherited."""
    yield verbs.Setsid()
    if process.get("terminal"):
        yield verbs.TakeTerminal("/process/terminal")
    yield verbs.Sync(point=READY)
    yield from tail
