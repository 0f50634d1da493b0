/*
 * loop: one thread's epoll with everything that a turn of it needs.
 *
 * A turn: poll → I/O callbacks (servers act at once; clients only mark themselves ready) → mail →
 * due timers → deferred work (ready clients, granted waiters) → releases. The order keeps a query
 * from going to a server whose end arrived in the same batch of events.
 * Unless said otherwise a function is called on the loop's own thread only.
 */
#ifndef PGSTAGE_WORKER_LOOP_H
#define PGSTAGE_WORKER_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/list.h"

struct loop;

/* The read buffer that a loop lends for the length of a callback. */
#define LOOP_BUFFER_BYTES 16384
/* It is this long in truth, for streams of rows or COPY data that run at full speed: a larger read
 * saves calls and turns (see doc/benchmarks.md). What may have to be kept for a crowd is bounded by
 * LOOP_BUFFER_BYTES, so nothing else reads that much. */
#define LOOP_STREAM_BYTES (192 * 1024)

/* `context` is the owner's (a struct worker, the control plane), `index` its number. Any thread.
 * NULL when the kernel gives no epoll, eventfd or timerfd. */
struct loop *loop_new(unsigned index, void *context) __attribute__((warn_unused_result));
/* After loop_run has returned and the threads that post to it have ended; on the thread that frees.
 * Undelivered mail is dropped through its `drop`, objects still to be released are destroyed. */
void loop_free(struct loop *loop);
/* Runs turns until loop_stop (at once when that came before); may be called again afterwards. */
void loop_run(struct loop *loop);
/* Runs one turn; waits for something to happen only if `wait`. For whoever drives a loop by hand.
 */
void loop_turn(struct loop *loop, bool wait);
/* Makes loop_run return after the current turn. Any thread. */
void loop_stop(struct loop *loop);

void *loop_context(struct loop *loop);
unsigned loop_index(const struct loop *loop);
/* Monotonic microseconds, read once per turn. */
uint64_t loop_now_us(const struct loop *loop);
/* How many turns have begun: two calls with the same number are in the same turn. */
uint64_t loop_turns(const struct loop *loop);
/* Scratch bytes shared by everything on this loop, valid until the callback returns: `size` is
 * LOOP_BUFFER_BYTES; there are LOOP_STREAM_BYTES. */
uint8_t *loop_buffer(struct loop *loop, size_t *size);

/* A descriptor that is waited for. Embed it, with `ready` and `fd` set and the rest zero; it stays
 * where it is, and the descriptor open, while it is watched. */
struct loop_watch {
    /* With those of the wanted events that have come, and EPOLLERR and EPOLLHUP, which always come.
     * May end and free any watch, also this one. */
    void (*ready)(struct loop_watch *watch, uint32_t events);
    int fd;
    uint32_t events; /* the loop's: what is waited for, 0: it is not watched */
};
/* Waits for `events` (EPOLLIN …, not 0; with EPOLLET for changes only) in place of what was waited
 * for before. The same again costs nothing. False (errno): epoll takes no more, and what was waited
 * for still is. */
bool loop_watch(struct loop *loop, struct loop_watch *watch, uint32_t events)
    __attribute__((warn_unused_result));
/* Ends that: `ready` is not called any more, not even for what this turn's poll has brought. The
 * descriptor may then be closed or be watched by another, the watch be freed or be used again.
 * Harmless when it is not watched. */
void loop_unwatch(struct loop *loop, struct loop_watch *watch);

/* Work for the end of this turn's events. Embed it; zeroed is ready. Deferring twice is once. */
struct loop_task {
    struct list_node node;
    void (*run)(struct loop_task *task);
};
/* Runs task->run once, in FIFO order, after the I/O callbacks of this turn. */
void loop_defer(struct loop *loop, struct loop_task *task);
/* Takes it back if it has not run. */
void loop_undefer(struct loop *loop, struct loop_task *task);
/* Calls destroy(object) at the end of the turn, when no callback can hold it any more. */
void loop_release(struct loop *loop, void *object, void (*destroy)(void *object));

/* Mail: embed it in an allocated letter. `deliver` runs on the receiving loop and then owns the
 * letter; `drop` (may be NULL: free) runs instead when the loop is freed before. */
struct mail {
    struct mail *next;
    void (*deliver)(struct loop *loop, struct mail *mail);
    void (*drop)(struct mail *mail);
};
/* Any thread. Letters of one sender arrive in order. */
void loop_post(struct loop *loop, struct mail *mail);

#endif
