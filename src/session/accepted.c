/*
 * accepted.c: a table of (host, name, value) that a host has taken.
 *
 * The key is the text of the pair itself behind the address of its host, which lives as long as the
 * process. Values that are longer than a key are never in it: they are awaited each time.
 */
#include "pgstage/session/accepted.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/session/parameters.h"

#define KEY_MAX_BYTES 512
#define PAIRS_MAX 1024

struct pair {
    UT_hash_handle hh;
    size_t bytes;
    char key[];
};

struct accepted {
    struct pair *pairs; /* uthash */
};

/* host | kind | name NUL value; 0: too long. */
static size_t put_key(char key[KEY_MAX_BYTES], const struct host *host,
                      const struct parameters *set, size_t index)
{
    const char *name, *value;
    size_t name_bytes, value_bytes, length = sizeof(host) + 1;

    parameters_at(set, index, &name, &value);
    name_bytes = strlen(name) + 1;
    value_bytes = strlen(value);
    if (name_bytes > KEY_MAX_BYTES - length || value_bytes > KEY_MAX_BYTES - length - name_bytes)
        return 0;
    memcpy(key, &host, sizeof(host));
    key[sizeof(host)] = parameters_is_words(set, index) ? 'w' : 'v';
    memcpy(key + length, name, name_bytes);
    memcpy(key + length + name_bytes, value, value_bytes);
    return length + name_bytes + value_bytes;
}

static struct pair *find(const struct accepted *accepted, const char *key, size_t bytes)
{
    struct pair *pair;

    HASH_FIND(hh, accepted->pairs, key, bytes, pair);
    return pair;
}

bool accepted_all(const struct accepted *accepted, const struct host *host,
                  const struct parameters *have, const struct parameters *want)
{
    char key[KEY_MAX_BYTES];
    size_t bytes;

    for (size_t i = 0; i < parameters_count(want); i++) {
        if (parameters_has(have, want, i))
            continue;
        bytes = accepted ? put_key(key, host, want, i) : 0;
        if (!bytes || !find(accepted, key, bytes))
            return false;
    }
    return true;
}

static void forget(struct accepted *accepted)
{
    struct pair *pair, *next;

    HASH_ITER (hh, accepted->pairs, pair, next) {
        HASH_DEL(accepted->pairs, pair);
        free(pair);
    }
}

void accepted_add(struct accepted **accepted, const struct host *host, const struct parameters *set)
{
    char key[KEY_MAX_BYTES];

    if (!*accepted)
        *accepted = memory_new(sizeof(**accepted));
    for (size_t i = 0; i < parameters_count(set); i++) {
        size_t bytes = put_key(key, host, set, i);
        struct pair *pair;

        if (!bytes || find(*accepted, key, bytes))
            continue;
        if (HASH_COUNT((*accepted)->pairs) >= PAIRS_MAX)
            forget(*accepted);
        pair = memory_new(sizeof(*pair) + bytes);
        pair->bytes = bytes;
        memcpy(pair->key, key, bytes);
        HASH_ADD_KEYPTR(hh, (*accepted)->pairs, pair->key, pair->bytes, pair);
    }
}

void accepted_free(struct accepted *accepted)
{
    if (!accepted)
        return;
    forget(accepted);
    free(accepted);
}
