/* Attacks the processes that a runtime sets up in the container: whatever has not executed a program yet.
 *
 *   stopper stop     stops each of them with SIGSTOP, as often as it sees it
 *   stopper once     the same, once for each
 *   stopper hold     seizes each, stops it, and never lets it go
 *   stopper keep     seizes each, has it killed, and never takes note of its end
 *   stopper exit     exits with status 7, seized by a child that never takes note of its end
 *
 * It writes one dot to standard output when it has begun, and one more for each process that it gets hold of.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define PF_FORKNOEXEC 0x40
#define PIDS 65536

static int is_set_up(int pid)
{
    char path[64], text[1024];
    unsigned flags = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    char *end = strrchr(text, ')');
    return end && sscanf(end + 2, "%*c %*d %*d %*d %*d %*d %u", &flags) == 1 && flags & PF_FORKNOEXEC;
}

/* Stop it. Whether it is stopped in its set-up: if its program runs already, that goes on. */
static int stop_in_setup(int pid)
{
    char path[64], text[1024], letter = 0;
    if (kill(pid, SIGSTOP) < 0) return 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    for (;;) {
        int fd = open(path, O_RDONLY);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (fd >= 0) close(fd);
        if (n <= 0) return 0;
        text[n] = 0;
        unsigned flags;
        char *end = strrchr(text, ')');
        if (!end || sscanf(end + 2, "%c %*d %*d %*d %*d %*d %u", &letter, &flags) != 2 || letter == 'Z' || letter == 'X') return 0;
        if (!(flags & PF_FORKNOEXEC)) {
            kill(pid, SIGCONT);
            return 0;
        }
        if (letter == 'T') return 1;
    }
}

static int exit_held(void)
{
    int pipe_fds[2];
    char word;
    if (pipe(pipe_fds) < 0) return 1;
    if (fork() == 0) {
        if (ptrace(PTRACE_SEIZE, getppid(), 0, 0) == 0) write(pipe_fds[1], "x", 1);
        for (;;) pause();
    }
    return read(pipe_fds[0], &word, 1) == 1 ? 7 : 1;
}

int main(int argc, char **argv)
{
    static char seen[PIDS];
    if (argc != 2) return 2;
    int stops = !strcmp(argv[1], "stop"), once = !strcmp(argv[1], "once"), keeps = !strcmp(argv[1], "keep");
    if (!strcmp(argv[1], "exit")) return exit_held();
    int status;
    DIR *proc = opendir("/proc");
    if (!proc) return 1;
    write(1, ".", 1);
    for (;;) {
        struct dirent *entry;
        rewinddir(proc);
        while ((entry = readdir(proc))) {
            int pid = atoi(entry->d_name);
            if (pid <= 1 || pid >= PIDS || pid == getpid() || (seen[pid] && !stops) || !is_set_up(pid)) continue;
            if (once) {
                if (!stop_in_setup(pid)) continue;
            } else if (stops) {
                if (kill(pid, SIGSTOP) < 0) continue;
            } else {
                if (ptrace(PTRACE_SEIZE, pid, 0, 0) < 0) continue;
                if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0 || waitpid(pid, &status, __WALL) < 0) continue;
                if (!is_set_up(pid)) { /* it executes its program by now */
                    ptrace(PTRACE_DETACH, pid, 0, 0);
                    continue;
                }
            }
            if (keeps) kill(pid, SIGKILL);
            if (!seen[pid]) write(1, ".", 1);
            seen[pid] = 1;
        }
    }
}
