"""Write the child's operations as one block: a flat buffer without pointers, which another process can map and check.

    header      HEADER: what this is, and how large each part is
    operations  48 bytes each (pyoci.compiler.verbs.base)
    vectors     offsets of strings, 32 bits each; NULL ends a vector. Each vector begins where the one before it ends
    pool        strings and tables, from an offset that is a multiple of 8. Each ends with NUL, and so does the pool

The pool begins with 8 zero bytes, so that offset 0 means "missing" and is the empty string. A table begins at a
multiple of 8, and the 4 bytes before it hold its length. Descriptors are not in the block: operations name them by the
numbers of slots.

`native/encode.pxi` writes all of this but the checksum, which `_native` adds when it sends the block. The child checks
all of it before it runs the first operation (`native/child/block.pxi`).
"""

import _struct

from pyoci import _native
from pyoci.compiler.verbs.numbers import FIRST_SLOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.verbs import ChildOp

# magic; checksum; size of the block; counts of operations, entries of vectors, bytes of the pool, and slots; number of
# the first operation; flags; zero
HEADER = _struct.Struct("=QQIIIIIIII")
NULL = 0xFFFFFFFF  # the end of a vector


def encode(ops: "list[ChildOp]", slots: int = FIRST_SLOT, *, first: int = 0) -> bytes:
    """Return the block of these operations.

    `slots`  the number of descriptors that the plan numbers
    `first`  the number of the first operation in the whole plan; failure reports count from it
    """
    return _native.encode(ops, slots, first)
