"""The directory that holds the state directories of all containers (`--root`).

The runtime executes what it finds there, such as hooks. So it uses only a directory that no other user can change.
"""

import posix

from pyoci import _native
from pyoci.errors import StateError
from pyoci.linux import O_PATH

_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_ANCESTOR = O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC


def open_root(root: str, *, create: bool) -> int:
    """Open the directory that holds all containers; with `create`, create it if it is missing.

    The runtime must own it and no other user may write to it, sticky or not: a user who can add a name there can
    add a container, whose hooks the runtime would execute. Raises StateError, and OSError as open(2) does.
    """
    while root.endswith(("/", "/.")) and root != "/":  # with a slash at the end, open(2) would follow a symlink
        root = root.removesuffix(".").rstrip("/") or "/"
    try:
        fd = posix.open(root, _DIRECTORY)
    except FileNotFoundError:
        if not create:
            raise
        fd = _create_directories(root)
    require_private(fd, root)
    return fd


def list_ids(root_fd: int) -> "list[str]":
    """List the names in the directory of all containers, sorted. Closes it and raises OSError if that fails."""
    try:
        return sorted(name for name in posix.listdir(root_fd) if not name.startswith("."))
    except OSError:
        posix.close(root_fd)
        raise


def require_private(fd: int, path: str) -> None:
    """Close `fd` and raise StateError if another user owns the directory or may write to it."""
    mode, owner, _ = _native.stat_at("", fd)
    if owner != posix.geteuid() or mode & 0o022:
        posix.close(fd)
        raise StateError(
            f"cannot use state directory {path}: others can write to it (owner {owner}, mode {mode & 0o7777:o})"
        )


def _create_directories(path: str) -> int:
    """Create the missing directories of `path`, and open the last one.

    This creates each directory in its opened parent and enters it without following a link, so a new name there leads
    nowhere else. It follows links that existed before.
    """
    names = [name for name in path.split("/") if name not in ("", ".")]
    at = posix.open("/" if path.startswith("/") else ".", _ANCESTOR)
    for index, name in enumerate(names, 1):
        how = _DIRECTORY
        try:
            posix.mkdir(name, 0o700, dir_fd=at)
        except FileExistsError:
            how = _ANCESTOR
        try:
            following = posix.open(name, _DIRECTORY if index == len(names) else how, dir_fd=at)
        finally:
            posix.close(at)
        at = following
    return at
