"""Answers to seccomp notifications: an agent, to which a runtime passes listeners, and a watch on the runtime itself.

The kernel holds a system call until we say what becomes of it. Both serve from threads, from the moment that a
listener comes, since the runtime may wait for an answer within `create` or `start`.
"""

import array
import errno
import fcntl
import os
import queue
import select
import socket
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from conformance import host
from conformance.runtime import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from conformance.runtime import Runtime

RECEIVE, SEND, IS_VALID, ADD_FD = (
    0xC0502100,
    0xC0182101,
    0x40082102,
    0x40182103,
)  # _IOWR('!', 0, struct seccomp_notif) …
CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
NOTIFICATION, RESPONSE, ADDED = struct.Struct("=QII iI Q 6Q"), struct.Struct("=Qq iI"), struct.Struct("=QIIII")


class Call:
    """One system call that waits for an answer: `number`, `args`, and the process `pid` that made it."""

    def __init__(self, listener: int) -> None:
        data = bytearray(NOTIFICATION.size)
        fcntl.ioctl(listener, RECEIVE, data)
        self.id, self.pid, _, self.number, self.arch, _, *args = NOTIFICATION.unpack(data)
        self.args = list(args)
        self.listener = listener

    def _send(self, value: int, error: int, flags: int) -> None:
        try:
            fcntl.ioctl(self.listener, SEND, RESPONSE.pack(self.id, value, -error, flags))
        except FileNotFoundError:
            pass  # who asked is gone, or was interrupted

    def go_on(self) -> None:
        """The kernel does what was asked."""
        self._send(0, 0, CONTINUE)

    def fail(self, error: int) -> None:
        """It does not, and the process gets this error."""
        self._send(0, error, 0)

    def succeed(self, value: int = 0) -> None:
        """It does not, and the process believes that it did."""
        self._send(value, 0, 0)

    def give(self, fd: int, *, cloexec: bool = True) -> None:
        """The process gets a copy of our descriptor, as the result."""
        data = bytearray(ADDED.pack(self.id, 0, fd, 0, os.O_CLOEXEC if cloexec else 0))
        try:
            number = fcntl.ioctl(self.listener, ADD_FD, data)
        except OSError as error:
            self.fail(error.errno or errno.EIO)
            return
        self.succeed(number)

    def is_waiting(self) -> bool:
        try:
            fcntl.ioctl(self.listener, IS_VALID, struct.pack("=Q", self.id))
        except FileNotFoundError:
            return False
        return True

    # --- what the arguments point to

    def text(self, argument: int) -> str:
        """The string at this argument."""
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            data = b""
            place = self.args[argument]
            while b"\0" not in data and len(data) < 4096:
                memory.seek(place + len(data))
                data += memory.read(256 - (place + len(data)) % 256)  # never beyond a page
        return os.fsdecode(data.split(b"\0")[0])

    def data(self, argument: int, size: int) -> bytes:
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(self.args[argument])
            return memory.read(size)

    def put(self, argument: int, data: bytes) -> None:
        with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(self.args[argument])
            memory.write(data)


def serve(listener: int, answer: "Callable[[Call], None]") -> None:
    """Give each call of a listener to `answer`, in a thread, until no process is left that could make one."""

    def loop() -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while True:
            events = poll.poll()[0][1]
            if not events & select.POLLIN:
                return  # POLLHUP
            try:
                call = Call(listener)
            except FileNotFoundError:
                continue  # its process died meanwhile
            try:
                answer(call)
            except Exception:  # noqa: BLE001 - whatever it is, the process must not wait forever
                call.fail(errno.EIO)

    threading.Thread(target=loop, daemon=True).start()


class Message:
    """What came on one connection: `data`, `fds`, how many came with each `part`, and whether it was `closed`."""

    def __init__(self) -> None:
        self.data = b""
        self.fds: list[int] = []
        self.parts: list[int] = []
        self.closed = threading.Event()


class Agent:
    """Listens at a socket for seccomp listeners, and serves them."""

    def __init__(self, path: Path, answer: "Callable[[Call], None]" = Call.go_on) -> None:
        self.path = path
        self.messages: list[Message] = []
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            threading.Thread(target=self._receive, args=(connection,), daemon=True).start()

    def _receive(self, connection: socket.socket) -> None:
        message = Message()
        self.messages.append(message)
        connection.settimeout(TIMEOUT)
        with connection:
            while True:
                try:
                    data, ancillary, _, _ = connection.recvmsg(
                        1 << 16, socket.CMSG_SPACE(4 * 16), socket.MSG_CMSG_CLOEXEC
                    )
                except TimeoutError:
                    return
                fds = descriptors(ancillary)
                if not data and not fds:
                    break
                message.data += data
                message.parts.append(len(fds))
                message.fds += fds
                for fd in fds:
                    if is_listener(fd):
                        serve(fd, self._answer)
        message.closed.set()


def descriptors(ancillary: "Iterable[tuple[int, int, bytes]]") -> "list[int]":
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def is_listener(fd: int) -> bool:
    return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:seccomp notify"


def require_notification() -> None:
    """The kernel can tell a process of another's system calls, and let them go on (Linux 5.5)."""
    try:
        known = Path("/proc/sys/kernel/seccomp/actions_avail").read_text().split()
    except OSError:
        known = []
    if "user_notif" not in known:
        raise host.Missing("the kernel has no seccomp notification")


def watch(runtime: "Runtime", probe: Path, names: "Iterable[str]", answer: "Callable[[Call], None]") -> None:
    """From now on every process of the runtime asks us before it does these system calls."""
    require_notification()
    numbers = ",".join(str(host.syscalls()[name]) for name in names if name in host.syscalls())
    path = runtime.folder / "watch.sock"
    Agent(path, answer)
    runtime.words = [str(probe), "watched", str(path), numbers, *runtime.words]


class Recorder:
    """An `answer` that lets everything go on and keeps what was asked."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __call__(self, call: Call) -> None:
        self.calls.append(call)
        call.go_on()


class Holder:
    """An `answer` that leaves calls waiting, for the test to take."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()

    def __call__(self, call: Call) -> None:
        self._calls.put(call)

    def take(self) -> "Call | None":
        try:
            return self._calls.get(timeout=TIMEOUT)
        except queue.Empty:
            return None
