/*
 * pool: lends items (server connections) to waiters (clients), across workers, within exact limits.
 *
 * Knows no sockets and no SQL. One pool serves one database × user × environment. Shared by all
 * workers; a short mutex inside. Whatever must be done outside (open, give up, close) is told
 * through `struct pool_events`, always after the lock has been let go, on the calling thread; the
 * session passes it on to the worker that is meant.
 *
 *             pool_opened          pool_borrow / grant
 *   OPENING ───────────► (return) ─► IDLE ──────────► ACTIVE ─► pool_return ─► …
 *                                     │ │                ▲
 *             a thief's reservation   │ ▼                │ pool_accept
 *                                     │ RESERVED ─────► GRANTED (by mail)
 *                                     │     pool_surrender
 *           eviction, pause,          ▼
 *           reconnect, idle time     DOOMED ─ the owner closes it ─ pool_remove
 */
#ifndef PGSTAGE_POOL_POOL_H
#define PGSTAGE_POOL_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/counter.h"
#include "pgstage/base/list.h"

struct limit;
struct pool;
struct registry;

enum pool_item_state {
    ITEM_NONE, /* in no pool */
    ITEM_IDLE,
    ITEM_ACTIVE,
    ITEM_RESERVED, /* idle, promised to a waiter of another worker */
    ITEM_GRANTED,  /* on its way to a waiter of another worker */
    ITEM_DOOMED,   /* idle no more: its owner was told to close it */
};

/* Embedded in a server connection. Zeroed before pool_opened, but for `generation`: whoever begins
 * to open it may put pool_generation there, so that a RECONNECT that comes meanwhile counts for it.
 */
struct pool_item {
    /* fixed */
    struct pool *pool;
    uint64_t id; /* unique in the process; given by pool_opened */
    /* shared: the pool's mutex */
    struct list_node node;
    enum pool_item_state state;
    unsigned worker; /* who owns its I/O */
    uint64_t generation;
    uint64_t idle_since_us;
    struct pool_waiter *waiter; /* RESERVED, GRANTED: for whom; NULL: the waiter has gone */
    struct list_node news;      /* its owner has still to be told of the state */
    const char *why;            /* DOOMED: the word for the owner */
    struct limit *eviction;     /* DOOMED: the limit in which it makes room for another pool */
};

enum pool_waiter_state { WAITER_IDLE, WAITER_QUEUED, WAITER_PROMISED, WAITER_GRANTED };

/* Embedded in what a client has while it wants an item. */
struct pool_waiter {
    /* fixed */
    uint64_t id; /* the client's, unique in the process */
    unsigned worker;
    /* shared: the pool's mutex */
    enum pool_waiter_state state;
    struct list_node node;
    uint64_t since_us;      /* when it began to wait */
    struct pool_item *item; /* PROMISED, GRANTED: which item was reserved or is coming */
};

/* What the pool asks for. No lock is held; called on the thread that called into the pool, which
 * may be one that uses another pool under the same limit. */
struct pool_events {
    /* Open a connection on this worker; a place is reserved. Ends with pool_opened or
     * pool_open_failed. */
    void (*open)(struct pool *pool, unsigned worker);
    /* A waiter elsewhere wants this idle item: on that worker call pool_surrender. */
    void (*reclaim)(struct pool *pool, unsigned worker, uint64_t item_id);
    /* This idle item is DOOMED: on that worker close it and call pool_remove. `why` is a short
     * static text (evicted, paused, obsolete, pool too large). */
    void (*doom)(struct pool *pool, unsigned worker, uint64_t item_id, const char *why);
    /* The last item of a paused pool, or the last obsolete item, has gone: somebody may wait. */
    void (*drained)(struct pool *pool);
};

struct pool_limits {
    int64_t pool_size;                /* 0: no limit */
    int64_t min_pool_size;            /* kept open while the pool has clients (or `warm`) */
    int64_t reserve_pool_size;        /* more, once somebody has waited … */
    uint64_t reserve_pool_timeout_us; /* … this long */
    bool round_robin;                 /* idle items: oldest first instead of newest first */
    bool warm;                        /* min_pool_size holds without clients too (forced user) */
};

enum pool_outcome {
    POOL_KEPT, /* idle on this worker now */
    POOL_LENT, /* ACTIVE for `grant.waiter`, a client of this very worker: link it */
    POOL_MOVE, /* GRANTED: detach it and mail it to `grant.worker` for client `grant.waiter_id` */
    POOL_DISCARD, /* close it and call pool_remove */
    POOL_LINGERS, /* ACTIVE, for clients of this worker that ask soon: call pool_unlinger at
                     `grant.until_us` */
};

struct pool_grant {
    struct pool_waiter *waiter; /* POOL_LENT */
    unsigned worker;            /* POOL_MOVE */
    uint64_t waiter_id;
    uint64_t until_us; /* POOL_LINGERS */
};

/* ---- the worker's calls; `worker` is the caller's own index ---- */

/* An idle item of this worker at once (ACTIVE, unlinked from lists), or NULL: the waiter is queued
 * and the pool steals or opens. `waiter->worker` and `id` are set by the caller. */
struct pool_item *pool_borrow(struct pool *pool, struct pool_waiter *waiter, uint64_t now_us)
    __attribute__((warn_unused_result));
/* An ACTIVE item is free again (nothing owed, idle, flushed). POOL_LINGERS: only a client of another
 * worker waits for it, and has not waited long: it stays ACTIVE for a moment, in nobody's hands, and
 * a pool_borrow of this worker takes it first. */
enum pool_outcome pool_return(struct pool *pool, struct pool_item *item, uint64_t now_us,
                              struct pool_grant *grant) __attribute__((warn_unused_result));
/* The moment is over for an item of this worker that lingers: what becomes of it, without lingering
 * again. NULL: none lingers. Call it until then. */
struct pool_item *pool_unlinger(struct pool *pool, unsigned worker, uint64_t now_us,
                                enum pool_outcome *outcome, struct pool_grant *grant)
    __attribute__((warn_unused_result));
/* A connection that `open` asked for is ready: enters the pool; then as pool_return. */
enum pool_outcome pool_opened(struct pool *pool, struct pool_item *item, unsigned worker,
                              uint64_t now_us, struct pool_grant *grant)
    __attribute__((warn_unused_result));
/* The same in a pool with own_items: it enters the pool as ACTIVE for this waiter. False: nothing
 * may be lent now, or the waiter has gone; close the connection and call pool_open_dropped. */
bool pool_opened_for(struct pool *pool, struct pool_item *item, unsigned worker,
                     struct pool_waiter *waiter, uint64_t now_us)
    __attribute__((warn_unused_result));
/* A connection that `open` asked for is not opened, through no fault of its host's. */
void pool_open_dropped(struct pool *pool, uint64_t now_us);
/* It could not be opened. No other is asked for before `retry_at_us` (0: at once); call pool_pump
 * then. */
void pool_open_failed(struct pool *pool, uint64_t now_us, uint64_t retry_at_us);
/* The owner heard `reclaim`: POOL_MOVE with the grant, or what pool_return may give when the waiter
 * has gone; POOL_DISCARD too when it was doomed meanwhile. */
enum pool_outcome pool_surrender(struct pool *pool, struct pool_item *item, uint64_t now_us,
                                 struct pool_grant *grant) __attribute__((warn_unused_result));
/* A GRANTED item has arrived on `worker` (its new owner) for this waiter: true, ACTIVE: link it.
 * False (the waiter is NULL, or wants none any more, or waits for another): the item is ACTIVE and
 * must be given to pool_return. */
bool pool_accept(struct pool *pool, struct pool_item *item, unsigned worker,
                 struct pool_waiter *waiter) __attribute__((warn_unused_result));
/* The waiter wants none any more (it left, timed out, was cancelled). Safe in every state. */
void pool_forget(struct pool *pool, struct pool_waiter *waiter, uint64_t now_us);
/* Is an item on its way to this waiter (promised or granted), so that its wait is as good as over?
 */
bool pool_is_coming(struct pool *pool, const struct pool_waiter *waiter);
/* An item that was ACTIVE, IDLE, RESERVED or DOOMED is closed and leaves the pool. A promise to a
 * waiter is taken back: it goes to the head of the queue with its old time. */
void pool_remove(struct pool *pool, struct pool_item *item, uint64_t now_us);
/* May the owner close this idle item now for its age? True: it is DOOMED; close it and pool_remove.
 * With `keep_minimum` false is also given when min_pool_size would be undercut. */
bool pool_retire(struct pool *pool, struct pool_item *item, bool keep_minimum)
    __attribute__((warn_unused_result));
/* Takes an IDLE item of this worker out for a check (ACTIVE): true. Then pool_return or
 * pool_remove. */
bool pool_take(struct pool *pool, struct pool_item *item) __attribute__((warn_unused_result));
/* The present generation of items: pool_obsolete begins a new one. Any thread. */
uint64_t pool_generation(const struct pool *pool);
/* Is the item obsolete (RECONNECT, reload), so that pool_return would discard it? */
bool pool_is_obsolete(struct pool *pool, const struct pool_item *item);
/* Looks again whether waiters can be served: after back-off, when reserve_pool_timeout is over, and
 * keeps min_pool_size. Any thread. Returns when it wants to be called again, 0: not needed. */
uint64_t pool_pump(struct pool *pool, uint64_t now_us);
/* A client of this pool logged in or left (for min_pool_size and pool_idle_timeout). */
void pool_client_added(struct pool *pool);
void pool_client_removed(struct pool *pool, uint64_t now_us);

/* ---- the control plane's calls; any thread ---- */
void pool_configure(struct pool *pool, const struct pool_limits *limits, uint64_t now_us);
/* No item is lent any more, idle ones are doomed, others discarded when they return. */
void pool_pause(struct pool *pool, uint64_t now_us);
void pool_resume(struct pool *pool, uint64_t now_us);
/* Until pool_release nothing is lent and nothing is opened: waiters queue, idle items stay where
 * they are, and active ones stay there too when they come back. Once pool_hold has returned, no
 * item is lent to anybody; what was lent before goes on. */
void pool_hold(struct pool *pool, uint64_t now_us);
/* Lends again; opens that were put off after failures are tried at once. */
void pool_release(struct pool *pool, uint64_t now_us);
/* Forgets the pause after a failed open: what waiters need is opened now. */
void pool_retry(struct pool *pool, uint64_t now_us);
/* Every present item becomes obsolete: idle ones are doomed (spread is the caller's business),
 * active ones discarded when they return. What failed before is tried again at once. */
void pool_obsolete(struct pool *pool, uint64_t now_us);

struct pool_counts {
    size_t idle, active, reserved, opening, doomed; /* items; granted ones count as active */
    size_t obsolete;                                /* of them, those to be discarded */
    size_t waiting;                                 /* waiters queued, promised or granted */
    size_t clients;
    uint64_t oldest_wait_since_us; /* 0: nobody waits */
    bool paused, held;
};
void pool_counts(struct pool *pool, struct pool_counts *counts);

struct pool_stats {
#define METRIC(name, ...) struct counter name;
#include "pgstage/tables/metrics.def"
#undef METRIC
};
/* This worker's counters of the pool (one writer: that worker; readers anywhere). */
struct pool_stats *pool_stats(struct pool *pool, unsigned worker);

const char *pool_database(const struct pool *pool);
const char *pool_user(const struct pool *pool);
/* NULL: none. */
const char *pool_environment(const struct pool *pool);
struct registry *pool_registry(const struct pool *pool);
uint64_t pool_id(const struct pool *pool);
/* Is each of its items opened for one waiter, and lent to nobody else (pool_key)? */
bool pool_has_own_items(const struct pool *pool);
/* What the session keeps with a pool: made when the pool is made (registry_events.attach). */
void *pool_attachment(const struct pool *pool);

#endif
