"""Run a plan: the parent's operations, the clone, and the conversation with the child.

The child reports in records (`native/child/`); the parent is one loop over them. At each synchronisation point it
runs the plan's operations for that point and answers with one byte. Whatever goes wrong, `abort` leaves nothing
behind.
"""

import errno
import fcntl
import posix

from pyoci import _native, ranges
from pyoci.cgroups.cgroupfs import Cgroup
from pyoci.cgroups.directories import GONE, errno_of
from pyoci.cgroups.disabled import NoCgroup
from pyoci.compiler.devices import OF_CONTAINER
from pyoci.compiler.mounts import NOEXEC, NOSUID
from pyoci.compiler.operations import (
    BORN,
    BUNDLE,
    CHANNEL,
    CLONES,
    CONSOLE,
    CREATED,
    EXEC_FIFO,
    FILTER,
    FIRST_SLOT,
    HOOK_STATE,
    ID_MAPS,
    INIT,
    NET_DEVICES,
    NOTIFY_FOLDER,
    RESULT_FIFO,
    START_STATE,
    SYNC_NAMES,
    Op,
    Plan,
    encode,
    sync,
)
from pyoci.errors import CgroupError, PyociError, SetupError, reason
from pyoci.host import files, hooks, processes
from pyoci.parent import explain
from pyoci.parent.conversation import CLONED, EXEC, FAILED, RECORD, SYNC, Records, Watch, nonsense

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyoci.cgroups.driver import Driver
    from pyoci.cgroups.systemd import Unit
    from pyoci.cgroups.units import Property
    from pyoci.errors import Log
    from pyoci.host import resctrl
    from pyoci.host.terminal import Foreground

SIGKILL = 9
PATIENCE = 10  # seconds for a killed process to be gone
_HANG_UP_PATIENCE = 5  # seconds between the last word of a process and its end
_TIOCGPTN = 0x80045430  # which the master of a pseudo-terminal alone answers

CLONE_NEWUSER = 0x10000000
O_PATH, O_ACCMODE = 0x200000, 3
S_IFMT, S_IFCHR, S_IFLNK = 0o170000, 0o020000, 0o120000


def tracer(log: "Log") -> "Callable[[Op], None] | None":
    """What tells a log that wants to know (`--debug`) how far a launch has come: the last line is where it hangs."""
    if not log.debugs:
        return None
    from pyoci.compiler import show

    def trace(op: Op) -> None:
        log.debug(" ".join(filter(None, (op.where, op.verb, show.phrase(op)))))

    return trace


class Launch:
    """The parent's side of one plan.

    `pid`, `pidfd` and `start_time` are those of the container's init once it was cloned; `cgroup` is the container's.
    `console` is the master of its terminal, -1 if it has none. It calls `trace` with each operation of the runtime's
    before it runs it, and with each point that the child reaches. `process` is what errors call the process that the
    plan makes. `foreground` takes the runtime's signals, once there is one.
    """

    def __init__(
        self,
        plan: Plan,
        config: "dict[str, Any]",
        container_id: str,
        cgroup_mount: str = "",
        *,
        rootless: bool = False,
        trace: "Callable[[Op], None] | None" = None,
        process: str = "the container's first process",
    ) -> None:
        self.plan = plan
        self._process = process
        self._trace = trace
        if trace is not None:
            plan.complete()  # the figures of what is traced, before it is done
        self.config = config
        self.id = container_id
        self._cgroup_mount = cgroup_mount
        self._rootless = rootless
        self.slots = [-1] * plan.slots
        self.cgroup: Driver = NoCgroup(plan.no_cgroup)
        self._unit: Unit  # the systemd driver's
        self.rdt: resctrl.Group | None = None
        self.pid = -1
        self.pidfd = -1
        self.start_time = 0
        self.console = -1
        self.foreground: Foreground | None = None
        self._channel = -1
        self._network = -1
        self._own_rlimit: tuple[int, int, int] | None = None
        self._moved: list[dict[str, Any]] = []
        self._properties: list[Property] = []
        self._children: list[int] = []
        self._pidfds: list[int] = []

    def plan_rdt(self) -> "dict[str, Any]":
        """What this will make in the resctrl file system, for the record; {} without intelRdt."""
        for op in self.plan.before:
            if op.verb == "make_rdt_group":
                from pyoci.host import resctrl  # only what has a resource group pays for it

                self.rdt = resctrl.Group.planned(op)
                return self.rdt.to_dict()
        return {}

    def plan_cgroup(self) -> "dict[str, Any]":
        """What this will make in the cgroup hierarchy, for the record."""
        path = self.config.get("linux", {}).get("cgroupsPath", "")
        for op in self.plan.parent():
            if op.verb == "make_cgroup":
                return Cgroup.planned(path, self.id, self._cgroup_mount).to_dict()
            if op.verb == "start_unit":
                from pyoci.cgroups.systemd import Unit  # only its driver pays for it

                self.cgroup = self._unit = Unit.of(path, self.id, self._cgroup_mount, user=bool(op.a))
        return self.cgroup.to_dict()

    def to_dict(self, *, settled: bool = False) -> "dict[str, Any]":
        """What of the record is about what was made on the host; `settled`: what of it goes with the container, which
        stands by now."""
        rdt = {} if self.rdt is None else self.rdt.settled() if settled else self.rdt.to_dict()
        return {"cgroup": self.cgroup.to_dict(), "rdt": rdt}

    # --- the story

    def prepare(self) -> None:
        """The parent's operations ahead of the clone: open, clone and pin what the child will need."""
        for op in self.plan.before:
            self._run(op)

    def clone(self) -> None:
        """Clone the first child, straight into the cgroup; it starts to work at once.

        Where `cgroup.kill` was used before, in the cgroup or in the runtime's own, the kernel takes the child for one
        of those it was to kill: it compares the wrong two counters. Such a child is cloned again, and then moved. So is
        one of a user's from outside of what is delegated to the user's systemd, which moves it.
        """
        _shield_null()
        if BORN in self.plan.at:
            self._clone(-1, held=True)
            for op in self.plan.at[BORN]:
                self._run(op)
            self._answer()
            return
        # a unit's comes later, with the process
        cgroup_fd = self.cgroup.dirfd if isinstance(self.cgroup, Cgroup) and self.cgroup.inode else -1
        if self._clone(cgroup_fd) and cgroup_fd >= 0:
            if self._children:
                self._bury()
            self._clone(-1, held=True)
            self._run(Op("enter_cgroup", "/linux/cgroupsPath"))
            self._answer()

    def _bury(self) -> None:
        """Forget a child that was killed as it was born."""
        posix.waitpid(self._children.pop(), 0)
        posix.close(self._pidfds.pop())
        posix.close(self._channel)
        self._channel = self.pid = self.pidfd = -1

    def _clone(self, cgroup_fd: int, *, held: bool = False) -> bool:
        """Clone the first child, which waits for a word from us if it is `held`. Whether it has to be cloned again,
        since it was killed at once, or may not be born in its cgroup."""
        ops, pool, vectors = encode(self.plan.child())
        self._channel, child_end = _native.channel()
        self.slots[CHANNEL] = child_end
        flags = self.plan.clone_flags
        try:
            self.pid, self.pidfd = _native.launch(
                ops, pool, vectors, self.slots, child_end, flags, cgroup_fd, self._channel, held
            )
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
            if cgroup_fd >= 0 and error.errno in _NO_PLACE and isinstance(self.cgroup, Cgroup):
                text = f"cannot put a process into cgroup {self.cgroup.path}: {reason(error.errno)}"
                raise CgroupError(text, where="/linux/cgroupsPath", hint=_NO_PLACE[error.errno]) from error
            raise SetupError(
                f"cannot clone {self._process}: clone3: {reason(error.errno or 0)}",
                where="" if self.plan.bootstrap else "/linux/namespaces",
                hint=explain.NO_ROOM if error.errno == errno.EAGAIN else "",
            ) from error
        finally:
            posix.close(child_end)
            self.slots[CHANNEL] = -1
        self._children.append(self.pid)
        self._pidfds.append(self.pidfd)
        self.start_time, killed = processes.start_time_and_killed(self.pid)
        return killed

    def meanwhile(self) -> None:
        """The parent's operations that the child need not wait for; done before its first question is answered."""
        for op in self.plan.meanwhile:
            self._run(op)

    def converse(self, at: "Callable[[int], None]", after: "Callable[[int], None] | None" = None) -> None:
        """Answer the child at each synchronisation point until it is created, or runs its program. `at` is told each
        point first, and `after` when the child has been answered.

        Raises what the child reports, or what a parent's operation raises.
        """
        executes = False
        ops = self.plan.child()
        records = Records.of((op.verb, op.a) for op in ops)
        watch = Watch()
        while True:
            data = self._receive(watch, may_end=executes)
            if data is None:
                return
            kind, index, step, error, detail, payload = records.take(data)
            if kind == CLONED:
                if detail == self.pid or processes.parent(detail) != posix.getpid():
                    raise nonsense("no such process was cloned")
                self._adopt(detail)
                self._reach(INIT, at)
            elif kind == FAILED:
                raise self._explain(ops[index], step, error, detail, payload)
            elif kind == EXEC:
                executes = True
            elif kind == SYNC:
                if detail == CONSOLE and self.console < 0:
                    raise nonsense("no terminal came with it")
                self._reach(detail, at)
                if after is not None:
                    after(detail)
                if detail == CREATED:
                    return

    def abort(self) -> "list[str]":
        """Kill and reap every child, take back what the host gave to them, and close everything; what it could not take
        back."""
        for pid in self._children:
            posix.kill(pid, SIGKILL)  # a child that was not waited for keeps its pid
        if self._channel >= 0:
            posix.close(self._channel)
            self._channel = -1
        left = [
            f"process {pid} stays until its tracer ends"
            for pid in self._children
            if processes.reap(pid, PATIENCE) is None
        ]
        self._children = []
        if self._moved:
            from pyoci.host import net_devices

            left += net_devices.bring_back(self._moved, self._network)
        if self.rdt is not None:
            left += self.rdt.undo()
        self.close()
        self.release()
        return left

    def close(self) -> None:
        """Close what only the set-up needed: not the pidfd and the console, which a foreground `run` goes on using. A
        limit of the runtime's own that was raised for it is what it was."""
        for slot, fd in enumerate(self.slots):
            if fd >= 0:
                posix.close(fd)
                self.slots[slot] = -1
        for fd in (self._channel, self._network):
            if fd >= 0:
                posix.close(fd)
        self._channel = self._network = -1
        self.cgroup.close()
        if self._own_rlimit is not None:
            _native.prlimit(0, *self._own_rlimit)
            self._own_rlimit = None

    def release(self) -> None:
        """Close the pidfds and the console: nobody here waits for the container."""
        for fd in self._pidfds:
            posix.close(fd)
        self._pidfds = []
        self.pidfd = -1
        self.hand_over_console()

    def hand_over_console(self) -> None:
        """Close the console: whoever it was sent to has it to themselves."""
        if self.console >= 0:
            posix.close(self.console)
        self.console = -1

    # --- the conversation

    def _receive(self, watch: Watch, *, may_end: bool) -> "bytes | None":
        """The next record; None once the channel is closed, as execve does it, if that `may_end` it. Raises SetupError
        if the child ended without a record, or sends what the executor does not send.
        """
        ready = watch.wait(self._channel, self.pid, self.pidfd, until_exec=may_end, foreground=self.foreground)
        if self._channel not in ready:
            if may_end:  # it runs its program, or did
                return None
            raise self.ended()
        try:
            data, descriptors = _native.receive_fds(self._channel, 8192)
        except ConnectionResetError:  # it was killed before it had read our answer
            data, descriptors = b"", []
        if descriptors:
            self._take_console(data, descriptors)
        if not data:
            if may_end:
                return None
            raise self.ended()
        return data

    def _explain(self, op: Op, step: int, error: int, detail: int, payload: bytes) -> PyociError:
        """The error for an operation of the child that failed."""
        if op.verb == "unshare" and error == errno.EINVAL and (lacking := _lacking_namespace(self.config)):
            return lacking
        if op.verb == "clone_init":
            return explain.no_clone(op, self._process, step, error)
        return explain.explain(self.config, op, step, error, detail, payload)

    def _take_console(self, data: bytes, descriptors: "list[int]") -> None:
        """The master of the terminal, which comes at its point and once. Raises SetupError for any other descriptor."""
        kind, detail = RECORD.unpack_from(data)[::5] if len(data) >= RECORD.size else (0, 0)
        if (kind, detail, len(descriptors), self.console) == (SYNC, CONSOLE, 1, -1) and _is_terminal(descriptors[0]):
            self.console = descriptors[0]
            return
        for fd in descriptors:
            posix.close(fd)
        raise nonsense("a descriptor came with it")

    def _reach(self, point: int, at: "Callable[[int], None]") -> None:
        """The child is there: our part of the point, and the answer."""
        if self._trace is not None:
            self._trace(sync(point))
        at(point)
        for op in self.plan.at.get(point, ()):
            self._run(op)
        self._answer()
        try:
            for op in self.plan.after.get(point, ()):
                self._run(op)
        except PyociError as error:
            # a unit's cgroup goes with the child, whose own word of why it ended comes next
            if errno_of(error) not in GONE or not processes.wait_ended(self.pidfd, 0):
                raise

    def _answer(self) -> None:
        """Let the child go on. Raises SetupError if it has ended."""
        try:
            self.tell(b"\1")
        except BrokenPipeError as error:
            raise self.ended() from error
        except BlockingIOError as error:  # the executor reads each answer before it goes on
            raise nonsense("its answers are not read") from error

    def tell(self, word: bytes) -> None:
        """Send something to the child, without waiting until it reads. Raises OSError."""
        _native.send(self._channel, word)

    def ended(self) -> SetupError:
        """The error for a child that vanished. This kills one that has closed its end of the channel and lives on."""
        hung_up = not processes.wait_ended(self.pidfd, _HANG_UP_PATIENCE)
        if hung_up:
            processes.send_signal(self.pidfd, SIGKILL)
        status = processes.reap(self.pid, PATIENCE)
        self._children.remove(self.pid)
        if status is None:  # its next parent reaps it once its tracer lets go
            status = processes.wait_status(self.pid)
        if hung_up:
            return nonsense("it has hung up")
        how = f"killed by signal {status & 0x7F}" if status & 0x7F else f"exited with status {status >> 8}"
        hint = "out of memory? the limit may be too low" if status & 0x7F == SIGKILL else ""
        verb = "was " if status & 0x7F else ""
        return SetupError(f"{self._process} {verb}{how} while it was set up", hint=hint)

    def _adopt(self, pid: int) -> None:
        """The bootstrap process has cloned init as our child, and ends."""
        bootstrap, pidfd = self.pid, self.pidfd
        self.pid = pid
        self._children.append(pid)
        self.pidfd = posix.pidfd_open(pid)
        self.start_time = processes.start_time(pid)
        self._pidfds.append(self.pidfd)
        Watch().wait(pidfd, bootstrap, pidfd)
        processes.reap(bootstrap, PATIENCE)
        self._children.remove(bootstrap)

    # --- the parent's operations

    def _run(self, op: Op) -> None:
        """Run one operation. An OSError becomes a SetupError that says where it came from."""
        if self._trace is not None:
            self._trace(op)
        try:
            _OPERATIONS[op.verb](self, op)
        except OSError as error:
            if isinstance(error, PyociError):
                raise
            raise SetupError(
                f"cannot {_phrase(op)}: {reason(error.errno or 0)}", where=op.where, hint=_hint(op, error)
            ) from error

    def _open_rootfs(self, op: Op) -> None:
        try:
            self.slots[op.a] = _native.clone_host_rootfs(op.s1)
        except NotADirectoryError as error:
            if posix.stat(op.s1, follow_symlinks=False).st_mode & S_IFMT != S_IFLNK:
                raise
            raise SetupError(f"cannot use root filesystem {op.s1}: it is a symlink", where=op.where) from error

    def _open_tree(self, op: Op) -> None:
        recursive_set, recursive_clear = op.d & 0xFFFFFFFF, op.d >> 32
        try:
            self.slots[op.a] = _native.clone_host_tree(
                op.s1, op.flags, recursive_set, recursive_clear, op.b, op.c, self.slots[NOTIFY_FOLDER]
            )
        except OSError as error:
            if error.strerror != "changed":
                raise
            text = f"cannot use mount source {op.s1}: it was replaced by something else in the meantime"
            raise SetupError(text, where=op.where) from error

    def _make_user_namespace(self, op: Op) -> None:
        """A process is born in it, waits until its maps are written and the namespace is held, and ends."""
        ops, pool, vectors = encode([sync(ID_MAPS)])
        ours, child_end = _native.channel()
        slots = [-1] * FIRST_SLOT
        slots[CHANNEL] = child_end
        try:
            pid, pidfd = _native.launch(ops, pool, vectors, slots, child_end, CLONE_NEWUSER, -1, ours)
        except OSError:
            posix.close(ours)
            raise
        finally:
            posix.close(child_end)
        try:
            files.write(f"/proc/{pid}/uid_map", op.s1.encode("ascii"))
            files.write(f"/proc/{pid}/gid_map", op.s2.encode("ascii"))
            self.slots[op.a] = posix.open(f"/proc/{pid}/ns/user", posix.O_RDONLY | posix.O_CLOEXEC)
        finally:
            posix.close(ours)  # end of file ends it
            posix.close(pidfd)
            posix.waitpid(pid, 0)

    def _idmap_tree(self, op: Op) -> None:
        _native.idmap(self.slots[op.a], bool(op.c), self.slots[op.b])

    def _make_device_filesystem(self, op: Op) -> None:
        """It belongs to the runtime's user namespace, so its nodes work; container root has to get through to them."""
        options = [("source", "devices"), ("mode", "0711")]
        if op.s1:
            options.append(("context", op.s1))
        try:
            self.slots[op.a] = _native.new_mount("tmpfs", options, NOSUID | NOEXEC)
        except OSError as error:
            why = explain.unknown_label(op.where, error.errno or 0)
            if not why:
                raise
            raise SetupError(f"cannot {_phrase(op)} with the SELinux label `{op.s1}`: {why}", where=op.where) from error

    def _make_device(self, op: Op) -> None:
        filesystem, name = self.slots[op.a], op.s3
        uid, gid = op.d >> 32, op.d & 0xFFFFFFFF
        if op.flags & OF_CONTAINER:
            uid, gid = self._owner_on_host(op, "uid", uid), self._owner_on_host(op, "gid", gid)
        posix.mknod(name, op.flags & S_IFMT, posix.makedev(op.b, op.c), dir_fd=filesystem)
        posix.chown(name, uid, gid, dir_fd=filesystem, follow_symlinks=False)
        posix.chmod(name, op.flags & 0o7777, dir_fd=filesystem)

    def _owner_on_host(self, op: Op, kind: str, inside: int) -> int:
        """The owner of a device, of a user namespace whose mappings are known only since the child has joined it."""
        try:
            return _host_id(files.read(f"/proc/{self.pid}/{kind}_map"), inside)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            text = f"cannot own the device: {kind} {inside} is not mapped in the user namespace that is joined"
            raise SetupError(text, where=op.where) from error

    def _open_device(self, op: Op) -> None:
        try:
            self.slots[op.a] = _native.clone_host_device(op.s1, op.s2 == "b", op.b, op.c)
        except OSError as error:
            if error.strerror != "other-node":
                raise
            raise SetupError(
                f"cannot bind device {op.s1}: the host's is not {op.s2} {op.b}:{op.c}",
                where=op.where,
                hint="a user namespace can't make nodes of its own",
            ) from error

    def _open_null(self, op: Op) -> None:
        self._open_device(Op("open_device", op.where, "/dev/null", "c", a=op.a, b=1, c=3))

    def _open_namespace(self, op: Op) -> None:
        fd = posix.open(op.s1, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
        self.slots[op.a] = fd
        try:
            kind = _native.namespace_type(fd)
        except OSError as error:
            raise SetupError(f"cannot join {op.s1}: not a namespace", where=op.where) from error
        if kind != op.b:
            raise SetupError(f"cannot join {op.s1}: not a {op.s2} namespace", where=op.where)
        if op.s3 and _is_own_namespace(fd, op.s2):
            what = "set a kernel parameter of" if op.s3.startswith("/linux/sysctl") else "move network devices to"
            raise SetupError(f"cannot {what} {op.s1}: it is the host's {op.s2} namespace", where=op.s3)

    def _open_host_proc(self, op: Op) -> None:
        """A procfs in which the bootstrap process finds itself, whatever it is going to have at /proc."""
        self.slots[op.a] = posix.open(op.s1, O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)

    def _make_cgroup(self, _op: Op) -> None:
        path = self.config.get("linux", {}).get("cgroupsPath", "")
        self.cgroup = Cgroup.create(path, self.id, self.plan.writes, self._cgroup_mount, rootless=self._rootless)

    def _connect_systemd(self, _op: Op) -> None:
        """plan_cgroup came first, as for the next ones."""
        self._unit.connect()

    def _set_property(self, op: Op) -> None:
        self._properties.append(self.plan.properties[op.a])

    def _start_unit(self, _op: Op) -> None:
        self._unit.start_transient_unit(self.pid, self._properties)

    def _await_unit(self, _op: Op) -> None:
        self._unit.await_unit(self.pid, self.plan.writes)

    def _change_property(self, op: Op) -> None:
        self._unit.set_properties([self.plan.properties[op.a]])

    def _enter_cgroup(self, _op: Op) -> None:
        self.cgroup.add(self.pid)

    def _write_cgroup(self, op: Op) -> None:
        self.cgroup.apply([self.plan.writes[op.a]])

    def _attach_device_filter(self, op: Op) -> None:
        self.cgroup.attach_device_filter(op.blob)

    def _chown_cgroup(self, op: Op) -> None:
        self.cgroup.delegate(_host_id(files.read(f"/proc/{self.pid}/uid_map"), op.a) if op.b else op.a)

    def _write_filter(self, _: Op) -> None:
        if self.plan.filter is not None:
            files.write_all(self.slots[FILTER], self.plan.filter.program)

    def _in_rdt_group(self, op: Op) -> None:
        """The four operations of `pyoci.host.resctrl`; plan_rdt came first."""
        if self.rdt is not None:
            self.rdt.run(op, self.pid)

    def _write_id_maps(self, op: Op) -> None:
        files.write(f"/proc/{self.pid}/{op.s1}", op.s2.encode("ascii"))

    def _deny_setgroups(self, _op: Op) -> None:
        files.write(f"/proc/{self.pid}/setgroups", b"deny")

    def _run_id_mapper(self, op: Op) -> None:
        from pyoci.host import newidmap  # only for who is not root

        newidmap.run(op, self.pid)

    def _write_time_offsets(self, op: Op) -> None:
        files.write(f"/proc/{self.pid}/timens_offsets", op.s1.encode("ascii"))

    def _write_oom_score_adj(self, op: Op) -> None:
        files.write(f"/proc/{self.pid}/oom_score_adj", str(op.a).encode("ascii"))

    def _move_net_device(self, op: Op) -> None:
        """One process moves them all, for the first operation."""
        ops = self.plan.at[NET_DEVICES]
        if op is not ops[0]:
            return
        from pyoci.host import net_devices  # only what has devices to move pays for it

        # held until the container stands: a device that is to come back must not go with its namespace
        self._network = posix.open(f"/proc/{self.pid}/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        self._moved = net_devices.move(ops, self._network)

    def _run_host_hook(self, op: Op) -> None:
        hooks.run(op.where, op.s1, op.argv or (), op.envp or (), op.c, self.slots[HOOK_STATE], self.slots[BUNDLE])

    def _prlimit(self, op: Op) -> None:
        _native.prlimit(self.pid, op.a, op.b, op.c)

    def _raise_own_rlimit(self, op: Op) -> None:
        self._own_rlimit = (op.a, *_native.getrlimit(op.a))
        _native.prlimit(0, op.a, op.b, op.c)

    def _set_affinity(self, op: Op) -> None:
        try:
            posix.sched_setaffinity(self.pid, ranges.numbers(op.s1))
        except ValueError as error:
            raise OSError(errno.EINVAL, "") from error

    def _sched_setattr(self, op: Op) -> None:
        _native.sched_setattr(self.pid, op.blob)

    def _ioprio_set(self, op: Op) -> None:
        _native.ioprio_set(self.pid, op.a)

    def _elsewhere(self, _op: Op) -> None:
        """Done by the caller, in `at`: it needs what only the container's creator has."""


# Why clone3 may not make a process in a cgroup.
_NO_PLACE = {
    errno.EBUSY: "its cgroup.subtree_control hands controllers to children, and then the processes have to be there",
    errno.EOPNOTSUPP: "it is a threaded cgroup, or below one",
}


def _is_own_namespace(fd: int, kind: str) -> bool:
    """Whether `fd` is the namespace that the runtime itself is in."""
    name = {"network": "net"}.get(kind, kind)
    its, ours = posix.fstat(fd), posix.stat(f"/proc/self/ns/{name}")
    return (its.st_dev, its.st_ino) == (ours.st_dev, ours.st_ino)


def _host_id(id_map: bytes, inside: int) -> int:
    """What an id of a user namespace is outside, by its uid_map as this process reads it."""
    for line in id_map.splitlines():
        first, outside, count = map(int, line.split())
        if first <= inside < first + count:
            return outside + inside - first
    raise OSError(errno.EINVAL, "")


_OPERATIONS: "dict[str, Callable[[Launch, Op], None]]" = {
    "open_rootfs": Launch._open_rootfs,
    "open_tree": Launch._open_tree,
    "make_user_namespace": Launch._make_user_namespace,
    "idmap_tree": Launch._idmap_tree,
    "make_device_filesystem": Launch._make_device_filesystem,
    "make_device": Launch._make_device,
    "open_device": Launch._open_device,
    "open_null": Launch._open_null,
    "open_host_proc": Launch._open_host_proc,
    "open_namespace": Launch._open_namespace,
    "make_cgroup": Launch._make_cgroup,
    "enter_cgroup": Launch._enter_cgroup,
    "write_cgroup": Launch._write_cgroup,
    "attach_device_filter": Launch._attach_device_filter,
    "chown_cgroup": Launch._chown_cgroup,
    "make_rdt_group": Launch._in_rdt_group,
    "write_schemata": Launch._in_rdt_group,
    "make_monitoring_group": Launch._in_rdt_group,
    "join_rdt_group": Launch._in_rdt_group,
    "write_id_maps": Launch._write_id_maps,
    "deny_setgroups": Launch._deny_setgroups,
    "run_id_mapper": Launch._run_id_mapper,
    "write_time_offsets": Launch._write_time_offsets,
    "write_oom_score_adj": Launch._write_oom_score_adj,
    "write_filter": Launch._write_filter,
    "move_net_device": Launch._move_net_device,
    "run_host_hook": Launch._run_host_hook,
    "prlimit": Launch._prlimit,
    "raise_own_rlimit": Launch._raise_own_rlimit,
    "sched_setattr": Launch._sched_setattr,
    "ioprio_set": Launch._ioprio_set,
    "send_console": Launch._elsewhere,
    "commit": Launch._elsewhere,
    "open_container": Launch._elsewhere,
    "open_container_root": Launch._elsewhere,
    "set_affinity": Launch._set_affinity,
    "connect_systemd": Launch._connect_systemd,
    "set_property": Launch._set_property,
    "start_unit": Launch._start_unit,
    "await_unit": Launch._await_unit,
    "change_property": Launch._change_property,
    "verify_namespaces": Launch._elsewhere,
}


def _is_device(fd: int, kind: int, major: int, minor: int) -> bool:
    st = posix.fstat(fd)
    return st.st_mode & S_IFMT == kind and st.st_rdev == posix.makedev(major, minor)


def _shield_null() -> None:
    """Where a standard stream is the host's /dev/null it becomes a read-only mount of it: that is as good to read and
    to write, but root of a container that has inherited it can't change its owner and mode, and with it the host's.

    The child goes on to the container's own where there is one. Without the right to mount, which EPERM says, there is
    nobody to give root's file away; and where the host's /dev/null is none, the stream is not that one.
    """
    null = -1
    try:
        for fd in range(3):
            if _is_device(fd, S_IFCHR, 1, 3):
                if null < 0:
                    null = _native.clone_host_device("/dev/null", False, 1, 3)
                access = fcntl.fcntl(fd, fcntl.F_GETFL) & O_ACCMODE
                opened = posix.open(f"/proc/self/fd/{null}", access | posix.O_CLOEXEC | posix.O_NOCTTY)
                posix.dup2(opened, fd)
                posix.close(opened)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOENT) and error.strerror != "other-node":
            raise SetupError(f"cannot use the host's /dev/null: {reason(error.errno or 0)}") from error
    finally:
        if null >= 0:
            posix.close(null)


def _is_terminal(fd: int) -> bool:
    """Whether it is the master of a pseudo-terminal."""
    try:
        fcntl.ioctl(fd, _TIOCGPTN, bytes(4))
    except OSError:
        return False
    return True


def _lacking_namespace(config: "dict[str, Any]") -> "SetupError | None":
    """The error for the first namespace of a type that this kernel was built without."""
    names = {"network": "net", "mount": "mnt"}
    have = posix.listdir("/proc/self/ns")
    for index, entry in enumerate(config.get("linux", {}).get("namespaces", ())):
        kind = entry["type"]
        if names.get(kind, kind) not in have:
            text = f"cannot make a {kind} namespace: this kernel has none"
            return SetupError(text, where=f"/linux/namespaces/{index}")
    return None


def _phrase(op: Op) -> str:
    """A parent's operation as `<verb> <object>`."""
    phrase = _PHRASES.get(op.verb)
    return phrase.replace("{1}", op.s1).replace("{2}", op.s2) if phrase else op.verb.replace("_", " ")


_PHRASES = {
    "open_rootfs": "use root filesystem {1}",
    "open_tree": "use mount source {1}",
    "make_user_namespace": "make a user namespace for the id mappings of a mount",
    "idmap_tree": "map the ids of mount source {1}",
    "make_device_filesystem": "make a tmpfs for devices",
    "make_device": "make device {1}",
    "open_device": "bind device {1}",
    "open_null": "use the host's /dev/null",
    "open_namespace": "join {1}",
    "enter_cgroup": "move the container's first process into its cgroup",
    "chown_cgroup": "give the container's user its cgroup",
    "write_id_maps": "write {1}",
    "deny_setgroups": "deny setgroups in the user namespace",
    "write_time_offsets": "set clock offsets",
    "write_oom_score_adj": "set the OOM score adjustment",
    "move_net_device": "move network device {1}",
    "prlimit": "set {1}",
    "raise_own_rlimit": "set {1} of the runtime",
    "set_affinity": "run on CPUs {1}",
    "sched_setattr": "set scheduling policy {1}",
    "ioprio_set": "set I/O priority {1}",
}


def _hint(op: Op, error: OSError) -> str:
    if op.verb in ("sched_setattr", "ioprio_set"):
        return explain.priority_hint(op, error.errno or 0)
    if op.verb == "prlimit" and isinstance(error, PermissionError):
        return "raising a hard limit needs CAP_SYS_RESOURCE"
    if op.verb == "write_oom_score_adj" and isinstance(error, PermissionError):
        return "lowering it needs CAP_SYS_RESOURCE"
    if op.verb in CLONES:
        return explain.clone_hint(op, error.errno or 0)
    if op.verb == "idmap_tree":
        return explain.idmap_hint(error.errno or 0)
    if op.verb == "make_user_namespace" and error.errno == errno.ENOSPC:
        return "the limit /proc/sys/user/max_user_namespaces is reached"
    return ""


__all__ = ["EXEC_FIFO", "RESULT_FIFO", "START_STATE", "SYNC_NAMES", "CgroupError", "Launch", "tracer"]
