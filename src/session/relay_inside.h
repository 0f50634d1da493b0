/*
 * relay_inside: what the two directions of the relay share. For relay_client.c and relay_server.c.
 */
#ifndef PGSTAGE_SESSION_RELAY_INSIDE_H
#define PGSTAGE_SESSION_RELAY_INSIDE_H

#include "pgstage/session/client.h"
#include "pgstage/session/server.h"

/* ParseComplete of what the server was not even asked. */
static const uint8_t relay_parse_complete[] = {'1', 0, 0, 0, 4};

/* What this worker has counted for the client's pool. */
static inline struct pool_stats *relay_stats(const struct client *client)
{
    return client->share->stats;
}

/* Sends the fence that is due behind what was just sent (see transaction.c). */
void relay_fence(struct server *server);

#endif
