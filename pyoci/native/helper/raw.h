/* System calls without a C library: they touch neither errno nor any other memory. */
#ifndef PYOCI_RAW_H
#define PYOCI_RAW_H

#include <sys/syscall.h>

/* For functions that run while the stack protector's value is not set. */
#if defined(__has_attribute) && __has_attribute(no_stack_protector)
#define PYOCI_UNGUARDED __attribute__((no_stack_protector))
#else
#define PYOCI_UNGUARDED __attribute__((optimize("no-stack-protector")))
#endif

#if defined(__x86_64__)

static inline __attribute__((always_inline)) long pyoci_raw(long number, long a, long b, long c, long d, long e, long f)
{
    long value;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(value)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return value;
}

/* Makes a process or a thread, which calls `function` with `argument`. The caller continues at label 1. */
#define PYOCI_CALL_IN_NEW                                                                                              \
    "syscall\n\t"                                                                                                      \
    "test %%rax, %%rax\n\t"                                                                                            \
    "jnz 1f\n\t"                                                                                                       \
    "mov %[argument], %%rdi\n\t"                                                                                       \
    "call *%[function]\n\t"

/* clone3(2). The new process calls `function` on the stack in `arguments`. The function must not return. */
static inline long pyoci_raw_clone3(const void *arguments, long size, void (*function)(void *), void *argument)
{
    long value;
    __asm__ volatile(PYOCI_CALL_IN_NEW
                     "ud2\n"
                     "1:"
                     : "=a"(value)
                     : "a"(SYS_clone3), "D"(arguments), "S"(size), [function] "r"(function), [argument] "r"(argument)
                     : "rcx", "r11", "memory");
    return value;
}

/* clone(2). The new thread exits with the result of `function`. */
static inline long pyoci_raw_thread(long flags, void *stack, int (*function)(void *), void *argument)
{
    long value;
    register long r10 __asm__("r10") = 0;
    register long r8 __asm__("r8") = 0;
    __asm__ volatile(PYOCI_CALL_IN_NEW
                     "mov %%eax, %%edi\n\t"
                     "mov %[exit], %%eax\n\t"
                     "syscall\n\t"
                     "ud2\n"
                     "1:"
                     : "=a"(value)
                     : "a"(SYS_clone), "D"(flags), "S"((unsigned long)stack & ~15UL), "d"(0L), "r"(r10), "r"(r8),
                       [function] "r"(function), [argument] "r"(argument), [exit] "i"(SYS_exit)
                     : "rcx", "r11", "memory");
    return value;
}

#elif defined(__aarch64__)

static inline __attribute__((always_inline)) long pyoci_raw(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

#define PYOCI_CALL_IN_NEW                                                                                              \
    "svc #0\n\t"                                                                                                       \
    "cbnz x0, 1f\n\t"                                                                                                  \
    "mov x0, %[argument]\n\t"                                                                                          \
    "blr %[function]\n\t"

static inline long pyoci_raw_clone3(const void *arguments, long size, void (*function)(void *), void *argument)
{
    register long x8 __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)arguments;
    register long x1 __asm__("x1") = size;
    __asm__ volatile(PYOCI_CALL_IN_NEW
                     "brk #1\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), [function] "r"(function), [argument] "r"(argument)
                     : "x30", "memory");
    return x0;
}

static inline long pyoci_raw_thread(long flags, void *stack, int (*function)(void *), void *argument)
{
    register long x8 __asm__("x8") = SYS_clone;
    register long x0 __asm__("x0") = flags;
    register long x1 __asm__("x1") = (long)((unsigned long)stack & ~15UL);
    register long x2 __asm__("x2") = 0;
    register long x3 __asm__("x3") = 0;
    register long x4 __asm__("x4") = 0;
    __asm__ volatile(PYOCI_CALL_IN_NEW
                     "mov x8, %[exit]\n\t"
                     "svc #0\n\t"
                     "brk #1\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), [function] "r"(function), [argument] "r"(argument),
                       [exit] "i"(SYS_exit)
                     : "x30", "memory");
    return x0;
}

#endif

#endif
