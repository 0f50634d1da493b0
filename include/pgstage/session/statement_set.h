/*
 * statement_set: which statements one server has, the least recently used first to go.
 *
 * As with names, `there` is what has been answered and `asked` what will be when all goes well. A
 * statement is known to the server by the number that it had when it was parsed there; one that was
 * renumbered since simply is not there any more, and its old number goes with time. Pure; the
 * server's thread.
 */
#ifndef PGSTAGE_SESSION_STATEMENT_SET_H
#define PGSTAGE_SESSION_STATEMENT_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/list.h"
#include "pgstage/base/map.h"
#include "pgstage/session/statement_cache.h"

/* "pgstage_" and a number. */
#define SERVER_NAME_PREFIX "pgstage_"
#define SERVER_NAME_BYTES 32

struct kept_statement {
    /* owner */
    uint64_t number;
    struct statement *statement;  /* a server's reference */
    bool there;                   /* the server has it, as far as it has answered */
    bool asked;                   /* … when all that was asked is answered well */
    bool held;                    /* a long one: only its name's end makes it go */
    uint8_t name_bytes;           /* with its NUL */
    char name[SERVER_NAME_BYTES]; /* by which the server knows it */
    uint32_t pending;             /* changes that await their answer */
    uint32_t batch;               /* of the last of them */
    struct list_node node;        /* in set->used while `asked` */
    UT_hash_handle hh;
};

struct statement_set {
    struct kept_statement *by_number; /* uthash */
    struct list used;                 /* the least recently used first */
};

void statement_set_init(struct statement_set *set);
/* Gives all references back, whatever is pending. */
void statement_set_fini(struct statement_set *set);
/* The entry for the statement under its present number, or NULL. */
struct kept_statement *statement_set_find(const struct statement_set *set,
                                          const struct statement *statement);
struct kept_statement *statement_set_find_number(const struct statement_set *set, uint64_t number);
/* … made when it is not there, with nothing asked. */
struct kept_statement *statement_set_get(struct statement_set *set, struct statement *statement);
/* It has just been used. */
void statement_set_touch(struct statement_set *set, struct kept_statement *kept);
/* Parse (`there`) or Close was asked for in this batch. */
void statement_set_ask(struct statement_set *set, struct kept_statement *kept, bool there,
                       uint32_t batch);
/* It is answered: `done` or dropped. The entry may be gone afterwards. */
void statement_set_answer(struct statement_set *set, struct kept_statement *kept, bool there,
                          bool done);
/* The server has closed all at once; what is pending comes after that. */
void statement_set_clear(struct statement_set *set);
/* The one to be closed before another is parsed, when `most` would be exceeded: the least recently
 * used for which nothing is pending, but from this very batch. NULL: none. */
struct kept_statement *statement_set_surplus(const struct statement_set *set, size_t most,
                                             uint32_t batch);
/* The names of all long ones have gone with their client: they may go, too. */
void statement_set_release(struct statement_set *set);
/* How many there are when all goes well. */
static inline size_t statement_set_count(const struct statement_set *set)
{
    return set->used.length;
}

#endif
