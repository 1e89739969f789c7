# Mounts: attributes, mount points, bind mounts.

cdef int set_attributes(int dirfd, const char *path, unsigned int flags, uint64_t set_, uint64_t clear,
                        uint64_t propagation) noexcept nogil:
    cdef mount_attr attr
    attr.attr_set = set_
    attr.attr_clr = clear
    attr.propagation = propagation
    attr.userns_fd = 0
    return <int>syscall(SYS_mount_setattr, dirfd, path, flags, &attr, sizeof(attr))


cdef int map_ids(int tree, unsigned int recursive, int userns) noexcept nogil:
    """Give a mount that was never attached the id mapping of a user namespace."""
    cdef mount_attr attr
    memset(&attr, 0, sizeof(attr))
    attr.attr_set = MOUNT_ATTR_IDMAP
    attr.userns_fd = <uint64_t>userns
    return <int>syscall(SYS_mount_setattr, tree, "", recursive | <unsigned int>AT_EMPTY_PATH, &attr, sizeof(attr))


cdef int do_set_propagation(Context *ctx, const Op *op) noexcept nogil:
    cdef unsigned int flags = AT_RECURSIVE if op.flags & FLAG_RECURSIVE else 0
    cdef int done
    if op.a < 0:
        done = set_attributes(AT_FDCWD, ctx.pool + op.s1, flags, 0, 0, <uint64_t>op.b)
    else:
        done = set_attributes(ctx.slots[op.a], "", flags | <unsigned int>AT_EMPTY_PATH, 0, 0, <uint64_t>op.b)
    return STEP_MOUNT_SETATTR if done < 0 else 0


cdef int do_set_mount_attributes(Context *ctx, const Op *op) noexcept nogil:
    cdef unsigned int flags = <unsigned int>AT_EMPTY_PATH
    if set_attributes(ctx.slots[op.a], "", flags, <uint64_t>op.b, 0, 0) < 0:
        return STEP_MOUNT_SETATTR
    return 0


cdef int do_attach_rootfs(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the tree that the runtime cloned from root.path is attached on root.path of this mount namespace,
    # where createContainer hooks look for it. The slot stays the root directory's descriptor.
    cdef int target = openat(AT_FDCWD, ctx.pool + op.s1, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    cdef int done
    if target < 0:
        return STEP_OPENAT
    if not is_same_file(target, ctx.slots[SLOT_ROOTFS]):
        set_errno(EBUSY)
        return STEP_CHANGED
    done = <int>syscall(SYS_move_mount, ctx.slots[SLOT_ROOTFS], "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    close(target)
    return STEP_MOVE_MOUNT if done < 0 else 0


cdef int do_open_bundle(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the descriptor of the bundle is that of the same directory in this mount namespace, found at s1. From there
    # a hook sees the root filesystem with what is mounted in it, and may mount; the runtime's own leads to the runtime's
    # mounts, to which this process has no right.
    cdef int bundle = openat(AT_FDCWD, ctx.pool + op.s1, O_PATH | O_DIRECTORY | O_CLOEXEC)
    if bundle < 0:
        return STEP_OPENAT
    if not is_same_file(bundle, ctx.slots[SLOT_BUNDLE]):
        set_errno(EBUSY)
        return STEP_CHANGED
    close(ctx.slots[SLOT_BUNDLE])
    ctx.slots[SLOT_BUNDLE] = bundle
    return 0


cdef int open_real(int rootfs, const char *path, int *existed, int *step) noexcept nogil:
    """Descriptor of a directory reached through no symlink; it is made if missing."""
    cdef uint64_t flags = O_PATH | O_DIRECTORY
    cdef int fd = open_in_root(rootfs, path, flags, RESOLVE_NO_SYMLINKS)
    step[0] = STEP_OPENAT2
    existed[0] = 1
    if fd >= 0 or errno != ENOENT:
        return fd
    fd = make_in_root(rootfs, path, True, 0, existed, step)
    if fd < 0:
        return -1
    close(fd)
    step[0] = STEP_OPENAT2
    return open_in_root(rootfs, path, flags, RESOLVE_NO_SYMLINKS)


cdef int open_target(Context *ctx, const Op *op, const char *path, bint directory, int *existed, int *step) noexcept nogil:
    """The mount point, resolved once, made if it is missing; refused where a mount would deceive the rest of the set-up."""
    cdef int rootfs = ctx.slots[SLOT_ROOTFS]
    cdef int fd = -1
    if op.flags & FLAG_TARGET_REAL:
        fd = open_real(rootfs, path, existed, step)
    else:
        fd = make_in_root(rootfs, path, directory, MAX_LINKS, existed, step)
    if fd < 0:
        return -1
    if is_same_file(fd, rootfs):
        step[0] = STEP_TARGET_IS_ROOT
        set_errno(EINVAL)
        close(fd)
        return -1
    if on_procfs(fd) and not op.flags & (FLAG_TARGET_PROC | FLAG_TARGET_BELOW_PROC):
        step[0] = STEP_TARGET_IN_PROC
        set_errno(EPERM)
        close(fd)
        return -1
    return fd


cdef int attach(int tree, int target) noexcept nogil:
    """Mount `tree` on `target`; ENOTDIR, where the kernel says EINVAL, if one is a directory and the other is not."""
    cdef stat_t source, covered
    if syscall(SYS_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0:
        return 0
    if errno == EINVAL:
        if fstat(tree, &source) < 0 or fstat(target, &covered) < 0:
            set_errno(EINVAL)
        elif (source.st_mode & S_IFMT == S_IFDIR) != (covered.st_mode & S_IFMT == S_IFDIR):
            set_errno(ENOTDIR)
    return -1


cdef int copy_symlink(Context *ctx, const Op *op, int source) noexcept nogil:
    """The destination is a link of the source's text; one that is there already may stay, anything else may not."""
    cdef char buffer[PATH_SIZE]
    cdef char text[PATH_SIZE]
    cdef char present[PATH_SIZE]
    cdef char *name = NULL
    cdef int step = 0, directory
    cdef ssize_t length = readlinkat(source, "", text, sizeof(text) - 1)
    if length < 0:
        return STEP_READLINKAT
    text[length] = 0
    if op.flags & FLAG_TARGET_REAL:
        set_errno(ELOOP)
        return STEP_OPENAT2
    directory = open_parent(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s1, buffer, &name, &step)
    if directory < 0:
        return step
    if symlinkat(text, directory, name) < 0:
        if errno != EEXIST:
            return STEP_SYMLINKAT
        if readlinkat(directory, name, present, sizeof(present)) != length or memcmp(text, present, <size_t>length):
            set_errno(EEXIST)
            return STEP_SYMLINKAT
    close(directory)
    return 0


cdef int do_bind_mount(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the source was cloned, with its attributes set, before the first mount; it is attached as it is. A mount
    # point that is missing is made like it. The detail of a failure is 1 if the source is no directory. A clone of a
    # symlink is not attached, but copied.
    cdef stat_t source
    cdef int existed = 0, step = 0, done, target
    cdef int tree = ctx.slots[op.a]
    if fstat(tree, &source) < 0:
        return STEP_FSTAT
    if source.st_mode & S_IFMT == S_IFLNK:
        return copy_symlink(ctx, op, tree)
    ctx.detail = source.st_mode & S_IFMT != S_IFDIR
    target = open_target(ctx, op, ctx.pool + op.s1, not ctx.detail, &existed, &step)
    if target < 0:
        return step
    if op.flags & FLAG_TARGET_PROC and not is_proc_root(tree):
        set_errno(EPERM)
        return STEP_NOT_PROC
    done = attach(tree, target)
    close(target)
    if done < 0:
        return STEP_MOVE_MOUNT
    ctx.detail = 0
    return 0


cdef int do_label_mount(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the root of the mount in slot a gets SELinux context s1, of b bytes with its end: for a filesystem that
    # exists already when it is mounted, and can't be given one then. A policy that has no labels for it has its way.
    cdef int fd = openat(ctx.slots[op.a], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if fd < 0:
        return STEP_OPENAT
    if syscall(SYS_fsetxattr, fd, "security.selinux", ctx.pool + op.s1, <size_t>op.b, 0) < 0 and errno != EOPNOTSUPP:
        return STEP_FSETXATTR
    close(fd)
    return 0
