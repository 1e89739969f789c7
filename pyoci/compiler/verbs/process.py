"""The child's operations on its own process: synchronisation, namespaces, descriptors, signals, memory policy."""

from pyoci.compiler.verbs.base import ChildOp
from pyoci.compiler.verbs.numbers import POINTS
from pyoci.compiler.verbs.phrases import limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.verbs.base import Natural, Point, Slot

# linux/mempolicy.h
MEMORY_POLICY_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_STATIC_NODES": 1 << 15,
}  # fmt: skip


class Sync(ChildOp):
    """Report that the child has reached `point`, and wait for the runtime's answer.

    Does: exits if the runtime has ended. After CREATED the child continues without the runtime.
    Calls: write read
    """

    point: "Point"
    fails = "synchronise at {name}"

    @property
    def name(self) -> str:
        """The name of the point."""
        return POINTS[self.point]

    def shown(self) -> str:
        return self.name


class ReceivePlan(ChildOp):
    """Wait for the rest of the plan and the descriptors that it needs, and check it.

    Does: exits if the runtime has ended.
    Leaves: the new operations as the next ones. This is the last operation of the child's first block.
    Fails with: recvmsg, fstat, mmap.
    Calls: recvmsg+ fstat mmap mmap close
    """

    shows = "the rest, with descriptors"
    fails = "receive the rest of the plan"


class HideCaller(ChildOp):
    """Call this process `init`, and erase the number of its channel from its command line.

    Leaves: no trace of the caller in /proc/PID/{cmdline,environ,comm,stat,status}. The process has begun as the helper,
    which has no other argument, no environment and no memory of the caller.
    Calls: prctl
    """

    shows = "as `init`, without arguments"
    fails = "hide the caller's command line"


class SetPdeathsig(ChildOp):
    """Set the signal that this process gets when the runtime ends; 0 for none.

    Fails with: prctl.
    Calls: prctl
    """

    signal: "Natural"
    fails = "set the parent-death signal"

    def shown(self) -> str:
        return "KILL" if self.signal else "off"


class SetDumpable(ChildOp):
    """Set whether other processes of the same user may trace this one and read its memory.

    Leaves: root as the owner of the files in /proc/PID, if `dumpable` is 0.
    Fails with: prctl.
    Calls: prctl
    """

    dumpable: "Natural"
    shows = "{dumpable}"
    fails = "protect the process from tracing"


class Setsid(ChildOp):
    """Start a new session, which this process leads.

    Fails with: setsid.
    Calls: setsid
    """

    fails = "start a session"


class SetUmask(ChildOp):
    """Set the umask. -1 restores the caller's.

    Calls: umask
    """

    umask: int
    fails = "set the umask"

    def shown(self) -> str:
        return "the caller's" if self.umask < 0 else f"{self.umask:04o}"


class JoinNamespace(ChildOp):
    """Join the namespaces of these `types` through a descriptor: a namespace's file or a pidfd.

    Takes: `namespaces`, the slot of the descriptor; `kind`, for messages.
    Fails with: setns.
    Calls: setns
    """

    kind: str
    namespaces: "Slot"
    types: "Natural"
    shows = "{kind}"
    fails = "join the {kind} namespace"


class Unshare(ChildOp):
    """Create namespaces of these `types` for this process, or in case of pid and time for its children.

    Takes: `kinds`, for messages.
    Fails with: unshare.
    Calls: unshare
    """

    kinds: str
    types: "Natural"
    shows = "{kinds}"
    fails = "create the namespaces: {kinds}"


class BecomeRoot(ChildOp):
    """Take uid and gid 0 of the user namespace, whose id mappings exist.

    Leaves: a process that is not dumpable and dies with the runtime, as before. The kernel resets both with the ids,
        and this operation sets them back.
    Fails with: setresgid, setresuid.
    Calls: setresgid setresuid prctl prctl
    """

    fails = "become root of the user namespace"


class CloneInit(ChildOp):
    """Clone the program's process as a child of the runtime, report its pid, and end.

    Takes: `signal`, which the new process gets when the runtime ends; 0 for none. `waits`: the new process continues
        once the runtime has answered, and exits if the runtime has ended.
    Leaves: the rest of the plan to the new process.
    Fails with: clone. It does not call clone3, because the seccomp profiles of engines deny that, and the filter may be
        in force.
    Calls: clone (write exit_group | prctl? read?)
    """

    signal: "Natural"
    waits: bool = False
    fails = "clone the container's init"


class SetHostname(ChildOp):
    """Set the hostname of the UTS namespace.

    Fails with: sethostname.
    Calls: sethostname
    """

    name: str
    shows = "{name}"
    fails = "set hostname {name}"


class SetDomainname(ChildOp):
    """Set the NIS domain name of the UTS namespace.

    Fails with: setdomainname.
    Calls: setdomainname
    """

    name: str
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

    Ignores: an error. The process then keeps the caller's set.
    Calls: sched_setaffinity
    """

    fails = "reset the CPU affinity"


class CloseFds(ChildOp):
    """Close the descriptors that the container must not inherit.

    Takes: `first`, the first descriptor to close; `keep`, a slot to keep open, 0 for none.
    Does: closes the runtime's own descriptors below `first`, too. execve would close them later, after the container
        could have used them.
    Leaves: below `first` the descriptors that the caller passes to the program. From there on the channel, the FIFOs,
        the startContainer state, the seccomp filter, and the slot `keep`.
    Fails with: close_range.
    Calls: (fcntl | close)* close_range+
    """

    first: "Natural"
    keep: "Slot" = 0
    fails = "close the runtime's descriptors"

    def shown(self) -> str:
        return f"from {self.first}" + (" but the container's pidfd" if self.keep else "")


class ResetSignals(ChildOp):
    """Give every signal its default action, and unblock all. An ignored SIGPIPE would survive execve.

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
    resource: "Natural"
    soft: int
    hard: int
    fails = "set {name}"

    def shown(self) -> str:
        return f"{self.name}  soft {limit(self.soft)} hard {limit(self.hard)}"


class SetMemoryPolicy(ChildOp):
    """Set the NUMA memory policy, which children inherit.

    Takes: `mask`, the nodes; `mode`, with flags; `name` and `nodes`, the config's words for them;
        `exactly`, to read the nodes back.
    Fails with: set_mempolicy, get_mempolicy; nodes-differ if `exactly` is set and the kernel has dropped a node. It
        silently drops one without memory, and one that the cgroup forbids.
    Calls: set_mempolicy get_mempolicy?
    """

    mask: bytes
    name: str
    nodes: str
    mode: "Natural"
    exactly: bool
    fails = "set memory policy {name}"

    def shown(self) -> str:
        flags = [name.removeprefix("MPOL_F_") for name, bit in MEMORY_POLICY_FLAGS.items() if self.mode & bit]
        nodes = f"nodes {self.nodes}" if self.nodes else ""
        return "  ".join(word for word in (self.name, nodes, *flags) if word)
