/* Tells what a container's program was given, one `name=value` a line: descriptors and where they lead, ids, groups,
 * capabilities, signals, limits, the working directory as the kernel sees it, its session keyring and the label of
 * that. Static, so that it runs in any root.
 *
 *   probe              tell
 *   probe ESCAPE       also try each way out that past bugs left open: /proc/self/fd/N/.., getcwd, /proc/self/cwd
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void descriptors(void)
{
    for (int fd = 0; fd < 1024; fd++) {
        struct stat status;
        char link[64], target[512] = "";
        if (fstat(fd, &status) < 0)
            continue;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, target, sizeof target - 1);
        printf("fd%d=%o %s\n", fd, status.st_mode & S_IFMT, length < 0 ? "?" : target);
    }
}

static void status_lines(void)
{
    static const char *const names[] = {"Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:",
                                        "Seccomp:", "SigBlk:", "SigIgn:", "SigPnd:", "Umask:", "TracerPid:", "Threads:"};
    FILE *file = fopen("/proc/self/status", "r");
    char line[65536];
    while (file && fgets(line, sizeof line, file))
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
            if (strncmp(line, names[i], strlen(names[i])) == 0) {
                char *value = line + strlen(names[i]);
                value += strspn(value, " \t");
                value[strcspn(value, "\n")] = '\0';
                for (char *end = value + strlen(value); end > value && end[-1] == ' ';)
                    *--end = '\0';
                printf("%.*s=%s\n", (int)strlen(names[i]) - 1, names[i], value);
            }
}

static void working_directory(void)
{
    char buffer[4096];
    long length = syscall(SYS_getcwd, buffer, sizeof buffer);
    printf("getcwd=%s\n", length < 0 ? strerror(errno) : buffer);
}

static void escape(void)
{
    for (int fd = 0; fd < 128; fd++) {
        char path[64];
        struct stat inside, outside;
        snprintf(path, sizeof path, "/proc/self/fd/%d/..", fd);
        if (stat(path, &outside) < 0 || stat("/", &inside) < 0)
            continue;
        printf("escape=%s\n", path);
    }
    char byte = '!';
    int console = open("/dev/console", O_RDWR | O_NOCTTY);
    if (console >= 0) {
        printf("tiocsti=%s\n", ioctl(console, TIOCSTI, &byte) < 0 ? strerror(errno) : "injected");
        close(console);
    }
}

static void keyring(void)
{
    char label[256] = "", description[256] = "";
    if (syscall(SYS_keyctl, KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, description, sizeof description) > 1)
        printf("session=%ld;%s\n", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0), description);
    if (syscall(SYS_keyctl, KEYCTL_GET_SECURITY, KEY_SPEC_SESSION_KEYRING, label, sizeof label) > 1)
        printf("keyring=%s\n", label);
}

int main(int argc, char **argv)
{
    uid_t ruid, euid, suid;
    gid_t rgid, egid, sgid;
    getresuid(&ruid, &euid, &suid);
    getresgid(&rgid, &egid, &sgid);
    descriptors();
    printf("uid=%u %u %u\ngid=%u %u %u\n", ruid, euid, suid, rgid, egid, sgid);
    status_lines();
    printf("dumpable=%d\nkeepcaps=%d\nsecurebits=%d\n", prctl(PR_GET_DUMPABLE), prctl(PR_GET_KEEPCAPS), prctl(PR_GET_SECUREBITS));
    int death = 0;
    prctl(PR_GET_PDEATHSIG, &death);
    printf("pdeathsig=%d\n", death);
    working_directory();
    keyring();
    if (argc > 1)
        escape();
    extern char **environ;
    for (char **variable = environ; *variable; variable++)
        printf("env=%s\n", *variable);
    fflush(stdout);
    return 0;
}
