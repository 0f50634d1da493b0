/*
 * relay: moves messages between a client and its server. The worker's thread only.
 */
#ifndef PGSTAGE_SESSION_RELAY_H
#define PGSTAGE_SESSION_RELAY_H

struct client;
struct server;

/* Reads from a logged-in client (unless bytes are held that may go now) and passes on what can be.
 */
void relay_client(struct client *client);
/* Reads from a server that is past its login: passes on, swallows, or closes in doubt. */
void relay_server(struct server *server);

#endif
