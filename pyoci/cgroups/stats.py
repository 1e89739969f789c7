"""What a container uses, as `events --stats` tells it: the numbers of cgroup v2 under the names that engines know.

Pure: `statistics` gets a function that reads a file of the cgroup, "" if there is none. Numbers are bytes, counts or
nanoseconds.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Read = Callable[[str], str]

UNLIMITED = (1 << 64) - 1
# io.stat counts, under the names of v1: (its key, list of v1, operation)
IO = (
    ("rbytes", "ioServiceBytesRecursive", "Read"),
    ("wbytes", "ioServiceBytesRecursive", "Write"),
    ("rios", "ioServicedRecursive", "Read"),
    ("wios", "ioServicedRecursive", "Write"),
)
IO_LISTS = (
    "ioServiceBytesRecursive", "ioServicedRecursive", "ioQueueRecursive", "ioServiceTimeRecursive",
    "ioWaitTimeRecursive", "ioMergedRecursive", "ioTimeRecursive", "sectorsRecursive",
)  # fmt: skip


def statistics(read: "Read", page_sizes: "list[str]") -> "dict[str, Any]":
    """The `data` of an event of type `stats`. `page_sizes` are those that hugetlb has: `2MB`, …"""
    return {
        "cpu": _cpu(flat(read("cpu.stat"))) | _pressure(read("cpu.pressure")),
        "memory": _memory(read),
        "pids": {"current": _number(read("pids.current")), "limit": _limit(read("pids.max"), unlimited=0)},
        "blkio": _io(read("io.stat")) | _pressure(read("io.pressure")),
        "hugetlb": {size: _hugetlb(read, size) for size in page_sizes},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def flat(text: str) -> "dict[str, int]":
    """A file of lines `key value`."""
    return {key: int(value) for key, value in (line.split(" ", 1) for line in text.splitlines())}


def _cpu(stat: "dict[str, int]") -> "dict[str, Any]":
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
    }


def _memory(read: "Read") -> "dict[str, Any]":
    raw = flat(read("memory.stat"))
    usage = _number(read("memory.current"))
    swap = _number(read("memory.swap.current"))
    failures = flat(read("memory.events")).get("max", 0)
    return {
        "cache": raw.get("file", 0),
        "usage": {
            "usage": usage,
            "limit": _limit(read("memory.max")),
            "max": _number(read("memory.peak")),
            "failcnt": failures,
        },
        # memory and swap together, as v1 counts
        "swap": {"usage": usage + swap, "limit": _together(read("memory.max"), read("memory.swap.max")), "failcnt": 0},
        "kernel": {"usage": raw.get("kernel", 0), "limit": UNLIMITED, "failcnt": 0},
        "kernelTCP": {"usage": raw.get("sock", 0), "limit": UNLIMITED, "failcnt": 0},
        "raw": raw,
    } | _pressure(read("memory.pressure"))


def _io(text: str) -> "dict[str, Any]":
    lists: dict[str, Any] = {name: [] for name in IO_LISTS}
    for line in text.splitlines():
        device, _, pairs = line.partition(" ")
        major, _, minor = device.partition(":")
        values = dict(pair.split("=", 1) for pair in pairs.split() if "=" in pair)
        for key, name, operation in IO:
            if key in values:
                entry = {"major": int(major), "minor": int(minor), "op": operation, "value": int(values[key])}
                lists[name].append(entry)
    return lists


def _hugetlb(read: "Read", size: str) -> "dict[str, int]":
    prefix = f"hugetlb.{size}.rsvd" if read(f"hugetlb.{size}.rsvd.current") else f"hugetlb.{size}"
    failures = flat(read(f"hugetlb.{size}.events")).get("max", 0)
    # `max` would be the most that was ever used, as of memory: the kernel does not count it
    return {"usage": _number(read(f"{prefix}.current")), "failcnt": failures}


def _pressure(text: str) -> "dict[str, Any]":
    """Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`; nothing where the kernel does not count it."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        kind, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs)
        found[kind] = {key: int(value) if key == "total" else float(value) for key, value in values.items()}
    return {"psi": found} if found else {}


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def _limit(text: str, unlimited: int = UNLIMITED) -> int:
    return int(text) if text.strip().isdigit() else unlimited


def _together(memory: str, swap: str) -> int:
    first, second = _limit(memory), _limit(swap)
    return UNLIMITED if UNLIMITED in (first, second) else first + second
