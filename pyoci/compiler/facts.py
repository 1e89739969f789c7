"""The compiler's input besides the config: facts about the host, and options of the command."""

from pyoci.linux import CAP_SETGID, CAP_SYS_ADMIN


class Host:
    """Facts about this host that a plan depends on.

    `arch`            the architecture, as uname -m prints it
    `cgroup_mount`    the cgroup v2 mount point; "" without one
    `capabilities`    the mask of capabilities that this process can grant
    `uid` and `gid`   its effective ids
    `user_namespace`  whether it runs in a user namespace
    `setgroups`       whether that user namespace lets processes set their groups
    `apparmor` and `selinux`  whether the security module is enabled
    `open_files`      the soft and hard limit on its descriptors
    `user_manager`    whether the user's systemd makes units, not the system's
    `kernel`          the major and minor version of Linux
    `owns_pids`       whether its user namespace owns its pid namespace, which mounting a procfs requires
    `kernel_mounts`   the path of the kernel's own, nearly empty mount namespace; "" if the runtime may not join it
    """

    __slots__ = (
        *("apparmor", "arch", "capabilities", "cgroup_mount", "gid", "kernel", "kernel_mounts", "open_files"),
        *("owns_pids", "selinux", "setgroups", "uid", "user_manager", "user_namespace"),
    )

    def __init__(
        self,
        arch: str = "x86_64",
        cgroup_mount: str = "/sys/fs/cgroup",
        *,
        capabilities: int = (1 << 41) - 1,
        uid: int = 0,
        gid: int = 0,
        user_namespace: bool = False,
        setgroups: bool = True,
        apparmor: bool = False,
        selinux: bool = False,
        open_files: "tuple[int, int]" = (1024, 1 << 19),
        user_manager: bool = False,
        kernel: "tuple[int, int]" = (6, 18),
        owns_pids: bool = True,
        kernel_mounts: str = "",
    ) -> None:
        self.arch = arch
        self.cgroup_mount = cgroup_mount
        self.capabilities = capabilities
        self.uid = uid
        self.gid = gid
        self.user_namespace = user_namespace
        self.setgroups = setgroups
        self.apparmor = apparmor
        self.selinux = selinux
        self.open_files = open_files
        self.user_manager = user_manager
        self.kernel = kernel
        self.owns_pids = owns_pids
        self.kernel_mounts = kernel_mounts

    @property
    def may_mount(self) -> bool:
        """Whether this process may mount. If not, a container needs a user namespace."""
        return bool(self.capabilities & 1 << CAP_SYS_ADMIN)

    @property
    def rootless(self) -> bool:
        """Whether it has no power over the host. The runtime then skips what the host denies, such as a cgroup."""
        return self.user_namespace or not self.may_mount

    @property
    def holds_groups(self) -> bool:
        """Whether its supplementary groups on the host are root's, or groups that it may choose."""
        return not self.user_namespace and (self.uid == 0 or bool(self.capabilities & 1 << CAP_SETGID))


class Options:
    """What the command line and the environment add to the config.

    `bundle`          the bundle's absolute path
    `preserve_fds`    how many descriptors from 3 on the program inherits
    `no_pivot`        whether the child moves the root filesystem over `/` instead of calling pivot_root
    `new_keyring`     whether the container gets its own session keyring
    `cgroup_manager`  cgroupfs, systemd or disabled
    `no_cgroup`       why the cgroup manager is disabled, if this host requires it
    `notify`          the path of the container's socket for sd_notify on the host; "" without a service manager
    `pidfd_socket`    whether the engine wants a pidfd of the process
    """

    __slots__ = (
        *("bundle", "cgroup_manager", "container_id", "new_keyring", "no_cgroup", "no_pivot", "notify"),
        *("pidfd_socket", "preserve_fds"),
    )

    def __init__(
        self,
        bundle: str,
        container_id: str = "",
        *,
        preserve_fds: int = 0,
        no_pivot: bool = False,
        new_keyring: bool = True,
        cgroup_manager: str = "cgroupfs",
        no_cgroup: str = "",
        notify: str = "",
        pidfd_socket: bool = False,
    ) -> None:
        self.bundle = bundle
        self.container_id = container_id
        self.preserve_fds = preserve_fds
        self.no_pivot = no_pivot
        self.new_keyring = new_keyring
        self.cgroup_manager = cgroup_manager
        self.no_cgroup = no_cgroup
        self.notify = notify
        self.pidfd_socket = pidfd_socket


__all__ = ["Host", "Options"]
