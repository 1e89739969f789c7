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

MAX_RULES = 4096  # five instructions each: all jumps stay below 32768, and the kernel's verifier patient


def compile_rules(rules: "list[dict[str, Any]]", where: str = "/linux/resources/devices") -> bytes:
    """The program for `rules`, an array of struct bpf_insn; b"" when it would allow everything.

    An ancestor's program is asked as well, so attaching none is the same as attaching one that allows all.
    With no rules all but the defaults is denied. Raises `CgroupError` with the pointer of a rule that is not valid.
    """
    if len(rules) > MAX_RULES:
        raise CgroupError(f"cannot compile {len(rules)} device rules: the limit is {MAX_RULES}", where=where)
    parsed = [_parse(rule, f"{where}/{index}") for index, rule in enumerate(rules)]
    tests = _tests([*parsed, *DEFAULTS])
    if _every_device(tests) == RWM and all(allow for allow, *_ in tests):
        return b""
    return _assemble(tests)


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


class _Letters:
    """Letters by device, and by set of devices: ANY stands for every type or number."""

    __slots__ = ("_by_device", "_kinds")

    def __init__(self) -> None:
        # by strings: the rules' author could choose numbers that collide (docs/decisions/0001-executable.md)
        self._by_device: dict[str, int] = {}
        self._kinds: list[tuple[bool, bool, bool]] = []  # of the sets: what of a device is ANY

    def __bool__(self) -> bool:
        return bool(self._by_device)

    def add(self, type_: int, major: int, minor: int, letters: int) -> None:
        key = f"{type_} {major} {minor}"
        self._by_device[key] = self._by_device.get(key, 0) | letters
        kind = (type_ == ANY, major == ANY, minor == ANY)
        if True in kind and kind not in self._kinds:
            self._kinds.append(kind)

    def of(self, type_: int, major: int, minor: int) -> int:
        """The letters of the device, or set of devices, and of every set that it is part of."""
        letters = self._by_device.get(f"{type_} {major} {minor}", 0)
        for any_type, any_major, any_minor in self._kinds:
            key = f"{ANY if any_type else type_} {ANY if any_major else major} {ANY if any_minor else minor}"
            letters |= self._by_device.get(key, 0)
        return letters


def _tests(rules: "list[Rule]") -> "list[Rule]":
    """`rules` in the order to test them, last first; of each only what no earlier test decides."""
    tests: list[Rule] = []
    decided = _Letters()
    for_all = 0
    for allow, type_, major, minor, access in reversed(rules):
        left = access & ~decided.of(type_, major, minor)
        if not left:
            continue
        tests.append((allow, type_, major, minor, left))
        decided.add(type_, major, minor, left)
        if type_ == major == minor == ANY:
            for_all |= left
            if for_all == RWM:
                break
    return _without_idle_denials(tests)


def _without_idle_denials(tests: "list[Rule]") -> "list[Rule]":
    """`tests` without the denials of what no later test would allow: no match is denied anyway."""
    kept: list[Rule] = []
    allowed = _Letters()
    for test in reversed(tests):
        allow, type_, major, minor, access = test
        if allow:
            allowed.add(type_, major, minor, access)
        elif ANY in (type_, major, minor):
            if not allowed:
                continue
        elif not allowed.of(type_, major, minor) & access:
            continue
        kept.append(test)
    kept.reverse()
    return kept


def _every_device(tests: "list[Rule]") -> int:
    """The letters that `tests` decide for every device."""
    letters = 0
    for _, *device, access in tests:
        if device == [ANY, ANY, ANY]:
            letters |= access
    return letters


def _assemble(tests: "list[Rule]") -> bytes:
    """The verdict of each test behind guards that jump over it for other devices.

    Neighbours share their guards: the verifier's time grows faster than the program.
    """
    code: list[tuple[int, int, int | str, int]] = [
        (LOAD_WORD, CONTEXT << 4 | TYPE, 0, 0),
        (LOAD_WORD, CONTEXT << 4 | ASKED, 0, 0),
        (LOAD_WORD, CONTEXT << 4 | MAJOR, 4, 0),
        (LOAD_WORD, CONTEXT << 4 | MINOR, 8, 0),
        (AND, TYPE, 0, 0xFFFF),
        (SHIFT_RIGHT, ASKED, 0, 16),
        (JUMP_IF_EQUAL, ASKED, "allow", 0),
    ]
    guards: list[tuple[int, int, int]] = []  # register, number, and where in `code` the jump stands

    def close_guards(down_to: int) -> None:
        while len(guards) > down_to:
            register, number, at = guards.pop()
            code[at] = (JUMP_UNLESS_EQUAL, register, len(code) - at - 1, number)

    open_letters = RWM  # those that may still be asked for; at least one is
    for allow, type_, major, minor, access in tests:
        device = [(register, n) for register, n in ((TYPE, type_), (MAJOR, major), (MINOR, minor)) if n != ANY]
        shared = 0
        while shared < min(len(guards), len(device)) and guards[shared][:2] == device[shared]:
            shared += 1
        close_guards(shared)
        for register, number in device[shared:]:
            guards.append((register, number, len(code)))
            code.append((JUMP_UNLESS_EQUAL, register, 0, number))
        if access & open_letters == open_letters:
            code.append((JUMP, 0, "allow" if allow else "deny", 0))
        elif allow:
            code += [(AND, ASKED, 0, RWM & ~access), (JUMP_IF_EQUAL, ASKED, "allow", 0)]
        else:
            code.append((JUMP_IF_SET, ASKED, "deny", access))
        if not device:
            open_letters &= ~access
    close_guards(0)
    targets = {"deny": len(code), "allow": len(code) + 2}
    code += [(MOVE, RESULT, 0, 0), (EXIT, 0, 0, 0), (MOVE, RESULT, 0, 1), (EXIT, 0, 0, 0)]
    return b"".join(
        INSTRUCTION.pack(opcode, registers, targets[to] - i - 1 if isinstance(to, str) else to, imm)
        for i, (opcode, registers, to, imm) in enumerate(code)
    )
