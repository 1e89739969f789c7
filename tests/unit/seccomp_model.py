"""What `linux.seccomp` means, evaluated rule by rule: slow, plain, and written apart from the compiler."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyoci.compiler import _syscalls
from pyoci.compiler._syscalls import MULTIPLEXED, NAMES

COLUMNS = ("x86_64", "x86", "x32", "aarch64", "arm", "riscv64", "ppc64le", "s390x", "s390")
ARCHITECTURES = {abi: f"SCMP_ARCH_{abi.upper()}" for abi in COLUMNS}
# name: its number on each of COLUMNS, -1 for none
NUMBERS = dict(zip(NAMES, zip(*(_syscalls.COLUMNS[ARCHITECTURES[abi]] for abi in COLUMNS), strict=True), strict=True))
AUDIT = {
    "x86_64": 0xC000003E,
    "x86": 0x40000003,
    "x32": 0xC000003E,
    "aarch64": 0xC00000B7,
    "arm": 0x40000028,
    "riscv64": 0xC00000F3,
    "ppc64le": 0xC0000015,
    "s390x": 0x80000016,
    "s390": 0x00000016,
}
MACHINES = {
    "x86_64": ("x86_64", "x86", "x32"),
    "aarch64": ("aarch64", "arm"),
    "riscv64": ("riscv64",),
    "ppc64le": ("ppc64le",),
    "s390x": ("s390x", "s390"),
}
# The machine's own ABI has 64 bits, and a filter always covers it.
OWN = tuple(MACHINES)
BIG_ENDIAN = ("s390x",)
# Some calls are also operations of socketcall or ipc.
WITH_OPERATIONS = ("x86", "ppc64le", "s390x", "s390")
X32_BIT = 0x4000_0000
MINUS_ONE = 0xFFFF_FFFF

ENOSYS = 0x0005_0026
ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x8000_0000,
    "SCMP_ACT_TRAP": 0x0003_0000,
    "SCMP_ACT_ERRNO": 0x0005_0000,
    "SCMP_ACT_NOTIFY": 0x7FC0_0000,
    "SCMP_ACT_TRACE": 0x7FF0_0000,
    "SCMP_ACT_LOG": 0x7FFC_0000,
    "SCMP_ACT_ALLOW": 0x7FFF_0000,
}
OPERATORS = {
    "SCMP_CMP_NE": operator.ne,
    "SCMP_CMP_LT": operator.lt,
    "SCMP_CMP_LE": operator.le,
    "SCMP_CMP_EQ": operator.eq,
    "SCMP_CMP_GE": operator.ge,
    "SCMP_CMP_GT": operator.gt,
}
PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY")

Arg = Mapping[str, Any]


def action_of(owner: Mapping[str, Any], key: str, errno_key: str) -> int:
    """The return value for an action; EPERM is the default errno."""
    name = owner[key]
    takes_errno = name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
    return ACTIONS[name] | (int(owner.get(errno_key, 1)) if takes_errno else 0)


def matches(arg: Arg, args: Sequence[int], bits: int) -> bool:
    """Whether a condition holds for these arguments, of which `bits` bits are seen."""
    seen = (1 << bits) - 1
    actual, value = args[arg["index"]] & seen, arg["value"] & seen
    if arg["op"] == "SCMP_CMP_MASKED_EQ":
        return bool(actual & value == arg.get("valueTwo", 0) & value)
    return bool(OPERATORS[arg["op"]](actual, value))


def alternatives(args: Sequence[Arg]) -> list[list[Arg]]:
    """Conditions that must hold together; two on one argument are alternatives."""
    if len({arg["index"] for arg in args}) < len(args):
        return [[arg] for arg in args]
    return [list(args)]


def rules_for(seccomp: Mapping[str, Any], abi: str, nr: int) -> Iterable[tuple[int, list[Arg]]]:
    """(action, conditions) of every rule that is about a number."""
    column = COLUMNS.index(abi)
    default = action_of(seccomp, "defaultAction", "defaultErrnoRet")
    decided = {
        name
        for rule in seccomp.get("syscalls", ())
        for name in rule["names"]
        if not rule.get("args") and action_of(rule, "action", "errnoRet") != default
    }
    for rule in seccomp.get("syscalls", ()):
        action = action_of(rule, "action", "errnoRet")
        if action == default:
            continue
        for name in rule["names"]:
            for conditions in alternatives(rule.get("args", ())):
                if name in NUMBERS and NUMBERS[name][column] == nr:
                    yield action, conditions
                if abi in WITH_OPERATIONS and name in MULTIPLEXED and number_behind(name, abi) == nr:
                    # What decides for the call itself decides for the operation too.
                    if name in decided:
                        if conditions:
                            continue
                        decided.remove(name)
                    # the kernel reads the operation as a number of 32 bits
                    operation = {
                        "index": 0,
                        "op": "SCMP_CMP_MASKED_EQ",
                        "value": 0xFFFF_FFFF,
                        "valueTwo": MULTIPLEXED[name][1],
                    }
                    yield action, [operation, *(other for other in conditions if other["index"] != 0)]


def number_behind(name: str, abi: str) -> int:
    """The number of socketcall or ipc, of which a call is an operation."""
    multiplexer, _ = MULTIPLEXED[name]
    return int(NUMBERS[multiplexer][COLUMNS.index(abi)])


def always_true(conditions: Sequence[Arg], bits: int) -> bool:
    """Whether conditions have no effect: each is under a mask that leaves nothing."""
    seen = (1 << bits) - 1
    return all(arg["op"] == "SCMP_CMP_MASKED_EQ" and not arg["value"] & seen for arg in conditions)


def last_number(seccomp: Mapping[str, Any], abi: str) -> int:
    """The greatest number that the profile names, whatever it wants to become of it."""
    names = [name for rule in seccomp.get("syscalls", ()) for name in rule["names"] if name in NUMBERS]
    numbers = [NUMBERS[name][COLUMNS.index(abi)] for name in names]
    if abi in WITH_OPERATIONS:
        acting = {n for rule in seccomp["syscalls"] if _acts(seccomp, rule) for n in rule["names"]}
        numbers += [number_behind(name, abi) for name in acting & MULTIPLEXED.keys()]
    return max(numbers, default=0)


def _acts(seccomp: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    default = action_of(seccomp, "defaultAction", "defaultErrnoRet")
    return action_of(rule, "action", "errnoRet") != default


def evaluate(seccomp: Mapping[str, Any], abi: str, nr: int, args: Sequence[int]) -> int:
    """The return value for a call of an ABI; of several matching rules with conditions, the first."""
    default = action_of(seccomp, "defaultAction", "defaultErrnoRet")
    covered = {*seccomp.get("architectures", ()), *(ARCHITECTURES[own] for own in OWN)}
    if abi in ("x86_64", "x32"):
        abi = "x32" if nr & X32_BIT else "x86_64"
        if abi == "x32" and nr == MINUS_ONE and ARCHITECTURES["x32"] not in covered:
            return default
    if ARCHITECTURES[abi] not in covered:
        return ACTIONS["SCMP_ACT_KILL"]
    last = last_number(seccomp, abi)
    if seccomp["defaultAction"] not in PERMISSIVE and last > 0 and nr > last:
        return ENOSYS
    bits = 64 if abi in OWN else 32
    rules = list(rules_for(seccomp, abi, nr))
    for action, conditions in rules:
        if always_true(conditions, bits):
            return action
    for action, conditions in rules:
        if all(matches(arg, args, bits) for arg in conditions):
            return action
    return default
