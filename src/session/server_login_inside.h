/*
 * server_login_inside: a login under way, as server_login.c and server_questions.c share it.
 */
#ifndef PGSTAGE_SESSION_SERVER_LOGIN_INSIDE_H
#define PGSTAGE_SESSION_SERVER_LOGIN_INSIDE_H

#include "pgstage/auth/login.h"
#include "pgstage/net/dial.h"
#include "pgstage/session/server_login.h"

enum phase { PHASE_RESOLVE, PHASE_CONNECT, PHASE_SSL_ANSWER, PHASE_TLS, PHASE_LOGIN };

struct derivation {
    struct offload_job job;
    struct auth_server *auth;
    struct server *server; /* NULL: it has gone */
};

struct server_login {
    enum phase phase;
    bool authenticated;         /* AuthenticationOk has come */
    bool answered;              /* the startup packet has been, by whatever message */
    bool asks_role;             /* pg_is_in_recovery() has been asked: */
    bool asks_identity;         /* … and the system identifier and timeline */
    char role;                  /* 't', 'f'; 0: not answered */
    uint64_t system_identifier; /* 0: not answered */
    uint32_t timeline;          /* of a server that takes writes */
    struct dial dial;
    struct server *server;
    struct auth_server *auth;
    struct derivation *derivation;
};

/* ---- server_login.c ---- */

/* Writes what `out` holds, and frees that. False: the login has failed. */
bool server_login_say(struct server *server, struct buffer *out);
/* The login has failed, with a text for log and clients: the server is gone when this returns. */
void server_login_failed(struct server *server, enum reason reason, const char *text);

/* ---- server_questions.c ---- */

/* It has let us in: SETUP begins. The server may have logged in, or be gone, when this returns. */
void server_login_ask(struct server *server);

#endif
