# The process that becomes CRIU: the mounts that CRIU restores from, its descriptors, its program.

cdef int attach_new(int sources, const char *name, int tree) noexcept nogil:
    """Attach `tree` to a new directory or file `name` in the tmpfs `sources`."""
    cdef stat_t st
    cdef int step = 0, target, done
    if fstat(tree, &st) < 0:
        return STEP_FSTAT
    target = create_in(sources, name, st.st_mode & S_IFMT == S_IFDIR, &step)
    if target < 0:
        return step
    done = attach(tree, target)
    close(target)
    return STEP_MOVE_MOUNT if done < 0 else 0


cdef int do_mount_sources(Context *ctx, const MountSourcesOp *op) noexcept nogil:
    cdef int tree, done, fs, target
    target = openat(AT_FDCWD, ctx.pool + op.path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    if target < 0:
        return STEP_OPENAT
    fs = <int>syscall(SYS_fsopen, b"tmpfs", FSOPEN_CLOEXEC)
    if fs < 0:
        return STEP_FSOPEN
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, b"mode", b"1777", 0) < 0
            or syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0):
        return STEP_FSCONFIG
    tree = <int>syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
    if tree < 0:
        return STEP_FSMOUNT
    close(fs)
    done = attach(tree, target)
    close(target)
    if done < 0:
        return STEP_MOVE_MOUNT
    ctx.slots[op.sources] = tree
    return STEP_MKDIRAT if mkdirat(tree, ctx.pool + op.yard, 0o755) < 0 else 0


cdef int set_fs_string(int fs, const char *key, const char *value) noexcept nogil:
    return <int>syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0)


cdef enum:
    DT_REGULAR = 8  # dirent.h: DT_REG


cdef int share_entries(int directory) noexcept nogil:
    """Make every file of a directory readable for all."""
    cdef linux_dirent64 *entry
    cdef long n, offset
    while True:
        n = syscall(SYS_getdents64, directory, ENTRIES[0], sizeof(ENTRIES[0]))
        if n <= 0:
            return STEP_GETDENTS64 if n < 0 else 0
        offset = 0
        while offset < n:
            entry = <linux_dirent64 *>(ENTRIES[0] + offset)
            offset += entry.d_reclen
            if entry.d_type == DT_REGULAR and fchmodat(directory, entry.d_name, 0o644, 0) < 0:
                return STEP_FCHMODAT


cdef int attach_below(int sources, const char *path, int tree) noexcept nogil:
    """Attach `tree` to the directory `path` of the tmpfs `sources`. Creates it and those above it if missing."""
    cdef char copy[PATH_SIZE]
    cdef size_t i, length = strlen(path)
    cdef int target, done
    if length + 1 > PATH_SIZE:
        set_errno(ENAMETOOLONG)
        return STEP_MKDIRAT
    for i in range(length + 1):
        copy[i] = 0 if path[i] == c'/' else path[i]
        if copy[i] == 0:
            if mkdirat(sources, copy, 0o755) < 0 and errno != EEXIST:
                return STEP_MKDIRAT
            copy[i] = path[i]
    target = openat(sources, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    if target < 0:
        return STEP_OPENAT
    done = attach(tree, target)
    close(target)
    return STEP_MOVE_MOUNT if done < 0 else 0


cdef int do_share_images(Context *ctx, const ShareImagesOp *op) noexcept nogil:
    cdef int fs, tree, directory, step
    if mkdirat(AT_FDCWD, ctx.pool + op.upper, 0o700) < 0 or mkdirat(AT_FDCWD, ctx.pool + op.work, 0o700) < 0:
        return STEP_MKDIRAT
    fs = <int>syscall(SYS_fsopen, b"overlay", FSOPEN_CLOEXEC)
    if fs < 0:
        return STEP_FSOPEN
    if (set_fs_string(fs, "upperdir", ctx.pool + op.upper) < 0 or set_fs_string(fs, "workdir", ctx.pool + op.work) < 0
            or set_fs_string(fs, "metacopy", "on") < 0):
        return STEP_FSCONFIG
    # A path may contain what the mount option gives a meaning to, such as a colon.
    if fchdir(ctx.slots[op.images]) < 0:
        return STEP_FCHDIR
    if set_fs_string(fs, "lowerdir", ".") < 0:
        return STEP_FSCONFIG
    if syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0:
        return STEP_FSCONFIG_CREATE
    tree = <int>syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
    if tree < 0:
        return STEP_FSMOUNT
    close(fs)
    directory = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if directory < 0:
        return STEP_OPENAT
    step = share_entries(directory)
    if step == 0 and fchmod(directory, 0o755) < 0:
        step = STEP_FCHMOD
    close(directory)
    return step if step else attach_below(ctx.slots[op.sources], ctx.pool + op.name, tree)


cdef int do_stage_tree(Context *ctx, const StageTreeOp *op) noexcept nogil:
    return attach_new(ctx.slots[op.sources], ctx.pool + op.name, ctx.slots[op.tree])


cdef int do_unstage_tree(Context *ctx, const UnstageTreeOp *op) noexcept nogil:
    if fchdir(ctx.slots[op.sources]) < 0:
        return STEP_FCHDIR
    return STEP_UMOUNT2 if syscall(SYS_umount2, ctx.pool + op.name, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 else 0


cdef int open_beneath(int tree, const char *path, uint64_t resolve) noexcept nogil:
    """Open a path of a tree that contains no symlink."""
    cdef open_how how
    how.flags = <uint64_t>(O_PATH | O_CLOEXEC)
    how.mode = 0
    how.resolve = <uint64_t>RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | resolve
    return <int>syscall(SYS_openat2, tree, path, &how, sizeof(how))


cdef bint is_mount_point(int tree, const char *path) noexcept nogil:
    """Whether a mount begins at the end of the path: its last component leads to another mount."""
    cdef char copy[PATH_SIZE]
    cdef int start = 0, parent = -1, fd, error
    if split_path(path, copy, &start) < 0:
        return False
    if start:
        copy[start - 1] = 0
        parent = open_beneath(tree, copy, 0)
        if parent < 0:
            return False
    fd = open_beneath(parent if start else tree, path + start, RESOLVE_NO_XDEV)
    error = errno
    if fd >= 0:
        close(fd)
    if start:
        close(parent)
    return fd < 0 and error == EXDEV


cdef int do_add_source(Context *ctx, const AddSourceOp *op) noexcept nogil:
    cdef int tree = ctx.slots[op.tree], below = -1, clone, step
    if op.below:
        below = open_beneath(tree, ctx.pool + op.below, 0)
        if below < 0:
            return STEP_OPENAT2
        if op.flags & FLAG_IS_MOUNT and not is_mount_point(tree, ctx.pool + op.below):
            set_errno(EINVAL)
            return STEP_NOT_MOUNTED
        tree = below
    if op.flags & FLAG_CLONE:
        clone = open_clone(tree, "", AT_EMPTY_PATH)
        if clone < 0:
            return STEP_OPEN_TREE
        tree = clone
    # CRIU gives the container's mount the peers of this one, and makes that a slave of them
    if set_attributes(tree, "", AT_EMPTY_PATH, <uint64_t>op.attr_set, <uint64_t>op.attr_clear, MS_SHARED) < 0:
        return STEP_MOUNT_SETATTR
    step = attach_new(ctx.slots[op.sources], ctx.pool + op.name, tree)
    if step:
        return step
    if below >= 0:
        close(below)
    if op.flags & FLAG_CLONE:
        close(tree)
    return 0


cdef int do_make_mount_point(Context *ctx, const MakeMountPointOp *op) noexcept nogil:
    cdef stat_t st
    cdef int step = 0, existed = 0, fd
    cdef bint directory = op.flags & FLAG_DIRECTORY
    if op.like >= 0:
        if fstat(ctx.slots[op.like], &st) < 0:
            return STEP_FSTAT
        directory = st.st_mode & S_IFMT == S_IFDIR
    fd = open_without_symlinks(ctx.slots[op.tree], ctx.pool + op.below, directory, &existed, &step)
    if fd < 0:
        return step
    if fstat(fd, &st) < 0:
        return STEP_FSTAT
    close(fd)
    if (st.st_mode & S_IFMT == S_IFDIR) != directory:
        set_errno(EEXIST)
        return STEP_OTHER_NODE
    return 0


cdef int move_above(int fd, int count) noexcept nogil:
    """Return a copy of a descriptor that is not below `count`, or the descriptor itself."""
    return fcntl(fd, F_DUPFD_CLOEXEC, count) if 0 <= fd < count else fd


cdef int do_number_fds(Context *ctx, const NumberFdsOp *op) noexcept nogil:
    cdef int i, fd, end = <int>(op.number + op.count)
    cdef int *slots = ctx.slots + op.first
    fd = move_above(ctx.channel, end)
    if fd < 0:
        return STEP_DUP
    ctx.channel = fd
    for i in range(<int>op.count):
        slots[i] = move_above(slots[i], end)
        if slots[i] < 0:
            return STEP_DUP
    for i in range(<int>op.count):
        if dup2(slots[i], <int>op.number + i) < 0:
            return STEP_DUP
    return 0


cdef int do_exec_host(Context *ctx, const ExecHostOp *op) noexcept nogil:
    report_exec(ctx)
    execve(ctx.pool + op.path, ctx.vectors + op.argv, ctx.vectors + op.envp)
    return STEP_EXECVE
