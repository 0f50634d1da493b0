/*
 * stage: a registry whose events are written down, and short words for what workers do.
 *
 * Single-threaded. Time is a number that a test moves. A server is an item in memory; whatever the
 * pool asks for waits in `notes` until the test looks.
 */
#ifndef PGSTAGE_TEST_POOL_STAGE_H
#define PGSTAGE_TEST_POOL_STAGE_H

#include <criterion/criterion.h>

#include "pgstage/base/clock.h"
#include "pgstage/pool/pool.h"
#include "pgstage/pool/registry.h"

enum note_kind { NOTE_NONE, NOTE_OPEN, NOTE_RECLAIM, NOTE_DOOM, NOTE_DRAINED };

struct note {
    enum note_kind kind;
    struct pool *pool;
    unsigned worker;
    uint64_t item_id;
    const char *why;
};

#define NOTES 4096
extern struct note notes[NOTES];
extern size_t note_count;
extern uint64_t now_us;
extern struct registry *registry;

void stage_start(unsigned workers);
/* Everything must have been closed and unreferenced. */
void stage_end(void);

/* A pool under `database`, `user` and `environment` (NULL: none). */
struct pool *stage_pool(const char *database, const char *user, const char *environment,
                        const struct pool_limits *limits);
#define pool_of_size(size)                                                                         \
    stage_pool("app", "alice", NULL, &(struct pool_limits){.pool_size = size})

/* Takes the oldest note of this kind out (of this pool, unless NULL); kind NOTE_NONE: there is
 * none. */
struct note note_take(enum note_kind kind, struct pool *pool);
size_t notes_of(enum note_kind kind);

struct pool_item *server_of(uint64_t item_id);
/* Answers one open of the pool: a server for nobody, or what became of it. */
struct pool_item *server_open(struct pool *pool, enum pool_outcome *outcome,
                              struct pool_grant *grant);
/* A server that is idle on this worker: a client asks for it, gets it, and returns it. */
struct pool_item *server_idle(struct pool *pool, unsigned worker);
/* A server in use on this worker. */
struct pool_item *server_active(struct pool *pool, unsigned worker);
enum pool_outcome server_return(struct pool_item *item, struct pool_grant *grant);
/* The connection is closed: out of the pool and freed. */
void server_close(struct pool_item *item);
/* Closes what the pool has doomed; returns how many. */
size_t close_doomed(void);
/* The owner of the next reclaimed item surrenders it. */
struct pool_item *server_surrender(enum pool_outcome *outcome, struct pool_grant *grant);
/* Ends all clients and servers of the stage that are left, then stage_end. */
void stage_clear(void);

/* A waiter of this worker with an id of its own. */
struct pool_waiter client_of(unsigned worker);
/* It leaves the stage's first pool. */
void stage_forget(struct pool_waiter *waiter);
struct pool_counts counts_of(struct pool *pool);

#endif
