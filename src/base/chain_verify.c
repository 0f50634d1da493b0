/*
 * chain_verify: finds what was changed, taken out, put in or moved in a chained file.
 *
 * A line vouches for the one before it. When line i+1 names another hash than line i has, one of
 * them was changed; which one is known when line i+2 says whether i+1 is as it was written. Numbers
 * that are passed over stand in a list of gaps until the end: a line that turns up later was moved,
 * one that does not is missing. The last line has nobody to vouch for it: compare its hash with the
 * one that was noted elsewhere. Reads line by line; any thread.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/chain.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

/* Gaps that are remembered; further ones are reported as missing at once. */
#define GAPS_MAX 1024

struct gap {
    uint64_t from, to; /* numbers that were passed over */
    uint64_t line;     /* before which line of the file */
};

struct verification {
    const char *name;
    FILE *out;
    struct chain_report *report;
    uint64_t line;        /* of the file, from 1 */
    struct chain before;  /* the line before this one */
    uint64_t before_line; /* 0: it is in the file before, or there is none */
    bool any;             /* is `before` a line at all? */
    uint64_t highest;     /* number that was seen */
    bool suspected;       /* `before` names another hash than the line before it has */
    uint64_t suspect_line, suspect_seq; /* that line */
    struct buffer torn;                 /* lines that cannot be read, since the last that could */
    uint64_t torn_line;
    struct gap gaps[GAPS_MAX];
    size_t gap_count;
};

static void complain(struct verification *v, uint64_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void complain(struct verification *v, uint64_t line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = text_vprint(format, arguments);
    va_end(arguments);
    if (line)
        fprintf(v->out, "%s:%" PRIu64 ": %s\n", v->name, line, text);
    else
        fprintf(v->out, "%s: %s\n", v->name, text);
    free(text);
    v->report->problems++;
}

/* `next_vouches`: is the line that named another hash itself as it was written? True: it is not, so
 * that the line behind it names another hash is no news. */
static bool settle_suspicion(struct verification *v, bool known, bool next_vouches)
{
    if (!v->suspected)
        return false;
    v->suspected = false;
    if (!known)
        complain(v, v->suspect_line,
                 "this line (seq %" PRIu64 ") or the one behind it was changed: the hash named "
                 "there is another",
                 v->suspect_seq);
    else if (next_vouches)
        complain(v, v->suspect_line, "this line (seq %" PRIu64 ") was changed", v->suspect_seq);
    else
        complain(v, v->before_line, "this line (seq %" PRIu64 ") was changed", v->before.seq);
    return known && !next_vouches;
}

static void add_gap(struct verification *v, uint64_t from, uint64_t to, uint64_t line)
{
    if (v->gap_count < GAPS_MAX)
        v->gaps[v->gap_count++] = (struct gap){from, to, line};
    else
        complain(v, line, "lines seq %" PRIu64 " to %" PRIu64 " are missing before this one", from,
                 to);
}

/* Takes a number out of the gap that it is in; false: it is in none. */
static bool leave_gap(struct verification *v, uint64_t seq)
{
    for (size_t i = 0; i < v->gap_count; i++) {
        struct gap *gap = &v->gaps[i];
        if (seq < gap->from || seq > gap->to)
            continue;
        uint64_t to = gap->to;
        gap->to = seq - 1;
        if (seq < to)
            add_gap(v, seq + 1, to, gap->line);
        return true;
    }
    return false;
}

/* The number against those that came before. True: it follows the line before. */
static bool check_number(struct verification *v, uint64_t seq)
{
    if (v->report->lines == 0)
        v->report->first_seq = seq;
    if (!v->any) {
        v->highest = seq;
        return seq == 1;
    }
    if (seq > v->highest + 1)
        add_gap(v, v->highest + 1, seq - 1, v->line);
    else if (seq <= v->highest)
        complain(v, v->line,
                 leave_gap(v, seq) ? "this line (seq %" PRIu64 ") was moved here"
                                   : "this line (seq %" PRIu64 ") was put in",
                 seq);
    v->highest = seq > v->highest ? seq : v->highest;
    return seq == v->before.seq + 1;
}

/* Lines that could not be read are in order when this one vouches for them. */
static void check_torn(struct verification *v, json_t *line)
{
    char hash[CHAIN_HASH_BYTES];
    if (v->torn.length == 0)
        return;
    const char *event = json_string_value(json_object_get(line, "event"));
    const char *named = json_string_value(json_object_get(line, "torn_sha256"));
    chain_hash(v->torn.data, v->torn.length - 1, hash);
    if (!text_equal(event, "recovered") || !text_equal(named, hash))
        complain(v, v->torn_line, "this line cannot be read, and none behind it vouches for it");
    v->torn.length = 0;
}

static void check_line(struct verification *v, json_t *line, const char *bytes, size_t length)
{
    struct chain here = {.seq = (uint64_t)json_integer_value(json_object_get(line, "seq"))};
    const char *previous = json_string_value(json_object_get(line, "previous"));
    chain_hash(bytes, length, here.hash);
    bool agrees = strcmp(previous, v->before.hash) == 0;
    bool follows;

    check_torn(v, line);
    bool explained = v->any && settle_suspicion(v, here.seq == v->before.seq + 1, agrees);
    follows = check_number(v, here.seq);
    agrees = agrees || explained;
    if (follows && !agrees && v->before_line) {
        v->suspected = true;
        v->suspect_line = v->before_line;
        v->suspect_seq = v->before.seq;
    } else if (follows && !agrees) {
        complain(v, v->line,
                 v->any ? "this line names another hash than the file before ends with"
                        : "this line has seq 1 but names a line before it");
    }
    v->before = here;
    v->before_line = v->line;
    v->any = true;
    v->report->lines++;
}

static void read_one(struct verification *v, const char *bytes, size_t length)
{
    json_t *line = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, NULL);
    v->line++;
    if (json_integer_value(json_object_get(line, "seq")) > 0 &&
        json_is_string(json_object_get(line, "previous"))) {
        check_line(v, line, bytes, length);
    } else {
        if (v->torn.length == 0)
            v->torn_line = v->line;
        buffer_put(&v->torn, bytes, length);
        buffer_put_u8(&v->torn, '\n');
    }
    json_decref(line);
}

static void finish(struct verification *v)
{
    (void)settle_suspicion(v, false, false);
    if (v->torn.length)
        complain(v, v->torn_line, "this line cannot be read, and none behind it vouches for it");
    for (size_t i = 0; i < v->gap_count; i++) {
        const struct gap *gap = &v->gaps[i];
        if (gap->from == gap->to)
            complain(v, gap->line, "the line seq %" PRIu64 " is missing before this one",
                     gap->from);
        else if (gap->from < gap->to)
            complain(v, gap->line,
                     "the lines seq %" PRIu64 " to %" PRIu64 " are missing before this one",
                     gap->from, gap->to);
    }
    v->report->last = v->before;
}

bool chain_verify(FILE *in, const char *name, const struct chain *before, FILE *out,
                  struct chain_report *report)
{
    struct verification *v = memory_new(sizeof *v);
    char *line = NULL;
    size_t size = 0;
    *report = (struct chain_report){0};
    v->name = name;
    v->out = out;
    v->report = report;
    chain_init(&v->before);
    if (before && before->seq) {
        v->before = *before;
        v->highest = before->seq;
        v->any = true;
    }
    for (ssize_t length; (length = getline(&line, &size, in)) > 0;) {
        bool whole = line[length - 1] == '\n';
        read_one(v, line, (size_t)length - whole);
        if (!whole && v->torn.length == 0)
            complain(v, v->line, "the last line has no end");
    }
    if (ferror(in))
        complain(v, 0, "the file cannot be read to its end");
    finish(v);
    free(line);
    buffer_fini(&v->torn);
    free(v);
    return report->problems == 0;
}
