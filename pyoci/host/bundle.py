"""Reading config.json from a bundle (specification: bundle.md).

The file is the caller's, but the bundle may hold anything: the file must be a regular one, of a sane size,
and must not change while it is read. Nothing here blocks, whatever the bundle puts in its place.
"""

import errno
import posix

from pyoci.errors import PyociError, reason

LARGEST = 16 << 20
"""The size limit of config.json, in bytes. Real ones have tens of kilobytes."""

_KINDS = {
    0o010000: "a FIFO", 0o020000: "a character device", 0o040000: "a folder", 0o060000: "a block device",
    0o120000: "a symbolic link", 0o140000: "a socket",
}  # fmt: skip
_FORMAT = 0o170000
_REGULAR = 0o100000
_AT_ONCE = posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC  # opens a FIFO without a writer, too


def read_config(bundle: str, name: str = "config.json") -> bytes:
    """The bytes of `name` in the folder `bundle`; an absolute `name` is taken as it is.

    Raises PyociError if there is no such regular file, if it is larger than 16 MiB, or if it changes
    meanwhile.
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
    """The bytes of a file that the command line names: a regular one, or a pipe such as a shell makes of `<(command)`.

    A FIFO with a name in a file system is refused: it may never get a writer. Raises PyociError as `read_config` does.
    """
    try:
        fd = posix.open(path, _AT_ONCE)
    except FileNotFoundError as error:
        raise PyociError(f"cannot read {path}: there is no such file") from error
    except OSError as error:
        raise PyociError(f"cannot read {path}: {reason(error.errno or 0)}") from error
    except ValueError as error:
        raise PyociError(f"cannot read {path!r}: the path has a NUL") from error
    try:
        if not posix.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
            return _read_regular(fd, path)
        posix.set_blocking(fd, True)
        return read_pipe(fd, path)
    except OSError as error:
        raise PyociError(f"cannot read {path}: {reason(error.errno or 0)}") from error
    finally:
        posix.close(fd)


def read_pipe(fd: int, name: str) -> bytes:
    """All that is written to a pipe, which `name` is to the user. Raises PyociError, OSError."""
    data = _read_all(fd, LARGEST + 1)
    if len(data) > LARGEST:
        raise PyociError(f"cannot read {name}: it is larger than {LARGEST >> 20} MiB")
    return data


def _open_bundle(bundle: str) -> int:
    try:
        return posix.open(bundle, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    # Engines take `no such file or directory` and `not a directory` for a fault of the program or of a mount.
    except FileNotFoundError as error:
        raise PyociError(f"cannot open bundle {bundle}: there is no such folder") from error
    except NotADirectoryError as error:
        raise PyociError(f"cannot open bundle {bundle}: it is no folder") from error
    except OSError as error:
        raise PyociError(f"cannot open bundle {bundle}: {reason(error.errno or 0)}") from error
    except ValueError as error:
        raise PyociError(f"cannot open bundle {bundle!r}: the path has a NUL") from error


def _open_config(bundle_fd: int, name: str, path: str) -> int:
    # O_NONBLOCK: a FIFO without a writer opens at once, and is then refused.
    flags = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
    try:
        return posix.open(name, flags, dir_fd=bundle_fd)
    except FileNotFoundError as error:
        hint = "pass --bundle, or write one with `pyoci spec`" if name == "config.json" else ""
        raise PyociError(f"cannot read {path}: there is no such file", hint=hint) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PyociError(f"cannot read {path}: it is a symbolic link, not a regular file") from error
        if error.errno == errno.ENXIO:  # what opening a socket gives
            raise PyociError(f"cannot read {path}: it is a socket, not a regular file") from error
        raise PyociError(f"cannot read {path}: {reason(error.errno or 0)}") from error
    except ValueError as error:
        raise PyociError(f"cannot read {path!r}: the path has a NUL") from error


def _read_regular(config_fd: int, path: str) -> bytes:
    before = posix.fstat(config_fd)
    kind = before.st_mode & _FORMAT
    if kind != _REGULAR:
        what = _KINDS.get(kind, "something else")
        raise PyociError(f"cannot read {path}: it is {what}, not a regular file")
    if before.st_size > LARGEST:
        raise PyociError(f"cannot read {path}: it is larger than {LARGEST >> 20} MiB")
    data = _read_all(config_fd, before.st_size + 1)
    after = posix.fstat(config_fd)
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if not same or len(data) != before.st_size:
        raise PyociError(f"cannot read {path}: it changed while it was read")
    return data


def _read_all(fd: int, most: int) -> bytes:
    """Up to `most` bytes: one more than there may be, so that more shows."""
    chunks: list[bytes] = []
    while most > 0 and (chunk := posix.read(fd, most)):
        chunks.append(chunk)
        most -= len(chunk)
    return b"".join(chunks)
