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

#include "pgstage/pool/pool.h"
#include "pgstage/session/again.h"
#include "pgstage/session/loss.h"
#include "pgstage/session/recall.h"

struct client;
struct parameters;
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

/* The client asks for a server; harmless when it has an exchange already. */
void exchange_begin(struct client *client);
/* The client may have become idle: if there is nothing left of its exchange, the block goes back.
 * It has one. */
void exchange_end(struct client *client);
/* The client's memory goes: so does this, if there is one. */
void exchange_free(struct client *client);

#endif
