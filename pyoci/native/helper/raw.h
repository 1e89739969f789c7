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

#elif defined(__riscv) && __riscv_xlen == 64

static inline __attribute__((always_inline)) long pyoci_raw(long number, long a, long b, long c, long d, long e, long f)
{
    register long a7 __asm__("a7") = number;
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5) : "memory");
    return a0;
}

#define PYOCI_CALL_IN_NEW                                                                                              \
    "ecall\n\t"                                                                                                        \
    "bnez a0, 1f\n\t"                                                                                                  \
    "mv a0, %[argument]\n\t"                                                                                           \
    "jalr %[function]\n\t"

static inline long pyoci_raw_clone3(const void *arguments, long size, void (*function)(void *), void *argument)
{
    register long a7 __asm__("a7") = SYS_clone3;
    register long a0 __asm__("a0") = (long)arguments;
    register long a1 __asm__("a1") = size;
    __asm__ volatile(PYOCI_CALL_IN_NEW
                     "ebreak\n"
                     "1:"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), [function] "r"(function), [argument] "r"(argument)
                     : "ra", "memory");
    return a0;
}

static inline long pyoci_raw_thread(long flags, void *stack, int (*function)(void *), void *argument)
{
    register long a7 __asm__("a7") = SYS_clone;
    register long a0 __asm__("a0") = flags;
    register long a1 __asm__("a1") = (long)((unsigned long)stack & ~15UL);
    register long a2 __asm__("a2") = 0;
    register long a3 __asm__("a3") = 0;
    register long a4 __asm__("a4") = 0;
    __asm__ volatile(PYOCI_CALL_IN_NEW
                     "li a7, %[exit]\n\t"
                     "ecall\n\t"
                     "ebreak\n"
                     "1:"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), [function] "r"(function), [argument] "r"(argument),
                       [exit] "i"(SYS_exit)
                     : "ra", "memory");
    return a0;
}

#elif defined(__powerpc64__)

/* The kernel reports an error by a flag, and may change the registers that functions may change. */
#define PYOCI_VOLATILE "r9", "r10", "r11", "r12", "cr0", "ctr", "memory"

static inline __attribute__((always_inline)) long pyoci_raw(long number, long a, long b, long c, long d, long e, long f)
{
    register long r0 __asm__("r0") = number;
    register long r3 __asm__("r3") = a;
    register long r4 __asm__("r4") = b;
    register long r5 __asm__("r5") = c;
    register long r6 __asm__("r6") = d;
    register long r7 __asm__("r7") = e;
    register long r8 __asm__("r8") = f;
    __asm__ volatile("sc\n\t"
                     "bns+ 1f\n\t"
                     "neg %1, %1\n"
                     "1:"
                     : "+r"(r0), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r7), "+r"(r8)
                     :
                     : PYOCI_VOLATILE);
    return r3;
}

/* The new stack gets the frame that a function's caller owes it. The function finds its table of addresses by r12. */
#define PYOCI_CALL_IN_NEW                                                                                              \
    "sc\n\t"                                                                                                           \
    "bso- 2f\n\t"                                                                                                      \
    "cmpdi 3, 0\n\t"                                                                                                   \
    "bne 1f\n\t"                                                                                                       \
    "li 0, 0\n\t"                                                                                                      \
    "stdu 0, -64(1)\n\t"                                                                                               \
    "mr 3, %[argument]\n\t"                                                                                            \
    "mr 12, %[function]\n\t"                                                                                           \
    "mtctr 12\n\t"                                                                                                     \
    "bctrl\n\t"

#define PYOCI_RETURN                                                                                                   \
    "trap\n"                                                                                                           \
    "2:\n\t"                                                                                                           \
    "neg 3, 3\n"                                                                                                       \
    "1:"

static inline long pyoci_raw_clone3(const void *arguments, long size, void (*function)(void *), void *argument)
{
    register long r0 __asm__("r0") = SYS_clone3;
    register long r3 __asm__("r3") = (long)arguments;
    register long r4 __asm__("r4") = size;
    __asm__ volatile(PYOCI_CALL_IN_NEW PYOCI_RETURN
                     : "+r"(r0), "+r"(r3), "+r"(r4)
                     : [function] "r"(function), [argument] "r"(argument)
                     : "r5", "r6", "r7", "r8", "lr", PYOCI_VOLATILE);
    return r3;
}

static inline long pyoci_raw_thread(long flags, void *stack, int (*function)(void *), void *argument)
{
    register long r0 __asm__("r0") = SYS_clone;
    register long r3 __asm__("r3") = flags;
    register long r4 __asm__("r4") = (long)((unsigned long)stack & ~15UL);
    register long r5 __asm__("r5") = 0;
    register long r6 __asm__("r6") = 0;
    register long r7 __asm__("r7") = 0;
    __asm__ volatile(PYOCI_CALL_IN_NEW
                     "li 0, %[exit]\n\t"
                     "sc\n\t"
                     PYOCI_RETURN
                     : "+r"(r0), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r7)
                     : [function] "r"(function), [argument] "r"(argument), [exit] "i"(SYS_exit)
                     : "r8", "lr", PYOCI_VOLATILE);
    return r3;
}

#elif defined(__s390x__)

static inline __attribute__((always_inline)) long pyoci_raw(long number, long a, long b, long c, long d, long e, long f)
{
    register long r1 __asm__("1") = number;
    register long r2 __asm__("2") = a;
    register long r3 __asm__("3") = b;
    register long r4 __asm__("4") = c;
    register long r5 __asm__("5") = d;
    register long r6 __asm__("6") = e;
    register long r7 __asm__("7") = f;
    __asm__ volatile("svc 0" : "+d"(r2) : "d"(r1), "d"(r3), "d"(r4), "d"(r5), "d"(r6), "d"(r7) : "memory");
    return r2;
}

/* The new stack gets the area in which a function saves its caller's registers. */
#define PYOCI_CALL_IN_NEW                                                                                              \
    "svc 0\n\t"                                                                                                        \
    "ltgr %%r2, %%r2\n\t"                                                                                              \
    "jnz 1f\n\t"                                                                                                       \
    "aghi %%r15, -160\n\t"                                                                                             \
    "xc 0(8,%%r15), 0(%%r15)\n\t"                                                                                      \
    "lgr %%r2, %[argument]\n\t"                                                                                        \
    "basr %%r14, %[function]\n\t"

static inline long pyoci_raw_clone3(const void *arguments, long size, void (*function)(void *), void *argument)
{
    register long r1 __asm__("1") = SYS_clone3;
    register long r2 __asm__("2") = (long)arguments;
    register long r3 __asm__("3") = size;
    __asm__ volatile(PYOCI_CALL_IN_NEW
                     "j .+2\n"
                     "1:"
                     : "+d"(r2)
                     : "d"(r1), "d"(r3), [function] "a"(function), [argument] "d"(argument)
                     : "14", "cc", "memory");
    return r2;
}

/* s390 has the stack before the flags. */
static inline long pyoci_raw_thread(long flags, void *stack, int (*function)(void *), void *argument)
{
    register long r1 __asm__("1") = SYS_clone;
    register long r2 __asm__("2") = (long)((unsigned long)stack & ~15UL);
    register long r3 __asm__("3") = flags;
    register long r4 __asm__("4") = 0;
    register long r5 __asm__("5") = 0;
    register long r6 __asm__("6") = 0;
    __asm__ volatile(PYOCI_CALL_IN_NEW
                     "lghi %%r1, %[exit]\n\t"
                     "svc 0\n\t"
                     "j .+2\n"
                     "1:"
                     : "+d"(r2)
                     : "d"(r1), "d"(r3), "d"(r4), "d"(r5), "d"(r6), [function] "a"(function), [argument] "d"(argument),
                       [exit] "i"(SYS_exit)
                     : "14", "cc", "memory");
    return r2;
}

#else
#error "pyoci does not support this architecture"
#endif

#endif
