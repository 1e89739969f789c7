# Credentials.

cdef struct CapHeader:
    uint32_t version
    int pid

cdef struct CapData:
    uint32_t effective
    uint32_t permitted
    uint32_t inheritable


cdef int do_join_keyring(Context *ctx, const JoinKeyringOp *op) noexcept nogil:
    # NULL: a new keyring without a name. The kernel would join an existing keyring with the same name.
    # ENOSYS: a kernel without keyrings. EPERM: a seccomp filter of the engine. Both leave no keyring to share.
    if syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 and errno != ENOSYS and errno != EPERM:
        return STEP_KEYCTL
    return 0


cdef int do_set_no_new_privs(Context *ctx, const SetNoNewPrivsOp *op) noexcept nogil:
    return STEP_PRCTL if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 else 0


cdef int do_set_personality(Context *ctx, const SetPersonalityOp *op) noexcept nogil:
    return STEP_PERSONALITY if personality(<unsigned long>op.personality) < 0 else 0


cdef int do_drop_bounding(Context *ctx, const DropBoundingOp *op) noexcept nogil:
    cdef int cap
    for cap in range(64):
        if (<uint64_t>op.keep >> cap) & 1 or prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0:
            continue
        # dropping needs CAP_SETPCAP, even for a capability that the set does not have
        if errno == EPERM and prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 0:
            continue
        if errno != EINVAL:  # EINVAL: unknown to the kernel
            return STEP_PRCTL
    return 0


cdef int do_set_groups(Context *ctx, const SetGroupsOp *op) noexcept nogil:
    cdef const void *gids = ctx.pool + op.gids
    cdef size_t count = table_length(ctx.pool, op.gids) // sizeof(gid_t)
    return STEP_SETGROUPS if syscall(SYS_setgroups, count, gids) < 0 else 0


cdef int do_set_ids(Context *ctx, const SetIdsOp *op) noexcept nogil:
    # capabilities must survive until set_capabilities
    if prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0:
        return STEP_PRCTL
    if syscall(SYS_setresgid, <gid_t>op.gid, <gid_t>op.gid, <gid_t>op.gid) < 0:
        return STEP_SETRESGID
    if syscall(SYS_setresuid, <uid_t>op.uid, <uid_t>op.uid, <uid_t>op.uid) < 0:
        return STEP_SETRESUID
    restore_protection()
    return 0


cdef int do_set_capabilities(Context *ctx, const SetCapabilitiesOp *op) noexcept nogil:
    cdef CapHeader header
    cdef CapData data[2]
    cdef CapData got[2]
    cdef int i
    header.version = CAPABILITY_VERSION_3
    header.pid = 0
    for i in range(2):
        data[i].effective = <uint32_t>(<uint64_t>op.effective >> (32 * i))
        data[i].permitted = <uint32_t>(<uint64_t>op.permitted >> (32 * i))
        data[i].inheritable = <uint32_t>(<uint64_t>op.inheritable >> (32 * i))
    if syscall(SYS_capset, &header, data) < 0:
        return STEP_CAPSET
    memset(got, 0xFF, sizeof(got))  # a seccomp filter may fake success without a result
    if syscall(SYS_capget, &header, got) < 0:
        return STEP_CAPSET
    if memcmp(data, got, sizeof(data)) != 0:
        set_errno(EPERM)
        return STEP_CAPS_DIFFER
    return 0


cdef int do_set_ambient(Context *ctx, const SetAmbientOp *op) noexcept nogil:
    cdef int cap
    if prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 and errno != EINVAL:
        return STEP_PRCTL
    for cap in range(64):
        if (<uint64_t>op.ambient >> cap) & 1 and prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0:
            return STEP_PRCTL
    return 0
