/* Self-protection: run from a file that no container can write.
 *
 * Until a container's first process calls execve, its /proc/PID/exe is the runtime's own executable, and a
 * hostile image can make that process execute `/proc/self/exe`, or keep the link open and write to it later
 * (CVE-2019-5736). So the commands that enter a container first execute themselves again from a copy that
 * is out of reach.
 */
#ifndef PYOCI_PROTECT_H
#define PYOCI_PROTECT_H

#include <stdbool.h>
#include <stddef.h>

/* Opens /dev/null for each of the descriptors 0 to 2 that is closed: the next file opened would become the
 * standard output of somebody. False, with errno set, when that can't be done. */
bool protect_standard_descriptors(void);

/* Whether /proc/self/exe is already out of reach of every container. Asks the kernel about the file itself:
 * neither the environment nor the arguments can pretend it. False also when that can't be found out. */
bool protect_done(void);

/* Executes the running file again from a protected copy, with `argv` and `environ` as they are.
 * Returns only when every method failed, and says in `message` which failed at what. */
void protect_and_execute(char *const argv[], char *message, size_t size);

#endif
