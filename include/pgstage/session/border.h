/*
 * border: hosts of production classes, known by what they turn out to be (address, system
 * identifier), which no connection may reach under other rules. What the configuration says is
 * looked at when it is loaded (conf/guard.c); here is what is only known later.
 *
 * Room-internal, but for plane_know_host.
 */
#ifndef PGSTAGE_SESSION_BORDER_H
#define PGSTAGE_SESSION_BORDER_H

#include "pgstage/session/server.h"

struct border;

struct border *border_new(void);
void border_free(struct border *border);
/* The environments' classes have changed: looks at everything anew. Control thread. */
void border_load(struct plane *plane);

/* May this server connect to its `address`? A server of production makes the address known, and
 * those that are there under other rules are closed. False: it may not, and `why` (allocated) says
 * whose host it is. The server's worker. */
bool border_allows(struct server *server, char **why);
/* May a connection of pgstage's own, under the rules of this environment (NULL: none), go there? It
 * makes nothing known. Any thread. */
bool border_allows_address(struct plane *plane, const struct environment_config *environment,
                           const struct address *address, char **why);
/* May it stay, when something has become known since it was looked at last? Logged and counted when
 * not. The server's worker. */
bool border_still_allows(struct server *server);

#endif
