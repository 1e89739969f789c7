"""Small files of the host: whole reads and atomic writes by directory descriptor."""

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

CWD: "Final" = -100  # AT_FDCWD
_O_PATH = 0x200000


def read(path: str, dirfd: "int | None" = None, limit: int = 1 << 20) -> bytes:
    """The contents of a regular file of at most `limit` bytes. A symlink as last component is refused (ELOOP)."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC, dir_fd=dirfd)
    try:
        parts = []
        while limit > 0 and (part := posix.read(fd, min(limit, 65536))):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)
    finally:
        posix.close(fd)


def exists(path: str) -> bool:
    """Whether this leads to anything that this process can see."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def write(path: str, data: bytes) -> None:
    """One write(2) to a file that exists, such as the kernel's."""
    fd = posix.open(path, posix.O_WRONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    try:
        posix.write(fd, data)
    finally:
        posix.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """However many write(2) it takes."""
    while data:
        data = data[posix.write(fd, data) :]


def replace(path: str, data: bytes, mode: int, dirfd: "int | None" = None) -> None:
    """Put `data` at `path` at once: a new file beside it, renamed over it. The way there is resolved once."""
    directory, slash, name = path.rpartition("/")
    if slash:
        folder = posix.open(directory or "/", _O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=dirfd)
        try:
            replace(name, data, mode, folder)
        finally:
            posix.close(folder)
        return
    # a pid would be another's, too, who was killed in the middle of this, or lives in another pid namespace
    temporary = f".{name}.{posix.urandom(8).hex()}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    fd = posix.open(temporary, flags, mode, dir_fd=dirfd)
    try:
        try:
            write_all(fd, data)
        finally:
            posix.close(fd)
        posix.rename(temporary, path, src_dir_fd=dirfd, dst_dir_fd=dirfd)
    except BaseException:
        posix.unlink(temporary, dir_fd=dirfd)
        raise
