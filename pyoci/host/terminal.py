"""Terminals: who needs one at the other end, and relaying one between the caller and a foreground `run`."""

import fcntl
import posix
import select

from pyoci import _native
from pyoci.errors import PyociError
from pyoci.host.processes import reap, wait_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from pyoci.host.sd_notify import Relay

    class Program(Protocol):
        """The container's program: its pid, a pidfd, and the master of its terminal, -1 if it has none."""

        pid: int
        pidfd: int
        console: int


SIGCHLD, SIGWINCH = 17, 28
# Not forwarded: they speak of the runtime itself.
_OWN_SIGNALS = frozenset((SIGCHLD, SIGWINCH, 9, 19))
_ENDING_SIGNALS = frozenset((1, 2, 3, 15))  # SIGHUP, SIGINT, SIGQUIT, SIGTERM
_TIOCGPTPEER = 0x5441
_CHUNK = 4096  # bytes; a pipe takes these at once when poll says that it can be written to


def check_terminal(*, terminal: bool, socket: "str | None", detached: bool) -> None:
    """A terminal needs somebody at its other end. Raises PyociError."""
    if terminal and detached and not socket:
        raise PyociError(
            "cannot allocate a terminal: process.terminal is true, but there is no --console-socket",
            where="/process/terminal",
        )
    if socket and not terminal:
        raise PyociError("cannot use --console-socket: process.terminal is not true", where="/process/terminal")


class Foreground:
    """Stays with a container's program: forwards signals, relays its terminal, returns its exit status.

    Signals are taken from the descriptor `signals`, so none is lost between the clone and the wait. Those in `kept`
    came before the program.
    """

    def __init__(self, *, subreaper: bool) -> None:
        if subreaper:
            _native.set_subreaper()
        self.signals = _native.signalfd()
        self.kept: list[int] = []
        self._saved: bytes | None = None

    def prepare(self, program: "Program") -> None:
        """Make the container's terminal as large as the caller's, before the program asks.

        Where the caller reads the output from a pipe or a file, lines end in it as the program ends them, as with runc.
        """
        if program.console >= 0 and not posix.isatty(1):
            _native.keep_newlines(program.console)
        self._fit(program)

    def wait(self, program: "Program", notify: "Relay | None" = None) -> int:
        """Until the program ends: its exit status, 128 + n if signal n ended it. `notify` is told when it is ready."""
        relay = None
        if program.console >= 0:
            self._saved = _native.make_raw(0)
            relay = _Relay(program)
        try:
            for signal in self.kept:
                self._forward(program, signal)
            while True:
                wanted = {self.signals: select.POLLIN, program.pidfd: select.POLLIN}
                if notify is not None:
                    wanted.update(notify.wanted())
                ready = _poll({**wanted, **relay.wanted()} if relay else wanted)
                if notify is not None and notify.move(ready):
                    notify.close()
                    notify = None
                if self.signals in ready:
                    self._forward(program, self._take_signal())
                if relay:
                    relay.move(ready)
                if program.pidfd in ready:
                    if notify is not None:
                        notify.end()
                    if relay:
                        relay.finish(self.signals)
                    return exit_status(program.pid)
        finally:
            self.close()

    def close(self) -> None:
        """Give the caller's terminal back as it was."""
        if self._saved is not None:
            _native.restore_terminal(0, self._saved)
            self._saved = None

    @staticmethod
    def _fit(program: "Program") -> None:
        if program.console >= 0:
            _native.copy_window_size(0, program.console)

    def keep_signal(self) -> bool:
        """Take a signal that the program gets when it runs; whether it asks for an end."""
        signal = self._take_signal()
        if signal not in (SIGCHLD, SIGWINCH):
            self.kept.append(signal)
        return signal in _ENDING_SIGNALS

    def _take_signal(self) -> int:
        return int.from_bytes(posix.read(self.signals, 128)[:4], "little")

    def _forward(self, program: "Program", signal: int) -> None:
        if signal == SIGWINCH:
            self._fit(program)
        elif signal not in _OWN_SIGNALS:
            try:
                _native.pidfd_send_signal(program.pidfd, signal)
            except ProcessLookupError:
                pass  # it has just ended


class _Relay:
    """Copies what the caller types to the container's terminal, and what is written there to the caller.

    Neither direction may wait for the other, nor signals for either: a program that echoes reads on only when its
    output is taken. So the master does not block. The caller's descriptors are shared with others, who rely on their
    blocking; they are written to when poll says so, and then no more than fits.
    """

    def __init__(self, program: "Program") -> None:
        posix.set_blocking(program.console, False)
        self._program = program
        # held, so that it is no hang-up when every program has closed the terminal: init systems come back to it
        self._peer = fcntl.ioctl(program.console, _TIOCGPTPEER, posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC)
        self._input = b""  # to be written to the terminal
        self._output = b""  # to be written to the caller
        self._has_input = True

    def wanted(self) -> "dict[int, int]":
        """What to poll for, by descriptor."""
        if self._program.console < 0:
            return {}
        events = (0 if self._output else select.POLLIN) | (select.POLLOUT if self._input else 0)
        wanted = {self._program.console: events} if events else {}
        if self._output:
            wanted[1] = select.POLLOUT
        if self._has_input and not self._input:
            wanted[0] = select.POLLIN
        return wanted

    def move(self, ready: "set[int]") -> None:
        """Copy in both directions what can be copied now."""
        if 1 in ready:
            self._put_output()
        if self._program.console in ready:
            self._put_input()
            self._output = self._output or self._take_output()
        if 0 in ready:
            self._input = _read(0)
            self._has_input = bool(self._input)

    def finish(self, signals: int) -> None:
        """The program has ended: pass on what it wrote last, unless a signal asks the runtime to end, too."""
        while self._program.console >= 0:
            self._output = self._output or self._take_output()
            if not self._output:
                return
            ready = _poll({1: select.POLLOUT, signals: select.POLLIN})
            if signals in ready and int.from_bytes(posix.read(signals, 128)[:4], "little") in _ENDING_SIGNALS:
                return
            if 1 in ready:
                self._put_output()

    def _take_output(self) -> bytes:
        try:
            return posix.read(self._program.console, _CHUNK)
        except BlockingIOError:
            return b""

    def _put_output(self) -> None:
        try:
            self._output = self._output[posix.write(1, self._output) :]
        except BlockingIOError:
            return
        except OSError:  # nobody looks at it any more
            self._output = b""
            self._hang_up()

    def _put_input(self) -> None:
        try:
            self._input = self._input[posix.write(self._program.console, self._input) :]
        except BlockingIOError:
            return

    def _hang_up(self) -> None:
        """Close the master: to the program its terminal hangs up, as one whose window was closed."""
        posix.close(self._program.console)
        posix.close(self._peer)
        self._program.console = -1
        self._input = b""
        self._has_input = False


def _poll(wanted: "dict[int, int]") -> "set[int]":
    """Wait until one of these descriptors is ready for its events; those that are."""
    poll = select.poll()
    for fd, events in wanted.items():
        poll.register(fd, events)
    return {fd for fd, _ in poll.poll()}


def _read(fd: int) -> bytes:
    """What is there; nothing at its end, or if it can't be read."""
    try:
        return posix.read(fd, _CHUNK)
    except OSError:
        return b""


def exit_status(pid: int) -> int:
    """Reap `pid`, which has ended: the status a shell would show. A tracer in the container can't keep us from it."""
    status = reap(pid, 0)
    if status is None:
        status = wait_status(pid)
    return 128 + (status & 0x7F) if status & 0x7F else status >> 8
