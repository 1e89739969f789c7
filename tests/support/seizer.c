/* A process with CAP_SYS_PTRACE that seizes every new process of its pid namespace as soon as there is one, and uses
 * its rights. Static, so that it runs in any root. One line a process:
 *
 *   pid=7 comm=… CapPrm=… CapBnd=… Groups=… NoNewPrivs=… Seccomp=… fds=0,1,2 mount=0 secret=no
 *
 * `mount` is what mount(2) of a tmpfs returns, called by the seized process; `secret`, whether SECRET is in its memory.
 *
 *   seizer SECRET      says `ready` first, and goes on until it is killed
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { AHEAD = 12 };

/* mount("x", "/tmp", "tmpfs", 0, NULL) by the process itself, which stands behind a system call. */
static long mount_by(pid_t pid)
{
#ifdef __x86_64__
    struct user_regs_struct before, now;
    char text[16] = "x\0/tmp\0tmpfs";
    if (ptrace(PTRACE_GETREGS, pid, NULL, &before) < 0)
        return -errno;
    uint64_t place = (before.rsp - 1024) & ~15ull, instruction = before.rip - 2;
    struct iovec ours = {text, sizeof text}, theirs = {(void *)place, sizeof text};
    if ((ptrace(PTRACE_PEEKTEXT, pid, instruction, NULL) & 0xffff) != 0x050f)
        return -ENOEXEC;
    if (process_vm_writev(pid, &ours, 1, &theirs, 1, 0) != sizeof text)
        return -errno;
    now = before;
    now.rip = instruction;
    now.rax = SYS_mount;
    now.orig_rax = -1;
    now.rdi = place;
    now.rsi = place + 2;
    now.rdx = place + 7;
    now.r10 = now.r8 = 0;
    if (ptrace(PTRACE_SETREGS, pid, NULL, &now) < 0 || ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0)
        return -errno;
    int status;
    if (waitpid(pid, &status, __WALL) < 0 || !WIFSTOPPED(status))
        return -ESRCH;
    if (ptrace(PTRACE_GETREGS, pid, NULL, &now) < 0)
        return -errno;
    ptrace(PTRACE_SETREGS, pid, NULL, &before);
    return (long)now.rax;
#else
    (void)pid;
    return -ENOSYS;
#endif
}

static void status_lines(pid_t pid)
{
    static const char *const wanted[] = {"CapPrm:", "CapBnd:", "Groups:", "NoNewPrivs:", "Seccomp:"};
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
            if (strncmp(line, wanted[i], strlen(wanted[i])) == 0) {
                printf(" %.*s=", (int)strcspn(line, ":"), line);
                const char *separator = "";
                for (char *word = strtok(line + strlen(wanted[i]), " \t\n"); word; word = strtok(NULL, " \t\n")) {
                    printf("%s%s", separator, word);
                    separator = ",";
                }
            }
    if (file)
        fclose(file);
}

static void descriptors(pid_t pid)
{
    char path[64];
    const char *separator = " fds=";
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (entry->d_name[0] != '.') {
            char target[256] = "";
            if (readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1) < 0)
                continue;
            for (char *c = target; *c; c++)
                if (*c == ' ')
                    *c = '_';
            printf("%s%s:%s", separator, entry->d_name, target);
            separator = ",";
        }
    if (folder)
        closedir(folder);
}

static int has_secret(pid_t pid, const char *secret)
{
    char path[64], line[512];
    static char buffer[1 << 20];
    int found = 0;
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int memory = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    while (memory >= 0 && maps && !found && fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx r", &start, &end) != 2)
            continue;
        for (; start < end && !found; start += sizeof buffer / 2) {
            size_t size = end - start < sizeof buffer ? end - start : sizeof buffer;
            ssize_t n = pread(memory, buffer, size, (off_t)start);
            found = n > 0 && memmem(buffer, (size_t)n, secret, strlen(secret)) != NULL;
        }
    }
    if (maps)
        fclose(maps);
    if (memory >= 0)
        close(memory);
    return found;
}

static void comm_of(pid_t pid, char *name, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, name, size - 1);
    name[n > 0 ? n : 0] = '\0';
    name[strcspn(name, "\n")] = '\0';
    if (fd >= 0)
        close(fd);
}

static void use(pid_t pid, const char *wanted)
{
    int status;
    char name[64];
    if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0 || waitpid(pid, &status, __WALL) < 0 || !WIFSTOPPED(status))
        return;
    comm_of(pid, name, sizeof name);
    printf("pid=%d comm=%s", pid, name);
    status_lines(pid);
    descriptors(pid);
    int secret = has_secret(pid, wanted);
    printf(" mount=%ld secret=%s\n", mount_by(pid), secret ? "yes" : "no");
    fflush(stdout);
    ptrace(PTRACE_DETACH, pid, NULL, NULL);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    /* pids are given in turn: the newest is the one of a child just made */
    pid_t last = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (last == 0)
        _exit(0);
    waitpid(last, NULL, 0);
    puts("ready");
    fflush(stdout);
    for (;;)
        for (pid_t pid = last + 1; pid <= last + AHEAD; pid++)
            if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0) {
                use(pid, argv[1]);
                last = pid;
            }
}
