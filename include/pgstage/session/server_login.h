/*
 * server_login: how a server connection comes to be: host, name, TCP, TLS, startup, authentication.
 *
 * Room-internal: server.c and server_login.c share this door.
 */
#ifndef PGSTAGE_SESSION_SERVER_LOGIN_H
#define PGSTAGE_SESSION_SERVER_LOGIN_H

#include "pgstage/session/server.h"

struct server_login;

void server_login_free(struct server_login *login);
/* A DataRow of a statement of the login's own. */
void server_login_row(struct server *server, const uint8_t *body, size_t length);
/* The login's own statement has succeeded. True: there is more to do; false: it has logged in. */
bool server_login_goes_on(struct server *server);
/* An error was the answer to the login's own statement. True: it goes on without. */
bool server_login_forgives(struct server *server);
/* Ends a login that nobody waits for any more; its pool may open another one at once. */
void server_login_abandon(struct server *server);
/* Events of a server whose `login` stands. */
void server_login_event(struct server *server, enum stream_event event);

/* server.c: a server in OPENING that is listed; it takes over the caller's use of the host. */
struct server *server_new(struct share *share, struct host *host)
    __attribute__((warn_unused_result));
/* server.c: what to give stream_connect. */
void (*server_stream_callback(void))(struct stream *, enum stream_event);
/* server.c: it never became ready: frees it and tells the pool. */
void server_discard(struct server *server, uint64_t retry_at_us);

#endif
