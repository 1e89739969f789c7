"""Resource groups of Intel RDT, through the resctrl file system of the kernel.

    group = Group.planned(op)      what `create` is about to make, to record it: the runtime may be killed
    group.run(op, pid)             make, write and monitor before the clone; then the container's init joins, and its
                                   children follow
    join(group.settled(), pid)     for each process of `exec`
    group.undo()                   if create fails, or
    remove(group.settled())        when the container is deleted

mkdir(2) of a directory creates a group with its files. rmdir(2) removes the group, and moves its processes to the
default group.
"""

import errno
import posix

from pyoci.cgroups.hierarchy import is_mounted, mounts
from pyoci.compiler import verbs
from pyoci.compiler.intel_rdt import WHERE, differences, parse
from pyoci.compiler.verbs.cgroup import FIND, FIND_OR_MAKE, MAKE
from pyoci.errors import SetupError, StateError, reason
from pyoci.host import files
from pyoci.host.processes import is_exiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pyoci.compiler.verbs import MakeRdtGroup, ParentOp

MONITORING = "mon_groups"
_FOREIGN = "cannot use the resource group in the record: it is not of this version"


def find_mount() -> str:
    """Return a mount point of the whole resctrl file system that no later mount covers. Raises SetupError."""
    for root, path, device in mounts("resctrl"):
        if root == "/" and is_mounted(path, device):
            return path
    raise SetupError(
        "cannot use Intel RDT: no resctrl file system is mounted",
        where=WHERE,
        hint="run `mount -t resctrl resctrl /sys/fs/resctrl`; the processor and the kernel must support it",
    )


class Group:
    """The resource group of a container.

    mount       where resctrl is mounted
    name        the group's directory there, "" for the default group
    monitoring  the directory of the container's monitoring group, "" for none
    made        the directories that create makes, in the order in which to remove them
    shared      the group, if other containers may join it: it outlives the container
    """

    __slots__ = ("made", "monitoring", "mount", "name", "shared", "where")

    def __init__(self, mount: str, op: "MakeRdtGroup") -> None:
        self.mount = mount
        self.where = op.where
        self.name = "" if op.group == "/" else op.group
        self.monitoring = f"{self.name}/{MONITORING}/{op.monitoring}".lstrip("/") if op.monitoring else ""
        self.made: list[str] = []
        self.shared = ""

    @classmethod
    def planned(cls, op: "MakeRdtGroup") -> "Group":
        """Return the group of a `make_rdt_group` operation.

        Raises SetupError if the group exists but must be new, or is missing but must exist.
        """
        group = cls(find_mount(), op)
        there = _is_there(group._path(group.name))
        if there and op.required == MAKE:
            raise group._exists()
        if not there and op.required == FIND:
            raise SetupError(
                f"cannot use resource group {group.name}: there is no {group._path(group.name)}",
                where=op.where,
                hint="create the group first, or set a schema",
            )
        if group.monitoring and there and _is_there(group._path(group.monitoring)):
            raise SetupError(
                f"cannot make monitoring group {group._path(group.monitoring)}: it exists",
                where=f"{WHERE}/enableMonitoring",
            )
        group.made = [path for path in (group.monitoring, "" if there else group.name) if path]
        if not there and op.required == FIND_OR_MAKE:
            group.shared = group.name
        return group

    def to_dict(self) -> "dict[str, object]":
        """Return what `remove` needs if the runtime is killed in `create`."""
        return {"mount": self.mount, "made": self.made, "shared": self.shared, "joined": self._joined()}

    def settled(self) -> "dict[str, object]":
        """Return what `remove` and `join` need once the container exists. A shared group outlives the container."""
        made = [path for path in self.made if path != self.shared]
        return {"mount": self.mount, "made": made, "shared": "", "joined": self._joined()}

    def run(self, op: "ParentOp", pid: int) -> None:
        """Run one operation of the plan. Only `join_rdt_group` uses `pid`."""
        if isinstance(op, verbs.MakeRdtGroup):
            self.make()
        elif isinstance(op, verbs.WriteSchemata):
            self.write(op.line, op.where)
        elif isinstance(op, verbs.MakeMonitoringGroup):
            self.monitor(op.where)
        else:
            join(self.to_dict(), pid)

    def make(self) -> None:
        """Create the group, unless it exists. Raises SetupError."""
        if self.name not in self.made:
            return
        try:
            posix.mkdir(self._path(self.name))
        except FileExistsError as error:  # another program has created it since it was planned
            self.made.remove(self.name)
            if not self.shared:
                raise self._exists() from error
            self.shared = ""
        except OSError as error:
            self.made.remove(self.name)
            hint = "every class of service of this processor is in use" if error.errno == errno.ENOSPC else ""
            raise self._failure(f"make resource group {self._path(self.name)}", self.where, error, hint) from error

    def write(self, line: str, where: str) -> None:
        """Write a line of the schemata. A group that existed must have it already, or this raises SetupError."""
        path = self._path(self.name, "schemata")
        if self.name in self.made:
            try:
                files.write(path, line.rstrip("\n").encode("utf-8", "surrogateescape") + b"\n")
            except OSError as error:
                raise self._failure(f"write {line!r} to {path}", where, error) from error
            return
        try:
            found = parse(files.read(path).decode("ascii", "replace"))
        except OSError as error:
            raise self._failure(f"read {path}", where, error) from error
        wanted = parse(line)
        if not wanted:
            raise SetupError(f"cannot compare {line!r} with {path}: it is not a line of a schemata file", where=where)
        different = differences(wanted, found, self._granularity(wanted))
        if different:
            raise SetupError(
                f"cannot use resource group {self.name or '/'}: it exists with another schema: {', '.join(different)}",
                where=where,
            )

    def monitor(self, where: str) -> None:
        """Create the monitoring group. Raises SetupError."""
        path = self._path(self.monitoring)
        try:
            posix.mkdir(path)
        except OSError as error:
            self.made.remove(self.monitoring)  # it belongs to another program, or does not exist
            hint = "every monitoring id of this processor is in use" if error.errno == errno.ENOSPC else ""
            raise self._failure(f"make monitoring group {path}", where, error, hint) from error

    def undo(self) -> "list[str]":
        """Remove the directories that create has made. Returns a message for a failure."""
        try:
            remove(self.to_dict())
        except SetupError as error:
            return [error.message]
        return []

    # --- the file system

    def _joined(self) -> "list[str]":
        """Return the group, then its monitoring group, which accepts only processes of the group."""
        return [self.name, self.monitoring] if self.monitoring else [self.name]

    def _path(self, *parts: str) -> str:
        return "/".join(part for part in (self.mount, *parts) if part)

    def _exists(self) -> SetupError:
        return SetupError(
            f"cannot make resource group {self._path(self.name)}: it exists",
            where=self.where,
            hint="set closID to use an existing group",
        )

    def _granularity(self, resources: "dict[str, dict[str, str]]") -> "dict[str, int]":
        """Return the step in which the kernel rounds memory bandwidth, by resource."""
        found = {}
        for resource in resources:
            try:
                found[resource] = int(files.read(self._path("info", resource, "bandwidth_gran")))
            except (OSError, ValueError):  # a cache, or a resource that this processor lacks
                continue
        return found

    def _failure(self, what: str, where: str, error: OSError, hint: str = "") -> SetupError:
        return _failure(self.mount, what, where, error, hint)


def join(record: "dict[str, Any]", pid: int) -> None:
    """Move a process into the groups of a record from `to_dict` or `settled`. Raises SetupError, StateError."""
    try:
        mount, paths = record["mount"], [f"{record['mount']}/{path}".rstrip("/") for path in record["joined"]]
    except (KeyError, TypeError) as error:
        raise StateError(_FOREIGN) from error
    for path in paths:
        try:
            files.write(f"{path}/tasks", f"{pid}\n".encode("ascii"))
        except OSError as error:
            raise _failure(mount, f"write {pid} to {path}/tasks", WHERE, error) from error


def change(record: "dict[str, Any]", schemas: "Mapping[str, str]") -> "Callable[[], None]":
    """Write schemata lines, by property, to the group of a record from `settled`. Returns a function to undo that.

    Raises SetupError, StateError, and then nothing has changed.
    """
    if not record:
        raise SetupError("cannot change a resource group: the container has none", where=WHERE)
    try:
        mount, group = record["mount"], record["joined"][0]
    except (KeyError, TypeError, IndexError) as error:
        raise StateError(_FOREIGN) from error
    path = "/".join(part for part in (mount, group, "schemata") if part)
    where = WHERE
    before = b""

    def undo() -> None:
        for line in before.splitlines():
            try:
                files.write(path, line.strip() + b"\n")
            except OSError:  # another program has changed the group meanwhile: keep its change
                continue

    try:
        before = files.read(path)
        for name, lines in schemas.items():
            where = f"{WHERE}/{name}"
            for line in lines.strip("\n").split("\n"):
                files.write(path, line.encode("utf-8", "surrogateescape") + b"\n")
    except OSError as error:
        failure = _failure(mount, f"change {path}", where, error)
        undo()
        raise failure from error
    return undo


def _failure(mount: str, what: str, where: str, error: OSError, hint: str = "") -> SetupError:
    """Return the error, with the kernel's message about its last command."""
    why = reason(error.errno or 0)
    try:
        status = files.read(f"{mount}/info/last_cmd_status").decode("utf-8", "backslashreplace").strip()
    except OSError:
        status = ""
    if status not in ("", "ok"):
        why += f" ({'; '.join(status.splitlines())})"
    return SetupError(f"cannot {what}: {why}", where=where, hint=hint)


def remove(record: "dict[str, Any]") -> None:
    """Remove the directories of a record from `to_dict` or `settled`. Ignores a directory that is gone.

    Keeps a shared group with live processes, because another container has joined it. Raises SetupError, StateError.
    """
    try:
        mount, made, shared = record["mount"], record["made"], record["shared"]
        paths = [f"{mount}/{path}" for path in made]
        kept = f"{mount}/{shared}" if shared else ""
    except (KeyError, TypeError) as error:
        raise StateError(_FOREIGN) from error
    for path in paths:
        try:
            if path != kept or not _is_used(path):
                posix.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SetupError(f"cannot remove {path}: {reason(error.errno or 0)}", where=WHERE) from error


def _is_used(path: str) -> bool:
    """Whether a group has live processes. The kernel also lists those that have ended and are not reaped."""
    try:
        pids = files.read(f"{path}/tasks").split()
    except FileNotFoundError:
        return False
    return not all(is_exiting(int(pid)) for pid in pids)


def _is_there(path: str) -> bool:
    try:
        posix.stat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SetupError(f"cannot use {path}: {reason(error.errno or 0)}", where=WHERE) from error
    return True
