/*
 * cancel: carries a CancelRequest to the right server, and never to another client's query.
 */
#ifndef PGSTAGE_SESSION_CANCEL_H
#define PGSTAGE_SESSION_CANCEL_H

#include <stdbool.h>
#include <stdint.h>

struct client;
struct host;
struct plane;
struct server;
struct startup;
struct worker;

/* A CancelRequest came on this connection (state CANCEL from now on): looks for the client whose
 * key it is, on whatever worker; when the server has heard it, or nobody has the key, the
 * connection is closed. */
void cancel_request(struct client *requester, const struct startup *startup);
/* Cancels what this server runs for whoever has it linked now (a timeout, a vanished client). */
void cancel_server(struct server *server);

/* A requester that waits for the outcome hears it: was its request passed on? 0: nobody waits. Any
 * thread. */
void cancel_tell(struct plane *plane, uint64_t requester_id, bool heard);

/* Gives up all that are under way on this worker (it ends). */
void cancel_abort_all(struct worker *worker);
/* Gives up those to this host. */
void cancel_abort_host(struct worker *worker, const struct host *host);

#endif
