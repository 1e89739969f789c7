# Devices, and links.

cdef int do_mknod(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the node exists with this type, number, mode and owner. An existing node that is the same device is taken
    # over, with FLAG_KEEP_EXISTING as it is; anything else at the path is an error (DEV-04).
    cdef char buffer[PATH_SIZE]
    cdef char *name = NULL
    cdef stat_t st
    cdef int step = 0, existed = 0, fd
    cdef unsigned long device = makedev(<unsigned int>op.b, <unsigned int>op.c)
    cdef mode_t kind = <mode_t>op.a & S_IFMT
    cdef int directory = open_parent(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s1, buffer, &name, &step)
    if directory < 0:
        return step
    if mknodat(directory, name, <mode_t>op.a, device) < 0:
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
        if existed and st.st_mode & 0o7777 != <mode_t>op.a & 0o7777:
            step = chmod_node(ctx, fd, <mode_t>op.a & 0o7777)
            if step:
                return step
        if fchownat(fd, "", <uid_t><uint32_t>op.d, <gid_t>(<uint64_t>op.d >> 32), AT_EMPTY_PATH) < 0:
            return STEP_FCHOWNAT
    close(fd)
    close(directory)
    return 0


cdef int chmod_node(Context *ctx, int fd, mode_t mode) noexcept nogil:
    """chmod through an O_PATH descriptor: fchmodat2 (6.6), else the descriptor's entry in a procfs of our own."""
    cdef char path[64]
    cdef int n, at, step
    if syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0:
        return 0
    if errno != ENOSYS:
        return STEP_FCHMODAT
    if proc_of(ctx, "thread-self/fd") < 0:
        step = open_own_proc(ctx)
        if step:
            return step
    memcpy(path, <const char *>"thread-self/fd/", 15)
    at = 15
    n = 1
    while fd // n >= 10:
        n *= 10
    while n:
        path[at] = <char>(c'0' + (fd // n) % 10)
        at += 1
        n //= 10
    path[at] = 0
    return STEP_FCHMODAT if fchmodat(proc_of(ctx, path), path, mode, 0) < 0 else 0


cdef void write_number(char *text, unsigned int number) noexcept nogil:
    """Decimal digits and a NUL, for which `text` has room."""
    cdef unsigned int rest = number, length = 1
    while rest >= 10:
        rest //= 10
        length += 1
    text[length] = 0
    while length:
        length -= 1
        text[length] = <char>(c'0' + number % 10)
        number //= 10


cdef int do_open_devices(Context *ctx, const Op *op) noexcept nogil:
    # Contract: each of the c nodes that the runtime made in the filesystem of slot a, which are named by number, becomes
    # a mount of its own, in slot b and those behind it; the filesystem is attached nowhere afterwards. It has to be while
    # the nodes are cloned (Linux before 6.15): on the container's root, where no path is resolved in the meantime and
    # which is a mount that nobody else has.
    cdef char name[12]
    cdef int i, tree = ctx.slots[op.a], root = ctx.slots[SLOT_ROOTFS]
    if attach(tree, root) < 0:
        return STEP_MOVE_MOUNT
    for i in range(<int>op.c):
        write_number(name, <unsigned int>i)
        ctx.slots[op.b + i] = <int>syscall(SYS_open_tree, tree, name, OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW | O_CLOEXEC)
        if ctx.slots[op.b + i] < 0:
            return STEP_OPEN_TREE
    if fchdir(tree) < 0:
        return STEP_FCHDIR
    if syscall(SYS_umount2, ".", MNT_DETACH) < 0:
        return STEP_UMOUNT2
    if fchdir(root) < 0:
        return STEP_FCHDIR
    close(tree)
    return 0


cdef int do_bind_device(Context *ctx, const Op *op) noexcept nogil:
    # Contract: in a user namespace mknod is not possible: the clone of a node that the runtime made, or of the host's, is
    # attached on a file.
    cdef int existed = 0, step = 0, done
    cdef int target = make_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s1, False, 0, &existed, &step)
    if target < 0:
        return step
    if is_same_file(target, ctx.slots[op.a]):
        close(target)
        return 0
    if on_procfs(target):
        set_errno(EPERM)
        return STEP_TARGET_IN_PROC
    done = attach(ctx.slots[op.a], target)
    close(target)
    return STEP_MOVE_MOUNT if done < 0 else 0


cdef int do_symlink(Context *ctx, const Op *op) noexcept nogil:
    # Contract: s2 is a link to s1, if s3 exists; a name that is already there stays.
    cdef char buffer[PATH_SIZE]
    cdef char *name = NULL
    cdef int step = 0, fd
    if op.s3:
        fd = open_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s3, O_PATH | O_NOFOLLOW, 0)
        if fd < 0:
            return 0 if errno in (ENOENT, ENOTDIR, ELOOP, EACCES) else STEP_OPENAT2
        close(fd)
    cdef int directory = open_parent(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s2, buffer, &name, &step)
    if directory < 0:
        return step
    if symlinkat(ctx.pool + op.s1, directory, name) < 0 and errno != EEXIST:
        return STEP_SYMLINKAT
    close(directory)
    return 0
