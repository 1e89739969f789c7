"""What the caller of create, run and exec asks for.

These classes hold values alone, so that a command line can be read without the modules that do the work.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.errors import Log


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

    def apply(self, process: "dict[str, Any]") -> "dict[str, Any]":
        """Return a copy of `process` with these changes."""
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
            changed["capabilities"] = self._with_capabilities(process.get("capabilities", {}))
        others = {"cwd": self.cwd, "apparmorProfile": self.apparmor, "selinuxLabel": self.label}
        changed |= {name: value for name, value in others.items() if value is not None}
        if self.no_new_privs:
            changed["noNewPrivileges"] = True
        if not self.terminal:
            changed.pop("consoleSize", None)
        return changed

    def _with_capabilities(self, sets: "dict[str, list[str]]") -> "dict[str, list[str]]":
        """Return the capability sets with the added ones, as in runc.

        Across execve a user other than root keeps only ambient capabilities, which must be inheritable.
        """
        added = {name: [*sets.get(name, []), *self.capabilities] for name in ("bounding", "effective", "permitted")}
        heritable = [name for name in self.capabilities if name in sets.get("inheritable", [])]
        if heritable:
            added["ambient"] = [*sets.get("ambient", []), *heritable]
        return {**sets, **added}


__all__ = ["CreateRequest", "ExecRequest", "ProcessOverrides"]
