# The child runs a plan in the helper, until it executes the program. This file has its records, and its context. The
# generated `_verbs.pxi` has operations, steps, slots and points.
#
# Rules of native/child:
# - Every function is `noexcept nogil`. It touches no Python object, allocates nothing, and uses neither stdio nor
#   locale: the helper is linked without them, with native/helper/libc.c as its C library.
# - All strings and vectors come in a block (block.pxi), which is checked before its first operation.
# - Large buffers are global, because the caller may allow the stack as little as the kernel needs for execve
#   (RLIMIT_STACK). The child runs one operation at a time.
# - A path of the container is resolved once, by openat2 with RESOLVE_IN_ROOT. After that only its descriptor is used.
# - A verb returns 0, or the step that failed, with errno set. The runtime makes a sentence of (operation, step, errno).
# - The contract of a verb is in its class in pyoci/compiler/verbs. Here, comments give the reasons for the code.

cdef enum:  # kinds of records
    RECORD_SYNC = 1, RECORD_FAILED = 2, RECORD_EXEC = 3, RECORD_CLONED = 4, RECORD_UNREADABLE = 5, RECORD_UNRECEIVED = 6

cdef enum:
    UNIX98_PTY_FIRST = 136  # majors of the terminals of a devpts
    UNIX98_PTY_LAST = 143
    NR_OPEN = 1 << 20  # the kernel's default limit of descriptor numbers
    HOOK_TIMED_OUT = 1 << 30
    ON_NOEXEC_MOUNT = 1 << 16  # beside the mode of a program that can't be executed
    ST_NOEXEC = 8  # of statfs(2)
    INTERPRETER_LINE = 256  # bytes that the kernel reads of a `#!` line
    MAX_INTERPRETERS = 5  # that the kernel follows
    BPF_MAXINSNS = 4096
    NEW_LISTENER = 8  # of seccomp(2)
    TSYNC_FLAGS = 0x11  # TSYNC, TSYNC_ESRCH
    MAX_PAYLOAD = 3072
    PATH_SIZE = 4096
    MAX_LINKS = 40  # that the kernel follows
    MAX_COPY_UP_DEPTH = 64
    MAX_NODE_MASK = 4096  # bytes: the largest mask of nodes that the kernel accepts
    MAX_PASSWD = 1 << 20  # bytes read of /etc/passwd

# The kind of a program's file, by its first bytes. For an ELF file, bits from 8 on hold the machine.
cdef enum:
    FILE_UNKNOWN, FILE_SCRIPT, FILE_ELF, FILE_FOREIGN_ELF, FILE_PLAIN, FILE_EMPTY

cdef extern from *:
    """
    #define PYOCI_MAX_RIGHTS 253 /* descriptors in one message: SCM_MAX_FD */
    """

cdef enum:
    MAX_RIGHTS = 253
    BLOCK_WORD = -1  # the block's descriptor, in the place of a slot

cdef struct Record:
    uint32_t kind
    int32_t op
    int32_t step
    int32_t error
    uint32_t length  # of the payload that follows
    uint32_t detail

cdef struct Context:
    const Op *ops
    int count
    int index
    int first  # number of the first operation in the whole plan
    const char *pool
    int *slots
    int slot_count
    char *strings  # the first and the last byte of the helper's arguments
    char *arguments_end
    char **vectors
    int channel
    int started  # `wait_start` is done: records go to `start`
    int reported_exec
    unsigned int saved_umask
    int null_attached
    int mask_directory_attached
    int have_home
    int program_kind
    int leave_to_execve  # find_program could not see whether the program exists
    int detail  # of the next record
    int payload_length
    int passed  # a descriptor that goes with the next record, or -1
    Record record  # sent in one piece with the payload
    char payload[MAX_PAYLOAD]
    char program[PATH_SIZE]
    char home[PATH_SIZE]


cdef int report(Context *ctx, uint32_t kind, int step, int error) noexcept nogil:
    """Send a record to the runtime: the creating one, or after `wait_start` the starting one."""
    ctx.record.kind = kind
    ctx.record.op = ctx.first + ctx.index
    ctx.record.step = step
    ctx.record.error = error
    ctx.record.detail = <uint32_t>ctx.detail
    ctx.record.length = <uint32_t>ctx.payload_length
    cdef int fd = ctx.slots[SLOT_RESULT_FIFO] if ctx.started else ctx.channel
    cdef size_t size = sizeof(Record) + <size_t>ctx.payload_length
    cdef ssize_t n
    if ctx.passed >= 0:
        n = pyoci_send_fd(fd, <const char *>&ctx.record, size, ctx.passed)
    else:
        n = write(fd, &ctx.record, size)  # seccomp filters rarely deny it
    ctx.passed = -1
    ctx.payload_length = 0
    ctx.detail = 0
    return 0 if n > 0 else -1


cdef void report_exec(Context *ctx) noexcept nogil:
    """Report once that only execve remains. From here on, end of file without another record means success."""
    if not ctx.reported_exec:
        report(ctx, RECORD_EXEC, 0, 0)
    ctx.reported_exec = 1


cdef void set_payload(Context *ctx, const char *text) noexcept nogil:
    cdef size_t n = strlen(text)
    if n > MAX_PAYLOAD:
        n = MAX_PAYLOAD
    memcpy(ctx.payload, text, n)
    ctx.payload_length = <int>n


cdef void set_payload_of_two(Context *ctx, const char *first, const char *second) noexcept nogil:
    """Put two texts into the payload, with a NUL between them. Each is cut to half of it."""
    cdef size_t n = strlen(first), m = strlen(second)
    if n > MAX_PAYLOAD // 2:
        n = MAX_PAYLOAD // 2
    if m > MAX_PAYLOAD // 2 - 1:
        m = MAX_PAYLOAD // 2 - 1
    memcpy(ctx.payload, first, n)
    ctx.payload[n] = 0
    memcpy(ctx.payload + n + 1, second, m)
    ctx.payload_length = <int>(n + m + 1)


cdef int wait_for_parent(Context *ctx) noexcept nogil:
    """Wait for the runtime's answer. Returns 1, or 0 if the runtime is gone or sent something else."""
    cdef char answer = 0
    cdef ssize_t n = read(ctx.channel, &answer, 1)
    while n < 0 and errno == EINTR:
        n = read(ctx.channel, &answer, 1)
    return n == 1 and answer == 1


cdef int do_sync(Context *ctx, const SyncOp *op) noexcept nogil:
    ctx.detail = <int>op.point
    report(ctx, RECORD_SYNC, 0, 0)
    # at CREATED, PDEATHSIG is off, and the container no longer needs the runtime
    if not wait_for_parent(ctx) and op.point != SYNC_CREATED:
        _exit(1)
    return 0
