"""Read a block of operations back (pyoci.compiler.block), to print what the child gets.

This reader shares no code with `encode` but the verbs' layout. It trusts the block: the child checks it.
"""

import sys

from pyoci.compiler.block import HEADER
from pyoci.compiler.block import NULL as END
from pyoci.compiler.verbs import CHILD, base
from pyoci.compiler.verbs.numbers import BLOCK_MAGIC, BLOCK_UNFINISHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.compiler.verbs import ChildOp


class Decoded:
    """The content of a block: the operations, and what its header says."""

    __slots__ = ("first", "ops", "pool", "size", "slots", "unfinished", "vectors")

    def __init__(self, block: bytes) -> None:
        """Read `block`. Raises ValueError unless it is a block of this version."""
        if len(block) < HEADER.size:
            raise ValueError("it has no header")
        magic, _, self.size, count, vectors, pool, self.slots, self.first, flags, _ = HEADER.unpack_from(block)
        if magic != BLOCK_MAGIC or self.size != len(block):
            raise ValueError("it is not a plan of this version")
        self.unfinished = bool(flags & BLOCK_UNFINISHED)
        end_of_ops = HEADER.size + 48 * count
        entries = memoryview(block)[end_of_ops : end_of_ops + 4 * vectors].cast("I")
        self.vectors = entries.tolist()
        self.pool = block[len(block) - pool :]
        self.ops = [self._op(block[at : at + 48]) for at in range(HEADER.size, end_of_ops, 48)]

    def _op(self, encoded: bytes) -> "ChildOp":
        verb = CHILD[int.from_bytes(encoded[:2], sys.byteorder) - 1]
        _, flags, *values = verb.layout.unpack(encoded)
        fields: dict[str, Any] = {name: bool(flags & bit) for name, bit in verb.bits}
        for (name, kind), value in zip(verb.wire, values, strict=True):
            fields[name] = self._field(kind, value)
        return verb(**fields)

    def _field(self, kind: int, value: int) -> object:
        if kind == base.TEXT:
            return self._text(value)
        if kind == base.BLOB:
            return self._table(value)
        if kind == base.OPTIONS:
            return self._table(value).decode("utf-8", "surrogateescape").split("\0")[:-1]
        if kind in (base.VECTOR, base.ENVIRONMENT):
            return [self._text(offset) for offset in self.vectors[value : self.vectors.index(END, value)]]
        return value

    def _text(self, offset: int) -> str:
        return self.pool[offset : self.pool.index(b"\0", offset)].decode("utf-8", "surrogateescape")

    def _table(self, offset: int) -> bytes:
        if not offset:
            return b""
        length = int.from_bytes(self.pool[offset - 4 : offset], sys.byteorder)
        return self.pool[offset : offset + length]


def decode(block: bytes) -> Decoded:
    """Return the content of a block. Raises ValueError unless it is a block of this version."""
    return Decoded(block)


__all__ = ["Decoded", "decode"]
