# Hooks. The runtime uses the same code for hooks on the host (see wrappers.pxi).

cdef struct Hook:
    pid_t pid
    int pidfd
    int output  # its stdout and stderr; -1 after end of file
    int error  # has the errno of a failed execve

cdef int64_t now_ms() noexcept nogil:
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC, &ts)
    return <int64_t>ts.tv_sec * 1000 + ts.tv_nsec // 1000000


cdef void become_hook(const char *path, char **argv, char **envp, int cwd, int state, int output,
                      int error_fd) noexcept nogil:
    """Execute the hook in the cloned process. Never returns."""
    cdef int fd, error
    setpgid(0, 0)
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if state >= 0:
        lseek(state, 0, SEEK_SET)
    fcntl(output, F_SETFL, 0)
    fd = fcntl(state, F_DUPFD_CLOEXEC, 3) if state >= 0 else open("/dev/null", O_RDONLY | O_CLOEXEC)
    if (fd < 0 or dup2(fd, 0) < 0 or dup2(output, 1) < 0 or dup2(output, 2) < 0
            or (cwd >= 0 and fchdir(cwd) < 0)
            or syscall(SYS_close_range, 3, FD_LAST, CLOSE_RANGE_CLOEXEC) < 0):
        error = errno
    else:
        reset_signals()
        execve(path, argv, envp)
        error = errno
    if write(error_fd, &error, sizeof(error)) < 0:
        pass  # the exit status still reports that the hook failed
    _exit(127)


cdef int spawn_hook(const char *path, char **argv, char **envp, int cwd, int state, Hook *hook) noexcept nogil:
    """Clone a process for the hook, in its own process group. Stdin is the state; stdout and stderr share a pipe."""
    cdef int output[2]
    cdef int errors[2]
    cdef int error
    cdef long child
    if pipe2(output, O_CLOEXEC | O_NONBLOCK) < 0:
        return STEP_PIPE2
    if pipe2(errors, O_CLOEXEC) < 0:
        error = errno
        close(output[0])
        close(output[1])
        set_errno(error)
        return STEP_PIPE2
    # clone, not clone3: startContainer hooks run under the filter, and engines' profiles answer clone3 with ENOSYS
    child = clone_process(CLONE_PIDFD | SIGCHLD, &hook.pidfd)
    if child == 0:
        become_hook(path, argv, envp, cwd, state, output[1], errors[1])
    error = errno
    close(output[1])
    close(errors[1])
    if child < 0:
        close(output[0])
        close(errors[0])
        set_errno(error)
        return STEP_CLONE
    hook.pid = <pid_t>child
    hook.output = output[0]
    hook.error = errors[0]
    return 0


cdef void read_output(Hook *hook, char *output, int *length) noexcept nogil:
    """Read what the hook has written. Keeps MAX_PAYLOAD bytes and drops the rest."""
    cdef char drop[4096]
    cdef ssize_t n
    while hook.output >= 0:
        if length[0] < MAX_PAYLOAD:
            n = read(hook.output, output + length[0], <size_t>(MAX_PAYLOAD - length[0]))
            if n > 0:
                length[0] += <int>n
                continue
        else:
            n = read(hook.output, drop, sizeof(drop))
        if n == 0:
            close(hook.output)
            hook.output = -1
        return  # after one dropped buffer, too: a process that writes forever must not keep us here


cdef int wait_for_hook(Hook *hook, int64_t timeout_ms, char *output, int *length) noexcept nogil:
    """Read the hook's output until it ends. Kills its process group after the timeout, if that is not 0.

    Returns HOOK_TIMED_OUT or 0.
    """
    cdef pollfd fds[2]
    cdef int wait, ended = 0, timed_out = 0
    cdef int n
    cdef int64_t deadline = now_ms() + timeout_ms, left
    while not ended:
        fds[0].fd = hook.pidfd
        fds[0].events = POLLIN
        fds[0].revents = 0
        fds[1].fd = hook.output
        fds[1].events = POLLIN
        fds[1].revents = 0
        wait = -1
        if timeout_ms:
            left = deadline - now_ms()
            wait = 0 if left < 0 else <int>left if left < INT_MAX else INT_MAX
        n = poll(fds, 2, wait)
        if n == 0 and timeout_ms and now_ms() >= deadline:
            timed_out = HOOK_TIMED_OUT
            kill(-hook.pid, SIGKILL)
            kill(hook.pid, SIGKILL)
            timeout_ms = 0
            continue
        if n < 0 and errno != EINTR:
            break
        ended = fds[0].revents != 0
        read_output(hook, output, length)
    return timed_out


cdef int run_hook(const char *path, char **argv, char **envp, int cwd, int state, int64_t timeout_ms, char *output,
                  int *output_length, int *status) noexcept nogil:
    """Run a hook and wait for its end. `timeout_ms` 0 means no timeout.

    Returns 0 with the wait status, to which a timeout adds HOOK_TIMED_OUT. Returns a step with errno if the hook can't
    be executed. `output` receives the first MAX_PAYLOAD bytes that the hook writes.
    """
    cdef int error = 0, timed_out, step
    cdef ssize_t n
    cdef Hook hook
    output_length[0] = 0
    status[0] = 0
    step = spawn_hook(path, argv, envp, cwd, state, &hook)
    if step:
        return step
    timed_out = wait_for_hook(&hook, timeout_ms, output, output_length)
    while waitpid(hook.pid, status, 0) < 0 and errno == EINTR:
        pass
    status[0] |= timed_out
    n = read(hook.error, &error, sizeof(error))
    close(hook.error)
    close(hook.pidfd)
    if hook.output >= 0:
        close(hook.output)
    if n == sizeof(error):
        set_errno(error)
        return STEP_EXECVE
    return 0


cdef int do_run_hook(Context *ctx, const RunHookOp *op) noexcept nogil:
    cdef int status = 0, step
    cdef int cwd = -1 if ctx.started else ctx.slots[SLOT_BUNDLE]
    if op.flags & FLAG_ADD_HOME:
        add_home(ctx, ctx.vectors + op.envp)
    step = run_hook(ctx.pool + op.path, ctx.vectors + op.argv, ctx.vectors + op.envp, cwd, ctx.slots[op.state],
                    op.timeout_ms, ctx.payload, &ctx.payload_length, &status)
    if step:
        return step
    if status:
        ctx.detail = status
        set_errno(ETIMEDOUT if status & HOOK_TIMED_OUT else 0)
        return STEP_WAITPID
    ctx.payload_length = 0
    return 0
