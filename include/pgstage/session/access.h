/*
 * access: what an environment demands of a client, beyond who it is.
 */
#ifndef PGSTAGE_SESSION_ACCESS_H
#define PGSTAGE_SESSION_ACCESS_H

#include <stdbool.h>

#include "pgstage/session/client.h"

/* May this client, which has proved who it is, be in the environment (NULL: none)? False: it has
 * been told so, no more than that it may not, and the log says why. The client's worker. */
bool access_check(struct client *client, const struct environment_config *environment);
/* Tells the registry the limits of one user, over all databases. Any thread. */
void access_limit_user(struct registry *registry, const struct snapshot *snapshot,
                       const char *user);
/* The limits of a pool's database and of its login on the servers. Any thread. */
void access_limit_pool(struct registry *registry, const struct pool_key *key,
                       const struct effective *effective);
/* Tells the registry what the environments of `new` share out among their pools; those that only
 * `old` (NULL: none) had are not limited any more. Control thread. */
void access_limit_environments(struct registry *registry, const struct snapshot *old,
                               const struct snapshot *new);

#endif
