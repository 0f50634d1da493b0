/*
 * login: a client from its first byte to its welcome. The worker's thread only.
 */
#ifndef PGSTAGE_SESSION_LOGIN_H
#define PGSTAGE_SESSION_LOGIN_H

#include "pgstage/net/stream.h"
#include "pgstage/session/client.h"

/* Made when a client is accepted through the door; `peer` is whoever is at the other end of the
 * socket. */
struct login *login_new(const struct address *peer, const struct door *door);
void login_free(struct login *login);
/* Bytes can be read in STARTUP, LOGIN. */
void login_readable(struct client *client);
/* The TLS handshake is complete. */
void login_secured(struct client *client);
/* STARTUP, LOGIN: the timer has come, for a login that takes too long or for an answer that waited.
 */
void login_timed_out(struct client *client);
/* WELCOME: a server's parameters are known now. */
void login_finish(struct client *client);

/* Where it wants to go: NULL when that is no environment, or not known. */
const struct environment_config *login_environment(const struct client *client);
/* … and its settings; only when there is one. */
const struct settings *login_settings(const struct client *client);
/* The last words of a client that was refused, while they wait for the audit log. NULL: it has
 * logged in. */
struct buffer *login_farewell(struct client *client);
/* Is it known which database line serves it? */
bool login_is_routed(const struct client *client);
/* The audit log has its acceptance (`may_enter`), or could not be written and must be. */
void login_recorded(struct client *client, bool may_enter);

#endif
