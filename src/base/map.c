/*
 * map: the hash under every table.
 *
 * The seed is drawn from the kernel once per process. Names of users, databases and statements come
 * from peers; without a seed they could be chosen to fall into one bucket. Any thread.
 */
#include "pgstage/base/map.h"

#include <errno.h>
#include <pthread.h>
#include <sys/random.h>
#include <xxhash.h>

/* Written once, under the once-control below, and only read afterwards. */
static uint64_t seed;
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void draw_seed(void)
{
    ssize_t got;
    do {
        got = getrandom(&seed, sizeof seed, 0);
    } while (got < 0 && errno == EINTR);
    check(got == (ssize_t)sizeof seed);
}

uint32_t map_hash(const void *bytes, size_t length)
{
    pthread_once(&seed_once, draw_seed);
    return (uint32_t)XXH3_64bits_withSeed(bytes, length, seed);
}
