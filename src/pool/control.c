/*
 * control.c: what the control plane does with a pool, and what anybody may ask of it.
 *
 * Any thread. A change says under the mutex what becomes of idle items (owners are told
 * afterwards); active ones meet it when they come back.
 */
#include "inside.h"
#include "pgstage/base/check.h"

static int64_t at_least_0(int64_t value)
{
    return value < 0 ? 0 : value;
}

struct pool_limits pool_limits_clean(const struct pool_limits *limits)
{
    struct pool_limits clean = *limits;
    clean.pool_size = at_least_0(limits->pool_size);
    clean.min_pool_size = at_least_0(limits->min_pool_size);
    clean.reserve_pool_size = at_least_0(limits->reserve_pool_size);
    return clean;
}

void pool_configure(struct pool *pool, const struct pool_limits *limits, uint64_t now_us)
{
    pool_enter(pool);
    pool->settings = pool_limits_clean(limits);
    size_t most = (size_t)pool->settings.pool_size;
    struct pool_item *item;
    while (most && pool->items - pool->states[ITEM_DOOMED] > most && (item = item_oldest(pool))) {
        item_unlist(pool, item);
        item_doom(pool, item, "pool too large", false);
    }
    pool_leave(pool, now_us);
}

void pool_pause(struct pool *pool, uint64_t now_us)
{
    pool_enter(pool);
    pool->paused = true;
    item_doom_idle(pool, "paused");
    pool_leave(pool, now_us);
}

void pool_resume(struct pool *pool, uint64_t now_us)
{
    pool_enter(pool);
    pool->paused = false;
    pool_leave(pool, now_us);
}

void pool_hold(struct pool *pool, uint64_t now_us)
{
    pool_enter(pool);
    pool->shut = true;
    pool_leave(pool, now_us);
}

void pool_release(struct pool *pool, uint64_t now_us)
{
    pool_enter(pool);
    if (pool->shut) {
        pool->retry_at_us = 0; /* what failed before says nothing of the servers of now */
        pool->ramp = RAMP_RELEASED;
    }
    pool->shut = false;
    pool_leave(pool, now_us);
}

void pool_retry(struct pool *pool, uint64_t now_us)
{
    pool_enter(pool);
    pool->retry_at_us = 0;
    pool->minimum_due = true;
    pool_leave(pool, now_us);
}

void pool_obsolete(struct pool *pool, uint64_t now_us)
{
    pool_enter(pool);
    atomic_fetch_add(&pool->generation, 1);
    pool->obsolete = pool->items;
    pool->retry_at_us = 0; /* whoever asks for other servers has mended something */
    item_doom_idle(pool, "obsolete");
    pool_leave(pool, now_us);
}

void pool_client_added(struct pool *pool)
{
    pool_enter(pool);
    pool->clients++;
    pthread_mutex_unlock(&pool->mutex);
}

void pool_client_removed(struct pool *pool, uint64_t now_us)
{
    pool_enter(pool);
    check(pool->clients > 0);
    pool->clients--;
    pool->last_used_us = now_us;
    pthread_mutex_unlock(&pool->mutex);
}

static uint64_t oldest_wait(struct pool *pool)
{
    const struct pool_waiter *head = queue_head(pool);
    uint64_t since_us = head ? head->since_us : 0;
    list_for_each (node, &pool->held) {
        const struct pool_waiter *waiter = list_entry(node, struct pool_waiter, node);
        if (!since_us || waiter->since_us < since_us)
            since_us = waiter->since_us;
    }
    return since_us;
}

void pool_counts(struct pool *pool, struct pool_counts *counts)
{
    pool_enter(pool);
    *counts = (struct pool_counts){
        .idle = pool->states[ITEM_IDLE],
        .active = pool->states[ITEM_ACTIVE] + pool->states[ITEM_GRANTED],
        .reserved = pool->states[ITEM_RESERVED],
        .opening = pool->opening,
        .doomed = pool->states[ITEM_DOOMED],
        .obsolete = pool->obsolete,
        .waiting = pool->queued + pool->held.length,
        .clients = pool->clients,
        .oldest_wait_since_us = oldest_wait(pool),
        .paused = pool->paused,
        .held = pool->shut,
    };
    pthread_mutex_unlock(&pool->mutex);
}

uint64_t pool_generation(const struct pool *pool)
{
    return atomic_load(&pool->generation);
}

bool pool_is_obsolete(struct pool *pool, const struct pool_item *item)
{
    return item_is_obsolete(pool, item);
}

struct pool_stats *pool_stats(struct pool *pool, unsigned worker)
{
    check(worker < pool->workers);
    return &pool->shares[worker].stats;
}

const char *pool_database(const struct pool *pool)
{
    return pool->database;
}

const char *pool_user(const struct pool *pool)
{
    return pool->user;
}

const char *pool_environment(const struct pool *pool)
{
    return pool->environment;
}

struct registry *pool_registry(const struct pool *pool)
{
    return pool->registry;
}

uint64_t pool_id(const struct pool *pool)
{
    return pool->id;
}

bool pool_has_own_items(const struct pool *pool)
{
    return pool->own_items;
}

void *pool_attachment(const struct pool *pool)
{
    return pool->attachment;
}
