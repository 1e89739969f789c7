# Paths of the container. Each is resolved once, to a descriptor.

cdef int open_in_root(int rootfs, const char *path, uint64_t flags, uint64_t resolve) noexcept nogil:
    """Call openat2 with the root filesystem as `/`: no `..`, symlink or magic link leads out of it."""
    cdef open_how how
    cdef int tries
    cdef long fd
    how.flags = flags | <uint64_t>O_CLOEXEC
    how.mode = 0
    how.resolve = <uint64_t>RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve
    for tries in range(128):  # EAGAIN: a directory was renamed while the kernel resolved `..`
        fd = syscall(SYS_openat2, rootfs, path, &how, sizeof(how))
        if fd >= 0 or errno != EAGAIN:
            return <int>fd
    return -1


cdef int split_path(const char *path, char *prefix, int *start) noexcept nogil:
    """Copy `path` to `prefix` without trailing slashes. `start` becomes the index of its last component."""
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


cdef int open_new(int parent, const char *name) noexcept nogil:
    """Open the file or directory that was just created in `parent`. Rejects a symlink that replaced it."""
    cdef stat_t st
    cdef int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC)
    if fd >= 0 and (fstat(fd, &st) < 0 or st.st_mode & S_IFMT == S_IFLNK):
        close(fd)
        set_errno(ELOOP)
        return -1
    return fd


cdef int create_in(int parent, const char *name, bint directory, int *step) noexcept nogil:
    """Create an empty directory or file in `parent`, and open it. An existing name is an error."""
    cdef int file
    if directory:
        step[0] = STEP_MKDIRAT
        if mkdirat(parent, name, 0o755) < 0:
            return -1
    else:
        step[0] = STEP_OPENAT
        file = openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, <mode_t>0o644)
        if file < 0:
            return -1
        close(file)
    step[0] = STEP_OPENAT
    return open_new(parent, name)


cdef bint replace_link(int parent, char *path, size_t begin, size_t end) noexcept nogil:
    """Replace the component of `path` from `begin` to `end` by its target, if it is a symlink in `parent`.

    An absolute target replaces all before it, too. Returns whether it is a symlink, with errno 0 or ENAMETOOLONG.
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


cdef int create_missing(int rootfs, char *path, bint directory, int links, int *step) noexcept nogil:
    """Open `path` component by component, and create those that are missing. Overwrites `path`."""
    cdef char saved
    cdef size_t n = strlen(path), i = 0, begin
    cdef int fd, parent = open_in_root(rootfs, "/", O_PATH | O_DIRECTORY, 0)
    while parent >= 0:
        while i < n and path[i] == c'/':
            i += 1
        if i >= n:
            return parent
        begin = i
        while i < n and path[i] != c'/':
            i += 1
        saved = path[i]
        path[i] = 0
        step[0] = STEP_OPENAT2
        fd = open_in_root(rootfs, path, O_PATH, 0)
        if fd < 0 and errno == ENOENT and is_plain_name(path + begin):
            path[i] = saved
            if links > 0 and replace_link(parent, path, begin, i):
                close(parent)
                links -= 1
                if errno or not links:
                    set_errno(errno if errno else ELOOP)
                    return -1
                n = strlen(path)
                i = 0
                parent = open_in_root(rootfs, "/", O_PATH | O_DIRECTORY, 0)
                continue
            path[i] = 0
            fd = create_in(parent, path + begin, directory or i < n, step)
        close(parent)
        parent = fd
        path[i] = saved
    return -1


cdef int make_in_root(int rootfs, const char *path, bint directory, int links, int *existed, int *step) noexcept nogil:
    """Open `path` in the root filesystem. Creates missing directories, and the last component as directory or file.

    Creates each component with one mkdirat or openat(O_EXCL | O_NOFOLLOW) in a directory held by descriptor, and opens
    it with O_NOFOLLOW. So a symlink planted in between is rejected, never followed. Dangling symlinks, up to `links`,
    are resolved by hand, because many images have one as /etc/resolv.conf. Their target, too, is created in the root.
    """
    cdef char copy[PATH_SIZE]
    cdef size_t n = strlen(path)
    cdef int fd = open_in_root(rootfs, path, O_PATH, 0)
    step[0] = STEP_OPENAT2
    existed[0] = 1
    if fd >= 0 or errno != ENOENT:
        return fd
    existed[0] = 0
    if n + 1 > PATH_SIZE:
        set_errno(ENAMETOOLONG)
        return -1
    memcpy(copy, path, n + 1)
    while n > 1 and copy[n - 1] == c'/':
        n -= 1
        copy[n] = 0
    return create_missing(rootfs, copy, directory, links, step)


cdef int open_parent(int rootfs, const char *path, char *buffer, char **name, int *step) noexcept nogil:
    """Open the directory of the last component of `path`, and create it if missing. `name` becomes that component."""
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
