/* Hashes of strings, with a secret key for each process.
 *
 * The image (image.c) holds strings with a known hash, and dictionaries ordered by these hashes. The build chose their
 * key, so every user who can read the executable can compute strings that collide. Therefore only the strings of the
 * image keep such a hash. Every other string is hashed with a key that the kernel draws at each execve.
 *
 * Equal strings must have equal hashes, wherever they come from. So the function looks the content up among the strings
 * of the image. An attacker can use these strings, but can't add to them.
 *
 * This covers every dictionary and set with keys of str or bytes, in Python as well as in C. CPython computes these
 * hashes in one function, and the linker redirects its calls to ours (`--wrap`).
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>

#include "hashes.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* ob_shash and PyUnicode_IS_READY are */

enum { PLACES = 1 << 14, SECRET = 16 };

/* A hash table with open addressing. `object` is the object's offset from the start of the image; 0 marks a free place.
 * Comparing the hash first avoids a page fault for most other strings. */
static struct {
    uint32_t hash, object;
} known[PLACES];
static uint32_t count;

static bool drawn;
static char secret[SECRET];

/* CPython's key, which the build chose: the first 16 bytes of a union. Newer versions declare it in a private header.
 * */
extern char build_secret[SECRET] __asm__("_Py_HashSecret");

extern char image_start[], image_end[];

/* CPython's function, and the one that the linker puts in its place. */
#if PY_VERSION_HEX < 0x030E0000
#define HASH_AS_BUILT __real__Py_HashBytes
#define HASH __wrap__Py_HashBytes
#else
#define HASH_AS_BUILT __real_Py_HashBuffer
#define HASH __wrap_Py_HashBuffer
#endif
Py_hash_t HASH_AS_BUILT(const void *content, Py_ssize_t size);
Py_hash_t HASH(const void *content, Py_ssize_t size);

static bool is_within_image(const char *start, uint64_t size)
{
    uint64_t offset = (uint64_t)(start - image_start), whole = (uint64_t)(image_end - image_start);
    return offset <= whole && size <= whole - offset;
}

/* Returns the content of a str or bytes, and its hash, or -1 if it has none yet. Returns NULL for any other object. */
static const char *content_of(PyObject *object, Py_ssize_t *size, Py_hash_t *hash)
{
    *size = 0;
    *hash = -1;
    if (Py_IS_TYPE(object, &PyBytes_Type)) {
        *size = PyBytes_GET_SIZE(object);
        *hash = ((PyBytesObject *)object)->ob_shash;
        return PyBytes_AS_STRING(object);
    }
    if (Py_IS_TYPE(object, &PyUnicode_Type) && PyUnicode_IS_READY(object) && PyUnicode_IS_COMPACT(object)) {
        *size = PyUnicode_GET_LENGTH(object) * (Py_ssize_t)PyUnicode_KIND(object);
        *hash = ((PyASCIIObject *)object)->hash;
        return PyUnicode_DATA(object);
    }
    return NULL;
}

/* Returns the place of this content, or a free one if the content is unknown. */
static uint32_t place_of(const void *content, Py_ssize_t size, Py_hash_t hash)
{
    uint32_t place = (uint64_t)hash >> 32 & (PLACES - 1);
    for (; known[place].object != 0; place = (place + 1) & (PLACES - 1)) {
        Py_ssize_t other_size;
        Py_hash_t other_hash;
        if (known[place].hash != (uint32_t)hash)
            continue;
        const char *other = content_of((PyObject *)(image_start + known[place].object), &other_size, &other_hash);
        if (other_hash == hash && other_size == size && memcmp(other, content, (size_t)size) == 0)
            break;
    }
    return place;
}

/* These bytes may be anything. If they look like a string, and have the right hash of its content, they are one. */
static void note_if_string(char *at)
{
    Py_ssize_t size;
    Py_hash_t hash;
    const char *content = content_of((PyObject *)at, &size, &hash);
    if (content == NULL || hash == -1 || size < 0 || !is_within_image(content, (uint64_t)size)
        || HASH_AS_BUILT(content, size) != hash)
        return;
    uint32_t place = place_of(content, size, hash);
    if (known[place].object != 0)
        return;
    known[place].hash = (uint32_t)hash;
    known[place].object = (uint32_t)(at - image_start);
    count++;
}

bool hashes_note(void)
{
    uintptr_t aligned = ((uintptr_t)image_start + sizeof(void *) - 1) & ~(sizeof(void *) - 1);
    uintptr_t last = (uintptr_t)image_end - sizeof(PyASCIIObject); /* gcc warns of a pointer to before `image_end` */
    for (char *at = (char *)aligned; (uintptr_t)at <= last && count <= PLACES / 2; at += sizeof(void *))
        note_if_string(at);
    return count <= PLACES / 2 && image_end - image_start <= UINT32_MAX;
}

bool hashes_draw(void)
{
    const void *random = (const void *)getauxval(AT_RANDOM); /* 16 bytes, different after each execve */
    if (random == NULL)
        return false;
    memcpy(secret, random, SECRET);
    drawn = true;
    return true;
}

Py_hash_t HASH(const void *content, Py_ssize_t size)
{
    Py_hash_t hash = HASH_AS_BUILT(content, size);
    if (!drawn || known[place_of(content, size, hash)].object != 0)
        return hash;
    char kept[SECRET];
    memcpy(kept, build_secret, SECRET);
    memcpy(build_secret, secret, SECRET);
    hash = HASH_AS_BUILT(content, size);
    memcpy(build_secret, kept, SECRET);
    return hash;
}
