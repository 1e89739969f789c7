# The seccomp filter.

cdef struct sock_fprog:
    unsigned short length
    const void *filter


cdef char FILTER[BPF_MAXINSNS * 8 + 1]
cdef char LISTENER_STACK[8192]


cdef int close_listener(void *argument) noexcept nogil:
    """Close this process' copy of the listener, in a thread. The runtime sends the descriptor's number.

    While the copy is open, a call would wait forever for an agent that has closed its own. The process itself can't
    close it, because the agent may have to answer close(2), too. The thread is older than the filter, so the filter
    does not apply to it.
    """
    cdef Context *ctx = <Context *>argument
    cdef int number = -1
    if read(ctx.slots[SLOT_EXEC_FIFO] if ctx.started else ctx.channel, &number, sizeof(number)) == sizeof(number):
        close(number)
    return 0


cdef int do_load_seccomp(Context *ctx, const LoadSeccompOp *op) noexcept nogil:
    cdef ssize_t size = table_length(ctx.pool, op.program)
    cdef unsigned int flags = <unsigned int>op.seccomp_flags
    cdef int thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
    cdef sock_fprog program
    program.filter = ctx.pool + op.program
    if op.file:
        size = pread(ctx.slots[op.file], FILTER, sizeof(FILTER), 0)
        program.filter = FILTER
    if size < 0:
        return STEP_SECCOMP
    if size > BPF_MAXINSNS * 8:  # a longer program would not fit the 16 bits of `length`
        set_errno(E2BIG)
        return STEP_SECCOMP
    if size == 0 or size % 8:
        set_errno(EINVAL)
        return STEP_SECCOMP
    if not op.flags & FLAG_QUIET:
        report_exec(ctx)  # now, because the filter may deny write(2)
    program.length = <unsigned short>(size // 8)
    if flags & NEW_LISTENER and clone(close_listener, LISTENER_STACK + sizeof(LISTENER_STACK), thread, ctx) > 0:
        flags &= ~<unsigned int>TSYNC_FLAGS  # TSYNC would apply the filter to the thread; there is no other thread
    if syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) < 0:
        return STEP_SECCOMP
    return 0
