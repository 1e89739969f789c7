"""Write the child's operations as one block: a flat buffer without pointers, which another process can map and check.

    header      HEADER: what this is, and how large each part is
    operations  48 bytes each (pyoci.compiler.verbs.base)
    vectors     offsets of strings, 32 bits each; NULL ends a vector. Each vector begins where the one before it ends
    pool        strings and tables, from an offset that is a multiple of 8. Each ends with NUL, and so does the pool

The pool begins with 8 zero bytes, so that offset 0 means "missing" and is the empty string. A table begins at a
multiple of 8, and the 4 bytes before it hold its length. Descriptors are not in the block: operations name them by the
numbers of slots.

The child checks all of this before it runs the first operation (native/child/block.pxi). `_native` adds the checksum
when it sends the block.
"""

import _struct

from pyoci.compiler.verbs import base
from pyoci.compiler.verbs.numbers import BLOCK_MAGIC, BLOCK_UNFINISHED, FIRST_SLOT
from pyoci.compiler.verbs.program import Exec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyoci.compiler.verbs import ChildOp

# magic; checksum; size of the block; counts of operations, entries of vectors, bytes of the pool, and slots; number of
# the first operation; flags; zero
HEADER = _struct.Struct("=QQIIIIIIII")
NULL = 0xFFFFFFFF  # the end of a vector


def encode(ops: "Sequence[ChildOp]", slots: int = FIRST_SLOT, *, first: int = 0) -> bytes:
    """Return the block of these operations.

    `slots`  the number of descriptors that the plan numbers
    `first`  the number of the first operation in the whole plan; failure reports count from it
    """
    pool = bytearray(8)
    vectors: list[int] = []
    known: dict[str, int] = {"": 0}

    def put(text: str) -> int:
        offset = known.get(text)
        if offset is None:
            offset = known[text] = len(pool)
            pool.extend(text.encode("utf-8", "surrogateescape"))
            pool.append(0)
        return offset

    def put_blob(blob: bytes) -> int:
        if not blob:
            return 0
        pool.extend(bytes(4 - len(pool) & 7))
        pool.extend(_LENGTH.pack(len(blob)))
        offset = len(pool)
        pool.extend(blob)
        pool.append(0)
        return offset

    def put_options(options: "Sequence[str]") -> int:
        return put_blob("".join([f"{option}\0" for option in options]).encode("utf-8", "surrogateescape"))

    def put_vector(values: "Sequence[str]") -> int:
        start = len(vectors)
        vectors.extend([put(value) for value in values])
        vectors.append(NULL)
        return start

    def put_environment(values: "Sequence[str]") -> int:
        start = put_vector(values)
        vectors.append(NULL)
        return start

    places: dict[int, Callable[[Any], int]] = {
        base.TEXT: put, base.BLOB: put_blob, base.OPTIONS: put_options, base.NUMBER: base.signed, base.NATURAL: int,
        base.POINT: int, base.SLOT: int, base.OPTIONAL_SLOT: int, base.SLOT_COUNT: int, base.HALF: int,
        base.VECTOR: put_vector, base.ENVIRONMENT: put_environment,
    }  # fmt: skip
    encoded = []
    for op in ops:
        values = [op.code, op.flags if op.bits else 0]
        for name, kind in op.wire:
            values.append(places[kind](getattr(op, name)))
        encoded.append(op.layout.pack(*values))
    if len(vectors) % 2:
        vectors.append(NULL)  # aligns the pool
    pool.extend(bytes(8 - len(pool) % 8))
    flags = BLOCK_UNFINISHED if not ops or type(ops[-1]) is not Exec else 0
    size = HEADER.size + 48 * len(encoded) + 4 * len(vectors) + len(pool)
    header = HEADER.pack(BLOCK_MAGIC, 0, size, len(encoded), len(vectors), len(pool), slots, first, flags, 0)
    return b"".join([header, *encoded, _struct.pack(f"={len(vectors)}I", *vectors), pool])


_LENGTH = _struct.Struct("=I")
