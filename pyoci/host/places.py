"""Where the mounts of a container lie: the destinations of config.json behind the symlinks of its root filesystem.

create mounts on what a path leads to. /var/run/x is often /run/x, and that is what the kernel and CRIU's images call
the mount point.
"""

import errno
import posix

from pyoci import _native
from pyoci.compiler.paths import clean
from pyoci.linux import O_PATH, RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_LINKS = 40  # that the kernel follows
_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS


def resolve(rootfs: str, paths: "Iterable[str]") -> "dict[str, str]":
    """Return the places of those paths that lead through a symlink; {} if there is no root filesystem.

    Takes a path as it is from its first missing component on. The container may change links at any time, so the
    result only says what to expect.
    """
    try:
        root = posix.open(rootfs, O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError:  # the plan's first operations report it
        return {}
    try:
        places = {path: _resolve(root, path) for path in dict.fromkeys(map(clean, paths))}
    finally:
        posix.close(root)
    return {path: place for path, place in places.items() if path != place}


def _resolve(root: int, path: str) -> str:
    place, left, links = "/", path.split("/"), 0
    while left:
        name = left.pop(0)
        below = clean(f"{place}/{name}")
        target = "" if name in ("", ".", "..") else _link(root, below)
        if not target:
            place = below
            continue
        links += 1
        if links > _MAX_LINKS:
            return path
        left[:0] = target.split("/")
        if target.startswith("/"):
            place = "/"
    return place


def _link(root: int, path: str) -> str:
    """Return the target of a symlink whose own path has none; "" for another or a missing file."""
    try:
        fd = _native.openat2(root, path[1:], O_PATH | posix.O_NOFOLLOW, 0, _RESOLVE)
    except OSError:
        return ""
    try:
        return posix.readlink("", dir_fd=fd)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
        return ""
    finally:
        posix.close(fd)


__all__ = ["resolve"]
