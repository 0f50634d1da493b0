/*
 * dial: the addresses that a name means, one after the other, for whoever connects there.
 *
 *   dial_begin ─► asks the resolver ─► ready ─► dial_next ─► connect ─► failed: dial_next …
 *        └──── known already: true ──────────────┘
 *
 * Embedded by its owner, on one loop's thread. How a connection is made, and until when all of it
 * must be done, is the owner's: what comes after connecting stands under the same deadline.
 */
#ifndef PGSTAGE_NET_DIAL_H
#define PGSTAGE_NET_DIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "pgstage/net/resolver.h"

struct dial {
    /* fixed */
    struct loop *loop;
    struct resolver *resolver;
    void (*ready)(struct dial *dial);
    /* owner */
    struct resolver_query query;
    struct resolver_answer answer;
    size_t next; /* in the answer's addresses */
};

/* `ready`: see dial_begin. */
void dial_init(struct dial *dial, struct loop *loop, struct resolver *resolver,
               void (*ready)(struct dial *dial));
/* Finds the addresses of a name, a numeric address, or a Unix socket's folder ("/…", or "@…", an
 * abstract one). True: that is done, also when there are none. False: `ready` is called by the loop
 * when it is. */
bool dial_begin(struct dial *dial, const char *name, uint16_t port)
    __attribute__((warn_unused_result));
/* The next address to try, which lives as long as the dial; NULL: there is none any more. */
const struct address *dial_next(struct dial *dial);
/* Would dial_next give one? */
bool dial_has_next(const struct dial *dial);
/* dial_next gives the last address once more. */
void dial_again(struct dial *dial);
/* Why the name has no address at all; NULL: it has one. */
const char *dial_problem(const struct dial *dial);
/* `ready` is not called any more. Harmless when the dial was never begun. */
void dial_end(struct dial *dial);

#endif
