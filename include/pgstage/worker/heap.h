/*
 * heap: the timers of one loop, ordered by the moment at which they must be looked at. For loop.c
 * and timer.c; everyone else uses timer.h. The loop's own thread only.
 */
#ifndef PGSTAGE_WORKER_HEAP_H
#define PGSTAGE_WORKER_HEAP_H

#include <stddef.h>
#include <stdint.h>

#include "pgstage/worker/timer.h"

/* Zeroed is empty. */
struct timer_heap {
    /* owner */
    struct timer **items;
    size_t count, capacity;
    uint64_t floor_us; /* while timers fire: what is set now is looked at no earlier; else 0 */
};

/* The loop's heap (loop.c). */
struct timer_heap *loop_timers(struct loop *loop);

/* Fires what is due at `now_us`, at most a bounded number; the rest stays due. */
void timer_heap_run(struct timer_heap *heap, struct loop *loop, uint64_t now_us);
/* When to look again; UINT64_MAX when there is nothing to look at. */
static inline uint64_t timer_heap_next_us(const struct timer_heap *heap)
{
    return heap->count ? heap->items[0]->heap_us : UINT64_MAX;
}
/* Frees the heap; the timers stay their owners'. */
void timer_heap_fini(struct timer_heap *heap);

#endif
