"""What a test leaves on a machine: nothing new may be there after it.

The machine is one as tests/engines/machine makes it: everything that it has belongs to the test and its engine.
"""

import contextlib
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TIMEOUT = 60  # seconds: engines clean up behind the answer to a command
# Where runtimes keep the states of containers, beside what an engine adds.
STATES = ["/run/pyoci", "/run/runc", "/run/containerd/runc", "/run/user"]


_KERNEL = 0x00200000  # PF_KTHREAD


def processes() -> Iterator[tuple[int, str, str]]:
    """Each process that is not the kernel's own: its number, when it started, its command."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                name, _, rest = (folder / "stat").read_text().rpartition(")")
            except OSError:
                continue  # it has just ended
            fields = rest.split()
            if not int(fields[6]) & _KERNEL:
                yield int(folder.name), fields[19], name.partition("(")[2]


def children(pid: int) -> list[int]:
    """The processes whose parent this one is; none if it has just ended."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (thread / "children").read_text().split())
    return found


def descriptors(pid: int) -> Counter[str]:
    """What a process holds open, by kind: a path, or such as `socket`, `anon_inode:[eventpoll]`."""
    found: Counter[str] = Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except OSError:
            continue
        found[target if target.startswith(("/", "anon_inode:")) else target.partition(":")[0]] += 1
    return found


def units() -> Iterator[str]:
    """The units of the first process, if it is systemd, that are not just names."""
    if not os.path.isdir("/run/systemd/system"):
        return
    listing = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--full"]
    for line in subprocess.check_output(listing, text=True, timeout=TIMEOUT).splitlines():
        name, _, state = line.split()[:3]
        if name.endswith((".scope", ".slice", ".timer", ".service")):
            yield f"{name} ({state})"


class Leaks:
    """The state of the machine at one time, and whether it has returned to it."""

    def __init__(self, states: tuple[Path, ...] = (), daemons: tuple[int, ...] = (), slack: int = 0) -> None:
        """Record the state.

        Args:
            states: More directories with one entry for each container.
            daemons: Processes whose descriptors count, too.
            slack: How many descriptors these may hold without use: Go closes some when it collects garbage, in minutes.
        """
        self.slack = slack
        self.states = [*map(Path, STATES), *states]
        self.daemons = daemons
        self.before = self.now()

    def now(self) -> Counter[str]:
        """All there is, as one bag of lines."""
        found = Counter(f"process {pid} {name} (started {started})" for pid, started, name in processes())
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            found[f"mount {line.split()[4]}"] += 1
        found.update(f"unit {unit}" for unit in units())
        found.update(f"cgroup {folder}" for folder, _, _ in os.walk("/sys/fs/cgroup"))
        for folder in self.states:
            if folder.exists():
                found.update(f"state {entry}" for entry in folder.rglob("*") if entry.is_dir())
        for pid in self.daemons:
            found.update({f"descriptor of {pid}: {what}": count for what, count in descriptors(pid).items()})
        return found

    def left(self) -> list[str]:
        """Return what is new, after some time for it to disappear."""
        end = time.monotonic() + TIMEOUT
        while (left := self._left()) and time.monotonic() < end:
            time.sleep(0.05)
        return left

    def _left(self) -> list[str]:
        left = sorted((self.now() - self.before).elements())
        held = [line for line in left if line.startswith("descriptor ")]
        return left if len(held) > self.slack else [line for line in left if line not in held]

    def assert_none(self) -> None:
        """Fail with the list of what is left."""
        left = self.left()
        assert not left, "left:\n" + "\n".join(left)
