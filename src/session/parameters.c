/*
 * parameters.c: immutable sets of session parameters, and the SQL that leads from one to another.
 *
 * A set is one piece of memory that is never written after it was made; only its count of
 * references changes, with atomics. Hence any thread may read and share it:
 *
 *     [ references count hash bytes | pair pair pair … | name\0value\0 name\0value\0 … ]
 *                                      └──────────────────▲ sorted by name, case ignored
 *
 * The hash only finds differences early; equal sets are compared in full. The SQL is plain ASCII
 * whatever the values are: a quote or a backslash can be the second byte of a character in some
 * encodings, and the server may still use another client_encoding than the one the value is in.
 */
#include "pgstage/session/parameters.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

/* PostgreSQL cuts longer identifiers (NAMEDATALEN - 1). */
#define IDENTIFIER_MAX_BYTES 63

#define FNV_OFFSET 0x811c9dc5u
#define FNV_PRIME 0x01000193u

struct pair {
    const char *name;
    const char *value;
    bool words; /* the value stands behind SET … TO as it is */
};

struct parameters {
    /* fixed */
    size_t count;
    size_t bytes;
    uint32_t hash;
    /* shared: atomic */
    atomic_uint references;
    /* fixed */
    struct pair pairs[];
};

/* Parameters that hold one plain value: SET says it without planning a SELECT. */
static const char *const plain_names[] = {
    "client_encoding",  "DateStyle",     "TimeZone", "standard_conforming_strings",
    "application_name", "IntervalStyle",
};

/* What a server reports of itself: no client can set it. */
static const char *const fixed_names[] = {
    "server_version", "server_encoding", "is_superuser", "integer_datetimes", "in_hot_standby",
};

/* They change who the session is: never carried from server to server. */
static const char *const identity_names[] = {"role", "session_authorization"};

/* ---- names ---- */

static char fold(char letter)
{
    return letter >= 'A' && letter <= 'Z' ? (char)(letter - 'A' + 'a') : letter;
}

static int compare_names(const char *a, const char *b)
{
    while (*a && fold(*a) == fold(*b)) {
        a++;
        b++;
    }
    return (int)(unsigned char)fold(*a) - (int)(unsigned char)fold(*b);
}

/* The spelling in the list, NULL when it is not there. */
static const char *find_name(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (text_equal_nocase(name, names[i]))
            return names[i];
    }
    return NULL;
}

static const char *find_plain(const char *name)
{
    return find_name(name, plain_names, sizeof plain_names / sizeof *plain_names);
}

static bool is_identity(const char *name)
{
    return find_name(name, identity_names, sizeof identity_names / sizeof *identity_names) != NULL;
}

bool parameter_follows(const char *name)
{
    return !is_identity(name) &&
           !find_name(name, fixed_names, sizeof fixed_names / sizeof *fixed_names);
}

bool parameter_name_is_plain(const char *name)
{
    size_t part_bytes = 0;

    for (const char *at = name; *at; at++) {
        char letter = fold(*at);
        if (letter == '.') {
            if (part_bytes == 0)
                return false;
            part_bytes = 0;
            continue;
        }
        if (!(letter >= 'a' && letter <= 'z') && !(letter >= '0' && letter <= '9') &&
            letter != '_' && letter != '-')
            return false;
        if (++part_bytes > IDENTIFIER_MAX_BYTES)
            return false;
    }
    return part_bytes > 0;
}

static bool is_blank(char letter)
{
    return letter == ' ' || (letter >= '\t' && letter <= '\r');
}

bool parameter_in_list(const char *name, const char *list)
{
    size_t length = strlen(name);

    for (const char *at = list; at && *at;) {
        const char *end = strchrnul(at, ',');
        const char *next = *end ? end + 1 : end;
        size_t same = 0;

        while (at < end && is_blank(*at))
            at++;
        while (end > at && is_blank(end[-1]))
            end--;
        while (same < length && at + same < end && fold(at[same]) == fold(name[same]))
            same++;
        if (length > 0 && same == length && at + same == end)
            return true;
        at = next;
    }
    return false;
}

/* ---- sets ---- */

static uint32_t hash_pair(uint32_t hash, const struct pair *pair)
{
    for (const char *at = pair->name; *at; at++)
        hash = (hash ^ (uint8_t)fold(*at)) * FNV_PRIME;
    hash = (hash ^ (pair->words ? ':' : '=')) * FNV_PRIME;
    for (const char *at = pair->value; *at; at++)
        hash = (hash ^ (uint8_t)*at) * FNV_PRIME;
    return hash * FNV_PRIME; /* ends the pair as a NUL would */
}

/* Copies the text behind the pairs. */
static const char *put_text(char **target, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = memcpy(*target, text, size);

    *target += size;
    return copy;
}

/* A set of these pairs, which are in order. */
static struct parameters *make(const struct pair *pairs, size_t count)
{
    struct parameters *set;
    size_t bytes = sizeof(*set) + count * sizeof(*pairs);
    char *text;

    if (count == 0)
        return NULL;
    for (size_t i = 0; i < count; i++)
        bytes += strlen(pairs[i].name) + 1 + strlen(pairs[i].value) + 1;
    set = memory_get(bytes);
    set->count = count;
    set->bytes = bytes;
    set->hash = FNV_OFFSET;
    atomic_init(&set->references, 1);
    text = (char *)&set->pairs[count];
    for (size_t i = 0; i < count; i++) {
        set->pairs[i].name = put_text(&text, pairs[i].name);
        set->pairs[i].value = put_text(&text, pairs[i].value);
        set->pairs[i].words = pairs[i].words;
        set->hash = hash_pair(set->hash, &set->pairs[i]);
    }
    return set;
}

/* Where `name` is, or would be; `found` says which. */
static size_t place_of(const struct parameters *set, const char *name, bool *found)
{
    size_t low = 0, high = set ? set->count : 0;

    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_names(name, set->pairs[middle].name);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

struct parameters *parameters_ref(struct parameters *set)
{
    if (set)
        atomic_fetch_add_explicit(&set->references, 1, memory_order_relaxed);
    return set;
}

void parameters_unref(struct parameters *set)
{
    if (set && atomic_fetch_sub_explicit(&set->references, 1, memory_order_acq_rel) == 1)
        free(set);
}

static struct parameters *with(struct parameters *set, const char *name, const char *value,
                               bool words)
{
    struct parameters *changed;
    struct pair *pairs;
    bool found;
    size_t place = place_of(set, name, &found), count = parameters_count(set), after;

    if (is_identity(name) || (!found && !value) ||
        (found && value && set->pairs[place].words == words &&
         strcmp(set->pairs[place].value, value) == 0))
        return set;
    pairs = memory_resize(NULL, count + 1, sizeof(*pairs));
    if (place > 0)
        memcpy(pairs, set->pairs, place * sizeof(*pairs));
    after = place + (found ? 1 : 0);
    if (count > after)
        memcpy(pairs + place + (value ? 1 : 0), set->pairs + after,
               (count - after) * sizeof(*pairs));
    if (value)
        pairs[place] = (struct pair){.name = name, .value = value, .words = words};
    changed = make(pairs, count - (found ? 1 : 0) + (value ? 1 : 0));
    free(pairs);
    parameters_unref(set);
    return changed;
}

struct parameters *parameters_with(struct parameters *set, const char *name, const char *value)
{
    return with(set, name, value, false);
}

struct parameters *parameters_with_words(struct parameters *set, const char *name,
                                         const char *words)
{
    return with(set, name, words, true);
}

struct parameters *parameters_with_of(struct parameters *set, const char *name,
                                      const struct parameters *other)
{
    bool found;
    size_t place = place_of(other, name, &found);

    return with(set, name, found ? other->pairs[place].value : NULL,
                found && other->pairs[place].words);
}

const char *parameters_get(const struct parameters *set, const char *name)
{
    bool found;
    size_t place = place_of(set, name, &found);

    return found ? set->pairs[place].value : NULL;
}

size_t parameters_count(const struct parameters *set)
{
    return set ? set->count : 0;
}

void parameters_at(const struct parameters *set, size_t index, const char **name,
                   const char **value)
{
    *name = set->pairs[index].name;
    *value = set->pairs[index].value;
}

bool parameters_is_words(const struct parameters *set, size_t index)
{
    return set->pairs[index].words;
}

bool parameters_has(const struct parameters *set, const struct parameters *other, size_t index)
{
    const struct pair *pair = &other->pairs[index];
    bool found;
    size_t place = place_of(set, pair->name, &found);

    return found && set->pairs[place].words == pair->words &&
           strcmp(set->pairs[place].value, pair->value) == 0;
}

bool parameters_equal(const struct parameters *a, const struct parameters *b)
{
    if (a == b)
        return true;
    if (!a || !b || a->hash != b->hash || a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (!text_equal_nocase(a->pairs[i].name, b->pairs[i].name) ||
            strcmp(a->pairs[i].value, b->pairs[i].value) != 0 ||
            a->pairs[i].words != b->pairs[i].words)
            return false;
    }
    return true;
}

size_t parameters_bytes(const struct parameters *set)
{
    return set ? set->bytes : 0;
}

/* ---- SQL ---- */

static bool is_ascii(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text >= 0x80)
            return false;
    }
    return true;
}

/* E'' means the same whatever standard_conforming_strings and escape_string_warning are. */
void parameters_put_literal(struct buffer *sql, const char *text)
{
    buffer_print(sql, "E'");
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            buffer_put_u8(sql, (uint8_t)*text);
        buffer_put_u8(sql, (uint8_t)*text);
    }
    buffer_put_u8(sql, '\'');
}

/* An expression of type text. What is not ASCII goes as hexadecimal digits and is read in the
 * encoding that is in force when the expression runs: by then it is the wanted client_encoding. */
static void put_expression(struct buffer *sql, const char *text)
{
    if (is_ascii(text)) {
        parameters_put_literal(sql, text);
        return;
    }
    buffer_print(sql, "pg_catalog.convert_from(pg_catalog.decode('");
    for (; *text; text++)
        buffer_print(sql, "%02x", (unsigned char)*text);
    buffer_print(sql, "','hex'),pg_catalog.current_setting('client_encoding'))");
}

/* Each part of a dotted name is an identifier of its own: "a"."b". */
static void put_identifier(struct buffer *sql, const char *name)
{
    buffer_put_u8(sql, '"');
    for (; *name; name++) {
        if (*name == '.') {
            buffer_print(sql, "\".\"");
            continue;
        }
        if (*name == '"')
            buffer_put_u8(sql, '"');
        buffer_put_u8(sql, (uint8_t)*name);
    }
    buffer_put_u8(sql, '"');
}

static void put_separator(struct buffer *sql, size_t start)
{
    if (sql->length > start)
        buffer_put_u8(sql, ';');
}

static void put_reset(struct buffer *sql, const char *name)
{
    const char *plain = find_plain(name);

    buffer_print(sql, "RESET ");
    if (plain)
        buffer_print(sql, "%s", plain);
    else
        put_identifier(sql, name);
}

/* SET would make one quoted element of a list; set_config takes the value as the server told it. */
static void put_set(struct buffer *sql, const struct pair *pair)
{
    const char *plain = find_plain(pair->name);

    if (pair->words) {
        buffer_print(sql, "SET ");
        put_identifier(sql, pair->name);
        buffer_print(sql, " TO %s", pair->value);
        return;
    }
    if (plain && is_ascii(pair->value)) {
        buffer_print(sql, "SET %s=", plain);
        parameters_put_literal(sql, pair->value);
        return;
    }
    buffer_print(sql, "SELECT pg_catalog.set_config(");
    put_expression(sql, pair->name);
    buffer_put_u8(sql, ',');
    put_expression(sql, pair->value);
    buffer_print(sql, ",false)");
}

/* Puts the statement for what is `had` and shall be `wanted` (NULL: not set). */
static void put_change(struct buffer *sql, size_t start, const struct pair *had,
                       const struct pair *wanted)
{
    if (had && wanted && had->words == wanted->words && strcmp(had->value, wanted->value) == 0)
        return;
    if (!had && !wanted)
        return;
    put_separator(sql, start);
    if (!wanted) {
        put_reset(sql, had->name);
        return;
    }
    if (had && text_equal_nocase(had->name, "DateStyle")) {
        /* it has two parts, and a value may give one: the other shall not be another client's */
        put_reset(sql, had->name);
        buffer_put_u8(sql, ';');
    }
    put_set(sql, wanted);
}

static const struct pair *find_pair(const struct parameters *set, const char *name)
{
    bool found;
    size_t place = place_of(set, name, &found);

    return found ? &set->pairs[place] : NULL;
}

bool parameters_sql(const struct parameters *have, const struct parameters *want,
                    struct buffer *sql)
{
    static const char encoding[] = "client_encoding";
    size_t start = sql->length, had = 0, wanted = 0;

    if (parameters_equal(have, want))
        return false;
    /* the encoding comes first: the other values are read in it */
    put_change(sql, start, find_pair(have, encoding), find_pair(want, encoding));
    while (had < parameters_count(have) || wanted < parameters_count(want)) {
        const struct pair *old = had < parameters_count(have) ? &have->pairs[had] : NULL;
        const struct pair *new = wanted < parameters_count(want) ? &want->pairs[wanted] : NULL;
        int order = !old ? 1 : !new ? -1 : compare_names(old->name, new->name);
        const char *name = order <= 0 ? old->name : new->name;

        had += order <= 0;
        wanted += order >= 0;
        if (!text_equal_nocase(name, encoding))
            put_change(sql, start, order <= 0 ? old : NULL, order >= 0 ? new : NULL);
    }
    return true;
}
