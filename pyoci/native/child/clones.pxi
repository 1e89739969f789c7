# Clones of the host's mounts.

cdef int clone_mount(const char *path, unsigned int flags) noexcept nogil:
    return <int>syscall(SYS_open_tree, AT_FDCWD, path, flags | <unsigned int>OPEN_TREE_CLONE | <unsigned int>O_CLOEXEC)


cdef int do_clone_rootfs(Context *ctx, const Op *op) noexcept nogil:
    # Contract: slot a is a clone of the mounts at s1, a directory and no symlink, which get nothing back from the host's.
    # By this process, where the runtime is no root: it is root of the user namespace to which its copy of the mounts belongs.
    cdef int directory = openat(AT_FDCWD, ctx.pool + op.s1, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    if directory < 0:
        return STEP_OPENAT
    ctx.slots[op.a] = <int>syscall(SYS_open_tree, directory, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | O_CLOEXEC)
    close(directory)
    if ctx.slots[op.a] < 0:
        return STEP_OPEN_TREE
    return STEP_MOUNT_SETATTR if set_attributes(ctx.slots[op.a], "", AT_EMPTY_PATH | AT_RECURSIVE, 0, 0, MS_SLAVE) < 0 else 0


cdef int do_clone_tree(Context *ctx, const Op *op) noexcept nogil:
    # Contract: slot a is a clone of the mount at s1, with bit 0 of the flags of those below it, too; with bit 1 a slave of
    # the host's; with bit 2 of a symlink at s1 itself; with bit 3 it is the container's notify folder, or it is refused. It has attributes b set and c cleared, and all of the clone the
    # lower half of d set, the upper one cleared.
    cdef uint64_t all_set = <uint32_t>op.d, all_clear = <uint64_t>op.d >> 32
    cdef unsigned int all = <unsigned int>AT_EMPTY_PATH | <unsigned int>AT_RECURSIVE
    cdef unsigned int how = <unsigned int>AT_RECURSIVE if op.flags & 1 else 0
    if op.flags & 4:
        how |= <unsigned int>AT_SYMLINK_NOFOLLOW
    cdef int tree = clone_mount(ctx.pool + op.s1, how)
    if tree < 0:
        return STEP_OPEN_TREE
    ctx.slots[op.a] = tree
    if op.flags & 8 and not is_same_file(tree, ctx.slots[SLOT_NOTIFY_FOLDER]):
        set_errno(EBUSY)
        return STEP_CHANGED
    if op.flags & 2 and set_attributes(tree, "", all, 0, 0, MS_SLAVE) < 0:
        return STEP_MOUNT_SETATTR
    if (all_set or all_clear) and set_attributes(tree, "", all, all_set, all_clear, 0) < 0:
        return STEP_MOUNT_SETATTR
    if (op.b or op.c) and set_attributes(tree, "", AT_EMPTY_PATH, <uint64_t>op.b, <uint64_t>op.c, 0) < 0:
        return STEP_MOUNT_SETATTR
    return 0


cdef int do_clone_device(Context *ctx, const Op *op) noexcept nogil:
    # Contract: slot a is a clone of the host's node s1, which is device b:c of type s2; it shares nothing with the host's.
    cdef stat_t st
    cdef mode_t kind = S_IFBLK if (ctx.pool + op.s2)[0] == c'b' else S_IFCHR
    cdef int tree = clone_mount(ctx.pool + op.s1, AT_SYMLINK_NOFOLLOW)
    if tree < 0:
        return STEP_OPEN_TREE
    ctx.slots[op.a] = tree
    if set_attributes(tree, "", AT_EMPTY_PATH, 0, 0, MS_PRIVATE) < 0:
        return STEP_MOUNT_SETATTR
    if fstat(tree, &st) < 0:
        return STEP_FSTAT
    if st.st_mode & S_IFMT != kind or major(st.st_rdev) != op.b or minor(st.st_rdev) != op.c:
        set_errno(ENODEV)
        return STEP_OTHER_NODE
    return 0
