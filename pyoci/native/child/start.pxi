# From HOME to execve.

cdef int open_passwd(Context *ctx) noexcept nogil:
    """Open the container's /etc/passwd if it is a regular file. Checks it before opening: opening a device may act."""
    cdef stat_t st
    cdef int fd = open_in_root(ctx.slots[SLOT_ROOTFS], "/etc/passwd", O_PATH, 0)
    if fd < 0:
        return -1
    if fstat(fd, &st) < 0 or st.st_mode & S_IFMT != S_IFREG:
        close(fd)
        return -1
    close(fd)
    fd = open_in_root(ctx.slots[SLOT_ROOTFS], "/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0)
    if fd >= 0 and (fstat(fd, &st) < 0 or st.st_mode & S_IFMT != S_IFREG):  # it may have been replaced
        close(fd)
        return -1
    return fd


cdef int use_home_of(Context *ctx, const char *line, int64_t uid) noexcept nogil:
    """Keep the home directory of a line of passwd(5), name:password:uid:gid:gecos:home:shell, if it is the user's.

    Returns 1 if it is.
    """
    cdef const char *field[6]
    cdef const char *cursor = line
    cdef int i
    cdef int64_t value = 0
    cdef size_t n
    for i in range(6):
        field[i] = cursor
        if i == 5:
            break
        cursor = strchr(cursor, c':')
        if cursor == NULL:
            return 0
        cursor += 1
    cursor = field[2]
    if cursor[0] == c':':
        return 0
    while cursor[0] != c':':
        if cursor[0] < c'0' or cursor[0] > c'9' or value >> 32:
            return 0
        value = value * 10 + (cursor[0] - c'0')
        cursor += 1
    if value != uid:
        return 0
    cursor = strchr(field[5], c':')
    n = <size_t>(cursor - field[5]) if cursor != NULL else strlen(field[5])
    if n > 0 and field[5][0] == c'/' and n + 6 < PATH_SIZE:
        memcpy(ctx.home + 5, field[5], n)
        ctx.home[5 + n] = 0
    return 1


cdef void find_home(Context *ctx, int passwd, int64_t uid) noexcept nogil:
    """Look for the user's line. Ignores overlong lines, and everything after MAX_PASSWD bytes."""
    cdef char buffer[4096]
    cdef char line[1024]
    cdef int used = 0, i, skip = 0
    cdef ssize_t n
    cdef int64_t total = 0
    while total < MAX_PASSWD:
        n = read(passwd, buffer, sizeof(buffer))
        if n <= 0:
            break
        total += n
        for i in range(n):
            if buffer[i] != c'\n':
                if used < <int>sizeof(line) - 1:
                    line[used] = buffer[i]
                    used += 1
                else:
                    skip = 1
                continue
            line[used] = 0
            used = 0
            if skip:
                skip = 0
                continue
            if use_home_of(ctx, line, uid):
                return
    if used and not skip:
        line[used] = 0
        use_home_of(ctx, line, uid)


cdef int do_set_home(Context *ctx, const SetHomeOp *op) noexcept nogil:
    cdef int fd
    memcpy(ctx.home, <const char *>"HOME=/", 7)
    ctx.have_home = 1
    fd = open_passwd(ctx)
    if fd >= 0:
        find_home(ctx, fd, op.uid)
        close(fd)
    return 0


cdef void add_home(Context *ctx, char **envp) noexcept nogil:
    """Put HOME, if set_home has found one, into the spare place before the vector's NULL."""
    if not ctx.have_home:
        return
    while envp[0] != NULL:
        envp += 1
    envp[0] = ctx.home
    envp[1] = NULL


cdef void end_on_signal(int signum) noexcept nogil:
    _exit(128 + signum)


cdef void exit_on_signals() noexcept nogil:
    """Exit on INT, QUIT and TERM. The kernel ignores their default action for the first process of a pid namespace."""
    cdef sigaction_t action
    cdef sigset_t none
    memset(&action, 0, sizeof(action))
    action.sa_handler = end_on_signal
    sigaction(SIGINT, &action, NULL)
    sigaction(SIGQUIT, &action, NULL)
    sigaction(SIGTERM, &action, NULL)
    sigemptyset(&none)
    sigprocmask(SIG_SETMASK, &none, NULL)


cdef int do_wait_start(Context *ctx, const WaitStartOp *op) noexcept nogil:
    cdef char word
    cdef ssize_t n
    close(ctx.channel)
    ctx.channel = -1
    ctx.started = 1
    exit_on_signals()
    while True:
        n = read(ctx.slots[SLOT_EXEC_FIFO], &word, 1)
        if n == 1:
            break
        if n < 0 and errno != EINTR:
            return STEP_READ
    reset_signals()  # now, because the program's filter may deny it later
    return 0


cdef int do_exec(Context *ctx, const ExecOp *op) noexcept nogil:
    add_home(ctx, ctx.vectors + op.envp)
    report_exec(ctx)
    execve(ctx.program, ctx.vectors + op.argv, ctx.vectors + op.envp)
    if ctx.leave_to_execve and errno == ENOENT:
        return STEP_NOT_FOUND
    ctx.detail = ctx.program_kind
    return STEP_EXECVE
