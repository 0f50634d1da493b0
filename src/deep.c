/*
 * deep: the check of health/check.h on a loop of its own, without a running pgstage.
 */
#include "deep.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/conf/report.h"
#include "pgstage/health/check.h"
#include "pgstage/net/resolver.h"
#include "pgstage/worker/loop.h"

struct deep {
    struct loop *loop;
    FILE *out;
    bool json;
    struct deep_counts counts;
};

static int longest(const struct check_rows *rows, const char *(*cell)(const struct check_row *),
                   const char *title)
{
    size_t most = strlen(title);
    for (size_t i = 0; i < rows->count; i++) {
        size_t length = strlen(cell(&rows->items[i]));
        most = length > most ? length : most;
    }
    return (int)(most > 60 ? 60 : most);
}

static const char *environment_of(const struct check_row *row)
{
    return row->environment ? row->environment : "-";
}

static const char *host_of(const struct check_row *row)
{
    return row->host ? row->host : "all";
}

static const char *check_of(const struct check_row *row)
{
    return row->check;
}

static void print_table(FILE *out, const struct check_rows *rows)
{
    int environment = longest(rows, environment_of, "environment");
    int host = longest(rows, host_of, "host"), check = longest(rows, check_of, "check");
    fprintf(out, "%-*s  %-*s  %-*s  %-7s  %9s  %s\n", environment, "environment", host, "host",
            check, "check", "result", "ms", "detail");
    for (size_t i = 0; i < rows->count; i++) {
        const struct check_row *row = &rows->items[i];
        fprintf(out, "%-*s  %-*s  %-*s  %-7s  ", environment, environment_of(row), host,
                host_of(row), check, row->check, check_verdict_word(row->verdict));
        if (row->duration_us)
            fprintf(out, "%9.1f", (double)row->duration_us / (double)CLOCK_MS);
        else
            fprintf(out, "%9s", "");
        fprintf(out, "  %s\n", row->detail);
    }
}

static void print_member(FILE *out, const char *name, const char *text)
{
    fprintf(out, "\"%s\": ", name);
    report_print_json_text(text, out);
    fputs(", ", out);
}

static void print_json(FILE *out, const struct check_rows *rows)
{
    fputs(",\n  \"checks\": [", out);
    for (size_t i = 0; i < rows->count; i++) {
        const struct check_row *row = &rows->items[i];
        fprintf(out, "%s\n    {", i ? "," : "");
        print_member(out, "environment", row->environment);
        print_member(out, "host", row->host);
        print_member(out, "check", row->check);
        print_member(out, "result", check_verdict_word(row->verdict));
        print_member(out, "detail", row->detail);
        if (row->duration_us)
            fprintf(out, "\"duration_us\": %" PRIu64 "}", row->duration_us);
        else
            fputs("\"duration_us\": null}", out);
    }
    fprintf(out, "%s]", rows->count ? "\n  " : "");
}

static void on_checked(void *context, const struct check_rows *rows)
{
    struct deep *deep = context;
    size_t errors = deep->counts.errors = check_rows_count(rows, CHECK_ERROR);
    size_t warnings = deep->counts.warnings = check_rows_count(rows, CHECK_WARNING);
    if (deep->json) {
        print_json(deep->out, rows);
    } else {
        print_table(deep->out, rows);
        fprintf(deep->out, "%zu error%s, %zu warning%s\n", errors, errors == 1 ? "" : "s", warnings,
                warnings == 1 ? "" : "s");
    }
    loop_stop(deep->loop);
}

struct deep_counts deep_check(struct snapshot *snapshot, bool json, FILE *out)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct deep deep = {.loop = loop_new(0, NULL), .out = out, .json = json};
    struct resolver *resolver = resolver_new(15 * CLOCK_SECOND, 15 * CLOCK_SECOND);
    sigaction(SIGPIPE, &ignore, NULL);
    if (deep.loop && resolver) {
        struct check *check =
            check_start(deep.loop, resolver, snapshot, NULL, NULL, on_checked, &deep);
        (void)check; /* it ends by itself */
        loop_run(deep.loop);
    } else {
        fprintf(stderr, "pgstage: no loop or thread for the check can be had\n");
        deep.counts.errors = 1;
    }
    resolver_free(resolver);
    loop_free(deep.loop);
    return deep.counts;
}
