/* Count a program's CPUID instructions: cpuid STEPS COMMAND...
 *
 * Executes the first STEPS instructions of the command one by one, then ends it. Prints how many were CPUID. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    pid_t pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        execv(argv[2], argv + 2);
        _exit(127);
    }
    long found = 0, step = 0, steps = atol(argv[1]);
    int status;
    for (; waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && step < steps; step++) {
        struct user_regs_struct registers;
        ptrace(PTRACE_GETREGS, pid, NULL, &registers);
        long code = ptrace(PTRACE_PEEKTEXT, pid, (void *)registers.rip, NULL);
        found += (code & 0xffff) == 0xa20f;
        ptrace(PTRACE_SINGLESTEP, pid, NULL, (void *)(long)(WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status)));
    }
    if (WIFSTOPPED(status)) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
    }
    printf("%ld of %ld\n", found, step);
    return 0;
}
