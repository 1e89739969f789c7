/* What a C program expects of its start: started MODE
 *
 *   check   check copies, strings, numbers, threads, signals and so on; print the line of each check that fails
 *   show    print the guards, the arguments, the environment and what constructors saw
 *   smash   overwrite the stack protector's value
 *
 * tests/native/test_start.py links it statically, with the start of the executable or with the C library's. */
#define _GNU_SOURCE
#include <errno.h>
#include <execinfo.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

static int failures;
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            printf("line %d: %s\n", __LINE__, #condition);                                                             \
            failures++;                                                                                                \
        }                                                                                                              \
    } while (0)

/* --- constructors */

static int constructed_with;
static char *first_argument, *first_variable;

__attribute__((constructor)) static void construct(int count, char **arguments, char **variables)
{
    constructed_with = count;
    first_argument = arguments[0];
    first_variable = variables[0];
}

__attribute__((destructor)) static void destruct(void) { printf("destructor\n"); }

/* --- memory: the C library's functions against loops, at the end of a page before one that is not there */

enum { LARGE = 16 << 20, SPACE = LARGE + (64 << 10) };
static unsigned char *area, *other, *end;

static void map(void)
{
    unsigned char *both = mmap(NULL, 2 * (size_t)SPACE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(both != MAP_FAILED);
    CHECK(mprotect(both + SPACE - 4096, 4096, PROT_NONE) == 0);
    area = both;
    end = both + SPACE - 4096;
    other = both + SPACE;
}

static void fill(volatile unsigned char *at, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1103515245 + 12345;
        at[i] = (unsigned char)(seed >> 16);
    }
}

static int is_filled(const volatile unsigned char *at, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1103515245 + 12345;
        if (at[i] != (unsigned char)(seed >> 16))
            return 0;
    }
    return 1;
}

static int is_all(const volatile unsigned char *at, size_t size, unsigned char value)
{
    for (size_t i = 0; i < size; i++)
        if (at[i] != value)
            return 0;
    return 1;
}

static void check_copies(size_t size)
{
    for (size_t shift = 1; shift < 64; shift += size > 8192 ? 64 : 21) {
        unsigned char *target = other + 4096 + shift, *source = end - size;
        memset(target - 1, 0x55, size + 2);
        CHECK(is_all(target - 1, size + 2, 0x55));
        fill(source, size, (unsigned)size);
        CHECK(memcpy(target, source, size) == target);
        CHECK(is_filled(target, size, (unsigned)size) && target[-1] == 0x55 && target[size] == 0x55);
        CHECK(memcmp(target, source, size) == 0);
        memmove(target + 17, target, size); /* forwards and backwards, over itself */
        CHECK(is_filled(target + 17, size, (unsigned)size));
        memmove(target + 1, target + 17, size);
        CHECK(is_filled(target + 1, size, (unsigned)size));
    }
}

static void check_strings(size_t length)
{
    char *text = (char *)end - length - 1, *copy = (char *)other;
    memset(text, 'a', length);
    text[length] = '\0';
    CHECK(strlen(text) == length && strnlen(text, SIZE_MAX) == length && strnlen(text, length / 2) == length / 2);
    CHECK(strchr(text, '\0') == text + length && strchr(text, 'b') == NULL && strrchr(text, 'b') == NULL);
    CHECK(strcpy(copy, text) == copy && strcmp(copy, text) == 0 && stpcpy(copy, text) == copy + length);
    CHECK(memchr(text, 'b', length) == NULL && memchr(text, 0, length + 1) == text + length);
    CHECK(strspn(text, "xa") == length && strcspn(text, "xb") == length && strcasecmp(text, copy) == 0);
    if (length == 0)
        return;
    text[length - 1] = 'b';
    CHECK(strchr(text, 'b') == text + length - 1 && strrchr(text, 'b') == text + length - 1);
    CHECK(memchr(text, 'b', length) == text + length - 1 && memrchr(text, 'b', length) == text + length - 1);
    CHECK(strcmp(copy, text) < 0 && strncmp(copy, text, length) < 0 && strncmp(copy, text, length - 1) == 0);
    CHECK(memcmp(copy, text, length) < 0 && strstr(text, "b") == text + length - 1 && strpbrk(text, "xb") != NULL);
    CHECK(strcat(strcpy(copy, text), "c") == copy && strlen(copy) == length + 1);
}

static void check_wide(size_t length)
{
    wchar_t *text = (wchar_t *)end - length - 1, *copy = (wchar_t *)other;
    wmemset(text, L'é', length);
    text[length] = L'\0';
    CHECK(wcslen(text) == length && wcsnlen(text, length + 1) == length && wcschr(text, L'x') == NULL);
    CHECK(wcscpy(copy, text) == copy && wcscmp(copy, text) == 0 && wmemcmp(copy, text, length) == 0);
    CHECK(wmemchr(text, L'x', length) == NULL);
}

static void check_memory(void)
{
    static const size_t turns[] = {2048, 4096, 8192, 0x4040, 0xc0000}; /* where the methods change, and far beyond */
    map();
    for (size_t size = 0; size < 300; size++) {
        check_copies(size);
        check_strings(size);
        check_wide(size);
    }
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++)
        for (size_t size = turns[i] - 1; size <= turns[i] + 1; size++)
            check_copies(size);
    check_copies(16 * 0xc0000 + 1);
    check_copies(LARGE);
}

/* --- numbers */

static int is_near(double value, double expected) { return fabs(value - expected) <= fabs(expected) * 1e-15; }

static void check_numbers(void)
{
    volatile double one = 1, two = 2;
    char text[64];
    CHECK(is_near(sin(one), 0.8414709848078965) && is_near(cos(one), 0.5403023058681398));
    CHECK(is_near(tan(one), 1.557407724654902) && is_near(atan2(one, two), 0.4636476090008061));
    CHECK(is_near(exp(one), 2.718281828459045) && is_near(log(two), 0.6931471805599453));
    CHECK(is_near(pow(two, 0.5), 1.4142135623730951) && floor(-one / two) == -1 && rint(2.5) == 2);
    CHECK(fma(two, two, one) == 5 && sqrt(two * two) == 2);
    snprintf(text, sizeof text, "%.17g %d %s", 0.1, -7, "x");
    CHECK(strcmp(text, "0.10000000000000001 -7 x") == 0 && strtod("1e-3", NULL) == 0.001);
}

/* --- variables of threads, threads, locks */

static __thread int number = 42;
static __thread char zeros[300];
static __thread long aligned __attribute__((aligned(64))) = 7;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int turns_taken;

static void check_own_variables(void)
{
    CHECK(number == 42 && aligned == 7 && (uintptr_t)&aligned % 64 == 0 && is_all((void *)zeros, sizeof zeros, 0));
    number = 43;
    errno = ENOENT;
    CHECK(errno == ENOENT);
}

static void *take_turns(void *unused)
{
    (void)unused;
    check_own_variables();
    for (int i = 0; i < 100; i++) {
        pthread_mutex_lock(&mutex);
        turns_taken++;
        pthread_cond_signal(&condition);
        pthread_mutex_unlock(&mutex);
    }
    pthread_exit(&turns_taken);
}

static void check_threads(void)
{
    pthread_t threads[4];
    pthread_attr_t attributes;
    void *result;
    check_own_variables();
    pthread_attr_init(&attributes);
    CHECK(sysconf(_SC_THREAD_STACK_MIN) >= 16384);
    CHECK(pthread_attr_setstacksize(&attributes, (size_t)sysconf(_SC_THREAD_STACK_MIN)) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], i ? &attributes : NULL, take_turns, NULL) == 0);
    pthread_mutex_lock(&mutex);
    while (turns_taken < 400)
        pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], &result) == 0 && result == &turns_taken);
    CHECK(number == 43);
}

/* --- the rest */

static volatile sig_atomic_t handled;
static void handle(int signal) { handled = signal; }

static void check_signals(void)
{
    long size = sysconf(_SC_SIGSTKSZ);
    CHECK(sysconf(_SC_MINSIGSTKSZ) >= 2048 && size >= 8192);
    stack_t stack = {.ss_sp = malloc((size_t)size), .ss_size = (size_t)size};
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_ONSTACK};
    CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    raise(SIGUSR1);
    CHECK(handled == SIGUSR1);
}

static void check_rest(void)
{
    static jmp_buf place;
    volatile int jumps = 0;
    if (setjmp(place) < 3)
        longjmp(place, ++jumps);
    CHECK(jumps == 3);

    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(getpid() == getppid());
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);

    void *frames[8];
    CHECK(backtrace(frames, 8) >= 2); /* without tables it would be 1, this function */

    wchar_t wide[4];
    struct timespec now;
    CHECK(setlocale(LC_ALL, "C.UTF-8") != NULL && mbstowcs(wide, "\xc3\xa9", 4) == 1 && wide[0] == L'é');
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0 && now.tv_sec > 0);
    CHECK(sysconf(_SC_PAGESIZE) == 4096 && sysconf(_SC_NPROCESSORS_ONLN) > 0);
    CHECK(sysconf(_SC_LEVEL1_DCACHE_SIZE) >= 0 && sysconf(_SC_LEVEL3_CACHE_SIZE) >= 0);
    CHECK(getauxval(AT_PAGESZ) == 4096);
}

static void show(int count, char **arguments)
{
    uintptr_t canary = 0, pointer = 0;
#if defined(__x86_64__)
    __asm__("mov %%fs:0x28, %0" : "=r"(canary));
    __asm__("mov %%fs:0x30, %0" : "=r"(pointer));
#endif
    printf("guards %lx %lx\n", (long)canary, (long)pointer);
    printf("secure %lu %d\n", getauxval(AT_SECURE), secure_getenv("HOME") == NULL);
    printf("constructor %d %s %s\n", constructed_with, first_argument, first_variable);
    for (int i = 0; i < count; i++)
        printf("argument %s\n", arguments[i]);
    for (char **each = environ; *each != NULL; each++)
        printf("variable %s\n", *each);
    printf("name %s\n", program_invocation_short_name);
}

__attribute__((noinline)) static void smash(size_t size)
{
    char small[16];
    volatile char *at = small;
    for (size_t i = 0; i < size; i++)
        at[i] = 'x';
}

int main(int count, char **arguments)
{
    const char *mode = count > 1 ? arguments[1] : "";
    if (strcmp(mode, "show") == 0) {
        show(count, arguments);
    } else if (strcmp(mode, "smash") == 0) {
        smash(32);
    } else {
        check_memory();
        check_numbers();
        check_threads();
        check_signals();
        check_rest();
    }
    return failures > 0;
}
