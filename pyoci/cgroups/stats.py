"""What a container uses, for `events --stats`: the numbers of cgroup v2 under the names that engines expect.

Pure: `statistics` takes a function that reads a file of the cgroup and returns "" if there is none. Numbers are bytes,
counts or nanoseconds.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypedDict

    Read = Callable[[str], str]
    Average = dict[str, float]  # avg10, avg60 and avg300 in percent, total in microseconds

    class Pressure(TypedDict, total=False):
        """Pressure stall information, where the kernel has it."""

        psi: dict[str, Average]  # "some" and "full"

    class CpuUsage(TypedDict):
        """CPU time in nanoseconds."""

        total: int
        kernel: int
        user: int

    class Throttling(TypedDict):
        """The effect of a CPU quota; the time is in nanoseconds."""

        periods: int
        throttledPeriods: int
        throttledTime: int

    class Cpu(Pressure):
        """CPU time and its throttling."""

        usage: CpuUsage
        throttling: Throttling

    class Counter(TypedDict):
        """Bytes in use, their limit, and how often the limit was reached."""

        usage: int
        limit: int
        failcnt: int

    class MemoryCounter(Counter):
        """The same with the highest use so far."""

        max: int

    class Memory(Pressure):
        """Memory by kind; `raw` is memory.stat."""

        cache: int
        usage: MemoryCounter
        swap: Counter
        kernel: Counter
        kernelTCP: Counter
        raw: dict[str, int]

    class Pids(TypedDict):
        """Processes and threads; a limit of 0 means unlimited."""

        current: int
        limit: int

    class IoEntry(TypedDict):
        """A count for one operation on one device."""

        major: int
        minor: int
        op: str
        value: int

    class Io(Pressure):
        """Counts under the names of cgroup v1. cgroup v2 counts bytes and operations alone."""

        ioServiceBytesRecursive: list[IoEntry]
        ioServicedRecursive: list[IoEntry]
        ioQueueRecursive: list[IoEntry]
        ioServiceTimeRecursive: list[IoEntry]
        ioWaitTimeRecursive: list[IoEntry]
        ioMergedRecursive: list[IoEntry]
        ioTimeRecursive: list[IoEntry]
        sectorsRecursive: list[IoEntry]

    class HugePages(TypedDict):
        """Bytes in huge pages of one size."""

        usage: int
        failcnt: int

    class Statistics(TypedDict):
        """The `data` of an event of type `stats`."""

        cpu: Cpu
        memory: Memory
        pids: Pids
        blkio: Io
        hugetlb: dict[str, HugePages]
        intel_rdt: dict[str, object]
        network_interfaces: None


UNLIMITED = (1 << 64) - 1


def statistics(read: "Read", page_sizes: "list[str]") -> "Statistics":
    """Return the `data` of an event of type `stats`. `page_sizes` are the sizes that hugetlb has: `2MB`, …"""
    return {
        "cpu": _cpu(read),
        "memory": _memory(read),
        "pids": {"current": _number(read("pids.current")), "limit": _limit(read("pids.max"), unlimited=0)},
        "blkio": _io(read),
        "hugetlb": {size: _hugetlb(read, size) for size in page_sizes},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def flat(text: str) -> "dict[str, int]":
    """Parse a file of lines `key value`."""
    return {key: int(value) for key, value in (line.split(" ", 1) for line in text.splitlines())}


def _cpu(read: "Read") -> "Cpu":
    stat = flat(read("cpu.stat"))
    return {
        "usage": {
            "total": stat.get("usage_usec", 0) * 1000,
            "kernel": stat.get("system_usec", 0) * 1000,
            "user": stat.get("user_usec", 0) * 1000,
        },
        "throttling": {
            "periods": stat.get("nr_periods", 0),
            "throttledPeriods": stat.get("nr_throttled", 0),
            "throttledTime": stat.get("throttled_usec", 0) * 1000,
        },
        **_pressure(read("cpu.pressure")),
    }


def _memory(read: "Read") -> "Memory":
    raw = flat(read("memory.stat"))
    usage = _number(read("memory.current"))
    swap = _number(read("memory.swap.current"))
    return {
        "cache": raw.get("file", 0),
        "usage": {
            "usage": usage,
            "limit": _limit(read("memory.max")),
            "max": _number(read("memory.peak")),
            "failcnt": flat(read("memory.events")).get("max", 0),
        },
        # As in cgroup v1, "swap" counts memory and swap together.
        "swap": {"usage": usage + swap, "limit": _sum(read("memory.max"), read("memory.swap.max")), "failcnt": 0},
        "kernel": {"usage": raw.get("kernel", 0), "limit": UNLIMITED, "failcnt": 0},
        "kernelTCP": {"usage": raw.get("sock", 0), "limit": UNLIMITED, "failcnt": 0},
        "raw": raw,
        **_pressure(read("memory.pressure")),
    }


def _io(read: "Read") -> "Io":
    transferred: list[IoEntry] = []
    operations: list[IoEntry] = []
    for line in read("io.stat").splitlines():
        device, _, pairs = line.partition(" ")
        major, _, minor = device.partition(":")
        values = dict(pair.split("=", 1) for pair in pairs.split() if "=" in pair)
        for key, entries, operation in (
            ("rbytes", transferred, "Read"),
            ("wbytes", transferred, "Write"),
            ("rios", operations, "Read"),
            ("wios", operations, "Write"),
        ):
            if key in values:
                entries.append({"major": int(major), "minor": int(minor), "op": operation, "value": int(values[key])})
    return {
        "ioServiceBytesRecursive": transferred,
        "ioServicedRecursive": operations,
        "ioQueueRecursive": [],
        "ioServiceTimeRecursive": [],
        "ioWaitTimeRecursive": [],
        "ioMergedRecursive": [],
        "ioTimeRecursive": [],
        "sectorsRecursive": [],
        **_pressure(read("io.pressure")),
    }


def _hugetlb(read: "Read", size: str) -> "HugePages":
    prefix = f"hugetlb.{size}.rsvd" if read(f"hugetlb.{size}.rsvd.current") else f"hugetlb.{size}"
    failures = flat(read(f"hugetlb.{size}.events")).get("max", 0)
    # There is no `max`, the highest use so far as for memory: the kernel does not count it.
    return {"usage": _number(read(f"{prefix}.current")), "failcnt": failures}


def _pressure(text: str) -> "Pressure":
    """Parse lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. Returns {} without pressure information."""
    found: dict[str, Average] = {}
    for line in text.splitlines():
        kind, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs)
        found[kind] = {key: int(value) if key == "total" else float(value) for key, value in values.items()}
    return {"psi": found} if found else {}


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def _limit(text: str, unlimited: int = UNLIMITED) -> int:
    return int(text) if text.strip().isdigit() else unlimited


def _sum(memory: str, swap: str) -> int:
    first, second = _limit(memory), _limit(swap)
    return UNLIMITED if UNLIMITED in (first, second) else first + second


__all__ = ["UNLIMITED", "flat", "statistics"]
