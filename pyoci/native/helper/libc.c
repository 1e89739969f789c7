/* The C library of the helper: a start, system calls, and a few functions on memory and strings.
 *
 * The helper (native/child/) needs nothing else of a C library. It is linked with this file alone, so a call of
 * anything that is missing here, such as malloc or a function of Python, ends the build. glibc's own start would take
 * half a millisecond in a virtual machine, because it executes CPUID up to 68 times.
 *
 * The headers are the host's C library's, so the layouts of structures are the kernel's or are converted here. */
#define _GNU_SOURCE
#include <errno.h>
#include <elf.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "raw.h"

#define LARGE(name) __attribute__((alias(#name)))

void pyoci_helper(char *name, char *argument);

/* --- start */

/* The compiler's stack protector compares with this value, and calls __stack_chk_fail. On s390 the value lies 40 bytes
 * behind the thread pointer. On all others but x86-64, the thread pointer leads to it. */
#if defined(__s390x__)
static uintptr_t thread[6];
#define __stack_chk_guard thread[5]
#else
uintptr_t __stack_chk_guard;
#endif

__attribute__((noreturn)) void __stack_chk_fail(void)
{
    kill((pid_t)pyoci_raw(SYS_getpid, 0, 0, 0, 0, 0, 0), SIGABRT);
    _exit(127);
}

static const Elf64_auxv_t *auxiliary;

unsigned long getauxval(unsigned long type)
{
    for (const Elf64_auxv_t *entry = auxiliary; entry->a_type != AT_NULL; entry++)
        if (entry->a_type == type)
            return entry->a_un.a_val;
    return 0;
}

/* The kernel puts on the stack: the count of arguments, the arguments, NULL, the environment, NULL, the auxiliary
 * vector. */
__attribute__((noreturn, used)) PYOCI_UNGUARDED void pyoci_begin(const uintptr_t *stack)
{
    int count = (int)stack[0];
    char **arguments = (char **)(stack + 1);
    const uintptr_t *entry = stack + 1 + count + 1;
    while (*entry++ != 0)
        ;
    auxiliary = (const Elf64_auxv_t *)entry;
    const char *random = (const char *)getauxval(AT_RANDOM);
    if (random != NULL)
        memcpy(&__stack_chk_guard, random, sizeof __stack_chk_guard);
    *(char *)&__stack_chk_guard = 0; /* a NUL stops functions on strings */
#if defined(__aarch64__)
    __asm__ volatile("msr tpidr_el0, %0" : : "r"(&__stack_chk_guard));
#elif defined(__riscv)
    __asm__ volatile("mv tp, %0" : : "r"(&__stack_chk_guard));
#elif defined(__powerpc64__)
    __asm__ volatile("mr 13, %0" : : "r"(&__stack_chk_guard));
#elif defined(__s390x__)
    unsigned long pointer = (unsigned long)thread; /* its halves go to two access registers */
    __asm__ volatile("sar %%a1, %0\n\t"
                     "srlg %0, %0, 32\n\t"
                     "sar %%a0, %0"
                     : "+d"(pointer)
                     :
                     : "memory");
#endif
    if (count == 2)
        pyoci_helper(arguments[0], arguments[1]);
    _exit(127);
}

#if defined(__x86_64__)
__asm__(".globl _start\n"
        ".type _start, @function\n"
        "_start:\n"
        "    endbr64\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call pyoci_begin\n"
        "    hlt\n"
        ".type pyoci_restore, @function\n"
        "pyoci_restore:\n"
        "    mov $15, %eax\n" /* rt_sigreturn */
        "    syscall\n");
void pyoci_restore(void);
#elif defined(__aarch64__)
__asm__(".globl _start\n"
        ".type _start, %function\n"
        "_start:\n"
        "    hint #34\n" /* bti c */
        "    mov x29, xzr\n"
        "    mov x30, xzr\n"
        "    mov x0, sp\n"
        "    bl pyoci_begin\n"
        "    brk #1\n");
#elif defined(__riscv)
__asm__(".globl _start\n"
        ".type _start, @function\n"
        "_start:\n"
        "    .option push\n"
        "    .option norelax\n" /* relaxed, it would read gp, which it sets */
        "    lla gp, __global_pointer$\n"
        "    .option pop\n"
        "    li ra, 0\n"
        "    mv a0, sp\n"
        "    andi sp, sp, -16\n"
        "    call pyoci_begin\n"
        "    ebreak\n");
#elif defined(__powerpc64__)
__asm__(".globl _start\n"
        ".type _start, @function\n"
        "_start:\n"
        "0:  addis 2, 12, .TOC.-0b@ha\n" /* the kernel leaves the address of _start in r12 */
        "    addi 2, 2, .TOC.-0b@l\n"
        "    mr 3, 1\n"
        "    clrrdi 1, 1, 4\n"
        "    li 0, 0\n"
        "    mtlr 0\n"
        "    stdu 0, -64(1)\n"
        "    bl pyoci_begin\n"
        "    nop\n"
        "    trap\n");
#elif defined(__s390x__)
__asm__(".globl _start\n"
        ".type _start, @function\n"
        "_start:\n"
        "    lgr %r2, %r15\n"
        "    aghi %r15, -160\n"
        "    xc 0(8,%r15), 0(%r15)\n"
        "    brasl %r14, pyoci_begin\n"
        "    j .+2\n");
#else
#error "the helper has no start for this architecture"
#endif

/* --- errno */

/* One for all threads: the only other thread, close_listener, ignores it. */
static int error_number;

int *__errno_location(void) { return &error_number; }

static long result(long value)
{
    if (value >= 0 || value < -4095)
        return value;
    error_number = (int)-value;
    return -1;
}

#define CALL6(name, a, b, c, d, e, f)                                                                                  \
    result(pyoci_raw(SYS_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)))
#define CALL5(name, a, b, c, d, e) CALL6(name, a, b, c, d, e, 0)
#define CALL4(name, a, b, c, d) CALL5(name, a, b, c, d, 0)
#define CALL3(name, a, b, c) CALL4(name, a, b, c, 0)
#define CALL2(name, a, b) CALL3(name, a, b, 0)
#define CALL1(name, a) CALL2(name, a, 0)
#define CALL0(name) CALL1(name, 0)

long syscall(long number, ...)
{
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    return result(pyoci_raw(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

/* --- files */

int openat(int directory, const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0;
    va_end(list);
    return (int)CALL4(openat, directory, path, flags, mode);
}
int openat64(int directory, const char *path, int flags, ...) LARGE(openat);

/* Without a mode: the child never creates a file by its path alone. */
int open(const char *path, int flags, ...) { return (int)CALL4(openat, AT_FDCWD, path, flags, 0); }
int open64(const char *path, int flags, ...) LARGE(open);

int close(int fd) { return (int)CALL1(close, fd); }
ssize_t read(int fd, void *buffer, size_t size) { return CALL3(read, fd, buffer, size); }
ssize_t write(int fd, const void *buffer, size_t size) { return CALL3(write, fd, buffer, size); }
ssize_t pread(int fd, void *buffer, size_t size, off_t at) { return CALL4(pread64, fd, buffer, size, at); }
ssize_t pread64(int fd, void *buffer, size_t size, off64_t at) LARGE(pread);
off_t lseek(int fd, off_t offset, int whence) { return CALL3(lseek, fd, offset, whence); }
off64_t lseek64(int fd, off64_t offset, int whence) LARGE(lseek);
int fstat(int fd, struct stat *status) { return (int)CALL2(fstat, fd, status); }
int fstat64(int fd, struct stat64 *status) __attribute__((alias("fstat")));
int fstatat(int directory, const char *path, struct stat *status, int flags)
{
    return (int)CALL4(newfstatat, directory, path, status, flags);
}
int fstatat64(int directory, const char *path, struct stat64 *status, int flags) LARGE(fstatat);
int fstatfs(int fd, struct statfs *status) { return (int)CALL2(fstatfs, fd, status); }
int fstatfs64(int fd, struct statfs64 *status) LARGE(fstatfs);
int mkdirat(int directory, const char *path, mode_t mode) { return (int)CALL3(mkdirat, directory, path, mode); }
int mknodat(int directory, const char *path, mode_t mode, dev_t device)
{
    return (int)CALL4(mknodat, directory, path, mode, (unsigned int)device);
}
int symlinkat(const char *target, int directory, const char *path)
{
    return (int)CALL3(symlinkat, target, directory, path);
}
ssize_t readlinkat(int directory, const char *path, char *buffer, size_t size)
{
    return CALL4(readlinkat, directory, path, buffer, size);
}
int fchownat(int directory, const char *path, uid_t uid, gid_t gid, int flags)
{
    return (int)CALL5(fchownat, directory, path, uid, gid, flags);
}
int fchown(int fd, uid_t uid, gid_t gid) { return (int)CALL3(fchown, fd, uid, gid); }
int fchmod(int fd, mode_t mode) { return (int)CALL2(fchmod, fd, mode); }
int fchmodat(int directory, const char *path, mode_t mode, int flags)
{
    (void)flags; /* the kernel's call has no flags */
    return (int)CALL3(fchmodat, directory, path, mode);
}
int fchdir(int fd) { return (int)CALL1(fchdir, fd); }
int chdir(const char *path) { return (int)CALL1(chdir, path); }
int chroot(const char *path) { return (int)CALL1(chroot, path); }
mode_t umask(mode_t mask) { return (mode_t)CALL1(umask, mask); }
int pipe2(int fds[2], int flags) { return (int)CALL2(pipe2, fds, flags); }

int dup2(int old, int new)
{
#ifdef SYS_dup2
    return (int)CALL2(dup2, old, new);
#else
    if (old == new) /* dup3 rejects that */
        return CALL2(fcntl, old, F_GETFD) < 0 ? -1 : new;
    return (int)CALL3(dup3, old, new, 0);
#endif
}

int fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    long argument = va_arg(list, long);
    va_end(list);
    return (int)CALL3(fcntl, fd, command, argument);
}
int fcntl64(int fd, int command, ...) LARGE(fcntl);

int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    long argument = va_arg(list, long);
    va_end(list);
    return (int)CALL3(ioctl, fd, request, argument);
}

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
#ifdef SYS_poll
    return (int)CALL3(poll, fds, count, timeout);
#else
    struct timespec limit = {timeout / 1000, timeout % 1000 * 1000000L};
    return (int)CALL5(ppoll, fds, count, timeout < 0 ? NULL : &limit, NULL, 0);
#endif
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
#if defined(__s390x__)
    long arguments[] = {(long)address, (long)size, protection, flags, fd, offset};
    return (void *)CALL1(mmap, arguments);
#else
    return (void *)CALL6(mmap, address, size, protection, flags, fd, offset);
#endif
}
void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset) LARGE(mmap);

/* --- sockets */

int socket(int domain, int type, int protocol) { return (int)CALL3(socket, domain, type, protocol); }
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) { return CALL3(sendmsg, fd, message, flags); }
ssize_t recvmsg(int fd, struct msghdr *message, int flags) { return CALL3(recvmsg, fd, message, flags); }

/* --- processes */

int kill(pid_t pid, int signal) { return (int)CALL2(kill, pid, signal); }
int setpgid(pid_t pid, pid_t group) { return (int)CALL2(setpgid, pid, group); }
pid_t setsid(void) { return (pid_t)CALL0(setsid); }
int setns(int fd, int type) { return (int)CALL2(setns, fd, type); }
int unshare(int flags) { return (int)CALL1(unshare, flags); }
int personality(unsigned long persona) { return (int)CALL1(personality, persona); }
int clock_gettime(clockid_t clock, struct timespec *time) { return (int)CALL2(clock_gettime, clock, time); }
pid_t waitpid(pid_t pid, int *status, int options) { return (pid_t)CALL4(wait4, pid, status, options, NULL); }
int execve(const char *path, char *const argv[], char *const envp[]) { return (int)CALL3(execve, path, argv, envp); }

int prctl(int option, ...)
{
    va_list list;
    long a[4];
    va_start(list, option);
    for (int i = 0; i < 4; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    return (int)CALL5(prctl, option, a[0], a[1], a[2], a[3]);
}

void _exit(int status)
{
    for (;;)
        CALL1(exit_group, status);
}

/* Starts `function` on a stack of its own, which grows down from `stack`, and exits with its result. Only for threads:
 * there are no descriptors of the new thread to fill in. */
int clone(int (*function)(void *), void *stack, int flags, void *argument, ...)
{
    return (int)result(pyoci_raw_thread(flags, stack, function, argument));
}

/* --- signals */

/* The kernel's struct sigaction. Its sets of signals have 8 bytes, and the C library's have 128. */
struct kernel_sigaction {
    void (*handler)(int);
    unsigned long flags;
#if !defined(__riscv)
    void (*restore)(void);
#endif
    uint64_t mask;
};

enum { RESTORE = 0x04000000, SIGNALS = 8 };

int sigaction(int signal, const struct sigaction *action, struct sigaction *old)
{
    struct kernel_sigaction kernel = {.handler = action->sa_handler, .flags = (unsigned long)action->sa_flags};
    (void)old; /* callers pass NULL */
#if defined(__x86_64__)
    kernel.flags |= RESTORE; /* the kernel calls no handler without it */
    kernel.restore = pyoci_restore;
#endif
    memcpy(&kernel.mask, &action->sa_mask, SIGNALS);
    return (int)CALL4(rt_sigaction, signal, &kernel, NULL, SIGNALS);
}

int sigemptyset(sigset_t *set) { return memset(set, 0, sizeof *set), 0; }
int sigfillset(sigset_t *set) { return memset(set, 0xff, sizeof *set), 0; }
int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    return (int)CALL4(rt_sigprocmask, how, set, old, SIGNALS);
}

/* --- memory and strings. The compiler calls the first four by itself. */

#if defined(__x86_64__)
void *memcpy(void *restrict target, const void *restrict source, size_t size)
{
    void *end = target;
    __asm__ volatile("rep movsb" : "+D"(end), "+S"(source), "+c"(size) : : "memory");
    return target;
}

void *memset(void *target, int value, size_t size)
{
    void *end = target;
    __asm__ volatile("rep stosb" : "+D"(end), "+c"(size) : "a"(value) : "memory");
    return target;
}
#else
void *memcpy(void *restrict target, const void *restrict source, size_t size)
{
    char *to = target;
    const char *from = source;
    while (size--)
        *to++ = *from++;
    return target;
}

void *memset(void *target, int value, size_t size)
{
    char *to = target;
    while (size--)
        *to++ = (char)value;
    return target;
}
#endif

void *memmove(void *target, const void *source, size_t size)
{
    char *to = target;
    const char *from = source;
    if ((uintptr_t)to - (uintptr_t)from >= size)
        return memcpy(target, source, size);
    while (size--)
        to[size] = from[size];
    return target;
}

int memcmp(const void *first, const void *second, size_t size)
{
    const unsigned char *one = first, *two = second;
    for (; size > 0; size--, one++, two++)
        if (*one != *two)
            return *one - *two;
    return 0;
}

size_t strlen(const char *text)
{
    const char *end = text;
    while (*end != '\0')
        end++;
    return (size_t)(end - text);
}

char *(strchr)(const char *text, int character) /* a macro in C23 */
{
    for (;; text++) {
        if (*text == (char)character)
            return (char *)text;
        if (*text == '\0')
            return NULL;
    }
}

int strncmp(const char *first, const char *second, size_t size)
{
    for (; size > 0; size--, first++, second++) {
        if (*first != *second)
            return (unsigned char)*first - (unsigned char)*second;
        if (*first == '\0')
            break;
    }
    return 0;
}

int strcmp(const char *first, const char *second) { return strncmp(first, second, SIZE_MAX); }

unsigned int gnu_dev_major(dev_t device) { return (device >> 8 & 0xfff) | (unsigned int)(device >> 32 & ~0xfffU); }
unsigned int gnu_dev_minor(dev_t device) { return (device & 0xff) | (unsigned int)(device >> 12 & ~0xffU); }
dev_t gnu_dev_makedev(unsigned int major, unsigned int minor)
{
    dev_t high = (dev_t)(major & ~0xfffU) << 32 | (dev_t)(minor & ~0xffU) << 12;
    return high | (dev_t)(major & 0xfff) << 8 | (minor & 0xff);
}
