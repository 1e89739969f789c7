"""The kernel's own mount namespace, in which the mounts of most containers begin.

The kernel's thread kdevtmpfs has a mount namespace with two mounts, from boot to shutdown. A child that enters it
before it makes its own copies two mounts, and not all of the host's (docs/decisions/0009-host-mounts.md).

The thread's pid is the same until the next boot. The runtime keeps it as an extended attribute of the state root. It is
only a hint: `find` verifies it each time.
"""

import errno
import posix

from pyoci.host import files
from pyoci.host.processes import is_kernel_thread

THREAD = b"kdevtmpfs"
HINT = "trusted.pyoci.kdevtmpfs"
"""Only a process with CAP_SYS_ADMIN on the host can read or write an attribute of this class (xattr(7))."""
_KTHREADD = 2  # the parent of all threads of the kernel, in the first pid namespace


def find(root: str, *, as_root: bool = False) -> str:
    """Return the path of the namespace, or "" if this process may not join it.

    `as_root` returns what root would find.
    """
    pid = _hint(root)
    if pid < 0:
        return ""
    if not is_kernel_thread(pid, THREAD):
        pid = next((child for child in _kernel_threads() if is_kernel_thread(child, THREAD)), 0)
        if not pid:
            return ""
    path = f"/proc/{pid}/ns/mnt"
    try:
        posix.readlink(path)  # the kernel asks for the same rights as in open(2)
    except OSError:
        return path if as_root else ""
    return path


def remember(root_fd: int, path: str) -> None:
    """Keep the pid in what `find` has returned."""
    pid = path.split("/")[2].encode("ascii")
    try:
        if _read_hint(root_fd) != pid:
            posix.setxattr(root_fd, HINT, pid)
    except OSError:
        pass  # a full or read-only filesystem: the next create searches again


def _hint(root: str) -> int:
    """Return the pid that was kept, 0 if none was yet, -1 if the filesystem of `root` can't keep one.

    On such a filesystem, each create would search for the thread.
    """
    try:
        kept = _read_hint(root)
    except (FileNotFoundError, PermissionError):
        return 0
    except OSError:
        return -1
    return int(kept) if kept.isdigit() else 0


def _read_hint(root: "str | int") -> bytes:
    try:
        return posix.getxattr(root, HINT)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return b""
        raise


def _kernel_threads() -> "list[int]":
    """Return the pids of the kernel's threads, oldest first; [] in another pid namespace than the first one."""
    try:
        return [int(pid) for pid in files.read(f"/proc/{_KTHREADD}/task/{_KTHREADD}/children").split()]
    except OSError:
        return []
