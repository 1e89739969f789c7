"""`linux.resources.devices` as an eBPF program (BPF_PROG_TYPE_CGROUP_DEVICE).

Pure. Implements "Allowed Device list" of the runtime specification (config-linux.md). The meaning of the rules:

    An access requests some of r, w and m (mknod) on one device. For each letter, the last rule that covers the device
    and the letter decides. Without such a rule the letter is denied. The access is allowed if all its letters are.

So after `deny r` the kernel rejects an open for reading and writing, as with the device lists of cgroup v1.
"""

import _struct
import sys

from pyoci import linux
from pyoci.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.types import DeviceRule

    Rule = tuple[bool, int, int, int, int]  # allow, type, major, minor, access

READ, WRITE, MKNOD = linux.BPF_DEVCG_ACC_READ, linux.BPF_DEVCG_ACC_WRITE, linux.BPF_DEVCG_ACC_MKNOD
RWM = READ | WRITE | MKNOD
BLOCK, CHAR = linux.BPF_DEVCG_DEV_BLOCK, linux.BPF_DEVCG_DEV_CHAR
ANY = -1

ACCESS = {"r": READ, "w": WRITE, "m": MKNOD}
TYPES = {"": ANY, "a": ANY, "b": BLOCK, "c": CHAR}

# These rules follow the user's rules, so no rule can deny them. Without them a container has neither the devices that
# the specification promises nor terminals. Creating a node is harmless, because opening it is a separate access.
# 5:1 is not among them: it is the host's console, and a container's /dev/console is one of its own ptys.
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
INSTRUCTION = _struct.Struct("=BBhi")
LOAD_WORD, MOVE, AND, SHIFT_RIGHT = 0x61, 0xB4, 0x54, 0x74  # 32 bits
JUMP, JUMP_IF_EQUAL, JUMP_UNLESS_EQUAL, JUMP_IF_SET, EXIT = 0x05, 0x15, 0x55, 0x45, 0x95
RESULT, CONTEXT, ASKED, TYPE, MAJOR, MINOR = range(6)  # registers

# Lists of rules whose programs the build of the executable has compiled (known_filters.py). Otherwise empty.
KNOWN: "list[tuple[list[DeviceRule], bytes]]" = []

MAX_RULES = 4096  # with five instructions each, all jumps stay below 32768, and the verifier stays fast


def compile_rules(rules: "list[DeviceRule]", where: str = "/linux/resources/devices") -> bytes:
    """Return the program for `rules`, an array of struct bpf_insn; b"" if it would allow everything.

    Without rules it denies all but the defaults. The kernel runs the programs of ancestors as well, so no program has
    the same effect as one that allows everything. Raises CgroupError with the pointer of a rule without access, and for
    too many rules.
    """
    for known, program in KNOWN:
        if known == rules:
            return program
    if len(rules) > MAX_RULES:
        raise CgroupError(f"cannot compile {len(rules)} device rules: the limit is {MAX_RULES}", where=where)
    parsed = [_parse(rule, f"{where}/{index}") for index, rule in enumerate(rules)]
    tests = _tests([*parsed, *DEFAULTS])
    if _every_device(tests) == RWM and all(allow for allow, *_ in tests):
        return b""
    return _assemble(tests)


def _parse(rule: "DeviceRule", where: str) -> "Rule":
    access = 0
    for letter in rule.get("access", ""):
        access |= ACCESS[letter]
    if not access:
        # It could mean no letter or all of them, and guessing is not safe.
        raise CgroupError("cannot compile device rule: it has no access", where=f"{where}/access")
    return rule["allow"], TYPES[rule.get("type", "")], rule.get("major", ANY), rule.get("minor", ANY), access


class _Letters:
    """Letters by device, and by set of devices: ANY as type or number makes it a set."""

    __slots__ = ("_by_device", "_kinds")

    def __init__(self) -> None:
        # Keys are strings: the rules' author could choose numbers that collide (docs/decisions/0001-executable.md).
        self._by_device: dict[str, int] = {}
        self._kinds: list[tuple[bool, bool, bool]] = []  # kinds of sets: which of type, major and minor are ANY

    def __bool__(self) -> bool:
        return bool(self._by_device)

    def add(self, type_: int, major: int, minor: int, letters: int) -> None:
        key = f"{type_} {major} {minor}"
        self._by_device[key] = self._by_device.get(key, 0) | letters
        kind = (type_ == ANY, major == ANY, minor == ANY)
        if True in kind and kind not in self._kinds:
            self._kinds.append(kind)

    def of(self, type_: int, major: int, minor: int) -> int:
        """Return the letters of a device or set, together with those of every set that contains it."""
        letters = self._by_device.get(f"{type_} {major} {minor}", 0)
        for any_type, any_major, any_minor in self._kinds:
            key = f"{ANY if any_type else type_} {ANY if any_major else major} {ANY if any_minor else minor}"
            letters |= self._by_device.get(key, 0)
        return letters


def _tests(rules: "list[Rule]") -> "list[Rule]":
    """Return `rules` in the order to test them, last first, each with the letters that no earlier test decides."""
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
    return _without_redundant_denials(tests)


def _without_redundant_denials(tests: "list[Rule]") -> "list[Rule]":
    """Drop the denials of letters that no later test would allow: without a match they are denied anyway."""
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
    """Return the letters that `tests` decide for every device."""
    letters = 0
    for _, *device, access in tests:
        if device == [ANY, ANY, ANY]:
            letters |= access
    return letters


def _assemble(tests: "list[Rule]") -> bytes:
    """Emit the verdict of each test, behind guards that jump over it for other devices.

    Adjacent tests share their guards, because the verifier's time grows faster than the program.
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
    guards: list[tuple[int, int, int]] = []  # register, number, and index of the jump in `code`

    def close_guards(down_to: int) -> None:
        while len(guards) > down_to:
            register, number, at = guards.pop()
            code[at] = (JUMP_UNLESS_EQUAL, register, len(code) - at - 1, number)

    open_letters = RWM  # letters that the access may still request; it requests at least one of them
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
        INSTRUCTION.pack(opcode, _packed(registers), targets[to] - i - 1 if isinstance(to, str) else to, imm)
        for i, (opcode, registers, to, imm) in enumerate(code)
    )


def _packed(registers: int, byte_order: str = sys.byteorder) -> int:
    """Return the byte of both registers. They are bit fields, of which a big-endian machine puts the first one high."""
    return registers >> 4 | (registers & 0xF) << 4 if byte_order == "big" else registers
