/*
 * statement: SQL's outer shape, as far as a console needs it.
 *
 *   "pause app; -- later\n show pools;"  →  [pause app]  [show pools]
 *
 * Comments (two dashes, and slash-star, which nest) and blanks separate tokens; `;` ends a
 * statement outside quotes. A quote is doubled inside quotes. A bare word may hold '@', '.', '-'
 * and anything else that database names hold, so `app@production` needs no quotes. The text comes
 * from a client: it is only ever walked up to its NUL.
 */
#include "pgstage/admin/statement.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static bool is_symbol(char c)
{
    return c == '=' || c == ',' || c == '(' || c == ')';
}

/* Behind the comment that begins at `p`; at the text's end when it has none. */
static const char *skip_block_comment(const char *p)
{
    size_t depth = 0;
    while (*p) {
        if (p[0] == '/' && p[1] == '*') {
            depth++;
            p += 2;
        } else if (p[0] == '*' && p[1] == '/') {
            p += 2;
            if (--depth == 0)
                break;
        } else {
            p++;
        }
    }
    return p;
}

static const char *skip_blanks(const char *p)
{
    for (;;) {
        if (is_blank(*p))
            p++;
        else if (p[0] == '-' && p[1] == '-')
            p += strcspn(p, "\n");
        else if (p[0] == '/' && p[1] == '*')
            p = skip_block_comment(p);
        else
            return p;
    }
}

static void add_token(struct statement *statement, enum token_kind kind, char *text)
{
    if (statement->count < STATEMENT_TOKENS_MAX) {
        statement->tokens[statement->count].kind = kind;
        statement->tokens[statement->count].text = text;
    } else {
        free(text);
    }
    statement->count++;
}

/* The quoted token at `p`; returns behind it. */
static const char *read_quoted(struct statement *statement, const char *p)
{
    char quote = *p++;
    char *text = memory_get(strlen(p) + 1);
    size_t length = 0;
    while (*p && (*p != quote || p[1] == quote)) {
        if (*p == quote)
            p++;
        text[length++] = *p++;
    }
    text[length] = '\0';
    if (*p == quote)
        p++;
    else
        statement->problem = "a quoted text has no end";
    add_token(statement, quote == '"' ? TOKEN_QUOTED : TOKEN_STRING, text);
    return p;
}

static const char *read_token(struct statement *statement, const char *p)
{
    if (*p == '\'' || *p == '"')
        return read_quoted(statement, p);
    if (is_symbol(*p)) {
        add_token(statement, TOKEN_SYMBOL, text_copy_n(p, 1));
        return p + 1;
    }
    const char *begin = p;
    while (*p && *p != ';' && *p != '\'' && *p != '"' && !is_blank(*p) && !is_symbol(*p))
        p++;
    add_token(statement, TOKEN_WORD, text_copy_n(begin, (size_t)(p - begin)));
    return p;
}

bool statement_next(const char **query, struct statement *statement)
{
    *statement = (struct statement){0};
    const char *p = *query;
    const char *begin = NULL, *end = NULL;
    for (;;) {
        p = skip_blanks(p);
        if (*p == '\0' || (*p == ';' && begin))
            break;
        if (*p == ';') {
            p++;
            continue;
        }
        if (!begin)
            begin = p;
        p = read_token(statement, p);
        end = p;
    }
    *query = *p == ';' ? p + 1 : p;
    if (!begin)
        return false;
    statement->text = text_copy_n(begin, (size_t)(end - begin));
    return true;
}

void statement_fini(struct statement *statement)
{
    for (size_t i = 0; i < statement->count && i < STATEMENT_TOKENS_MAX; i++)
        free(statement->tokens[i].text);
    free(statement->text);
    *statement = (struct statement){0};
}

bool statement_is(const struct statement *statement, size_t index, const char *word)
{
    return index < statement->count && index < STATEMENT_TOKENS_MAX &&
           statement->tokens[index].kind == TOKEN_WORD &&
           text_equal_nocase(statement->tokens[index].text, word);
}

bool statement_has_value(const struct statement *statement, size_t index)
{
    return index < statement->count && index < STATEMENT_TOKENS_MAX &&
           statement->tokens[index].kind != TOKEN_SYMBOL;
}
