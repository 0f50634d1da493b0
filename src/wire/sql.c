/*
 * sql.c: the statements of a SQL text, and what each does to the session.
 *
 * A statement is walked over once to find its end and what it calls or makes anywhere in it; then
 * its first words say what it is, and only SET and its like are read on:
 *
 *     ; [ SET LOCAL a = 1 ] ; [ SELECT set_config('b', '2', false) ] ; …
 *         └ verb, name, settings   └ marks
 *
 * A semicolon in parentheses (CREATE RULE) or in BEGIN ATOMIC … END (a function's body) ends
 * nothing. Where the grammar allows more than is read here, the answer is the careful one.
 */
#include <string.h>

#include "pgstage/wire/sql.h"
#include "sql_inside.h"

/* Over this many calls of set_config they are not read one by one any more. */
#define CONFIG_CALLS_MAX 32

/* What stands anywhere in a statement. */
struct walk {
    struct sql_lexer *lexer;
    struct sql_statement *statement;
    struct sql_token before[3]; /* the last tokens, the last one first */
    unsigned depth;             /* of parentheses */
    unsigned atomic;            /* of BEGIN ATOMIC and the CASEs in it */
    unsigned config_calls;
    bool temporary; /* it makes something temporary */
    bool hold;
    bool drops_itself; /* ON COMMIT DROP */
    bool bad;
};

static bool is_symbol(const struct sql_token *token, char symbol)
{
    return token->kind == SQL_SYMBOL && token->text[0] == symbol;
}

/* A name, however it is written. */
static bool is_name(const struct sql_token *token, const char *name)
{
    char own[SQL_NAME_BYTES];

    return sql_token_is(token, name) ||
           (token->kind == SQL_QUOTED && sql_token_name(token, own, sizeof(own)) &&
            strcmp(own, name) == 0);
}

/* ---- what is called ---- */

static bool says_yes(const struct sql_token *token)
{
    static const char *const words[] = {"'t'", "'true'", "'on'", "'yes'", "'1'"};

    if (sql_token_is(token, "true"))
        return true;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (token->kind == SQL_STRING && token->length == strlen(words[i]) &&
            memcmp(token->text, words[i], token->length) == 0)
            return true;
    }
    return false;
}

/* Behind set_config: is its last argument a plain `true`? Looks ahead only. */
static bool is_local_config(const struct sql_lexer *lexer)
{
    struct sql_lexer ahead = *lexer;
    struct sql_token token = sql_token(&ahead), last = {.kind = SQL_BAD};
    unsigned depth = 0, commas = 0, since = 0;

    if (!is_symbol(&token, '('))
        return false;
    for (;;) {
        token = sql_token(&ahead);
        if (token.kind == SQL_END || token.kind == SQL_BAD)
            return false;
        if (is_symbol(&token, ')') && depth-- == 0)
            break;
        if (is_symbol(&token, '('))
            depth++;
        if (depth == 0 && is_symbol(&token, ',')) {
            commas++;
            since = 0;
        } else {
            last = token;
            since++;
        }
    }
    return commas == 2 && since == 1 && says_yes(&last);
}

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static unsigned mark_of(struct walk *walk, const struct sql_token *token)
{
    char name[SQL_NAME_BYTES];

    /* "advisory" is behind pg_ or pg_try_: nothing shorter matters */
    if (token->length < 7 || !sql_token_name(token, name, sizeof(name)))
        return 0;
    if (starts_with(name, "pg_temp"))
        return SQL_NAMES_PG_TEMP; /* pg_temp_3 is its real name */
    if (strcmp(name, "setseed") == 0)
        return SQL_CALLS_SEED;
    if (strcmp(name, "set_config") == 0) {
        if (walk->config_calls++ < CONFIG_CALLS_MAX && is_local_config(walk->lexer))
            return 0;
        return SQL_CALLS_CONFIG;
    }
    if (starts_with(name, "pg_advisory_unlock"))
        return SQL_CALLS_UNLOCK;
    if (starts_with(name, "pg_advisory_lock") || starts_with(name, "pg_try_advisory_lock"))
        return SQL_CALLS_LOCK;
    return 0;
}

/* CREATE TEMP …, SELECT … INTO TEMP …; but not INSERT INTO temp. */
static bool makes_temporary(const struct walk *walk, const struct sql_token *token)
{
    const struct sql_token *before = walk->before;

    if (!sql_token_is(token, "temp") && !sql_token_is(token, "temporary"))
        return false;
    if (sql_token_is(&before[0], "into"))
        return !sql_token_is(&before[1], "insert") && !sql_token_is(&before[1], "merge");
    return sql_token_is(&before[0], "create") || sql_token_is(&before[0], "replace") ||
           sql_token_is(&before[0], "local") || sql_token_is(&before[0], "global");
}

static void look_at(struct walk *walk, const struct sql_token *token)
{
    const struct sql_token *before = walk->before;

    if (token->kind != SQL_WORD && token->kind != SQL_QUOTED) {
        /* U&"…" may mean any name */
        if (token->kind == SQL_ODD && (token->text[0] == 'u' || token->text[0] == 'U') &&
            token->text[2] == '"')
            walk->bad = true;
        return;
    }
    walk->statement->marks |= mark_of(walk, token);
    if (makes_temporary(walk, token))
        walk->temporary = true;
    else if (sql_token_is(token, "hold") && sql_token_is(&before[0], "with"))
        walk->hold = true;
    else if (sql_token_is(token, "drop") && sql_token_is(&before[0], "commit") &&
             sql_token_is(&before[1], "on"))
        walk->drops_itself = true;
}

/* The depth of BEGIN ATOMIC, in which CASE … END counts too. */
static void look_for_body(struct walk *walk, const struct sql_token *token)
{
    if (walk->atomic == 0) {
        if (sql_token_is(token, "atomic") && sql_token_is(&walk->before[0], "begin"))
            walk->atomic = 1;
    } else if (sql_token_is(token, "case")) {
        walk->atomic++;
    } else if (sql_token_is(token, "end")) {
        walk->atomic--;
    }
}

/* Walks from the first token to the end of the statement. */
static void walk_to_end(struct walk *walk, struct sql_token token)
{
    bool creates = sql_token_is(&token, "create");

    for (;; token = sql_token(walk->lexer)) {
        if (token.kind == SQL_END)
            break;
        if (token.kind == SQL_BAD) {
            walk->bad = true;
            break;
        }
        if (is_symbol(&token, ';') && walk->depth == 0 && walk->atomic == 0)
            break;
        if (is_symbol(&token, '('))
            walk->depth++;
        else if (is_symbol(&token, ')') && walk->depth > 0)
            walk->depth--;
        if (creates)
            look_for_body(walk, &token);
        look_at(walk, &token);
        walk->before[2] = walk->before[1];
        walk->before[1] = walk->before[0];
        walk->before[0] = token;
    }
    walk->statement->to = (size_t)(token.text - walk->lexer->text);
    if (walk->depth > 0 || walk->atomic > 0)
        walk->bad = true; /* the server will say a syntax error, unless we misread it */
}

/* ---- what it is ---- */

enum sql_verb sql_first_word(const char *word, size_t length)
{
    static const struct {
        char word[12];
        uint8_t length;
        uint8_t verb;
    } verbs[] = {
        {"abort", 5, SQL_ROLLBACK},
        {"alter", 5, SQL_STANDS_ALONE},
        {"analyse", 7, SQL_STANDS_ALONE},
        {"analyze", 7, SQL_STANDS_ALONE},
        {"begin", 5, SQL_BEGIN},
        {"call", 4, SQL_STANDS_ALONE},
        {"close", 5, SQL_CLOSE},
        {"cluster", 7, SQL_STANDS_ALONE},
        {"commit", 6, SQL_COMMIT},
        {"create", 6, SQL_TEMPORARY},
        {"deallocate", 10, SQL_DEALLOCATE},
        {"declare", 7, SQL_HOLD},
        {"discard", 7, SQL_DISCARD_ALL},
        {"do", 2, SQL_STANDS_ALONE},
        {"drop", 4, SQL_DROP},
        {"end", 3, SQL_COMMIT},
        {"explain", 7, SQL_UNKNOWN},
        {"listen", 6, SQL_LISTEN},
        {"load", 4, SQL_LOAD},
        {"prepare", 7, SQL_PREPARE},
        {"refresh", 7, SQL_STANDS_ALONE},
        {"reindex", 7, SQL_STANDS_ALONE},
        {"release", 7, SQL_RELEASE},
        {"repack", 6, SQL_STANDS_ALONE},
        {"reset", 5, SQL_RESET},
        {"rollback", 8, SQL_ROLLBACK},
        {"savepoint", 9, SQL_SAVEPOINT},
        {"set", 3, SQL_SET},
        {"start", 5, SQL_BEGIN},
        {"unlisten", 8, SQL_UNLISTEN},
        {"vacuum", 6, SQL_STANDS_ALONE},
    };
    /* where the words with a letter begin in the table, from `a` on */
    static const uint8_t places[27] = {0,  4,  5,  10, 15, 17, 17, 17, 17, 17, 17, 17, 19, 19,
                                       19, 19, 20, 20, 26, 29, 29, 30, 31, 31, 31, 31, 31};
    unsigned letter = length ? (unsigned)((word[0] | 0x20) - 'a') : 26;

    if (letter >= 26)
        return SQL_QUIET;
    for (unsigned i = places[letter]; i < places[letter + 1]; i++) {
        size_t same = 1;

        if (verbs[i].length != length)
            continue;
        while (same < length && (word[same] | 0x20) == verbs[i].word[same])
            same++;
        if (same == length)
            return (enum sql_verb)verbs[i].verb;
    }
    return SQL_QUIET;
}

/* SELECT [pg_catalog.] set_config('name', 'value', false), and nothing else: a SET by another name.
 */
static bool read_config_select(struct sql_lexer *at, struct sql_statement *statement)
{
    struct sql_setting *setting = &statement->settings[0];
    struct sql_token token = sql_token(at), value;
    struct buffer name = {0};
    bool good;

    if (is_name(&token, "pg_catalog")) {
        token = sql_token(at);
        if (!is_symbol(&token, '.'))
            return false;
        token = sql_token(at);
    }
    if (!is_name(&token, "set_config"))
        return false;
    token = sql_token(at);
    if (!is_symbol(&token, '('))
        return false;
    token = sql_token(at);
    good = sql_token_string(&token, at->mode, &name) && name.length > 0 &&
           name.length < sizeof(setting->name) && !memchr(name.data, '\0', name.length);
    if (good) {
        memcpy(setting->name, name.data, name.length);
        setting->name[name.length] = '\0';
    }
    buffer_fini(&name);
    token = sql_token(at);
    value = sql_token(at);
    if (!good || !is_symbol(&token, ',') || value.kind != SQL_STRING)
        return false;
    setting->from = (size_t)(value.text - at->text);
    setting->to = setting->from + value.length;
    setting->is_text = true;
    token = sql_token(at);
    if (!is_symbol(&token, ','))
        return false;
    token = sql_token(at);
    if (!sql_token_is(&token, "false") &&
        !(token.kind == SQL_STRING && token.length == 3 && token.text[1] == 'f'))
        return false;
    token = sql_token(at);
    if (!is_symbol(&token, ')'))
        return false;
    token = sql_token(at);
    return token.kind == SQL_END;
}

/* ROLLBACK [WORK | TRANSACTION] [TO [SAVEPOINT] name], RELEASE [SAVEPOINT] name. */
static enum sql_verb read_savepoint(struct sql_lexer *at, struct sql_statement *statement,
                                    enum sql_verb verb)
{
    struct sql_token token = sql_token(at);

    if (verb == SQL_ROLLBACK) {
        if (sql_token_is(&token, "prepared"))
            return SQL_QUIET;
        if (sql_token_is(&token, "work") || sql_token_is(&token, "transaction"))
            token = sql_token(at);
        if (!sql_token_is(&token, "to"))
            return SQL_ROLLBACK;
        verb = SQL_ROLLBACK_TO;
        token = sql_token(at);
    }
    if (verb != SQL_SAVEPOINT && sql_token_is(&token, "savepoint")) {
        struct sql_lexer ahead = *at;
        struct sql_token name = sql_token(&ahead);

        if (name.kind == SQL_WORD || name.kind == SQL_QUOTED)
            token = name;
    }
    if (!sql_token_is_folded_here(&token) ||
        !sql_token_name(&token, statement->name, sizeof(statement->name)))
        return SQL_UNKNOWN; /* another savepoint may be called the same there */
    return verb;
}

/* The name behind DEALLOCATE [PREPARE], LISTEN, UNLISTEN, PREPARE, CLOSE. */
static void read_name(struct sql_lexer *at, struct sql_statement *statement, bool prepare)
{
    struct sql_token token = sql_token(at);

    if (prepare && sql_token_is(&token, "prepare")) {
        struct sql_lexer ahead = *at;
        struct sql_token name = sql_token(&ahead);

        if (name.kind != SQL_END)
            token = name;
    }
    if (sql_token_is(&token, "all") || is_symbol(&token, '*') ||
        !sql_token_name(&token, statement->name, sizeof(statement->name)))
        statement->name[0] = '\0';
}

static enum sql_verb read_discard(struct sql_lexer *at)
{
    struct sql_token token = sql_token(at);

    if (sql_token_is(&token, "all"))
        return SQL_DISCARD_ALL;
    if (sql_token_is(&token, "temp") || sql_token_is(&token, "temporary"))
        return SQL_DISCARD_TEMP;
    return SQL_QUIET;
}

/* What the first word promised, by the words behind it. */
static enum sql_verb read_on(struct sql_lexer *at, struct sql_statement *statement,
                             const struct walk *walk, enum sql_verb verb)
{
    struct sql_lexer ahead = *at;
    struct sql_token token = sql_token(&ahead);

    switch (verb) {
    case SQL_COMMIT:
        return sql_token_is(&token, "prepared") ? SQL_QUIET : SQL_COMMIT;
    case SQL_ROLLBACK:
    case SQL_SAVEPOINT:
    case SQL_RELEASE:
        return read_savepoint(at, statement, verb);
    case SQL_PREPARE:
        if (sql_token_is(&token, "transaction"))
            return SQL_PREPARE_TRANSACTION;
        read_name(at, statement, false);
        return SQL_PREPARE;
    case SQL_DEALLOCATE:
        read_name(at, statement, true);
        return SQL_DEALLOCATE;
    case SQL_LISTEN:
    case SQL_UNLISTEN:
    case SQL_CLOSE:
        read_name(at, statement, false);
        return verb;
    case SQL_DISCARD_ALL:
        return read_discard(at);
    case SQL_SET:
    case SQL_RESET:
        return sql_read_set(at, statement, verb);
    case SQL_HOLD:
        return walk->hold ? SQL_HOLD : SQL_QUIET;
    case SQL_LOAD:
    case SQL_DROP:
    case SQL_BEGIN:
        return verb;
    default:
        return SQL_QUIET; /* CREATE, EXPLAIN: as what is in it says */
    }
}

/* May it commit by itself, by its first word and what it turned out to be? */
static bool is_alone(enum sql_verb first, enum sql_verb verb)
{
    switch (first) {
    case SQL_STANDS_ALONE:
    case SQL_TEMPORARY: /* CREATE DATABASE … */
    case SQL_DROP:
    case SQL_DISCARD_ALL:
        return true;
    case SQL_COMMIT:
    case SQL_ROLLBACK:
        return verb == SQL_QUIET; /* … PREPARED */
    default:
        return false;
    }
}

bool sql_next(struct sql_lexer *lexer, struct sql_statement *statement)
{
    struct walk walk = {.lexer = lexer, .statement = statement};
    struct sql_lexer inside;
    struct sql_token first;
    enum sql_verb verb;

    memset(statement, 0, sizeof(*statement));
    do {
        first = sql_token(lexer);
    } while (is_symbol(&first, ';'));
    if (first.kind == SQL_END)
        return false;
    statement->from = (size_t)(first.text - lexer->text);
    inside = *lexer;
    walk_to_end(&walk, first);
    inside.length = statement->to;
    if (walk.bad) {
        statement->verb = SQL_UNKNOWN;
        return true;
    }
    if (first.kind == SQL_WORD) {
        verb = sql_first_word(first.text, first.length);
        statement->verb = read_on(&inside, statement, &walk, verb);
        if (is_alone(verb, statement->verb))
            statement->marks |= SQL_ALONE;
    }
    if (statement->verb != SQL_QUIET)
        return true;
    if (walk.temporary && !walk.drops_itself)
        statement->verb = SQL_TEMPORARY;
    else if (statement->marks == SQL_CALLS_CONFIG && sql_token_is(&first, "select") &&
             read_config_select(&inside, statement)) {
        statement->marks = 0;
        statement->verb = sql_config_verb(statement);
    }
    return true;
}
