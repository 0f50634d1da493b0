/*
 * failures: failed logins of each address, and what follows from them: answers come later and
 * later, and then the address is refused for a while.
 *
 * One table for all workers, under a mutex of its own; it holds a bounded number of addresses and
 * forgets the one that has been quiet for longest. Unix sockets are never counted, loopback only
 * with `login_failures_loopback`. An IPv6 network of 64 bits counts as one address: whoever has one
 * has all. Limits come with each call, from the configuration that the login stands under. Any
 * thread.
 */
#ifndef PGSTAGE_SESSION_FAILURES_H
#define PGSTAGE_SESSION_FAILURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/conf/settings.h"
#include "pgstage/net/address.h"
#include "pgstage/session/plane.h"

struct failures;

struct failures *failures_new(size_t addresses_max) __attribute__((warn_unused_result));
/* NULL is nothing. */
void failures_free(struct failures *failures);
/* Is the address refused at present? Then this attempt has been counted as a refusal. */
bool failures_refuse(struct failures *failures, const struct settings *settings,
                     const struct address *address, uint64_t now_us);
/* Counts a failed login and gives how long its answer has to wait (0: not at all). `*refused` says
 * that the address is refused from now on. */
uint64_t failures_count(struct failures *failures, const struct settings *settings,
                        const struct address *address, uint64_t now_us, bool *refused);
void failures_totals(struct failures *failures, uint64_t now_us, struct login_totals *totals);

#endif
