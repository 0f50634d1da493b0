/*
 * exchange: what a client needs only from its question to the answer.
 *
 *   IDLE ── client_borrow ─► exchange_begin … WAITING, ACTIVE … ─► exchange_end ── IDLE
 *
 * Nearly all of tens of thousands of clients are idle at any moment, so what they have no use for
 * then lies in a block of its worker's slab. A client has one from when it first asks for a server
 * until it has none and nothing is left to be told or done: one whose server was lost keeps it in
 * the transaction that is made up for it (loss.h). What must outlive the answer is in struct
 * client. The worker's thread only.
 */
#ifndef PGSTAGE_SESSION_EXCHANGE_H
#define PGSTAGE_SESSION_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "pgstage/base/check.h"
#include "pgstage/base/slab.h"
#include "pgstage/pool/pool.h"
#include "pgstage/session/again.h"
#include "pgstage/session/client.h"
#include "pgstage/session/loss.h"
#include "pgstage/session/recall.h"

struct statement_head;

struct exchange {
    struct pool_waiter waiter;
    /* fixed */
    struct client *client;
    /* owner */
    uint64_t transaction_us; /* monotonic: when its transaction began */
    uint64_t waited_us;      /* for its server, until the first query is over */
    struct recall recall;
    /* One of those below is in use, or may be: each has to be looked at when the exchange ends. Most
     * exchanges touch none of them. */
    bool marked;
    bool changes;                     /* its transaction has changed the client's parameters … */
    struct parameters *before;        /* … which were these */
    struct loss loss;                 /* what it is told in the place of a server */
    struct statement_head *statement; /* of the query it runs, where slow ones are logged */
    struct again again;               /* the batch that may be sent again; `longer` only */
};

/* For exchange_free: one that is marked is made as clean as a new one. */
void exchange_clear(struct client *client);

/* The client asks for a server; harmless when it has an exchange already. */
static inline void exchange_begin(struct client *client)
{
    struct worker *worker = client->worker;
    struct exchange *exchange = client->exchange;

    if (exchange)
        return;
    client->exchange = exchange = slab_take(&worker->exchanges);
    exchange->waiter.id = client->id;
    exchange->waiter.worker = worker->index;
    exchange->client = client;
    exchange->waited_us = 0;
}

/* Gives the block back, as when the client's memory goes; harmless when it has none. */
static inline void exchange_free(struct client *client)
{
    struct exchange *exchange = client->exchange;

    if (!exchange)
        return;
    check(exchange->waiter.state == WAITER_IDLE);
    if (exchange->marked)
        exchange_clear(client);
    exchange->recall = (struct recall){0};
    again_drop(&exchange->again);
    client->exchange = NULL;
    slab_give(&client->worker->exchanges, exchange);
}

/* The client, which has one, may have become idle: if nothing is left of its exchange, the block
 * goes back. */
static inline void exchange_end(struct client *client)
{
    const struct exchange *exchange = client->exchange;

    if (client->state != CLIENT_IDLE || client->server || client->held_bytes)
        return;
    if (exchange->marked && (loss_is_busy(&exchange->loss) || exchange->loss.cut))
        return;
    exchange_free(client);
}

#endif
