"""What passes between an engine and a new process: inherited descriptors, pid file, console and pidfd sockets."""

import posix

from pyoci.errors import SetupError, reason
from pyoci.host import files

FIRST_FD = 3  # the first descriptor after the standard streams


def listen_fds() -> int:
    """Return how many sockets were passed to this process (sd_listen_fds(3)); 0 if they are for another one."""
    environment = posix.environ
    if environment.get(b"LISTEN_PID") != str(posix.getpid()).encode():
        return 0
    count = environment.get(b"LISTEN_FDS", b"0")
    return int(count) if count.isdigit() and len(count) < 5 else 0


def listen_variables(count: int) -> "list[str]":
    """Return the environment that announces `count` passed sockets to the program."""
    return [f"LISTEN_FDS={count}", "LISTEN_PID=1"]


def fill_fd_holes(count: int) -> None:
    """Open /dev/null at each closed descriptor among the `count` to be preserved.

    Otherwise the runtime's own descriptors would get these numbers, and the container would inherit them.
    """
    for fd in range(FIRST_FD, FIRST_FD + count):
        try:
            posix.fstat(fd)
        except OSError:
            null = posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
            if null != fd:
                posix.dup2(null, fd, False)
                posix.close(null)


def standard_streams() -> "list[str]":
    """Return what the three standard streams are, such as "pipe:[42]".

    Returns "" for one that is closed, or whose name no JSON can hold. checkpoint needs the pipes: a restored program
    gets those of its new engine in their place.
    """
    return [_target(fd) for fd in range(FIRST_FD)]


def _target(fd: int) -> str:
    try:
        name = posix.readlink(f"/proc/self/fd/{fd}")
        name.encode()
    except (OSError, UnicodeEncodeError):
        return ""
    return name


def send_console(path: str, console: int) -> None:
    """Send the master of the terminal to the console socket. Raises SetupError."""
    from pyoci.host import sockets

    sockets.send(path, console, b"/dev/pts/0", "console socket")


def send_pidfd(path: str, pidfd: int) -> None:
    """Send a pidfd to the pidfd socket. Raises SetupError."""
    from pyoci.host import sockets

    sockets.send(path, pidfd, b"pidfd", "pidfd socket")


def write_pid_file(path: str, pid: int) -> None:
    """Write the pid without a newline, as engines read it. Raises SetupError."""
    try:
        files.replace(path, str(pid).encode("ascii"), 0o644)
    except OSError as error:
        raise SetupError(f"cannot write pid file {path}: {reason(error.errno or 0)}") from error


__all__ = [
    "fill_fd_holes",
    "listen_fds",
    "listen_variables",
    "send_console",
    "send_pidfd",
    "standard_streams",
    "write_pid_file",
]
