/* Unpredictable hashes of strings: see hashes.c. */
#ifndef PYOCI_HASHES_H
#define PYOCI_HASHES_H

#include <stdbool.h>

/* Notes the strings of the complete image: they keep their hashes. Returns false if there are too many. */
bool hashes_note(void);

/* Draws the process' key. Call it before a process that began with the image runs Python. Returns false if the kernel
 * provides no random bytes. */
bool hashes_draw(void);

#endif
