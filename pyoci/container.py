"""A container's life: create, start, kill, delete, run. The story, top to bottom.

Implements runtime.md "Lifecycle" and "Operations". `create` ends with the container's first process waiting on a FIFO, set up to the
last detail; `start` writes one byte to it and reads the outcome from another, which the program's execve closes.
"""

import errno
import posix
import select
import time

from pyoci import console, files, hooks
from pyoci import config as configuration
from pyoci.bundle import read_config
from pyoci.cgroups import fs
from pyoci.config.jsonio import dumps
from pyoci.errors import ContainerNotFound, HookError, PyociError, SetupError, StateError, StatusError, reason
from pyoci.explain import explain
from pyoci.host import probe
from pyoci.launch import RECORD, Launch
from pyoci.names import check_id
from pyoci.plan.compiler import Options, compile_container, rootfs_path
from pyoci.plan.operations import (
    BUNDLE,
    CREATED,
    EXEC_FIFO,
    HOOK_STATE,
    HOOKS,
    READY,
    RESULT_FIFO,
    START_STATE,
    Op,
)
from pyoci.plan.paths import clean
from pyoci.state import Directory, boot_id, open_process, open_root, send_signal, start_time, wait_ended
from pyoci import state as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.log import Log
    from pyoci.plan.operations import Plan

SPEC_VERSION = "1.3.0"
PATIENCE = 10  # seconds for a killed process to be gone
SIGTERM, SIGKILL = 15, 9
_FAILED, _EXEC = 2, 3
_FIRST_FD = 3


class Container:
    """One container, found by its id under a root directory."""

    def __init__(self, directory: Directory, record: "dict[str, Any]") -> None:
        self._directory = directory
        self._record = record

    # --- create

    @classmethod
    def create(
        cls,
        id: str,
        *,
        root: str,
        bundle: str,
        log: "Log",
        config_file: "str | None" = None,
        console_socket: "str | None" = None,
        pidfd_socket: "str | None" = None,
        pid_file: "str | None" = None,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        preserve_fds: int = 0,
        cgroup_manager: str = "cgroupfs",
    ) -> "Container":
        """Everything of the config except running the program. Raises PyociError, and then has left nothing behind."""
        creation = _Creation(id, root, bundle, config_file, log, preserve_fds)
        creation.compile(no_pivot=no_pivot, new_keyring=not no_new_keyring, cgroup_manager=cgroup_manager)
        console.check_terminal(terminal=creation.terminal, socket=console_socket, detached=True)
        container, launch = creation.launch(console_socket, pidfd_socket, pid_file)
        if launch.console >= 0:
            posix.close(launch.console)
        return container

    @classmethod
    def run(
        cls,
        id: str,
        *,
        root: str,
        bundle: str,
        log: "Log",
        config_file: "str | None" = None,
        console_socket: "str | None" = None,
        pidfd_socket: "str | None" = None,
        pid_file: "str | None" = None,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        preserve_fds: int = 0,
        cgroup_manager: str = "cgroupfs",
        detach: bool = False,
        keep: bool = False,
        no_subreaper: bool = False,
    ) -> int:
        """create and start; in the foreground also wait and delete. Returns the program's exit status, 0 with `detach`."""
        creation = _Creation(id, root, bundle, config_file, log, preserve_fds)
        creation.compile(no_pivot=no_pivot, new_keyring=not no_new_keyring, cgroup_manager=cgroup_manager)
        console.check_terminal(terminal=creation.terminal, socket=console_socket, detached=detach)
        foreground = None if detach else console.Foreground()
        container, launch = creation.launch(console_socket, pidfd_socket, pid_file)
        try:
            container.start()
        except BaseException:
            posix.waitpid(launch.pid, 0)
            raise
        if foreground is None:
            return 0
        status = foreground.wait(launch)
        if not keep:
            Container.load(id, root=root).delete(force=True)
        return status

    # --- the other operations

    @classmethod
    def load(cls, id: str, *, root: str) -> "Container":
        """The container `id`. Raises ContainerNotFound, StateError."""
        check_id(id)
        directory = Directory.open(root, id)
        try:
            return cls(directory, directory.load())
        except StateError:
            # claimed, but never recorded: nothing but a forced delete makes sense of it
            return cls(directory, {})

    def status(self) -> str:
        """`creating`, `created`, `running`, `paused` or `stopped`, found out from the process, its FIFO and its cgroup."""
        pidfd = open_process(self._require_record())
        if pidfd < 0:
            return "stopped"
        posix.close(pidfd)
        if self._directory.awaits_start():
            return "creating" if self._record["status"] == "creating" and self._directory.is_locked() else "created"
        return "paused" if self._cgroup().frozen() else "running"

    def state(self) -> "dict[str, Any]":
        """The state document (runtime.md "State"), with runc's additions: rootfs, created, owner."""
        status = self.status()
        return {**_state(self._record, status), **{key: self._record[key] for key in ("rootfs", "created", "owner")}}

    def start(self) -> None:
        """Run the program of a created container.

        Raises StatusError; SetupError or HookError if a startContainer hook, the program's execve or a poststart hook fails: the
        container is then destroyed, its poststop hooks have run.
        """
        self._lock()
        try:
            status = self.status()
            if status != "created":
                raise StatusError(_CANNOT_START[status])
            if not self._record["process"]:
                raise StatusError("cannot start the container: config.json has no process", where="/process")
            try:
                self._start_program()
                self._run_poststart()
            except (SetupError, HookError):
                self._destroy()
                raise
        finally:
            self._directory.close()

    def kill(self, signal: int = SIGTERM, *, all: bool = False) -> None:
        """Signal the container's process, or with `all` every process of its cgroup. Raises StatusError if it has ended."""
        record = self._require_record()
        if all:
            self._cgroup().kill(signal)
            return
        pidfd = open_process(record)
        if pidfd < 0 or not send_signal(pidfd, signal):
            raise StatusError("container not running")
        posix.close(pidfd)
        if signal == SIGKILL:
            cgroup = self._cgroup()
            if cgroup.frozen():
                cgroup.thaw()
            if record["sharesPids"]:
                cgroup.kill(signal)  # no pid namespace ends with its init

    def delete(self, *, force: bool = False) -> None:
        """Remove a stopped container, or a created one after killing it; with `force` whatever it is.

        Raises StatusError for one that runs. poststop hooks that fail are only warned about.
        """
        self._lock()
        try:
            if not self._record:
                if not force:
                    raise StateError(f"cannot delete container `{self._directory.id}`: it was left half made (hint: delete --force)")
                self._directory.remove()
                return
            status = self.status()
            if status not in ("stopped", "created") and not force:
                raise StatusError(f"cannot delete container {self._directory.id} that is not stopped: {status}")
            self._destroy()
        finally:
            self._directory.close()

    # --- parts of them

    def _lock(self) -> None:
        """Only one runtime at a time changes a container; what was read before is read again."""
        id, root = self._directory.id, self._directory.root
        self._directory.close()
        self._directory = Directory.open(root, id, lock=True)
        if self._record:
            self._record = self._directory.load()

    def _require_record(self) -> "dict[str, Any]":
        if not self._record:
            self._record = self._directory.load()
        return self._record

    def _cgroup(self) -> "fs.Cgroup | fs.NoCgroup":
        return fs.from_dict(self._record["cgroup"])

    def _start_program(self) -> None:
        """One byte to exec.fifo; then what comes out of result.fifo until execve, or death, closes it."""
        results = self._directory.open_fifo(states.RESULT_FIFO, posix.O_RDONLY)
        try:
            go = self._directory.open_fifo(states.EXEC_FIFO, posix.O_WRONLY)
            posix.write(go, b"\1")
            posix.close(go)
            data = _read_to_end(results)
        except OSError as error:
            raise SetupError(f"cannot start the container: {reason(error.errno or 0)}") from error
        finally:
            posix.close(results)
        succeeded = False
        while len(data) >= RECORD.size:
            kind, index, step, error_number, length, detail = RECORD.unpack_from(data)
            if kind == _FAILED:
                operation = self._record["startOps"][str(index)]
                op = Op(operation["verb"], operation["where"], operation["s1"], c=operation["timeout"])
                payload = data[RECORD.size : RECORD.size + length]
                raise explain({"process": {"args": self._record["process"]}}, op, step, error_number, detail, payload)
            succeeded = succeeded or kind == _EXEC
            data = data[RECORD.size + length :]
        if not succeeded:
            raise SetupError("cannot start the container: its first process was killed before it ran the program")
        posix.unlink(states.EXEC_FIFO, dir_fd=self._directory.fd)

    def _run_poststart(self) -> None:
        entries = self._record["hooks"].get("poststart", [])
        if not entries:
            return
        state_fd = hooks.state_file(_state_json(self._record, "running"))
        bundle_fd = _open_bundle(self._record["bundle"])
        try:
            for index, entry in enumerate(entries):
                hooks.run_entry(entry, f"/hooks/poststart/{index}", state_fd, bundle_fd)
        finally:
            posix.close(state_fd)
            posix.close(bundle_fd)

    def _destroy(self) -> None:
        """Kill what lives, remove what create made, then the poststop hooks. Raises if a process or the cgroup stays."""
        pidfd = open_process(self._record)
        cgroup = self._cgroup()
        if pidfd >= 0:
            if cgroup.frozen():
                cgroup.thaw()
            send_signal(pidfd, SIGKILL)
            if not wait_ended(pidfd, PATIENCE):
                raise StatusError(f"cannot delete container {self._directory.id}: its process does not end")
            posix.close(pidfd)
        cgroup.destroy(kill=True)
        self._directory.remove()
        _run_poststop(self._record, None)


class _Creation:
    """What create needs until the container stands."""

    def __init__(self, id: str, root: str, bundle: str, config_file: "str | None", log: "Log", preserve_fds: int) -> None:
        check_id(id)
        self.id = id
        self.root = root
        self.log = log
        self.bundle = clean(bundle if bundle.startswith("/") else f"{posix.getcwd()}/{bundle}")
        self.listen_fds = _listen_fds()
        self.preserve_fds = self.listen_fds + preserve_fds
        directory, name = (self.bundle, "config.json") if config_file is None else _split(config_file)
        self.config, warnings = configuration.load(read_config(directory, name))
        for warning in warnings:
            log.warning(warning)
        self.plan: Plan

    @property
    def terminal(self) -> bool:
        """Whether the program gets a terminal."""
        return bool(self.config.get("process", {}).get("terminal"))

    def compile(self, *, no_pivot: bool, new_keyring: bool, cgroup_manager: str) -> None:
        """The plan, and whatever it warns about."""
        if cgroup_manager == "systemd":
            raise PyociError("cannot use cgroup manager systemd: not supported by this version of pyoci")
        if self.listen_fds:
            env = self.config.setdefault("process", {}).setdefault("env", [])
            env.extend((f"LISTEN_FDS={self.listen_fds}", "LISTEN_PID=1"))
        self.options = Options(
            self.bundle, self.id, preserve_fds=self.preserve_fds, no_pivot=no_pivot, new_keyring=new_keyring, cgroup_manager=cgroup_manager
        )
        host = probe()
        self.plan = compile_container(self.config, host, self.options)
        for warning in self.plan.warnings:
            self.log.warning(warning)

    def launch(
        self, console_socket: "str | None", pidfd_socket: "str | None", pid_file: "str | None"
    ) -> "tuple[Container, Launch]":
        """Claim the id, make the container, commit. On any failure everything is taken back."""
        _occupy(_FIRST_FD, self.preserve_fds)
        directory = Directory.claim(self.root, self.id)
        launch = Launch(self.plan, self.config, self.id)
        record = self._record()
        try:
            self._open_descriptors(directory, launch)
            launch.prepare()
            record["cgroup"] = launch.cgroup.to_dict()
            launch.clone()
            self._remember(directory, launch, record)
            launch.meanwhile()

            def at(point: int) -> None:
                if launch.pid != record["pid"]:
                    self._remember(directory, launch, record)
                if point == HOOKS:
                    hooks.fill(launch.slots[HOOK_STATE], _state_json(record, "creating"))
                if point == READY:
                    self._send(launch, console_socket, pidfd_socket)
                if point == CREATED:
                    self._commit(directory, record, pid_file)

            launch.converse(at)
        except BaseException as error:
            launch.abort()
            launch.cgroup.destroy(kill=True)
            directory.remove()
            directory.close()
            if isinstance(error, HookError):
                _run_poststop(record, self.log)
            raise
        launch.close()
        directory.close()
        return Container(Directory.open(self.root, self.id), record), launch

    def _record(self) -> "dict[str, Any]":
        """What later commands need; they never read the bundle again."""
        config = self.config
        kept = {kind: config["hooks"][kind] for kind in ("poststart", "poststop") if config.get("hooks", {}).get(kind)}
        namespaces = {entry["type"]: entry.get("path", "") for entry in config.get("linux", {}).get("namespaces", ())}
        return {
            "id": self.id,
            "status": "creating",
            "pid": -1,
            "startTime": 0,
            "bootId": boot_id(),
            "bundle": self.bundle,
            "rootfs": rootfs_path(config, self.options),
            "created": _now(),
            "owner": "",
            "annotations": config.get("annotations", {}),
            "hooks": kept,
            "process": config.get("process", {}).get("args", []),
            "sharesPids": "pid" not in namespaces or bool(namespaces["pid"]),
            "cgroup": fs.NoCgroup().to_dict(),
            "startOps": {
                str(index): {"verb": op.verb, "where": op.where, "s1": op.s1 if isinstance(op.s1, str) else "", "timeout": op.c}
                for index, op in _after_wait(self.plan)
            },
        }

    def _open_descriptors(self, directory: Directory, launch: Launch) -> None:
        launch.slots[EXEC_FIFO], launch.slots[RESULT_FIFO] = directory.make_fifos()
        slots = {op.d for op in self.plan.init if op.verb == "run_hook"}
        if HOOKS in self.plan.at:
            launch.slots[HOOK_STATE] = hooks.state_file()
            launch.slots[BUNDLE] = _open_bundle(self.bundle)
        if START_STATE in slots:
            launch.slots[START_STATE] = hooks.state_file()

    def _remember(self, directory: Directory, launch: Launch, record: "dict[str, Any]") -> None:
        """From here on a killed create can be cleaned up by `delete --force`."""
        record["pid"] = launch.pid
        record["startTime"] = start_time(launch.pid)
        directory.save(record)

    def _send(self, launch: Launch, console_socket: "str | None", pidfd_socket: "str | None") -> None:
        if START_STATE in {op.d for op in self.plan.init if op.verb == "run_hook"}:
            inner = {"pid": _inner_pid(launch.pid)}
            document = {**_state(self._record(), "created"), **inner}
            hooks.fill(launch.slots[START_STATE], dumps(document).encode())
        if console_socket:
            console.send(console_socket, launch.console, b"/dev/pts/0", "console socket")
        if pidfd_socket:
            console.send(pidfd_socket, launch.pidfd, b"pidfd", "pidfd socket")

    def _commit(self, directory: Directory, record: "dict[str, Any]", pid_file: "str | None") -> None:
        record["status"] = "created"
        directory.save(record)
        if pid_file:
            try:
                files.replace(pid_file, str(record["pid"]).encode("ascii"), 0o644)
            except OSError as error:
                raise SetupError(f"cannot write pid file {pid_file}: {reason(error.errno or 0)}") from error


def list_all(root: str) -> "list[dict[str, Any]]":
    """The state of every container under `root`, in the order of their ids. What is not ours is left out."""
    try:
        fd = open_root(root, make=False)
    except OSError:
        return []
    names = sorted(name for name in posix.listdir(fd) if not name.startswith("."))
    posix.close(fd)
    found = []
    for name in names:
        try:
            container = Container.load(name, root=root)
            found.append({**container.state(), "owner": _owner(container)})
        except PyociError:
            continue
    return found


def _owner(container: Container) -> str:
    """The user who made the container: the owner of its directory."""
    uid = posix.fstat(container._directory.fd).st_uid
    return "root" if uid == 0 else f"#{uid}"


_CANNOT_START = {
    "running": "cannot start an already running container",
    "paused": "cannot start an already running container",
    "stopped": "cannot start a container that has stopped",
    "creating": "cannot start a container that is still being created",
}


def _state(record: "dict[str, Any]", status: str) -> "dict[str, Any]":
    """The state document of the specification."""
    document = {
        "ociVersion": SPEC_VERSION,
        "id": record["id"],
        "pid": 0 if status == "stopped" else record["pid"],
        "status": status,
        "bundle": record["bundle"],
    }
    if record["annotations"]:
        document["annotations"] = record["annotations"]
    return document


def _state_json(record: "dict[str, Any]", status: str) -> bytes:
    return dumps(_state(record, status)).encode("utf-8", "surrogateescape")


def _run_poststop(record: "dict[str, Any]", log: "Log | None") -> None:
    """After everything is gone; a hook that fails is warned about, the others still run."""
    entries = record["hooks"].get("poststop", [])
    if not entries:
        return
    try:
        bundle_fd = _open_bundle(record["bundle"])
    except OSError:
        bundle_fd = posix.open("/", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    for failure in hooks.run_recorded(entries, "poststop", _state_json(record, "stopped"), bundle_fd):
        if log is not None:
            log.warning(str(failure))
    posix.close(bundle_fd)


def _after_wait(plan: "Plan") -> "list[tuple[int, Op]]":
    """The operations, with their numbers, that `start` will have to explain if they fail."""
    ops = list(enumerate(plan.child()))
    for index, op in ops:
        if op.verb == "wait_start":
            return ops[index:]
    return []


def _read_to_end(fd: int) -> bytes:
    """All of a non-blocking FIFO until its last writer has closed it."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    parts = []
    while True:
        poll.poll()
        try:
            part = posix.read(fd, 65536)
        except BlockingIOError:
            continue
        if not part:
            return b"".join(parts)
        parts.append(part)


def _inner_pid(pid: int) -> int:
    """The pid as the process itself sees it."""
    for line in files.read(f"/proc/{pid}/status").split(b"\n"):
        if line.startswith(b"NSpid:"):
            return int(line.split()[-1])
    return pid


def _listen_fds() -> int:
    """How many sockets were passed to this very process (sd_listen_fds(3)); 0 if they are meant for another one."""
    environment = posix.environ
    if environment.get(b"LISTEN_PID") != str(posix.getpid()).encode():
        return 0
    count = environment.get(b"LISTEN_FDS", b"0")
    return int(count) if count.isdigit() and len(count) < 5 else 0


def _occupy(first: int, count: int) -> None:
    """Fill the holes among descriptors to be preserved, so that none of ours gets a number that the container keeps."""
    for fd in range(first, first + count):
        try:
            posix.fstat(fd)
        except OSError:
            null = posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
            if null != fd:
                posix.dup2(null, fd, False)
                posix.close(null)


def _open_bundle(bundle: str) -> int:
    return posix.open(bundle, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)


def _split(path: str) -> "tuple[str, str]":
    directory, _, name = path.rpartition("/")
    return directory or "/", name


def _now() -> str:
    """The time as RFC 3339 with nanoseconds, in UTC."""
    nanoseconds = time.time_ns()
    year, month, day, hour, minute, second = time.gmtime(nanoseconds // 1_000_000_000)[:6]
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds % 1_000_000_000:09}Z"


__all__ = ["Container", "ContainerNotFound", "errno", "list_all"]
