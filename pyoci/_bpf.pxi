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
