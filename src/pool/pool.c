/*
 * pool.c: what workers do with a pool: borrow, return, and everything that may happen to an item or
 * a waiter in between.
 *
 * Runs on the workers' threads; a call takes the pool's mutex once, for some list moves and no
 * allocation. What others have to do is noted under the mutex and told in pool_leave: owners of
 * items to give up, opens, evictions in other pools. The common cases (borrow one's own idle item,
 * return with nobody waiting) end without any of that.
 *
 *   pool_return ─► unfit? DISCARD ─► a waiter? LENT or MOVE ─► IDLE ─► another pool needs the
 * place? DISCARD
 */
#include "pgstage/pool/pool.h"

#include "inside.h"
#include "pgstage/base/check.h"

/* How many owners are told for one taking of the mutex. */
#define NEWS_BATCH 16

struct news {
    enum pool_item_state state;
    unsigned worker;
    uint64_t item_id;
    const char *why;
};

void pool_enter(struct pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
}

static size_t gather_news(struct pool *pool, struct news *news)
{
    size_t count = 0;
    struct list_node *node;
    while (count < NEWS_BATCH && (node = list_pop_front(&pool->untold))) {
        struct pool_item *item = list_entry(node, struct pool_item, news);
        news[count++] = (struct news){item->state, item->worker, item->id, item->why};
    }
    return count;
}

/* Lets the mutex go and tells the owners of items. */
static void tell(struct pool *pool)
{
    struct news news[NEWS_BATCH];
    for (;;) {
        size_t count = gather_news(pool, news);
        bool more = !list_is_empty(&pool->untold);
        pthread_mutex_unlock(&pool->mutex);
        for (size_t i = 0; i < count; i++) {
            if (news[i].state == ITEM_RESERVED)
                pool->events->reclaim(pool, news[i].worker, news[i].item_id);
            else
                pool->events->doom(pool, news[i].worker, news[i].item_id, news[i].why);
        }
        if (!more)
            return;
        pthread_mutex_lock(&pool->mutex);
    }
}

void pool_leave(struct pool *pool, uint64_t now_us)
{
    struct summons summons = {0};
    queue_match(pool);
    bool unsettled = pool_is_unsettled(pool, now_us);
    tell(pool);
    if (!unsettled)
        return;
    summons_add(&summons, pool);
    summons_run(&summons, now_us);
}

/* As pool_leave after a place became free (it made room in `evictor`); its reference is let go. */
static void leave_freeing(struct pool *pool, uint64_t now_us, struct limit *evictor,
                          bool last_obsolete)
{
    struct summons summons = {0};
    queue_match(pool);
    bool unsettled = pool_is_unsettled(pool, now_us);
    bool drained = last_obsolete || (pool->paused && pool->items + pool->opening == 0);
    tell(pool);
    pool_release_place(pool, evictor, now_us, &summons);
    if (unsettled)
        summons_add(&summons, pool);
    summons_run(&summons, now_us);
    if (drained)
        pool->events->drained(pool);
    pool_unref(pool);
}

/* Why the item may not be lent any more, or NULL. */
static const char *unfit(const struct pool *pool, const struct pool_item *item)
{
    const struct pool_limits *settings = &pool->settings;
    if (pool->paused)
        return "paused";
    if (item_is_obsolete(pool, item))
        return "obsolete";
    size_t reserve = settings->reserve_pool_timeout_us ? (size_t)settings->reserve_pool_size : 0;
    if (settings->pool_size &&
        pool->items - pool->states[ITEM_DOOMED] > (size_t)settings->pool_size + reserve)
        return "pool too large";
    return NULL;
}

/* The item that lingers longest on this worker, in its owner's hands from now on, or NULL. */
static struct pool_item *take_lingering(struct pool *pool, unsigned worker)
{
    struct list_node *node = list_pop_front(&pool->shares[worker].lingering);
    return node ? list_entry(node, struct pool_item, node) : NULL;
}

/* One that lingers and may still be lent, or NULL. */
static struct pool_item *borrow_lingering(struct pool *pool, unsigned worker)
{
    struct list_node *node = list_first(&pool->shares[worker].lingering);
    if (unfit(pool, list_entry(node, struct pool_item, node)))
        return NULL; /* pool_unlinger comes and discards it */
    return take_lingering(pool, worker);
}

struct pool_item *pool_borrow(struct pool *pool, struct pool_waiter *waiter, uint64_t now_us)
{
    pool_enter(pool);
    check(waiter->worker < pool->workers && waiter->state == WAITER_IDLE);
    pool->last_used_us = now_us;
    struct pool_item *item = NULL;
    bool lends = !pool->paused && !pool->shut;
    if (lends && !list_is_empty(&pool->shares[waiter->worker].lingering) &&
        (item = borrow_lingering(pool, waiter->worker))) {
        pthread_mutex_unlock(&pool->mutex);
        return item;
    }
    if (lends && !pool->queued)
        item = item_next(pool, waiter->worker);
    if (!item) {
        queue_push(pool, waiter, now_us);
        pool_leave(pool, now_us);
        return NULL;
    }
    item_unlist(pool, item);
    item_set_state(pool, item, ITEM_ACTIVE);
    pthread_mutex_unlock(&pool->mutex);
    return item;
}

/* Claims the item for a limit in which others wait, when nobody waits here; or when the limit was
 * lowered, or a pool that has no server at all was kept out for long, and for longer than our
 * oldest. The pool's own wishes are no reason. */
static struct limit *claim_for_others(struct pool *pool, const struct pool_waiter *waiter,
                                      uint64_t now_us)
{
    for (int i = 0; i < POOL_LIMITS; i++) {
        struct limit *limit = pool->limits[i];
        int64_t own = pool->standing_in == i ? (int64_t)pool->standing : 0;
        if (!limit || atomic_load(&limit->need) <= own)
            continue;
        if (waiter) {
            uint64_t since_us = atomic_load(&limit->starving_since_us);
            if (since_us >= waiter->since_us || now_us < since_us + YIELD_AFTER_US)
                continue;
        }
        if (limit_claim(limit))
            return limit;
    }
    return NULL;
}

static enum pool_outcome discard(struct pool *pool, struct pool_item *item, struct limit *evictor,
                                 const char *why)
{
    item->eviction = evictor;
    item_doom(pool, item, why, true);
    return POOL_DISCARD;
}

static enum pool_outcome give(struct pool *pool, struct pool_item *item, struct pool_waiter *waiter,
                              struct pool_grant *grant)
{
    if (waiter->worker == item->worker) {
        queue_remove(pool, waiter);
        grant->waiter = waiter;
        return POOL_LENT;
    }
    queue_hold(pool, waiter, item, WAITER_GRANTED);
    grant->worker = waiter->worker;
    grant->waiter_id = waiter->id;
    item_set_state(pool, item, ITEM_GRANTED);
    item->worker = waiter->worker;
    return POOL_MOVE;
}

/* Is a returned item kept from this waiter of another worker for a moment? Not in a small pool, where
 * each item counts. */
static bool lingers(const struct pool *pool, const struct pool_item *item,
                    const struct pool_waiter *waiter, uint64_t now_us)
{
    return waiter->worker != item->worker && now_us < waiter->since_us + LINGER_YOUNGER_US &&
           pool->items >= LINGER_ITEMS * (size_t)pool->workers;
}

static enum pool_outcome linger(struct pool *pool, struct pool_item *item, uint64_t now_us,
                                struct pool_grant *grant)
{
    list_push_back(&pool->shares[item->worker].lingering, &item->node);
    grant->until_us = now_us + LINGER_US;
    return POOL_LINGERS;
}

/* An ACTIVE item in the hands of its owner: who gets it? `chosen`: whom it was promised to. */
static enum pool_outcome hand_on(struct pool *pool, struct pool_item *item,
                                 struct pool_waiter *chosen, bool may_linger, uint64_t now_us,
                                 struct pool_grant *grant)
{
    *grant = (struct pool_grant){0};
    const char *why = unfit(pool, item);
    if (why) {
        if (chosen)
            queue_put_back(pool, chosen);
        return discard(pool, item, NULL, why);
    }
    if (chosen && pool->shut) {
        queue_put_back(pool, chosen);
        chosen = NULL;
    }
    if (chosen)
        return give(pool, item, chosen, grant);
    struct pool_waiter *waiter = pool->shut ? NULL : queue_choose(pool, item->worker);
    if (!waiter) /* before others' needs are looked at: see share_publish */
        item_set_idle(pool, item, now_us);
    struct limit *evictor = claim_for_others(pool, waiter, now_us);
    if (evictor) {
        if (!waiter)
            item_unlist(pool, item);
        return discard(pool, item, evictor, "evicted");
    }
    if (!waiter)
        return POOL_KEPT;
    if (may_linger && lingers(pool, item, waiter, now_us))
        return linger(pool, item, now_us, grant);
    return give(pool, item, waiter, grant);
}

/* Ends a call of the owner: nothing else can have changed when the item was just kept. */
static enum pool_outcome leave_with(struct pool *pool, enum pool_outcome outcome, uint64_t now_us)
{
    if (outcome == POOL_KEPT && !pool->standing)
        pthread_mutex_unlock(&pool->mutex);
    else
        pool_leave(pool, now_us);
    return outcome;
}

enum pool_outcome pool_return(struct pool *pool, struct pool_item *item, uint64_t now_us,
                              struct pool_grant *grant)
{
    pool_enter(pool);
    check(item->state == ITEM_ACTIVE);
    return leave_with(pool, hand_on(pool, item, NULL, true, now_us, grant), now_us);
}

struct pool_item *pool_unlinger(struct pool *pool, unsigned worker, uint64_t now_us,
                                enum pool_outcome *outcome, struct pool_grant *grant)
{
    pool_enter(pool);
    check(worker < pool->workers);
    struct pool_item *item = take_lingering(pool, worker);
    if (item)
        *outcome = hand_on(pool, item, NULL, false, now_us, grant);
    pool_leave(pool, now_us);
    return item;
}

/* A connection that was being opened becomes an ACTIVE item. */
static void enter_item(struct pool *pool, struct pool_item *item, unsigned worker)
{
    check(item->state == ITEM_NONE);
    item->pool = pool;
    item->id = registry_next_item_id(pool->registry);
    item->worker = worker;
    if (!item->generation)
        item->generation = pool_generation(pool);
    pool->opening--;
    pool->items++;
    pool->states[ITEM_NONE]++;
    item_set_state(pool, item, ITEM_ACTIVE);
    if (item_is_obsolete(pool, item))
        pool->obsolete++;
    pool->retry_at_us = 0;
    if (pool->ramp) {
        pool->ramp = pool->ramp < RAMP_FULL ? pool->ramp + 1 : 0;
        pool->minimum_due = true; /* what it held back */
    }
}

enum pool_outcome pool_opened(struct pool *pool, struct pool_item *item, unsigned worker,
                              uint64_t now_us, struct pool_grant *grant)
{
    pool_enter(pool);
    check(pool->opening > 0 && worker < pool->workers);
    enter_item(pool, item, worker);
    enum pool_outcome outcome = hand_on(pool, item, NULL, false, now_us, grant);
    pool_leave(pool, now_us);
    return outcome;
}

bool pool_opened_for(struct pool *pool, struct pool_item *item, unsigned worker,
                     struct pool_waiter *waiter, uint64_t now_us)
{
    pool_enter(pool);
    check(pool->own_items && pool->opening > 0 && worker < pool->workers);
    bool fits = !pool->paused && !pool->shut && waiter->state == WAITER_QUEUED;
    if (fits) {
        enter_item(pool, item, worker);
        queue_remove(pool, waiter);
    }
    pool_leave(pool, now_us);
    return fits;
}

void pool_open_dropped(struct pool *pool, uint64_t now_us)
{
    pool_enter(pool);
    check(pool->opening > 0);
    pool->opening--;
    leave_freeing(pool, now_us, NULL, false);
}

void pool_open_failed(struct pool *pool, uint64_t now_us, uint64_t retry_at_us)
{
    pool_enter(pool);
    check(pool->opening > 0);
    pool->opening--;
    pool->retry_at_us = retry_at_us;
    pool->ramp = 1;
    leave_freeing(pool, now_us, NULL, false);
}

enum pool_outcome pool_surrender(struct pool *pool, struct pool_item *item, uint64_t now_us,
                                 struct pool_grant *grant)
{
    pool_enter(pool);
    if (item->state == ITEM_DOOMED) {
        pthread_mutex_unlock(&pool->mutex);
        return POOL_DISCARD;
    }
    check(item->state == ITEM_RESERVED);
    struct pool_waiter *waiter = item->waiter;
    if (!waiter)
        list_remove(&pool->orphans, &item->node);
    item_set_state(pool, item, ITEM_ACTIVE);
    return leave_with(pool, hand_on(pool, item, waiter, false, now_us, grant), now_us);
}

bool pool_accept(struct pool *pool, struct pool_item *item, unsigned worker,
                 struct pool_waiter *waiter)
{
    pool_enter(pool);
    check(item->state == ITEM_GRANTED && worker < pool->workers);
    item->worker = worker;
    item_set_state(pool, item, ITEM_ACTIVE);
    struct pool_waiter *meant = item->waiter;
    bool fits = meant && meant == waiter && !pool->shut && !unfit(pool, item);
    if (fits)
        queue_remove(pool, waiter);
    else if (meant) /* the pool_return that follows looks after it */
        queue_put_back(pool, meant);
    pthread_mutex_unlock(&pool->mutex);
    return fits;
}

void pool_forget(struct pool *pool, struct pool_waiter *waiter, uint64_t now_us)
{
    pool_enter(pool);
    pool->last_used_us = now_us;
    queue_remove(pool, waiter);
    pool_leave(pool, now_us);
}

bool pool_is_coming(struct pool *pool, const struct pool_waiter *waiter)
{
    bool coming;

    pthread_mutex_lock(&pool->mutex);
    coming = waiter->state == WAITER_PROMISED || waiter->state == WAITER_GRANTED;
    pthread_mutex_unlock(&pool->mutex);
    return coming;
}

void pool_remove(struct pool *pool, struct pool_item *item, uint64_t now_us)
{
    pool_enter(pool);
    check(item->state != ITEM_NONE && item->pool == pool);
    if (item->state == ITEM_IDLE)
        item_unlist(pool, item);
    if (item->state == ITEM_ACTIVE && list_node_is_listed(&item->node))
        list_remove(&pool->shares[item->worker].lingering, &item->node);
    if (list_node_is_listed(&item->news))
        list_remove(&pool->untold, &item->news);
    if (item->waiter)
        queue_put_back(pool, item->waiter);
    else if (item->state == ITEM_RESERVED)
        list_remove(&pool->orphans, &item->node);
    item_set_state(pool, item, ITEM_NONE);
    pool->states[ITEM_NONE]--;
    pool->items--;
    bool obsolete = item_is_obsolete(pool, item);
    if (obsolete)
        pool->obsolete--;
    struct limit *evictor = item->eviction;
    item->eviction = NULL;
    item->generation = 0;
    leave_freeing(pool, now_us, evictor, obsolete && !pool->obsolete);
}

bool pool_retire(struct pool *pool, struct pool_item *item, bool keep_minimum)
{
    pool_enter(pool);
    const struct pool_limits *settings = &pool->settings;
    bool kept_warm = keep_minimum && (settings->warm || pool->clients);
    size_t living = pool->items - pool->states[ITEM_DOOMED];
    bool retires =
        item->state == ITEM_IDLE && !(kept_warm && living <= (size_t)settings->min_pool_size);
    if (retires) {
        item_unlist(pool, item);
        item_doom(pool, item, "retired", true);
    }
    pthread_mutex_unlock(&pool->mutex);
    return retires;
}

bool pool_take(struct pool *pool, struct pool_item *item)
{
    pool_enter(pool);
    bool taken = item->state == ITEM_IDLE;
    if (taken) {
        item_unlist(pool, item);
        item_set_state(pool, item, ITEM_ACTIVE);
    }
    pthread_mutex_unlock(&pool->mutex);
    return taken;
}
