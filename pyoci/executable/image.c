/* The image: a Python that was started when the executable was built.
 *
 * Starting Python and loading the package takes longer than most commands do. So the build (image.py) runs the
 * executable. It starts Python, imports the modules of the hot path, and writes the writable data of CPython and pyoci
 * to a file, the image. The build then puts the image in the place of this data, and every process begins there.
 *
 * This is sound because every pointer in the image leads into the image or into the executable. The executable is not
 * position-independent, and everything that Python allocates until then lies in the image (heap.c). Data of the C
 * library and of the dynamic linker is not part of the image (layout.py). image_resume sets everything else that each
 * process has of its own.
 *
 * The build then runs the executable once more. This rehearsal shows which pages of the image a command writes to.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#if PY_VERSION_HEX >= 0x030E0000
#define Py_BUILD_CORE
#include <internal/pycore_tstate.h>
#endif

#include "build_host.h"
#include "frozen_import.h"
#include "hashes.h"
#include "heap.h"
#include "image.h"

enum { PAGE = 4096, RUNS = 256, GAP = 4 };
enum { MIN_STACK = 48 << 10, MAX_STACK = 4 << 20 }; /* bytes; Python refuses less */

static bool written;
static PyThreadState *thread;

/* Runs of pages that the rehearsal wrote to; `runs` is -1 before it. A run may contain short gaps: populating them is
 * cheaper than starting another run. */
static struct {
    int64_t runs;
    struct {
        uint64_t first, pages;
    } run[RUNS];
} touched = {.runs = -1};

extern char image_start[], image_end[];
#ifdef WITH_MIMALLOC
extern __thread void *_mi_heap_default;
#endif
typedef void constructor(int argc, char **argv, char **variables);
extern constructor *constructors[], *constructors_end[];

/* --- write the image */

/* Python notes which signals are ignored, and nohup ignores one. Files that the build creates have their modes. */
static void forget_caller(void)
{
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    umask(022);
}

void image_prepare(int argc, char **argv)
{
    forget_caller();
    image_without_huge_pages();
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE); /* mmap takes no other address */
    uintptr_t end = ((uintptr_t)sbrk(0) + page - 1) & ~(page - 1);
    mmap((void *)end, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    for (constructor **each = constructors; each < constructors_end; each++)
        (*each)(argc, argv, environ);
}

/* From 3.14 on, Python compares the stack pointer with the limits of the stack, for which it would read /proc/self/maps
 * in each process. `c_stack_init_top` is for code that moves to another stack and back. */
static void set_stack_limits(char *start, size_t size)
{
#if PY_VERSION_HEX >= 0x030E0000
    if (PyUnstable_ThreadState_SetStackProtection(thread, start, size) != 0)
        Py_FatalError("the stack is too small");
    _PyThreadStateImpl *whole = (_PyThreadStateImpl *)thread;
    whole->c_stack_init_base = (uintptr_t)start;
    whole->c_stack_init_top = (uintptr_t)start + size;
#else
    (void)start;
    (void)size;
#endif
}

static void collect_garbage(void)
{
    PyGC_Enable(); /* PyGC_Collect does nothing while collection is disabled */
    PyGC_Collect();
    PyGC_Disable();
}

bool image_survey(const char *path, bool (*rehearse)(enum heat heat))
{
    collect_garbage();
    heap_end();
    return heap_survey(path, rehearse);
}

/* Code that does not get the thread's identity from Python has noted the address that the C library uses. image_resume
 * sets the one that counts. mimalloc, which Python brings along and does not use, has noted one, too: the address of a
 * variable on POWER and s390, and the thread pointer elsewhere, which on x86 is the C library's address. On
 * aarch64, mimalloc of Python 3.13 has noted the word there, which leads to the thread's variables. */
static void forget_thread(void)
{
    const uintptr_t addresses[] = {
        (uintptr_t)pthread_self(),
#if defined(__aarch64__) || defined(__riscv)
        (uintptr_t)__builtin_thread_pointer(),
#endif
#if defined(__aarch64__)
        *(const uintptr_t *)__builtin_thread_pointer(),
#endif
#ifdef WITH_MIMALLOC
        (uintptr_t)&_mi_heap_default,
#endif
    };
    for (uintptr_t *word = (uintptr_t *)image_start; word < (uintptr_t *)image_end; word++)
        for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++)
            if (*word == addresses[i])
                *word = BUILD_THREAD;
}

/* Returns how many words of the image have a value from `start` to below `end`. The end of the image itself does not
 * count: without random addresses, the C library's heap begins right there.
 *
 * Not every such word is a pointer: the last characters of a string, read as a number, may lie below 4 GiB, where the C
 * library's heap is. Small numbers side by side may lie below 1 TiB, where QEMU's user mode has the stack. There, only
 * multiples of 8 count: the addresses of the heap's blocks are multiples of 8. If the characters happen to be one, too,
 * image.py tries again, in a process whose heap lies elsewhere. */
static size_t count_pointers(uintptr_t start, uintptr_t end)
{
    const uintptr_t mask = end <= (uintptr_t)1 << 40 ? sizeof(void *) - 1 : 0;
    size_t count = 0;
    for (const uintptr_t *word = (const uintptr_t *)image_start; word < (const uintptr_t *)image_end; word++)
        if (*word >= start && *word < end && (*word & mask) == 0 && *word != (uintptr_t)image_end) {
            fprintf(stderr, "pyoci: the image has a pointer to memory of this process at %p: %#" PRIxPTR "\n",
                (const void *)word, *word);
            count++;
        }
    return count;
}

/* Whether no pointer leads to what each process has elsewhere: the C library's heap, stacks, variables of threads, and
 * other mappings. All of these are writable memory without a file, and lie after the executable. */
static bool is_self_contained(void)
{
    char line[512];
    size_t count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL)
        return false;
    while (fgets(line, sizeof line, maps) != NULL) {
        uintptr_t start, end;
        int parsed = 0;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " rw-p 00000000 00:00 0%n", &start, &end, &parsed) != 2
            || parsed == 0 || end <= (uintptr_t)image_end)
            continue;
        /* the C library's heap may be in one mapping with the end of the image */
        count += count_pointers(start < (uintptr_t)image_end ? (uintptr_t)image_end : start, end);
    }
    fclose(maps);
    return count == 0;
}

/* The file holds two addresses of 8 bytes each, that of its first byte and that of `touched`. The image follows, up to
 * its last byte that is not zero. */
bool image_write(const char *path)
{
    collect_garbage();
    thread = PyEval_SaveThread();
    /* what frames have left on Python's stack, such as pointers to the C stack */
    memset(thread->datastack_top, 0, (char *)thread->datastack_limit - (char *)thread->datastack_top);
    set_stack_limits(image_start, MAX_STACK); /* those of our own would be pointers to elsewhere */
    heap_end();
    forget_thread();
    written = true;
    if (!hashes_note()) {
        fputs("pyoci: cannot make the image: it has too many strings\n", stderr);
        return false;
    }

    if (!is_self_contained())
        return false;
    FILE *file = fopen(path, "wbx");
    if (file == NULL)
        return false;
    const char *end = image_end;
    while (end > image_start && end[-1] == 0)
        end--;
    uint64_t addresses[] = {(uintptr_t)image_start, (uintptr_t)&touched};
    size_t size = (size_t)(end - image_start);
    bool done = fwrite(addresses, sizeof addresses, 1, file) == 1 && fwrite(image_start, 1, size, file) == size;
    return fclose(file) == 0 && done;
}

void image_without_huge_pages(void) { prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); }

static uintptr_t first_page(void) { return (uintptr_t)image_start & ~(uintptr_t)(PAGE - 1); }

static size_t pages(void) { return ((uintptr_t)heap_start() + heap_size() + PAGE - 1 - first_page()) / PAGE; }

static void note_touched(const uint64_t *pagemap, size_t count)
{
    for (size_t page = 0; page < count; page++) {
        if (!heap_wrote_to(pagemap[page]))
            continue;
        int64_t last = touched.runs - 1;
        if (last >= 0 && (page - touched.run[last].first - touched.run[last].pages < GAP || touched.runs == RUNS)) {
            touched.run[last].pages = page + 1 - touched.run[last].first;
        } else {
            touched.run[touched.runs].first = page;
            touched.run[touched.runs].pages = 1;
            touched.runs++;
        }
    }
}

/* If the kernel does not show the page map, `touched` stays empty. */
bool image_write_touched(const char *path)
{
    size_t count = pages();
    uint64_t *pagemap = malloc(count * sizeof *pagemap);
    touched.runs = 0;
    if (pagemap != NULL && heap_page_map((void *)first_page(), pagemap, count))
        note_touched(pagemap, count);
    FILE *file = fopen(path, "wbx");
    if (file == NULL)
        return false;
    bool done = fwrite(&touched, sizeof touched, 1, file) == 1;
    return fclose(file) == 0 && done;
}

/* --- begin with the image */

bool image_is_there(void) { return written; }

bool image_is_rehearsed(void) { return touched.runs >= 0; }

/* Makes pages private that Python is about to write to. A fault for each page would take longer. Linux before 5.14
 * lacks the call, and takes the faults. */
static bool populate(uintptr_t start, size_t size)
{
#ifdef MADV_POPULATE_WRITE
    return madvise((void *)start, size, MADV_POPULATE_WRITE) == 0;
#else
    (void)start;
    (void)size;
    return false;
#endif
}

static void populate_touched(void)
{
    for (int64_t i = 0; i < touched.runs; i++)
        if (!populate(first_page() + touched.run[i].first * PAGE, touched.run[i].pages * PAGE))
            break;
}

/* The other pages that every command writes to are scattered: a call for each run of them gains nothing. */
static void populate_hot_heap(void)
{
    populate((uintptr_t)heap_start(), heap_hot_size() & ~(size_t)(PAGE - 1));
}

/* posix.environ still holds the variables of the process that wrote the image. */
bool image_renew(void)
{
    extern char **environ;
    PyObject *posix = frozen_import("posix");
    PyObject *variables = posix ? PyObject_GetAttrString(posix, "environ") : NULL;
    bool done = variables != NULL && PyDict_Check(variables);
    if (done)
        PyDict_Clear(variables);
    for (char **entry = environ; done && entry != NULL && *entry != NULL; entry++) {
        const char *equals = strchr(*entry, '=');
        if (equals == NULL)
            continue;
        PyObject *name = PyBytes_FromStringAndSize(*entry, equals - *entry);
        PyObject *value = PyBytes_FromString(equals + 1);
        done = name != NULL && value != NULL && PyDict_SetDefault(variables, name, value) != NULL; /* the first wins */
        Py_XDECREF(name);
        Py_XDECREF(value);
    }
    Py_XDECREF(variables);
    Py_XDECREF(posix);
    return done;
}

/* The kernel lets arguments and variables fill a quarter of the stack's limit, so half of it is left for Python. */
static size_t usable_stack(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur / 2 > MAX_STACK)
        return MAX_STACK;
    return limit.rlim_cur / 2 > MIN_STACK ? limit.rlim_cur / 2 : MIN_STACK;
}

void image_resume(bool populates)
{
    if (populates)
        populate_touched();
    else
        populate_hot_heap();
    size_t stack = usable_stack();
    set_stack_limits((char *)__builtin_frame_address(0) - stack, stack);
    thread->thread_id = PyThread_get_thread_ident();
    PyEval_RestoreThread(thread);
    /* The process and the thread are not those that wrote the image. Python handles that as a fork. */
    PyOS_BeforeFork();
    PyOS_AfterFork_Child();
}
