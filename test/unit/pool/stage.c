/* stage: see stage.h. Each test runs in a process of its own, so plain statics do. */
#include "stage.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"

struct note notes[NOTES];
size_t note_count;
uint64_t now_us;
struct registry *registry;

#define SERVERS 4096
static struct pool_item *servers[SERVERS];
static size_t server_count;
static struct pool *pools[64];
static size_t pool_count;
static uint64_t last_client_id;

static void note(enum note_kind kind, struct pool *pool, unsigned worker, uint64_t item_id,
                 const char *why)
{
    if (note_count == NOTES)
        abort();
    notes[note_count++] = (struct note){kind, pool, worker, item_id, why};
}

static void on_open(struct pool *pool, unsigned worker)
{
    note(NOTE_OPEN, pool, worker, 0, NULL);
}

static void on_reclaim(struct pool *pool, unsigned worker, uint64_t item_id)
{
    note(NOTE_RECLAIM, pool, worker, item_id, NULL);
}

static void on_doom(struct pool *pool, unsigned worker, uint64_t item_id, const char *why)
{
    note(NOTE_DOOM, pool, worker, item_id, why);
}

static void on_drained(struct pool *pool)
{
    note(NOTE_DRAINED, pool, 0, 0, NULL);
}

void stage_start(unsigned workers)
{
    struct registry_events events = {
        .pool = {.open = on_open, .reclaim = on_reclaim, .doom = on_doom, .drained = on_drained}};
    registry = registry_new(workers, &events);
    now_us = clock_now_us();
}

void stage_end(void)
{
    for (size_t i = 0; i < pool_count; i++)
        pool_unref(pools[i]);
    registry_free(registry);
}

struct pool *stage_pool(const char *database, const char *user, const char *environment,
                        const struct pool_limits *limits)
{
    struct pool_key key = {database, user, environment, false};
    struct pool *pool = registry_pool(registry, &key, limits, NULL);
    pools[pool_count++] = pool;
    return pool;
}

struct note note_take(enum note_kind kind, struct pool *pool)
{
    for (size_t i = 0; i < note_count; i++) {
        struct note found = notes[i];
        if (found.kind != kind || (pool && found.pool != pool))
            continue;
        memmove(&notes[i], &notes[i + 1], (note_count - i - 1) * sizeof(notes[0]));
        note_count--;
        return found;
    }
    return (struct note){0};
}

size_t notes_of(enum note_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < note_count; i++)
        count += notes[i].kind == kind;
    return count;
}

struct pool_item *server_of(uint64_t item_id)
{
    for (size_t i = 0; i < server_count; i++)
        if (servers[i]->id == item_id)
            return servers[i];
    return NULL;
}

struct pool_item *server_open(struct pool *pool, enum pool_outcome *outcome,
                              struct pool_grant *grant)
{
    struct note asked = note_take(NOTE_OPEN, pool);
    cr_assert_eq(asked.kind, NOTE_OPEN, "no connection was asked for");
    struct pool_item *item = memory_new(sizeof(*item));
    servers[server_count++] = item;
    *outcome = pool_opened(pool, item, asked.worker, now_us, grant);
    return item;
}

struct pool_item *server_active(struct pool *pool, unsigned worker)
{
    struct pool_waiter client = client_of(worker);
    enum pool_outcome outcome;
    struct pool_grant grant;
    struct pool_item *item = pool_borrow(pool, &client, now_us);
    if (item)
        return item;
    item = server_open(pool, &outcome, &grant);
    cr_assert_eq(outcome, POOL_LENT);
    cr_assert_eq(grant.waiter, &client);
    return item;
}

struct pool_item *server_idle(struct pool *pool, unsigned worker)
{
    struct pool_grant grant;
    struct pool_item *item = server_active(pool, worker);
    cr_assert_eq(server_return(item, &grant), POOL_KEPT);
    return item;
}

enum pool_outcome server_return(struct pool_item *item, struct pool_grant *grant)
{
    return pool_return(item->pool, item, now_us, grant);
}

void server_close(struct pool_item *item)
{
    pool_remove(item->pool, item, now_us);
    for (size_t i = 0; i < server_count; i++) {
        if (servers[i] == item) {
            servers[i] = servers[--server_count];
            free(item);
            return;
        }
    }
}

size_t close_doomed(void)
{
    size_t closed = 0;
    struct note asked;
    while ((asked = note_take(NOTE_DOOM, NULL)).kind) {
        server_close(server_of(asked.item_id));
        closed++;
    }
    return closed;
}

struct pool_item *server_surrender(enum pool_outcome *outcome, struct pool_grant *grant)
{
    struct note asked = note_take(NOTE_RECLAIM, NULL);
    cr_assert_eq(asked.kind, NOTE_RECLAIM, "no item was reclaimed");
    struct pool_item *item = server_of(asked.item_id);
    cr_assert_eq(item->worker, asked.worker);
    *outcome = pool_surrender(asked.pool, item, now_us, grant);
    return item;
}

void stage_clear(void)
{
    struct note asked;
    do {
        while ((asked = note_take(NOTE_OPEN, NULL)).kind)
            pool_open_failed(asked.pool, now_us, now_us + CLOCK_SECOND);
        while (server_count)
            server_close(servers[0]);
    } while (notes_of(NOTE_OPEN));
    stage_end();
}

struct pool_waiter client_of(unsigned worker)
{
    return (struct pool_waiter){.id = ++last_client_id, .worker = worker};
}

void stage_forget(struct pool_waiter *waiter)
{
    pool_forget(pools[0], waiter, now_us);
}

struct pool_counts counts_of(struct pool *pool)
{
    struct pool_counts counts;
    pool_counts(pool, &counts);
    return counts;
}
