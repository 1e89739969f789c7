# The root filesystem becomes `/`.

cdef int do_open_root(Context *ctx, const OpenRootOp *op) noexcept nogil:
    ctx.slots[SLOT_ROOTFS] = openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC)
    return STEP_OPENAT if ctx.slots[SLOT_ROOTFS] < 0 else 0


cdef int do_pivot_root(Context *ctx, const PivotRootOp *op) noexcept nogil:
    if fchdir(ctx.slots[SLOT_ROOTFS]) < 0:
        return STEP_FCHDIR
    cdef int old = openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC)
    if old < 0:
        return STEP_OPENAT
    # both ends are the current directory, so no path is resolved
    if syscall(SYS_pivot_root, b".", b".") < 0:
        return STEP_PIVOT_ROOT
    if fchdir(old) < 0:
        return STEP_FCHDIR
    close(old)
    # otherwise the unmount below would reach the host
    if set_attributes(AT_FDCWD, ".", AT_RECURSIVE, 0, 0, MS_SLAVE) < 0:
        return STEP_MOUNT_SETATTR
    if syscall(SYS_umount2, b".", MNT_DETACH) < 0:
        return STEP_UMOUNT2
    if chdir("/") < 0:
        return STEP_CHDIR
    cdef int root = openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC)
    if root < 0:
        return STEP_OPENAT
    if not is_same_file(root, ctx.slots[SLOT_ROOTFS]):
        set_errno(EBUSY)
        return STEP_CHANGED
    close(root)
    return 0


cdef int do_enter_root(Context *ctx, const EnterRootOp *op) noexcept nogil:
    if fchdir(ctx.slots[SLOT_ROOTFS]) < 0:
        return STEP_FCHDIR
    if chroot(".") < 0:
        return STEP_CHROOT
    return STEP_CHDIR if chdir("/") < 0 else 0


cdef int detach_all(Context *ctx, const char *path, long type) noexcept nogil:
    """Detach every mount of this filesystem type from `path`. Covers one that the user namespace may not detach."""
    cdef statfs_t fs
    cdef int step, target, found, tries
    for tries in range(64):
        target = openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        if target < 0:
            return 0
        found = fstatfs(target, &fs) == 0 and fs.f_type == type
        if found and syscall(SYS_umount2, path, MNT_DETACH) < 0:
            step = make_mask_directory(ctx, "")
            if step == 0 and attach(ctx.slots[SLOT_MASK_DIRECTORY], target) < 0:
                step = STEP_MOVE_MOUNT
            close(target)
            ctx.slots[SLOT_MASK_DIRECTORY] = -1
            return step
        close(target)
        if not found:
            return 0
    set_errno(EBUSY)
    return STEP_UMOUNT2


cdef int do_move_root(Context *ctx, const MoveRootOp *op) noexcept nogil:
    # a process with CAP_SYS_CHROOT can leave a chroot, so the host's procfs and sysfs must not lie above it
    cdef int step = detach_all(ctx, "/proc", PROC_SUPER_MAGIC)
    if step == 0:
        step = detach_all(ctx, "/sys", SYSFS_MAGIC)
    if step:
        return step
    if fchdir(ctx.slots[SLOT_ROOTFS]) < 0:
        return STEP_FCHDIR
    if syscall(SYS_move_mount, ctx.slots[SLOT_ROOTFS], b"", AT_FDCWD, b"/", MOVE_MOUNT_F_EMPTY_PATH) < 0:
        return STEP_MOVE_MOUNT
    if chroot(".") < 0:
        return STEP_CHROOT
    if chdir("/") < 0:
        return STEP_CHDIR
    return 0
