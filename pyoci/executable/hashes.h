/* Unpredictable hashes of strings: see hashes.c. */
#ifndef PYOCI_HASHES_H
#define PYOCI_HASHES_H

#include <stdbool.h>

/* When the image is complete: notes which strings it has, since they keep their hashes. False if there are too many. */
bool hashes_note(void);

/* Before a process that began with the image runs Python: draws its secret. False if the kernel gives none. */
bool hashes_draw(void);

#endif
