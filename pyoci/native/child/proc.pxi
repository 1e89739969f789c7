# Files of procfs. The child uses a procfs that is attached nowhere, so nothing can be mounted over its files.

cdef int on_procfs(int fd) noexcept nogil:
    cdef statfs_t fs
    return fstatfs(fd, &fs) == 0 and fs.f_type == PROC_SUPER_MAGIC


cdef int is_proc_root(int fd) noexcept nogil:
    cdef stat_t st
    return on_procfs(fd) and fstat(fd, &st) == 0 and st.st_ino == 1


cdef int open_visible_proc() noexcept nogil:
    """Open the procfs at /proc. Fails with EACCES if the root of a procfs is not mounted there."""
    cdef open_how how
    cdef int fd
    how.flags = <uint64_t>(O_PATH | O_DIRECTORY | O_CLOEXEC)
    how.mode = 0
    how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    fd = <int>syscall(SYS_openat2, AT_FDCWD, b"/proc", &how, sizeof(how))
    if fd >= 0 and not is_proc_root(fd):
        close(fd)
        set_errno(EACCES)
        return -1
    return fd


cdef int show_joined_pids(Context *ctx, int fs) noexcept nogil:
    """Make a new procfs show the joined pid namespace, not this process' own (Linux 6.17)."""
    if ctx.slots[SLOT_JOINED_PIDS] < 0:
        return 0
    return <int>syscall(SYS_fsconfig, fs, FSCONFIG_SET_FD, b"pidns", NULL, ctx.slots[SLOT_JOINED_PIDS])


cdef int make_private_proc(Context *ctx) noexcept nogil:
    """Make a procfs that is attached nowhere, in the slot PROC."""
    cdef int fs = <int>syscall(SYS_fsopen, b"proc", FSOPEN_CLOEXEC)
    if fs < 0:
        return STEP_FSOPEN
    cdef int step = 0, tree = -1, error
    if show_joined_pids(ctx, fs) < 0:
        step = STEP_FSCONFIG
    elif syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0:
        step = STEP_FSCONFIG_CREATE
    else:
        tree = <int>syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
        if tree < 0:
            step = STEP_FSMOUNT
    error = errno
    close(fs)
    set_errno(error)
    if step:
        return step
    ctx.slots[SLOT_PROC] = tree
    return 0


cdef int do_open_proc(Context *ctx, const OpenProcOp *op) noexcept nogil:
    cdef int step, error, visible
    if op.flags & FLAG_VISIBLE:
        ctx.slots[SLOT_PROC] = open_visible_proc()
        return STEP_OPENAT2 if ctx.slots[SLOT_PROC] < 0 else 0
    step = make_private_proc(ctx)
    error = errno
    # EPERM: files of /proc are covered and locked, or another user namespace owns the pid namespace. Then the slot
    # stays empty, and open_in_proc uses /proc.
    if error == EPERM and (step == STEP_FSMOUNT or step == STEP_FSCONFIG_CREATE):
        visible = open_visible_proc()
        if visible >= 0:
            close(visible)
            return 0
    set_errno(error)
    return step


cdef int procfs_for(Context *ctx, const char *path) noexcept nogil:
    """The procfs that has `path`, or -1 if none is open.

    If this process is outside of the container's pid namespace, only the host's procfs shows it.
    """
    if ctx.slots[SLOT_HOST_PROC] >= 0 and strncmp(path, "thread-self/", 12) == 0:
        return ctx.slots[SLOT_HOST_PROC]
    return ctx.slots[SLOT_PROC]


cdef int open_in_proc(Context *ctx, const char *path, int flags, int *step) noexcept nogil:
    """Open a file of procfs. Fails with EXDEV if something is mounted over it, with NOT_PROC if it is not of procfs.

    AppArmor mistakes files of a procfs that is attached nowhere for others, such as /sys/net/…, and may deny them. Then
    this opens the file at /proc: the host's before pivot_root, the container's after it.
    """
    cdef open_how how
    cdef int fd = -1, visible
    how.flags = <uint64_t>(flags | O_CLOEXEC | O_NOFOLLOW)
    how.mode = 0
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS
    step[0] = STEP_OPENAT2
    set_errno(EACCES)
    cdef int proc = procfs_for(ctx, path)
    if proc >= 0:
        fd = <int>syscall(SYS_openat2, proc, path, &how, sizeof(how))
    if fd < 0 and errno == EACCES:
        visible = open_visible_proc()
        if visible >= 0:
            fd = <int>syscall(SYS_openat2, visible, path, &how, sizeof(how))
            close(visible)
        else:
            set_errno(EACCES)
    if fd < 0:
        return -1
    if not on_procfs(fd):
        close(fd)
        set_errno(EPERM)
        step[0] = STEP_NOT_PROC
        return -1
    return fd


cdef int write_in_proc(Context *ctx, const char *path, const char *value) noexcept nogil:
    """Write a file of procfs in one call; a short write is an error."""
    cdef int step, error
    cdef ssize_t n
    cdef size_t length = strlen(value)
    cdef int fd = open_in_proc(ctx, path, O_WRONLY, &step)
    if fd < 0:
        return step
    n = write(fd, value, length)
    if n >= 0 and <size_t>n != length:
        set_errno(EINVAL)
        n = -1
    error = errno
    close(fd)
    set_errno(error)
    return STEP_WRITE if n < 0 else 0


cdef int do_write_sysctl(Context *ctx, const WriteSysctlOp *op) noexcept nogil:
    return write_in_proc(ctx, ctx.pool + op.path, ctx.pool + op.value)


cdef int do_write_attr(Context *ctx, const WriteAttrOp *op) noexcept nogil:
    cdef char found[256]
    cdef ssize_t n
    cdef const char *prefix = ctx.pool + op.expected
    cdef size_t size = strlen(prefix)
    cdef int fd
    cdef int step = write_in_proc(ctx, ctx.pool + op.path, ctx.pool + op.value)
    if step:
        return step
    # read it back: a module may accept the write and keep another label
    fd = open_in_proc(ctx, ctx.pool + op.path, O_RDONLY, &step)
    if fd < 0:
        return step
    n = read(fd, found, sizeof(found))
    if n < 0:
        return STEP_READ
    close(fd)
    if size > sizeof(found):
        size = sizeof(found)
    if n == 0 or <size_t>n < size or memcmp(found, prefix, size) != 0:
        set_errno(EINVAL)
        return STEP_LABEL_DIFFERS
    return 0
