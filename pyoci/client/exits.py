"""Learn how a container's first process ended, without being its parent.

When the runtime has created a container, the first process becomes a child of the nearest subreaper or of the host's
init. The client does not make itself a subreaper, because that would change the host program. It asks, in this order:

1. waitid(2), in case this process is the parent: it is a subreaper already, or the first process of its pid namespace.
2. The monitor, a process that the client starts with each `create` on kernels before 6.15 (monitor.py).
3. The pidfd, which keeps the exit status after the parent has reaped the process, since Linux 6.15.
4. /proc/PID/stat, as long as the parent has not reaped the process.
"""

import contextlib
import fcntl
import os
import select
import signal
import struct
import sys
import threading
import time
from pathlib import Path

from pyoci.errors import StatusError

# PIDFD_GET_INFO (linux/pidfd.h); the size of the first struct pidfd_info, 64 bytes, is part of the number. Reading and
# writing give every architecture the same number, and a Python without the extension `_native` has it, too.
_GET_INFO = 0xC040FF0B
_INFO = struct.Struct("=Q52xi")  # mask … exit_code
_INFO_EXIT = 1 << 3
_PR_GET_CHILD_SUBREAPER = 37
_MONITOR = Path(__file__).with_name("monitor.py")


def kernel_keeps_status() -> bool:
    """Whether a pidfd keeps the exit status of a process that was reaped: since Linux 6.15."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(filter(str.isdigit, minor)) or 0)) >= (6, 15)


def needs_monitor() -> bool:
    """Whether only a monitor can report how a container ends."""
    # a process that adopts orphans is the parent of its containers
    return not (kernel_keeps_status() or os.getpid() == 1 or _is_subreaper())


def _is_subreaper() -> bool:
    import ctypes

    answer = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)


class Watch:
    """Waits for the first process of one container.

    With `monitor`, the command line of `create` begins with `prefix` and inherits the descriptors `inherited`.
    """

    def __init__(self, *, monitor: bool) -> None:
        self.prefix: list[str] = []
        self.inherited: tuple[int, ...] = ()
        self._reports = self._pidfd = -1
        self._received = b""
        self._pid = 0
        self._status: int | None = None
        self._lock = threading.Lock()
        if monitor:
            self._reports, report = os.pipe()
            self.inherited = (report,)
            self.prefix = [sys.executable, "-I", "-S", str(_MONITOR), str(report)]

    def begin(self, pid: int) -> None:
        """Watch the process `pid`. Raises ProcessLookupError if it has ended and was reaped."""
        self._pid = pid
        self._pidfd = os.pidfd_open(pid)

    def wait(self, timeout: float | None) -> int | None:
        """The exit status, or 128 plus the number of the signal; None after `timeout` seconds. Raises StatusError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._status is None and self._pidfd < 0:
            raise StatusError("cannot wait for the container: it was closed, or had stopped before it was loaded")
        while self._status is None:
            if not _is_ready(self._pidfd, select.POLLIN, deadline):
                return None
            with self._lock:
                if self._status is None:
                    self._status = self._collect()
            if self._status is None and not self._await_more(deadline):
                return None
        return self._status

    def release(self) -> None:
        """Close what only `create` inherits."""
        for fd in self.inherited:
            os.close(fd)
        self.inherited = ()

    def settle(self) -> None:
        """Note the exit status of a process that has ended, which also reaps a child of this process."""
        with self._lock:
            if self._status is None and self._pidfd >= 0 and _is_ready(self._pidfd, select.POLLIN, 0):
                with contextlib.suppress(StatusError):
                    self._status = self._collect()

    def close(self) -> None:
        """Close every descriptor. The status of a process that has ended stays available."""
        self.settle()
        self.forget()

    def forget(self) -> None:
        """Close every descriptor, without reading the status."""
        with self._lock:
            self.release()
            for fd in (self._pidfd, self._reports):
                if fd >= 0:
                    os.close(fd)
            self._pidfd = self._reports = -1

    def _collect(self) -> int | None:
        """The exit status of a process that has ended; None if it is not available yet."""
        try:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            pass
        else:
            killed = result is not None and result.si_code != os.CLD_EXITED
            return None if result is None else result.si_status + 128 * killed
        if self._reports >= 0:
            return self._reported()
        status = self._kept_status()
        return self._status_of_zombie() if status is None else status

    def _await_more(self, deadline: float | None) -> bool:
        """Wait for the status of a process that has ended; False at the deadline. Raises StatusError if it is lost."""
        if self._reports >= 0:
            return _is_ready(self._reports, select.POLLIN, deadline)
        if kernel_keeps_status():
            return _is_ready(self._pidfd, select.POLLHUP, deadline)
        raise StatusError("cannot read the container's exit status: its parent has taken it", hint=_HINT)

    def _reported(self) -> int | None:
        """What the monitor has reported. Raises StatusError if it has ended before the container."""
        while True:
            line, newline, rest = self._received.partition(b"\n")
            if newline:
                self._received = rest
                pid, status = map(int, line.split())
                if pid == self._pid:
                    return status
            elif _is_ready(self._reports, select.POLLIN, 0):
                more = os.read(self._reports, 4096)
                if not more:
                    raise StatusError("cannot read the container's exit status: its monitor was killed")
                self._received += more
            else:
                return None

    def _kept_status(self) -> int | None:
        """What the pidfd keeps of a process that was reaped."""
        info = bytearray(_INFO.pack(_INFO_EXIT, 0))
        try:
            fcntl.ioctl(self._pidfd, _GET_INFO, info)
        except OSError:  # Linux before 6.13: ENOTTY; before 6.15, of a reaped process: ESRCH
            return None
        mask, status = _INFO.unpack(info)
        return _shell_status(status) if mask & _INFO_EXIT else None

    def _status_of_zombie(self) -> int | None:
        """What /proc shows as long as the process is not reaped."""
        process = f"/proc/{self._pid}"
        try:
            fields = Path(process, "stat").read_bytes().rpartition(b")")[2].split()
            signal.pidfd_send_signal(self._pidfd, 0)  # so the number still belonged to this process
            os.readlink(f"{process}/ns/user")  # without permission for this, the kernel shows 0 for the status
        except OSError:
            return None
        return _shell_status(int(fields[49])) if fields[0] == b"Z" else None


_HINT = "Linux 6.15 and later keep it; before, only the client that created the container can wait for it"


def _shell_status(status: int) -> int:
    """A wait status in the form of a shell: 128 plus the number of a signal."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _is_ready(fd: int, event: int, deadline: float | None) -> bool:
    """Wait until `fd` has the event, or has ended; False at the deadline, in seconds of the monotonic clock."""
    poll = select.poll()
    poll.register(fd, event)
    # The kernel reports POLLHUP in any case, and POLLIN only on request.
    left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
    return bool(poll.poll(left))
