/*
 * settle.c: opens what waiters need and min_pool_size asks for, within all limits.
 *
 * Any thread. One thread at a time settles a pool; another that comes meanwhile leaves a note and
 * the first goes round once more. So only one place raises `opening`, and pool_size is exact
 * although the mutex is let go while places under the limits are sought:
 *
 *   how many are wanted? ─► a place under database, user, environment for each ─► still wanted? ─►
 * open (mutex)               │ one is full: wish in its FIFO, evict elsewhere       (mutex) ▼ a
 * place is handed over later: the pool is summoned and settles again
 *
 * A pool stands in the FIFO of one limit at most and holds no place of another meanwhile.
 */
#include <string.h>

#include "inside.h"
#include "pgstage/base/check.h"
#include "pgstage/base/log.h"

void summons_add(struct summons *summons, struct pool *pool)
{
    if (atomic_exchange(&pool->summoned, true))
        return; /* it is on somebody's list and will see what there is */
    pool_ref(pool);
    pool->summoned_next = summons->first;
    summons->first = pool;
}

void summons_run(struct summons *summons, uint64_t now_us)
{
    struct pool *pool;
    while ((pool = summons->first)) {
        summons->first = pool->summoned_next;
        atomic_store(&pool->summoned, false);
        pool_settle(pool, now_us, summons);
        pool_unref(pool);
    }
}

/* How many more connections pool_size leaves room for, with the reserve once somebody has waited.
 */
static size_t room(struct pool *pool, uint64_t now_us)
{
    const struct pool_limits *settings = &pool->settings;
    size_t size = pool->items + pool->opening, most = (size_t)settings->pool_size;
    if (!most)
        return SIZE_MAX;
    if (size >= most && settings->reserve_pool_size && settings->reserve_pool_timeout_us) {
        const struct pool_waiter *head = queue_head(pool);
        if (head && now_us >= head->since_us + settings->reserve_pool_timeout_us)
            most += (size_t)settings->reserve_pool_size;
    }
    return size < most ? most - size : 0;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* How many more may be tried at the same time when `coming` are on their way besides: servers that
 * have just come back are not to be met by everybody at once. */
static size_t pace(const struct pool *pool, size_t coming)
{
    size_t under_way = pool->opening + coming;
    if (!pool->ramp)
        return SIZE_MAX;
    return under_way < pool->ramp ? pool->ramp - under_way : 0;
}

/* Connections that waiters need beyond those being opened; at most a batch. */
static size_t opens_wanted(struct pool *pool, uint64_t now_us)
{
    if (pool->paused || pool->shut || pool->queued <= pool->opening || now_us < pool->retry_at_us)
        return 0;
    size_t most = least(room(pool, now_us), pace(pool, 0));
    return least(OPEN_BATCH, least(pool->queued - pool->opening, most));
}

/* Connections that min_pool_size asks for when `coming` more are on their way. */
static size_t minimum_wanted(const struct pool *pool, uint64_t now_us, size_t coming)
{
    const struct pool_limits *settings = &pool->settings;
    if (pool->paused || pool->shut || now_us < pool->retry_at_us ||
        !(settings->warm || pool->clients))
        return 0;
    size_t target = (size_t)settings->min_pool_size;
    size_t size = pool->items + pool->opening + coming;
    if (settings->pool_size) {
        if (size >= (size_t)settings->pool_size)
            return 0;
        target = least(target, (size_t)settings->pool_size);
    }
    size_t living = size - pool->states[ITEM_DOOMED];
    size_t most = settings->pool_size ? (size_t)settings->pool_size - size : SIZE_MAX;
    most = least(most, pace(pool, coming));
    return living < target ? least(OPEN_BATCH, least(most, target - living)) : 0;
}

bool pool_is_unsettled(struct pool *pool, uint64_t now_us)
{
    if (pool->minimum_due)
        return true;
    if (!pool->queued && !pool->standing)
        return false;
    if (pool->standing && pool->items + pool->opening == 0)
        return true; /* the limit has to know */
    return opens_wanted(pool, now_us) != pool->standing;
}

/* ---- places; no mutex is held; only the thread that settles ---- */

static void give_back(struct pool *pool, unsigned limit, size_t count, uint64_t now_us,
                      struct summons *summons)
{
    while (count--)
        limit_release(pool->limits[limit], false, now_us, summons);
}

/* A place under every limit. False: `full` says which has none; `held` keeps what was got. */
static bool take_place(struct pool *pool, size_t *held, int *full)
{
    for (unsigned i = 0; i < POOL_LIMITS; i++) {
        if (!pool->limits[i] || held[i])
            continue;
        if (!limit_reserve(pool->limits[i])) {
            *full = (int)i;
            return false;
        }
        held[i]++;
    }
    for (unsigned i = 0; i < POOL_LIMITS; i++)
        if (pool->limits[i])
            held[i]--;
    return true;
}

/* Gets up to `wanted` places and stands in line for the rest. Returns how many it got. `bare`: the
 * pool has no server yet. */
static size_t take_places(struct pool *pool, size_t wanted, bool bare, uint64_t now_us,
                          struct summons *summons)
{
    size_t held[POOL_LIMITS] = {0}, taken = 0;
    int full;
    do {
        int in = pool->stands_in;
        full = -1;
        if (in >= 0)
            held[in] += limit_collect(pool->limits[in], &pool->waits[in]);
        while (taken < wanted && take_place(pool, held, &full))
            taken++;
        if (in >= 0 && full != in)
            held[in] += limit_withdraw(pool->limits[in], &pool->waits[in]);
        pool->stands_in = full;
        /* stands, unless a place became free just now: then once more */
    } while (full >= 0 && !limit_stand(pool->limits[full], &pool->waits[full], wanted - taken,
                                       bare && !taken, now_us));
    for (unsigned i = 0; i < POOL_LIMITS; i++)
        give_back(pool, i, held[i], now_us, summons);
    return taken;
}

/* Up to `wanted` places that are free at once: nobody waits or is evicted for min_pool_size. */
static size_t take_spare_places(struct pool *pool, size_t wanted, uint64_t now_us,
                                struct summons *summons)
{
    size_t held[POOL_LIMITS] = {0}, taken = 0;
    int full;
    while (taken < wanted && take_place(pool, held, &full))
        taken++;
    for (unsigned i = 0; i < POOL_LIMITS; i++)
        give_back(pool, i, held[i], now_us, summons);
    return taken;
}

void pool_release_place(struct pool *pool, struct limit *evictor, uint64_t now_us,
                        struct summons *summons)
{
    for (unsigned i = 0; i < POOL_LIMITS; i++) {
        struct limit *limit = pool->limits[i];
        if (limit)
            limit_release(limit, limit == evictor, now_us, summons);
    }
}

bool pool_evict(struct pool *pool, struct limit *limit, uint64_t now_us)
{
    pool_enter(pool);
    struct pool_item *item = item_oldest(pool);
    if (item) {
        item_unlist(pool, item);
        item->eviction = limit;
        item_doom(pool, item, "evicted", false);
    }
    pool_leave(pool, now_us);
    return item != NULL;
}

/* ---- opening ---- */

struct opens {
    size_t count, reserve;
    unsigned workers[2 * OPEN_BATCH];
};

/* The next worker in turn; `waits`: among those that have waiters, if there are any. */
static unsigned pick_worker(struct pool *pool, bool waits)
{
    unsigned worker = pool->next_worker;
    for (unsigned i = 0; waits && i < pool->workers; i++) {
        unsigned candidate = (pool->next_worker + i) % pool->workers;
        if (!list_is_empty(&pool->shares[candidate].queue)) {
            worker = candidate;
            break;
        }
    }
    pool->next_worker = (worker + 1) % pool->workers;
    return worker;
}

/* Under the mutex: `count` connections will be opened on places that were got. */
static void plan_opens(struct pool *pool, struct opens *opens, size_t count, bool waits)
{
    size_t most = (size_t)pool->settings.pool_size;
    for (size_t i = 0; i < count; i++) {
        if (most && pool->items + pool->opening >= most)
            opens->reserve++;
        pool->opening++;
        pool_ref(pool);
        opens->workers[opens->count++] = pick_worker(pool, waits);
    }
}

static void carry_out(struct pool *pool, const struct opens *opens)
{
    for (size_t i = 0; i < opens->reserve; i++)
        log_warning("%s/%s%s%s: taking connection from reserve_pool", pool->database, pool->user,
                    pool->environment ? "@" : "", pool->environment ? pool->environment : "");
    for (size_t i = 0; i < opens->count; i++)
        pool->events->open(pool, opens->workers[i]);
}

/* Once round, with the mutex held before and after. */
static void settle_once(struct pool *pool, struct summons *summons)
{
    uint64_t now_us = pool->settle_at_us;
    size_t wanted = opens_wanted(pool, now_us);
    size_t minimum = pool->minimum_due ? minimum_wanted(pool, now_us, wanted) : 0;
    bool bare = pool->items + pool->opening == 0;
    pool->settle_again = false;
    pthread_mutex_unlock(&pool->mutex);

    int stood_in = pool->stands_in;
    size_t taken = take_places(pool, wanted, bare, now_us, summons);
    size_t spare = take_spare_places(pool, minimum, now_us, summons);

    struct opens opens = {0};
    pool_enter(pool); /* whatever happened meanwhile */
    pool->standing = wanted - taken;
    pool->standing_in = pool->stands_in;
    pool->minimum_due = minimum && spare == minimum;
    plan_opens(pool, &opens, least(taken, opens_wanted(pool, now_us)), true);
    plan_opens(pool, &opens, least(spare, minimum_wanted(pool, now_us, 0)), false);
    pthread_mutex_unlock(&pool->mutex);

    carry_out(pool, &opens);
    for (size_t i = opens.count; i < taken + spare; i++)
        pool_release_place(pool, NULL, now_us, summons);
    /* also where it stood until now: a server that became idle may have been kept for its own wish
     */
    if (stood_in >= 0)
        limit_evict(pool->limits[stood_in], now_us);
    if (pool->stands_in >= 0)
        limit_evict(pool->limits[pool->stands_in], now_us);
    pool_enter(pool);
}

void pool_settle(struct pool *pool, uint64_t now_us, struct summons *summons)
{
    pool_enter(pool);
    if (pool->settle_at_us < now_us)
        pool->settle_at_us = now_us;
    pool->settle_again = true;
    if (!pool->settling) {
        pool->settling = true;
        while (pool->settle_again || pool->minimum_due ||
               opens_wanted(pool, pool->settle_at_us) != pool->standing)
            settle_once(pool, summons);
        pool->settling = false;
    }
    pthread_mutex_unlock(&pool->mutex);
}

/* ---- waiting for the clock ---- */

static void sooner(uint64_t *when_us, uint64_t candidate_us, uint64_t now_us)
{
    if (candidate_us > now_us && (!*when_us || candidate_us < *when_us))
        *when_us = candidate_us;
}

/* Under the mutex: when time alone will change what is wanted; 0: never. */
static uint64_t next_look(struct pool *pool, uint64_t now_us)
{
    const struct pool_limits *settings = &pool->settings;
    uint64_t when_us = 0;
    bool lacks_some = pool->queued > pool->opening;
    if (pool->paused || pool->shut)
        return 0;
    if (now_us < pool->retry_at_us) {
        if (lacks_some || minimum_wanted(pool, pool->retry_at_us, 0))
            sooner(&when_us, pool->retry_at_us, now_us);
        return when_us;
    }
    size_t size = pool->items + pool->opening, most = (size_t)settings->pool_size;
    if (lacks_some && most && size >= most && settings->reserve_pool_timeout_us &&
        size < most + (size_t)settings->reserve_pool_size)
        sooner(&when_us, queue_head(pool)->since_us + settings->reserve_pool_timeout_us, now_us);
    if (minimum_wanted(pool, now_us, 0))
        sooner(&when_us, now_us + MINIMUM_RETRY_US, now_us);
    return when_us;
}

uint64_t pool_pump(struct pool *pool, uint64_t now_us)
{
    struct summons summons = {0};
    pool_enter(pool);
    pool->minimum_due = true;
    pthread_mutex_unlock(&pool->mutex);
    summons_add(&summons, pool);
    summons_run(&summons, now_us);
    pool_enter(pool);
    uint64_t when_us = next_look(pool, now_us);
    pthread_mutex_unlock(&pool->mutex);
    return when_us;
}
