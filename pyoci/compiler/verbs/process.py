"""What the child does to its own process: synchronisation, namespaces, descriptors, signals, memory policy."""

from pyoci.compiler.verbs.base import ChildOp
from pyoci.compiler.verbs.numbers import POINTS
from pyoci.compiler.verbs.phrases import limit

# linux/mempolicy.h
MEMORY_POLICY_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_STATIC_NODES": 1 << 15,
}  # fmt: skip


class Sync(ChildOp):
    """Report that the child has reached `point`, and wait for the runtime's answer.

    Leaves: a child that exits if the runtime is gone. At CREATED it goes on: the container then stands by itself.
    Calls: write read
    """

    point: int
    fails = "synchronise at {name}"

    @property
    def name(self) -> str:
        """The name of the point."""
        return POINTS[self.point]

    def shown(self) -> str:
        return self.name


class HideCaller(ChildOp):
    """Overwrite the caller's command line, environment and process name, of which this process has a copy.

    Leaves: nothing of them in /proc/PID/{cmdline,environ,comm,stat,status} or in memory.
    Calls: prctl
    """

    shows = "command line, environment, name"
    fails = "hide the caller's command line"


class SetPdeathsig(ChildOp):
    """Set the signal that this process gets when the runtime ends; 0 for none.

    Fails with: prctl.
    Calls: prctl
    """

    signal: int
    fails = "set the parent-death signal"

    def shown(self) -> str:
        return "KILL" if self.signal else "off"


class SetDumpable(ChildOp):
    """Set whether other processes of the same user may trace this one and read its memory.

    Leaves: the files in /proc/PID in root's hands if `dumpable` is 0.
    Fails with: prctl.
    Calls: prctl
    """

    dumpable: int
    shows = "{dumpable}"
    fails = "protect the process from tracing"


class Setsid(ChildOp):
    """Start a new session, which this process leads.

    Fails with: setsid.
    Calls: setsid
    """

    fails = "start a session"


class SetUmask(ChildOp):
    """Set the umask, or if it is -1 the one that the caller had.

    Calls: umask
    """

    umask: int
    fails = "set the umask"

    def shown(self) -> str:
        return "the caller's" if self.umask < 0 else f"{self.umask:04o}"


class JoinNamespace(ChildOp):
    """Join the namespaces of types `flags` behind a descriptor: a namespace's file or a pidfd.

    Takes: `namespaces`, the slot. `kind` is for messages.
    Fails with: setns.
    Calls: setns
    """

    kind: str
    namespaces: int
    types: int
    shows = "{kind}"
    fails = "join the {kind} namespace"


class Unshare(ChildOp):
    """Create namespaces of `types` for this process; a pid or time namespace is for its children only.

    Takes: `kinds`, for messages.
    Fails with: unshare.
    Calls: unshare
    """

    kinds: str
    types: int
    shows = "{kinds}"
    fails = "create the namespaces: {kinds}"


class BecomeRoot(ChildOp):
    """Take uid and gid 0 of the user namespace, which has its id mappings by now.

    Leaves: a process that is not dumpable and dies with the runtime, as it was before: the kernel resets both.
    Fails with: setresgid, setresuid.
    Calls: setresgid setresuid prctl prctl
    """

    fails = "become root of the user namespace"


class CloneInit(ChildOp):
    """Clone the program's process as a child of the runtime, report its pid, and end.

    Takes: `signal`, which the new process gets when the runtime ends; 0 for none.
    Leaves: the plan to the new process. It goes on once the runtime has answered, and exits if the runtime is gone.
    Fails with: clone. It is not clone3: seccomp profiles of engines, which may be in force already, deny that.
    Calls: clone (write exit_group | prctl? read)
    """

    signal: int
    fails = "clone the container's init"


class SetHostname(ChildOp):
    """Set the hostname of the UTS namespace.

    Takes: `name`, of `length` bytes.
    Fails with: sethostname.
    Calls: sethostname
    """

    name: str
    length: int
    shows = "{name}"
    fails = "set hostname {name}"


class SetDomainname(ChildOp):
    """Set the NIS domain name of the UTS namespace.

    Takes: `name`, of `length` bytes.
    Fails with: setdomainname.
    Calls: setdomainname
    """

    name: str
    length: int
    shows = "{name}"
    fails = "set domainname {name}"


class LoUp(ChildOp):
    """Bring the loopback device of the network namespace up.

    Fails with: socket, ioctl.
    Calls: socket ioctl ioctl close
    """

    fails = "bring loopback up"


class ResetAffinity(ChildOp):
    """Allow this process every CPU of its cgroup.

    Ignores: a refusal, which leaves the caller's set.
    Calls: sched_setaffinity
    """

    fails = "reset the CPU affinity"


class CloseFds(ChildOp):
    """Close what the container must not inherit.

    Takes: `first`, from which on everything is closed but the channel, the FIFOs, the startContainer state, the seccomp
        filter, and the slot `keep` unless that is 0.
    Leaves: between 3 and `first` the descriptors that the caller passes on. There it closes those of the runtime's own:
        execve would do so, but only after the container could have used them.
    Fails with: close_range.
    Calls: (fcntl | close)* close_range+
    """

    first: int
    keep: int = 0
    fails = "close the runtime's descriptors"

    def shown(self) -> str:
        return f"from {self.first}" + (" but the container's pidfd" if self.keep else "")


class ResetSignals(ChildOp):
    """Give every signal its default action and unblock all: an ignored SIGPIPE would survive execve.

    Calls: rt_sigaction+ rt_sigprocmask
    """

    fails = "reset the signals"


class SetRlimit(ChildOp):
    """Set a resource limit of this process.

    Takes: `resource`, the kernel's number of `name`.
    Fails with: prlimit.
    Calls: prlimit64
    """

    name: str
    resource: int
    soft: int
    hard: int
    fails = "set {name}"

    def shown(self) -> str:
        return f"{self.name}  soft {limit(self.soft)} hard {limit(self.hard)}"


class SetMemoryPolicy(ChildOp):
    """Set the NUMA memory policy, which children inherit.

    Takes: `mask`, the nodes, of `size` bits; `mode`, with flags. `name` and `nodes` are the config's words for them.
    Fails with: set_mempolicy, get_mempolicy; nodes-differ if `exactly` is set and the kernel dropped a node, as it does
        silently with one that has no memory or that the cgroup forbids.
    Calls: set_mempolicy get_mempolicy?
    """

    mask: bytes
    name: str
    nodes: str
    mode: int
    size: int
    exactly: bool
    fails = "set memory policy {name}"

    def shown(self) -> str:
        flags = [name.removeprefix("MPOL_F_") for name, bit in MEMORY_POLICY_FLAGS.items() if self.mode & bit]
        nodes = f"nodes {self.nodes}" if self.nodes else ""
        return "  ".join(word for word in (self.name, nodes, *flags) if word)
