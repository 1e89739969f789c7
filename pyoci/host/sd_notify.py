"""Relay sd_notify(3) from the container to the service manager.

A service manager that starts the runtime with NOTIFY_SOCKET waits until the container is ready. The container gets a
socket of its own, in a directory of its state that is mounted on /run/notify. The runtime forwards only READY, together
with the program's pid on the host. Any other message would be about the runtime's own service.
"""

import _socket
import errno
import posix
import select
import time

from pyoci import _native
from pyoci.errors import SetupError, reason
from pyoci.host.state_directory import NOTIFY, NOTIFY_SOCKET
from pyoci.linux import O_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.host.state_directory import StateDirectory

_TIMEOUT = 10  # seconds for a service manager whose queue is full
_BARRIER_TIMEOUT = 30  # seconds for the service manager to read a message
_MAX_MESSAGE = 4096  # bytes
_MAX_BATCH = 64  # messages read in a row: a program that never stops sending must not keep the runtime busy
_MAX_ADDRESS = 108  # bytes of a socket's path with its final NUL, or of an abstract name with its first NUL


class Relay:
    """The container's socket, and a connection to the service manager's socket.

    If the service manager can't be notified, the container runs anyway, and `warnings` gets the reason.
    """

    def __init__(self, upstream: str, warnings: "list[str]") -> None:
        """Connect to `upstream`, the value of NOTIFY_SOCKET. Raises SetupError."""
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
        """Create the container's socket. Raises SetupError."""
        try:
            self._bind(directory)
        except OSError as error:
            self.close()
            raise SetupError(f"cannot create the container's notify socket: {reason(error.errno or 0)}") from error

    def _bind(self, directory: "StateDirectory") -> None:
        notify = posix.open(
            NOTIFY, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=directory.fd
        )
        try:
            try:
                posix.unlink(NOTIFY_SOCKET, dir_fd=notify)  # left behind by a `start` that was killed
            except FileNotFoundError:
                pass
            self._socket.bind(f"/proc/self/fd/{notify}/{NOTIFY_SOCKET}")
            posix.chmod(NOTIFY_SOCKET, 0o777, dir_fd=notify)  # every user of the container may connect
        finally:
            posix.close(notify)

    def wanted(self) -> "dict[int, int]":
        """Return the events to poll for, by descriptor."""
        if self._unsent:
            return {self._manager.fileno(): select.POLLOUT}
        return {self._socket.fileno(): select.POLLIN}

    def move(self, ready: "set[int]") -> bool:
        """Forward what can be forwarded now. Returns whether READY has reached the service manager."""
        if self._socket.fileno() in ready and not self._ready:
            self._receive()
        self._flush()
        return self._ready and not self._unsent

    def wait(self, pid: int, pidfd: int) -> None:
        """Wait until the program is ready, or has ended. Then report `pid` to the service manager as main process."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while not self._ready:
            ready = {fd for fd, _ in poll.poll()}
            if self._socket.fileno() in ready:
                self._receive()
            if pidfd in ready and not self._ready:
                return
        self._unsent.append(f"MAINPID={pid}".encode())
        self._flush_all()

    def end(self) -> None:
        """Close the relay after the program's end. Drops what the service manager's queue does not take now."""
        self._flush()
        if self._unsent:
            self._drop("its queue is full")
        self.close()

    def close(self) -> None:
        """Close the sockets. Later messages of the program are lost."""
        self._socket.close()
        self._manager.close()

    def _receive(self) -> None:
        """Read the container's messages, up to READY."""
        for _ in range(_MAX_BATCH):
            try:
                message = self._socket.recv(_MAX_MESSAGE)
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
        """Send as much as the service manager's queue takes. Drops the rest with a warning if sending fails."""
        while self._unsent:
            try:
                self._manager.send(self._unsent[0])
            except BlockingIOError:
                return
            except OSError as error:
                self._drop(reason(error.errno or 0))
                return
            del self._unsent[0]

    def _flush_all(self) -> None:
        """Send everything, unless the service manager's queue stays full for _TIMEOUT seconds."""
        deadline = time.monotonic() + _TIMEOUT
        self._flush()
        while self._unsent:
            if not self._wait_for_room(deadline):
                self._drop(f"its queue has been full for {_TIMEOUT} s")
                return
            self._flush()
        self._barrier(deadline)

    def _wait_for_room(self, deadline: float) -> bool:
        """Wait until the service manager's queue has room. Returns False if `deadline` has passed."""
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        poll = select.poll()
        poll.register(self._manager.fileno(), select.POLLOUT)
        poll.poll(left * 1000)
        return True

    def _drop(self, why: str) -> None:
        self._unsent = []
        self._warnings.append(f"cannot write to NOTIFY_SOCKET: {why}")

    def _barrier(self, deadline: float) -> None:
        """Wait until the service manager has read everything: it may not recognise a sender that has ended."""
        reading, writing = posix.pipe2(posix.O_CLOEXEC)
        try:
            while not self._send_barrier(writing) and self._wait_for_room(deadline):
                pass
        finally:
            posix.close(writing)
        poll = select.poll()
        poll.register(reading, 0)
        poll.poll(_BARRIER_TIMEOUT * 1000)
        posix.close(reading)

    def _send_barrier(self, end: int) -> bool:
        """Send the end of a pipe, which the service manager closes when it reads the message.

        Returns False if its queue is full.
        """
        try:
            _native.send_fd(self._manager.fileno(), b"BARRIER=1", end)
        except BlockingIOError:
            return False
        except OSError:
            pass  # without a service manager the caller closes the only copy, and does not wait
        return True


def _connect(sock: "_socket.socket", upstream: bytes) -> None:
    """Connect to a path of any length, or to an abstract name. Raises OSError."""
    if upstream.startswith(b"@"):
        address = b"\0" + upstream[1:]
        if len(address) > _MAX_ADDRESS:
            raise OSError(errno.ENAMETOOLONG, "")
        sock.connect(address)
        return
    if not upstream.startswith(b"/"):
        raise OSError(errno.EAFNOSUPPORT, "")  # systemd uses vsock in its VMs
    fd = posix.open(upstream, O_PATH | posix.O_CLOEXEC)
    try:
        sock.connect(b"/proc/self/fd/%d" % fd)
    finally:
        posix.close(fd)
