# Credentials.

cdef struct CapHeader:
    uint32_t version
    int pid


cdef struct CapData:
    uint32_t effective
    uint32_t permitted
    uint32_t inheritable


cdef int do_drop_bounding(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the bounding set keeps exactly the capabilities of mask a that it has.
    cdef int cap, has
    for cap in range(64):
        if (<uint64_t>op.a >> cap) & 1:
            continue
        has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0)
        if has < 0 and errno != EINVAL:  # EINVAL: the kernel does not know it
            return STEP_PRCTL
        if has != 1:
            continue
        if prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0:
            return STEP_PRCTL
    return 0


cdef int do_set_ids(Context *ctx, const Op *op) noexcept nogil:
    # Contract: real, effective and saved ids are a:b; capabilities survive until set_capabilities decides (KEEPCAPS).
    if prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0:
        return STEP_PRCTL
    if syscall(SYS_setresgid, <gid_t>op.b, <gid_t>op.b, <gid_t>op.b) < 0:
        return STEP_SETRESGID
    if syscall(SYS_setresuid, <uid_t>op.a, <uid_t>op.a, <uid_t>op.a) < 0:
        return STEP_SETRESUID
    # a change of credentials clears both
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    return 0


cdef int do_set_capabilities(Context *ctx, const Op *op) noexcept nogil:
    # Contract: effective a, permitted b, inheritable c, exactly; read back, since a wrong set is a hole.
    cdef CapHeader header
    cdef CapData data[2]
    cdef CapData got[2]
    cdef int i
    header.version = CAPABILITY_VERSION_3
    header.pid = 0
    for i in range(2):
        data[i].effective = <uint32_t>(<uint64_t>op.a >> (32 * i))
        data[i].permitted = <uint32_t>(<uint64_t>op.b >> (32 * i))
        data[i].inheritable = <uint32_t>(<uint64_t>op.c >> (32 * i))
    if syscall(SYS_capset, &header, data) < 0:
        return STEP_CAPSET
    memset(got, 0xFF, sizeof(got))  # under a seccomp filter that only pretends, nothing is read back
    if syscall(SYS_capget, &header, got) < 0:
        return STEP_CAPSET
    if memcmp(data, got, sizeof(data)) != 0:
        set_errno(EPERM)
        return STEP_CAPS_DIFFER
    return 0


cdef int do_set_ambient(Context *ctx, const Op *op) noexcept nogil:
    cdef int cap
    if prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 and errno != EINVAL:
        return STEP_PRCTL
    for cap in range(64):
        if (<uint64_t>op.a >> cap) & 1 and prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0:
            return STEP_PRCTL
    return 0
