/*
 * random: a supply of each thread's own.
 *
 * OpenSSL's generator costs about 6,000 instructions and a system call whether it is asked for four
 * bytes or for five hundred, and a login asks for four. So a thread draws many at once and hands
 * them out. A byte is given once, and wiped here when it is. pgstage forks only before its threads
 * begin to draw; a child of a fork draws anew all the same.
 */
#include "pgstage/base/random.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <pthread.h>

#define SUPPLY_BYTES 512

struct supply {
    unsigned char bytes[SUPPLY_BYTES];
    size_t left; /* at the end of `bytes` */
};

static _Thread_local struct supply supply;
static pthread_once_t forks_once = PTHREAD_ONCE_INIT;

static void forget(void)
{
    OPENSSL_cleanse(&supply, sizeof(supply));
}

static void watch_forks(void)
{
    (void)pthread_atfork(NULL, NULL, forget);
}

bool random_bytes(void *target, size_t count)
{
    unsigned char *bytes;

    if (count > SUPPLY_BYTES)
        return RAND_bytes(target, (int)count) == 1;
    if (supply.left < count) {
        pthread_once(&forks_once, watch_forks);
        supply.left = 0;
        if (RAND_bytes(supply.bytes, SUPPLY_BYTES) != 1)
            return false;
        supply.left = SUPPLY_BYTES;
    }
    bytes = supply.bytes + SUPPLY_BYTES - supply.left;
    memcpy(target, bytes, count);
    OPENSSL_cleanse(bytes, count);
    supply.left -= count;
    return true;
}
