"""A container that exists: its state directory and its record, its status, and what commands do with it in place.

Implements runtime.md "State" and "Query State". The modules that change a container's life take a `Container`: create,
start, exec, kill and delete.
"""

import posix

from pyoci.config.ids import check_id
from pyoci.errors import CgroupError, ContainerNotFound, StateError, StatusError
from pyoci.host.processes import is_exiting, is_lasting, open_process, wait_ended
from pyoci.host.state_directory import RECORD, StateDirectory, is_transient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyoci.cgroups.driver import Driver
    from pyoci.record import ExtendedState, Record
    from pyoci.types import Resources


class Container:
    """One container, found by its id under a root directory.

    `warnings` collects what did not stop an operation, such as a failing poststop hook.
    """

    __slots__ = ("_record", "directory", "warnings")

    def __init__(self, directory: StateDirectory, record: "Record | None") -> None:
        self.directory = directory
        self._record = record
        self.warnings: list[str] = []

    @classmethod
    def open(cls, id: str, *, root: str, root_fd: int = -1) -> "Container":
        """Open the container `id` for a command that locks it next. Raises ContainerNotFound, StateError.

        `root_fd` is the root, if the caller has it open.
        """
        check_id(id)
        return cls(StateDirectory.open(root, id, root_fd), None)

    @classmethod
    def load(cls, id: str, *, root: str, root_fd: int = -1) -> "Container":
        """Open the container `id` as `open` does, and read its record. Raises ContainerNotFound, StateError.

        This succeeds without a usable record; then `record` raises.
        """
        container = cls.open(id, root=root, root_fd=root_fd)
        try:
            container._record = container.record_if_usable()
        except BaseException:
            container.close()
            raise
        return container

    def close(self) -> None:
        """Close the descriptors. A second call does nothing."""
        self.directory.close()

    # --- the record and the status

    @property
    def id(self) -> str:
        """The container's id."""
        return self.directory.id

    @property
    def record(self) -> "Record":
        """The record. Raises ContainerNotFound or StateError if it can't be used."""
        if self._record is None:
            if self.directory.is_empty():
                raise ContainerNotFound(f"container `{self.id}` does not exist")
            self._record = self.directory.load()
        return self._record

    def record_if_usable(self) -> "Record | None":
        """Return the record, read again unless it is known; None if it is missing or broken.

        Raises ContainerNotFound, and StateError if the record can't be read at the moment: its container may be alive.
        """
        if self._record is None:
            try:
                self._record = self.directory.load()
            except StateError as error:
                if is_transient(error):
                    raise
        return self._record

    def status(self, *, lasting: "bool | None" = None) -> str:
        """Find out the status from the process, its FIFO and its cgroup.

        `lasting` is whether init lives and will go on, for a caller that has checked it.
        Returns `creating`, `created`, `running`, `paused` or `stopped`. Raises ContainerNotFound, StateError.
        """
        if self.is_being_created():
            return "creating"
        if not (is_lasting(self.record) if lasting is None else lasting):
            return "stopped"
        try:
            awaits_start = self.directory.awaits_start()
        except BrokenPipeError:
            if is_exiting(self.record.pid):
                return "stopped"
            awaits_start = False  # a `start` was killed after it had let init go on
        if awaits_start:
            return "created"
        cgroup = self.cgroup()
        frozen = cgroup.is_frozen()
        cgroup.close()
        return "paused" if frozen else "running"

    def is_being_created(self) -> bool:
        """Whether a create is at work. If the record says so but the lock is free, this reads the record again."""
        if self.record.status != "creating":
            return False
        if self.directory.is_locked():
            return True
        self._record = self.directory.load()  # create has ended or was killed
        return False

    def is_alive(self) -> bool:
        """Whether init runs and has not begun to exit."""
        pidfd = open_process(self.record)
        if pidfd < 0:
            return False
        posix.close(pidfd)
        return not is_exiting(self.record.pid)

    def require_process(self) -> None:
        """Raise StatusError if the container is being created or has stopped."""
        status = self.status()
        if status == "creating":
            raise StatusError("cannot use a container that is still being created")
        if status == "stopped":
            raise StatusError("container not running")

    def state(self) -> "ExtendedState":
        """Return the state document (runtime.md "State") with runc's additions: rootfs, created, owner.

        A container under systemd also has crun's `systemd-scope`, the name of its unit.
        """
        return self.record.extended_state(self.status())

    # --- the lock

    def lock(self, refusal: str = "", *, while_waiting: "Callable[[StateDirectory], None] | None" = None) -> None:
        """Lock the container, which only one runtime at a time may change, and read the record again.

        With a `refusal`, this raises StatusError with that text if a create is at work, or was when this command
        began: what the create makes is unknown to the caller. `while_waiting` is called while another process holds
        the lock. A container that is locked already stays so. Raises ContainerNotFound, StateError.
        """
        if self.directory.has_lock or (self._record is None and self._lock_at_once()):
            return
        unfinished = self.record_if_usable() is None or self.record.status == "creating"
        directory = self.directory
        if refusal and unfinished and directory.is_ours() and directory.is_locked():
            directory.close()
            raise StatusError(refusal)
        self.directory = directory.reopen_locked(while_waiting)
        try:
            if self._record is not None:
                self._record = self.directory.load()
            elif refusal:
                self.record_if_usable()
            if unfinished and self._record is not None:
                if refusal and self._record.status != "creating":
                    raise StatusError(refusal)
                self._adopt(self._record)
        except BaseException:
            self.directory.release()
            raise

    def _lock_at_once(self) -> bool:
        """Lock the container and read its record. Returns False if another process holds the lock, such as a create."""
        if not self.directory.lock_at_once():
            return False
        try:
            record = self.record_if_usable()
            if record is not None and record.status == "creating":
                self._adopt(record)
        except BaseException:
            self.directory.release()
            raise
        return True

    def unlock(self) -> None:
        """Release the lock, and with it the directory."""
        self.directory.release()

    def _adopt(self, record: "Record") -> None:
        """Record that a killed create has ended. Other commands would think that this lock is held by create."""
        record.status = "created"
        try:
            self.directory.save(record)
        except StateError:
            pass  # such as a full disk: then other commands report that the container is being created

    # --- the cgroup and the processes

    def cgroup(self) -> "Driver":
        """Return the container's cgroup. Raises StateError."""
        try:
            from pyoci import cgroups  # `state` of a stopped or created container does not need it

            return cgroups.from_dict(self.record.cgroup)
        except (KeyError, TypeError) as error:
            raise StateError(f"cannot use the cgroup in {RECORD}: it is not of this version") from error

    def own_cgroup(self) -> "Driver":
        """Return the cgroup, which lists no processes if another container took it over after init had ended."""
        cgroup = self.cgroup()
        cgroup.accept_own_mark(self.is_alive)
        return cgroup

    def pids(self) -> "list[int]":
        """List the container's processes, init first, or what a stopped container has left.

        Raises StatusError while the container is being created.
        """
        status = self.status()
        if status == "creating":
            raise StatusError("cannot list the processes of a container that is still being created")
        init = self.record.pid
        others = sorted(pid for pid in {*self.own_cgroup().pids(), *self.moved_pids()} if pid != init)
        return others if status == "stopped" else [init, *others]

    def moved_pids(self) -> "list[int]":
        """List init and the container's processes beside it, if init has left the container's cgroup.

        In the host's pid namespace this lists init alone, because nothing tells the others from host processes.
        """
        record = self.record
        cgroup = self.cgroup()
        pidfd = open_process(record) if cgroup.path else -1
        if pidfd < 0:
            return []
        from pyoci.cgroups import moved

        if record.shares_pids:
            found = [record.pid] if moved.path(cgroup, record.pid) else []
        else:
            found = moved.members(cgroup, record.pid)
        ended = wait_ended(pidfd, 0)
        posix.close(pidfd)
        return [] if ended else found

    # --- pause, resume, update

    def pause(self) -> None:
        """Freeze every process. Raises StatusError unless it is running, CgroupError if freezing fails."""
        self.lock("cannot pause a container that is still being created")
        try:
            status = self.status()
            if status != "running":
                raise StatusError(_NOT_RUNNING.get(status, f"cannot pause a container that is {status}"))
            cgroup = self.cgroup()
            self._require_inside(cgroup)
            cgroup.freeze()
        finally:
            self.unlock()

    def _require_inside(self, cgroup: "Driver") -> None:
        """Raise CgroupError if init has left the cgroup."""
        from pyoci.cgroups import moved

        path = moved.path(cgroup, self.record.pid) if cgroup.path else ""
        if path:
            raise CgroupError(f"cannot pause the container: its first process has moved to cgroup {path}")

    def resume(self) -> None:
        """Thaw a paused container. Raises StatusError if it is not paused, CgroupError."""
        self.lock("cannot resume a container that is still being created")
        try:
            status = self.status()
            if status != "paused":
                raise StatusError(_NOT_RUNNING.get(status, "container not paused"))
            self.cgroup().thaw()
        finally:
            self.unlock()

    def update(self, resources: "Resources", schemas: "Mapping[str, str] | None" = None) -> None:
        """Change limits.

        `resources` is a valid `linux.resources`; limits that it does not name stay. `schemas` maps properties of
        `linux.intelRdt` to lines for the schemata of the container's resource group.
        Raises StatusError for a stopped container. Raises CgroupError or SetupError if a limit can't be changed; the
        limits are then the old ones.
        """
        from pyoci.cgroups.update import update

        self.lock("cannot update a container that is still being created")
        try:
            self.require_process()
            record = self.record
            undo = None
            if schemas:
                from pyoci.host import resctrl

                undo = resctrl.change(record.rdt, schemas)
            cgroup = self.cgroup()
            try:
                update(cgroup, resources, record.oci_version)
            except BaseException:
                if undo is not None:
                    undo()
                raise
            finally:
                cgroup.close()
                # A cgroup that existed before the container gets back the values that this has replaced.
                record.cgroup = cgroup.to_dict()
                self.directory.save(record)
        finally:
            self.unlock()


_NOT_RUNNING = {"stopped": "container not running", "paused": "container already paused"}


__all__ = ["Container"]
