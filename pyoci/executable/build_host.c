/* The host as it looks while the build makes the image (image.c).
 *
 * Two builds of the same sources must give the same bytes, on any host, on any day and for any user. The image is the
 * memory of a process that has run commands. Commands read their host's /proc, their clock and their user. Even if
 * nothing of that stays, it decides how much memory they allocate in between, and so where later blocks lie.
 *
 * So while the image is made, Python sees a model instead. The linker redirects its calls to the functions below
 * (`--wrap`), which answer for one imaginary host: root's, with one clock reading, and with the files that image.py
 * writes. What a command creates in the build's own directory is real. The model sets the rest of its status.
 *
 * In every other process each function only calls that of the C library. */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "build_host.h"

/* image.py has the same number: /proc/4000000 is this process. Like other pids it fills an object of Python's, which
 * small ones do not. */
enum { MODEL_PID = 4000000 };
static const time_t NOW = 1700000000;

static const char *directory; /* NULL in every process but the build's */
static uint8_t next_random;

void build_host_begin(const char *its)
{
    directory = its;
    next_random = 0;
}

void build_host_end(void) { directory = NULL; }

/* Returns the path of a file of the model, if `path` is in a file system that the kernel provides. */
static const char *modelled(const char *path, char *space)
{
    if (directory == NULL || (strncmp(path, "/proc/", 6) != 0 && strncmp(path, "/sys/", 5) != 0))
        return path;
    snprintf(space, PATH_MAX, "%s/host%s", directory, path);
    return space;
}

/* --- files */

/* Each function exists twice, and programs that are compiled for large files use the second name. They are the same on
 * 64-bit machines. The parameters of open are those that it gets from the compiler: the mode may be missing. The C
 * library's function takes a variable number of them. On POWER it then writes to its caller's frame, where the compiler
 * leaves space only if the declaration says so. */
#define WRAP_OPEN(NAME)                                                                                                \
    int __real_##NAME(const char *path, int flags, ...);                                                               \
    int __wrap_##NAME(const char *path, int flags, mode_t mode);                                                       \
    int __wrap_##NAME(const char *path, int flags, mode_t mode)                                                        \
    {                                                                                                                  \
        char space[PATH_MAX];                                                                                          \
        return __real_##NAME(modelled(path, space), flags, mode);                                                      \
    }
#define WRAP_OPENAT(NAME)                                                                                              \
    int __real_##NAME(int at, const char *path, int flags, ...);                                                       \
    int __wrap_##NAME(int at, const char *path, int flags, mode_t mode);                                               \
    int __wrap_##NAME(int at, const char *path, int flags, mode_t mode)                                                \
    {                                                                                                                  \
        char space[PATH_MAX];                                                                                          \
        return __real_##NAME(at, modelled(path, space), flags, mode);                                                  \
    }
WRAP_OPEN(open)
WRAP_OPENAT(openat)
#ifdef __GLIBC__
WRAP_OPEN(open64)
WRAP_OPENAT(openat64)

/* What the compiler makes of open without a mode, with -D_FORTIFY_SOURCE. */
int __real___open64_2(const char *path, int flags);
int __wrap___open64_2(const char *path, int flags);
int __wrap___open64_2(const char *path, int flags)
{
    char space[PATH_MAX];
    return __real___open64_2(modelled(path, space), flags);
}
#endif

int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);
int __wrap_access(const char *path, int mode)
{
    char space[PATH_MAX];
    return __real_access(modelled(path, space), mode);
}

int __real_faccessat(int at, const char *path, int mode, int flags);
int __wrap_faccessat(int at, const char *path, int mode, int flags);
int __wrap_faccessat(int at, const char *path, int mode, int flags)
{
    char space[PATH_MAX];
    return __real_faccessat(at, modelled(path, space), mode, flags);
}

/* Keeps the type, the mode and the size of a file. Inode 1 also makes the model's /sys/fs/cgroup the root of its
 * hierarchy. */
static int same_everywhere(int result, struct stat *found)
{
    if (directory == NULL || result != 0)
        return result;
    struct stat model = {.st_mode = found->st_mode, .st_dev = 1, .st_ino = 1};
    model.st_nlink = S_ISDIR(found->st_mode) ? 2 : 1;
    model.st_size = S_ISREG(found->st_mode) ? found->st_size : 0;
    model.st_blksize = 4096;
    model.st_atime = model.st_mtime = model.st_ctime = NOW;
    *found = model;
    return 0;
}

#define WRAP_STAT(NAME)                                                                                                \
    int __real_##NAME(const char *path, struct stat *found);                                                           \
    int __wrap_##NAME(const char *path, struct stat *found);                                                           \
    int __wrap_##NAME(const char *path, struct stat *found)                                                            \
    {                                                                                                                  \
        char space[PATH_MAX];                                                                                          \
        return same_everywhere(__real_##NAME(modelled(path, space), found), found);                                    \
    }
#define WRAP_FSTAT(NAME)                                                                                               \
    int __real_##NAME(int fd, struct stat *found);                                                                     \
    int __wrap_##NAME(int fd, struct stat *found);                                                                     \
    int __wrap_##NAME(int fd, struct stat *found) { return same_everywhere(__real_##NAME(fd, found), found); }
#define WRAP_FSTATAT(NAME)                                                                                             \
    int __real_##NAME(int at, const char *path, struct stat *found, int flags);                                        \
    int __wrap_##NAME(int at, const char *path, struct stat *found, int flags);                                        \
    int __wrap_##NAME(int at, const char *path, struct stat *found, int flags)                                         \
    {                                                                                                                  \
        char space[PATH_MAX];                                                                                          \
        return same_everywhere(__real_##NAME(at, modelled(path, space), found, flags), found);                         \
    }
WRAP_STAT(stat)
WRAP_STAT(lstat)
WRAP_FSTAT(fstat)
WRAP_FSTATAT(fstatat)
#ifdef __GLIBC__
WRAP_STAT(stat64)
WRAP_STAT(lstat64)
WRAP_FSTAT(fstat64)
WRAP_FSTATAT(fstatat64)
#endif

/* The model's only file system that a command checks is that of cgroups. */
#define WRAP_STATFS(NAME)                                                                                              \
    int __real_##NAME(const char *path, struct statfs *found);                                                         \
    int __wrap_##NAME(const char *path, struct statfs *found);                                                         \
    int __wrap_##NAME(const char *path, struct statfs *found)                                                          \
    {                                                                                                                  \
        if (directory == NULL)                                                                                         \
            return __real_##NAME(path, found);                                                                         \
        memset(found, 0, sizeof *found);                                                                               \
        found->f_type = CGROUP2_SUPER_MAGIC;                                                                           \
        return 0;                                                                                                      \
    }
WRAP_STATFS(statfs)
#ifdef __GLIBC__
WRAP_STATFS(statfs64)
#endif

/* No file of the model has an extended attribute. */
ssize_t __real_getxattr(const char *path, const char *name, void *value, size_t size);
ssize_t __wrap_getxattr(const char *path, const char *name, void *value, size_t size);
ssize_t __wrap_getxattr(const char *path, const char *name, void *value, size_t size)
{
    if (directory == NULL)
        return __real_getxattr(path, name, value, size);
    errno = ENODATA;
    return -1;
}

/* --- the process and its user */

#define WRAP_ID(NAME, TYPE, MODEL)                                                                                     \
    TYPE __real_##NAME(void);                                                                                          \
    TYPE __wrap_##NAME(void);                                                                                          \
    TYPE __wrap_##NAME(void) { return directory == NULL ? __real_##NAME() : (TYPE)(MODEL); }
WRAP_ID(getuid, uid_t, 0)
WRAP_ID(geteuid, uid_t, 0)
WRAP_ID(getgid, gid_t, 0)
WRAP_ID(getegid, gid_t, 0)
WRAP_ID(getpid, pid_t, MODEL_PID)
WRAP_ID(PyThread_get_thread_ident, unsigned long, BUILD_THREAD)
#if PY_VERSION_HEX >= 0x030D0000
WRAP_ID(PyThread_get_thread_ident_ex, unsigned long long, BUILD_THREAD)
#endif

/* --- the kernel */

int __real_uname(struct utsname *found);
int __wrap_uname(struct utsname *found);
int __wrap_uname(struct utsname *found)
{
    int result = __real_uname(found);
    if (directory == NULL || result != 0)
        return result;
    struct utsname model = {.sysname = "Linux", .nodename = "model", .release = "6.12.0", .version = "#1"};
    memcpy(model.machine, found->machine, sizeof model.machine);
    *found = model;
    return 0;
}

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
    if (directory == NULL)
        return __real_clock_gettime(clock, time);
    *time = (struct timespec){.tv_sec = NOW, .tv_nsec = 123456789};
    return 0;
}

/* Names of temporary files must differ, so not all of these bytes are the same. */
static ssize_t predictable(void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)bytes)[i] = next_random++;
    return (ssize_t)size;
}

ssize_t __real_getrandom(void *bytes, size_t size, unsigned int flags);
ssize_t __wrap_getrandom(void *bytes, size_t size, unsigned int flags);
ssize_t __wrap_getrandom(void *bytes, size_t size, unsigned int flags)
{
    return directory == NULL ? __real_getrandom(bytes, size, flags) : predictable(bytes, size);
}

/* System calls without a function of their own get six words, as many as any has. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
    long word[6];
    va_list words;
    va_start(words, number);
    for (int i = 0; i < 6; i++)
        word[i] = va_arg(words, long);
    va_end(words);
    if (directory != NULL) {
        if (number == SYS_gettid)
            return MODEL_PID;
        if (number == SYS_getrandom)
            return predictable((void *)word[0], (size_t)word[1]);
        if (number == SYS_prlimit64 && (void *)word[3] != NULL) {
            *(struct rlimit *)word[3] = (struct rlimit){.rlim_cur = 1024, .rlim_max = 1 << 20};
            return 0;
        }
        if (number == SYS_pidfd_open && (pid_t)word[0] == MODEL_PID)
            word[0] = __real_getpid();
    }
    return __real_syscall(number, word[0], word[1], word[2], word[3], word[4], word[5]);
}
