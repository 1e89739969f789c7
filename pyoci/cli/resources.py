"""Turn the options of `update` into a `linux.resources`."""

from pyoci.config import resource_problems
from pyoci.errors import ConfigError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.cli.options import Values
    from pyoci.types import Resources

# option: (section, property, kind of value)
OPTIONS = {
    "blkio-weight": ("blockIO", "weight", "count"),
    "cpu-period": ("cpu", "period", "count"),
    "cpu-quota": ("cpu", "quota", "number"),
    "cpu-burst": ("cpu", "burst", "count"),
    "cpu-share": ("cpu", "shares", "count"),
    "cpu-rt-period": ("cpu", "realtimePeriod", "count"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", "number"),
    "cpu-idle": ("cpu", "idle", "number"),
    "cpuset-cpus": ("cpu", "cpus", "text"),
    "cpuset-mems": ("cpu", "mems", "text"),
    "memory": ("memory", "limit", "size"),
    "memory-reservation": ("memory", "reservation", "size"),
    "memory-swap": ("memory", "swap", "size"),
    "pids-limit": ("pids", "limit", "number"),
}
# property of linux.intelRdt: option
SCHEMAS = {"l3CacheSchema": "l3-cache-schema", "memBwSchema": "mem-bw-schema"}
UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def from_options(options: "Values") -> "Resources":
    """Return the limits that the options ask for. Raises UsageError or ConfigError for an invalid value."""
    found: Any = {}
    for name, (section, key, kind) in OPTIONS.items():
        text = options.text(name)
        if text:
            found.setdefault(section, {})[key] = text if kind == "text" else _number(name, text, kind)
    problems = resource_problems(found)
    for problem in problems:
        problem.where = option_of(problem.where)
    if problems:
        raise ConfigError(problems)
    checked: Resources = found
    return checked


def schemas(options: "Values") -> "dict[str, str]":
    """Return the lines for the schemata file of the container's resource group, by property of `linux.intelRdt`."""
    return {key: text for key, option in SCHEMAS.items() if (text := options.text(option))}


def option_of(where: str) -> str:
    """The option that sets the value at a JSON pointer into `linux.resources`: `--memory` for /memory/limit."""
    for name, (section, key, _) in OPTIONS.items():
        if where == f"/{section}/{key}":
            return f"--{name}"
    return where


def _number(name: str, text: str, kind: str) -> int:
    """A decimal number. A number of bytes may have a unit, as in 512m; -1 lifts a limit, except for a count."""
    digits, unit = text, ""
    if kind == "size":
        digits = text.lower().removesuffix("ib").removesuffix("b") if text[-1:].isalpha() else text
        if digits[-1:].isalpha():
            digits, unit = digits[:-1], digits[-1]
    positive = digits.removeprefix("-") if kind != "count" else digits
    if not (positive.isascii() and positive.isdigit()) or len(positive) > 19 or unit not in UNITS:
        raise UsageError(f"cannot use `{text}` for --{name}: expected a number{' of bytes' if kind == 'size' else ''}")
    return int(digits) * UNITS[unit]
