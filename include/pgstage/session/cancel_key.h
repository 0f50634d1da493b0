/*
 * cancel_key: the keys that clients cancel their queries with.
 *
 *   process id: 0 1 worker(10) slot(20)        secret: 4 bytes in protocol 3.0, 32 in 3.2
 *
 * The process id leads to worker and slot at once; the first four bytes of the secret are the
 * client's own, the others are made from them and from a secret of this process, so that no client
 * has to keep them. The client's worker.
 */
#ifndef PGSTAGE_SESSION_CANCEL_KEY_H
#define PGSTAGE_SESSION_CANCEL_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/buffer.h"

struct client;
struct plane;
struct worker;

#define CANCEL_SECRET_LONG_BYTES 32

/* A key as its owner was told it. */
struct cancel_key {
    uint32_t pid;
    uint32_t secret_bytes;
    uint8_t secret[CANCEL_SECRET_LONG_BYTES];
};

/* BackendKeyData with the client's key, long if it speaks protocol 3.2. */
void cancel_key_tell(struct client *client, struct buffer *out);
/* A key that came in a CancelRequest; false: we tell no keys of that length. */
bool cancel_key_read(struct cancel_key *key, uint32_t pid, const uint8_t *secret, size_t length);
/* The worker that the key's client would be on; false: there is none. */
bool cancel_key_worker(const struct cancel_key *key, const struct plane *plane, unsigned *worker);
/* The client of this worker whose key it is, or NULL. */
struct client *cancel_key_client(const struct cancel_key *key, struct worker *worker);

#endif
