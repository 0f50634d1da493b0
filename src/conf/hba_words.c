/*
 * hba_words: lines of pg_hba.conf and pg_ident.conf as fields of words, as PostgreSQL reads them.
 *
 *   host  app,"my db"@production  @users.txt  10.0.0.0/8  scram-sha-256   # a comment
 *   ────  ──────────────────────  ──────────  ──────────  ─────────────
 *    field of 1 word   2 words     as many as the list holds
 *
 * Blanks separate fields, commas the words of one; a word in quotes is a name and nothing else; a
 * backslash at the end of a line joins the next one. `name@environment` is pgstage's own. Also
 * compiles patterns. Everything that a file can make grow is bounded. The thread that loads.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "hba_inside.h"
#include "pgstage/base/buffer.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/file.h"

#define FILE_MAX_BYTES ((size_t)16 << 20)
#define LISTS_MAX 1000
#define DEPTH_MAX 10
#define PATTERN_MAX_BYTES 1000
#define PATTERN_REPEATS_MAX 1000
#define NAME_MAX_BYTES 255
#define PROBLEM_BYTES 1024

/* What grows while one line is read. */
struct gathering {
    struct hba_word *words;
    size_t count, capacity;
};

void hba_error(const struct hba_words *words, int line, const char *format, ...)
{
    va_list arguments;
    char *text;
    va_start(arguments, format);
    text = text_vprint(format, arguments);
    va_end(arguments);
    report_error(words->report, words->file, line, "%s", text);
    free(text);
}

bool hba_word_is(const struct hba_word *word, const char *keyword)
{
    return !word->quoted && strcmp(word->text, keyword) == 0;
}

/* ---- words ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static void add_word(struct gathering *into, const struct hba_word *word)
{
    if (into->count == into->capacity) {
        into->capacity = into->capacity ? into->capacity * 2 : 8;
        into->words = memory_resize(into->words, into->capacity, sizeof(*into->words));
    }
    into->words[into->count++] = *word;
}

enum found { FOUND_WORD, FOUND_NOTHING, FOUND_OPEN_QUOTE };

/* The next word of a line; `*comma`: another one of the same field follows. */
static enum found next_word(struct hba_words *words, const char **line, struct hba_word *word,
                            bool *comma)
{
    const char *at = *line;
    bool in_quote = false, was_quote = false;
    size_t sign = 0;
    struct buffer text = {0};
    *word = (struct hba_word){0};
    *comma = false;
    while (is_blank(*at) || *at == ',')
        at++;
    if (!*at || *at == '#') {
        *line = at;
        return FOUND_NOTHING;
    }
    word->quoted = *at == '"';
    for (; *at && (in_quote || !is_blank(*at)); at++) {
        if (!in_quote && *at == '#')
            break;
        if (!in_quote && *at == ',') {
            *comma = true;
            at++;
            break;
        }
        if (!in_quote && *at == '@' && text.length)
            sign = text.length;
        if (*at != '"' || was_quote)
            buffer_put_u8(&text, (uint8_t)*at);
        was_quote = in_quote && *at == '"' && !was_quote;
        if (*at == '"')
            in_quote = !in_quote;
    }
    *line = at;
    const char *whole =
        arena_copy_n(&words->arena, text.length ? (const char *)text.data : "", text.length);
    buffer_fini(&text);
    word->whole = whole;
    /* the @ of a pattern, or of a list's name, is a part of it */
    bool plain = word->quoted || (*whole != '/' && *whole != '@');
    word->environment = sign && plain ? whole + sign + 1 : NULL;
    word->text = word->environment ? arena_copy_n(&words->arena, whole, sign) : whole;
    return in_quote ? FOUND_OPEN_QUOTE : FOUND_WORD;
}

static bool take_list(struct hba_words *words, int line, const char *name, const char *folder,
                      unsigned depth, struct gathering *into);

/* A word, or what the list holds that it names. */
static bool take_word(struct hba_words *words, int line, const struct hba_word *word,
                      const char *folder, unsigned depth, struct gathering *into)
{
    if (!word->quoted && word->whole[0] == '@' && word->whole[1])
        return take_list(words, line, word->whole + 1, folder, depth, into);
    add_word(into, word);
    return true;
}

/* The words of a list's file: blanks, commas and ends of lines are the same there. */
static bool take_list(struct hba_words *words, int line, const char *name, const char *folder,
                      unsigned depth, struct gathering *into)
{
    char problem[PROBLEM_BYTES];
    size_t length;
    if (!folder) {
        hba_error(words, line, "@%.200s: no other file is read here", name);
        return false;
    }
    if (depth >= DEPTH_MAX || words->lists++ >= LISTS_MAX) {
        hba_error(words, line, "@%.200s: too many lists, or lists that name each other", name);
        return false;
    }
    char *path = file_join(folder, name);
    char *text = file_read(path, FILE_MAX_BYTES, &length, NULL, problem, sizeof(problem));
    char *own = file_folder(path);
    bool good = text != NULL;
    free(path);
    if (!text)
        hba_error(words, line, "@%.200s: %s", name, problem);
    for (char *rest = NULL, *one = text ? strtok_r(text, "\n", &rest) : NULL; one && good;
         one = strtok_r(NULL, "\n", &rest)) {
        const char *at = one;
        struct hba_word word;
        enum found found;
        bool comma;
        while (good && (found = next_word(words, &at, &word, &comma)) != FOUND_NOTHING) {
            good = found == FOUND_WORD;
            if (!good)
                hba_error(words, line, "@%.200s: a quote is not closed", name);
            else
                good = take_word(words, line, &word, own, depth + 1, into);
        }
    }
    free(own);
    free(text);
    return good;
}

/* ---- lines ---- */

static struct hba_field make_field(struct hba_words *words, struct gathering *gathered)
{
    struct hba_field field = {.count = gathered->count};
    struct hba_word *copy = arena_get(&words->arena, (gathered->count + 1) * sizeof(*copy));
    if (gathered->count)
        memcpy(copy, gathered->words, gathered->count * sizeof(*copy));
    field.words = copy;
    gathered->count = 0;
    return field;
}

static void add_line(struct hba_words *words, const struct hba_line *line)
{
    if ((words->count & (words->count - 1)) == 0)
        words->lines =
            memory_resize(words->lines, words->count ? words->count * 2 : 1, sizeof(*words->lines));
    words->lines[words->count++] = *line;
}

/* More fields than any line of either kind may have. */
#define FIELDS_MAX 64

static void take_line(struct hba_words *words, int number, const char *text)
{
    struct hba_field fields[FIELDS_MAX];
    struct hba_line line = {.number = number};
    struct gathering gathered = {0};
    struct hba_word word;
    enum found found;
    bool good = true, comma, open = false;
    while (good && (found = next_word(words, &text, &word, &comma)) != FOUND_NOTHING) {
        if (found == FOUND_OPEN_QUOTE) {
            hba_error(words, number, "a quote is not closed");
            good = false;
        } else if (line.count == FIELDS_MAX) {
            hba_error(words, number, "too many fields");
            good = false;
        } else {
            good = take_word(words, number, &word, words->folder, 0, &gathered);
            open = true;
            if (good && !comma) {
                fields[line.count++] = make_field(words, &gathered);
                open = false;
            }
        }
    }
    if (good && open && line.count < FIELDS_MAX) /* a comma at the end */
        fields[line.count++] = make_field(words, &gathered);
    free(gathered.words);
    if (!good || !line.count)
        return;
    struct hba_field *copy = arena_get(&words->arena, line.count * sizeof(*copy));
    memcpy(copy, fields, line.count * sizeof(*copy));
    line.fields = copy;
    add_line(words, &line);
}

static void take_text(struct hba_words *words, const char *text, size_t length)
{
    const char *end = text + length;
    struct buffer joined = {0};
    int number = 0, first = 0;
    for (const char *at = text; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at)), *stop = newline ? newline : end;
        size_t size = (size_t)(stop - at);
        number++;
        first = joined.length ? first : number;
        if (memchr(at, '\0', size)) {
            hba_error(words, number, "there is a NUL byte in this line");
            size = 0;
        }
        bool more = size && at[size - 1] == '\\' && newline;
        buffer_put(&joined, at, size - more);
        at = stop + 1;
        if (more && at < end) {
            if (!joined.length)
                buffer_put_u8(&joined, ' '); /* so that the first line's number is kept */
            continue;
        }
        buffer_put_u8(&joined, 0);
        take_line(words, first, (const char *)joined.data);
        joined.length = 0;
    }
    buffer_fini(&joined);
}

bool hba_words_load(struct hba_words *words, const char *file, struct report *report)
{
    char problem[PROBLEM_BYTES];
    size_t length;
    char *text = file_read(file, FILE_MAX_BYTES, &length, NULL, problem, sizeof(problem));
    words->report = report;
    words->file = arena_copy(&words->arena, file);
    if (!text) {
        report_error(report, NULL, 0, "%s", problem);
        return false;
    }
    char *folder = file_folder(file);
    words->folder = arena_copy(&words->arena, folder);
    free(folder);
    take_text(words, text, length);
    free(text);
    return true;
}

void hba_words_parse(struct hba_words *words, const char *name, const char *text, size_t length,
                     struct report *report)
{
    words->report = report;
    words->file = arena_copy(&words->arena, name);
    take_text(words, text, length);
}

void hba_words_fini(struct hba_words *words)
{
    for (size_t i = 0; i < words->pattern_count; i++) {
        regfree(words->patterns[i]);
        free(words->patterns[i]);
    }
    free(words->patterns);
    free(words->lines);
    arena_fini(&words->arena);
}

/* ---- patterns ---- */

/* What the repetitions of a pattern multiply to: the memory that it takes grows with it. */
static bool repeats_are_few(const char *text)
{
    unsigned long product = 1;
    for (const char *at = strchr(text, '{'); at; at = strchr(at + 1, '{')) {
        unsigned long most = 1;
        for (const char *digit = at + 1; *digit && *digit != '}';) {
            unsigned long number = strtoul(digit, NULL, 10);
            most = number > most ? number : most;
            digit += strcspn(digit, ",}");
            digit += *digit == ',';
        }
        if (most > PATTERN_REPEATS_MAX || (product *= most) > PATTERN_REPEATS_MAX)
            return false;
    }
    return true;
}

/* \1 inside of a pattern: the time to look for it may grow without bound. */
static bool refers_back(const char *text)
{
    for (; *text; text++)
        if (*text == '\\' && *++text >= '1' && *text <= '9')
            return true;
        else if (!*text)
            break;
    return false;
}

const regex_t *hba_pattern(struct hba_words *words, int line, const char *text)
{
    char problem[256] = "it is too long, repeats too much, or refers back to itself";
    regex_t *pattern = memory_new(sizeof(*pattern));
    bool good = strlen(text) <= PATTERN_MAX_BYTES && repeats_are_few(text) && !refers_back(text);
    if (good) {
        int error = regcomp(pattern, text, REG_EXTENDED);
        good = error == 0;
        if (!good)
            (void)regerror(error, pattern, problem, sizeof(problem));
    }
    if (!good) {
        hba_error(words, line, "the pattern /%.100s cannot be used: %s", text, problem);
        free(pattern);
        return NULL;
    }
    if ((words->pattern_count & (words->pattern_count - 1)) == 0)
        words->patterns =
            memory_resize(words->patterns, words->pattern_count ? words->pattern_count * 2 : 1,
                          sizeof(*words->patterns));
    words->patterns[words->pattern_count++] = pattern;
    return pattern;
}

bool hba_pattern_fits(const regex_t *pattern, const char *text, regmatch_t *groups, size_t count)
{
    return strlen(text) <= NAME_MAX_BYTES && regexec(pattern, text, count, groups, 0) == 0;
}
