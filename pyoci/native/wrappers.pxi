# System calls that `posix` lacks. Each wrapper converts its arguments, calls, and raises OSError. A path with NUL
# inside is rejected, because a C string ends there.

cdef object failure(str what=None):
    cdef int error = errno
    return OSError(error, posix.strerror(error), what) if what is not None else OSError(error, posix.strerror(error))


cdef bytes path_bytes(object path):
    cdef bytes encoded = path if isinstance(path, bytes) else (<str>path).encode("utf-8", "surrogateescape")
    if b"\0" in encoded:
        raise ValueError("embedded NUL in a path")
    return encoded


def openat2(int dirfd, path, uint64_t flags, uint64_t mode=0, uint64_t resolve=0):
    """openat2(2), close-on-exec."""
    cdef bytes encoded = path_bytes(path)
    cdef open_how how
    how.flags = flags | <uint64_t>O_CLOEXEC
    how.mode = mode
    how.resolve = resolve
    cdef long fd = syscall(SYS_openat2, dirfd, <const char *>encoded, &how, sizeof(how))
    if fd < 0:
        raise failure(str(path))
    return fd


cdef object clone_failure(int step, int tree, str path):
    """The error for a failed clone of a mount. Its `strerror` is the name of the failed step."""
    cdef int error = errno
    if tree >= 0:
        close(tree)
    return OSError(error, STEPS[step], path)


def clone_host_rootfs(str path):
    """Clone a root filesystem and all mounts below it; see `clone_rootfs` in child/clones.pxi. Returns a descriptor."""
    cdef bytes encoded = path_bytes(path)
    cdef int tree = -1, step = clone_rootfs(encoded, &tree)
    if step:
        raise clone_failure(step, tree, path)
    return tree


def clone_host_tree(str path, unsigned int flags, uint64_t recursive_set, uint64_t recursive_clear, uint64_t set_,
                    uint64_t clear, int expected):
    """Clone the source of a mount; see `clone_tree` in child/clones.pxi. Returns a descriptor."""
    cdef bytes encoded = path_bytes(path)
    cdef uint64_t attributes[4]
    attributes[0] = recursive_set
    attributes[1] = recursive_clear
    attributes[2] = set_
    attributes[3] = clear
    cdef int tree = -1, step = clone_tree(encoded, flags, attributes, expected, &tree)
    if step:
        raise clone_failure(step, tree, path)
    return tree


def clone_host_device(str path, bint block, unsigned int major, unsigned int minor):
    """Clone a device node of the host; see `clone_device` in child/clones.pxi. Returns a descriptor."""
    cdef bytes encoded = path_bytes(path)
    cdef int tree = -1, step = clone_device(encoded, S_IFBLK if block else S_IFCHR, major, minor, &tree)
    if step:
        raise clone_failure(step, tree, path)
    return tree


def new_mount(filesystem, list options, uint64_t attributes):
    """Make a filesystem with (key, value) options. Returns the descriptor of its mount, which is attached nowhere."""
    cdef bytes kind = path_bytes(filesystem), key, value
    cdef long tree = -1
    cdef int error
    cdef int fs = <int>syscall(SYS_fsopen, <const char *>kind, FSOPEN_CLOEXEC)
    if fs < 0:
        raise failure("fsopen")
    try:
        for key, value in [(path_bytes(name), path_bytes(text)) for name, text in options]:
            if syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, <const char *>key, <const char *>value, 0) < 0:
                raise failure("fsconfig")
        if syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0:
            raise failure("fsconfig")
        tree = syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, <unsigned int>attributes)
        if tree < 0:
            raise failure("fsmount")
    finally:
        close(fs)
    return tree


def idmap(int fd, bint recursive, int userns_fd):
    """Give the mount behind `fd` the id mapping of a user namespace: mount_setattr(2) with MOUNT_ATTR_IDMAP."""
    if map_ids(fd, <unsigned int>AT_RECURSIVE if recursive else 0, userns_fd) < 0:
        raise failure()


def make_read_only(int fd):
    """Make the mount behind `fd` read-only: mount_setattr(2)."""
    if set_attributes(fd, "", AT_EMPTY_PATH, MOUNT_ATTR_RDONLY, 0, 0) < 0:
        raise failure()


def namespace_type(int fd):
    """The CLONE_NEW… flag of the namespace behind `fd`: ioctl NS_GET_NSTYPE."""
    cdef int kind = ioctl(fd, NS_GET_NSTYPE)
    if kind < 0:
        raise failure()
    return kind


def filesystem_type(str path):
    """The f_type of statfs(2) at `path`: a magic number of linux/magic.h."""
    cdef statfs_t fs
    if statfs(path_bytes(path), &fs) < 0:
        raise failure()
    return fs.f_type


def enter_namespace(int fd, int kind):
    """setns(2). For the mover of network devices only: the runtime never changes its own namespaces."""
    if setns(fd, kind) < 0:
        raise failure()


def pidfd_getfd(int pidfd, int fd):
    """Copy descriptor `fd` of another process: pidfd_getfd(2)."""
    cdef long copy = syscall(SYS_pidfd_getfd, pidfd, fd, 0)
    if copy < 0:
        raise failure()
    return copy


def pidfd_send_signal(int pidfd, int signum):
    """pidfd_send_signal(2)."""
    if syscall(SYS_pidfd_send_signal, pidfd, signum, NULL, 0) < 0:
        raise failure()


def prlimit(int pid, int resource, soft, hard):
    """Set a limit of a process, or of this one if `pid` is 0: prlimit(2). 2**64 - 1 means infinity."""
    cdef uint64_t limits[2]
    limits[0] = soft
    limits[1] = hard
    if syscall(SYS_prlimit64, pid, resource, limits, NULL) < 0:
        raise failure()


def getrlimit(int resource):
    """The (soft, hard) limit of this process: prlimit(2). 2**64 - 1 means infinity."""
    cdef uint64_t limits[2]
    if syscall(SYS_prlimit64, 0, resource, NULL, limits) < 0:
        raise failure()
    return limits[0], limits[1]


def sched_setattr(int pid, bytes attributes):
    """sched_setattr(2). `attributes` is a struct sched_attr, which begins with its size."""
    if syscall(SYS_sched_setattr, pid, <const char *>attributes, 0) < 0:
        raise failure()


def ioprio_set(int pid, int priority):
    """ioprio_set(2) of one process."""
    if syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, priority) < 0:
        raise failure()


SECCOMP = SYS_seccomp
# POWER has other numbers than most architectures.
IOCTLS = {
    "NS_GET_USERNS": NS_GET_USERNS,
    "PIDFD_GET_INFO": PIDFD_GET_INFO,
    "TIOCGPTN": TIOCGPTN,
    "TIOCGPTPEER": TIOCGPTPEER,
}


def ptrace(int request, int pid, unsigned long data=0):
    """ptrace(2), for requests without address and result."""
    if syscall(SYS_ptrace, request, pid, NULL, data) < 0:
        raise failure()


cdef struct SyscallInfo:  # ptrace_syscall_info: the part that entry and exit share
    uint8_t place
    uint8_t padding[3]
    uint32_t arch
    uint64_t instruction_pointer
    uint64_t stack_pointer
    int64_t value
    uint64_t arguments[6]


def syscall_info(int pid):
    """PTRACE_GET_SYSCALL_INFO of a tracee that stopped at a system call.

    Returns (1, number) at its entry, (2, result) at its exit.
    """
    cdef SyscallInfo info
    memset(&info, 0, sizeof(info))
    if syscall(SYS_ptrace, PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) < 0:
        raise failure()
    return info.place, info.value


def channel():
    """A connected pair of SOCK_SEQPACKET sockets, close-on-exec."""
    cdef int fds[2]
    if socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0:
        raise failure()
    return fds[0], fds[1]


cdef extern from *:
    """
    #include <sys/un.h>
    #include <stddef.h>
    #include <string.h>
    #include <sys/socket.h>

    /* Send `data` with one descriptor. Returns how many bytes were sent: fewer if the queue is full. */
    static ssize_t pyoci_send_fd(int sock, const char *data, size_t size, int fd) {
        struct iovec iov = { .iov_base = (void *)data, .iov_len = size };
        union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(int))]; } control;
        struct msghdr message;
        memset(&message, 0, sizeof message);
        memset(&control, 0, sizeof control);
        message.msg_iov = &iov;
        message.msg_iovlen = 1;
        message.msg_control = control.space;
        message.msg_controllen = sizeof control.space;
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
        return sendmsg(sock, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    }

    /* Receive one message and its descriptors, close-on-exec. The kernel closes descriptors beyond `room`. */
    static ssize_t pyoci_receive_fds(int sock, char *data, size_t size, int *fds, int room, int *count) {
        struct iovec iov = { .iov_base = data, .iov_len = size };
        union { struct cmsghdr header; char space[CMSG_SPACE(16 * sizeof(int))]; } control;
        struct msghdr message;
        ssize_t n;
        memset(&message, 0, sizeof message);
        message.msg_iov = &iov;
        message.msg_iovlen = 1;
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(room * sizeof(int));
        *count = 0;
        do {
            n = recvmsg(sock, &message, MSG_CMSG_CLOEXEC);
        } while (n < 0 && errno == EINTR);
        if (n < 0) return n;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
            if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
            int here = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds + *count, CMSG_DATA(c), here * sizeof(int));
            *count += here;
        }
        return n;
    }

    static int pyoci_connect(const char *path) {
        struct sockaddr_un address;
        memset(&address, 0, sizeof address);
        address.sun_family = AF_UNIX;
        if (strlen(path) >= sizeof address.sun_path) { errno = ENAMETOOLONG; return -1; }
        strcpy(address.sun_path, path);
        /* non-blocking: a listener with a full queue must not block us (EAGAIN) */
        int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (sock < 0) return -1;
        if (connect(sock, (struct sockaddr *)&address, sizeof address) < 0) {
            int error = errno; close(sock); errno = error; return -1;
        }
        return sock;
    }
    """
    ssize_t pyoci_send_fd(int sock, const char *data, size_t size, int fd) nogil
    ssize_t pyoci_receive_fds(int sock, char *data, size_t size, int *fds, int room, int *count) nogil
    int pyoci_connect(const char *path) nogil
    ssize_t pyoci_send "send"(int sock, const void *data, size_t size, int flags) nogil
    int MSG_NOSIGNAL, MSG_DONTWAIT


def connect_unix(path):
    """Connect a stream socket to `path`. A path of more than 107 bytes fails; use /proc/self/fd for it."""
    cdef bytes encoded = path_bytes(path)
    cdef int sock = pyoci_connect(encoded)
    if sock < 0:
        raise failure(str(path))
    return sock


def send_fd(int sock, bytes data, int fd):
    """Send `data` with one descriptor (SCM_RIGHTS). Returns how many bytes were sent: fewer if the queue is full."""
    cdef ssize_t sent = pyoci_send_fd(sock, data, len(data), fd)
    if sent < 0:
        raise failure()
    return sent


def receive_fds(int sock, size_t size):
    """Receive a message of at most `size` bytes, 8 KiB at most. Returns it with its descriptors, at most 16."""
    cdef int fds[18]  # the kernel rounds the control message up to whole words
    cdef int count = 0, i
    cdef ssize_t received
    cdef char data[8192]
    if size > sizeof(data):
        size = sizeof(data)
    with nogil:
        received = pyoci_receive_fds(sock, data, size, fds, 16, &count)
    if received < 0:
        raise failure()
    return data[:received], [fds[i] for i in range(count)]


def send(int sock, bytes data):
    """send(2) without waiting or SIGPIPE. Returns how many bytes were sent: fewer if the queue is full."""
    cdef ssize_t sent = pyoci_send(sock, <const char *>data, <size_t>len(data), MSG_NOSIGNAL | MSG_DONTWAIT)
    if sent < 0:
        raise failure()
    return sent


def hook(path, list argv, list env, int cwd_fd, int state_fd, int64_t timeout_ms):
    """Run a hook on the host and wait for its end. Returns (wait status, timed out, output).

    Waits forever if `timeout_ms` is 0. Raises OSError if the hook can't be executed.
    """
    cdef list strings = [path_bytes(text) for text in [path, *argv, *env]]
    cdef bytes joined = b"\0".join(strings)
    cdef size_t size = <size_t>len(joined) + 1
    cdef char *at = <char *>malloc(size)
    cdef char *program = at
    cdef char **table = <char **>malloc((len(strings) + 1) * sizeof(char *))
    cdef char **envp
    cdef char **entry = table
    cdef char output[MAX_PAYLOAD]
    cdef int length = 0, status = 0, step
    cdef Py_ssize_t i
    if at == NULL or table == NULL:
        free(at)
        free(table)
        raise MemoryError
    memcpy(at, <const char *>joined, size)
    for i in range(len(strings)):
        if i > 0:
            entry[0] = at
            entry += 1
        if i == len(argv):
            entry[0] = NULL
            entry += 1
        at += len(<bytes>strings[i]) + 1
    entry[0] = NULL
    envp = table + len(argv) + 1
    with nogil:
        step = run_hook(program, table, envp, cwd_fd, state_fd, timeout_ms, output, &length, &status)
    free(program)
    free(table)
    if step:
        raise failure(path if isinstance(path, str) else None)
    return status & ~HOOK_TIMED_OUT, bool(status & HOOK_TIMED_OUT), output[:length]


cdef extern from *:
    """
    #include <sys/signalfd.h>
    #include <termios.h>
    """
    int c_signalfd "signalfd"(int fd, const sigset_t *mask, int flags) nogil
    int SFD_CLOEXEC
    ctypedef unsigned int tcflag_t
    cdef struct termios:
        tcflag_t c_oflag
    int tcgetattr(int fd, termios *attributes) nogil
    int tcsetattr(int fd, int actions, const termios *attributes) nogil
    int ONLCR
    void cfmakeraw(termios *attributes) nogil
    int TCSANOW
    unsigned long TIOCGWINSZ


def signalfd():
    """Block all signals of this process. Returns a descriptor to read them from."""
    cdef sigset_t every
    sigfillset(&every)
    sigprocmask(SIG_SETMASK, &every, NULL)
    cdef int fd = c_signalfd(-1, &every, SFD_CLOEXEC)
    if fd < 0:
        raise failure()
    return fd


def make_raw(int fd):
    """Put a terminal into raw mode. Returns its previous attributes, or None if `fd` is not a terminal."""
    cdef termios before
    cdef termios raw
    if tcgetattr(fd, &before) < 0:
        return None
    raw = before
    cfmakeraw(&raw)
    if tcsetattr(fd, TCSANOW, &raw) < 0:
        raise failure()
    return (<char *>&before)[:sizeof(termios)]


def restore_terminal(int fd, bytes attributes):
    """Restore the attributes that `make_raw` returned. Does nothing if the terminal is gone."""
    tcsetattr(fd, TCSANOW, <termios *><char *>attributes)


def keep_newlines(int fd):
    """Make a terminal write newlines without carriage returns. Does nothing if `fd` is not a terminal."""
    cdef termios attributes
    if tcgetattr(fd, &attributes) == 0:
        attributes.c_oflag &= ~<tcflag_t>ONLCR
        tcsetattr(fd, TCSANOW, &attributes)


def copy_window_size(int source, int target):
    """Make the terminal `target` as large as `source`. Does nothing if `source` is not a terminal."""
    cdef winsize size
    if ioctl(source, TIOCGWINSZ, &size) == 0:
        ioctl(target, TIOCSWINSZ, &size)


def set_subreaper():
    """Adopt orphans among this process' descendants (PR_SET_CHILD_SUBREAPER)."""
    prctl(36, 1, 0, 0, 0)
