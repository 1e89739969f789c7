"""Read an image directory, which may come from a registry, another host or an attacker.

CRIU opens the files of an image by name, follows links, and writes to paths that it makes of names in cgroup.img. A
link called pages-1.img would put a file of the host into the container's memory. So `read` rejects such images, and
those that another user can still change.
"""

import posix

from pyoci import _native
from pyoci.compiler.paths import clean
from pyoci.config.text import printable
from pyoci.criu import images, pagemap
from pyoci.criu.remaps import MAX_GHOST_HEADER, is_ghost
from pyoci.errors import PyociError, SetupError, reason
from pyoci.host import files
from pyoci.linux import RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

MAX_FILES = 1 << 18  # in a directory
MAX_FILE = 16 << 20  # bytes of a file that `images.decode` reads
MAX_TOTAL = 64 << 20  # bytes of all those files
_CHUNK = 1 << 20  # bytes
MAX_PARENTS = 256
PARENT = "parent"  # CRIU's link to the images of the previous dump
_GROUP_WRITABLE, _OTHER_WRITABLE = 0o020, 0o002


def read(directory: int) -> images.Image:
    """Check an open image directory and the chain of its parents, and decode the image.

    Raises DamagedImage for a file that CRIU can't have written, and PyociError for a directory that restore must not
    use: one with links or special files, one that others can write to, or a parent elsewhere than beside it.
    """
    names = _check(directory)
    image = images.decode(_read_files(directory, names))
    _check_cgroups(image)
    processes = {f"pagemap-{task.pid}.img" for task in image.tasks}
    _check_memory(directory, names, processes)
    _check_parents(directory, names, processes)
    return image


def _check(directory: int) -> "list[str]":
    """Check who can write to a directory, and what its entries are. Returns their names."""
    try:
        _require_private("the image directory", posix.fstat(directory))
        names = []
        with posix.scandir(directory) as found:
            for entry in found:
                names.append(entry.name)
                if len(names) > MAX_FILES:
                    raise _refusal(f"its image directory has more than {MAX_FILES} files")
        for name in names:
            _check_entry(directory, name)
    except OSError as error:
        raise SetupError(f"cannot read the checkpoint image: {reason(error.errno or 0)}") from error
    return names


def _check_entry(directory: int, name: str) -> None:
    status = posix.stat(name, dir_fd=directory, follow_symlinks=False)
    kind = status.st_mode & S_IFMT
    if kind == S_IFREG:
        _require_private(f"checkpoint image {printable(name)}", status)
    elif kind != S_IFDIR and not (kind == S_IFLNK and name == PARENT):
        what = "a symbolic link" if kind == S_IFLNK else "not a regular file"
        raise _refusal(f"checkpoint image {printable(name)} is {what}")


def _check_memory(directory: int, names: "list[str]", processes: "Collection[str]") -> None:
    """Check the memory of these processes, and what they share. CRIU leaves files of earlier dumps beside them."""
    try:
        for name in names:
            if name in processes or (name.startswith("pagemap-shmem-") and name.endswith(".img")):
                _check_pages(directory, name)
    except OSError as error:
        raise SetupError(f"cannot read the checkpoint image: {reason(error.errno or 0)}") from error


def _check_pages(directory: int, name: str) -> None:
    """Raise DamagedImage if memory is missing. CRIU would wait for it for ever."""
    try:
        number, pages = pagemap.needed(_chunks(directory, name))
    except ValueError as error:
        raise images.DamagedImage(name, str(error)) from error
    memory = f"pages-{number}.img"
    try:
        size = posix.stat(memory, dir_fd=directory, follow_symlinks=False).st_size
    except FileNotFoundError:
        return  # `criu lazy-pages` may have them
    if size < pages * posix.sysconf("SC_PAGESIZE"):
        raise images.DamagedImage(memory, "it is too short")


def _chunks(directory: int, name: str) -> "Iterator[bytes]":
    """Read a file part by part. A process with 50 GiB may have a page map of 200 MB."""
    fd = posix.open(name, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC, dir_fd=directory)
    try:
        while chunk := posix.read(fd, _CHUNK):
            yield chunk
    finally:
        posix.close(fd)


def _require_private(what: str, status: posix.stat_result) -> None:
    """Raise PyociError if another user can change the file while CRIU reads it."""
    user = posix.geteuid()
    if status.st_uid not in (0, user):
        raise _refusal(f"{what} belongs to user {status.st_uid}")
    if status.st_mode & (_GROUP_WRITABLE | _OTHER_WRITABLE):  # with an ACL, the group's bits are those of more users
        raise _refusal(f"other users can write to {what}")


def _check_parents(directory: int, names: "list[str]", processes: "Collection[str]") -> None:
    """Check the directories of previous dumps, which have the pages that did not change."""
    opened = posix.dup(directory)
    try:
        for _ in range(MAX_PARENTS):
            if PARENT not in names:
                return
            parent = _open_parent(opened)
            posix.close(opened)
            opened = parent
            names = _check(opened)
            _check_memory(opened, names, processes)
    finally:
        posix.close(opened)
    raise _refusal(f"it has more than {MAX_PARENTS} parents")


def parents(directory: int, place: str) -> "list[tuple[str, int]]":
    """Open the parents of an image directory, which was checked and is at `place`. Return the places of all, too."""
    found: list[tuple[str, int]] = []
    try:
        while PARENT in posix.listdir(directory) and len(found) < MAX_PARENTS:
            place = clean(f"{place}/{_target(directory)}")[1:]
            directory = _open_parent(directory)
            found.append((place, directory))
    except BaseException:
        for _, fd in found:
            posix.close(fd)
        raise
    return found


def _target(directory: int) -> str:
    """Return the path of an image's parent from the image. It may also be a directory with the link's name."""
    try:
        return posix.readlink(PARENT, dir_fd=directory)
    except OSError:
        return PARENT


def _open_parent(directory: int) -> int:
    """Open the parent of an image: a directory in it or beside it, reached without other links."""
    target = _target(directory)
    if target.startswith("/") or ".." in target.split("/")[1:]:
        raise _refusal(f"the parent of its checkpoint image is {printable(target)}, neither in nor beside the image")
    flags, resolve = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    try:
        return _native.openat2(directory, target, flags, resolve=resolve)
    except OSError as error:
        why = reason(error.errno or 0)
        raise _refusal(f"the parent of its checkpoint image, {printable(target)}, can't be opened: {why}") from error


def _read_files(directory: int, names: "list[str]") -> "dict[str, bytes]":
    found = {}
    total = 0
    for name in names:
        if not images.is_read(name):
            continue
        try:
            # the content of a deleted file follows what `decode` reads of it
            data = files.read(name, directory, MAX_GHOST_HEADER if is_ghost(name) else MAX_FILE + 1)
        except OSError as error:
            raise SetupError(f"cannot read checkpoint image {name}: {reason(error.errno or 0)}") from error
        total += len(data)
        if len(data) > MAX_FILE or total > MAX_TOTAL:
            raise images.DamagedImage(name, "it is too large")
        found[name] = data
    return found


def _check_cgroups(image: images.Image) -> None:
    """CRIU makes paths of these names, and writes to them with the runtime's power."""
    if image.cgroups is None:
        return
    for path in image.cgroups.paths:
        if ".." in path.split("/"):
            raise images.DamagedImage("cgroup.img", f"it has a cgroup {printable(path)}")
    for name in image.cgroups.names:
        if "/" in name or name in (".", ".."):
            raise images.DamagedImage("cgroup.img", f"it has a name {printable(name)}")


def _refusal(why: str) -> PyociError:
    return PyociError(f"cannot restore the container: {why}")


__all__ = ["read"]
