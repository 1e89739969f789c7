# Files of procfs.

cdef int on_procfs(int fd) noexcept nogil:
    cdef statfs_t fs
    return fstatfs(fd, &fs) == 0 and fs.f_type == PROC_SUPER_MAGIC


cdef int is_proc_root(int fd) noexcept nogil:
    cdef stat_t st
    return on_procfs(fd) and fstat(fd, &st) == 0 and st.st_ino == 1


cdef int do_open_proc(Context *ctx, const Op *op) noexcept nogil:
    # Contract: a procfs of our own, never attached anywhere, so that nothing can be mounted over its files; with a set,
    # the one at /proc, which has to be one. The kernel gives no new one to a user namespace whose /proc has files covered,
    # which are locked so, nor to one that does not own the pid namespace: then that at /proc has to do.
    cdef int step, error, visible
    if op.flags & FLAG_VISIBLE:
        ctx.slots[SLOT_PROC] = open_visible_proc()
        return STEP_OPENAT2 if ctx.slots[SLOT_PROC] < 0 else 0
    step = open_own_proc(ctx)
    error = errno
    if error == EPERM and (step == STEP_FSMOUNT or step == STEP_FSCONFIG_CREATE):
        visible = open_visible_proc()
        if visible >= 0:
            close(visible)
            return 0
    set_errno(error)
    return step


cdef int open_visible_proc() noexcept nogil:
    """The procfs that is mounted on /proc: the root of one, by what it is."""
    cdef open_how how
    cdef int fd
    how.flags = <uint64_t>(O_PATH | O_DIRECTORY | O_CLOEXEC)
    how.mode = 0
    how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    fd = <int>syscall(SYS_openat2, AT_FDCWD, "/proc", &how, sizeof(how))
    if fd >= 0 and not is_proc_root(fd):
        close(fd)
        set_errno(EACCES)
        return -1
    return fd


cdef int show_joined_pids(Context *ctx, int fs) noexcept nogil:
    """Have a new procfs show the pid namespace that this process has joined for its children, not its own (Linux 6.17)."""
    if ctx.slots[SLOT_JOINED_PIDS] < 0:
        return 0
    return <int>syscall(SYS_fsconfig, fs, FSCONFIG_SET_FD, "pidns", NULL, ctx.slots[SLOT_JOINED_PIDS])


cdef int open_own_proc(Context *ctx) noexcept nogil:
    cdef int fs = <int>syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC)
    if fs < 0:
        return STEP_FSOPEN
    if show_joined_pids(ctx, fs) < 0:
        return STEP_FSCONFIG
    if syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0:
        return STEP_FSCONFIG_CREATE
    cdef int tree = <int>syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
    cdef int error = errno
    close(fs)
    set_errno(error)
    if tree < 0:
        return STEP_FSMOUNT
    ctx.slots[SLOT_PROC] = tree
    return 0


cdef int proc_of(Context *ctx, const char *path) noexcept nogil:
    """The procfs to look `path` up in, -1 if none is open. One of the container's does not show a process that is outside of
    its pid namespace: for that there is the host's."""
    if ctx.slots[SLOT_HOST_PROC] >= 0 and strncmp(path, "thread-self/", 12) == 0:
        return ctx.slots[SLOT_HOST_PROC]
    return ctx.slots[SLOT_PROC]


cdef int open_in_proc(Context *ctx, const char *path, int flags, int *step) noexcept nogil:
    """A file of procfs, which really is one, and over which nothing is mounted.

    AppArmor takes the files of a procfs that is mounted nowhere for others, such as /sys/net/…, and may refuse them. Then
    the one at /proc is used: before the pivot the host's, after it the container's.
    """
    cdef open_how how
    cdef int fd = -1, visible
    how.flags = <uint64_t>(flags | O_CLOEXEC | O_NOFOLLOW)
    how.mode = 0
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS
    step[0] = STEP_OPENAT2
    set_errno(EACCES)
    cdef int proc = proc_of(ctx, path)
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


cdef int write_in_proc(Context *ctx, const char *path, const char *value, size_t length) noexcept nogil:
    cdef int step, error
    cdef ssize_t n
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


cdef int do_write_attr(Context *ctx, const Op *op) noexcept nogil:
    # Contract: s2, of a bytes, is written to this thread's attribute s1 of a security module, for the next execve of this
    # very thread; what the module made of it is read back, and begins with s3.
    cdef char found[256]
    cdef ssize_t n
    cdef size_t expected = strlen(ctx.pool + op.s3)
    cdef int fd
    cdef int step = write_in_proc(ctx, ctx.pool + op.s1, ctx.pool + op.s2, <size_t>op.a)
    if step:
        return step
    fd = open_in_proc(ctx, ctx.pool + op.s1, O_RDONLY, &step)
    if fd < 0:
        return step
    n = read(fd, found, sizeof(found))
    if n < 0:
        return STEP_READ
    close(fd)
    if expected > sizeof(found):
        expected = sizeof(found)
    if n == 0 or <size_t>n < expected or memcmp(found, ctx.pool + op.s3, expected) != 0:
        set_errno(EINVAL)
        return STEP_LABEL_DIFFERS
    return 0
