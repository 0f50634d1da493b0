/*
 * statement_names: which statement each name of one client stands for.
 *
 * A name changes when the server's answer comes, not when the client asks: `statement` is what has
 * been answered, `asked` what it will stand for when all goes well. Messages of the same batch go
 * by `asked`, since they are dropped together. Pure; the client's thread.
 *
 *     asks Parse "a"  ──► asked = S, pending 1 ──► ParseComplete: statement = S
 *                                              └─► error, dropped: asked = statement
 */
#ifndef PGSTAGE_SESSION_STATEMENT_NAMES_H
#define PGSTAGE_SESSION_STATEMENT_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/map.h"
#include "pgstage/session/statement_cache.h"

/* PostgreSQL looks at no more of a name (NAMEDATALEN - 1). */
#define STATEMENT_NAME_MAX_BYTES 63

struct statement_name {
    /* owner */
    struct statement *statement; /* a name's reference; NULL: none yet, or no more */
    struct statement *asked;     /* whose reference is `statement`'s or a pending change's */
    uint32_t pending;            /* changes that await their answer */
    uint32_t batch;              /* of the last of them */
    uint32_t uses;               /* messages that name it and await their answer */
    UT_hash_handle hh;
    char name[]; /* of STATEMENT_NAME_MAX_BYTES at most */
};

/* Zeroed is empty. */
struct statement_names {
    struct statement_name *by_name; /* uthash */
    uint32_t wiped_batch; /* in which a text was asked, last, that may deallocate all names … */
    uint32_t long_ones;   /* names that stand for a long statement */
    bool wiped;           /* … if one was */
};

/* Gives all references back. Nothing may be pending. */
void statement_names_fini(struct statement_names *names);
/* NULL: nothing is known of this name. */
struct statement_name *statement_names_find(const struct statement_names *names, const char *name);
/* The same, made when it is not there. */
struct statement_name *statement_names_get(struct statement_names *names, const char *name);
/* A change to `statement` (NULL: to nothing) was asked for in this batch. */
void statement_names_ask(struct statement_name *name, struct statement *statement, uint32_t batch);
/* It is answered: `done` or dropped. Takes over the reference of `statement` (NULL: to nothing).
 * The name may be gone afterwards. */
void statement_names_answer(struct statement_names *names, struct statement_name *name,
                            struct statement *statement, bool done);
/* It stands for the same text under another statement (whose name's reference is taken over). No
 * change of it may be pending. */
void statement_names_replace(struct statement_names *names, struct statement_name *name,
                             struct statement *statement);
/* The server that had the long ones is no longer the client's. */
void statement_names_forget_long(struct statement_names *names);
/* A message that names it was asked; it was answered, or dropped: the name may be gone afterwards.
 */
static inline void statement_names_use(struct statement_name *name)
{
    name->uses++;
}
void statement_names_used(struct statement_names *names, struct statement_name *name);
/* All names have gone at once (DEALLOCATE ALL); what is pending comes after that. */
void statement_names_clear(struct statement_names *names);
size_t statement_names_count(const struct statement_names *names);
/* The name that stands for the statement with this number, or NULL. Walks all. */
const char *statement_names_of_number(const struct statement_names *names, uint64_t number);

#endif
