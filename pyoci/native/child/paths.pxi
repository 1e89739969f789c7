# Paths of the container.

cdef int open_in_root(int rootfs, const char *path, uint64_t flags, uint64_t resolve) noexcept nogil:
    """openat2 with the root filesystem as `/`: no `..`, symlink or magic link leads out of it."""
    cdef open_how how
    cdef int tries
    cdef long fd
    how.flags = flags | <uint64_t>O_CLOEXEC
    how.mode = 0
    how.resolve = <uint64_t>RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve
    for tries in range(128):  # EAGAIN: somebody renamed a directory while `..` was resolved
        fd = syscall(SYS_openat2, rootfs, path, &how, sizeof(how))
        if fd >= 0 or errno != EAGAIN:
            return <int>fd
    return -1


cdef int split_path(const char *path, char *prefix, int *start) noexcept nogil:
    """Copy `path` into `prefix` without trailing slashes; `start` is where its last component begins."""
    cdef size_t n = strlen(path)
    cdef int i
    while n > 1 and path[n - 1] == c'/':
        n -= 1
    if n + 1 > PATH_SIZE:
        set_errno(ENAMETOOLONG)
        return -1
    memcpy(prefix, path, n)
    prefix[n] = 0
    i = <int>n
    while i > 0 and prefix[i - 1] != c'/':
        i -= 1
    start[0] = i
    return 0


cdef int is_plain_name(const char *name) noexcept nogil:
    return name[0] != 0 and strcmp(name, ".") != 0 and strcmp(name, "..") != 0 and strchr(name, c'/') == NULL


cdef int open_made(int parent, const char *name) noexcept nogil:
    """Descriptor of what was just made in `parent`; a symlink that took its place is refused."""
    cdef stat_t st
    cdef int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC)
    if fd >= 0 and (fstat(fd, &st) < 0 or st.st_mode & S_IFMT == S_IFLNK):
        close(fd)
        set_errno(ELOOP)
        return -1
    return fd


cdef int make_in_root(int rootfs, const char *path, bint directory, int links, int *existed, int *step) noexcept nogil:
    """O_PATH descriptor of `path` in the root filesystem; missing directories, and the last file, are made.

    Each component is made with one mkdirat or openat(O_EXCL | O_NOFOLLOW) in a directory held by descriptor,
    and reopened with O_NOFOLLOW: a symlink planted in between is refused, never followed out. As many as `links`
    symlinks may lead to what is to be made, as the /etc/resolv.conf of many images does; it is made inside of the root.
    """
    cdef char prefix[PATH_SIZE]
    cdef char saved
    cdef size_t n = strlen(path), i = 0, begin
    cdef int parent, fd, file
    existed[0] = 1
    step[0] = STEP_OPENAT2
    fd = open_in_root(rootfs, path, O_PATH, 0)
    if fd >= 0 or errno != ENOENT:
        return fd
    existed[0] = 0
    if n + 1 > PATH_SIZE:
        set_errno(ENAMETOOLONG)
        return -1
    memcpy(prefix, path, n + 1)
    while n > 1 and prefix[n - 1] == c'/':
        n -= 1
        prefix[n] = 0
    parent = open_in_root(rootfs, "/", O_PATH | O_DIRECTORY, 0)
    if parent < 0:
        return -1
    while True:
        while i < n and prefix[i] == c'/':
            i += 1
        if i >= n:
            return parent
        begin = i
        while i < n and prefix[i] != c'/':
            i += 1
        saved = prefix[i]
        prefix[i] = 0
        step[0] = STEP_OPENAT2
        fd = open_in_root(rootfs, prefix, O_PATH, 0)
        if fd < 0 and errno == ENOENT and is_plain_name(prefix + begin):
            prefix[i] = saved
            if links > 0 and replace_link(parent, prefix, begin, i):
                close(parent)
                links -= 1
                if errno or not links:
                    set_errno(errno if errno else ELOOP)
                    return -1
                n = strlen(prefix)
                i = 0
                parent = open_in_root(rootfs, "/", O_PATH | O_DIRECTORY, 0)
                if parent < 0:
                    return -1
                continue
            prefix[i] = 0
            if i >= n and not directory:
                step[0] = STEP_OPENAT
                file = openat(parent, prefix + begin, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, <mode_t>0o644)
                if file < 0:
                    close(parent)
                    return -1
                close(file)
            else:
                step[0] = STEP_MKDIRAT
                if mkdirat(parent, prefix + begin, 0o755) < 0:
                    close(parent)
                    return -1
            step[0] = STEP_OPENAT
            fd = open_made(parent, prefix + begin)
        close(parent)
        if fd < 0:
            return -1
        parent = fd
        prefix[i] = saved


cdef bint replace_link(int parent, char *path, size_t begin, size_t end) noexcept nogil:
    """Whether the component of `path` from `begin` to `end`, which is in `parent`, is a symlink: it is then replaced by the
    link's target, which if absolute starts `path` anew, and errno is 0, or ENAMETOOLONG.
    """
    cdef char link[PATH_SIZE]
    cdef char saved = path[end]
    cdef size_t rest = strlen(path + end)
    cdef ssize_t n
    path[end] = 0
    n = readlinkat(parent, path + begin, link, sizeof(link))
    path[end] = saved
    if n < 0:
        return False
    if n > 0 and link[0] == c'/':
        begin = 0
    set_errno(0)
    if n == 0 or begin + <size_t>n + rest + 1 > PATH_SIZE:
        set_errno(ENAMETOOLONG)
        return True
    memmove(path + begin + n, path + end, rest + 1)
    memcpy(path + begin, link, <size_t>n)
    return True


cdef int open_parent(int rootfs, const char *path, char *buffer, char **name, int *step) noexcept nogil:
    """Descriptor of the directory that holds the last component of `path`, made if missing; the component in `name`."""
    cdef int start = 0, existed
    step[0] = STEP_OPENAT2
    if split_path(path, buffer, &start) < 0:
        return -1
    if not is_plain_name(buffer + start):
        set_errno(EINVAL)
        return -1
    name[0] = buffer + start
    if start <= 1:
        return open_in_root(rootfs, "/", O_PATH | O_DIRECTORY, 0)
    buffer[start - 1] = 0
    return make_in_root(rootfs, buffer, True, 0, &existed, step)


cdef int is_same_file(int first, int second) noexcept nogil:
    cdef stat_t one, two
    if fstat(first, &one) < 0 or fstat(second, &two) < 0:
        return 0
    return one.st_dev == two.st_dev and one.st_ino == two.st_ino
