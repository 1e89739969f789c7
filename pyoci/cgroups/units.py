"""systemd's side of a container: the unit's name, and its properties.

Pure. `linux.cgroupsPath` is `SLICE:PREFIX:NAME` under the systemd driver. Limits become properties as they are written
to files: what `cgroups.resources` converts is converted once. systemd has no property for every file, and the files are
written in any case; but it writes those of its properties again when it reloads, so a limit must be known to it.
"""

from pyoci import ranges
from pyoci.dbus.wire import Variant
from pyoci.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from pyoci.cgroups.resources import Write

PATH_POINTER = "/linux/cgroupsPath"
PREFIX = "pyoci"
ANNOTATION = "org.systemd.property."
UNLIMITED = (1 << 64) - 1

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
_LONGEST_NAME = 255
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")

# systemd keeps a quota as microseconds of a second, and rounds it up to 10 ms when it writes cpu.max.
_SECOND, _QUOTA_STEP, DEFAULT_PERIOD = 1_000_000, 10_000, 100_000


class Name:
    """What `linux.cgroupsPath` asks for.

    unit   the unit: `PREFIX-NAME.scope`, or a slice if NAME ends in `.slice`
    slice  the slice that it is in
    path   its cgroup, as a path from the cgroup of systemd: `/system.slice/docker-4f1e.scope`
    """

    __slots__ = ("path", "slice", "unit")

    def __init__(self, unit: str, slice_: str) -> None:
        self.unit = unit
        self.slice = slice_
        self.path = expand_slice(unit) if self.is_slice else f"{expand_slice(slice_).rstrip('/')}/{unit}"

    @property
    def is_slice(self) -> bool:
        """Whether it is a slice, which is made without a process."""
        return self.unit.endswith(".slice")


def parse_path(cgroups_path: str, id: str, *, user: bool) -> Name:
    """The unit of `linux.cgroupsPath` ("" when unset) of container `id`; `user`: in the user's systemd.

    Raises `CgroupError` with its pointer.
    """
    parts = cgroups_path.split(":") if cgroups_path else ["", PREFIX, id]
    if len(parts) != 3:
        raise _refusal(cgroups_path, "the systemd driver takes SLICE:PREFIX:NAME")
    slice_, prefix, name = parts
    if not name:
        raise _refusal(cgroups_path, "it has no name")
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope"
    slice_ = slice_ or ("user.slice" if user else "system.slice")
    if not _NAME_CHARACTERS.issuperset(unit) or len(unit) > _LONGEST_NAME:
        raise _refusal(cgroups_path, f"{unit} is not the name of a unit")
    try:
        return Name(unit, slice_)
    except CgroupError as error:
        raise _refusal(cgroups_path, error.message) from error


def expand_slice(name: str) -> str:
    """The path of a slice: a dash says what it is in. `a-b.slice` → `/a.slice/a-b.slice`; `-.slice` → `/`."""
    stem = name.removesuffix(".slice")
    valid = stem != name and _NAME_CHARACTERS.issuperset(stem) and len(name) <= _LONGEST_NAME
    if stem == "-" and valid:
        return "/"
    parts = stem.split("-")
    if not valid or not all(parts):
        raise CgroupError(f"{name} is not the name of a slice")
    return "".join(f"/{'-'.join(parts[: n + 1])}.slice" for n in range(len(parts)))


def _refusal(cgroups_path: str, why: str) -> CgroupError:
    return CgroupError(f"cannot use cgroup path {cgroups_path!r}: {why}", where=PATH_POINTER)


class Property:
    """One property of a unit. `where` is the JSON pointer of what asked for it, `since` the first systemd with it,
    `text` the value as a person reads it."""

    __slots__ = ("name", "since", "text", "value", "where")

    def __init__(
        self, name: str, signature: str, value: "Any", where: str = PATH_POINTER, *, since: int = 0, text: str = ""
    ) -> None:
        self.name = name
        self.value = Variant(signature, value)
        self.where = where
        self.since = since
        self.text = text or _show(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Property) and all(getattr(self, s) == getattr(other, s) for s in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Property({self.name!r}, {self.value!r}, {self.where!r})"


def _show(value: "Any") -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value == UNLIMITED:
        return "infinity"
    if isinstance(value, list):
        return " ".join(_show(item) for item in value)
    return str(value.value if isinstance(value, Variant) else value)


def base(name: Name, id: str) -> "list[Property]":
    """What every unit of a container has. Its processes are added when it is made."""
    accounting = [Property(f"{kind}Accounting", "b", True) for kind in ("Memory", "CPU", "IO", "Tasks")]
    placed = (
        [Property("Wants", "as", [name.slice])]
        if name.is_slice
        else [Property("Slice", "s", name.slice), Property("Delegate", "b", True)]
    )
    return [
        Property("Description", "s", f"container {id}"),
        *placed,
        *accounting,
        Property("DefaultDependencies", "b", False),
        # Of a runtime that is killed half way, a unit without processes may be left: systemd forgets it, failed or not.
        Property("CollectMode", "s", "inactive-or-failed"),
    ]


def rounded(writes: "Iterable[Write]") -> "list[Write]":
    """`writes` with every quota as systemd would write it, so that it never changes it afterwards."""
    found = []
    for write in writes:
        if write.file == "cpu.max":
            quota, period = _bandwidth(write)
            if quota is not None:
                quota = _per_second(quota, period) * period // _SECOND
                write = write.with_value(" ".join((str(quota), *write.value.split()[1:])))
        found.append(write)
    return found


def properties(writes: "Iterable[Write]") -> "Iterator[Property]":
    """The properties that say what `writes` do, for those that have one."""
    for write in writes:
        convert = _PROPERTIES.get(write.file)
        if convert is not None:
            yield from convert(write)
        elif write.otherwise is not None:
            yield from properties((write.otherwise,))


# systemd 252 to 262 set these only when they make a scope. A slice does not have them.
AT_CREATION = frozenset({"OOMPolicy"})


def changes(writes: "Iterable[Write]") -> "list[Property]":
    """The properties of `writes` that systemd changes on a running unit.

    The others stand in the cgroup's file alone. When systemd reloads, it writes there what the unit was made with.
    """
    return [each for each in properties(writes) if each.name not in AT_CREATION]


def _bytes_or_infinity(name: str, since: int = 0) -> "Any":
    def convert(write: "Write") -> "Iterator[Property]":
        yield Property(name, "t", _number(write), write.where, since=since)

    return convert


def _number(write: "Write") -> int:
    """A limit's value; raises `CgroupError` for one that systemd could not be told."""
    value = write.value.strip()
    if value == "max":
        return UNLIMITED
    digits = value[:-1] if value[-1:] in _UNITS else value
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
        raise CgroupError(f"cannot tell systemd of {write.file} `{write.value}`: not a number", where=write.where)
    number = int(digits) * _UNITS.get(value[-1:], 1)
    if number >= UNLIMITED:
        raise CgroupError(f"cannot tell systemd of {write.file} `{write.value}`: too large", where=write.where)
    return number


_UNITS = {letter: 1 << 10 * power for power, letters in enumerate(("", "kK", "mM", "gG", "tT")) for letter in letters}


def _weight(name: str) -> "Any":
    def convert(write: "Write") -> "Iterator[Property]":
        value = write.value.removeprefix("default ")
        if " " not in value:  # a device's own is kept in the file alone
            yield Property(name, "t", _number(write.with_value(value)), write.where)

    return convert


def _idle(write: "Write") -> "Iterator[Property]":
    if write.value == "1":
        yield Property("CPUWeight", "t", 0, write.where, since=252)


def _quota(write: "Write") -> "Iterator[Property]":
    quota, period = _bandwidth(write)
    per_second = UNLIMITED if quota is None else _per_second(quota, period)
    yield Property("CPUQuotaPerSecUSec", "t", per_second, write.where)
    yield Property("CPUQuotaPeriodUSec", "t", period, write.where)


def _per_second(quota: int, period: int) -> int:
    return -(-(quota * _SECOND // period) // _QUOTA_STEP) * _QUOTA_STEP


def _bandwidth(write: "Write") -> "tuple[int | None, int]":
    """(quota, None if there is none; period) of a cpu.max."""
    quota, _, period = write.value.strip().partition(" ")
    wrong = f"cannot tell systemd of cpu.max `{write.value}`: not QUOTA PERIOD in microseconds"
    try:
        limits = None if quota == "max" else int(quota), int(period or DEFAULT_PERIOD)
    except ValueError as error:
        raise CgroupError(wrong, where=write.where) from error
    if limits[1] <= 0 or (limits[0] or 0) < 0:
        raise CgroupError(wrong, where=write.where)
    return limits


def _tasks(write: "Write") -> "Iterator[Property]":
    yield Property("TasksMax", "t", max(_number(write), 1), write.where)


def _bits(name: str) -> "Any":
    def convert(write: "Write") -> "Iterator[Property]":
        yield Property(name, "ay", bitmask(write.value, write.where), write.where, text=write.value or "any")

    return convert


def bitmask(numbers: str, where: str) -> bytes:
    """A list such as `0-3,7` as systemd takes it: bit N of byte N // 8, as few bytes as it takes."""
    try:
        mask = ranges.bits(" ".join(numbers.split())) if numbers.strip() else 0
    except ValueError:
        raise CgroupError(f"cannot use `{numbers}`: not a list such as 0-3,7", where=where) from None
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def _oom_group(write: "Write") -> "Iterator[Property]":
    yield Property("OOMPolicy", "s", "kill" if write.value.strip() == "1" else "continue", write.where, since=253)


_PROPERTIES = {
    "memory.max": _bytes_or_infinity("MemoryMax"),
    "memory.high": _bytes_or_infinity("MemoryHigh"),
    "memory.low": _bytes_or_infinity("MemoryLow"),
    "memory.min": _bytes_or_infinity("MemoryMin"),
    "memory.swap.max": _bytes_or_infinity("MemorySwapMax"),
    "memory.zswap.max": _bytes_or_infinity("MemoryZSwapMax", since=253),
    "memory.oom.group": _oom_group,
    "cpu.weight": _weight("CPUWeight"),
    "cpu.idle": _idle,
    "cpu.max": _quota,
    "pids.max": _tasks,
    "cpuset.cpus": _bits("AllowedCPUs"),
    "cpuset.mems": _bits("AllowedMemoryNodes"),
    "io.weight": _weight("IOWeight"),
}


# The services of container engines, which a container may be ordered after. Any other unit could be one that systemd
# orders after all containers: to break such a circle, it drops a job of some unit, such as the one that shuts down.
_ENGINES = frozenset(f"{name}.service" for name in ("containerd", "crio", "docker", "kubelet", "podman"))


def _after(value: Variant) -> str:
    if value.signature == "as" and _ENGINES.issuperset(value.value):
        return ""
    return f"it may name {', '.join(sorted(_ENGINES))} alone"


def _at_most_default(value: Variant) -> str:
    """A weight above the default would take from other containers, which no limit of a container does."""
    if isinstance(value.value, int) and 0 <= value.value <= _DEFAULT_WEIGHT:
        return ""
    return f"it may lower the weight of {_DEFAULT_WEIGHT}, which is the default"


_DEFAULT_WEIGHT = 100

# An annotation may come from an image, whose author must have no power over the host. So it sets what engines set, and
# what limits the unit alone. Other properties tie the unit to others (Wants, BindsTo, OnFailure), move it (Slice), give
# it away (Delegate, User), spare it when it is killed (KillMode, SendSIGKILL), or prefer it to others (MemoryMin).
_ANNOTATED: "dict[str, Callable[[Variant], str] | None]" = {
    "After": _after,  # CRI-O: containers are stopped before it
    "DefaultDependencies": None,  # CRI-O: and when the host shuts down
    "TimeoutStopUSec": None,  # CRI-O, Podman
    "KillSignal": None,  # Podman: the stop signal of the image; SIGKILL follows in any case
    "CollectMode": None,  # CRI-O
    "RuntimeMaxUSec": None,  # an example of runc's: a container that ends by itself
    "MemoryMax": None,
    "MemoryHigh": None,
    "MemorySwapMax": None,
    "MemoryZSwapMax": None,
    "CPUQuotaPerSecUSec": None,
    "CPUQuotaPeriodUSec": None,
    "TasksMax": None,
    "AllowedCPUs": None,
    "AllowedMemoryNodes": None,
    "CPUWeight": _at_most_default,
    "IOWeight": _at_most_default,
}
ANNOTATED = tuple(_ANNOTATED)
"""The properties that an annotation may set."""

# The files that systemd writes for such a property.
_FILES = {
    "MemoryMax": ("memory.max",),
    "MemoryHigh": ("memory.high",),
    "MemorySwapMax": ("memory.swap.max",),
    "MemoryZSwapMax": ("memory.zswap.max",),
    "CPUQuotaPerSecUSec": ("cpu.max",),
    "CPUQuotaPeriodUSec": ("cpu.max",),
    "TasksMax": ("pids.max",),
    "AllowedCPUs": ("cpuset.cpus",),
    "AllowedMemoryNodes": ("cpuset.mems",),
    "CPUWeight": ("cpu.weight", "cpu.weight.nice", "cpu.idle"),
    "IOWeight": ("io.weight", "io.bfq.weight"),
}


def annotated(
    annotations: "dict[str, str]", writes: "Iterable[Write]", ignore: "Callable[[str, str, str], None]"
) -> "list[Property]":
    """The properties that `org.systemd.property.NAME` annotations ask for and may set.

    `writes` are the limits of config.json, which come first. This calls `ignore` with the annotation, its value, and
    why it has no effect. Raises `CgroupError` with the pointer of an annotation whose value systemd would not take.
    """
    limits = dict(_files(writes))
    found = []
    for key, text in annotations.items():
        if not key.startswith(ANNOTATION) or key == ANNOTATION:
            continue
        name = key.removeprefix(ANNOTATION)
        seconds = name.endswith("Sec") and name[-4:-3] in _LOWER and len(name) > 3
        # What a unit file calls TimeoutStopSec is TimeoutStopUSec on the bus, in microseconds.
        known = f"{name[:-3]}USec" if seconds else name
        if known not in _ANNOTATED:
            ignore(key, text, "an annotation may not set this property")
            continue
        if seconds and ANNOTATION + known in annotations:  # the engine's own; the image has this one
            ignore(key, text, f"{ANNOTATION}{known} comes first")
            continue
        limited = [limits[file] for file in _FILES.get(known, ()) if file in limits]
        if limited:
            ignore(key, text, f"{limited[0]} comes first")
            continue
        value = _value(name, text, f"/annotations/{key}", seconds=seconds)
        judge = _ANNOTATED[known]
        if why := judge(value) if judge else "":
            ignore(key, text, why)
            continue
        found.append(Property(known, value.signature, value.value, f"/annotations/{key}"))
    return found


def _files(writes: "Iterable[Write]") -> "Iterator[tuple[str, str]]":
    for write in writes:
        yield write.file, write.where
        if write.otherwise is not None:
            yield from _files((write.otherwise,))


def _value(name: str, text: str, where: str, *, seconds: bool) -> Variant:
    from pyoci.cgroups.gvariant import parse

    try:
        value = parse(text)
    except ValueError as error:
        raise CgroupError(f"cannot set property {name} to `{text}`: {error}", where=where) from error
    return _microseconds(value, text, name, where) if seconds else value


def _microseconds(value: Variant, text: str, name: str, where: str) -> Variant:
    seconds = value.value
    numeric = value.signature in ("n", "q", "i", "u", "x", "t", "d", "y") and seconds >= 0
    if not numeric or not seconds * _SECOND < UNLIMITED:
        raise CgroupError(f"cannot set property {name} to `{text}`: not a number of seconds", where=where)
    return Variant("t", int(seconds * _SECOND))


__all__ = [
    "ANNOTATED", "AT_CREATION", "Name", "Property", "annotated", "base", "changes", "expand_slice", "parse_path",
    "properties", "rounded",
]  # fmt: skip
