/* A Python that was started when the executable was built: see image.c. */
#ifndef PYOCI_IMAGE_H
#define PYOCI_IMAGE_H

#include <stdbool.h>

#include "heap.h"

/* Whether this process began with an image, in which Python is running. */
bool image_is_there(void);

/* Call it first in a process that makes an image. Runs constructors, which later processes don't run. Keeps malloc off
 * the addresses right after the executable: they are so low that other data in the image would look like pointers to
 * it. Resets what the process has inherited from its caller. */
void image_prepare(int argc, char **argv);

/* Call it before what a survey or a rehearsal measures: the kernel then counts each page that the process touches. */
void image_without_huge_pages(void);

/* Instead of image_write: finds the best order of blocks in memory, and writes it to the new file `path`. One child
 * calls `rehearse` for WARM, and one for HOT. */
bool image_survey(const char *path, bool (*rehearse)(enum heat heat));

/* Writes the image to a new file. Python is unusable afterwards. */
bool image_write(const char *path);

/* Whether the image includes the list of pages that commands write to. */
bool image_is_rehearsed(void);

/* Writes the list of touched pages to a new file, after a rehearsal in a process that began with the image. */
bool image_write_touched(const char *path);

/* Makes the Python of the image this process' own. Copies pages in advance. If `populates`: all that `create` writes
 * to. Otherwise: the blocks that every command writes to, and the beginning of the area of small.c. */
void image_resume(bool populates);

/* Renews what Python caches about its process: the environment. */
bool image_renew(void);

#endif
