# Write operations as a block. pyoci/compiler/block.py has the format, child/block.pxi reads it.

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize


cdef uint32_t put_text(bytearray pool, dict known, str text) except? 0:
    """Put a string into the pool, once. Returns its offset."""
    cdef PyObject *found = PyDict_GetItem(known, text)
    cdef uint32_t offset
    if found != NULL:
        return <object>found
    offset = <uint32_t>PyByteArray_GET_SIZE(pool)
    known[text] = offset
    pool += text.encode("utf-8", "surrogateescape")
    pool += b"\0"
    return offset


cdef uint32_t put_table(bytearray pool, bytes table) except? 0:
    """Put a table into the pool, after its length. Returns its offset, 0 for an empty one."""
    cdef uint32_t length = <uint32_t>len(table)
    cdef Py_ssize_t offset = (PyByteArray_GET_SIZE(pool) + sizeof(length) + 7) & ~<Py_ssize_t>7
    if not length:
        return 0
    pool += bytes(offset - PyByteArray_GET_SIZE(pool))
    memcpy(PyByteArray_AS_STRING(pool) + offset - sizeof(length), &length, sizeof(length))
    pool += table
    pool += b"\0"
    return <uint32_t>offset


cdef int put_entry(bytearray vectors, uint32_t text) except -1:
    """Add a string, or the end of a vector."""
    cdef Py_ssize_t at = PyByteArray_GET_SIZE(vectors)
    PyByteArray_Resize(vectors, at + sizeof(text))
    memcpy(PyByteArray_AS_STRING(vectors) + at, &text, sizeof(text))
    return 0


cdef int64_t put_vector(bytearray vectors, bytearray pool, dict known, texts, bint environment) except -1:
    """Put a vector of strings. Returns its index. An environment gets a spare place for HOME."""
    cdef int64_t start = PyByteArray_GET_SIZE(vectors) // sizeof(uint32_t)
    for text in texts:
        put_entry(vectors, put_text(pool, known, text))
    put_entry(vectors, BLOCK_NULL)
    if environment:
        put_entry(vectors, BLOCK_NULL)
    return start


cdef int put_op(char *entry, op, bytearray vectors, bytearray pool, dict known) except -1:
    """Write an operation to its place, which is all zero. The fields of its class say what goes where."""
    cdef Op *head = <Op *>entry
    cdef char *text = <char *>&head.s1
    cdef char *number = <char *>&head.a
    cdef int kind
    cdef uint32_t offset
    head.code = op.code
    for name, bit in op.bits:
        if getattr(op, name):
            head.flags |= <uint16_t>bit
    for name, kind in op.wire:
        value = getattr(op, name)
        if kind in (KIND_TEXT, KIND_BLOB, KIND_OPTIONS):
            if kind == KIND_TEXT:
                offset = put_text(pool, known, value)
            elif kind == KIND_BLOB:
                offset = put_table(pool, value)
            else:
                options = "".join([option + "\0" for option in value])
                offset = put_table(pool, options.encode("utf-8", "surrogateescape"))
            (<uint32_t *>text)[0] = offset
            text += sizeof(uint32_t)
        elif kind == KIND_HALF:
            (<uint32_t *>number)[0] = value
            number += sizeof(uint32_t)
        else:
            if kind in (KIND_VECTOR, KIND_ENVIRONMENT):
                (<int64_t *>number)[0] = put_vector(vectors, pool, known, value, kind == KIND_ENVIRONMENT)
            elif kind == KIND_NUMBER and value > 0:
                (<uint64_t *>number)[0] = value  # perhaps a mask of 64 bits
            else:
                (<int64_t *>number)[0] = value
            number += sizeof(int64_t)
    return 0


def encode(list ops, uint32_t slots, uint32_t first):
    """Return the block of these operations, without its checksum."""
    cdef bytearray entries = bytearray(len(ops) * sizeof(Op))
    cdef bytearray vectors = bytearray(), pool = bytearray(8)
    cdef BlockHeader header
    cdef char *entry = PyByteArray_AS_STRING(entries)
    known = {"": 0}
    for op in ops:
        put_op(entry, op, vectors, pool, known)
        entry += sizeof(Op)
    if PyByteArray_GET_SIZE(vectors) % 8:
        put_entry(vectors, BLOCK_NULL)  # aligns the pool
    pool += bytes(8 - PyByteArray_GET_SIZE(pool) % 8)
    memset(&header, 0, sizeof(header))
    header.magic = BLOCK_MAGIC
    header.count = <uint32_t>len(ops)
    header.vectors = <uint32_t>(PyByteArray_GET_SIZE(vectors) // sizeof(uint32_t))
    header.pool = <uint32_t>PyByteArray_GET_SIZE(pool)
    header.size = <uint32_t>(sizeof(header) + PyByteArray_GET_SIZE(entries) + PyByteArray_GET_SIZE(vectors))
    header.size += header.pool
    header.slots = slots
    header.first = first
    if not ops or ops[len(ops) - 1].code not in (VERB_EXEC, VERB_EXEC_HOST):
        header.flags = BLOCK_UNFINISHED
    return b"".join([(<char *>&header)[:sizeof(header)], entries, vectors, pool])
