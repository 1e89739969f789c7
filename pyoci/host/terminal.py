"""Terminals: check that a terminal has a receiver, and relay it between the caller and a foreground program."""

import fcntl
import posix
import select
import sys

from pyoci import _native
from pyoci.errors import PyociError
from pyoci.host.processes import reap, wait_status
from pyoci.linux import SIGCHLD, SIGTERM, SIGWINCH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from pyoci.host.sd_notify import Relay

    class Program(Protocol):
        """The container's program: its pid, a pidfd, and the master of its terminal, -1 if it has none."""

        pid: int
        pidfd: int
        console: int


# Signals for the runtime itself, which are not forwarded. SIGKILL and SIGSTOP never arrive.
_OWN_SIGNALS = frozenset((SIGCHLD, SIGWINCH))
_ENDING_SIGNALS = frozenset((1, 2, 3, SIGTERM))  # SIGHUP, SIGINT, SIGQUIT, SIGTERM
_CHUNK = 4096  # bytes; a pipe accepts as many without blocking when poll(2) reports it as writable


def check_terminal(*, terminal: bool, socket: "str | None", detached: bool) -> None:
    """Raise PyociError unless the terminal has a receiver: the console socket, or the caller of a foreground run."""
    if terminal and detached and not socket:
        raise PyociError(
            "cannot allocate a terminal: process.terminal is true, but there is no --console-socket",
            where="/process/terminal",
            hint="set process.terminal to false or pass --console-socket",
        )
    if socket and not terminal:
        raise PyociError("cannot use --console-socket: process.terminal is not true", where="/process/terminal")


class Foreground:
    """Stays with a container's program: forwards signals, relays its terminal, and returns its exit status.

    It reads signals from the signalfd `signals`, so that none is lost between the clone and the wait. `kept` has the
    signals that arrived before the program ran.
    """

    def __init__(self, *, subreaper: bool) -> None:
        if subreaper:
            _native.set_subreaper()
        self.signals = _native.signalfd()
        self.kept: list[int] = []
        self._saved: bytes | None = None

    def prepare(self, program: "Program") -> None:
        """Give the container's terminal the size of the caller's, before the program reads it.

        If the caller's output is a pipe or a file, the terminal keeps line ends as the program writes them, like runc.
        """
        if program.console >= 0 and not posix.isatty(1):
            _native.keep_newlines(program.console)
        self._fit(program)

    def wait(self, program: "Program", notify: "Relay | None" = None) -> int:
        """Wait for the program's end. Returns its exit status, 128 + n if signal n ended it.

        `notify` forwards the program's READY meanwhile.
        """
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
        """Restore the settings of the caller's terminal."""
        if self._saved is not None:
            _native.restore_terminal(0, self._saved)
            self._saved = None

    @staticmethod
    def _fit(program: "Program") -> None:
        if program.console >= 0:
            _native.copy_window_size(0, program.console)

    def keep_signal(self) -> bool:
        """Read a signal and keep it for the program. Returns whether it requests an end."""
        signal = self._take_signal()
        if signal not in _OWN_SIGNALS:
            self.kept.append(signal)
        return signal in _ENDING_SIGNALS

    def _take_signal(self) -> int:
        return int.from_bytes(posix.read(self.signals, 128)[:4], sys.byteorder)

    def _forward(self, program: "Program", signal: int) -> None:
        if signal == SIGWINCH:
            self._fit(program)
        elif signal not in _OWN_SIGNALS:
            try:
                _native.pidfd_send_signal(program.pidfd, signal)
            except ProcessLookupError:
                pass  # the program has ended


class _Relay:
    """Copies the caller's input to the container's terminal, and the terminal's output to the caller.

    The two directions and the signals must not wait for each other: a program that echoes its input stops reading while
    its output is full. So the master is non-blocking. Other processes share the caller's descriptors and rely on
    blocking. So this writes to them only when poll(2) reports room, and no more than fits.
    """

    def __init__(self, program: "Program") -> None:
        posix.set_blocking(program.console, False)
        self._program = program
        # An open peer prevents a hang-up while no program has the terminal open: init systems open it again later.
        flags = posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC
        self._peer = fcntl.ioctl(program.console, _native.IOCTLS["TIOCGPTPEER"], flags)
        self._input = b""  # still to write to the terminal
        self._output = b""  # still to write to the caller
        self._has_input = True

    def wanted(self) -> "dict[int, int]":
        """Return the events to poll for, by descriptor."""
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
        """Copy in both directions as much as possible without blocking."""
        if 1 in ready:
            self._put_output()
        if self._program.console in ready:
            self._put_input()
            self._output = self._output or self._take_output()
        if 0 in ready:
            self._input = _read(0)
            self._has_input = bool(self._input)

    def finish(self, signals: int) -> None:
        """Copy the last output of a program that has ended, unless a signal asks the runtime to end too."""
        while self._program.console >= 0:
            self._output = self._output or self._take_output()
            if not self._output:
                return
            ready = _poll({1: select.POLLOUT, signals: select.POLLIN})
            if signals in ready and int.from_bytes(posix.read(signals, 128)[:4], sys.byteorder) in _ENDING_SIGNALS:
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
        except OSError:  # the caller has closed its end
            self._output = b""
            self._hang_up()

    def _put_input(self) -> None:
        try:
            self._input = self._input[posix.write(self._program.console, self._input) :]
        except BlockingIOError:
            return

    def _hang_up(self) -> None:
        """Close the master. The program's terminal hangs up, as if its window was closed."""
        posix.close(self._program.console)
        posix.close(self._peer)
        self._program.console = -1
        self._input = b""
        self._has_input = False


def _poll(wanted: "dict[int, int]") -> "set[int]":
    """Wait for these events. Returns the descriptors that are ready."""
    poll = select.poll()
    for fd, events in wanted.items():
        poll.register(fd, events)
    return {fd for fd, _ in poll.poll()}


def _read(fd: int) -> bytes:
    """Read what is available. Returns b"" at the end, or if reading fails."""
    try:
        return posix.read(fd, _CHUNK)
    except OSError:
        return b""


def exit_status(pid: int) -> int:
    """Reap `pid`, which has ended, and return its status as a shell shows it.

    If a tracer in the container delays the reaping, this reads the status from /proc.
    """
    status = reap(pid, 0)
    if status is None:
        status = wait_status(pid)
    return 128 + (status & 0x7F) if status & 0x7F else status >> 8
