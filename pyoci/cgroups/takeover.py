"""A cgroup that existed before its container: which container owns it now, and what to restore in it.

An engine may reuse the cgroup of a container that has stopped but is not deleted yet. Deleting the stopped container
must then not kill the processes of the new container. So each container leaves an owner mark in the cgroup. Commands
for an earlier container find that the mark has changed.

The container whose delete comes first hands its original values to the new owner, which restores them in the end.
"""

import posix

from pyoci import _native
from pyoci.cgroups.directories import GONE, read_at, write_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# The owner mark: the container's id, a slash, and a random number. Another --root may have a container of the same id.
OWNER_XATTR = "trusted.pyoci"
# JSON: the original values (`before`) and `owners`, left by an earlier container that was deleted first.
ORIGINALS_XATTR = "trusted.pyoci.before"
MAX_ORIGINALS = 4096  # bytes
INVALID_UID = (1 << 32) - 1

KEYED = ("io.max", "io.weight", "io.bfq.weight", "rdma.max")  # files with a line for each device that has a limit


def read_owner_mark(dirfd: int) -> str:
    """Return the owner mark of a cgroup, "" if it has none."""
    try:
        return posix.getxattr(dirfd, OWNER_XATTR).decode("utf-8", "replace")
    except OSError:
        return ""


def write_owner_mark(dirfd: int, id: str) -> str:
    """Mark the cgroup as owned by container `id` and return the mark; "" without the host's root, who may set it."""
    mark = f"{id}/{posix.urandom(8).hex()}"
    try:
        if not read_owner_mark(dirfd):
            remove_marks(dirfd)  # without an owner, originals in the cgroup have no meaning
        posix.setxattr(dirfd, OWNER_XATTR, mark.encode())
    except OSError:
        return ""
    return mark


def remove_marks(dirfd: int) -> None:
    """Remove the owner mark and the original values, if there are any."""
    for attribute in (ORIGINALS_XATTR, OWNER_XATTR):
        try:
            posix.removexattr(dirfd, attribute)
        except OSError:
            pass


def new_owner(dirfd: int, own_mark: str) -> str:
    """Return the id of the container that has taken the cgroup over from the one with `own_mark`; "" if none has."""
    mark = read_owner_mark(dirfd)
    return mark.partition("/")[0] if mark != own_mark else ""


class Originals:
    """What a container found in the cgroup before it changed it.

    values  content of files, by name
    owners  uid of files, by name; "." is the directory
    """

    __slots__ = ("owners", "values")

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.owners: dict[str, int] = {}

    def save_value(self, dirfd: int, file: str) -> None:
        """Remember what a file holds. Ignores a file that is missing or can't be read, and so not restored."""
        try:
            self.values.setdefault(file, read_at(dirfd, file).decode())
        except OSError:
            pass

    def save_owner(self, dirfd: int, name: str) -> None:
        """Remember who owns a file. Raises OSError."""
        self.owners.setdefault(name, posix.stat(name, dir_fd=dirfd, follow_symlinks=False).st_uid)

    def inherit(self, dirfd: int) -> None:
        """Take what an earlier container has handed over: it found the cgroup as it was at first."""
        values, owners = _read_originals(dirfd)
        self.values |= values
        self.owners |= owners

    def hand_over(self, dirfd: int) -> None:
        """Leave the original values to the new owner, which found the cgroup as this container had changed it."""
        values, owners = _read_originals(dirfd)
        document = _native.json_dumps({"before": self.values | values, "owners": self.owners | owners})
        if len(document) <= MAX_ORIGINALS and (self.values or self.owners):
            try:
                posix.setxattr(dirfd, ORIGINALS_XATTR, document)
            except OSError:
                pass

    def restore(self, dirfd: int) -> None:
        """Write everything back, last change first: a value may be valid only together with another one.

        Ignores values that the kernel no longer accepts. Raises OSError if the cgroup is gone.
        """
        for name, uid in self.owners.items():
            posix.chown(name, uid, -1, dir_fd=dirfd, follow_symlinks=False)
        for file, value in reversed(self.values.items()):
            lines = value.splitlines() or [""]
            if file in KEYED:
                lines = [*lift_new_limits(value, read_at(dirfd, file).decode()), *(line for line in lines if line)]
            for line in lines:
                try:
                    write_at(dirfd, file, (line or "\n").encode())
                except OSError as error:
                    if error.errno in GONE:
                        raise
                    # The kernel rejects what it once reported: a CPU that was unplugged, a weight while idle.


def lift_new_limits(old: str, new: str) -> "Iterator[str]":
    """Yield the lines that lift the limits of devices which have a line in `new` but none in `old`, a keyed file."""
    known = {line.split(" ")[0] for line in old.splitlines()}
    for line in new.splitlines():
        device, *values = line.split()
        if device not in known:
            names = [value.partition("=")[0] for value in values if "=" in value]
            yield " ".join([device, *(f"{name}=max" for name in names)]) if names else f"{device} default"


def _read_originals(dirfd: int) -> "tuple[dict[str, str], dict[str, int]]":
    """Return the values and owners in ORIGINALS_XATTR.

    Returns nothing if they are malformed: root of a container with every capability may have written them.
    """
    try:
        document: Any = _native.json_loads(posix.getxattr(dirfd, ORIGINALS_XATTR))
        values, owners = document["before"], document["owners"]
        valid = [type(value) is str and value.isascii() for value in values.values()]
        valid += [type(uid) is int and 0 <= uid < INVALID_UID for uid in owners.values()]
        if all(valid) and all(map(_is_name, (*values, *owners))):
            return values, owners
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return {}, {}


def _is_name(name: str) -> bool:
    """Whether `name` is a file in the cgroup, or "." for the cgroup itself, and leads nowhere else."""
    return name.isascii() and "/" not in name and "\0" not in name and name not in ("", "..")


__all__ = [
    "ORIGINALS_XATTR", "OWNER_XATTR", "Originals", "lift_new_limits", "new_owner", "read_owner_mark", "remove_marks",
    "write_owner_mark",
]  # fmt: skip
