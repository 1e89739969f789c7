# The terminal and the standard streams.

cdef int do_open_console(Context *ctx, const Op *op) noexcept nogil:
    # Contract: a new pseudo-terminal of the container's own devpts. The peer comes from the master, not from a path.
    # Size b rows by c columns unless 0; owned by uid d. The runtime takes the master at SYNC_CONSOLE (a).
    cdef statfs_t fs
    cdef stat_t st
    cdef winsize size
    cdef int zero = 0, master, peer
    cdef int directory = open_in_root(ctx.slots[SLOT_ROOTFS], "/dev/pts", O_PATH | O_DIRECTORY, 0)
    if directory < 0:
        return STEP_OPENAT2
    if fstatfs(directory, &fs) < 0:
        return STEP_STATFS
    if fs.f_type != DEVPTS_SUPER_MAGIC:
        set_errno(ENODEV)
        return STEP_NOT_DEVPTS
    # not what may have been mounted over it: opening that could block, or hand out the host's terminals
    master = open_in_root(directory, "ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW, RESOLVE_NO_XDEV)
    if master < 0:
        return STEP_OPENAT2
    if (fstat(master, &st) < 0 or st.st_mode & S_IFMT != S_IFCHR or major(st.st_rdev) != 5
            or minor(st.st_rdev) != 2):
        set_errno(ENODEV)
        return STEP_NOT_DEVPTS
    if ioctl(master, TIOCSPTLCK, &zero) < 0:
        return STEP_IOCTL
    peer = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)
    if peer < 0:
        return STEP_IOCTL
    if op.b or op.c:
        memset(&size, 0, sizeof(size))
        size.ws_row = <unsigned short>op.b
        size.ws_col = <unsigned short>op.c
        if ioctl(peer, TIOCSWINSZ, &size) < 0:
            return STEP_IOCTL
    if fchown(peer, <uid_t>op.d, <gid_t>-1) < 0 and errno != EPERM and errno != EINVAL:
        return STEP_FCHOWNAT
    ctx.slots[SLOT_TERMINAL] = peer
    ctx.detail = <int>op.a
    ctx.passed = master
    report(ctx, RECORD_SYNC, 0, 0)
    if not hear_parent(ctx):
        _exit(1)
    close(master)
    close(directory)
    return 0


cdef int do_mount_console(Context *ctx, const Op *op) noexcept nogil:
    # Contract: /dev/console is a bind mount of the terminal, on which fds 0 to 2 are then; with a it is taken.
    cdef int existed = 0, step = 0, tree
    cdef int target = make_in_root(ctx.slots[SLOT_ROOTFS], "/dev/console", False, 0, &existed, &step)
    if target < 0:
        return step
    if on_procfs(target):
        set_errno(EPERM)
        return STEP_TARGET_IN_PROC
    tree = <int>syscall(SYS_open_tree, ctx.slots[SLOT_TERMINAL], "", AT_EMPTY_PATH | OPEN_TREE_CLONE | O_CLOEXEC)
    if tree < 0:
        return STEP_OPEN_TREE
    if attach(tree, target) < 0:
        return STEP_MOVE_MOUNT
    close(tree)
    close(target)
    step = do_use_terminal(ctx)
    return do_take_terminal() if step == 0 and op.flags & FLAG_TAKE else step


cdef int do_use_terminal(Context *ctx) noexcept nogil:
    # Contract: fds 0 to 2 are the terminal.
    cdef int fd
    for fd in range(3):
        if dup2(ctx.slots[SLOT_TERMINAL], fd) < 0:
            return STEP_DUP
    return 0


cdef int do_take_terminal() noexcept nogil:
    # Contract: fd 0 is the controlling terminal of this process, which leads a session. One call: the filter admits it.
    return STEP_IOCTL if ioctl(0, TIOCSCTTY, 0) < 0 else 0


cdef bint is_pty(unsigned long device) noexcept nogil:
    # Whether this device is a terminal of a devpts: it was made for whoever has it.
    return UNIX98_PTY_FIRST <= major(device) <= UNIX98_PTY_LAST


cdef bint is_null(const stat_t *st) noexcept nogil:
    return st.st_mode & S_IFMT == S_IFCHR and major(st.st_rdev) == 1 and minor(st.st_rdev) == 3


cdef void use_own_null(Context *ctx, int fd) noexcept nogil:
    """The container's /dev/null for the host's, where it is one: what the program finds behind `fd` is its own to change.

    It is looked at before it is opened, and opened so that no FIFO or line blocks: whoever exchanges it in between gets
    opened what is in the root filesystem, and what the cgroup lets the container use.
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


cdef int do_chown_stdio(Context *ctx, const Op *op) noexcept nogil:
    # Contract: stdio belongs to the container's user, so that it can reopen /dev/stdout. Of devices that is a terminal of a
    # devpts alone: the host's /dev/null becomes the container's own, others of its like are everybody's, consoles and serial
    # lines the host's. Nor is it a disk, a directory or a file to read from, which nobody gives away by having them open; a
    # refusal (a read-only or foreign file) is no fault.
    cdef stat_t st
    cdef mode_t kind
    cdef int fd
    for fd in range(3):
        if fstat(fd, &st) < 0:
            continue
        if is_null(&st):
            use_own_null(ctx, fd)
            continue
        kind = st.st_mode & S_IFMT
        if kind == S_IFDIR or kind == S_IFBLK or (kind == S_IFCHR and not is_pty(st.st_rdev)):
            continue
        if kind == S_IFREG and fcntl(fd, F_GETFL) & O_ACCMODE == O_RDONLY:
            continue
        if st.st_uid != <uid_t>op.a and fchown(fd, <uid_t>op.a, <gid_t>-1) < 0:
            pass  # a read-only filesystem, or a file of someone else: the program still has the open descriptor
    return 0
