/*
 * intent.c: a glance at a text, and a reading of those that need one.
 *
 *   SELECT …                          0: its first word says nothing, and nothing stands behind a ;
 *   COMMIT                            COMMITS ENDS
 *   BEGIN; INSERT …                   BEGINS BEGINS_FIRST
 *   INSERT …; COMMIT                  COMMITS
 *   ROLLBACK; INSERT …                COMMITS: what stands behind it commits by itself
 *   CREATE FUNCTION … BEGIN ATOMIC …  ALONE, or COMMITS as well when it cannot be followed
 *   SET a = 1                         STATE
 *
 * Nearly every query is one statement that begins with SELECT, INSERT or the like and calls nothing
 * that matters. So: the first word decides, when no further statement can follow (no semicolon but
 * at the end) and none of a few letter sequences is anywhere in the text. They are looked for in
 * blocks of 16 bytes, with the vector operations that GCC and Clang have for every machine; a hit
 * that means nothing ("template", a semicolon in a string) costs one reading by sql_next. What
 * makes a statement a *sole* end of a transaction is read here word by word, since PostgreSQL takes
 * nothing else for one.
 */
#include "pgstage/wire/intent.h"

#include <string.h>

#include "pgstage/wire/sql.h"
#include "sql_inside.h"

/* Of a glance: the text has to be read to know more. */
#define UNREAD ((unsigned)INTENT_READ)

/* ---- what stands anywhere ---- */

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

/* May something in it matter besides what it begins with? Without its end. */
static bool has_more(const char *text, size_t length)
{
    return length < SHORT_BYTES ? memchr(text, ';', length) != NULL : hits(text, length);
}

/* ---- how it begins ---- */

/* Without the blanks and the semicolons at its end. */
static size_t without_end(const char *text, size_t length)
{
    while (length &&
           (text[length - 1] == ';' || text[length - 1] == ' ' || text[length - 1] == '\n' ||
            text[length - 1] == '\r' || text[length - 1] == '\t'))
        length--;
    return length;
}

/* The six letters at `text` as a number. */
static uint64_t six_of(const char *text)
{
    uint64_t number = 0;

    memcpy(&number, text, 6);
    return number;
}

/* Does it begin with one of the four words that nearly all begin with? */
static bool is_usual(const char *text, size_t length)
{
    uint64_t word;

    if (length < 7 || (text[6] != ' ' && text[6] != '\n'))
        return false;
    word = six_of(text) | six_of("      "); /* no other byte becomes a letter of these */
    return word == six_of("select") || word == six_of("insert") || word == six_of("update") ||
           word == six_of("delete");
}

/* False: it cannot be read. No word: nothing, or something else than a word, is there. */
static bool first_word(const char *text, size_t length, const char **word, size_t *word_bytes)
{
    struct sql_lexer lexer = {text, length, 0, 0};
    struct sql_token token;

    do {
        token = sql_token(&lexer);
    } while (token.kind == SQL_SYMBOL && (token.text[0] == ';' || token.text[0] == '('));
    *word = token.text;
    *word_bytes = token.kind == SQL_WORD ? token.length : 0;
    return token.kind != SQL_BAD;
}

/* What a sole statement that begins with this word is, when nothing in it matters besides. `bare`:
 * the word is all of it. */
static unsigned glance_of_verb(enum sql_verb verb, bool bare)
{
    switch (verb) {
    case SQL_QUIET:
    case SQL_UNKNOWN: /* EXPLAIN: "temp" and the like would be in it */
        return 0;
    case SQL_TEMPORARY: /* CREATE: the same */
    case SQL_STANDS_ALONE:
        return INTENT_ALONE;
    case SQL_BEGIN:
        return INTENT_BEGINS | INTENT_BEGINS_FIRST;
    case SQL_COMMIT:
        return bare ? INTENT_COMMITS | INTENT_ENDS : UNREAD;
    case SQL_ROLLBACK:
        return bare ? INTENT_ENDS : UNREAD;
    default:
        return UNREAD;
    }
}

/* The same whatever the mode is. */
static unsigned glance(const char *text, size_t length)
{
    size_t whole = without_end(text, length), word_bytes;
    const char *word;
    unsigned look;

    if (is_usual(text, whole))
        return has_more(text, whole) ? UNREAD : 0;
    if (!first_word(text, whole, &word, &word_bytes) || word_bytes == 0)
        return UNREAD;
    look = glance_of_verb(sql_first_word(word, word_bytes), text + whole == word + word_bytes);
    return look & UNREAD || has_more(text, whole) ? UNREAD : look;
}

/* ---- a reading ---- */

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
    unsigned state = statement->marks & ~(unsigned)SQL_ALONE ? INTENT_STATE : 0;
    unsigned alone = statement->marks & SQL_ALONE ? INTENT_ALONE : 0;
    bool chains = false, plain;

    switch (statement->verb) {
    case SQL_QUIET:
        return (uint8_t)(state | alone);
    case SQL_BEGIN:
        return (uint8_t)(state | INTENT_BEGINS);
    case SQL_COMMIT:
    case SQL_ROLLBACK:
        plain = ends_plainly(own, length, mode, &chains);
        *rolls_back = statement->verb == SQL_ROLLBACK;
        return (uint8_t)(state | (*rolls_back ? 0 : INTENT_COMMITS) | (chains ? INTENT_BEGINS : 0) |
                         (plain ? INTENT_ENDS : 0));
    case SQL_PREPARE_TRANSACTION:
        return (uint8_t)(state | INTENT_COMMITS | INTENT_PREPARES);
    case SQL_UNKNOWN:
        return INTENT_STATE | INTENT_COMMITS;
    default:
        return (uint8_t)(INTENT_STATE | alone);
    }
}

/* All that is in it. */
static uint8_t read(const char *text, size_t length, bool cut, unsigned mode)
{
    struct sql_lexer lexer = {text, length, 0, mode};
    struct sql_statement statement;
    unsigned count = 0;
    bool rolled_back = false;
    uint8_t intent = 0, one;

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
    if (count != 1)
        intent &= (uint8_t)~INTENT_ALONE; /* a string of several is one transaction block */
    if (cut)
        return intent | INTENT_COMMITS;
    return count == 0 ? INTENT_EMPTY : intent;
}

unsigned intent_of(const char *text, size_t length, bool cut, unsigned mode)
{
    unsigned look = cut ? UNREAD : glance(text, length);

    return look & UNREAD ? INTENT_READ | read(text, length, cut, mode) : look;
}

/* ---- texts that come in pieces ---- */

bool intent_is_none_at_head(const char *text, size_t length)
{
    const char *word;
    size_t word_bytes;
    unsigned look;

    if (!first_word(text, length, &word, &word_bytes))
        return false;
    look = glance_of_verb(sql_first_word(word, word_bytes), false);
    return !(look & (UNREAD | INTENT_COMMITS)) && !hits(text, length);
}

bool intent_may_be_in(const char *piece, size_t length)
{
    return hits(piece, length);
}
