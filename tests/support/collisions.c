/* collisions FILE NAME HASH: prints the hash secret of CPython in an executable, under which NAME has HASH.
 *
 * collisions K0 K1 LOG2_SIZE: prints names that collide in a dictionary of CPython whose hash secret is known.
 *
 * They fill a dictionary with 2^LOG2_SIZE places as far as it goes without growing, two thirds. After 13 steps the hash
 * has no more say in where CPython looks next: from there on all names follow one cycle, i = 5 i + 1. The first names
 * fill one stretch of the cycle. Each further name finds its first 13 places taken, gets into the stretch, and walks to
 * its end.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH = 8, STEPS = 13 };

static uint64_t k0, k1, serial;
static uint64_t mask;
static bool *taken;

static uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

static void sip_round(uint64_t v[4])
{
    v[0] += v[1], v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1], v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

/* SipHash-1-3 of a name. */
static uint64_t hash_of(const char name[LENGTH])
{
    uint64_t v[] = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573};
    uint64_t blocks[2] = {0, (uint64_t)LENGTH << 56};
    memcpy(blocks, name, LENGTH);
    for (int i = 0; i < 2; i++) {
        v[3] ^= blocks[i];
        sip_round(v);
        v[0] ^= blocks[i];
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t next_name(char name[LENGTH])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef";
    uint64_t rest = serial++;
    for (int i = 0; i < LENGTH; i++, rest >>= 5)
        name[i] = letters[rest & 31];
    return hash_of(name);
}

static uint64_t step(uint64_t place, uint64_t *rest)
{
    *rest >>= 5;
    return (5 * place + *rest + 1) & mask;
}

/* Whether the first places of a name are taken; the one after them. */
static bool enters(uint64_t hash, uint64_t *place)
{
    *place = hash & mask;
    for (int i = 0; i < STEPS; i++) {
        if (!taken[*place])
            return false;
        *place = step(*place, &hash);
    }
    return taken[*place];
}

/* Tries every word and its successor as the secret. */
static int find_secret(FILE *file, const char *name, uint64_t hash)
{
    for (k0 = 0; fread(&k1, sizeof k1, 1, file) == 1; k0 = k1)
        if (hash_of(name) == hash) {
            printf("%ju %ju\n", (uintmax_t)k0, (uintmax_t)k1);
            return EXIT_SUCCESS;
        }
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return EXIT_FAILURE;
    FILE *file = strlen(argv[2]) == LENGTH ? fopen(argv[1], "rb") : NULL;
    if (file != NULL)
        return find_secret(file, argv[2], strtoull(argv[3], NULL, 0));
    k0 = strtoull(argv[1], NULL, 0);
    k1 = strtoull(argv[2], NULL, 0);
    mask = ((uint64_t)1 << atoi(argv[3])) - 1;
    uint64_t stretch = mask / 2, most = 2 * (mask + 1) / 3, none = 0, place = 0;
    uint64_t *nth = calloc(mask + 1, sizeof *nth); /* the number of a place in the stretch, from 1 */
    char(*names)[LENGTH] = calloc(mask + 1, LENGTH);
    taken = calloc(mask + 1, sizeof *taken);

    for (uint64_t i = 1; i <= stretch; i++, place = step(place, &none))
        nth[place] = i;
    for (uint64_t found = 0; found < stretch;) {
        char name[LENGTH];
        uint64_t first = next_name(name) & mask;
        if (nth[first] == 0 || taken[first])
            continue;
        taken[first] = true;
        memcpy(names[nth[first] - 1], name, LENGTH);
        found++;
    }
    for (uint64_t count = stretch; count < most;) {
        uint64_t within;
        if (!enters(next_name(names[count]), &within))
            continue;
        taken[place] = true;
        place = step(place, &none);
        count++;
    }
    for (uint64_t i = 0; i < most; i++)
        printf("%.*s\n", LENGTH, names[i]);
}
