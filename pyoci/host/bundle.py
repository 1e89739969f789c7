"""Read config.json from a bundle (specification: bundle.md).

The caller chooses the bundle, but other users may have written its content. So config.json must be a regular file of
limited size, and must not change while it is read. Nothing here blocks, whatever is in its place.
"""

import errno
import posix

from pyoci.errors import PyociError, reason
from pyoci.linux import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK

MAX_CONFIG = 16 << 20
"""The size limit of config.json in bytes. Real ones have tens of kilobytes."""

_KINDS = {
    S_IFIFO: "a FIFO", S_IFCHR: "a character device", S_IFDIR: "a directory", S_IFBLK: "a block device",
    S_IFLNK: "a symbolic link", S_IFSOCK: "a socket",
}  # fmt: skip
_OPEN = posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC  # does not wait for the writer of a FIFO


def read_config(bundle: str, name: str = "config.json") -> bytes:
    """Read the file `name` in the directory `bundle`. `name` may be an absolute path.

    Raises PyociError if it is missing, not a regular file or larger than 16 MiB, or if it changes meanwhile.
    """
    path = name if name[:1] == "/" else f"{bundle.rstrip('/')}/{name}"
    bundle_fd = _open_bundle(bundle)
    try:
        config_fd = _open_config(bundle_fd, name, path)
    finally:
        posix.close(bundle_fd)
    try:
        return _read_regular(config_fd, path)
    except OSError as error:
        raise PyociError(f"cannot read {path}: {reason(error.errno or 0)}") from error
    finally:
        posix.close(config_fd)


def read_given(path: str) -> bytes:
    """Read a file from the command line: a regular file, or a pipe, which a shell passes for `<(command)`.

    This rejects a FIFO in a file system, which may never get a writer. Raises PyociError like `read_config`.
    """
    try:
        fd = posix.open(path, _OPEN)
    except FileNotFoundError as error:
        raise PyociError(f"cannot read {path}: there is no such file") from error
    except OSError as error:
        raise PyociError(f"cannot read {path}: {reason(error.errno or 0)}") from error
    except ValueError as error:
        raise PyociError(f"cannot read {path!r}: the path has a NUL") from error
    try:
        is_fifo = posix.fstat(fd).st_mode & S_IFMT == S_IFIFO
        if not is_fifo or not posix.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
            return _read_regular(fd, path)
        posix.set_blocking(fd, True)
        return read_pipe(fd, path)
    except OSError as error:
        raise PyociError(f"cannot read {path}: {reason(error.errno or 0)}") from error
    finally:
        posix.close(fd)


def read_pipe(fd: int, name: str) -> bytes:
    """Read a pipe up to its end. `name` is its name for messages. Raises PyociError, OSError."""
    data = _read_all(fd, MAX_CONFIG + 1)
    if len(data) > MAX_CONFIG:
        raise PyociError(f"cannot read {name}: it is larger than {MAX_CONFIG >> 20} MiB")
    return data


def _open_bundle(bundle: str) -> int:
    try:
        return posix.open(bundle, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    # Engines read `no such file or directory` and `not a directory` as a fault of the program or of a mount.
    except FileNotFoundError as error:
        raise PyociError(f"cannot open bundle {bundle}: there is no such directory") from error
    except NotADirectoryError as error:
        hint = "pass the directory of config.json, or a file with --config"
        raise PyociError(f"cannot open bundle {bundle}: expected a directory", hint=hint) from error
    except OSError as error:
        raise PyociError(f"cannot open bundle {bundle}: {reason(error.errno or 0)}") from error
    except ValueError as error:
        raise PyociError(f"cannot open bundle {bundle!r}: the path has a NUL") from error


def _open_config(bundle_fd: int, name: str, path: str) -> int:
    try:
        return posix.open(name, _OPEN | posix.O_NOFOLLOW, dir_fd=bundle_fd)
    except FileNotFoundError as error:
        hint = "pass --bundle, or create a config with `pyoci spec`" if name == "config.json" else ""
        raise PyociError(f"cannot read {path}: there is no such file", hint=hint) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PyociError(f"cannot read {path}: it is a symbolic link, not a regular file") from error
        if error.errno == errno.ENXIO:  # open(2) of a socket
            raise PyociError(f"cannot read {path}: it is a socket, not a regular file") from error
        raise PyociError(f"cannot read {path}: {reason(error.errno or 0)}") from error
    except ValueError as error:
        raise PyociError(f"cannot read {path!r}: the path has a NUL") from error


def _read_regular(config_fd: int, path: str) -> bytes:
    before = posix.fstat(config_fd)
    kind = before.st_mode & S_IFMT
    if kind != S_IFREG:
        what = _KINDS.get(kind, "something else")
        raise PyociError(f"cannot read {path}: it is {what}, not a regular file")
    if before.st_size > MAX_CONFIG:
        raise PyociError(f"cannot read {path}: it is larger than {MAX_CONFIG >> 20} MiB")
    data = _read_all(config_fd, before.st_size + 1)
    after = posix.fstat(config_fd)
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if not same or len(data) != before.st_size:
        raise PyociError(f"cannot read {path}: it changed while it was read")
    return data


def _read_all(fd: int, limit: int) -> bytes:
    """Read up to `limit` bytes. Callers pass one byte more than they accept, to detect a longer file."""
    chunks: list[bytes] = []
    while limit > 0 and (chunk := posix.read(fd, limit)):
        chunks.append(chunk)
        limit -= len(chunk)
    return b"".join(chunks)
