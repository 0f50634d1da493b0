/*
 * inside: what the files of the pool room share, and nobody else.
 *
 * Two kinds of mutexes, never held together, and neither together with the registry's:
 *
 *   pool->mutex    states and lists of items and waiters, how many are being opened
 *   limit->mutex   places under a limit, the FIFO of pools that want one
 *
 * What one side wants from the other is noted while a mutex is held and done after it was let go:
 * owners are told (pool_leave), places are handed over to pools, which are then summoned
 * (summons_run) to look at what they got (pool_settle).
 */
#ifndef PGSTAGE_POOL_INSIDE_H
#define PGSTAGE_POOL_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "pgstage/base/list.h"
#include "pgstage/base/map.h"
#include "pgstage/pool/pool.h"
#include "pgstage/pool/registry.h"

/* A waiter of the returning worker passes the oldest one if that has not waited this much longer:
 * about as long as the kernel lets another thread have the processor, for then those that look
 * oldest are those of the thread that does not run. (1 ms: a tenth of all transactions crossed
 * between two threads on one processor; 4 ms: six in a hundred; 8 ms: no fewer.) */
#define LOCAL_FIRST_US UINT64_C(4000)
/* Which waiter of another worker leaves a returned item there for so long: the youngest, who are
 * likely to be served by items of their own worker that are answered already, in its next turn. Above
 * this age nothing lingers, so queues that are longer than this cost nothing. (Two threads on one
 * processor, 64 clients, 20 items: 7 % of the transactions crossed without it, 2 % with it.) */
#define LINGER_YOUNGER_US UINT64_C(300)
#define LINGER_US UINT64_C(100)
/* … and only in a pool of so many items for each worker. */
#define LINGER_ITEMS 2
/* A busy pool gives a server up for one that has none and was kept out by a common limit for so
 * long. */
#define YIELD_AFTER_US UINT64_C(1000000)
/* min_pool_size that a limit holds back is tried again after this time. */
#define MINIMUM_RETRY_US UINT64_C(1000000)
/* After a failure one connection at a time is tried, after a release so many; each success allows
 * one more (which doubles them with each round), up to where it is no limit any more. */
#define RAMP_RELEASED 2
#define RAMP_FULL 64
/* Connections asked for, and places wished for, in one go. */
#define OPEN_BATCH 16
#define NEVER_US UINT64_MAX
/* database, user, environment */
#define POOL_LIMITS 3

/* A worker's part of a pool, on cache lines of its own. */
struct share {
    /* shared: the pool's mutex */
    _Alignas(64) struct list idle; /* newest first */
    struct list queue;             /* QUEUED waiters, oldest first */
    struct list lingering;         /* ACTIVE, but returned: the next to borrow here gets them */
    /* written under the pool's mutex, read by any thread: idle_since_us of the oldest, or NEVER_US
     */
    _Atomic uint64_t oldest_idle_us;
    /* owner: the worker */
    _Alignas(64) struct pool_stats stats;
};

/* A pool's stand in the FIFO of a limit. */
struct limit_wait {
    /* fixed */
    struct pool *pool;
    /* shared: the limit's mutex */
    struct list_node node;
    size_t wanted;                  /* places that it wishes for; listed while not 0 */
    size_t granted;                 /* places handed over that it has not collected yet */
    struct list_node starving_node; /* listed while it waits without a single server */
    uint64_t starving_since_us;
};

/* Servers and clients of one database, user or environment. */
struct limit {
    /* fixed */
    char *key; /* for the registry's table */
    size_t key_length;
    UT_hash_handle hh;
    /* shared: the registry's mutex */
    size_t users; /* pools, clients, and calls that look at it */
    int64_t clients, max_clients;
    /* written under `mutex`, read by any thread */
    _Atomic int64_t servers, max_servers; /* 0: no limit */
    /* Since when the first of `starving` is; 0: the limit was lowered under the number of servers;
     * NEVER_US: neither. */
    _Atomic uint64_t starving_since_us;
    /* Any thread: wishes (and servers over a lowered limit) less evictions under way. Whoever
     * lowers it from above 0 (limit_claim) has to evict one item; below 0 when other places became
     * free first. */
    _Atomic int64_t need;
    pthread_mutex_t mutex;
    /* shared: mutex */
    struct list waits;    /* of struct limit_wait */
    struct list starving; /* those without any server, in the order in which they came */
    struct list pools;    /* of struct pool_member */
};

/* A pool's entry in limit->pools. */
struct pool_member {
    struct list_node node;
    struct pool *pool;
};

struct pool {
    /* fixed */
    struct registry *registry;
    const struct pool_events *events;
    uint64_t id;
    char *database, *user, *environment;
    void *attachment;
    unsigned workers;
    bool own_items;
    struct share *shares;
    struct limit *limits[POOL_LIMITS]; /* NULL: none */
    char *key;                         /* for the registry's table */
    size_t key_length;
    /* shared: the registry's mutex */
    UT_hash_handle hh;
    /* any thread */
    _Atomic int64_t refs; /* users, items and openings; below 0: being freed */
    _Atomic uint64_t generation;
    _Atomic bool summoned;
    /* whoever set `summoned` */
    struct pool *summoned_next;
    /* whoever set `settling` */
    struct limit_wait waits[POOL_LIMITS]; /* its other fields: the limit's mutex */
    int stands_in;                        /* index of the limit; -1: none */
    /* the limits' mutexes */
    struct pool_member members[POOL_LIMITS];
    pthread_mutex_t mutex;
    /* shared: mutex */
    struct pool_limits settings;
    bool paused;
    bool shut;                   /* pool_hold: idle items stay, nothing is lent or opened */
    bool settling, settle_again; /* one thread at a time settles; others leave it a note */
    bool minimum_due;            /* the next settling looks at min_pool_size too */
    size_t items, opening, obsolete, clients;
    size_t states[ITEM_DOOMED + 1]; /* items in each state */
    size_t queued;                  /* waiters in the queues */
    size_t standing;                /* wishes in a limit's FIFO … */
    int standing_in;                /* … of this one; as last settled */
    uint64_t settle_at_us;          /* the time of the latest call to settle */
    struct list held;               /* waiters PROMISED or GRANTED */
    struct list orphans;            /* RESERVED items whose waiter has gone */
    struct list untold;             /* items (by `news`) whose owner has to hear of their state */
    uint64_t retry_at_us;           /* back-off after a failed open */
    size_t ramp;                    /* opens that may be under way at a time; 0: not limited */
    uint64_t last_used_us;
    unsigned next_worker;
};

/* Pools that were handed something and have to look at it. */
struct summons {
    struct pool *first;
};

/* ---- pool.c ---- */
void pool_enter(struct pool *pool);
/* Lets the mutex go, tells owners, settles if that may change anything. */
void pool_leave(struct pool *pool, uint64_t now_us);

/* ---- control.c ---- */
/* Negative numbers become 0. */
struct pool_limits pool_limits_clean(const struct pool_limits *limits);

/* ---- item.c: under the pool's mutex ---- */
void item_set_state(struct pool *pool, struct pool_item *item, enum pool_item_state state);
void item_set_idle(struct pool *pool, struct pool_item *item, uint64_t now_us);
/* IDLE only: off its list; the caller sets the state. */
void item_unlist(struct pool *pool, struct pool_item *item);
/* To DOOMED; `told`: the owner is the caller and needs no event. */
void item_doom(struct pool *pool, struct pool_item *item, const char *why, bool told);
/* The one to lend next of this worker's, or NULL. */
struct pool_item *item_next(struct pool *pool, unsigned worker);
/* The item that has been idle longest, or NULL. */
struct pool_item *item_oldest(struct pool *pool);
/* Dooms all that are idle. */
void item_doom_idle(struct pool *pool, const char *why);
bool item_is_obsolete(const struct pool *pool, const struct pool_item *item);

/* ---- queue.c: under the pool's mutex ---- */
struct pool_waiter *queue_head(struct pool *pool);
void queue_push(struct pool *pool, struct pool_waiter *waiter, uint64_t now_us);
/* Back to its place by age: what it was promised has failed. */
void queue_put_back(struct pool *pool, struct pool_waiter *waiter);
/* Takes it out of whatever state it is in; its item, if any, becomes an orphan. */
void queue_remove(struct pool *pool, struct pool_waiter *waiter);
/* Off the FIFO: PROMISED or GRANTED this item. */
void queue_hold(struct pool *pool, struct pool_waiter *waiter, struct pool_item *item,
                enum pool_waiter_state state);
/* Whom a returned item goes to: the oldest, or one of `worker` that is hardly younger. NULL:
 * nobody. */
struct pool_waiter *queue_choose(struct pool *pool, unsigned worker);
/* Reserves idle items for the heads of the FIFO. */
void queue_match(struct pool *pool);

/* ---- settle.c ---- */
/* Under the pool's mutex: is something to be opened, or a wish in a limit's FIFO out of date? */
bool pool_is_unsettled(struct pool *pool, uint64_t now_us);
void pool_settle(struct pool *pool, uint64_t now_us, struct summons *summons);
void summons_add(struct summons *summons, struct pool *pool);
void summons_run(struct summons *summons, uint64_t now_us);
/* A place under all limits of the pool is free; it made room in `evictor` (may be NULL). */
void pool_release_place(struct pool *pool, struct limit *evictor, uint64_t now_us,
                        struct summons *summons);
/* Dooms the oldest idle item to make room in `limit`; false: there was none. */
bool pool_evict(struct pool *pool, struct limit *limit, uint64_t now_us);

/* ---- limit.c ---- */
struct limit *limit_new(char *key, size_t key_length);
void limit_free(struct limit *limit);
void limit_join(struct limit *limit, struct pool_member *member);
void limit_part(struct limit *limit, struct pool_member *member);
/* A place at once, or false: it is full, or others wait. */
bool limit_reserve(struct limit *limit);
/* A place is free: it goes to the first that waits. `evicted`: a claim is fulfilled. */
void limit_release(struct limit *limit, bool evicted, uint64_t now_us, struct summons *summons);
/* Wishes for `wanted` places (not 0) from now on; `starving`: and has no server at all. False: a
 * place is free or granted; nothing is changed. */
bool limit_stand(struct limit *limit, struct limit_wait *wait, size_t wanted, bool starving,
                 uint64_t now_us);
/* The places that were handed over: the caller's now. */
size_t limit_collect(struct limit *limit, struct limit_wait *wait);
/* Wishes for none any more; and collects. */
size_t limit_withdraw(struct limit *limit, struct limit_wait *wait);
void limit_set_max(struct limit *limit, int64_t max_servers, uint64_t now_us,
                   struct summons *summons);
/* Evicts one idle item for each wish that has none yet, as long as there are idle ones. */
void limit_evict(struct limit *limit, uint64_t now_us);
/* A right and duty to evict one item for this limit; false: none is needed. */
bool limit_claim(struct limit *limit);

/* ---- registry.c ---- */
struct registry {
    /* fixed */
    unsigned workers;
    struct registry_events events;
    /* any thread */
    _Atomic uint64_t next_item_id;
    _Atomic int64_t clients, max_clients;
    pthread_mutex_t mutex;
    /* shared: mutex */
    struct pool *pools;   /* table */
    struct limit *limits; /* table */
    struct switches *paused, *disabled;
    struct list walks; /* through `pools`, which are under way */
    uint64_t next_pool_id;
};

#define LIMIT_DATABASE 'd'
#define LIMIT_USER 'u'
#define LIMIT_ENVIRONMENT 'e'
/* Under the registry's mutex: the limit, made if `make` and there is none. */
struct limit *registry_limit(struct registry *registry, char kind, const char *name,
                             const char *environment, bool make);
/* Under the registry's mutex: one user less; frees it when it is of no use any more. */
void registry_drop_limit(struct registry *registry, struct limit *limit);
bool pool_try_ref(struct pool *pool);
uint64_t registry_next_item_id(struct registry *registry);
/* The bytes of a table's key: the kind and up to three names, NULL and "" being different. */
char *registry_key(char kind, const char *a, const char *b, const char *c, size_t *length);

/* ---- switches.c: what is on or off for databases, under the registry's mutex ---- */
struct switches *switches_new(void);
void switches_free(struct switches *switches);
/* The latest word counts: for one database of one environment, a name in all (environment NULL), or
 * everything (database NULL). */
void switches_set(struct switches *switches, const char *database, const char *environment,
                  bool on);
bool switches_get(const struct switches *switches, const char *database, const char *environment);

#endif
