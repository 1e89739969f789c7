"""The options of `update` as a `linux.resources`."""

from pyoci.config import resource_problems
from pyoci.errors import ConfigError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.cli.options import Values

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


def from_options(options: "Values") -> "dict[str, Any]":
    """Return what the options request. Raises UsageError or ConfigError for a value that is not valid."""
    found: dict[str, Any] = {}
    for name, (section, key, kind) in OPTIONS.items():
        text = options.text(name)
        if text:
            found.setdefault(section, {})[key] = text if kind == "text" else _number(name, text, kind)
    problems = resource_problems(found)
    for problem in problems:
        problem.where = option_of(problem.where)
    if problems:
        raise ConfigError(problems)
    return found


def option_of(where: str) -> str:
    """The option that sets what a JSON pointer into `linux.resources` leads to: `--memory` for /memory/limit."""
    for name, (section, key, _) in OPTIONS.items():
        if where == f"/{section}/{key}":
            return f"--{name}"
    return where


def _number(name: str, text: str, kind: str) -> int:
    """A decimal number; of bytes with a unit behind it, such as 512m; -1 where a limit can be lifted."""
    digits, unit = text, ""
    if kind == "size":
        digits = text.lower().removesuffix("ib").removesuffix("b") if text[-1:].isalpha() else text
        if digits[-1:].isalpha():
            digits, unit = digits[:-1], digits[-1]
    positive = digits.removeprefix("-") if kind != "count" else digits
    if not (positive.isascii() and positive.isdigit()) or len(positive) > 19 or unit not in UNITS:
        raise UsageError(f"cannot use `{text}` for --{name}: expected a number{' of bytes' if kind == 'size' else ''}")
    return int(digits) * UNITS[unit]
