"""Directories and files of a cgroup, by descriptor: one path component at a time, never through a symbolic link."""

import errno
import posix

from pyoci.errors import CgroupError, reason
from pyoci.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
READ = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC
WRITE = posix.O_WRONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_NO_LIMIT = 1 << 62  # bytes
GONE = (errno.ENOENT, errno.ENODEV)  # errors of a removed cgroup, by name and by descriptor


def is_there(path: str) -> bool:
    """Whether anything has this name, even a dangling symlink."""
    try:
        posix.lstat(path)
    except OSError:
        return False
    return True


def read_file(path: str) -> str:
    """Read the whole of a file outside of the hierarchy, such as in /proc."""
    return read_at(None, path).decode("utf-8", "surrogateescape")


def read_at(dirfd: "int | None", name: str) -> bytes:
    """Read the whole of a file in a cgroup."""
    return files.read(name, dirfd, _NO_LIMIT)


def words_at(dirfd: int, name: str) -> list[str]:
    """Return the words of a file, such as cgroup.controllers."""
    return read_at(dirfd, name).decode().split()


def pids_at(dirfd: int, name: str) -> list[int]:
    """Return the pids in a cgroup.procs, without the zeros of processes outside of the caller's pid namespace.

    Returns none for a threaded cgroup: its processes are listed in an ancestor.
    """
    try:
        return [pid for pid in map(int, read_at(dirfd, name).split()) if pid > 0]
    except OSError as error:
        if error.errno in (*GONE, errno.EOPNOTSUPP):
            return []
        raise


def pids_below(dirfd: int) -> list[int]:
    """Return the pids of a cgroup and of every cgroup below it."""
    pids = pids_at(dirfd, "cgroup.procs")
    for parent, name in subtree(dirfd):
        pids += pids_at(parent, f"{name}/cgroup.procs")
    return pids


def write_at(dirfd: int, name: str, value: bytes) -> None:
    """Write a value to a file of a cgroup, with a single write(2)."""
    fd = posix.open(name, WRITE, dir_fd=dirfd)
    try:
        if posix.write(fd, value) != len(value):
            raise OSError(errno.EIO, "short write")
    finally:
        posix.close(fd)


def mkdir_at(dirfd: int, name: str) -> bool:
    """Create a directory. Returns False if it exists."""
    try:
        posix.mkdir(name, 0o755, dir_fd=dirfd)
    except FileExistsError:
        return False
    return True


def rmdir_at(dirfd: int, name: str) -> bool:
    """Remove a directory, which may be gone already. Returns False if it is in use."""
    try:
        posix.rmdir(name, dir_fd=dirfd)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        if error.errno not in GONE:
            raise
    return True


def open_below(mount: str, path: str) -> int:
    """Open the directory `path` below `mount`: "/a/b", or "" or "/" for the mount itself."""
    fd = posix.open(mount, DIRECTORY)
    for name in path[1:].split("/") if path.strip("/") else ():
        above = fd
        try:
            fd = posix.open(name, DIRECTORY, dir_fd=above)
        finally:
            posix.close(above)
    return fd


def remove_unused(mount: str, path: str) -> None:
    """Remove a directory if it is empty. Ignores one that is gone."""
    parent_path, _, name = path.rpartition("/")
    try:
        parent = open_below(mount, parent_path)
    except OSError as error:
        if error.errno in GONE:
            return
        raise
    try:
        rmdir_at(parent, name)
    finally:
        posix.close(parent)


def _children(dirfd: int) -> list[str]:
    if posix.fstat(dirfd).st_nlink == 2:  # the kernel counts a cgroup's subdirectories there
        return []
    with posix.scandir(dirfd) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def subtree(top: int) -> "Iterator[tuple[int, str]]":
    """Yield (descriptor of the parent, name) of every cgroup below `top`, children first.

    A container may nest its cgroups to any depth. So this uses one descriptor and no recursion.
    """
    fd = posix.dup(top)
    names: list[str] = []
    pending = [_children(fd)]
    try:
        while names or pending[-1]:
            if pending[-1]:
                name = pending[-1].pop()
                try:
                    child = posix.open(name, DIRECTORY, dir_fd=fd)
                    pending.append(_children(child))
                except OSError as error:
                    if error.errno in GONE:
                        continue
                    raise
                posix.close(fd)
                fd = child
                names.append(name)
                continue
            pending.pop()
            parent = posix.open("..", DIRECTORY, dir_fd=fd)
            posix.close(fd)
            fd = parent
            yield fd, names.pop()
    finally:
        posix.close(fd)


def errno_of(error: BaseException) -> int:
    """Return the errno of an OSError, or of the OSError that caused a CgroupError; 0 if there is none."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return cause.errno or 0 if isinstance(cause, OSError) else 0


def failure(action: str, path: str, error: OSError) -> CgroupError:
    """Return the error for an action ("freeze", "read memory.max of") that failed on the cgroup at `path`."""
    return CgroupError(f"cannot {action} cgroup {path}: {reason(errno_of(error))}")
