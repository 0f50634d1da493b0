/*
 * recall: what stands behind the names of a client's prepared statements and portals, as far as it
 * matters when their server is lost: the intents (wire/intent.h) of their texts.
 *
 * Only names whose text has an intent are kept, which are few (COMMIT, BEGIN). A name is never
 * forgotten, because nobody can know whether a Close or a later Parse was carried out: that a text
 * may commit is remembered for as long as the client lives. Pure but for memory; the client's
 * thread.
 */
#ifndef PGSTAGE_SESSION_RECALL_H
#define PGSTAGE_SESSION_RECALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct recall_name;

struct recall {
    /* owner */
    struct recall_name *names; /* uthash */
    uint8_t statement;         /* the last unnamed one */
    uint8_t statements;        /* all unnamed ones together */
    uint8_t portal;            /* the unnamed one */
    uint8_t portals;           /* all named ones of this transaction together */
    bool fresh;                /* the batch has an unnamed Parse */
    bool overflown;            /* too many names, or too long ones: any other may be one of them */
    uint8_t count;
};

void recall_fini(struct recall *recall);
/* Notes a message of the client (Query, Parse, Bind, Execute, Sync …) that is dealt with now, and
 * tells the intent of what it names: its text, the statement it binds, the portal it executes or
 * describes. The first `there` bytes of the body are at hand. `mode`: enum sql_mode, how its
 * session reads texts. */
uint8_t recall_message(struct recall *recall, unsigned mode, uint8_t type, const uint8_t *body,
                       size_t there);
/* A transaction begins: the portals of the last one have gone. */
static inline void recall_begin(struct recall *recall)
{
    recall->portals = 0;
}

#endif
