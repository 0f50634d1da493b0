/*
 * server_inside: what the files of the server connection share. For server.c, server_parameters.c
 * and server_move.c; the thread is always that of the worker which owns the server.
 */
#ifndef PGSTAGE_SESSION_SERVER_INSIDE_H
#define PGSTAGE_SESSION_SERVER_INSIDE_H

#include "pgstage/session/server.h"
#include "pgstage/session/worker.h"

static inline uint64_t server_now_us(const struct server *server)
{
    return loop_now_us(server->worker->loop);
}

/* ---- server.c ---- */

/* Its client may go on: nothing of our own is owed by it. */
void server_activate(struct server *server);
/* Nothing is owed to its client: counts what has ended, and gives the server back when that may be.
 */
void server_active_settled(struct server *server);
/* Lists it at a worker that it has just come to. */
void server_place(struct server *server, struct worker *worker);
/* Frees the memory of a server (a struct server) that is listed nowhere. */
void server_free(void *object);

/* ---- server_parameters.c ---- */

/* PREPARE is over: the statement that was asked of the server is answered. */
void server_prepared(struct server *server);
/* The statement that gave it the parameters is answered: it was carried out as a whole, or not at
 * all (`query_failed`). */
void server_decide_parameters(struct server *server);
/* The client goes without having sent the message that the parameters were to go ahead of. */
void server_forget_ahead(struct server *server);

/* ---- server_move.c ---- */

/* Sends it to the worker whose client it was granted to. */
void server_move_away(struct server *server, const struct pool_grant *grant);

#endif
