"""The seccomp compiler: each action, operator, flag, ABI and error by itself."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bpf_interpreter
import pytest
from seccomp_model import NUMBERS

from pyoci.compiler import seccomp
from pyoci.compiler._syscalls import COLUMNS, MULTIPLEXED, NAMES
from pyoci.errors import PyociError

HERE = Path(__file__).parent

X86_64, X86, ARM, AARCH64 = 0xC000003E, 0x40000003, 0x40000028, 0xC00000B7
X32_BIT = 0x4000_0000
ALLOW, EPERM, ENOSYS, KILL = 0x7FFF_0000, 0x0005_0001, 0x0005_0026, 0
MINUS_ONE = 0xFFFF_FFFF


def compiled(profile: Mapping[str, Any], arch: str = "x86_64") -> list[bpf_interpreter.Instruction]:
    """The instructions for a profile."""
    return bpf_interpreter.decode(seccomp.compile_filter(profile, arch).program)


def call(
    instructions: Sequence[bpf_interpreter.Instruction], name: str, *args: int, audit: int = X86_64, column: int = 0
) -> int:
    """The filter's return value for a call by name."""
    return bpf_interpreter.run(instructions, audit, NUMBERS[name][column], [*args, *[0] * (6 - len(args))])


def profile(*rules: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    """A profile with EPERM as default."""
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules), **others}


def allow(*names: str, **others: Any) -> dict[str, Any]:
    """A rule that lets calls through."""
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **others}


def arg(index: int, op: str, value: int, **others: int) -> dict[str, Any]:
    """An entry of `args`."""
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, **others}


@pytest.mark.parametrize(
    ("action", "returned"),
    [
        ("SCMP_ACT_KILL", 0),
        ("SCMP_ACT_KILL_THREAD", 0),
        ("SCMP_ACT_KILL_PROCESS", 0x8000_0000),
        ("SCMP_ACT_TRAP", 0x0003_0000),
        ("SCMP_ACT_ERRNO", 0x0005_0001),
        ("SCMP_ACT_TRACE", 0x7FF0_0001),
        ("SCMP_ACT_LOG", 0x7FFC_0000),
        ("SCMP_ACT_ALLOW", 0x7FFF_0000),
    ],
)
def test_actions(action: str, returned: int) -> None:
    """Every action returns the kernel's value, as default and in a rule."""
    other = "SCMP_ACT_KILL_PROCESS" if returned != 0x8000_0000 else "SCMP_ACT_ALLOW"
    in_rule = compiled({"defaultAction": other, "syscalls": [{"names": ["read"], "action": action}]})
    assert returned == call(in_rule, "read")
    assert returned == call(compiled({"defaultAction": action}), "read")


def test_errnos() -> None:
    """The default errno, a rule's own one and EPERM where none is given."""
    rules = [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4095}]
    rules += [{"names": ["write"], "action": "SCMP_ACT_TRACE", "errnoRet": 0xFFFF}]
    rules += [{"names": ["open"], "action": "SCMP_ACT_ERRNO"}, allow("statx")]
    rules += [{"names": ["close"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}]
    made = compiled(profile(*rules, defaultErrnoRet=13))
    assert 0x0005_0FFF == call(made, "read")
    assert 0x7FF0_FFFF == call(made, "write")
    assert EPERM == call(made, "open")
    assert 0x0005_0000 == call(made, "close")
    assert 0x0005_000D == call(made, "stat")


BIG = 5 << 32 | 7
OPERATORS = {
    "EQ": ([BIG], [BIG + 1, 7, 5 << 32, 0]),
    "NE": ([BIG + 1, 7, 5 << 32, 0], [BIG]),
    "LT": ([0, 6, 8, BIG - 1, 4 << 32 | 9], [BIG, BIG + 1, 6 << 32, (1 << 64) - 1]),
    "LE": ([0, 6, 8, BIG - 1, BIG, 4 << 32 | 9], [BIG + 1, 6 << 32, (1 << 64) - 1]),
    "GE": ([BIG, BIG + 1, 6 << 32, (1 << 64) - 1], [0, 8, BIG - 1, 4 << 32 | 9]),
    "GT": ([BIG + 1, 6 << 32, (1 << 64) - 1], [0, 8, BIG, BIG - 1, 4 << 32 | 9]),
}


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_compare_64_bits(operator: str, index: int) -> None:
    """Every operator on every argument compares all 64 bits, unsigned."""
    made = compiled(profile(allow("read", args=[arg(index, operator, BIG)])))
    matching, missing = OPERATORS[operator]
    for values, returned in ((matching, ALLOW), (missing, EPERM)):
        for value in values:
            assert returned == call(made, "read", *[value if i == index else BIG for i in range(6)]), value


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_on_small_values(operator: str) -> None:
    """A value without a high word compares to arguments that have one."""
    made = compiled(profile(allow("read", args=[arg(1, operator, 7)])))
    greater = operator in ("NE", "GE", "GT")
    assert (ALLOW if greater else EPERM) == call(made, "read", 0, 1 << 32)
    assert (ALLOW if operator in ("EQ", "LE", "GE") else EPERM) == call(made, "read", 0, 7)
    assert (ALLOW if operator in ("NE", "LE", "LT") else EPERM) == call(made, "read", 0, 6)


@pytest.mark.parametrize(
    ("mask", "wanted", "matching", "missing"),
    [
        (0x7E02_0000, 0, [0, 17, 1 << 32], [0x0002_0000, 0x7E02_0000]),
        (8, 8, [8, 15, 8 | 1 << 63], [0, 7]),
        (6, 2, [2, 3, 10], [0, 4, 6]),
        (1 << 40 | 1, 1 << 40, [1 << 40, 3 << 40], [1, 1 << 40 | 1, 0]),
        (0xFFFF_FFFF, 5, [5, 1 << 32 | 5], [4]),
        ((1 << 64) - 1, BIG, [BIG], [7]),
        (0, 0, [0, BIG], []),
    ],
)
def test_masked_equality(mask: int, wanted: int, matching: list[int], missing: list[int]) -> None:
    """(argument & value) == valueTwo, in both words."""
    made = compiled(profile(allow("read", args=[arg(0, "MASKED_EQ", mask, valueTwo=wanted)])))
    for value in matching:
        assert ALLOW == call(made, "read", value), value
    for value in missing:
        assert EPERM == call(made, "read", value), value


def test_bits_outside_of_the_mask_are_ignored_with_a_warning() -> None:
    """libseccomp masks valueTwo too; we say so."""
    made = seccomp.compile_filter(profile(allow("read", args=[arg(0, "MASKED_EQ", 1, valueTwo=3)])), "x86_64")
    assert ALLOW == call(bpf_interpreter.decode(made.program), "read", 1)
    assert made.warnings == ["/linux/seccomp/syscalls/0/args/0/valueTwo: ignored the bits outside the mask in `value`"]


def test_second_value_without_use_is_ignored_with_a_warning() -> None:
    """Only MASKED_EQ has use for valueTwo; 0 is what engines send for none."""
    rule = allow("read", args=[arg(0, "EQ", 1, valueTwo=3), arg(1, "EQ", 1, valueTwo=0)])
    warnings = seccomp.compile_filter(profile(rule), "x86_64").warnings
    assert ["/linux/seccomp/syscalls/0/args/0/valueTwo: ignored: SCMP_CMP_EQ takes one value"] == warnings


def test_conditions_of_a_rule_must_all_hold() -> None:
    """Conditions on different arguments are one test."""
    made = compiled(profile(allow("read", args=[arg(2, "EQ", 1), arg(0, "EQ", 5)])))
    assert ALLOW == call(made, "read", 5, 0, 1)
    assert EPERM == call(made, "read", 5, 0, 2)
    assert EPERM == call(made, "read", 4, 0, 1)


def test_conditions_on_one_argument_are_alternatives() -> None:
    """Two conditions on one argument make all conditions of the rule alternatives (A-22)."""
    made = compiled(profile(allow("read", args=[arg(0, "EQ", 1), arg(0, "EQ", 2), arg(1, "EQ", 3)])))
    assert ALLOW == call(made, "read", 1, 0)
    assert ALLOW == call(made, "read", 2, 0)
    assert ALLOW == call(made, "read", 9, 3)
    assert EPERM == call(made, "read", 9, 0)


def test_rule_without_conditions_overrules_those_with() -> None:
    """The first rule without conditions decides, wherever it stands."""
    conditional = {"names": ["read"], "action": "SCMP_ACT_TRAP", "args": [arg(0, "EQ", 1)]}
    last = {"names": ["read"], "action": "SCMP_ACT_LOG"}
    assert ALLOW == call(compiled(profile(conditional, allow("read"), last)), "read", 1)
    assert ALLOW == call(compiled(profile(allow("read"), conditional, last)), "read", 1)


def test_rule_with_the_default_action_is_nothing() -> None:
    """A rule that asks for the default does not stand in the way of another."""
    redundant = {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    assert ALLOW == call(compiled(profile(redundant, allow("read"))), "read")


def test_unknown_names_are_skipped_with_one_warning() -> None:
    """Engines' profiles have names that no kernel of the tests knows (A-18)."""
    made = seccomp.compile_filter(profile(allow("read", "zzz"), allow("aaa"), allow("write")), "x86_64")
    assert made.warnings == ["/linux/seccomp/syscalls: skipped unknown system calls: aaa, zzz"]
    assert ALLOW == call(bpf_interpreter.decode(made.program), "read")
    assert ALLOW == call(bpf_interpreter.decode(made.program), "write")


@pytest.mark.parametrize("default", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"])
def test_numbers_above_the_profile_get_enosys(default: str) -> None:
    """A C library has an answer to a new call that does not exist, none to one that is forbidden."""
    listed = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    made = compiled(profile(allow("read", "statx"), defaultAction=default, architectures=listed))
    for audit, first, last in ((X86_64, 0, 332), (X86, 0, 383), (X86_64, X32_BIT, X32_BIT + 332)):
        assert call(made, "poll") == bpf_interpreter.run(made, audit, first + 100, [0] * 6)
        assert ALLOW == bpf_interpreter.run(made, audit, last, [0] * 6)
        assert ENOSYS == bpf_interpreter.run(made, audit, last + 1, [0] * 6)


@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"])
def test_permissive_defaults_go_for_all_numbers(default: str) -> None:
    """What the profile lets through by default is not taken away by ENOSYS."""
    rules = [{"names": ["read", "statx"], "action": "SCMP_ACT_TRAP"}]
    made = compiled({"defaultAction": default, "syscalls": rules})
    assert call(made, "poll") == bpf_interpreter.run(made, X86_64, 999, [0] * 6)
    assert call(made, "poll") not in (ENOSYS, KILL)


def test_no_rules_no_enosys() -> None:
    """KILL without rules kills the first system call (SEC-01)."""
    made = compiled({"defaultAction": "SCMP_ACT_KILL"})
    assert [KILL, KILL] == [bpf_interpreter.run(made, X86_64, number, [0] * 6) for number in (0, 999)]


def test_names_with_the_default_action_count_as_known() -> None:
    """The profile's author knew statx, so it is refused as asked and not with ENOSYS."""
    refused = {"names": ["statx"], "action": "SCMP_ACT_ERRNO"}
    made = compiled(profile(allow("read"), refused))
    assert EPERM == call(made, "statx")
    assert ENOSYS == bpf_interpreter.run(made, X86_64, NUMBERS["statx"][0] + 1, [0] * 6)


def test_own_abi_is_always_covered_and_others_killed() -> None:
    """Without `architectures` the machine's own ABI stands alone (SEC-03); x32 and 32 bits are out."""
    made = compiled(profile(allow("read", "write", "statx")))
    assert ALLOW == call(made, "write")
    assert KILL == call(made, "write", audit=X86, column=1)
    assert KILL == call(made, "write", column=2)
    assert EPERM == bpf_interpreter.run(made, X86_64, MINUS_ONE, [0] * 6)
    assert KILL == bpf_interpreter.run(made, AARCH64, 64, [0] * 6)
    only_x86 = compiled(profile(allow("write"), architectures=["SCMP_ARCH_X86"]))
    assert ALLOW == call(only_x86, "write")
    assert ALLOW == call(only_x86, "write", audit=X86, column=1)


def test_abi_without_a_call_of_the_profile_gets_the_default() -> None:
    """A search without a single test does not run into the next ABI's."""
    made = compiled(profile(allow("cacheflush"), architectures=["SCMP_ARCH_ARM"]), "aarch64")
    for number in (0, 64, 0x0F0002, MINUS_ONE):
        assert EPERM == bpf_interpreter.run(made, AARCH64, number, [0] * 6)
    assert ALLOW == call(made, "cacheflush", audit=ARM, column=4)


def test_architectures_of_other_machines_are_of_no_account() -> None:
    """A profile may list what it likes; what can't run here needs no code."""
    plain = seccomp.compile_filter(profile(allow("read")), "x86_64").program
    listed = ["SCMP_ARCH_AARCH64", "SCMP_ARCH_S390X", "SCMP_ARCH_MIPS"]
    assert plain == seccomp.compile_filter(profile(allow("read"), architectures=listed), "x86_64").program


def test_narrow_abis_compare_low_words() -> None:
    """A register of 32 bits has no high word to compare."""
    listed = ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    made = compiled(profile(allow("write", args=[arg(0, "EQ", 1 << 32 | 5)]), architectures=listed))
    for audit, column in ((X86, 1), (X86_64, 2)):
        assert ALLOW == call(made, "write", 5, audit=audit, column=column)
        assert EPERM == call(made, "write", 6, audit=audit, column=column)
    assert EPERM == call(made, "write", 5)


@pytest.mark.parametrize("name", sorted(MULTIPLEXED))
def test_x86_operations_go_both_ways(name: str) -> None:
    """On x86 a socket or System V IPC call is its own, an operation of socketcall or ipc, or both."""
    made = compiled(profile(allow(name, "statx"), architectures=["SCMP_ARCH_X86"]))
    multiplexer, operation = MULTIPLEXED[name]
    assert ALLOW == call(made, multiplexer, operation, audit=X86, column=1)
    assert EPERM == call(made, multiplexer, operation + 1, audit=X86, column=1)
    if NUMBERS[name][1] != -1:
        assert ALLOW == call(made, name, audit=X86, column=1)


def test_first_rule_for_an_x86_operation_stands() -> None:
    """A second rule without conditions is nothing, in socketcall too."""
    second = {"names": ["socket"], "action": "SCMP_ACT_TRAP"}
    made = compiled(profile(allow("socket", "statx"), second, architectures=["SCMP_ARCH_X86"]))
    assert ALLOW == call(made, "socket", audit=X86, column=1)
    assert ALLOW == call(made, "socketcall", 1, audit=X86, column=1)


def test_x86_operations_under_conditions() -> None:
    """A condition on the first argument is lost in socketcall, whose first argument is the operation."""
    rule = allow("socket", "statx", args=[arg(0, "EQ", 2), arg(1, "EQ", 3)])
    made = compiled(profile(rule, architectures=["SCMP_ARCH_X86"]))
    assert ALLOW == call(made, "socket", 2, 3, audit=X86, column=1)
    assert EPERM == call(made, "socket", 1, 3, audit=X86, column=1)
    assert ALLOW == call(made, "socketcall", 1, 3, audit=X86, column=1)
    assert EPERM == call(made, "socketcall", 1, 4, audit=X86, column=1)
    made = compiled(profile(rule, allow("socketcall"), architectures=["SCMP_ARCH_X86"]))
    assert ALLOW == call(made, "socketcall", 2, 4, audit=X86, column=1)


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        (None, 4),
        ([], 0),
        (["SECCOMP_FILTER_FLAG_TSYNC"], 1),
        (["SECCOMP_FILTER_FLAG_LOG"], 2),
        (["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"], 6),
    ],
)
def test_flags(flags: list[str] | None, value: int) -> None:
    """Without `flags`, SPEC_ALLOW is set; an empty list sets no flag (A-21)."""
    given = {} if flags is None else {"flags": flags}
    made = seccomp.compile_filter(profile(allow("read"), **given), "x86_64")
    assert value == made.flags
    assert made.has_listener is False


def test_a_flag_of_listeners_without_one() -> None:
    """The kernel would refuse it, where there is nothing that it could be about."""
    flags = ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    made = seccomp.compile_filter(profile(allow("read"), flags=flags), "x86_64")
    assert 2 == made.flags
    expected = (
        "/linux/seccomp/flags/1: ignored: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a listener, and the filter has no "
        "SCMP_ACT_NOTIFY"
    )
    assert [expected] == [line for line in made.warnings if "/flags/" in line]


NOTIFY = {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        (None, 4 | 8),
        ([], 8),
        (["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], 8 | 0x20),
        (["SECCOMP_FILTER_FLAG_TSYNC"], 1 | 8 | 0x10),
    ],
)
def test_flags_with_a_listener(flags: list[str] | None, value: int) -> None:
    """NEW_LISTENER if a call may be notified; the kernel wants TSYNC_ESRCH with it and TSYNC."""
    given = {} if flags is None else {"flags": flags}
    made = seccomp.compile_filter(profile(NOTIFY, listenerPath="/run/agent.sock", **given), "x86_64")
    assert value == made.flags
    assert made.has_listener is True


def test_notify() -> None:
    """A rule, and the default, which then holds for every number: an agent that decides knows more than we do."""
    made = compiled(profile(allow("read"), NOTIFY, listenerPath="/x"))
    assert (ALLOW, 0x7FC0_0000, EPERM) == (call(made, "read"), call(made, "mkdir"), call(made, "open"))
    made = compiled({"defaultAction": "SCMP_ACT_NOTIFY", "syscalls": [allow("read")], "listenerPath": "/x"})
    assert (ALLOW, 0x7FC0_0000, 0x7FC0_0000) == (call(made, "read"), call(made, "mkdir"), call(made, "statx"))


@pytest.mark.parametrize("rules", [[{**NOTIFY, "names": ["nonsense"]}], [allow("mkdir"), NOTIFY]])
def test_no_agent_will_be_notified(rules: list[dict[str, Any]]) -> None:
    """A rule that never decides makes no listener."""
    assert seccomp.compile_filter(profile(*rules, listenerPath="/nowhere"), "x86_64").has_listener is False


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "errno with an action that has none": (
        {"defaultAction": "SCMP_ACT_KILL", "syscalls": [allow("read", errnoRet=1)]},
        "/linux/seccomp/syscalls/0/errnoRet: cannot use errnoRet: SCMP_ACT_ALLOW has no errno",
    ),
    "default errno with an action that has none": (
        {"defaultAction": "SCMP_ACT_LOG", "defaultErrnoRet": 1},
        "/linux/seccomp/defaultErrnoRet: cannot use defaultErrnoRet: SCMP_ACT_LOG has no errno",
    ),
    "errno out of range": (
        profile(defaultErrnoRet=4096),
        "/linux/seccomp/defaultErrnoRet: cannot use errno 4096: SCMP_ACT_ERRNO takes 0 to 4095",
    ),
    "trace data out of range": (
        profile({"names": ["read"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536}),
        "/linux/seccomp/syscalls/0/errnoRet: cannot use errno 65536: SCMP_ACT_TRACE takes 0 to 65535",
    ),
    "argument out of range": (
        profile(allow("read"), allow("read", args=[arg(0, "EQ", 0), arg(6, "EQ", 0)])),
        "/linux/seccomp/syscalls/1/args/1/index: cannot compare argument 6: a system call has 0 to 5",
    ),
    "action": (
        profile({"names": ["read"], "action": "SCMP_ACT_DREAM"}),
        "/linux/seccomp/syscalls/0/action: cannot use seccomp action SCMP_ACT_DREAM: unknown action",
    ),
    "operator": (
        profile(allow("read", args=[arg(0, "IS", 0)])),
        "/linux/seccomp/syscalls/0/args/0/op: cannot use seccomp operator SCMP_CMP_IS: unknown operator",
    ),
    "flag": (
        profile(flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_X"]),
        "/linux/seccomp/flags/1: cannot use seccomp flag SECCOMP_FILTER_FLAG_X: unknown flag",
    ),
    "listener metadata alone": (
        profile(listenerMetadata="x"),
        "/linux/seccomp/listenerMetadata: cannot use listenerMetadata: there is no listenerPath",
    ),
    "notify without a listener": (
        profile(NOTIFY),
        "/linux/seccomp: cannot use SCMP_ACT_NOTIFY: there is no listenerPath",
    ),
    "notify as default without a listener": (
        {"defaultAction": "SCMP_ACT_NOTIFY"},
        "/linux/seccomp: cannot use SCMP_ACT_NOTIFY: there is no listenerPath",
    ),
    "errno with notify": (
        profile({**NOTIFY, "errnoRet": 1}, listenerPath="/run/agent.sock"),
        "/linux/seccomp/syscalls/0/errnoRet: cannot use errnoRet: SCMP_ACT_NOTIFY has no errno",
    ),
    "contradiction": (
        profile(
            allow("read", args=[arg(0, "EQ", 1)]),
            allow("write"),
            {"names": ["read"], "action": "SCMP_ACT_TRAP", "args": [arg(0, "EQ", 1)]},
        ),
        (
            "/linux/seccomp/syscalls/2: cannot compile the seccomp rule: "
            "/linux/seccomp/syscalls/0 asks for another action under the same conditions"
        ),
    ),
}


@pytest.mark.parametrize("fault", ERRORS)
def test_errors(fault: str) -> None:
    """What can't be compiled is refused with its place and reason."""
    faulty, message = ERRORS[fault]
    with pytest.raises(PyociError) as caught:
        seccomp.compile_filter(faulty, "x86_64").program  # noqa: B018 - a property that compiles
    assert message == str(caught.value)


@pytest.mark.parametrize(("arch", "order", "low"), [("riscv64", "<", 16), ("ppc64le", "<", 16), ("s390x", ">", 20)])
def test_byte_order(arch: str, order: str, low: int) -> None:
    """The program has its machine's bytes, and loads the words of an argument from where that machine has them."""
    rule = allow("personality", args=[arg(0, "EQ", 8)])
    program = seccomp.compile_filter(profile(rule), arch).program
    tests = [k for code, _, _, k in bpf_interpreter.decode(program, order) if code == bpf_interpreter.LD_W_ABS]

    high = {16: 20, 20: 16}[low]
    assert tests.index(high) < tests.index(low)


def test_unsupported_machine() -> None:
    """A machine without a table is an error, not a filter that lets everything through."""
    with pytest.raises(PyociError, match="architecture mips64 is not supported"):
        seccomp.compile_filter(profile(), "mips64")


def test_listener_without_notify_is_ignored() -> None:
    """listenerPath is of use to NOTIFY alone (SEC-20)."""
    ignored = profile(allow("read"), listenerPath="/nowhere", listenerMetadata="x")
    assert seccomp.compile_filter(ignored, "x86_64").has_listener is False


def test_program_too_long() -> None:
    """The kernel takes 4096 instructions; more is our error, not its EINVAL."""
    names = [name for name, row in NUMBERS.items() if row[0] != -1]
    rules = [allow(name, args=[arg(i % 6, "EQ", n << 32 | i) for i in range(6)]) for n, name in enumerate(names)]
    with pytest.raises(PyociError, match=r"^/linux/seccomp/syscalls: .* instructions, and the kernel accepts 4096$"):
        seccomp.compile_filter(profile(*rules), "x86_64").program  # noqa: B018 - a property that compiles


def test_too_many_conditional_rules() -> None:
    """Names times conditions of a few megabytes of config would take all memory, and the kernel refuses the filter."""
    names = [name for name, row in NUMBERS.items() if row[0] != -1][:300]
    rule = {"names": names, "action": "SCMP_ACT_ALLOW", "args": [arg(0, "EQ", n) for n in range(300)]}
    with pytest.raises(PyociError, match=r"^/linux/seccomp/syscalls/0: .* more than 65536 pairs of a system call"):
        seccomp.compile_filter(profile(rule), "x86_64")


def test_name_that_is_listed_twice_in_a_rule() -> None:
    """It counts once, however often it stands there."""
    once = {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, "EQ", n) for n in range(300)]}
    often = {**once, "names": ["read"] * 300}

    programs = [seccomp.compile_filter(profile(rule), "x86_64").program for rule in (once, often)]

    assert programs[0] == programs[1]


def test_far_jumps() -> None:
    """Where a tree is longer than a jump reaches, every value still finds its rule."""
    rules = [allow("read", args=[arg(0, "EQ", 3 * n)]) for n in range(900)]
    log = {"names": ["write"], "action": "SCMP_ACT_LOG"}
    rules += [{**log, "args": [arg(1, "GE", n << 32)]} for n in range(40, 340)]
    made = compiled(profile(*rules))
    assert len(made) > 1500
    for n in range(0, 2700, 7):
        assert (EPERM if n % 3 else ALLOW) == call(made, "read", n), n
    for n in range(0, 400, 7):
        assert (0x7FFC_0000 if n >= 40 else EPERM) == call(made, "write", 0, n << 32), n


def test_filter_reports_its_length() -> None:
    """`instructions` counts 8 bytes each."""
    made = seccomp.compile_filter(json.loads((HERE / "seccomp_profile.json").read_text()), "x86_64")
    assert len(made.program) == 8 * made.instructions
    assert made.warnings == []


def test_profile_is_not_changed() -> None:
    """The compiler is pure."""
    text = (HERE / "seccomp_profile.json").read_text()
    given = json.loads(text)
    first = seccomp.compile_filter(given, "x86_64").program
    assert json.loads(text) == given
    assert first == seccomp.compile_filter(given, "x86_64").program


HEADERS = {"unistd_64.h": "SCMP_ARCH_X86_64", "unistd_32.h": "SCMP_ARCH_X86"}


@pytest.mark.may_skip("the headers are of x86 and need not be installed")
@pytest.mark.parametrize("header", HEADERS)
def test_numbers_are_the_kernels(header: str) -> None:
    """The table agrees with the kernel's headers on every call that both know, and knows nearly all."""
    found = Path("/usr/include/x86_64-linux-gnu/asm", header)
    if not found.exists():
        pytest.skip(f"no asm/{header}")
    theirs = dict(re.findall(r"^#define __NR_(\w+) (\d+)$", found.read_text(), re.MULTILINE))
    ours = dict(zip(NAMES, COLUMNS[HEADERS[header]], strict=True))
    assert {name: int(number) for name, number in theirs.items() if name in ours} == {
        name: number for name, number in ours.items() if name in theirs
    }
    assert len(theirs.keys() - ours.keys()) <= 5


@pytest.mark.parametrize("abi", COLUMNS)
def test_numbers_are_distinct(abi: str) -> None:
    """No two names share a number, so that rules by name are rules by number."""
    numbers = [number for number in COLUMNS[abi] if number != -1]
    assert len(numbers) == len(set(numbers)) > 300
