"""What the caller of create, run and exec asks for.

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


__all__ = ["CreateRequest", "ExecRequest", "ProcessOverrides"]
