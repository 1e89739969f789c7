"""An attacker's bench: a container with everything in the attacker's hands, and a host that must not change.

`Attack` is a `Runtime` whose root filesystem the test poisons. Beside that lies a canary tree, where every path that
escapes ends up. `Attack.assert_host_clean` checks what no attack may change: processes, mounts, cgroups, the state, the
canary, and the host's own files that past bugs wrote to.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from tests.support.runtime import PATIENCE, Bundle, Host, Result, Runtime, describe, wait_for

# What published bugs have written to, changed the owner of, or replaced.
HOST_FILES = (
    "/dev/null", "/dev/zero", "/dev/console", "/etc/passwd", "/etc/group", "/etc/hosts",
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/sysrq", "/proc/sys/kernel/modprobe",
)  # fmt: skip


class Attack(Runtime):
    """One container to attack, and the host around it. Commands may fail: the test looks at their results."""

    def __init__(self, executable: str, folder: Path) -> None:
        bundle = Bundle(folder / "bundle", str(folder / "bundle/rootfs"))
        super().__init__(executable, folder, bundle, Host(folder, canary="outside", adopts=False))
        self.outside = self.host.canary
        self.rootfs = bundle.rootfs
        self.ids = {self.id}
        self.remember()

    @property
    def config(self) -> Any:
        """The bundle's config."""
        return self.bundle.config

    @property
    def process(self) -> Any:
        return self.bundle.config["process"]

    @property
    def linux(self) -> Any:
        return self.bundle.config["linux"]

    def link(self, path: str, target: str) -> None:
        """A symbolic link in the root filesystem, in place of whatever is there."""
        place = self.rootfs / path.lstrip("/")
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
        place.unlink(missing_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def create(self, *options: object, id: str = "", **more: Any) -> Result:
        """`create` the container. What it prints goes to the files `out` and `err`."""
        return self.into_files("create", "--bundle", self.bundle.folder, *options, id or self.id, **more)

    def start(self) -> Result:
        return self("start", self.id)

    def delete(self, *options: str) -> Result:
        return self("delete", *(options or ("--force",)), self.id)

    # --- the host

    def remember(self) -> None:
        """From now on, this is what must not change."""
        self.host.remember()
        self._files = {path: describe(Path(path)) for path in HOST_FILES}

    def clean_up(self) -> None:
        """Remove whatever the container left, as an administrator would."""
        for container in self.ids:
            self("delete", "--force", container)
        for path in reversed(self.cgroups()):  # of a container that its state does not lead to any more
            with contextlib.suppress(OSError):
                Path(path, "cgroup.kill").write_text("1")
                wait_for(lambda path=path: "populated 0" in Path(path, "cgroup.events").read_text())
                os.rmdir(path)

    def assert_host_clean(self) -> None:
        """Invariants I1 to I5, after `delete --force` of whatever the attack left."""
        for _ in range(2):
            result = self.delete("--force")
            assert 0 == result.status, result
        assert [] == self.strays()
        self.host.assert_clean(self.root)
        assert self._files == {path: describe(Path(path)) for path in HOST_FILES}

    def cgroups(self) -> list[str]:
        """Cgroups with the container's name in theirs."""
        return self.host.cgroups()

    def strays(self) -> list[str]:
        """Processes that see the container's root filesystem mounted, except ended ones."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = []
            for entry in os.listdir("/proc"):
                if entry.isdigit():
                    with contextlib.suppress(OSError):
                        if str(self.bundle.folder) in Path(f"/proc/{entry}/mountinfo").read_text(errors="replace"):
                            found.append(Path(f"/proc/{entry}/cmdline").read_text(errors="replace").replace("\0", " "))
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.01)
