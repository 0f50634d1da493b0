/*
 * registry.c: all pools by key; making, finding and freeing them.
 *
 * Any thread. The registry's mutex guards the tables and nothing else; to do something with many
 * pools a walk takes some at a time, with a reference each, and visits them after it was let go: a
 * login that needs the mutex waits for some pools, not for all.
 *
 * A pool is alive while its `refs` is above 0: users, items and openings have one each. The sweep
 * takes one of its own from 0 to 1, looks at the pool, and frees it only if it can turn that 1 into
 * "being freed", which nobody else can then undo.
 */
#include "pgstage/pool/registry.h"

#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/check.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

#define BEING_FREED INT64_MIN
/* Pools that a walk looks at before it lets the mutex go. */
#define WALK_STEP 64

char *registry_key(char kind, const char *a, const char *b, const char *c, size_t *length)
{
    const char *names[] = {a, b, c};
    size_t bytes[3], at = 0;
    *length = 1;
    for (unsigned i = 0; i < 3; i++) {
        bytes[i] = names[i] ? strlen(names[i]) : 0;
        *length += 1 + bytes[i] + 1;
    }
    char *key = memory_get(*length);
    key[at++] = kind;
    for (unsigned i = 0; i < 3; i++) {
        key[at++] = names[i] ? '+' : '-';
        if (names[i])
            memcpy(key + at, names[i], bytes[i]);
        at += bytes[i];
        key[at++] = '\0';
    }
    return key;
}

struct registry *registry_new(unsigned workers, const struct registry_events *events)
{
    check(workers > 0);
    struct registry *registry = memory_new(sizeof(*registry));
    registry->workers = workers;
    registry->events = *events;
    atomic_store(&registry->next_item_id, 1);
    registry->next_pool_id = 1;
    registry->paused = switches_new();
    registry->disabled = switches_new();
    list_init(&registry->walks);
    pthread_mutex_init(&registry->mutex, NULL);
    return registry;
}

uint64_t registry_next_item_id(struct registry *registry)
{
    return atomic_fetch_add_explicit(&registry->next_item_id, 1, memory_order_relaxed);
}

/* ---- a pool's beginning and end ---- */

static struct share *shares_new(unsigned count)
{
    struct share *shares = aligned_alloc(_Alignof(struct share), count * sizeof(*shares));
    check(shares != NULL);
    memset(shares, 0, count * sizeof(*shares));
    for (unsigned i = 0; i < count; i++) {
        list_init(&shares[i].idle);
        list_init(&shares[i].queue);
        list_init(&shares[i].lingering);
        atomic_store(&shares[i].oldest_idle_us, NEVER_US);
    }
    return shares;
}

/* Under the registry's mutex. */
static void find_limits(struct registry *registry, struct pool *pool)
{
    pool->limits[0] =
        registry_limit(registry, LIMIT_DATABASE, pool->database, pool->environment, true);
    pool->limits[1] = registry_limit(registry, LIMIT_USER, pool->user, NULL, true);
    if (pool->environment)
        pool->limits[2] =
            registry_limit(registry, LIMIT_ENVIRONMENT, pool->environment, NULL, true);
    for (unsigned i = 0; i < POOL_LIMITS; i++) {
        if (pool->limits[i])
            pool->limits[i]->users++;
        pool->waits[i].pool = pool;
        pool->members[i].pool = pool;
    }
}

/* Under the registry's mutex. */
static struct pool *make_pool(struct registry *registry, const struct pool_key *key,
                              const struct pool_limits *limits, void *argument)
{
    struct pool *pool = memory_new(sizeof(*pool));
    pool->registry = registry;
    pool->events = &registry->events.pool;
    pool->id = registry->next_pool_id++;
    pool->database = text_copy(key->database);
    pool->user = text_copy(key->user);
    pool->environment = text_copy(key->environment);
    pool->workers = registry->workers;
    pool->own_items = key->own_items;
    pool->shares = shares_new(registry->workers);
    find_limits(registry, pool);
    atomic_store(&pool->generation, 1);
    pool->stands_in = pool->standing_in = -1;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&pool->mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    pool->settings = pool_limits_clean(limits);
    pool->paused = switches_get(registry->paused, key->database, key->environment);
    list_init(&pool->held);
    list_init(&pool->orphans);
    list_init(&pool->untold);
    if (registry->events.attach)
        pool->attachment = registry->events.attach(pool, argument);
    return pool;
}

/* Off the registry's table already; no mutex is held. */
static void free_pool(struct pool *pool)
{
    struct registry *registry = pool->registry;
    check(!pool->items && !pool->opening && !pool->queued && list_is_empty(&pool->held));
    for (unsigned i = 0; i < POOL_LIMITS; i++)
        if (pool->limits[i])
            limit_part(pool->limits[i], &pool->members[i]);
    pthread_mutex_lock(&registry->mutex);
    for (unsigned i = 0; i < POOL_LIMITS; i++)
        if (pool->limits[i])
            registry_drop_limit(registry, pool->limits[i]);
    pthread_mutex_unlock(&registry->mutex);
    if (registry->events.detach)
        registry->events.detach(pool->attachment);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->shares);
    free(pool->database);
    free(pool->user);
    free(pool->environment);
    free(pool->key);
    free(pool);
}

static char *pool_bytes(const struct pool_key *key, size_t *length)
{
    return registry_key(key->own_items ? 'o' : 'p', key->database, key->user, key->environment,
                        length);
}

/* Under the mutex: the pool of this key, with a reference; NULL: there is none. */
static struct pool *take(struct registry *registry, const char *bytes, size_t length)
{
    struct pool *pool;

    HASH_FIND(hh, registry->pools, bytes, length, pool);
    return pool ? pool_ref(pool) : NULL;
}

struct pool *registry_pool(struct registry *registry, const struct pool_key *key,
                           const struct pool_limits *limits, void *argument)
{
    size_t length;
    char *bytes = pool_bytes(key, &length);
    pthread_mutex_lock(&registry->mutex);
    struct pool *pool = take(registry, bytes, length);
    bool made = !pool;
    if (made) {
        pool = make_pool(registry, key, limits, argument);
        pool->key = bytes;
        pool->key_length = length;
        HASH_ADD_KEYPTR(hh, registry->pools, pool->key, pool->key_length, pool);
        pool_ref(pool);
    }
    pthread_mutex_unlock(&registry->mutex);
    if (!made) {
        free(bytes);
        return pool;
    }
    for (unsigned i = 0; i < POOL_LIMITS; i++)
        if (pool->limits[i])
            limit_join(pool->limits[i], &pool->members[i]);
    return pool;
}

struct pool *registry_find(struct registry *registry, const struct pool_key *key)
{
    size_t length;
    char *bytes = pool_bytes(key, &length);
    pthread_mutex_lock(&registry->mutex);
    struct pool *pool = take(registry, bytes, length);
    pthread_mutex_unlock(&registry->mutex);
    free(bytes);
    return pool;
}

struct pool *pool_ref(struct pool *pool)
{
    check(atomic_fetch_add(&pool->refs, 1) >= 0);
    return pool;
}

bool pool_try_ref(struct pool *pool)
{
    int64_t refs = atomic_load(&pool->refs);
    while (refs > 0)
        if (atomic_compare_exchange_weak(&pool->refs, &refs, refs + 1))
            return true;
    return false;
}

void pool_unref(struct pool *pool)
{
    check(atomic_fetch_sub(&pool->refs, 1) > 0);
}

/* ---- many pools ---- */

typedef bool walk_if(const struct pool *pool, const void *argument);

/* Through all pools from the oldest to the newest, those that come meanwhile among them. */
struct walk {
    /* fixed */
    struct registry *registry;
    walk_if *wanted; /* NULL: all */
    const void *argument;
    /* shared: the registry's mutex */
    struct list_node node; /* listed in registry->walks */
    struct pool *next;     /* where the next step begins; NULL: at the end */
    /* whoever walks */
    struct pool *step[WALK_STEP];
    size_t count, at;
};

static void walk_start(struct walk *walk, struct registry *registry, walk_if *wanted,
                       const void *argument)
{
    *walk = (struct walk){.registry = registry, .wanted = wanted, .argument = argument};
    pthread_mutex_lock(&registry->mutex);
    list_push_back(&registry->walks, &walk->node);
    walk->next = registry->pools;
    pthread_mutex_unlock(&registry->mutex);
}

/* The next step's pools, with a reference each. False: the walk is over. */
static bool walk_step(struct walk *walk)
{
    struct registry *registry = walk->registry;
    walk->count = walk->at = 0;
    pthread_mutex_lock(&registry->mutex);
    for (unsigned i = 0; i < WALK_STEP && walk->next; i++) {
        struct pool *pool = walk->next;
        walk->next = pool->hh.next;
        if (!walk->wanted || walk->wanted(pool, walk->argument))
            walk->step[walk->count++] = pool_ref(pool);
    }
    bool over = !walk->count && !walk->next;
    if (over)
        list_remove(&registry->walks, &walk->node);
    pthread_mutex_unlock(&registry->mutex);
    return !over;
}

/* The next pool, with a reference for the caller; NULL: the walk is over. */
static struct pool *walk_next(struct walk *walk)
{
    while (walk->at == walk->count)
        if (!walk_step(walk))
            return NULL;
    return walk->step[walk->at++];
}

/* Under the registry's mutex: nobody finds the pool any more. */
static void take_from_table(struct registry *registry, struct pool *pool)
{
    list_for_each (node, &registry->walks) {
        struct walk *walk = list_entry(node, struct walk, node);
        if (walk->next == pool)
            walk->next = pool->hh.next;
    }
    HASH_DEL(registry->pools, pool);
}

static bool has_no_refs(const struct pool *pool, const void *argument)
{
    (void)argument;
    return atomic_load(&pool->refs) == 0;
}

/* With the sweep's own reference: has nobody used it for so long? */
static bool is_forgotten(struct pool *pool, uint64_t now_us, uint64_t idle_us)
{
    pool_enter(pool);
    if (!pool->last_used_us)
        pool->last_used_us = now_us;
    bool used = pool->clients || pool->queued || pool->held.length || pool->items || pool->opening;
    bool forgotten =
        !used && now_us >= pool->last_used_us && now_us - pool->last_used_us >= idle_us;
    pthread_mutex_unlock(&pool->mutex);
    return forgotten;
}

/* Takes it off the table unless somebody found it meanwhile. Whoever did may be gone again and have
 * left traces, so it is asked once more, when nobody can find it any more. */
static bool take_off(struct registry *registry, struct pool *pool, registry_may_go *may_go,
                     void *argument)
{
    int64_t own = 1;
    pthread_mutex_lock(&registry->mutex);
    bool off = atomic_load(&pool->refs) == own && (!may_go || may_go(pool, false, argument)) &&
               atomic_compare_exchange_strong(&pool->refs, &own, BEING_FREED);
    if (off)
        take_from_table(registry, pool);
    pthread_mutex_unlock(&registry->mutex);
    return off;
}

size_t registry_sweep(struct registry *registry, uint64_t now_us, uint64_t idle_us,
                      registry_may_go *may_go, void *argument)
{
    size_t freed = 0;
    if (!idle_us)
        return 0;
    struct walk walk;
    struct pool *pool;
    walk_start(&walk, registry, has_no_refs, NULL);
    while ((pool = walk_next(&walk))) {
        if (is_forgotten(pool, now_us, idle_us) && (!may_go || may_go(pool, true, argument)) &&
            take_off(registry, pool, may_go, argument)) {
            free_pool(pool);
            freed++;
        } else {
            pool_unref(pool);
        }
    }
    return freed;
}

void registry_free(struct registry *registry)
{
    struct pool *pool;
    while ((pool = registry->pools)) {
        check(atomic_load(&pool->refs) == 0);
        take_from_table(registry, pool);
        free_pool(pool);
    }
    struct limit *limit, *next;
    HASH_ITER (hh, registry->limits, limit, next) {
        HASH_DEL(registry->limits, limit);
        limit_free(limit);
    }
    switches_free(registry->paused);
    switches_free(registry->disabled);
    pthread_mutex_destroy(&registry->mutex);
    free(registry);
}

void registry_each(struct registry *registry, void (*each)(struct pool *pool, void *argument),
                   void *argument)
{
    struct walk walk;
    struct pool *pool;
    walk_start(&walk, registry, NULL, NULL);
    while ((pool = walk_next(&walk))) {
        each(pool, argument);
        pool_unref(pool);
    }
}

size_t registry_pool_count(struct registry *registry)
{
    pthread_mutex_lock(&registry->mutex);
    size_t count = HASH_COUNT(registry->pools);
    pthread_mutex_unlock(&registry->mutex);
    return count;
}

/* ---- switches ---- */

static bool is_named(const struct pool *pool, const void *argument)
{
    const struct pool_key *key = argument;
    return (!key->database || text_equal(pool->database, key->database)) &&
           (!key->environment || text_equal(pool->environment, key->environment));
}

void registry_pause(struct registry *registry, const char *database, const char *environment,
                    bool paused, uint64_t now_us)
{
    struct pool_key key = {.database = database, .environment = environment};
    pthread_mutex_lock(&registry->mutex);
    switches_set(registry->paused, database, environment, paused);
    pthread_mutex_unlock(&registry->mutex);
    struct walk walk;
    struct pool *pool;
    walk_start(&walk, registry, is_named, &key);
    while ((pool = walk_next(&walk))) {
        if (paused)
            pool_pause(pool, now_us);
        else
            pool_resume(pool, now_us);
        pool_unref(pool);
    }
}

void registry_disable(struct registry *registry, const char *database, const char *environment,
                      bool disabled)
{
    pthread_mutex_lock(&registry->mutex);
    switches_set(registry->disabled, database, environment, disabled);
    pthread_mutex_unlock(&registry->mutex);
}

bool registry_is_paused(struct registry *registry, const char *database, const char *environment)
{
    pthread_mutex_lock(&registry->mutex);
    bool on = switches_get(registry->paused, database, environment);
    pthread_mutex_unlock(&registry->mutex);
    return on;
}

bool registry_is_disabled(struct registry *registry, const char *database, const char *environment)
{
    pthread_mutex_lock(&registry->mutex);
    bool on = switches_get(registry->disabled, database, environment);
    pthread_mutex_unlock(&registry->mutex);
    return on;
}
