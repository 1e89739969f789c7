# The executor: what runs in the child, between clone and execve.
#
# Rules of this file. Everything is `noexcept nogil`: no Python object is touched, nothing is allocated, no stdio, no
# locale; the process may have been forked from a Python that holds any lock. All strings and vectors were
# laid out by the parent. A path of the container is resolved once, in the root filesystem, to a descriptor
# (openat2 with RESOLVE_IN_ROOT), and only the descriptor is used afterwards. A verb returns 0, or the number
# of the step that failed with errno set. The parent turns (operation, step, errno) into prose.

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

cdef enum:  # the order of pyoci.compiler.operations.VERBS; a test compares them
    VERB_NONE, VERB_SET_PDEATHSIG, VERB_SET_DUMPABLE, VERB_SETSID, VERB_SET_UMASK, VERB_JOIN_NAMESPACE, VERB_UNSHARE
    VERB_SYNC, VERB_BECOME_ROOT, VERB_CLONE_INIT, VERB_OPEN_PROC, VERB_SET_PROPAGATION, VERB_ATTACH_ROOTFS
    VERB_BIND_MOUNT, VERB_MOUNT, VERB_REMOUNT, VERB_SET_MOUNT_ATTRIBUTES, VERB_MKNOD, VERB_BIND_DEVICE, VERB_SYMLINK
    VERB_RUN_HOOK, VERB_PIVOT_ROOT, VERB_MOVE_ROOT, VERB_MASK_PATH, VERB_READONLY_PATH, VERB_SET_HOSTNAME
    VERB_SET_DOMAINNAME, VERB_WRITE_SYSCTL, VERB_OPEN_CONSOLE, VERB_MOUNT_CONSOLE, VERB_WRITE_ATTR, VERB_JOIN_KEYRING
    VERB_SET_NO_NEW_PRIVS, VERB_SET_PERSONALITY, VERB_DROP_BOUNDING, VERB_SET_GROUPS, VERB_SET_IDS
    VERB_SET_CAPABILITIES, VERB_SET_AMBIENT, VERB_MAKE_DIRECTORY, VERB_CHDIR, VERB_FIND_PROGRAM, VERB_SET_HOME
    VERB_CHOWN_STDIO, VERB_LO_UP, VERB_RESET_AFFINITY, VERB_CLOSE_FDS, VERB_SET_RLIMIT, VERB_WAIT_START
    VERB_LOAD_SECCOMP, VERB_EXEC, VERB_OPEN_ROOT, VERB_TAKE_TERMINAL, VERB_RESET_SIGNALS, VERB_LABEL_MOUNT
    VERB_MAKE_MASK_DIRECTORY, VERB_ENTER_ROOT, VERB_OPEN_DEVICES, VERB_SET_SCHEDULER, VERB_SET_IO_PRIORITY
    VERB_SET_MEMORY_POLICY, VERB_CLONE_ROOTFS, VERB_CLONE_TREE, VERB_CLONE_DEVICE
    VERB_OPEN_BUNDLE, VERB_HIDE_CALLER, VERB_USE_TERMINAL

VERBS = (
    "", "set_pdeathsig", "set_dumpable", "setsid", "set_umask", "join_namespace", "unshare",
    "sync", "become_root", "clone_init", "open_proc", "set_propagation", "attach_rootfs",
    "bind_mount", "mount", "remount", "set_mount_attributes", "mknod", "bind_device", "symlink",
    "run_hook", "pivot_root", "move_root", "mask_path", "readonly_path", "set_hostname",
    "set_domainname", "write_sysctl", "open_console", "mount_console", "write_attr", "join_keyring",
    "set_no_new_privs", "set_personality", "drop_bounding", "set_groups", "set_ids",
    "set_capabilities", "set_ambient", "make_directory", "chdir", "find_program", "set_home",
    "chown_stdio", "lo_up", "reset_affinity", "close_fds", "set_rlimit", "wait_start",
    "load_seccomp", "exec", "open_root", "take_terminal", "reset_signals", "label_mount",
    "make_mask_directory", "enter_root", "open_devices", "set_scheduler", "set_io_priority",
    "set_memory_policy", "clone_rootfs", "clone_tree", "clone_device", "open_bundle",
    "hide_caller", "use_terminal",
)

cdef enum:  # descriptors that both sides know by number; pyoci.compiler.operations has the same names
    SLOT_ROOTFS, SLOT_CHANNEL, SLOT_EXEC_FIFO, SLOT_RESULT_FIFO, SLOT_HOOK_STATE, SLOT_START_STATE, SLOT_BUNDLE
    SLOT_NULL, SLOT_PROC, SLOT_CONSOLE, SLOT_MASK_DIRECTORY, SLOT_FILTER
    SLOT_CREATE_STATE, SLOT_NOTIFY_FOLDER, SLOT_HOST_PROC, SLOT_JOINED_PIDS

cdef enum:  # of an operation
    TARGET_REAL = 2        # the target must be a directory reached through no symlink (proc, sysfs)
    TARGET_PROC = 4        # the target is /proc: only the root of a procfs may go there
    TARGET_BELOW_PROC = 8  # the target is one of the files below /proc that lxcfs may cover
    LEAVE_AS_IT_IS = 1     # a node that is there keeps its mode and its owner
    ADD_HOME = 1           # a hook's environment is the program's
    OUTSIDE_PIDS = 1       # this process is not in the container's pid namespace: its /proc/self is not there
    QUIET = 1              # more than execve follows: `load_seccomp` doesn't announce the program
    COPY_UP = 16           # a new tmpfs receives what its target held (tmpcopyup)
    INHERIT_MODE = 32      # a new tmpfs takes its mode from the target, if that was there before
    ONE_STRING = 128       # the options are for mount(2): `source=` with the source, then one string with the others

cdef enum:
    SYNC_CREATED = 6
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

cdef struct Op:
    uint16_t code
    uint16_t flags
    uint32_t s1
    uint32_t s2
    uint32_t s3
    int64_t a
    int64_t b
    int64_t c
    int64_t d

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


# --- talking to the parent ---------------------------------------------------------------------------

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


# --- paths of the container ----------------------------------------------------------------------------

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


cdef int on_procfs(int fd) noexcept nogil:
    cdef statfs_t fs
    return fstatfs(fd, &fs) == 0 and fs.f_type == PROC_SUPER_MAGIC


cdef int is_proc_root(int fd) noexcept nogil:
    cdef stat_t st
    return on_procfs(fd) and fstat(fd, &st) == 0 and st.st_ino == 1


# --- namespaces and the process itself -------------------------------------------------------------------

cdef int do_join_namespace(Context *ctx, const Op *op) noexcept nogil:
    if setns(ctx.slots[op.a], <int>op.b) < 0:
        return STEP_SETNS
    return 0


cdef int do_become_root(Context *ctx, const Op *op) noexcept nogil:
    # Contract: uid and gid 0 of the user namespace, which has its maps by now.
    if syscall(SYS_setresgid, 0, 0, 0) < 0:
        return STEP_SETRESGID
    if syscall(SYS_setresuid, 0, 0, 0) < 0:
        return STEP_SETRESUID
    # the credentials changed: dumpable and the parent-death signal went with them
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    return 0


cdef int do_clone_init(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the program's process is cloned as a child of the runtime (CLONE_PARENT); this bootstrap process
    # reports its pid and ends. The caller goes on only in the new process, and only when the runtime knows it: what it
    # reports must not come before its pid. It is not dumpable, as this one is not; signal a, unless 0, tells it that the
    # runtime has ended, and in any case the end of the channel does.
    #
    # clone, not clone3, which engines' seccomp profiles answer with ENOSYS: the filter may be there already.
    cdef long pid = syscall(SYS_clone, CLONE_PARENT, NULL, NULL, NULL, NULL)
    if pid < 0:
        return STEP_CLONE
    if pid > 0:
        ctx.detail = <int>pid
        report(ctx, RECORD_CLONED, 0, 0)
        _exit(0)
    if op.a:
        prctl(PR_SET_PDEATHSIG, <unsigned long>op.a, 0, 0, 0)
    if not hear_parent(ctx):
        _exit(1)
    return 0


cdef int do_open_proc(Context *ctx, const Op *op) noexcept nogil:
    # Contract: a procfs of our own, never attached anywhere, so that nothing can be mounted over its files; with a set,
    # the one at /proc, which has to be one. The kernel gives no new one to a user namespace whose /proc has files covered,
    # which are locked so, nor to one that does not own the pid namespace: then that at /proc has to do.
    cdef int step, error, visible
    if op.a:
        ctx.slots[SLOT_PROC] = open_visible_proc()
        return STEP_OPENAT2 if ctx.slots[SLOT_PROC] < 0 else 0
    step = open_own_proc(ctx)
    error = errno
    if error == EPERM and (step == STEP_FSMOUNT or step == STEP_FSCONFIG_CREATE):
        visible = open_visible_proc()
        if visible >= 0:
            close(visible)
            return 0
    set_errno(error)
    return step


cdef int open_visible_proc() noexcept nogil:
    """The procfs that is mounted on /proc: the root of one, by what it is."""
    cdef open_how how
    cdef int fd
    how.flags = <uint64_t>(O_PATH | O_DIRECTORY | O_CLOEXEC)
    how.mode = 0
    how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    fd = <int>syscall(SYS_openat2, AT_FDCWD, "/proc", &how, sizeof(how))
    if fd >= 0 and not is_proc_root(fd):
        close(fd)
        set_errno(EACCES)
        return -1
    return fd


cdef int show_joined_pids(Context *ctx, int fs) noexcept nogil:
    """Have a new procfs show the pid namespace that this process has joined for its children, not its own (Linux 6.17)."""
    if ctx.slots[SLOT_JOINED_PIDS] < 0:
        return 0
    return <int>syscall(SYS_fsconfig, fs, FSCONFIG_SET_FD, "pidns", NULL, ctx.slots[SLOT_JOINED_PIDS])


cdef int open_own_proc(Context *ctx) noexcept nogil:
    cdef int fs = <int>syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC)
    if fs < 0:
        return STEP_FSOPEN
    if show_joined_pids(ctx, fs) < 0:
        return STEP_FSCONFIG
    if syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0:
        return STEP_FSCONFIG_CREATE
    cdef int tree = <int>syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
    cdef int error = errno
    close(fs)
    set_errno(error)
    if tree < 0:
        return STEP_FSMOUNT
    ctx.slots[SLOT_PROC] = tree
    return 0


cdef int proc_of(Context *ctx, const char *path) noexcept nogil:
    """The procfs to look `path` up in, -1 if none is open. One of the container's does not show a process that is outside of
    its pid namespace: for that there is the host's."""
    if ctx.slots[SLOT_HOST_PROC] >= 0 and strncmp(path, "thread-self/", 12) == 0:
        return ctx.slots[SLOT_HOST_PROC]
    return ctx.slots[SLOT_PROC]


cdef int open_in_proc(Context *ctx, const char *path, int flags, int *step) noexcept nogil:
    """A file of procfs, which really is one, and over which nothing is mounted.

    AppArmor takes the files of a procfs that is mounted nowhere for others, such as /sys/net/…, and may refuse them. Then
    the one at /proc is used: before the pivot the host's, after it the container's.
    """
    cdef open_how how
    cdef int fd = -1, visible
    how.flags = <uint64_t>(flags | O_CLOEXEC | O_NOFOLLOW)
    how.mode = 0
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS
    step[0] = STEP_OPENAT2
    set_errno(EACCES)
    cdef int proc = proc_of(ctx, path)
    if proc >= 0:
        fd = <int>syscall(SYS_openat2, proc, path, &how, sizeof(how))
    if fd < 0 and errno == EACCES:
        visible = open_visible_proc()
        if visible >= 0:
            fd = <int>syscall(SYS_openat2, visible, path, &how, sizeof(how))
            close(visible)
        else:
            set_errno(EACCES)
    if fd < 0:
        return -1
    if not on_procfs(fd):
        close(fd)
        set_errno(EPERM)
        step[0] = STEP_NOT_PROC
        return -1
    return fd


cdef int write_in_proc(Context *ctx, const char *path, const char *value, size_t length) noexcept nogil:
    cdef int step, error
    cdef ssize_t n
    cdef int fd = open_in_proc(ctx, path, O_WRONLY, &step)
    if fd < 0:
        return step
    n = write(fd, value, length)
    if n >= 0 and <size_t>n != length:
        set_errno(EINVAL)
        n = -1
    error = errno
    close(fd)
    set_errno(error)
    return STEP_WRITE if n < 0 else 0


cdef int do_write_attr(Context *ctx, const Op *op) noexcept nogil:
    # Contract: s2, of a bytes, is written to this thread's attribute s1 of a security module, for the next execve of this
    # very thread; what the module made of it is read back, and begins with s3.
    cdef char found[256]
    cdef ssize_t n
    cdef size_t expected = strlen(ctx.pool + op.s3)
    cdef int fd
    cdef int step = write_in_proc(ctx, ctx.pool + op.s1, ctx.pool + op.s2, <size_t>op.a)
    if step:
        return step
    fd = open_in_proc(ctx, ctx.pool + op.s1, O_RDONLY, &step)
    if fd < 0:
        return step
    n = read(fd, found, sizeof(found))
    if n < 0:
        return STEP_READ
    close(fd)
    if expected > sizeof(found):
        expected = sizeof(found)
    if n == 0 or <size_t>n < expected or memcmp(found, ctx.pool + op.s3, expected) != 0:
        set_errno(EINVAL)
        return STEP_LABEL_DIFFERS
    return 0


cdef int do_label_mount(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the root of the mount in slot a gets SELinux context s1, of b bytes with its end: for a filesystem that
    # exists already when it is mounted, and can't be given one then. A policy that has no labels for it has its way.
    cdef int fd = openat(ctx.slots[op.a], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if fd < 0:
        return STEP_OPENAT
    if syscall(SYS_fsetxattr, fd, "security.selinux", ctx.pool + op.s1, <size_t>op.b, 0) < 0 and errno != EOPNOTSUPP:
        return STEP_FSETXATTR
    close(fd)
    return 0


cdef int do_lo_up(Context *ctx, const Op *op) noexcept nogil:
    cdef ifreq request
    cdef int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    if fd < 0:
        return STEP_SOCKET
    memset(&request, 0, sizeof(request))
    memcpy(request.ifr_name, <const char *>"lo", 3)
    if ioctl(fd, SIOCGIFFLAGS, &request) < 0:
        return STEP_IOCTL
    request.ifr_flags = <short>(request.ifr_flags | IFF_UP)
    if ioctl(fd, SIOCSIFFLAGS, &request) < 0:
        return STEP_IOCTL
    close(fd)
    return 0


cdef int do_reset_affinity(Context *ctx, const Op *op) noexcept nogil:
    # Contract: every processor of the cgroup; a refusal leaves the caller's set, which is no fault.
    cdef uint8_t every[1024]
    memset(every, 0xFF, sizeof(every))
    syscall(SYS_sched_setaffinity, 0, sizeof(every), <void *>every)
    return 0


# --- mounts -------------------------------------------------------------------------------------------------

cdef int set_attributes(int dirfd, const char *path, unsigned int flags, uint64_t set_, uint64_t clear,
                        uint64_t propagation) noexcept nogil:
    cdef mount_attr attr
    attr.attr_set = set_
    attr.attr_clr = clear
    attr.propagation = propagation
    attr.userns_fd = 0
    return <int>syscall(SYS_mount_setattr, dirfd, path, flags, &attr, sizeof(attr))


cdef int map_ids(int tree, unsigned int recursive, int userns) noexcept nogil:
    """Give a mount that was never attached the id mapping of a user namespace."""
    cdef mount_attr attr
    memset(&attr, 0, sizeof(attr))
    attr.attr_set = MOUNT_ATTR_IDMAP
    attr.userns_fd = <uint64_t>userns
    return <int>syscall(SYS_mount_setattr, tree, "", recursive | <unsigned int>AT_EMPTY_PATH, &attr, sizeof(attr))


cdef int do_set_propagation(Context *ctx, const Op *op) noexcept nogil:
    cdef unsigned int flags = AT_RECURSIVE if op.c else 0
    cdef int done
    if op.a < 0:
        done = set_attributes(AT_FDCWD, ctx.pool + op.s1, flags, 0, 0, <uint64_t>op.b)
    else:
        done = set_attributes(ctx.slots[op.a], "", flags | <unsigned int>AT_EMPTY_PATH, 0, 0, <uint64_t>op.b)
    return STEP_MOUNT_SETATTR if done < 0 else 0


cdef int do_set_mount_attributes(Context *ctx, const Op *op) noexcept nogil:
    cdef unsigned int flags = <unsigned int>AT_EMPTY_PATH
    if op.d:
        flags |= AT_RECURSIVE
    if set_attributes(ctx.slots[op.a], "", flags, <uint64_t>op.b, <uint64_t>op.c, 0) < 0:
        return STEP_MOUNT_SETATTR
    return 0


cdef int clone_mount(const char *path, unsigned int flags) noexcept nogil:
    return <int>syscall(SYS_open_tree, AT_FDCWD, path, flags | <unsigned int>OPEN_TREE_CLONE | <unsigned int>O_CLOEXEC)


cdef int do_clone_rootfs(Context *ctx, const Op *op) noexcept nogil:
    # Contract: slot a is a clone of the mounts at s1, a directory and no symlink, which get nothing back from the host's.
    # By this process, where the runtime is no root: it is root of the user namespace to which its copy of the mounts belongs.
    cdef int directory = openat(AT_FDCWD, ctx.pool + op.s1, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    if directory < 0:
        return STEP_OPENAT
    ctx.slots[op.a] = <int>syscall(SYS_open_tree, directory, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | O_CLOEXEC)
    close(directory)
    if ctx.slots[op.a] < 0:
        return STEP_OPEN_TREE
    return STEP_MOUNT_SETATTR if set_attributes(ctx.slots[op.a], "", AT_EMPTY_PATH | AT_RECURSIVE, 0, 0, MS_SLAVE) < 0 else 0


cdef int do_clone_tree(Context *ctx, const Op *op) noexcept nogil:
    # Contract: slot a is a clone of the mount at s1, with bit 0 of the flags of those below it, too; with bit 1 a slave of
    # the host's; with bit 2 of a symlink at s1 itself; with bit 3 it is the container's notify folder, or it is refused. It has attributes b set and c cleared, and all of the clone the
    # lower half of d set, the upper one cleared.
    cdef uint64_t all_set = <uint32_t>op.d, all_clear = <uint64_t>op.d >> 32
    cdef unsigned int all = <unsigned int>AT_EMPTY_PATH | <unsigned int>AT_RECURSIVE
    cdef unsigned int how = <unsigned int>AT_RECURSIVE if op.flags & 1 else 0
    if op.flags & 4:
        how |= <unsigned int>AT_SYMLINK_NOFOLLOW
    cdef int tree = clone_mount(ctx.pool + op.s1, how)
    if tree < 0:
        return STEP_OPEN_TREE
    ctx.slots[op.a] = tree
    if op.flags & 8 and not is_same_file(tree, ctx.slots[SLOT_NOTIFY_FOLDER]):
        set_errno(EBUSY)
        return STEP_CHANGED
    if op.flags & 2 and set_attributes(tree, "", all, 0, 0, MS_SLAVE) < 0:
        return STEP_MOUNT_SETATTR
    if (all_set or all_clear) and set_attributes(tree, "", all, all_set, all_clear, 0) < 0:
        return STEP_MOUNT_SETATTR
    if (op.b or op.c) and set_attributes(tree, "", AT_EMPTY_PATH, <uint64_t>op.b, <uint64_t>op.c, 0) < 0:
        return STEP_MOUNT_SETATTR
    return 0


cdef int do_clone_device(Context *ctx, const Op *op) noexcept nogil:
    # Contract: slot a is a clone of the host's node s1, which is device b:c of type s2; it shares nothing with the host's.
    cdef stat_t st
    cdef mode_t kind = S_IFBLK if (ctx.pool + op.s2)[0] == c'b' else S_IFCHR
    cdef int tree = clone_mount(ctx.pool + op.s1, AT_SYMLINK_NOFOLLOW)
    if tree < 0:
        return STEP_OPEN_TREE
    ctx.slots[op.a] = tree
    if set_attributes(tree, "", AT_EMPTY_PATH, 0, 0, MS_PRIVATE) < 0:
        return STEP_MOUNT_SETATTR
    if fstat(tree, &st) < 0:
        return STEP_FSTAT
    if st.st_mode & S_IFMT != kind or major(st.st_rdev) != op.b or minor(st.st_rdev) != op.c:
        set_errno(ENODEV)
        return STEP_OTHER_NODE
    return 0


cdef int do_attach_rootfs(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the tree that the runtime cloned from root.path is attached on root.path of this mount namespace,
    # where createContainer hooks look for it. The slot stays the root directory's descriptor.
    cdef int target = openat(AT_FDCWD, ctx.pool + op.s1, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    cdef int done
    if target < 0:
        return STEP_OPENAT
    if not is_same_file(target, ctx.slots[SLOT_ROOTFS]):
        set_errno(EBUSY)
        return STEP_CHANGED
    done = <int>syscall(SYS_move_mount, ctx.slots[SLOT_ROOTFS], "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    close(target)
    return STEP_MOVE_MOUNT if done < 0 else 0


cdef int do_open_bundle(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the descriptor of the bundle is that of the same directory in this mount namespace, found at s1. From there
    # a hook sees the root filesystem with what is mounted in it, and may mount; the runtime's own leads to the runtime's
    # mounts, to which this process has no right.
    cdef int bundle = openat(AT_FDCWD, ctx.pool + op.s1, O_PATH | O_DIRECTORY | O_CLOEXEC)
    if bundle < 0:
        return STEP_OPENAT
    if not is_same_file(bundle, ctx.slots[SLOT_BUNDLE]):
        set_errno(EBUSY)
        return STEP_CHANGED
    close(ctx.slots[SLOT_BUNDLE])
    ctx.slots[SLOT_BUNDLE] = bundle
    return 0


cdef int open_real(int rootfs, const char *path, int *existed, int *step) noexcept nogil:
    """Descriptor of a directory reached through no symlink; it is made if missing."""
    cdef uint64_t flags = O_PATH | O_DIRECTORY
    cdef int fd = open_in_root(rootfs, path, flags, RESOLVE_NO_SYMLINKS)
    step[0] = STEP_OPENAT2
    existed[0] = 1
    if fd >= 0 or errno != ENOENT:
        return fd
    fd = make_in_root(rootfs, path, True, 0, existed, step)
    if fd < 0:
        return -1
    close(fd)
    step[0] = STEP_OPENAT2
    return open_in_root(rootfs, path, flags, RESOLVE_NO_SYMLINKS)


cdef int open_target(Context *ctx, const Op *op, const char *path, bint directory, int *existed, int *step) noexcept nogil:
    """The mount point, resolved once, made if it is missing; refused where a mount would deceive the rest of the set-up."""
    cdef int rootfs = ctx.slots[SLOT_ROOTFS]
    cdef int fd = -1
    if op.flags & TARGET_REAL:
        fd = open_real(rootfs, path, existed, step)
    else:
        fd = make_in_root(rootfs, path, directory, MAX_LINKS, existed, step)
    if fd < 0:
        return -1
    if is_same_file(fd, rootfs):
        step[0] = STEP_TARGET_IS_ROOT
        set_errno(EINVAL)
        close(fd)
        return -1
    if on_procfs(fd) and not op.flags & (TARGET_PROC | TARGET_BELOW_PROC):
        step[0] = STEP_TARGET_IN_PROC
        set_errno(EPERM)
        close(fd)
        return -1
    return fd


cdef int attach(int tree, int target) noexcept nogil:
    """Mount `tree` on `target`; ENOTDIR, where the kernel says EINVAL, if one is a directory and the other is not."""
    cdef stat_t source, covered
    if syscall(SYS_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0:
        return 0
    if errno == EINVAL:
        if fstat(tree, &source) < 0 or fstat(target, &covered) < 0:
            set_errno(EINVAL)
        elif (source.st_mode & S_IFMT == S_IFDIR) != (covered.st_mode & S_IFMT == S_IFDIR):
            set_errno(ENOTDIR)
    return -1


cdef int copy_symlink(Context *ctx, const Op *op, int source) noexcept nogil:
    """The destination is a link of the source's text; one that is there already may stay, anything else may not."""
    cdef char buffer[PATH_SIZE]
    cdef char text[PATH_SIZE]
    cdef char present[PATH_SIZE]
    cdef char *name = NULL
    cdef int step = 0, directory
    cdef ssize_t length = readlinkat(source, "", text, sizeof(text) - 1)
    if length < 0:
        return STEP_READLINKAT
    text[length] = 0
    if op.flags & TARGET_REAL:
        set_errno(ELOOP)
        return STEP_OPENAT2
    directory = open_parent(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s1, buffer, &name, &step)
    if directory < 0:
        return step
    if symlinkat(text, directory, name) < 0:
        if errno != EEXIST:
            return STEP_SYMLINKAT
        if readlinkat(directory, name, present, sizeof(present)) != length or memcmp(text, present, <size_t>length):
            set_errno(EEXIST)
            return STEP_SYMLINKAT
    close(directory)
    return 0


cdef int do_bind_mount(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the source was cloned, with its attributes set, before the first mount; it is attached as it is. A mount
    # point that is missing is made like it. The detail of a failure is 1 if the source is no directory. A clone of a
    # symlink is not attached, but copied.
    cdef stat_t source
    cdef int existed = 0, step = 0, done, target
    cdef int tree = ctx.slots[op.a]
    if fstat(tree, &source) < 0:
        return STEP_FSTAT
    if source.st_mode & S_IFMT == S_IFLNK:
        return copy_symlink(ctx, op, tree)
    ctx.detail = source.st_mode & S_IFMT != S_IFDIR
    target = open_target(ctx, op, ctx.pool + op.s1, not ctx.detail, &existed, &step)
    if target < 0:
        return step
    if op.flags & TARGET_PROC and not is_proc_root(tree):
        set_errno(EPERM)
        return STEP_NOT_PROC
    done = attach(tree, target)
    close(target)
    if done < 0:
        return STEP_MOVE_MOUNT
    ctx.detail = 0
    return 0


cdef int configure(Context *ctx, int fs, const char *options, int64_t count) noexcept nogil:
    """Hand `count` NUL-terminated `key` or `key=value` strings to the filesystem; the failing one in ctx.detail."""
    cdef const char *cursor = options
    cdef char key[256]
    cdef const char *value
    cdef size_t n
    cdef int64_t i
    cdef long done
    for i in range(count):
        value = strchr(cursor, c'=')
        if value == NULL:
            done = syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, cursor, NULL, 0)
        else:
            n = <size_t>(value - cursor)
            if n >= sizeof(key):
                set_errno(EINVAL)
                done = -1
            else:
                memcpy(key, cursor, n)
                key[n] = 0
                done = syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value + 1, 0)
        if done < 0:
            ctx.detail = <int>i + 1
            return -1
        cursor += strlen(cursor) + 1
    return 0


cdef int refused(Context *ctx, int fs, int step) noexcept nogil:
    """`step`, after the filesystem's own words, if it has any, went to the payload."""
    cdef int error = errno
    cdef ssize_t n = read(fs, ctx.payload, HOOK_OUTPUT)
    if n > 0:
        ctx.payload_length = <int>n
    set_errno(error)
    return step


cdef int inherit_mode(int fs, int target) noexcept nogil:
    """`mode=` of a new tmpfs from the directory it will cover."""
    cdef stat_t st
    cdef char text[8]
    cdef int i
    cdef unsigned int mode
    if fstat(target, &st) < 0:
        return -1
    mode = st.st_mode & 0o7777
    for i in range(4):
        text[i] = <char>(c'0' + ((mode >> (9 - 3 * i)) & 7))
    text[4] = 0
    return <int>syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", text, 0)


cdef int new_place() noexcept nogil:
    """A tmpfs for root alone, attached nowhere."""
    cdef int tree = -1, error
    cdef int fs = <int>syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC)
    if fs < 0:
        return -1
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0700", 0) == 0
            and syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0):
        tree = <int>syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
    error = errno
    close(fs)
    set_errno(error)
    return tree


cdef int mount_in(Context *ctx, const Op *op, int place, int *tree) noexcept nogil:
    """Mount the filesystem on a new directory of `place`, and clone that mount."""
    cdef const char *source = strchr(ctx.pool + op.s2, c'=') + 1
    cdef const char *options = source + strlen(source) + 1
    cdef stat_t ours, its
    cdef int point
    if mkdirat(place, "m", 0o700) < 0:
        return STEP_MKDIRAT
    point = openat(place, "m", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    if point < 0:
        return STEP_OPENAT
    if fchdir(point) < 0:
        return STEP_FCHDIR
    if syscall(SYS_mount, source, ".", ctx.pool + op.s1, <unsigned long>op.a, options) < 0:
        return STEP_MOUNT
    tree[0] = <int>syscall(SYS_open_tree, place, "m", OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW | O_CLOEXEC)
    if tree[0] < 0:
        return STEP_OPEN_TREE
    if fstat(place, &ours) < 0 or fstat(tree[0], &its) < 0:
        return STEP_FSTAT
    if ours.st_dev == its.st_dev:
        set_errno(EBUSY)
        return STEP_CHANGED
    close(point)
    return 0


cdef int mount_one_string(Context *ctx, const Op *op, int target, bint existed, int *tree) noexcept nogil:
    """A filesystem by mount(2), which takes options that are too long for fsconfig(2): attached nowhere, like one of
    fsmount(2).

    mount(2) needs a place in this mount namespace: a directory of a tmpfs that no other process has. The tmpfs lies on
    the host's `/` meanwhile, where it hides nothing: the kernel resolves absolute paths, such as those of layers, from
    this process' root, which is below it.
    """
    cdef uint64_t attributes = <uint64_t>op.b
    cdef stat_t st
    cdef int step, error, directory
    if strcmp(ctx.pool + op.s1, "proc") == 0 and ctx.slots[SLOT_JOINED_PIDS] >= 0:
        set_errno(EINVAL)  # mount(2) takes no descriptor of the pid namespace to show
        return STEP_MOUNT
    cdef int place = new_place()
    cdef int root = openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC)
    if place < 0:
        return STEP_FSMOUNT
    if root < 0:
        return STEP_OPENAT
    if attach(place, root) < 0:
        return STEP_MOVE_MOUNT
    step = mount_in(ctx, op, place, tree)
    error = errno
    if fchdir(place) < 0:
        return STEP_FCHDIR
    if syscall(SYS_umount2, ".", MNT_DETACH) < 0:
        return STEP_UMOUNT2
    if fchdir(root) < 0:
        return STEP_FCHDIR
    close(root)
    close(place)
    set_errno(error)
    if step:
        return step
    if set_attributes(tree[0], "", AT_EMPTY_PATH, attributes, MOUNT_ATTR_ATIME if attributes & MOUNT_ATTR_ATIME else 0, 0) < 0:
        return STEP_MOUNT_SETATTR
    if op.flags & INHERIT_MODE and existed:
        directory = openat(tree[0], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if directory < 0:
            return STEP_OPENAT
        if fstat(target, &st) < 0 or fchmod(directory, st.st_mode & 0o7777) < 0:
            return STEP_FCHMOD
        close(directory)
    return 0


cdef int mount_by_steps(Context *ctx, const Op *op, int target, bint existed, int *tree) noexcept nogil:
    """A filesystem by fsopen … fsmount, one option at a time."""
    cdef int fs = <int>syscall(SYS_fsopen, ctx.pool + op.s1, FSOPEN_CLOEXEC)
    if fs < 0:
        return STEP_FSOPEN
    if strcmp(ctx.pool + op.s1, "proc") == 0 and show_joined_pids(ctx, fs) < 0:
        return refused(ctx, fs, STEP_FSCONFIG)
    if configure(ctx, fs, ctx.pool + op.s2, op.a) < 0:
        return refused(ctx, fs, STEP_FSCONFIG)
    if op.flags & INHERIT_MODE and existed and inherit_mode(fs, target) < 0:
        return refused(ctx, fs, STEP_FSCONFIG)
    if syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0:
        return refused(ctx, fs, STEP_FSCONFIG_CREATE)
    tree[0] = <int>syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, <unsigned int>op.b)
    if tree[0] < 0:
        return STEP_FSMOUNT
    close(fs)
    return 0


cdef int do_mount(Context *ctx, const Op *op) noexcept nogil:
    # Contract: a filesystem of our own making, attached on a target resolved once.
    # s1 type, s2 options, a their number, b mount attributes, c the slot which keeps the mount, s3 destination, d the slot
    # of the user namespace whose id mapping the mount gets, 0 for none. With ONE_STRING s2 are the source and the options
    # of mount(2), a its flags.
    cdef int existed = 0, step = 0, tree = -1, target
    target = open_target(ctx, op, ctx.pool + op.s3, True, &existed, &step)
    if target < 0:
        return step
    if op.flags & ONE_STRING:
        step = mount_one_string(ctx, op, target, existed, &tree)
    else:
        step = mount_by_steps(ctx, op, target, existed, &tree)
    if step:
        return step
    if op.flags & TARGET_PROC and not is_proc_root(tree):
        set_errno(EPERM)
        return STEP_NOT_PROC
    if op.flags & COPY_UP:
        step = copy_up(target, tree, 0)
        if step:
            return step
    # after the copy, whose owners are the filesystem's: through the mapping root may not be able to make anything
    if op.d and map_ids(tree, 0, ctx.slots[op.d]) < 0:
        return STEP_MOUNT_SETATTR
    if attach(tree, target) < 0:
        return STEP_MOVE_MOUNT
    close(target)
    ctx.slots[op.c] = tree
    return 0


cdef int do_remount(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the mount at s1 gets attributes b set and c cleared, and the propagation in d; with bit 0 of d set all that
    # is mounted below it, too. Its filesystem gets the options.
    cdef int fs, done
    cdef unsigned int flags = <unsigned int>AT_EMPTY_PATH | (AT_RECURSIVE if op.d & 1 else 0)
    cdef int target = open_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s1, O_PATH, 0)
    if target < 0:
        return STEP_OPENAT2
    if op.b or op.c or op.d:
        done = set_attributes(target, "", flags, <uint64_t>op.b, <uint64_t>op.c, <uint64_t>(op.d & ~1))
        if done < 0:
            return STEP_MOUNT_SETATTR
    if op.a:
        fs = <int>syscall(SYS_fspick, target, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH)
        if fs < 0:
            return STEP_FSPICK
        if configure(ctx, fs, ctx.pool + op.s2, op.a) < 0:
            return refused(ctx, fs, STEP_FSCONFIG)
        if syscall(SYS_fsconfig, fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0:
            return refused(ctx, fs, STEP_FSCONFIG_CREATE)
        close(fs)
    close(target)
    return 0


# --- tmpcopyup ------------------------------------------------------------------------------------------------

cdef struct linux_dirent64:
    uint64_t d_ino
    int64_t d_off
    unsigned short d_reclen
    unsigned char d_type
    char d_name[1]


cdef int copy_contents(int source, int target) noexcept nogil:
    cdef char buffer[16384]
    cdef ssize_t n, done, m
    while True:
        n = read(source, buffer, sizeof(buffer))
        if n == 0:
            return 0
        if n < 0:
            return STEP_READ
        done = 0
        while done < n:
            m = write(target, buffer + done, <size_t>(n - done))
            if m < 0:
                return STEP_WRITE
            done += m


cdef int copy_entry(int source, int target, const char *name, int depth) noexcept nogil:
    """One directory entry, with its owner and mode. Links are copied as links, device nodes and sockets as nodes."""
    cdef stat_t st
    cdef char link[PATH_SIZE]
    cdef ssize_t n
    cdef int old, new, step = 0
    if fstatat(source, name, &st, AT_SYMLINK_NOFOLLOW) < 0:
        return STEP_FSTAT
    cdef mode_t kind = st.st_mode & S_IFMT
    if kind == S_IFLNK:
        n = readlinkat(source, name, link, sizeof(link) - 1)
        if n < 0:
            return STEP_READLINKAT
        link[n] = 0
        if symlinkat(link, target, name) < 0:
            return STEP_SYMLINKAT
        return STEP_FCHOWNAT if fchownat(target, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 else 0
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
        if mknodat(target, name, st.st_mode, st.st_rdev) < 0:
            return STEP_MKNODAT
        return STEP_FCHOWNAT if fchownat(target, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 else 0
    if step == 0 and fchown(new, st.st_uid, st.st_gid) < 0:
        step = STEP_FCHOWNAT
    if step == 0 and fchmod(new, st.st_mode & 0o7777) < 0:
        step = STEP_FCHMOD
    close(old)
    close(new)
    return step


cdef int copy_up(int source, int target, int depth) noexcept nogil:
    cdef char buffer[8192]
    cdef linux_dirent64 *entry
    cdef long n, offset
    cdef int step
    cdef int directory = openat(source, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if directory < 0:
        return STEP_OPENAT
    if depth > COPY_UP_DEPTH:
        set_errno(ELOOP)
        return STEP_TOO_DEEP
    while True:
        n = syscall(SYS_getdents64, directory, buffer, sizeof(buffer))
        if n < 0:
            return STEP_GETDENTS
        if n == 0:
            close(directory)
            return 0
        offset = 0
        while offset < n:
            entry = <linux_dirent64 *>(buffer + offset)
            offset += entry.d_reclen
            if not is_plain_name(entry.d_name):
                continue
            step = copy_entry(directory, target, entry.d_name, depth)
            if step:
                return step


# --- devices, links -------------------------------------------------------------------------------------------

cdef int do_mknod(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the node exists with this type, number, mode and owner. An existing node that is the same device is taken
    # over, with LEAVE_AS_IT_IS as it is; anything else at the path is an error (DEV-04).
    cdef char buffer[PATH_SIZE]
    cdef char *name = NULL
    cdef stat_t st
    cdef int step = 0, existed = 0, fd
    cdef unsigned long device = makedev(<unsigned int>op.b, <unsigned int>op.c)
    cdef mode_t kind = <mode_t>op.a & S_IFMT
    cdef int directory = open_parent(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s1, buffer, &name, &step)
    if directory < 0:
        return step
    if mknodat(directory, name, <mode_t>op.a, device) < 0:
        if errno != EEXIST:
            return STEP_MKNODAT
        existed = 1
    fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC)
    if fd < 0 or fstat(fd, &st) < 0:
        return STEP_OPENAT
    if st.st_mode & S_IFMT != kind or (kind != S_IFIFO and st.st_rdev != device):
        set_errno(EEXIST)
        return STEP_OTHER_NODE
    if not existed or not op.flags & LEAVE_AS_IT_IS:
        if existed and st.st_mode & 0o7777 != <mode_t>op.a & 0o7777:
            step = chmod_node(ctx, fd, <mode_t>op.a & 0o7777)
            if step:
                return step
        if fchownat(fd, "", <uid_t>(op.d >> 32), <gid_t><uint32_t>op.d, AT_EMPTY_PATH) < 0:
            return STEP_FCHOWNAT
    close(fd)
    close(directory)
    return 0


cdef int chmod_node(Context *ctx, int fd, mode_t mode) noexcept nogil:
    """chmod through an O_PATH descriptor: fchmodat2 (6.6), else the descriptor's entry in a procfs of our own."""
    cdef char path[64]
    cdef int n, at, step
    if syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0:
        return 0
    if errno != ENOSYS:
        return STEP_FCHMODAT
    if proc_of(ctx, "thread-self/fd") < 0:
        step = open_own_proc(ctx)
        if step:
            return step
    memcpy(path, <const char *>"thread-self/fd/", 15)
    at = 15
    n = 1
    while fd // n >= 10:
        n *= 10
    while n:
        path[at] = <char>(c'0' + (fd // n) % 10)
        at += 1
        n //= 10
    path[at] = 0
    return STEP_FCHMODAT if fchmodat(proc_of(ctx, path), path, mode, 0) < 0 else 0


cdef void write_number(char *text, unsigned int number) noexcept nogil:
    """Decimal digits and a NUL, for which `text` has room."""
    cdef unsigned int rest = number, length = 1
    while rest >= 10:
        rest //= 10
        length += 1
    text[length] = 0
    while length:
        length -= 1
        text[length] = <char>(c'0' + number % 10)
        number //= 10


cdef int do_open_devices(Context *ctx, const Op *op) noexcept nogil:
    # Contract: each of the c nodes that the runtime made in the filesystem of slot a, which are named by number, becomes
    # a mount of its own, in slot b and those behind it; the filesystem is attached nowhere afterwards. It has to be while
    # the nodes are cloned (Linux before 6.15): on the container's root, where no path is resolved in the meantime and
    # which is a mount that nobody else has.
    cdef char name[12]
    cdef int i, tree = ctx.slots[op.a], root = ctx.slots[SLOT_ROOTFS]
    if attach(tree, root) < 0:
        return STEP_MOVE_MOUNT
    for i in range(<int>op.c):
        write_number(name, <unsigned int>i)
        ctx.slots[op.b + i] = <int>syscall(SYS_open_tree, tree, name, OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW | O_CLOEXEC)
        if ctx.slots[op.b + i] < 0:
            return STEP_OPEN_TREE
    if fchdir(tree) < 0:
        return STEP_FCHDIR
    if syscall(SYS_umount2, ".", MNT_DETACH) < 0:
        return STEP_UMOUNT2
    if fchdir(root) < 0:
        return STEP_FCHDIR
    close(tree)
    return 0


cdef int do_bind_device(Context *ctx, const Op *op) noexcept nogil:
    # Contract: in a user namespace mknod is not possible: the clone of a node that the runtime made, or of the host's, is
    # attached on a file.
    cdef int existed = 0, step = 0, done
    cdef int target = make_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s1, False, 0, &existed, &step)
    if target < 0:
        return step
    if is_same_file(target, ctx.slots[op.a]):
        close(target)
        return 0
    if on_procfs(target):
        set_errno(EPERM)
        return STEP_TARGET_IN_PROC
    done = attach(ctx.slots[op.a], target)
    close(target)
    return STEP_MOVE_MOUNT if done < 0 else 0


cdef int do_symlink(Context *ctx, const Op *op) noexcept nogil:
    # Contract: s2 is a link to s1, if s3 exists; a name that is already there stays.
    cdef char buffer[PATH_SIZE]
    cdef char *name = NULL
    cdef int step = 0, fd
    if op.s3:
        fd = open_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s3, O_PATH | O_NOFOLLOW, 0)
        if fd < 0:
            return 0 if errno in (ENOENT, ENOTDIR, ELOOP, EACCES) else STEP_OPENAT2
        close(fd)
    cdef int directory = open_parent(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s2, buffer, &name, &step)
    if directory < 0:
        return step
    if symlinkat(ctx.pool + op.s1, directory, name) < 0 and errno != EEXIST:
        return STEP_SYMLINKAT
    close(directory)
    return 0


# --- the root -------------------------------------------------------------------------------------------------

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


cdef int make_mask_directory(Context *ctx, const char *label) noexcept nogil:
    """An empty, read-only tmpfs with room for nothing, of an SELinux context unless that is empty.

    nr_inodes=1 would leave none for the root itself.
    """
    cdef int tree
    cdef int fs = <int>syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC)
    if fs < 0:
        return STEP_FSOPEN
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "nr_blocks", "1", 0) < 0
            or syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "nr_inodes", "2", 0) < 0
            or syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0555", 0) < 0
            or (label[0] and syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "context", label, 0) < 0)
            or syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0):
        return STEP_FSCONFIG
    tree = <int>syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
                        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
    close(fs)
    if tree < 0:
        return STEP_FSMOUNT
    ctx.slots[SLOT_MASK_DIRECTORY] = tree
    return 0


cdef int open_protected(Context *ctx, const Op *op, int *step) noexcept nogil:
    """What to mask or to make read-only: path s1, or if s2 is a mount of the container's own, path s3 from its root.

    That mount is of type c and lies behind no symlink, or somebody has exchanged its mount point for something else, so that
    the paths below would not be found and stay as they are. A path that is missing is step 0.
    """
    cdef statfs_t fs
    cdef int target, mount
    if not op.s2:
        target = open_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s1, O_PATH, 0)
    else:
        mount = open_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s2, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS)
        if mount < 0 or fstatfs(mount, &fs) < 0 or fs.f_type != op.c:
            step[0] = STEP_CHANGED
            set_errno(EBUSY)
            return -1
        target = open_in_root(mount, ctx.pool + op.s3, O_PATH, 0)
        close(mount)
    if target < 0:
        step[0] = 0 if errno == ENOENT or errno == ENOTDIR else STEP_OPENAT2
    return target


cdef int do_mask_path(Context *ctx, const Op *op) noexcept nogil:
    # Contract: a directory is covered by one shared empty tmpfs, anything else by the host's /dev/null (its clone was
    # verified by the runtime). Only a missing path is no error.
    cdef stat_t st
    cdef int slot, tree, step = 0, target, done
    cdef int *attached
    target = open_protected(ctx, op, &step)
    if target < 0:
        return step
    if fstat(target, &st) < 0:
        return STEP_FSTAT
    if st.st_mode & S_IFMT == S_IFDIR:
        slot = SLOT_MASK_DIRECTORY
        attached = &ctx.mask_directory_attached
        if ctx.slots[slot] < 0:
            step = make_mask_directory(ctx, "")
            if step:
                return step
    else:
        slot = SLOT_NULL
        attached = &ctx.null_attached
    tree = ctx.slots[slot]
    if attached[0]:
        # a detached tree can't be cloned before 6.15, an attached one can: the first mask serves the others
        tree = <int>syscall(SYS_open_tree, tree, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | O_CLOEXEC)
        if tree < 0:
            return STEP_OPEN_TREE
    done = attach(tree, target)
    if done < 0:
        return STEP_MOVE_MOUNT
    if attached[0]:
        close(tree)
    attached[0] = 1
    close(target)
    return 0


cdef int do_readonly_path(Context *ctx, const Op *op) noexcept nogil:
    # Contract: a recursive bind of the path over itself, read-only before it is attached. A missing path is no error.
    cdef int tree, step = 0
    cdef int target = open_protected(ctx, op, &step)
    if target < 0:
        return step
    tree = <int>syscall(SYS_open_tree, target, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | O_CLOEXEC)
    if tree < 0:
        return STEP_OPEN_TREE
    if set_attributes(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0, 0) < 0:
        return STEP_MOUNT_SETATTR
    if attach(tree, target) < 0:
        return STEP_MOVE_MOUNT
    close(tree)
    close(target)
    return 0


# --- the console ------------------------------------------------------------------------------------------------

cdef int do_open_console(Context *ctx, const Op *op) noexcept nogil:
    # Contract: a new pseudo-terminal of the container's own devpts. The peer comes from the master, not from a path.
    # Size b rows by c columns unless 0; owned by uid d. The runtime takes the master at SYNC_CONSOLE (a).
    cdef statfs_t fs
    cdef stat_t st
    cdef winsize size
    cdef int zero = 0, master, peer
    cdef int directory = open_in_root(ctx.slots[SLOT_ROOTFS], "/dev/pts", O_PATH | O_DIRECTORY, 0)
    if directory < 0:
        return STEP_OPENAT2
    if fstatfs(directory, &fs) < 0:
        return STEP_STATFS
    if fs.f_type != DEVPTS_SUPER_MAGIC:
        set_errno(ENODEV)
        return STEP_NOT_DEVPTS
    # not what may have been mounted over it: opening that could block, or hand out the host's terminals
    master = open_in_root(directory, "ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW, RESOLVE_NO_XDEV)
    if master < 0:
        return STEP_OPENAT2
    if (fstat(master, &st) < 0 or st.st_mode & S_IFMT != S_IFCHR or major(st.st_rdev) != 5
            or minor(st.st_rdev) != 2):
        set_errno(ENODEV)
        return STEP_NOT_DEVPTS
    if ioctl(master, TIOCSPTLCK, &zero) < 0:
        return STEP_IOCTL
    peer = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)
    if peer < 0:
        return STEP_IOCTL
    if op.b or op.c:
        memset(&size, 0, sizeof(size))
        size.ws_row = <unsigned short>op.b
        size.ws_col = <unsigned short>op.c
        if ioctl(peer, TIOCSWINSZ, &size) < 0:
            return STEP_IOCTL
    if fchown(peer, <uid_t>op.d, <gid_t>-1) < 0 and errno != EPERM and errno != EINVAL:
        return STEP_FCHOWNAT
    ctx.slots[SLOT_CONSOLE] = peer
    ctx.detail = <int>op.a
    ctx.passed = master
    report(ctx, RECORD_SYNC, 0, 0)
    if not hear_parent(ctx):
        _exit(1)
    close(master)
    close(directory)
    return 0


cdef int do_mount_console(Context *ctx, const Op *op) noexcept nogil:
    # Contract: /dev/console is a bind mount of the terminal, on which fds 0 to 2 are then; with a it is taken.
    cdef int existed = 0, step = 0, tree
    cdef int target = make_in_root(ctx.slots[SLOT_ROOTFS], "/dev/console", False, 0, &existed, &step)
    if target < 0:
        return step
    if on_procfs(target):
        set_errno(EPERM)
        return STEP_TARGET_IN_PROC
    tree = <int>syscall(SYS_open_tree, ctx.slots[SLOT_CONSOLE], "", AT_EMPTY_PATH | OPEN_TREE_CLONE | O_CLOEXEC)
    if tree < 0:
        return STEP_OPEN_TREE
    if attach(tree, target) < 0:
        return STEP_MOVE_MOUNT
    close(tree)
    close(target)
    step = do_use_terminal(ctx)
    return do_take_terminal() if step == 0 and op.a else step


cdef int do_use_terminal(Context *ctx) noexcept nogil:
    # Contract: fds 0 to 2 are the terminal.
    cdef int fd
    for fd in range(3):
        if dup2(ctx.slots[SLOT_CONSOLE], fd) < 0:
            return STEP_DUP
    return 0


cdef int do_take_terminal() noexcept nogil:
    # Contract: fd 0 is the controlling terminal of this process, which leads a session. One call: the filter admits it.
    return STEP_IOCTL if ioctl(0, TIOCSCTTY, 0) < 0 else 0


cdef bint is_pty(unsigned long device) noexcept nogil:
    # Whether this device is a terminal of a devpts: it was made for whoever has it.
    return UNIX98_PTY_FIRST <= major(device) <= UNIX98_PTY_LAST


cdef bint is_null(const stat_t *st) noexcept nogil:
    return st.st_mode & S_IFMT == S_IFCHR and major(st.st_rdev) == 1 and minor(st.st_rdev) == 3


cdef void use_own_null(Context *ctx, int fd) noexcept nogil:
    """The container's /dev/null for the host's, where it is one: what the program finds behind `fd` is its own to change.

    It is looked at before it is opened, and opened so that no FIFO or line blocks: whoever exchanges it in between gets
    opened what is in the root filesystem, and what the cgroup lets the container use.
    """
    cdef stat_t st
    cdef int own = open_in_root(ctx.slots[SLOT_ROOTFS], "/dev/null", O_PATH | O_NOFOLLOW, 0)
    if own < 0:
        return
    if fstat(own, &st) == 0 and is_null(&st):
        close(own)
        own = open_in_root(ctx.slots[SLOT_ROOTFS], "/dev/null",
                           fcntl(fd, F_GETFL) & O_ACCMODE | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0)
        if own < 0:
            return
        if fstat(own, &st) == 0 and is_null(&st) and fcntl(own, F_SETFL, 0) == 0:
            dup2(own, fd)
    close(own)


cdef int do_chown_stdio(Context *ctx, const Op *op) noexcept nogil:
    # Contract: stdio belongs to the container's user, so that it can reopen /dev/stdout. Of devices that is a terminal of a
    # devpts alone: the host's /dev/null becomes the container's own, others of its like are everybody's, consoles and serial
    # lines the host's. Nor is it a disk, a directory or a file to read from, which nobody gives away by having them open; a
    # refusal (a read-only or foreign file) is no fault.
    cdef stat_t st
    cdef mode_t kind
    cdef int fd
    for fd in range(3):
        if fstat(fd, &st) < 0:
            continue
        if is_null(&st):
            use_own_null(ctx, fd)
            continue
        kind = st.st_mode & S_IFMT
        if kind == S_IFDIR or kind == S_IFBLK or (kind == S_IFCHR and not is_pty(st.st_rdev)):
            continue
        if kind == S_IFREG and fcntl(fd, F_GETFL) & O_ACCMODE == O_RDONLY:
            continue
        if st.st_uid != <uid_t>op.a:
            fchown(fd, <uid_t>op.a, <gid_t>-1)
    return 0


# --- credentials --------------------------------------------------------------------------------------------------

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


# --- the program ------------------------------------------------------------------------------------------------

cdef int do_make_directory(Context *ctx, const Op *op) noexcept nogil:
    # Contract: process.cwd exists; a directory that is missing is made, inside the root.
    cdef int existed = 0, step = 0
    cdef int fd = make_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.s1, True, 0, &existed, &step)
    if fd < 0:
        # a user's directory that this process may not search is left to chdir, which is made as that user
        return 0 if errno == EACCES or errno == EEXIST else step
    close(fd)
    return 0


cdef int do_chdir(Context *ctx, const Op *op) noexcept nogil:
    # Contract: the working directory is s1 and lies below `/`: a leaked directory of the host would show as
    # "(unreachable)" (CVE-2024-21626). Where this process may not enter it, as on NFS or FUSE, user a and group b do.
    cdef char cwd[PATH_SIZE]
    cdef int done = chdir(ctx.pool + op.s1), error
    cdef long uid, gid
    if done < 0 and errno == EACCES:
        # the group first: without the user's capabilities it can't be changed any more
        gid = syscall(SYS_setfsgid, <gid_t>op.b)
        uid = syscall(SYS_setfsuid, <uid_t>op.a)
        done = chdir(ctx.pool + op.s1)
        error = errno
        syscall(SYS_setfsuid, <uid_t>uid)
        syscall(SYS_setfsgid, <gid_t>gid)
        # a change of credentials clears both
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        set_errno(error)
    if done < 0:
        return STEP_CHDIR
    if syscall(SYS_getcwd, cwd, sizeof(cwd)) < 0:
        return STEP_GETCWD
    if cwd[0] != c'/':
        set_errno(EPERM)
        return STEP_OUTSIDE
    return 0


cdef int is_program(const char *path, int *mode) noexcept nogil:
    """0 if `path` is a regular file that this user may execute, else the step, errno and, where it says why, `mode` set."""
    cdef stat_t st
    cdef statfs_t fs
    cdef int fd
    mode[0] = 0
    if fstatat(AT_FDCWD, path, &st, 0) < 0:
        return STEP_NOT_FOUND
    mode[0] = <int>st.st_mode
    if st.st_mode & S_IFMT == S_IFDIR:
        set_errno(EISDIR)
        return STEP_IS_DIRECTORY
    if st.st_mode & S_IFMT != S_IFREG:
        set_errno(EACCES)
        return STEP_NOT_EXECUTABLE
    if syscall(SYS_faccessat2, AT_FDCWD, path, 1, AT_EACCESS) == 0 or errno == ENOSYS:
        return 0  # before 5.8: execve itself will tell
    fd = open(path, O_PATH | O_CLOEXEC)
    if fd >= 0:
        if fstatfs(fd, &fs) == 0 and fs.f_flags & ST_NOEXEC:
            mode[0] |= ON_NOEXEC_MOUNT
        close(fd)
    set_errno(EACCES)
    return STEP_NOT_EXECUTABLE


cdef ssize_t read_head(const char *path, uint8_t *head, size_t size) noexcept nogil:
    """The first bytes of a file; -1 if it can't be read, which a program need not be."""
    cdef int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)  # it may be a FIFO by now
    cdef ssize_t n
    if fd < 0:
        return -1
    n = pread(fd, head, size, 0)
    close(fd)
    return n


cdef int file_kind(const uint8_t *head, ssize_t n) noexcept nogil:
    cdef int machine
    if n == 0:
        return FILE_EMPTY
    if n > 1 and head[0] == c'#' and head[1] == c'!':
        return FILE_SCRIPT
    if n < 20 or head[0] != 0x7F or head[1] != c'E' or head[2] != c'L' or head[3] != c'F':
        return FILE_PLAIN
    machine = head[18] | (head[19] << 8)
    if machine != OWN_MACHINE and machine != OWN_MACHINE_32:
        return FILE_FOREIGN_ELF | (machine << 8)
    return FILE_ELF | (machine << 8)


cdef void script_interpreter(const uint8_t *head, ssize_t n, char *name) noexcept nogil:
    """What stands between `#!` and the next blank, as the kernel reads it; nothing if the line is too long for it."""
    cdef int i = 2, start
    if n > INTERPRETER_LINE:
        n = INTERPRETER_LINE
    while i < n and (head[i] == c' ' or head[i] == c'\t'):
        i += 1
    start = i
    while i < n and head[i] != c' ' and head[i] != c'\t' and head[i] != c'\n' and head[i] != 0:
        i += 1
    if i < INTERPRETER_LINE:
        memcpy(name, head + start, <size_t>(i - start))
        name[i - start] = 0


cdef void elf_interpreter(const uint8_t *head, ssize_t n, char *name) noexcept nogil:
    """The loader of a dynamic ELF program, 32 or 64 bits, of this machine's byte order."""
    cdef bint wide = head[4] == 2
    cdef uint64_t table = 0, offset, size = 0, entry_size, least = 56 if wide else 32
    cdef int i, count
    if n < 64:
        return
    if wide:
        memcpy(&table, head + 32, 8)
    else:
        memcpy(&table, head + 28, 4)
    entry_size = head[54] | (head[55] << 8) if wide else head[42] | (head[43] << 8)
    count = head[56] | (head[57] << 8) if wide else head[44] | (head[45] << 8)
    for i in range(count):
        # no sum that the file could make wrap around
        if table > <uint64_t>n or entry_size < least or table + <uint64_t>(i + 1) * entry_size > <uint64_t>n:
            return
        offset = table + <uint64_t>i * entry_size
        if head[offset] != 3 or head[offset + 1] != 0:  # PT_INTERP
            continue
        if wide:
            memcpy(&size, head + offset + 32, 8)
            memcpy(&offset, head + offset + 8, 8)
        else:
            memcpy(&size, head + offset + 16, 4)
            table = 0
            memcpy(&table, head + offset + 4, 4)
            offset = table
        if size < PATH_SIZE and offset <= <uint64_t>n and size <= <uint64_t>n - offset:
            memcpy(name, head + offset, size)
            name[size] = 0
        return


cdef int check_interpreter(Context *ctx, const char *path) noexcept nogil:
    """The `#!` interpreter or the ELF loader that `path` names must be a program, too, and one that such an interpreter
    names. One that is not goes to the payload, with the file that names it.
    """
    cdef uint8_t head[4096]
    cdef char file[PATH_SIZE]
    cdef char name[PATH_SIZE]
    cdef ssize_t n
    cdef int depth, kind, step, error, mode
    memcpy(file, path, strlen(path) + 1)
    for depth in range(INTERPRETERS):
        n = read_head(file, head, sizeof(head))
        if n < 0:
            return 0
        kind = file_kind(head, n)
        if depth == 0:
            ctx.program_kind = kind
        name[0] = 0
        if kind == FILE_SCRIPT:
            script_interpreter(head, n, name)
        elif kind & 0xFF == FILE_ELF:
            elf_interpreter(head, n, name)
        if name[0] == 0:
            return 0
        step = is_program(name, &mode)
        if step:
            error = errno
            set_payload_of_two(ctx, name, file)
            ctx.detail = kind
            set_errno(error)
            return STEP_INTERPRETER
        if kind != FILE_SCRIPT:
            return 0
        memcpy(file, name, strlen(name) + 1)
    return 0


cdef bint may_be_own(const char *path) noexcept nogil:
    """Whether a path that leads nowhere may lead somewhere for a process that has a /proc/self: /proc/self/exe,
    /dev/fd/3, or a symlink to one of them."""
    cdef stat_t st
    if strncmp(path, "/proc/", 6) == 0 or strncmp(path, "/dev/fd/", 8) == 0:
        return True
    return fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0


cdef int do_find_program(Context *ctx, const Op *op) noexcept nogil:
    # Contract: args[0] (s1) is found as execvp would, with PATH s2 of the container, as the container's user; its
    # interpreter exists. The path is kept for `exec`. Of one that may not be executed the record has path and mode.
    # With OUTSIDE_PIDS a path that may lead through /proc/self, which only a process of the namespace has, is left to execve.
    cdef const char *name = ctx.pool + op.s1
    cdef const char *cursor
    cdef const char *end
    cdef size_t n, m = strlen(name)
    cdef int step, mode, best = STEP_NOT_FOUND, best_errno = ENOENT
    if strchr(name, c'/') != NULL:
        if m + 1 > PATH_SIZE:
            set_errno(ENAMETOOLONG)
            return STEP_NOT_FOUND
        memcpy(ctx.program, name, m + 1)
        step = is_program(ctx.program, &mode)
        if step == STEP_NOT_FOUND and op.flags & OUTSIDE_PIDS and may_be_own(name):
            ctx.unseen = 1
            return 0
        if step:
            set_payload(ctx, ctx.program)
            ctx.detail = mode
            return step
        return check_interpreter(ctx, ctx.program)
    if m == 0:
        set_errno(ENOENT)
        return STEP_NOT_FOUND
    cursor = ctx.pool + op.s2
    while op.s2:
        end = strchr(cursor, c':')
        n = <size_t>(end - cursor) if end != NULL else strlen(cursor)
        if n + m + 3 < PATH_SIZE:
            memcpy(ctx.program, cursor, n)
            if n == 0:
                ctx.program[0] = c'.'
                n = 1
            ctx.program[n] = c'/'
            memcpy(ctx.program + n + 1, name, m + 1)
            step = is_program(ctx.program, &mode)
            if step == 0:
                ctx.detail = ctx.payload_length = 0
                return check_interpreter(ctx, ctx.program)
            if step != STEP_NOT_FOUND and best == STEP_NOT_FOUND and step != STEP_IS_DIRECTORY:
                best = step
                best_errno = errno
                set_payload(ctx, ctx.program)
                ctx.detail = mode
        if end == NULL:
            break
        cursor = end + 1
    set_errno(best_errno)
    return best


cdef int do_set_home(Context *ctx, const Op *op) noexcept nogil:
    # Contract: HOME of the program, which its env does not set: the home of uid a in the container's /etc/passwd, else `/`.
    # The file is the container's: at most 1 MiB of a regular file is read, and only this one field taken.
    cdef char buffer[4096]
    cdef char line[1024]
    cdef int fd, used = 0, i, field, at, skip = 0
    cdef ssize_t n
    cdef int64_t uid, total = 0
    cdef stat_t st
    cdef bint digits
    memcpy(ctx.home, <const char *>"HOME=/", 7)
    ctx.have_home = 1
    fd = open_in_root(ctx.slots[SLOT_ROOTFS], "/etc/passwd", O_PATH, 0)
    if fd < 0:
        return 0
    if fstat(fd, &st) < 0 or st.st_mode & S_IFMT != S_IFREG:
        close(fd)
        return 0
    close(fd)
    fd = open_in_root(ctx.slots[SLOT_ROOTFS], "/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0)
    if fd < 0:
        return 0
    if fstat(fd, &st) < 0 or st.st_mode & S_IFMT != S_IFREG:  # it was one a moment ago
        close(fd)
        return 0
    while total < 1 << 20:
        n = read(fd, buffer, sizeof(buffer))
        if n <= 0:
            break
        total += n
        for i in range(n):
            if buffer[i] != c'\n':
                if used < <int>sizeof(line) - 1:
                    line[used] = buffer[i]
                    used += 1
                else:
                    skip = 1
                continue
            line[used] = 0
            used = 0
            if skip:
                skip = 0
                continue
            if take_home(ctx, line, op.a):
                close(fd)
                return 0
    if used and not skip:
        line[used] = 0
        take_home(ctx, line, op.a)
    close(fd)
    return 0


cdef int take_home(Context *ctx, const char *line, int64_t uid) noexcept nogil:
    """1 if this line of passwd(5), name:password:uid:gid:gecos:home:shell, is uid's; its home is kept."""
    cdef const char *field[6]
    cdef const char *cursor = line
    cdef int i
    cdef int64_t value = 0
    cdef size_t n
    for i in range(6):
        field[i] = cursor
        if i == 5:
            break
        cursor = strchr(cursor, c':')
        if cursor == NULL:
            return 0
        cursor += 1
    cursor = field[2]
    if cursor[0] == c':':
        return 0
    while cursor[0] != c':':
        if cursor[0] < c'0' or cursor[0] > c'9' or value >> 32:
            return 0
        value = value * 10 + (cursor[0] - c'0')
        cursor += 1
    if value != uid:
        return 0
    cursor = strchr(field[5], c':')
    n = <size_t>(cursor - field[5]) if cursor != NULL else strlen(field[5])
    if n > 0 and field[5][0] == c'/' and n + 6 < PATH_SIZE:
        memcpy(ctx.home + 5, field[5], n)
        ctx.home[5 + n] = 0
    return 1


cdef int do_close_fds(Context *ctx, const Op *op) noexcept nogil:
    # Contract: from fd a on, only the channel, the two FIFOs, the state for the startContainer hook, the seccomp filter, and
    # slot b unless it is 0, stay open. Below, from 3 on, those that are the caller's to pass on: what the runtime has opened
    # among them, where the caller had nothing, would be closed by execve, and that is too late.
    cdef int kept[7]
    cdef int i, j, n = 0, swap, flags
    cdef unsigned int first = <unsigned int>op.a
    if not ctx.started:
        kept[0] = ctx.channel
        kept[1] = ctx.slots[SLOT_EXEC_FIFO]
        n = 2
    kept[n] = ctx.slots[SLOT_RESULT_FIFO]
    kept[n + 1] = ctx.slots[SLOT_START_STATE]
    kept[n + 2] = ctx.slots[SLOT_FILTER]
    n += 3
    if op.b:
        kept[n] = ctx.slots[op.b]
        n += 1
    for i in range(1, n):
        j = i
        while j > 0 and kept[j - 1] > kept[j]:
            swap = kept[j]
            kept[j] = kept[j - 1]
            kept[j - 1] = swap
            j -= 1
    for i in range(3, <int>first if first < NR_OPEN else NR_OPEN):
        flags = fcntl(i, F_GETFD)
        if flags < 0 or not flags & FD_CLOEXEC:
            continue
        for j in range(n):
            if kept[j] == i:
                break
        else:
            close(i)
    for i in range(n):
        if kept[i] < 0 or <unsigned int>kept[i] < first:
            continue
        if <unsigned int>kept[i] > first and syscall(SYS_close_range, first, <unsigned int>kept[i] - 1, 0) < 0:
            return STEP_CLOSE_RANGE
        first = <unsigned int>kept[i] + 1
    if syscall(SYS_close_range, first, FD_LAST, 0) < 0:
        return STEP_CLOSE_RANGE
    return 0


cdef void reset_signals() noexcept nogil:
    """Every disposition to default, nothing blocked: an ignored SIGPIPE would survive execve."""
    cdef uint64_t action[4]  # struct sigaction of the kernel; all zero is SIG_DFL
    cdef sigset_t none
    cdef int signum
    memset(action, 0, sizeof(action))
    for signum in range(1, 65):
        syscall(SYS_rt_sigaction, signum, action, NULL, 8)  # sigaction(3) refuses the signals of its own threads
    sigemptyset(&none)
    sigprocmask(SIG_SETMASK, &none, NULL)


cdef int do_set_memory_policy(Context *ctx, const Op *op) noexcept nogil:
    # Contract: mode and flags are a, the nodes the mask s1 of b bits. With c the kernel has taken exactly these: it leaves
    # out, silently, nodes that have no memory or that the cgroup forbids.
    cdef uint8_t taken[NODE_MASK]
    cdef const char *nodes = ctx.pool + op.s1 if op.b else NULL
    if syscall(SYS_set_mempolicy, <int>op.a, nodes, <unsigned long>op.b + 1) < 0:  # that it looks at one bit less is its ABI
        return STEP_SET_MEMPOLICY
    if op.c:
        memset(taken, 0, sizeof(taken))
        if syscall(SYS_get_mempolicy, NULL, taken, <unsigned long>8 * NODE_MASK + 1, NULL, 0) < 0:
            return STEP_GET_MEMPOLICY
        if memcmp(taken, nodes, <size_t>op.b // 8) != 0:
            set_errno(EINVAL)
            return STEP_NODES_DIFFER
    return 0


cdef int do_set_rlimit(const Op *op) noexcept nogil:
    # Contract: limit a of this process is b (soft) and c (hard).
    cdef uint64_t limits[2]
    limits[0] = <uint64_t>op.b
    limits[1] = <uint64_t>op.c
    return STEP_PRLIMIT if syscall(SYS_prlimit64, 0, <int>op.a, limits, NULL) < 0 else 0


cdef void end_on_signal(int signum) noexcept nogil:
    _exit(128 + signum)


cdef void heed_signals() noexcept nogil:
    """The signals that ask a process to end, end this one: the kernel spares the first of a pid namespace otherwise."""
    cdef sigaction_t action
    cdef sigset_t none
    memset(&action, 0, sizeof(action))
    action.sa_handler = end_on_signal
    sigaction(SIGINT, &action, NULL)
    sigaction(SIGQUIT, &action, NULL)
    sigaction(SIGTERM, &action, NULL)
    sigemptyset(&none)
    sigprocmask(SIG_SETMASK, &none, NULL)


cdef int do_wait_start(Context *ctx, const Op *op) noexcept nogil:
    # Contract: waits for `start` on a FIFO that was opened before the container had any limit on descriptors. From here
    # on the result FIFO carries the records, and its closing by execve tells success. The other one stays open until
    # then, too: while startContainer hooks run, the container is still created. Until `start` there is nobody but this
    # process whom a signal could be meant for.
    cdef char word
    cdef ssize_t n
    close(ctx.channel)
    ctx.channel = -1
    ctx.started = 1
    heed_signals()
    while True:
        n = read(ctx.slots[SLOT_EXEC_FIFO], &word, 1)
        if n == 1:
            break
        if n < 0 and errno != EINTR:
            return STEP_READ
    reset_signals()  # nobody's end can hurt any more, and the program's filter may forbid it later
    return 0


cdef void add_home(Context *ctx, char **envp) noexcept nogil:
    """HOME, if set_home has found one, takes the place in a vector that is reserved for it before the NULL."""
    if not ctx.have_home:
        return
    while envp[0] != NULL:
        envp += 1
    envp[0] = ctx.home
    envp[1] = NULL


cdef int do_exec(Context *ctx, const Op *op) noexcept nogil:
    # Contract: replaces this process by the program. a: index of argv, b: of envp, whose last place before the NULL is
    # reserved for HOME. The record tells `start` that everything else succeeded.
    add_home(ctx, ctx.vectors + op.b)
    tell_exec(ctx)
    execve(ctx.program, ctx.vectors + op.a, ctx.vectors + op.b)
    if ctx.unseen and errno == ENOENT:
        return STEP_NOT_FOUND
    ctx.detail = ctx.program_kind
    return STEP_EXECVE


# --- hooks -----------------------------------------------------------------------------------------------------

cdef int64_t now_ms() noexcept nogil:
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC, &ts)
    return <int64_t>ts.tv_sec * 1000 + ts.tv_nsec // 1000000


cdef int spawn_hook(const char *path, char **argv, char **envp, int cwd, int state, int *pidfd, int *output,
                    int *exec_status, pid_t *pid) noexcept nogil:
    """Fork and exec a hook in a process group of its own: stdin the state, stdout and stderr one pipe."""
    cdef int pipe_fds[2]
    cdef int status_fds[2]
    cdef int error, fd
    cdef long child
    if pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0:
        return STEP_PIPE
    if pipe2(status_fds, O_CLOEXEC) < 0:
        error = errno
        close(pipe_fds[0])
        close(pipe_fds[1])
        set_errno(error)
        return STEP_PIPE
    # clone, not clone3: engines' seccomp profiles answer clone3 with ENOSYS, and startContainer hooks run under them
    child = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, pidfd, NULL, NULL)
    if child == 0:
        setpgid(0, 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if state >= 0:
            lseek(state, 0, SEEK_SET)
        fcntl(pipe_fds[1], F_SETFL, 0)
        fd = fcntl(state, F_DUPFD_CLOEXEC, 3) if state >= 0 else open("/dev/null", O_RDONLY | O_CLOEXEC)
        if (fd < 0 or dup2(fd, 0) < 0 or dup2(pipe_fds[1], 1) < 0 or dup2(pipe_fds[1], 2) < 0
                or (cwd >= 0 and fchdir(cwd) < 0)
                or syscall(SYS_close_range, 3, FD_LAST, CLOSE_RANGE_CLOEXEC) < 0):
            error = errno
        else:
            reset_signals()
            execve(path, argv, envp)
            error = errno
        write(status_fds[1], &error, sizeof(error))
        _exit(127)
    error = errno
    close(pipe_fds[1])
    close(status_fds[1])
    if child < 0:
        close(pipe_fds[0])
        close(status_fds[0])
        set_errno(error)
        return STEP_CLONE
    pid[0] = <pid_t>child
    output[0] = pipe_fds[0]
    exec_status[0] = status_fds[0]
    return 0


cdef int run_hook(const char *path, char **argv, char **envp, int cwd, int state, int64_t timeout_ms, char *output,
                  int *output_length, int *status) noexcept nogil:
    """Run one hook to its end.

    Contract: `timeout_ms` 0 waits for ever; else the hook's process group is killed then and status has HOOK_TIMED_OUT. The
    first HOOK_OUTPUT bytes that it writes are kept, the rest is read and dropped. Returns 0 with the wait status, or a
    step with errno (STEP_EXECVE: the hook can't be executed).
    """
    cdef int pidfd = -1, out = -1, exec_status = -1, step, error = 0, wait = -1, timed_out = 0, ended = 0
    cdef pid_t pid = -1
    cdef pollfd fds[2]
    cdef char drop[4096]
    cdef ssize_t n
    cdef int64_t deadline = now_ms() + timeout_ms, left
    output_length[0] = 0
    status[0] = 0
    step = spawn_hook(path, argv, envp, cwd, state, &pidfd, &out, &exec_status, &pid)
    if step:
        return step
    while not ended:
        fds[0].fd = pidfd
        fds[0].events = POLLIN
        fds[0].revents = 0
        fds[1].fd = out
        fds[1].events = POLLIN
        fds[1].revents = 0
        if timeout_ms:
            left = deadline - now_ms()
            wait = <int>left if left < INT_MAX else INT_MAX
            if wait <= 0:
                wait = 0
        n = poll(fds, 2, wait)
        if n == 0 and timeout_ms and now_ms() >= deadline:
            timed_out = HOOK_TIMED_OUT
            kill(-pid, SIGKILL)
            kill(pid, SIGKILL)
            timeout_ms = 0
            wait = -1
            continue
        if n < 0 and errno != EINTR:
            break
        ended = fds[0].revents != 0
        while out >= 0:
            if output_length[0] < HOOK_OUTPUT:
                n = read(out, output + output_length[0], <size_t>(HOOK_OUTPUT - output_length[0]))
                if n > 0:
                    output_length[0] += <int>n
            else:
                n = read(out, drop, sizeof(drop))
                if n > 0:
                    break  # one that writes for ever, be it a child that the hook left, must not keep us
            if n <= 0:
                if n == 0:
                    close(out)
                    out = -1
                break
    while waitpid(pid, status, 0) < 0 and errno == EINTR:
        pass
    status[0] |= timed_out
    n = read(exec_status, &error, sizeof(error))
    close(exec_status)
    close(pidfd)
    if out >= 0:
        close(out)
    if n == sizeof(error):
        set_errno(error)
        return STEP_EXECVE
    return 0


cdef int do_run_hook(Context *ctx, const Op *op) noexcept nogil:
    # Contract: s1 path, a argv, b envp, c timeout in ms, d slot of the state. A hook that fails is reported with its wait
    # status in the record's detail and what it wrote in the payload.
    cdef int status = 0, step
    cdef int cwd = -1 if ctx.started else ctx.slots[SLOT_BUNDLE]
    if op.flags & ADD_HOME:
        add_home(ctx, ctx.vectors + op.b)
    step = run_hook(ctx.pool + op.s1, ctx.vectors + op.a, ctx.vectors + op.b, cwd, ctx.slots[op.d], op.c,
                             ctx.payload, &ctx.payload_length, &status)
    if step:
        return step
    if status:
        ctx.detail = status
        set_errno(ETIMEDOUT if status & HOOK_TIMED_OUT else 0)
        return STEP_WAITPID
    ctx.payload_length = 0
    return 0


# --- the loop ------------------------------------------------------------------------------------------------------

cdef int run_op(Context *ctx, const Op *op) noexcept nogil:
    cdef const char *pool = ctx.pool
    cdef int code = op.code
    if code == VERB_SET_PDEATHSIG:
        return STEP_PRCTL if prctl(PR_SET_PDEATHSIG, <unsigned long>op.a, 0, 0, 0) < 0 else 0
    if code == VERB_SET_DUMPABLE:
        return STEP_PRCTL if prctl(PR_SET_DUMPABLE, <unsigned long>op.a, 0, 0, 0) < 0 else 0
    if code == VERB_SETSID:
        return STEP_SETSID if setsid() < 0 else 0
    if code == VERB_SET_UMASK:
        if op.a < 0:
            umask(ctx.saved_umask)
        else:
            umask(<mode_t>op.a)
        return 0
    if code == VERB_JOIN_NAMESPACE:
        return do_join_namespace(ctx, op)
    if code == VERB_UNSHARE:
        return STEP_UNSHARE if unshare(<int>op.a) < 0 else 0
    if code == VERB_SYNC:
        return do_sync(ctx, op)
    if code == VERB_BECOME_ROOT:
        return do_become_root(ctx, op)
    if code == VERB_CLONE_INIT:
        return do_clone_init(ctx, op)
    if code == VERB_OPEN_PROC:
        return do_open_proc(ctx, op)
    if code == VERB_SET_PROPAGATION:
        return do_set_propagation(ctx, op)
    if code == VERB_ATTACH_ROOTFS:
        return do_attach_rootfs(ctx, op)
    if code == VERB_BIND_MOUNT:
        return do_bind_mount(ctx, op)
    if code == VERB_MOUNT:
        return do_mount(ctx, op)
    if code == VERB_REMOUNT:
        return do_remount(ctx, op)
    if code == VERB_SET_MOUNT_ATTRIBUTES:
        return do_set_mount_attributes(ctx, op)
    if code == VERB_MKNOD:
        return do_mknod(ctx, op)
    if code == VERB_OPEN_DEVICES:
        return do_open_devices(ctx, op)
    if code == VERB_BIND_DEVICE:
        return do_bind_device(ctx, op)
    if code == VERB_SYMLINK:
        return do_symlink(ctx, op)
    if code == VERB_RUN_HOOK:
        return do_run_hook(ctx, op)
    if code == VERB_PIVOT_ROOT:
        return do_pivot_root(ctx, op)
    if code == VERB_MOVE_ROOT:
        return do_move_root(ctx, op)
    if code == VERB_MASK_PATH:
        return do_mask_path(ctx, op)
    if code == VERB_READONLY_PATH:
        return do_readonly_path(ctx, op)
    if code == VERB_SET_HOSTNAME:
        return STEP_SETHOSTNAME if syscall(SYS_sethostname, pool + op.s1, <size_t>op.a) < 0 else 0
    if code == VERB_SET_DOMAINNAME:
        return STEP_SETDOMAINNAME if syscall(SYS_setdomainname, pool + op.s1, <size_t>op.a) < 0 else 0
    if code == VERB_WRITE_SYSCTL:
        return write_in_proc(ctx, pool + op.s1, pool + op.s2, <size_t>op.a)
    if code == VERB_WRITE_ATTR:
        return do_write_attr(ctx, op)
    if code == VERB_LABEL_MOUNT:
        return do_label_mount(ctx, op)
    if code == VERB_MAKE_MASK_DIRECTORY:
        return make_mask_directory(ctx, pool + op.s1)
    if code == VERB_OPEN_CONSOLE:
        return do_open_console(ctx, op)
    if code == VERB_MOUNT_CONSOLE:
        return do_mount_console(ctx, op)
    if code == VERB_JOIN_KEYRING:
        # A new one without a name: of a name anybody may have made one already, which the kernel would join. A kernel
        # without keyrings, or a seccomp filter of the engine's that forbids them, has none to share.
        if syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 and errno != ENOSYS and errno != EPERM:
            return STEP_KEYCTL
        return 0
    if code == VERB_SET_NO_NEW_PRIVS:
        return STEP_PRCTL if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 else 0
    if code == VERB_SET_PERSONALITY:
        return STEP_PERSONALITY if personality(<unsigned long>op.a) < 0 else 0
    if code == VERB_DROP_BOUNDING:
        return do_drop_bounding(ctx, op)
    if code == VERB_SET_GROUPS:
        return STEP_SETGROUPS if syscall(SYS_setgroups, <size_t>op.a, <const void *>(pool + op.s1)) < 0 else 0
    if code == VERB_SET_IDS:
        return do_set_ids(ctx, op)
    if code == VERB_SET_CAPABILITIES:
        return do_set_capabilities(ctx, op)
    if code == VERB_SET_AMBIENT:
        return do_set_ambient(ctx, op)
    if code == VERB_MAKE_DIRECTORY:
        return do_make_directory(ctx, op)
    if code == VERB_CHDIR:
        return do_chdir(ctx, op)
    if code == VERB_FIND_PROGRAM:
        return do_find_program(ctx, op)
    if code == VERB_SET_HOME:
        return do_set_home(ctx, op)
    if code == VERB_CHOWN_STDIO:
        return do_chown_stdio(ctx, op)
    if code == VERB_LO_UP:
        return do_lo_up(ctx, op)
    if code == VERB_RESET_AFFINITY:
        return do_reset_affinity(ctx, op)
    if code == VERB_CLOSE_FDS:
        return do_close_fds(ctx, op)
    if code == VERB_SET_SCHEDULER:
        # for the kernel the size of the attributes is the first of them
        return STEP_SCHED_SETATTR if syscall(SYS_sched_setattr, 0, <const void *>(pool + op.s1), 0) < 0 else 0
    if code == VERB_SET_IO_PRIORITY:
        return STEP_IOPRIO_SET if syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, <int>op.a) < 0 else 0
    if code == VERB_SET_MEMORY_POLICY:
        return do_set_memory_policy(ctx, op)
    if code == VERB_SET_RLIMIT:
        return do_set_rlimit(op)
    if code == VERB_WAIT_START:
        return do_wait_start(ctx, op)
    if code == VERB_LOAD_SECCOMP:
        return load_seccomp(ctx, op)
    if code == VERB_EXEC:
        return do_exec(ctx, op)
    if code == VERB_ENTER_ROOT:
        return do_enter_root(ctx, op)
    if code == VERB_OPEN_ROOT:
        # the root of the mount namespace that was joined: beneath it paths of the container are resolved
        ctx.slots[SLOT_ROOTFS] = openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC)
        return STEP_OPENAT if ctx.slots[SLOT_ROOTFS] < 0 else 0
    if code == VERB_CLONE_ROOTFS:
        return do_clone_rootfs(ctx, op)
    if code == VERB_CLONE_TREE:
        return do_clone_tree(ctx, op)
    if code == VERB_CLONE_DEVICE:
        return do_clone_device(ctx, op)
    if code == VERB_OPEN_BUNDLE:
        return do_open_bundle(ctx, op)
    if code == VERB_USE_TERMINAL:
        return do_use_terminal(ctx)
    if code == VERB_TAKE_TERMINAL:
        return do_take_terminal()
    if code == VERB_HIDE_CALLER:
        # Contract: what the caller gave to the runtime, which this process has a copy of, can't be read in
        # /proc/PID/{cmdline,environ,comm,stat,status} or in its memory.
        pyoci_hide_caller(ctx.strings, ctx.arguments_end)
        return 0
    if code == VERB_RESET_SIGNALS:
        reset_signals()
        return 0
    set_errno(ENOSYS)
    return STEP_UNKNOWN


cdef struct sock_fprog:
    unsigned short length
    const void *filter


cdef int close_listener(void *argument) noexcept nogil:
    """What a thread does: it closes the process' own copy of the listener. The runtime sends it the number.

    With this copy open, a call would wait for ever for an agent that has closed its own. The process can't close it: the
    agent may have to answer close(2), too. The thread is older than the filter, so the filter does not bind it.
    """
    cdef Context *ctx = <Context *>argument
    cdef int number = -1
    if read(ctx.slots[SLOT_EXEC_FIFO] if ctx.started else ctx.channel, &number, sizeof(number)) == sizeof(number):
        close(number)
    return 0


cdef int load_seccomp(Context *ctx, const Op *op) noexcept nogil:
    # Contract: s1 is an array of a instructions compiled by the runtime, or they are in the file in slot d; b are the flags
    # of seccomp(2). With QUIET the filter admits what this process and the one that it clones still do. With a listener a
    # thread waits to close it; where pids.max has no room for one the listener stays open.
    cdef char content[BPF_MAXINSNS * 8 + 1]
    cdef ssize_t size = op.a * 8
    cdef unsigned int flags = <unsigned int>op.b
    cdef int thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
    cdef sock_fprog program
    program.filter = ctx.pool + op.s1
    if op.d:
        size = pread(ctx.slots[op.d], content, sizeof(content), 0)
        program.filter = content
    if size < 0:
        return STEP_SECCOMP
    if size > BPF_MAXINSNS * 8:  # and 16 bits would hold less of it
        set_errno(E2BIG)
        return STEP_SECCOMP
    if size == 0 or size % 8:
        set_errno(EINVAL)
        return STEP_SECCOMP
    if not op.flags & QUIET:
        tell_exec(ctx)
    program.length = <unsigned short>(size // 8)
    if flags & NEW_LISTENER and clone(close_listener, ctx.thread_stack + THREAD_STACK, thread, ctx) > 0:
        flags &= ~<unsigned int>TSYNC_FLAGS  # which would put the thread under the filter; there is no other
    if syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) < 0:
        return STEP_SECCOMP
    return 0


cdef void run_ops(Context *ctx) noexcept nogil:
    """Run every operation; ends in execve or _exit, never returns."""
    cdef int step
    cdef sigaction_t action
    cdef char thread_stack[THREAD_STACK]
    ctx.thread_stack = thread_stack
    memset(&action, 0, sizeof(action))
    action.sa_handler = SIG_IGN
    sigaction(SIGPIPE, &action, NULL)  # a runtime that was killed must not take a started container with it
    ctx.saved_umask = umask(0)
    if ctx.held and not hear_parent(ctx):
        _exit(1)
    for ctx.index in range(ctx.count):
        step = run_op(ctx, ctx.ops + ctx.index)
        if step:
            report(ctx, RECORD_FAILED, step, errno)
            _exit(1)
    _exit(0)
