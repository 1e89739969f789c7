"""Device rules as eBPF: an interpreter runs the program against a model of what the rules mean."""

import itertools
import json
import struct
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoci.cgroups.device_filter import _packed, compile_rules
from pyoci.config import load
from pyoci.errors import CgroupError, ConfigError

DENY_ALL = {"allow": False, "access": "rwm"}
ALLOW_ALL = {"allow": True, "type": "a", "access": "rwm"}
DEFAULT_NUMBERS = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200)]


class RefusedProgram(Exception):
    """The kernel's verifier would refuse it."""


def instructions(program: bytes) -> list[tuple[int, int, int, int, int]]:
    """(opcode, destination, source, offset, immediate) of each instruction."""
    found = []
    for op, registers, offset, immediate in struct.iter_unpack("=BBhi", program):
        halves = registers & 15, registers >> 4
        found.append((op, *(halves if sys.byteorder == "little" else halves[::-1]), offset, immediate))
    return found


def run(program: bytes, type_: str, major: int, minor: int, letters: str) -> bool:
    """What the kernel does: b"" was never attached, so nothing is denied."""
    if not program:
        return True
    access = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in letters) << 16 | {"b": 1, "c": 2}[type_]
    context = struct.pack("=III", access, major, minor)
    code = instructions(program)
    registers = {1: None}
    at = 0
    for _ in range(len(code) + 1):
        op, to, source, offset, immediate = code[at]
        at += 1
        match op:
            case 0x61:  # r = *(u32 *)(source + offset)
                if source != 1:
                    raise RefusedProgram
                registers[to] = struct.unpack_from("=I", context, offset)[0]
            case 0x54:
                registers[to] &= immediate & 0xFFFFFFFF
            case 0x74:
                registers[to] >>= immediate
            case 0xB4:
                registers[to] = immediate & 0xFFFFFFFF
            case 0x05:
                at += offset
            case 0x15:
                at += offset if registers[to] == immediate else 0
            case 0x55:
                at += offset if registers[to] != immediate else 0
            case 0x45:
                at += offset if registers[to] & immediate else 0
            case 0x95:
                return bool(registers[0])
            case _:
                raise RefusedProgram
    raise RefusedProgram


def allowed_by_rules(rules: list[dict[str, Any]], type_: str, major: int, minor: int, letters: str) -> bool:
    """The model: for each letter the last rule that covers it decides, and all have to be allowed."""
    return all(letter_allowed(rules, type_, major, minor, letter) for letter in letters)


def letter_allowed(rules: list[dict[str, Any]], type_: str, major: int, minor: int, letter: str) -> bool:
    """Whether the defaults or the last rule that matches allow it."""
    if letter == "m" or (type_ == "c" and ((major, minor) in DEFAULT_NUMBERS or major == 136)):
        return True
    verdict = False
    for rule in rules:
        matches = (
            rule.get("type", "a") in ("a", "", type_)
            and rule.get("major", -1) in (-1, major)
            and rule.get("minor", -1) in (-1, minor)
        )
        if matches and letter in rule["access"]:
            verdict = rule["allow"]
    return verdict


LETTERS = ["".join(letters) for n in (1, 2, 3) for letters in itertools.combinations("rwm", n)]
NUMBERS = st.sampled_from([0, 1, 3, 5, 10, 136, 200, 4095])
RULES = st.lists(
    st.fixed_dictionaries(
        {"allow": st.booleans(), "access": st.sampled_from(LETTERS)},
        optional={
            "type": st.sampled_from(["a", "b", "c", ""]),
            "major": NUMBERS | st.just(-1),
            "minor": NUMBERS | st.just(-1),
        },
    ),
    max_size=12,
)


@given(RULES, st.sampled_from("bc"), NUMBERS, NUMBERS)
def test_program_does_what_the_rules_mean(rules, type_, major, minor) -> None:
    """For every set of letters on any device."""
    program = compile_rules(rules)

    for letters in ["", *LETTERS]:
        expected = allowed_by_rules(rules, type_, major, minor, letters)
        assert expected == run(program, type_, major, minor, letters), letters


@given(RULES)
def test_every_instruction_can_be_reached_and_all_jumps_go_forward(rules) -> None:
    """The verifier refuses programs with dead code; old ones also refuse loops."""
    code = instructions(compile_rules(rules))
    reached = {0} if code else set()
    for at, (op, _, _, offset, _) in enumerate(code):
        assert at in reached
        assert offset >= 0
        if op == 0x95:
            continue
        if op != 0x05:
            reached.add(at + 1)
        if op in (0x05, 0x15, 0x55, 0x45):
            reached.add(at + 1 + offset)

    assert len(code) not in reached


@pytest.mark.parametrize("rules", [[], [DENY_ALL], [ALLOW_ALL, DENY_ALL], [{"allow": False, "access": "r"}]])
def test_no_rules_and_deny_all_leave_the_default_devices(rules: list[dict[str, Any]]) -> None:
    """Default deny, but null, zero, ptys, making nodes and the rest of the defaults stay."""
    program = compile_rules(rules)

    for major, minor in [*DEFAULT_NUMBERS, (136, 0), (136, 77)]:
        assert run(program, "c", major, minor, "rwm")
        assert not run(program, "b", major, minor, "r")
    assert run(program, "b", 8, 0, "m")
    assert not run(program, "c", 1, 1, "r")
    assert not run(program, "c", 5, 1, "w"), "the host's console"
    assert not run(program, "b", 8, 0, "rm")


def test_partly_denied_access_is_denied() -> None:
    """`deny r` after `allow rw`: writing goes, reading and both do not."""
    rules = [
        {"allow": True, "type": "b", "major": 8, "minor": 0, "access": "rw"},
        {"allow": False, "type": "b", "major": 8, "minor": 0, "access": "r"},
    ]
    program = compile_rules(rules)

    assert run(program, "b", 8, 0, "w")
    assert not run(program, "b", 8, 0, "r")
    assert not run(program, "b", 8, 0, "rw")


def test_access_may_be_allowed_by_several_rules() -> None:
    """One rule for r and another for w make rw, as sets do."""
    rules = [
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"},
        {"allow": True, "type": "c", "major": 10, "access": "w"},
    ]

    assert run(compile_rules(rules), "c", 10, 229, "rw")
    assert not run(compile_rules(rules), "c", 10, 228, "rw")


def test_later_rules_override_earlier_ones() -> None:
    """In both directions."""
    fuse = {"type": "c", "major": 10, "minor": 229, "access": "rwm"}

    assert run(compile_rules([DENY_ALL, {"allow": True, **fuse}]), "c", 10, 229, "rw")
    assert not run(compile_rules([{"allow": True, **fuse}, DENY_ALL]), "c", 10, 229, "rw")
    assert not run(compile_rules([ALLOW_ALL, {"allow": False, **fuse}]), "c", 10, 229, "rw")
    assert run(compile_rules([ALLOW_ALL, {"allow": False, **fuse}]), "b", 10, 229, "rw")


@pytest.mark.parametrize(
    "rules",
    [
        [ALLOW_ALL],
        [DENY_ALL, {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"}, ALLOW_ALL],
        [DENY_ALL, {"allow": True, "access": "r"}, {"allow": True, "access": "w"}],
        [ALLOW_ALL, {"allow": False, "access": "m"}],
    ],
)
def test_program_that_allows_everything_is_empty(rules: list[dict[str, Any]]) -> None:
    """Privileged containers need no filter: attached, it would only cost."""
    assert b"" == compile_rules(rules)


def test_denying_what_nothing_allows_makes_no_code() -> None:
    """Docker denies fuse after denying all."""
    fuse = {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
    console = {"allow": True, "type": "c", "major": 5, "minor": 1, "access": "rwm"}

    assert compile_rules([console]) == compile_rules([DENY_ALL, console, fuse])
    misc = {"allow": True, "type": "c", "major": 10, "access": "r"}
    assert compile_rules([misc, console]) != compile_rules([misc, console, fuse])


def test_rules_that_later_ones_decide_make_no_code() -> None:
    """Docker sends its list twice, and most of it is in the defaults anyway."""
    docker = [DENY_ALL] + [{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}] * 1000

    assert compile_rules([]) == compile_rules(docker)


def load_rules(rules: list[dict[str, Any] | dict[str, bool]]) -> list[dict[str, Any] | dict[str, bool]]:
    """The device rules of a config.json."""
    config = {"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "linux": {"resources": {"devices": rules}}}
    loaded, _ = load(json.dumps(config).encode())
    return loaded["linux"]["resources"]["devices"]


@pytest.mark.parametrize(
    ("rule", "where", "reason"),
    [
        ({"allow": True, "type": "u", "access": "r"}, "type", '"a", "b" or "c"'),
        ({"allow": True, "type": "c\n", "access": "r"}, "type", '"a", "b" or "c"'),
        ({"allow": True, "access": "rx"}, "access", 'letters of "rwm"'),
        ({"allow": True, "access": ""}, "access", 'letters of "rwm"'),
        ({"allow": True, "access": "r", "major": -2}, "major", "-2"),
        ({"allow": True, "access": "r", "major": 4096}, "major", "4096"),
        ({"allow": True, "access": "r", "minor": 2**20}, "minor", "from -1 to 1048575"),
        ({"allow": True, "access": "r", "minor": 2**63 - 1}, "minor", "from -1 to 1048575"),
    ],
)
def test_invalid_rules_are_rejected_before_they_are_compiled(rule: dict[str, Any], where: str, reason: str) -> None:
    """The compiler trusts a config that was loaded."""
    with pytest.raises(ConfigError, match=reason) as caught:
        load_rules([DENY_ALL, rule])

    assert [f"/linux/resources/devices/1/{where}"] == [problem.where for problem in caught.value.problems]


def test_compiler_rejects_a_rule_without_access() -> None:
    """The specification does not say whether that means none of the letters or all of them."""
    with pytest.raises(CgroupError, match="it has no access") as caught:
        compile_rules(load_rules([DENY_ALL, {"allow": False}]))

    assert "/linux/resources/devices/1/access" == caught.value.where


def test_more_rules_than_a_program_holds_are_an_error() -> None:
    """Jumps reach 32767 instructions: one that wrapped around would decide something else."""
    most = [
        {"allow": True, "type": "bc"[n % 2], "major": n % 4000, "minor": n, "access": "rw"[n % 2]} for n in range(4096)
    ]

    assert len(compile_rules(most)) // 8 < 32768
    with pytest.raises(CgroupError, match="cannot compile 4097 device rules: the limit is 4096"):
        compile_rules([*most, DENY_ALL])


def test_a_thousand_rules_still_mean_what_they_say() -> None:
    """The most that a config may have."""
    rules = [
        {"allow": bool(minor % 3), "type": "b", "major": 9, "minor": minor, "access": "rw"} for minor in range(1024)
    ]
    program = compile_rules([ALLOW_ALL, *rules])

    assert [bool(n % 3) for n in range(0, 1024, 41)] == [run(program, "b", 9, n, "r") for n in range(0, 1024, 41)]


def test_registers_have_the_machines_order() -> None:
    """A big-endian machine has the destination in the high half of the byte."""
    assert 0x12 == _packed(0x12, "little")
    assert 0x21 == _packed(0x12, "big")
