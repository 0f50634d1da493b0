/*
 * mask.c: a small lexer of SQL that knows where literals begin and end, as far as one can without
 * the session's settings.
 *
 * It errs on the side of hiding: whatever could be read in two ways (a backslash before the quote
 * of a plain string depends on standard_conforming_strings; a quote that is never closed) makes the
 * whole text unknown. Where the text was cut, an open literal hides all the rest. One pass, no
 * recursion.
 */
#include "pgstage/wire/mask.h"

#include <ctype.h>
#include <string.h>

struct lexer {
    const char *text;
    size_t length, at;
    bool cut, failed;
    struct buffer *out;
};

static bool is_name_start(char c)
{
    return isalpha((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_name(char c)
{
    return is_name_start(c) || isdigit((unsigned char)c) || c == '$';
}

static char look(const struct lexer *lexer, size_t ahead)
{
    return lexer->length - lexer->at > ahead ? lexer->text[lexer->at + ahead] : '\0';
}

/* The text ends inside of something. */
static void open_end(struct lexer *lexer)
{
    lexer->at = lexer->length;
    lexer->failed = lexer->failed || !lexer->cut;
}

static void put_blank(struct lexer *lexer)
{
    if (lexer->out->length && lexer->out->data[lexer->out->length - 1] != ' ')
        buffer_put_u8(lexer->out, ' ');
}

/* '…' with its opening quote next; `escapes`: a backslash takes the next character along. */
static void skip_string(struct lexer *lexer, bool escapes)
{
    buffer_put_u8(lexer->out, '?');
    for (lexer->at++; lexer->at < lexer->length; lexer->at++) {
        char c = look(lexer, 0);

        if (c == '\\' && escapes) {
            lexer->at++;
        } else if (c == '\\' && look(lexer, 1) == '\'') {
            lexer->failed = true; /* the end, or not: who knows */
            return;
        } else if (c == '\'' && look(lexer, 1) == '\'') {
            lexer->at++;
        } else if (c == '\'') {
            lexer->at++;
            return;
        }
    }
    open_end(lexer);
}

/* "…": a name, kept. */
static void keep_quoted_name(struct lexer *lexer)
{
    size_t begin = lexer->at;

    for (lexer->at++; lexer->at < lexer->length; lexer->at++) {
        if (look(lexer, 0) != '"')
            continue;
        if (look(lexer, 1) != '"') {
            lexer->at++;
            buffer_put(lexer->out, lexer->text + begin, lexer->at - begin);
            return;
        }
        lexer->at++;
    }
    open_end(lexer);
}

/* $1, or $tag$ … $tag$. */
static void take_dollar(struct lexer *lexer)
{
    const char *begin = lexer->text + lexer->at, *end = lexer->text + lexer->length,
               *tag = begin + 1;
    size_t bytes;

    if (tag < end && isdigit((unsigned char)*tag)) {
        buffer_put_u8(lexer->out, '$');
        for (lexer->at++; isdigit((unsigned char)look(lexer, 0)); lexer->at++)
            buffer_put_u8(lexer->out, (uint8_t)look(lexer, 0));
        return;
    }
    while (tag < end && is_name(*tag) && *tag != '$')
        tag++;
    if (tag == end) {
        open_end(lexer);
        return;
    }
    if (*tag != '$') {
        lexer->failed = true;
        return;
    }
    bytes = (size_t)(tag - begin) + 1;
    buffer_put_u8(lexer->out, '?');
    tag = memmem(begin + bytes, (size_t)(end - begin) - bytes, begin, bytes);
    if (tag)
        lexer->at = (size_t)(tag - lexer->text) + bytes;
    else
        open_end(lexer);
}

/* A name, or the letter before a string. */
static void take_name(struct lexer *lexer)
{
    size_t begin = lexer->at;
    char first = (char)tolower((unsigned char)look(lexer, 0));

    if (look(lexer, 1) == '\'' && strchr("ebxn", first)) {
        lexer->at++;
        skip_string(lexer, first == 'e');
        return;
    }
    if (first == 'u' && look(lexer, 1) == '&' && look(lexer, 2) == '\'') {
        lexer->at += 2;
        skip_string(lexer, false);
        return;
    }
    while (lexer->at < lexer->length && is_name(look(lexer, 0)))
        lexer->at++;
    buffer_put(lexer->out, lexer->text + begin, lexer->at - begin);
}

static void take_number(struct lexer *lexer)
{
    buffer_put_u8(lexer->out, '?');
    while (lexer->at < lexer->length) {
        char c = look(lexer, 0), next = look(lexer, 1);

        if ((c == 'e' || c == 'E') && (next == '-' || next == '+'))
            lexer->at += 2;
        else if (is_name(c) || (c == '.' && next != '.'))
            lexer->at++;
        else
            break;
    }
}

static void skip_comment(struct lexer *lexer)
{
    unsigned depth = 0;

    put_blank(lexer);
    if (look(lexer, 0) == '-') {
        while (lexer->at < lexer->length && look(lexer, 0) != '\n')
            lexer->at++;
        return;
    }
    while (lexer->at < lexer->length) {
        if (look(lexer, 0) == '/' && look(lexer, 1) == '*') {
            depth++;
            lexer->at += 2;
        } else if (look(lexer, 0) == '*' && look(lexer, 1) == '/') {
            lexer->at += 2;
            if (--depth == 0)
                return;
        } else {
            lexer->at++;
        }
    }
    open_end(lexer);
}

static void step(struct lexer *lexer)
{
    char c = look(lexer, 0), next = look(lexer, 1);

    if (c == '\'') {
        skip_string(lexer, false);
    } else if (c == '"') {
        keep_quoted_name(lexer);
    } else if (c == '$') {
        take_dollar(lexer);
    } else if (is_name_start(c)) {
        take_name(lexer);
    } else if (isdigit((unsigned char)c) || (c == '.' && isdigit((unsigned char)next))) {
        take_number(lexer);
    } else if ((c == '-' && next == '-') || (c == '/' && next == '*')) {
        skip_comment(lexer);
    } else if (isspace((unsigned char)c)) {
        put_blank(lexer);
        lexer->at++;
    } else {
        buffer_put_u8(lexer->out, (uint8_t)c);
        lexer->at++;
    }
}

bool mask_literals(const char *sql, size_t length, bool cut, struct buffer *out)
{
    size_t begin = out->length;
    struct lexer lexer = {.text = sql, .length = length, .cut = cut, .out = out};

    while (lexer.at < lexer.length && !lexer.failed)
        step(&lexer);
    if (lexer.failed)
        out->length = begin;
    return !lexer.failed;
}
