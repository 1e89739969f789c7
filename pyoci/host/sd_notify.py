"""sd_notify(3) across a container's border: the program tells that it is ready, the service manager hears it.

A service manager that starts the runtime with NOTIFY_SOCKET wants to know when the container is ready. The container
gets a socket of its own, in a folder of its state that is mounted on /run/notify. The runtime passes on READY alone,
with the program's pid on the host: all else would be about the runtime's own service.
"""

import _socket
import errno
import posix
import select
import time

from pyoci import _native
from pyoci.errors import SetupError, reason
from pyoci.host.state_directory import NOTIFY, NOTIFY_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.host.state_directory import StateDirectory

_PATIENCE = 10  # seconds for a service manager whose queue is full
_BARRIER_PATIENCE = 30  # seconds that the service manager gets to take a message in
_LARGEST = 4096
_AT_ONCE = 64  # messages of the container that are read in a row: one that never pauses must not keep us
_LONGEST_ADDRESS = 108  # bytes of a socket's path with its NUL, or of an abstract name with the NUL ahead of it
_O_PATH = 0x200000


class Relay:
    """The container's socket, and a connection to the service manager's.

    The container runs also if the service manager can't hear of it; the reason goes to `warnings`.
    """

    def __init__(self, upstream: str, warnings: "list[str]") -> None:
        """`upstream` is the value of NOTIFY_SOCKET. Raises SetupError without a listener there."""
        self._warnings = warnings
        self._unsent: list[bytes] = []
        self._ready = False
        kind = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        self._manager = _socket.socket(_socket.AF_UNIX, kind)
        self._socket = _socket.socket(_socket.AF_UNIX, kind)
        try:
            _connect(self._manager, upstream.encode("utf-8", "surrogateescape"))
        except OSError as error:
            self.close()
            why = "expected an absolute path or @NAME"
            if error.errno != errno.EAFNOSUPPORT:
                why = reason(error.errno or 0)
            raise SetupError(f"cannot connect to NOTIFY_SOCKET {upstream}: {why}") from error

    def listen(self, directory: "StateDirectory") -> None:
        """Make the container's socket. Raises SetupError."""
        try:
            self._bind(directory)
        except OSError as error:
            self.close()
            raise SetupError(f"cannot make the container's notify socket: {reason(error.errno or 0)}") from error

    def _bind(self, directory: "StateDirectory") -> None:
        folder = posix.open(
            NOTIFY, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=directory.fd
        )
        try:
            try:
                posix.unlink(NOTIFY_SOCKET, dir_fd=folder)  # of a start that was killed
            except FileNotFoundError:
                pass
            self._socket.bind(f"/proc/self/fd/{folder}/{NOTIFY_SOCKET}")
            posix.chmod(NOTIFY_SOCKET, 0o777, dir_fd=folder)  # whoever the container's user is
        finally:
            posix.close(folder)

    def wanted(self) -> "dict[int, int]":
        """What to poll for, by descriptor."""
        if self._unsent:
            return {self._manager.fileno(): select.POLLOUT}
        return {self._socket.fileno(): select.POLLIN}

    def move(self, ready: "set[int]") -> bool:
        """Pass on what can be passed on now: whether the program is ready, and the service manager has been told."""
        if self._socket.fileno() in ready and not self._ready:
            self._hear()
        self._flush()
        return self._ready and not self._unsent

    def wait(self, pid: int, pidfd: int) -> None:
        """Until the program is ready, or has ended; then the service manager knows it as its main process, `pid`."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while not self._ready:
            ready = {fd for fd, _ in poll.poll()}
            if self._socket.fileno() in ready:
                self._hear()
            if pidfd in ready and not self._ready:
                return
        self._unsent.append(f"MAINPID={pid}".encode())
        self._flush_patiently()

    def end(self) -> None:
        """The program has ended: what the service manager has no room for now, it does not hear."""
        self._flush()
        if self._unsent:
            self._give_up("its queue is full")
        self.close()

    def close(self) -> None:
        """Drop what the program says from now on."""
        self._socket.close()
        self._manager.close()

    def _hear(self) -> None:
        """Take what the container has said."""
        for _ in range(_AT_ONCE):
            try:
                message = self._socket.recv(_LARGEST)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EINTR):
                    return
                raise SetupError(f"cannot read the container's notify socket: {reason(error.errno or 0)}") from error
            for line in message.split(b"\n"):
                if line.startswith(b"READY="):
                    self._unsent.append(line)
                    self._ready = True
                    return

    def _flush(self) -> None:
        """Send as much as the service manager's queue takes. What it will never take is dropped with a warning."""
        while self._unsent:
            try:
                self._manager.send(self._unsent[0])
            except BlockingIOError:
                return
            except OSError as error:
                self._give_up(reason(error.errno or 0))
                return
            del self._unsent[0]

    def _flush_patiently(self) -> None:
        """Send all of it, unless the service manager takes nothing for _PATIENCE seconds."""
        deadline = time.monotonic() + _PATIENCE
        self._flush()
        while self._unsent:
            if not self._wait_for_room(deadline):
                self._give_up(f"its queue has been full for {_PATIENCE} s")
                return
            self._flush()
        self._barrier(deadline)

    def _wait_for_room(self, deadline: float) -> bool:
        """Wait until the service manager's queue takes a message. False if `deadline` has passed."""
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        poll = select.poll()
        poll.register(self._manager.fileno(), select.POLLOUT)
        poll.poll(left * 1000)
        return True

    def _give_up(self, why: str) -> None:
        self._unsent = []
        self._warnings.append(f"cannot write to NOTIFY_SOCKET: {why}")

    def _barrier(self, deadline: float) -> None:
        """Wait until the service manager has read everything: it may not recognise a sender that is gone."""
        ours, its = posix.pipe2(posix.O_CLOEXEC)
        try:
            while not self._send_barrier(its) and self._wait_for_room(deadline):
                pass
        finally:
            posix.close(its)
        poll = select.poll()
        poll.register(ours, 0)
        poll.poll(_BARRIER_PATIENCE * 1000)
        posix.close(ours)

    def _send_barrier(self, end: int) -> bool:
        """Send the end of a pipe that the service manager closes once it has read it. False if its queue is full."""
        try:
            _native.send_fd(self._manager.fileno(), b"BARRIER=1", end)
        except BlockingIOError:
            return False
        except OSError:
            pass  # without a manager, no process but this one holds the end
        return True


def _connect(sock: "_socket.socket", upstream: bytes) -> None:
    """Connect to a path of any length, or to an abstract name. Raises OSError."""
    if upstream.startswith(b"@"):
        address = b"\0" + upstream[1:]
        if len(address) > _LONGEST_ADDRESS:
            raise OSError(errno.ENAMETOOLONG, "")
        sock.connect(address)
        return
    if not upstream.startswith(b"/"):
        raise OSError(errno.EAFNOSUPPORT, "")  # of systemd's own machines: vsock
    fd = posix.open(upstream, _O_PATH | posix.O_CLOEXEC)
    try:
        sock.connect(b"/proc/self/fd/%d" % fd)
    finally:
        posix.close(fd)
