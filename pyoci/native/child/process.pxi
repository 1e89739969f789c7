# The process itself: namespaces, descriptors, signals, limits.

cdef int do_hide_caller(Context *ctx, const HideCallerOp *op) noexcept nogil:
    cdef size_t name = strlen(ctx.strings) + 1
    prctl(PR_SET_NAME, ctx.strings, 0, 0, 0)
    # the number of the channel's descriptor
    memset(ctx.strings + name, 0, <size_t>(ctx.arguments_end - ctx.strings) - name)
    ctx.arguments_end[0] = 1  # then the kernel shows the first argument only, see setproctitle(3)
    return 0


cdef int do_set_pdeathsig(Context *ctx, const SetPdeathsigOp *op) noexcept nogil:
    return STEP_PRCTL if prctl(PR_SET_PDEATHSIG, <unsigned long>op.signal, 0, 0, 0) < 0 else 0


cdef int do_set_dumpable(Context *ctx, const SetDumpableOp *op) noexcept nogil:
    return STEP_PRCTL if prctl(PR_SET_DUMPABLE, <unsigned long>op.dumpable, 0, 0, 0) < 0 else 0


cdef void restore_protection() noexcept nogil:
    """Be not dumpable and die with the runtime: the kernel resets both when credentials change."""
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)


cdef int do_setsid(Context *ctx, const SetsidOp *op) noexcept nogil:
    return STEP_SETSID if setsid() < 0 else 0


cdef int do_set_umask(Context *ctx, const SetUmaskOp *op) noexcept nogil:
    umask(ctx.saved_umask if op.umask < 0 else <mode_t>op.umask)
    return 0


cdef int do_join_namespace(Context *ctx, const JoinNamespaceOp *op) noexcept nogil:
    return STEP_SETNS if setns(ctx.slots[op.namespaces], <int>op.types) < 0 else 0


cdef int do_unshare(Context *ctx, const UnshareOp *op) noexcept nogil:
    return STEP_UNSHARE if unshare(<int>op.types) < 0 else 0


cdef int do_become_root(Context *ctx, const BecomeRootOp *op) noexcept nogil:
    if syscall(SYS_setresgid, 0, 0, 0) < 0:
        return STEP_SETRESGID
    if syscall(SYS_setresuid, 0, 0, 0) < 0:
        return STEP_SETRESUID
    restore_protection()
    return 0


cdef int do_clone_init(Context *ctx, const CloneInitOp *op) noexcept nogil:
    # clone, not clone3: the seccomp filter may be loaded already, and engines' profiles answer clone3 with ENOSYS
    cdef long pid = clone_process(CLONE_PARENT, NULL)
    if pid < 0:
        return STEP_CLONE
    if pid > 0:
        ctx.detail = <int>pid
        report(ctx, RECORD_CLONED, 0, 0)
        _exit(0)
    if op.signal:
        prctl(PR_SET_PDEATHSIG, <unsigned long>op.signal, 0, 0, 0)
    if op.flags & FLAG_WAITS and not wait_for_parent(ctx):
        _exit(1)
    return 0


cdef int do_set_hostname(Context *ctx, const SetHostnameOp *op) noexcept nogil:
    return STEP_SETHOSTNAME if syscall(SYS_sethostname, ctx.pool + op.name, strlen(ctx.pool + op.name)) < 0 else 0


cdef int do_set_domainname(Context *ctx, const SetDomainnameOp *op) noexcept nogil:
    return STEP_SETDOMAINNAME if syscall(SYS_setdomainname, ctx.pool + op.name, strlen(ctx.pool + op.name)) < 0 else 0


cdef int do_lo_up(Context *ctx, const LoUpOp *op) noexcept nogil:
    cdef ifreq request
    cdef int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    if fd < 0:
        return STEP_SOCKET
    memset(&request, 0, sizeof(request))
    memcpy(request.ifr_name, <const char *>"lo", 3)
    if ioctl(fd, SIOCGIFFLAGS, &request) < 0:
        return STEP_IOCTL
    request.ifr_flags = <short>(request.ifr_flags | IFF_UP)
    if ioctl(fd, SIOCSIFFLAGS, &request) < 0:
        return STEP_IOCTL
    close(fd)
    return 0


cdef int do_reset_affinity(Context *ctx, const ResetAffinityOp *op) noexcept nogil:
    cdef uint8_t every[1024]
    memset(every, 0xFF, sizeof(every))
    syscall(SYS_sched_setaffinity, 0, sizeof(every), <void *>every)
    return 0


cdef int kept_descriptors(Context *ctx, int64_t keep, int *kept) noexcept nogil:
    """Write the descriptors that `close_fds` keeps to `kept`, in ascending order. Returns how many there are."""
    cdef int i, j, n = 0, swap
    if not ctx.started:
        kept[0] = ctx.channel
        kept[1] = ctx.slots[SLOT_EXEC_FIFO]
        n = 2
    kept[n] = ctx.slots[SLOT_RESULT_FIFO]
    kept[n + 1] = ctx.slots[SLOT_START_STATE]
    kept[n + 2] = ctx.slots[SLOT_FILTER]
    n += 3
    if keep:
        kept[n] = ctx.slots[keep]
        n += 1
    for i in range(1, n):
        j = i
        while j > 0 and kept[j - 1] > kept[j]:
            swap = kept[j]
            kept[j] = kept[j - 1]
            kept[j - 1] = swap
            j -= 1
    return n


cdef int do_close_fds(Context *ctx, const CloseFdsOp *op) noexcept nogil:
    cdef int kept[6]
    cdef int i, j, flags
    cdef int n = kept_descriptors(ctx, op.keep, kept)
    cdef unsigned int first = <unsigned int>op.first
    # Between 3 and `first` the caller passes on descriptors. The runtime's own among them are close-on-exec. Waiting
    # for execve to close them would be too late: until then a process of the container could use them.
    for i in range(3, <int>first if first < NR_OPEN else NR_OPEN):
        flags = fcntl(i, F_GETFD)
        if flags < 0 or not flags & FD_CLOEXEC:
            continue
        for j in range(n):
            if kept[j] == i:
                break
        else:
            close(i)
    for i in range(n):
        if kept[i] < 0 or <unsigned int>kept[i] < first:
            continue
        if <unsigned int>kept[i] > first and syscall(SYS_close_range, first, <unsigned int>kept[i] - 1, 0) < 0:
            return STEP_CLOSE_RANGE
        first = <unsigned int>kept[i] + 1
    if syscall(SYS_close_range, first, FD_LAST, 0) < 0:
        return STEP_CLOSE_RANGE
    return 0


cdef void reset_signals() noexcept nogil:
    """Set every signal to its default action and unblock all: an ignored SIGPIPE would survive execve."""
    cdef uint64_t action[4]  # the kernel's struct sigaction; all zero means SIG_DFL
    cdef sigset_t none
    cdef int signum
    memset(action, 0, sizeof(action))
    for signum in range(1, 65):
        syscall(SYS_rt_sigaction, signum, action, NULL, 8)  # sigaction(3) rejects the C library's own signals
    sigemptyset(&none)
    sigprocmask(SIG_SETMASK, &none, NULL)


cdef int do_reset_signals(Context *ctx, const ResetSignalsOp *op) noexcept nogil:
    reset_signals()
    return 0


cdef int do_set_rlimit(Context *ctx, const SetRlimitOp *op) noexcept nogil:
    cdef uint64_t limits[2]
    limits[0] = <uint64_t>op.soft
    limits[1] = <uint64_t>op.hard
    return STEP_PRLIMIT if syscall(SYS_prlimit64, 0, <int>op.resource, limits, NULL) < 0 else 0


cdef int do_set_scheduler(Context *ctx, const SetSchedulerOp *op) noexcept nogil:
    # the attributes begin with their size
    cdef const void *attributes = ctx.pool + op.attributes
    cdef uint32_t length = table_length(ctx.pool, op.attributes)
    if length < sizeof(length) or (<const uint32_t *>attributes)[0] != length:
        set_errno(EINVAL)
        return STEP_SCHED_SETATTR
    return STEP_SCHED_SETATTR if syscall(SYS_sched_setattr, 0, attributes, 0) < 0 else 0


cdef int do_set_io_priority(Context *ctx, const SetIoPriorityOp *op) noexcept nogil:
    return STEP_IOPRIO_SET if syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, <int>op.priority) < 0 else 0


cdef int do_set_memory_policy(Context *ctx, const SetMemoryPolicyOp *op) noexcept nogil:
    cdef uint8_t accepted[MAX_NODE_MASK]
    cdef size_t size = table_length(ctx.pool, op.mask)
    cdef const char *nodes = ctx.pool + op.mask if size else NULL
    if size > MAX_NODE_MASK:
        set_errno(EINVAL)
        return STEP_SET_MEMPOLICY
    # the kernel looks at one bit less than the size that it is given
    if syscall(SYS_set_mempolicy, <int>op.mode, nodes, <unsigned long>size * 8 + 1) < 0:
        return STEP_SET_MEMPOLICY
    if op.flags & FLAG_EXACTLY:
        memset(accepted, 0, sizeof(accepted))
        if syscall(SYS_get_mempolicy, NULL, accepted, <unsigned long>8 * MAX_NODE_MASK + 1, NULL, 0) < 0:
            return STEP_GET_MEMPOLICY
        if memcmp(accepted, nodes, size) != 0:
            set_errno(EINVAL)
            return STEP_NODES_DIFFER
    return 0
