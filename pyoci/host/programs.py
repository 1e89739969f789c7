"""Run a program of the host, and take what it prints."""

import posix

from pyoci import _native
from pyoci.host.processes import send_signal, wait_ended
from pyoci.linux import SIGKILL

_MAX_OUTPUT = 4096  # bytes


class TimedOut(Exception):
    """The program has not ended in time. It was killed."""


class Program:
    """A program that runs beside the runtime, without an environment or descriptors of it. `wait` must follow."""

    __slots__ = ("_child", "_output")

    def __init__(self, path: str, arguments: "list[str]") -> None:
        """Execute the program. Raises OSError."""
        self._output = _native.new_memfd("output")  # a pipe would have no end while a descendant keeps it open
        actions: list[tuple[int, ...]] = [(posix.POSIX_SPAWN_DUP2, self._output, number) for number in (1, 2)]
        null = (posix.POSIX_SPAWN_OPEN, 0, "/dev/null", posix.O_RDONLY, 0)
        try:
            self._child = posix.posix_spawn(path, arguments, {}, file_actions=[null, *actions])
        except BaseException:
            posix.close(self._output)
            raise

    def wait(self, timeout: int, limit: int = _MAX_OUTPUT) -> "tuple[str, int]":
        """Return its output, up to `limit` bytes, and its wait status. Raises TimedOut after `timeout` seconds."""
        try:
            pidfd = posix.pidfd_open(self._child)
            ended = wait_ended(pidfd, timeout)
            if not ended:
                send_signal(pidfd, SIGKILL)
            posix.close(pidfd)
            _, status = posix.waitpid(self._child, 0)
            if not ended:
                raise TimedOut
            return posix.pread(self._output, limit, 0).decode("utf-8", "backslashreplace"), status
        finally:
            posix.close(self._output)


__all__ = ["Program", "TimedOut"]
