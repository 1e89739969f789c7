/* The memory that Python allocates while it makes the image: see heap.c. */
#ifndef PYOCI_HEAP_H
#define PYOCI_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How commands use a block: not at all, they read it, create and run write to it, all write to it. */
enum heat { COLD, READ, WARM, HOT, HEATS };

/* From here on Python allocates in the image. Call it before Python starts. `order` is the path of a file that
 * heap_survey wrote, or NULL for a survey. */
bool heap_begin(const char *order);

/* From here on Python allocates as usual, and blocks in the image stay where they are. */
void heap_end(void);

/* After heap_end of a survey: one child runs `rehearse` for WARM and one for HOT. Writes to the new file `path`
 * which blocks they used, for an executable that allocates in the same order. */
bool heap_survey(const char *path, bool (*rehearse)(enum heat heat));

/* Reads the entries of /proc/PID/pagemap for this process and the pages from `start`. Returns false if the kernel does
 * not show them. */
bool heap_page_map(const void *start, uint64_t *entries, size_t count);

/* Whether the process wrote to that page of a private file mapping: the process has it (bit 63), and it is no longer
 * the file's (bit 61). */
static inline bool heap_wrote_to(uint64_t entry) { return (entry >> 61 & 5) == 4; }

/* The used part of the image's memory. */
char *heap_start(void);
size_t heap_size(void);

/* The size of its beginning, which every command writes to: blocks, and what `state` uses of the area of small.c. */
size_t heap_hot_size(void);

#endif
