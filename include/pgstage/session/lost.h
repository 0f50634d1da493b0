/*
 * lost: a linked server has gone. Whether its client stays, and what it is told (loss.h says it in
 * protocol messages). The worker's thread.
 */
#ifndef PGSTAGE_SESSION_LOST_H
#define PGSTAGE_SESSION_LOST_H

#include <stdbool.h>

#include "pgstage/session/reason.h"

struct client;
struct server;

/* Does the client of this server stay when the server is lost, and is told errors? False in session
 * mode, for a client that is pinned, and with server_lost_action = disconnect. */
bool lost_is_told(const struct server *server);
/* The server was closed and unlinked from this client, for this reason. `untouched`: it had not
 * been sent anything of the client's. `cut`: the client has had the beginning of a message whose
 * end will not come. */
void lost_server(struct server *server, struct client *client, enum reason reason, bool untouched,
                 bool cut);

#endif
