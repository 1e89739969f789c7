# bpf(2), which Python lacks, and an interpreter of seccomp filters.
#
# Every call passes a zeroed attr of 256 bytes. A kernel accepts an attr longer than its own if the rest is zero. And
# some kernels (6.17 to 7.1) answer a query with more bytes than the caller's attr has.

from cpython.exc cimport PyErr_SetFromErrno

cdef extern from *:
    """
    #include <errno.h>
    #include <linux/bpf.h>
    #include <string.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    #define PYOCI_BPF_ATTR_SIZE 256

    static int pyoci_bpf(int command, void *attr)
    {
        return (int)syscall(__NR_bpf, command, attr, PYOCI_BPF_ATTR_SIZE);
    }

    static int pyoci_bpf_prog_load(int type, const char *program, size_t size, char *log, size_t log_size)
    {
        union { union bpf_attr attr; char bytes[PYOCI_BPF_ATTR_SIZE]; } u;
        memset(&u, 0, sizeof u);
        u.attr.prog_type = type;
        u.attr.insns = (unsigned long)program;
        u.attr.insn_cnt = size / sizeof(struct bpf_insn);
        u.attr.license = (unsigned long)"Apache-2.0";
        if (log_size) {
            u.attr.log_buf = (unsigned long)log;
            u.attr.log_size = log_size;
            u.attr.log_level = 1;
        }
        /* The verifier gives up with EAGAIN if a signal is pending. libbpf tries five times, too. */
        int fd, attempts = 5;
        do
            fd = pyoci_bpf(BPF_PROG_LOAD, &u);
        while (fd < 0 && errno == EAGAIN && --attempts);
        return fd;
    }

    static int pyoci_bpf_prog_id(int fd, unsigned int *id)
    {
        union { union bpf_attr attr; char bytes[PYOCI_BPF_ATTR_SIZE]; } u;
        struct bpf_prog_info info;
        memset(&u, 0, sizeof u);
        memset(&info, 0, sizeof info);
        u.attr.info.bpf_fd = fd;
        u.attr.info.info_len = sizeof info;
        u.attr.info.info = (unsigned long)&info;
        if (pyoci_bpf(BPF_OBJ_GET_INFO_BY_FD, &u) < 0)
            return -1;
        *id = info.id;
        return 0;
    }
    """
    const int PYOCI_BPF_ATTR_SIZE
    int pyoci_bpf(int command, void *attr)
    int pyoci_bpf_prog_load(int type, const char *program, size_t size, char *log, size_t log_size)
    int pyoci_bpf_prog_id(int fd, unsigned int *id)


def bpf(int command, bytearray attr not None):
    """Call bpf(2). `attr` is the start of a union bpf_attr; the kernel may write to it. Returns the kernel's result."""
    cdef char buffer[256]
    cdef char *start = attr
    cdef Py_ssize_t size = len(attr)
    cdef int result
    if size > PYOCI_BPF_ATTR_SIZE:
        raise ValueError("attr is longer than 256 bytes")
    for i in range(PYOCI_BPF_ATTR_SIZE):
        buffer[i] = start[i] if i < size else 0
    result = pyoci_bpf(command, buffer)
    if result < 0:
        PyErr_SetFromErrno(OSError)
    for i in range(size):
        start[i] = buffer[i]
    return result


def bpf_prog_load(int type, bytes program not None, bytearray log=None):
    """Load `program`, an array of struct bpf_insn, and return its descriptor. The verifier writes to `log`."""
    cdef char *log_start = NULL
    cdef Py_ssize_t log_size = 0
    cdef int fd
    if log is not None:
        log_start = log
        log_size = len(log)
    fd = pyoci_bpf_prog_load(type, program, len(program), log_start, log_size)
    if fd < 0:
        PyErr_SetFromErrno(OSError)
    return fd


def bpf_prog_id(int fd):
    """The kernel's id of a loaded program."""
    cdef unsigned int id = 0
    if pyoci_bpf_prog_id(fd, &id) < 0:
        PyErr_SetFromErrno(OSError)
    return id


# --- classic BPF: the decision of a seccomp filter

cdef extern from *:
    """
    #include <linux/audit.h>
    #include <linux/filter.h>
    #include <linux/seccomp.h>
    #include <sched.h>
    #include <stddef.h>
    #include <stdint.h>
    #include <sys/ioctl.h>

    #if defined(__x86_64__)
    #define PYOCI_AUDIT_ARCH AUDIT_ARCH_X86_64
    #elif defined(__aarch64__)
    #define PYOCI_AUDIT_ARCH AUDIT_ARCH_AARCH64
    #elif defined(__riscv)
    #define PYOCI_AUDIT_ARCH AUDIT_ARCH_RISCV64
    #elif defined(__powerpc64__)
    #define PYOCI_AUDIT_ARCH AUDIT_ARCH_PPC64LE
    #elif defined(__s390x__)
    #define PYOCI_AUDIT_ARCH AUDIT_ARCH_S390X
    #endif

    /* Whether the filter allows a system call with these arguments, of which the first `known` are given. Returns 0 if
     * it loads another argument, or has an instruction that pyoci.compiler.seccomp does not use. */
    static int pyoci_allows(const struct sock_filter *code, size_t count, long number, int known,
                            const uint64_t *arguments)
    {
        struct seccomp_data data = {.nr = (int)number, .arch = PYOCI_AUDIT_ARCH};
        uint32_t a = 0;
        for (int i = 0; i < known; i++)
            data.args[i] = arguments[i];
        for (size_t at = 0; at < count; at++) {
            const struct sock_filter *in = code + at;
            size_t jump = 0;
            switch (in->code) {
            case BPF_LD | BPF_W | BPF_ABS:
                if (in->k % 4 || (in->k >= 8 && in->k < offsetof(struct seccomp_data, args))
                    || in->k >= offsetof(struct seccomp_data, args) + sizeof(uint64_t) * (size_t)known)
                    return 0;
                memcpy(&a, (const char *)&data + in->k, sizeof a);
                break;
            case BPF_ALU | BPF_AND | BPF_K: a &= in->k; break;
            case BPF_JMP | BPF_JA: jump = in->k; break;
            case BPF_JMP | BPF_JEQ | BPF_K: jump = a == in->k ? in->jt : in->jf; break;
            case BPF_JMP | BPF_JGT | BPF_K: jump = a > in->k ? in->jt : in->jf; break;
            case BPF_JMP | BPF_JGE | BPF_K: jump = a >= in->k ? in->jt : in->jf; break;
            case BPF_JMP | BPF_JSET | BPF_K: jump = a & in->k ? in->jt : in->jf; break;
            case BPF_RET | BPF_K: {
                uint32_t action = in->k & SECCOMP_RET_ACTION_FULL;
                return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG;
            }
            default: return 0;
            }
            at += jump;
        }
        return 0;
    }

    /* Whether the filter allows all of these calls with any arguments. */
    static int pyoci_allows_all(const struct sock_filter *code, size_t count, const long *numbers, size_t length)
    {
        for (size_t i = 0; i < length; i++)
            if (!pyoci_allows(code, count, numbers[i], 0, NULL))
                return 0;
        return 1;
    }

    /* The calls of the bootstrap process, and of the process that it clones, between loading the filter and execve. */
    static int pyoci_admits_setup(const char *program, size_t size, int privileged, int terminal, int starts,
                                  int settings)
    {
        static const long always[] = {SYS_write, SYS_read, SYS_setsid, SYS_exit_group},
            for_start[] = {SYS_close, SYS_rt_sigaction, SYS_rt_sigprocmask},
            for_settings[] = {
                SYS_prlimit64, SYS_sched_setattr, SYS_ioprio_set, SYS_set_mempolicy, SYS_get_mempolicy},
            for_capabilities[] = {SYS_capset, SYS_capget};
    #if defined(__s390x__)
        static const uint64_t clone[] = {0, CLONE_PARENT, 0, 0, 0};
    #else
        static const uint64_t clone[] = {CLONE_PARENT, 0, 0, 0, 0};
    #endif
        static const uint64_t control[] = {0, TIOCSCTTY, 0};
        const struct sock_filter *code = (const void *)program;
        size_t count = size / sizeof *code;
    #define ALLOWS_ALL(calls) pyoci_allows_all(code, count, calls, sizeof calls / sizeof *calls)
        return pyoci_allows(code, count, SYS_clone, 5, clone)
            && ALLOWS_ALL(always)
            && (!starts || ALLOWS_ALL(for_start))
            && (!settings || ALLOWS_ALL(for_settings))
            && (!terminal || pyoci_allows(code, count, SYS_ioctl, 3, control))
            && (!privileged || ALLOWS_ALL(for_capabilities));
    #undef ALLOWS_ALL
    }
    """
    int pyoci_admits_setup(const char *program, size_t size, int privileged, int terminal, int starts, int settings)


def admits_setup(bytes program not None, bint privileged, bint terminal, bint starts=False, bint settings=False):
    """Whether a seccomp filter allows the calls that the child makes between loading it and execve.

    The child clones a process, talks to the runtime and leads a session. If `privileged`, it also drops the capability
    that loaded the filter. With a `terminal`, it makes that its own. If it `starts`, it waits for `start`. With
    `settings`, it sets limits and priorities. `program` is an array of struct sock_filter, as `pyoci.compiler.seccomp`
    compiles it.
    """
    return bool(pyoci_admits_setup(program, <size_t>len(program), privileged, terminal, starts, settings))
