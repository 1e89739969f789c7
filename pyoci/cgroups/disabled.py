"""The `disabled` driver: the container has no cgroup."""

from pyoci.errors import CgroupError
from pyoci.linux import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from pyoci.cgroups.resources import Write


_DELEGATE = (
    "create it in a cgroup that is delegated to this user: with --systemd-cgroup in a systemd session, or under "
    "`systemd-run --user --scope`"
)


class NoCgroup:
    """The container stays in the cgroup of its creator, without limits. `driver.Driver` documents the methods.

    refusal   why the host does not let the creator make a cgroup; "" if the creator chose to make none
    """

    __slots__ = ("refusal", "warnings")

    driver = "disabled"
    manager_moves_processes = False
    dirfd = -1
    inode = 0
    mount = ""
    path = ""

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        self.warnings: list[str] = []

    @classmethod
    def from_dict(cls, record: "dict[str, Any]") -> "NoCgroup":
        """Return the driver that `to_dict` described."""
        return cls(str(record.get("refusal", "")))

    def to_dict(self) -> "dict[str, object]":
        """Return the driver's name, and why there is no cgroup."""
        return {"driver": self.driver, "refusal": self.refusal}

    def close(self) -> None:
        """Do nothing."""

    def apply(self, writes: "list[Write]") -> None:
        """Warn about every limit: it has no effect."""
        self.warnings += [f"{write.where}: ignored: cgroups are disabled" for write in writes if not write.default]

    def add(self, pid: int) -> None:
        """Do nothing: the process stays where it is."""

    def child(self, below: str) -> "NoCgroup":  # noqa: ARG002
        """Return this: `exec --cgroup` has no effect."""
        return self

    def enable(self, writes: "list[Write]") -> None:
        """Raise CgroupError for the first limit that would have no effect."""
        for write in writes:
            if not write.default:
                self._fail("limit", write.where)

    def rounded(self, writes: "list[Write]") -> "list[Write]":
        """Return `writes` unchanged."""
        return writes

    def notify_manager(self, writes: "list[Write]") -> None:
        """Do nothing."""

    def read(self, name: str) -> str:  # noqa: ARG002
        """Return "": there are no files."""
        return ""

    def delegate(self, uid: int) -> None:
        """Do nothing."""

    def attach_device_filter(self, program: bytes, where: str = "/linux/resources/devices") -> None:
        """Warn that devices are not filtered."""
        if program:
            self.warnings.append(f"{where}: ignored: cgroups are disabled")

    def pids(self, *, recursive: bool = True) -> list[int]:  # noqa: ARG002
        """Return none: nothing lists the container's processes."""
        return []

    def is_frozen(self) -> bool:
        """Return False."""
        return False

    def freeze(self, timeout: float = 0.0) -> None:  # noqa: ARG002
        """Raise CgroupError."""
        self._fail("pause")

    def thaw(self, timeout: float = 0.0) -> None:  # noqa: ARG002
        """Raise CgroupError."""
        self._fail("resume")

    def kill(self, signal: int = SIGKILL) -> bool:  # noqa: ARG002
        """Return False: the caller must signal the processes that it knows."""
        return False

    def accept_own_mark(self, is_alive: "Callable[[], bool]") -> None:
        """Do nothing."""

    def destroy(self, *, kill: bool = False, timeout: float = 0.0) -> None:
        """Do nothing."""

    def _fail(self, action: str, where: str = "") -> "NoReturn":
        why = self.refusal or "its cgroup manager is disabled"
        raise CgroupError(
            f"cannot {action} container: it has no cgroup: {why}",
            where=where,
            hint=_DELEGATE if self.refusal else "create it without --cgroup-manager disabled",
        )


__all__ = ["NoCgroup"]
