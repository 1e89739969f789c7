"""Runs a seccomp filter on made-up system calls, and checks it as the kernel does before it accepts one."""

import struct
from collections.abc import Sequence

RET_K = 0x06
LD_W_ABS = 0x20
ALU_AND_K = 0x54
JMP_JA = 0x05
JMP_JEQ_K = 0x15
JMP_JGT_K = 0x25
JMP_JGE_K = 0x35
JMP_JSET_K = 0x45
CONDITIONS = {
    JMP_JEQ_K: lambda a, k: a == k,
    JMP_JGT_K: lambda a, k: a > k,
    JMP_JGE_K: lambda a, k: a >= k,
    JMP_JSET_K: lambda a, k: a & k != 0,
}
SECCOMP_DATA_SIZE = 64
MAX_INSTRUCTIONS = 4096

Instruction = tuple[int, int, int, int]


def decode(program: bytes, order: str = "<") -> list[Instruction]:
    """The (code, jt, jf, k) of each struct sock_filter; AssertionError if the kernel would refuse the program.

    `order` is the byte order of the machine that runs it, as in `struct`.
    """
    instructions = list(struct.iter_unpack(f"{order}HBBI", program))
    assert 0 < len(instructions) <= MAX_INSTRUCTIONS
    for position, (code, jt, jf, k) in enumerate(instructions):
        if code in CONDITIONS:
            assert position + 1 + max(jt, jf) < len(instructions)
        elif code == JMP_JA:
            assert position + 1 + k < len(instructions)
        elif code == LD_W_ABS:
            assert k % 4 == 0
            assert k < SECCOMP_DATA_SIZE
        else:
            assert code in (RET_K, ALU_AND_K)
    assert instructions[-1][0] == RET_K
    return instructions


def run(instructions: Sequence[Instruction], audit: int, nr: int, args: Sequence[int], order: str = "<") -> int:
    """The return value of the filter for a call `nr` of architecture `audit` with six 64-bit arguments."""
    words = struct.unpack(f"{order}16I", struct.pack(f"{order}IIQ6Q", nr, audit, 0, *args))
    accumulator = position = 0
    while True:
        code, jt, jf, k = instructions[position]
        position += 1
        if code == RET_K:
            return k
        if code == LD_W_ABS:
            accumulator = words[k // 4]
        elif code == ALU_AND_K:
            accumulator &= k
        elif code == JMP_JA:
            position += k
        else:
            position += jt if CONDITIONS[code](accumulator, k) else jf
