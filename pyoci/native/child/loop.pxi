# The loop over the operations.

include "../_table.pxi"


cdef int run_op(Context *ctx, const Op *op) noexcept nogil:
    if not 0 < op.code <= LAST_VERB:
        set_errno(ENOSYS)
        return STEP_UNKNOWN_VERB
    return call_verb(ctx, op)


cdef void run_ops(Context *ctx) noexcept nogil:
    """Run all operations. Never returns: ends in execve or _exit."""
    cdef int step
    cdef sigaction_t action
    memset(&action, 0, sizeof(action))
    action.sa_handler = SIG_IGN
    sigaction(SIGPIPE, &action, NULL)  # a started container must survive a killed runtime
    ctx.saved_umask = umask(0)
    while ctx.index < ctx.count:
        step = run_op(ctx, ctx.ops + ctx.index)
        if step:
            report(ctx, RECORD_FAILED, step, errno)
            _exit(1)
        ctx.index += 1
    _exit(0)
