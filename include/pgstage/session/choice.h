/*
 * choice: which host a new server connection goes to, and whether a server may go on serving its
 * pool: target_session_attrs and load_balance_hosts before what the control plane says of hosts.
 *
 * Room-internal. A worker's thread.
 */
#ifndef PGSTAGE_SESSION_CHOICE_H
#define PGSTAGE_SESSION_CHOICE_H

#include "pgstage/session/server.h"

/* How well a host suits a pool, by what is known of it: the lower the better. */
enum choice_rank {
    CHOICE_WANTED,   /* has the role */
    CHOICE_POSSIBLE, /* may have it: a login finds out */
    CHOICE_FALLBACK, /* serves when no better one does */
    CHOICE_NONE,     /* not to be used */
};
/* `target` is one of enum target_session_attrs; the breaker is not looked at. Pure. */
enum choice_rank choice_rank(int target, const struct standing *standing);

/* The host to connect to now, used once for the caller (host_unuse); else NULL and when to look
 * again. */
struct host *choice_pick(struct share *share, uint64_t now_us, uint64_t *retry_at_us)
    __attribute__((warn_unused_result));
/* The same for connections of pgstage's own, whatever the role: a host that may be used for
 * anything at all. Any thread. */
struct host *choice_pick_any(const struct meaning *meaning, uint64_t now_us, uint64_t *retry_at_us)
    __attribute__((warn_unused_result));
/* Is a host still one that choice_pick_any would give? Any thread. */
bool choice_takes_any(const struct host *host);
/* Must a login find out the role, because the pool asks for one? */
bool choice_needs_role(const struct server *server);
/* A login has found the host in (or out of) recovery: does that serve the pool? False: the host is
 * left alone for a moment by those that want what this pool wants. */
bool choice_takes_role(struct server *server, bool in_recovery, uint64_t now_us);
/* Is it still allowed what the pool wants of it? What was said since its login began counts. */
bool choice_allows(const struct server *server);
/* May this server go on serving, by what is known of its host now? */
bool choice_fits(const struct server *server);
/* Does the control plane know of every host of the pool that it takes no writes? */
bool choice_knows_no_primary(const struct share *share);
/* Does the pool want the primary only? */
bool choice_wants_primary(const struct effective *effective);

#endif
