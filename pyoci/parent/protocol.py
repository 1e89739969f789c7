"""Run a plan: the runtime's operations before the clone, the clone, and the synchronisation points.

The child reports in records (`native/child/`), which the runtime reads in a loop. At each synchronisation point the
runtime performs the plan's operations for that point, and answers with one byte. After any failure, `abort` removes
everything.
"""

import errno
import fcntl
import posix

from pyoci import _native
from pyoci.cgroups.cgroupfs import Cgroup
from pyoci.cgroups.directories import GONE, errno_of
from pyoci.cgroups.disabled import NoCgroup
from pyoci.compiler import verbs
from pyoci.compiler.block import encode
from pyoci.compiler.verbs.numbers import CONSOLE, CREATED, HELD, INIT
from pyoci.errors import CgroupError, PyociError, SetupError, reason
from pyoci.host import processes
from pyoci.linux import SIGKILL
from pyoci.parent import explain
from pyoci.parent.conversation import (
    CLONED,
    EXEC,
    FAILED,
    RECORD,
    SYNC,
    UNREADABLE,
    UNRECEIVED,
    Records,
    Watch,
    nonsense,
)
from pyoci.parent.helper import Helper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pyoci.cgroups.driver import Driver
    from pyoci.cgroups.systemd import Unit
    from pyoci.cgroups.units import Property
    from pyoci.compiler.operations import Plan
    from pyoci.compiler.verbs import ChildOp, Op, ParentOp
    from pyoci.errors import Log
    from pyoci.host import resctrl
    from pyoci.host.net_devices import Moved
    from pyoci.host.terminal import Foreground
    from pyoci.types import Config

    Operations = Mapping[type[ParentOp], Callable[["Launch", Any], None]]

KILL_TIMEOUT = 10  # seconds for a killed process to be gone
_EXIT_TIMEOUT = 5  # seconds for a process to end after it has closed the channel


def tracer(log: "Log") -> "Callable[[Op], None] | None":
    """Return a function that logs each operation before it runs, or None without --debug.

    The last line in the log shows where a launch hangs.
    """
    if not log.debugs:
        return None
    from pyoci.compiler import show

    def trace(op: "Op") -> None:
        log.debug(" ".join(filter(None, (op.where, op.verb, show.phrase(op)))))

    return trace


class Launch:
    """The runtime's side of one plan.

    `operations` are the functions that perform the plan's operations, by verb: HOST_VERBS, and what the caller adds.
    `trace` is called with each operation before it is performed, and with each point that the child reaches; `debug`
    with other messages.
    `process` is what errors call the process that the plan makes.

    `pid`, `pidfd` and `start_time` are those of the newest process. `cgroup` is the container's. `console` is the
    master of its terminal, or -1. `foreground` takes the runtime's signals, if the runtime waits for the program.
    `network`, `moved_devices`, `own_rlimit` and `properties` are what operations leave for later ones, or for `abort`.
    `unneeded` are descriptors to close while the child works.
    """

    def __init__(
        self,
        plan: "Plan",
        operations: "Operations",
        config: "Config",
        container_id: str,
        cgroup_mount: str = "",
        *,
        rootless: bool = False,
        trace: "Callable[[Op], None] | None" = None,
        debug: "Callable[[str], None] | None" = None,
        process: str = "the container's first process",
    ) -> None:
        self.plan = plan
        self._operations = operations
        self._process = process
        self._trace = trace
        self.helper = Helper(debug, readable=not plan.guards_memory)
        self.config = config
        self.id = container_id
        self.cgroup_mount = cgroup_mount
        self.rootless = rootless
        self.slots = [-1] * plan.slots
        self.cgroup: Driver = NoCgroup(plan.no_cgroup)
        self.unit: Unit  # the systemd driver's
        self.rdt: resctrl.Group | None = None
        self.pid = -1
        self.pidfd = -1
        self.start_time = 0
        self.console = -1
        self.foreground: Foreground | None = None
        self._channel = -1
        self._early = b""
        self._blocks = plan.blocks()
        self.network = -1
        self.own_rlimit: tuple[int, int, int] | None = None
        self.moved_devices: list[Moved] = []
        self.properties: list[Property] = []
        self.unneeded: list[int] = []
        self._children: list[int] = []
        self._pidfds: list[int] = []

    def plan_rdt(self) -> "dict[str, object]":
        """Return what the plan will make in the resctrl file system, for the record; {} without intelRdt."""
        for op in self.plan.before:
            if isinstance(op, verbs.MakeRdtGroup):
                from pyoci.host import resctrl  # most containers have no resource group

                self.rdt = resctrl.Group.planned(op)
                return self.rdt.to_dict()
        return {}

    def plan_cgroup(self) -> "dict[str, object]":
        """Return what the plan will make in the cgroup hierarchy, for the record."""
        path = self.config.get("linux", {}).get("cgroupsPath", "")
        for op in self.plan.parent():
            if isinstance(op, verbs.MakeCgroup):
                return Cgroup.planned(path, self.id, self.cgroup_mount).to_dict()
            if isinstance(op, verbs.StartUnit):
                from pyoci.cgroups.systemd import Unit  # the other drivers do not need it

                self.cgroup = self.unit = Unit.of(path, self.id, self.cgroup_mount, user=op.user)
        return self.cgroup.to_dict()

    def to_dict(self, *, settled: bool = False) -> "dict[str, dict[str, object]]":
        """Return the record's part about the host. `settled`: only what is deleted together with the container."""
        rdt = {} if self.rdt is None else self.rdt.settled() if settled else self.rdt.to_dict()
        return {"cgroup": self.cgroup.to_dict(), "rdt": rdt}

    # --- the life of a launch, in order

    def prepare(self) -> None:
        """Perform the operations before the clone."""
        for op in self.plan.before:
            self._run(op)

    def clone(self) -> None:
        """Clone the first child straight into its cgroup. If its plan has two blocks, it starts to work at once.

        There are two exceptions, in which the runtime clones a child outside the cgroup and then moves it.

        - The kernel kills a new child if `cgroup.kill` was used before in that cgroup or in the runtime's own, because
          the kernel compares the wrong two counters.
        - The runtime of a plain user may be outside the subtree that the user's systemd controls. Then systemd moves
          the child.
        """
        if HELD in self.plan.at:
            self._clone(-1)
            for op in self.plan.at[HELD]:
                self._run(op)
            return
        # systemd makes the cgroup of a unit later, for the process
        cgroup_fd = self.cgroup.dirfd if isinstance(self.cgroup, Cgroup) and self.cgroup.inode else -1
        if self._clone(cgroup_fd) and cgroup_fd >= 0:
            if self._children:
                self.reap_killed_child()
            self._clone(-1)
            self._run(verbs.EnterCgroup("/linux/cgroupsPath"))
        if len(self._blocks) > 1:
            self._send_block()
            self._close_slots()

    def reap_killed_child(self) -> None:
        """Reap a child that the kernel killed at its clone."""
        posix.waitpid(self._children.pop(), 0)
        posix.close(self._pidfds.pop())
        posix.close(self._channel)
        self._channel = self.pid = self.pidfd = -1

    def _clone(self, cgroup_fd: int) -> bool:
        """Clone the first child, which waits for its plan.

        Returns whether it must be cloned again: the kernel killed it, or may not put it into its cgroup.
        """
        self._channel, child_end = _native.channel()
        try:
            self.pid, self.pidfd = self.helper.start(child_end, self.plan.clone_flags, cgroup_fd)
        except OSError as error:
            if error.errno == errno.EINVAL and (lacking := _lacking_namespace(self.config)):
                raise lacking from error
            if cgroup_fd >= 0 and error.errno == errno.EACCES and self.cgroup.manager_moves_processes:
                posix.close(self._channel)
                self._channel = -1
                return True
            if cgroup_fd >= 0 and error.errno in GONE:
                text = f"cannot put a process into cgroup {self.cgroup.path}: it was removed"
                raise CgroupError(text, where="/linux/cgroupsPath") from error
            if cgroup_fd >= 0 and error.errno in _CGROUP_HINTS and isinstance(self.cgroup, Cgroup):
                text = f"cannot put a process into cgroup {self.cgroup.path}: {reason(error.errno)}"
                raise CgroupError(text, where="/linux/cgroupsPath", hint=_CGROUP_HINTS[error.errno]) from error
            raise SetupError(
                f"cannot clone {self._process}: {error.strerror}: {reason(error.errno or 0)}",
                where="" if self.plan.bootstrap or error.strerror == "execveat" else "/linux/namespaces",
                hint=explain.CLONE_HINTS.get(error.errno or 0, ""),
            ) from error
        finally:
            posix.close(child_end)
        self._children.append(self.pid)
        self._pidfds.append(self.pidfd)
        self.start_time, killed = processes.start_time_and_killed(self.pid)
        return killed

    def send_plan(self) -> None:
        """Open what the last block needs, and send that block to the child."""
        for op in self.plan.opening:
            self._run(op)
        self._send_block()

    def _send_block(self) -> None:
        """Give the child its next operations, and the descriptors that are open for them."""
        first, ops = self._blocks.pop(0)
        try:
            _native.send_plan(self._channel, encode(ops, len(self.slots), first=first), self.slots)
        except ConnectionError as error:
            if first:
                self.serve_child()  # raises what the child has reported
            raise self.ended() from error
        except OSError as error:
            what = f"{error.filename}: {reason(error.errno or 0)}"
            raise SetupError(f"cannot send the plan to {self._process}: {what}") from error

    def alongside(self) -> None:
        """Perform the operations that run beside the child's work, before the runtime answers it for the first time."""
        for op in self.plan.alongside:
            self._run(op)
        for fd in self.unneeded:
            posix.close(fd)
        self.unneeded = []

    def serve_child(self) -> None:
        """Perform the operations of each synchronisation point, until the child is created or runs its program.

        Raises what the child reports, or what an operation of the runtime raises.
        """
        executes = False
        ops = self.plan.child()
        records = Records(dict(enumerate(ops)))
        watch = Watch()
        while True:
            data = self._next_record(records, watch, may_end=executes)
            if data is None:
                return
            kind, index, step, error, detail, payload = records.take(data)
            if kind == CLONED:
                bootstrap, bootstrap_fd = self.pid, self.pidfd
                self.adopt(detail)
                clone = ops[index]
                if isinstance(clone, verbs.CloneInit) and clone.waits:
                    self.at_sync_point(INIT)
                self.reap_bootstrap(bootstrap, bootstrap_fd)
            elif kind == UNRECEIVED:
                what = f"{_native.STEPS[step]}: {reason(error)}"
                raise SetupError(f"cannot send the plan to {self._process}: {what}")
            elif kind == FAILED:
                raise self._explain(ops[index], step, error, detail, payload)
            elif kind == UNREADABLE:
                raise explain.unreadable(ops, step, index, detail)
            elif kind == EXEC:
                executes = True
            elif kind == SYNC:
                if detail == CONSOLE and self.console < 0:
                    raise nonsense("no terminal came with it")
                self.at_sync_point(detail)
                if detail == CREATED:
                    return

    def abort(self) -> "list[str]":
        """Kill and reap every child, undo what was done on the host, and close everything.

        Returns error messages for what it could not undo.
        """
        for pid in self._children:
            posix.kill(pid, SIGKILL)  # the pid of a child is not reused before it is reaped
        if self._channel >= 0:
            posix.close(self._channel)
            self._channel = -1
        left = [
            f"process {pid} stays until its tracer ends"
            for pid in self._children
            if processes.reap(pid, KILL_TIMEOUT) is None
        ]
        self._children = []
        if self.moved_devices:
            from pyoci.host import net_devices

            left += net_devices.bring_back(self.moved_devices, self.network)
        if self.rdt is not None:
            left += self.rdt.undo()
        self.close()
        self.release()
        return left

    def close(self) -> None:
        """Close the descriptors of the setup, and restore the runtime's own limit.

        Keeps the pidfd and the console, which a foreground `run` still uses.
        """
        self._close_slots()
        for fd in (self._channel, self.network, *self.unneeded):
            if fd >= 0:
                posix.close(fd)
        self._channel = self.network = -1
        self.unneeded = []
        self.cgroup.close()
        self.helper.close()
        if self.own_rlimit is not None:
            _native.prlimit(0, *self.own_rlimit)
            self.own_rlimit = None

    def _close_slots(self) -> None:
        for slot, fd in enumerate(self.slots):
            if fd >= 0:
                posix.close(fd)
                self.slots[slot] = -1

    def release(self) -> None:
        """Close the pidfds and the console, because this process does not wait for the container."""
        for fd in self._pidfds:
            posix.close(fd)
        self._pidfds = []
        self.pidfd = -1
        self.hand_over_console()

    def hand_over_console(self) -> None:
        """Close the console, which now belongs to its receiver."""
        if self.console >= 0:
            posix.close(self.console)
        self.console = -1

    # --- records and answers

    def _next_record(self, records: Records, watch: Watch, *, may_end: bool) -> "bytes | None":
        """Return the next record in the plan's order: a cloned process may overtake the record of its pid.

        Returns and raises what `_receive` does.
        """
        if self._early and not records.is_early(self._early):
            data, self._early = self._early, b""
            return data
        received = self._receive(watch, may_end=may_end)
        if received is None or self._early or not records.is_early(received):
            return received
        self._early = received
        return self._receive(watch, may_end=may_end)

    def _receive(self, watch: Watch, *, may_end: bool) -> "bytes | None":
        """Return the next record, or None once the channel is closed, if execve `may_end` it.

        Raises SetupError if the child ended without a record, or sent a descriptor that the plan does not allow.
        """
        ready = watch.wait(self._channel, self.pid, self.pidfd, until_exec=may_end, foreground=self.foreground)
        if self._channel not in ready:
            if may_end:  # the child runs its program, or has ended since
                return None
            raise self.ended()
        try:
            data, descriptors = _native.receive_fds(self._channel, 8192)
        except ConnectionResetError:  # the child ended before it had read everything: its last record comes next
            data, descriptors = _native.receive_fds(self._channel, 8192)
        if descriptors:
            self._take_console(data, descriptors)
        if not data:
            if may_end:
                return None
            raise self.ended()
        return data

    def _explain(self, op: "ChildOp", step: int, error: int, detail: int, payload: bytes) -> PyociError:
        """Return the error for an operation of the child that failed."""
        if isinstance(op, verbs.Unshare) and error == errno.EINVAL and (lacking := _lacking_namespace(self.config)):
            return lacking
        if isinstance(op, verbs.CloneInit):
            return explain.no_clone(op, self._process, step, error)
        return explain.explain(self.config.get("process"), op, step, error, detail, payload)

    def _take_console(self, data: bytes, descriptors: "list[int]") -> None:
        """Take the master of the terminal, which comes once and at its point.

        Raises SetupError for any other descriptor.
        """
        kind, detail = RECORD.unpack_from(data)[::5] if len(data) >= RECORD.size else (0, 0)
        if (kind, detail, len(descriptors), self.console) == (SYNC, CONSOLE, 1, -1) and _is_terminal(descriptors[0]):
            self.console = descriptors[0]
            return
        for fd in descriptors:
            posix.close(fd)
        raise nonsense("a descriptor came with it")

    def at_sync_point(self, point: int) -> None:
        """Perform the operations of a point that the child has reached, and answer it."""
        if self._trace is not None:
            self._trace(verbs.Sync(point=point))
        for op in self.plan.at.get(point, ()):
            self._run(op)
        self._answer()
        try:
            for op in self.plan.after.get(point, ()):
                self._run(op)
        except PyociError as error:
            # A unit's cgroup vanishes with the child, whose own report of the failure comes next.
            if errno_of(error) not in GONE or not processes.wait_ended(self.pidfd, 0):
                raise

    def perform(self, point: int) -> None:
        """Perform the operations of a point that something else than the child's report has announced."""
        for op in (*self.plan.at.get(point, ()), *self.plan.after.get(point, ())):
            self._run(op)

    def _answer(self) -> None:
        """Let the child continue. Raises SetupError if it has ended."""
        try:
            self.send(b"\1")
        except BrokenPipeError as error:
            raise self.ended() from error
        except BlockingIOError as error:  # the child reads each answer before it sends more
            raise nonsense("its answers are not read") from error

    def send(self, data: bytes) -> None:
        """Send data to the child, without waiting for the child to read it. Raises OSError."""
        _native.send(self._channel, data)

    def ended(self) -> SetupError:
        """Reap a child that has vanished, and return the error. Kill it if it only closed its end of the channel."""
        hung_up = not processes.wait_ended(self.pidfd, _EXIT_TIMEOUT)
        if hung_up:
            processes.send_signal(self.pidfd, SIGKILL)
        status = processes.reap(self.pid, KILL_TIMEOUT)
        self._children.remove(self.pid)
        if status is None:  # its next parent reaps it once its tracer detaches
            status = processes.wait_status(self.pid)
        if hung_up:
            return nonsense("it has hung up")
        how = f"killed by signal {status & 0x7F}" if status & 0x7F else f"exited with status {status >> 8}"
        hint = explain.NO_MEMORY if status & 0x7F == SIGKILL else ""
        verb = "was " if status & 0x7F else ""
        return SetupError(f"{self._process} {verb}{how} while it was set up", hint=hint)

    def adopt(self, pid: int) -> None:
        """Adopt the process that the first child has cloned as a child of the runtime. Raises SetupError."""
        parent, start_time = processes.parent_and_start_time(pid)
        if pid == self.pid or parent != posix.getpid():
            raise nonsense("no such process was cloned")
        self.pid = pid
        self.start_time = start_time
        self._children.append(pid)
        self.pidfd = posix.pidfd_open(pid)
        self._pidfds.append(self.pidfd)

    def reap(self) -> None:
        """Wait for the end of every child, which is certain to end."""
        for pid in self._children:
            posix.waitpid(pid, 0)
        self._children = []

    def reap_bootstrap(self, pid: int, pidfd: int) -> None:
        """Reap the bootstrap process, which exits as soon as it has cloned its child."""
        Watch().wait(pidfd, pid, pidfd)
        processes.reap(pid, KILL_TIMEOUT)
        self._children.remove(pid)

    # --- the runtime's operations

    def _run(self, op: "ParentOp") -> None:
        """Perform one operation. Turn an OSError into a SetupError with the operation's pointer."""
        if self._trace is not None:
            self._trace(op)
        try:
            self._perform(op)
        except OSError as error:
            if isinstance(error, PyociError):
                raise
            raise SetupError(
                f"cannot {op.attempt()}: {reason(error.errno or 0)}", where=op.where, hint=explain.host_hint(op, error)
            ) from error

    def _perform(self, op: "ParentOp") -> None:
        self._operations[type(op)](self, op)


# Why clone3 can't put a process into a cgroup.
_CGROUP_HINTS = {
    errno.EBUSY: "its cgroup.subtree_control enables controllers for its children, so only those may have processes",
    errno.EOPNOTSUPP: "it is a threaded cgroup, or below one",
}


def _is_terminal(fd: int) -> bool:
    """Whether a descriptor is the master of a pseudo-terminal."""
    try:
        fcntl.ioctl(fd, _native.IOCTLS["TIOCGPTN"], bytes(4))
    except OSError:
        return False
    return True


def _lacking_namespace(config: "Config") -> "SetupError | None":
    """Return the error for the first namespace of a type that this kernel was built without."""
    names = {"network": "net", "mount": "mnt"}
    have = posix.listdir("/proc/self/ns")
    for index, entry in enumerate(config.get("linux", {}).get("namespaces", ())):
        kind = entry["type"]
        if names.get(kind, kind) not in have:
            text = f"cannot make a {kind} namespace: this kernel has none"
            return SetupError(text, where=f"/linux/namespaces/{index}")
    return None


__all__ = ["Launch", "tracer"]
