/* Self-protection: run from a file that no container can write to.
 *
 * Until a container's init calls execve, its /proc/PID/exe is the runtime's own executable. A hostile image can make
 * init execute `/proc/self/exe`, or keep the link open and write to it later (CVE-2019-5736). So the commands that
 * enter a container first execute themselves again from a copy out of the container's reach. */
#ifndef PYOCI_PROTECT_H
#define PYOCI_PROTECT_H

#include <stdbool.h>
#include <stddef.h>

/* Opens /dev/null in place of each standard descriptor (0 to 2) that is closed. Otherwise the next file that some code
 * opens would become its standard output. Returns false, with errno set, on failure. */
bool protect_standard_descriptors(void);

/* Whether /proc/self/exe is already out of every container's reach. Checks the file itself, so the caller can't fake it
 * with arguments or environment. False also if the kernel gives no answer. */
bool protect_done(void);

/* Executes the running file again from a protected copy, with the same `argv` and `environ`. Returns only if every
 * method failed; `message` says at which step. */
void protect_and_execute(char *const argv[], char *message, size_t size);

#endif
