/*
 * watch: what monitoring levels above basic count of queries: histograms of each pool, figures of
 * users and hosts, the slow-query log. The worker's thread, except what says otherwise.
 *
 * A share at level basic has no watch, and then none of this is called.
 */
#ifndef PGSTAGE_SESSION_WATCH_H
#define PGSTAGE_SESSION_WATCH_H

#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/counter.h"
#include "pgstage/base/map.h"
#include "pgstage/session/worker.h"

struct client;
struct server;
struct share;

/* Four buckets for each power of two: the bounds are at most 25 % apart. The last is open. */
#define HISTOGRAM_BUCKETS 136
/* Of a statement's text, what is kept. */
#define STATEMENT_MAX_BYTES 1024

struct histogram {
    struct counter buckets[HISTOGRAM_BUCKETS];
};

/* One worker's, of one pool. One writer; any thread reads. */
struct watch {
    int level; /* enum monitoring; the worker's thread */
    struct histogram histograms[WATCH_KINDS];
};

/* Of one user or host in one environment. One writer. */
struct figures {
    /* fixed */
    unsigned worker;
    char *key, *name, *environment; /* environment NULL: none */
    /* owner */
    struct counter of[FIGURE_COUNT];
    UT_hash_handle hh;
};

/* The beginning of the statement that a client runs. */
struct statement_head {
    size_t bytes, total_bytes;
    char text[STATEMENT_MAX_BYTES];
};

/* Which bucket counts so many microseconds, and the most that a bucket counts. Pure. */
unsigned histogram_bucket(uint64_t us);
uint64_t histogram_bound_us(unsigned bucket);

/* The share has other settings. */
void watch_refresh(struct share *share);
/* A client was given a server after this time. */
void watch_waited(struct client *client, struct server *server, uint64_t wait_us);
/* A query or batch begins. */
void watch_began(struct client *client);
/* A Query ('Q'), Parse ('P') or FunctionCall ('F') of it, the first bytes of its body. */
void watch_statement(struct client *client, uint8_t type, const uint8_t *body, size_t there,
                     size_t total);
/* The query or batch is answered; `is_over`: so is the transaction. */
void watch_ended(struct client *client, struct server *server, uint64_t query_us,
                 uint64_t transaction_us, bool is_over);
/* Frees a worker's figures; its thread has ended. */
void watch_forget(struct worker *worker);

#endif
