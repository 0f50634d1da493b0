/*
 * sql_token.c: the tokens of a SQL text, cut where PostgreSQL's scan.l cuts them.
 *
 * Only the borders have to be right, because a border that is missed could hide a statement:
 * comments nest, a dollar quote ends at its own tag, a string goes on behind a line break in the
 * same manner as it began, and -- or a slash and star begin a comment inside an operator, too.
 * Where a character may end with a byte that looks like a quote or a backslash (SQL_MIXED), a text
 * with such characters is not read at all.
 */
#include <string.h>

#include "pgstage/base/text.h"
#include "pgstage/wire/sql.h"

/* What a byte may be in a token. */
enum letter { BLANK = 1, START = 2, PART = 4, DIGIT = 8, LINE = 16 };

static unsigned letter_of(char c)
{
    unsigned char byte = (unsigned char)c;

    if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_' || byte >= 0x80)
        return START | PART;
    if (byte >= '0' && byte <= '9')
        return DIGIT | PART;
    switch (byte) {
    case '$':
        return PART;
    case '\n':
    case '\r':
        return BLANK | LINE;
    case ' ':
    case '\t':
    case '\f':
    case '\v':
        return BLANK;
    default:
        return 0;
    }
}

unsigned sql_mode_of(const char *standard_conforming_strings, const char *client_encoding)
{
    static const char *const mixed[] = {"SJIS",    "BIG5",  "GBK",           "UHC",
                                        "GB18030", "JOHAB", "SHIFT_JIS_2004"};
    unsigned mode = 0;

    if (standard_conforming_strings && text_equal_nocase(standard_conforming_strings, "off"))
        mode |= SQL_BACKSLASH;
    for (size_t i = 0; client_encoding && i < sizeof mixed / sizeof *mixed; i++) {
        if (text_equal_nocase(client_encoding, mixed[i]))
            mode |= SQL_MIXED;
    }
    return mode;
}

static char peek(const struct sql_lexer *lexer, size_t ahead)
{
    return ahead < lexer->length - lexer->at ? lexer->text[lexer->at + ahead] : '\0';
}

/* ---- blanks and comments ---- */

static void skip_line(struct sql_lexer *lexer)
{
    while (lexer->at < lexer->length && !(letter_of(lexer->text[lexer->at]) & LINE))
        lexer->at++;
}

/* At a slash and star; false when it does not end. */
static bool skip_comment(struct sql_lexer *lexer)
{
    size_t depth = 0;

    while (lexer->at < lexer->length) {
        if (peek(lexer, 0) == '/' && peek(lexer, 1) == '*') {
            depth++;
            lexer->at += 2;
        } else if (peek(lexer, 0) == '*' && peek(lexer, 1) == '/') {
            lexer->at += 2;
            if (--depth == 0)
                return true;
        } else {
            lexer->at++;
        }
    }
    return false;
}

static bool skip_blanks(struct sql_lexer *lexer)
{
    for (;;) {
        if (letter_of(peek(lexer, 0)) & BLANK)
            lexer->at++;
        else if (peek(lexer, 0) == '-' && peek(lexer, 1) == '-')
            skip_line(lexer);
        else if (peek(lexer, 0) == '/' && peek(lexer, 1) == '*') {
            if (!skip_comment(lexer))
                return false;
        } else
            return true;
    }
}

/* ---- quotes ---- */

/* Behind a closing quote: does the string go on behind a line break? Then `at` is moved to the
 * quote. Only -- comments may stand between, behind the first line break. */
static bool goes_on(struct sql_lexer *lexer)
{
    struct sql_lexer ahead = *lexer;
    bool line = false;

    while (ahead.at < ahead.length) {
        unsigned letter = letter_of(peek(&ahead, 0));

        if (letter & BLANK) {
            line = line || (letter & LINE);
            ahead.at++;
        } else if (line && peek(&ahead, 0) == '-' && peek(&ahead, 1) == '-') {
            skip_line(&ahead);
        } else {
            break;
        }
    }
    if (!line || peek(&ahead, 0) != '\'')
        return false;
    lexer->at = ahead.at;
    return true;
}

/* At an opening quote: moves behind the closing one; false when there is none. */
static bool skip_quoted(struct sql_lexer *lexer, char quote, bool backslash)
{
    do {
        lexer->at++;
        for (;;) {
            if (lexer->at >= lexer->length || lexer->text[lexer->at] == '\0')
                return false;
            if (backslash && lexer->text[lexer->at] == '\\') {
                if (lexer->length - lexer->at < 2)
                    return false;
                lexer->at += 2;
                continue;
            }
            if (lexer->text[lexer->at] != quote) {
                lexer->at++;
                continue;
            }
            if (peek(lexer, 1) != quote)
                break;
            lexer->at += 2;
        }
        lexer->at++;
    } while (backslash && goes_on(lexer));
    return true;
}

/* At a `$`: the length of the opening $tag$; 0 when it is none. */
static size_t dollar_tag(const struct sql_lexer *lexer)
{
    size_t length = 1;

    if (letter_of(peek(lexer, 1)) & DIGIT)
        return 0;
    while (letter_of(peek(lexer, length)) & PART && peek(lexer, length) != '$')
        length++;
    return peek(lexer, length) == '$' ? length + 1 : 0;
}

static bool skip_dollar(struct sql_lexer *lexer, size_t tag)
{
    const char *open = lexer->text + lexer->at;
    const char *begin = open + tag;
    const char *end = memmem(begin, lexer->length - lexer->at - tag, open, tag);

    if (!end || memchr(begin, '\0', (size_t)(end - begin)))
        return false;
    lexer->at = (size_t)(end - lexer->text) + tag;
    return true;
}

/* ---- tokens ---- */

static enum sql_token_kind word_or_prefix(struct sql_lexer *lexer)
{
    char first = peek(lexer, 0), second = peek(lexer, 1);

    if (second == '\'' && first != '\0' && strchr("eEnNbBxX", first)) {
        bool escapes = first == 'e' || first == 'E';
        bool odd = strchr("bBxX", first) != NULL;

        /* N'…' is a plain string behind the N, and read as one */
        lexer->at++;
        if (!skip_quoted(lexer, '\'', escapes || (!odd && (lexer->mode & SQL_BACKSLASH) != 0)))
            return SQL_BAD;
        return odd ? SQL_ODD : SQL_STRING;
    }
    if ((first == 'u' || first == 'U') && second == '&' &&
        (peek(lexer, 2) == '\'' || peek(lexer, 2) == '"')) {
        lexer->at += 2;
        return skip_quoted(lexer, peek(lexer, 0), false) ? SQL_ODD : SQL_BAD;
    }
    while (letter_of(peek(lexer, 0)) & PART)
        lexer->at++;
    return SQL_WORD;
}

static enum sql_token_kind number(struct sql_lexer *lexer)
{
    /* what a number looks like does not matter: no part of it can be a quote or a comment */
    while ((letter_of(peek(lexer, 0)) & PART && peek(lexer, 0) != '$') || peek(lexer, 0) == '.')
        lexer->at++;
    return SQL_NUMBER;
}

static enum sql_token_kind dollar(struct sql_lexer *lexer)
{
    size_t tag = dollar_tag(lexer);

    if (tag)
        return skip_dollar(lexer, tag) ? SQL_DOLLAR : SQL_BAD;
    lexer->at++;
    if (!(letter_of(peek(lexer, 0)) & DIGIT))
        return SQL_SYMBOL;
    while (letter_of(peek(lexer, 0)) & DIGIT)
        lexer->at++;
    return SQL_NUMBER;
}

static enum sql_token_kind next_kind(struct sql_lexer *lexer)
{
    char first = peek(lexer, 0);
    unsigned letter = letter_of(first);

    if (lexer->mode & SQL_MIXED && (unsigned char)first >= 0x80)
        return SQL_BAD;
    if (letter & START)
        return word_or_prefix(lexer);
    if (letter & DIGIT || (first == '.' && letter_of(peek(lexer, 1)) & DIGIT))
        return number(lexer);
    switch (first) {
    case '\0':
        return SQL_BAD;
    case '\'':
        return skip_quoted(lexer, '\'', (lexer->mode & SQL_BACKSLASH) != 0) ? SQL_STRING : SQL_BAD;
    case '"':
        return skip_quoted(lexer, '"', false) ? SQL_QUOTED : SQL_BAD;
    case '$':
        return dollar(lexer);
    default:
        lexer->at++;
        return SQL_SYMBOL;
    }
}

/* A character of two bytes may hide a quote. */
static bool is_mixed(const struct sql_token *token)
{
    for (size_t i = 0; i < token->length; i++) {
        if ((unsigned char)token->text[i] >= 0x80)
            return true;
    }
    return false;
}

struct sql_token sql_token(struct sql_lexer *lexer)
{
    size_t before = lexer->at;
    struct sql_token token = {.kind = SQL_BAD};
    bool whole = skip_blanks(lexer);

    token.text = lexer->text + lexer->at;
    token.spaced = lexer->at > before;
    if (whole && lexer->at >= lexer->length) {
        token.kind = SQL_END;
        return token;
    }
    if (whole)
        token.kind = next_kind(lexer);
    token.length = (size_t)(lexer->text + lexer->at - token.text);
    if (lexer->mode & SQL_MIXED && is_mixed(&token))
        token.kind = SQL_BAD;
    if (token.kind == SQL_BAD)
        lexer->at = lexer->length;
    return token;
}

/* ---- what tokens mean ---- */

bool sql_token_is(const struct sql_token *token, const char *word)
{
    size_t i = 0;

    if (token->kind != SQL_WORD)
        return false;
    for (; i < token->length && word[i]; i++) {
        char letter = token->text[i];
        if (letter >= 'A' && letter <= 'Z')
            letter = (char)(letter - 'A' + 'a');
        if (letter != word[i])
            return false;
    }
    return i == token->length && word[i] == '\0';
}

/* PostgreSQL looks at no more of an identifier (NAMEDATALEN - 1). */
#define IDENTIFIER_BYTES 63

bool sql_token_name(const struct sql_token *token, char *name, size_t size)
{
    bool quoted = token->kind == SQL_QUOTED, ascii = true;
    size_t count = 0, end = token->length - (quoted ? 1 : 0);

    if (!quoted && token->kind != SQL_WORD)
        return false;
    for (size_t i = quoted ? 1 : 0; i < end; i++) {
        char letter = token->text[i];

        if (quoted)
            i += letter == '"'; /* a doubled one */
        else if (letter >= 'A' && letter <= 'Z')
            letter = (char)(letter - 'A' + 'a');
        ascii = ascii && (unsigned char)letter < 0x80;
        if (count < size)
            name[count] = letter;
        count++;
    }
    if (count > IDENTIFIER_BYTES && !ascii)
        return false; /* where it is cut depends on the encoding of the server */
    if (count > IDENTIFIER_BYTES)
        count = IDENTIFIER_BYTES;
    if (count >= size)
        return false;
    name[count] = '\0';
    return count > 0;
}

bool sql_token_is_folded_here(const struct sql_token *token)
{
    if (token->kind != SQL_WORD)
        return true;
    for (size_t i = 0; i < token->length; i++) {
        if ((unsigned char)token->text[i] >= 0x80)
            return false;
    }
    return true;
}

/* One escape of E''; 0: not followed. */
static char unescape(char letter)
{
    switch (letter) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'u':
    case 'U':
    case 'x':
        return '\0';
    default:
        return letter >= '0' && letter <= '7' ? '\0' : letter;
    }
}

static bool put_quoted(const char *text, size_t length, bool backslash, struct buffer *out)
{
    for (size_t i = 0; i < length; i++) {
        char letter = text[i];

        if (letter == '\'') {
            /* a doubled one; anything else would be a string in several parts */
            if (++i >= length || text[i] != '\'')
                return false;
        } else if (letter == '\\' && backslash) {
            if (++i >= length || (letter = unescape(text[i])) == '\0')
                return false;
        }
        buffer_put_u8(out, (uint8_t)letter);
    }
    return true;
}

bool sql_token_string(const struct sql_token *token, unsigned mode, struct buffer *out)
{
    const char *text = token->text;
    size_t length = token->length, start = out->length;
    bool backslash = (mode & SQL_BACKSLASH) != 0;

    if (token->kind == SQL_DOLLAR) {
        size_t tag = (size_t)((const char *)memchr(text + 1, '$', length - 1) - text) + 1;
        buffer_put(out, text + tag, length - 2 * tag);
        return true;
    }
    if (token->kind != SQL_STRING || length < 2)
        return false;
    if (text[0] != '\'') {
        backslash = backslash || text[0] == 'e' || text[0] == 'E';
        text++;
        length--;
    }
    if (put_quoted(text + 1, length - 2, backslash, out))
        return true;
    out->length = start;
    return false;
}
