/*
 * item.c: the states of the items of a pool, and the lists of those that lie idle.
 *
 * Everything here runs under the pool's mutex, on any thread. Each worker's share has the idle
 * items whose I/O that worker owns, the newest first; `oldest_idle_us` tells other threads, without
 * the mutex, how long its last one has been idle, which is what an eviction looks for.
 *
 *   share->idle   newest ── … ── oldest ◄─ oldest_idle_us
 */
#include "inside.h"
#include "pgstage/base/check.h"

#define TO(state) (1u << (state))

/* Where each state may go. */
static const unsigned legal_moves[] = {
    [ITEM_NONE] = TO(ITEM_ACTIVE),
    [ITEM_IDLE] = TO(ITEM_ACTIVE) | TO(ITEM_RESERVED) | TO(ITEM_DOOMED) | TO(ITEM_NONE),
    [ITEM_ACTIVE] = TO(ITEM_IDLE) | TO(ITEM_GRANTED) | TO(ITEM_DOOMED) | TO(ITEM_NONE),
    [ITEM_RESERVED] = TO(ITEM_ACTIVE) | TO(ITEM_DOOMED) | TO(ITEM_NONE),
    [ITEM_GRANTED] = TO(ITEM_ACTIVE) | TO(ITEM_NONE),
    [ITEM_DOOMED] = TO(ITEM_NONE),
};

void item_set_state(struct pool *pool, struct pool_item *item, enum pool_item_state state)
{
    check(legal_moves[item->state] & TO(state));
    pool->states[item->state]--;
    pool->states[state]++;
    item->state = state;
}

/* Seen by evictions of other pools: they look here after they have said that they need a place, and
 * the owner of a new idle item looks for such needs after this, so that one of them sees the other.
 */
static void share_publish(struct share *share)
{
    struct list_node *last = list_last(&share->idle);
    uint64_t oldest_us = last ? list_entry(last, struct pool_item, node)->idle_since_us : NEVER_US;
    if (atomic_load_explicit(&share->oldest_idle_us, memory_order_relaxed) != oldest_us)
        atomic_store(&share->oldest_idle_us, oldest_us);
}

void item_set_idle(struct pool *pool, struct pool_item *item, uint64_t now_us)
{
    struct share *share = &pool->shares[item->worker];
    item_set_state(pool, item, ITEM_IDLE);
    item->idle_since_us = now_us;
    list_push_front(&share->idle, &item->node);
    share_publish(share);
}

void item_unlist(struct pool *pool, struct pool_item *item)
{
    struct share *share = &pool->shares[item->worker];
    list_remove(&share->idle, &item->node);
    share_publish(share);
}

void item_doom(struct pool *pool, struct pool_item *item, const char *why, bool told)
{
    item_set_state(pool, item, ITEM_DOOMED);
    item->why = why;
    if (!told)
        list_push_back(&pool->untold, &item->news);
}

struct pool_item *item_next(struct pool *pool, unsigned worker)
{
    struct list *idle = &pool->shares[worker].idle;
    struct list_node *node = pool->settings.round_robin ? list_last(idle) : list_first(idle);
    return node ? list_entry(node, struct pool_item, node) : NULL;
}

struct pool_item *item_oldest(struct pool *pool)
{
    struct pool_item *oldest = NULL;
    for (unsigned i = 0; i < pool->workers; i++) {
        struct list_node *node = list_last(&pool->shares[i].idle);
        struct pool_item *item = node ? list_entry(node, struct pool_item, node) : NULL;
        if (item && (!oldest || item->idle_since_us < oldest->idle_since_us))
            oldest = item;
    }
    return oldest;
}

void item_doom_idle(struct pool *pool, const char *why)
{
    for (unsigned i = 0; i < pool->workers; i++) {
        struct list_node *node;
        while ((node = list_last(&pool->shares[i].idle))) {
            struct pool_item *item = list_entry(node, struct pool_item, node);
            item_unlist(pool, item);
            item_doom(pool, item, why, false);
        }
    }
}

bool item_is_obsolete(const struct pool *pool, const struct pool_item *item)
{
    return item->generation != atomic_load_explicit(&pool->generation, memory_order_relaxed);
}
