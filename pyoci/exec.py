"""exec: one more process in a container. From the command line to a process that runs, and to its exit status.

The specification has no such operation; engines do. What create does for a container's first process is done for this
one by the same operations, in the container's namespaces and cgroup.
"""

import posix

from pyoci import _native
from pyoci import config as configuration
from pyoci.cgroups.cgroupfs import Cgroup
from pyoci.cgroups.directories import GONE, errno_of
from pyoci.compiler.exec import Running, compile_exec
from pyoci.compiler.operations import INIT, READY
from pyoci.compiler.seccomp import Filter
from pyoci.config.jsonio import dumps
from pyoci.container import state_document
from pyoci.create import listen_fds, occupy, send_to_engine, write_pid_file
from pyoci.errors import CgroupError, ConfigError, Problem, PyociError, SetupError, StatusError, UsageError, reason
from pyoci.host import terminal
from pyoci.host.bundle import read_given
from pyoci.host.facts import may_set_groups, probe
from pyoci.parent.protocol import Launch, tracer
from pyoci.state import is_exiting, open_process, wait_ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.cgroups.driver import Driver
    from pyoci.cli.log import Log
    from pyoci.container import Container
    from pyoci.host.seccomp_agent import Tracee

_FIRST_FD = 3
# What a process.json need not say: it is the container's process' then.
_OF_CONTAINER = (
    "apparmorProfile", "capabilities", "execCPUAffinity", "ioPriority", "oomScoreAdj", "rlimits", "scheduler",
    "selinuxLabel",
)  # fmt: skip
_O_PATH = 0x200000
# In /proc/PID/ns, by their names in config.json.
_NAMESPACES = {
    "user": "user", "ipc": "ipc", "uts": "uts", "network": "net", "pid": "pid", "time": "time", "cgroup": "cgroup",
    "mount": "mnt",
}  # fmt: skip


class Changes:
    """What a command line says of the process: the container's own is taken, with these changes.

    Of `user`, `cwd`, `apparmor` and `label` None keeps what the container's process has; `env`, `capabilities` and
    `additional_gids` are added. `terminal` and `args` always replace.
    """

    __slots__ = (
        *("additional_gids", "apparmor", "args", "capabilities", "cwd", "env", "label", "no_new_privs", "terminal"),
        "user",
    )

    def __init__(
        self,
        args: "list[str]",
        *,
        terminal: bool = False,
        env: "list[str] | None" = None,
        cwd: "str | None" = None,
        user: "tuple[int, int | None] | None" = None,
        additional_gids: "list[int] | None" = None,
        capabilities: "list[str] | None" = None,
        no_new_privs: bool = False,
        apparmor: "str | None" = None,
        label: "str | None" = None,
    ) -> None:
        self.args = args
        self.terminal = terminal
        self.env = env or []
        self.cwd = cwd
        self.user = user
        self.additional_gids = additional_gids or []
        self.capabilities = capabilities or []
        self.no_new_privs = no_new_privs
        self.apparmor = apparmor
        self.label = label

    def apply(self, process: "dict[str, Any]") -> "dict[str, Any]":
        """A new process, made of the container's own."""
        changed = {**process, "args": self.args, "terminal": self.terminal}
        changed["env"] = [*process.get("env", []), *self.env]
        user = dict(process.get("user", {}))
        if self.user is not None:
            user["uid"] = self.user[0]
            user["gid"] = user.get("gid", 0) if self.user[1] is None else self.user[1]
        if self.additional_gids:
            user["additionalGids"] = [*user.get("additionalGids", []), *self.additional_gids]
        changed["user"] = user
        if self.capabilities:
            sets = process.get("capabilities", {})
            added = {name: [*sets.get(name, []), *self.capabilities] for name in ("bounding", "effective", "permitted")}
            # as in runc: across the execve of a user other than root only ambient capabilities last
            heritable = [name for name in self.capabilities if name in sets.get("inheritable", [])]
            if heritable:
                added["ambient"] = [*sets.get("ambient", []), *heritable]
            changed["capabilities"] = {**sets, **added}
        others = {"cwd": self.cwd, "apparmorProfile": self.apparmor, "selinuxLabel": self.label}
        changed |= {name: value for name, value in others.items() if value is not None}
        if self.no_new_privs:
            changed["noNewPrivileges"] = True
        if not self.terminal:
            changed.pop("consoleSize", None)
        return changed


def execute(
    container: "Container",
    wanted: "str | Changes",
    *,
    log: "Log",
    detach: bool = False,
    console_socket: "str | None" = None,
    pidfd_socket: "str | None" = None,
    pid_file: "str | None" = None,
    preserve_fds: int = 0,
    sub_cgroup: str = "",
    ignore_paused: bool = False,
) -> int:
    """Run a process in `container`: that of the file `wanted`, or the container's own with changes.

    Returns its exit status, or 0 with `detach` as soon as it runs. Raises PyociError if it can't run; nothing of it is
    left then.
    """
    _check_status(container.status(), ignore_paused=ignore_paused)
    kept = container.kept_for_exec()
    data, file = _read_process(wanted) if isinstance(wanted, str) else (_changed(wanted, kept["process"]), "")
    try:
        execution = _Execution(container, kept, data, file, preserve_fds, log)
        wants_terminal = bool(execution.process.get("terminal"))
        terminal.check_terminal(terminal=wants_terminal, socket=console_socket, detached=detach)
        launch = execution.launch(sub_cgroup, console_socket, pidfd_socket, pid_file, foreground=not detach)
    except PyociError as error:
        error.where = error.where.removeprefix("/process")  # it is a process.json that they lead into
        raise
    if console_socket:
        launch.hand_over_console()
    if execution.foreground is None:
        launch.release()
        return 0
    return execution.foreground.wait(launch)


def _check_status(status: str, *, ignore_paused: bool) -> None:
    if status == "stopped":
        raise StatusError("cannot exec in a stopped container")
    if status == "creating":
        raise StatusError("cannot exec in a container that is still being created")
    if status == "paused" and not ignore_paused:
        raise StatusError("cannot exec in a paused container", hint="--ignore-paused waits until it is resumed")


def _read_process(path: str) -> "tuple[bytes, str]":
    return read_given(path), path.rpartition("/")[2]


def _changed(changes: Changes, process: "dict[str, Any]") -> bytes:
    return dumps(changes.apply(process)).encode()


class _Execution:
    """What exec needs until the process runs."""

    def __init__(
        self, container: "Container", kept: "dict[str, Any]", data: bytes, file: str, preserve_fds: int, log: "Log"
    ) -> None:
        given, warnings = configuration.load_process(data, file)
        unsaid = [key for key in _OF_CONTAINER if key in kept["process"] and given.get(key) in (None, "", [])]
        self.process = {**given, **{key: kept["process"][key] for key in unsaid}}
        if not self.process.get("args"):
            raise ConfigError([Problem("/args", "there is no program to run")])
        self.foreground: terminal.Foreground | None = None
        self._listen_fds = listen_fds()
        self._preserve_fds = self._listen_fds + preserve_fds
        if self._listen_fds:
            self.process.setdefault("env", []).extend((f"LISTEN_FDS={self._listen_fds}", "LISTEN_PID=1"))
        self._container = container
        self._record = container.record
        self._init = open_process(self._record)
        if self._init < 0:
            raise StatusError("cannot exec in a stopped container")
        self._namespaces = _foreign_namespaces(self._record["pid"])
        seccomp = kept.get("seccomp")
        filter_ = None
        self._tracee: Tracee | None = None
        if seccomp:
            program = container.seccomp_program()
            filter_ = Filter(seccomp["flags"], program=program)
        self._has_listener = filter_ is not None and filter_.notify
        rdt = self._record["rdt"].get("joined", ())
        running = Running(
            self._record["id"],
            self._namespaces,
            kept["linux"],
            filter_,
            rdt,
            annotations=self._record["annotations"],
            setgroups=may_set_groups(self._record["pid"]),
            keyring=kept["keyring"],
            early_filter=filter_ is not None and self._admits_setup(filter_),
        )
        self._log = log
        self.plan = compile_exec(self.process, running, probe(), preserve_fds=self._preserve_fds)
        for warning in (*warnings, *self.plan.warnings):
            log.warning(warning)

    def launch(
        self,
        sub_cgroup: str,
        console_socket: "str | None",
        pidfd_socket: "str | None",
        pid_file: "str | None",
        *,
        foreground: bool,
    ) -> Launch:
        """Clone the process and see it through to its program; on any failure it is killed."""
        occupy(_FIRST_FD, self._preserve_fds)
        launch = Launch(
            self.plan, {"process": self.process}, self._record["id"], trace=tracer(self._log), process="the process"
        )
        try:
            launch.cgroup = _cgroup(self._container, self._record["pid"], sub_cgroup)
            for op in self.plan.before:
                launch.slots[op.a] = self._open_root() if op.verb == "open_container_root" else posix.dup(self._init)
            launch.clone()

            def at(point: int) -> None:
                if point == INIT and self._record["rdt"]:
                    from pyoci.host import resctrl

                    resctrl.join(self._record["rdt"], launch.pid)
                if point == READY:
                    self._verify(launch)
                    if foreground:
                        self.foreground = launch.foreground = terminal.Foreground(subreaper=False)
                        if not console_socket:
                            self.foreground.prepare(launch)
                    send_to_engine(launch, console_socket, pidfd_socket)
                    if self._has_listener:
                        self._hold(launch)

            def after(point: int) -> None:
                if point == READY and self._tracee is not None:
                    self._hand_over(self._tracee, launch)

            launch.converse(at, after)
            if pid_file:
                write_pid_file(pid_file, launch.pid)
        except BaseException as error:
            self._give_up(launch)
            self._require_container(error)
            raise
        finally:
            posix.close(self._init)
        launch.close()
        return launch

    def _give_up(self, launch: Launch) -> None:
        for warning in launch.abort():
            self._log.warning(warning)

    def _admits_setup(self, filter_: Filter) -> bool:
        """Whether the filter can be loaded before the container sees the process. One with a listener can't: the agent
        has to get the listener first, for a process whose pid is known."""
        privileged, terminal = not self.process.get("noNewPrivileges"), bool(self.process.get("terminal"))
        return not filter_.notify and _native.admits_setup(filter_.program, privileged, terminal)

    def _open_root(self) -> int:
        """The root of the container's first process, where no mount namespace has it for all."""
        root = posix.open(f"/proc/{self._record['pid']}/root", _O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        if wait_ended(self._init, 0):  # it may be another process' by now
            posix.close(root)
            raise StatusError("cannot exec in a stopped container")
        return root

    def _require_container(self, error: BaseException) -> None:
        """Raise StatusError if the container's first process has ended, or is about to: then that is why exec failed,
        whatever it looked like from here."""
        if isinstance(error, OSError | PyociError) and (wait_ended(self._init, 0) or is_exiting(self._record["pid"])):
            raise StatusError("cannot exec in a stopped container") from error

    def _verify(self, launch: Launch) -> None:
        """The container's first process still lives, and where the plan says so, both are in the same namespaces."""
        if any(op.verb == "verify_namespaces" for op in self.plan.at[READY]):
            self._compare_namespaces(launch)
        if wait_ended(self._init, 0):
            raise StatusError("cannot exec in a stopped container")

    def _compare_namespaces(self, launch: Launch) -> None:
        for kind in self._namespaces:
            name = _NAMESPACES[kind]
            try:
                its = _inode(f"/proc/{launch.pid}/ns/{name}")
            except (FileNotFoundError, ProcessLookupError) as error:
                raise launch.ended() from error
            if its != _inode(f"/proc/{self._record['pid']}/ns/{name}"):
                raise SetupError(f"cannot join the {kind} namespace: it is not the container's")

    def _hold(self, launch: Launch) -> None:
        """Its filter has a listener: the agent gets it before the process goes on."""
        from pyoci.host.seccomp_agent import Tracee

        self._tracee = Tracee(launch.pid, launch.pidfd)
        self._tracee.hold()

    def _hand_over(self, tracee: "Tracee", launch: Launch) -> None:
        from pyoci.host.seccomp_agent import process_state

        listener = self._record["listener"]
        state = state_document(self._record, self._container.status())
        tracee.hand_over(listener["path"], process_state(state, launch.pid, listener["metadata"]), launch.tell)


def _foreign_namespaces(pid: int) -> "list[str]":
    """The types of namespaces of which a process has others than this one."""
    found = []
    for kind, name in _NAMESPACES.items():
        try:
            ours = _inode(f"/proc/self/ns/{name}")
        except FileNotFoundError:
            continue  # this kernel has none of that type
        try:
            its = _inode(f"/proc/{pid}/ns/{name}")
        except (FileNotFoundError, ProcessLookupError) as error:
            # threads of it may live on, but nobody can go where it was
            raise StatusError("cannot exec in a container whose first process is ending") from error
        except OSError as error:
            raise SetupError(f"cannot look at the container's namespaces: {reason(error.errno or 0)}") from error
        if its != ours:
            found.append(kind)
    return found


def _inode(path: str) -> "tuple[int, int]":
    status = posix.stat(path)
    return status.st_dev, status.st_ino


def _cgroup(container: "Container", pid: int, below: str) -> "Driver":
    """The container's cgroup, or the one `below` it. If the container's is gone, or takes no process since its children
    have its controllers: the cgroup of its first process.
    """
    own = container.cgroup()
    if not isinstance(own, Cgroup):
        return own
    if below and not below.strip("/"):
        return own  # at any rate, it says
    if below:
        path = "/" + below.strip("/")
        if any(part in ("", ".", "..") for part in path[1:].split("/")):
            raise UsageError(f"cannot use cgroup `{below}`: expected a path below the container's")
        return own.child(path)
    try:
        if not own.read("cgroup.subtree_control").strip():
            return own
    except CgroupError as error:
        if errno_of(error) not in GONE:
            raise
    from pyoci.cgroups import moved

    return moved.cgroup_of(own, pid)


__all__ = ["Changes", "execute"]
