/* Measure commands from posix_spawn to wait: the time that an engine waits for a runtime.

   A request on standard input is its length, 4 bytes, and then strings that each end with a NUL:

     run COMMAND ARGUMENT... "" COMMAND ARGUMENT... ""    start all commands at once and wait for all
     reap PID                                             wait for a process that a command left

   The answer to `run` is a line: seconds from the first start to the last end, seconds of CPU of all, the largest
   resident set in KiB, page faults of all, and the number of failed commands. The answer to `reap` is an empty line.

   It is a small static program, because the resident set of a process is at least that of the process which started it.
   The commands inherit standard error; they read from and write to /dev/null. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_REQUEST = 1 << 20, MAX_WORDS = 16384, MAX_COMMANDS = 1024, TIMEOUT = 20 };

static char request[MAX_REQUEST];
static char *words[MAX_WORDS];
static volatile pid_t running[MAX_COMMANDS];
static posix_spawn_file_actions_t streams;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double seconds(struct timeval time) { return (double)time.tv_sec + (double)time.tv_usec / 1e6; }

static void kill_running(int signal) {
    (void)signal;
    for (size_t i = 0; i < MAX_COMMANDS; i++)
        if (running[i] > 0) kill(running[i], SIGKILL);
}

static size_t read_request(void) {
    uint32_t length;
    if (fread(&length, sizeof length, 1, stdin) != 1) exit(0);
    if (length >= sizeof request || fread(request, length, 1, stdin) != 1) exit(1);
    return length;
}

/* Point `words` at the strings of the request; an empty string becomes NULL. */
static size_t split(size_t length) {
    size_t count = 0;
    for (char *word = request; word < request + length && count < MAX_WORDS; word += strlen(word) + 1)
        words[count++] = *word ? word : NULL;
    return count;
}

static void run(size_t count) {
    while (waitpid(-1, NULL, WNOHANG) > 0) continue; /* what earlier commands left */
    struct rusage used;
    double cpu = 0;
    long resident = 0, faults = 0;
    int commands = 0, failed = 0, status;
    alarm(TIMEOUT);
    double begin = now();
    for (size_t i = 1; i < count && commands < MAX_COMMANDS; commands++) {
        pid_t pid = -1;
        if (posix_spawn(&pid, words[i], &streams, NULL, words + i, environ)) pid = -1;
        running[commands] = pid;
        while (i < count && words[i]) i++;
        i++;
    }
    for (int i = 0; i < commands; i++) {
        if (running[i] < 0 || wait4(running[i], &status, 0, &used) < 0) {
            failed++;
            continue;
        }
        running[i] = 0;
        if (status) failed++;
        cpu += seconds(used.ru_utime) + seconds(used.ru_stime);
        if (used.ru_maxrss > resident) resident = used.ru_maxrss;
        faults += used.ru_minflt;
    }
    double end = now();
    alarm(0);
    printf("%.9f %.6f %ld %ld %d\n", end - begin, cpu, resident, faults, failed);
}

int main(void) {
    struct sigaction action = {.sa_handler = kill_running, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    posix_spawn_file_actions_init(&streams);
    posix_spawn_file_actions_addopen(&streams, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&streams, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    for (;;) {
        size_t count = split(read_request());
        if (count && !strcmp(words[0], "run")) {
            run(count);
        } else if (count > 1 && !strcmp(words[0], "reap")) {
            waitpid((pid_t)atol(words[1]), NULL, 0); /* it may have another parent */
            puts("");
        } else {
            return 1;
        }
        fflush(stdout);
    }
}
