# tmpcopyup: a new tmpfs receives a copy of the directory that it covers.

cdef struct linux_dirent64:
    uint64_t d_ino
    int64_t d_off
    unsigned short d_reclen
    unsigned char d_type
    char d_name[1]


cdef char COPIED[16384]
cdef char ENTRIES[MAX_COPY_UP_DEPTH + 1][1024]  # of the directories that are being copied, by depth


cdef int copy_contents(int source, int target) noexcept nogil:
    cdef ssize_t n, done, m
    while True:
        n = read(source, COPIED, sizeof(COPIED))
        if n == 0:
            return 0
        if n < 0:
            return STEP_READ
        done = 0
        while done < n:
            m = write(target, COPIED + done, <size_t>(n - done))
            if m < 0:
                return STEP_WRITE
            done += m


cdef int copy_link(int source, int target, const char *name, const stat_t *st) noexcept nogil:
    cdef ssize_t n = readlinkat(source, name, COPIED, PATH_SIZE - 1)
    if n < 0:
        return STEP_READLINKAT
    COPIED[n] = 0
    if symlinkat(COPIED, target, name) < 0:
        return STEP_SYMLINKAT
    return STEP_FCHOWNAT if fchownat(target, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 else 0


cdef int copy_node(int target, const char *name, const stat_t *st) noexcept nogil:
    if mknodat(target, name, st.st_mode, st.st_rdev) < 0:
        return STEP_MKNODAT
    return STEP_FCHOWNAT if fchownat(target, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 else 0


cdef int copy_entry(int source, int target, const char *name, int depth) noexcept nogil:
    """Copy a directory entry with its owner and mode. Symlinks, devices, FIFOs and sockets stay what they are."""
    cdef stat_t st
    cdef int old, new, step = 0
    if fstatat(source, name, &st, AT_SYMLINK_NOFOLLOW) < 0:
        return STEP_FSTAT
    cdef mode_t kind = st.st_mode & S_IFMT
    if kind == S_IFLNK:
        return copy_link(source, target, name, &st)
    if kind == S_IFDIR:
        if mkdirat(target, name, 0o700) < 0:
            return STEP_MKDIRAT
        old = openat(source, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        new = openat(target, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        if old < 0 or new < 0:
            return STEP_OPENAT
        step = copy_up(old, new, depth + 1)
    elif kind == S_IFREG:
        old = openat(source, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        new = openat(target, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, <mode_t>0o600)
        if old < 0 or new < 0:
            return STEP_OPENAT
        if fstat(old, &st) < 0 or st.st_mode & S_IFMT != S_IFREG:
            set_errno(EBUSY)
            return STEP_CHANGED
        step = copy_contents(old, new)
    else:
        return copy_node(target, name, &st)
    if step == 0 and fchown(new, st.st_uid, st.st_gid) < 0:
        step = STEP_FCHOWNAT
    if step == 0 and fchmod(new, st.st_mode & 0o7777) < 0:
        step = STEP_FCHMOD
    close(old)
    close(new)
    return step


cdef int copy_up(int source, int target, int depth) noexcept nogil:
    """Copy the entries of a directory, recursively."""
    cdef linux_dirent64 *entry
    cdef long n, offset
    cdef int step
    cdef int directory = openat(source, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if directory < 0:
        return STEP_OPENAT
    if depth > MAX_COPY_UP_DEPTH:
        set_errno(ELOOP)
        return STEP_TOO_DEEP
    while True:
        n = syscall(SYS_getdents64, directory, ENTRIES[depth], sizeof(ENTRIES[depth]))
        if n < 0:
            return STEP_GETDENTS64
        if n == 0:
            close(directory)
            return 0
        offset = 0
        while offset < n:
            entry = <linux_dirent64 *>(ENTRIES[depth] + offset)
            offset += entry.d_reclen
            if not is_plain_name(entry.d_name):
                continue
            step = copy_entry(directory, target, entry.d_name, depth)
            if step:
                return step
