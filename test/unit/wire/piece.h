/*
 * piece: bytes in an allocation of exactly their size, so that AddressSanitizer sees one read too
 * many. Free with free(3).
 */
#ifndef PGSTAGE_TEST_WIRE_PIECE_H
#define PGSTAGE_TEST_WIRE_PIECE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static inline uint8_t *piece_of(const void *bytes, size_t length)
{
    uint8_t *piece = malloc(length ? length : 1);
    if (!piece)
        abort();
    if (length > 0)
        memcpy(piece, bytes, length);
    return piece;
}

#endif
