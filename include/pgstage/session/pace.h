/*
 * pace: how many server connections of one environment are opened at a time just after its servers
 * have come back.
 *
 * Each pool feels its way by itself (pool/settle.c), but with fifty of them their first steps
 * together are a stampede. So for a while after a release all pools of the environment share a few
 * openings; each that succeeds allows one more, and what is held back goes first in, first out. At
 * other times nothing is held back. Any thread, under a mutex of its own.
 */
#ifndef PGSTAGE_SESSION_PACE_H
#define PGSTAGE_SESSION_PACE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/list.h"

struct pool;

/* Openings at a time after a release, and so many that it is no limit any more. */
#define PACE_FIRST 4
#define PACE_FULL 64

struct pace {
    /* shared: mutex */
    pthread_mutex_t mutex;
    size_t running;    /* openings under way */
    size_t most;       /* … and how many may be; 0: any number */
    uint64_t until_us; /* that `most` holds */
    struct list queue; /* openings that wait for others to end */
};

/* An opening that a pool has asked for. It counts as being opened there, so the pool stays. */
struct pace_order {
    struct list_node node;
    struct pool *pool;
    unsigned worker;
};

void pace_init(struct pace *pace);
void pace_fini(struct pace *pace);
/* Servers have come back: slowly for a while. */
void pace_slow(struct pace *pace, uint64_t now_us);
/* May this opening begin at once? False: it waits, and a pace_end will give it back. */
bool pace_begin(struct pace *pace, struct pool *pool, unsigned worker, uint64_t now_us)
    __attribute__((warn_unused_result));
/* One that had begun is over. Puts those that may begin now into `orders` (struct pace_order, to be
 * freed by the caller); NULL: none begins any more. */
void pace_end(struct pace *pace, bool opened, uint64_t now_us, struct list *orders);
/* Everything that waits is given back: nothing will end any more. */
void pace_flush(struct pace *pace, struct list *orders);

#endif
