/*
 * sql_look.c: does a text need a closer look at all?
 *
 * Nearly every query is one statement that begins with SELECT, INSERT or the like and calls nothing
 * that matters. So: the first word decides, when no further statement can follow (no semicolon but
 * at the end) and none of a few letter sequences is anywhere in the text. They are looked for in
 * blocks of 16 bytes, with loops that compilers turn into a handful of vector instructions; a hit
 * that means nothing ("template", a semicolon in a string) costs one reading by sql_next.
 */
#include <string.h>

#include "pgstage/wire/sql.h"
#include "sql_inside.h"

#define BLOCK 16
#define AHEAD 3 /* the longest sequence looks so far ahead */

/* Is one of ";", "u&", "temp", "advi", "t_co", "tsee" in the block? Letters in either case. */
static bool block_hits(const uint8_t *at)
{
    uint8_t hits = 0;

    for (int i = 0; i < BLOCK; i++) {
        uint8_t a = at[i] | 0x20, b = at[i + 1] | 0x20, c = at[i + 2] | 0x20, d = at[i + 3] | 0x20;
        uint8_t temp =
            (uint8_t)(a ^ 't') | (uint8_t)(b ^ 'e') | (uint8_t)(c ^ 'm') | (uint8_t)(d ^ 'p');
        uint8_t advi =
            (uint8_t)(a ^ 'a') | (uint8_t)(b ^ 'd') | (uint8_t)(c ^ 'v') | (uint8_t)(d ^ 'i');
        uint8_t config = (uint8_t)(a ^ 't') | (uint8_t)(b ^ ('_' | 0x20)) | (uint8_t)(c ^ 'c') |
                         (uint8_t)(d ^ 'o');
        uint8_t seed =
            (uint8_t)(a ^ 't') | (uint8_t)(b ^ 's') | (uint8_t)(c ^ 'e') | (uint8_t)(d ^ 'e');
        uint8_t unicode = (uint8_t)(a ^ 'u') | (uint8_t)(at[i + 1] ^ '&');
        uint8_t end = at[i] ^ ';';

        hits |= (uint8_t)((temp == 0) | (advi == 0) | (config == 0) | (seed == 0) | (unicode == 0) |
                          (end == 0));
    }
    return hits != 0;
}

static bool hits(const char *text, size_t length)
{
    const uint8_t *at = (const uint8_t *)text;
    uint8_t last[BLOCK + AHEAD] = {0};

    for (; length >= BLOCK + AHEAD; at += BLOCK, length -= BLOCK) {
        if (block_hits(at))
            return true;
    }
    memcpy(last, at, length);
    if (block_hits(last))
        return true;
    /* what is left may be longer than a block by less than AHEAD */
    if (length <= BLOCK)
        return false;
    memmove(last, last + BLOCK, AHEAD);
    memset(last + AHEAD, 0, BLOCK);
    return block_hits(last);
}

/* Without the blanks and the semicolons at its end. */
static size_t without_end(const char *text, size_t length)
{
    while (length &&
           (text[length - 1] == ';' || text[length - 1] == ' ' || text[length - 1] == '\n' ||
            text[length - 1] == '\r' || text[length - 1] == '\t'))
        length--;
    return length;
}

/* What a statement that begins like this may do by that alone. */
static unsigned look_of_verb(enum sql_verb verb)
{
    switch (verb) {
    case SQL_QUIET:
    case SQL_BEGIN:
    case SQL_ROLLBACK:  /* for ROLLBACK TO, see below */
    case SQL_TEMPORARY: /* CREATE: "temp" would be in it */
    case SQL_UNKNOWN:   /* EXPLAIN: the same */
        return 0;
    case SQL_COMMIT:
        return SQL_MAY_COMMIT;
    case SQL_PREPARE:
        return SQL_MAY_ALL;
    default:
        return SQL_MAY_STATE;
    }
}

static bool first_word(const char *text, size_t length, const char **word, size_t *word_bytes)
{
    struct sql_lexer lexer = {text, length, 0, 0};
    struct sql_token token = {.kind = SQL_BAD};
    char first = length ? text[0] : '\0';

    if ((first >= 'a' && first <= 'z') || (first >= 'A' && first <= 'Z')) {
        size_t count = 1;

        while (count < length && ((text[count] >= 'a' && text[count] <= 'z') ||
                                  (text[count] >= 'A' && text[count] <= 'Z')))
            count++;
        if (count < length && (text[count] == ' ' || text[count] == '\n')) {
            *word = text;
            *word_bytes = count;
            return true;
        }
    }
    do {
        token = sql_token(&lexer);
    } while (token.kind == SQL_SYMBOL && (token.text[0] == ';' || token.text[0] == '('));
    *word = token.text;
    *word_bytes = token.kind == SQL_WORD ? token.length : 0;
    return token.kind != SQL_BAD;
}

/* The same with all that is in it read. */
static unsigned look_closely(const char *text, size_t length, unsigned mode)
{
    struct sql_lexer lexer = {text, length, 0, mode};
    struct sql_statement statement;
    unsigned look = 0;

    while (look != SQL_MAY_ALL && sql_next(&lexer, &statement)) {
        switch (statement.verb) {
        case SQL_UNKNOWN:
            return SQL_MAY_ALL;
        case SQL_QUIET:
        case SQL_BEGIN:
        case SQL_ROLLBACK:
            break;
        case SQL_COMMIT:
            look |= SQL_MAY_COMMIT;
            break;
        case SQL_PREPARE_TRANSACTION:
            look |= SQL_MAY_COMMIT;
            break;
        default:
            look |= SQL_MAY_STATE;
            break;
        }
        if (statement.marks)
            look |= SQL_MAY_STATE;
    }
    return look;
}

unsigned sql_look(const char *text, size_t length, unsigned mode)
{
    size_t whole = without_end(text, length), word_bytes;
    enum sql_verb verb;
    const char *word;
    unsigned look;

    if (mode & SQL_MIXED || !first_word(text, whole, &word, &word_bytes))
        return look_closely(text, length, mode);
    verb = sql_first_word(word, word_bytes);
    look = look_of_verb(verb);
    if (verb == SQL_ROLLBACK && text + whole > word + word_bytes)
        look = SQL_MAY_STATE; /* TO a savepoint? */
    if (look == 0 && !hits(text, whole))
        return 0;
    return look == SQL_MAY_COMMIT && !hits(text, whole) ? look : look_closely(text, length, mode);
}

bool sql_look_at_piece(const char *text, size_t length)
{
    return hits(text, length);
}

unsigned sql_look_at_head(const char *text, size_t length)
{
    const char *word;
    size_t word_bytes;

    if (!first_word(text, length, &word, &word_bytes) ||
        look_of_verb(sql_first_word(word, word_bytes)) || hits(text, length))
        return SQL_MAY_ALL;
    return 0;
}
