/*
 * cancel_key: the keys that clients cancel their queries with.
 *
 *              byte 0      1     2      3       4 5 6 7                          8 … 35
 *   alone      01 worker(10) slot(20)           random(32)                       derived (3.2 only)
 *   peers      worker(8)   peer's id  random(8) random(30) hops left(2)          derived (3.2 only)
 *              └───────── process id ────────┘  └─────────── secret ──────────────────────────────┘
 *
 * Alone, the process id leads to worker and slot at once. With `peer_id`, the first eight bytes are
 * laid out as PgBouncer lays its keys out, so that it can be a peer; the random bits are looked up.
 * Protocol 3.0 has 4 bytes of secret. 3.2 has 32 here: the others are made from a secret of this
 * process, so that no client has to keep them.
 */
#ifndef PGSTAGE_SESSION_CANCEL_KEY_H
#define PGSTAGE_SESSION_CANCEL_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/buffer.h"

struct client;
struct worker;

#define CANCEL_SECRET_LONG_BYTES 32

/* A key as its owner was told it. */
struct cancel_key {
    uint32_t pid;
    uint32_t secret_bytes;
    uint8_t secret[CANCEL_SECRET_LONG_BYTES];
};

/* BackendKeyData with the client's key, long if it speaks protocol 3.2; once for each client. Its
 * worker's thread. */
void cancel_key_tell(struct client *client, struct buffer *out);
/* The client ends: its key is nobody's. */
void cancel_key_forget(struct client *client);

/* A key that came in a CancelRequest; false: we tell no keys of that length. */
bool cancel_key_read(struct cancel_key *key, uint32_t pid, const uint8_t *secret, size_t length)
    __attribute__((warn_unused_result));
/* The number of the peer that told it, where peers are configured. */
int64_t cancel_key_peer(const struct cancel_key *key);
/* It is passed on to another peer: counts that in the key. False: that has been done too often. */
bool cancel_key_hop(struct cancel_key *key) __attribute__((warn_unused_result));
/* The worker that the key's client would be on; false: there is none. Asked on any worker. */
bool cancel_key_worker(const struct cancel_key *key, const struct worker *asked, unsigned *worker)
    __attribute__((warn_unused_result));
/* The client of this worker whose key it is, or NULL. */
struct client *cancel_key_client(const struct cancel_key *key, struct worker *worker);

#endif
