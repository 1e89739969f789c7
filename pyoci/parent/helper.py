"""Start the helper, the static executable that runs the child's part of a plan (native/child).

The runtime contains the helper's bytes and writes them to a sealed memfd. A new process executes that before it enters
a namespace of the container. So the container sees, as /proc/PID/exe, a file that no process can change
(CVE-2019-5736).

If memfds may not be executed (vm.memfd_noexec=2, a security module), the runtime writes the helper to a tmpfs of its
own, whose mount it makes read-only. If it may not mount, it uses a file without a name. A container of the same user
may write to that file later, but no process executes it again.
"""

import errno
import posix

from pyoci import _native
from pyoci.errors import SetupError, reason
from pyoci.linux import MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, O_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MEMFD, TMPFS = "a sealed memfd", "a private tmpfs"
# The helper is in the first place that works. In a directory, it is a file without a name.
PLACES = (MEMFD, TMPFS, "/run", "/dev/shm", "/var/lib", "/var/tmp", "/tmp")  # noqa: S108 - a file there has no name
_NOT_HERE = (errno.EACCES, errno.EPERM)  # a mount with noexec, or a security module
# Limits that hold in every place, and what to do about them.
_EVERYWHERE = {
    errno.EMFILE: "raise the limit on open files: `ulimit -n`",
    errno.ENFILE: "the host has no file left: raise fs.file-max",
    errno.EFBIG: "raise the limit on the size of files: `ulimit -f`",
}


class Helper:
    """The executable of the processes that a command starts. `debug` logs where it is.

    `readable`: whether these processes may read it. If not, a new user namespace gets no power over their memory, and
    their files in /proc belong to root.
    """

    __slots__ = ("_debug", "_failures", "_fd", "_left", "_mode")

    def __init__(self, debug: "Callable[[str], None] | None" = None, *, readable: bool = True) -> None:
        self._debug = debug
        self._mode = 0o555 if readable else 0o111
        self._fd = -1
        self._left = list(PLACES)
        self._failures: list[str] = []

    def start(self, channel: int, flags: int, cgroup: int = -1) -> "tuple[int, int]":
        """Clone a process that executes the helper. Return its pid and its pidfd.

        It inherits its end of the `channel`, and the caller's descriptors.
        Raises OSError, whose `strerror` is the system call that failed, and SetupError if there is no place to execute
        the helper from.
        """
        while True:
            if self._fd < 0:
                self._open()
            try:
                return _native.launch(self._fd, channel, flags, cgroup)
            except OSError as error:
                if error.strerror != "execveat" or error.errno not in _NOT_HERE:
                    raise
                failure = self._failure(error)
            self.close()
            self._give_up_place(failure)

    def close(self) -> None:
        """Close the executable. A process that runs it keeps it."""
        if self._fd >= 0:
            posix.close(self._fd)
        self._fd = -1

    def _open(self) -> None:
        """Write the helper to the first place that takes it. Raises SetupError if none does, or if none can."""
        while self._left:
            try:
                self._fd = _WAYS.get(self._left[0], _unnamed_file)(self._left[0], self._mode)
            except OSError as error:
                failure = self._failure(error)
                if error.errno in _EVERYWHERE:
                    hint = _EVERYWHERE[error.errno]
                    raise SetupError(f"cannot execute the helper: {failure}", hint=hint) from error
                self._give_up_place(failure)
                continue
            if self._debug is not None:
                self._debug(f"the helper is in {self._left[0]}")
            return
        raise SetupError(f"cannot execute the helper: {'; '.join(self._failures)}")

    def _failure(self, error: OSError) -> str:
        """Return the place that fails, with the reason."""
        place = self._left[0].removeprefix("a sealed ").removeprefix("a private ")
        return f"{place}: {reason(error.errno or 0)}"

    def _give_up_place(self, failure: str) -> None:
        self._failures.append(failure)
        del self._left[0]


def _memfd(_place: str, mode: int) -> int:
    fd = _native.new_memfd("pyoci", executable=True)
    try:
        _native.write_helper(fd, True, mode)
    except OSError:
        posix.close(fd)
        raise
    return fd


def _private_file(_place: str, mode: int) -> int:
    """Return a descriptor on a read-only mount that is attached nowhere. It stays while a process runs from it."""
    tree = _native.new_mount("tmpfs", [("source", "pyoci"), ("mode", "0755")], MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
    try:
        fd = posix.open(_NAME, posix.O_CREAT | posix.O_WRONLY | posix.O_CLOEXEC, 0o700, dir_fd=tree)
        try:
            _native.write_helper(fd, False, mode)
        finally:
            posix.close(fd)
        fd = posix.open(_NAME, O_PATH | posix.O_CLOEXEC, dir_fd=tree)
        try:
            posix.unlink(_NAME, dir_fd=tree)  # `start` recognises the helper by that: has_executed_a_file
            _native.make_read_only(tree)
        except OSError:
            posix.close(fd)
            raise
        return fd
    finally:
        posix.close(tree)


def _unnamed_file(directory: str, mode: int) -> int:
    """Return a descriptor that is not open for writing: the kernel executes no file that is."""
    fd = posix.open(directory, posix.O_TMPFILE | posix.O_EXCL | posix.O_RDWR | posix.O_CLOEXEC, 0o700)
    try:
        _native.write_helper(fd, False, mode)
        return posix.open(f"/proc/self/fd/{fd}", O_PATH | posix.O_CLOEXEC)
    finally:
        posix.close(fd)


_NAME = "pyoci"
_WAYS: "dict[str, Callable[[str, int], int]]" = {MEMFD: _memfd, TMPFS: _private_file}
