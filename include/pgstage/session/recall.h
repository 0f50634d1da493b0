/*
 * recall: what a client's portals do (wire/intent.h), for the case that the answer to their Execute
 * never comes; and what its messages name while it has no server.
 *
 *   Parse "c" COMMIT ─► the statement has COMMITS ENDS (prepared.h, unnamed.h)
 *   Bind  ""  "c"    ─► portal          = COMMITS ENDS
 *   Execute ""       ─► the entry in the answers-owed queue has COMMITS ENDS
 *
 * Named portals are not told apart: whatever one of them may do, each may. The client's thread.
 */
#ifndef PGSTAGE_SESSION_RECALL_H
#define PGSTAGE_SESSION_RECALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client;
struct loss_message;

struct recall {
    /* owner */
    uint8_t portal;  /* the unnamed one */
    uint8_t portals; /* all named ones of this transaction together */
    /* A statement that was parsed since the last Sync while there was no server, and may have been
     * refused: what its Execute would have done still says how the batch ends. */
    uint8_t parsed;       /* what it does … */
    bool has_parsed;      /* … if there is one */
    uint32_t parsed_name; /* hash of its name */
};

/* A Bind of a statement that does this; the first byte of its body says whether the portal has a
 * name. */
static inline void recall_bind(struct recall *recall, uint8_t first, uint8_t intent)
{
    if (first)
        recall->portals |= intent;
    else
        recall->portal = intent;
}
/* What the portal does whose name begins with this byte. */
static inline uint8_t recall_portal(const struct recall *recall, uint8_t first)
{
    return first ? recall->portals : recall->portal;
}
/* A transaction begins: the portals of the last one have gone. */
static inline void recall_begin(struct recall *recall)
{
    recall->portals = 0;
    recall->has_parsed = false;
}

/* A message of a client that has no server, for loss_message: fills in `intent`, `target`, and the
 * error that it gets in an aborted transaction where that is another one than usual. The first
 * `there` bytes of the body are at hand. */
void recall_message(struct client *client, const uint8_t *body, size_t there,
                    struct loss_message *message);
/* loss_message has dealt with it: statements that were parsed, closed or replaced by it are known
 * from now on as if a server had done so. */
void recall_done(struct client *client, const uint8_t *body, size_t there,
                 const struct loss_message *message);

#endif
