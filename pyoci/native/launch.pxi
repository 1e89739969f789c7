# How the runtime starts the helper, the static executable that runs the child's part of a plan (native/child/).
#
# The new process shares the runtime's memory until it executes the helper (CLONE_VM), so nothing of a Python process is
# copied. It runs on a stack of its own, and makes two system calls. The runtime waits for it meanwhile (CLONE_VFORK):
# - The OOM killer spares a process that its parent waits for. It would kill both, because they share the memory.
# - So the runtime knows that the stack is free again, and whether execveat has failed.
# No signal handler of the runtime can run there (CLONE_CLEAR_SIGHAND).

cdef extern from *:
    """
    #include <fcntl.h>
    #include <linux/sched.h>
    #include "native/helper/raw.h"

    /* The helper's bytes: native/helper/embed.c */
    extern const char pyoci_helper_image[], pyoci_helper_image_end[];

    #ifndef CLONE_CLEAR_SIGHAND
    #define CLONE_CLEAR_SIGHAND 0x100000000ULL
    #endif
    #ifndef CLONE_INTO_CGROUP
    #define CLONE_INTO_CGROUP 0x200000000ULL
    #endif
    #ifndef MFD_EXEC
    #define MFD_NOEXEC_SEAL 0x0008U
    #define MFD_EXEC 0x0010U
    #endif

    struct pyoci_birth {
        int helper;
        int channel;
        int keeps_capabilities;
        char number[12]; /* of the channel's descriptor, in decimal; `c` follows if the helper gets capabilities */
        long error;
    };

    /* Lets execve keep the capabilities of a process that is not root in its user namespace, or has no ids there yet.
     * The helper gives up again what they are inherited by. */
    static inline __attribute__((always_inline)) void pyoci_keep_capabilities(void)
    {
        struct { uint32_t version; int pid; } header = {0x20080522, 0};
        struct { uint32_t effective, permitted, inheritable; } sets[2];
        if (pyoci_raw(SYS_capget, (long)&header, (long)sets, 0, 0, 0, 0) != 0)
            return;
        sets[0].inheritable = sets[0].permitted;
        sets[1].inheritable = sets[1].permitted;
        pyoci_raw(SYS_capset, (long)&header, (long)sets, 0, 0, 0, 0);
        for (long capability = 0; capability < 64; capability++)
            if (sets[capability / 32].permitted >> capability % 32 & 1)
                pyoci_raw(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0, 0);
    }

    /* All that the new process does before the helper runs. It shares the parent's memory, so it calls no function of
     * Python or the C library, and leaves errno alone. */
    __attribute__((noreturn, noinline)) PYOCI_UNGUARDED static void pyoci_become_helper(void *argument)
    {
        struct pyoci_birth *birth = argument;
        const char *const argv[] = {"init", birth->number, NULL};
        const char *const envp[] = {NULL};
        if (birth->keeps_capabilities)
            pyoci_keep_capabilities();
        birth->error = pyoci_raw(SYS_fcntl, birth->channel, F_SETFD, 0, 0, 0, 0);
        if (birth->error == 0)
            birth->error = pyoci_raw(SYS_execveat, birth->helper, (long)"", (long)argv, (long)envp, AT_EMPTY_PATH, 0);
        for (;;)
            pyoci_raw(SYS_exit_group, 127, 0, 0, 0, 0, 0);
    }
    """
    cdef struct pyoci_birth:
        int helper
        int channel
        int keeps_capabilities
        char number[12]
        long error
    void pyoci_become_helper(void *argument) nogil
    long pyoci_raw_clone3(const void *arguments, long size, void (*function)(void *) nogil, void *argument) nogil
    const char *pyoci_helper_image
    const char *pyoci_helper_image_end
    uint64_t CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP, CLONE_NEWUSER, CLONE_VFORK
    uid_t geteuid() nogil
    int memfd_create(const char *name, unsigned int flags) nogil
    int mprotect(void *address, size_t size, int protection) nogil
    unsigned int MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_EXEC, MFD_NOEXEC_SEAL
    int F_ADD_SEALS, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SETFD
    int PROT_NONE, MAP_STACK, MAP_POPULATE, _SC_PAGESIZE
    long sysconf(int name) nogil

cdef enum:
    LAUNCH_STACK = 16384  # bytes, above the guard page


cdef int write_all(int fd, const char *data, size_t size) noexcept:
    cdef ssize_t n
    while size:
        n = write(fd, data, size)
        if n < 0 and errno == EINTR:
            continue
        if n <= 0:
            return -1
        data += n
        size -= <size_t>n
    return 0


cdef int seal(int fd) noexcept:
    """Forbid every change of a memfd, and further seals."""
    return fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)


cdef int open_memfd(const char *name, bint executable) noexcept:
    """Make a memfd that can be sealed. Returns -1 with errno.

    The flag says whether it may be executed. With vm.memfd_noexec=2, Linux 6.3 to 6.5 refuse a memfd without the flag.
    Linux before 6.3 does not know it.
    """
    cdef unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING
    cdef int fd = memfd_create(name, flags | (MFD_EXEC if executable else MFD_NOEXEC_SEAL))
    if fd < 0 and errno == EINVAL:
        fd = memfd_create(name, flags)
    return fd


def new_memfd(str name, *, bint executable=False):
    """Make a memfd, which can be sealed and is close-on-exec."""
    cdef bytes encoded = name.encode()
    cdef int fd = open_memfd(encoded, executable)
    if fd < 0:
        raise failure()
    return fd


def write_helper(int fd, bint sealed, unsigned int mode):
    """Write the helper to an empty file, give that a mode, and seal it if it is a memfd."""
    cdef const char *image = pyoci_helper_image
    if (write_all(fd, image, <size_t>(pyoci_helper_image_end - image)) < 0 or fchmod(fd, <mode_t>mode) < 0
            or (sealed and seal(fd) < 0)):
        raise failure()


cdef long clone_helper(pyoci_birth *birth, uint64_t flags, int cgroup_fd, int *pidfd) noexcept:
    """Clone a process that executes the helper, and wait until it does. Returns its pid, or -1 with errno."""
    cdef clone_args args
    cdef long pid
    cdef size_t guard = <size_t>sysconf(_SC_PAGESIZE)  # of arm64 up to 64 KiB
    cdef size_t size = guard + LAUNCH_STACK
    # MAP_POPULATE: a page fault of the child counts for its cgroup. In a cgroup without memory it would last for ever,
    # because the kernel kills no process whose parent waits in vfork, and the runtime would wait with it.
    cdef int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_POPULATE
    cdef char *stack = <char *>mmap(NULL, size, PROT_READ | PROT_WRITE, kind, -1, 0)
    if <void *>stack == MAP_FAILED:
        return -1
    mprotect(stack, guard, PROT_NONE)
    memset(&args, 0, sizeof(args))
    args.flags = flags | CLONE_PIDFD | <uint64_t>CLONE_VM | CLONE_VFORK | CLONE_CLEAR_SIGHAND
    args.pidfd = <uint64_t><intptr_t>pidfd
    args.exit_signal = <uint64_t>SIGCHLD
    args.stack = <uint64_t><intptr_t>stack
    args.stack_size = size
    if cgroup_fd >= 0:
        args.flags |= CLONE_INTO_CGROUP
        args.cgroup = <uint64_t>cgroup_fd
    pid = pyoci_raw_clone3(&args, sizeof(args), pyoci_become_helper, birth)
    munmap(stack, size)
    if pid < 0:
        set_errno(<int>-pid)
        return -1
    return pid


def launch(int helper_fd, int channel_fd, uint64_t clone_flags, int cgroup_fd=-1):
    """Clone a process that executes the helper. Returns (pid, pidfd).

    The helper inherits its end of the channel, `channel_fd`, and what its caller has passed to the runtime. It then
    waits for `send_plan`.
    Raises OSError, whose `strerror` is the system call that failed: clone3, or execveat of the new process.
    """
    cdef pyoci_birth birth
    cdef int pidfd = -1, status
    cdef bint keeps = bool(clone_flags & CLONE_NEWUSER) or geteuid() != 0
    cdef bytes number = b"%dc" % channel_fd if keeps else b"%d" % channel_fd
    cdef long pid
    birth.helper = helper_fd
    birth.channel = channel_fd
    birth.keeps_capabilities = keeps
    memcpy(birth.number, <const char *>number, <size_t>len(number) + 1)
    birth.error = 0
    pid = clone_helper(&birth, clone_flags, cgroup_fd, &pidfd)
    if pid < 0:
        raise OSError(errno, "clone3")
    if birth.error:
        waitpid(<pid_t>pid, &status, 0)
        close(pidfd)
        raise OSError(-birth.error, "execveat")
    return pid, pidfd


cdef extern from *:
    """
    /* Send `count` descriptors with one word more. Waits while the queue is full. */
    static ssize_t pyoci_send_words(int sock, const int *words, const int *fds, int count)
    {
        size_t size = (size_t)count * sizeof(int);
        struct iovec iov = { .iov_base = (void *)words, .iov_len = sizeof(int) + size };
        union { struct cmsghdr header; char space[CMSG_SPACE(PYOCI_MAX_RIGHTS * sizeof(int))]; } control;
        struct msghdr message;
        memset(&message, 0, sizeof message);
        memset(&control.header, 0, sizeof control.header);
        message.msg_iov = &iov;
        message.msg_iovlen = 1;
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(size);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(c), fds, size);
        return sendmsg(sock, &message, MSG_NOSIGNAL);
    }
    """
    ssize_t pyoci_send_words(int sock, const int *words, const int *fds, int count) nogil


cdef int write_block(int fd, const char *block, size_t size) noexcept:
    """Write a block with its checksum, which follows the magic number."""
    cdef uint64_t checksum = block_checksum(block, size)
    if write_all(fd, block, size) < 0:
        return -1
    if size < 2 * sizeof(checksum):
        return 0
    return 0 if pwrite(fd, &checksum, sizeof(checksum), sizeof(checksum)) == <ssize_t>sizeof(checksum) else -1


def send_plan(int channel, bytes block, list slots):
    """Send a child its plan: the descriptors of `slots` that are not -1, then a sealed memfd with the block.

    Adds the checksum to the block.
    """
    cdef int words[MAX_RIGHTS + 1]
    cdef int fds[MAX_RIGHTS]
    cdef int count = 0, slot, fd
    cdef int memfd = open_memfd("plan", False)
    if memfd < 0:
        raise failure("memfd_create")
    try:
        if write_block(memfd, block, <size_t>len(block)) < 0 or seal(memfd) < 0:
            raise failure("write")
        words[0] = <int>len(slots)
        for slot in range(words[0]):
            fd = slots[slot]
            if fd < 0:
                continue
            fds[count] = fd
            count += 1
            words[count] = slot
            if count == MAX_RIGHTS:
                if pyoci_send_words(channel, words, fds, count) < 0:
                    raise failure("sendmsg")
                count = 0
        fds[count] = memfd
        count += 1
        words[count] = BLOCK_WORD
        if pyoci_send_words(channel, words, fds, count) < 0:
            raise failure("sendmsg")
    finally:
        close(memfd)
