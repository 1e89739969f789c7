# The program: its working directory, its file and its interpreter.

cdef int do_make_directory(Context *ctx, const MakeDirectoryOp *op) noexcept nogil:
    cdef int existed = 0, step = 0
    cdef int fd = make_in_root(ctx.slots[SLOT_ROOTFS], ctx.pool + op.path, True, 0, &existed, &step)
    if fd < 0:
        # EACCES: this process may not search a user's directory. `chdir` enters it as that user, and reports an error.
        return 0 if errno == EACCES or errno == EEXIST else step
    close(fd)
    return 0


cdef int chdir_as(const char *path, uid_t uid, gid_t gid) noexcept nogil:
    """Enter a directory with another user's access to files."""
    cdef int done, error
    # the group first: without the user's capabilities it can't be changed any more
    cdef long old_gid = syscall(SYS_setfsgid, gid)
    cdef long old_uid = syscall(SYS_setfsuid, uid)
    done = chdir(path)
    error = errno
    syscall(SYS_setfsuid, <uid_t>old_uid)
    syscall(SYS_setfsgid, <gid_t>old_gid)
    restore_protection()
    set_errno(error)
    return done


cdef int do_chdir(Context *ctx, const ChdirOp *op) noexcept nogil:
    cdef char cwd[PATH_SIZE]
    cdef int done = chdir(ctx.pool + op.path)
    if done < 0 and errno == EACCES:  # NFS and FUSE may deny root
        done = chdir_as(ctx.pool + op.path, <uid_t>op.uid, <gid_t>op.gid)
    if done < 0:
        return STEP_CHDIR
    if syscall(SYS_getcwd, cwd, sizeof(cwd)) < 0:
        return STEP_GETCWD
    # the kernel reports a leaked directory of the host as "(unreachable)…" (CVE-2024-21626)
    if cwd[0] != c'/':
        set_errno(EPERM)
        return STEP_OUTSIDE
    return 0


cdef int is_program(const char *path, int *mode) noexcept nogil:
    """Check that `path` is a regular file that this user may execute.

    Returns 0, or a step with errno. `mode` becomes the file's mode, with ON_NOEXEC_MOUNT if that is the reason.
    """
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
        return 0  # Linux before 5.8 lacks the call: execve will report the error
    fd = open(path, O_PATH | O_CLOEXEC)
    if fd >= 0:
        if fstatfs(fd, &fs) == 0 and fs.f_flags & ST_NOEXEC:
            mode[0] |= ON_NOEXEC_MOUNT
        close(fd)
    set_errno(EACCES)
    return STEP_NOT_EXECUTABLE


cdef ssize_t read_head(const char *path, uint8_t *head, size_t size) noexcept nogil:
    """Read the first bytes of a file. Returns -1 if it is unreadable; a program may be."""
    cdef int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)  # a FIFO may have replaced it
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
    machine = head[18] << 8 | head[19] if head[5] == ELFDATA2MSB else head[18] | (head[19] << 8)
    if (machine != OWN_MACHINE and machine != OWN_MACHINE_32) or head[5] == OTHER_ORDER:
        return FILE_FOREIGN_ELF | (machine << 8)
    return FILE_ELF | (machine << 8)


cdef void script_interpreter(const uint8_t *head, ssize_t n, char *name) noexcept nogil:
    """Copy the interpreter of a `#!` line to `name`. Copies nothing if the line is too long for the kernel."""
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


cdef uint64_t elf_number(const uint8_t *at, size_t size) noexcept nogil:
    """Read a number of 2, 4 or 8 bytes in this machine's byte order."""
    cdef uint16_t half
    cdef uint32_t word
    cdef uint64_t number
    if size == sizeof(half):
        memcpy(&half, at, sizeof(half))
        return half
    if size == sizeof(word):
        memcpy(&word, at, sizeof(word))
        return word
    memcpy(&number, at, sizeof(number))
    return number


cdef void elf_interpreter(const uint8_t *head, ssize_t n, char *name) noexcept nogil:
    """Copy the loader of a dynamic ELF program to `name`. Handles 32 and 64 bits, in this machine's byte order."""
    cdef bint wide = head[4] == 2
    cdef uint64_t table, offset, size, entry_size, least = 56 if wide else 32
    cdef int i, count
    if n < 64:
        return
    table = elf_number(head + 32, 8) if wide else elf_number(head + 28, 4)
    entry_size = elf_number(head + (54 if wide else 42), 2)
    count = <int>elf_number(head + (56 if wide else 44), 2)
    for i in range(count):
        # the file must not make a sum overflow
        if table > <uint64_t>n or entry_size < least or table + <uint64_t>(i + 1) * entry_size > <uint64_t>n:
            return
        offset = table + <uint64_t>i * entry_size
        if elf_number(head + offset, 4) != PT_INTERP:
            continue
        size = elf_number(head + offset + 32, 8) if wide else elf_number(head + offset + 16, 4)
        offset = elf_number(head + offset + 8, 8) if wide else elf_number(head + offset + 4, 4)
        if size < PATH_SIZE and offset <= <uint64_t>n and size <= <uint64_t>n - offset:
            memcpy(name, head + offset, size)
            name[size] = 0
        return


cdef int check_interpreter(Context *ctx, const char *path) noexcept nogil:
    """Check that the `#!` interpreter or ELF loader of `path` is a program. Follows a script's interpreter likewise.

    On failure, the payload names the missing interpreter and the file that needs it.
    """
    cdef uint8_t head[4096]
    cdef char file[PATH_SIZE]
    cdef char name[PATH_SIZE]
    cdef ssize_t n
    cdef int depth, kind, step, error, mode
    memcpy(file, path, strlen(path) + 1)
    for depth in range(MAX_INTERPRETERS):
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


cdef bint may_lead_through_proc_self(const char *path) noexcept nogil:
    """Whether a missing path may exist for a process that has a /proc/self.

    Examples are /proc/self/exe, /dev/fd/3, and symlinks to them.
    """
    cdef stat_t st
    if strncmp(path, "/proc/", 6) == 0 or strncmp(path, "/dev/fd/", 8) == 0:
        return True
    return fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0


cdef int find_by_path(Context *ctx, const char *path, bint outside_pids) noexcept nogil:
    """Find a program whose name contains a slash."""
    cdef size_t n = strlen(path)
    cdef int step, mode
    if n + 1 > PATH_SIZE:
        set_errno(ENAMETOOLONG)
        return STEP_NOT_FOUND
    memcpy(ctx.program, path, n + 1)
    step = is_program(ctx.program, &mode)
    if step == STEP_NOT_FOUND and outside_pids and may_lead_through_proc_self(path):
        ctx.leave_to_execve = 1
        return 0
    if step:
        set_payload(ctx, ctx.program)
        ctx.detail = mode
        return step
    return check_interpreter(ctx, ctx.program)


cdef int find_in_directories(Context *ctx, const char *name, const char *search) noexcept nogil:
    """Find a program in the directories of PATH. An empty one is the working directory.

    If there is none, reports the first file of that name that can't be executed.
    """
    cdef const char *cursor = search
    cdef const char *end
    cdef size_t n, m = strlen(name)
    cdef int step, mode, best = STEP_NOT_FOUND, best_errno = ENOENT
    while True:
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


cdef int do_find_program(Context *ctx, const FindProgramOp *op) noexcept nogil:
    cdef const char *name = ctx.pool + op.name
    if strchr(name, c'/') != NULL:
        return find_by_path(ctx, name, op.flags & FLAG_OUTSIDE_PIDS)
    if name[0] == 0 or not op.search:
        set_errno(ENOENT)
        return STEP_NOT_FOUND
    return find_in_directories(ctx, name, ctx.pool + op.search)
