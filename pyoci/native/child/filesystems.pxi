# New filesystems.

cdef int configure(Context *ctx, int fs, uint32_t options) noexcept nogil:
    """Pass each option of a list, `key` or `key=value`, to the filesystem.

    On failure `ctx.detail` is the number of the rejected one, from 1.
    """
    cdef const char *cursor = ctx.pool + options
    cdef const char *end = cursor + table_length(ctx.pool, options)
    cdef char key[256]
    cdef const char *value
    cdef size_t n
    cdef int number = 0
    cdef long done
    while cursor < end:
        number += 1
        value = strchr(cursor, c'=')
        if value == NULL:
            done = syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, cursor, NULL, 0)
        else:
            n = <size_t>(value - cursor)
            if n >= sizeof(key):
                set_errno(EINVAL)
                done = -1
            else:
                memcpy(key, cursor, n)
                key[n] = 0
                done = syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value + 1, 0)
        if done < 0:
            ctx.detail = number
            return -1
        cursor += strlen(cursor) + 1
    return 0


cdef int with_fs_log(Context *ctx, int fs, int step) noexcept nogil:
    """Copy the filesystem's messages, if any, to the payload. Returns `step` and keeps errno."""
    cdef int error = errno
    cdef ssize_t n = read(fs, ctx.payload, MAX_PAYLOAD)
    if n > 0:
        ctx.payload_length = <int>n
    set_errno(error)
    return step


cdef int inherit_mode(int fs, int target) noexcept nogil:
    """Set `mode=` of a new tmpfs to the mode of the directory that it will cover."""
    cdef stat_t st
    cdef char text[8]
    cdef int i
    cdef unsigned int mode
    if fstat(target, &st) < 0:
        return -1
    mode = st.st_mode & 0o7777
    for i in range(4):
        text[i] = <char>(c'0' + ((mode >> (9 - 3 * i)) & 7))
    text[4] = 0
    return <int>syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, b"mode", text, 0)


cdef int make_private_tmpfs() noexcept nogil:
    """Make a tmpfs that only root may enter. It is attached nowhere."""
    cdef int tree = -1, error
    cdef int fs = <int>syscall(SYS_fsopen, b"tmpfs", FSOPEN_CLOEXEC)
    if fs < 0:
        return -1
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, b"mode", b"0700", 0) == 0
            and syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0):
        tree = <int>syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
    error = errno
    close(fs)
    set_errno(error)
    return tree


cdef int mount_in(Context *ctx, const MountOp *op, int place, int *tree) noexcept nogil:
    """Mount the filesystem on a new directory of the tmpfs `place`, and clone that mount."""
    cdef const char *source = strchr(ctx.pool + op.options, c'=')
    cdef const char *options = ctx.pool + op.options
    cdef stat_t ours, its
    cdef int point
    options += strlen(options) + 1
    if source == NULL or options >= ctx.pool + op.options + table_length(ctx.pool, op.options):
        set_errno(EINVAL)
        return STEP_MOUNT
    source += 1
    if mkdirat(place, "m", 0o700) < 0:
        return STEP_MKDIRAT
    point = openat(place, "m", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    if point < 0:
        return STEP_OPENAT
    if fchdir(point) < 0:
        return STEP_FCHDIR
    if syscall(SYS_mount, source, b".", ctx.pool + op.type, <unsigned long>op.mount_flags, options) < 0:
        return STEP_MOUNT
    tree[0] = <int>syscall(SYS_open_tree, place, b"m", OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW | O_CLOEXEC)
    if tree[0] < 0:
        return STEP_OPEN_TREE
    if fstat(place, &ours) < 0 or fstat(tree[0], &its) < 0:
        return STEP_FSTAT
    if ours.st_dev == its.st_dev:
        set_errno(EBUSY)
        return STEP_CHANGED
    close(point)
    return 0


cdef int mount_one_string(Context *ctx, const MountOp *op, int target, bint existed, int *tree) noexcept nogil:
    """Make a filesystem with mount(2), whose options may be longer than fsconfig(2) accepts. It is attached nowhere.

    mount(2) needs a mount point in this mount namespace: a directory of a private tmpfs. The tmpfs lies on the host's
    `/` meanwhile, where it hides nothing. The kernel resolves absolute paths in the options, such as those of layers,
    from this process' root, which is below the tmpfs.
    """
    cdef uint64_t attributes = <uint64_t>op.attributes, clear
    cdef stat_t st
    cdef int step, error, directory
    if strcmp(ctx.pool + op.type, "proc") == 0 and ctx.slots[SLOT_JOINED_PIDS] >= 0:
        set_errno(EINVAL)  # mount(2) has no option for the descriptor of a pid namespace
        return STEP_MOUNT
    cdef int place = make_private_tmpfs()
    cdef int root = openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC)
    if place < 0:
        return STEP_FSMOUNT
    if root < 0:
        return STEP_OPENAT
    if attach(place, root) < 0:
        return STEP_MOVE_MOUNT
    step = mount_in(ctx, op, place, tree)
    error = errno
    if fchdir(place) < 0:
        return STEP_FCHDIR
    if syscall(SYS_umount2, b".", MNT_DETACH) < 0:
        return STEP_UMOUNT2
    if fchdir(root) < 0:
        return STEP_FCHDIR
    close(root)
    close(place)
    set_errno(error)
    if step:
        return step
    clear = MOUNT_ATTR_ATIME if attributes & MOUNT_ATTR_ATIME else 0
    if set_attributes(tree[0], "", AT_EMPTY_PATH, attributes, clear, 0) < 0:
        return STEP_MOUNT_SETATTR
    if op.flags & FLAG_INHERIT_MODE and existed:
        directory = openat(tree[0], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if directory < 0:
            return STEP_OPENAT
        if fstat(target, &st) < 0 or fchmod(directory, st.st_mode & 0o7777) < 0:
            return STEP_FCHMOD
        close(directory)
    return 0


cdef int mount_by_steps(Context *ctx, const MountOp *op, int target, bint existed, int *tree) noexcept nogil:
    """Make a filesystem with fsopen, fsconfig for each option, and fsmount. It is attached nowhere."""
    cdef int fs = <int>syscall(SYS_fsopen, ctx.pool + op.type, FSOPEN_CLOEXEC)
    if fs < 0:
        return STEP_FSOPEN
    if strcmp(ctx.pool + op.type, "proc") == 0 and show_joined_pids(ctx, fs) < 0:
        return with_fs_log(ctx, fs, STEP_FSCONFIG)
    if configure(ctx, fs, op.options) < 0:
        return with_fs_log(ctx, fs, STEP_FSCONFIG)
    if op.flags & FLAG_INHERIT_MODE and existed and inherit_mode(fs, target) < 0:
        return with_fs_log(ctx, fs, STEP_FSCONFIG)
    if syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0:
        return with_fs_log(ctx, fs, STEP_FSCONFIG_CREATE)
    tree[0] = <int>syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, <unsigned int>op.attributes)
    if tree[0] < 0:
        return STEP_FSMOUNT
    close(fs)
    return 0


cdef int do_mount(Context *ctx, const MountOp *op) noexcept nogil:
    cdef int existed = 0, step = 0, tree = -1, target
    target = open_target(ctx, op.flags, ctx.pool + op.target, True, &existed, &step)
    if target < 0:
        return step
    if op.flags & FLAG_ONE_STRING:
        step = mount_one_string(ctx, op, target, existed, &tree)
    else:
        step = mount_by_steps(ctx, op, target, existed, &tree)
    if step:
        return step
    if op.flags & FLAG_TARGET_PROC and not is_proc_root(tree):
        set_errno(EPERM)
        return STEP_NOT_PROC
    if op.flags & FLAG_COPY_UP:
        step = copy_up(target, tree, 0)
        if step:
            return step
    # after the copy: it needs the filesystem's own ids, and a mapping may leave root none
    if op.users and map_ids(tree, 0, ctx.slots[op.users]) < 0:
        return STEP_MOUNT_SETATTR
    if attach(tree, target) < 0:
        return STEP_MOVE_MOUNT
    close(target)
    ctx.slots[op.tree] = tree
    return 0


cdef int do_remount(Context *ctx, const RemountOp *op) noexcept nogil:
    cdef int fs, done
    cdef unsigned int flags = <unsigned int>AT_EMPTY_PATH | (AT_RECURSIVE if op.flags & FLAG_RECURSIVE else 0)
    cdef int target = open_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.target, O_PATH, 0)
    if target < 0:
        return STEP_OPENAT2
    if op.attr_set or op.attr_clear or op.propagation:
        done = set_attributes(target, "", flags, <uint64_t>op.attr_set, <uint64_t>op.attr_clear,
                              <uint64_t>op.propagation)
        if done < 0:
            return STEP_MOUNT_SETATTR
    if op.options:
        fs = <int>syscall(SYS_fspick, target, b"", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH)
        if fs < 0:
            return STEP_FSPICK
        if configure(ctx, fs, op.options) < 0:
            return with_fs_log(ctx, fs, STEP_FSCONFIG)
        if syscall(SYS_fsconfig, fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0:
            return with_fs_log(ctx, fs, STEP_FSCONFIG_CREATE)
        close(fs)
    close(target)
    return 0
