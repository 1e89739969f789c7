"""What every cgroup driver offers to the rest of the runtime.

`cgroupfs.Cgroup`, `systemd.Unit` and `disabled.NoCgroup` satisfy this protocol. It exists for type checkers and readers
alone: no command loads this module.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from pyoci.cgroups.resources import Write

    class Driver(Protocol):
        """A container's cgroup, or the lack of one."""

        warnings: list[str]
        """What the caller should report to the user. Methods append to it."""

        @property
        def driver(self) -> str:
            """The driver's name in the record and on the command line: cgroupfs, systemd or disabled."""

        @property
        def mount(self) -> str:
            """Where the hierarchy is mounted; "" without a cgroup."""

        @property
        def path(self) -> str:
            """The path of the cgroup below the mount; "" without a cgroup."""

        @property
        def inode(self) -> int:
            """The inode of the cgroup's directory; 0 while the cgroup is only planned, or without a cgroup."""

        @property
        def dirfd(self) -> int:
            """A descriptor of the directory; -1 without a cgroup. Raises CgroupError if the cgroup is gone."""

        @property
        def manager_moves_processes(self) -> bool:
            """Whether a manager can move a process here that the runtime itself may not move."""

        def to_dict(self) -> "dict[str, object]":
            """Return what `from_dict` needs in a later command, as JSON values."""

        def close(self) -> None:
            """Close all descriptors. A later access opens them again."""

        def apply(self, writes: "list[Write]") -> None:
            """Write the limits. Raises CgroupError with the pointer of the limit that the kernel rejects."""

        def add(self, pid: int) -> None:
            """Move a process into the cgroup."""

        def child(self, below: str) -> "Driver":
            """Return the existing cgroup `below` this one, "/a/b". Raises CgroupError."""

        def enable(self, writes: "list[Write]") -> None:
            """Enable the controllers that `writes` need. Raises CgroupError with the pointer of a limit."""

        def rounded(self, writes: "list[Write]") -> "list[Write]":
            """Return `writes` with the values that the cgroup's manager would write."""

        def notify_manager(self, writes: "list[Write]") -> None:
            """Report writes to the cgroup's manager, which would undo them otherwise. Raises CgroupError."""

        def read(self, name: str) -> str:
            """Return the content of a file, "" if there is none. Raises CgroupError."""

        def delegate(self, uid: int) -> None:
            """Make `uid` the owner of the directory and of the files that the kernel lets a new owner write."""

        def attach_device_filter(self, program: bytes, where: str = ...) -> None:
            """Attach a program of `device_filter.compile_rules`. Ignores b"", which allows everything."""

        def pids(self, *, recursive: bool = True) -> "list[int]":
            """Return the container's processes in the cgroup."""

        def is_frozen(self) -> bool:
            """Whether the processes are stopped, or about to stop."""

        def freeze(self, timeout: float = ...) -> None:
            """Stop every process and wait until they have stopped. Raises CgroupError after `timeout` seconds."""

        def thaw(self, timeout: float = ...) -> None:
            """Resume every process. Raises CgroupError after `timeout` seconds."""

        def kill(self, signal: int = ...) -> bool:
            """Send `signal` to every process. Returns False if the caller must signal the processes that it knows."""

        def accept_own_mark(self, is_alive: "Callable[[], bool]") -> None:
            """Accept any owner mark in the cgroup as the container's own while its init `is_alive`."""

        def destroy(self, *, kill: bool = False, timeout: float = ...) -> None:
            """Remove what the driver made. Raises CgroupError if processes remain.

            With `kill` this kills the processes inside; otherwise they get `timeout` seconds to end.
            """
