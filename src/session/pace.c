/*
 * pace.c: a few openings at a time for all pools of an environment.
 *
 *   pool wants one ─► pace_begin ─ room ─► it is opened ─► pace_end ─► the next one of the queue
 *                        └─ none ─► queue                    └ opened: one more may be under way
 */
#include "pgstage/session/pace.h"

#include <stdlib.h>

#include "pgstage/base/check.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"

/* How long after a release openings are held back at most. */
#define SLOW_FOR_US (10 * CLOCK_SECOND)

void pace_init(struct pace *pace)
{
    pthread_mutex_init(&pace->mutex, NULL);
    list_init(&pace->queue);
}

void pace_fini(struct pace *pace)
{
    check(list_is_empty(&pace->queue));
    pthread_mutex_destroy(&pace->mutex);
}

void pace_slow(struct pace *pace, uint64_t now_us)
{
    pthread_mutex_lock(&pace->mutex);
    pace->most = PACE_FIRST;
    pace->until_us = now_us + SLOW_FOR_US;
    pthread_mutex_unlock(&pace->mutex);
}

/* Under the mutex. */
static bool has_room(struct pace *pace, uint64_t now_us)
{
    if (pace->most && now_us >= pace->until_us)
        pace->most = 0;
    return !pace->most || pace->running < pace->most;
}

bool pace_begin(struct pace *pace, struct pool *pool, unsigned worker, uint64_t now_us)
{
    bool begins;

    pthread_mutex_lock(&pace->mutex);
    begins = has_room(pace, now_us) && list_is_empty(&pace->queue);
    if (begins) {
        pace->running++;
    } else {
        struct pace_order *order = memory_new(sizeof(*order));

        order->pool = pool;
        order->worker = worker;
        list_push_back(&pace->queue, &order->node);
    }
    pthread_mutex_unlock(&pace->mutex);
    return begins;
}

void pace_end(struct pace *pace, bool opened, uint64_t now_us, struct list *orders)
{
    pthread_mutex_lock(&pace->mutex);
    check(pace->running > 0);
    pace->running--;
    if (opened && pace->most)
        pace->most = pace->most < PACE_FULL ? pace->most + 1 : 0;
    while (orders && !list_is_empty(&pace->queue) && has_room(pace, now_us)) {
        list_push_back(orders, list_pop_front(&pace->queue));
        pace->running++;
    }
    pthread_mutex_unlock(&pace->mutex);
}

void pace_flush(struct pace *pace, struct list *orders)
{
    struct list_node *node;

    pthread_mutex_lock(&pace->mutex);
    while ((node = list_pop_front(&pace->queue)))
        list_push_back(orders, node);
    pthread_mutex_unlock(&pace->mutex);
}
