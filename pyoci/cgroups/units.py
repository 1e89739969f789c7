"""systemd's side of a container: the unit's name, and its properties.

Pure. Under the systemd driver `linux.cgroupsPath` is `SLICE:PREFIX:NAME`. `cgroups.resources` converts limits to
writes, and this module converts writes to properties. The driver writes the files too, because systemd lacks a property
for some of them. But systemd needs the properties: it writes their files anew when it reloads.
"""

from pyoci import ranges
from pyoci.dbus.wire import Variant
from pyoci.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from pyoci.cgroups.resources import Write

    Convert = Callable[[Write], Iterator["Property"]]  # a write → the properties with its effect

PATH_POINTER = "/linux/cgroupsPath"
PREFIX = "pyoci"
ANNOTATION = "org.systemd.property."
UNLIMITED = (1 << 64) - 1

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
_MAX_NAME = 255
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")

# systemd keeps a quota in microseconds per second, and rounds it up to 10 ms when it writes cpu.max.
_SECOND, _QUOTA_STEP, DEFAULT_PERIOD = 1_000_000, 10_000, 100_000


class Name:
    """The unit that `linux.cgroupsPath` names.

    unit   the unit: `PREFIX-NAME.scope`, or a slice if NAME ends in `.slice`
    slice  the slice that contains it
    path   its cgroup, relative to the cgroup of systemd: `/system.slice/docker-4f1e.scope`
    """

    __slots__ = ("path", "slice", "unit")

    def __init__(self, unit: str, slice_: str) -> None:
        self.unit = unit
        self.slice = slice_
        self.path = expand_slice(unit) if self.is_slice else f"{expand_slice(slice_).rstrip('/')}/{unit}"

    @property
    def is_slice(self) -> bool:
        """Whether the unit is a slice, which systemd creates without a process."""
        return self.unit.endswith(".slice")


def parse_path(cgroups_path: str, id: str, *, user: bool) -> Name:
    """Return the unit for `linux.cgroupsPath` ("" if unset) of container `id`. `user` selects the user's systemd.

    Raises CgroupError with the pointer.
    """
    parts = cgroups_path.split(":") if cgroups_path else ["", PREFIX, id]
    if len(parts) != 3:
        raise _failure(cgroups_path, "the systemd driver expects SLICE:PREFIX:NAME")
    slice_, prefix, name = parts
    if not name:
        raise _failure(cgroups_path, "it has no name")
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope"
    slice_ = slice_ or ("user.slice" if user else "system.slice")
    if not _NAME_CHARACTERS.issuperset(unit) or len(unit) > _MAX_NAME:
        raise _failure(cgroups_path, f"{unit} is not the name of a unit")
    try:
        return Name(unit, slice_)
    except CgroupError as error:
        raise _failure(cgroups_path, error.message) from error


def expand_slice(name: str) -> str:
    """Return the path of a slice, whose name lists its ancestors: `a-b.slice` → `/a.slice/a-b.slice`; `-.slice` → `/`.

    Raises CgroupError.
    """
    stem = name.removesuffix(".slice")
    valid = stem != name and _NAME_CHARACTERS.issuperset(stem) and len(name) <= _MAX_NAME
    if stem == "-" and valid:
        return "/"
    parts = stem.split("-")
    if not valid or not all(parts):
        raise CgroupError(f"{name} is not the name of a slice")
    return "".join(f"/{'-'.join(parts[: n + 1])}.slice" for n in range(len(parts)))


def _failure(cgroups_path: str, why: str) -> CgroupError:
    return CgroupError(f"cannot use cgroup path {cgroups_path!r}: {why}", where=PATH_POINTER)


class Property:
    """One property of a unit.

    where  the JSON pointer of the value in the config that requests it
    since  the first version of systemd that knows it
    text   the value for `pyoci plan`
    """

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
    """Return the properties of every container's unit. The driver adds its process when it asks systemd for it."""
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
        # A runtime that is killed half way may leave a unit without processes. systemd forgets it, failed or not.
        Property("CollectMode", "s", "inactive-or-failed"),
    ]


def rounded(writes: "Iterable[Write]") -> "list[Write]":
    """Return `writes` with every quota as systemd would write it, so that systemd does not change it later."""
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
    """Yield the properties with the effect of `writes`. Skips writes without a property."""
    for write in writes:
        convert = _PROPERTIES.get(write.file)
        if convert is not None:
            yield from convert(write)
        elif write.otherwise is not None:
            yield from properties((write.otherwise,))


# systemd 252 to 262 accept these only when they create a scope. A slice does not have them.
AT_CREATION = frozenset({"OOMPolicy"})


def changes(writes: "Iterable[Write]") -> "list[Property]":
    """Return the properties of `writes` that systemd can change on a running unit.

    The driver writes the others to the cgroup's file alone. When systemd reloads, it writes there the values with which
    the unit was created.
    """
    return [each for each in properties(writes) if each.name not in AT_CREATION]


def _bytes_or_infinity(name: str, since: int = 0) -> "Convert":
    def convert(write: "Write") -> "Iterator[Property]":
        yield Property(name, "t", _number(write), write.where, since=since)

    return convert


def _number(write: "Write") -> int:
    """Return the value of a limit. Raises CgroupError for a value that has no form as a property."""
    value = write.value.strip()
    if value == "max":
        return UNLIMITED
    digits = value[:-1] if value[-1:] in _UNITS else value
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
        raise CgroupError(f"cannot pass systemd {write.file} `{write.value}`: it is not a number", where=write.where)
    number = int(digits) * _UNITS.get(value[-1:], 1)
    if number >= UNLIMITED:
        raise CgroupError(f"cannot pass systemd {write.file} `{write.value}`: it is too large", where=write.where)
    return number


_UNITS = {letter: 1 << 10 * power for power, letters in enumerate(("", "kK", "mM", "gG", "tT")) for letter in letters}


def _weight(name: str) -> "Convert":
    def convert(write: "Write") -> "Iterator[Property]":
        value = write.value.removeprefix("default ")
        if " " not in value:  # the driver writes a device's own weight to the file alone
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
    """Return the quota of a cpu.max, None without one, and its period."""
    quota, _, period = write.value.strip().partition(" ")
    wrong = f"cannot pass systemd cpu.max `{write.value}`: it is not QUOTA PERIOD in microseconds"
    try:
        limits = None if quota == "max" else int(quota), int(period or DEFAULT_PERIOD)
    except ValueError as error:
        raise CgroupError(wrong, where=write.where) from error
    if limits[1] <= 0 or (limits[0] or 0) < 0:
        raise CgroupError(wrong, where=write.where)
    return limits


def _tasks(write: "Write") -> "Iterator[Property]":
    yield Property("TasksMax", "t", max(_number(write), 1), write.where)


def _bits(name: str) -> "Convert":
    def convert(write: "Write") -> "Iterator[Property]":
        yield Property(name, "ay", bitmask(write.value, write.where), write.where, text=write.value or "any")

    return convert


def bitmask(numbers: str, where: str) -> bytes:
    """Encode a list such as `0-3,7` for systemd: number N is bit N % 8 of byte N // 8, in as few bytes as possible."""
    try:
        mask = ranges.bits(" ".join(numbers.split())) if numbers.strip() else 0
    except ValueError:
        raise CgroupError(f"cannot use `{numbers}`: it is not a list such as 0-3,7", where=where) from None
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def _oom_group(write: "Write") -> "Iterator[Property]":
    yield Property("OOMPolicy", "s", "kill" if write.value.strip() == "1" else "continue", write.where, since=253)


_PROPERTIES: "dict[str, Convert]" = {
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


# A container may be ordered after the services of container engines. Any other unit may itself be ordered after all
# containers. To break such a circle, systemd drops the job of some unit, such as the job of the shutdown.
_ENGINES = frozenset(f"{name}.service" for name in ("containerd", "crio", "docker", "kubelet", "podman"))


def _after(value: Variant) -> str:
    if value.signature == "as" and _ENGINES.issuperset(value.value):
        return ""
    return f"it may name only {', '.join(sorted(_ENGINES))}"


def _at_most_default(value: Variant) -> str:
    """Reject a weight above the default, which would take time from other containers. No limit does that."""
    if isinstance(value.value, int) and 0 <= value.value <= _DEFAULT_WEIGHT:
        return ""
    return f"it may only lower the weight below the default, {_DEFAULT_WEIGHT}"


_DEFAULT_WEIGHT = 100

# An annotation may come from an image, whose author must have no power over the host. So it may set the properties that
# engines set, and those that only limit the unit. Others tie the unit to other units (Wants, BindsTo, OnFailure), move
# it (Slice), delegate it (Delegate, User), spare it from kills (KillMode, SendSIGKILL) or prefer it (MemoryMin).
_ANNOTATED: "dict[str, Callable[[Variant], str] | None]" = {
    "After": _after,  # CRI-O: systemd stops containers before it
    "DefaultDependencies": None,  # CRI-O: systemd stops containers when the host shuts down
    "TimeoutStopUSec": None,  # CRI-O, Podman
    "KillSignal": None,  # Podman: the stop signal of the image; SIGKILL follows in any case
    "CollectMode": None,  # CRI-O
    "RuntimeMaxUSec": None,  # an example in runc's documentation: a container that ends by itself
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
    """Return the properties that `org.systemd.property.NAME` annotations set, as far as they may.

    `writes` are the limits of config.json, which have precedence. This calls `ignore` with each annotation that has no
    effect, its value, and the reason. Raises CgroupError with the pointer of an annotation whose value is malformed.
    """
    limits = dict(_files(writes))
    found = []
    for key, text in annotations.items():
        if not key.startswith(ANNOTATION) or key == ANNOTATION:
            continue
        name = key.removeprefix(ANNOTATION)
        seconds = name.endswith("Sec") and name[-4:-3] in _LOWER and len(name) > 3
        # TimeoutStopSec of a unit file is TimeoutStopUSec on the bus, in microseconds.
        known = f"{name[:-3]}USec" if seconds else name
        if known not in _ANNOTATED:
            ignore(key, text, "an annotation may not set this property")
            continue
        if seconds and ANNOTATION + known in annotations:  # that one is the engine's, this one the image's
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
        raise CgroupError(f"cannot set property {name} to `{text}`: it is not a number of seconds", where=where)
    return Variant("t", int(seconds * _SECOND))


__all__ = [
    "ANNOTATED", "AT_CREATION", "Name", "Property", "annotated", "base", "changes", "expand_slice", "parse_path",
    "properties", "rounded",
]  # fmt: skip
