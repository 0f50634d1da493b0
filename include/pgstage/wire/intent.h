/*
 * intent: what a SQL text may do to the transaction that it runs in. Pure; any thread.
 *
 * Asked of every text that is sent on, so the ordinary one costs a look at its first word and a
 * search for a semicolon. When in doubt it says that the text may commit: a client that lost its
 * server is then told that it does not know, which is always true.
 */
#ifndef PGSTAGE_WIRE_INTENT_H
#define PGSTAGE_WIRE_INTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum intent {
    INTENT_BEGINS = 1,       /* BEGIN or START TRANSACTION is in it, or AND CHAIN */
    INTENT_BEGINS_FIRST = 2, /* … as its first statement */
    INTENT_COMMITS = 4,      /* something in it may commit a transaction; or it cannot be read */
    INTENT_ENDS = 8,         /* it is a sole ROLLBACK, ABORT, COMMIT or END, without AND CHAIN */
    INTENT_PREPARES = 16,    /* it is a sole PREPARE TRANSACTION */
    INTENT_EMPTY = 32,       /* no statement is in it */
};

/* A mask. `cut`: the text goes on behind its end. `mode`: enum sql_mode. */
uint8_t intent_of(const char *text, size_t length, bool cut, unsigned mode);
/* Is it one statement that has nothing to do with transactions, whatever the mode? Then intent_of
 * is 0. False says nothing. */
bool intent_is_plain(const char *text, size_t length);

#endif
