/* Python started when the executable is built.
 *
 * To start Python and load our modules takes longer than most commands do. So the executable is run once by its build
 * (freeze.py): it starts Python, imports what the hot path needs, and writes its .data and .bss to a file, the image, which
 * the build puts in the place of the original .data. From then on every process begins there.
 *
 * That is sound because the executable is not position-independent, and whatever Python allocates until then lies in .bss (heap.c):
 * each pointer in the image leads into the image or into the executable. Pointers to the shared C library are none of Python's:
 * the dynamic linker writes them, into a part of .data that it relocates, and into copies of variables that it makes, anew in
 * each process. What else a process has of its own is set by image_resume.
 *
 * The build then runs the executable once more, for a rehearsal that tells which pages of the image a command writes to.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hashes.h"
#include "heap.h"
#include "image.h"

enum { PAGE = 4096, RUNS = 256, GAP = 4 };

static bool written;
static PyThreadState *thread;

/* Pages of the image, in runs, that the rehearsal wrote to; -1 runs before it. The gaps in a run are short: it is cheaper to
 * have them than to leave them out. */
static struct {
    int64_t runs;
    struct {
        uint64_t first, pages;
    } run[RUNS];
} touched = {.runs = -1};

extern char __data_start[], _end[];

/* --- writing it */

static void collect_garbage(void)
{
    PyGC_Enable(); /* it collects nothing while it is disabled */
    PyGC_Collect();
    PyGC_Disable();
}

bool image_survey(const char *path, bool (*rehearse)(enum heat heat))
{
    collect_garbage();
    heap_end();
    return heap_survey(path, rehearse);
}

/* The file has two addresses, that of its first byte and that of `touched`, 8 bytes each, then the bytes up to the last one
 * that is not zero. */
bool image_write(const char *path)
{
    collect_garbage();
    thread = PyEval_SaveThread();
    heap_end();
    written = true;
    if (!hashes_note()) {
        fputs("pyoci: cannot make the image: it has too many strings\n", stderr);
        return false;
    }

    FILE *file = fopen(path, "wbx");
    if (file == NULL)
        return false;
    const char *end = _end;
    while (end > __data_start && end[-1] == 0)
        end--;
    uint64_t addresses[] = {(uintptr_t)__data_start, (uintptr_t)&touched};
    size_t size = (size_t)(end - __data_start);
    bool done = fwrite(addresses, sizeof addresses, 1, file) == 1 && fwrite(__data_start, 1, size, file) == size;
    return fclose(file) == 0 && done;
}

static uintptr_t first_page(void) { return (uintptr_t)__data_start & ~(uintptr_t)(PAGE - 1); }

static size_t pages(void) { return ((uintptr_t)heap_start() + heap_size() + PAGE - 1 - first_page()) / PAGE; }

/* By /proc/PID/pagemap: a page is present (bit 63) and not the file's (bit 61) once it was written to. */
static void note_touched(const uint64_t *pagemap, size_t count)
{
    for (size_t page = 0; page < count; page++) {
        if ((pagemap[page] >> 61 & 5) != 4)
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

/* Writes `touched` to a new file, for its place in the image. Where the kernel does not tell, no page is known. */
bool image_write_touched(const char *path)
{
    size_t count = pages(), size = count * sizeof(uint64_t);
    uint64_t *pagemap = malloc(size);
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    off_t at = (off_t)(first_page() / PAGE * sizeof(uint64_t));
    touched.runs = 0;
    if (pagemap != NULL && fd >= 0 && pread(fd, pagemap, size, at) == (ssize_t)size)
        note_touched(pagemap, count);
    FILE *file = fopen(path, "wbx");
    if (file == NULL)
        return false;
    bool done = fwrite(&touched, sizeof touched, 1, file) == 1;
    return fclose(file) == 0 && done;
}

/* --- beginning with it */

bool image_is_there(void) { return written; }

bool image_is_rehearsed(void) { return touched.runs >= 0; }

/* A call for each run of pages that Python is about to write to: a fault for each page would take longer. Only
 * Linux 5.14 knows it; without it the faults are taken. */
static void populate(void)
{
#ifdef MADV_POPULATE_WRITE
    for (int64_t i = 0; i < touched.runs; i++) {
        uintptr_t start = first_page() + touched.run[i].first * PAGE;
        if (madvise((void *)start, touched.run[i].pages * PAGE, MADV_POPULATE_WRITE) != 0)
            break;
    }
#endif
}

/* posix.environ has the variables of the process that wrote the image. */
bool image_renew(void)
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

void image_resume(bool enters_container)
{
    if (enters_container) {
        populate();
        heap_keep_from_children();
    }
    thread->thread_id = PyThread_get_thread_ident();
    PyEval_RestoreThread(thread);
    /* Another process and thread than before: what Python knows as a fork. */
    PyOS_BeforeFork();
    PyOS_AfterFork_Child();
}
