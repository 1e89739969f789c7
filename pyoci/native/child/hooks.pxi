# Hooks.

cdef int64_t now_ms() noexcept nogil:
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC, &ts)
    return <int64_t>ts.tv_sec * 1000 + ts.tv_nsec // 1000000


cdef int spawn_hook(const char *path, char **argv, char **envp, int cwd, int state, int *pidfd, int *output,
                    int *exec_status, pid_t *pid) noexcept nogil:
    """Fork and exec a hook in a process group of its own: stdin the state, stdout and stderr one pipe."""
    cdef int pipe_fds[2]
    cdef int status_fds[2]
    cdef int error, fd
    cdef long child
    if pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0:
        return STEP_PIPE
    if pipe2(status_fds, O_CLOEXEC) < 0:
        error = errno
        close(pipe_fds[0])
        close(pipe_fds[1])
        set_errno(error)
        return STEP_PIPE
    # clone, not clone3: engines' seccomp profiles answer clone3 with ENOSYS, and startContainer hooks run under them
    child = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, pidfd, NULL, NULL)
    if child == 0:
        setpgid(0, 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if state >= 0:
            lseek(state, 0, SEEK_SET)
        fcntl(pipe_fds[1], F_SETFL, 0)
        fd = fcntl(state, F_DUPFD_CLOEXEC, 3) if state >= 0 else open("/dev/null", O_RDONLY | O_CLOEXEC)
        if (fd < 0 or dup2(fd, 0) < 0 or dup2(pipe_fds[1], 1) < 0 or dup2(pipe_fds[1], 2) < 0
                or (cwd >= 0 and fchdir(cwd) < 0)
                or syscall(SYS_close_range, 3, FD_LAST, CLOSE_RANGE_CLOEXEC) < 0):
            error = errno
        else:
            reset_signals()
            execve(path, argv, envp)
            error = errno
        if write(status_fds[1], &error, sizeof(error)) < 0:
            pass  # then the wait status alone has to say that the hook failed
        _exit(127)
    error = errno
    close(pipe_fds[1])
    close(status_fds[1])
    if child < 0:
        close(pipe_fds[0])
        close(status_fds[0])
        set_errno(error)
        return STEP_CLONE
    pid[0] = <pid_t>child
    output[0] = pipe_fds[0]
    exec_status[0] = status_fds[0]
    return 0


cdef int run_hook(const char *path, char **argv, char **envp, int cwd, int state, int64_t timeout_ms, char *output,
                  int *output_length, int *status) noexcept nogil:
    """Run one hook to its end.

    Contract: `timeout_ms` 0 waits for ever; else the hook's process group is killed then and status has HOOK_TIMED_OUT. The
    first HOOK_OUTPUT bytes that it writes are kept, the rest is read and dropped. Returns 0 with the wait status, or a
    step with errno (STEP_EXECVE: the hook can't be executed).
    """
    cdef int pidfd = -1, out = -1, exec_status = -1, step, error = 0, wait = -1, timed_out = 0, ended = 0
    cdef pid_t pid = -1
    cdef pollfd fds[2]
    cdef char drop[4096]
    cdef ssize_t n
    cdef int64_t deadline = now_ms() + timeout_ms, left
    output_length[0] = 0
    status[0] = 0
    step = spawn_hook(path, argv, envp, cwd, state, &pidfd, &out, &exec_status, &pid)
    if step:
        return step
    while not ended:
        fds[0].fd = pidfd
        fds[0].events = POLLIN
        fds[0].revents = 0
        fds[1].fd = out
        fds[1].events = POLLIN
        fds[1].revents = 0
        if timeout_ms:
            left = deadline - now_ms()
            wait = <int>left if left < INT_MAX else INT_MAX
            if wait <= 0:
                wait = 0
        n = poll(fds, 2, wait)
        if n == 0 and timeout_ms and now_ms() >= deadline:
            timed_out = HOOK_TIMED_OUT
            kill(-pid, SIGKILL)
            kill(pid, SIGKILL)
            timeout_ms = 0
            wait = -1
            continue
        if n < 0 and errno != EINTR:
            break
        ended = fds[0].revents != 0
        while out >= 0:
            if output_length[0] < HOOK_OUTPUT:
                n = read(out, output + output_length[0], <size_t>(HOOK_OUTPUT - output_length[0]))
                if n > 0:
                    output_length[0] += <int>n
            else:
                n = read(out, drop, sizeof(drop))
                if n > 0:
                    break  # one that writes for ever, be it a child that the hook left, must not keep us
            if n <= 0:
                if n == 0:
                    close(out)
                    out = -1
                break
    while waitpid(pid, status, 0) < 0 and errno == EINTR:
        pass
    status[0] |= timed_out
    n = read(exec_status, &error, sizeof(error))
    close(exec_status)
    close(pidfd)
    if out >= 0:
        close(out)
    if n == sizeof(error):
        set_errno(error)
        return STEP_EXECVE
    return 0


cdef int do_run_hook(Context *ctx, const Op *op) noexcept nogil:
    # Contract: s1 path, a argv, b envp, c timeout in ms, d slot of the state. A hook that fails is reported with its wait
    # status in the record's detail and what it wrote in the payload.
    cdef int status = 0, step
    cdef int cwd = -1 if ctx.started else ctx.slots[SLOT_BUNDLE]
    if op.flags & FLAG_ADD_HOME:
        add_home(ctx, ctx.vectors + op.b)
    step = run_hook(ctx.pool + op.s1, ctx.vectors + op.a, ctx.vectors + op.b, cwd, ctx.slots[op.d], op.c,
                             ctx.payload, &ctx.payload_length, &status)
    if step:
        return step
    if status:
        ctx.detail = status
        set_errno(ETIMEDOUT if status & HOOK_TIMED_OUT else 0)
        return STEP_WAITPID
    ctx.payload_length = 0
    return 0
