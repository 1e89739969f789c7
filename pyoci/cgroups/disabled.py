"""The `disabled` manager: no cgroup."""

from pyoci.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyoci.cgroups.resources import Write


_DELEGATE = (
    "create it in a cgroup that is delegated to this user: with --systemd-cgroup in a systemd session, or under "
    "`systemd-run --user --scope`"
)


class NoCgroup:
    """The `disabled` manager: the container stays in the cgroup of its creator, without limits.

    `refusal` says why the host lets its creator make none; "" if it was not to make one.
    """

    __slots__ = ("refusal", "warnings")

    driver = "disabled"
    can_fetch = False
    dirfd = -1
    path = ""

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        self.warnings: list[str] = []

    @classmethod
    def create(
        cls,
        cgroups_path: str,  # noqa: ARG003
        id: str,  # noqa: ARG003
        writes: "list[Write]",  # noqa: ARG003
        mount: str = "",  # noqa: ARG003
        *,
        rootless: bool = False,  # noqa: ARG003
    ) -> "NoCgroup":
        """Nothing to make."""
        return cls()

    @classmethod
    def from_dict(cls, record: "dict[str, Any]") -> "NoCgroup":
        """The counterpart of `to_dict`."""
        return cls(str(record.get("refusal", "")))

    def to_dict(self) -> "dict[str, Any]":
        """What later commands need: that there is nothing, and why."""
        return {"driver": self.driver, "refusal": self.refusal}

    def close(self) -> None:
        """Nothing is open."""

    def apply(self, writes: "list[Write]") -> None:
        """Warn of every limit that is lost."""
        self.warnings += [f"{w.where}: ignored: cgroups are disabled" for w in writes if not w.default]

    def add(self, pid: int) -> None:
        """It stays where it is."""

    def enable(self, writes: "list[Write]") -> None:
        """Raises `CgroupError` for the first limit that would be lost."""
        for write in writes:
            if not write.default:
                raise self._lacking("limit", write.where)

    def fitted(self, writes: "list[Write]") -> "list[Write]":
        """The same."""
        return writes

    def tell(self, writes: "list[Write]") -> None:
        """There is nobody to tell."""

    def read(self, name: str) -> str:  # noqa: ARG002
        """There are no files."""
        return ""

    def delegate(self, uid: int) -> None:
        """There is nothing to own."""

    def attach_device_filter(self, program: bytes, where: str = "/linux/resources/devices") -> None:
        """Warn that devices are not filtered."""
        if program:
            self.warnings.append(f"{where}: ignored: cgroups are disabled")

    def pids(self, *, recursive: bool = True) -> list[int]:  # noqa: ARG002
        """None are known."""
        return []

    def frozen(self) -> bool:
        """Never."""
        return False

    def freeze(self, timeout: float = 0.0) -> None:  # noqa: ARG002
        """Raises `CgroupError`."""
        raise self._lacking("pause")

    def thaw(self, timeout: float = 0.0) -> None:  # noqa: ARG002
        """Raises `CgroupError`."""
        raise self._lacking("resume")

    def _lacking(self, verb: str, where: str = "") -> CgroupError:
        why = self.refusal or "its cgroup manager is disabled"
        return CgroupError(
            f"cannot {verb} container: it has no cgroup: {why}",
            where=where,
            hint=_DELEGATE if self.refusal else "create it without --cgroup-manager disabled",
        )

    def kill(self, signal: int = 9) -> bool:  # noqa: ARG002
        """False: nobody was reached, the caller has to signal the processes that it knows."""
        return False

    def trust(self, lives: "Callable[[], bool]") -> None:
        """There is nothing to take over."""

    def destroy(self, *, kill: bool = False, timeout: float = 0.0) -> None:
        """Nothing to remove."""
