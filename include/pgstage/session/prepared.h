/*
 * prepared: named prepared statements follow their client to any server, in transaction and
 * statement mode (doc/protocol.md, "Prepared statements"). The worker's thread only.
 *
 *   client: "a" ─► names ─► statement (shared text) ─► set of the server: "pgstage_7"
 *
 * The relay asks prepared_look about each message that concerns it, before anything has been done
 * with it, and lets prepared_send pass it on, rewritten and with what must go before it. What the
 * answers make true is kept in the order of the messages and applied by prepared_answered.
 */
#ifndef PGSTAGE_SESSION_PREPARED_H
#define PGSTAGE_SESSION_PREPARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/session/client.h"
#include "pgstage/session/outgoing.h"
#include "pgstage/session/server.h"
#include "pgstage/session/unnamed.h"

/* A client's message, of which the first `there` of `total` bytes are at `data` (header included).
 */
struct passing {
    uint8_t type;
    const uint8_t *data;
    size_t there, total;
    bool noted;     /* the tracker waits for the server's own answer to it */
    uint8_t intent; /* enum intent, of the text of a Query or Parse */
};

enum prepared_step {
    PREPARED_PASS, /* it passes as it is; the relay asks and forwards */
    PREPARED_TAKE, /* prepared_send passes it on */
    PREPARED_HOLD, /* not before more of it, or more answers, have come */
    PREPARED_FAIL, /* it makes no sense: the client is to be closed */
};

enum plan_kind {
    PLAN_PASS,
    PLAN_PARSE,      /* of a new name */
    PLAN_PARSE_LONG, /* … whose text does not fit */
    PLAN_DUPLICATE,  /* of a name that is in use: the server will refuse it */
    PLAN_USE,        /* Bind or Describe of a name */
    PLAN_CLOSE,      /* of a name */
    PLAN_REFUSE,     /* an error of our own, at its place */
    PLAN_DEALLOCATE, /* the SQL statement, of a name */
    PLAN_REPARSE, /* Bind or Describe of the unnamed statement, which this server must be given */
    PLAN_MISSING, /* … which there is not */
};

struct prepared_plan {
    enum plan_kind kind;
    size_t name_at, rest_at;            /* where the statement's name and what is behind it begin */
    struct statement_name *name;        /* NULL: not known yet */
    struct statement *statement;        /* PLAN_PARSE: a name's reference */
    const char *sqlstate, *text, *hint; /* PLAN_REFUSE */
    uint8_t intent;                     /* of any kind: what the statement does that is bound */
};

/* Does prepared_look have to see it? */
static inline bool prepared_concerns(const struct client *client, uint8_t type)
{
    switch (type) {
    case 'P':
    case 'B':
    case 'D':
    case 'C':
        break;
    case 'Q':
        if (client->names || client->unnamed.state != UNNAMED_NONE)
            break;
        return false;
    case 'S':
        if (client->unnamed.state == UNNAMED_LONG)
            break;
        return false;
    default:
        return false;
    }
    return share_settings(client->share)->pool_mode != POOL_MODE_SESSION;
}
/* Of a message longer than a buffer: must more of it come before prepared_look can tell? */
bool prepared_wants_more(const struct client *client, const struct passing *passing);
/* What is to be done with it; the client has its server. */
enum prepared_step prepared_look(struct client *client, const struct passing *passing,
                                 struct prepared_plan *plan);
/* PREPARED_TAKE: asks the transaction and adds what goes to the server, up to `there`. */
void prepared_send(struct client *client, const struct passing *passing, struct prepared_plan *plan,
                   struct outgoing *out);
/* How many ParseComplete are due to the client now, after prepared_send. */
unsigned prepared_produce(struct server *server);

/* ---- of the server's messages; only where server->prepared is set ---- */

/* Before the transaction is told of an ErrorResponse that is whole: true when `out` is to go to the
 * client in its place. `again` is set when nobody is to hear it: its batch is sent again. */
bool prepared_error(struct server *server, const uint8_t *body, size_t length, struct buffer *out,
                    bool *again);
/* The transaction was told of this message, and server->awaited is not 0: applies what has become
 * of the changes. Returns how many ParseComplete are due to the client behind it. */
unsigned prepared_answered(struct server *server, uint8_t type);
/* A CommandComplete: DEALLOCATE ALL and DISCARD ALL close every statement. `own`: of pgstage's own
 * statement. */
void prepared_command(struct server *server, const uint8_t *tag, size_t length, bool own);
/* The server has reported another client_encoding or standard_conforming_strings: what was parsed
 * in the same breath may mean something else than its context says. */
void prepared_context_changed(struct server *server);

/* ---- life ---- */

/* The client and the server, which has something prepared, part: what was asked for and not
 * answered has not happened for the client. */
void prepared_unlink(struct server *server, struct client *client);
/* What is prepared ("": the unnamed one) and closed while its client has no server, and nothing it
 * has asked is pending. The SQLSTATE of what speaks against a new name; NULL: nothing. */
const char *prepared_refusal(const struct client *client, const char *name);
/* `text`: the body of its Parse behind the name. Where there is no memory left for it, the name
 * stays unknown. */
void prepared_remember(struct client *client, const char *name, const uint8_t *text, size_t bytes,
                       uint8_t intent);
void prepared_forget(struct client *client, const char *name);
/* What this statement does (enum intent), or may do when its name is not followed. False: there is
 * no such statement. */
bool prepared_intent(const struct client *client, const char *name, uint8_t *intent);
void prepared_free(struct server *server);
void prepared_client_free(struct client *client);
size_t prepared_client_count(const struct client *client);
size_t prepared_server_count(const struct server *server);

/* The text (NUL-terminated) of the statement that a whole Bind executes, named or not; NULL when it
 * is not known or has no end. */
const char *prepared_bound_text(const struct client *client, const uint8_t *body, size_t length);

#endif
