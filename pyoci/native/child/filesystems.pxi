# New filesystems.

cdef int configure(Context *ctx, int fs, const char *options, int64_t count) noexcept nogil:
    """Hand `count` NUL-terminated `key` or `key=value` strings to the filesystem; the failing one in ctx.detail."""
    cdef const char *cursor = options
    cdef char key[256]
    cdef const char *value
    cdef size_t n
    cdef int64_t i
    cdef long done
    for i in range(count):
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
            ctx.detail = <int>i + 1
            return -1
        cursor += strlen(cursor) + 1
    return 0


cdef int refused(Context *ctx, int fs, int step) noexcept nogil:
    """`step`, after the filesystem's own words, if it has any, went to the payload."""
    cdef int error = errno
    cdef ssize_t n = read(fs, ctx.payload, HOOK_OUTPUT)
    if n > 0:
        ctx.payload_length = <int>n
    set_errno(error)
    return step


cdef int inherit_mode(int fs, int target) noexcept nogil:
    """`mode=` of a new tmpfs from the directory it will cover."""
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
    return <int>syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", text, 0)


cdef int new_place() noexcept nogil:
    """A tmpfs for root alone, attached nowhere."""
    cdef int tree = -1, error
    cdef int fs = <int>syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC)
    if fs < 0:
        return -1
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0700", 0) == 0
            and syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0):
        tree = <int>syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
    error = errno
    close(fs)
    set_errno(error)
    return tree


cdef int mount_in(Context *ctx, const Op *op, int place, int *tree) noexcept nogil:
    """Mount the filesystem on a new directory of `place`, and clone that mount."""
    cdef const char *source = strchr(ctx.pool + op.s2, c'=') + 1
    cdef const char *options = source + strlen(source) + 1
    cdef stat_t ours, its
    cdef int point
    if mkdirat(place, "m", 0o700) < 0:
        return STEP_MKDIRAT
    point = openat(place, "m", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    if point < 0:
        return STEP_OPENAT
    if fchdir(point) < 0:
        return STEP_FCHDIR
    if syscall(SYS_mount, source, ".", ctx.pool + op.s1, <unsigned long>op.a, options) < 0:
        return STEP_MOUNT
    tree[0] = <int>syscall(SYS_open_tree, place, "m", OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW | O_CLOEXEC)
    if tree[0] < 0:
        return STEP_OPEN_TREE
    if fstat(place, &ours) < 0 or fstat(tree[0], &its) < 0:
        return STEP_FSTAT
    if ours.st_dev == its.st_dev:
        set_errno(EBUSY)
        return STEP_CHANGED
    close(point)
    return 0


cdef int mount_one_string(Context *ctx, const Op *op, int target, bint existed, int *tree) noexcept nogil:
    """A filesystem by mount(2), which takes options that are too long for fsconfig(2): attached nowhere, like one of
    fsmount(2).

    mount(2) needs a place in this mount namespace: a directory of a tmpfs that no other process has. The tmpfs lies on
    the host's `/` meanwhile, where it hides nothing: the kernel resolves absolute paths, such as those of layers, from
    this process' root, which is below it.
    """
    cdef uint64_t attributes = <uint64_t>op.b
    cdef stat_t st
    cdef int step, error, directory
    if strcmp(ctx.pool + op.s1, "proc") == 0 and ctx.slots[SLOT_JOINED_PIDS] >= 0:
        set_errno(EINVAL)  # mount(2) takes no descriptor of the pid namespace to show
        return STEP_MOUNT
    cdef int place = new_place()
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
    if syscall(SYS_umount2, ".", MNT_DETACH) < 0:
        return STEP_UMOUNT2
    if fchdir(root) < 0:
        return STEP_FCHDIR
    close(root)
    close(place)
    set_errno(error)
    if step:
        return step
    if set_attributes(tree[0], "", AT_EMPTY_PATH, attributes, MOUNT_ATTR_ATIME if attributes & MOUNT_ATTR_ATIME else 0, 0) < 0:
        return STEP_MOUNT_SETATTR
    if op.flags & FLAG_INHERIT_MODE and existed:
        directory = openat(tree[0], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if directory < 0:
            return STEP_OPENAT
        if fstat(target, &st) < 0 or fchmod(directory, st.st_mode & 0o7777) < 0:
            return STEP_FCHMOD
        close(directory)
    return 0


cdef int mount_by_steps(Context *ctx, const Op *op, int target, bint existed, int *tree) noexcept nogil:
    """A filesystem by fsopen … fsmount, one option at a time."""
    cdef int fs = <int>syscall(SYS_fsopen, ctx.pool + op.s1, FSOPEN_CLOEXEC)
    if fs < 0:
        return STEP_FSOPEN
    if strcmp(ctx.pool + op.s1, "proc") == 0 and show_joined_pids(ctx, fs) < 0:
        return refused(ctx, fs, STEP_FSCONFIG)
    if configure(ctx, fs, ctx.pool + op.s2, op.a) < 0:
        return refused(ctx, fs, STEP_FSCONFIG)
    if op.flags & FLAG_INHERIT_MODE and existed and inherit_mode(fs, target) < 0:
        return refused(ctx, fs, STEP_FSCONFIG)
    if syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0:
        return refused(ctx, fs, STEP_FSCONFIG_CREATE)
    tree[0] = <int>syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, <unsigned int>op.b)
    if tree[0] < 0:
        return STEP_FSMOUNT
    close(fs)
    return 0


cdef int do_mount(Context *ctx, const Op *op) noexcept nogil:
    # Contract: a filesystem of our own making, attached on a target resolved once.
    # s1 type, s2 options, a their number, b mount attributes, c the slot which keeps the mount, s3 destination, d the slot
    # of the user namespace whose id mapping the mount gets, 0 for none. With FLAG_ONE_STRING s2 are the source and the options
    # of mount(2), a its flags.
    cdef int existed = 0, step = 0, tree = -1, target
    target = open_target(ctx, op, ctx.pool + op.s3, True, &existed, &step)
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
    # after the copy, whose owners are the filesystem's: through the mapping root may not be able to make anything
    if op.d and map_ids(tree, 0, ctx.slots[op.d]) < 0:
        return STEP_MOUNT_SETATTR
    if attach(tree, target) < 0:
        return STEP_MOVE_MOUNT
    close(target)
    ctx.slots[op.c] = tree
    return 0


cdef int do_remount(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the mount at s1 gets attributes b set and c cleared, and the propagation in d; with bit 0 of d set all that
    # is mounted below it, too. Its filesystem gets the options.
    cdef int fs, done
    cdef unsigned int flags = <unsigned int>AT_EMPTY_PATH | (AT_RECURSIVE if op.flags & FLAG_RECURSIVE else 0)
    cdef int target = open_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s1, O_PATH, 0)
    if target < 0:
        return STEP_OPENAT2
    if op.b or op.c or op.d:
        done = set_attributes(target, "", flags, <uint64_t>op.b, <uint64_t>op.c, <uint64_t>op.d)
        if done < 0:
            return STEP_MOUNT_SETATTR
    if op.a:
        fs = <int>syscall(SYS_fspick, target, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH)
        if fs < 0:
            return STEP_FSPICK
        if configure(ctx, fs, ctx.pool + op.s2, op.a) < 0:
            return refused(ctx, fs, STEP_FSCONFIG)
        if syscall(SYS_fsconfig, fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0:
            return refused(ctx, fs, STEP_FSCONFIG_CREATE)
        close(fs)
    close(target)
    return 0
