# The root filesystem becomes `/`.

cdef int do_pivot_root(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the root filesystem is `/`, the old tree is gone. Both ends are the current directory: no path is used.
    cdef stat_t st
    if fchdir(ctx.slots[SLOT_ROOTFS]) < 0:
        return STEP_FCHDIR
    cdef int old = openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC)
    if old < 0:
        return STEP_OPENAT
    if syscall(SYS_pivot_root, ".", ".") < 0:
        return STEP_PIVOT_ROOT
    if fchdir(old) < 0:
        return STEP_FCHDIR
    close(old)
    # so that the unmount below does not travel to the host
    if set_attributes(AT_FDCWD, ".", AT_RECURSIVE, 0, 0, MS_SLAVE) < 0:
        return STEP_MOUNT_SETATTR
    if syscall(SYS_umount2, ".", MNT_DETACH) < 0:
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


cdef int do_enter_root(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the root filesystem is `/`, in a mount namespace that is not the container's. It is a tree of its own that is
    # attached nowhere: above its root there is nothing to climb to, which a chroot alone would not see to.
    if fchdir(ctx.slots[SLOT_ROOTFS]) < 0:
        return STEP_FCHDIR
    if chroot(".") < 0:
        return STEP_CHROOT
    return STEP_CHDIR if chdir("/") < 0 else 0


cdef int uncover_from(Context *ctx, const char *path, long type) noexcept nogil:
    """Detach every mount of this type from `path`; where the kernel refuses, as in a user namespace, cover it."""
    cdef statfs_t fs
    cdef int step, there, found, tries
    for tries in range(64):
        there = openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        if there < 0:
            return 0
        found = fstatfs(there, &fs) == 0 and fs.f_type == type
        if found and syscall(SYS_umount2, path, MNT_DETACH) < 0:
            step = make_mask_directory(ctx, "")
            if step == 0 and attach(ctx.slots[SLOT_MASK_DIRECTORY], there) < 0:
                step = STEP_MOVE_MOUNT
            close(there)
            ctx.slots[SLOT_MASK_DIRECTORY] = -1
            return step
        close(there)
        if not found:
            return 0
    set_errno(EBUSY)
    return STEP_UMOUNT2


cdef int do_move_root(Context *ctx, const Op *op) noexcept nogil:
    # Contract: --no-pivot, for a host whose root is an initramfs: the root filesystem is moved over `/` and entered by
    # chroot. The host's proc and sysfs are detached first, since a chroot alone could be left.
    cdef int step = uncover_from(ctx, "/proc", PROC_SUPER_MAGIC)
    if step == 0:
        step = uncover_from(ctx, "/sys", SYSFS_MAGIC)
    if step:
        return step
    if fchdir(ctx.slots[SLOT_ROOTFS]) < 0:
        return STEP_FCHDIR
    if syscall(SYS_move_mount, ctx.slots[SLOT_ROOTFS], "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0:
        return STEP_MOVE_MOUNT
    if chroot(".") < 0:
        return STEP_CHROOT
    if chdir("/") < 0:
        return STEP_CHDIR
    return 0
