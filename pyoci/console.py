"""Terminals: sending one to the engine's console socket, and relaying one between the caller and a foreground `run`."""

import errno
import posix
import select

from pyoci import _native
from pyoci.errors import PyociError, SetupError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.launch import Launch

_LONGEST_PATH = 107  # of a socket address
SIGCHLD, SIGWINCH = 17, 28
# Not forwarded: they speak of the runtime itself.
_OWN_SIGNALS = frozenset((SIGCHLD, SIGWINCH, 9, 19))
_INTERRUPTS = frozenset((errno.EINTR, errno.EAGAIN))


def check_terminal(*, terminal: bool, socket: "str | None", detached: bool) -> None:
    """A terminal needs somebody at its other end. Raises PyociError."""
    if terminal and detached and not socket:
        raise PyociError(
            "cannot allocate a terminal: process.terminal is true, but there is no --console-socket",
            where="/process/terminal",
        )
    if socket and not terminal:
        raise PyociError("cannot use --console-socket: process.terminal is not true", where="/process/terminal")


def send(path: str, fd: int, data: bytes, what: str) -> None:
    """Send one message with one descriptor to the AF_UNIX stream socket at `path`. Never waits for the other side."""
    try:
        sock = _connect(path)
    except OSError as error:
        raise SetupError(f"cannot connect to {what} {path}: {reason(error.errno or 0)}") from error
    try:
        _native.send_fd(sock, data, fd)
    except OSError as error:
        raise SetupError(f"cannot send to {what} {path}: {reason(error.errno or 0)}") from error
    finally:
        posix.close(sock)


def _connect(path: str) -> int:
    """A path that is too long for a socket address is reached through a descriptor of its directory."""
    if len(path.encode("utf-8", "surrogateescape")) <= _LONGEST_PATH:
        return _native.connect_unix(path)
    directory, _, name = path.rpartition("/")
    fd = posix.open(directory or "/", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        return _native.connect_unix(f"/proc/self/fd/{fd}/{name}")
    finally:
        posix.close(fd)


class Foreground:
    """Stays with a container's program: forwards signals, relays its terminal, returns its exit status.

    Signals are taken from a descriptor, so none is lost between the clone and the wait.
    """

    def __init__(self, *, subreaper: bool) -> None:
        if subreaper:
            _native.set_subreaper()
        self._signals = _native.signalfd()
        self._saved: bytes | None = None

    @staticmethod
    def fit(launch: "Launch") -> None:
        """Make the container's terminal as large as the caller's, before the program asks."""
        if launch.console >= 0:
            _native.copy_window_size(0, launch.console)

    def wait(self, launch: "Launch") -> int:
        """Until the program ends: its exit status, 128 + n if signal n ended it."""
        master = launch.console
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        poll.register(launch.pidfd, select.POLLIN)
        if master >= 0:
            self._saved = _native.make_raw(0)
            poll.register(master, select.POLLIN)
            poll.register(0, select.POLLIN)
        try:
            while True:
                ready = {fd for fd, _ in poll.poll()}
                if self._signals in ready:
                    self._forward(launch)
                if master in ready and not _relay(master, 1):
                    poll.unregister(master)
                    master = -1
                if 0 in ready and master >= 0 and not _relay(0, master):
                    poll.unregister(0)
                if launch.pidfd in ready:
                    while master >= 0 and _relay(master, 1):
                        pass
                    return exit_status(launch.pid)
        finally:
            self.close()

    def close(self) -> None:
        """Give the caller's terminal back as it was."""
        if self._saved is not None:
            _native.restore_terminal(0, self._saved)
            self._saved = None

    def _forward(self, launch: "Launch") -> None:
        signal = int.from_bytes(posix.read(self._signals, 128)[:4], "little")
        if signal == SIGWINCH:
            self.fit(launch)
        elif signal not in _OWN_SIGNALS:
            try:
                _native.pidfd_send_signal(launch.pidfd, signal)
            except ProcessLookupError:
                pass  # it has just ended


def _relay(source: int, target: int) -> bool:
    """Copy what is there; False at the end of `source` (EIO: the last user of the terminal has gone)."""
    try:
        data = posix.read(source, 65536)
    except OSError as error:
        return error.errno in _INTERRUPTS
    view = memoryview(data)
    try:
        while view:
            view = view[posix.write(target, view) :]
    except OSError:
        return False
    return bool(data)


def exit_status(pid: int) -> int:
    """Reap `pid`: the status a shell would show."""
    _, status = posix.waitpid(pid, 0)
    return 128 + (status & 0x7F) if status & 0x7F else status >> 8
