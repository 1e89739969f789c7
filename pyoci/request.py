"""What the caller of create, run, exec, checkpoint and restore asks for.

These classes hold values alone, so that a command line can be read without the modules that do the work.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.errors import Log
    from pyoci.types import Capabilities, Process, User


class CreateRequest:
    """The caller's request for create or run.

    `config_file` None is config.json in the bundle. The sockets and the pid file are None without the option.
    `preserve_fds` counts the descriptors after the standard streams that the program inherits.
    """

    __slots__ = (
        *("bundle", "cgroup_manager", "config_file", "console_socket", "id", "log", "no_new_keyring", "no_pivot"),
        *("pid_file", "pidfd_socket", "preserve_fds", "root"),
    )

    def __init__(
        self,
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
    ) -> None:
        self.id = id
        self.root = root
        self.bundle = bundle
        self.log = log
        self.config_file = config_file
        self.console_socket = console_socket
        self.pidfd_socket = pidfd_socket
        self.pid_file = pid_file
        self.no_pivot = no_pivot
        self.no_new_keyring = no_new_keyring
        self.preserve_fds = preserve_fds
        self.cgroup_manager = cgroup_manager


class ExecRequest:
    """The caller's request for exec.

    `wanted` is the path of a process.json, or overrides of the container's own process. `sub_cgroup` is the path of a
    cgroup below the container's, or "". The sockets and the pid file are None without the option.
    """

    __slots__ = (
        *("console_socket", "detach", "ignore_paused", "log", "pid_file", "pidfd_socket", "preserve_fds", "sub_cgroup"),
        "wanted",
    )

    def __init__(
        self,
        wanted: "str | ProcessOverrides",
        *,
        log: "Log",
        detach: bool = False,
        console_socket: "str | None" = None,
        pidfd_socket: "str | None" = None,
        pid_file: "str | None" = None,
        preserve_fds: int = 0,
        sub_cgroup: str = "",
        ignore_paused: bool = False,
    ) -> None:
        self.wanted = wanted
        self.log = log
        self.detach = detach
        self.console_socket = console_socket
        self.pidfd_socket = pidfd_socket
        self.pid_file = pid_file
        self.preserve_fds = preserve_fds
        self.sub_cgroup = sub_cgroup
        self.ignore_paused = ignore_paused


class ProcessOverrides:
    """What the options of exec change in the container's own `process`.

    `args` and `terminal` replace its values. `env`, `additional_gids` and `capabilities` are added to them. `user`,
    `cwd`, `apparmor` and `label` replace them unless they are None.
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

    def apply(self, process: "Process") -> "Process":
        """Return a copy of `process` with these changes."""
        changed: Process = {**process, "args": self.args, "terminal": self.terminal}
        changed["env"] = [*process.get("env", []), *self.env]
        changed["user"] = self._change_user(process.get("user"))
        if self.capabilities:
            changed["capabilities"] = self._add_capabilities(process.get("capabilities", {}))
        if self.cwd is not None:
            changed["cwd"] = self.cwd
        if self.apparmor is not None:
            changed["apparmorProfile"] = self.apparmor
        if self.label is not None:
            changed["selinuxLabel"] = self.label
        if self.no_new_privs:
            changed["noNewPrivileges"] = True
        if not self.terminal:
            changed.pop("consoleSize", None)
        return changed

    def _change_user(self, user: "User | None") -> "User":
        """Return the user with the given ids and the added groups."""
        changed: User = {**user} if user is not None else {}
        if self.user is not None:
            uid, gid = self.user
            changed["uid"] = uid
            changed["gid"] = changed.get("gid", 0) if gid is None else gid
        if self.additional_gids:
            changed["additionalGids"] = [*changed.get("additionalGids", []), *self.additional_gids]
        return changed

    def _add_capabilities(self, sets: "Capabilities") -> "Capabilities":
        """Return the capability sets with the added ones, as runc does it.

        Across execve a user other than root keeps only ambient capabilities, which must be inheritable.
        """
        changed: Capabilities = {**sets}
        changed["bounding"] = [*sets.get("bounding", []), *self.capabilities]
        changed["effective"] = [*sets.get("effective", []), *self.capabilities]
        changed["permitted"] = [*sets.get("permitted", []), *self.capabilities]
        heritable = [name for name in self.capabilities if name in sets.get("inheritable", [])]
        if heritable:
            changed["ambient"] = [*sets.get("ambient", []), *heritable]
        return changed


class CriuOptions:
    """The options of CRIU that checkpoint and restore share. "" and None stand for CRIU's or the runtime's default.

    `manage_cgroups_mode` is soft, full, strict, ignore, or "" for soft. `network_lock` is iptables, nftables or skip.
    `lsm_profile` is TYPE:NAME.
    """

    __slots__ = (
        *("auto_dedup", "ext_unix_sk", "file_locks", "lazy_pages", "link_remap", "lsm_mount_context"),
        *("lsm_profile", "manage_cgroups_mode", "network_lock", "shell_job", "tcp_close", "tcp_established"),
        "tcp_skip_in_flight",
    )

    def __init__(
        self,
        *,
        tcp_established: bool = False,
        tcp_skip_in_flight: bool = False,
        tcp_close: bool = False,
        ext_unix_sk: bool = False,
        shell_job: bool = False,
        file_locks: bool = False,
        manage_cgroups_mode: str = "",
        lsm_profile: str = "",
        lsm_mount_context: str = "",
        network_lock: str = "",
        link_remap: bool = False,
        auto_dedup: bool = False,
        lazy_pages: bool = False,
    ) -> None:
        self.tcp_established = tcp_established
        self.tcp_skip_in_flight = tcp_skip_in_flight
        self.tcp_close = tcp_close
        self.ext_unix_sk = ext_unix_sk
        self.shell_job = shell_job
        self.file_locks = file_locks
        self.manage_cgroups_mode = manage_cgroups_mode
        self.lsm_profile = lsm_profile
        self.lsm_mount_context = lsm_mount_context
        self.network_lock = network_lock
        self.link_remap = link_remap
        self.auto_dedup = auto_dedup
        self.lazy_pages = lazy_pages


class CheckpointRequest:
    """The caller's request for checkpoint.

    `work_path` None is the image directory. `parent_path` is relative to the image directory, or None. `criu` is the
    path of the program, None to look for it. `plan` is "" to checkpoint, or "text" or "json" to print the plan
    and CRIU's request.
    """

    __slots__ = (
        *("criu", "image_path", "leave_running", "log", "options", "page_server", "parent_path", "plan", "pre_dump"),
        *("status_fd", "work_path"),
    )

    def __init__(
        self,
        image_path: str,
        *,
        options: CriuOptions,
        log: "Log",
        work_path: "str | None" = None,
        parent_path: "str | None" = None,
        leave_running: bool = False,
        pre_dump: bool = False,
        page_server: "tuple[str, int] | None" = None,
        status_fd: "int | None" = None,
        criu: "str | None" = None,
        plan: str = "",
    ) -> None:
        self.image_path = image_path
        self.options = options
        self.log = log
        self.work_path = work_path
        self.parent_path = parent_path
        self.leave_running = leave_running
        self.pre_dump = pre_dump
        self.page_server = page_server
        self.status_fd = status_fd
        self.criu = criu
        self.plan = plan


class RestoreRequest:
    """The caller's request for restore. `create` has what restore shares with create; the rest is as in checkpoint.

    `detach`, `no_subreaper` and `keep` mean what they mean for run.
    """

    __slots__ = ("create", "criu", "detach", "image_path", "keep", "no_subreaper", "options", "plan", "work_path")

    def __init__(
        self,
        create: CreateRequest,
        image_path: str,
        *,
        options: CriuOptions,
        work_path: "str | None" = None,
        detach: bool = False,
        no_subreaper: bool = False,
        keep: bool = False,
        criu: "str | None" = None,
        plan: str = "",
    ) -> None:
        self.create = create
        self.image_path = image_path
        self.options = options
        self.work_path = work_path
        self.detach = detach
        self.no_subreaper = no_subreaper
        self.keep = keep
        self.criu = criu
        self.plan = plan


__all__ = ["CheckpointRequest", "CreateRequest", "CriuOptions", "ExecRequest", "ProcessOverrides", "RestoreRequest"]
