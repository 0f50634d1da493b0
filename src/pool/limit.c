/*
 * limit.c: places for servers under one database, user or environment, shared by many pools.
 *
 * Any thread, under the limit's mutex. Whoever finds no place stands in the FIFO with the number of
 * its wishes. A place that becomes free goes straight to the first in it: it is never free while
 * somebody stands there, so no newcomer can snatch it. With each place a pool goes to the end, so
 * that pools take turns. A pool without any server that has waited for too long comes first, and
 * busy pools give a server up for it: all others make progress with what they have.
 *
 *   limit_reserve ─ none ─► limit_stand ─► limit_evict: claim one, doom one idle item elsewhere
 *                              ▲                           │ closed
 *        the pool settles ◄── hand-over ◄── limit_release ◄┘ (or any other server's end)
 *
 * `need` = wishes + servers over a lowered limit - evictions under way. Only who takes one from a
 * positive need (limit_claim) evicts, and evicts one item: so there are never more than wishes.
 */
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/check.h"
#include "pgstage/base/memory.h"

struct limit *limit_new(char *key, size_t key_length)
{
    struct limit *limit = memory_new(sizeof(*limit));
    limit->key = key;
    limit->key_length = key_length;
    atomic_store(&limit->starving_since_us, NEVER_US);
    pthread_mutex_init(&limit->mutex, NULL);
    list_init(&limit->waits);
    list_init(&limit->starving);
    list_init(&limit->pools);
    return limit;
}

void limit_free(struct limit *limit)
{
    check(list_is_empty(&limit->pools) && list_is_empty(&limit->waits));
    pthread_mutex_destroy(&limit->mutex);
    free(limit->key);
    free(limit);
}

void limit_join(struct limit *limit, struct pool_member *member)
{
    pthread_mutex_lock(&limit->mutex);
    list_push_back(&limit->pools, &member->node);
    pthread_mutex_unlock(&limit->mutex);
}

void limit_part(struct limit *limit, struct pool_member *member)
{
    pthread_mutex_lock(&limit->mutex);
    list_remove(&limit->pools, &member->node);
    pthread_mutex_unlock(&limit->mutex);
}

/* ---- under the mutex ---- */

static int64_t surplus(struct limit *limit)
{
    int64_t max_servers = atomic_load(&limit->max_servers);
    int64_t servers = atomic_load(&limit->servers);
    return max_servers && servers > max_servers ? servers - max_servers : 0;
}

static bool has_room(struct limit *limit)
{
    int64_t max_servers = atomic_load(&limit->max_servers);
    return !max_servers || atomic_load(&limit->servers) < max_servers;
}

static struct limit_wait *first_starving(struct limit *limit)
{
    struct list_node *node = list_first(&limit->starving);
    return node ? list_entry(node, struct limit_wait, starving_node) : NULL;
}

static void set_starving(struct limit *limit, struct limit_wait *wait, bool starving,
                         uint64_t now_us)
{
    if (starving == list_node_is_listed(&wait->starving_node))
        return;
    if (!starving) {
        list_remove(&limit->starving, &wait->starving_node);
        return;
    }
    wait->starving_since_us = now_us;
    list_push_back(&limit->starving, &wait->starving_node);
}

static void publish(struct limit *limit)
{
    const struct limit_wait *starving = first_starving(limit);
    uint64_t since_us = starving ? starving->starving_since_us : NEVER_US;
    atomic_store(&limit->starving_since_us, surplus(limit) ? 0 : since_us);
}

/* A pool that has starved for too long gets the place, else the first that waits; with more wishes
 * it goes to the end. */
static void hand_over(struct limit *limit, uint64_t now_us, struct summons *summons)
{
    struct limit_wait *wait = first_starving(limit);
    if (!wait || now_us < wait->starving_since_us + YIELD_AFTER_US)
        wait = list_entry(list_first(&limit->waits), struct limit_wait, node);
    list_remove(&limit->waits, &wait->node);
    set_starving(limit, wait, false, now_us);
    wait->wanted--;
    wait->granted++;
    if (wait->wanted)
        list_push_back(&limit->waits, &wait->node);
    summons_add(summons, wait->pool);
}

static void set_wanted(struct limit *limit, struct limit_wait *wait, size_t wanted)
{
    atomic_fetch_add(&limit->need, (int64_t)wanted - (int64_t)wait->wanted);
    wait->wanted = wanted;
}

/* ---- places ---- */

bool limit_reserve(struct limit *limit)
{
    pthread_mutex_lock(&limit->mutex);
    bool free_place = list_is_empty(&limit->waits) && has_room(limit);
    if (free_place)
        atomic_fetch_add(&limit->servers, 1);
    pthread_mutex_unlock(&limit->mutex);
    return free_place;
}

void limit_release(struct limit *limit, bool evicted, uint64_t now_us, struct summons *summons)
{
    int64_t need = evicted ? 1 : 0;
    pthread_mutex_lock(&limit->mutex);
    if (surplus(limit)) {
        atomic_fetch_sub(&limit->servers, 1);
        need--;
    } else if (!list_is_empty(&limit->waits)) {
        hand_over(limit, now_us, summons);
        need--;
    } else {
        atomic_fetch_sub(&limit->servers, 1);
    }
    if (need)
        atomic_fetch_add(&limit->need, need);
    publish(limit);
    pthread_mutex_unlock(&limit->mutex);
}

bool limit_stand(struct limit *limit, struct limit_wait *wait, size_t wanted, bool starving,
                 uint64_t now_us)
{
    pthread_mutex_lock(&limit->mutex);
    bool free_place = wait->granted || (list_is_empty(&limit->waits) && has_room(limit));
    if (!free_place) {
        set_wanted(limit, wait, wanted);
        set_starving(limit, wait, starving, now_us);
        if (!list_node_is_listed(&wait->node))
            list_push_back(&limit->waits, &wait->node);
        publish(limit);
    }
    pthread_mutex_unlock(&limit->mutex);
    return !free_place;
}

size_t limit_collect(struct limit *limit, struct limit_wait *wait)
{
    pthread_mutex_lock(&limit->mutex);
    size_t granted = wait->granted;
    wait->granted = 0;
    pthread_mutex_unlock(&limit->mutex);
    return granted;
}

size_t limit_withdraw(struct limit *limit, struct limit_wait *wait)
{
    pthread_mutex_lock(&limit->mutex);
    size_t granted = wait->granted;
    wait->granted = 0;
    if (list_node_is_listed(&wait->node))
        list_remove(&limit->waits, &wait->node);
    set_starving(limit, wait, false, 0);
    set_wanted(limit, wait, 0);
    publish(limit);
    pthread_mutex_unlock(&limit->mutex);
    return granted;
}

void limit_set_max(struct limit *limit, int64_t max_servers, uint64_t now_us,
                   struct summons *summons)
{
    pthread_mutex_lock(&limit->mutex);
    int64_t before = surplus(limit), handed = 0;
    atomic_store(&limit->max_servers, max_servers);
    while (!list_is_empty(&limit->waits) && has_room(limit)) {
        atomic_fetch_add(&limit->servers, 1);
        hand_over(limit, now_us, summons);
        handed++;
    }
    atomic_fetch_add(&limit->need, surplus(limit) - before - handed);
    publish(limit);
    pthread_mutex_unlock(&limit->mutex);
}

/* ---- evictions; no mutex is held ---- */

bool limit_claim(struct limit *limit)
{
    int64_t need = atomic_load(&limit->need);
    while (need > 0)
        if (atomic_compare_exchange_weak(&limit->need, &need, need - 1))
            return true;
    return false;
}

static uint64_t oldest_idle_us(const struct pool *pool)
{
    uint64_t oldest_us = NEVER_US;
    for (unsigned i = 0; i < pool->workers; i++) {
        uint64_t idle_us = atomic_load(&pool->shares[i].oldest_idle_us);
        if (idle_us < oldest_us)
            oldest_us = idle_us;
    }
    return oldest_us;
}

/* The pool under the limit whose idle item is oldest, with a reference; NULL: none has one. */
static struct pool *find_victim(struct limit *limit)
{
    struct pool *victim = NULL;
    uint64_t victim_us = NEVER_US;
    pthread_mutex_lock(&limit->mutex);
    list_for_each (node, &limit->pools) {
        struct pool *pool = list_entry(node, struct pool_member, node)->pool;
        uint64_t idle_us = oldest_idle_us(pool);
        if (idle_us < victim_us) {
            victim = pool;
            victim_us = idle_us;
        }
    }
    if (victim && !pool_try_ref(victim)) /* its last item has just gone */
        victim = NULL;
    pthread_mutex_unlock(&limit->mutex);
    return victim;
}

void limit_evict(struct limit *limit, uint64_t now_us)
{
    while (limit_claim(limit)) {
        struct pool *victim = find_victim(limit);
        bool evicted = victim && pool_evict(victim, limit, now_us);
        if (victim)
            pool_unref(victim);
        if (evicted)
            continue;
        atomic_fetch_add(&limit->need, 1);
        if (victim)
            continue; /* its item was taken meanwhile: look again */
        /* An item that became idle after the search: its owner may have looked at `need` while the
         * claim was held, and nobody else would look again. */
        victim = find_victim(limit);
        if (!victim)
            return;
        pool_unref(victim);
    }
}
