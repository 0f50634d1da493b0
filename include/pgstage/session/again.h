/*
 * again: a batch that is sent again because a statement's result has changed.
 *
 * After DDL, PostgreSQL refuses a prepared statement whose result has other columns now (0A000, in
 * Bind or Describe). Where that is the first answer to the first batch of a transaction, nothing
 * has been done and nothing was heard: the batch is given to the server once more, which parses the
 * statement anew. Only a batch with a Describe is: else the client would take the new columns for
 * those it knows. The worker's thread only.
 */
#ifndef PGSTAGE_SESSION_AGAIN_H
#define PGSTAGE_SESSION_AGAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client;

/* Longer batches are not kept. */
#define AGAIN_BATCH_BYTES 4096
/* Most are no longer than this, and are kept without an allocation. */
#define AGAIN_ROOM_BYTES 256

/* Zeroed is empty; `room` need not be. */
struct again {
    /* owner: the batch as the client sent it */
    uint8_t *longer;   /* one that does not fit into `room` */
    uint32_t count;    /* its bytes; 0: none that could be sent again */
    uint32_t capacity; /* of `longer` */
    uint32_t owed;     /* entries with answers for the client when its Sync was asked */
    bool used;         /* it has just been sent again */
    uint64_t links;    /* the client's time with its server */
    uint8_t room[AGAIN_ROOM_BYTES];
};

/* A batch of these bytes, which begins with the use of a named statement outside a transaction, has
 * been asked up to its Sync. `describes`: a Describe is in it. */
void again_keep(struct client *client, const uint8_t *bytes, size_t count, bool describes);
/* The server answers with 0A000: true, the batch stands in client->held again, and neither this
 * answer nor that to its Sync is the client's. Before the transaction is told. */
bool again_try(struct client *client);
void again_fini(struct again *again);
/* What is kept will not be sent again. */
static inline void again_drop(struct again *again)
{
    again->count = 0;
    again->used = false;
}

#endif
