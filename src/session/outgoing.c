/*
 * outgoing.c: pieces of a gathered write. Neighbouring pieces become one.
 */
#include "pgstage/session/outgoing.h"

#include <string.h>

#include "pgstage/base/check.h"

void outgoing_add(struct outgoing *out, const void *bytes, size_t count)
{
    struct iovec *last = out->count ? &out->pieces[out->count - 1] : NULL;

    if (count == 0)
        return;
    out->bytes += count;
    if (last && (const uint8_t *)last->iov_base + last->iov_len == bytes) {
        last->iov_len += count;
        return;
    }
    check(out->count < OUTGOING_PIECES);
    out->pieces[out->count++] = (struct iovec){(void *)bytes, count};
}

void outgoing_copy(struct outgoing *out, const void *bytes, size_t count)
{
    uint8_t *target = out->scratch + out->used;

    check(count <= OUTGOING_SCRATCH_BYTES - out->used);
    memcpy(target, bytes, count);
    out->used += count;
    outgoing_add(out, target, count);
}

void outgoing_header(struct outgoing *out, uint8_t type, size_t body_bytes)
{
    uint32_t length = (uint32_t)(body_bytes + 4);
    const uint8_t header[] = {type, (uint8_t)(length >> 24), (uint8_t)(length >> 16),
                              (uint8_t)(length >> 8), (uint8_t)length};

    outgoing_copy(out, header, sizeof(header));
}
