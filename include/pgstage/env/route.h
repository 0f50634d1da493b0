/*
 * route: which database line and environment serve a client. Pure; any thread.
 *
 * First match wins: the name it asked for (`app@staging`); the listener; the TLS server name (SNI)
 * against the environments' `sni`; the `environment=` of the database's line; default_environment;
 * else the PgBouncer-style line. `name@environment` beats `name`, which beats `*`.
 */
#ifndef PGSTAGE_ENV_ROUTE_H
#define PGSTAGE_ENV_ROUTE_H

#include "pgstage/conf/snapshot.h"

struct route_request {
    const char *database;                   /* what the startup message asked for */
    const struct listener_config *listener; /* may be NULL */
    const char *sni;                        /* NULL: none */
    const char *user;
    const struct sockaddr *from; /* the client's address; NULL: unknown, then nobody is refused */
    bool is_local, has_tls;      /* for HBA rules, when `from` is known */
};

enum route_result {
    ROUTE_FOUND,
    ROUTE_NO_DATABASE,    /* "no such database: x" (3D000) */
    ROUTE_AMBIGUOUS,      /* no environment decides (3D000, names the environments) */
    ROUTE_NO_ENVIRONMENT, /* the named environment does not exist or has no such database */
};

struct route {
    const struct database_config *line;
    const char *database; /* without "@environment"; lives in `name` or the snapshot */
    const struct environment_config *environment; /* NULL: PgBouncer style */
    char name[256];
};

enum route_result route_find(const struct snapshot *snapshot, const struct route_request *request,
                             struct route *route);
/* The text after a refused route, for the client after it has authenticated; it names no
 * environment that this user, or the client's address, may not be in. Allocated. */
char *route_explain(const struct snapshot *snapshot, const struct route_request *request,
                    enum route_result result);

#endif
