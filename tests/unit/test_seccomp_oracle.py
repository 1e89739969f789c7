"""Our filter against libseccomp's and against a plain model: the same call through both, on all ABIs."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import bpf_interpreter
import pytest
import seccomp_model
import seccomp_oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from seccomp_model import NUMBERS

from pyoci.compiler import seccomp
from pyoci.compiler._syscalls import MULTIPLEXED
from pyoci.compiler.seccomp_rules import OPERATORS

HERE = Path(__file__).parent

BUNDLES = HERE.parent / "data" / "bundles"
OWN_PROFILE = HERE / "seccomp_profile.json"

# Of each kind: everywhere; with a number of x32's own; lacking on some; operations of socketcall and ipc, with
# and without a number of their own, and these two; arm's private ones; great numbers; no call at all.
NAMES = [
    "read", "ioctl", "readv", "ptrace", "open", "_llseek", "socket", "accept4", "recv", "semget", "semtimedop",
    "socketcall", "ipc", "set_tls", "cacheflush", "statx", "clone3", "nonsense",
]  # fmt: skip
SMALL_VALUES = [0, 1, 2, 5, 255, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]
VALUES = [*SMALL_VALUES, 1 << 32, (1 << 32) + 5, (5 << 32) + 3, 1 << 63, (1 << 64) - 1]
ERRNO_ACTIONS = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")


@st.composite
def conditions(draw: st.DrawFn) -> dict[str, Any]:
    """An entry of `args`."""
    operator = draw(st.sampled_from(sorted(OPERATORS)))
    arg = {"index": draw(st.integers(0, 3)), "op": operator, "value": draw(st.sampled_from(VALUES))}
    if operator == "SCMP_CMP_MASKED_EQ":
        arg["valueTwo"] = draw(st.sampled_from(VALUES))
    return arg


@st.composite
def profiles(draw: st.DrawFn, machine: str) -> dict[str, Any]:
    """A profile for a machine; its rules with conditions have one action, so that their order is of no account."""
    action = draw(st.sampled_from(sorted(seccomp.ACTIONS)))
    rules = []
    for _ in range(draw(st.integers(0, 5))):
        names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
        args = draw(st.lists(conditions(), max_size=4))
        any_action = draw(st.sampled_from(sorted(seccomp.ACTIONS)))
        rule: dict[str, Any] = {"names": names, "action": action if args else any_action}
        if rule["action"] != action:
            # In socketcall a rule without conditions has one, the operation, and can contradict others.
            rule["names"] = [name for name in names if name not in MULTIPLEXED] or ["read"]
        if rule["action"] in ERRNO_ACTIONS and not args:
            rule["errnoRet"] = draw(st.sampled_from([0, 1, 38, 4094]))
        if args:
            rule["args"] = args
        rules.append(rule)
    abis = draw(st.lists(st.sampled_from(seccomp_model.MACHINES[machine]), unique=True))
    profile: dict[str, Any] = {"defaultAction": draw(st.sampled_from(sorted(seccomp.ACTIONS))), "syscalls": rules}
    profile["listenerPath"] = "/run/agent.sock"
    if abis:
        profile["architectures"] = [seccomp_model.ARCHITECTURES[abi] for abi in abis]
    return profile


def interesting_arguments(profile: Mapping[str, Any]) -> list[int]:
    """Values at and around those that the profile compares with."""
    values = {0, 1, 18, (1 << 32) + 2}
    for rule in profile["syscalls"]:
        for arg in rule.get("args", ()):
            for value in (arg["value"], arg.get("valueTwo", 0)):
                values |= {(value + step) % (1 << 64) for step in (-1, 0, 1)}
    return sorted(values)


def interesting_numbers(profile: Mapping[str, Any], abi: str) -> list[int]:
    """Numbers that the profile names and their neighbours, and the edges of the number space."""
    column = seccomp_model.COLUMNS.index(abi)
    names = {name for rule in profile["syscalls"] for name in rule["names"] if name in NUMBERS}
    numbers = {NUMBERS[name][column] for name in names} - {-1}
    if abi in seccomp_model.WITH_OPERATIONS:
        numbers |= {seccomp_model.number_behind(name, abi) for name in MULTIPLEXED}
    around = {number + step for number in numbers for step in (-1, 0, 1)}
    return sorted({number for number in around if number >= 0} | {0, 0x3FFF_FFFF, 0xFFFF_FFFF})


def calls(profile: Mapping[str, Any], machine: str, draw: st.DataObject) -> Iterator[tuple[str, int, list[int]]]:
    """Calls (ABI, number, arguments) that tell filters of the profile apart."""
    values = st.lists(st.sampled_from(interesting_arguments(profile)), min_size=6, max_size=6)
    arguments = draw.draw(st.lists(values, min_size=2, max_size=6))
    for abi in seccomp_model.MACHINES[machine]:
        for number in interesting_numbers(profile, abi):
            for args in arguments:
                yield abi, number, args


@pytest.mark.parametrize("machine", seccomp_model.MACHINES)
@settings(max_examples=50)
@given(data=st.data())
def test_filter_equals_the_model(machine: str, data: st.DataObject) -> None:
    """Every profile does what its rules say, one by one."""
    profile = data.draw(profiles(machine))
    order = ">" if machine in seccomp_model.BIG_ENDIAN else "<"
    ours = bpf_interpreter.decode(seccomp.compile_filter(profile, machine).program, order)
    for abi, number, args in calls(profile, machine, data):
        returned = bpf_interpreter.run(ours, seccomp_model.AUDIT[abi], number, args, order)
        assert seccomp_model.evaluate(profile, abi, number, args) == returned, (abi, number, args)


@pytest.mark.parametrize("machine", seccomp_oracle.MACHINES)
@settings(max_examples=50, derandomize=True)
@given(data=st.data())
def test_filter_equals_libseccomps(machine: str, data: st.DataObject) -> None:
    """Every profile that libseccomp gets right does the same in both filters."""
    need_libseccomp()
    profile = seccomp_oracle.usable(data.draw(profiles(machine)))
    # With calls of no conditions around them, libseccomp loads the number on every ABI.
    profile["syscalls"] += [{"names": ["getpid", "exit", "getppid"], "action": "SCMP_ACT_ALLOW"}]
    covered = covered_abis(profile, machine)
    theirs = seccomp_oracle.compile_filter(profile, covered)
    ours = bpf_interpreter.decode(seccomp.compile_filter(profile, machine).program)
    for abi, number, args in calls(profile, machine, data):
        returned = bpf_interpreter.run(ours, seccomp_model.AUDIT[abi], number, args)
        assert seccomp_oracle.expected(profile, theirs, abi, number, args) == returned, (abi, number, args)


def covered_abis(profile: Mapping[str, Any], machine: str) -> list[str]:
    """The ABIs of a machine that a filter for the profile covers."""
    own, *others = seccomp_model.MACHINES[machine]
    listed = profile.get("architectures", ())
    return [own, *(abi for abi in others if seccomp_model.ARCHITECTURES[abi] in listed)]


def need_libseccomp() -> None:
    """Skip the test where there is no libseccomp; in CI there must be one, for x86_64."""
    library = seccomp_oracle.LIBRARY
    if library is None or library.seccomp_arch_native() != seccomp_oracle.TOKENS["x86_64"]:
        assert not os.environ.get("CI"), "libseccomp2 is missing"
        pytest.skip("libseccomp for x86_64 is not here")


def real_profiles() -> list[Path]:
    """Our own profile, and those that engines send."""
    return [OWN_PROFILE, *sorted(path for path in BUNDLES.glob("*.json") if '"seccomp"' in path.read_text())]


@pytest.mark.parametrize("machine", seccomp_oracle.MACHINES)
@pytest.mark.parametrize("path", real_profiles(), ids=lambda path: path.stem)
def test_real_profiles_equal_libseccomps(path: Path, machine: str) -> None:
    """Every number on every ABI does the same in both filters, and ours is shorter."""
    need_libseccomp()
    document = json.loads(path.read_text())
    profile = document["linux"]["seccomp"] if "linux" in document else document
    profile["architectures"] = [seccomp_model.ARCHITECTURES[abi] for abi in seccomp_model.MACHINES[machine]]
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name in NUMBERS and seccomp_oracle.knows(name)]
    theirs = seccomp_oracle.compile_filter(profile, seccomp_model.MACHINES[machine])
    ours = bpf_interpreter.decode(seccomp.compile_filter(profile, machine).program)
    values = interesting_arguments(profile)
    same = [[value] * 6 for value in values]
    mixed = [[values[(i * step) % len(values)] for i in range(6)] for step in range(1, 6)]
    for abi in seccomp_model.MACHINES[machine]:
        first = seccomp_model.X32_BIT if abi == "x32" else 0
        some = interesting_numbers({"syscalls": [rule for rule in profile["syscalls"] if rule.get("args")]}, abi)
        for number in [*range(first, first + 600), 0x0F0002, 0x0F0006, 0xFFFF_FFFF]:
            for args in same + mixed if number in some else mixed[:1]:
                returned = bpf_interpreter.run(ours, seccomp_model.AUDIT[abi], number, args)
                wanted = seccomp_oracle.expected(profile, theirs, abi, number, args)
                assert wanted == returned, (abi, number, args)
    print(f"{path.stem} on {machine}: {len(ours)} instructions, libseccomp {len(theirs)}")
    assert len(ours) < len(theirs)


# Rules for one call whose actions differ, and where the order shows: [args of an ALLOW rule], [args of a LOG rule].
OVERLAPS = {
    "equality before a range": ([(0, "EQ", 20)], [(0, "GE", 10)]),
    "equality before a range, however they stand": ([(0, "GE", 10)], [(0, "EQ", 20)]),
    "the higher lower bound": ([(0, "GT", 10)], [(0, "GT", 20)]),
    "the lower upper bound": ([(0, "LT", 20)], [(0, "LT", 10)]),
    "upper bounds before lower ones": ([(0, "GE", 10)], [(0, "LE", 20)]),
    "the later argument": ([(0, "EQ", 10)], [(1, "EQ", 20)]),
    "the shorter rule, if it is first": ([(0, "EQ", 10)], [(0, "EQ", 10), (1, "EQ", 20)]),
    "an equality against a different one": ([(0, "NE", 10)], [(0, "EQ", 20)]),
}


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_overlapping_rules_equal_libseccomps(overlap: str) -> None:
    """Of two matching rules with different actions, libseccomp's choice is ours."""
    need_libseccomp()
    first, second = (
        [{"index": index, "op": f"SCMP_CMP_{op}", "value": value} for index, op, value in args]
        for args in OVERLAPS[overlap]
    )
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["getpid", "exit"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": first},
            {"names": ["ioctl"], "action": "SCMP_ACT_LOG", "args": second},
        ],
    }
    theirs = seccomp_oracle.compile_filter(profile, ["x86_64"])
    ours = bpf_interpreter.decode(seccomp.compile_filter(profile, "x86_64").program)
    number = NUMBERS["ioctl"][0]
    for a in range(32):
        for b in (10, 20):
            call = (seccomp_model.AUDIT["x86_64"], number, [a, b, 0, 0, 0, 0])
            assert bpf_interpreter.run(theirs, *call) == bpf_interpreter.run(ours, *call), (a, b)
