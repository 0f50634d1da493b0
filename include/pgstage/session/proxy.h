/*
 * proxy: clients that come through a load balancer which tells their address. The client's worker.
 */
#ifndef PGSTAGE_SESSION_PROXY_H
#define PGSTAGE_SESSION_PROXY_H

#include "pgstage/session/client.h"

/* Before anything else on a connection: reads the PROXY header where the listener asks for one, and
 * not a byte more. True: there was one, or none is wanted; client->address is the client's. False:
 * more of it has to come, or the client has ended. */
bool proxy_header_read(struct client *client, const struct listener_config *listener);

#endif
