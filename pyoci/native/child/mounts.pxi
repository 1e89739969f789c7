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
    return <int>syscall(SYS_mount_setattr, tree, b"", recursive | <unsigned int>AT_EMPTY_PATH, &attr, sizeof(attr))


cdef int do_set_propagation(Context *ctx, const SetPropagationOp *op) noexcept nogil:
    cdef unsigned int flags = AT_RECURSIVE if op.flags & FLAG_RECURSIVE else 0
    cdef int done
    if op.tree < 0:
        done = set_attributes(AT_FDCWD, ctx.pool + op.path, flags, 0, 0, <uint64_t>op.kind)
    else:
        done = set_attributes(ctx.slots[op.tree], "", flags | <unsigned int>AT_EMPTY_PATH, 0, 0, <uint64_t>op.kind)
    return STEP_MOUNT_SETATTR if done < 0 else 0


cdef int do_set_mount_attributes(Context *ctx, const SetMountAttributesOp *op) noexcept nogil:
    if set_attributes(ctx.slots[op.tree], "", AT_EMPTY_PATH, <uint64_t>op.attr_set, 0, 0) < 0:
        return STEP_MOUNT_SETATTR
    return 0


cdef int do_attach_rootfs(Context *ctx, const AttachRootfsOp *op) noexcept nogil:
    cdef int target = openat(AT_FDCWD, ctx.pool + op.path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    cdef int done
    if target < 0:
        return STEP_OPENAT
    if not is_same_file(target, ctx.slots[SLOT_ROOTFS]):
        set_errno(EBUSY)
        return STEP_CHANGED
    done = <int>syscall(SYS_move_mount, ctx.slots[SLOT_ROOTFS], b"", target, b"",
                        MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    close(target)
    return STEP_MOVE_MOUNT if done < 0 else 0


cdef int do_cover_root(Context *ctx, const CoverRootOp *op) noexcept nogil:
    if syscall(SYS_move_mount, ctx.slots[SLOT_ROOTFS], b"", AT_FDCWD, b"/", MOVE_MOUNT_F_EMPTY_PATH) < 0:
        return STEP_MOVE_MOUNT
    return 0


cdef int do_open_bundle(Context *ctx, const OpenBundleOp *op) noexcept nogil:
    cdef int bundle = openat(AT_FDCWD, ctx.pool + op.path, O_PATH | O_DIRECTORY | O_CLOEXEC)
    if bundle < 0:
        return STEP_OPENAT
    if not is_same_file(bundle, ctx.slots[SLOT_BUNDLE]):
        set_errno(EBUSY)
        return STEP_CHANGED
    close(ctx.slots[SLOT_BUNDLE])
    ctx.slots[SLOT_BUNDLE] = bundle
    return 0


cdef int open_without_symlinks(int rootfs, const char *path, bint directory, int *existed, int *step) noexcept nogil:
    """Open a directory or a file whose path contains no symlink. Creates it if missing."""
    cdef uint64_t flags = O_PATH | O_DIRECTORY if directory else O_PATH
    cdef int fd = open_in_root(rootfs, path, flags, RESOLVE_NO_SYMLINKS)
    step[0] = STEP_OPENAT2
    existed[0] = 1
    if fd >= 0 or errno != ENOENT:
        return fd
    fd = make_in_root(rootfs, path, directory, 0, existed, step)
    if fd < 0:
        return -1
    close(fd)
    step[0] = STEP_OPENAT2
    return open_in_root(rootfs, path, flags, RESOLVE_NO_SYMLINKS)


cdef int open_target(Context *ctx, unsigned int flags, const char *path, bint directory, int *existed,
                     int *step) noexcept nogil:
    """Open a mount point, and create it if missing. Rejects the root, and procfs unless `flags` allow it.

    A mount on procfs would make later operations read or write another file than /proc names (CVE-2019-16884).
    """
    cdef int rootfs = ctx.slots[SLOT_ROOTFS]
    cdef int fd = -1
    if flags & FLAG_TARGET_REAL:
        fd = open_without_symlinks(rootfs, path, True, existed, step)
    else:
        fd = make_in_root(rootfs, path, directory, MAX_LINKS, existed, step)
    if fd < 0:
        return -1
    if is_same_file(fd, rootfs):
        step[0] = STEP_TARGET_IS_ROOT
        set_errno(EINVAL)
        close(fd)
        return -1
    if on_procfs(fd) and not flags & (FLAG_TARGET_PROC | FLAG_TARGET_BELOW_PROC):
        step[0] = STEP_TARGET_IN_PROC
        set_errno(EPERM)
        close(fd)
        return -1
    return fd


cdef int attach(int tree, int target) noexcept nogil:
    """Mount `tree` on `target`. If only one of them is a directory, fails with ENOTDIR; the kernel reports EINVAL."""
    cdef stat_t source, covered
    if syscall(SYS_move_mount, tree, b"", target, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0:
        return 0
    if errno == EINVAL:
        if fstat(tree, &source) < 0 or fstat(target, &covered) < 0:
            set_errno(EINVAL)
        elif (source.st_mode & S_IFMT == S_IFDIR) != (covered.st_mode & S_IFMT == S_IFDIR):
            set_errno(ENOTDIR)
    return -1


cdef char LINK[PATH_SIZE]
cdef char PRESENT_LINK[PATH_SIZE]


cdef int copy_symlink(Context *ctx, const BindMountOp *op, int source) noexcept nogil:
    """Make the destination a symlink with the source's text. Accepts an existing one with the same text."""
    cdef char buffer[PATH_SIZE]
    cdef char *name = NULL
    cdef int step = 0, directory
    cdef ssize_t length = readlinkat(source, "", LINK, sizeof(LINK) - 1)
    if length < 0:
        return STEP_READLINKAT
    LINK[length] = 0
    if op.flags & FLAG_TARGET_REAL:
        set_errno(ELOOP)
        return STEP_OPENAT2
    directory = open_parent(ctx.slots[SLOT_ROOTFS], ctx.pool + op.target, buffer, &name, &step)
    if directory < 0:
        return step
    if symlinkat(LINK, directory, name) < 0:
        if errno != EEXIST:
            return STEP_SYMLINKAT
        if (readlinkat(directory, name, PRESENT_LINK, sizeof(PRESENT_LINK)) != length
                or memcmp(LINK, PRESENT_LINK, <size_t>length)):
            set_errno(EEXIST)
            return STEP_SYMLINKAT
    close(directory)
    return 0


cdef int do_bind_mount(Context *ctx, const BindMountOp *op) noexcept nogil:
    cdef stat_t source
    cdef int existed = 0, step = 0, done, target
    cdef int tree = ctx.slots[op.tree]
    if fstat(tree, &source) < 0:
        return STEP_FSTAT
    if source.st_mode & S_IFMT == S_IFLNK:
        return copy_symlink(ctx, op, tree)
    ctx.detail = source.st_mode & S_IFMT != S_IFDIR
    target = open_target(ctx, op.flags, ctx.pool + op.target, not ctx.detail, &existed, &step)
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


cdef int do_label_mount(Context *ctx, const LabelMountOp *op) noexcept nogil:
    cdef int fd = openat(ctx.slots[op.tree], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    cdef const char *label = ctx.pool + op.label
    if fd < 0:
        return STEP_OPENAT
    if syscall(SYS_fsetxattr, fd, b"security.selinux", label, strlen(label) + 1, 0) < 0 and errno != EOPNOTSUPP:
        return STEP_FSETXATTR
    close(fd)
    return 0
