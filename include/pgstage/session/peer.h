/*
 * peer: the other processes behind the same address ([peers]), and the cancel requests that are
 * passed on to them.
 *
 * A request reaches any of these processes; its key names the one whose client it is (cancel_key).
 * All requests for one peer are carried by one worker, so that their number is exact.
 */
#ifndef PGSTAGE_SESSION_PEER_H
#define PGSTAGE_SESSION_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "pgstage/session/cancel_key.h"

struct loop;
struct plane;
struct worker;

/* The worker that carries requests for this peer. Any thread. */
unsigned peer_worker(const struct plane *plane, int64_t peer_id);
/* Is the peer in the worker's configuration? */
bool peer_is_known(const struct worker *worker, int64_t peer_id);
/* Passes the request on, at once or when one of the peer's connections is free; `requester_id`
 * (see cancel_tell) is told when the peer has closed the connection. False: it is not passed on
 * (unknown peer, too many wait). On the worker of peer_worker. */
bool peer_forward(struct worker *worker, int64_t peer_id, const struct cancel_key *key,
                  uint64_t requester_id) __attribute__((warn_unused_result));
/* Gives up everything on this worker (it ends). */
void peer_abort_all(struct worker *worker);

#endif
