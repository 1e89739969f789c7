/* The memory of the image (image.c): where the blocks that Python allocates lie.
 *
 * All of them lie in `memory`, a part of .bss. A process that begins with the image shares its pages with the page
 * cache. The kernel copies each page that the process writes to, and the copy takes longer than most of the work on
 * that page. Python counts references, so it writes to most objects that it looks at. Therefore blocks that commands
 * write to lie together: first those that every command writes to, then those of the commands that make containers.
 * Blocks that commands only read follow: the kernel maps the pages around such a block, too, 64 KiB together. The rest,
 * three quarters of the memory, comes last.
 *
 * A first run, the survey, finds out which blocks these are. It gives each block a page of its own, far from others,
 * and two of its children do the work of commands. The kernel knows which pages they read and wrote. A block is
 * identified by its number in the order of allocation. The second run makes the image, with the same seed for hashes,
 * and allocates in the same order. If the order differed, the image would still be correct, but slower to begin with.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <endian.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap.h"
#include "small.h"

enum {
    PAGE = 4096,
    APART = 16 * PAGE, /* in a survey, blocks are that far apart: the kernel maps no second block with one */
    HEADER = 16,  /* before each block: its size */
    SMALL = 1024, /* sizes up to here are multiples of 16 bytes, larger ones powers of two */
    CLASSES = SMALL / 16 + 1 + 64,
    LARGE = PAGE / 2, /* larger blocks fill whole pages anyway */
    AREA = 256 << 10, /* for the small blocks of a process */
    FRESH = 36 << 10, /* the part of AREA that `state` uses */
    MEMORY = 16 << 20,
    MAX_ALLOCATIONS = 4 << 20 /* that a survey tells apart */
};

/* In .data, because this file is linked last: .bss must end with the unused part of the memory. */
#define IN_DATA __attribute__((section(".data")))
static char memory[MEMORY] __attribute__((aligned(PAGE)));
static bool writing IN_DATA;
static uint32_t allocations IN_DATA;
static void *freed[HEATS][CLASSES] IN_DATA;
/* The parts of the memory: where the next block of each heat goes, and where the part ends. After the first one lies
 * the area for the small blocks of a process. */
static size_t next[HEATS] IN_DATA, end[HEATS] IN_DATA = {MEMORY};
static const uint8_t *order IN_DATA; /* the heat of each allocation; NULL after heap_end */
static uint32_t ordered IN_DATA;

/* Used by a survey only: its memory, the file with the contents, and the number of the block at each place. */
static const size_t POOL = (size_t)32 << 30;
/* Where the pool should lie: Python hashes some objects by their address. */
static void *const POOL_ADDRESS = (void *)((uintptr_t)32 << 30);
static char *pool IN_DATA;
static int pool_file IN_DATA;
static size_t pool_used IN_DATA;
static uint32_t *owner IN_DATA;

static bool is_within(const void *block, const char *area, size_t size)
{
    return area != NULL && (uintptr_t)block - (uintptr_t)area < size;
}

static bool is_in_image(const void *block) { return is_within(block, memory, MEMORY) || is_within(block, pool, POOL); }

static int class_of(size_t size)
{
    if (size <= SMALL)
        return (int)((size + 15) / 16);
    return SMALL / 16 + 64 - __builtin_clzll(size - 1);
}

static size_t size_of_class(int class)
{
    return class <= SMALL / 16 ? (size_t)class * 16 : (size_t)1 << (class - SMALL / 16);
}

static size_t size_of(const void *block)
{
    size_t size;
    memcpy(&size, (const char *)block - HEADER, sizeof size);
    return size;
}

static enum heat heat_of(const void *block)
{
    size_t at = (size_t)((const char *)block - memory);
    return pool != NULL ? COLD : at < end[HOT] ? HOT : at < end[WARM] ? WARM : at < end[READ] ? READ : COLD;
}

/* Returns a place for a block with its header that was never used before, or NULL. */
static char *new_place(size_t size, enum heat heat)
{
    if (pool != NULL) {
        size_t space = (size + APART - 1) & ~(size_t)(APART - 1);
        if (space > POOL - pool_used)
            return NULL;
        char *place = pool + pool_used;
        pool_used += space;
        return place;
    }
    if (size > end[heat] - next[heat])
        heat = COLD;
    if (size > end[heat] - next[heat])
        return NULL;
    char *place = memory + next[heat];
    next[heat] += size;
    return place;
}

/* The linker redirects Python's calls of these four functions to us; the C library's own calls stay its own. While the
 * image is being made, freed blocks are used again. */
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
    if (size > MEMORY)
        return NULL;
    int class = class_of(size ? size : 1);
    uint32_t number = allocations++;
    enum heat heat = number < ordered && size <= LARGE ? order[number] : COLD;
    char *block = freed[heat][class];
    if (block != NULL) {
        freed[heat][class] = *(void **)block;
    } else {
        size = size_of_class(class);
        char *place = new_place(HEADER + size, heat);
        if (place == NULL)
            return NULL;
        block = memcpy(place, &size, sizeof size) + HEADER;
    }
    if (pool != NULL)
        owner[(block - pool) / APART] = number < MAX_ALLOCATIONS ? number : MAX_ALLOCATIONS - 1;
    return block;
}

void *__wrap_calloc(size_t count, size_t size)
{
    if (!writing)
        return __real_calloc(count, size);
    size_t whole;
    void *block = __builtin_mul_overflow(count, size, &whole) ? NULL : __wrap_malloc(whole);
    return block == NULL ? NULL : memset(block, 0, whole);
}

void *__wrap_realloc(void *block, size_t size)
{
    if (!is_in_image(block))
        return block == NULL ? __wrap_malloc(size) : __real_realloc(block, size);
    size_t before = size_of(block);
    if (size <= before)
        return block;
    void *moved = __wrap_malloc(size);
    if (moved == NULL)
        return NULL;
    memcpy(moved, block, before);
    __wrap_free(block);
    return moved;
}

void __wrap_free(void *block)
{
    if (!is_in_image(block)) {
        __real_free(block);
        return;
    }
    if (!writing)
        return;
    enum heat heat = heat_of(block);
    int class = class_of(size_of(block));
    memset(block, 0, size_of(block)); /* the build has read files of its host, and the image must not reveal them */
    *(void **)block = freed[heat][class];
    freed[heat][class] = block;
}

/* Memory that Python would get from mmap(2): the stack of its interpreter, and, after heap_end, the arenas of its own
 * allocator. */
static PyObjectArenaAllocator arenas IN_DATA;

static void *arena_alloc(void *context, size_t size)
{
    (void)context;
    return writing ? __wrap_malloc(size) : arenas.alloc(arenas.ctx, size);
}

static void arena_free(void *context, void *arena, size_t size)
{
    (void)context;
    if (is_in_image(arena))
        __wrap_free(arena);
    else
        arenas.free(arenas.ctx, arena, size);
}

/* Python's allocator for small blocks, which groups blocks of a size. In the image they lie where malloc puts them.
 * When the allocator frees one of them, it treats it as malloc's. */
static const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
static PyMemAllocatorEx small[2] IN_DATA;

/* --- the order */

static void *map(size_t size)
{
    void *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED)
        return NULL;
    madvise(area, size, MADV_NOHUGEPAGE);
    return area;
}

/* Maps the file of the pool: shared in the survey itself, private in a child, which then has no page of it yet. */
static bool map_pool(void *address, int flags)
{
    void *area = mmap(address, POOL, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, pool_file, 0);
    if (area == MAP_FAILED)
        return false;
    pool = area;
    madvise(pool, POOL, MADV_NOHUGEPAGE);
    return true;
}

/* The file holds the size of all blocks of each heat, then the heat of each allocation. */
static bool read_order(const char *path)
{
    uint64_t sizes[HEATS];
    uint8_t *heats = map(MAX_ALLOCATIONS);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (heats == NULL || fd < 0)
        return false;
    if (read(fd, sizes, sizeof sizes) == sizeof sizes) {
        ssize_t count = read(fd, heats, MAX_ALLOCATIONS);
        ordered = count > 0 ? (uint32_t)count : 0;
        order = heats;
        end[HOT] = sizes[HOT];
        next[WARM] = end[HOT] + AREA;
        end[WARM] = next[WARM] + sizes[WARM];
        next[READ] = (end[WARM] + PAGE - 1) & ~(size_t)(PAGE - 1);
        end[READ] = next[READ] + sizes[READ];
        next[COLD] = (end[READ] + PAGE - 1) & ~(size_t)(PAGE - 1);
    }
    close(fd);
    return next[COLD] < MEMORY;
}

bool heap_begin(const char *path)
{
    if (path != NULL) {
        if (!read_order(path))
            return false;
    } else {
        pool_file = memfd_create("pool", MFD_CLOEXEC);
        owner = map(POOL / APART * sizeof *owner);
        if (pool_file < 0 || owner == NULL || ftruncate(pool_file, (off_t)POOL) != 0
            || !map_pool(POOL_ADDRESS, MAP_SHARED))
            return false;
    }
    for (int i = 0; i < 2; i++)
        PyMem_GetAllocator(domains[i], &small[i]);
    PyObject_GetArenaAllocator(&arenas);
    PyObjectArenaAllocator ours = {NULL, arena_alloc, arena_free};
    PyObject_SetArenaAllocator(&ours);
    writing = true;
    return true;
}

/* The lists of freed blocks show in which order the file system has listed names. */
static void forget_freed(void)
{
    for (int heat = 0; heat < HEATS; heat++)
        for (int class = 0; class < CLASSES; class++)
            while (freed[heat][class] != NULL) {
                void **block = freed[heat][class];
                freed[heat][class] = *block;
                *block = NULL;
            }
}

void heap_end(void)
{
    forget_freed();
    for (int i = 0; i < 2; i++)
        PyMem_SetAllocator(domains[i], &small[i]);
    small_begin(memory + end[HOT], AREA);
    order = NULL;
    ordered = 0;
    writing = false;
}

/* QEMU's user mode adds a number to each address of the program. The kernel and its page map know the sum only.
 * Returns that number, 0 without QEMU, or -1. A thread's maps show the kernel's addresses; QEMU translates those in
 * /proc/self/maps. */
static intptr_t shift(void)
{
    char text[1 << 16] = {0};
    size_t size = 0;
    ssize_t count = -1;
    unsigned long start;
    int probe = memfd_create("pyoci-probe", MFD_CLOEXEC);
    char *page = ftruncate(probe, PAGE) == 0 ? mmap(NULL, PAGE, PROT_READ, MAP_SHARED, probe, 0) : MAP_FAILED;
    int fd = open("/proc/thread-self/maps", O_RDONLY | O_CLOEXEC);
    while (size < sizeof text - 1 && (count = read(fd, text + size, sizeof text - 1 - size)) > 0)
        size += (size_t)count;
    char *line = strstr(text, "/memfd:pyoci-probe");
    while (line != NULL && line > text && line[-1] != '\n')
        line--;
    if (page == MAP_FAILED || line == NULL || sscanf(line, "%lx-", &start) != 1)
        return -1;
    return (intptr_t)(start - (uintptr_t)page);
}

/* QEMU's user mode changes the byte order of a program, not of the kernel. Linux before 6.2 does not show it. */
static bool kernel_is_little_endian(void)
{
    char order[6] = {0};
    int fd = open("/sys/kernel/cpu_byteorder", O_RDONLY | O_CLOEXEC);
    bool shown = fd >= 0 && read(fd, order, sizeof order) == sizeof order;
    close(fd);
    return shown ? memcmp(order, "little", sizeof order) == 0 : __BYTE_ORDER == __LITTLE_ENDIAN;
}

bool heap_page_map(const void *start, uint64_t *entries, size_t count)
{
    size_t size = count * sizeof *entries;
    intptr_t added = shift();
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    off_t at = (off_t)(((uintptr_t)start + (uintptr_t)added) / PAGE * sizeof *entries);
    bool done = added >= 0 && fd >= 0 && pread(fd, entries, size, at) == (ssize_t)size;
    close(fd);
    bool little = kernel_is_little_endian();
    for (size_t i = 0; i < count; i++)
        entries[i] = little ? le64toh(entries[i]) : be64toh(entries[i]);
    return done;
}

/* Runs in a child. A page that the process has, and that is still the file's, was only read. If the kernel does not
 * show the page map, every block is cold. */
static void note_used(uint8_t *heats, enum heat heat)
{
    size_t count = pool_used / PAGE;
    uint64_t *pagemap = map(count * sizeof *pagemap);
    if (pagemap == NULL || !heap_page_map(pool, pagemap, count))
        return;
    for (size_t page = 0; page < count; page += APART / PAGE) {
        uint8_t *its = &heats[owner[page / (APART / PAGE)]];
        if (heap_wrote_to(pagemap[page]))
            *its = (uint8_t)heat;
        else if (pagemap[page] >> 63 && *its == COLD)
            *its = READ;
    }
}

static bool write_order(const char *path, const uint8_t *heats)
{
    uint64_t sizes[HEATS] = {0};
    size_t size; /* without a pool there are no sizes, and every block is cold */
    for (size_t at = 0; at < pool_used; at += (HEADER + size + APART - 1) & ~(size_t)(APART - 1)) {
        size = size_of(pool + at + HEADER);
        if (size <= LARGE)
            sizes[heats[owner[at / APART]]] += HEADER + size;
    }
    FILE *file = fopen(path, "wbx");
    if (file == NULL)
        return false;
    size_t count = allocations < MAX_ALLOCATIONS ? allocations : MAX_ALLOCATIONS;
    bool done = fwrite(sizes, sizeof sizes, 1, file) == 1 && fwrite(heats, count, 1, file) == 1;
    return fclose(file) == 0 && done;
}

bool heap_survey(const char *path, bool (*rehearse)(enum heat heat))
{
    uint8_t *heats = mmap(NULL, MAX_ALLOCATIONS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (heats == MAP_FAILED)
        return false;
    for (enum heat heat = WARM; heat < HEATS; heat++) {
        PyOS_BeforeFork();
        pid_t pid = fork();
        if (pid == 0) {
            if (!map_pool(pool, MAP_PRIVATE | MAP_FIXED))
                _exit(EXIT_FAILURE);
            PyOS_AfterFork_Child();
            if (!rehearse(heat))
                _exit(EXIT_FAILURE);
            note_used(heats, heat);
            _exit(EXIT_SUCCESS);
        }
        PyOS_AfterFork_Parent();
        int status;
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
            return false;
    }
    return write_order(path, heats);
}

char *heap_start(void) { return memory; }

size_t heap_size(void) { return next[COLD]; }

size_t heap_hot_size(void) { return end[HOT] + FRESH; }
