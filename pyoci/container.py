"""A container's life: create, start, kill, delete, run. The story, top to bottom.

Implements runtime.md "Lifecycle" and "Operations". `create` ends with the container's first process waiting on a
FIFO, set up to the last detail; `start` writes one byte to it and reads the outcome from another, which the program's
execve closes.
"""

import errno
import posix
import time

from pyoci import state
from pyoci.config.ids import check_id
from pyoci.config.jsonio import dumps
from pyoci.errors import (
    CgroupError,
    ContainerNotFound,
    HookError,
    PyociError,
    SetupError,
    StateError,
    StatusError,
    reason,
)
from pyoci.state import Directory, is_exiting, open_process, open_root, send_signal, wait_ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pyoci.cgroups.driver import Driver
    from pyoci.exec import Changes
    from pyoci.host.sd_notify import Relay
    from pyoci.host.terminal import Foreground


SPEC_VERSION = "1.3.0"
PATIENCE = 10  # seconds for a killed process to be gone
SIGTERM, SIGKILL = 15, 9


class Container:
    """One container, found by its id under a root directory.

    `warnings` is what the last operation met and went on: hooks that failed after the container was gone, a service
    manager that can't be told.
    """

    def __init__(self, directory: Directory, record: "dict[str, Any]") -> None:
        self._directory = directory
        self._record = record
        self.warnings: list[str] = []
        self.notify: Relay | None = None

    @classmethod
    def create(cls, id: str, **options: "Any") -> "Container":
        """See `pyoci.create.create`, which takes the same arguments: a separate module, since no other operation
        needs it.
        """
        from pyoci.create import create

        return create(id, **options)

    @classmethod
    def run(cls, id: str, **options: "Any") -> int:
        """See `pyoci.create.run`."""
        from pyoci.create import run

        return run(id, **options)

    @classmethod
    def load(cls, id: str, *, root: str) -> "Container":
        """The container `id`. Raises ContainerNotFound, StateError."""
        check_id(id)
        container = cls(Directory.open(root, id), {})
        try:
            container._record = container._record_if_any()
        except BaseException:
            container.close()
            raise
        return container

    def close(self) -> None:
        """Give the descriptors back; a second time is no error."""
        self._directory.close()

    def status(self) -> str:
        """`creating`, `created`, `running`, `paused` or `stopped`, found out from the process, its FIFO and its
        cgroup.
        """
        if self._require_record()["status"] == "creating":
            if self._directory.is_locked():
                return "creating"
            self._record = self._directory.load()  # create may have ended since; else it was killed
        pidfd = open_process(self._record, lasting=True)
        if pidfd < 0:
            return "stopped"
        posix.close(pidfd)
        try:
            awaits_start = self._directory.awaits_start()
        except BrokenPipeError:
            # Its end has begun, or a start was killed at its last step.
            if is_exiting(self._record["pid"]):
                return "stopped"
            awaits_start = False
        if awaits_start:
            return "created"
        cgroup = self.cgroup()
        frozen = cgroup.is_frozen()
        cgroup.close()
        return "paused" if frozen else "running"

    def state(self) -> "dict[str, Any]":
        """The state document (runtime.md "State"), with runc's additions: rootfs, created, owner.

        Of a container under systemd also with crun's, the unit's name: systemd-scope.
        """
        status = self.status()
        unit = self._record["cgroup"].get("unit")
        return {
            **state_document(self._record, status),
            **{key: self._record[key] for key in ("rootfs", "created", "owner")},
            **({"systemd-scope": unit} if unit else {}),
        }

    def start(self, *, foreground: "Foreground | None" = None) -> None:
        """Run the program of a created container.

        Where create and this have NOTIFY_SOCKET in their environment, it comes back when the program says that it is
        ready, or has ended; with a `foreground`, which takes the runtime's signals, at once, and `notify` is for the
        caller to relay.

        Raises StatusError; SetupError or HookError if a startContainer hook, the program's execve or a poststart hook
        fails: the container is then destroyed, its poststop hooks have run.
        """
        self._lock(_CANNOT_START["creating"])
        try:
            status = self.status()
            if status != "created":
                raise StatusError(_CANNOT_START[status])
            if not self._record["process"]:
                raise StatusError("cannot start the container: config.json has no process", where="/process")
            self.notify = self._notify_relay()
            try:
                self._start_program(foreground)
                self._run_poststart()
            except (SetupError, HookError):
                self._destroy()
                raise
        finally:
            self._directory.let_go()
        if self.notify is not None and foreground is None:
            self._await_readiness(self.notify)

    def _notify_relay(self) -> "Relay | None":
        manager = state.service_manager()
        if not self._record.get("notify") or not manager:
            return None
        from pyoci.host import sd_notify  # engines keep this to themselves

        try:
            relay = sd_notify.Relay(manager, self.warnings)
        except SetupError as error:
            self.warnings.append(str(error))
            return None
        relay.listen(self._directory)
        return relay

    def _await_readiness(self, relay: "Relay") -> None:
        pidfd = open_process(self._record)
        try:
            if pidfd >= 0:
                relay.wait(self._record["pid"], pidfd)
                posix.close(pidfd)
        finally:
            relay.close()

    def exec(self, wanted: "str | Changes", **options: "Any") -> int:
        """See `pyoci.exec.execute`, which takes the same arguments."""
        from pyoci.exec import execute

        return execute(self, wanted, **options)

    def kill(self, signal: int = SIGTERM, *, all: bool = False) -> None:
        """Signal the container's process, or with `all` every process of its cgroup. SIGKILL without a pid namespace of
        its own is for all of them, too, since none ends with the first one. Raises StatusError if it has ended, or is
        still being created.
        """
        # What sets it up takes no signals, and SIGKILL would make the create fail, which nobody has asked for.
        if self._require_record()["status"] == "creating" and self.status() == "creating":
            raise StatusError("cannot signal a container that is still being created")
        record = self._record
        if all and self._signal_all(signal):
            return
        cgroup = self._own_cgroup() if signal == SIGKILL and record["sharesPids"] else None
        pidfd = open_process(record)
        if pidfd < 0:
            if cgroup is not None and cgroup.pids() and cgroup.kill(signal):
                return
            raise StatusError("container not running")
        try:
            if not send_signal(pidfd, signal):
                raise StatusError("container not running")
        finally:
            posix.close(pidfd)
        if cgroup is not None:
            cgroup.kill(signal)

    def delete(self, *, force: bool = False) -> None:
        """Remove a stopped container, or a created one after killing it; with `force` whatever it is.

        Raises StatusError for one that runs, or that a create is at work on; with `force` that create loses the
        container's process, and fails. poststop hooks that fail are only warned about.
        """
        if force:
            self._lock(meanwhile=_kill)
        else:
            self._lock(f"cannot delete container {self._directory.id} that is not stopped: creating")
        try:
            if not self._record:
                self._record = self._record_if_any()
            if not self._record:
                self._delete_half_made(force=force)
                return
            status = self.status()
            if status not in ("stopped", "created") and not force:
                raise StatusError(f"cannot delete container {self._directory.id} that is not stopped: {status}")
            self._destroy()
        finally:
            self._directory.close()

    def pause(self) -> None:
        """Freeze every process. Raises StatusError unless the container is running."""
        self._lock("cannot pause a container that is still being created")
        try:
            status = self.status()
            if status != "running":
                raise StatusError(_NOT_RUNNING.get(status, f"cannot pause a container that is {status}"))
            cgroup = self.cgroup()
            self._require_inside(cgroup)
            cgroup.freeze()
        finally:
            self._directory.let_go()

    def resume(self) -> None:
        """Let a paused container go on. Raises StatusError if it is not paused."""
        self._lock("cannot resume a container that is still being created")
        try:
            status = self.status()
            if status != "paused":
                raise StatusError(_NOT_RUNNING.get(status, "container not paused"))
            self.cgroup().thaw()
        finally:
            self._directory.let_go()

    def pids(self) -> "list[int]":
        """Every process of the container, as this process numbers them, its first one ahead; if that has ended, what it
        has left. Raises StatusError while it is being created.
        """
        status = self.status()
        if status == "creating":
            raise StatusError("cannot list the processes of a container that is still being created")
        first = self._record["pid"]
        others = sorted(pid for pid in {*self._own_cgroup().pids(), *self._moved()} if pid != first)
        return others if status == "stopped" else [first, *others]

    def update(self, resources: "dict[str, Any]", schemas: "Mapping[str, str] | None" = None) -> None:
        """Change limits: `resources` is a valid `linux.resources`, and what it does not name stays. `schemas` are
        properties of `linux.intelRdt`, lines for the schemata of the container's resource group.

        Raises CgroupError or SetupError, and then the limits are what they were; StatusError if the container has
        stopped.
        """
        from pyoci.cgroups.update import update

        self._lock("cannot update a container that is still being created")
        try:
            self._require_process()
            undo = None
            if schemas:
                from pyoci.host import resctrl

                undo = resctrl.change(self._record["rdt"], schemas)
            cgroup = self.cgroup()
            try:
                update(cgroup, resources, str(self._record.get("ociVersion", "")))
            except BaseException:
                if undo is not None:
                    undo()
                raise
            finally:
                cgroup.close()
                # what a cgroup that was there before gets back has become more
                self._record["cgroup"] = cgroup.to_dict()
                self._directory.save(self._record)
        finally:
            self._directory.let_go()

    def statistics(self) -> "dict[str, Any]":
        """What the container uses: an event of type `stats`. Raises StatusError."""
        from pyoci import events

        self._require_process()
        return events.statistics(self._directory.id, self.cgroup())

    def follow(self, interval: float) -> None:
        """Print its events, and every `interval` seconds its statistics, until it has stopped. Raises StatusError."""
        from pyoci import events

        self._require_process()
        events.follow(self._directory.id, self._record, self.cgroup(), interval)

    # --- for exec

    @property
    def record(self) -> "dict[str, Any]":
        """What record.json says. Raises ContainerNotFound or StateError if it can't be used."""
        return self._require_record()

    def cgroup(self) -> "Driver":
        """Where its processes are. Raises StateError."""
        try:
            from pyoci import cgroups  # `state` of a stopped or a created container needs none of it

            return cgroups.from_dict(self._record["cgroup"])
        except (KeyError, TypeError) as error:
            raise StateError(f"cannot use the cgroup in {state.RECORD}: it is not of this version") from error

    def kept_for_exec(self) -> "dict[str, Any]":
        """The container's `process`, and what else of its config every process of it gets. Raises StateError."""
        return self._directory.settings_for_exec()

    def seccomp_program(self) -> bytes:
        """Its compiled filter. Raises StateError."""
        return self._directory.kept(state.SECCOMP)

    # --- parts of them

    def _own_cgroup(self) -> "Driver":
        """Where its processes are, or were: another container can have taken it over since the first one ended."""
        cgroup = self.cgroup()
        cgroup.accept_own_mark(self._lives)
        return cgroup

    def _signal_all(self, signal: int) -> bool:
        """Whether this has reached every process of the container."""
        reached = self._own_cgroup().kill(signal)
        pids = self._moved()
        first = open_process(self._record) if pids else -1
        if first < 0:
            return reached
        for pid in pids:
            self._signal_beside(first, pid, signal)
        posix.close(first)
        return True

    def _signal_beside(self, first: int, pid: int, signal: int) -> None:
        """Signal `pid` if it is the container's first process or in its pid namespace. `first` is its pidfd."""
        from pyoci.cgroups import moved

        pidfd = _open_pid(pid)
        if pidfd < 0:
            return
        its = self._record["pid"]
        together = pid == its or moved.share_pids(pid, its)
        if together and not wait_ended(first, 0) and not wait_ended(pidfd, 0):  # so neither pid has been reused
            send_signal(pidfd, signal)
        posix.close(pidfd)

    def _moved(self) -> "list[int]":
        """If the first process has left the container's cgroup: that one, and the container's others where it is now.

        In the host's pid namespace this lists the first one alone: the others look like any process of the host.
        """
        cgroup = self.cgroup()
        pidfd = open_process(self._record) if cgroup.path else -1
        if pidfd < 0:
            return []
        from pyoci.cgroups import moved

        first: int = self._record["pid"]
        if self._record["sharesPids"]:
            found = [first] if moved.path(cgroup, first) else []
        else:
            found = moved.members(cgroup, first)
        ended = wait_ended(pidfd, 0)
        posix.close(pidfd)
        return [] if ended else found

    def _require_inside(self, cgroup: "Driver") -> None:
        """Raises CgroupError if the first process has left the cgroup."""
        from pyoci.cgroups import moved

        where = moved.path(cgroup, self._record["pid"]) if cgroup.path else ""
        if where:
            raise CgroupError(f"cannot pause the container: its first process has moved to cgroup {where}")

    def _lock(self, refusal: str = "", *, meanwhile: "Callable[[Directory], None] | None" = None) -> None:
        """Lock the container, since only one runtime at a time may change it, and read the record again.

        If a create is at work, or was when this command began, the caller can't know yet what create makes: this raises
        StatusError with the text `refusal`, if there is one. It calls `meanwhile` while it waits for the lock.
        """
        held = self._directory
        unmade = not self._record or self._record["status"] == "creating"
        if refusal and unmade and held.is_ours() and held.is_locked():
            held.close()
            raise StatusError(refusal)
        self._directory = held.again(meanwhile)
        try:
            if self._record:
                self._record = self._directory.load()
            elif refusal:
                self._record = self._record_if_any()
            if unmade and self._record:
                if refusal and self._record["status"] != "creating":
                    raise StatusError(refusal)
                self._adopt()
        except BaseException:
            self._directory.let_go()
            raise

    def _adopt(self) -> None:
        """Take the container over from a killed create, so that other commands don't take this lock for create's."""
        self._record["status"] = "created"
        try:
            self._directory.save(self._record)
        except StateError:
            pass  # a full disk, say: others take this command for the create

    def _delete_half_made(self, *, force: bool) -> None:
        """There is no record. Raises ContainerNotFound if there was nothing at all, as other commands do."""
        empty = self._directory.is_empty()
        if not force and not empty:
            raise StateError(
                f"cannot delete container `{self._directory.id}`: its record can't be read (hint: --force)"
            )
        self._directory.remove()
        if empty and not force:
            raise ContainerNotFound(f"container `{self._directory.id}` does not exist")

    def _record_if_any(self) -> "dict[str, Any]":
        """The record; {} if there is none, or it is broken: nothing but a forced delete makes sense of that. Raises
        StateError if it can't be read just now: what it describes may live.
        """
        try:
            return self._directory.load()
        except StateError as error:
            if state.is_passing(error):
                raise
            return {}

    def _require_record(self) -> "dict[str, Any]":
        if not self._record:
            if self._directory.is_empty():
                raise ContainerNotFound(f"container `{self._directory.id}` does not exist")
            self._record = self._directory.load()
        return self._record

    def _start_program(self, foreground: "Foreground | None") -> None:
        """One byte to exec.fifo; then what comes out of result.fifo until execve, or death, closes it."""
        results, pidfd = self._open_results()
        try:
            ended = False
            if self._record["listener"]:
                ended = not self._send_go_traced(self._record["listener"], pidfd)
            else:
                posix.close(self._send_go())
            data = _read_to_end(results, self._record["pid"], pidfd, foreground)
        except OSError as error:
            raise SetupError(f"cannot start the container: {reason(error.errno or 0)}") from error
        finally:
            posix.close(results)
            posix.close(pidfd)
        succeeded = self._hear(data) and not ended
        # the record of a program that runs may have gone to a start that was killed
        if not succeeded and not self._lives():
            raise SetupError("cannot start the container: its first process was killed before it ran the program")
        try:
            posix.unlink(state.EXEC_FIFO, dir_fd=self._directory.fd)
        except OSError:
            pass  # the program runs; `status` takes a little longer to see it

    def _hear(self, data: bytes) -> bool:
        """Whether the process reports that all but execve has succeeded. Raises the failure that it reports."""
        from pyoci.parent.conversation import EXEC, FAILED, Records, split

        operations = {int(index): operation for index, operation in self._record["startOps"].items()}
        records = Records({index: operation["verb"] for index, operation in operations.items()}, {})
        succeeded = False
        for part in split(data):
            kind, index, step, error, detail, payload = records.take(part)
            if kind == FAILED:
                from pyoci.compiler.operations import Op
                from pyoci.parent.explain import explain

                operation = operations[index]
                op = Op(operation["verb"], operation["where"], operation["s1"], c=operation["timeout"])
                raise explain({"process": {"args": self._record["process"]}}, op, step, error, detail, payload)
            succeeded = succeeded or kind == EXEC
        return succeeded

    def _open_results(self) -> "tuple[int, int]":
        """result.fifo, and the process that will write to it. Raises StateError, StatusError."""
        try:
            results = self._directory.open_fifo(state.RESULT_FIFO, posix.O_RDONLY)
        except OSError as error:
            raise StateError(f"cannot start the container: {state.RESULT_FIFO}: {reason(error.errno or 0)}") from error
        try:
            pidfd = open_process(self._record)
        except BaseException:
            posix.close(results)
            raise
        if pidfd < 0:
            posix.close(results)
            raise StatusError(_CANNOT_START["stopped"])
        return results, pidfd

    def _send_go(self) -> int:
        """Let the process go on; exec.fifo."""
        try:
            go = self._directory.open_fifo(state.EXEC_FIFO, posix.O_WRONLY)
        except OSError as error:
            # a start that was killed has run the program after all, since `status` was asked
            if error.errno == errno.ENXIO and self.status() == "running":
                raise StatusError(_CANNOT_START["running"]) from error
            if state.is_passing(error):  # and nothing has begun
                why = reason(error.errno or 0)
                raise StateError(f"cannot start the container: {state.EXEC_FIFO}: {why}") from error
            raise
        posix.write(go, b"\1")
        return go

    def _send_go_traced(self, listener: "dict[str, Any]", pidfd: int) -> bool:
        """Start a process whose filter has a listener: the agent gets it before the process goes on.

        False if the process ended before that.
        """
        from pyoci.host.seccomp_agent import Tracee, count_filters, process_state

        if wait_ended(pidfd, 0):
            return False
        before = listener.get("filters")
        if before is None:  # an earlier version created it: it has what its creator had, such as we have
            before = count_filters(posix.getpid())

        pid = self._record["pid"]
        tracee = Tracee(pid, pidfd)
        go = -1
        try:
            if tracee.has_filter(before):  # a start that was killed has given it to the agent
                return True
            tracee.hold()
            try:
                if not self._waits():
                    tracee.release()
                go = self._send_go()
            except StateError:  # nothing has begun
                tracee.release()
                raise
            message = process_state(state_document(self._record, "created"), pid, listener["metadata"])
            return tracee.hand_over(listener["path"], message, lambda word: posix.write(go, word))
        except BaseException:
            tracee.kill()
            raise
        finally:
            if go >= 0:
                posix.close(go)

    def _require_process(self) -> None:
        status = self.status()
        if status == "creating":
            raise StatusError("cannot use a container that is still being created")
        if status == "stopped":
            raise StatusError(_NOT_RUNNING["stopped"])

    def _lives(self) -> bool:
        """Whether the process has not even begun to end."""
        pidfd = open_process(self._record)
        if pidfd < 0:
            return False
        posix.close(pidfd)
        return not is_exiting(self._record["pid"])

    def _waits(self) -> bool:
        try:
            return self._directory.awaits_start()
        except BrokenPipeError:
            return False

    def _run_poststart(self) -> None:
        entries = self._record["hooks"].get("poststart", [])
        if not entries:
            return
        from pyoci.host import hooks

        state_fd = hooks.state_file(state_json(self._record, "running"))
        bundle_fd = open_bundle(self._record["bundle"])
        try:
            for index, entry in enumerate(entries):
                hooks.run_entry(entry, f"/hooks/poststart/{index}", state_fd, bundle_fd)
        finally:
            posix.close(state_fd)
            posix.close(bundle_fd)

    def _destroy(self) -> None:
        """Kill what lives, remove what create made, then the poststop hooks. Raises if one of them stays."""
        cgroup = self._own_cgroup()
        pidfd = open_process(self._record)
        if pidfd >= 0:
            send_signal(pidfd, SIGKILL)
            ended = wait_ended(pidfd, PATIENCE)
            posix.close(pidfd)
            if not ended:
                raise StatusError(f"cannot delete container {self._directory.id}: its process does not end")
        # until the record knows of the first process nobody in the cgroup is known as ours; that one ends by itself
        cgroup.destroy(kill=self._record["pid"] > 0, timeout=PATIENCE)
        self.warnings.extend(cgroup.warnings)
        if self._record["rdt"]:
            from pyoci.host import resctrl

            resctrl.remove(self._record["rdt"])
        self._directory.remove()
        self.warnings.extend(run_poststop(self._record))


def list_all(root: str, *, must_exist: bool = False) -> "tuple[list[dict[str, Any]], list[str]]":
    """The state of every container under `root`, in the order of their ids, and what is wrong with those that can't be
    read just now. It leaves out directories of other runtimes.

    Raises StateError if `root` can't be used. A missing one is an error only with `must_exist`: the first create makes
    the default one.
    """
    try:
        fd = open_root(root, make=False)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not must_exist:
            return [], []
        raise StateError(f"cannot use state directory {root}: {reason(error.errno or 0)}") from error
    names = sorted(name for name in posix.listdir(fd) if not name.startswith("."))
    posix.close(fd)
    found, failures = [], []
    for name in names:
        try:
            container = Container.load(name, root=root)
            try:
                found.append({**container.state(), "owner": _owner(container)})
            finally:
                container.close()
        except ContainerNotFound:
            pass
        except PyociError as error:
            if state.is_passing(error):  # it may be there, and live
                failures.append(f"{name}: {error}")
    return found, failures


def _open_pid(pid: int) -> int:
    """A pidfd; -1 if there is no such process."""
    try:
        return posix.pidfd_open(pid)
    except OSError:
        return -1


def _kill(directory: Directory) -> None:
    """End the container's first process, if it has one yet, so that the create that holds the lock ends as well."""
    try:
        pidfd = open_process(directory.load())
    except PyociError:
        return
    if pidfd >= 0:
        send_signal(pidfd, SIGKILL)
        posix.close(pidfd)


def _owner(container: Container) -> str:
    """The user who made the container: the owner of its directory."""
    uid = posix.fstat(container._directory.fd).st_uid
    return "root" if uid == 0 else f"#{uid}"


_NOT_RUNNING = {"stopped": "container not running", "paused": "container already paused"}

_CANNOT_START = {
    "running": "cannot start an already running container",
    "paused": "cannot start an already running container",
    "stopped": "cannot start a container that has stopped",
    "creating": "cannot start a container that is still being created",
}


def state_document(record: "dict[str, Any]", status: str) -> "dict[str, Any]":
    """The state document of the specification."""
    document = {
        "ociVersion": SPEC_VERSION,
        "id": record["id"],
        "pid": 0 if status == "stopped" else max(record["pid"], 0),  # -1 before there is one
        "status": status,
        "bundle": record["bundle"],
    }
    if record["annotations"]:
        document["annotations"] = record["annotations"]
    return document


def state_json(record: "dict[str, Any]", status: str) -> bytes:
    return dumps(state_document(record, status)).encode("utf-8", "surrogateescape")


def run_poststop(record: "dict[str, Any]") -> "list[str]":
    """After everything is gone; a hook that fails is returned as a warning, the others still run."""
    entries = record["hooks"].get("poststop", [])
    if not entries:
        return []
    try:
        bundle_fd = open_bundle(record["bundle"])
    except OSError:
        bundle_fd = posix.open("/", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    from pyoci.host import hooks

    failures = hooks.run_recorded(entries, "poststop", state_json(record, "stopped"), bundle_fd)
    posix.close(bundle_fd)
    return [str(failure) for failure in failures]


def _read_to_end(fd: int, pid: int, pidfd: int, foreground: "Foreground | None") -> bytes:
    """Read a non-blocking FIFO until its last writer has closed it, or the process has ended or runs its program: a
    tracer can take the FIFO from the process, and keep it open.
    """
    from pyoci.parent.conversation import LONGEST_PAYLOAD, RECORD, Watch, nonsense

    watch = Watch()
    data = b""
    while ready := watch.wait(fd, pid, pidfd, until_exec=True, foreground=foreground):
        try:
            part = posix.read(fd, 65536)
        except BlockingIOError:
            if pidfd in ready:
                break
            continue
        if not part:
            break
        data += part
        if len(data) > 2 * (RECORD.size + LONGEST_PAYLOAD):
            raise nonsense("it has no end")
    return data


def open_bundle(bundle: str) -> int:
    return posix.open(bundle, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)


def now() -> str:
    """The time as RFC 3339 with nanoseconds, in UTC."""
    nanoseconds = time.time_ns()
    year, month, day, hour, minute, second = time.gmtime(nanoseconds // 1_000_000_000)[:6]
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds % 1_000_000_000:09}Z"


__all__ = ["Container", "ContainerNotFound", "list_all"]
