/* What a static executable lacks: shared libraries, and names of users, groups, hosts and services. At the end: what it
 * does not need.
 *
 * The C library looks such names up through shared libraries (NSS), and loads those with a second copy of itself. pyoci
 * needs neither: all of its modules are built in or frozen, and ids are numbers. CPython refers to these functions, so
 * they are defined here. Each fails in the way its manual page describes. The C library itself contains the functions
 * for shared libraries, so the linker redirects CPython's calls of those (`--wrap`). */
#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <stddef.h>

void *__wrap_dlopen(const char *file, int mode);
void *__wrap_dlsym(void *restrict handle, const char *restrict name);
char *__wrap_dlerror(void);

void *__wrap_dlopen(const char *file, int mode)
{
    (void)file;
    (void)mode;
    return NULL;
}

void *__wrap_dlsym(void *restrict handle, const char *restrict name)
{
    (void)handle;
    (void)name;
    return NULL;
}

char *__wrap_dlerror(void) { return "a static executable loads no shared libraries"; }

/* An unknown user is in the given group only. */
int getgrouplist(const char *user, gid_t group, gid_t *groups, int *count)
{
    (void)user;
    int space = *count;
    *count = 1;
    if (space < 1)
        return -1;
    groups[0] = group;
    return 1;
}

int initgroups(const char *user, gid_t group)
{
    (void)user;
    (void)group;
    errno = ENOSYS;
    return -1;
}

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
    struct addrinfo **restrict result)
{
    (void)node;
    (void)service;
    (void)hints;
    (void)result;
    return EAI_FAIL;
}

void freeaddrinfo(struct addrinfo *list) { (void)list; }

int getnameinfo(const struct sockaddr *restrict address, socklen_t size, char *restrict host, socklen_t host_size,
    char *restrict service, socklen_t service_size, int flags)
{
    (void)address;
    (void)size;
    (void)host;
    (void)host_size;
    (void)service;
    (void)service_size;
    (void)flags;
    return EAI_FAIL;
}

int gethostbyname_r(const char *restrict name, struct hostent *restrict entry, char *restrict buffer, size_t size,
    struct hostent **restrict result, int *restrict error)
{
    (void)name;
    (void)entry;
    (void)buffer;
    (void)size;
    *result = NULL;
    *error = NO_RECOVERY;
    return ENOSYS;
}

int gethostbyaddr_r(const void *restrict address, socklen_t length, int type, struct hostent *restrict entry,
    char *restrict buffer, size_t size, struct hostent **restrict result, int *restrict error)
{
    (void)address;
    (void)length;
    (void)type;
    return gethostbyname_r("", entry, buffer, size, result, error);
}

struct protoent *getprotobyname(const char *name)
{
    (void)name;
    return NULL;
}

struct servent *getservbyname(const char *name, const char *protocol)
{
    (void)name;
    (void)protocol;
    return NULL;
}

struct servent *getservbyport(int port, const char *protocol)
{
    (void)port;
    (void)protocol;
    return NULL;
}

/* gcc's start of a static executable registers the tables for unwinding the stack. Newer versions of gcc read all of
 * these tables then: 1.5 million instructions, ten times as many as the rest of a short command, and a megabyte of
 * memory. Here the linker makes a sorted index instead (`--eh-frame-hdr`), as in other executables. gcc's library finds
 * it when the stack is unwound, for example when a thread ends by pthread_exit. */
void __wrap___register_frame_info(const void *tables, void *object);
void *__wrap___deregister_frame_info(const void *tables);

void __wrap___register_frame_info(const void *tables, void *object)
{
    (void)tables;
    (void)object;
}

void *__wrap___deregister_frame_info(const void *tables)
{
    (void)tables;
    return NULL;
}
