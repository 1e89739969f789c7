"""From the container's user to the program: working directory, program, priorities, seccomp filter, start."""

import _struct

from pyoci.compiler.verbs.base import ChildOp, Op, ParentOp
from pyoci.compiler.verbs.phrases import filter_size
from pyoci.linux import IOPRIO_CLASS_SHIFT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.seccomp import Filter
    from pyoci.compiler.verbs.base import Environment, Natural, Slot, Vector

# struct sched_attr of linux/sched/types.h: size, policy, flags, nice, priority, runtime, deadline, period, and two
# clamps, for which the specification has no values
SCHED_ATTR = _struct.Struct("=IIQiIQQQII")
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 1, "SCHED_FLAG_RECLAIM": 2, "SCHED_FLAG_DL_OVERRUN": 4, "SCHED_FLAG_KEEP_POLICY": 8,
    "SCHED_FLAG_KEEP_PARAMS": 16, "SCHED_FLAG_UTIL_CLAMP_MIN": 32, "SCHED_FLAG_UTIL_CLAMP_MAX": 64,
}  # fmt: skip


class MakeDirectory(ChildOp):
    """Create the working directory, inside the root, if it is missing.

    Ignores: a path that is a file, or that this process may not search. `chdir` runs as the program's user and reports
        both.
    Fails with: openat2, mkdirat, openat.
    Calls: PATH close?
    """

    path: str
    shows = "{path}"
    fails = "make directory {path}"


class SetHome(ChildOp):
    """Look up HOME for a program whose environment has none: the home of `uid` in the container's /etc/passwd, or `/`.

    Ignores: a file that is missing or not regular, and all beyond its first MiB, because the container controls it.
    Leaves: HOME, for `exec` and for hooks with `add_home`.
    Calls: (openat2 | openat | newfstatat | read | close)*
    """

    uid: "Natural"
    shows = "from /etc/passwd, uid {uid}"
    fails = "look up HOME"


class Chdir(ChildOp):
    """Enter the working directory.

    Does: tries again as user `uid` and group `gid` if the kernel denies it, because NFS and FUSE may deny root.
    Fails with: chdir, getcwd; outside if it is not below `/`, such as a leaked directory of the host (CVE-2024-21626).
    Calls: chdir (setfsgid setfsuid chdir setfsuid setfsgid prctl prctl)? getcwd
    """

    path: str
    uid: "Natural"
    gid: "Natural"
    shows = "{path}"
    fails = 'chdir to cwd ("{path}") set in config.json failed'


class FindProgram(ChildOp):
    """Find the program as execvp(3) does, as the container's user, and check that its interpreter exists.

    Takes: `name`, the first argument; `search`, PATH of the container; `outside_pids`, if this process is not in the
        container's pid namespace. A path that leads through /proc/self is then left to execve.
    Leaves: the path, for `exec`.
    Fails with: not-found; not-executable, with path and mode in the record; is-directory; interpreter.
    Calls: (newfstatat | faccessat2 | openat | read | pread64 | close | fstatfs | statfs)*
    """

    name: str
    search: str
    outside_pids: bool
    fails = "find program {name}"

    def shown(self) -> str:
        return self.name + (f"  in {self.search}" if "/" not in self.name else "")


class WaitStart(ChildOp):
    """Wait for `pyoci start` on the FIFO that the runtime opened, before any limit on descriptors applied.

    Does: ends on SIGINT, SIGQUIT and SIGTERM.
    Leaves: the channel closed. From here on records go through the result FIFO, which execve closes to report success.
        The other FIFO stays open until execve, because the container is still `created` while startContainer hooks run.
    Fails with: read.
    Calls: close rt_sigaction+ rt_sigprocmask read+ rt_sigaction+ rt_sigprocmask
    """

    fails = "wait for start"


class LoadSeccomp(ChildOp):
    """Load the seccomp filter.

    Takes: `program`, or the file in slot `file`, into which the runtime writes it
        meanwhile; `filter`, for messages; `seccomp_flags`, of seccomp(2); `quiet`, if operations follow besides hooks
        and execve.
    Leaves: for a filter with a listener, a thread that waits to close the listener. If pids.max has no room for the
        thread, the listener stays open.
    Fails with: seccomp.
    Calls: pread64? write? clone? seccomp
    """

    program: bytes = b""
    seccomp_flags: "Natural"
    file: "Slot" = 0
    quiet: bool
    filter: "Filter"
    unsent = ("filter",)
    fails = "load the seccomp filter"

    def shown(self) -> str:
        return filter_size(self.filter.instructions, self.seccomp_flags)


class Exec(ChildOp):
    """Replace this process by the program.

    Takes: `argv`; `envp`, with a spare place that gets HOME if `set_home` has found one.
    Does: sends a record before the call, so that the runtime knows that every other operation has succeeded.
    Fails with: execve; not-found.
    Calls: write? execve
    """

    argv: "Vector"
    envp: "Environment"
    fails = "execute the program"

    def shown(self) -> str:
        return " ".join(self.argv)


class _Scheduling(Op):
    attributes: bytes
    policy: str
    fails = "set scheduling policy {policy}"

    def shown(self) -> str:
        _, _, flags, nice, priority, *times, _, _ = SCHED_ATTR.unpack(self.attributes)
        words = [self.policy]
        if nice:
            words.append(f"nice {nice}")
        if priority:
            words.append(f"priority {priority}")
        names = ("runtime", "deadline", "period")
        words += [f"{name} {value}" for name, value in zip(names, times, strict=True) if value]
        words += [name.removeprefix("SCHED_FLAG_") for name, bit in SCHEDULER_FLAGS.items() if flags & bit]
        return "  ".join(words)


class SetScheduler(_Scheduling, ChildOp):
    """Set the scheduling policy of this process.

    Takes: `attributes`, a struct sched_attr, which begins with its size; `policy`, for messages.
    Fails with: sched_setattr.
    Calls: sched_setattr
    """


class SchedSetattr(_Scheduling, ParentOp):
    """Set the scheduling policy of the child, which may lack the privilege.

    Takes: the fields of `SetScheduler`.
    Fails with: the call's error.
    Calls:
    """


class _IoPriority(Op):
    name: str
    priority: "Natural"
    fails = "set I/O priority {name}"

    def shown(self) -> str:
        return f"{self.name}  {self.priority & (1 << IOPRIO_CLASS_SHIFT) - 1}"


class SetIoPriority(_IoPriority, ChildOp):
    """Set the I/O priority of this process.

    Takes: `priority` with its class, of which `name` is the config's word.
    Fails with: ioprio_set.
    Calls: ioprio_set
    """


class IoprioSet(_IoPriority, ParentOp):
    """Set the I/O priority of the child, which may lack the privilege.

    Takes: the fields of `SetIoPriority`.
    Fails with: the call's error.
    Calls:
    """
