# Clones of the host's mounts. The runtime clones them before the first mount of the container (see wrappers.pxi). If it
# may not mount, the child does: it is root of the user namespace that owns its copy of the mounts.

cdef int open_clone(int directory, const char *path, unsigned int flags) noexcept nogil:
    """Clone the mount at `path`. Returns a descriptor of the clone, which is attached nowhere."""
    return <int>syscall(SYS_open_tree, directory, path, flags | <unsigned int>OPEN_TREE_CLONE | <unsigned int>O_CLOEXEC)


cdef int clone_rootfs(const char *path, int *tree) noexcept nogil:
    """Clone a directory with all mounts below it. The path must not end in a symlink.

    The clone is a slave, so mounts of the container never reach the host.
    """
    cdef int directory = openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    cdef int error
    if directory < 0:
        return STEP_OPENAT
    tree[0] = open_clone(directory, "", AT_EMPTY_PATH | AT_RECURSIVE)
    error = errno
    close(directory)
    set_errno(error)
    if tree[0] < 0:
        return STEP_OPEN_TREE
    return STEP_MOUNT_SETATTR if set_attributes(tree[0], "", AT_EMPTY_PATH | AT_RECURSIVE, 0, 0, MS_SLAVE) < 0 else 0


cdef int clone_tree(const char *path, unsigned int flags, const uint64_t *attributes, int expected,
                    int *tree) noexcept nogil:
    """Clone the mount at `path`; with FLAG_RECURSIVE, all mounts below it, too.

    `attributes` are four sets of mount attributes: to set and to clear on the whole clone, then on its root. With
    FLAG_NOTIFY_DIRECTORY the clone's root must be the file behind descriptor `expected`.
    """
    cdef unsigned int all = <unsigned int>AT_EMPTY_PATH | <unsigned int>AT_RECURSIVE
    cdef unsigned int how = <unsigned int>AT_RECURSIVE if flags & FLAG_RECURSIVE else 0
    if flags & FLAG_NO_FOLLOW:
        how |= <unsigned int>AT_SYMLINK_NOFOLLOW
    tree[0] = open_clone(AT_FDCWD, path, how)
    if tree[0] < 0:
        return STEP_OPEN_TREE
    if flags & FLAG_NOTIFY_DIRECTORY and not is_same_file(tree[0], expected):
        set_errno(EBUSY)
        return STEP_CHANGED
    if flags & FLAG_SLAVE and set_attributes(tree[0], "", all, 0, 0, MS_SLAVE) < 0:
        return STEP_MOUNT_SETATTR
    if (attributes[0] or attributes[1]) and set_attributes(tree[0], "", all, attributes[0], attributes[1], 0) < 0:
        return STEP_MOUNT_SETATTR
    if ((attributes[2] or attributes[3])
            and set_attributes(tree[0], "", AT_EMPTY_PATH, attributes[2], attributes[3], 0) < 0):
        return STEP_MOUNT_SETATTR
    return 0


cdef int clone_device(const char *path, mode_t kind, unsigned int expected_major, unsigned int expected_minor,
                      int *tree) noexcept nogil:
    """Clone a device node of the host, which must have this type and number.

    The mount is read-only. Programs can still read and write the device, but they can't change the owner or mode of the
    host's node. Root in the container could otherwise, if the node belongs to an id that is mapped. It is private:
    a clone of a shared mount is its peer, and a mount on one of the two would show on the other.
    """
    cdef stat_t st
    tree[0] = open_clone(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW)
    if tree[0] < 0:
        return STEP_OPEN_TREE
    if set_attributes(tree[0], "", AT_EMPTY_PATH, MOUNT_ATTR_RDONLY, 0, MS_PRIVATE) < 0:
        return STEP_MOUNT_SETATTR
    if fstat(tree[0], &st) < 0:
        return STEP_FSTAT
    if st.st_mode & S_IFMT != kind or major(st.st_rdev) != expected_major or minor(st.st_rdev) != expected_minor:
        set_errno(ENODEV)
        return STEP_OTHER_NODE
    return 0


cdef int do_clone_rootfs(Context *ctx, const CloneRootfsOp *op) noexcept nogil:
    return clone_rootfs(ctx.pool + op.path, ctx.slots + op.tree)


cdef int do_clone_tree(Context *ctx, const CloneTreeOp *op) noexcept nogil:
    cdef uint64_t attributes[4]
    attributes[0] = op.recursive_set
    attributes[1] = op.recursive_clear
    attributes[2] = <uint64_t>op.attr_set
    attributes[3] = <uint64_t>op.attr_clear
    return clone_tree(ctx.pool + op.path, op.flags, attributes, ctx.slots[SLOT_NOTIFY_DIRECTORY], ctx.slots + op.tree)


cdef int do_clone_device(Context *ctx, const CloneDeviceOp *op) noexcept nogil:
    cdef mode_t kind = S_IFBLK if (ctx.pool + op.kind)[0] == c'b' else S_IFCHR
    return clone_device(ctx.pool + op.path, kind, <unsigned int>op.major, <unsigned int>op.minor, ctx.slots + op.tree)
