# Masked and read-only paths.

cdef int make_mask_directory(Context *ctx, const char *label) noexcept nogil:
    """An empty, read-only tmpfs with room for nothing, of an SELinux context unless that is empty.

    nr_inodes=1 would leave none for the root itself.
    """
    cdef int tree
    cdef int fs = <int>syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC)
    if fs < 0:
        return STEP_FSOPEN
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "nr_blocks", "1", 0) < 0
            or syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "nr_inodes", "2", 0) < 0
            or syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0555", 0) < 0
            or (label[0] and syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "context", label, 0) < 0)
            or syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0):
        return STEP_FSCONFIG
    tree = <int>syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
                        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
    close(fs)
    if tree < 0:
        return STEP_FSMOUNT
    ctx.slots[SLOT_MASK_DIRECTORY] = tree
    return 0


cdef int open_protected(Context *ctx, const Op *op, int *step) noexcept nogil:
    """What to mask or to make read-only: path s1, or if s2 is a mount of the container's own, path s3 from its root.

    That mount is of type c and lies behind no symlink, or somebody has exchanged its mount point for something else, so that
    the paths below would not be found and stay as they are. A path that is missing is step 0.
    """
    cdef statfs_t fs
    cdef int target, mount
    if not op.s2:
        target = open_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s1, O_PATH, 0)
    else:
        mount = open_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s2, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS)
        if mount < 0 or fstatfs(mount, &fs) < 0 or fs.f_type != op.a:
            step[0] = STEP_CHANGED
            set_errno(EBUSY)
            return -1
        target = open_in_root(mount, ctx.pool + op.s3, O_PATH, 0)
        close(mount)
    if target < 0:
        step[0] = 0 if errno == ENOENT or errno == ENOTDIR else STEP_OPENAT2
    return target


cdef int do_mask_path(Context *ctx, const Op *op) noexcept nogil:
    # Contract: a directory is covered by one shared empty tmpfs, anything else by the host's /dev/null (its clone was
    # verified by the runtime). Only a missing path is no error.
    cdef stat_t st
    cdef int slot, tree, step = 0, target, done
    cdef int *attached
    target = open_protected(ctx, op, &step)
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
        # a detached tree can't be cloned before 6.15, an attached one can: the first mask serves the others
        tree = <int>syscall(SYS_open_tree, tree, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | O_CLOEXEC)
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


cdef int do_readonly_path(Context *ctx, const Op *op) noexcept nogil:
    # Contract: a recursive bind of the path over itself, read-only before it is attached. A missing path is no error.
    cdef int tree, step = 0
    cdef int target = open_protected(ctx, op, &step)
    if target < 0:
        return step
    tree = <int>syscall(SYS_open_tree, target, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | O_CLOEXEC)
    if tree < 0:
        return STEP_OPEN_TREE
    if set_attributes(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0, 0) < 0:
        return STEP_MOUNT_SETATTR
    if attach(tree, target) < 0:
        return STEP_MOVE_MOUNT
    close(tree)
    close(target)
    return 0
