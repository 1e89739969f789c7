"""Check the records of the container's process during its setup, and notice what keeps it from sending them.

The process is already in the container. Container root may stop it, trace it, or send records in its place. So the
runtime checks each record against the plan before it uses it, and waits only a limited time for a stopped process.
A slow operation, such as a hook, has no limit.
"""

import _struct
import select
import time

from pyoci import _native
from pyoci.compiler import verbs
from pyoci.compiler.verbs.numbers import BLOCK_ERRORS
from pyoci.errors import SetupError
from pyoci.host import processes
from pyoci.linux import SIGCONT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyoci.compiler.verbs import ChildOp
    from pyoci.host.terminal import Foreground

RECORD = _struct.Struct("=IiiiII")  # kind, op, step, errno, payload length, detail: as in native/child/protocol.pxi
SYNC, FAILED, EXEC, CLONED, UNREADABLE, UNRECEIVED = 1, 2, 3, 4, 5, 6
MAX_PAYLOAD = 3072
_MAX_ERRNO = 4095
_AT_POINT = (verbs.Sync, verbs.OpenConsole)  # verbs that report a synchronisation point
# verbs that may begin with the record that only execve remains
_SENDS_EXEC = (verbs.LoadSeccomp, verbs.Exec, verbs.ExecHost)

_FIRST_POLL = 50  # milliseconds without a record, after which the runtime looks at the state of the process
_MAX_POLL = 200
_POLL_AFTER_STOP = 5
_MAX_STOPS = 200
_TRACER_TIMEOUT = 10  # seconds
_SIGNAL_TIMEOUT = 1  # seconds that the program has to begin, and to take the signal itself


class Records:
    """The records that a process may send, in order. `ops` are its operations, by number, in ascending order."""

    __slots__ = ("_barriers", "_executes", "_last", "_ops", "_points")

    def __init__(self, ops: "Mapping[int, ChildOp]") -> None:
        self._ops = ops
        self._points: dict[int, int] = {}
        self._barriers: list[int] = []
        for n, op in ops.items():
            if isinstance(op, _AT_POINT):
                self._points[n] = op.point
                self._barriers.append(n)
            elif isinstance(op, verbs.CloneInit):
                self._barriers.append(n)
        self._barriers.append(1 << 31)
        self._last = -1
        self._executes = False

    def is_early(self, data: bytes) -> bool:
        """Whether a cloned process has sent this record before the record of its pid has come."""
        barrier = self._barriers[0]
        clone = self._ops.get(barrier)
        if not isinstance(clone, verbs.CloneInit) or clone.waits or len(data) < RECORD.size:
            return False
        return bool(RECORD.unpack_from(data)[1] > barrier)

    def take(self, data: bytes) -> "tuple[int, int, int, int, int, bytes]":
        """Return (kind, operation, step, errno, detail, payload) of the next record.

        Raises SetupError unless the child may send it now.
        """
        if len(data) < RECORD.size:
            raise nonsense("it is too short")
        kind, index, step, error, length, detail = RECORD.unpack_from(data)
        if length != len(data) - RECORD.size or length > MAX_PAYLOAD:
            raise nonsense("its length is wrong")
        if kind == UNREADABLE:
            if self._executes or error or length or not 0 < step <= len(BLOCK_ERRORS):
                raise nonsense("nothing of its kind comes next")
            return kind, index, step, error, detail, b""
        op = self._ops.get(index)
        if op is None or not self._last < index <= self._barriers[0]:
            raise nonsense("the operation is not one that comes next")
        if kind == FAILED or (kind == UNRECEIVED and self._last < 0):
            if not 0 < step < len(_native.STEPS) or not 0 <= error <= _MAX_ERRNO:
                raise nonsense("this operation can't fail so")
            return kind, index, step, error, detail, data[RECORD.size :]
        if step or error or length:
            raise nonsense("it reports success and an error")
        expected = {
            SYNC: self._points.get(index, -1) == detail,
            CLONED: isinstance(op, verbs.CloneInit),
            EXEC: isinstance(op, _SENDS_EXEC) and not detail,
        }
        if self._executes or not expected.get(kind):
            raise nonsense("nothing of its kind comes next")
        self._executes = kind == EXEC
        if self._executes:
            self._last = index - 1  # the operation may still fail
        else:
            self._last = index
            del self._barriers[0]
        return kind, index, step, error, detail, b""


def split(data: bytes) -> "Iterator[bytes]":
    """Split the data of a FIFO into records."""
    while data:
        size = RECORD.size
        if len(data) >= size:
            size += RECORD.unpack_from(data)[4]
        yield data[:size]
        data = data[size:]


def nonsense(why: str) -> SetupError:
    """Return the error for a record that the plan does not allow."""
    return SetupError(
        f"the container's process sent a record that makes no sense: {why}",
        hint="a process of the container may have changed it",
    )


class Watch:
    """Waits for records of a process during its setup, and notices what stops it.

    Continues a stopped process with SIGCONT. Raises SetupError if it is stopped again and again, or if a tracer holds
    it.
    """

    __slots__ = ("_asked_at", "_held_since", "_signal", "_stops")

    def __init__(self) -> None:
        self._stops = 0
        self._signal = 0
        self._asked_at = 0.0
        self._held_since = 0.0

    def wait(
        self, fd: int, pid: int, pidfd: int, *, until_exec: bool = False, foreground: "Foreground | None" = None
    ) -> "set[int]":
        """Wait until `fd` can be read or the process has ended. Return which of `fd` and `pidfd` are ready.

        `until_exec`: return an empty set once the process has executed its program. A tracer that has copied `fd` from
        the process could hold it open, and so delay the end of file.
        `foreground`: end when a signal asks for it, unless the program runs soon and takes the signal itself.
        Raises SetupError.
        """
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        if foreground is not None:
            poll.register(foreground.signals, select.POLLIN)
        pause = _FIRST_POLL
        while not (ready := self._without_signals({number for number, _ in poll.poll(pause)}, foreground)):
            letter = processes.state(pid)
            if letter == b"T":
                self._resume(pidfd)
                pause = _POLL_AFTER_STOP
                continue
            self._notice_tracer(held=letter == b"t")
            if until_exec and processes.has_executed_a_file(pid):
                return set()
            pause = min(2 * pause, _MAX_POLL)
        # the process may have sent its last record after poll had looked at `fd`
        return ready if fd in ready else {number for number, _ in poll.poll(0)}

    def _without_signals(self, ready: "set[int]", foreground: "Foreground | None") -> "set[int]":
        """Keep signals for the program, and return what else is ready. Raises SetupError if one waits too long."""
        if foreground is not None and foreground.signals in ready:
            ready.remove(foreground.signals)
            if foreground.keep_signal() and not self._signal:
                self._signal = foreground.kept[-1]
                self._asked_at = time.monotonic()
        if self._signal and not ready and time.monotonic() - self._asked_at > _SIGNAL_TIMEOUT:
            raise SetupError(f"signal {self._signal} has ended the runtime before the program ran")
        return ready

    def _resume(self, pidfd: int) -> None:
        self._stops += 1
        if self._stops > _MAX_STOPS:
            raise SetupError(processes.STOPPED_AGAIN)
        processes.send_signal(pidfd, SIGCONT)

    def _notice_tracer(self, *, held: bool) -> None:
        if not held:
            self._held_since = 0.0
            return
        now = time.monotonic()
        self._held_since = self._held_since or now
        if now - self._held_since > _TRACER_TIMEOUT:
            raise SetupError(f"another process has traced and held the container's process for {_TRACER_TIMEOUT} s")
