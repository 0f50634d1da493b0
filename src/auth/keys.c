/*
 * keys: a bounded cache of SCRAM keys.
 *
 *     (user, secret) ──SHA-256──> entry ──> slot: chosen here   salt, iterations, keys
 *          entries in order of last use     slot: server's salt   "       "         "
 *                                           at most KEY_CACHE_SLOTS, the least recent goes
 *
 * The name of an entry is a digest, so the secrets themselves are not kept here. A server that
 * invents a new salt at each login pushes out slots of its own user only. Everything is wiped
 * before it is freed. One mutex guards all; the slow work is done outside it. Any thread.
 */
#include "pgstage/auth/keys.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/auth/digest.h"
#include "pgstage/base/list.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

struct key_slot {
    struct list_node node;
    bool chosen_here;
    struct scram_keys keys;
};

struct key_entry {
    uint8_t id[DIGEST_SHA256_BYTES];
    UT_hash_handle hh;
    struct list_node recent;
    struct list slots; /* the most recently used first */
};

struct key_cache {
    /* fixed */
    unsigned maximum;
    pthread_mutex_t mutex;
    /* shared: mutex */
    struct key_entry *entries;
    struct list recent; /* the most recently used first */
    uint32_t iterations;
};

struct key_cache *key_cache_new(unsigned maximum_entries)
{
    struct key_cache *cache = memory_new(sizeof *cache);
    cache->maximum = maximum_entries > 0 ? maximum_entries : 1;
    cache->iterations = SCRAM_ITERATIONS_DEFAULT;
    list_init(&cache->recent);
    pthread_mutex_init(&cache->mutex, NULL);
    return cache;
}

static void slot_free(struct key_entry *entry, struct key_slot *slot)
{
    list_remove(&entry->slots, &slot->node);
    text_wipe(slot, sizeof *slot);
    free(slot);
}

static void entry_free(struct key_cache *cache, struct key_entry *entry)
{
    struct list_node *node;
    while ((node = list_first(&entry->slots)))
        slot_free(entry, list_entry(node, struct key_slot, node));
    list_remove(&cache->recent, &entry->recent);
    HASH_DEL(cache->entries, entry);
    text_wipe(entry, sizeof *entry);
    free(entry);
}

void key_cache_free(struct key_cache *cache)
{
    if (!cache)
        return;
    struct list_node *node;
    while ((node = list_first(&cache->recent)))
        entry_free(cache, list_entry(node, struct key_entry, recent));
    pthread_mutex_destroy(&cache->mutex);
    free(cache);
}

void key_cache_set_iterations(struct key_cache *cache, uint32_t iterations)
{
    if (iterations == 0 || iterations > SCRAM_ITERATIONS_MAX)
        return;
    pthread_mutex_lock(&cache->mutex);
    cache->iterations = iterations;
    pthread_mutex_unlock(&cache->mutex);
}

uint32_t key_cache_iterations(struct key_cache *cache)
{
    pthread_mutex_lock(&cache->mutex);
    uint32_t iterations = cache->iterations;
    pthread_mutex_unlock(&cache->mutex);
    return iterations;
}

/* Names and secrets up to here are put together without asking for memory. */
#define ID_TEXT_BYTES 512

/* The user's name ends with a NUL, so no two pairs give the same text. */
static bool make_id(const char *user, const char *secret, uint8_t id[DIGEST_SHA256_BYTES])
{
    size_t user_bytes = strlen(user) + 1, secret_bytes = strlen(secret) + 1;
    uint8_t room[ID_TEXT_BYTES], *text = room;
    if (user_bytes + secret_bytes > sizeof room)
        text = memory_get(user_bytes + secret_bytes);
    memcpy(text, user, user_bytes);
    memcpy(text + user_bytes, secret, secret_bytes);
    bool made = digest_sha256(text, user_bytes + secret_bytes, id);
    text_wipe(text, user_bytes + secret_bytes);
    if (text != room)
        free(text);
    return made;
}

static struct key_entry *find_entry(struct key_cache *cache, const uint8_t id[DIGEST_SHA256_BYTES])
{
    struct key_entry *entry;
    HASH_FIND(hh, cache->entries, id, DIGEST_SHA256_BYTES, entry);
    if (entry) {
        list_remove(&cache->recent, &entry->recent);
        list_push_front(&cache->recent, &entry->recent);
    }
    return entry;
}

static bool slot_fits(const struct key_slot *slot, const uint8_t *salt, size_t salt_bytes,
                      uint32_t iterations)
{
    return slot->keys.iterations == iterations && slot->keys.salt_bytes == salt_bytes &&
           memcmp(slot->keys.salt, salt, salt_bytes) == 0;
}

/* The slot with this salt; salt NULL: the one that was chosen here. */
static struct key_slot *find_slot(struct key_entry *entry, const uint8_t *salt, size_t salt_bytes,
                                  uint32_t iterations)
{
    list_for_each (node, &entry->slots) {
        struct key_slot *slot = list_entry(node, struct key_slot, node);
        if (salt ? slot_fits(slot, salt, salt_bytes, iterations) : slot->chosen_here) {
            list_remove(&entry->slots, &slot->node);
            list_push_front(&entry->slots, &slot->node);
            return slot;
        }
    }
    return NULL;
}

bool key_cache_find(struct key_cache *cache, const char *user, const char *secret,
                    const uint8_t *salt, size_t salt_bytes, uint32_t iterations,
                    struct scram_keys *keys)
{
    uint8_t id[DIGEST_SHA256_BYTES];
    if (!make_id(user, secret, id))
        return false;
    pthread_mutex_lock(&cache->mutex);
    struct key_entry *entry = find_entry(cache, id);
    struct key_slot *slot = entry ? find_slot(entry, salt, salt_bytes, iterations) : NULL;
    if (slot)
        *keys = slot->keys;
    pthread_mutex_unlock(&cache->mutex);
    return slot != NULL;
}

static struct key_entry *add_entry(struct key_cache *cache, const uint8_t id[DIGEST_SHA256_BYTES])
{
    while (cache->recent.length >= cache->maximum)
        entry_free(cache, list_entry(cache->recent.head.prev, struct key_entry, recent));
    struct key_entry *entry = memory_new(sizeof *entry);
    memcpy(entry->id, id, DIGEST_SHA256_BYTES);
    list_init(&entry->slots);
    HASH_ADD(hh, cache->entries, id, DIGEST_SHA256_BYTES, entry);
    list_push_front(&cache->recent, &entry->recent);
    return entry;
}

static struct key_slot *add_slot(struct key_entry *entry)
{
    while (entry->slots.length >= KEY_CACHE_SLOTS)
        slot_free(entry, list_entry(entry->slots.head.prev, struct key_slot, node));
    struct key_slot *slot = memory_new(sizeof *slot);
    list_push_front(&entry->slots, &slot->node);
    return slot;
}

void key_cache_store(struct key_cache *cache, const char *user, const char *secret,
                     const struct scram_keys *keys, bool chosen_here)
{
    uint8_t id[DIGEST_SHA256_BYTES];
    if (!make_id(user, secret, id))
        return;
    pthread_mutex_lock(&cache->mutex);
    struct key_entry *entry = find_entry(cache, id);
    if (!entry)
        entry = add_entry(cache, id);
    struct key_slot *slot = chosen_here
                                ? find_slot(entry, NULL, 0, 0)
                                : find_slot(entry, keys->salt, keys->salt_bytes, keys->iterations);
    if (!slot) {
        slot = add_slot(entry);
        slot->chosen_here = chosen_here;
    }
    slot->keys = *keys;
    pthread_mutex_unlock(&cache->mutex);
}
