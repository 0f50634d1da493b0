/*
 * replication: clients that ask for a replication connection, each with a server of its own.
 *
 * Such a server is opened for one client with what that client said in its startup packet, is lent
 * to nobody else and ends with it; their pool only gives it a place under the limits. Everything is
 * passed on as it is, in both directions at a time. The worker's thread.
 */
#ifndef PGSTAGE_SESSION_REPLICATION_H
#define PGSTAGE_SESSION_REPLICATION_H

#include <stdbool.h>

struct client;
struct server;
struct share;

enum replication {
    REPLICATION_NONE,
    REPLICATION_LOGICAL,  /* replication=database: commands of replication, and SQL */
    REPLICATION_PHYSICAL, /* replication=true */
};

/* The startup parameter's value, read as PostgreSQL does; false: it means nothing. */
bool replication_read(const char *value, enum replication *kind)
    __attribute__((warn_unused_result));
/* "none", "logical", "physical" */
const char *replication_name(enum replication kind);

/* The client's login is over: it gets in line for a server of its own, and is welcomed when that
 * one has logged in. */
void replication_begin(struct client *client);
/* The client of this share that waits longest and for which no server is being opened; NULL: there
 * is none. */
struct client *replication_next(const struct share *share);
/* This new server is to be the client's. */
void replication_attach(struct server *server, struct client *client);
/* Whose server it is. */
const struct client *replication_client_of(const struct server *server);
/* The client ends: so does what is being opened for it. */
void replication_leave(struct client *client);

#endif
