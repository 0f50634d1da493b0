/*
 * tracker: what a client's statements do to its session's state, in transaction and statement mode.
 *
 * A client has a tracker from its first statement that may change something; until then all of this
 * costs one look at each text (wire/sql.h). The tracker reads what is asked, waits until the answer
 * says that it was done, and at the end of the transaction (journal.h) lets it follow the client,
 * pin it, or have the server cleaned, as the option session_state wants it. Parameters that servers
 * report are not its business: ParameterStatus tells of them. The worker's thread only.
 */
#ifndef PGSTAGE_SESSION_TRACKER_H
#define PGSTAGE_SESSION_TRACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/buffer.h"
#include "pgstage/session/client.h"
#include "pgstage/session/server.h"

struct tracker;

/* What is to be done with a message from the client. */
enum tracker_step {
    TRACKER_PASS,   /* nothing */
    TRACKER_HOLD,   /* too little of it is here to look at */
    TRACKER_NOTE,   /* its entry in the answers-owed queue is to be noted (ANSWER_NOTED) */
    TRACKER_REFUSE, /* tracker_refusal goes to the server in its place, noted as well */
};

/* Has the tracker to look at a message of this type? */
static inline bool tracker_concerns(const struct client *client, uint8_t type)
{
    if (type != 'Q' && type != 'P' &&
        !(client->tracker && (type == 'B' || type == 'E' || type == 'C')))
        return false;
    return share_settings(client->share)->pool_mode != POOL_MODE_SESSION;
}
/* Is too little of a long message here to look at? Asked before the client is given a server. */
static inline bool tracker_needs_more(const struct client *client, uint8_t type, size_t there,
                                      size_t body_bytes)
{
    return there < body_bytes && there < LOOP_BUFFER_BYTES / 2 && tracker_concerns(client, type);
}
/* Looks at a message that is about to be sent to the client's server; `there` bytes of its body,
 * which may be longer, are here. `intent`: of its text (intent_of), for Query and Parse. May be
 * called again for the same message when it had to wait. */
enum tracker_step tracker_look(struct client *client, uint8_t type, unsigned intent,
                               const uint8_t *body, size_t there, size_t body_bytes);
/* Behind TRACKER_NOTE or TRACKER_REFUSE: was the message entered in the queue? */
void tracker_asked(struct client *client, bool entered);
/* A further piece of the message that was looked at. */
void tracker_piece(struct client *client, const uint8_t *bytes, size_t count);
/* Puts the message that goes to the server in place of the refused one: it fails there at its place
 * in the pipeline, as PostgreSQL's own refusal would. */
void tracker_refusal(const struct client *client, uint8_t type, const uint8_t *body,
                     struct buffer *out);

/* An answer of the client's server, before the queue takes it (transaction_answer). `instead` is
 * given what the client hears in its place, where that is something else. */
void tracker_answered(struct server *server, uint8_t type, const uint8_t *body, size_t there,
                      struct buffer *instead);
/* Is a notification from this server meant for its client? */
bool tracker_may_hear(const struct server *server);
/* All is answered and no transaction is open. True: the server is asked something first (it is in
 * SERVER_PREPARE), and this is called again afterwards. */
bool tracker_settled(struct server *server) __attribute__((warn_unused_result));
/* A row of the answer to what tracker_settled asked; then its end. */
void tracker_row(struct server *server, const uint8_t *body, size_t there);
void tracker_told(struct server *server);
/* The client leaves its server, in whatever state it is: has it changed something there of which
 * the end is not known? */
bool tracker_leaves_doubt(const struct client *client);
void tracker_free(struct tracker *tracker);

/* The client has got a server: its texts are read under the parameters it has there (sql_mode). To
 * be called again when one of them changes. */
void tracker_linked(struct client *client);

/* The statements that clean a session for the next client without touching prepared statements. The
 * last row says TRACKER_CLEAN_PREPARED when one of SQL's PREPARE is there. */
const char *tracker_clean_sql(void);
#define TRACKER_CLEAN_PREPARED "prepared"

#endif
