"""`linux.resources` as a list of writes into a cgroup v2 directory.

Pure. Implements "Control groups" of the runtime specification (config-linux.md). Converts properties with cgroup v1
names, and rejects those without an equivalent in v2, unless their value requests what v2 does anyway. device_filter.py
has `devices`. Values are valid already: `config.checks` has seen them.
"""

import math

from pyoci.errors import CgroupError
from pyoci.pointer import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from pyoci.types import CPU, RDMA, BlockIO, HugepageLimit, Memory, Pids, Resources, Throttle, WeightDevice


class Write:
    """One value for one file of a cgroup.

    where        the JSON pointer of the limit
    controller   the controller that provides the file; "" for the core's own `cgroup.*` files
    default      the value lifts a limit: neither the file nor the controller has to exist
    otherwise    the write to use if the file is missing
    usage        the file with the usage that must not exceed the value (`checkBeforeUpdate`)
    after_clone  the value would keep the container's own init out, so it is written once init is inside
    asked        the limit in the config's words, "weight 100", if `value` is another number
    """

    __slots__ = ("after_clone", "asked", "controller", "default", "file", "otherwise", "usage", "value", "where")

    def __init__(
        self,
        file: str,
        value: str,
        where: str,
        *,
        default: bool = False,
        otherwise: "Write | None" = None,
        usage: str = "",
        after_clone: bool = False,
        asked: str = "",
    ) -> None:
        controller = file[: file.index(".")]
        self.file = file
        self.value = value
        self.where = where
        self.controller = "" if controller == "cgroup" else controller
        self.default = default
        self.otherwise = otherwise
        self.usage = usage
        self.after_clone = after_clone
        self.asked = asked

    def with_value(self, value: str) -> "Write":
        """Return the same write with another value."""
        return Write(
            self.file,
            value,
            self.where,
            default=self.default,
            otherwise=self.otherwise,
            usage=self.usage,
            after_clone=self.after_clone,
            asked=self.asked,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Write) and all(getattr(self, s) == getattr(other, s) for s in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"{self.file} = {self.value}"

    def __repr__(self) -> str:
        return f"Write({self.file!r}, {self.value!r}, {self.where!r})"


# Properties without a counterpart in cgroup v2, with the values that request nothing.
UNCONVERTIBLE: "tuple[tuple[str, str, tuple[Any, ...]], ...]" = (
    ("memory", "kernel", (0, -1)),
    ("memory", "kernelTCP", (0, -1)),
    ("memory", "swappiness", ()),
    ("memory", "disableOOMKiller", (False,)),
    ("memory", "useHierarchy", (True,)),
    ("cpu", "realtimeRuntime", (0, -1)),
    ("cpu", "realtimePeriod", (0,)),
    ("blockIO", "leafWeight", (0,)),
    ("network", "classID", (0,)),
    ("network", "priorities", ([],)),
)

THROTTLES = (
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)

# Files that move, stop or kill processes. Only the runtime may write them.
RUNTIME_FILES = ("cgroup.procs", "cgroup.threads", "cgroup.type", "cgroup.freeze", "cgroup.kill")


def writes(resources: "Resources", where: str = "/linux/resources") -> list[Write]:
    """Return the writes that put `resources`, a valid `linux.resources`, into effect, in the order to apply them.

    `where` is the JSON pointer of `resources` itself. An unset limit makes no write, and so needs no controller. Raises
    CgroupError, with the pointer, for a property that cgroup v2 can't express.
    """
    sections: Mapping[str, Any] = resources
    for section, key, nothing in UNCONVERTIBLE:
        value = sections.get(section, {}).get(key)
        if value is not None and value not in nothing:
            raise CgroupError(
                f"cannot convert {key} to cgroup v2: no controller has it", where=f"{where}/{section}/{key}"
            )
    return [
        write
        for section, convert in SECTIONS
        if section in sections
        for write in convert(sections[section], f"{where}/{section}")
    ]


def as_meant(resources: "Resources", version: str) -> "Resources":
    """Return `resources` with the meaning that version 1.3 of the specification gives to a `pids.limit` of 0: a limit.

    In configs of earlier versions 0 means unlimited to engines, such as Podman 4, and to runtimes. `version` is the
    `ociVersion` of the container's config, "" if it is unknown.
    """
    pids = resources.get("pids", {})
    if pids.get("limit") != 0 or _is_at_least_1_3(version):
        return resources
    return {**resources, "pids": {**pids, "limit": -1}}


def _is_at_least_1_3(version: str) -> bool:
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return major.isdigit() and minor.isdigit() and (int(major), int(minor)) >= (1, 3)


def controllers(wanted: "list[Write]") -> tuple[list[str], list[str]]:
    """Return the controllers that `wanted` needs, and those that only lifted limits use. Each once, in order."""
    needed = {w.controller: None for w in wanted if w.controller and not w.default}
    optional = {w.controller: None for w in wanted if w.controller and w.default and w.controller not in needed}
    return list(needed), list(optional)


def _memory(memory: "Memory", where: str) -> "Iterator[Write]":
    limit = memory.get("limit", 0)  # engines send 0 for an unset limit
    swap = _swap(limit, memory.get("swap", 0))
    check = memory.get("checkBeforeUpdate", False)
    if limit:
        usage = "memory.current" if check and limit > 0 else ""
        yield Write("memory.max", _bytes(limit), f"{where}/limit", default=limit == -1, usage=usage)
    if swap:
        # A kernel without swap has no such file, so "no swap" and "unlimited swap" are in effect anyway.
        in_effect = swap in ("max", "0")
        usage = "memory.swap.current" if check and swap != "max" else ""
        source, value = ("swap", memory["swap"]) if memory.get("swap") else ("limit", limit)
        asked = f"{source} {value}"
        yield Write("memory.swap.max", swap, f"{where}/{source}", default=in_effect, usage=usage, asked=asked)
    if memory.get("reservation"):
        yield Write("memory.low", _bytes(memory["reservation"]), f"{where}/reservation")


def _swap(limit: int, total: int) -> str:
    """Return the value for memory.swap.max, "" to keep it. cgroup v1 counts memory plus swap, v2 swap alone."""
    if total == 0:
        return "max" if limit == -1 else ""
    return "max" if total == -1 else str(total - limit)


def _bytes(value: int) -> str:
    return "max" if value == -1 else str(value)


def weight_of_shares(shares: int) -> int:
    """Return cpu.weight (1 to 10000) for v1 `cpu.shares`: the curve through 2 → 1, 1024 → 100 and 262144 → 10000."""
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def _cpu(cpu: "CPU", where: str) -> "Iterator[Write]":
    idle, shares = cpu.get("idle"), cpu.get("shares", 0)
    if idle is not None:
        yield Write("cpu.idle", str(idle), f"{where}/idle", default=idle == 0)
    # An idle cgroup has no weight, and the kernel rejects one.
    if shares and idle != 1:
        # 1024 is the kernel's own weight. It still requests a share, which needs the controller.
        yield Write("cpu.weight", str(weight_of_shares(shares)), f"{where}/shares", asked=f"shares {shares}")
    yield from _cpu_bandwidth(cpu, where)
    if cpu.get("cpus"):
        yield Write("cpuset.cpus", cpu["cpus"], f"{where}/cpus")
    if cpu.get("mems"):
        yield Write("cpuset.mems", cpu["mems"], f"{where}/mems")


def _cpu_bandwidth(cpu: "CPU", where: str) -> "Iterator[Write]":
    quota, period, burst = cpu.get("quota", 0), cpu.get("period", 0), cpu.get("burst")
    bandwidth = ""
    if quota or period:
        # The kernel keeps the period if a write has none: 100000 in a new cgroup, the last one in an update.
        bandwidth = (str(quota) if quota > 0 else "max") + (f" {period}" if period else "")
    if burst is not None and (bandwidth or not burst):
        # The kernel compares quota and burst at every write. Without a burst it accepts any quota.
        yield Write("cpu.max.burst", "0", f"{where}/burst", default=True)
    if bandwidth:
        yield Write("cpu.max", bandwidth, f"{where}/{'quota' if quota else 'period'}", default=quota <= 0)
    if burst:
        yield Write("cpu.max.burst", str(burst), f"{where}/burst")


def _block_io(block_io: "BlockIO", where: str) -> "Iterator[Write]":
    if block_io.get("weight"):
        yield _weight("", block_io["weight"], f"{where}/weight")
    for index, device in enumerate(block_io.get("weightDevice", ())):
        at = f"{where}/weightDevice/{index}"
        if device.get("leafWeight"):
            raise CgroupError("cannot convert leafWeight to cgroup v2: no controller has it", where=f"{at}/leafWeight")
        if device.get("weight"):
            yield _weight(_device(device), device["weight"], f"{at}/weight")
    throttles: Mapping[str, Any] = block_io
    for key, limit in THROTTLES:
        for index, throttle in enumerate(throttles.get(key, ())):
            yield _throttle(throttle, limit, f"{where}/{key}/{index}")


def _throttle(throttle: "Throttle", limit: str, where: str) -> Write:
    rate = throttle["rate"]  # 0 lifts the limit, which is "max" in v2
    return Write("io.max", f"{_device(throttle)}{limit}={rate or 'max'}", where, default=not rate)


def _weight(device: str, weight: int, where: str) -> Write:
    """Return the write for BFQ, whose weights have v1's range, or else for io.weight, which counts to 10000."""
    if not 10 <= weight <= 1000:
        raise CgroupError(f"cannot convert weight {weight}: must be from 10 to 1000", where=where)
    asked = f"weight {weight}"
    scaled = Write("io.weight", f"{device}{1 + (weight - 10) * 9999 // 990}", where, asked=asked)
    return Write("io.bfq.weight", f"{device}{weight}", where, otherwise=scaled, asked=asked)


def _device(device: "WeightDevice | Throttle") -> str:
    return f"{device['major']}:{device['minor']} "


def _pids(pids: "Pids", where: str) -> "Iterator[Write]":
    limit = pids.get("limit")
    if limit is None:
        return
    if limit < 0:
        yield Write("pids.max", "max", f"{where}/limit", default=True)
    else:
        yield Write("pids.max", str(limit), f"{where}/limit", after_clone=limit == 0)


def _hugepages(limits: "list[HugepageLimit]", where: str) -> "Iterator[Write]":
    for index, limit in enumerate(limits):
        size, at = limit["pageSize"], f"{where}/{index}"
        yield Write(f"hugetlb.{size}.max", str(limit["limit"]), at)
        # A limit of reservations fails mmap(2), where the other one kills at the page fault. Linux 5.7 or later has it.
        yield Write(f"hugetlb.{size}.rsvd.max", str(limit["limit"]), at, default=True)


def _rdma(devices: "dict[str, RDMA]", where: str) -> "Iterator[Write]":
    for name, limit in devices.items():
        at = f"{where}/{escape(name)}"
        if not name or any(c <= " " for c in name):
            raise CgroupError(f"cannot convert rdma device {name!r}: it is not a device name", where=at)
        counts = f" hca_handle={limit['hcaHandles']}" if "hcaHandles" in limit else ""
        counts += f" hca_object={limit['hcaObjects']}" if "hcaObjects" in limit else ""
        yield Write("rdma.max", name + counts, at)


def _unified(files: "dict[str, str]", where: str) -> "Iterator[Write]":
    for file, value in files.items():
        at = f"{where}/{escape(file)}"
        if file in RUNTIME_FILES:
            raise CgroupError(f"cannot write {file}: only the runtime may write it", where=at)
        # A file with a line for each device accepts one line in each write.
        for line in [line for line in value.split("\n") if line] or [""]:
            yield Write(file, line, at, after_clone=file == "pids.max" and line.strip() == "0")


# `unified` comes last: it overrides the other sections.
SECTIONS: "tuple[tuple[str, Callable[[Any, str], Iterator[Write]]], ...]" = (
    ("memory", _memory),
    ("cpu", _cpu),
    ("blockIO", _block_io),
    ("pids", _pids),
    ("hugepageLimits", _hugepages),
    ("rdma", _rdma),
    ("unified", _unified),
)
