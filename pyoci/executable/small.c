/* The small blocks that a process allocates.
 *
 * CPython's allocator has pools of 16 KiB, one for each size of blocks. So a command writes to many pages, with a few
 * blocks on each, and a page costs more time than the work on it. This allocator puts blocks of all sizes side by side,
 * in an area of the image next to the blocks that all commands write to (heap.c). It reuses a freed block for the same
 * size only. When the area is full, CPython's allocator takes over: commands that allocate much gain nothing here.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "small.h"

enum { UNIT = 16, LARGEST = 1024, SIZES = LARGEST / UNIT + 1 };

/* Lies at the start of the area. */
static struct area {
    char *next, *end;
    void *freed[SIZES];
    uint8_t sizes[]; /* for each unit of the area where a block begins: the units of the block */
} *area;

static PyMemAllocatorEx others[2]; /* CPython's */

static bool is_ours(const void *block)
{
    return (uintptr_t)block - (uintptr_t)area < (uintptr_t)(area->end - (char *)area);
}

static uint8_t *units_of(void *block) { return &area->sizes[((char *)block - (char *)area) / UNIT]; }

static void *take(size_t size)
{
    size_t units = size ? (size + UNIT - 1) / UNIT : 1;
    if (units >= SIZES)
        return NULL;
    void *block = area->freed[units];
    if (block != NULL) {
        area->freed[units] = *(void **)block;
    } else if (units * UNIT <= (size_t)(area->end - area->next)) {
        block = area->next;
        area->next += units * UNIT;
        *units_of(block) = (uint8_t)units;
    }
    return block;
}

static void give_back(void *block)
{
    void **list = &area->freed[*units_of(block)];
    *(void **)block = *list;
    *list = block;
}

static void *small_malloc(void *other, size_t size)
{
    PyMemAllocatorEx *its = other;
    void *block = take(size);
    return block != NULL ? block : its->malloc(its->ctx, size);
}

static void *small_calloc(void *other, size_t count, size_t size)
{
    PyMemAllocatorEx *its = other;
    size_t whole;
    void *block = __builtin_mul_overflow(count, size, &whole) ? NULL : take(whole);
    return block != NULL ? memset(block, 0, whole) : its->calloc(its->ctx, count, size);
}

static void *small_realloc(void *other, void *block, size_t size)
{
    PyMemAllocatorEx *its = other;
    if (block == NULL)
        return small_malloc(other, size);
    if (!is_ours(block))
        return its->realloc(its->ctx, block, size);
    size_t before = *units_of(block) * UNIT;
    if (size <= before)
        return block;
    void *moved = small_malloc(other, size);
    if (moved == NULL)
        return NULL;
    memcpy(moved, block, before);
    give_back(block);
    return moved;
}

static void small_free(void *other, void *block)
{
    PyMemAllocatorEx *its = other;
    if (block != NULL && is_ours(block))
        give_back(block);
    else
        its->free(its->ctx, block);
}

void small_begin(char *start, size_t size)
{
    static const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
    area = (struct area *)start;
    area->end = start + size;
    area->next = start + ((sizeof *area + size / UNIT + UNIT - 1) & ~(size_t)(UNIT - 1));
    for (int i = 0; i < 2; i++) {
        PyMem_GetAllocator(domains[i], &others[i]);
        PyMemAllocatorEx ours = {&others[i], small_malloc, small_calloc, small_realloc, small_free};
        PyMem_SetAllocator(domains[i], &ours);
    }
}
