"""Trace commands and every process that they make, system call by system call.

`trace` runs commands one after the other under one tracer. So it still follows the process that `create` leaves behind
when `start` releases that. The tracer is a program of its own, because it waits for every child that it has, which
pytest can't do. It lets go of a process that another process made as soon as that executes a program other than the
helper.

The tracer is python-ptrace's; the names of system calls are pyoci's, whose table knows the newest ones.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
TIMEOUT = 120  # seconds for all commands of a trace, on a busy machine

AT_FDCWD = -100
EXIT_KILL = 0x00100000  # PTRACE_O_EXITKILL: nothing outlives a tracer that was killed
ALL_CHILDREN = 0x40000000  # __WALL
HELPER = "/memfd:pyoci"  # what the runtime's children execute first

# Where a call's path is among its arguments, and where the directory that it starts from, if not the working directory.
PATHS = {
    "access": (0, None), "chdir": (0, None), "chmod": (0, None), "chown": (0, None), "chroot": (0, None),
    "execve": (0, None), "execveat": (1, 0), "faccessat": (1, 0), "faccessat2": (1, 0), "fchmodat": (1, 0),
    "fchmodat2": (1, 0), "fchownat": (1, 0), "getxattr": (0, None), "lchown": (0, None), "lsetxattr": (0, None),
    "lstat": (0, None), "mkdir": (0, None), "mkdirat": (1, 0), "mknodat": (1, 0), "mount": (1, None),
    "mount_setattr": (1, 0), "newfstatat": (1, 0), "open": (0, None), "open_tree": (1, 0), "openat": (1, 0),
    "openat2": (1, 0), "readlink": (0, None), "readlinkat": (1, 0), "rename": (1, None), "renameat": (3, 2),
    "renameat2": (3, 2), "rmdir": (0, None), "setxattr": (0, None), "stat": (0, None), "statfs": (0, None),
    "statx": (1, 0), "symlinkat": (2, 1), "umount2": (0, None), "unlink": (0, None), "unlinkat": (1, 0),
}  # fmt: skip
# Calls whose first argument is the descriptor of the file that they are about.
DESCRIPTORS = {
    "fchdir", "fchmod", "fchown", "fgetxattr", "flock", "fsetxattr", "fstat", "fstatfs", "ftruncate", "getdents64",
    "ioctl", "pread64", "pwrite64", "pwritev", "read", "sendmsg", "sendto", "setns", "write", "writev",
}  # fmt: skip


@dataclass
class Call:
    """One system call: the name, the arguments as numbers, what it returned, and the file that it is about."""

    name: str
    args: list[int]
    result: int | None = None  # None: it did not return
    path: str = ""
    clone_flags: int = 0

    def __str__(self) -> str:
        path = f" {self.path}" if self.path else ""
        failed = f" = -{-self.result}" if self.result is not None and self.result < 0 else ""
        return f"{self.name}({', '.join(f'{arg:#x}' for arg in self.args)}){path}{failed}"


@dataclass
class Process:
    """A process of the trace: which command was the last to start when it was made, who made it, what it called.

    `executed` are the programs that it executed: (how many calls came before, path). `made_by` is the call that made
    it.
    """

    pid: int
    command: int
    parent: int = 0
    made_by: Call | None = None
    calls: list[Call] = field(default_factory=list)
    executed: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Trace:
    """What came of the commands: exit statuses, in their order, and all processes, in the order they were made."""

    statuses: list[int]
    processes: list[Process]

    def main(self, command: int) -> Process:
        """The process that a command started as."""
        return next(p for p in self.processes if p.command == command and not p.parent)

    def children(self, command: int) -> list[Process]:
        """The processes that were made while a command ran."""
        return [p for p in self.processes if p.command == command and p.parent]


def trace(*commands: Sequence[object], folder: Path, environment: dict[str, str] | None = None) -> Trace:
    """Run commands under a tracer. Their output goes to files in `folder`."""
    order = {"commands": [[str(word) for word in command] for command in commands], "folder": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.tracing"],
        input=json.dumps(order),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, **(environment or {})},
    )
    assert 0 == done.returncode, done.stderr
    document = json.loads(done.stdout)
    return Trace(document["statuses"], [_process(**process) for process in document["processes"]])


def _process(
    calls: list[dict[str, Any]], executed: list[tuple[int, str]], made_by: dict[str, Any] | None, **more: Any
) -> Process:
    return Process(
        calls=[Call(**call) for call in calls],
        executed=[(number, path) for number, path in executed],
        made_by=Call(**made_by) if made_by else None,
        **more,
    )


class Tracer:
    """Runs commands and follows their processes."""

    def __init__(self, folder: Path) -> None:
        from ptrace.binding import func
        from ptrace.syscall import ptrace_syscall

        self._ptrace = func
        self._registers = ptrace_syscall
        self._options = (
            func.PTRACE_O_TRACESYSGOOD
            | func.PTRACE_O_TRACEFORK
            | func.PTRACE_O_TRACEVFORK
            | func.PTRACE_O_TRACECLONE
            | func.PTRACE_O_TRACEEXEC
            | EXIT_KILL
        )
        self._of_new_process = {func.PTRACE_EVENT_FORK, func.PTRACE_EVENT_VFORK, func.PTRACE_EVENT_CLONE}
        self._names = _names(os.uname().machine)
        self._folder = folder
        self._command = -1
        self._inside: dict[int, Call] = {}  # calls that have not returned yet
        self._live: dict[int, Process] = {}
        self._early: set[int] = set()  # that have stopped before their maker said that it made them
        self.processes: list[Process] = []

    def run(self, command: list[str]) -> int:
        """Run a command to its end; its exit status. Others of the trace go on meanwhile."""
        self._command += 1
        pid = self._start(command)
        stopped, status = os.waitpid(pid, 0)
        assert os.WIFSTOPPED(status), f"`{command[0]}` did not start: {status}"
        self._add(pid, 0, None)
        self._live[pid].executed.append((0, _link(f"/proc/{pid}/exe")))
        self._resume(pid)
        while True:
            stopped, status = os.waitpid(-1, ALL_CHILDREN)
            if os.WIFSTOPPED(status):
                self._stopped(stopped, status)
                continue
            self._live.pop(stopped, None)
            self._inside.pop(stopped, None)
            if stopped == pid:
                return os.waitstatus_to_exitcode(status)

    def end(self) -> None:
        """Let go of what still lives: each is stopped in turn, since only a stopped process can be let go."""
        for pid in list(self._live):
            os.kill(pid, signal.SIGSTOP)
            while pid in self._live:
                _, status = os.waitpid(pid, ALL_CHILDREN)
                if not os.WIFSTOPPED(status):
                    del self._live[pid]
                elif os.WSTOPSIG(status) == signal.SIGSTOP:
                    self._ptrace.ptrace_detach(pid)
                    del self._live[pid]
                else:
                    self._resume(pid)

    def _start(self, command: list[str]) -> int:
        number = self._command
        pid = os.fork()
        if pid:
            return pid
        try:
            for fd, path, flags in (
                (0, "/dev/null", os.O_RDONLY),
                (1, f"{self._folder}/out{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
                (2, f"{self._folder}/err{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            ):
                os.dup2(os.open(path, flags, 0o666), fd)
            os.closerange(3, 100)
            self._ptrace.ptrace_traceme()
            os.execvp(command[0], command)
        finally:
            os._exit(127)

    def _add(self, pid: int, parent: int, made_by: Call | None) -> None:
        process = Process(pid, self._command, parent, made_by)
        self.processes.append(process)
        self._live[pid] = process
        self._ptrace.ptrace_setoptions(pid, self._options)

    def _resume(self, pid: int, signum: int = 0) -> None:
        try:
            self._ptrace.ptrace_syscall(pid, signum)
        except Exception as error:  # python-ptrace has a class for it without a name of its own
            if getattr(error, "errno", None) != 3:  # ESRCH: killed while it was stopped
                raise

    def _stopped(self, pid: int, status: int) -> None:
        signum, event = os.WSTOPSIG(status), status >> 16
        process = self._live.get(pid)
        if process is None:  # a new one, whose maker has not said so yet
            self._early.add(pid)
            return
        if event in self._of_new_process:
            self._made(process)
            self._resume(pid)
        elif event == self._ptrace.PTRACE_EVENT_EXEC:
            self._executed(process)
        elif signum == signal.SIGTRAP | 0x80:
            self._at_call(process)
            self._resume(pid)
        else:
            self._resume(pid, signum)

    def _made(self, process: Process) -> None:
        pid = self._ptrace.ptrace_geteventmsg(process.pid)
        if pid not in self._early:
            os.waitpid(pid, ALL_CHILDREN)  # its first stop
        self._early.discard(pid)
        self._add(pid, process.pid, self._inside[process.pid])
        self._resume(pid)

    def _executed(self, process: Process) -> None:
        call = self._inside[process.pid]
        call.result = 0
        path = _link(f"/proc/{process.pid}/exe")
        process.executed.append((len(process.calls), path))
        if process.parent and not path.startswith(HELPER):
            del self._live[process.pid], self._inside[process.pid]
            self._ptrace.ptrace_detach(process.pid)
        else:
            self._resume(process.pid)

    def _at_call(self, process: Process) -> None:
        registers = self._ptrace.ptrace_getregs(process.pid)
        call = self._inside.pop(process.pid, None)
        if call is None:
            call = self._call(process.pid, registers)
            process.calls.append(call)
            self._inside[process.pid] = call
        else:
            result = getattr(registers, self._registers.RETURN_VALUE_REGISTER)
            call.result = result - (1 << 64) if result >> 63 else result

    def _call(self, pid: int, registers: Any) -> Call:
        number = getattr(registers, self._registers.SYSCALL_REGISTER)
        args = list(self._registers.PtraceSyscall.readArgumentValues(None, registers))[:6]
        call = Call(self._names.get(number, f"syscall_{number}"), args)
        if call.name in PATHS:
            at, start = PATHS[call.name]
            call.path = _path(pid, args[at], None if start is None else args[start])
        elif call.name in DESCRIPTORS:
            call.path = _link(f"/proc/{pid}/fd/{ctypes.c_int(args[0]).value}")
        elif call.name == "clone":
            call.clone_flags = args[0]  # on x86-64 and on aarch64
        elif call.name == "clone3":  # has them in memory
            call.clone_flags = int.from_bytes(_memory(pid, args[0], 8), sys.byteorder)
        return call


def _names(machine: str) -> dict[int, str]:
    from pyoci.compiler import _syscalls

    numbers = _syscalls.COLUMNS[f"SCMP_ARCH_{machine.upper()}"]
    return {number: name for name, number in zip(_syscalls.NAMES, numbers, strict=True) if number >= 0}


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _memory(pid: int, address: int, size: int) -> bytes:
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(size)
    except (OSError, ValueError, OverflowError):
        return b""


def _path(pid: int, address: int, start: int | None) -> str:
    """The path at an address, from the directory that it starts from."""
    if not address:
        return ""
    page = 4096
    data = _memory(pid, address, page - address % page)
    if b"\0" not in data:
        data += _memory(pid, address + len(data), page)
    text = data.partition(b"\0")[0].decode(errors="backslashreplace")
    if text.startswith("/"):
        return text
    directory = AT_FDCWD if start is None else ctypes.c_int(start).value
    base = _link(f"/proc/{pid}/cwd" if directory == AT_FDCWD else f"/proc/{pid}/fd/{directory}")
    return f"{base}/{text}" if text else base


def main() -> None:
    """The tracer: commands on standard input, the trace on standard output."""
    order = json.load(sys.stdin)
    tracer = Tracer(Path(order["folder"]))
    statuses = [tracer.run(command) for command in order["commands"]]
    tracer.end()
    json.dump({"statuses": statuses, "processes": [asdict(process) for process in tracer.processes]}, sys.stdout)


if __name__ == "__main__":
    main()
