"""events: what a container uses, and when the kernel kills in it for lack of memory."""

import posix
import select
import time

from pyoci.cgroups import stats
from pyoci.cgroups.hierarchy import page_sizes
from pyoci.host.processes import open_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NotRequired, TypedDict

    from pyoci.cgroups.driver import Driver
    from pyoci.cgroups.stats import Statistics
    from pyoci.container import Container

    class Event(TypedDict):
        """An event as `pyoci events` prints it: `stats` has data, `oom` has none."""

        type: str
        id: str
        data: NotRequired[Statistics]


_MAX_POLL = 86400.0  # seconds; poll(2) counts milliseconds in an int, which ends at 24 days
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def statistics(container: "Container") -> "Event":
    """Return an event of type `stats`. Raises StatusError if the container has no process."""
    container.require_process()
    return _statistics(container.id, container.cgroup())


def follow(container: "Container", interval: float) -> "Iterator[Event]":
    """Yield `stats` every `interval` seconds and `oom` for each kill, until the container has stopped.

    Raises StatusError if the container has no process.
    """
    container.require_process()
    pidfd = open_process(container.record)
    if pidfd < 0:
        return
    cgroup = container.cgroup()
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    memory = _watch_memory(poll, cgroup)
    kills = _count_kills(cgroup)
    due = time.monotonic()
    try:
        while True:
            left = due - time.monotonic()
            if left <= 0:
                yield _statistics(container.id, cgroup)
                due += interval
                continue
            ready = {fd for fd, _ in poll.poll(min(left, _MAX_POLL) * 1000)}
            if pidfd in ready:
                return
            if memory in ready:
                posix.pread(memory, 4096, 0)  # a read arms POLLPRI again
                before, kills = kills, _count_kills(cgroup)
                if kills > before:
                    yield {"type": "oom", "id": container.id}
    finally:
        posix.close(pidfd)
        if memory >= 0:
            posix.close(memory)


def _statistics(id: str, cgroup: "Driver") -> "Event":
    return {"type": "stats", "id": id, "data": stats.statistics(cgroup.read, page_sizes())}


def _watch_memory(poll: "select.poll", cgroup: "Driver") -> int:
    """Open memory.events and poll it for changes; -1 if the cgroup does not have it."""
    try:
        fd = posix.open("memory.events", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=cgroup.dirfd)
    except OSError:
        return -1
    posix.pread(fd, 4096, 0)
    poll.register(fd, select.POLLPRI)
    return fd


def _count_kills(cgroup: "Driver") -> int:
    return stats.flat(cgroup.read("memory.events")).get("oom_kill", 0)


def parse_interval(text: str) -> float:
    """Return the seconds of a duration such as 5s, 500ms or 1m30s; a bare number is seconds. Raises ValueError."""
    total, rest = 0.0, text if text.strip("0123456789.") else text + "s"
    while rest:
        unit = rest.lstrip("0123456789.")
        number = rest[: len(rest) - len(unit)]
        rest = unit.lstrip("hmsun")
        unit = unit[: len(unit) - len(rest)]
        if not number or unit not in _UNITS:
            raise ValueError(text)
        total += float(number) * _UNITS[unit]
    if not total:
        raise ValueError(text)
    return total


__all__ = ["follow", "parse_interval", "statistics"]
