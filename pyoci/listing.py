"""The states of all containers under a root, for `list` and for commands that take a pattern.

A large host has a thousand containers. So this module reads the state of an ordinary one with few system calls:
without a pidfd or a lock, relative to one descriptor of the root. It leaves all others to `Container`: a container that
is being created or waits for `start`, a record that can't be used, and a directory of another runtime.
"""

import posix

from pyoci import _native, cgroups
from pyoci.cgroups.disabled import NoCgroup
from pyoci.config.ids import check_id
from pyoci.config.jsonio import dumps, loads
from pyoci.container import Container
from pyoci.errors import ContainerNotFound, PyociError, StateError, reason
from pyoci.host import processes
from pyoci.host.state_directory import EXEC_FIFO, RECORD, is_transient, parse_record
from pyoci.host.state_root import list_ids, open_root
from pyoci.linux import O_PATH

_MAX_FORMS = 16  # engines create few kinds of containers
# Members without gaps: the status depends on the first ones, and most containers have the same operations.
_FIXED = frozenset(("pyoci", "status", "bootId", "driver", "mount", "startOps"))
# Members that become attributes of a Record.
_ATTRIBUTES = {
    "id": "id", "pid": "pid", "startTime": "start_time", "bundle": "bundle", "rootfs": "rootfs", "created": "created"
}  # fmt: skip
_GAP = "?gap?"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

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

    __slots__ = ("_boot", "_forms", "_frozen", "_mounts", "_root", "_root_fd", "_uid")

    def __init__(self, root: str, root_fd: int) -> None:
        self._root = root
        self._root_fd = root_fd
        self._uid = posix.geteuid()
        self._boot = ""
        self._forms: list[_Form] = []
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
        """Return the state of a container that has started or stopped; None if `Container` must find it out."""
        try:
            text = _native.read_private(id, RECORD, EXEC_FIFO, self._root_fd, self._uid)
            record = None if text is None else self._record(text)
            if record is None or record.id != id or record.status == "creating":
                return None
            status = self._status(record)
        except (OSError, ValueError, KeyError, TypeError, PyociError):
            return None  # `Container` meets the same problem, and reports it
        return record.extended_state(status)

    def _record(self, text: bytes) -> "Record":
        """Return the record in record.json, which is valid until the next call.

        Raises ValueError, KeyError, TypeError, CgroupError.
        """
        for form in self._forms:
            record = form.read(text)
            if record is not None:
                return record
        document = loads(text)
        record, _ = parse_record(document)
        cgroups.from_dict(record.cgroup)
        if len(self._forms) < _MAX_FORMS:
            form = _Form(document, record)
            if form.read(text) is not None:
                self._forms.append(form)
        return record

    def _status(self, record: "Record") -> str:
        """Return the status, as `Container.status` does, of a container that has no exec.fifo."""
        self._boot = self._boot or processes.boot_id()
        if not processes.is_lasting(record, self._boot):
            return "stopped"
        return "paused" if self._is_frozen(record.cgroup) else "running"

    def _is_frozen(self, cgroup: "dict[str, Any]") -> bool:
        """Whether a cgroup or an ancestor is frozen; False if it is gone. Raises OSError, KeyError."""
        if cgroup["driver"] == NoCgroup.driver:
            return False
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


class _Form:
    """Records of the same names and types, which therefore are valid like the first one. Only their values differ.

    They are compared with the first one as text. That takes a tenth of the time of parsing and checking them.
    """

    __slots__ = ("_annotations", "_attributes", "_cgroup", "_parts", "_record")

    def __init__(self, document: "dict[str, Any]", record: "Record") -> None:
        """Take the first record, which `read` will change, and the document that it was made from."""
        gaps: list[tuple[tuple[str, ...], type]] = []
        pieces = dumps(_leave_gaps(document, (), gaps)).encode().split(dumps(_GAP).encode())
        self._parts: list[bytes | type] = []  # matches no record
        if len(pieces) == len(gaps) + 1 and all(type(value) is str for value in record.annotations.values()):
            kinds = [kind for _, kind in gaps]
            self._parts = [part for pair in zip(pieces, [*kinds, bytes], strict=True) for part in pair][:-1]
        places = {path: place for place, (path, _) in enumerate(gaps)}
        self._attributes = [(places[name,], attribute) for name, attribute in _ATTRIBUTES.items()]
        pairs = [(path, place) for path, place in places.items() if len(path) == 2]
        self._cgroup = [(place, name) for (above, name), place in pairs if above == "cgroup"]
        self._annotations = [(place, name) for (above, name), place in pairs if above == "annotations"]
        self._record = record

    def read(self, text: bytes) -> "Record | None":
        """Return the record in `text`; None if it has another form. The next call changes the record.

        It lacks what a list of containers does not need. Raises ValueError.
        """
        values = _native.match_json(text, self._parts)
        if values is None:
            return None
        record = self._record
        for place, name in self._attributes:
            setattr(record, name, values[place])
        for place, name in self._cgroup:
            record.cgroup[name] = values[place]
        if self._annotations:
            record.annotations = {**record.annotations, **{name: values[place] for place, name in self._annotations}}
        if not 0 < record.pid < 1 << 31:
            raise ValueError("pid")
        return record


def _leave_gaps(value: "Any", path: "tuple[str, ...]", gaps: "list[tuple[tuple[str, ...], type]]") -> "Any":
    """Return `value` with gaps for strings, numbers and arrays of strings. Append the path and the type of each gap.

    An empty array stays as it is, because nothing shows the type of its items.
    """
    kind = type(value)
    if kind is dict:
        members = value.items()
        return {name: each if name in _FIXED else _leave_gaps(each, (*path, name), gaps) for name, each in members}
    if kind is list and not (value and all(type(item) is str for item in value)):
        return [_leave_gaps(item, (*path, str(place)), gaps) for place, item in enumerate(value)]
    if kind not in (str, int, list):
        return value
    gaps.append((path, kind))
    return _GAP


__all__ = ["list_all"]
