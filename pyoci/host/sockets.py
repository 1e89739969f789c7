"""Messages with a descriptor to an engine's AF_UNIX stream sockets. Nobody is waited for without an end."""

import errno
import posix
import select

from pyoci import _native
from pyoci.errors import SetupError, reason

PATIENCE = 10  # seconds for a peer that does not read
_LONGEST_PATH = 107  # of a socket address
_O_PATH = 0x200000


def send(path: str, fd: int, data: bytes, what: str, where: str = "") -> None:
    """Connect to the socket at `path`, send `data`, the descriptor with its first bytes, and close.

    Raises SetupError for `where`, in which `what` is a name for the peer.
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
    """A stream socket, which never blocks, connected to `path`. One that is too long for a socket address is reached
    through a descriptor. Raises OSError."""
    if len(path.encode("utf-8", "surrogateescape")) <= _LONGEST_PATH:
        return _native.connect_unix(path)
    fd = posix.open(path, _O_PATH | posix.O_CLOEXEC)
    try:
        return _native.connect_unix(f"/proc/self/fd/{fd}")
    finally:
        posix.close(fd)


def _send_all(sock: int, fd: int, data: bytes) -> None:
    """A message that is larger than the socket's buffer goes in parts."""
    data = data[_native.send_fd(sock, data, fd) :]
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    while data:
        if not poll.poll(PATIENCE * 1000):
            raise OSError(errno.ETIMEDOUT, posix.strerror(errno.ETIMEDOUT))
        data = data[_native.send(sock, data) :]


__all__ = ["connect", "send"]
