"""Send a message with a descriptor to an engine's AF_UNIX stream socket. Every wait has a timeout."""

import errno
import posix
import select

from pyoci import _native
from pyoci.errors import SetupError, reason
from pyoci.linux import O_PATH

TIMEOUT = 10  # seconds for a receiver that does not read
_MAX_PATH = 107  # bytes in a socket address


def send(path: str, fd: int, data: bytes, what: str, where: str = "") -> None:
    """Connect to the socket at `path`, send `data` with the descriptor `fd`, and close the connection.

    `what` names the receiver in messages. Raises SetupError with the pointer `where`.
    """
    try:
        sock = connect(path)
    except OSError as error:
        raise SetupError(f"cannot connect to {what} {path}: {reason(error.errno or 0)}", where=where) from error
    try:
        _send_all(sock, fd, data)
    except OSError as error:
        raise SetupError(f"cannot send to {what} {path}: {reason(error.errno or 0)}", where=where) from error
    finally:
        posix.close(sock)


def connect(path: str) -> int:
    """Return a non-blocking stream socket that is connected to `path`. Raises OSError."""
    if len(path.encode("utf-8", "surrogateescape")) <= _MAX_PATH:
        return _native.connect_unix(path)
    fd = posix.open(path, O_PATH | posix.O_CLOEXEC)
    try:
        return _native.connect_unix(f"/proc/self/fd/{fd}")
    finally:
        posix.close(fd)


def _send_all(sock: int, fd: int, data: bytes) -> None:
    """Send `data`, in parts if it is larger than the socket's buffer. The descriptor goes with the first part."""
    data = data[_native.send_fd(sock, data, fd) :]
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    while data:
        if not poll.poll(TIMEOUT * 1000):
            raise OSError(errno.ETIMEDOUT, posix.strerror(errno.ETIMEDOUT))
        data = data[_native.send(sock, data) :]


__all__ = ["connect", "send"]
