"""The conversation with one `criu swrk` process, over a socket pair.

The runtime sends one request. CRIU sends notifications, each of which the runtime acknowledges, and at last its answer.
CRIU opens the directories in a request as /proc/PID/fd/N of the process that made the socket pair: the runtime.
"""

import _socket
import posix
import select
import sys

from pyoci import _native
from pyoci.compiler.paths import SYSTEM_DIRECTORIES
from pyoci.compiler.verbs.numbers import CRIU_ERRORS, CRIU_INPUT, CRIU_OUTPUT, RPC
from pyoci.criu import rpc
from pyoci.errors import SetupError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyoci.criu.rpc import Options, Response

    # Gets a notification and the descriptor that came with it, or -1. The service closes the descriptor.
    Notified = Callable[[Response, int], None]

ENVIRONMENT = {"PATH": ":".join(SYSTEM_DIRECTORIES)}
SOCKET = 3  # the number of CRIU's end of the socket pair
_MAX_MESSAGE = 1 << 16  # bytes of one from CRIU; its longest text is the first line of an error
_MAX_FDS = 4
_MAX_OUTPUT = 4096  # bytes
_INT = 4  # bytes of a descriptor in a control message


class Service:
    """One CRIU. `peer` is its end of the socket pair, until `start` or `adopt`."""

    __slots__ = ("_action", "_output", "_socket", "_started", "peer", "pid", "pidfd")

    def __init__(self, action: str) -> None:
        """`action` is part of each error, such as `checkpoint the container`."""
        self._action = action
        own, self.peer = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        self._socket = own
        self._started = False
        self.pid = self.pidfd = -1
        self._output = _native.new_memfd("criu")

    def fill(self, slots: "list[int]") -> None:
        """Fill the slots of a plan with CRIU's standard streams, and its end of the socket pair."""
        slots[CRIU_INPUT] = posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
        slots[CRIU_OUTPUT], slots[CRIU_ERRORS] = posix.dup(self._output), posix.dup(self._output)
        slots[RPC] = posix.dup(self.peer.fileno())

    def start(self, program: str) -> None:
        """Execute CRIU without a plan, to ask what it and the kernel support. Raises SetupError."""
        actions: list[tuple[int | str, ...]] = [
            (posix.POSIX_SPAWN_OPEN, 0, "/dev/null", posix.O_RDWR, 0),
            (posix.POSIX_SPAWN_DUP2, self._output, 1),
            (posix.POSIX_SPAWN_DUP2, self._output, 2),
            (posix.POSIX_SPAWN_DUP2, self.peer.fileno(), SOCKET),
        ]
        arguments = ["criu", "swrk", str(SOCKET)]
        try:
            # A group of its own, so that an interrupt of the caller's terminal does not end it before its answer.
            self.pid = posix.posix_spawn(program, arguments, ENVIRONMENT, file_actions=actions, setpgroup=0)
        except OSError as error:
            raise SetupError(f"cannot {self._action}: cannot run {program}: {reason(error.errno or 0)}") from error
        self._started = True
        self.adopt(self.pid, posix.pidfd_open(self.pid))

    def adopt(self, pid: int, pidfd: int) -> None:
        """Talk to the process `pid`, which has its end of the socket pair by now. Takes over the pidfd."""
        self.pid, self.pidfd = pid, pidfd
        self.peer.close()

    def ask(self, kind: int, options: "Options", notified: "Notified | None" = None) -> "Response":
        """Send a request, and pass each notification to `notified`. Returns CRIU's answer.

        If `notified` raises, CRIU gives up and undoes what it did; then the same error is raised here.
        Raises SetupError if CRIU ends without an answer.
        """
        return self.send(rpc.encode_request(kind, options), notified)

    def send(self, message: bytes, notified: "Notified | None" = None) -> "Response":
        """Send an encoded request. Does the same as `ask`."""
        self._socket.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, len(message) + _MAX_MESSAGE)
        self._send(message)
        failure: BaseException | None = None
        while True:
            response, fd = self._receive(failure)
            if response.kind != rpc.NOTIFY:
                if failure is not None:
                    raise failure
                return response
            try:
                if failure is None and notified is not None:
                    notified(response, fd)
            except Exception as error:  # noqa: BLE001 - raised again once CRIU has undone what it did
                failure = error
            finally:
                if fd >= 0:
                    posix.close(fd)
            self._send(rpc.encode_acknowledgement(success=failure is None))

    def output(self) -> str:
        """Return what CRIU has printed, as one line."""
        text = posix.pread(self._output, _MAX_OUTPUT, 0).decode("utf-8", "backslashreplace")
        return "; ".join(text.strip().splitlines())

    def close(self) -> None:
        """Close the connection, and wait for the end of a CRIU that `start` executed."""
        self._socket.close()
        self.peer.close()
        for fd in (self._output, self.pidfd):
            if fd >= 0:
                posix.close(fd)
        self._output = self.pidfd = -1
        if self._started:
            posix.waitpid(self.pid, 0)
            self._started = False

    def _send(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except BrokenPipeError:
            pass  # the next `_receive` reports that CRIU has ended
        except OSError as error:
            raise SetupError(
                f"cannot {self._action}: cannot send a request to criu: {reason(error.errno or 0)}"
            ) from error

    def _receive(self, failure: "BaseException | None") -> "tuple[Response, int]":
        """Return the next message, and the descriptor that came with it, or -1."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        # A process that CRIU has started may keep the socket open after CRIU was killed.
        poll.register(self.pidfd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        data, fds = b"", list[int]()
        if self._socket.fileno() in ready:
            try:
                data, fds = self._take()
            except ConnectionError:
                pass
        if not data:
            raise failure or self._ended()
        try:
            return rpc.Response.decode(data), fds[0] if fds else -1
        except ValueError as error:
            raise SetupError(f"cannot {self._action}: cannot understand criu: {error}") from error

    def _take(self) -> "tuple[bytes, list[int]]":
        flags = _socket.MSG_CMSG_CLOEXEC
        data, ancillary, _, _ = self._socket.recvmsg(_MAX_MESSAGE, _socket.CMSG_SPACE(_MAX_FDS * _INT), flags)
        fds = []
        for level, kind, content in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                fds += [int.from_bytes(content[at : at + _INT], sys.byteorder) for at in range(0, len(content), _INT)]
        for fd in fds[1:]:
            posix.close(fd)
        return data, fds[:1]

    def _ended(self) -> SetupError:
        said = self.output()
        return SetupError(f"cannot {self._action}: criu ended without an answer" + (f": {said}" if said else ""))


_SO_SNDBUFFORCE = 32
