# bpf(2), which Python lacks. Included by _native.pyx.
#
# Every call passes a zeroed attr of 256 bytes: kernels take a longer attr than they know when the rest is
# zero, and some (6.17 to 7.1) answer a query with more bytes than the caller's attr has.

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
        /* The verifier gives up with EAGAIN when a signal is waiting; libbpf tries five times as well. */
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
    """bpf(command, attr): `attr` is the start of a union bpf_attr, written back. Returns what the kernel does."""
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
    """The descriptor of `program` (an array of struct bpf_insn), loaded; the verifier explains itself in `log`."""
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


# --- classic BPF: what a seccomp filter will say

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
    #else
    #define PYOCI_AUDIT_ARCH 0 /* there is no filter for such a machine */
    #endif

    /* Whether the filter lets a system call through, of whose arguments the first `known` are these. One that asks for
     * another, or has an instruction that the compiler of filters does not use, does not count. */
    static int pyoci_admits(const struct sock_filter *code, size_t count, long number, int known, const uint64_t *arguments)
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

    /* What a process and the one that it clones do between the load of the filter and execve. */
    static int pyoci_admits_setup(const char *program, size_t size, int privileged, int terminal, int starts, int settings)
    {
        const struct sock_filter *code = (const void *)program;
        size_t count = size / sizeof *code;
        const uint64_t clone[] = {CLONE_PARENT, 0, 0, 0, 0}, control[] = {0, TIOCSCTTY, 0};
        return pyoci_admits(code, count, SYS_clone, 5, clone)
            && pyoci_admits(code, count, SYS_write, 0, NULL) && pyoci_admits(code, count, SYS_read, 0, NULL)
            && pyoci_admits(code, count, SYS_setsid, 0, NULL) && pyoci_admits(code, count, SYS_exit_group, 0, NULL)
            && (!starts || (pyoci_admits(code, count, SYS_close, 0, NULL) && pyoci_admits(code, count, SYS_rt_sigaction, 0, NULL)
                && pyoci_admits(code, count, SYS_rt_sigprocmask, 0, NULL)))
            && (!settings || (pyoci_admits(code, count, SYS_prlimit64, 0, NULL)
                && pyoci_admits(code, count, SYS_sched_setattr, 0, NULL) && pyoci_admits(code, count, SYS_ioprio_set, 0, NULL)
                && pyoci_admits(code, count, SYS_set_mempolicy, 0, NULL)
                && pyoci_admits(code, count, SYS_get_mempolicy, 0, NULL)))
            && (!terminal || pyoci_admits(code, count, SYS_ioctl, 3, control))
            && (!privileged || (pyoci_admits(code, count, SYS_capset, 0, NULL) && pyoci_admits(code, count, SYS_capget, 0, NULL)));
    }
    """
    int pyoci_admits_setup(const char *program, size_t size, int privileged, int terminal, int starts, int settings)


def admits_setup(bytes program not None, bint privileged, bint terminal, bint starts=False, bint settings=False):
    """Whether a seccomp filter admits what is done under it until the program runs: clone a process, talk to the runtime,
    lead a session; `privileged`, drop the capability that has loaded it; with a `terminal` take that; with `starts` wait
    for `start`; with `settings` set limits and priorities.

    `program` is an array of struct sock_filter, as `pyoci.compiler.seccomp` compiles it.
    """
    return bool(pyoci_admits_setup(program, <size_t>len(program), privileged, terminal, starts, settings))
