"""The listener of a seccomp filter with SCMP_ACT_NOTIFY: from the process that loads the filter to the agent.

Implements config-linux.md "The Container Process State". Whatever the process does once it has the filter may have to
wait for the agent. So it can't tell the listener's number, and must not go on before the agent has the listener. It is
traced until then (docs/decisions/0007-seccomp-listener.md): seccomp(2) returns the number, and leaves it stopped.
"""

import _struct
import errno
import posix
import time

from pyoci import _native
from pyoci.config.jsonio import dumps
from pyoci.errors import SetupError, reason
from pyoci.host import files, sockets
from pyoci.host.processes import parent, send_signal, wait_ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyoci.types import State

WHERE = "/linux/seccomp/listenerPath"
SIGTRAP, SIGKILL, SIGCONT = 5, 9, 18
_STOPS = (19, 20, 21, 22)  # SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU
_MOST_STOPS = 10000  # each takes some microseconds
_PATIENCE = 10  # seconds for a thread of the process to close a descriptor
_LISTENER = "anon_inode:seccomp notify"

# linux/ptrace.h
_DETACH, _SYSCALL, _SETOPTIONS, _SEIZE, _INTERRUPT, _LISTEN = 17, 24, 0x4200, 0x4206, 0x4207, 0x4208
_TRACESYSGOOD, _EXITKILL = 1, 1 << 20
_AT_SYSTEM_CALL = SIGTRAP | 0x80
_EVENT_STOP = 128
_ENTRY = 1
_CLD_TRAPPED = 4
_ENDED = -1


class Tracee:
    """A process that waits for a word before it loads its filter, held until the agent has the listener.

    `hold` stops it, `hand_over` has it go on to where it has the filter, and then for good. If this very process ends
    before, so does it.
    """

    def __init__(self, pid: int, pidfd: int) -> None:
        self._pid = pid
        self._pidfd = pidfd
        self._held = False
        self._stop = _ENDED
        self._stops = 0
        self._call = -1

    def has_filter(self, before: int) -> bool:
        """Whether it has loaded its filter already: it has more of them than the number that it had `before`."""
        return count_filters(self._pid) > before

    def hold(self) -> None:
        """Stop it where it waits, or in front of its next system call. Raises SetupError."""
        try:
            _native.ptrace(_SEIZE, self._pid)
            if wait_ended(self._pidfd, 0):  # what was seized may be another process of this pid
                raise ProcessLookupError(errno.ESRCH, posix.strerror(errno.ESRCH))
            self._held = True
            _native.ptrace(_INTERRUPT, self._pid)
            self._stop = self._wait()
            _native.ptrace(_SETOPTIONS, self._pid, _TRACESYSGOOD | _EXITKILL)
        except OSError as error:
            raise _failure(error) from error

    def release(self) -> None:
        """Let it go on, as if nothing had been; a second time is no error."""
        if self._held:
            _native.ptrace(_DETACH, self._pid)
            self._held = False

    def kill(self) -> None:
        """It was not handed over: it ends before it has done anything under the filter."""
        if self._held:
            send_signal(self._pidfd, SIGKILL)
            self._reap()

    def hand_over(self, path: str, message: bytes, tell: "Callable[[bytes], object]") -> bool:
        """Wait for the filter, send its listener with `message` to the agent at `path`, and let the process go on.

        `tell` sends bytes to the process, whose own copy of the listener is closed before the agent gets it. False
        for one that ends before it goes on, or whose filter the kernel refuses: it says itself why. Raises SetupError.
        """
        try:
            number = self._await_filter()
            if number < 0:
                self._reap()
                return False
            listener = _native.pidfd_getfd(self._pidfd, number)
            try:
                if posix.readlink(f"/proc/self/fd/{listener}") != _LISTENER:
                    raise SetupError("cannot get the listener of the seccomp filter: it is something else", where=WHERE)
                self._close_its_copy(number, tell)
                sockets.send(path, listener, message, "seccomp agent", WHERE)
            finally:
                posix.close(listener)
            self.release()
            return True
        except ProcessLookupError:  # it ended in between
            self._reap()
            return False
        except OSError as error:
            raise _failure(error) from error

    def _close_its_copy(self, number: int, tell: "Callable[[bytes], object]") -> None:
        """Have a thread of the process close the listener: with it open, a call would wait for ever for an agent that
        has closed its own. This polls: the kernel has no event for a descriptor that another process closes.
        """
        if len(posix.listdir(f"/proc/{self._pid}/task")) == 1:  # there was no room for a thread
            return
        tell(_struct.pack("=i", number))
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                posix.close(_native.pidfd_getfd(self._pidfd, number))
            except OSError as error:
                if error.errno == errno.EBADF:
                    return
                raise
            if time.monotonic() > deadline:
                text = "cannot close the process' own listener of the seccomp filter: no answer"
                raise SetupError(f"{text} in {_PATIENCE} s", where=WHERE)
            send_signal(self._pidfd, SIGCONT)  # the container may have stopped the thread
            time.sleep(0.0005)

    def _await_filter(self) -> int:
        """The listener's number in the process, which stands at the exit of seccomp(2) then; -1 if it has ended."""
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
        """What seccomp(2) returns, if that is where the process stands; else -1."""
        try:
            place, value = _native.syscall_info(self._pid)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return self._found()  # a kernel that can't tell, such as user-mode Linux
        if place == _ENTRY:
            self._call = value
            return -1
        return value if self._call == _native.SECCOMP else -1

    def _found(self) -> int:
        """The listener, as its name in the kernel tells it; -1 if there is none."""
        folder = posix.open(f"/proc/{self._pid}/fd", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            for name in posix.listdir(folder):
                if posix.readlink(name, dir_fd=folder) == _LISTENER:
                    return int(name)
            return -1
        finally:
            posix.close(folder)

    def _wait(self) -> int:
        """The next stop. An end is left to whom it concerns."""
        change = posix.waitid(posix.P_PID, self._pid, posix.WSTOPPED | posix.WEXITED | posix.WNOWAIT)
        return change.si_status if change is not None and change.si_code == _CLD_TRAPPED else _ENDED

    def _resume(self) -> None:
        """Let it go on to its next system call, with the signal that it has got, but for one that would stop it. Raises
        SetupError if other processes stop it again and again."""
        event, signal = self._stop >> 8, self._stop & 0xFF
        if signal in _STOPS:
            self._stops += 1
            if self._stops > _MOST_STOPS:
                text = "the container's process was stopped again and again while it was set up"
                raise SetupError(text, where=WHERE)
        if event == _EVENT_STOP and signal != SIGTRAP:
            send_signal(self._pidfd, SIGCONT)
            _native.ptrace(_LISTEN, self._pid)
        else:
            drop = event or signal == _AT_SYSTEM_CALL or signal in _STOPS
            _native.ptrace(_SYSCALL, self._pid, 0 if drop else signal)

    def _reap(self) -> None:
        """Hand its end on to its parent, who hears of it from the tracer; if that is us, somebody here waits for it."""
        self._held = False
        if parent(self._pid) != posix.getpid():
            posix.waitid(posix.P_PID, self._pid, posix.WEXITED)


def count_filters(pid: int) -> int:
    """How many seccomp filters a process has; 0 if it can't be told."""
    try:
        status = files.read(f"/proc/{pid}/status")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in status.split(b"\n"):
        if line.startswith(b"Seccomp_filters:"):
            return int(line.split()[1])
    return 0


def process_state(state: "State", pid: int, metadata: str) -> bytes:
    """The container process state (SEC-23) of a process of the container with this state document."""
    document = {"ociVersion": state["ociVersion"], "fds": ["seccompFd"], "pid": pid}
    if metadata:
        document["metadata"] = metadata
    return dumps({**document, "state": state}).encode("utf-8", "surrogateescape")


def _failure(error: OSError) -> SetupError:
    hint = "it takes CAP_SYS_PTRACE, and nobody else may trace the process" if error.errno == errno.EPERM else ""
    text = f"cannot get the listener of the seccomp filter: {reason(error.errno or 0)}"
    return SetupError(text, where=WHERE, hint=hint)


__all__ = ["Tracee", "count_filters", "process_state"]
