/*
 * outgoing: the pieces of one gathered write to a server, where messages are rewritten on the way.
 *
 * Pieces point into the buffer that was read, into texts of the statement cache, or into `scratch`,
 * where the few bytes that are new are put. A worker has one, made on first use; it is filled and
 * written within one pass over a client's bytes. The worker's thread only.
 */
#ifndef PGSTAGE_SESSION_OUTGOING_H
#define PGSTAGE_SESSION_OUTGOING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define OUTGOING_PIECES 64
#define OUTGOING_SCRATCH_BYTES 4096
/* What one message may need at most. */
#define OUTGOING_MESSAGE_PIECES 16
#define OUTGOING_MESSAGE_BYTES 640

struct outgoing {
    /* owner */
    int count;
    size_t bytes; /* of all pieces */
    size_t used;  /* of scratch */
    bool urgent; /* a piece will not stay where it is: to be written before anything else is done */
    struct iovec pieces[OUTGOING_PIECES];
    uint8_t scratch[OUTGOING_SCRATCH_BYTES];
};

/* Is there room for whatever one message needs? Else it is to be written first. */
static inline bool outgoing_has_room(const struct outgoing *out)
{
    return out->count + OUTGOING_MESSAGE_PIECES <= OUTGOING_PIECES &&
           out->used + OUTGOING_MESSAGE_BYTES <= OUTGOING_SCRATCH_BYTES;
}
static inline void outgoing_clear(struct outgoing *out)
{
    out->count = 0;
    out->used = out->bytes = 0;
    out->urgent = false;
}
/* Adds bytes that stay where they are until the write. */
void outgoing_add(struct outgoing *out, const void *bytes, size_t count);
/* Adds a copy. */
void outgoing_copy(struct outgoing *out, const void *bytes, size_t count);
/* Adds a header: `body_bytes` is what follows it. */
void outgoing_header(struct outgoing *out, uint8_t type, size_t body_bytes);

#endif
