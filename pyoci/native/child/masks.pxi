# Masked and read-only paths.

cdef int make_mask_directory(Context *ctx, const char *label) noexcept nogil:
    """Make an empty, read-only tmpfs with room for nothing, in the slot MASK_DIRECTORY.

    It gets the SELinux context `label` unless that is empty.
    """
    cdef int tree
    cdef int fs = <int>syscall(SYS_fsopen, b"tmpfs", FSOPEN_CLOEXEC)
    if fs < 0:
        return STEP_FSOPEN
    # with nr_inodes=1 the root itself would get none
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, b"nr_blocks", b"1", 0) < 0
            or syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, b"nr_inodes", b"2", 0) < 0
            or syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, b"mode", b"0555", 0) < 0
            or (label[0] and syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, b"context", label, 0) < 0)
            or syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0):
        return STEP_FSCONFIG
    tree = <int>syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
                        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
    close(fs)
    if tree < 0:
        return STEP_FSMOUNT
    ctx.slots[SLOT_MASK_DIRECTORY] = tree
    return 0


cdef int do_make_mask_directory(Context *ctx, const MakeMaskDirectoryOp *op) noexcept nogil:
    return make_mask_directory(ctx, ctx.pool + op.label)


cdef int open_protected(Context *ctx, uint32_t path, uint32_t mount, uint32_t below, int64_t filesystem,
                        int *step) noexcept nogil:
    """Open a path to mask or to make read-only. Strings are offsets into the pool.

    If `mount` is given, it is the mount point of one of the container's own mounts, and `below` a path from its root.
    Fails with CHANGED unless that mount has type `filesystem` and its path contains no symlink: someone replaced the
    mount point, and the paths below would stay unprotected. If the path is missing, the step is 0.
    """
    cdef statfs_t fs
    cdef int target, root
    if not mount:
        target = open_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + path, O_PATH, 0)
    else:
        root = open_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + mount, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS)
        if root < 0 or fstatfs(root, &fs) < 0 or fs.f_type != filesystem:
            step[0] = STEP_CHANGED
            set_errno(EBUSY)
            return -1
        target = open_in_root(root, ctx.pool + below, O_PATH, 0)
        close(root)
    if target < 0:
        step[0] = 0 if errno == ENOENT or errno == ENOTDIR else STEP_OPENAT2
    return target


cdef int do_mask_path(Context *ctx, const MaskPathOp *op) noexcept nogil:
    cdef stat_t st
    cdef int slot, tree, step = 0, target, done
    cdef int *attached
    target = open_protected(ctx, op.path, op.mount, op.below, op.filesystem, &step)
    if target < 0:
        return step
    if fstat(target, &st) < 0:
        return STEP_FSTAT
    if st.st_mode & S_IFMT == S_IFDIR:
        slot = SLOT_MASK_DIRECTORY
        attached = &ctx.mask_directory_attached
        if ctx.slots[slot] < 0:
            step = make_mask_directory(ctx, "")
            if step:
                return step
    else:
        slot = SLOT_NULL
        attached = &ctx.null_attached
    tree = ctx.slots[slot]
    if attached[0]:
        # Linux before 6.15 clones only an attached mount: later masks are clones of the first
        tree = <int>syscall(SYS_open_tree, tree, b"", AT_EMPTY_PATH | OPEN_TREE_CLONE | O_CLOEXEC)
        if tree < 0:
            return STEP_OPEN_TREE
    done = attach(tree, target)
    if done < 0:
        return STEP_MOVE_MOUNT
    if attached[0]:
        close(tree)
    attached[0] = 1
    close(target)
    return 0


cdef int do_readonly_path(Context *ctx, const ReadonlyPathOp *op) noexcept nogil:
    cdef int tree, step = 0
    cdef int target = open_protected(ctx, op.path, op.mount, op.below, op.filesystem, &step)
    if target < 0:
        return step
    tree = <int>syscall(SYS_open_tree, target, b"", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | O_CLOEXEC)
    if tree < 0:
        return STEP_OPEN_TREE
    if set_attributes(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0, 0) < 0:
        return STEP_MOUNT_SETATTR
    if attach(tree, target) < 0:
        return STEP_MOVE_MOUNT
    close(tree)
    close(target)
    return 0
