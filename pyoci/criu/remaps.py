"""The files of an image that were open without a name: remap-fpath.img and ghost-file-*.img. Pure.

CRIU makes such a file in the directory that it had, links it to its old name, opens it and removes both names.
"""

from pyoci.config.text import printable
from pyoci.criu.messages import Message, entries, first_entry
from pyoci.linux import S_IFDIR, S_IFMT, S_IFREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

REMAP_FPATH, GHOST_FILE = 0x59133954, 0x52583605
MAX_GHOST_HEADER = 1 << 16  # bytes of a ghost file that `check_ghost` needs
LINKED, GHOST, PROCFS = 0, 1, 2
_S_IFIFO = 0o010000
_LINK = "link_remap."  # what CRIU calls the name that it gave a file at the dump


class Remap:
    """A file without a name: how CRIU restores it, the id of the file, and that of the ghost or of the linked file."""

    __slots__ = ("file", "kind", "target")

    def __init__(self, message: Message) -> None:
        self.file = message.number(1)
        self.target = message.number(2)
        self.kind = message.number(3)  # the form of CRIU before 2.0 lacks it
        if self.kind not in (LINKED, GHOST, PROCFS):
            raise ValueError(f"remap type {self.kind} is unknown")


def remaps(data: bytes) -> "list[Remap]":
    """Return the entries of remap-fpath.img. Raises ValueError."""
    found = [Remap(each) for each in entries(data, REMAP_FPATH)]
    if len({remap.file for remap in found}) < len(found):
        raise ValueError("a file occurs twice")
    return found


def check_ghost(data: bytes) -> None:
    """Raise ValueError if CRIU would make anything but a file, a directory or a FIFO.

    It would make devices without asking the device filter of cgroup v1, and later paths may lead through a symlink.
    """
    mode = first_entry(data, GHOST_FILE).number(3)
    if mode & S_IFMT not in (S_IFREG, S_IFDIR, _S_IFIFO):
        raise ValueError(f"a deleted file has the mode {mode:#o}, which CRIU can't restore safely")


def ghost_name(remap: Remap) -> str:
    """Return the name of the file with a ghost's content."""
    return f"ghost-file-{remap.target:x}.img"


def is_ghost(name: str) -> bool:
    """Whether a file of an image has a ghost's content."""
    number = name.removeprefix("ghost-file-").removesuffix(".img")
    return name.startswith("ghost-file-") and name.endswith(".img") and not number.strip("0123456789abcdef")


def created_paths(remap: Remap, path: str, paths: "Mapping[int, str]") -> "list[str]":
    """Return the paths in the container at which CRIU makes or removes names. Raises ValueError.

    `path` is the file's, and `paths` are those of all files by their ids.
    """
    if remap.kind == PROCFS:
        return []
    if remap.kind == GHOST:
        return [path]
    target = paths.get(remap.target, "")
    name = target.rpartition("/")[2]
    if not name.startswith(_LINK) or not name.removeprefix(_LINK).isdigit():
        raise ValueError(f"CRIU would remove {printable(target)}")
    return [path, target]


__all__ = ["Remap", "check_ghost", "remaps"]
