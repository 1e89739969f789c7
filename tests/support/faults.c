/* Let one system call fail, or kill a process at it: faults WHO ACTION CALL N COMMAND...
 *
 * WHO     `runtime`, the command itself; `helper`, the processes of its plan, from the helper's first instruction on
 * ACTION  `kill`; `step`, kill after N instructions; `count`, to do nothing; or the number of an error
 * CALL    the number of a system call, -1 for any
 * N       the Nth of them, from 1
 *
 * Prints how many there were to descriptor 9. Ends as the command ends. Lets go of a process that executes its program.
 */
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __aarch64__
#define NT_SYSTEM_CALL 0x404
#endif

enum { MANY = 1024, OPTIONS = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK
       | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL };

struct tracee { pid_t pid; int helper; int started; int announced; int failing; };
static struct tracee tracees[MANY];
static int of_helper, action, call;
static long target, count;
enum { KILL = -1, STEP = -2, COUNT = -3 };

static struct tracee *find(pid_t pid)
{
    int i;
    for (i = 0; i < MANY; i++)
        if (tracees[i].pid == pid)
            return &tracees[i];
    for (i = 0; i < MANY; i++)
        if (tracees[i].pid == 0) {
            memset(&tracees[i], 0, sizeof tracees[i]);
            tracees[i].pid = pid;
            return &tracees[i];
        }
    exit(99);
}

/* Replace the number of the call that the process enters by one that does not exist. */
static void skip(pid_t pid)
{
#ifdef __aarch64__
    int none = -1;
    struct iovec part = { &none, sizeof none };
    ptrace(PTRACE_SETREGSET, pid, NT_SYSTEM_CALL, &part);
#else
    ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), -1L);
#endif
}

static void set_result(pid_t pid, long result)
{
    struct user_regs_struct registers;
    struct iovec part = { &registers, sizeof registers };
    ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &part);
#ifdef __aarch64__
    registers.regs[0] = result;
#else
    registers.rax = result;
#endif
    ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &part);
}

static void at_call(struct tracee *tracee)
{
    struct { uint8_t op, pad[3]; uint32_t arch; uint64_t ip, sp, nr, more[8]; } info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, tracee->pid, sizeof info, &info) < 0)
        return;
    if (info.op == 2 && tracee->failing) {
        set_result(tracee->pid, -action);
        tracee->failing = 0;
    }
    if (info.op != 1 || tracee->helper != of_helper || (call >= 0 && (uint64_t)call != info.nr))
        return;
    if (++count != target || action == COUNT || action == STEP)
        return;
    if (action == KILL) {
        kill(tracee->pid, SIGKILL);
        return;
    }
    skip(tracee->pid);
    tracee->failing = 1;
}

static int is_helper(pid_t pid)
{
    char path[64], link[4096];
    ssize_t n;
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    n = readlink(path, link, sizeof link - 1);
    link[n < 0 ? 0 : n] = 0;
    return strstr(link, " (deleted)") != NULL;
}

static void let_go(struct tracee *tracee)
{
    ptrace(PTRACE_DETACH, tracee->pid, 0, 0);
    tracee->pid = 0;
}

static void resume(struct tracee *tracee, int signum)
{
    int how = tracee->helper && action == STEP ? PTRACE_SINGLESTEP
        : tracee->helper == of_helper || tracee->failing ? PTRACE_SYSCALL : PTRACE_CONT;
    ptrace(how, tracee->pid, 0, signum);
}

/* The command has ended: its other processes go on without us. */
static void let_all_go(void)
{
    int i, status;
    for (i = 0; i < MANY; i++) {
        if (tracees[i].pid == 0)
            continue;
        if (tracees[i].started && !tracees[i].announced) {
            let_go(&tracees[i]);
            continue;
        }
        if (kill(tracees[i].pid, SIGSTOP) < 0 || waitpid(tracees[i].pid, &status, __WALL) < 0 || !WIFSTOPPED(status))
            continue;
        ptrace(PTRACE_DETACH, tracees[i].pid, 0, 0);
        kill(tracees[i].pid, SIGCONT);
    }
}

static void stopped(struct tracee *tracee, int status)
{
    int signum = WSTOPSIG(status), event = status >> 16;
    unsigned long message = 0;
    struct tracee *child;
    if (signum == (SIGTRAP | 0x80)) {
        at_call(tracee);
        signum = 0;
    } else if (event == PTRACE_EVENT_EXEC) {
        if (is_helper(tracee->pid)) {
            tracee->helper = 1;
        } else if (tracee->started && tracee->pid != tracees[0].pid) {
            let_go(tracee);
            return;
        }
        signum = 0;
    } else if (event) {
        ptrace(PTRACE_GETEVENTMSG, tracee->pid, 0, &message);
        child = find((pid_t)message);
        child->helper = tracee->helper;
        child->announced = 1;
        if (child->started)
            resume(child, 0);
        signum = 0;
    } else if (!tracee->started && signum == SIGSTOP) {
        tracee->started = 1;
        if (!tracee->announced)
            return; /* its parent's stop, which says whose it is, comes after its own */
        signum = 0;
    } else if (signum == SIGTRAP) {
        if (tracee->helper && action == STEP && ++count == target)
            kill(tracee->pid, SIGKILL);
        signum = 0;
    }
    resume(tracee, signum);
}

int main(int argc, char **argv)
{
    int status;
    pid_t pid, main_pid;
    if (argc < 6)
        return 98;
    of_helper = strcmp(argv[1], "helper") == 0;
    action = !strcmp(argv[2], "kill") ? KILL : !strcmp(argv[2], "step") ? STEP : !strcmp(argv[2], "count") ? COUNT : atoi(argv[2]);
    call = atoi(argv[3]);
    target = atol(argv[4]);
    main_pid = fork();
    if (main_pid == 0) {
        close(9);
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execv(argv[5], argv + 5);
        _exit(97);
    }
    waitpid(main_pid, &status, 0);
    ptrace(PTRACE_SETOPTIONS, main_pid, 0, OPTIONS);
    find(main_pid)->started = find(main_pid)->announced = 1;
    resume(find(main_pid), 0);
    while ((pid = waitpid(-1, &status, __WALL)) > 0) {
        if (WIFSTOPPED(status)) {
            stopped(find(pid), status);
            continue;
        }
        find(pid)->pid = 0;
        if (pid == main_pid) {
            let_all_go();
            dprintf(9, "%ld", count);
            if (WIFSIGNALED(status))
                kill(getpid(), WTERMSIG(status));
            return WEXITSTATUS(status);
        }
    }
    return 96;
}
