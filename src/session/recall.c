/*
 * recall.c: from the names in Bind and Execute to the texts of Parse.
 *
 *   Parse "c" COMMIT ─► names: c = COMMITS ENDS
 *   Bind  ""  "c"    ─► portal    = COMMITS ENDS
 *   Execute ""       ─► the entry in the answers-owed queue has COMMITS ENDS
 *
 * Errs to one side: whatever might stand behind a name counts. The unnamed statement is exact when
 * it is parsed and bound in one batch, since both are dropped together.
 */
#include "pgstage/session/recall.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/wire/intent.h"

/* Names with intents that are kept for one client, and how long they may be. */
#define RECALL_NAMES_MAX 64
#define RECALL_NAME_MAX_BYTES 127

struct recall_name {
    UT_hash_handle hh;
    uint8_t last, all;
    char name[];
};

void recall_fini(struct recall *recall)
{
    struct recall_name *name, *next;

    HASH_ITER (hh, recall->names, name, next) {
        HASH_DEL(recall->names, name);
        free(name);
    }
}

static uint8_t read_text(unsigned mode, const char *text, size_t there)
{
    size_t length = strnlen(text, there);

    return intent_of(text, length, length == there, mode); /* cut: its NUL is not here */
}

static void keep(struct recall *recall, const char *name, uint8_t intent)
{
    struct recall_name *known;
    size_t length = strlen(name);

    HASH_FIND(hh, recall->names, name, length, known);
    if (known) {
        known->last = intent;
        known->all |= intent;
        return;
    }
    if (intent == 0)
        return;
    if (recall->count == RECALL_NAMES_MAX || length > RECALL_NAME_MAX_BYTES) {
        recall->overflown = true;
        return;
    }
    known = memory_new(sizeof(*known) + length + 1);
    memcpy(known->name, name, length + 1);
    known->last = known->all = intent;
    HASH_ADD_KEYPTR(hh, recall->names, known->name, length, known);
    recall->count++;
}

static uint8_t find_statement(const struct recall *recall, const char *name)
{
    struct recall_name *known = NULL;

    if (!*name)
        return recall->fresh ? recall->statement
                             : (uint8_t)(recall->statement | (recall->statements & INTENT_COMMITS));
    if (recall->names)
        HASH_FIND(hh, recall->names, name, strlen(name), known);
    if (!known)
        return recall->overflown ? INTENT_COMMITS : 0;
    return (uint8_t)(known->last | (known->all & INTENT_COMMITS));
}

static uint8_t parse(struct recall *recall, unsigned mode, const uint8_t *body, size_t there)
{
    const char *name = (const char *)body, *text = memchr(body, '\0', there);
    uint8_t intent;

    if (!text) { /* a name that fills the buffer */
        recall->overflown = true;
        return INTENT_COMMITS;
    }
    text++;
    intent = read_text(mode, text, there - (size_t)(text - name));
    if (*name) {
        keep(recall, name, intent);
    } else {
        recall->statement = intent;
        recall->statements |= intent;
        recall->fresh = true;
    }
    return intent;
}

static uint8_t bind(struct recall *recall, const uint8_t *body, size_t there)
{
    const char *portal = (const char *)body, *statement = memchr(body, '\0', there);
    uint8_t intent = INTENT_COMMITS;

    if (statement) {
        statement++;
        if (memchr(statement, '\0', there - (size_t)(statement - portal)))
            intent = find_statement(recall, statement);
    }
    if (there && *portal)
        recall->portals |= intent;
    else
        recall->portal = intent;
    return intent;
}

/* Describe: 'S' or 'P' and a name. */
static uint8_t describe(const struct recall *recall, const uint8_t *body, size_t there)
{
    if (there < 2 || !memchr(body + 1, '\0', there - 1))
        return 0;
    if (body[0] == 'S')
        return find_statement(recall, (const char *)body + 1);
    return body[1] ? recall->portals : recall->portal;
}

uint8_t recall_message(struct recall *recall, unsigned mode, uint8_t type, const uint8_t *body,
                       size_t there)
{
    switch (type) {
    case 'Q':
        recall->fresh = false;
        return read_text(mode, (const char *)body, there);
    case 'P':
        return parse(recall, mode, body, there);
    case 'B':
        return bind(recall, body, there);
    case 'D':
        return describe(recall, body, there);
    case 'E':
        return there && body[0] ? recall->portals : recall->portal;
    case 'S':
    case 'F':
        recall->fresh = false;
        return 0;
    default:
        return 0;
    }
}
