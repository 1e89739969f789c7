# The loop.

cdef int run_op(Context *ctx, const Op *op) noexcept nogil:
    cdef const char *pool = ctx.pool
    cdef int code = op.code
    if code == VERB_SET_PDEATHSIG:
        return STEP_PRCTL if prctl(PR_SET_PDEATHSIG, <unsigned long>op.a, 0, 0, 0) < 0 else 0
    if code == VERB_SET_DUMPABLE:
        return STEP_PRCTL if prctl(PR_SET_DUMPABLE, <unsigned long>op.a, 0, 0, 0) < 0 else 0
    if code == VERB_SETSID:
        return STEP_SETSID if setsid() < 0 else 0
    if code == VERB_SET_UMASK:
        if op.a < 0:
            umask(ctx.saved_umask)
        else:
            umask(<mode_t>op.a)
        return 0
    if code == VERB_JOIN_NAMESPACE:
        return do_join_namespace(ctx, op)
    if code == VERB_UNSHARE:
        return STEP_UNSHARE if unshare(<int>op.a) < 0 else 0
    if code == VERB_SYNC:
        return do_sync(ctx, op)
    if code == VERB_BECOME_ROOT:
        return do_become_root(ctx, op)
    if code == VERB_CLONE_INIT:
        return do_clone_init(ctx, op)
    if code == VERB_OPEN_PROC:
        return do_open_proc(ctx, op)
    if code == VERB_SET_PROPAGATION:
        return do_set_propagation(ctx, op)
    if code == VERB_ATTACH_ROOTFS:
        return do_attach_rootfs(ctx, op)
    if code == VERB_BIND_MOUNT:
        return do_bind_mount(ctx, op)
    if code == VERB_MOUNT:
        return do_mount(ctx, op)
    if code == VERB_REMOUNT:
        return do_remount(ctx, op)
    if code == VERB_SET_MOUNT_ATTRIBUTES:
        return do_set_mount_attributes(ctx, op)
    if code == VERB_MKNOD:
        return do_mknod(ctx, op)
    if code == VERB_OPEN_DEVICES:
        return do_open_devices(ctx, op)
    if code == VERB_BIND_DEVICE:
        return do_bind_device(ctx, op)
    if code == VERB_SYMLINK:
        return do_symlink(ctx, op)
    if code == VERB_RUN_HOOK:
        return do_run_hook(ctx, op)
    if code == VERB_PIVOT_ROOT:
        return do_pivot_root(ctx, op)
    if code == VERB_MOVE_ROOT:
        return do_move_root(ctx, op)
    if code == VERB_MASK_PATH:
        return do_mask_path(ctx, op)
    if code == VERB_READONLY_PATH:
        return do_readonly_path(ctx, op)
    if code == VERB_SET_HOSTNAME:
        return STEP_SETHOSTNAME if syscall(SYS_sethostname, pool + op.s1, <size_t>op.a) < 0 else 0
    if code == VERB_SET_DOMAINNAME:
        return STEP_SETDOMAINNAME if syscall(SYS_setdomainname, pool + op.s1, <size_t>op.a) < 0 else 0
    if code == VERB_WRITE_SYSCTL:
        return write_in_proc(ctx, pool + op.s1, pool + op.s2, <size_t>op.a)
    if code == VERB_WRITE_ATTR:
        return do_write_attr(ctx, op)
    if code == VERB_LABEL_MOUNT:
        return do_label_mount(ctx, op)
    if code == VERB_MAKE_MASK_DIRECTORY:
        return make_mask_directory(ctx, pool + op.s1)
    if code == VERB_OPEN_CONSOLE:
        return do_open_console(ctx, op)
    if code == VERB_MOUNT_CONSOLE:
        return do_mount_console(ctx, op)
    if code == VERB_JOIN_KEYRING:
        # A new one without a name: of a name anybody may have made one already, which the kernel would join. A kernel
        # without keyrings, or a seccomp filter of the engine's that forbids them, has none to share.
        if syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 and errno != ENOSYS and errno != EPERM:
            return STEP_KEYCTL
        return 0
    if code == VERB_SET_NO_NEW_PRIVS:
        return STEP_PRCTL if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 else 0
    if code == VERB_SET_PERSONALITY:
        return STEP_PERSONALITY if personality(<unsigned long>op.a) < 0 else 0
    if code == VERB_DROP_BOUNDING:
        return do_drop_bounding(ctx, op)
    if code == VERB_SET_GROUPS:
        return STEP_SETGROUPS if syscall(SYS_setgroups, <size_t>op.a, <const void *>(pool + op.s1)) < 0 else 0
    if code == VERB_SET_IDS:
        return do_set_ids(ctx, op)
    if code == VERB_SET_CAPABILITIES:
        return do_set_capabilities(ctx, op)
    if code == VERB_SET_AMBIENT:
        return do_set_ambient(ctx, op)
    if code == VERB_MAKE_DIRECTORY:
        return do_make_directory(ctx, op)
    if code == VERB_CHDIR:
        return do_chdir(ctx, op)
    if code == VERB_FIND_PROGRAM:
        return do_find_program(ctx, op)
    if code == VERB_SET_HOME:
        return do_set_home(ctx, op)
    if code == VERB_CHOWN_STDIO:
        return do_chown_stdio(ctx, op)
    if code == VERB_LO_UP:
        return do_lo_up(ctx, op)
    if code == VERB_RESET_AFFINITY:
        return do_reset_affinity(ctx, op)
    if code == VERB_CLOSE_FDS:
        return do_close_fds(ctx, op)
    if code == VERB_SET_SCHEDULER:
        # for the kernel the size of the attributes is the first of them
        return STEP_SCHED_SETATTR if syscall(SYS_sched_setattr, 0, <const void *>(pool + op.s1), 0) < 0 else 0
    if code == VERB_SET_IO_PRIORITY:
        return STEP_IOPRIO_SET if syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, <int>op.a) < 0 else 0
    if code == VERB_SET_MEMORY_POLICY:
        return do_set_memory_policy(ctx, op)
    if code == VERB_SET_RLIMIT:
        return do_set_rlimit(op)
    if code == VERB_WAIT_START:
        return do_wait_start(ctx, op)
    if code == VERB_LOAD_SECCOMP:
        return load_seccomp(ctx, op)
    if code == VERB_EXEC:
        return do_exec(ctx, op)
    if code == VERB_ENTER_ROOT:
        return do_enter_root(ctx, op)
    if code == VERB_OPEN_ROOT:
        # the root of the mount namespace that was joined: beneath it paths of the container are resolved
        ctx.slots[SLOT_ROOTFS] = openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC)
        return STEP_OPENAT if ctx.slots[SLOT_ROOTFS] < 0 else 0
    if code == VERB_CLONE_ROOTFS:
        return do_clone_rootfs(ctx, op)
    if code == VERB_CLONE_TREE:
        return do_clone_tree(ctx, op)
    if code == VERB_CLONE_DEVICE:
        return do_clone_device(ctx, op)
    if code == VERB_OPEN_BUNDLE:
        return do_open_bundle(ctx, op)
    if code == VERB_USE_TERMINAL:
        return do_use_terminal(ctx)
    if code == VERB_TAKE_TERMINAL:
        return do_take_terminal()
    if code == VERB_HIDE_CALLER:
        # Contract: what the caller gave to the runtime, which this process has a copy of, can't be read in
        # /proc/PID/{cmdline,environ,comm,stat,status} or in its memory.
        pyoci_hide_caller(ctx.strings, ctx.arguments_end)
        return 0
    if code == VERB_RESET_SIGNALS:
        reset_signals()
        return 0
    set_errno(ENOSYS)
    return STEP_UNKNOWN


cdef void run_ops(Context *ctx) noexcept nogil:
    """Run every operation; ends in execve or _exit, never returns."""
    cdef int step
    cdef sigaction_t action
    cdef char thread_stack[THREAD_STACK]
    ctx.thread_stack = thread_stack
    memset(&action, 0, sizeof(action))
    action.sa_handler = SIG_IGN
    sigaction(SIGPIPE, &action, NULL)  # a runtime that was killed must not take a started container with it
    ctx.saved_umask = umask(0)
    if ctx.held and not hear_parent(ctx):
        _exit(1)
    for ctx.index in range(ctx.count):
        step = run_op(ctx, ctx.ops + ctx.index)
        if step:
            report(ctx, RECORD_FAILED, step, errno)
            _exit(1)
    _exit(0)
