/*
 * statement: cuts a console query into statements and tokens. Pure; any thread.
 */
#ifndef PGSTAGE_ADMIN_STATEMENT_H
#define PGSTAGE_ADMIN_STATEMENT_H

#include <stdbool.h>
#include <stddef.h>

/* No command of the console has more; what follows is only counted. */
#define STATEMENT_TOKENS_MAX 16

enum token_kind {
    TOKEN_WORD,   /* bare: anything but blanks, quotes, = , ; ( ) */
    TOKEN_QUOTED, /* "…", unquoted */
    TOKEN_STRING, /* '…', unquoted */
    TOKEN_SYMBOL, /* = , ( ) */
};

struct token {
    enum token_kind kind;
    char *text;
};

struct statement {
    struct token tokens[STATEMENT_TOKENS_MAX];
    size_t count;        /* may exceed STATEMENT_TOKENS_MAX: only that many are kept */
    const char *problem; /* NULL: none; else what cannot be read */
    char *text;          /* as written, without blanks around it */
};

/* Reads the next statement that is not empty and moves `*query` behind its ';'. False at the end.
 * The caller calls statement_fini after true. */
bool statement_next(const char **query, struct statement *statement);
void statement_fini(struct statement *statement);
/* Is token `index` this bare word (ASCII case ignored)? */
bool statement_is(const struct statement *statement, size_t index, const char *word);
/* Is it something that names or values are written as (not a symbol)? */
bool statement_has_value(const struct statement *statement, size_t index);

#endif
