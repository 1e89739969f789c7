# Device nodes and symlinks.

cdef void write_number(char *text, unsigned int number) noexcept nogil:
    """Write decimal digits and a NUL to `text`, which must have room for 11 bytes."""
    cdef unsigned int rest = number, length = 1
    while rest >= 10:
        rest //= 10
        length += 1
    text[length] = 0
    while length:
        length -= 1
        text[length] = <char>(c'0' + number % 10)
        number //= 10


cdef int chmod_node(Context *ctx, int fd, mode_t mode) noexcept nogil:
    """Change the mode behind an O_PATH descriptor: with fchmodat2 (Linux 6.6), else through a private procfs."""
    cdef char path[64]
    cdef const char *directory = "thread-self/fd/"
    cdef int step
    if syscall(SYS_fchmodat2, fd, b"", mode, AT_EMPTY_PATH) == 0:
        return 0
    if errno != ENOSYS:
        return STEP_FCHMODAT
    if procfs_for(ctx, directory) < 0:
        step = make_private_proc(ctx)
        if step:
            return step
    memcpy(path, directory, strlen(directory))
    write_number(path + strlen(directory), <unsigned int>fd)
    return STEP_FCHMODAT if fchmodat(procfs_for(ctx, path), path, mode, 0) < 0 else 0


cdef int do_mknod(Context *ctx, const MknodOp *op) noexcept nogil:
    cdef char buffer[PATH_SIZE]
    cdef char *name = NULL
    cdef stat_t st
    cdef int step = 0, existed = 0, fd
    cdef unsigned long device = makedev(<unsigned int>op.major, <unsigned int>op.minor)
    cdef mode_t mode = <mode_t>op.mode, kind = <mode_t>op.mode & S_IFMT
    cdef int directory = open_parent(ctx.slots[SLOT_ROOTFS], ctx.pool + op.path, buffer, &name, &step)
    if directory < 0:
        return step
    if mknodat(directory, name, mode, device) < 0:
        if errno != EEXIST:
            return STEP_MKNODAT
        existed = 1
    fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC)
    if fd < 0 or fstat(fd, &st) < 0:
        return STEP_OPENAT
    if st.st_mode & S_IFMT != kind or (kind != S_IFIFO and st.st_rdev != device):
        set_errno(EEXIST)
        return STEP_OTHER_NODE
    if not existed or not op.flags & FLAG_KEEP_EXISTING:
        if existed and st.st_mode & 0o7777 != mode & 0o7777:
            step = chmod_node(ctx, fd, mode & 0o7777)
            if step:
                return step
        if fchownat(fd, "", <uid_t>op.uid, <gid_t>op.gid, AT_EMPTY_PATH) < 0:
            return STEP_FCHOWNAT
    close(fd)
    close(directory)
    return 0


cdef int do_open_devices(Context *ctx, const OpenDevicesOp *op) noexcept nogil:
    cdef char name[12]
    cdef int i, device, tree = ctx.slots[op.filesystem], root = ctx.slots[SLOT_ROOTFS]
    # Linux before 6.15 clones only from an attached mount. On the root the tmpfs hides nothing: no path is resolved
    # until it is detached again.
    if attach(tree, root) < 0:
        return STEP_MOVE_MOUNT
    for i in range(<int>op.count):
        write_number(name, <unsigned int>i)
        device = <int>syscall(SYS_open_tree, tree, name, OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW | O_CLOEXEC)
        if device < 0:
            return STEP_OPEN_TREE
        ctx.slots[op.first + i] = device
    if fchdir(tree) < 0:
        return STEP_FCHDIR
    if syscall(SYS_umount2, b".", MNT_DETACH) < 0:
        return STEP_UMOUNT2
    if fchdir(root) < 0:
        return STEP_FCHDIR
    close(tree)
    return 0


cdef int do_bind_device(Context *ctx, const BindDeviceOp *op) noexcept nogil:
    cdef int existed = 0, step = 0, done, tree = ctx.slots[op.tree]
    cdef int target = make_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.path, False, 0, &existed, &step)
    if target < 0:
        return step
    if is_same_file(target, tree):
        close(target)
        return 0
    if on_procfs(target):
        set_errno(EPERM)
        return STEP_TARGET_IN_PROC
    done = attach(tree, target)
    close(target)
    return STEP_MOVE_MOUNT if done < 0 else 0


cdef int do_symlink(Context *ctx, const SymlinkOp *op) noexcept nogil:
    cdef char buffer[PATH_SIZE]
    cdef char *name = NULL
    cdef int step = 0, fd
    if op.condition:
        fd = open_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.condition, O_PATH | O_NOFOLLOW, 0)
        if fd < 0:
            return 0 if errno in (ENOENT, ENOTDIR, ELOOP, EACCES) else STEP_OPENAT2
        close(fd)
    cdef int directory = open_parent(ctx.slots[SLOT_ROOTFS], ctx.pool + op.path, buffer, &name, &step)
    if directory < 0:
        return step
    if symlinkat(ctx.pool + op.target, directory, name) < 0 and errno != EEXIST:
        return STEP_SYMLINKAT
    close(directory)
    return 0
