# The beginning of the helper: it receives its plan and all descriptors over the channel.

cdef extern from *:
    """
    #include <string.h>
    #include <sys/socket.h>

    /* Receive one message: `words`, one more than the descriptors that come with it, close-on-exec. Returns how many
     * descriptors there are, or -1 with errno; that is 0 at end of file. */
    static int pyoci_receive_words(int sock, int *words, int *fds)
    {
        struct iovec iov = { .iov_base = words, .iov_len = (PYOCI_MAX_RIGHTS + 1) * sizeof(int) };
        union { struct cmsghdr header; char space[CMSG_SPACE(PYOCI_MAX_RIGHTS * sizeof(int))]; } control;
        struct msghdr message;
        memset(&message, 0, sizeof message);
        message.msg_iov = &iov;
        message.msg_iovlen = 1;
        message.msg_control = control.space;
        message.msg_controllen = sizeof control.space;
        ssize_t n = recvmsg(sock, &message, MSG_CMSG_CLOEXEC);
        if (n <= 0) {
            if (n == 0) errno = 0;
            return -1;
        }
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        if (message.msg_flags & MSG_CTRUNC) { /* the kernel has given fewer descriptors than were sent */
            errno = EMFILE;
            return -1;
        }
        if (message.msg_flags & MSG_TRUNC || c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS
            || n % (ssize_t)sizeof(int) || c->cmsg_len != CMSG_LEN((size_t)n - sizeof(int))) {
            errno = EPROTO;
            return -1;
        }
        memcpy(fds, CMSG_DATA(c), (size_t)n - sizeof(int));
        return (int)(n / (ssize_t)sizeof(int)) - 1;
    }
    """
    int pyoci_receive_words(int sock, int *words, int *fds) nogil

cdef Context HELPER  # not on the stack: most of it is never touched, and costs no page
cdef int HELPER_SLOTS[MAX_SLOTS]


cdef int map_block(Context *ctx, int fd, Block *block) noexcept nogil:
    """Map the block, and check all of it. Returns 0, or a step with errno."""
    cdef stat_t st
    cdef void *memory
    cdef char **vectors
    cdef int bad
    if fstat(fd, &st) < 0:
        return STEP_FSTAT
    memory = mmap(NULL, <size_t>st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)
    if memory == MAP_FAILED:
        return STEP_MMAP
    bad = check_block(memory, <size_t>st.st_size, block)
    if bad == 0 and <int>block.header.slots != ctx.slot_count:
        bad = BAD_SLOTS
    if bad == 0 and <int>block.header.first != ctx.first + ctx.count:
        bad = BAD_HEADER
    if bad:
        ctx.first = ctx.first + ctx.count if block.op >= 0 else 0
        ctx.index = block.op
        ctx.detail = block.place
        report(ctx, RECORD_UNREADABLE, bad, 0)
        _exit(1)
    vectors = <char **>mmap(NULL, block.header.vectors * sizeof(char *) + 1, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if <void *>vectors == MAP_FAILED:
        return STEP_MMAP
    load_block(ctx, block, vectors)
    return 0


cdef int receive_descriptors(Context *ctx) noexcept nogil:
    """Put each descriptor into its slot, until the block comes. Returns its descriptor.

    A message has the number of slots, then the slot of each of its descriptors.
    Returns -1 with errno, which is 0 if the runtime is gone.
    """
    cdef int words[MAX_RIGHTS + 1]
    cdef int fds[MAX_RIGHTS]
    cdef int i, slot, count, block = -1
    while block < 0:
        count = pyoci_receive_words(ctx.channel, words, fds)
        if count < 0:
            return -1
        if not ctx.slot_count and FIRST_SLOT <= words[0] <= MAX_SLOTS:
            ctx.slot_count = words[0]
            for i in range(ctx.slot_count):
                ctx.slots[i] = -1
        for i in range(count):
            slot = words[1 + i]
            if slot == BLOCK_WORD:
                block = fds[i]
            elif 0 <= slot < ctx.slot_count:
                ctx.slots[slot] = fds[i]
            else:
                set_errno(EINVAL)
                return -1
    return block


cdef int do_receive_plan(Context *ctx, const ReceivePlanOp *op) noexcept nogil:
    cdef Block parts
    cdef int step, block = receive_descriptors(ctx)
    if block < 0 and errno == 0:
        _exit(1)
    if block < 0:
        return STEP_RECVMSG
    step = map_block(ctx, block, &parts)
    close(block)
    if step == 0:
        ctx.index = -1  # the loop continues with the first operation of the new block
    return step


cdef int channel_number(const char *text, bint *has_capabilities) noexcept nogil:
    """Read the helper's argument. Returns -1 unless the runtime has written it."""
    cdef int value = 0
    while c'0' <= text[0] <= c'9' and value < NR_OPEN:
        value = 10 * value + (text[0] - c'0')
        text += 1
    has_capabilities[0] = text[0] == c'c'
    return value if value > 2 and text[1 if has_capabilities[0] else 0] == 0 else -1


cdef void disinherit_capabilities() noexcept nogil:
    """Let no program inherit the capabilities with which the runtime has executed the helper."""
    cdef CapHeader header
    cdef CapData data[2]
    header.version = CAPABILITY_VERSION_3
    header.pid = 0
    if syscall(SYS_capget, &header, data) == 0:
        data[0].inheritable = data[1].inheritable = 0
        syscall(SYS_capset, &header, data)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


cdef public void pyoci_helper(char *name, char *argument) noexcept nogil:
    """Run the plan that comes over the channel. Returns if the argument is not the number of a channel.

    `name` and `argument` are the strings that this process was executed with.
    """
    cdef Context *ctx = &HELPER
    cdef sigset_t every
    cdef Block parts
    cdef bint has_capabilities
    cdef int block, step, channel = channel_number(argument, &has_capabilities)
    if channel < 0:
        return
    sigfillset(&every)
    sigprocmask(SIG_SETMASK, &every, NULL)
    fcntl(channel, F_SETFD, FD_CLOEXEC)
    if has_capabilities:
        disinherit_capabilities()
    ctx.slots = HELPER_SLOTS
    ctx.strings = name
    ctx.arguments_end = argument + strlen(argument)
    ctx.channel = channel
    ctx.passed = -1
    step = STEP_RECVMSG
    block = receive_descriptors(ctx)
    if block >= 0:
        step = map_block(ctx, block, &parts)
        close(block)
    elif errno == 0:
        _exit(1)
    if step:
        report(ctx, RECORD_UNRECEIVED, step, errno)
        _exit(1)
    run_ops(ctx)
