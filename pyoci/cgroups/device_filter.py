"""`linux.resources.devices` as an eBPF program (BPF_PROG_TYPE_CGROUP_DEVICE).

Pure. Implements the runtime specification's "Allowed Device list" (config-linux.md). What the rules mean:

    An access asks for some of r, w and m (mknod) on one device. For each of these the last rule which
    covers the device and that letter decides; with no such rule it is denied. The access is allowed
    when every letter it asks for is.

So after `deny r` an open for reading and writing is refused, as with the device lists of cgroup v1.
"""

import _struct

from pyoci.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Rule = tuple[bool, int, int, int, int]  # allow, type, major, minor, access

READ, WRITE, MKNOD = 2, 4, 1  # BPF_DEVCG_ACC_*
RWM = READ | WRITE | MKNOD
BLOCK, CHAR = 1, 2  # BPF_DEVCG_DEV_*
ANY = -1

ACCESS = {"r": READ, "w": WRITE, "m": MKNOD}
TYPES = {"": ANY, "a": ANY, "b": BLOCK, "c": CHAR}
MAJORS, MINORS = 1 << 12, 1 << 20  # what a dev_t holds

# These follow the user's own and so can't be denied: without them a container has neither the devices that
# the specification promises nor terminals. Making a node is harmless, since opening it is decided again.
# 5:1 is missing: it is the host's console, while a container's /dev/console is one of its own ptys.
DEFAULTS = (
    (True, CHAR, 1, 3, RWM),  # /dev/null
    (True, CHAR, 1, 5, RWM),  # /dev/zero
    (True, CHAR, 1, 7, RWM),  # /dev/full
    (True, CHAR, 1, 8, RWM),  # /dev/random
    (True, CHAR, 1, 9, RWM),  # /dev/urandom
    (True, CHAR, 5, 0, RWM),  # /dev/tty
    (True, CHAR, 5, 2, RWM),  # /dev/ptmx
    (True, CHAR, 136, ANY, RWM),  # /dev/pts/N
    (True, CHAR, 10, 200, RWM),  # /dev/net/tun
    (True, ANY, ANY, ANY, MKNOD),
)

# struct bpf_insn: opcode, registers (source << 4 | destination), jump offset, immediate.
INSTRUCTION = _struct.Struct("<BBhi")
LOAD_WORD, MOVE, AND, SHIFT_RIGHT = 0x61, 0xB4, 0x54, 0x74  # 32 bits
JUMP, JUMP_IF_EQUAL, JUMP_UNLESS_EQUAL, JUMP_IF_SET, EXIT = 0x05, 0x15, 0x55, 0x45, 0x95
RESULT, CONTEXT, ASKED, TYPE, MAJOR, MINOR = range(6)  # registers

FURTHEST_JUMP = 0x7FFF


def compile_rules(rules: "list[dict[str, Any]]", where: str = "/linux/resources/devices") -> bytes:
    """The program for `rules`, an array of struct bpf_insn; b"" when it would allow everything.

    An ancestor's program is asked as well, so attaching none is the same as attaching one that allows all.
    No rules deny all but the defaults. Raises `CgroupError` with the pointer of a rule that is not valid.
    """
    parsed = [_parse(rule, f"{where}/{index}") for index, rule in enumerate(rules)]
    tests = _tests([*parsed, *DEFAULTS])
    if _every_device(tests) == RWM and all(allow for allow, *_ in tests):
        return b""
    return _assemble(tests, where)


def _parse(rule: "dict[str, Any]", where: str) -> "Rule":
    type_ = rule.get("type", "")
    if type_ not in TYPES:
        raise CgroupError(f"cannot compile device type {type_!r}: must be a, b or c", where=f"{where}/type")
    access = 0
    for letter in rule.get("access", ""):
        if letter not in ACCESS:
            raise CgroupError(f"cannot compile device access {letter!r}: must be r, w or m", where=f"{where}/access")
        access |= ACCESS[letter]
    if not access:  # none or all? a rule that bears on safety is not guessed
        raise CgroupError("cannot compile device rule: it has no access", where=f"{where}/access")
    numbers = []
    for key, limit in (("major", MAJORS), ("minor", MINORS)):
        number = rule.get(key, ANY)
        if not ANY <= number < limit:
            raise CgroupError(
                f"cannot compile device {key} {number}: must be less than {limit}", where=f"{where}/{key}"
            )
        numbers.append(number)
    return rule["allow"], TYPES[type_], numbers[0], numbers[1], access


def _tests(rules: "list[Rule]") -> "list[Rule]":
    """`rules` in the order to test them, last first, with only the letters that no earlier test decides."""
    tests: list[Rule] = []
    decided: dict[tuple[int, int, int], int] = {}
    for allow, type_, major, minor, access in reversed(rules):
        left = access
        for t in {type_, ANY}:
            for m in {major, ANY}:
                for n in {minor, ANY}:
                    left &= ~decided.get((t, m, n), 0)
        if not left:
            continue
        decided[type_, major, minor] = decided.get((type_, major, minor), 0) | left
        tests.append((allow, type_, major, minor, left))
    while not tests[-1][0]:  # nothing follows, and no match is denied anyway
        tests.pop()
    return tests


def _every_device(tests: "list[Rule]") -> int:
    """The letters that `tests` decide for every device."""
    letters = 0
    for _, *device, access in tests:
        if device == [ANY, ANY, ANY]:
            letters |= access
    return letters


def _assemble(tests: "list[Rule]", where: str) -> bytes:
    """One block of instructions for each test: leave it if the device is another, else decide its letters."""
    code: list[tuple[int, int, int | str, int]] = [
        (LOAD_WORD, CONTEXT << 4 | TYPE, 0, 0),
        (LOAD_WORD, CONTEXT << 4 | ASKED, 0, 0),
        (LOAD_WORD, CONTEXT << 4 | MAJOR, 4, 0),
        (LOAD_WORD, CONTEXT << 4 | MINOR, 8, 0),
        (AND, TYPE, 0, 0xFFFF),
        (SHIFT_RIGHT, ASKED, 0, 16),
        (JUMP_IF_EQUAL, ASKED, "allow", 0),
    ]
    open_letters = RWM  # those that may still be asked for; at least one is
    for allow, type_, major, minor, access in tests:
        device = [(register, n) for register, n in ((TYPE, type_), (MAJOR, major), (MINOR, minor)) if n != ANY]
        verdict: list[tuple[int, int, int | str, int]]
        if access & open_letters == open_letters:
            verdict = [(JUMP, 0, "allow" if allow else "deny", 0)]
        elif allow:
            verdict = [(AND, ASKED, 0, RWM & ~access), (JUMP_IF_EQUAL, ASKED, "allow", 0)]
        else:
            verdict = [(JUMP_IF_SET, ASKED, "deny", access)]
        length = len(device) + len(verdict)
        code += [(JUMP_UNLESS_EQUAL, register, length - 1 - i, n) for i, (register, n) in enumerate(device)]
        code += verdict
        if not device:
            open_letters &= ~access
    targets = {"deny": len(code), "allow": len(code) + 2}
    code += [(MOVE, RESULT, 0, 0), (EXIT, 0, 0, 0), (MOVE, RESULT, 0, 1), (EXIT, 0, 0, 0)]
    if len(code) > FURTHEST_JUMP:
        raise CgroupError(f"cannot compile {len(tests)} device rules: too many for one program", where=where)
    return b"".join(
        INSTRUCTION.pack(opcode, registers, targets[to] - i - 1 if isinstance(to, str) else to, imm)
        for i, (opcode, registers, to, imm) in enumerate(code)
    )
