"""Pass the listener of a seccomp filter with SCMP_ACT_NOTIFY from the process that loads the filter to the agent.

Implements config-linux.md "The Container Process State". Once the process has the filter, any of its system calls may
wait for the agent. So it can't report the listener's number, and must not continue before the agent has the listener.
The runtime traces it until then (docs/decisions/0007-seccomp-listener.md), and reads the number where seccomp(2)
returns.
"""

import _struct
import errno
import posix
import time

from pyoci import _native
from pyoci.config.jsonio import dumps
from pyoci.errors import SetupError, reason
from pyoci.host import files, sockets
from pyoci.host.processes import STOPPED_AGAIN, parent, send_signal, wait_ended
from pyoci.linux import (
    CLD_TRAPPED,
    PTRACE_DETACH,
    PTRACE_EVENT_STOP,
    PTRACE_INTERRUPT,
    PTRACE_LISTEN,
    PTRACE_O_EXITKILL,
    PTRACE_O_TRACESYSGOOD,
    PTRACE_SEIZE,
    PTRACE_SETOPTIONS,
    PTRACE_SYSCALL,
    PTRACE_SYSCALL_INFO_ENTRY,
    SIGCONT,
    SIGKILL,
    SIGTRAP,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyoci.types import State

WHERE = "/linux/seccomp/listenerPath"
_STOP_SIGNALS = (19, 20, 21, 22)  # SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU
_MAX_STOPS = 10000  # each lasts some microseconds
_TIMEOUT = 10  # seconds for a thread of the process to close a descriptor
_POLL_INTERVAL = 0.0005  # seconds
_LISTENER = "anon_inode:seccomp notify"

_AT_SYSTEM_CALL = SIGTRAP | 0x80  # the stop at entry or exit of a system call, with PTRACE_O_TRACESYSGOOD
_ENDED = -1


class Tracee:
    """A process that is about to load its filter, and that the runtime traces until the agent has the listener.

    `hold` stops it. `hand_over` lets it load the filter, passes the listener on, and lets it continue. If the runtime
    ends before, the kernel kills the process.
    """

    def __init__(self, pid: int, pidfd: int) -> None:
        self._pid = pid
        self._pidfd = pidfd
        self._held = False
        self._stop = _ENDED
        self._stops = 0
        self._call = -1

    def has_filter(self, before: int) -> bool:
        """Whether the process has loaded its filter: it has more filters than the number `before`."""
        return count_filters(self._pid) > before

    def hold(self) -> None:
        """Stop the process where it waits, or before its next system call. Raises SetupError."""
        try:
            _native.ptrace(PTRACE_SEIZE, self._pid)
            if wait_ended(self._pidfd, 0):  # then a later process may have this pid
                raise ProcessLookupError(errno.ESRCH, posix.strerror(errno.ESRCH))
            self._held = True
            _native.ptrace(PTRACE_INTERRUPT, self._pid)
            self._stop = self._wait()
            _native.ptrace(PTRACE_SETOPTIONS, self._pid, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)
        except OSError as error:
            raise _failure(error) from error

    def release(self) -> None:
        """Let the process continue untraced. Does nothing if it is not held."""
        if self._held:
            _native.ptrace(PTRACE_DETACH, self._pid)
            self._held = False

    def kill(self) -> None:
        """Kill the process unless its listener was handed over: it must do nothing under the filter."""
        if self._held:
            send_signal(self._pidfd, SIGKILL)
            self._reap()

    def hand_over(self, path: str, message: bytes, send: "Callable[[bytes], object]") -> bool:
        """Wait for the filter, send its listener with `message` to the agent at `path`, and let the process continue.

        `send` sends bytes to the process. They make it close its own copy of the listener before the agent gets one.
        Returns False if the process ends before, or if the kernel rejects the filter: the process reports the reason
        itself. Raises SetupError.
        """
        try:
            number = self._await_filter()
            if number < 0:
                self._reap()
                return False
            listener = _native.pidfd_getfd(self._pidfd, number)
            try:
                if posix.readlink(f"/proc/self/fd/{listener}") != _LISTENER:
                    raise SetupError(
                        f"cannot get the listener of the seccomp filter: descriptor {number} is something else",
                        where=WHERE,
                    )
                self._close_copy(number, send)
                sockets.send(path, listener, message, "seccomp agent", WHERE)
            finally:
                posix.close(listener)
            self.release()
            return True
        except ProcessLookupError:  # the process has ended
            self._reap()
            return False
        except OSError as error:
            raise _failure(error) from error

    def _close_copy(self, number: int, send: "Callable[[bytes], object]") -> None:
        """Make a thread of the process close its copy of the listener, and wait for that.

        With an open copy, a system call would wait forever once the agent has closed the listener. This polls, because
        the kernel has no event for a descriptor that another process closes.
        """
        if len(posix.listdir(f"/proc/{self._pid}/task")) == 1:  # the process could not create a thread
            return
        send(_struct.pack("=i", number))
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                posix.close(_native.pidfd_getfd(self._pidfd, number))
            except OSError as error:
                if error.errno == errno.EBADF:
                    return
                raise
            if time.monotonic() > deadline:
                raise SetupError(
                    f"cannot close the process's own listener of the seccomp filter: no answer in {_TIMEOUT} s",
                    where=WHERE,
                )
            send_signal(self._pidfd, SIGCONT)  # the container may have stopped the thread
            time.sleep(_POLL_INTERVAL)

    def _await_filter(self) -> int:
        """Let the process run to the exit of seccomp(2). Returns the listener's number in it; -1 if it has ended."""
        while True:
            self._resume()
            self._stop = self._wait()
            if self._stop == _ENDED:
                return -1
            if self._stop == _AT_SYSTEM_CALL:
                number = self._returned()
                if number >= 0:
                    return number

    def _returned(self) -> int:
        """Return the result of seccomp(2) if the process has stopped at its exit, else -1."""
        try:
            place, value = _native.syscall_info(self._pid)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return self._find_listener()  # the kernel lacks PTRACE_GET_SYSCALL_INFO, as user-mode Linux does
        if place == PTRACE_SYSCALL_INFO_ENTRY:
            self._call = value
            return -1
        return value if self._call == _native.SECCOMP else -1

    def _find_listener(self) -> int:
        """Return the number of the descriptor with the listener's name, -1 if there is none."""
        fds = posix.open(f"/proc/{self._pid}/fd", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            for name in posix.listdir(fds):
                if posix.readlink(name, dir_fd=fds) == _LISTENER:
                    return int(name)
            return -1
        finally:
            posix.close(fds)

    def _wait(self) -> int:
        """Wait for the next stop. Does not reap a process that has ended."""
        change = posix.waitid(posix.P_PID, self._pid, posix.WSTOPPED | posix.WEXITED | posix.WNOWAIT)
        return change.si_status if change is not None and change.si_code == CLD_TRAPPED else _ENDED

    def _resume(self) -> None:
        """Let the process run to its next system call, and deliver its signal unless that would stop it.

        Raises SetupError if other processes stop it again and again.
        """
        event, signal = self._stop >> 8, self._stop & 0xFF
        if signal in _STOP_SIGNALS:
            self._stops += 1
            if self._stops > _MAX_STOPS:
                raise SetupError(STOPPED_AGAIN, where=WHERE)
        if event == PTRACE_EVENT_STOP and signal != SIGTRAP:
            send_signal(self._pidfd, SIGCONT)
            _native.ptrace(PTRACE_LISTEN, self._pid)
        else:
            drop = event or signal == _AT_SYSTEM_CALL or signal in _STOP_SIGNALS
            _native.ptrace(PTRACE_SYSCALL, self._pid, 0 if drop else signal)

    def _reap(self) -> None:
        """Reap the process as its tracer, so that the kernel notifies its parent. If this is the parent, do nothing."""
        self._held = False
        if parent(self._pid) != posix.getpid():
            posix.waitid(posix.P_PID, self._pid, posix.WEXITED)


def count_filters(pid: int) -> int:
    """Return how many seccomp filters a process has; 0 if that is unknown."""
    try:
        status = files.read(f"/proc/{pid}/status")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in status.split(b"\n"):
        if line.startswith(b"Seccomp_filters:"):
            return int(line.split()[1])
    return 0


def process_state(state: "State", pid: int, metadata: str) -> bytes:
    """Return the container process state of a process, with the container's `state` in it."""
    document = {"ociVersion": state["ociVersion"], "fds": ["seccompFd"], "pid": pid}
    if metadata:
        document["metadata"] = metadata
    return dumps({**document, "state": state}).encode("utf-8", "surrogateescape")


def _failure(error: OSError) -> SetupError:
    return SetupError(
        f"cannot get the listener of the seccomp filter: {reason(error.errno or 0)}",
        where=WHERE,
        hint="it needs CAP_SYS_PTRACE, and no other tracer of the process" if error.errno == errno.EPERM else "",
    )


__all__ = ["Tracee", "count_filters", "process_state"]
