/* Python started when the executable is built.
 *
 * To start Python and load our modules takes longer than most commands do. So the executable is run once by its build
 * (freeze.py): it starts Python, imports what the hot path needs, and writes its .data and .bss to a file, the image, which
 * the build puts in the place of the original .data. From then on every process begins there.
 *
 * That is sound because the executable is not position-independent, and whatever Python allocates until then lies in .bss:
 * each pointer in the image leads into the image or into the executable. Pointers to the shared C library are none of Python's:
 * the dynamic linker writes them, into a part of .data that it relocates, and into copies of variables that it makes, anew in
 * each process. What else a process has of its own is set by image_resume.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image.h"

enum { MEMORY = 16 << 20, PAGE = 4096, HEADER = 16 };

/* In .data, for this file is linked last: the end of .bss shall be the part of the memory that nobody has used. */
#define IN_DATA __attribute__((section(".data")))
static bool writing IN_DATA, written IN_DATA;
static PyThreadState *thread IN_DATA;
static size_t used IN_DATA;
static char memory[MEMORY] __attribute__((aligned(PAGE)));

extern char __data_start[], _end[];

/* --- memory */

static bool is_in_image(const void *block)
{
    return (uintptr_t)block >= (uintptr_t)memory && (uintptr_t)block < (uintptr_t)memory + MEMORY;
}

static void *take(size_t size, size_t alignment)
{
    size_t start = (used + alignment - 1) & ~(alignment - 1);
    if (start > MEMORY || size > MEMORY - start)
        return NULL;
    used = start + size;
    return memory + start;
}

/* The linker gives us Python's calls of these four; the C library's own calls stay its own. A block of the image has its
 * size in front of it, and is never given back. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
void __wrap_free(void *block);

void *__wrap_malloc(size_t size)
{
    if (!writing)
        return __real_malloc(size);
    char *block = size < MEMORY ? take(HEADER + size, HEADER) : NULL;
    if (block == NULL)
        return NULL;
    memcpy(block, &size, sizeof size);
    return block + HEADER;
}

void *__wrap_calloc(size_t count, size_t size)
{
    if (!writing)
        return __real_calloc(count, size);
    size_t whole;
    return __builtin_mul_overflow(count, size, &whole) ? NULL : __wrap_malloc(whole); /* never used before, so zero */
}

void *__wrap_realloc(void *block, size_t size)
{
    if (!is_in_image(block))
        return block == NULL ? __wrap_malloc(size) : __real_realloc(block, size);
    size_t before;
    memcpy(&before, (char *)block - HEADER, sizeof before);
    void *moved = __wrap_malloc(size);
    return moved == NULL ? NULL : memcpy(moved, block, before < size ? before : size);
}

void __wrap_free(void *block)
{
    if (!is_in_image(block))
        __real_free(block);
}

/* Python's small objects live in arenas, which would come from mmap(2). */
static PyObjectArenaAllocator system_arenas;

static void *arena_alloc(void *context, size_t size)
{
    (void)context;
    return writing ? take(size, PAGE) : system_arenas.alloc(system_arenas.ctx, size);
}

static void arena_free(void *context, void *arena, size_t size)
{
    (void)context;
    if (!is_in_image(arena))
        system_arenas.free(system_arenas.ctx, arena, size);
}

/* --- writing it */

void image_begin(void)
{
    writing = true;
    PyObject_GetArenaAllocator(&system_arenas);
    PyObjectArenaAllocator arenas = {NULL, arena_alloc, arena_free};
    PyObject_SetArenaAllocator(&arenas);
}

/* The file has the address of its first byte, 8 bytes, then the bytes up to the last one that is not zero. */
bool image_write(const char *path)
{
    PyGC_Collect();
    thread = PyEval_SaveThread();
    writing = false;
    written = true;

    FILE *file = fopen(path, "wbx");
    if (file == NULL)
        return false;
    const char *end = _end;
    while (end > __data_start && end[-1] == 0)
        end--;
    uint64_t address = (uintptr_t)__data_start;
    size_t size = (size_t)(end - __data_start);
    bool done = fwrite(&address, sizeof address, 1, file) == 1 && fwrite(__data_start, 1, size, file) == size;
    return fclose(file) == 0 && done;
}

/* --- beginning with it */

bool image_is_there(void) { return written; }

/* One call for all the pages of the image that Python is about to write to: a fault for each would take longer. Only
 * Linux 5.14 knows it; without it the faults are taken. */
static void populate(void)
{
#ifdef MADV_POPULATE_WRITE
    uintptr_t start = (uintptr_t)__data_start & ~(uintptr_t)(PAGE - 1);
    uintptr_t end = ((uintptr_t)memory + used + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
    madvise((void *)start, end - start, MADV_POPULATE_WRITE);
#endif
}

/* posix.environ has the variables of the process that wrote the image. */
static bool renew_environment(void)
{
    extern char **environ;
    PyObject *posix = PyImport_ImportModule("posix");
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
        done = name != NULL && value != NULL && PyDict_SetDefault(variables, name, value) != NULL; /* the first counts */
        Py_XDECREF(name);
        Py_XDECREF(value);
    }
    Py_XDECREF(variables);
    Py_XDECREF(posix);
    return done;
}

/* No child gets a copy of this memory. A child of these commands runs the executor, which reads nothing of Python's
 * (_wrappers.pxi gives it what it needs), and as long as it has a copy we pay for each page that we write to. */
static void keep_from_children(void)
{
    madvise(memory, (used + PAGE - 1) & ~(size_t)(PAGE - 1), MADV_DONTFORK);
}

bool image_resume(bool enters_container)
{
    if (enters_container) {
        populate();
        keep_from_children();
    }
    thread->thread_id = PyThread_get_thread_ident();
    PyEval_RestoreThread(thread);
    /* Another process and thread than before: what Python knows as a fork. */
    PyOS_BeforeFork();
    PyOS_AfterFork_Child();
    return renew_environment();
}
