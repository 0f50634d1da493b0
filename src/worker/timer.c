/*
 * timer: a binary heap that is allowed to be early.
 *
 *     due_us   when the owner wants to be called (0: not at all)
 *     heap_us  when the heap looks at the timer; heap order; not later than due_us
 *
 * Setting a deadline later, or clearing it, writes due_us and leaves the heap alone. When heap_us
 * comes, the heap looks: not set any more → taken out; due later → moved down to due_us; else taken
 * out and fired. A query's deadline, set and cleared thousands of times a second, thus costs one
 * look per period and no heap work per query.
 *
 * slot is the place in the heap + 1, so that an object can be taken out from the middle. The loop's
 * own thread only. The heap grows and never shrinks: it is a pointer for each timer.
 */
#include "pgstage/worker/timer.h"

#include <stdlib.h>

#include "pgstage/base/check.h"
#include "pgstage/base/memory.h"
#include "pgstage/worker/heap.h"

/* Looks in one turn. Thousands of clients that time out at once must not keep the others waiting.
 */
#define LOOKS_PER_TURN 1024

#define HEAP_FIRST_CAPACITY 64

static void place(struct timer_heap *heap, size_t index, struct timer *timer)
{
    heap->items[index] = timer;
    timer->slot = index + 1;
}

static void move_up(struct timer_heap *heap, size_t index)
{
    struct timer *timer = heap->items[index];
    while (index > 0) {
        size_t parent = (index - 1) / 2;
        if (heap->items[parent]->heap_us <= timer->heap_us)
            break;
        place(heap, index, heap->items[parent]);
        index = parent;
    }
    place(heap, index, timer);
}

static void move_down(struct timer_heap *heap, size_t index)
{
    struct timer *timer = heap->items[index];
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count &&
            heap->items[child + 1]->heap_us < heap->items[child]->heap_us)
            child++;
        if (timer->heap_us <= heap->items[child]->heap_us)
            break;
        place(heap, index, heap->items[child]);
        index = child;
    }
    place(heap, index, timer);
}

static void insert(struct timer_heap *heap, struct timer *timer)
{
    if (heap->count == heap->capacity) {
        heap->capacity = heap->capacity ? heap->capacity * 2 : HEAP_FIRST_CAPACITY;
        heap->items = memory_resize(heap->items, heap->capacity, sizeof *heap->items);
    }
    heap->items[heap->count++] = timer;
    move_up(heap, heap->count - 1);
}

static void take_out(struct timer_heap *heap, struct timer *timer)
{
    size_t index = timer->slot - 1;
    check(index < heap->count && heap->items[index] == timer);
    timer->slot = 0;

    /* The last one fills the gap; it may belong above or below it. */
    struct timer *last = heap->items[--heap->count];
    if (last == timer)
        return;
    place(heap, index, last);
    move_up(heap, index);
    move_down(heap, last->slot - 1);
}

void timer_set(struct loop *loop, struct timer *timer, uint64_t due_us)
{
    struct timer_heap *heap = loop_timers(loop);
    timer->due_us = due_us ? due_us : 1; /* 0 means "not set": the moment before any other */

    uint64_t look_us = timer->due_us > heap->floor_us ? timer->due_us : heap->floor_us;
    if (timer->slot == 0) {
        timer->heap_us = look_us;
        insert(heap, timer);
    } else if (look_us < timer->heap_us) {
        timer->heap_us = look_us;
        move_up(heap, timer->slot - 1);
    }
}

void timer_clear(struct timer *timer)
{
    timer->due_us = 0;
}

void timer_detach(struct loop *loop, struct timer *timer)
{
    timer->due_us = 0;
    if (timer->slot)
        take_out(loop_timers(loop), timer);
}

void timer_heap_run(struct timer_heap *heap, struct loop *loop, uint64_t now_us)
{
    /* A callback that sets a timer to a moment that has passed gets it in the next turn; otherwise
     * a timer that always does so would never let this one end. */
    heap->floor_us = now_us + 1;
    for (unsigned looks = 0; looks < LOOKS_PER_TURN && timer_heap_next_us(heap) <= now_us;
         looks++) {
        struct timer *timer = heap->items[0];
        if (timer->due_us > now_us) {
            timer->heap_us = timer->due_us;
            move_down(heap, 0);
            continue;
        }
        take_out(heap, timer);
        if (timer->due_us) {
            timer->due_us = 0;
            timer->fire(loop, timer);
        }
    }
    heap->floor_us = 0;
}

void timer_heap_fini(struct timer_heap *heap)
{
    free(heap->items);
    *heap = (struct timer_heap){0};
}
