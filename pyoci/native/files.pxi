# Files that commands look at by the hundred. Python's own functions cost more than the system calls that they make.

cdef enum:
    FIRST_READ = 4096  # Linux allocates and clears a buffer of the requested size
    MAX_SMALL = 16384


def read_small(path, int dirfd=AT_FDCWD):
    """Read a file of less than 16 KiB, without following a symlink at the end of the path.

    One read(2) suffices for less than 4 KiB. So the contents must come at once, as from a regular file, or from a file
    of the kernel that has a single record. Raises OSError, with EFBIG for a larger file.
    """
    cdef char content[MAX_SMALL]
    cdef ssize_t size, more = 0
    cdef int error
    cdef int fd = openat(dirfd, path_bytes(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
    if fd < 0:
        raise failure()
    size = read(fd, content, FIRST_READ)
    if size == FIRST_READ:
        more = read(fd, content + FIRST_READ, MAX_SMALL - FIRST_READ)
    error = errno
    close(fd)
    if size < 0 or more < 0:
        set_errno(error)
        raise failure()
    if size + more == MAX_SMALL:
        set_errno(EFBIG)
        raise failure()
    return content[:size + more]


def stat_at(path, int dirfd):
    """Return the mode, the owner and the inode of a file, without following a symlink at the end of the path.

    Raises OSError.
    """
    cdef stat_t found
    if fstatat(dirfd, path_bytes(path), &found, AT_SYMLINK_NOFOLLOW):
        raise failure()
    return found.st_mode, found.st_uid, found.st_ino
