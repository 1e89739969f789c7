# From `start` to execve.

cdef int do_set_home(Context *ctx, const Op *op) noexcept nogil:
    # Contract: HOME of the program, which its env does not set: the home of uid a in the container's /etc/passwd, else `/`.
    # The file is the container's: at most 1 MiB of a regular file is read, and only this one field taken.
    cdef char buffer[4096]
    cdef char line[1024]
    cdef int fd, used = 0, i, field, at, skip = 0
    cdef ssize_t n
    cdef int64_t uid, total = 0
    cdef stat_t st
    cdef bint digits
    memcpy(ctx.home, <const char *>"HOME=/", 7)
    ctx.have_home = 1
    fd = open_in_root(ctx.slots[SLOT_ROOTFS], "/etc/passwd", O_PATH, 0)
    if fd < 0:
        return 0
    if fstat(fd, &st) < 0 or st.st_mode & S_IFMT != S_IFREG:
        close(fd)
        return 0
    close(fd)
    fd = open_in_root(ctx.slots[SLOT_ROOTFS], "/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0)
    if fd < 0:
        return 0
    if fstat(fd, &st) < 0 or st.st_mode & S_IFMT != S_IFREG:  # it was one a moment ago
        close(fd)
        return 0
    while total < 1 << 20:
        n = read(fd, buffer, sizeof(buffer))
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
            if take_home(ctx, line, op.a):
                close(fd)
                return 0
    if used and not skip:
        line[used] = 0
        take_home(ctx, line, op.a)
    close(fd)
    return 0


cdef int take_home(Context *ctx, const char *line, int64_t uid) noexcept nogil:
    """1 if this line of passwd(5), name:password:uid:gid:gecos:home:shell, is uid's; its home is kept."""
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


cdef void end_on_signal(int signum) noexcept nogil:
    _exit(128 + signum)


cdef void heed_signals() noexcept nogil:
    """The signals that ask a process to end, end this one: the kernel spares the first of a pid namespace otherwise."""
    cdef sigaction_t action
    cdef sigset_t none
    memset(&action, 0, sizeof(action))
    action.sa_handler = end_on_signal
    sigaction(SIGINT, &action, NULL)
    sigaction(SIGQUIT, &action, NULL)
    sigaction(SIGTERM, &action, NULL)
    sigemptyset(&none)
    sigprocmask(SIG_SETMASK, &none, NULL)


cdef int do_wait_start(Context *ctx, const Op *op) noexcept nogil:
    # Contract: waits for `start` on a FIFO that was opened before the container had any limit on descriptors. From here
    # on the result FIFO carries the records, and its closing by execve tells success. The other one stays open until
    # then, too: while startContainer hooks run, the container is still created. Until `start` there is nobody but this
    # process whom a signal could be meant for.
    cdef char word
    cdef ssize_t n
    close(ctx.channel)
    ctx.channel = -1
    ctx.started = 1
    heed_signals()
    while True:
        n = read(ctx.slots[SLOT_EXEC_FIFO], &word, 1)
        if n == 1:
            break
        if n < 0 and errno != EINTR:
            return STEP_READ
    reset_signals()  # nobody's end can hurt any more, and the program's filter may forbid it later
    return 0


cdef void add_home(Context *ctx, char **envp) noexcept nogil:
    """HOME, if set_home has found one, takes the place in a vector that is reserved for it before the NULL."""
    if not ctx.have_home:
        return
    while envp[0] != NULL:
        envp += 1
    envp[0] = ctx.home
    envp[1] = NULL


cdef int do_exec(Context *ctx, const Op *op) noexcept nogil:
    # Contract: replaces this process by the program. a: index of argv, b: of envp, whose last place before the NULL is
    # reserved for HOME. The record tells `start` that everything else succeeded.
    add_home(ctx, ctx.vectors + op.b)
    tell_exec(ctx)
    execve(ctx.program, ctx.vectors + op.a, ctx.vectors + op.b)
    if ctx.unseen and errno == ENOENT:
        return STEP_NOT_FOUND
    ctx.detail = ctx.program_kind
    return STEP_EXECVE
