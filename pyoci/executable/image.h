/* Python started when the executable is built: see image.c. */
#ifndef PYOCI_IMAGE_H
#define PYOCI_IMAGE_H

#include <stdbool.h>

#include "heap.h"

/* Whether this process began with an image, Python started in it. */
bool image_is_there(void);

/* In the place of image_write: writes to the new file `path` in which order memory is best. A child calls `rehearse` for
 * each heat but COLD. */
bool image_survey(const char *path, bool (*rehearse)(enum heat heat));

/* Writes the image to a new file; Python can't be used any more. */
bool image_write(const char *path);

/* Whether the image knows which of its pages commands write to. */
bool image_is_rehearsed(void);

/* After a rehearsal in a process that began with the image: writes what it needs to know of it to a new file. */
bool image_write_touched(const char *path);

/* Makes the Python of the image this process's own. A command that enters a container writes to much of its memory,
 * and its children run no Python. */
void image_resume(bool enters_container);

/* What Python knows of its process: the environment. */
bool image_renew(void);

#endif
