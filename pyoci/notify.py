"""sd_notify(3) across a container's border: the program tells that it is ready, the service manager hears it.

Whoever starts the runtime with NOTIFY_SOCKET wants to know when the container is ready. The container gets a socket of
its own, in a folder of its state that is mounted on /run/notify, and of what it says there only READY goes on, with the
program's pid as the host has it: all else would be about the runtime's own service.
"""

import _socket
import errno
import posix
import select

from pyoci import _native
from pyoci.errors import SetupError, reason
from pyoci.state import NOTIFY, NOTIFY_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.state import Directory

_BARRIER_PATIENCE = 30  # seconds that the service manager gets to take a message in
_LARGEST = 4096


class Relay:
    """The container's socket, and a connection to the service manager's."""

    def __init__(self, directory: "Directory", upstream: str) -> None:
        """`upstream` is the value of NOTIFY_SOCKET. Raises SetupError."""
        self._manager = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        self._socket = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        )
        try:
            self._manager.connect(f"\0{upstream[1:]}" if upstream.startswith("@") else upstream)
        except OSError as error:
            self.close()
            raise SetupError(f"cannot connect to NOTIFY_SOCKET {upstream}: {reason(error.errno or 0)}") from error
        try:
            self._bind(directory)
        except OSError as error:
            self.close()
            raise SetupError(f"cannot make the container's notify socket: {reason(error.errno or 0)}") from error

    def _bind(self, directory: "Directory") -> None:
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

    @property
    def fd(self) -> int:
        """Readable when the container has said something."""
        return self._socket.fileno()

    def wait(self, pid: int, pidfd: int) -> None:
        """Until the program is ready, or has ended; then the service manager knows it as its main process, `pid`."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self.fd in ready and self.pass_on():
                self._tell(f"MAINPID={pid}".encode())
                self._barrier()
                return
            if pidfd in ready:
                return

    def pass_on(self) -> bool:
        """Take what the container has said: whether it is ready, and then the service manager has been told."""
        while True:
            try:
                message = self._socket.recv(_LARGEST)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EINTR):
                    return False
                raise SetupError(f"cannot read the container's notify socket: {reason(error.errno or 0)}") from error
            for line in message.split(b"\n"):
                if line.startswith(b"READY="):
                    self._tell(line)
                    return True

    def close(self) -> None:
        """What the program says from now on, nobody hears."""
        self._socket.close()
        self._manager.close()

    def _tell(self, message: bytes) -> None:
        try:
            self._manager.send(message)
        except OSError as error:
            raise SetupError(f"cannot write to NOTIFY_SOCKET: {reason(error.errno or 0)}") from error

    def _barrier(self) -> None:
        """Wait until the service manager has taken all of it in: once a sender is gone, it may not know it any more."""
        ours, its = posix.pipe2(posix.O_CLOEXEC)
        try:
            _native.send_fd(self._manager.fileno(), b"BARRIER=1", its)
        except OSError:
            pass  # it does without: nobody else has the other end then
        posix.close(its)
        poll = select.poll()
        poll.register(ours, 0)
        poll.poll(_BARRIER_PATIENCE * 1000)
        posix.close(ours)
