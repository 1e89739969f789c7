"""Read and replace small files as a whole, relative to a directory descriptor."""

import errno
import posix

from pyoci import _native
from pyoci.linux import O_PATH


def read(path: str, dirfd: "int | None" = None, limit: int = 1 << 20) -> bytes:
    """Read a file, up to `limit` bytes. Raises OSError, with ELOOP if the last component is a symlink."""
    return _native.read_file(path, dirfd, limit)


def read_regular(path: str, dirfd: int, limit: int) -> bytes:
    """Read a regular file, which is small in most cases. Does what `read` does, with fewer system calls."""
    try:
        return _native.read_small(path, dirfd)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
    return read(path, dirfd, limit)


def exists(path: str) -> bool:
    """Whether the path leads to anything that this process can see."""
    return posix.access(path, posix.F_OK)


def write(path: str, data: bytes) -> None:
    """Write to an existing file with a single write(2), as files of the kernel need it."""
    fd = posix.open(path, posix.O_WRONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    try:
        posix.write(fd, data)
    finally:
        posix.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, with as many write(2) as necessary."""
    while data:
        data = data[posix.write(fd, data) :]


def replace(path: str, data: bytes, mode: int, dirfd: "int | None" = None) -> None:
    """Replace a file atomically: write a new file in its directory, then rename it. Resolves the directory once."""
    directory, slash, name = path.rpartition("/")
    if slash:
        parent = posix.open(directory or "/", O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=dirfd)
        try:
            replace(name, data, mode, parent)
        finally:
            posix.close(parent)
        return
    temporary = write_beside(name, data, mode, dirfd)
    try:
        posix.rename(temporary, path, src_dir_fd=dirfd, dst_dir_fd=dirfd)
    except BaseException:
        posix.unlink(temporary, dir_fd=dirfd)
        raise


def write_beside(name: str, data: bytes, mode: int, dirfd: "int | None" = None) -> str:
    """Write a new file that is to replace `name`, and return its temporary name."""
    # The name is random: a pid may also be that of a runtime in another pid namespace, or of one that was killed here.
    temporary = f".{name}.{posix.urandom(8).hex()}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    fd = posix.open(temporary, flags, mode, dir_fd=dirfd)
    try:
        try:
            write_all(fd, data)
        finally:
            posix.close(fd)
    except BaseException:
        posix.unlink(temporary, dir_fd=dirfd)
        raise
    return temporary
