/* Self-protection of the executable; see protect.h. The caller decides which commands need it. All methods work on the
 * descriptor of /proc/self/exe. */
#define _GNU_SOURCE
#include "protect.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From <linux/mount.h>, <linux/magic.h> and <linux/memfd.h>. Debian 12's libc headers either lack them or define them
 * in conflict with <sys/mount.h>. System calls since clone3 have the same number on every architecture. */
#ifndef SYS_fsopen
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
enum { FSOPEN_CLOEXEC_ = 1, FSMOUNT_CLOEXEC_ = 1, FSCONFIG_SET_STRING_ = 1, FSCONFIG_CMD_CREATE_ = 6 };
enum { ATTR_RDONLY = 0x01, ATTR_NOSUID = 0x02, ATTR_NODEV = 0x04, ATTR_NOATIME = 0x10, ATTR_NODIRATIME = 0x80 };
static const unsigned long OVERLAYFS_MAGIC = 0x794c7630;

static const int SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

/* The mount flags of our overlay. No administrator sets NODIRATIME beside NOATIME, which implies it. */
static const unsigned int OVERLAY_ATTRIBUTES = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOATIME | ATTR_NODIRATIME;
static const unsigned long OVERLAY_STATFS = ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOATIME | ST_NODIRATIME;

/* The step at which a method failed, for the message if every method fails. */
struct protect_failure {
    const char *step;
    int error;
};

static struct protect_failure failed(const char *step)
{
    return (struct protect_failure){step, errno};
}

/* Executes the file behind `fd`. Returns only on failure. */
static struct protect_failure execute(int fd, char *const argv[])
{
    extern char **environ;
    syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
    struct protect_failure failure = failed("execveat");
    close(fd);
    return failure;
}

/* Method 1: a detached overlay of two lower directories without an upper one. The kernel can't make it writable.
 * Nothing is copied: its pages are those of the installed file. */

/* Appends `directory` at `end`, with overlayfs' separators escaped. Returns the new end. */
static char *append_lower(char *end, const char *directory)
{
    for (const char *c = directory; *c != '\0'; c++) {
        if (*c == ':' || *c == '\\')
            *end++ = '\\';
        *end++ = *c;
    }
    *end = '\0';
    return end;
}

/* Returns a detached read-only overlay whose first layer is `directory`, or -1. overlayfs requires a second lower layer
 * that neither contains the first nor lies in it. */
static int mount_overlay(const char *directory, const char *other, struct protect_failure *failure)
{
    char lower[2 * PATH_MAX + 64];
    char *end = append_lower(lower, directory);
    *end++ = ':';
    append_lower(end, other);

    int mount = -1;
    int context = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC_);
    if (context < 0) {
        *failure = failed("fsopen");
        return -1;
    }
    if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING_, "lowerdir", lower, 0) < 0)
        *failure = failed("fsconfig lowerdir");
    else if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE_, NULL, NULL, 0) < 0)
        *failure = failed("fsconfig create");
    else if ((mount = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC_, OVERLAY_ATTRIBUTES)) < 0)
        *failure = failed("fsmount");
    close(context);
    return mount;
}

static struct protect_failure execute_from_overlay(char *const argv[])
{
    static const char *const others[] = {"/dev", "/sys", "/run", "/etc"};
    struct protect_failure failure = {"no second directory", ENOENT};

    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0 || (size_t)length == sizeof path - 1)
        return failed("readlink /proc/self/exe");
    path[length] = '\0';
    char *name = strrchr(path, '/');
    if (name == NULL || name == path)  /* in "/": every other directory lies in it */
        return failure;
    *name++ = '\0';

    struct stat installed, seen;
    if (stat("/proc/self/exe", &installed) < 0)
        return failed("stat /proc/self/exe");
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        int mount = mount_overlay(path, others[i], &failure);
        if (mount < 0 && strcmp(failure.step, "fsconfig create") == 0)
            continue;
        if (mount < 0)
            return failure;
        int fd = openat(mount, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        failure = failed("openat in overlay");
        close(mount);
        if (fd < 0)
            return failure;
        /* An upgrade in this very moment may have replaced the file. */
        if (fstat(fd, &seen) < 0 || seen.st_size != installed.st_size || seen.st_mtime != installed.st_mtime) {
            close(fd);
            return (struct protect_failure){"the executable was replaced", ESTALE};
        }
        return execute(fd, argv);
    }
    return failure;
}

/* Whether `fd` is in an overlay from execute_from_overlay: it has its flags, and lies at the root of a detached mount.
 * */
static bool in_overlay(int fd)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0 || (unsigned long)fs.f_type != OVERLAYFS_MAGIC)
        return false;
    if (((unsigned long)fs.f_flags & OVERLAY_STATFS) != OVERLAY_STATFS)
        return false;

    char path[NAME_MAX + 2];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    if (length < 2 || (size_t)length == sizeof path)
        return false;
    path[length] = '\0';
    if (path[0] != '/' || strchr(path + 1, '/') != NULL)
        return false;

    struct stat here, there;
    if (fstat(fd, &here) < 0)
        return false;
    if (lstat(path, &there) < 0)
        return errno == ENOENT;
    return here.st_dev != there.st_dev || here.st_ino != there.st_ino;
}

/* Methods 2 and 3: a private copy. */

static struct protect_failure copy_executable(int target)
{
    struct stat status;
    int source = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (source < 0)
        return failed("open /proc/self/exe");
    struct protect_failure failure = {NULL, 0};
    if (fstat(source, &status) < 0)
        failure = failed("fstat");
    off_t offset = 0;
    while (failure.step == NULL && offset < status.st_size) {
        ssize_t copied = sendfile(target, source, &offset, (size_t)(status.st_size - offset));
        if (copied == 0)
            errno = EIO;
        if (copied <= 0 && errno != EINTR)
            failure = failed("sendfile");
    }
    close(source);
    return failure;
}

static struct protect_failure execute_from_memfd(char *const argv[])
{
    /* With vm.memfd_noexec=1 the kernel requires MFD_EXEC. Linux before 6.3 does not know it. */
    int fd = memfd_create("pyoci", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("pyoci", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return failed("memfd_create");
    struct protect_failure failure = copy_executable(fd);
    if (failure.step == NULL && fchmod(fd, 0755) < 0)
        failure = failed("fchmod");
    if (failure.step == NULL && fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        failure = failed("add seals");
    if (failure.step != NULL) {
        close(fd);
        return failure;
    }
    return execute(fd, argv);
}

/* A file without a name. A container may write to it later, but no process executes it a second time. */
static struct protect_failure execute_from_unnamed_file(char *const argv[])
{
    static const char *const directories[] = {"/run", "/dev/shm", "/var/lib", "/var/tmp", "/tmp"};
    struct protect_failure failure = {"no directory for it", ENOENT};
    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++) {
        struct statvfs fs;
        if (statvfs(directories[i], &fs) < 0 || (fs.f_flag & (ST_NOEXEC | ST_RDONLY)) != 0)
            continue;
        int writable = open(directories[i], O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0700);
        if (writable < 0) {
            failure = failed("open O_TMPFILE");
            continue;
        }
        failure = copy_executable(writable);
        int fd = -1;
        if (failure.step == NULL) {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", writable);
            fd = open(link, O_RDONLY | O_CLOEXEC);
            if (fd < 0)
                failure = failed("reopen");
        }
        close(writable);  /* the kernel does not execute a file that is open for writing */
        if (fd >= 0)
            failure = execute(fd, argv);
    }
    return failure;
}

/* Whether `fd` is a memfd whose seals forbid every change. */
static bool is_sealed(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & SEALS) == SEALS;
}

/* Whether `fd` is a file without a name, which no process will execute again. A memfd must be sealed instead. */
static bool is_unnamed(int fd)
{
    static const char memfd[] = "/memfd:";
    char path[sizeof memfd];
    struct stat status;
    return fstat(fd, &status) == 0 && status.st_nlink == 0
        && readlink("/proc/self/exe", path, sizeof path) >= (ssize_t)sizeof memfd - 1
        && memcmp(path, memfd, sizeof memfd - 1) != 0;
}

bool protect_done(void)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool done = is_sealed(fd) || in_overlay(fd) || is_unnamed(fd);
    close(fd);
    return done;
}

void protect_and_execute(char *const argv[], char *message, size_t size)
{
    struct protect_failure overlay, memfd, unnamed;
    /* Executed by descriptor, but not recognised as protected. It may be our own overlay, on a kernel where in_overlay
     * can't recognise it. Another overlay would not help then. A sealed memfd is always recognised. */
    const char *executed_as = (const char *)getauxval(AT_EXECFN);
    if (executed_as != NULL && strncmp(executed_as, "/dev/fd/", strlen("/dev/fd/")) == 0)
        overlay = (struct protect_failure){"executed by descriptor", EINVAL};
    else
        overlay = execute_from_overlay(argv);
    memfd = execute_from_memfd(argv);
    unnamed = execute_from_unnamed_file(argv);
    snprintf(message, size,
        "cannot protect the executable from containers: overlay: %s: %s; memfd: %s: %s; unnamed file: %s: %s",
        overlay.step, strerror(overlay.error), memfd.step, strerror(memfd.error),
        unnamed.step, strerror(unnamed.error));
}

bool protect_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
            continue;
        int null = open("/dev/null", O_RDWR);
        if (null < 0)
            return false;
    }
    return true;
}
