/*
 * kinds: what tables/messages.def says about a message type, found by its byte. Pure; any thread.
 */
#ifndef PGSTAGE_WIRE_KINDS_H
#define PGSTAGE_WIRE_KINDS_H

#include <stdint.h>

/* Who sends the message. */
enum kind_direction { KIND_CLIENT, KIND_SERVER };

/* What the relay does with it; tables/messages.def explains each. */
enum kind_relay {
    KIND_REFUSE, /* 0, so that bytes without a row are refused */
    KIND_FORWARD,
    KIND_ANSWER,
    KIND_INSPECT,
    KIND_MARK,
    KIND_LOCAL,
};

struct kind {
    const char *name; /* NULL: there is no such message in this direction */
    enum kind_relay relay;
};

/* One row for each byte, by direction. */
extern const struct kind kind_table[2][256];

/* Never NULL. */
static inline const struct kind *kind_find(enum kind_direction direction, uint8_t type)
{
    return &kind_table[direction][type];
}

/* For logs: "unknown" when there is no such message. */
const char *kind_name(enum kind_direction direction, uint8_t type);

#endif
