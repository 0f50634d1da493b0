/*
 * statement_cache.c: shared texts of prepared statements.
 *
 *     shard[hash] ── mutex ── table: key ─► statement ◄── names of clients (hold the text)
 *                          └─ idle: those without names   ◄── sets of servers (hold the struct)
 *
 * The key is the text, the context and the length of the text, in one piece of memory. Whoever has
 * a name's reference may read it without a lock: it is only freed when there is none. Bytes are
 * counted over all shards; when they run out, idle texts are forgotten, shard after shard, and
 * never under two mutexes at once.
 */
#include "pgstage/session/statement_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/list.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"

#define SHARDS 64
/* What a statement costs beside its key: itself and its part of the table. */
#define STATEMENT_BYTES (sizeof(struct statement) + 32)

struct statement {
    /* fixed */
    struct statement_cache *cache;
    struct shard *shard;
    uint32_t text_bytes, key_bytes;
    /* shared: the shard's mutex; `key` is read without it by whoever has a name's reference */
    uint8_t *key; /* NULL: long, or forgotten */
    unsigned names;
    unsigned references; /* names and servers */
    struct list_node idle;
    UT_hash_handle hh;
    /* shared: atomic */
    _Atomic uint64_t number;
    _Atomic uint8_t intent;
};

struct shard {
    /* shared: mutex */
    pthread_mutex_t mutex;
    struct statement *by_key; /* uthash */
    struct list idle;         /* in the table, without names; the longest idle first */
};

struct statement_cache {
    /* fixed */
    struct shard shards[SHARDS];
    /* shared: atomic */
    _Atomic uint64_t numbers;
    _Atomic uint64_t bytes, statements;
};

struct statement_cache *statement_cache_new(void)
{
    struct statement_cache *cache = memory_new(sizeof(*cache));

    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&cache->shards[i].mutex, NULL);
        list_init(&cache->shards[i].idle);
    }
    return cache;
}

void statement_cache_free(struct statement_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < SHARDS; i++) {
        check(!cache->shards[i].by_key);
        pthread_mutex_destroy(&cache->shards[i].mutex);
    }
    free(cache);
}

static uint64_t next_number(struct statement_cache *cache)
{
    return atomic_fetch_add_explicit(&cache->numbers, 1, memory_order_relaxed) + 1;
}

static size_t cost_of(const struct statement *statement)
{
    return STATEMENT_BYTES + statement->key_bytes;
}

/* Takes it out of the table. Under the mutex. The caller frees the key that is returned, after. */
static uint8_t *forget(struct statement *statement)
{
    struct shard *shard = statement->shard;
    uint8_t *key = statement->key;

    if (!key)
        return NULL;
    HASH_DEL(shard->by_key, statement);
    if (list_node_is_listed(&statement->idle))
        list_remove(&shard->idle, &statement->idle);
    statement->key = NULL;
    atomic_fetch_sub_explicit(&statement->cache->bytes, cost_of(statement), memory_order_relaxed);
    atomic_fetch_sub_explicit(&statement->cache->statements, 1, memory_order_relaxed);
    return key;
}

/* Reserves bytes, forgetting idle texts where there are not enough. */
static bool reserve(struct statement_cache *cache, size_t bytes, uint64_t limit_bytes)
{
    uint64_t all = atomic_fetch_add_explicit(&cache->bytes, bytes, memory_order_relaxed) + bytes;

    for (size_t i = 0; i < SHARDS && all > limit_bytes; i++) {
        struct shard *shard = &cache->shards[i];

        while (all > limit_bytes) {
            struct list_node *first;
            uint8_t *key = NULL;

            pthread_mutex_lock(&shard->mutex);
            first = list_first(&shard->idle);
            if (first)
                key = forget(list_entry(first, struct statement, idle));
            pthread_mutex_unlock(&shard->mutex);
            if (!first)
                break;
            free(key);
            all = atomic_load_explicit(&cache->bytes, memory_order_relaxed);
        }
    }
    if (all <= limit_bytes)
        return true;
    atomic_fetch_sub_explicit(&cache->bytes, bytes, memory_order_relaxed);
    return false;
}

/* Under the mutex: the one that is there, with a further name. */
static struct statement *find(struct shard *shard, const uint8_t *key, size_t key_bytes,
                              uint32_t hash)
{
    struct statement *statement;

    HASH_FIND_BYHASHVALUE(hh, shard->by_key, key, key_bytes, hash, statement);
    if (!statement)
        return NULL;
    if (list_node_is_listed(&statement->idle))
        list_remove(&shard->idle, &statement->idle);
    statement->names++;
    statement->references++;
    return statement;
}

static struct statement *make(struct statement_cache *cache, struct shard *shard)
{
    struct statement *statement = memory_new(sizeof(*statement));

    statement->cache = cache;
    statement->shard = shard;
    statement->names = statement->references = 1;
    atomic_init(&statement->number, next_number(cache));
    return statement;
}

static uint8_t *make_key(const void *text, size_t text_bytes, const void *context,
                         size_t context_bytes)
{
    uint32_t length = (uint32_t)text_bytes;
    uint8_t *key = memory_get(text_bytes + context_bytes + sizeof(length));

    memcpy(key, text, text_bytes);
    if (context_bytes)
        memcpy(key + text_bytes, context, context_bytes);
    memcpy(key + text_bytes + context_bytes, &length, sizeof(length));
    return key;
}

struct statement *statement_take(struct statement_cache *cache, const void *text, size_t text_bytes,
                                 const void *context, size_t context_bytes, uint64_t limit_bytes)
{
    size_t key_bytes = text_bytes + context_bytes + sizeof(uint32_t);
    uint8_t *key = make_key(text, text_bytes, context, context_bytes);
    uint32_t hash = map_hash(key, key_bytes);
    struct shard *shard = &cache->shards[hash >> 26 & (SHARDS - 1)];
    struct statement *statement, *made;

    pthread_mutex_lock(&shard->mutex);
    statement = find(shard, key, key_bytes, hash);
    pthread_mutex_unlock(&shard->mutex);
    if (statement || !reserve(cache, STATEMENT_BYTES + key_bytes, limit_bytes)) {
        free(key);
        return statement;
    }
    made = make(cache, shard);
    made->key = key;
    made->text_bytes = (uint32_t)text_bytes;
    made->key_bytes = (uint32_t)key_bytes;
    pthread_mutex_lock(&shard->mutex);
    statement = find(shard, key, key_bytes, hash);
    if (!statement)
        HASH_ADD_KEYPTR_BYHASHVALUE(hh, shard->by_key, key, key_bytes, hash, made);
    pthread_mutex_unlock(&shard->mutex);
    if (statement) { /* another thread was faster */
        atomic_fetch_sub_explicit(&cache->bytes, cost_of(made), memory_order_relaxed);
        free(key);
        free(made);
        return statement;
    }
    atomic_fetch_add_explicit(&cache->statements, 1, memory_order_relaxed);
    return made;
}

struct statement *statement_take_long(struct statement_cache *cache)
{
    return make(cache, &cache->shards[0]);
}

static void let_go(struct statement *statement, bool name)
{
    struct shard *shard = statement->shard;
    uint8_t *key = NULL;
    bool last;

    pthread_mutex_lock(&shard->mutex);
    statement->names -= name;
    last = --statement->references == 0;
    if (last)
        key = forget(statement);
    else if (name && statement->names == 0 && statement->key)
        list_push_back(&shard->idle, &statement->idle);
    pthread_mutex_unlock(&shard->mutex);
    if (last) {
        free(key);
        free(statement);
    }
}

void statement_give(struct statement *statement)
{
    if (statement)
        let_go(statement, true);
}

struct statement *statement_ref(struct statement *statement)
{
    pthread_mutex_lock(&statement->shard->mutex);
    statement->references++;
    pthread_mutex_unlock(&statement->shard->mutex);
    return statement;
}

void statement_unref(struct statement *statement)
{
    if (statement)
        let_go(statement, false);
}

const uint8_t *statement_text(const struct statement *statement, size_t *bytes)
{
    *bytes = statement->text_bytes;
    return statement->key;
}

bool statement_is_in_context(const struct statement *statement, const void *context,
                             size_t context_bytes)
{
    return statement->key_bytes == statement->text_bytes + context_bytes + sizeof(uint32_t) &&
           (context_bytes == 0 ||
            memcmp(statement->key + statement->text_bytes, context, context_bytes) == 0);
}

bool statement_is_long(const struct statement *statement)
{
    return statement->key_bytes == 0;
}

uint8_t statement_intent(const struct statement *statement)
{
    return atomic_load_explicit(&statement->intent, memory_order_relaxed);
}

void statement_set_intent(struct statement *statement, uint8_t intent)
{
    atomic_store_explicit(&statement->intent, intent, memory_order_relaxed);
}

uint64_t statement_number(const struct statement *statement)
{
    return atomic_load_explicit(&statement->number, memory_order_relaxed);
}

void statement_renumber(struct statement *statement, uint64_t number)
{
    (void)atomic_compare_exchange_strong_explicit(&statement->number, &number,
                                                  next_number(statement->cache),
                                                  memory_order_relaxed, memory_order_relaxed);
}

void statement_cache_totals(const struct statement_cache *cache, struct statement_totals *totals)
{
    totals->statements = atomic_load_explicit(&cache->statements, memory_order_relaxed);
    totals->bytes = atomic_load_explicit(&cache->bytes, memory_order_relaxed);
}
