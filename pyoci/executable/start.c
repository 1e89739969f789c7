/* The start of a static executable: what glibc's __libc_start_main does, without CPUID.
 *
 * glibc's start asks the processor for its features and for the sizes of its caches, to choose the fastest variants of
 * memcpy and similar functions. It executes CPUID up to 68 times, 49 of them for the caches. In a virtual machine, each
 * of these leaves the guest and takes 4 to 9 us: half a millisecond of every command. No setting prevents that. This
 * start skips these questions, and GLIBC_TUNABLES, which pyoci should not obey. glibc then knows no feature of the
 * processor, and its functions choose the variants for any x86-64 processor (SSE2).
 *
 * Everything else happens as in glibc: the same steps in the same order, each by glibc's own function. These functions
 * are internal, so start.py links this file only with versions of glibc that it knows. If a version needed another
 * symbol of the file that this one replaces, the linker would find two definitions of __libc_start_main and fail.
 *
 * One step is missing: main must not end its thread by pthread_exit, because nothing would end the process. */
#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../native/helper/raw.h"

#if !defined(__x86_64__) || !defined(__LP64__) || !defined(__GLIBC__)
#error "this start is for glibc on x86-64"
#endif

/* Where variants of memcpy and memset change their method, in bytes. glibc computes these from the sizes of the caches.
 * They affect speed only, as long as the first is not too small: it must be more than 0x4040. These values are glibc's
 * for a cache of 1 MiB. They are constant, so they are not part of the image. */
const long __x86_shared_non_temporal_threshold = 0xc0000;
const unsigned long __x86_memset_non_temporal_threshold = SIZE_MAX;
const long __x86_rep_movsb_threshold = 2048;
const long __x86_rep_movsb_stop_threshold = 0xc0000;
const long __x86_rep_stosb_threshold = 2048;
const long __x86_data_cache_size = 32 << 10;
const long __x86_data_cache_size_half = 16 << 10;
const long __x86_shared_cache_size = 1 << 20;
const long __x86_shared_cache_size_half = 512 << 10;
const int __x86_string_control = 0;
const unsigned long _dl_x86_features_tlsdesc_state_size = 0; /* for variables of threads in shared libraries */

/* What a signal handler's stack needs at least. Linux says it since 5.14; before, no state of a processor was larger
 * than that of AVX-512, which needs 3.5 KiB. */
enum { MIN_SIGNAL_STACK = 8 << 10 };

extern char **__environ;
extern void *__libc_stack_end;
extern const void *_dl_phdr, *_dl_random;
extern size_t _dl_minsigstacksize;

void _dl_aux_init(const Elf64_auxv_t *vector);
void __libc_setup_tls(void);
void __libc_early_init(_Bool initial);
void __libc_init_first(int count, char **arguments, char **variables);
int __cxa_atexit(void (*function)(void *), void *argument, void *library);

/* Made by the linker and by the compiler's crti.o. */
typedef void initialiser(int count, char **arguments, char **variables);
extern const Elf64_Rela __rela_iplt_start[], __rela_iplt_end[];
extern initialiser *__preinit_array_start[], *__preinit_array_end[], *__init_array_start[], *__init_array_end[];
extern void (*__fini_array_start[])(void), (*__fini_array_end[])(void);
void _init(void);
void _fini(void);

/* Functions with variants: the linker has noted the address of a function that chooses one. Until then no function of
 * the C library that has variants can be called, and the compiler calls memcpy by itself, for example. */
static PYOCI_UNGUARDED void choose_variants(void)
{
    for (const Elf64_Rela *each = __rela_iplt_start; each < __rela_iplt_end; each++) {
        if (ELF64_R_TYPE(each->r_info) != R_X86_64_IRELATIVE)
            __builtin_trap();
        uintptr_t (*choose)(void) = (uintptr_t(*)(void))each->r_addend;
        *(uintptr_t *)each->r_offset = choose();
    }
}

/* The values that protect the stack and stored addresses of functions (setjmp, atexit), from the kernel's random bytes.
 * The compiler and glibc expect them at these places of the thread's block. */
static PYOCI_UNGUARDED void set_guards(void)
{
    uintptr_t guards[2];
    memcpy(guards, _dl_random, sizeof guards);
    guards[0] &= ~(uintptr_t)0xff; /* a NUL stops functions on strings */
    __asm__ volatile("mov %0, %%fs:0x28" : : "r"(guards[0]));
    __asm__ volatile("mov %0, %%fs:0x30" : : "r"(guards[1]));
}

static void finish(void *unused)
{
    (void)unused;
    for (void (**each)(void) = __fini_array_end; each > __fini_array_start;)
        (*--each)();
    _fini();
}

static void initialise(int count, char **arguments)
{
    for (initialiser **each = __preinit_array_start; each < __preinit_array_end; each++)
        (*each)(count, arguments, __environ);
    _init();
    for (initialiser **each = __init_array_start; each < __init_array_end; each++)
        (*each)(count, arguments, __environ);
}

/* crt1.o calls this. `end` is the end of the stack; the other parameters are for other kinds of executables. */
__attribute__((noreturn)) PYOCI_UNGUARDED int __libc_start_main(int (*program)(int, char **, char **), int count,
    char **arguments, void (*init)(void), void (*fini)(void), void (*unload)(void), void *end)
{
    (void)init;
    (void)fini;
    (void)unload;

    __environ = arguments + count + 1;
    __libc_stack_end = end;
    char **after = __environ;
    while (*after++ != NULL)
        ;
    _dl_aux_init((const Elf64_auxv_t *)after);
    if (_dl_phdr == NULL || _dl_random == NULL) /* any Linux gives both */
        __builtin_trap();
    if (_dl_minsigstacksize == 0)
        _dl_minsigstacksize = MIN_SIGNAL_STACK;

    choose_variants();
    __libc_setup_tls();
    set_guards();
    __libc_early_init(true);
    __libc_init_first(count, arguments, __environ);
    __cxa_atexit(finish, NULL, NULL);
    initialise(count, arguments);
    exit(program(count, arguments, __environ));
}
