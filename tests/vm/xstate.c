/*
 * Preloaded into user-mode Linux 6.1, whose buffer for a process' registers ends before those of AMX: on a processor
 * that has AMX, the host's kernel takes only all of the registers (PTRACE_SETREGSET), and the machine would panic at
 * its first process. What user-mode Linux does not have stays as it is.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

long ptrace(enum __ptrace_request request, ...)
{
    static _Alignas(64) char all[65536];
    struct iovec registers = {all, sizeof all}, *given;
    va_list arguments;
    long word, done;

    va_start(arguments, request);
    long pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *), *data = va_arg(arguments, void *);
    va_end(arguments);
    if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE) {
        given = data;
        if (syscall(SYS_ptrace, (long)PTRACE_GETREGSET, pid, address, &registers) == 0 && registers.iov_len > given->iov_len) {
            memcpy(all, given->iov_base, given->iov_len);
            data = &registers;
        }
    }
    if (request != PTRACE_PEEKTEXT && request != PTRACE_PEEKDATA && request != PTRACE_PEEKUSER)
        return syscall(SYS_ptrace, (long)request, pid, address, data);
    done = syscall(SYS_ptrace, (long)request, pid, address, &word);
    return done < 0 ? done : word;
}
