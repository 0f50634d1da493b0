/*
 * queue.c: who waits for an item of a pool, and what they are promised.
 *
 * Everything here runs under the pool's mutex, on any thread. Each worker's share has a queue of
 * its own, so that a returned item finds a waiter of the same worker without a search; the oldest
 * of their heads is the head of the pool's FIFO.
 *
 *              queue_push                   queue_hold                     link
 *   IDLE ───────────────► QUEUED ───────────────────────────► held ─────────────► IDLE
 *                            ▲          (PROMISED, GRANTED)    │
 *                            └──────── queue_put_back ─────────┘
 *
 * Whenever the mutex is free and the pool is neither paused nor shut (pool_hold), nobody is QUEUED
 * while an item is IDLE or an orphan (queue_match).
 */
#include "inside.h"
#include "pgstage/base/check.h"

static struct pool_waiter *first_of(const struct share *share)
{
    struct list_node *node = list_first(&share->queue);
    return node ? list_entry(node, struct pool_waiter, node) : NULL;
}

struct pool_waiter *queue_head(struct pool *pool)
{
    struct pool_waiter *head = NULL;
    if (!pool->queued)
        return NULL;
    for (unsigned i = 0; i < pool->workers; i++) {
        struct pool_waiter *waiter = first_of(&pool->shares[i]);
        if (waiter && (!head || waiter->since_us < head->since_us))
            head = waiter;
    }
    return head;
}

void queue_push(struct pool *pool, struct pool_waiter *waiter, uint64_t now_us)
{
    check(waiter->state == WAITER_IDLE && waiter->worker < pool->workers);
    waiter->state = WAITER_QUEUED;
    waiter->since_us = now_us;
    list_push_back(&pool->shares[waiter->worker].queue, &waiter->node);
    pool->queued++;
}

/* Off its list; what ties it to an item is cut. */
static void unlist(struct pool *pool, struct pool_waiter *waiter)
{
    if (waiter->state == WAITER_QUEUED) {
        list_remove(&pool->shares[waiter->worker].queue, &waiter->node);
        pool->queued--;
    } else {
        list_remove(&pool->held, &waiter->node);
    }
    if (waiter->item)
        waiter->item->waiter = NULL;
    waiter->item = NULL;
    waiter->state = WAITER_IDLE;
}

void queue_put_back(struct pool *pool, struct pool_waiter *waiter)
{
    struct list *queue = &pool->shares[waiter->worker].queue;
    unlist(pool, waiter);
    struct list_node *after = queue->head.next;
    while (after != &queue->head &&
           list_entry(after, struct pool_waiter, node)->since_us < waiter->since_us)
        after = after->next;
    list_insert_between(queue, &waiter->node, after->prev, after);
    waiter->state = WAITER_QUEUED;
    pool->queued++;
}

void queue_remove(struct pool *pool, struct pool_waiter *waiter)
{
    struct pool_item *item = waiter->item;
    if (waiter->state == WAITER_IDLE)
        return;
    unlist(pool, waiter);
    if (item && item->state == ITEM_RESERVED)
        list_push_back(&pool->orphans, &item->node);
}

void queue_hold(struct pool *pool, struct pool_waiter *waiter, struct pool_item *item,
                enum pool_waiter_state state)
{
    unlist(pool, waiter);
    waiter->state = state;
    waiter->item = item;
    item->waiter = waiter;
    list_push_back(&pool->held, &waiter->node);
}

struct pool_waiter *queue_choose(struct pool *pool, unsigned worker)
{
    struct pool_waiter *head = queue_head(pool);
    if (!head)
        return NULL;
    struct pool_waiter *local = first_of(&pool->shares[worker]);
    return local && local->since_us - head->since_us <= LOCAL_FIRST_US ? local : head;
}

/* An item for a waiter of `worker`: of its own worker, else of the one that has most to spare. */
static struct pool_item *find_idle(struct pool *pool, unsigned worker)
{
    unsigned best = worker;
    if (!pool->states[ITEM_IDLE])
        return NULL;
    if (list_is_empty(&pool->shares[worker].idle)) {
        for (unsigned i = 0; i < pool->workers; i++) {
            if (pool->shares[i].idle.length > pool->shares[best].idle.length)
                best = i;
        }
    }
    return item_next(pool, best);
}

void queue_match(struct pool *pool)
{
    struct pool_waiter *head;
    if (pool->paused || pool->shut || (!pool->states[ITEM_IDLE] && list_is_empty(&pool->orphans)))
        return;
    while ((head = queue_head(pool))) {
        struct list_node *orphan = list_pop_front(&pool->orphans);
        if (orphan) {
            queue_hold(pool, head, list_entry(orphan, struct pool_item, node), WAITER_PROMISED);
            continue;
        }
        struct pool_item *item = find_idle(pool, head->worker);
        if (!item)
            return;
        item_unlist(pool, item);
        item_set_state(pool, item, ITEM_RESERVED);
        list_push_back(&pool->untold, &item->news);
        queue_hold(pool, head, item, WAITER_PROMISED);
    }
}
