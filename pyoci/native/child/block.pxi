# The block: the child's operations without pointers, as pyoci/compiler/block.py writes them. The child checks all of it
# before it runs the first operation, so that a damaged block ends in an error, and never in half a container.
#
# After the check, an operation can't lead outside of the block or of the slots. `ctx.pool + op.<string>` ends with NUL,
# `ctx.slots[op.<slot>]` exists, a table has the length that stands before it, and a vector ends with NULL.

cdef struct BlockHeader:
    uint64_t magic
    uint64_t checksum  # of everything that follows
    uint32_t size
    uint32_t count
    uint32_t vectors
    uint32_t pool
    uint32_t slots
    uint32_t first
    uint32_t flags
    uint32_t zero

cdef struct Block:
    const BlockHeader *header
    const Op *ops
    const uint32_t *vectors
    const char *pool
    uint32_t next_vector  # where the next operation's vector must begin
    int op  # the operation and the place in it that are wrong, or -1
    int place

cdef enum:
    BLOCK_NULL = 0xFFFFFFFF  # ends a vector


cdef uint64_t block_checksum(const void *memory, size_t size) noexcept nogil:
    """Return the checksum of a block, of a multiple of 8 bytes. A change within 8 bytes always changes it."""
    cdef const uint64_t *words = <const uint64_t *>memory
    cdef uint64_t sum = 0
    cdef size_t i
    for i in range(2, size // 8):
        sum = (sum ^ words[i]) * <uint64_t>0x9E3779B97F4A7C15
        sum ^= sum >> 32
    return sum


cdef uint32_t table_length(const char *pool, uint32_t table) noexcept nogil:
    """Return the length of a table or a list of options in the pool. A missing one has none."""
    return (<const uint32_t *>(pool + table - sizeof(uint32_t)))[0] if table else 0


cdef int check_header(const void *memory, size_t size, Block *block) noexcept nogil:
    """Check that the parts have the sizes that the header says, and find them. The sum can't overflow 64 bits."""
    cdef const BlockHeader *header = <const BlockHeader *>memory
    cdef const char *at = <const char *>memory + sizeof(BlockHeader)
    cdef uint64_t sum
    if size < sizeof(BlockHeader) or header.magic != BLOCK_MAGIC:
        return BAD_MAGIC
    sum = sizeof(BlockHeader) + sizeof(Op) * <uint64_t>header.count + 4 * <uint64_t>header.vectors + header.pool
    if size != header.size or sum != size or size % 8 or header.pool % 8 or not header.pool:
        return BAD_SIZE
    if header.checksum != block_checksum(memory, size):
        return BAD_CHECKSUM
    if header.flags & ~<uint32_t>BLOCK_UNFINISHED or header.zero:
        return BAD_HEADER
    if <uint64_t>header.first + header.count > INT_MAX:
        return BAD_HEADER
    if header.slots < FIRST_SLOT or header.slots > MAX_SLOTS:
        return BAD_SLOTS
    block.header = header
    block.ops = <const Op *>at
    block.vectors = <const uint32_t *>(at + sizeof(Op) * header.count)
    block.pool = at + sizeof(Op) * header.count + 4 * header.vectors
    return 0


cdef int check_strings(const Block *block) noexcept nogil:
    """Check that offset 0 is an empty string, and that each string of a vector is in the pool and ends there."""
    cdef uint32_t i
    if block.pool[0] or block.pool[block.header.pool - 1]:
        return BAD_POOL
    for i in range(block.header.vectors):
        if block.vectors[i] != BLOCK_NULL and block.vectors[i] >= block.header.pool:
            return BAD_VECTORS
    return 0


cdef int check_table(const Block *block, uint32_t table, bint options) noexcept nogil:
    cdef uint32_t length
    if not table:
        return 0
    if table % 8 or table >= block.header.pool:
        return BAD_TABLE
    length = table_length(block.pool, table)
    if length == 0 or length >= block.header.pool - table:  # a NUL follows
        return BAD_TABLE
    return BAD_OPTION if options and block.pool[table + length - 1] else 0


cdef int check_vector(Block *block, int64_t start, bint environment) noexcept nogil:
    """Check that a vector begins where the one before it ended, because the child writes HOME into its spare place."""
    cdef uint32_t i
    if start != block.next_vector:
        return BAD_VECTOR
    i = block.next_vector
    while i < block.header.vectors and block.vectors[i] != BLOCK_NULL:
        i += 1
    i += 2 if environment else 1
    if i > block.header.vectors or block.vectors[i - 1] != BLOCK_NULL:
        return BAD_NO_END
    block.next_vector = i
    return 0


cdef int check_place(Block *block, const Op *op, const Place *place, int64_t *slot) noexcept nogil:
    """Check one field of an operation. `slot` is the last slot before it."""
    cdef const char *at = <const char *>op + place.offset
    cdef uint32_t text = (<const uint32_t *>at)[0]
    cdef int64_t number
    if place.kind == PLACE_TEXT:
        return BAD_TEXT if text >= block.header.pool else 0
    if place.kind == PLACE_BLOB or place.kind == PLACE_OPTIONS:
        return check_table(block, text, place.kind == PLACE_OPTIONS)
    if place.kind == PLACE_ZERO_32:
        return BAD_UNUSED if text else 0
    number = (<const int64_t *>at)[0]
    if place.kind == PLACE_NATURAL:
        return BAD_NEGATIVE if number < 0 else 0
    if place.kind == PLACE_SLOT:
        slot[0] = number
        return 0 if 0 <= number < block.header.slots else BAD_SLOT
    if place.kind == PLACE_OPTIONAL_SLOT:
        return 0 if -1 <= number < block.header.slots else BAD_SLOT
    if place.kind == PLACE_SLOT_COUNT:
        return 0 if 0 <= number <= block.header.slots - slot[0] else BAD_SLOT
    if place.kind == PLACE_VECTOR or place.kind == PLACE_ENVIRONMENT:
        return check_vector(block, number, place.kind == PLACE_ENVIRONMENT)
    if place.kind == PLACE_POINT:
        return 0 if 0 <= number <= LAST_POINT else BAD_POINT
    return BAD_UNUSED if number else 0  # PLACE_ZERO_64


cdef int check_op(Block *block, const Op *op) noexcept nogil:
    cdef const Checks *checks
    cdef const Place *place
    cdef int64_t slot = 0
    cdef int bad
    if not 0 < op.code <= LAST_VERB:
        block.place = 0
        return BAD_VERB
    checks = &CHECKS[op.code]
    if op.flags & ~checks.flags:
        block.place = 2
        return BAD_FLAG
    place = checks.places
    while place.kind != PLACE_END:
        bad = check_place(block, op, place, &slot)
        if bad:
            block.place = place.offset
            return bad
        place += 1
    return 0


cdef bint executes(const Op *op) noexcept nogil:
    """Whether an operation ends the plan, because it executes a program."""
    return op.code == VERB_EXEC or op.code == VERB_EXEC_HOST


cdef int check_block(const void *memory, size_t size, Block *block) noexcept nogil:
    """Check a block at an address that is a multiple of 8, and find its parts. Changes nothing but `block`.

    Returns 0 or a reason, BAD_…, with the operation and the place that are wrong.
    """
    cdef int bad
    cdef uint32_t i
    memset(block, 0, sizeof(Block))
    block.op = block.place = -1
    bad = check_header(memory, size, block)
    if bad == 0:
        bad = check_strings(block)
    if bad:
        return bad
    for i in range(block.header.count):
        block.op = <int>i
        bad = check_op(block, &block.ops[i])
        if bad:
            return bad
        if i + 1 < block.header.count and (
                executes(&block.ops[i]) or block.ops[i].code == VERB_RECEIVE_PLAN):
            return BAD_LAST
    bad = block.header.count == 0 or not executes(&block.ops[block.header.count - 1])
    if bad != (block.header.flags & BLOCK_UNFINISHED != 0):
        return BAD_LAST
    block.op = -1
    # one NULL may align the pool
    if block.header.vectors - block.next_vector > 1:
        return BAD_REST
    return 0


cdef void load_block(Context *ctx, const Block *block, char **vectors) noexcept nogil:
    """Let the child run a block that has passed the check. `vectors` has room for a pointer for each entry."""
    cdef uint32_t i
    for i in range(block.header.vectors):
        vectors[i] = NULL if block.vectors[i] == BLOCK_NULL else <char *>block.pool + block.vectors[i]
    ctx.ops = block.ops
    ctx.count = <int>block.header.count
    ctx.first = <int>block.header.first
    ctx.pool = block.pool
    ctx.vectors = vectors
