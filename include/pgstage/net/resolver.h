/*
 * resolver: names to addresses with getaddrinfo on offload threads.
 *
 * Look-ups of one name are coalesced; answers are kept for dns_max_ttl, failures for
 * dns_nxdomain_ttl, and a failure after a good answer gives the old answer. Shared by all loops: a
 * mutex inside, never held over a look-up or a callback.
 */
#ifndef PGSTAGE_NET_RESOLVER_H
#define PGSTAGE_NET_RESOLVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/net/address.h"

struct loop;
struct resolver;

#define RESOLVER_ADDRESSES_MAX 16

struct resolver_answer {
    size_t count; /* 0: it failed */
    struct address addresses[RESOLVER_ADDRESSES_MAX];
    char problem[128];
};

/* Embedded by whoever asks; one question at a time. */
struct resolver_query {
    uint64_t ticket; /* resolver's; 0: nothing asked */
    void (*answered)(struct loop *loop, struct resolver_query *query,
                     const struct resolver_answer *answer);
};

struct resolver *resolver_new(uint64_t ttl_us, uint64_t failure_ttl_us)
    __attribute__((warn_unused_result));
/* When the process is about to end, before the loops that asked are freed: nobody hears anything any
 * more, and look-ups that a name service does not answer within `wait_ms` are left to themselves. */
void resolver_stop(struct resolver *resolver, unsigned wait_ms);
/* Stops it too, if that was not done, and waits for look-ups that run. */
void resolver_free(struct resolver *resolver);
void resolver_set_ttl(struct resolver *resolver, uint64_t ttl_us, uint64_t failure_ttl_us);
/* An answer from the cache (or a numeric address) is given at once: true and `answer` filled.
 * Otherwise false, and `query->answered` runs later on `loop` (its own thread). */
bool resolver_ask(struct resolver *resolver, struct loop *loop, struct resolver_query *query,
                  const char *name, uint16_t port, struct resolver_answer *answer);
/* The query will not be answered. Its loop's thread. */
void resolver_cancel(struct resolver *resolver, struct loop *loop, struct resolver_query *query);
/* For SHOW DNS_HOSTS: calls `row` for each name with a copy of its answer, no lock held. */
void resolver_each(struct resolver *resolver,
                   void (*row)(void *argument, const char *name, uint64_t ttl_us,
                               const struct resolver_answer *answer),
                   void *argument);
/* Counts for SHOW LISTS: names kept, look-ups queued or running. */
void resolver_counts(struct resolver *resolver, size_t *names, size_t *pending);

#endif
