/* The small blocks that a process allocates: see small.c. */
#ifndef PYOCI_SMALL_H
#define PYOCI_SMALL_H

#include <stddef.h>

/* From here on Python allocates small blocks in `area`, which is zero. */
void small_begin(char *area, size_t size);

#endif
