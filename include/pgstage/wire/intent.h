/*
 * intent: what a SQL text may do, to the transaction that it runs in and to the session. Pure; any
 * thread.
 *
 * The one reader of texts that is asked of every text, so the ordinary one costs a look at its
 * first word and a search for a few letter sequences; only what does not pass there is read
 * statement by statement (sql.h). In doubt it says that the text may do it: a client that lost its
 * server is then told that it does not know, and a session's state is looked after for nothing.
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
    INTENT_STATE = 64,       /* it may change session state, or undo such a change */
    INTENT_ALONE = 128,      /* it is one statement that may be committed before its pipeline is, or
                                commit what stands before it there, where no transaction block is open:
                                CALL, VACUUM, CREATE … */
    INTENT_READ = 256 /* … says that the text was read: in another mode it may do other things.
                                Not kept with the rest, which fits a byte. */
};

/* A mask. `cut`: the text goes on behind its end. `mode`: enum sql_mode. */
unsigned intent_of(const char *text, size_t length, bool cut, unsigned mode);

/* Of a text whose beginning this is: does it nothing by that? Then the rest can be looked at piece
 * by piece. */
bool intent_is_none_at_head(const char *text, size_t length);
/* May the text do something by this piece of it? A sequence of up to four bytes may be cut by the
 * end of a piece. */
bool intent_may_be_in(const char *piece, size_t length);

#endif
