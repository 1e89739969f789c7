"""create and run: from a bundle to a container that waits for its start.

Implements runtime.md "Create". The parent's side of a launch: read and compile the config, claim the id, make the
container, commit. On any failure everything is taken back.
"""

import posix

from pyoci import config as configuration
from pyoci import state
from pyoci.cgroups import hierarchy
from pyoci.cgroups.disabled import NoCgroup
from pyoci.compiler.create import Options, compile_container, rootfs_path
from pyoci.compiler.mounts import NOTIFY
from pyoci.compiler.operations import (
    BUNDLE,
    CGROUP,
    CREATE_STATE,
    CREATED,
    EXEC_FIFO,
    FILTER,
    HOOK_STATE,
    HOOKS,
    LISTENER,
    NOTIFY_FOLDER,
    READY,
    RESULT_FIFO,
    START_STATE,
    Op,
)
from pyoci.compiler.paths import clean
from pyoci.config.ids import check_id
from pyoci.config.jsonio import dumps
from pyoci.container import PATIENCE, Container, now, open_bundle, run_poststop, state_json
from pyoci.errors import ContainerNotFound, PyociError, SetupError, reason
from pyoci.host import files, hooks, terminal
from pyoci.host.bundle import read_config
from pyoci.host.facts import probe
from pyoci.parent.protocol import Launch, tracer
from pyoci.state import Directory, boot_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.cli.log import Log
    from pyoci.compiler.operations import Plan

_FIRST_FD = 3


def create(
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
) -> Container:
    """Everything of the config except running the program. Raises PyociError, and then has left nothing behind."""
    creation = _Creation(id, root, bundle, config_file, log, preserve_fds)
    creation.compile(no_pivot=no_pivot, new_keyring=not no_new_keyring, cgroup_manager=cgroup_manager)
    terminal.check_terminal(terminal=creation.terminal, socket=console_socket, detached=True)
    container, launch = creation.launch(console_socket, pidfd_socket, pid_file)
    launch.release()
    return container


def run(
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
    terminal.check_terminal(terminal=creation.terminal, socket=console_socket, detached=detach)
    container, launch = creation.launch(console_socket, pidfd_socket, pid_file)
    if console_socket:
        launch.hand_over_console()
    foreground = None
    try:
        if not detach:
            # not before: while the container is made a signal ends this process, and with it a hook that never does
            foreground = terminal.Foreground(subreaper=not no_subreaper)
            foreground.prepare(launch)
        container.start(foreground=foreground)
    except BaseException:
        _give_up(container, launch)
        _warn(container, log)
        raise
    _warn(container, log)
    if foreground is None:
        return 0
    status = foreground.wait(launch, container.notify)
    if not keep:
        container.delete(force=True)
    _warn(container, log)
    return status


def _give_up(container: Container, launch: Launch) -> None:
    """A container that can't be started is not left behind by `run`."""
    try:
        container.delete(force=True)
    except ContainerNotFound:
        pass  # start has destroyed it already
    state.reap(launch.pid, PATIENCE)


def _warn(container: Container, log: "Log") -> None:
    for warning in container.warnings:
        log.warning(warning)
    container.warnings.clear()  # the relay of notify goes on to add to it


class _Creation:
    """What create needs until the container stands."""

    def __init__(
        self, id: str, root: str, bundle: str, config_file: "str | None", log: "Log", preserve_fds: int
    ) -> None:
        check_id(id)
        self.id = id
        self.root = root
        self.log = log
        self.bundle = clean(bundle if bundle.startswith("/") else f"{posix.getcwd()}/{bundle}")
        try:
            self.bundle.encode()
        except UnicodeEncodeError as error:  # JSON, which the state is kept and told in, could not hold it
            raise PyociError(f"cannot use bundle {bundle}: its path is not UTF-8") from error
        self.listen_fds = listen_fds()
        self.preserve_fds = self.listen_fds + preserve_fds
        directory, name = (self.bundle, "config.json") if config_file is None else _split(config_file)
        self.config, warnings = configuration.load(read_config(directory, name), name)
        for warning in warnings:
            log.warning(warning)
        self.plan: Plan
        self.hooks_began = False

    @property
    def terminal(self) -> bool:
        """Whether the program gets a terminal."""
        return bool(self.config.get("process", {}).get("terminal"))

    @property
    def notifies(self) -> bool:
        """Whether the container gets a socket for sd_notify."""
        return any(op.where == NOTIFY for op in self.plan.child())

    def compile(self, *, no_pivot: bool, new_keyring: bool, cgroup_manager: str) -> None:
        """The plan, and whatever it warns about."""
        if self.listen_fds and "process" in self.config:
            env = self.config["process"].setdefault("env", [])
            env.extend((f"LISTEN_FDS={self.listen_fds}", "LISTEN_PID=1"))
        self.host = probe()
        cgroups_path = self.config.get("linux", {}).get("cgroupsPath", "")
        without = ""
        if cgroup_manager == "cgroupfs" and self.host.rootless:
            without = hierarchy.refusal(cgroups_path, self.id, self.host.cgroup_mount)
        self.options = Options(
            self.bundle,
            self.id,
            preserve_fds=self.preserve_fds,
            no_pivot=no_pivot,
            new_keyring=new_keyring,
            cgroup_manager="disabled" if without else cgroup_manager,
            no_cgroup=without,
            notify=state.notify_socket(self.root, self.id) if state.service_manager() else "",
        )
        self.plan = compile_container(self.config, self.host, self.options)
        for warning in self.plan.warnings:
            self.log.warning(warning)

    def launch(
        self, console_socket: "str | None", pidfd_socket: "str | None", pid_file: "str | None"
    ) -> "tuple[Container, Launch]":
        """Claim the id, make the container, commit. On any failure everything is taken back."""
        occupy(_FIRST_FD, self.preserve_fds)
        record = self._record()
        launch = Launch(
            self.plan,
            self.config,
            self.id,
            self.host.cgroup_mount,
            rootless=self.host.rootless,
            trace=tracer(self.log),
        )
        directory = Directory.claim(self.root, self.id)
        try:
            self._open_descriptors(directory, launch)
            record["cgroup"] = launch.plan_cgroup()
            record["rdt"] = launch.plan_rdt()
            directory.save(record)  # before anything that takes time: until then nobody can say what this is
            launch.prepare()
            record |= launch.to_dict()
            launch.clone()
            self._remember(directory, launch, record)
            launch.meanwhile()
            self._keep_for_exec(directory)  # while the child works
            record |= launch.to_dict()  # with the device filter's number, and what is kept of the cgroup from now on

            def at(point: int) -> None:
                if launch.pid != record["pid"]:
                    self._remember(directory, launch, record)
                if point == HOOKS:
                    self.hooks_began = True
                    hooks.fill(launch.slots[HOOK_STATE], state_json(record, "creating"))
                    _tell_inside(launch, CREATE_STATE, record, "creating")
                if point == READY:
                    _tell_inside(launch, START_STATE, record, "created")
                    send_to_engine(launch, console_socket, pidfd_socket)
                if point == CREATED:
                    if record["listener"]:
                        from pyoci.host.seccomp_agent import count_filters

                        record["listener"]["filters"] = count_filters(launch.pid)
                    record.update(launch.to_dict(settled=True))
                    self._commit(directory, record, pid_file)

            def after(point: int) -> None:
                if point == CGROUP:  # of whoever is killed from here on, more than the first process may be left
                    record.update(launch.to_dict())
                    directory.save(record)

            launch.converse(at, after)
            directory.unlock()
        except BaseException as error:
            _mention(error, self._take_back(launch, directory))
            if self.hooks_began:  # what they set up on the host, such as a network, is for poststop hooks to take down
                for warning in run_poststop(record):
                    self.log.warning(warning)
            raise
        launch.close()
        return Container(directory, record), launch

    @staticmethod
    def _take_back(launch: Launch, directory: Directory) -> "list[str]":
        """Leave nothing of a container that could not be made. What stays is returned; `delete --force` knows of it."""
        left = launch.abort()
        told = len(launch.cgroup.warnings)
        try:
            launch.cgroup.destroy(kill=True)
            directory.remove()
        except (PyociError, OSError) as error:
            left.append(str(error))
        finally:
            directory.close()
        return left + launch.cgroup.warnings[told:]

    def _record(self) -> "dict[str, Any]":
        """What later commands need; they never read the bundle again."""
        config = self.config
        kept = {kind: config["hooks"][kind] for kind in ("poststart", "poststop") if config.get("hooks", {}).get(kind)}
        namespaces = {entry["type"]: entry.get("path", "") for entry in config.get("linux", {}).get("namespaces", ())}
        return {
            "id": self.id,
            "ociVersion": config["ociVersion"],
            "status": "creating",
            "pid": -1,
            "startTime": 0,
            "bootId": boot_id(),
            "bundle": self.bundle,
            "rootfs": rootfs_path(config, self.options),
            "created": now(),
            "owner": "",
            "annotations": config.get("annotations", {}),
            "hooks": kept,
            "process": config.get("process", {}).get("args", []),
            "notify": self.notifies,
            "sharesPids": "pid" not in namespaces or bool(namespaces["pid"]),
            "cgroup": NoCgroup().to_dict(),
            "rdt": {},
            "listener": _listener(self.plan),
            "startOps": {
                str(index): {
                    "verb": op.verb,
                    "where": op.where,
                    "s1": op.s1,
                    "timeout": op.c,
                }
                for index, op in _after_wait(self.plan)
            },
        }

    def _keep_for_exec(self, directory: Directory) -> None:
        """Nothing of the bundle is read again."""
        linux = self.config.get("linux", {})
        kept: dict[str, Any] = {
            "process": self.config.get("process", {}),
            "linux": {key: linux[key] for key in ("personality", "memoryPolicy") if key in linux},
            "keyring": self.options.new_keyring,
        }
        filter_ = self.plan.filter
        if filter_ is not None and any(op.verb == "load_seccomp" for op in self.plan.child()):
            kept["seccomp"] = {"flags": filter_.flags}
            directory.keep(state.SECCOMP, filter_.program)
        directory.keep(state.FOR_EXEC, dumps(kept).encode("utf-8", "surrogateescape"))

    def _open_descriptors(self, directory: Directory, launch: Launch) -> None:
        launch.slots[EXEC_FIFO], launch.slots[RESULT_FIFO] = directory.make_fifos()
        if self.notifies:
            launch.slots[NOTIFY_FOLDER] = directory.make_notify_folder()
        if any(op.verb == "write_filter" for op in self.plan.meanwhile):
            launch.slots[FILTER] = posix.memfd_create("filter", posix.MFD_CLOEXEC)
        if HOOKS in self.plan.at:
            launch.slots[HOOK_STATE] = hooks.state_file()
            launch.slots[BUNDLE] = open_bundle(self.bundle)
        for slot in {op.d for op in self.plan.child() if op.verb == "run_hook"}:
            launch.slots[slot] = hooks.state_file()

    def _remember(self, directory: Directory, launch: Launch, record: "dict[str, Any]") -> None:
        """From here on a killed create can be cleaned up by `delete --force`."""
        record["pid"] = launch.pid
        record["startTime"] = launch.start_time
        if not record["startTime"]:
            raise SetupError(f"cannot read /proc/{launch.pid}/stat: is a procfs mounted on /proc?")
        directory.save(record)

    def _commit(self, directory: Directory, record: "dict[str, Any]", pid_file: "str | None") -> None:
        record["status"] = "created"
        directory.save(record)
        if pid_file:
            write_pid_file(pid_file, record["pid"])


def _mention(error: BaseException, left: "list[str]") -> None:
    """What could not be taken back is told with the reason why it had to be."""
    if isinstance(error, PyociError):
        error.message = "; ".join((error.message, *left))


def send_to_engine(launch: Launch, console_socket: "str | None", pidfd_socket: "str | None") -> None:
    """What the engine takes over: the terminal's master, a pidfd."""
    if not console_socket and not pidfd_socket:
        return
    from pyoci.host import sockets

    if console_socket:
        sockets.send(console_socket, launch.console, b"/dev/pts/0", "console socket")
    if pidfd_socket:
        sockets.send(pidfd_socket, launch.pidfd, b"pidfd", "pidfd socket")


def write_pid_file(path: str, pid: int) -> None:
    """The pid alone, without a line's end: engines read it so."""
    try:
        files.replace(path, str(pid).encode("ascii"), 0o644)
    except OSError as error:
        raise SetupError(f"cannot write pid file {path}: {reason(error.errno or 0)}") from error


def _tell_inside(launch: Launch, slot: int, record: "dict[str, Any]", status: str) -> None:
    """The state for hooks in the container, if it has any, with the pid as they see it."""
    if launch.slots[slot] >= 0:
        hooks.fill(launch.slots[slot], state_json({**record, "pid": _inner_pid(launch.pid)}, status))


def _after_wait(plan: "Plan") -> "list[tuple[int, Op]]":
    """The operations, with their numbers, that `start` will have to explain if they fail."""
    ops = list(enumerate(plan.child()))
    for index, op in ops:
        if op.verb == "wait_start":
            return ops[index:]
    return []


def _listener(plan: "Plan") -> "dict[str, Any]":
    """Where `start` will have to send the listener of the seccomp filter, if it has one, and what to say with it."""
    for op in plan.at.get(LISTENER, ()):
        return {"path": op.s1, "metadata": op.s2}
    return {}


def _inner_pid(pid: int) -> int:
    """The pid as the process itself sees it."""
    for line in files.read(f"/proc/{pid}/status").split(b"\n"):
        if line.startswith(b"NSpid:"):
            return int(line.split()[-1])
    return pid


def listen_fds() -> int:
    """How many sockets were passed to this very process (sd_listen_fds(3)); 0 if they are meant for another one."""
    environment = posix.environ
    if environment.get(b"LISTEN_PID") != str(posix.getpid()).encode():
        return 0
    count = environment.get(b"LISTEN_FDS", b"0")
    return int(count) if count.isdigit() and len(count) < 5 else 0


def occupy(first: int, count: int) -> None:
    """Fill the holes among descriptors to be preserved, so that none of ours gets a number that the container keeps."""
    for fd in range(first, first + count):
        try:
            posix.fstat(fd)
        except OSError:
            null = posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
            if null != fd:
                posix.dup2(null, fd, False)
                posix.close(null)


def _split(path: str) -> "tuple[str, str]":
    directory, _, name = path.rpartition("/")
    return directory or "/", name
