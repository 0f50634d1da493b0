/*
 * conninfo: the text of a primary_conninfo for another primary. Pure; any thread.
 */
#ifndef PGSTAGE_FAILOVER_CONNINFO_H
#define PGSTAGE_FAILOVER_CONNINFO_H

/* `conninfo` with another host, address (NULL: none) and port, everything else as it was;
 * allocated. NULL: it is no connection string. */
char *conninfo_move(const char *conninfo, const char *host, const char *address, unsigned port);

#endif
