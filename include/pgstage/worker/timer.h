/*
 * timer: deadlines on a loop, in a heap.
 *
 * Moving a deadline later costs a store and no heap work: the heap looks again when the old moment
 * comes. So a deadline may be set for every query. The owner keeps the struct and clears the timer
 * before it goes away. The loop's own thread only.
 */
#ifndef PGSTAGE_WORKER_TIMER_H
#define PGSTAGE_WORKER_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;

struct timer {
    /* owner */
    uint64_t due_us;  /* 0: not set */
    uint64_t heap_us; /* when the heap will look at it */
    size_t slot;      /* its place in the heap + 1; 0: in no heap */
    void (*fire)(struct loop *loop, struct timer *timer);
};

/* Fires once at `due_us` (loop_now_us's clock), replacing any earlier setting. */
void timer_set(struct loop *loop, struct timer *timer, uint64_t due_us);
/* It will not fire (cheap: the heap forgets it later). */
void timer_clear(struct timer *timer);
/* Takes it out of the heap; call before the memory of the struct goes away or moves to another
 * loop. */
void timer_detach(struct loop *loop, struct timer *timer);
static inline bool timer_is_set(const struct timer *timer)
{
    return timer->due_us != 0;
}

#endif
