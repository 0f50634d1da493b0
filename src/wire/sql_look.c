/*
 * sql_look.c: does a text need a closer look at all?
 *
 * Nearly every query is one statement that begins with SELECT, INSERT or the like and calls nothing
 * that matters. So: the first word decides, when no further statement can follow (no semicolon but
 * at the end) and none of a few letter sequences is anywhere in the text. They are looked for in
 * blocks of 16 bytes, with the vector operations that GCC and Clang have for every machine; a hit
 * that means nothing ("template", a semicolon in a string) costs one reading by sql_next.
 */
#include <string.h>

#include "pgstage/wire/sql.h"
#include "sql_inside.h"

#define BLOCK 16
#define AHEAD 3 /* the longest sequence looks so far ahead */
/* No text that is shorter can do anything but by a further statement: SELECT setseed(1). */
#define SHORT_BYTES 16

typedef uint8_t block __attribute__((vector_size(BLOCK)));

static block load(const uint8_t *at)
{
    block bytes;

    memcpy(&bytes, at, BLOCK);
    return bytes;
}

/* Is one of ";", "u&", "temp", "dvi" (advisory), "t_co" (set_config), "tsee" (setseed) in the
 * block, or does it begin there? Letters in either case. */
static bool block_hits(const uint8_t *at)
{
    block raw = load(at), next = load(at + 1);
    block a = raw | 0x20, b = next | 0x20, c = load(at + 2) | 0x20, d = load(at + 3) | 0x20;
    block hits = (block)(raw == ';') | (block)((a == 'u') & (next == '&')) |
                 (block)((a == 'd') & (b == 'v') & (c == 'i')) |
                 (block)((a == 't') & (((b == 'e') & (c == 'm') & (d == 'p')) |
                                       ((b == ('_' | 0x20)) & (c == 'c') & (d == 'o')) |
                                       ((b == 's') & (c == 'e') & (d == 'e'))));
    uint64_t halves[2];

    memcpy(halves, &hits, sizeof(halves));
    return (halves[0] | halves[1]) != 0;
}

static bool hits(const char *text, size_t length)
{
    const uint8_t *at = (const uint8_t *)text;
    const uint8_t *end = at + length;

    if (length < BLOCK + AHEAD) {
        uint8_t last[BLOCK + AHEAD] = {0};

        memcpy(last, at, length);
        return block_hits(last) || (length > BLOCK && memchr(end - AHEAD, ';', AHEAD));
    }
    for (; (size_t)(end - at) >= BLOCK + AHEAD; at += BLOCK) {
        if (block_hits(at))
            return true;
    }
    /* what is left begins in a block that overlaps; in the last bytes there is only room for ; */
    return block_hits(end - BLOCK - AHEAD) || end[-1] == ';' || end[-2] == ';' || end[-3] == ';';
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
        if (count == length || text[count] == ' ' || text[count] == '\n') {
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

/* May something in it matter besides what it begins with? Without its end. */
static bool has_more(const char *text, size_t length)
{
    return length < SHORT_BYTES ? memchr(text, ';', length) != NULL : hits(text, length);
}

unsigned sql_glance(const char *text, size_t length)
{
    size_t whole = without_end(text, length), word_bytes;
    enum sql_verb verb;
    const char *word;
    unsigned look;

    if (!first_word(text, whole, &word, &word_bytes))
        return SQL_MAY_ALL | SQL_UNREAD;
    verb = sql_first_word(word, word_bytes);
    look = look_of_verb(verb);
    if (look & SQL_MAY_STATE || (verb == SQL_ROLLBACK && text + whole > word + word_bytes) ||
        has_more(text, whole))
        return SQL_MAY_ALL | SQL_UNREAD; /* ROLLBACK TO a savepoint? */
    return look;
}

unsigned sql_look(const char *text, size_t length, unsigned mode)
{
    unsigned look = sql_glance(text, length);

    return look & SQL_UNREAD ? look_closely(text, length, mode) : look;
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
