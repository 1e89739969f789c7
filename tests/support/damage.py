"""Damage to blocks of operations: bits, sizes, numbers at the border of their types, exchanged and missing parts."""

import random
import struct
from collections.abc import Callable, Iterator

from pyoci.compiler.block import HEADER, encode
from pyoci.compiler.decode import decode
from pyoci.compiler.verbs import base
from tests.support.goldens import EXEC_NAMES, NAMES, compiled, compiled_exec

OP = 48
# what a number may be mistaken for: borders of types, of sizes, of offsets
EXTREMES = (0, 1, 2, 7, 8, 15, 16, 47, 48, 0x7F, 0x80, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
WIDE = (*EXTREMES, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def flip_bit(chance: random.Random, block: bytearray) -> None:
    """Flip one bit."""
    bit = chance.randrange(8 * len(block))
    block[bit // 8] ^= 1 << bit % 8


def truncate(chance: random.Random, block: bytearray) -> None:
    """Cut the end off, with or without the right size in the header."""
    del block[chance.choice((chance.randrange(len(block)), len(block) - 8 * chance.randrange(1, 9))) :]
    fix_size(chance, block)


def extend(chance: random.Random, block: bytearray) -> None:
    """Append zeros or noise."""
    size = chance.choice((1, 4, 8, 48, 4096))
    block += bytes(size) if chance.random() < 0.5 else chance.randbytes(size)
    fix_size(chance, block)


def fix_size(chance: random.Random, block: bytearray) -> None:
    """Often give the header the new size, and the strings what the other parts leave."""
    if len(block) >= HEADER.size and chance.random() < 0.8:
        values = list(HEADER.unpack_from(block))
        values[2] = len(block)
        values[5] = (len(block) - HEADER.size - OP * values[3] - 4 * values[4]) & 0xFFFFFFFF
        HEADER.pack_into(block, 0, *values)


def change_header(chance: random.Random, block: bytearray) -> None:
    """Put an extreme into a field of the header."""
    values = list(HEADER.unpack_from(block))
    field = chance.randrange(2, len(values))
    values[field] = chance.choice((*EXTREMES, values[field] ^ 1, (values[field] + 1) & 0xFFFFFFFF))
    HEADER.pack_into(block, 0, *values)


def change_op(chance: random.Random, block: bytearray) -> None:
    """Put an extreme, or a number near to the right one, into a place of an operation."""
    count = HEADER.unpack_from(block)[3]
    at = HEADER.size + OP * chance.randrange(count)
    code, place = chance.choice(
        (("H", 0), ("H", 2), ("I", 4), ("I", 8), ("I", 12), *(("Q", n) for n in (16, 24, 32, 40)))
    )
    limit = (1 << 8 * struct.calcsize(code)) - 1
    (old,) = struct.unpack_from(f"={code}", block, at + place)
    new = chance.choice((chance.choice(WIDE), old + 1, old - 1, old + 8, len(block), chance.getrandbits(64)))
    struct.pack_into(f"={code}", block, at + place, new & limit)


def change_vector(chance: random.Random, block: bytearray) -> None:
    """Put an extreme into an entry of a vector, or end it elsewhere."""
    _, _, _, count, vectors, pool, *_ = HEADER.unpack_from(block)
    if vectors:
        at = HEADER.size + OP * count + 4 * chance.randrange(vectors)
        struct.pack_into("=I", block, at, chance.choice((*EXTREMES, pool, pool - 1, 0xFFFFFFFF)))


def change_pool(chance: random.Random, block: bytearray) -> None:
    """Overwrite a NUL, a length or a text of the pool."""
    pool = HEADER.unpack_from(block)[5]
    at = len(block) - pool + chance.randrange(pool)
    block[at] = chance.choice((0, 1, 0xFF, 0x7F, ord("=")))


def swap_words(chance: random.Random, block: bytearray) -> None:
    """Exchange two words."""
    size = chance.choice((4, 8))
    first, second = (size * chance.randrange(len(block) // size) for _ in range(2))
    one, other = block[first : first + size], block[second : second + size]
    block[first : first + size], block[second : second + size] = other, one


def move_ops(chance: random.Random, block: bytearray) -> None:
    """Copy an operation over another one."""
    count = HEADER.unpack_from(block)[3]
    source, target = (HEADER.size + OP * chance.randrange(count) for _ in range(2))
    block[target : target + OP] = block[source : source + OP]


def drop_op(chance: random.Random, block: bytearray) -> None:
    """Remove an operation, with the right count."""
    values = list(HEADER.unpack_from(block))
    at = HEADER.size + OP * chance.randrange(values[3])
    del block[at : at + OP]
    values[2] = len(block)
    values[3] -= 1
    HEADER.pack_into(block, 0, *values)


WAYS: tuple[Callable[[random.Random, bytearray], None], ...] = (
    flip_bit, truncate, extend, change_header, change_op, change_op, change_op, change_vector, change_pool, swap_words,
    move_ops, drop_op,
)  # fmt: skip


def damaged(chance: random.Random, block: bytes) -> bytes:
    """Return a copy with damage of one kind, and sometimes more on top, as far as its header still makes sense."""
    copy = bytearray(block)
    chance.choice(WAYS)(chance, copy)
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        if len(copy) >= len(block) and HEADER.unpack_from(block)[3:6] == HEADER.unpack_from(copy)[3:6]:
            chance.choice(WAYS)(chance, copy)
    return bytes(copy)


def plans() -> Iterator[tuple[str, list[bytes]]]:
    """Yield the blocks of every golden plan, in the order in which the child gets them."""
    for name, plan in (
        *((name, compiled(name)) for name in NAMES),
        *((f"exec/{name}", compiled_exec(name)) for name in EXEC_NAMES),
    ):
        yield name, [encode(ops, plan.slots, first=first) for first, ops in plan.blocks()]


def blocks() -> Iterator[tuple[str, bytes]]:
    """Yield every block of every golden plan."""
    for name, parts in plans():
        for number, block in enumerate(parts):
            yield f"{name}, block {number}", block


def is_safe(block: bytes) -> bool:
    """Whether a reader that knows nothing of the child's check finds every field as its kind demands."""
    read = decode(block)
    for op in read.ops:
        fields = op.sent_fields()
        last = 0
        for name, kind in op.wire:
            value = fields[name]
            if kind in (base.SLOT, base.OPTIONAL_SLOT):
                last = value
                if not (0 if kind == base.SLOT else -1) <= value < read.slots:
                    return False
            if kind == base.SLOT_COUNT and not 0 <= value <= read.slots - last:
                return False
            if kind == base.NATURAL and value < 0:
                return False
    return bool(read.unfinished) != (bool(read.ops) and read.ops[-1].verb == "exec")
