# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, cdivision=True
"""The child's check of a block, as an extension of its own, which tests build with the sanitizers.

An accepted block is then read as the operations read it: each string to its NUL, each table to its end, each vector to
its NULL. `check` works on copies of exactly the size of the block and of its vectors, so that the sanitizer notices a
byte too many.
"""

from libc.stdlib cimport calloc, free, malloc

include "native/linux.pxi"
include "native/_verbs.pxi"
include "native/child/protocol.pxi"
include "native/child/block.pxi"


cdef ssize_t pyoci_send_fd(int sock, const char *data, size_t size, int fd) noexcept nogil:
    return -1


cdef size_t read_options(const char *pool, uint32_t options) noexcept nogil:
    """Read a list of options as `configure` does."""
    cdef const char *cursor = pool + options
    cdef const char *end = cursor + table_length(pool, options)
    cdef size_t sum = 0
    while cursor < end:
        sum += strlen(cursor)
        cursor += strlen(cursor) + 1
    return sum


cdef size_t read_vector(char **entry, bint environment) noexcept nogil:
    """Read a vector as execve does, after `add_home` has used the spare place."""
    cdef size_t sum = 0
    cdef char **end = entry
    if environment:
        while end[0] != NULL:
            end += 1
        end[0] = <char *>"HOME=/"
        end[1] = NULL
    while entry[0] != NULL:
        sum += strlen(entry[0])
        entry += 1
    return sum


cdef size_t read_op(Context *ctx, const Op *op, int *slots) noexcept nogil:
    """Use every field of an operation by its kind. Returns a sum, so that the compiler keeps each read."""
    cdef const Place *place = CHECKS[op.code].places
    cdef const char *at
    cdef uint32_t text
    cdef int64_t number, slot = 0, i
    cdef size_t sum = 0
    while place.kind != PLACE_END:
        at = <const char *>op + place.offset
        text = (<const uint32_t *>at)[0]
        number = 0 if place.offset + 8 > sizeof(Op) or place.offset % 8 else (<const int64_t *>at)[0]
        if place.kind == PLACE_TEXT:
            sum += strlen(ctx.pool + text)
        elif place.kind == PLACE_OPTIONS:
            sum += read_options(ctx.pool, text)
        elif place.kind == PLACE_BLOB:
            for i in range(table_length(ctx.pool, text)):
                sum += <uint8_t>ctx.pool[text + i]
        elif place.kind == PLACE_VECTOR or place.kind == PLACE_ENVIRONMENT:
            sum += read_vector(ctx.vectors + number, place.kind == PLACE_ENVIRONMENT)
        elif place.kind == PLACE_SLOT:
            slot = number
            slots[slot] += 1
        elif place.kind == PLACE_OPTIONAL_SLOT and number >= 0:
            slots[number] += 1
        elif place.kind == PLACE_SLOT_COUNT:
            for i in range(number):
                slots[slot + i] += 1
        place += 1
    return sum


def check(bytes block, bint sign=True):
    """Return (0, -1, -1) for a block that the child accepts, else (reason, operation, place).

    `sign` puts the right checksum in first, as the runtime does.
    """
    cdef size_t size = <size_t>len(block), sum = 0
    cdef char *copy = <char *>malloc(size if size else 1)
    cdef Context ctx
    cdef Block parts
    cdef char **vectors
    cdef int *slots
    cdef int bad, i
    memcpy(copy, <const char *>block, size)
    if sign and size >= sizeof(BlockHeader):
        (<BlockHeader *>copy).checksum = block_checksum(copy, size)
    bad = check_block(copy, size, &parts)
    if bad == 0:
        memset(&ctx, 0, sizeof(ctx))
        vectors = <char **>malloc(parts.header.vectors * sizeof(char *) + 1)
        slots = <int *>calloc(parts.header.slots, sizeof(int))
        load_block(&ctx, &parts, vectors)
        for i in range(ctx.count):
            sum += read_op(&ctx, ctx.ops + i, slots)
        free(vectors)
        free(slots)
    free(copy)
    return bad, parts.op, parts.place, sum


def signed(bytes block):
    """Return a block with its checksum."""
    cdef uint64_t sum = block_checksum(<const char *>block, <size_t>len(block))
    return block[:8] + (<char *>&sum)[:8] + block[16:]


def read_behind(bytes block):
    """Read one byte too many, to show that the sanitizer sees it."""
    cdef char *copy = <char *>malloc(<size_t>len(block))
    memcpy(copy, <const char *>block, <size_t>len(block))
    cdef char found = copy[len(block)]
    free(copy)
    return found
