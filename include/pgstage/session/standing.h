/*
 * standing: what servers tell of their hosts, and whether one has been outlived by
 * plane_close_host.
 *
 * Room-internal; a worker's thread.
 */
#ifndef PGSTAGE_SESSION_STANDING_H
#define PGSTAGE_SESSION_STANDING_H

#include "pgstage/session/server.h"

/* Something is wrong with the server's host, or seems so: the control plane hears it, a letter for
 * each host in 100 ms at most. */
void server_saw_trouble(struct server *server);
/* Closes the share's servers that no longer fit, now or as soon as they are free. */
void standing_retire(struct share *share);
/* A login found the host in (or out of) recovery: told when it is news. */
void server_saw_role(struct server *server, bool in_recovery);
/* The server says that it is in recovery now, or no more: told, and a server that does not serve
 * its pool any more goes when it is free. */
void server_role_changed(struct server *server, bool in_recovery);
/* Was it begun before its host's connections were closed? */
static inline bool server_is_outdated(const struct server *server)
{
    return server->host_generation != host_generation(server->host);
}

/* Frees what plane_close_host began and will not end: the loops have been freed. */
void closings_end(struct plane *plane);

#endif
