"""The `systemd` driver: systemd creates a unit for the container, and a cgroup for the unit once it has a process.

    unit = Unit.of(cgroups_path, id, mount, user=…)      creates nothing yet
    unit.start_transient_unit(pid, properties)           asks systemd, which goes to work
    … the process sets itself up meanwhile, up to its cgroup namespace …
    unit.await_unit(pid, writes)                         now the process is in its cgroup
    unit.apply(writes), …                                as with the cgroupfs driver
    unit.destroy(kill=True)

The driver reports limits to systemd, which would otherwise undo them when it reloads. It also writes them to the files
as the cgroupfs driver does, because systemd has no property for some of them. Device rules are an eBPF program of our
own alone: systemd keeps foreign programs, but would replace one of its own by what it knows (decision 8).
"""

import time

from pyoci.cgroups import freezer, units
from pyoci.cgroups.cgroupfs import Cgroup, check_record
from pyoci.cgroups.directories import GONE, errno_of
from pyoci.cgroups.freezer import EMPTY, TIMEOUT
from pyoci.cgroups.hierarchy import find_mount, path_of
from pyoci.dbus import connection, wire
from pyoci.dbus.connection import Bus, BusError
from pyoci.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.cgroups.resources import Write
    from pyoci.cgroups.units import Property

JOB_TIMEOUT = 30.0  # seconds for systemd to create or to stop a unit
# Only the latest job results are kept: more than arrive at once, so the awaited one is among them.
_MAX_RESULTS = 1024

SYSTEMD = "org.freedesktop.systemd1"
MANAGER_PATH, MANAGER = "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"


class Unit(Cgroup):
    """A container's cgroup that belongs to a systemd unit.

    name     the unit: `docker-4f1e….scope`
    user     whether the unit belongs to the user's systemd and not to the system's
    address  the address of that systemd's bus
    """

    __slots__ = (
        *("_is_made", "_is_recorded", "_pending", "_properties", "_results", "_systemd"),
        *("address", "name", "user"),
    )

    driver = "systemd"
    manager_moves_processes = True

    def __init__(self, mount: str, path: str, inode: int, name: str, address: str, *, user: bool) -> None:
        super().__init__(mount, path, [path], inode)
        self.name = name
        self.address = address
        self.user = user
        self._systemd: Bus | None = None
        self._pending = 0  # serial of the StartTransientUnit call that has no reply yet
        self._is_made = inode > 0  # whether this container's runtime created the unit
        self._is_recorded = False
        self._results: dict[tuple[str, str], str] = {}  # of the unit's jobs, by (sender, job)
        self._properties: list[Property] = []

    @classmethod
    def of(cls, cgroups_path: str, id: str, mount: str, *, user: bool) -> "Unit":
        """Return the unit for `linux.cgroupsPath` of container `id`, which does not exist yet. Raises CgroupError.

        Until the unit exists, `path` is a guess: systemd may be in a cgroup of its own.
        """
        name = units.parse_path(cgroups_path, id, user=user)
        address = connection.user_bus() if user else connection.system_bus()
        return cls(mount or find_mount(), name.path, 0, name.unit, address, user=user)

    @classmethod
    def from_dict(cls, record: "dict[str, Any]") -> "Unit":
        """Return the unit that `to_dict` described. Raises KeyError or TypeError for any other record."""
        check_record(record)
        if type(record["unit"]) is not str or type(record["bus"]) is not str:
            raise TypeError
        unit = cls(record["mount"], record["path"], record["inode"], record["unit"], record["bus"], user=record["user"])
        unit.originals.values, unit.originals.owners = record["before"], record["owners"]
        unit._is_recorded = True
        return unit

    def to_dict(self) -> "dict[str, object]":
        """Return what later commands need to find the unit again, as JSON values."""
        return {**super().to_dict(), "unit": self.name, "bus": self.address, "user": self.user}

    # Creating the unit

    def connect(self) -> None:
        """Connect to systemd. Raises CgroupError."""
        self._connected().flush()

    def start_transient_unit(self, pid: int, properties: "list[Property]") -> None:
        """Ask systemd for the unit, with process `pid` in it. `await_unit` takes the reply. Raises CgroupError.

        Drops the properties that this version of systemd does not know.
        """
        self._properties = properties
        newest = max((each.since for each in properties), default=0)
        if newest and (version := self._version()) < newest:
            self._properties = [each for each in properties if each.since <= version]
        self._send_start(pid)

    def _send_start(self, pid: int) -> None:
        systemd = self._connected()
        properties = [(each.name, each.value) for each in self._properties]
        if not self.name.endswith(".slice"):
            properties.insert(0, ("PIDs", wire.Variant("au", [pid])))
        self._pending = systemd.send(
            MANAGER_PATH, MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", self.name, "replace", properties, []
        )
        systemd.flush()

    def await_unit(self, pid: int, writes: "list[Write]") -> None:
        """Wait until `pid` is in the unit's cgroup, and enable the controllers that `writes` need there.

        Raises CgroupError; the process may be in the cgroup then or not.
        """
        try:
            reply = self._start_reply()
        except BusError as error:
            if error.name != UNIT_EXISTS:
                raise self._failure("start", error) from error
            reply = self._start_again(pid)
        self._await_job(reply, "start")
        if self.name.endswith(".slice"):
            self.path = self._control_group()
            self._claim(pid)
            self.add(pid)
        else:
            self.path = path_of(pid)
            if self.path.rpartition("/")[2] != self.name:
                raise CgroupError(
                    f"cannot use unit {self.name}: systemd has put the process into {self.path}",
                    where=units.PATH_POINTER,
                )
            self._claim(pid)
        self.created = [self.path]
        self.enable(writes)
        self._disconnect()

    def _start_reply(self) -> wire.Message:
        """Wait for the reply to StartTransientUnit. If systemd agrees, the unit is this runtime's to stop.

        Raises BusError; or CgroupError without a reply in time, which may come later.
        """
        try:
            reply = self._connected().reply(self._pending, "o")
        except BusError:
            self._pending = 0
            raise
        self._pending = 0
        self._is_made = True
        return reply

    def _start_again(self, pid: int) -> wire.Message:
        """Make systemd forget a failed unit of the same name, then ask once more."""
        systemd = self._connected()
        try:
            systemd.call(MANAGER_PATH, MANAGER, "ResetFailedUnit", "s", self.name)
        except BusError as error:
            if error.name != NO_SUCH_UNIT:
                raise self._failure("reset", error) from error
        self._send_start(pid)
        try:
            return self._start_reply()
        except BusError as error:
            raise self._failure("start", error) from error

    def _claim(self, pid: int) -> None:
        """Identify the cgroup by its inode from now on: `destroy` kills what is in it. Only `pid` may be in it yet."""
        found = Cgroup.existing(self.mount, self.path)
        try:
            if any(other != pid for other in found.pids()):
                self._is_made = False  # the unit ends with the foreign processes in it: it is not ours to stop
                raise CgroupError(
                    f"cannot use cgroup {self.path}: the container's cgroup is not empty", where=units.PATH_POINTER
                )
        finally:
            found.close()
        self.inode = found.inode

    def _control_group(self) -> str:
        systemd = self._connected()
        reply = systemd.reply(systemd.send(MANAGER_PATH, MANAGER, "GetUnit", "s", self.name), "o")
        kind = "Slice" if self.name.endswith(".slice") else "Scope"
        return systemd.get(reply.body[0], f"{SYSTEMD}.{kind}", "ControlGroup")

    # Processes

    def add(self, pid: int) -> None:
        """Move a process into the cgroup. systemd does it if this process may not."""
        try:
            super().add(pid)
        except PermissionError:
            self.attach_process(pid, "")

    def attach_process(self, pid: int, below: str) -> None:
        """Have systemd move a process to the unit's cgroup, or to the cgroup `below` it, "/a/b". Raises CgroupError."""
        try:
            self._connected().call(MANAGER_PATH, MANAGER, "AttachProcessesToUnit", "ssau", self.name, below, [pid])
        except BusError as error:
            raise self._failure("move a process to", error) from error

    def child(self, below: str) -> "Cgroup":
        """Return the existing cgroup `below` this one, "/a/b". Raises CgroupError."""
        found = super().child(below)
        found.close()
        return _Child(self, found.path, found.inode)

    # Limits

    def rounded(self, writes: "list[Write]") -> "list[Write]":
        """Return `writes` with quotas as systemd writes them: it counts per second, not per period."""
        period = self.read("cpu.max").strip().partition(" ")[2]
        if period:
            writes = [
                write.with_value(f"{write.value} {period}")
                if write.file == "cpu.max" and " " not in write.value
                else write
                for write in writes
            ]
        return units.rounded(writes)

    def notify_manager(self, writes: "list[Write]") -> None:
        """Report to systemd the writes that it can apply to a running unit.

        Raises CgroupError if systemd rejects them, and then it has changed nothing.
        """
        changes = units.changes(writes)
        self.set_properties(changes)
        unknown = [write for write in writes if not units.changes([write]) and list(units.properties([write]))]
        if changes and unknown:
            # systemd rewrites every file of the unit before it answers the next call.
            self._version()
            self.apply(unknown)

    def set_properties(self, properties: "list[Property]") -> None:
        """Change properties of the unit until the next boot at most. Raises CgroupError; then none has changed.

        Drops the properties that this version of systemd does not know.
        """
        given = [(each.name, each.value) for each in properties if not each.since or each.since <= self._version()]
        if not given:
            return
        try:
            self._connected().call(MANAGER_PATH, MANAGER, "SetUnitProperties", "sba(sv)", self.name, True, given)
        except BusError as error:
            raise self._failure("set properties of", error, properties) from error

    # The end

    def close(self) -> None:
        """Close the descriptors, except for a connection on which a reply is due."""
        super().close()
        if not self._pending:
            self._disconnect()

    def destroy(self, *, kill: bool = False, timeout: float = TIMEOUT) -> None:
        """Stop the unit and remove what is left of its cgroup. With `kill` this first kills the processes inside.

        If the cgroup is gone, the unit is gone too: this does not even ask systemd, and keeps a later unit of the same
        name. If systemd does not answer, this only warns: an empty unit ends by itself. Raises CgroupError if processes
        remain.
        """
        try:
            if self.inode:
                if self._is_gone():
                    self.close()
                    return
                if kill:
                    self.kill()
                    self._await_empty(timeout)
            if kill and self._is_recorded and not self.inode:
                self._is_made = self._is_abandoned()
            self._stop()
        finally:
            self._disconnect()
        if self.inode:
            super().destroy(kill=kill, timeout=timeout)

    def _is_abandoned(self) -> bool:
        """Whether there is a unit of this name without processes.

        It is left behind if the runtime and the process were killed while the runtime waited for the unit: the process
        was never in the cgroup, so systemd does not notice its end. The path in the record is a guess, so this asks
        systemd for the unit's own path.
        """
        try:
            path = self._control_group()
            return bool(path) and not self._has_processes(path)
        except CgroupError:
            return False

    def _has_processes(self, path: str) -> bool:
        """Whether the cgroup at `path` has processes. Raises CgroupError if that is unknown: if it does not exist."""
        found = Cgroup.existing(self.mount, path)
        try:
            return "populated 0" not in found.read("cgroup.events")
        finally:
            found.close()

    def _is_gone(self) -> bool:
        try:
            return self.dirfd < 0
        except CgroupError as error:
            if errno_of(error) not in GONE:
                raise
            return True

    def _await_empty(self, timeout: float) -> None:
        try:
            if not freezer.wait_for(self.dirfd, time.monotonic() + timeout, EMPTY):
                raise self._still_populated()
        except (OSError, CgroupError) as error:
            if errno_of(error) not in GONE:
                raise

    def _stop(self) -> None:
        """Stop the unit if this runtime created it, and wait for the end of the job, up to the deadline."""
        try:
            if self._pending:
                self._start_reply()
            if self._is_made:
                self._await_job(self._connected().reply(self._send_stop(), "o"), "stop")
        except BusError as error:
            # If the unit was not made, it belongs to another program, and ours could not start for this reason.
            # If there is no such unit, it has ended meanwhile, as it was empty.
            if self._is_made and error.name != NO_SUCH_UNIT:
                self.warnings.append(str(self._failure("stop", error)))
        except CgroupError as error:
            self.warnings.append(f"unit {self.name} may be left behind: {error}")
            if self._pending:
                self._stop_without_reply()

    def _send_stop(self) -> int:
        """Send StopUnit, even after the deadline. Returns the serial of the call."""
        systemd = self._connected()
        call = systemd.send(MANAGER_PATH, MANAGER, "StopUnit", "ss", self.name, "replace")
        systemd.flush()
        return call

    def _stop_without_reply(self) -> None:
        """Ask systemd to stop a unit that it may still create, and don't wait for the reply.

        If the cgroup has processes, they are not this container's, whose processes are killed. Then the late reply will
        be that the unit exists already, and this keeps it.
        """
        self._pending = 0
        try:
            if self._has_processes(self.path):
                return
        except CgroupError:
            pass  # the cgroup does not exist yet
        try:
            self._send_stop()
        except CgroupError:
            pass  # the caller has a warning already

    # Talking to systemd

    def _connected(self) -> Bus:
        if self._systemd is None:
            what = "the user's systemd" if self.user else "systemd"
            self._systemd = Bus(self.address, SYSTEMD, what, time.monotonic() + JOB_TIMEOUT)
            rule = f",arg2='{self.name}'"
            self._systemd.listen(MANAGER_PATH, MANAGER, "JobRemoved", "uoss", self._keep_result, rule)
        return self._systemd

    def _disconnect(self) -> None:
        if self._systemd is not None:
            self._systemd.close()
            self._systemd = None

    def _keep_result(self, signal: wire.Message) -> None:
        """Keep a job's result with its sender. Only a reply shows which sender is systemd: any peer can send these."""
        _, job, name, result = signal.body
        if name != self.name:
            return
        self._results[signal.fields.get(wire.SENDER, ""), job] = result
        if len(self._results) > _MAX_RESULTS:
            del self._results[next(iter(self._results))]

    def _await_job(self, reply: wire.Message, action: str) -> None:
        """Wait for the job that `reply` names. Raises CgroupError unless its result is `done`."""
        awaited = (reply.fields.get(wire.SENDER, ""), reply.body[0])
        self._connected().wait(lambda: awaited in self._results)
        result = self._results[awaited]
        if result != "done":
            raise CgroupError(
                f"cannot {action} unit {self.name}: the job's result is {result}",
                where=units.PATH_POINTER,
                hint=f"see `journalctl {'--user ' if self.user else ''}-u {self.name}`",
            )

    def _failure(self, action: str, error: BusError, properties: "list[Property] | None" = None) -> CgroupError:
        """Return systemd's own message, with the pointer of the property that it names, if any."""
        where = units.PATH_POINTER
        for each in properties or self._properties:
            if each.where and each.name in str(error):
                where = each.where
        return CgroupError(f"cannot {action} unit {self.name}: {error.message}", where=where)

    def _version(self) -> int:
        digits = ""
        for character in self._connected().get(MANAGER_PATH, MANAGER, "Version").removeprefix("v"):
            if not character.isdigit():
                break
            digits += character
        return int(digits or "0")


class _Child(Cgroup):
    """A cgroup that the container has created inside of its unit's cgroup."""

    __slots__ = ("_unit",)

    manager_moves_processes = True

    def __init__(self, unit: Unit, path: str, inode: int) -> None:
        super().__init__(unit.mount, path, [], inode)
        self._unit = unit

    def add(self, pid: int) -> None:
        """Move a process into the cgroup. systemd does it if this process may not."""
        try:
            super().add(pid)
        except PermissionError:
            self._unit.attach_process(pid, self.path.removeprefix(self._unit.path))

    def close(self) -> None:
        """Close the descriptors."""
        super().close()
        self._unit.close()


__all__ = ["Unit"]
