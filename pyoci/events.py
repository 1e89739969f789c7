"""What happens to a container: `events` prints a line of JSON for each, until it has stopped."""

import posix
import select
import time

from pyoci.cgroups import stats
from pyoci.cgroups.hierarchy import page_sizes
from pyoci.cli.log import print_data
from pyoci.config.jsonio import dumps
from pyoci.state import open_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.cgroups.driver import Driver


def statistics(id: str, cgroup: "Driver") -> "dict[str, Any]":
    """An event of type `stats`."""
    return {"type": "stats", "id": id, "data": stats.statistics(cgroup.read, page_sizes())}


def follow(id: str, record: "dict[str, Any]", cgroup: "Driver", interval: float) -> None:
    """Print `stats` every `interval` seconds, and `oom` when the kernel kills for want of memory."""
    pidfd = open_process(record)
    if pidfd < 0:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    memory = _watch(poll, cgroup)
    killed = _killed(cgroup)
    due = time.monotonic()
    try:
        while True:
            left = due - time.monotonic()
            if left <= 0:
                _print(statistics(id, cgroup))
                due += interval
                continue
            ready = {fd for fd, _ in poll.poll(min(left, _LONGEST_POLL) * 1000)}
            if pidfd in ready:
                return
            if memory in ready:
                posix.pread(memory, 4096, 0)  # arms it again
                before, killed = killed, _killed(cgroup)
                if killed > before:
                    _print({"type": "oom", "id": id})
    finally:
        posix.close(pidfd)
        if memory >= 0:
            posix.close(memory)


def _watch(poll: "select.poll", cgroup: "Driver") -> int:
    """memory.events, whose changes the kernel tells; -1 if the cgroup has none."""
    try:
        fd = posix.open("memory.events", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=cgroup.dirfd)
    except OSError:
        return -1
    posix.pread(fd, 4096, 0)
    poll.register(fd, select.POLLPRI)
    return fd


def _killed(cgroup: "Driver") -> int:
    return stats.flat(cgroup.read("memory.events")).get("oom_kill", 0)


def _print(event: "dict[str, Any]") -> None:
    print_data(dumps(event) + "\n")


_LONGEST_POLL = 86400.0  # seconds; the kernel's milliseconds end at 24 days

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def parse_interval(text: str) -> float:
    """Seconds in a duration such as 5s, 500ms or 1m30s; a bare number is seconds. Raises ValueError."""
    total, rest = 0.0, text if text.strip("0123456789.") else text + "s"
    while rest:
        unit = rest.lstrip("0123456789.")
        number = rest[: len(rest) - len(unit)]
        rest = unit.lstrip("hmsun")
        unit = unit[: len(unit) - len(rest)]
        if not number or unit not in UNITS:
            raise ValueError(text)
        total += float(number) * UNITS[unit]
    if not total:
        raise ValueError(text)
    return total


__all__ = ["follow", "parse_interval", "statistics"]
