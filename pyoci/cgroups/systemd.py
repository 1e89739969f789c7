"""The `systemd` driver: systemd makes a unit for the container, and a cgroup for the unit, once it has a process.

    unit = Unit.of(cgroups_path, id, mount, user=…)          nothing is made yet
    unit.request(pid, properties)                            systemd is asked, and goes to work
    … the process sets itself up meanwhile, up to its cgroup namespace …
    unit.settle(pid, writes)                                 it is in its cgroup
    unit.apply(writes), …                                    as with the `fs` driver
    unit.destroy(kill=True)

Limits are told to systemd, which would otherwise undo them when it reloads, and written to the files as the `fs` driver
writes them, since systemd has no property for all of them. Device rules are an eBPF program of our own alone: systemd
leaves such programs as they are, but would replace one of its own by what it knows (decision 8).
"""

import time

from pyoci.cgroups import units
from pyoci.cgroups.cgroupfs import PATIENCE, Cgroup, check_record
from pyoci.cgroups.directories import GONE, errno_of
from pyoci.cgroups.hierarchy import find_mount, path_of
from pyoci.dbus import connection, wire
from pyoci.dbus.connection import Bus, BusError
from pyoci.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.cgroups.resources import Write
    from pyoci.cgroups.units import Property

JOB_PATIENCE = 30.0  # seconds for systemd to make or to stop a unit
# Of jobs, the latest: more than come at once, so that none is lost before it is known which one to wait for.
_MOST_RESULTS = 1024

SYSTEMD = "org.freedesktop.systemd1"
MANAGER_PATH, MANAGER = "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"


class Unit(Cgroup):
    """A container's cgroup that is a unit of systemd's.

    name     the unit: `docker-4f1e….scope`
    user     whether it is one of the user's systemd, not of the system's
    address  of the bus that this one is on
    """

    __slots__ = (
        *("_is_made", "_is_recorded", "_properties", "_request", "_results", "_systemd"),
        *("address", "name", "user"),
    )

    driver = "systemd"
    can_fetch = True

    def __init__(self, mount: str, path: str, inode: int, name: str, address: str, *, user: bool) -> None:
        super().__init__(mount, path, [path], inode)
        self.name = name
        self.address = address
        self.user = user
        self._systemd: Bus | None = None
        self._request = 0  # the number of the call that asks for the unit, while it is not answered
        self._is_made = inode > 0  # by us
        self._is_recorded = False
        self._results: dict[tuple[str, str], str] = {}  # of jobs on the unit, by who has told of it and the job
        self._properties: list[Property] = []

    @classmethod
    def of(cls, cgroups_path: str, id: str, mount: str, *, user: bool) -> "Unit":
        """The unit for `linux.cgroupsPath` of container `id`, which does not exist yet. Raises `CgroupError`.

        `path` is a guess until it does: systemd may be in a cgroup of its own.
        """
        name = units.parse_path(cgroups_path, id, user=user)
        address = connection.user_bus() if user else connection.system_bus()
        return cls(mount or find_mount(), name.path, 0, name.unit, address, user=user)

    @classmethod
    def from_dict(cls, record: "dict[str, Any]") -> "Unit":
        """The unit that `to_dict` described. Raises KeyError or TypeError if that can't have been."""
        check_record(record)
        if type(record["unit"]) is not str or type(record["bus"]) is not str:
            raise TypeError
        unit = cls(record["mount"], record["path"], record["inode"], record["unit"], record["bus"], user=record["user"])
        unit.before, unit.owners = record["before"], record["owners"]
        unit._is_recorded = True
        return unit

    def to_dict(self) -> "dict[str, Any]":
        """What later commands need to find it again, as JSON values."""
        return {**super().to_dict(), "unit": self.name, "bus": self.address, "user": self.user}

    # Making it

    def connect(self) -> None:
        """Have a connection for `request`. Raises `CgroupError`."""
        self._connected().flush()

    def request(self, pid: int, properties: "list[Property]") -> None:
        """Ask systemd for the unit, with `pid` in it; `settle` waits for the answer. Raises `CgroupError`."""
        self._properties = properties
        newest = max((each.since for each in properties), default=0)
        if newest and (version := self._version()) < newest:
            self._properties = [each for each in properties if each.since <= version]
        self._ask(pid)

    def _ask(self, pid: int) -> None:
        systemd = self._connected()
        given = [(each.name, each.value) for each in self._properties]
        if not self.name.endswith(".slice"):
            given.insert(0, ("PIDs", wire.Variant("au", [pid])))
        signature = "ssa(sv)a(sa(sv))"
        self._request = systemd.send(
            MANAGER_PATH, MANAGER, "StartTransientUnit", signature, self.name, "replace", given, []
        )
        systemd.flush()

    def settle(self, pid: int, writes: "list[Write]") -> None:
        """Wait until the unit is there and `pid` in its cgroup, which gets the controllers that `writes` need.

        Raises `CgroupError`; the process may be in the cgroup then, or not.
        """
        try:
            reply = self._answer()
        except BusError as error:
            if error.name != UNIT_EXISTS:
                raise self._refused("start", error) from error
            reply = self._start_again(pid)
        self._finish(reply, "start")
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
        self._hang_up()

    def _answer(self) -> wire.Message:
        """What systemd says to being asked for the unit, which is ours to stop if it agrees. Raises BusError, or
        `CgroupError` if it says nothing: it may yet."""
        try:
            reply = self._connected().reply(self._request, "o")
        except BusError:
            self._request = 0
            raise
        self._request = 0
        self._is_made = True
        return reply

    def _start_again(self, pid: int) -> wire.Message:
        """A unit of the name that has failed is still known: forgotten, it may be made anew. Once."""
        systemd = self._connected()
        try:
            systemd.call(MANAGER_PATH, MANAGER, "ResetFailedUnit", "s", self.name)
        except BusError as error:
            if error.name != NO_SUCH_UNIT:
                raise self._refused("reset", error) from error
        self._ask(pid)
        try:
            return self._answer()
        except BusError as error:
            raise self._refused("start", error) from error

    def _claim(self, pid: int) -> None:
        """From now on it is this very cgroup, and what is in it is ours to kill: nobody is yet but `pid`."""
        found = super().at(self.path)
        try:
            if any(other != pid for other in found.pids()):
                self._is_made = False  # nor is the unit ours to stop, with strangers in it: it ends with them
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

    def add(self, pid: int) -> None:
        """Move a process here; systemd does it where this one may not."""
        try:
            super().add(pid)
        except PermissionError:
            self.fetch(pid, "")

    def fetch(self, pid: int, below: str) -> None:
        """Have systemd move a process to the unit's cgroup or one `below` it, "/a/b". Raises `CgroupError`."""
        try:
            self._connected().call(MANAGER_PATH, MANAGER, "AttachProcessesToUnit", "ssau", self.name, below, [pid])
        except BusError as error:
            raise self._refused("move a process to", error) from error

    def at(self, path: str) -> Cgroup:
        """The cgroup at `path`, which is below this one and exists. Raises `CgroupError`."""
        found = super().at(path)
        found.close()
        return _Below(self, path, found.inode)

    # Limits

    def fitted(self, writes: "list[Write]") -> "list[Write]":
        """`writes` with quotas as systemd writes them, which counts them by a second and not by the period."""
        period = self.read("cpu.max").strip().partition(" ")[2]
        whole = [
            w.with_value(f"{w.value} {period}") if w.file == "cpu.max" and " " not in w.value else w for w in writes
        ]
        return units.rounded(whole if period else writes)

    def tell(self, writes: "list[Write]") -> None:
        """Tell systemd those writes that it can apply to a running unit. Raises `CgroupError` if it refuses; then
        it has changed nothing."""
        changes = units.changes(writes)
        self.set_properties(changes)
        untold = [write for write in writes if not units.changes([write]) and list(units.properties([write]))]
        if changes and untold:  # systemd writes every file of the unit anew, before it answers the next call
            self._version()
            self.apply(untold)

    def close(self) -> None:
        """Give the descriptors back, but for a connection on which an answer is to come."""
        super().close()
        if not self._request:
            self._hang_up()

    def set_properties(self, properties: "list[Property]") -> None:
        """Change properties of the unit, until the next boot at most. Raises `CgroupError`: none has changed then."""
        given = [(each.name, each.value) for each in properties if not each.since or each.since <= self._version()]
        if not given:
            return
        try:
            self._connected().call(MANAGER_PATH, MANAGER, "SetUnitProperties", "sba(sv)", self.name, True, given)
        except BusError as error:
            raise self._refused("set properties of", error, properties) from error

    # The end

    def destroy(self, *, kill: bool = False, timeout: float = PATIENCE) -> None:
        """Kill what is inside if asked to, stop the unit, and remove what is left of the cgroup. Raises `CgroupError`
        when processes remain.

        A cgroup that is gone took its unit along: systemd is not even asked, and another unit of the name is let be.
        Where systemd does not answer, that is a warning: an empty unit goes by itself.
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
            self._hang_up()
        if self.inode:
            super().destroy(kill=kill, timeout=timeout)

    def _is_abandoned(self) -> bool:
        """Whether there is a unit of the name in which nobody is: its runtime was killed while it waited for the unit,
        and the process with it, which systemd would never see end as it was never in the cgroup.

        The path in the record is a guess, with another cgroup there, or none: the unit's own is asked for.
        """
        try:
            path = self._control_group()
            return bool(path) and not self._has_processes(path)
        except CgroupError:
            return False

    def _has_processes(self, path: str) -> bool:
        """Whether somebody is in a cgroup. Raises `CgroupError` if it can't be told, as when it is not there."""
        found = super().at(path)
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
            if not self._wait(time.monotonic() + timeout, b"populated 0"):
                raise self._still_populated()
        except (OSError, CgroupError) as error:
            if errno_of(error) not in GONE:
                raise

    def _stop(self) -> None:
        """Stop the unit if it is ours, and wait for it, but not past the deadline."""
        try:
            if self._request:
                self._answer()
            if self._is_made:
                self._finish(self._connected().reply(self._ask_to_stop(), "o"), "stop")
        except BusError as error:
            # another's, which is why ours could not be started; or gone meanwhile, as it was empty
            if self._is_made and error.name != NO_SUCH_UNIT:
                self.warnings.append(str(self._refused("stop", error)))
        except CgroupError as error:
            self.warnings.append(f"unit {self.name} may be left behind: {error}")
            if self._request:
                self._stop_unheard()

    def _ask_to_stop(self) -> int:
        """It is sent even after the deadline."""
        systemd = self._connected()
        call = systemd.send(MANAGER_PATH, MANAGER, "StopUnit", "ss", self.name, "replace")
        systemd.flush()
        return call

    def _stop_unheard(self) -> None:
        """systemd may make the unit after all: it is to stop it then. Nobody waits for that.

        Where somebody is in its cgroup, who can't be ours as those are killed, the answer would be that there is such a
        unit already.
        """
        self._request = 0
        try:
            if self._has_processes(self.path):
                return
        except CgroupError:
            pass  # no such cgroup, yet
        try:
            self._ask_to_stop()
        except CgroupError:
            pass  # a warning was given

    # Talking to systemd

    def _connect(self) -> Bus:
        what = "the user's systemd" if self.user else "systemd"
        connection = Bus(self.address, SYSTEMD, what, time.monotonic() + JOB_PATIENCE)
        connection.listen(MANAGER_PATH, MANAGER, "JobRemoved", "uoss", self._hear, f",arg2='{self.name}'")
        return connection

    def _connected(self) -> Bus:
        if self._systemd is None:
            self._systemd = self._connect()
        return self._systemd

    def _hang_up(self) -> None:
        if self._systemd is not None:
            self._systemd.close()
            self._systemd = None

    def _hear(self, signal: wire.Message) -> None:
        """Who is systemd shows when it answers: the words of all who say such things are kept apart."""
        _, job, name, result = signal.body
        if name != self.name:
            return
        self._results[signal.fields.get(wire.SENDER, ""), job] = result
        if len(self._results) > _MOST_RESULTS:
            del self._results[next(iter(self._results))]

    def _finish(self, reply: wire.Message, verb: str) -> None:
        """Wait for the job that systemd has queued. Raises `CgroupError` unless it is done."""
        awaited = (reply.fields.get(wire.SENDER, ""), reply.body[0])
        self._connected().wait(lambda: awaited in self._results)
        result = self._results[awaited]
        if result != "done":
            raise CgroupError(
                f"cannot {verb} unit {self.name}: the job's result is {result}",
                where=units.PATH_POINTER,
                hint=f"see `journalctl {'--user ' if self.user else ''}-u {self.name}`",
            )

    def _refused(self, verb: str, error: BusError, properties: "list[Property] | None" = None) -> CgroupError:
        """systemd's own words, and the place in the config if they name a property of it."""
        where = units.PATH_POINTER
        for each in properties or self._properties:
            if each.where and each.name in str(error):
                where = each.where
        return CgroupError(f"cannot {verb} unit {self.name}: {error.message}", where=where)

    def _version(self) -> int:
        digits = ""
        for character in self._connected().get(MANAGER_PATH, MANAGER, "Version").removeprefix("v"):
            if not character.isdigit():
                break
            digits += character
        return int(digits or "0")


class _Below(Cgroup):
    """A cgroup in that of a unit: the container has made it."""

    __slots__ = ("_unit",)

    can_fetch = True

    def __init__(self, unit: Unit, path: str, inode: int) -> None:
        super().__init__(unit.mount, path, [], inode)
        self._unit = unit

    def add(self, pid: int) -> None:
        """Move a process here; systemd does it where this one may not."""
        try:
            super().add(pid)
        except PermissionError:
            self._unit.fetch(pid, self.path.removeprefix(self._unit.path))

    def close(self) -> None:
        """Give the descriptors back."""
        super().close()
        self._unit.close()


__all__ = ["Unit"]
