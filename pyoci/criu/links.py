"""Whether CRIU reaches what it changes without a symlink of the container.

CRIU binds directories, attaches mounts, and makes and removes deleted files in a mount namespace whose root is the
host's. There, an absolute symlink of the root filesystem, of a volume or of a tmpfs in the image leads to the host. The
kernel gives mounts and open files paths without symlinks, so an image whose paths have some was changed.
"""

import posix

from pyoci import _native
from pyoci.compiler.paths import SYSTEM_DIRECTORIES, clean, join
from pyoci.config.text import printable
from pyoci.criu.images import root_mount
from pyoci.criu.remaps import created_paths
from pyoci.criu.shape import is_below
from pyoci.errors import PyociError, reason
from pyoci.host.programs import Program, TimedOut
from pyoci.linux import O_PATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyoci.criu.images import Image, Mount
    from pyoci.types import Config

LIST = ("--list", "--verbose", "--gzip", "--numeric-owner", "--quoting-style=c", "--file")
TIMEOUT = 30  # seconds for tar to list a tmpfs
MAX_LIST = 16 << 20  # bytes
# Filesystems in which nobody but the kernel makes symlinks, and none of those leads out of the filesystem.
_WITHOUT_LINKS = ("sysfs", "mqueue", "devpts", "cgroup", "cgroup2")
_PROCESSES = ("self", "thread-self", "net", "mounts")  # in proc, those that lead to a process, like its number
_KINDS = "-dlhcbps"  # the types of files in a list of tar


def check(
    image: "Image", config: "Config", images: int, *, bundle: str, rootfs: str, places: "Mapping[str, str]"
) -> None:
    """Raise PyociError if CRIU would follow a symlink. `images` is the image directory.

    `places` has the mount point of each destination in the config that leads through symlinks of the root filesystem.
    """
    if not image.init_mounts:
        return
    _Links(image, config, images, bundle, rootfs, places).check()


class _Links:
    def __init__(
        self, image: "Image", config: "Config", images: int, bundle: str, rootfs: str, places: "Mapping[str, str]"
    ) -> None:
        self.image = image
        self.images = images
        self.rootfs = rootfs
        self.root = root_mount(image.init_mounts)
        self.volumes: dict[str, str] = {}  # sources by mount point
        for entry in config.get("mounts", ()):
            if "source" in entry and (entry.get("type") == "bind" or {"bind", "rbind"} & {*entry.get("options", ())}):
                point = clean(entry["destination"])
                self.volumes[places.get(point, point)] = join(bundle, entry["source"])
        self.mounts: dict[int, Mount] = {}
        for mounts in image.mounts.values():
            for mount in mounts:
                if mount.id in self.mounts:
                    raise _refusal(f"two mounts have the id {mount.id}")
                self.mounts[mount.id] = mount
        self.outer = [self.root, *(mount for mount in self.mounts.values() if mount.key)]  # what restore provides
        self.tmpfs: dict[int, set[str]] = {}  # the symlinks of each, by its device

    def check(self) -> None:
        """Check the root and the mount point of each mount, and the paths of deleted files."""
        for mount in self.mounts.values():
            if not mount.key and mount is not self.root and mount.root != "/":
                self._check(mount, "")
            above = self.mounts.get(mount.parent)
            if above is not None:
                self._check(above, _relative(mount.point, above))
        paths = {file.id: file.path for file in self.image.files if file.path}
        files = {file.id: file for file in self.image.files if file.path}
        for remap in self.image.remaps:
            file = files.get(remap.file)
            if file is None:
                raise _refusal("a deleted file does not exist")
            try:
                created = created_paths(remap, file.path, paths)
            except ValueError as error:
                raise _refusal(str(error)) from error
            for path in created:
                place = self.mounts.get(file.mount)
                if place is None:
                    raise _refusal(f"the deleted file {printable(path)} is in no mount")
                self._check_deleted(place, path)

    def _check_deleted(self, mount: "Mount", path: str) -> None:
        if mount.type in ("proc", "sysfs", "devpts", "cgroup", "cgroup2"):
            raise _refusal(f"the deleted file {printable(path)} is in a filesystem of the kernel")
        self._check(mount, _relative(path, mount).rpartition("/")[0])

    def _check(self, mount: "Mount", path: str) -> None:
        """Check a path below the root of a mount, and the root itself if CRIU binds it."""
        if mount.key:
            self._check_volume(mount, path)
            return
        inside = clean(f"{mount.root}/{path}")
        if mount.type == "tmpfs":
            self._check_tmpfs(mount, inside)
            if any(other.device == mount.device for other in self.outer):
                self._check_host(mount, inside)
        elif mount.type == "proc":
            first = inside.split("/")[1]
            if first.isdigit() or first in _PROCESSES:
                raise _refusal(f"it has a mount in /proc{printable(inside)}")
        elif mount.type not in _WITHOUT_LINKS:
            self._check_host(mount, inside)

    def _check_host(self, mount: "Mount", inside: str) -> None:
        """Check a path of the root filesystem, or of a volume a part of which the container has bound elsewhere."""
        found = False
        for other in self.outer:
            if (other.device, other.type) == (mount.device, mount.type) and is_below(inside, other.root):
                found = True
                below = inside.removeprefix(other.root.rstrip("/")).lstrip("/")
                if other is self.root:
                    _require_no_link(self.rootfs, below)
                else:
                    self._check_volume(other, below)
        if not found:
            raise _refusal(f"it has a mount of {printable(inside)}, which is not the container's")

    def _check_volume(self, mount: "Mount", path: str) -> None:
        if not path:
            return
        point = max((point for point in self.volumes if is_below(mount.key, point)), key=len, default="")
        if not point:
            if mount.type not in _WITHOUT_LINKS:
                raise _refusal(f"it changes {printable(path)} in {printable(mount.point)}, which is the host's")
            return
        _require_no_link(self.volumes[point], clean(f"/{mount.key.removeprefix(point)}/{path}")[1:])

    def _check_tmpfs(self, mount: "Mount", path: str) -> None:
        if path == "/":
            return
        if mount.device not in self.tmpfs:
            self.tmpfs[mount.device] = self._links(mount.device)
        place = ""
        for name in path[1:].split("/"):
            place += f"/{name}"
            if place in self.tmpfs[mount.device]:
                raise _refusal(f"its tmpfs at {printable(mount.point)} has a symlink {printable(place)} in the way")

    def _links(self, device: int) -> "set[str]":
        """Return the symlinks in the tmpfs. CRIU takes its content from one of these files."""
        ids = [mount.id for mount in self.mounts.values() if mount.device == device]
        names = [f"tmpfs-dev-{device}.tar.gz.img", *(f"tmpfs-{number}.tar.gz.img" for number in ids)]
        present = {*posix.listdir(self.images)}
        found: set[str] = set()
        for name in names:
            if name in present:
                found |= links_of(_list(f"/proc/{posix.getpid()}/fd/{self.images}/{name}", name), name)
        return found


def _relative(path: str, mount: "Mount") -> str:
    """Return a path of the container as it is in the mount. Raises PyociError if it is elsewhere."""
    names = path[1:].split("/")
    if not is_below(path, mount.point) or (path != "/" and {"", ".", ".."} & {*names}):
        raise _refusal(f"{printable(path)} is not below {printable(mount.point)}")
    return path.removeprefix(mount.point).lstrip("/")


def _require_no_link(directory: str, path: str) -> None:
    """Raise PyociError if a path in a directory of the host leads through a symlink. The path may be missing."""
    try:
        root = posix.open(directory, O_PATH | posix.O_CLOEXEC)
    except OSError:
        return  # the plan's first operations report it
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    try:
        posix.close(_native.openat2(root, path or ".", O_PATH | posix.O_CLOEXEC, resolve=resolve))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        why = reason(error.errno or 0)
        raise _refusal(f"CRIU would follow {printable(path)} in {printable(directory)}: {why}") from error
    finally:
        posix.close(root)


def _list(path: str, name: str) -> str:
    """Return tar's list of a compressed archive. CRIU extracts it with the same program."""
    programs = [f"{directory}/tar" for directory in SYSTEM_DIRECTORIES]
    program = next((program for program in programs if posix.access(program, posix.X_OK)), programs[-1])
    try:
        text, status = Program(program, ["tar", *LIST, path]).wait(TIMEOUT, MAX_LIST)
    except OSError as error:
        raise PyociError(f"cannot run {program}: {reason(error.errno or 0)}") from error
    except TimedOut:
        raise _refusal(f"{name} can't be listed in {TIMEOUT} seconds") from None
    if status or len(text) >= MAX_LIST:
        raise _refusal(f"{name} is damaged or too large")
    return text


def links_of(text: str, name: str) -> "set[str]":
    """Return the paths of all links in tar's list of an archive. Raises PyociError for a line that tar can't mean.

    A hard link may be one to a symlink.
    """
    found = set()
    for line in text.splitlines() if text.isascii() else [text]:
        _, quote, rest = line.partition('"')
        path, end = _unquoted(rest)
        if not line or line[0] not in _KINDS or not quote or not end or ".." in path.split("/"):
            raise _refusal(f"{name} has an unexpected entry")
        if line[0] in "lh":
            found.add(clean(f"/{path}"))
    return found


def _unquoted(text: str) -> "tuple[str, bool]":
    """Return the C string that ends at a quote, and whether it ends."""
    data = bytearray()
    at = 0
    while at < len(text):
        character = text[at]
        if character == '"':
            return data.decode("utf-8", "surrogateescape"), True
        at += 1
        if character != "\\":
            data += character.encode("utf-8", "surrogateescape")
        elif text[at : at + 3].isdigit():
            data.append(int(text[at : at + 3], 8) & 0xFF)
            at += 3
        else:
            data += _ESCAPES.get(text[at : at + 1], text[at : at + 1]).encode()
            at += 1
    return "", False


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def _refusal(why: str) -> PyociError:
    return PyociError(f"cannot restore the container: the checkpoint image is not safe: {why}")


__all__ = ["check"]
