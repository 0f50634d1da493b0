/*
 * connstr: PgBouncer's connection strings.
 *
 *   dbname=app port=5432 connect_query='set a = ''x''; select 1'
 *
 * Pairs are split at blanks only. A quoted value ends at a single quote that is not doubled. Pure.
 */
#include "pgstage/conf/connstr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

#define BLANKS " \t\r\n\f\v"

/* From behind the opening quote to behind the closing one. */
static const char *read_quoted(struct arena *arena, const char *text, const char **value)
{
    char *copy = arena_get(arena, strlen(text) + 1);
    size_t length = 0;
    for (; *text; text++) {
        if (*text == '\'' && *++text != '\'') {
            copy[length] = '\0';
            *value = copy;
            return text;
        }
        copy[length++] = *text;
    }
    return NULL;
}

enum connstr_step connstr_next(struct arena *arena, const char **text, const char **key,
                               const char **value, char *problem, size_t size)
{
    const char *at = *text + strspn(*text, BLANKS);
    if (!*at)
        return CONNSTR_END;
    size_t length = strcspn(at, "=" BLANKS);
    const char *equals = at + length + strspn(at + length, BLANKS);
    if (*equals != '=') {
        snprintf(problem, size,
                 "expected key=value at \"%.40s\" (a value with blanks stands in 'single quotes')",
                 at);
        return CONNSTR_WRONG;
    }
    if (length == 0) {
        snprintf(problem, size, "there is no key before \"%.40s\"", at);
        return CONNSTR_WRONG;
    }
    *key = arena_copy_n(arena, at, length);
    /* `key = value` is fine, but `key= other=1` has forgotten a value. */
    bool spaced = equals > at + length;
    at = equals + 1 + (spaced ? strspn(equals + 1, BLANKS) : 0);
    if (*at == '\'') {
        at = read_quoted(arena, at + 1, value);
        if (!at) {
            snprintf(problem, size, "the quote after %.60s= is not closed", *key);
            return CONNSTR_WRONG;
        }
        if (*at && !strchr(BLANKS, *at)) {
            snprintf(problem, size, "expected a blank after the quoted value of %.60s", *key);
            return CONNSTR_WRONG;
        }
    } else {
        length = strcspn(at, BLANKS);
        if (length == 0) {
            snprintf(problem, size, "%.60s has an empty value", *key);
            return CONNSTR_WRONG;
        }
        *value = arena_copy_n(arena, at, length);
        at += length;
    }
    *text = at;
    return CONNSTR_PAIR;
}

char *connstr_quote(const char *value)
{
    if (*value && !strpbrk(value, "'" BLANKS))
        return text_copy(value);
    char *quoted = memory_get(strlen(value) * 2 + 3), *out = quoted;
    *out++ = '\'';
    for (; *value; value++) {
        if (*value == '\'')
            *out++ = '\'';
        *out++ = *value;
    }
    *out++ = '\'';
    *out = '\0';
    return quoted;
}
