/* The host as it looks while the build makes the image: see build_host.c. */
#ifndef PYOCI_BUILD_HOST_H
#define PYOCI_BUILD_HOST_H

/* From here on Python sees the model of a host. `directory` is the build's, and has the model's files in `host`; it
 * must stay until build_host_end. */
void build_host_begin(const char *directory);

/* From here on Python sees the host that it runs on, as in every later process. */
void build_host_end(void);

/* In place of the calling thread's id, which is an address of this process. */
enum { BUILD_THREAD = 0x1000 };

#endif
