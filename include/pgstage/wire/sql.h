/*
 * sql: just enough of PostgreSQL's SQL to see what a text may do to the session or the transaction.
 *
 * Two layers, each of use alone: tokens (comments, quotes and dollar quotes as scan.l reads them)
 * and statements (where each begins, and what it does to session state). Whether a text is to be
 * read at all, intent.h tells. Pure: no allocation but in sql_value, no I/O, any thread. Every call
 * ends after one pass over the bytes it was given; what cannot be read counts as unknown, never as
 * harmless.
 */
#ifndef PGSTAGE_WIRE_SQL_H
#define PGSTAGE_WIRE_SQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/buffer.h"

/* How a text has to be read; both follow from the session's parameters. */
enum sql_mode {
    SQL_BACKSLASH = 1, /* standard_conforming_strings is off: '' reads like E'' */
    SQL_MIXED = 2,     /* client_encoding is one where a byte under 0x80 may be the second half of a
                          character (SJIS, BIG5, GBK, UHC, GB18030, JOHAB, SHIFT_JIS_2004) */
};
/* The mode under these values of the parameters; either may be NULL (on; a safe encoding). */
unsigned sql_mode_of(const char *standard_conforming_strings, const char *client_encoding);

/* ---- tokens ---- */

enum sql_token_kind {
    SQL_END,
    SQL_WORD,   /* a key word or an unquoted name */
    SQL_QUOTED, /* "a name", with its quotes */
    SQL_STRING, /* 'a string', E'…', N'…', with prefix and quotes */
    SQL_DOLLAR, /* $$a string$$, $tag$…$tag$ */
    SQL_ODD,    /* U&'…', U&"…", B'…', X'…' */
    SQL_NUMBER, /* 12, 1.5, 0x1f; also $1 */
    SQL_SYMBOL, /* one byte of punctuation or of an operator */
    SQL_BAD,    /* an unfinished quote or comment, a NUL: the rest cannot be read */
};

struct sql_token {
    enum sql_token_kind kind;
    const char *text; /* in the text that is read */
    size_t length;
    bool spaced; /* blanks or comments stand before it */
};

struct sql_lexer {
    const char *text;
    size_t length, at;
    unsigned mode;
};

struct sql_token sql_token(struct sql_lexer *lexer);
/* Is it this key word (given in lower case)? */
bool sql_token_is(const struct sql_token *token, const char *word);
/* The name that a WORD (folded to lower case) or QUOTED token means, cut as PostgreSQL cuts it;
 * false when it is no name, is empty, does not fit, or cannot be cut here. */
bool sql_token_name(const struct sql_token *token, char *name, size_t size);
/* Is the name of this token folded to lower case by every server as sql_token_name does it? Letters
 * beyond ASCII are where the encoding of the server has one byte for each. */
bool sql_token_is_folded_here(const struct sql_token *token);
/* The text that a STRING or DOLLAR token means, put behind `out`; false when it is none, or holds
 * an escape that is not followed here (\u, \x, octal). */
bool sql_token_string(const struct sql_token *token, unsigned mode, struct buffer *out);

/* ---- statements ---- */

enum sql_verb {
    SQL_QUIET, /* neither session state nor the course of the transaction changes by what it is */
    SQL_BEGIN,
    SQL_COMMIT, /* COMMIT, END */
    SQL_ROLLBACK,
    SQL_ROLLBACK_TO,         /* `name` */
    SQL_SAVEPOINT,           /* `name` */
    SQL_RELEASE,             /* `name` */
    SQL_PREPARE_TRANSACTION, /* commits as far as the session's state goes */
    SQL_SET,                 /* `settings`, for the session */
    SQL_RESET,               /* `settings[0]` */
    SQL_RESET_ALL,
    SQL_SET_IDENTITY,   /* SET ROLE, SET SESSION AUTHORIZATION */
    SQL_RESET_IDENTITY, /* … DEFAULT, RESET …; `name` is role or session_authorization */
    SQL_NO_ROLE,        /* SET ROLE NONE: the same, unless its login gave the session a role */
    SQL_SET_OTHER,      /* a SET for the session that cannot be replayed */
    SQL_DISCARD_ALL,
    SQL_DISCARD_TEMP,
    SQL_LISTEN,     /* `name`; "" when it is too long or odd */
    SQL_UNLISTEN,   /* `name`; "": all */
    SQL_PREPARE,    /* `name` */
    SQL_DEALLOCATE, /* `name`; "": all */
    SQL_HOLD,       /* DECLARE … WITH HOLD */
    SQL_CLOSE,      /* CLOSE of a cursor */
    SQL_LOAD,
    SQL_TEMPORARY,    /* makes a temporary object that outlives the transaction */
    SQL_DROP,         /* DROP of something */
    SQL_STANDS_ALONE, /* only of a first word: CALL, VACUUM … (SQL_ALONE) */
    SQL_UNKNOWN,      /* it could not be read */
};

/* What a statement of any verb calls or names besides. */
enum sql_mark {
    SQL_CALLS_CONFIG = 1,   /* set_config, for all that can be seen beyond the transaction */
    SQL_CALLS_LOCK = 2,     /* a session advisory lock */
    SQL_CALLS_UNLOCK = 4,   /* … is released */
    SQL_CALLS_SEED = 8,     /* setseed */
    SQL_NAMES_PG_TEMP = 16, /* the schema pg_temp */
    SQL_ALONE = 32,         /* it may be committed by itself, or commit (INTENT_ALONE) */
};

/* Names that are longer are not read: PostgreSQL cuts identifiers at 63 bytes, parameters have two
 * parts. */
#define SQL_NAME_BYTES 128
#define SQL_SETTINGS_MAX 3

struct sql_setting {
    char name[SQL_NAME_BYTES];
    const char *fixed; /* its value, when the statement only means it; else NULL */
    size_t from, to;   /* … it stands between these bytes of the text; equal: DEFAULT */
    bool is_text;      /* they are one string that is the value as such (set_config) */
};

struct sql_statement {
    enum sql_verb verb;
    unsigned marks; /* enum sql_mark */
    size_t from, to;
    char name[SQL_NAME_BYTES];
    uint8_t setting_count;
    struct sql_setting settings[SQL_SETTINGS_MAX];
};

/* Reads the next statement; false at the end. Empty statements are passed over (the server answers
 * each other one with one CommandComplete, in order). Behind SQL_UNKNOWN nothing more comes when
 * the text could not be read. */
bool sql_next(struct sql_lexer *lexer, struct sql_statement *statement);

/* Puts the value of a setting of `text` behind `out`, as one line of ASCII that can stand behind
 * SET name TO; `plain` tells that it is the value itself instead, which set_config takes. False
 * when it is neither (it cannot be replayed). Nothing is put for DEFAULT. */
bool sql_value(const char *text, const struct sql_setting *setting, unsigned mode,
               struct buffer *out, bool *plain);

#endif
