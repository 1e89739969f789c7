"""Classic BPF for seccomp: from numbers and comparisons to instructions.

A *target* is the outcome of a search for a system call's number. It is an action (a seccomp return value, 0 or more)
or a node of a decision tree over the call's arguments (less than 0). `Decisions` makes such trees. `Assembler` writes
trees, and searches that end in targets.
"""

import _struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    # (offset, mask, operation, constant): compare the masked word at an offset of struct seccomp_data to a constant.
    Test = tuple[int, int, int, int]
    Fact = tuple[Test, bool]
    # (first number, target, [(number, target) of single numbers that differ]). It ends where the next range begins.
    Range = tuple[int, int, list[tuple[int, int]]]

# Instruction codes, combined from the parts in linux/bpf_common.h.
LOAD = 0x20
AND = 0x54
RETURN = 0x06
JUMP = 0x05
IF_EQUAL = 0x15
IF_GREATER = 0x25
IF_GREATER_OR_EQUAL = 0x35
IF_ANY_BIT = 0x45

WORD = 0xFFFF_FFFF
# A conditional jump skips at most 255 instructions. One less leaves room for a stepping stone.
REACH = 254

_NODE = _struct.Struct("=IIIIqq")
# struct sock_filter
_LITTLE_ENDIAN, _BIG_ENDIAN = _struct.Struct("<HBBI"), _struct.Struct(">HBBI")


def outcome(test: "Test", facts: "Sequence[Fact]") -> bool | None:
    """Return the result of a test under these facts, or None if they don't decide it."""
    offset, mask, operation, constant = test
    for fact, held in facts:
        if fact == test:
            return held
        if held and fact[0] == offset and fact[2] == IF_EQUAL:
            if fact[1] == WORD:
                return _holds(operation, fact[3] & mask, constant)
            if fact[1] == mask and operation == IF_EQUAL:
                return fact[3] == constant
    return None


def _holds(operation: int, word: int, constant: int) -> bool:
    if operation == IF_EQUAL:
        return word == constant
    if operation == IF_GREATER:
        return word > constant
    if operation == IF_GREATER_OR_EQUAL:
        return word >= constant
    return word & constant != 0


class Decisions:
    """Decision trees that share equal nodes.

    Node -1-i is `nodes[i]`: a test, the target if it holds, and the target if it fails. Both targets are older.
    """

    __slots__ = ("_known", "nodes")

    def __init__(self) -> None:
        self.nodes: list[tuple[Test, int, int]] = []
        # By bytes: a profile's author could choose numbers whose hashes collide (docs/decisions/0001-executable.md).
        self._known: dict[bytes, int] = {}

    def node(self, test: "Test", yes: int, no: int) -> int:
        """Return a target that does `yes` if the test holds, and `no` if it fails."""
        if yes == no:
            return yes
        key = _NODE.pack(*test, yes, no)
        known = self._known.get(key)
        if known is None:
            self.nodes.append((test, yes, no))
            known = self._known[key] = -len(self.nodes)
        return known

    def under(self, target: int, facts: "Sequence[Fact]") -> int:
        """Return the target below those tests at its top that the facts decide."""
        while target < 0:
            test, yes, no = self.nodes[-1 - target]
            held = outcome(test, facts)
            if held is None:
                break
            target = yes if held else no
        return target


class Assembler:
    """A program that is written from its end to its start, so that the destination of every jump exists already.

    A *position* counts instructions from the end. `code` keeps each struct sock_filter (u16 code, u8 jt, u8 jf, u32 k)
    as one 64-bit number, which on most architectures has the same bytes.
    """

    __slots__ = ("_after_load", "_at", "_decisions", "_returns", "code")

    def __init__(self, decisions: Decisions) -> None:
        self.code: list[int] = []
        self._decisions = decisions
        self._returns: dict[int, int] = {}
        # Two positions of a node: at the load of the word that it tests, and after that load.
        self._at: dict[int, int] = {}
        self._after_load: dict[int, int] = {}

    def bytes(self, *, big_endian: bool) -> bytes:
        """Return the program as an array of struct sock_filter, in the byte order of the machine that runs it."""
        program = _struct.pack(f"<{len(self.code)}Q", *reversed(self.code))
        if not big_endian:
            return program
        return b"".join([_BIG_ENDIAN.pack(*fields) for fields in _LITTLE_ENDIAN.iter_unpack(program)])

    def returns(self, value: int) -> bool:
        """Whether an instruction of the program returns this value."""
        return RETURN | value << 32 in self.code

    def at(self, target: int) -> int:
        """Return the position to jump to for this target. If it is a node, `trees` must have written it."""
        if target < 0:
            return self._at[target]
        here = len(self.code)
        position = self._returns.get(target)
        if position is None or here - position > REACH:
            position = self._returns[target] = here
            self.code.append(RETURN | target << 32)
        return position

    def load(self, offset: int) -> int:
        """Load the word at this offset of struct seccomp_data. Return the position."""
        self.code.append(LOAD | offset << 32)
        return len(self.code) - 1

    def jump(self, operation: int, constant: int, yes: int, no: int) -> int:
        """Jump to position `yes` if the comparison of the loaded word holds, else to `no`. Return the position."""
        code = self.code
        if len(code) - no > REACH:
            no = self._step(no)
        if len(code) - yes > REACH:
            yes = self._step(yes)
        here = len(code)
        code.append(operation | here - 1 - yes << 16 | here - 1 - no << 24 | constant << 32)
        return here

    def _step(self, position: int) -> int:
        # Write a stepping stone to a position out of reach.
        code = self.code
        there = code[position]
        code.append(there if there & 0xFFFF == RETURN else JUMP | len(code) - 1 - position << 32)
        return len(code) - 1

    def trees(self, roots: "Sequence[int]") -> None:
        """Write every node that the roots need."""
        nodes = self._decisions.nodes
        needed = set(roots)
        loads = set(roots)
        for target in range(-len(nodes), 0):
            if target in needed:
                test, *ways = nodes[-1 - target]
                for below in ways:
                    if below < 0:
                        needed.add(below)
                        if nodes[-1 - below][0][:2] != test[:2]:
                            loads.add(below)
        for target in sorted(needed, reverse=True):
            (offset, mask, operation, constant), yes, no = nodes[-1 - target]
            yes, no = self._below(yes, (offset, mask)), self._below(no, (offset, mask))
            self._after_load[target] = self.jump(operation, constant, yes, no)
            if target in loads:
                if mask != WORD:
                    self.code.append(AND | mask << 32)
                self._at[target] = self.load(offset)

    def _below(self, target: int, loaded: tuple[int, int]) -> int:
        if target < 0 and self._decisions.nodes[-1 - target][0][:2] == loaded:
            return self._after_load[target]
        return self.at(target)

    def search(self, ranges: "Sequence[Range]", first: int, end: int) -> int:
        """Write a binary search for the loaded word in `ranges[first:end]`. Return its position."""
        if end - first == 1:
            _, target, holes = ranges[first]
            position = self.at(target)
            for number, other in holes:
                position = self.jump(IF_EQUAL, number, self.at(other), position)
            return position
        middle = (first + end) // 2
        right = self.search(ranges, middle, end)
        left = self.search(ranges, first, middle)
        return self.jump(IF_GREATER_OR_EQUAL, ranges[middle][0], right, left)
