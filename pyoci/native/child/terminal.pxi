# The terminal and the standard streams.

cdef int open_ptmx(int directory, int *step) noexcept nogil:
    """Open a new terminal's master in a devpts.

    RESOLVE_NO_XDEV: a file may be mounted over ptmx. Opening it could block, or give out the host's terminals.
    """
    cdef stat_t st
    cdef int master = open_in_root(directory, "ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW, RESOLVE_NO_XDEV)
    if master < 0:
        step[0] = STEP_OPENAT2
        return -1
    if (fstat(master, &st) < 0 or st.st_mode & S_IFMT != S_IFCHR or major(st.st_rdev) != 5
            or minor(st.st_rdev) != 2):
        set_errno(ENODEV)
        step[0] = STEP_NOT_DEVPTS
        return -1
    return master


cdef int open_peer(int master, const OpenConsoleOp *op, int *peer) noexcept nogil:
    """Open the terminal of a master, and set its size and owner."""
    cdef winsize size
    cdef int zero = 0
    if ioctl(master, TIOCSPTLCK, &zero) < 0:
        return STEP_IOCTL
    peer[0] = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)
    if peer[0] < 0:
        return STEP_IOCTL
    if op.height or op.width:
        memset(&size, 0, sizeof(size))
        size.ws_row = <unsigned short>op.height
        size.ws_col = <unsigned short>op.width
        if ioctl(peer[0], TIOCSWINSZ, &size) < 0:
            return STEP_IOCTL
    # EPERM, EINVAL: in a user namespace that does not map this id
    if fchown(peer[0], <uid_t>op.uid, <gid_t>-1) < 0 and errno != EPERM and errno != EINVAL:
        return STEP_FCHOWNAT
    return 0


cdef int do_open_console(Context *ctx, const OpenConsoleOp *op) noexcept nogil:
    cdef statfs_t fs
    cdef int step = 0, master
    cdef int directory = open_in_root(ctx.slots[SLOT_ROOTFS], "/dev/pts", O_PATH | O_DIRECTORY, 0)
    if directory < 0:
        return STEP_OPENAT2
    if fstatfs(directory, &fs) < 0:
        return STEP_FSTATFS
    if fs.f_type != DEVPTS_SUPER_MAGIC:
        set_errno(ENODEV)
        return STEP_NOT_DEVPTS
    master = open_ptmx(directory, &step)
    if master < 0:
        return step
    step = open_peer(master, op, ctx.slots + SLOT_TERMINAL)
    if step:
        return step
    ctx.detail = <int>op.point
    ctx.passed = master
    report(ctx, RECORD_SYNC, 0, 0)
    if not wait_for_parent(ctx):
        _exit(1)
    close(master)
    close(directory)
    return 0


cdef int use_terminal(Context *ctx) noexcept nogil:
    cdef int fd
    for fd in range(3):
        if dup2(ctx.slots[SLOT_TERMINAL], fd) < 0:
            return STEP_DUP
    return 0


cdef int do_use_terminal(Context *ctx, const UseTerminalOp *op) noexcept nogil:
    return use_terminal(ctx)


cdef int take_terminal() noexcept nogil:
    return STEP_IOCTL if ioctl(0, TIOCSCTTY, 0) < 0 else 0


cdef int do_take_terminal(Context *ctx, const TakeTerminalOp *op) noexcept nogil:
    return take_terminal()


cdef int do_mount_console(Context *ctx, const MountConsoleOp *op) noexcept nogil:
    cdef int existed = 0, step = 0, tree
    cdef int target = make_in_root(ctx.slots[SLOT_ROOTFS], "/dev/console", False, 0, &existed, &step)
    if target < 0:
        return step
    if on_procfs(target):
        set_errno(EPERM)
        return STEP_TARGET_IN_PROC
    tree = <int>syscall(SYS_open_tree, ctx.slots[SLOT_TERMINAL], b"", AT_EMPTY_PATH | OPEN_TREE_CLONE | O_CLOEXEC)
    if tree < 0:
        return STEP_OPEN_TREE
    if attach(tree, target) < 0:
        return STEP_MOVE_MOUNT
    close(tree)
    close(target)
    step = use_terminal(ctx)
    return take_terminal() if step == 0 and op.flags & FLAG_TAKE else step


cdef bint is_pty(unsigned long device) noexcept nogil:
    """Whether this device is a terminal of a devpts. Such a terminal belongs to the process that opened it."""
    return UNIX98_PTY_FIRST <= major(device) <= UNIX98_PTY_LAST


cdef bint is_null(const stat_t *st) noexcept nogil:
    return st.st_mode & S_IFMT == S_IFCHR and major(st.st_rdev) == 1 and minor(st.st_rdev) == 3


cdef void use_container_null(Context *ctx, int fd) noexcept nogil:
    """Replace the host's /dev/null at `fd` by the container's, which the program may change.

    Checks the file before opening it, and opens it so that no FIFO or serial line blocks. If another process exchanges
    it in between, it is still a file of the root filesystem, and a device that the cgroup allows.
    """
    cdef stat_t st
    cdef int own = open_in_root(ctx.slots[SLOT_ROOTFS], "/dev/null", O_PATH | O_NOFOLLOW, 0)
    if own < 0:
        return
    if fstat(own, &st) == 0 and is_null(&st):
        close(own)
        own = open_in_root(ctx.slots[SLOT_ROOTFS], "/dev/null",
                           fcntl(fd, F_GETFL) & O_ACCMODE | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0)
        if own < 0:
            return
        if fstat(own, &st) == 0 and is_null(&st) and fcntl(own, F_SETFL, 0) == 0:
            dup2(own, fd)
    close(own)


cdef int do_chown_stdio(Context *ctx, const ChownStdioOp *op) noexcept nogil:
    cdef stat_t st
    cdef mode_t kind
    cdef int fd
    for fd in range(3):
        if fstat(fd, &st) < 0:
            continue
        if is_null(&st):
            use_container_null(ctx, fd)
            continue
        kind = st.st_mode & S_IFMT
        if kind == S_IFDIR or kind == S_IFBLK or (kind == S_IFCHR and not is_pty(st.st_rdev)):
            continue
        if kind == S_IFREG and fcntl(fd, F_GETFL) & O_ACCMODE == O_RDONLY:
            continue
        if st.st_uid != <uid_t>op.uid and fchown(fd, <uid_t>op.uid, <gid_t>-1) < 0:
            pass  # a read-only filesystem, or another user's file: the program still has the open descriptor
    return 0
