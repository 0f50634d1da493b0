/*
 * loss: what a client is told in the place of a server that it has lost, or was not given.
 *
 * Pure: from the answers-owed queue of the lost server to the messages that the client waits for;
 * and from then on, message by message, what pgstage answers by itself. Owned by the client, its
 * thread only. doc/protocol.md, "When the server is lost", says it in words.
 */
#ifndef PGSTAGE_SESSION_LOSS_H
#define PGSTAGE_SESSION_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/buffer.h"

struct transaction;

/*
 *            lost while idle in a transaction
 *   NONE ───────────────────────────────────► REFUSING ─┐ one error for the next request
 *     ▲  └── lost with BEGIN unanswered ──┐             │
 *     │                                   ▼             ▼
 *     └────── a sole ROLLBACK … ──────── ABORTED ◄──────┘ 25P02 to the rest
 */
enum loss_state {
    LOSS_NONE,
    LOSS_REFUSING,
    LOSS_ABORTED,
};

struct loss {
    /* owner */
    uint8_t state;
    bool skipping;     /* an extended message was refused: all up to its Sync is dropped */
    bool executed;     /* … and an Execute has been among it */
    bool spares_sync;  /* REFUSING: a Sync alone is just answered */
    char ready;        /* REFUSING: the status told behind the error; skipping: by the Sync */
    uint8_t cut;       /* a Query or FunctionCall whose rest is still to come, and then refused */
    char cut_ready;    /* … with this status */
    char sqlstate[6];  /* REFUSING */
    char *text, *hint; /* … allocated; NULL: none */
    uint64_t doomed_bytes; /* of the client's input: sent before it could know of the loss */
};

void loss_fini(struct loss *loss);
/* Is there anything that the client's next message must be shown to loss_message for? */
static inline bool loss_is_busy(const struct loss *loss)
{
    return loss->state != LOSS_NONE || loss->skipping || loss->doomed_bytes > 0;
}
/* How a server was lost. */
struct loss_cause {
    const char *sqlstate, *text; /* its own last words (FATAL); NULL: none */
    const char *detail;          /* for the client; NULL: none */
    uint64_t sent_bytes;         /* how many of its bytes the server's socket has taken */
};
/* Puts the answers to all that was asked of the lost server, and goes into the state that follows.
 * The client's message that was sent in part, if any, has been retracted before. True: the client
 * is told that it is in no transaction any more, and what it has sent already may have been meant
 * for the one that it had (see `doomed_bytes`). */
bool loss_tell(struct loss *loss, const struct transaction *transaction,
               const struct loss_cause *cause, struct buffer *out);
/* A Query or FunctionCall had come in part and was passed on in part: it is refused when the rest
 * has come and was dropped (loss_cut_over). After loss_tell. */
void loss_cut(struct loss *loss, uint8_t type, uint8_t intent);
void loss_cut_over(struct loss *loss, struct buffer *out);
/* The client's next request gets this error, and no server. */
void loss_refuse(struct loss *loss, const char *sqlstate, const char *text, const char *hint);

struct loss_message {
    uint8_t type;
    uint8_t intent; /* enum intent, of what it names (recall_message) */
    char target;    /* Describe: 'S' or 'P' */
    /* the error that an aborted transaction gives for what it names; NULL: as `intent` says */
    const char *sqlstate, *name;
    bool done; /* set by loss_message: it was carried out in the made-up transaction */
};
/* A message of the client's while loss_is_busy: true, `out` has what it gets (perhaps nothing); or
 * false, it is to go on as usual. */
bool loss_message(struct loss *loss, struct loss_message *message, struct buffer *out);
/* So many bytes of input were dealt with. */
static inline void loss_passed(struct loss *loss, size_t bytes)
{
    loss->doomed_bytes -= bytes < loss->doomed_bytes ? bytes : loss->doomed_bytes;
}

#endif
