/*
 * intent.c: what a text may do to its transaction.
 *
 *   SELECT …                          0: its first word says nothing, and nothing stands behind a ;
 *   COMMIT                            COMMITS ENDS
 *   BEGIN; INSERT …                   BEGINS BEGINS_FIRST
 *   INSERT …; COMMIT                  COMMITS
 *   ROLLBACK; INSERT …                COMMITS: what stands behind it commits by itself
 *   CREATE FUNCTION … BEGIN ATOMIC …  0, or COMMITS when it cannot be followed
 *
 * A statement is found by the SQL reader (sql.h); what makes it a *sole* end of a transaction is
 * read here word by word, since PostgreSQL takes nothing else for one.
 */
#include "pgstage/wire/intent.h"

#include <string.h>

#include "pgstage/wire/sql.h"

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Words with which a statement begins that has to do with transactions. */
static bool matters(const char *word, size_t length)
{
    static const char *const words[] = {"abort",   "begin",    "commit", "end",
                                        "prepare", "rollback", "start"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t at = 0;

        while (at < length && words[i][at] && (word[at] | 0x20) == words[i][at])
            at++;
        if (at == length && !words[i][at])
            return true;
    }
    return false;
}

bool intent_is_plain(const char *text, size_t length)
{
    size_t from = 0, to, end = length;

    while (from < length && is_blank(text[from]))
        from++;
    to = from;
    while (to < length && is_letter(text[to]))
        to++;
    while (end > to && (is_blank(text[end - 1]) || text[end - 1] == ';'))
        end--;
    /* a word, and not the beginning of a longer name, nor before a comment */
    if (to == from || (to < length && !is_blank(text[to]) && !strchr("(;*\"'", text[to])))
        return false;
    return !matters(text + from, to - from) && !memchr(text + to, ';', end - to);
}

/* Does [COMMIT | ROLLBACK …] go on with nothing but [WORK | TRANSACTION] [AND NO CHAIN]? `chains`:
 * with AND CHAIN. */
static bool ends_plainly(const char *text, size_t length, unsigned mode, bool *chains)
{
    struct sql_lexer lexer = {text, length, 0, mode};
    struct sql_token token;

    (void)sql_token(&lexer);
    token = sql_token(&lexer);
    if (sql_token_is(&token, "work") || sql_token_is(&token, "transaction"))
        token = sql_token(&lexer);
    if (sql_token_is(&token, "and")) {
        token = sql_token(&lexer);
        *chains = sql_token_is(&token, "chain");
        if (!sql_token_is(&token, "no"))
            return false;
        token = sql_token(&lexer);
        if (!sql_token_is(&token, "chain"))
            return false;
        token = sql_token(&lexer);
    }
    return token.kind == SQL_END;
}

/* A statement of any text. */
static uint8_t read_statement(const char *text, const struct sql_statement *statement,
                              unsigned mode, bool *rolls_back)
{
    const char *own = text + statement->from;
    size_t length = statement->to - statement->from;
    bool chains = false, plain;

    switch (statement->verb) {
    case SQL_BEGIN:
        return INTENT_BEGINS;
    case SQL_COMMIT:
    case SQL_ROLLBACK:
        plain = ends_plainly(own, length, mode, &chains);
        *rolls_back = statement->verb == SQL_ROLLBACK;
        return (uint8_t)((*rolls_back ? 0 : INTENT_COMMITS) | (chains ? INTENT_BEGINS : 0) |
                         (plain ? INTENT_ENDS : 0));
    case SQL_PREPARE_TRANSACTION:
        return INTENT_COMMITS | INTENT_PREPARES;
    case SQL_UNKNOWN:
        return INTENT_COMMITS;
    default:
        return 0;
    }
}

uint8_t intent_of(const char *text, size_t length, bool cut, unsigned mode)
{
    struct sql_lexer lexer = {text, length, 0, mode};
    struct sql_statement statement;
    unsigned count = 0;
    bool rolled_back = false;
    uint8_t intent = 0, one;

    if (!cut && intent_is_plain(text, length))
        return 0;
    while (sql_next(&lexer, &statement)) {
        bool rolls_back = false;

        one = read_statement(text, &statement, mode, &rolls_back);
        if (one & INTENT_BEGINS && count == 0)
            one |= INTENT_BEGINS_FIRST;
        if (rolled_back)
            one |= INTENT_COMMITS; /* it is in no transaction any more */
        rolled_back |= rolls_back;
        intent |= one;
        count++;
        if (statement.verb == SQL_UNKNOWN)
            break;
    }
    if (count != 1 || cut)
        intent &= (uint8_t) ~(INTENT_ENDS | INTENT_PREPARES);
    if (cut)
        return intent | INTENT_COMMITS;
    return count == 0 ? INTENT_EMPTY : intent;
}
