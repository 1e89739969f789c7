# The process itself: namespaces, descriptors, signals, limits.

cdef int do_join_namespace(Context *ctx, const Op *op) noexcept nogil:
    if setns(ctx.slots[op.a], <int>op.b) < 0:
        return STEP_SETNS
    return 0


cdef int do_become_root(Context *ctx, const Op *op) noexcept nogil:
    # Contract: uid and gid 0 of the user namespace, which has its maps by now.
    if syscall(SYS_setresgid, 0, 0, 0) < 0:
        return STEP_SETRESGID
    if syscall(SYS_setresuid, 0, 0, 0) < 0:
        return STEP_SETRESUID
    # the credentials changed: dumpable and the parent-death signal went with them
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    return 0


cdef int do_clone_init(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the program's process is cloned as a child of the runtime (CLONE_PARENT); this bootstrap process
    # reports its pid and ends. The caller goes on only in the new process, and only when the runtime knows it: what it
    # reports must not come before its pid. It is not dumpable, as this one is not; signal a, unless 0, tells it that the
    # runtime has ended, and in any case the end of the channel does.
    #
    # clone, not clone3, which engines' seccomp profiles answer with ENOSYS: the filter may be there already.
    cdef long pid = syscall(SYS_clone, CLONE_PARENT, NULL, NULL, NULL, NULL)
    if pid < 0:
        return STEP_CLONE
    if pid > 0:
        ctx.detail = <int>pid
        report(ctx, RECORD_CLONED, 0, 0)
        _exit(0)
    if op.a:
        prctl(PR_SET_PDEATHSIG, <unsigned long>op.a, 0, 0, 0)
    if not hear_parent(ctx):
        _exit(1)
    return 0


cdef int do_lo_up(Context *ctx, const Op *op) noexcept nogil:
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


cdef int do_reset_affinity(Context *ctx, const Op *op) noexcept nogil:
    # Contract: every processor of the cgroup; a refusal leaves the caller's set, which is no fault.
    cdef uint8_t every[1024]
    memset(every, 0xFF, sizeof(every))
    syscall(SYS_sched_setaffinity, 0, sizeof(every), <void *>every)
    return 0


cdef int do_close_fds(Context *ctx, const Op *op) noexcept nogil:
    # Contract: from fd a on, only the channel, the two FIFOs, the state for the startContainer hook, the seccomp filter, and
    # slot b unless it is 0, stay open. Below, from 3 on, those that are the caller's to pass on: what the runtime has opened
    # among them, where the caller had nothing, would be closed by execve, and that is too late.
    cdef int kept[7]
    cdef int i, j, n = 0, swap, flags
    cdef unsigned int first = <unsigned int>op.a
    if not ctx.started:
        kept[0] = ctx.channel
        kept[1] = ctx.slots[SLOT_EXEC_FIFO]
        n = 2
    kept[n] = ctx.slots[SLOT_RESULT_FIFO]
    kept[n + 1] = ctx.slots[SLOT_START_STATE]
    kept[n + 2] = ctx.slots[SLOT_FILTER]
    n += 3
    if op.b:
        kept[n] = ctx.slots[op.b]
        n += 1
    for i in range(1, n):
        j = i
        while j > 0 and kept[j - 1] > kept[j]:
            swap = kept[j]
            kept[j] = kept[j - 1]
            kept[j - 1] = swap
            j -= 1
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
    """Every disposition to default, nothing blocked: an ignored SIGPIPE would survive execve."""
    cdef uint64_t action[4]  # struct sigaction of the kernel; all zero is SIG_DFL
    cdef sigset_t none
    cdef int signum
    memset(action, 0, sizeof(action))
    for signum in range(1, 65):
        syscall(SYS_rt_sigaction, signum, action, NULL, 8)  # sigaction(3) refuses the signals of its own threads
    sigemptyset(&none)
    sigprocmask(SIG_SETMASK, &none, NULL)


cdef int do_set_memory_policy(Context *ctx, const Op *op) noexcept nogil:
    # Contract: mode and flags are a, the nodes the mask s1 of b bits. With c the kernel has taken exactly these: it leaves
    # out, silently, nodes that have no memory or that the cgroup forbids.
    cdef uint8_t taken[NODE_MASK]
    cdef const char *nodes = ctx.pool + op.s1 if op.b else NULL
    if syscall(SYS_set_mempolicy, <int>op.a, nodes, <unsigned long>op.b + 1) < 0:  # that it looks at one bit less is its ABI
        return STEP_SET_MEMPOLICY
    if op.flags & FLAG_EXACTLY:
        memset(taken, 0, sizeof(taken))
        if syscall(SYS_get_mempolicy, NULL, taken, <unsigned long>8 * NODE_MASK + 1, NULL, 0) < 0:
            return STEP_GET_MEMPOLICY
        if memcmp(taken, nodes, <size_t>op.b // 8) != 0:
            set_errno(EINVAL)
            return STEP_NODES_DIFFER
    return 0


cdef int do_set_rlimit(const Op *op) noexcept nogil:
    # Contract: limit a of this process is b (soft) and c (hard).
    cdef uint64_t limits[2]
    limits[0] = <uint64_t>op.b
    limits[1] = <uint64_t>op.c
    return STEP_PRLIMIT if syscall(SYS_prlimit64, 0, <int>op.a, limits, NULL) < 0 else 0
