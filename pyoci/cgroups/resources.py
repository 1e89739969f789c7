"""`linux.resources` as a list of writes into a cgroup v2 directory.

Pure. Implements the runtime specification's "Control groups" (config-linux.md): properties that carry
cgroup v1 names are converted, and one that v2 has no equivalent for is an error unless its value asks
for what v2 does anyway. `devices` is not here: see device_filter.py.
"""

import math

from pyoci.errors import CgroupError
from pyoci.pointer import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Write:
    """One value for one file of a cgroup.

    `where` is the JSON pointer of the limit; `controller` is the controller that provides the file, ""
    for the core's own `cgroup.*` files.
    `default`: it lifts a limit (unlimited, not idle), as a cgroup without the file has none, so neither the
    file nor the controller has to exist. `otherwise` is written instead where the file is missing. `usage`
    names the file with the usage that the value must not be below (`checkBeforeUpdate`). `after_clone`: the
    value would refuse the container's own first process, so it has to be written when that one is inside.
    `asked` is the limit as the config has it, "weight 100", if `value` is another number.
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
        """The same with another value."""
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


# Properties without a counterpart in cgroup v2, with the values that ask for nothing.
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

# Files of the core that move, stop or kill processes: they are the runtime's, not limits.
RUNTIMES_OWN = ("cgroup.procs", "cgroup.threads", "cgroup.type", "cgroup.freeze", "cgroup.kill")

WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
DIGITS = frozenset("0123456789")


def writes(resources: "dict[str, Any]", where: str = "/linux/resources") -> list[Write]:
    """The writes that put `resources` (a valid `linux.resources`) into effect, in the order to apply them.

    `where` is the JSON pointer of `resources` itself. An unset limit makes no write and so needs no
    controller. Raises `CgroupError`, with its pointer, for what cgroup v2 can't express.
    """
    for section, key, nothing in UNCONVERTIBLE:
        value = resources.get(section, {}).get(key)
        if value is not None and value not in nothing:
            raise CgroupError(
                f"cannot convert {key} to cgroup v2: no controller has it", where=f"{where}/{section}/{key}"
            )
    return [
        write
        for section, convert in SECTIONS
        if section in resources
        for write in convert(resources[section], f"{where}/{section}")
    ]


def as_meant(resources: "dict[str, Any]", version: str) -> "dict[str, Any]":
    """`resources` in the words of version 1.3 of the specification, from which on a `pids.limit` of 0 is a limit.

    Before, engines said unlimited with it, as Podman 4 does, and runtimes took it so. `version` is `ociVersion` of the
    container's config, "" if that is not known.
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
    """(the controllers that `wanted` needs, those that it can do without), each once, in order."""
    needed = {w.controller: None for w in wanted if w.controller and not w.default}
    spare = {w.controller: None for w in wanted if w.controller and w.default and w.controller not in needed}
    return list(needed), list(spare)


def _memory(memory: "dict[str, Any]", where: str) -> "Iterator[Write]":
    limit = memory.get("limit", 0)  # 0 is unset, as engines mean it
    swap = _swap(memory, where)
    check = memory.get("checkBeforeUpdate", False)
    if limit:
        value = _bytes(limit, f"{where}/limit")
        usage = "memory.current" if check and limit > 0 else ""
        yield Write("memory.max", value, f"{where}/limit", default=limit == -1, usage=usage)
    if swap:
        # Without swap in the kernel there is no such file: then none of it can be used, and all of nothing may.
        nothing = swap in ("max", "0")
        usage = "memory.swap.current" if check and swap != "max" else ""
        source = "swap" if memory.get("swap") else "limit"
        asked = f"{source} {memory[source]}"
        yield Write("memory.swap.max", swap, f"{where}/{source}", default=nothing, usage=usage, asked=asked)
    if memory.get("reservation"):
        yield Write("memory.low", _bytes(memory["reservation"], f"{where}/reservation"), f"{where}/reservation")


def _swap(memory: "dict[str, Any]", where: str) -> str:
    """The value for memory.swap.max ("": leave it): v1 counts memory and swap together, v2 swap alone."""
    limit, total = memory.get("limit", 0), memory.get("swap", 0)
    where += "/swap"
    if total == 0:
        return "max" if limit == -1 else ""
    if total == -1:
        return "max"
    if total < 0:
        raise CgroupError(f"cannot convert swap {total}: must be -1 or more", where=where)
    if limit <= 0:
        raise CgroupError("cannot convert swap: it is memory plus swap, so memory/limit must be set too", where=where)
    if total < limit:
        raise CgroupError(
            f"cannot convert swap {total}: it is memory plus swap and less than memory/limit {limit}",
            where=where,
        )
    return str(total - limit)


def _bytes(value: int, where: str) -> str:
    if value < -1:
        raise CgroupError(f"cannot convert {value} bytes: must be -1 or more", where=where)
    return "max" if value == -1 else str(value)


def weight_of_shares(shares: int) -> int:
    """cpu.weight (1 to 10000) for v1 `cpu.shares`: the curve through 2 → 1, 1024 → 100 and 262144 → 10000."""
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def _cpu(cpu: "dict[str, Any]", where: str) -> "Iterator[Write]":
    idle, shares = cpu.get("idle"), cpu.get("shares", 0)
    if idle is not None:
        if idle not in (0, 1):
            raise CgroupError(f"cannot convert idle {idle}: must be 0 or 1", where=f"{where}/idle")
        yield Write("cpu.idle", str(idle), f"{where}/idle", default=idle == 0)
    # An idle group has no weight: the kernel refuses to set one, and would forget it.
    if shares and idle != 1:
        # 1024 gives the kernel's own weight, yet it asks for a share: without the controller there are none.
        yield Write("cpu.weight", str(weight_of_shares(shares)), f"{where}/shares", asked=f"shares {shares}")
    yield from _cpu_bandwidth(cpu, where)
    for key, file in (("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")):
        if cpu.get(key):
            yield Write(file, cpu[key], f"{where}/{key}")


def _cpu_bandwidth(cpu: "dict[str, Any]", where: str) -> "Iterator[Write]":
    quota, period, burst = cpu.get("quota", 0), cpu.get("period", 0), cpu.get("burst")
    if burst and 0 < quota < burst:
        raise CgroupError(f"cannot convert burst {burst}: more than quota {quota}", where=f"{where}/burst")
    bandwidth = ""
    if quota or period:
        # The kernel keeps the period of a write that has none: 100000 in a new cgroup, the last one in an update.
        bandwidth = (str(quota) if quota > 0 else "max") + (f" {period}" if period else "")
    if burst is not None and (bandwidth or not burst):
        # Quota and burst are checked against each other at every write; with no burst any quota is right.
        yield Write("cpu.max.burst", "0", f"{where}/burst", default=True)
    if bandwidth:
        yield Write("cpu.max", bandwidth, f"{where}/{'quota' if quota else 'period'}", default=quota <= 0)
    if burst:
        yield Write("cpu.max.burst", str(burst), f"{where}/burst")


def _block_io(block_io: "dict[str, Any]", where: str) -> "Iterator[Write]":
    if block_io.get("weight"):
        yield _weight("", block_io["weight"], f"{where}/weight")
    for index, device in enumerate(block_io.get("weightDevice", ())):
        at = f"{where}/weightDevice/{index}"
        if "weight" not in device and "leafWeight" not in device:
            raise CgroupError("cannot convert weightDevice: it has neither weight nor leafWeight", where=at)
        if device.get("leafWeight"):
            raise CgroupError("cannot convert leafWeight to cgroup v2: no controller has it", where=f"{at}/leafWeight")
        if device.get("weight"):
            yield _weight(_device(device), device["weight"], f"{at}/weight")
    for key, limit in THROTTLES:
        for index, device in enumerate(block_io.get(key, ())):
            rate = device["rate"]  # 0 lifts the limit, which v2 spells max
            line = f"{_device(device)}{limit}={rate or 'max'}"
            yield Write("io.max", line, f"{where}/{key}/{index}", default=not rate)


def _weight(device: str, weight: int, where: str) -> Write:
    """BFQ has the range of v1; io.weight counts to 10000. Which of the two exists is the host's affair."""
    if not 10 <= weight <= 1000:
        raise CgroupError(f"cannot convert weight {weight}: must be from 10 to 1000", where=where)
    asked = f"weight {weight}"
    scaled = Write("io.weight", f"{device}{1 + (weight - 10) * 9999 // 990}", where, asked=asked)
    return Write("io.bfq.weight", f"{device}{weight}", where, otherwise=scaled, asked=asked)


def _device(device: "dict[str, Any]") -> str:
    return f"{device['major']}:{device['minor']} "


def _pids(pids: "dict[str, Any]", where: str) -> "Iterator[Write]":
    limit = pids.get("limit")
    if limit is None:
        return
    if limit < 0:
        yield Write("pids.max", "max", f"{where}/limit", default=True)
    else:
        yield Write("pids.max", str(limit), f"{where}/limit", after_clone=limit == 0)


def _hugepages(limits: "list[dict[str, Any]]", where: str) -> "Iterator[Write]":
    for index, limit in enumerate(limits):
        size, at = limit["pageSize"], f"{where}/{index}"
        number = size[:-2]
        if size[-2:] not in ("KB", "MB", "GB") or not number or not DIGITS.issuperset(number) or number[0] == "0":
            raise CgroupError(
                f"cannot convert pageSize {size!r}: must be like 64KB, 2MB or 1GB", where=f"{at}/pageSize"
            )
        yield Write(f"hugetlb.{size}.max", str(limit["limit"]), at)
        # Reservations fail at mmap instead of killing at page fault; Linux before 5.7 does not count them.
        yield Write(f"hugetlb.{size}.rsvd.max", str(limit["limit"]), at, default=True)


def _rdma(devices: "dict[str, Any]", where: str) -> "Iterator[Write]":
    for name, limit in devices.items():
        at = f"{where}/{escape(name)}"
        if not name or any(c <= " " for c in name):
            raise CgroupError(f"cannot convert rdma device {name!r}: not a name", where=at)
        counts = [
            f" {kernel}={limit[key]}"
            for key, kernel in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))
            if key in limit
        ]
        if not counts:
            raise CgroupError("cannot convert rdma limit: it has neither hcaHandles nor hcaObjects", where=at)
        yield Write("rdma.max", name + "".join(counts), at)


def _unified(files: "dict[str, str]", where: str) -> "Iterator[Write]":
    for file, value in files.items():
        at = f"{where}/{escape(file)}"
        parts = file.split(".")
        if len(parts) < 2 or not all(part and WORD.issuperset(part) for part in parts):
            raise CgroupError(f"cannot write {file!r}: not the name of a cgroup v2 file", where=at)
        if file in RUNTIMES_OWN:
            raise CgroupError(f"cannot write {file}: only the runtime does", where=at)
        # A file with a line per device takes one line in each write.
        for line in [line for line in value.split("\n") if line] or [""]:
            yield Write(file, line, at, after_clone=file == "pids.max" and line.strip() == "0")


# `unified` stands last: it overrides.
SECTIONS: "tuple[tuple[str, Any], ...]" = (
    ("memory", _memory),
    ("cpu", _cpu),
    ("blockIO", _block_io),
    ("pids", _pids),
    ("hugepageLimits", _hugepages),
    ("rdma", _rdma),
    ("unified", _unified),
)
