# Declarations of the kernel and the C library that native code uses.
# Values that Debian 12's headers lack are given as numbers; all of them are part of the kernel's stable ABI.

from libc.errno cimport errno, E2BIG, EACCES, EAGAIN, EBUSY, EEXIST, EFBIG, EINTR, EINVAL, EISDIR, ELOOP
from libc.errno cimport ENAMETOOLONG, ENODEV, ENOENT, ENOSYS, ENOTDIR, EPERM, EOPNOTSUPP, ESRCH, ETIMEDOUT, EXDEV
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, intptr_t
from libc.string cimport memcmp, memcpy, memmove, memset, strchr, strcmp, strlen, strncmp

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <dirent.h>
    #include <fcntl.h>
    #include <grp.h>
    #include <poll.h>
    #include <sched.h>
    #include <signal.h>
    #include <stdlib.h>
    #include <sys/ioctl.h>
    #include <sys/mman.h>
    #include <sys/personality.h>
    #include <sys/prctl.h>
    #include <sys/resource.h>
    #include <sys/socket.h>
    #include <sys/stat.h>
    #include <sys/statfs.h>
    #include <sys/syscall.h>
    #include <sys/sysmacros.h>
    #include <sys/types.h>
    #include <sys/uio.h>
    #include <sys/wait.h>
    #include <net/if.h>
    #include <linux/nsfs.h>
    #include <elf.h>
    #include <time.h>
    #include <unistd.h>

    #define set_errno(error) (errno = (error))
    #define FD_LAST 0xFFFFFFFFu /* the last descriptor of close_range(2): "to the end" */
    #include <errno.h>
    #ifndef SYS_openat2
    #define SYS_openat2 437
    #endif
    #ifndef SYS_mount_setattr
    #define SYS_mount_setattr 442
    #endif
    #ifndef SYS_fchmodat2
    #define SYS_fchmodat2 452
    #endif
    #ifndef TIOCGPTPEER
    #define TIOCGPTPEER _IO('T', 0x41)
    #endif
    #ifndef PIDFD_GET_INFO
    #define PIDFD_GET_INFO _IOC(_IOC_READ | _IOC_WRITE, 0xFF, 11, 64) /* the size of the first struct pidfd_info */
    #endif
    #if defined(__x86_64__)
    #define OWN_MACHINE EM_X86_64
    #define OWN_MACHINE_32 EM_386
    #elif defined(__aarch64__)
    #define OWN_MACHINE EM_AARCH64
    #define OWN_MACHINE_32 EM_ARM
    #elif defined(__riscv) && __riscv_xlen == 64
    #define OWN_MACHINE EM_RISCV
    #define OWN_MACHINE_32 EM_RISCV
    #elif defined(__powerpc64__)
    #define OWN_MACHINE EM_PPC64
    #define OWN_MACHINE_32 EM_PPC64
    #elif defined(__s390x__)
    #define OWN_MACHINE EM_S390
    #define OWN_MACHINE_32 EM_S390
    #else
    #error "pyoci does not support this architecture"
    #endif
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #define OTHER_ORDER ELFDATA2MSB
    #else
    #define OTHER_ORDER ELFDATA2LSB
    #endif
    /* clone(2), whose arguments stand in another order on s390. The new process goes on with a copy of the stack. */
    #if defined(__s390x__)
    #define CLONE_ARGUMENTS(flags, pidfd) NULL, (long)(flags), (pidfd), NULL, NULL
    #else
    #define CLONE_ARGUMENTS(flags, pidfd) (long)(flags), NULL, (pidfd), NULL, NULL
    #endif
    #define clone_process(flags, pidfd) syscall(SYS_clone, CLONE_ARGUMENTS(flags, pidfd))
    """
    ctypedef int pid_t
    ctypedef unsigned int uid_t
    ctypedef unsigned int gid_t
    ctypedef unsigned int mode_t
    ctypedef long off_t
    ctypedef long time_t

    long syscall(long number, ...) nogil
    long SYS_openat2, SYS_open_tree, SYS_move_mount, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick
    long SYS_mount_setattr, SYS_clone, SYS_close_range, SYS_pidfd_getfd, SYS_pidfd_send_signal
    long SYS_pivot_root, SYS_capset, SYS_capget, SYS_seccomp, SYS_keyctl, SYS_faccessat2, SYS_getcwd, SYS_fchmodat2
    long SYS_getdents64, SYS_setresuid, SYS_setresgid, SYS_setfsuid, SYS_setfsgid, SYS_setgroups
    long SYS_sethostname, SYS_setdomainname, SYS_sched_setaffinity, SYS_prlimit64, SYS_rt_sigaction
    long SYS_mount, SYS_umount2
    long SYS_fsetxattr, SYS_sched_setattr, SYS_ioprio_set, SYS_set_mempolicy, SYS_get_mempolicy, SYS_ptrace

    int AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, AT_EACCESS
    int O_PATH, O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_RDONLY, O_WRONLY, O_RDWR, O_ACCMODE
    int O_CREAT, O_EXCL, O_NONBLOCK, O_NOCTTY
    int F_DUPFD_CLOEXEC, F_GETFD, F_SETFL, F_GETFL, FD_CLOEXEC
    int openat(int dirfd, const char *path, int flags, ...) nogil
    int open(const char *path, int flags, ...) nogil
    int close(int fd) nogil
    int dup2(int oldfd, int newfd) nogil
    int pipe2(int *fds, int flags) nogil
    int fcntl(int fd, int cmd, ...) nogil
    int ioctl(int fd, unsigned long request, ...) nogil
    ssize_t read(int fd, void *buffer, size_t count) nogil
    ssize_t pread(int fd, void *buffer, size_t count, off_t offset) nogil
    ssize_t write(int fd, const void *buffer, size_t count) nogil
    ssize_t pwrite(int fd, const void *buffer, size_t count, off_t offset) nogil
    off_t lseek(int fd, off_t offset, int whence) nogil
    int SEEK_SET
    int mkdirat(int dirfd, const char *path, mode_t mode) nogil
    int mknodat(int dirfd, const char *path, mode_t mode, unsigned long dev) nogil
    int symlinkat(const char *target, int dirfd, const char *path) nogil
    ssize_t readlinkat(int dirfd, const char *path, char *buffer, size_t size) nogil
    int fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags) nogil
    int fchown(int fd, uid_t uid, gid_t gid) nogil
    int fchmod(int fd, mode_t mode) nogil
    int fchmodat(int dirfd, const char *path, mode_t mode, int flags) nogil
    int socketpair(int domain, int type, int protocol, int *fds) nogil
    int AF_UNIX, SOCK_SEQPACKET
    int fchdir(int fd) nogil
    int chdir(const char *path) nogil
    int chroot(const char *path) nogil
    unsigned long makedev(unsigned int major, unsigned int minor) nogil
    unsigned int major(unsigned long dev) nogil
    unsigned int minor(unsigned long dev) nogil

    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *ts) nogil

    cdef struct stat_t "stat":
        unsigned long st_dev
        unsigned long st_ino
        mode_t st_mode
        uid_t st_uid
        gid_t st_gid
        unsigned long st_rdev
        off_t st_size
        unsigned long st_nlink
    int fstat(int fd, stat_t *buffer) nogil
    int fstatat(int dirfd, const char *path, stat_t *buffer, int flags) nogil
    mode_t S_IFMT, S_IFDIR, S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFLNK

    int OWN_MACHINE, OWN_MACHINE_32, OTHER_ORDER, ELFDATA2MSB
    unsigned int PT_INTERP

    cdef struct statfs_t "statfs":
        long f_type
        long f_flags
    int fstatfs(int fd, statfs_t *buffer) nogil
    int statfs(const char *path, statfs_t *buffer) nogil

    cdef struct pollfd:
        int fd
        short events
        short revents
    short POLLIN
    int poll(pollfd *fds, unsigned long count, int timeout) nogil

    ctypedef struct sigset_t:
        pass
    cdef struct sigaction_t "sigaction":
        void (*sa_handler)(int) noexcept nogil
        int sa_flags
        sigset_t sa_mask
    void (*SIG_IGN)(int) noexcept nogil
    int clone(int (*function)(void *) noexcept nogil, void *stack, int flags, void *argument, ...) nogil
    long clone_process(long flags, int *pidfd) nogil
    enum: CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_THREAD, CLONE_SYSVSEM
    int sigaction(int signum, const sigaction_t *act, sigaction_t *old) nogil
    int sigemptyset(sigset_t *set) nogil
    int sigfillset(sigset_t *set) nogil
    int sigprocmask(int how, const sigset_t *set, sigset_t *old) nogil
    int SIG_SETMASK, SIGKILL, SIGCHLD, SIGPIPE, SIGINT, SIGQUIT, SIGTERM
    int kill(pid_t pid, int sig) nogil
    int setpgid(pid_t pid, pid_t pgid) nogil
    pid_t setsid() nogil
    pid_t waitpid(pid_t pid, int *status, int options) nogil
    mode_t umask(mode_t mask) nogil
    int setns(int fd, int nstype) nogil
    int unshare(int flags) nogil
    int prctl(int option, ...) nogil
    int personality(unsigned long persona) nogil
    int execve(const char *path, char **argv, char **envp) nogil
    void _exit(int status) nogil

    int socket(int domain, int type, int protocol) nogil
    int AF_INET, SOCK_DGRAM, SOCK_CLOEXEC

    cdef struct winsize:
        unsigned short ws_row
        unsigned short ws_col
        unsigned short ws_xpixel
        unsigned short ws_ypixel
    unsigned long TIOCSWINSZ, TIOCSPTLCK, TIOCGPTN, TIOCGPTPEER, TIOCSCTTY, SIOCSIFFLAGS, SIOCGIFFLAGS
    unsigned long NS_GET_USERNS, NS_GET_NSTYPE, PIDFD_GET_INFO
    cdef struct ifreq:
        char ifr_name[16]
        short ifr_flags
    int IFF_UP

    void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) nogil
    int munmap(void *address, size_t size) nogil
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS
    void *MAP_FAILED

    unsigned int FD_LAST

    void set_errno(int error) nogil
    void *malloc(size_t size) nogil
    void free(void *pointer) nogil

cdef enum:
    RESOLVE_NO_XDEV = 0x01
    RESOLVE_NO_MAGICLINKS = 0x02
    RESOLVE_NO_SYMLINKS = 0x04
    RESOLVE_BENEATH = 0x08
    RESOLVE_IN_ROOT = 0x10

    OPEN_TREE_CLONE = 1
    AT_RECURSIVE = 0x8000
    MOVE_MOUNT_F_EMPTY_PATH = 0x04
    MOVE_MOUNT_T_EMPTY_PATH = 0x40
    FSOPEN_CLOEXEC = 1
    FSMOUNT_CLOEXEC = 1
    FSPICK_CLOEXEC = 1
    FSPICK_EMPTY_PATH = 8
    FSCONFIG_SET_FLAG = 0
    FSCONFIG_SET_STRING = 1
    FSCONFIG_SET_FD = 5
    FSCONFIG_CMD_CREATE = 6
    FSCONFIG_CMD_RECONFIGURE = 7

    MOUNT_ATTR_RDONLY = 0x01
    MOUNT_ATTR_NOSUID = 0x02
    MOUNT_ATTR_NODEV = 0x04
    MOUNT_ATTR_NOEXEC = 0x08
    MOUNT_ATTR_ATIME = 0x70
    MOUNT_ATTR_IDMAP = 0x100000

    MS_PRIVATE = 1 << 18
    MS_SLAVE = 1 << 19
    MS_SHARED = 1 << 20
    MNT_DETACH = 2
    UMOUNT_NOFOLLOW = 8

    CLONE_PIDFD = 0x1000
    CLONE_PARENT = 0x8000

    PR_SET_PDEATHSIG = 1
    PR_SET_DUMPABLE = 4
    PR_SET_KEEPCAPS = 8
    PR_SET_NAME = 15
    PR_CAPBSET_READ = 23
    PR_CAPBSET_DROP = 24
    PR_SET_NO_NEW_PRIVS = 38
    PR_CAP_AMBIENT = 47
    PR_CAP_AMBIENT_RAISE = 2
    PR_CAP_AMBIENT_CLEAR_ALL = 4
    CAPABILITY_VERSION_3 = 0x20080522

    KEYCTL_JOIN_SESSION_KEYRING = 1
    SECCOMP_SET_MODE_FILTER = 1
    IOPRIO_WHO_PROCESS = 1
    PTRACE_GET_SYSCALL_INFO = 0x420E

    PROC_SUPER_MAGIC = 0x9FA0
    SYSFS_MAGIC = 0x62656572
    INT_MAX = 0x7FFFFFFF
    DEVPTS_SUPER_MAGIC = 0x1CD1
    CLOSE_RANGE_CLOEXEC = 4

cdef struct open_how:
    uint64_t flags
    uint64_t mode
    uint64_t resolve

cdef struct mount_attr:
    uint64_t attr_set
    uint64_t attr_clr
    uint64_t propagation
    uint64_t userns_fd

cdef struct clone_args:
    uint64_t flags
    uint64_t pidfd
    uint64_t child_tid
    uint64_t parent_tid
    uint64_t exit_signal
    uint64_t stack
    uint64_t stack_size
    uint64_t tls
    uint64_t set_tid
    uint64_t set_tid_size
    uint64_t cgroup
