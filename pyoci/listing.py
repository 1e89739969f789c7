"""The states of all containers under a root, for `list` and for commands that take a pattern.

A large host has a thousand containers. So this module reads the state of an ordinary one with few system calls:
without a pidfd or a lock, relative to one descriptor of the root. It leaves all others to `Container`: a container that
is being created or waits for `start`, a record that can't be used, and a directory of another runtime.
"""

import posix

from pyoci import _native, cgroups
from pyoci.cgroups.cgroupfs import Cgroup, check_record
from pyoci.cgroups.disabled import NoCgroup
from pyoci.config.ids import check_id
from pyoci.config.jsonio import loads
from pyoci.container import Container
from pyoci.errors import ContainerNotFound, PyociError, StateError, reason
from pyoci.host import processes
from pyoci.host.state_directory import EXEC_FIFO, RECORD, is_transient, parse_record
from pyoci.host.state_root import list_ids, open_root
from pyoci.linux import O_PATH, S_IFDIR, S_IFMT

_OPERATIONS = b',"startOps":'
_MAX_ENDS = 16  # engines create few kinds of containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyoci.record import ExtendedState, Record


def list_all(root: str, *, must_exist: bool = False) -> "tuple[Iterator[ExtendedState], list[str]]":
    """Return the states of all containers under `root`, sorted by id, and an error message for each unreadable one.

    The messages are complete when the states have been read. Skips directories of other runtimes. Raises StateError if
    `root` can't be used. A missing `root` is an error only with `must_exist`, because the first create makes the
    default one.
    """
    failures: list[str] = []
    try:
        root_fd = open_root(root, create=False)
        ids = list_ids(root_fd)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not must_exist:
            return iter(()), failures
        raise StateError(f"cannot use state directory {root}: {reason(error.errno or 0)}") from error
    return _states(_Listing(root, root_fd), ids, failures), failures


def _states(listing: "_Listing", ids: "list[str]", failures: "list[str]") -> "Iterator[ExtendedState]":
    try:
        for name in ids:
            try:
                yield listing.state(name)
            except ContainerNotFound:
                pass
            except PyociError as error:
                if is_transient(error):  # the container may exist and be alive
                    failures.append(f"{name}: {error}")
    finally:
        listing.close()


class _Listing:
    """One pass over the containers of an open root. It keeps what they share: the root, the boot, their cgroups."""

    __slots__ = ("_boot", "_ends", "_frozen", "_mounts", "_root", "_root_fd", "_uid")

    def __init__(self, root: str, root_fd: int) -> None:
        self._root = root
        self._root_fd = root_fd
        self._uid = posix.geteuid()
        self._boot = ""
        self._ends: list[bytes] = []  # valid ends of records
        self._mounts: dict[str, int] = {}  # descriptors
        self._frozen: dict[str, bool] = {}  # ancestors of the containers' cgroups, by mount and path

    def close(self) -> None:
        """Close the descriptors."""
        for fd in (self._root_fd, *self._mounts.values()):
            posix.close(fd)

    def state(self, id: str) -> "ExtendedState":
        """Return the state of a container. Raises ContainerNotFound, StateError."""
        check_id(id)
        state = self._ordinary_state(id)
        if state is None:
            container = Container.load(id, root=self._root, root_fd=self._root_fd)
            try:
                state = container.state()
            finally:
                container.close()
        # the directory's owner, since the runtime uses no other user's
        state["owner"] = "root" if self._uid == 0 else f"#{self._uid}"
        return state

    def _ordinary_state(self, id: str) -> "ExtendedState | None":
        """Return the state of a container that has started or stopped; None if only `Container` can tell it."""
        try:
            mode, owner, _ = _native.stat_at(id, self._root_fd)
            if mode & S_IFMT != S_IFDIR or owner != self._uid or mode & 0o022:
                return None
            record = self._record(_native.read_small(f"{id}/{RECORD}", self._root_fd))
            if record.id != id or record.status == "creating":
                return None
            status = self._status(record)
        except (OSError, ValueError, KeyError, TypeError, PyociError):
            return None  # `Container` meets the same problem, and reports it
        return None if status is None else record.extended_state(status)

    def _record(self, text: bytes) -> "Record":
        """Return the record in record.json, perhaps without its operations. Raises ValueError, KeyError, TypeError.

        The operations fill half of a record, and are the same in the records of most containers. They are the last
        member of the object. So they are parsed and checked once, and then compared as text.
        """
        begin, _, end = text.rpartition(_OPERATIONS)
        if end in self._ends:
            document = loads(begin + b"}")
            if "startOps" not in document:
                document["startOps"] = {}
                return parse_record(document)[0]
        document = loads(text)
        record, _ = parse_record(document)
        if len(self._ends) < _MAX_ENDS and [*document][-1] == "startOps" and "startOps" not in loads(begin + b"}"):
            self._ends.append(end)
        return record

    def _status(self, record: "Record") -> "str | None":
        """Return the status, as `Container.status` does, or None for a container that may wait for `start`."""
        self._boot = self._boot or processes.boot_id()
        if not processes.is_lasting(record, self._boot):
            return "stopped"
        if posix.access(f"{record.id}/{EXEC_FIFO}", posix.F_OK, dir_fd=self._root_fd):
            return None
        return "paused" if self._is_frozen(record) else "running"

    def _is_frozen(self, record: "Record") -> bool:
        """Whether the cgroup or an ancestor is frozen; False if it is gone. Raises OSError, KeyError, TypeError."""
        cgroup = record.cgroup
        if cgroup["driver"] == NoCgroup.driver:
            return False
        if cgroup["driver"] == Cgroup.driver:
            check_record(cgroup)
        else:
            cgroups.from_dict(cgroup)
        mount: str = cgroup["mount"]
        path: str = cgroup["path"] or "/"
        fd = self._mounts.get(mount, -1)
        if fd < 0:
            fd = self._mounts[mount] = posix.open(mount, O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        below = path[1:] or "."
        if not self._is_asked_to_freeze(fd, below) and not self._is_frozen_above(fd, mount, path):
            return False
        try:
            inode = _native.stat_at(below, fd)[2]
        except FileNotFoundError:
            return False
        its: int = cgroup["inode"]
        return inode == its  # else a later cgroup of the same name

    def _is_frozen_above(self, fd: int, mount: str, path: str) -> bool:
        """Whether an ancestor of the cgroup is frozen."""
        while path.strip("/"):
            path = path.rpartition("/")[0]
            frozen = self._frozen.get(mount + path)
            if frozen is None:
                frozen = self._frozen[mount + path] = self._is_asked_to_freeze(fd, path[1:] or ".")
            if frozen:
                return True
        return False

    @staticmethod
    def _is_asked_to_freeze(fd: int, path: str) -> bool:
        try:
            return _native.read_small(f"{path}/cgroup.freeze", fd).startswith(b"1")
        except FileNotFoundError:  # the root of the hierarchy, or a cgroup that is just being removed
            return False


__all__ = ["list_all"]
