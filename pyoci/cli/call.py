"""What a command is called with, and what the global options mean."""

import posix

from pyoci.cli.log import Log
from pyoci.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.cli.options import Values

CGROUP_MANAGERS = ("cgroupfs", "systemd", "disabled")


class Call:
    """The operands, options and global options of one command."""

    __slots__ = ("cgroup_manager", "criu", "log", "operands", "options", "root", "root_given")

    def __init__(self, operands: "list[str]", options: "Values", given: "Values", log: Log) -> None:
        self.operands = operands
        self.options = options
        self.root_given = bool(given.text("root"))
        self.root = state_root(given)
        self.cgroup_manager = _cgroup_manager(given)
        self.criu = given.text("criu")
        self.log = log

    @property
    def id(self) -> str:
        """The container's id, always the first operand."""
        return self.operands[0]

    def operand(self, index: int, default: str) -> str:
        """An operand that is optional."""
        return self.operands[index] if index < len(self.operands) else default

    def path(self, name: str) -> str:
        """The value of an option that is a path, made absolute; "" if it was not given."""
        path = self.options.text(name)
        return absolute(path) if path else ""

    def optional_path(self, name: str) -> "str | None":
        """The same; None if it was not given."""
        return self.path(name) or None


def absolute(path: str) -> str:
    """`path`, which may be relative to the current directory, as an absolute path."""
    from pyoci.compiler.paths import join

    return join(posix.getcwd(), path)


def open_log(given: "Values", *, quiet: bool) -> Log:
    """Open the log that the global options ask for. Raises PyociError."""
    level = "debug" if given.on("debug") else given.text("log-level")
    return Log(given.text("log"), format=given.text("log-format") or "text", level=level, quiet=quiet)


def state_root(given: "Values") -> str:
    """The directory of the containers' states, as an absolute path.

    Later commands for the same container have another environment, so the default depends only on XDG_RUNTIME_DIR. It
    ignores that for root, because engines that run as root pass a user's, or an empty one.
    """
    root = given.text("root")
    if not root:
        runtime_dir = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode("utf-8", "surrogateescape")
        rootless = runtime_dir and (posix.geteuid() != 0 or in_user_namespace())
        root = f"{runtime_dir}/pyoci" if rootless else "/run/pyoci"
    return root if root.startswith("/") else absolute(root)


def in_user_namespace() -> bool:
    """Whether this is not the initial user namespace, where every id maps to itself."""
    try:
        fd = posix.open("/proc/self/uid_map", posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:  # a kernel without user namespaces, or no /proc
        return False
    try:
        return posix.read(fd, 4096).split() != [b"0", b"0", b"4294967295"]
    finally:
        posix.close(fd)


def _cgroup_manager(given: "Values") -> str:
    name = given.text("cgroup-manager") or ("systemd" if given.on("systemd-cgroup") else "cgroupfs")
    if name not in CGROUP_MANAGERS:
        raise UsageError(f"cannot use cgroup manager `{name}`: expected cgroupfs, systemd or disabled")
    return name
