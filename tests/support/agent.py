"""A seccomp agent: receives the listeners that a runtime sends, and answers their notifications (seccomp_unotify(2)).

What it says to each system call is `answer`'s: an errno, or None to let the call continue. It runs beside the test, in
a thread; what it has received is in `states` and `calls`.
"""

import contextlib
import fcntl
import json
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from pyoci.compiler._syscalls import COLUMNS, NAMES

NOTIF = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif
RESPONSE = struct.Struct("=QqiI")  # struct seccomp_notif_resp
IOCTL_RECV = 0xC0502100
IOCTL_SEND = 0xC0182101
CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
ARCHITECTURE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[os.uname().machine]
NAMES_OF = dict(zip(COLUMNS[ARCHITECTURE], NAMES, strict=True))


class Agent:
    """Listens at `path` until it is closed."""

    def __init__(self, path: Path, answer: Callable[[str], int | None] = lambda _: None) -> None:
        self.path = path
        self.answer = answer
        self.states: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.faults: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self._listeners: list[int] = []
        self._end, self._ended = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Stop, and close every listener; what was not as the specification asks fails the test."""
        os.write(self._ended, b"\0")
        self._thread.join()
        self._socket.close()
        for fd in (*self._listeners, self._end, self._ended):
            os.close(fd)
        assert [] == self.faults

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        while True:
            poll = select.poll()
            for fd in (self._end, self._socket.fileno(), *self._listeners):
                poll.register(fd, select.POLLIN)
            for fd, events in poll.poll():
                if fd == self._end:
                    return
                if fd == self._socket.fileno():
                    self._accept()
                elif events & select.POLLIN:
                    self._respond(fd)
                else:  # no process is left under the filter
                    self._listeners.remove(fd)
                    os.close(fd)

    def _accept(self) -> None:
        connection, _ = self._socket.accept()
        connection.settimeout(60)
        data, fds, _, _ = socket.recv_fds(connection, 1 << 16, 16)
        while part := connection.recv(1 << 16):
            data += part
        connection.close()
        if not data:  # a runtime that was killed
            return
        if len(fds) != 1:
            self.faults.append(f"{len(fds)} descriptors, not one")
        self._listeners += fds
        self.states.append(json.loads(data))

    def _respond(self, listener: int) -> None:
        request = bytearray(NOTIF.size)
        with contextlib.suppress(FileNotFoundError):  # the process that made the call was killed
            fcntl.ioctl(listener, IOCTL_RECV, request)
            number, _, _, nr, *_ = NOTIF.unpack(request)
            name = NAMES_OF[nr]
            self.calls.append(name)
            error = self.answer(name)
            response = RESPONSE.pack(number, 0, -(error or 0), 0 if error else CONTINUE)
            fcntl.ioctl(listener, IOCTL_SEND, response)
