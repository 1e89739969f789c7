"""exec: run one more process in a container.

The specification has no such operation, but engines use it. The same operations as in create set the process up, in
the namespaces and the cgroup of the container.
"""

import posix

from pyoci import _native
from pyoci import config as configuration
from pyoci.cgroups.cgroupfs import Cgroup
from pyoci.cgroups.directories import GONE, errno_of
from pyoci.compiler import verbs
from pyoci.compiler.exec import ExecTarget, compile_exec
from pyoci.compiler.seccomp import Filter
from pyoci.config.constants import NAMESPACE_FILES
from pyoci.config.jsonio import dumps
from pyoci.errors import CgroupError, ConfigError, Problem, PyociError, SetupError, StatusError, UsageError, reason
from pyoci.handover import fill_fd_holes, listen_fds, listen_variables, send_console, send_pidfd, write_pid_file
from pyoci.host import terminal
from pyoci.host.bundle import read_given
from pyoci.host.facts import may_set_groups, probe
from pyoci.host.processes import is_exiting, open_process, wait_ended
from pyoci.host.state_directory import SECCOMP
from pyoci.linux import O_PATH
from pyoci.parent.operations import HOST_VERBS
from pyoci.parent.protocol import Launch, tracer
from pyoci.version import SPEC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyoci.cgroups.driver import Driver
    from pyoci.compiler.operations import Plan
    from pyoci.container import Container
    from pyoci.host.seccomp_agent import Tracee
    from pyoci.parent.protocol import Operations
    from pyoci.record import ExecSettings
    from pyoci.request import ExecRequest, ProcessOverrides
    from pyoci.types import Process

# Properties that a process.json may leave out: then the container's own process decides.
_INHERITED = (
    "apparmorProfile", "capabilities", "execCPUAffinity", "ioPriority", "oomScoreAdj", "rlimits", "scheduler",
    "selinuxLabel",
)  # fmt: skip


def execute(container: "Container", request: "ExecRequest") -> int:
    """Run a process in `container`; return its exit status, or 0 with `detach` as soon as it runs.

    Raises PyociError if it can't run, and then leaves nothing behind.
    """
    container.is_being_created()  # reads the record again if a create was killed
    init = open_process(container.record, lasting=True)
    try:
        _require_status(container.status(lasting=init >= 0), ignore_paused=request.ignore_paused)
        settings = container.directory.load_exec_settings()
        process, warnings = _load_process(request.wanted, settings)
        execution = Execution.compile(container, request, init, process, settings)
        for warning in (*warnings, *execution.plan.warnings):
            request.log.warning(warning)
        wants_terminal = bool(process.get("terminal"))
        terminal.check_terminal(terminal=wants_terminal, socket=request.console_socket, detached=request.detach)
        launch = execution.launch()
    except PyociError as error:
        error.where = error.where.removeprefix("/process")  # it points into process.json
        raise
    finally:
        if init >= 0:
            posix.close(init)
    if request.console_socket:
        launch.hand_over_console()
    if execution.foreground is None:
        launch.release()
        return 0
    return execution.foreground.wait(launch)


_STOPPED = "cannot exec in a stopped container"


def _require_status(status: str, *, ignore_paused: bool) -> None:
    if status == "stopped":
        raise StatusError(_STOPPED)
    if status == "creating":
        raise StatusError("cannot exec in a container that is still being created")
    if status == "paused" and not ignore_paused:
        raise StatusError("cannot exec in a paused container", hint="--ignore-paused waits until it is resumed")


def _load_process(wanted: "str | ProcessOverrides", settings: "ExecSettings") -> "tuple[Process, list[str]]":
    """Return the checked process with the inherited properties, and warnings. Raises ConfigError."""
    if isinstance(wanted, str):
        data, name = read_given(wanted), wanted.rpartition("/")[2]
    else:
        data, name = dumps(wanted.apply(settings.process)).encode(), ""
    given, warnings = configuration.load_process(data, name)
    own: Mapping[str, object] = settings.process
    inherited: Any = {key: own[key] for key in _INHERITED if key in own and given.get(key) in (None, "", [])}
    process: Process = {**given, **inherited}
    if not process.get("args"):
        raise ConfigError([Problem("/args", "there is no program to run")])
    return process, warnings


class Execution:
    """A process that is being executed in a container. `init` is a pidfd of the container's init."""

    def __init__(
        self,
        container: "Container",
        request: "ExecRequest",
        init: int,
        process: "Process",
        namespaces: "dict[str, int]",
        plan: "Plan",
        *,
        preserve_fds: int,
    ) -> None:
        self.plan = plan
        self.foreground: terminal.Foreground | None = None
        self._container = container
        self._request = request
        self._record = container.record
        self._init = init
        self._process = process
        self._namespaces = namespaces
        self._preserve_fds = preserve_fds
        self._tracee: Tracee | None = None

    @classmethod
    def compile(
        cls,
        container: "Container",
        request: "ExecRequest",
        init: int,
        process: "Process",
        settings: "ExecSettings",
    ) -> "Execution":
        """Look at the container, and compile the plan. Raises PyociError."""
        record = container.record
        sockets = listen_fds()
        if sockets:
            process.setdefault("env", []).extend(listen_variables(sockets))
        preserve_fds = sockets + request.preserve_fds
        namespaces = _foreign_namespaces(record.pid, init)
        filter_ = _load_filter(container, settings)
        target = ExecTarget(
            record.id,
            [*namespaces],
            settings.linux,
            filter_,
            record.rdt.get("joined", ()),
            annotations=record.annotations,
            setgroups=may_set_groups(record.pid),
            keyring=settings.keyring,
            early_filter=filter_ is not None and _admits_setup(filter_, process),
            listener=(record.listener.path, record.listener.metadata) if record.listener is not None else None,
        )
        plan = compile_exec(
            process,
            target,
            probe(),
            preserve_fds=preserve_fds,
            foreground=not request.detach,
            pidfd_socket=bool(request.pidfd_socket),
        )
        return cls(container, request, init, process, namespaces, plan, preserve_fds=preserve_fds)

    def launch(self) -> Launch:
        """Clone the process, and run the plan until it executes its program. On any failure, kill it."""
        request = self._request
        fill_fd_holes(self._preserve_fds)
        launch = Launch(
            self.plan,
            {**HOST_VERBS, **self._operations()},
            {"ociVersion": SPEC, "process": self._process},
            self._record.id,
            trace=tracer(request.log),
            debug=request.log.debug,
            process="the process",
        )
        try:
            launch.cgroup = _cgroup(self._container, self._record.pid, request.sub_cgroup)
            launch.prepare()
            launch.clone()
            launch.send_plan()
            launch.serve_child()
            if request.pid_file:
                write_pid_file(request.pid_file, launch.pid)
        except BaseException as error:
            for warning in launch.abort():
                request.log.warning(warning)
            self._require_container(error)
            raise
        launch.close()
        return launch

    # --- exec's own operations of the plan

    def _operations(self) -> "Operations":
        """Return the functions for operations that need the container, its record or the request."""
        return {
            verbs.OpenContainer: self._open_container,
            verbs.OpenContainerRoot: self._open_root,
            verbs.JoinRdtGroup: self._join_rdt_group,
            verbs.VerifyNamespaces: self._verify_namespaces,
            verbs.CheckInit: self._check_init,
            verbs.TakeSignals: self._take_signals,
            verbs.SendConsole: self._send_console,
            verbs.SendPidfd: self._send_pidfd,
            verbs.TraceChild: self._trace_child,
            verbs.SendListener: self._send_listener,
        }

    def _open_container(self, launch: Launch, op: "verbs.OpenContainer") -> None:
        launch.slots[op.process] = posix.dup(self._init)

    def _open_root(self, launch: Launch, op: "verbs.OpenContainerRoot") -> None:
        path = f"/proc/{self._record.pid}/root"
        launch.slots[op.root] = posix.open(path, O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        if wait_ended(self._init, 0):  # then the pid may have passed to another process
            raise StatusError(_STOPPED)

    def _join_rdt_group(self, launch: Launch, _op: "verbs.JoinRdtGroup") -> None:
        from pyoci.host import resctrl

        resctrl.join(self._record.rdt, launch.pid)

    def _check_init(self, _launch: Launch, _op: "verbs.CheckInit") -> None:
        if wait_ended(self._init, 0):
            raise StatusError(_STOPPED)

    def _take_signals(self, launch: Launch, _op: "verbs.TakeSignals") -> None:
        self.foreground = launch.foreground = terminal.Foreground(subreaper=False)
        if not self._request.console_socket:
            self.foreground.prepare(launch)

    def _send_console(self, launch: Launch, _op: "verbs.SendConsole") -> None:
        if self._request.console_socket:
            send_console(self._request.console_socket, launch.console)

    def _send_pidfd(self, launch: Launch, _op: "verbs.SendPidfd") -> None:
        if self._request.pidfd_socket:
            send_pidfd(self._request.pidfd_socket, launch.pidfd)

    def _require_container(self, error: BaseException) -> None:
        """Raise StatusError if init has ended or is exiting, because that explains any failure of exec."""
        if isinstance(error, OSError | PyociError) and (wait_ended(self._init, 0) or is_exiting(self._record.pid)):
            raise StatusError(_STOPPED) from error

    def _verify_namespaces(self, launch: Launch, _op: "verbs.VerifyNamespaces") -> None:
        its = _native.namespaces(str(launch.pid), NAMESPACE_FILES)
        for kind, inode in self._namespaces.items():
            if kind not in its:
                raise launch.ended()
            if its[kind] != inode:
                raise SetupError(f"cannot join the {kind} namespace: it is not the container's")

    def _trace_child(self, launch: Launch, _op: "verbs.TraceChild") -> None:
        from pyoci.host.seccomp_agent import Tracee

        self._tracee = Tracee(launch.pid, launch.pidfd)
        self._tracee.hold()

    def _send_listener(self, launch: Launch, op: "verbs.SendListener") -> None:
        from pyoci.host.seccomp_agent import process_state

        if self._tracee is not None:
            state = self._record.state(self._container.status())
            self._tracee.hand_over(op.path, process_state(state, launch.pid, op.metadata), launch.send)


def _load_filter(container: "Container", settings: "ExecSettings") -> "Filter | None":
    """Return the container's compiled seccomp filter. Raises StateError."""
    if settings.seccomp_flags is None:
        return None
    return Filter(settings.seccomp_flags, program=container.directory.read(SECCOMP))


def _admits_setup(filter_: Filter, process: "Process") -> bool:
    """Whether the filter can be loaded before the container sees the process.

    A filter with a listener can't: the agent gets the listener first, and for a process whose pid is known.
    """
    privileged, terminal = not process.get("noNewPrivileges"), bool(process.get("terminal"))
    return not filter_.has_listener and _native.admits_setup(filter_.program, privileged, terminal)


def _foreign_namespaces(pid: int, pidfd: int) -> "dict[str, int]":
    """Return the inodes of the namespaces that a process does not share with the runtime, by type."""
    ours = _native.namespaces("self", NAMESPACE_FILES)
    try:
        its = _native.namespaces(str(pid), NAMESPACE_FILES)
    except OSError as error:
        raise SetupError(f"cannot look at the container's namespaces: {reason(error.errno or 0)}") from error
    if len(its) < len(ours):
        if wait_ended(pidfd, 0):
            raise StatusError(_STOPPED)
        # Threads of it may live on, but its namespaces can't be joined any more.
        raise StatusError("cannot exec in a container whose first process is ending")
    return {kind: inode for kind, inode in its.items() if inode != ours[kind]}


def _cgroup(container: "Container", pid: int, below: str) -> "Driver":
    """Return the cgroup for the process: the container's, or the one at the path `below` it.

    If the container's is gone, or takes no processes because its children have its controllers, this returns the
    cgroup of init.
    """
    own = container.cgroup()
    if not isinstance(own, Cgroup):
        return own
    if below and not below.strip("/"):
        return own  # `--cgroup /` is the container's own cgroup
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


__all__ = ["execute"]
