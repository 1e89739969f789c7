# The child runs a plan between clone and execve. This file has what it shares with the runtime: operations, records, numbers.
#
# Rules of native/child:
# - Every function is `noexcept nogil`. The child may be a copy of a Python process in which another thread held a lock, so
#   it touches no Python object, allocates nothing, and uses neither stdio nor locale.
# - The runtime lays out all strings and vectors before the clone.
# - A path of the container is resolved once, by openat2 with RESOLVE_IN_ROOT. After that only its descriptor is used.
# - A verb returns 0, or the step that failed, with errno set. The runtime makes a sentence of (operation, step, errno).

include "../_verbs.pxi"

cdef enum:  # the system call, or the check, that failed; names in STEPS, same order
    STEP_NONE, STEP_OPENAT2, STEP_MKDIRAT, STEP_OPENAT, STEP_FSTAT, STEP_FSOPEN, STEP_FSCONFIG, STEP_FSCONFIG_CREATE
    STEP_FSMOUNT, STEP_MOVE_MOUNT, STEP_OPEN_TREE, STEP_MOUNT_SETATTR, STEP_MKNODAT, STEP_FCHOWNAT, STEP_FCHMOD
    STEP_SYMLINKAT, STEP_FCHDIR, STEP_PIVOT_ROOT, STEP_UMOUNT2, STEP_CHDIR, STEP_GETCWD, STEP_SETNS, STEP_UNSHARE
    STEP_CLONE3, STEP_PRCTL, STEP_SETSID, STEP_WRITE, STEP_READ, STEP_IOCTL, STEP_DUP, STEP_SOCKET, STEP_KEYCTL
    STEP_PERSONALITY, STEP_SETGROUPS, STEP_SETRESGID, STEP_SETRESUID, STEP_CAPSET, STEP_CLOSE_RANGE, STEP_SECCOMP
    STEP_EXECVE, STEP_PIPE, STEP_POLL, STEP_WAITPID, STEP_CHROOT, STEP_FSPICK, STEP_SETHOSTNAME, STEP_SETDOMAINNAME
    STEP_FACCESSAT, STEP_STATFS, STEP_GETDENTS, STEP_READLINKAT, STEP_FCHMODAT
    STEP_CHANGED, STEP_TARGET_IS_ROOT, STEP_TARGET_IN_PROC, STEP_NOT_PROC, STEP_OTHER_NODE, STEP_NOT_DEVPTS
    STEP_NOT_FOUND, STEP_NOT_EXECUTABLE, STEP_IS_DIRECTORY, STEP_INTERPRETER, STEP_OUTSIDE, STEP_TIMEOUT, STEP_UNKNOWN
    STEP_CAPS_DIFFER, STEP_TOO_DEEP, STEP_CLONE, STEP_PRLIMIT, STEP_LABEL_DIFFERS, STEP_FSETXATTR
    STEP_SCHED_SETATTR, STEP_IOPRIO_SET, STEP_SET_MEMPOLICY, STEP_GET_MEMPOLICY, STEP_NODES_DIFFER, STEP_MOUNT

STEPS = (
    "", "openat2", "mkdirat", "openat", "fstat", "fsopen", "fsconfig", "fsconfig(create)",
    "fsmount", "move_mount", "open_tree", "mount_setattr", "mknodat", "fchownat", "fchmod",
    "symlinkat", "fchdir", "pivot_root", "umount2", "chdir", "getcwd", "setns", "unshare",
    "clone3", "prctl", "setsid", "write", "read", "ioctl", "dup", "socket", "keyctl",
    "personality", "setgroups", "setresgid", "setresuid", "capset", "close_range", "seccomp",
    "execve", "pipe2", "poll", "waitpid", "chroot", "fspick", "sethostname", "setdomainname",
    "faccessat2", "fstatfs", "getdents64", "readlinkat", "fchmodat",
    "changed", "target-is-root", "target-in-proc", "not-proc", "other-node", "not-devpts",
    "not-found", "not-executable", "is-directory", "interpreter", "outside", "timeout", "unknown-verb",
    "caps-differ", "too-deep", "clone", "prlimit", "label-differs", "fsetxattr",
    "sched_setattr", "ioprio_set", "set_mempolicy", "get_mempolicy", "nodes-differ", "mount",
)

cdef enum:  # of a record from the child; names in KINDS
    RECORD_SYNC = 1, RECORD_FAILED = 2, RECORD_EXEC = 3, RECORD_CLONED = 4

cdef enum:
    UNIX98_PTY_FIRST = 136  # majors of the terminals of a devpts
    UNIX98_PTY_LAST = 143
    NR_OPEN = 1 << 20  # no descriptor has a greater number, unless the host's limit was raised
    HOOK_TIMED_OUT = 1 << 30
    ON_NOEXEC_MOUNT = 1 << 16  # beside the mode of a program that may not be executed
    ST_NOEXEC = 8  # of statfs(2)
    INTERPRETER_LINE = 256  # what the kernel reads of a `#!` line
    INTERPRETERS = 5  # one for another, as the kernel goes
    BPF_MAXINSNS = 4096
    NEW_LISTENER = 8  # of seccomp(2)
    TSYNC_FLAGS = 0x11  # TSYNC, TSYNC_ESRCH
    THREAD_STACK = 8192
    HOOK_OUTPUT = 3072
    PATH_SIZE = 4096
    MAX_LINKS = 40  # as the kernel follows
    COPY_UP_DEPTH = 64
    NODE_MASK = 4096  # bytes: the largest mask of nodes that the kernel takes

cdef enum:  # what a program's file is, as its first bytes tell; an ELF file's machine stands above the lowest 8 bits
    FILE_UNKNOWN, FILE_SCRIPT, FILE_ELF, FILE_FOREIGN_ELF, FILE_PLAIN, FILE_EMPTY

cdef struct Record:
    uint32_t kind
    int32_t op
    int32_t step
    int32_t error
    uint32_t length
    uint32_t detail

cdef struct Context:
    const Op *ops
    int count
    int index
    const char *pool
    int *slots
    char *strings
    char *arguments_end
    char **vectors
    int channel
    int started
    unsigned int saved_umask
    int null_attached
    int mask_directory_attached
    int child_pid
    int detail
    int have_home
    int program_kind
    int told
    int held
    int unseen  # find_program could not tell whether the program exists: execve will
    int payload_length
    int passed  # a descriptor that goes with the next record, or -1
    char *thread_stack
    Record record  # and what goes with it, in one piece
    char payload[HOOK_OUTPUT]
    char program[PATH_SIZE]
    char home[PATH_SIZE]


# --- talking to the parent

cdef int report(Context *ctx, uint32_t kind, int step, int error) noexcept nogil:
    """One record: to the runtime that creates, or, after `wait_start`, to the one that starts."""
    ctx.record.kind = kind
    ctx.record.op = ctx.index
    ctx.record.step = step
    ctx.record.error = error
    ctx.record.detail = <uint32_t>ctx.detail
    ctx.record.length = <uint32_t>ctx.payload_length
    cdef int fd = ctx.slots[SLOT_RESULT_FIFO] if ctx.started else ctx.channel
    cdef size_t size = sizeof(Record) + <size_t>ctx.payload_length
    cdef ssize_t n
    if ctx.passed >= 0:
        n = pyoci_send_fd(fd, <const char *>&ctx.record, size, ctx.passed)
    else:
        n = write(fd, &ctx.record, size)  # which a seccomp filter is more likely to allow than another call
    ctx.passed = -1
    ctx.payload_length = 0
    ctx.detail = 0
    return 0 if n > 0 else -1


cdef void tell_exec(Context *ctx) noexcept nogil:
    """Tell `start` that what remains is execve: from here on silence means success. Before a filter that may forbid it."""
    if not ctx.told:
        report(ctx, RECORD_EXEC, 0, 0)
    ctx.told = 1


cdef void set_payload(Context *ctx, const char *text) noexcept nogil:
    cdef size_t n = strlen(text)
    if n > HOOK_OUTPUT:
        n = HOOK_OUTPUT
    memcpy(ctx.payload, text, n)
    ctx.payload_length = <int>n


cdef void set_payload_of_two(Context *ctx, const char *first, const char *second) noexcept nogil:
    """Both with a NUL between them, cut to what there is room for."""
    cdef size_t n = strlen(first), m = strlen(second)
    if n > HOOK_OUTPUT // 2:
        n = HOOK_OUTPUT // 2
    if m > HOOK_OUTPUT // 2 - 1:
        m = HOOK_OUTPUT // 2 - 1
    memcpy(ctx.payload, first, n)
    ctx.payload[n] = 0
    memcpy(ctx.payload + n + 1, second, m)
    ctx.payload_length = <int>(n + m + 1)


cdef int hear_parent(Context *ctx) noexcept nogil:
    """Wait for the parent's word: 1; 0 if the parent is gone, or sends anything but the runtime's answer."""
    cdef char word = 0
    cdef ssize_t n = read(ctx.channel, &word, 1)
    while n < 0 and errno == EINTR:
        n = read(ctx.channel, &word, 1)
    return n == 1 and word == 1


cdef int do_sync(Context *ctx, const Op *op) noexcept nogil:
    # Contract: tells the parent that this point is reached and waits for its word. EOF means that the parent is gone:
    # before the container is created that ends us; at SYNC_CREATED, with PDEATHSIG off, the container stands by itself.
    ctx.detail = <int>op.a
    report(ctx, RECORD_SYNC, 0, 0)
    if not hear_parent(ctx) and op.a != SYNC_CREATED:
        _exit(1)
    return 0
