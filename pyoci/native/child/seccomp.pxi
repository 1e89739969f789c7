# The seccomp filter.

cdef struct sock_fprog:
    unsigned short length
    const void *filter


cdef int close_listener(void *argument) noexcept nogil:
    """What a thread does: it closes the process' own copy of the listener. The runtime sends it the number.

    With this copy open, a call would wait for ever for an agent that has closed its own. The process can't close it: the
    agent may have to answer close(2), too. The thread is older than the filter, so the filter does not bind it.
    """
    cdef Context *ctx = <Context *>argument
    cdef int number = -1
    if read(ctx.slots[SLOT_EXEC_FIFO] if ctx.started else ctx.channel, &number, sizeof(number)) == sizeof(number):
        close(number)
    return 0


cdef int load_seccomp(Context *ctx, const Op *op) noexcept nogil:
    # Contract: s1 is an array of a instructions compiled by the runtime, or they are in the file in slot d; b are the flags
    # of seccomp(2). With FLAG_QUIET the filter admits what this process and the one that it clones still do. With a listener a
    # thread waits to close it; where pids.max has no room for one the listener stays open.
    cdef char content[BPF_MAXINSNS * 8 + 1]
    cdef ssize_t size = op.a * 8
    cdef unsigned int flags = <unsigned int>op.b
    cdef int thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
    cdef sock_fprog program
    program.filter = ctx.pool + op.s1
    if op.c:
        size = pread(ctx.slots[op.c], content, sizeof(content), 0)
        program.filter = content
    if size < 0:
        return STEP_SECCOMP
    if size > BPF_MAXINSNS * 8:  # and 16 bits would hold less of it
        set_errno(E2BIG)
        return STEP_SECCOMP
    if size == 0 or size % 8:
        set_errno(EINVAL)
        return STEP_SECCOMP
    if not op.flags & FLAG_QUIET:
        tell_exec(ctx)
    program.length = <unsigned short>(size // 8)
    if flags & NEW_LISTENER and clone(close_listener, ctx.thread_stack + THREAD_STACK, thread, ctx) > 0:
        flags &= ~<unsigned int>TSYNC_FLAGS  # which would put the thread under the filter; there is no other
    if syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) < 0:
        return STEP_SECCOMP
    return 0
