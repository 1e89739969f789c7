/* The memory that Python allocates while the image is made: see heap.c. */
#ifndef PYOCI_HEAP_H
#define PYOCI_HEAP_H

#include <stdbool.h>
#include <stddef.h>

/* Which commands write to a block: none, create and run, all. */
enum heat { COLD, WARM, HOT, HEATS };

/* Before Python starts: from here on it allocates in the image. `order` is the path of what heap_survey wrote, or NULL for
 * a survey. */
bool heap_begin(const char *order);

/* Python allocates where it always does, and what is in the image stays as it is. */
void heap_end(void);

/* After heap_end of a survey: a child runs `rehearse` for each heat but COLD. Writes to the new file `path` what they
 * wrote to, for an executable that allocates the same. */
bool heap_survey(const char *path, bool (*rehearse)(enum heat heat));

/* No child gets a copy of this memory, nor of what is allocated later. A child of these commands runs the executor, which
 * reads nothing of Python's (native/wrappers.pxi gives it what it needs); a copy would tell the container's processes of its maker,
 * and costs us a fault for each page that we write to. */
void heap_keep_from_children(void);

/* What is used of the image's memory: an address, a size. */
char *heap_start(void);
size_t heap_size(void);

#endif
