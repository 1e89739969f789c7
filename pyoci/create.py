"""create: from a bundle to a container that waits for its start.

Implements runtime.md "Create". This reads and compiles the config, claims the id, runs the plan, and commits the
record. On any failure it undoes everything.
"""

import posix

from pyoci import _native
from pyoci import config as configuration
from pyoci.cgroups import hierarchy
from pyoci.cgroups.disabled import NoCgroup
from pyoci.compiler import verbs
from pyoci.compiler.create import compile_container, rootfs_path
from pyoci.compiler.facts import Options
from pyoci.compiler.mounts import NOTIFY
from pyoci.compiler.paths import clean
from pyoci.compiler.process import of_config
from pyoci.compiler.verbs.numbers import (
    BUNDLE,
    CREATE_STATE,
    EXEC_FIFO,
    FILTER,
    HOOK_STATE,
    HOOKS,
    LISTENER,
    NOTIFY_DIRECTORY,
    RESULT_FIFO,
    START_STATE,
)
from pyoci.config.ids import check_id
from pyoci.container import Container
from pyoci.delete import run_poststop
from pyoci.errors import PyociError, SetupError
from pyoci.handover import (
    fill_fd_holes,
    listen_fds,
    listen_variables,
    send_console,
    send_pidfd,
    standard_streams,
    write_pid_file,
)
from pyoci.host import files, hooks, kernel_mounts
from pyoci.host.bundle import read_config
from pyoci.host.facts import probe
from pyoci.host.processes import boot_id
from pyoci.host.state_directory import SECCOMP, StateDirectory, notify_socket, notify_socket_of_caller
from pyoci.host.terminal import check_terminal
from pyoci.parent.operations import HOST_VERBS
from pyoci.parent.protocol import Launch, tracer
from pyoci.record import ExecSettings, Listener, Record, now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.facts import Host
    from pyoci.compiler.operations import Plan
    from pyoci.compiler.verbs import ChildOp
    from pyoci.parent.protocol import Operations
    from pyoci.request import CreateRequest
    from pyoci.types import Config, Linux


def create(request: "CreateRequest") -> Container:
    """Create the container. Raises PyociError, and then leaves nothing behind."""
    container, launch = create_and_hold(request, detached=True)
    container.directory.unlock()
    launch.release()
    return container


def create_and_hold(request: "CreateRequest", *, detached: bool) -> "tuple[Container, Launch]":
    """Create the container, and keep it locked. Its terminal and pidfd stay open in the launch.

    `detached`: the runtime does not stay with the program, so a terminal needs a console socket.
    """
    compiled = compile_request(request)
    terminal = bool(compiled.config.get("process", {}).get("terminal"))
    check_terminal(terminal=terminal, socket=request.console_socket, detached=detached)
    creation = Creation(compiled)
    creation.begin()
    creation.run()
    return Container(creation.directory, creation.record), creation.launch


# --- from the request to a plan


class Compiled:
    """A request with its config, the plan, and what the plan was compiled for."""

    __slots__ = ("config", "host", "options", "plan", "request")

    def __init__(
        self, request: "CreateRequest", config: "Config", host: "Host", options: Options, plan: "Plan"
    ) -> None:
        self.request = request
        self.config = config
        self.host = host
        self.options = options
        self.plan = plan

    @property
    def has_notify_socket(self) -> bool:
        """Whether the container gets a socket for sd_notify."""
        return any(op.where == NOTIFY for op in self.plan.child())


def compile_request(request: "CreateRequest") -> Compiled:
    """Read, check and compile the config, and log the warnings. Raises PyociError."""
    config, host, options = read_request(request)
    plan = compile_container(config, host, options)
    for warning in plan.warnings:
        request.log.warning(warning)
    return Compiled(request, config, host, options, plan)


def read_request(request: "CreateRequest") -> "tuple[Config, Host, Options]":
    """Return the checked config, and what else the compiler needs. Logs the warnings. Raises PyociError."""
    check_id(request.id)
    bundle = _absolute_bundle(request.bundle)
    directory, name = (bundle, "config.json") if request.config_file is None else _split(request.config_file)
    config, warnings = configuration.load(read_config(directory, name), name)
    for warning in warnings:
        request.log.warning(warning)
    sockets = listen_fds()
    if sockets and "process" in config:
        config["process"].setdefault("env", []).extend(listen_variables(sockets))
    host = probe(request.root)
    return config, host, _options(request, bundle, config, host, sockets + request.preserve_fds)


def _absolute_bundle(bundle: str) -> str:
    """Return the absolute path. Raises PyociError if JSON, such as the record, can't hold it."""
    path = clean(bundle if bundle.startswith("/") else f"{posix.getcwd()}/{bundle}")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise PyociError(f"cannot use bundle {bundle}: its path is not UTF-8") from error
    return path


def _split(path: str) -> "tuple[str, str]":
    directory, _, name = path.rpartition("/")
    return directory or "/", name


def _options(request: "CreateRequest", bundle: str, config: "Config", host: "Host", preserve_fds: int) -> Options:
    """Return the options for the compiler."""
    no_cgroup = ""
    if request.cgroup_manager == "cgroupfs" and host.rootless:
        path = config.get("linux", {}).get("cgroupsPath", "")
        no_cgroup = hierarchy.refusal(path, request.id, host.cgroup_mount)
    return Options(
        bundle,
        request.id,
        preserve_fds=preserve_fds,
        no_pivot=request.no_pivot,
        new_keyring=not request.no_new_keyring,
        cgroup_manager="disabled" if no_cgroup else request.cgroup_manager,
        no_cgroup=no_cgroup,
        pidfd_socket=bool(request.pidfd_socket),
        notify=notify_socket(request.root, request.id) if notify_socket_of_caller() else "",
    )


# --- from the plan to a container


class Creation:
    """A container that is being created: its compiled request, claimed directory, launch and record."""

    __slots__ = ("_hooks_have_run", "compiled", "directory", "launch", "record")

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        self._hooks_have_run = False
        self.directory: StateDirectory  # of a claimed id
        self.record = _new_record(compiled)
        self.launch = Launch(
            compiled.plan,
            {**HOST_VERBS, **self._operations()},
            compiled.config,
            compiled.request.id,
            compiled.host.cgroup_mount,
            rootless=compiled.host.rootless,
            trace=tracer(compiled.request.log),
            debug=compiled.request.log.debug,
        )

    def begin(self) -> None:
        """Claim the id. Raises ContainerExists, StateError."""
        fill_fd_holes(self.compiled.options.preserve_fds)
        # The claim comes last, because only `run` undoes it.
        self.directory = StateDirectory.claim(self.compiled.request.root, self.compiled.request.id)

    def run(self) -> None:
        """Run the plan, and commit the container. On any failure, undo everything and raise the reason."""
        launch, record = self.launch, self.record
        try:
            record.cgroup = launch.plan_cgroup()
            record.rdt = launch.plan_rdt()
            self.directory.save(record)  # before anything slow: without a record no command knows what this is
            launch.prepare()
            launch.clone()
            self._open_descriptors()
            launch.send_plan()
            if self.compiled.host.kernel_mounts:
                kernel_mounts.remember(self.directory.root_fd, self.compiled.host.kernel_mounts)
            launch.alongside()
            self._finish()
        except BaseException as error:
            _add_to_message(error, self._undo())
            if self._hooks_have_run:  # poststop hooks undo what the first hooks set up on the host, such as a network
                for warning in run_poststop(record):
                    self.compiled.request.log.warning(warning)
            raise
        launch.close()

    def _finish(self) -> None:
        """Serve the child until the container is created."""
        self._prepare_commit()
        self.launch.serve_child()

    def _open_descriptors(self) -> None:
        """Fill the slots of the plan that need the state directory or a file in memory."""
        slots, plan = self.launch.slots, self.compiled.plan
        slots[EXEC_FIFO], slots[RESULT_FIFO] = self.directory.create_fifos()
        if self.record.notify:
            slots[NOTIFY_DIRECTORY] = self.directory.create_notify_directory()
        if any(isinstance(op, verbs.WriteFilter) for op in plan.alongside):
            slots[FILTER] = _native.new_memfd("filter")
        if HOOKS in plan.at:
            slots[HOOK_STATE] = hooks.state_file()
            slots[BUNDLE] = posix.open(self.record.bundle, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        for slot in {op.state for op in plan.child() if isinstance(op, verbs.RunHook)}:
            slots[slot] = hooks.state_file()

    # --- create's own operations of the plan

    def _operations(self) -> "Operations":
        """Return the functions for operations that need the record, the request or the state directory."""
        return {
            verbs.RecordProcess: self._record_process,
            verbs.SaveExecSettings: self._save_exec_settings,
            verbs.RecordCgroup: self._record_cgroup,
            verbs.FillHookState: self._fill_hook_state,
            verbs.FillStartState: self._fill_start_state,
            verbs.SendConsole: self._send_console,
            verbs.SendPidfd: self._send_pidfd,
            verbs.Commit: self._commit,
        }

    def _record_host_objects(self, *, settled: bool = False) -> None:
        """Record the cgroup and resource groups; `settled`: without a shared group, which outlives the container."""
        made = self.launch.to_dict(settled=settled)
        self.record.cgroup, self.record.rdt = made["cgroup"], made["rdt"]

    def _record_process(self, launch: Launch, _op: "verbs.RecordProcess", *, save: bool = True) -> None:
        self._record_host_objects()
        self.record.pid = launch.pid
        self.record.start_time = launch.start_time
        if not self.record.start_time:
            raise SetupError(f"cannot read /proc/{launch.pid}/stat: is a procfs mounted on /proc?")
        if save:
            self.directory.save(self.record)

    def _prepare_commit(self) -> None:
        """Write the record of the created container while the child works, if all of it is known by now."""
        plan = self.compiled.plan
        if plan.bootstrap or self.record.listener is not None or plan.after:
            return
        self._settle()
        self.directory.prepare(self.record)
        self.record.status = "creating"

    def _settle(self) -> None:
        self._record_host_objects(settled=True)
        self.record.status = "created"

    def _record_cgroup(self, _launch: Launch, _op: "verbs.RecordCgroup") -> None:
        self._record_host_objects()
        self.directory.save(self.record)

    def _save_exec_settings(self, _launch: Launch, _op: "verbs.SaveExecSettings") -> None:
        config, plan = self.compiled.config, self.compiled.plan
        linux = config.get("linux", {})
        kept: Linux = {}
        if "personality" in linux:
            kept["personality"] = linux["personality"]
        if "memoryPolicy" in linux:
            kept["memoryPolicy"] = linux["memoryPolicy"]
        settings = ExecSettings(
            of_config(config),
            kept,
            keyring=self.compiled.options.new_keyring,
        )
        loaded = plan.becomes_criu or any(isinstance(op, verbs.LoadSeccomp) for op in plan.child())
        if plan.filter is not None and loaded:  # CRIU loads the same filter
            settings.seccomp_flags = plan.filter.flags
            self.directory.write_once(SECCOMP, plan.filter.program)
        self.directory.save_exec_settings(settings)

    def _fill_hook_state(self, launch: Launch, _op: "verbs.FillHookState") -> None:
        self._hooks_have_run = True
        hooks.fill(launch.slots[HOOK_STATE], self.record.state_json("creating"))
        if launch.slots[CREATE_STATE] >= 0:
            pid = _inner_pid(launch.pid)
            hooks.fill(launch.slots[CREATE_STATE], self.record.state_json("creating", pid=pid))

    def _fill_start_state(self, launch: Launch, _op: "verbs.FillStartState") -> None:
        hooks.fill(launch.slots[START_STATE], self.record.state_json("created", pid=_inner_pid(launch.pid)))

    def _send_console(self, launch: Launch, _op: "verbs.SendConsole") -> None:
        if self.compiled.request.console_socket:
            send_console(self.compiled.request.console_socket, launch.console)

    def _send_pidfd(self, launch: Launch, _op: "verbs.SendPidfd") -> None:
        if self.compiled.request.pidfd_socket:
            send_pidfd(self.compiled.request.pidfd_socket, launch.pidfd)

    def _commit(self, launch: Launch, _op: "verbs.Commit") -> None:
        if self.record.listener is not None:
            from pyoci.host.seccomp_agent import count_filters

            self.record.listener.filters = count_filters(launch.pid)
        self._settle()
        self.directory.save(self.record)
        if self.compiled.request.pid_file:
            write_pid_file(self.compiled.request.pid_file, self.record.pid)

    # --- after a failure

    def _undo(self) -> "list[str]":
        """Remove everything; return error messages for what stays, which `delete --force` can find."""
        failures = self.launch.abort()
        cgroup = self.launch.cgroup
        reported = len(cgroup.warnings)
        try:
            cgroup.destroy(kill=True)
            self.directory.remove()
        except (PyociError, OSError) as error:
            failures.append(str(error))
        finally:
            self.directory.close()
        return failures + cgroup.warnings[reported:]


def _add_to_message(error: BaseException, failures: "list[str]") -> None:
    """Report what could not be undone, together with the error that made it necessary."""
    if isinstance(error, PyociError):
        error.message = "; ".join((error.message, *failures))


def _inner_pid(pid: int) -> int:
    """Return the pid that the process itself sees."""
    for line in files.read(f"/proc/{pid}/status").split(b"\n"):
        if line.startswith(b"NSpid:"):
            return int(line.split()[-1])
    return pid


# --- the record


def _new_record(compiled: Compiled) -> Record:
    """Return the record of a container that has no process yet."""
    config, plan = compiled.config, compiled.plan
    given = config.get("hooks", {})
    namespaces = {entry["type"]: entry.get("path", "") for entry in config.get("linux", {}).get("namespaces", ())}
    return Record(
        compiled.request.id,
        compiled.options.bundle,
        rootfs=rootfs_path(config, compiled.options),
        created=now(),
        cgroup=NoCgroup().to_dict(),
        boot_id=boot_id(),
        oci_version=config["ociVersion"],
        annotations=config.get("annotations"),
        hooks={kind: given[kind] for kind in ("poststart", "poststop") if given.get(kind)},
        args=config.get("process", {}).get("args"),
        notify=compiled.has_notify_socket,
        shares_pids="pid" not in namespaces or bool(namespaces["pid"]),
        listener=_listener(plan),
        start_operations={index: verbs.to_record(op) for index, op in _start_operations(plan)},
        namespaces={kind: path for kind, path in namespaces.items() if path},
        descriptors=standard_streams(),
    )


def _start_operations(plan: "Plan") -> "list[tuple[int, ChildOp]]":
    """Return the operations that run during `start`, with their numbers."""
    ops = list(enumerate(plan.child()))
    for index, op in ops:
        if isinstance(op, verbs.WaitStart):
            return ops[index:]
    return []


def _listener(plan: "Plan") -> "Listener | None":
    """Return the agent that gets the listener of the seccomp filter."""
    for op in plan.at.get(LISTENER, ()):
        if isinstance(op, verbs.SendListener):
            return Listener(op.path, op.metadata)
    return None


__all__ = ["create", "create_and_hold"]
