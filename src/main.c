/*
 * main: the command line.
 *
 * Without an action the pooler runs (boot.c). The actions print something about a configuration or
 * about the program and end: 0 when all is well, 1 when the configuration has mistakes or the
 * command line cannot be understood, 2 when --strict finds warnings.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot.h"
#include "config.h"
#include "deep.h"
#include "pgstage/admin/command.h"
#include "pgstage/base/chain.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/print.h"
#include "pgstage/conf/report.h"
#include "pgstage/conf/show.h"
#include "pgstage/conf/snapshot.h"
#include "pgstage/conf/variable.h"
#include "pgstage/env/url.h"

#define EXIT_WARNINGS 2

/* Those up to ACTION_URL are about a configuration file. */
enum action {
    ACTION_RUN,
    ACTION_CHECK,
    ACTION_SHOW_CONFIG,
    ACTION_EXPLAIN,
    ACTION_URL,
    ACTION_VERIFY_AUDIT,
    ACTION_PRINT_SAMPLE,
    ACTION_PRINT_REFERENCE,
    ACTION_PRINT_CONSOLE_REFERENCE,
    ACTION_PRINT_PRODUCTION_RULES,
    ACTION_VERSION,
    ACTION_HELP,
};

static const char usage[] =
    "Usage: pgstage [OPTION]... FILE\n"
    "A connection pooler for PostgreSQL that knows environments. FILE is its configuration.\n\n"
    "  -d, --daemon           run in the background (needs the options pidfile and logfile)\n"
    "  -q, --quiet            do not log to stderr\n"
    "  -v, --verbose          log more; twice: even more\n"
    "  -u, --user=USER        become this system user\n"
    "      --check            check FILE: every mistake and warning with its line; exit 1 when "
    "there\n"
    "                         is a mistake, else 0, warnings or not\n"
    "      --strict           with --check: exit 2 when there are only warnings\n"
    "      --json             with --check: print one JSON object\n"
    "      --deep             with --check: also connect to every host: name, TLS, login, role, "
    "limits\n"
    "      --show-config[=ENVIRONMENT]\n"
    "                         print the merged configuration with the origin of each value\n"
    "      --explain=ENVIRONMENT\n"
    "                         print every value that holds in it, its origin and the rule behind "
    "it\n"
    "      --url=NAME         print the connection URL of database[@environment] NAME\n"
    "      --verify-audit     check audit logs FILE..., oldest first: exit 0 when no line was\n"
    "                         changed, taken out or moved, else 1\n"
    "      --print-sample     print a complete, commented configuration\n"
    "      --print-reference  print the reference of all options (Markdown)\n"
    "      --print-console-reference\n"
    "                         print the reference of the console (Markdown)\n"
    "      --print-production-rules\n"
    "                         print the rules of the production classes (Markdown)\n"
    "  -V, --version          print the versions of pgstage and its libraries\n"
    "  -h, --help             print this text\n\n"
    "Signals: HUP reads the configuration again; TERM ends when clients have left, INT when\n"
    "transactions are over, a second one or QUIT at once; USR1 pauses, USR2 resumes.\n";

/* False, for returning it. */
static bool complain(const char *problem)
{
    fprintf(stderr, "pgstage: %s\nTry `pgstage --help`.\n", problem);
    return false;
}

static int print_version(void)
{
    printf("%s\nadns: getaddrinfo\ntls: %s\n", PACKAGE_STRING, OpenSSL_version(OPENSSL_VERSION));
    return EXIT_SUCCESS;
}

static int print_console_reference(void)
{
    struct buffer text = {0};
    command_reference(&text);
    bool written = fwrite(text.data, 1, text.length, stdout) == text.length;
    buffer_fini(&text);
    return written ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* What to do, and with what. */
struct order {
    char **files; /* --verify-audit */
    size_t file_count;
    enum action action;
    const char *name; /* of --url, --explain and --show-config; NULL: none */
    bool json, strict, deep;
    struct boot_options options;
};

/* Prints what the load found to stderr. */
static struct snapshot *load(const char *file, struct report *report)
{
    struct snapshot *snapshot = snapshot_load(file, true, report);
    for (size_t i = 0; i < report->count; i++) {
        char *line = report_line(&report->entries[i]);
        fprintf(stderr, "%s\n", line);
        free(line);
    }
    return snapshot;
}

struct deep_order {
    struct snapshot *snapshot; /* NULL: --deep was not asked for, or there is nothing to check */
    struct deep_counts counts;
};

static void print_deep_json(void *argument, FILE *out)
{
    struct deep_order *deep = argument;
    if (deep->snapshot)
        deep->counts = deep_check(deep->snapshot, true, out);
}

static int check_file(const struct order *order)
{
    const char *file = order->options.file;
    struct report report = {0};
    struct snapshot *snapshot =
        order->json ? snapshot_load(file, true, &report) : load(file, &report);
    bool good = snapshot != NULL;
    struct deep_order deep = {.snapshot = order->deep ? snapshot : NULL};
    if (order->json)
        report_print_json_with(&report, file, print_deep_json, &deep, stdout);
    else if (good)
        printf("%s: the configuration is good (%zu warning%s)\n", file, report.warnings,
               report.warnings == 1 ? "" : "s");
    else
        printf("%s: the configuration has %zu mistake%s (%zu warning%s)\n", file, report.errors,
               report.errors == 1 ? "" : "s", report.warnings, report.warnings == 1 ? "" : "s");
    if (!order->json && deep.snapshot)
        deep.counts = deep_check(deep.snapshot, false, stdout);
    size_t warnings = report.warnings + deep.counts.warnings;
    snapshot_unref(snapshot);
    report_fini(&report);
    return !good || deep.counts.errors ? EXIT_FAILURE
           : order->strict && warnings ? EXIT_WARNINGS
                                       : EXIT_SUCCESS;
}

static bool print_url(const struct snapshot *snapshot, const char *name)
{
    char problem[256] = "";
    char *url = url_print(snapshot, name, problem, sizeof problem);
    if (url)
        printf("%s\n", url);
    else
        fprintf(stderr, "pgstage: %s\n", problem);
    bool found = url != NULL;
    free(url);
    return found;
}

/* The environment that the command line names; NULL after a complaint. */
static const struct environment_config *find_environment(const struct snapshot *snapshot,
                                                         const char *name)
{
    const struct environment_config *found = snapshot_find_environment(snapshot, name);
    size_t count = snapshot_environment_count(snapshot);
    if (found)
        return found;
    fprintf(stderr, "pgstage: there is no environment \"%s\"", name);
    for (size_t i = 0; i < count; i++)
        fprintf(stderr, "%s%s",
                i ? ", " : "; there are: ", snapshot_environment(snapshot, i)->name);
    fputs("\n", stderr);
    return NULL;
}

/* --show-config, --explain and --url. */
static int print_from(const struct order *order)
{
    struct report report = {0};
    struct snapshot *snapshot = load(order->options.file, &report);
    const struct environment_config *environment = NULL;
    bool good = snapshot != NULL;
    if (good && order->name && order->action != ACTION_URL) {
        environment = find_environment(snapshot, order->name);
        good = environment != NULL;
    }
    if (good && order->action == ACTION_URL)
        good = print_url(snapshot, order->name);
    else if (good && order->action == ACTION_EXPLAIN)
        config_explain(snapshot, environment, stdout);
    else if (good)
        config_print(snapshot, environment, stdout);
    snapshot_unref(snapshot);
    report_fini(&report);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* One file after the other; the next goes on where the one before ended. */
static int verify_audit(char *const *files, size_t count)
{
    struct chain last;
    bool good = true;
    chain_init(&last);
    for (size_t i = 0; i < count; i++) {
        struct chain_report report;
        FILE *in = fopen(files[i], "re");
        if (!in) {
            fprintf(stderr, "pgstage: %s: %s\n", files[i], strerror(errno));
            good = false;
            continue;
        }
        good = chain_verify(in, files[i], i > 0 ? &last : NULL, stdout, &report) && good;
        fclose(in);
        last = report.last;
        printf("%s: %" PRIu64 " lines, %" PRIu64 " problem%s; first seq %" PRIu64
               ", last seq %" PRIu64 " with hash %s\n",
               files[i], report.lines, report.problems, report.problems == 1 ? "" : "s",
               report.first_seq, report.last.seq, report.last.hash);
    }
    return fflush(stdout) == 0 && good ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int act(const struct order *order)
{
    switch (order->action) {
    case ACTION_RUN:
        break;
    case ACTION_CHECK:
        return check_file(order);
    case ACTION_SHOW_CONFIG:
    case ACTION_EXPLAIN:
    case ACTION_URL:
        return print_from(order);
    case ACTION_VERIFY_AUDIT:
        return verify_audit(order->files, order->file_count);
    case ACTION_PRINT_SAMPLE:
        conf_print_sample(stdout);
        return EXIT_SUCCESS;
    case ACTION_PRINT_REFERENCE:
        conf_print_reference(stdout);
        return EXIT_SUCCESS;
    case ACTION_PRINT_CONSOLE_REFERENCE:
        return print_console_reference();
    case ACTION_PRINT_PRODUCTION_RULES:
        conf_print_rules(stdout);
        return EXIT_SUCCESS;
    case ACTION_VERSION:
        return print_version();
    case ACTION_HELP:
        fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    return boot_run(&order->options);
}

/* False: the command line has been complained about. */
static bool read_order(int argc, char **argv, struct order *order)
{
    enum { LONG_ONLY = 256, LONG_JSON = 512, LONG_STRICT, LONG_DEEP };
    static const struct option longs[] = {
        {"daemon", no_argument, NULL, 'd'},
        {"quiet", no_argument, NULL, 'q'},
        {"verbose", no_argument, NULL, 'v'},
        {"user", required_argument, NULL, 'u'},
        {"reboot", no_argument, NULL, 'R'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {"check", no_argument, NULL, LONG_ONLY + ACTION_CHECK},
        {"strict", no_argument, NULL, LONG_STRICT},
        {"json", no_argument, NULL, LONG_JSON},
        {"deep", no_argument, NULL, LONG_DEEP},
        {"show-config", optional_argument, NULL, LONG_ONLY + ACTION_SHOW_CONFIG},
        {"explain", required_argument, NULL, LONG_ONLY + ACTION_EXPLAIN},
        {"url", required_argument, NULL, LONG_ONLY + ACTION_URL},
        {"verify-audit", no_argument, NULL, LONG_ONLY + ACTION_VERIFY_AUDIT},
        {"print-sample", no_argument, NULL, LONG_ONLY + ACTION_PRINT_SAMPLE},
        {"print-reference", no_argument, NULL, LONG_ONLY + ACTION_PRINT_REFERENCE},
        {"print-console-reference", no_argument, NULL, LONG_ONLY + ACTION_PRINT_CONSOLE_REFERENCE},
        {"print-production-rules", no_argument, NULL, LONG_ONLY + ACTION_PRINT_PRODUCTION_RULES},
        {NULL, 0, NULL, 0},
    };
    struct boot_options *options = &order->options;
    for (int c; (c = getopt_long(argc, argv, "dqvu:RVh", longs, NULL)) != -1;) {
        if (c == 'd')
            options->background = true;
        else if (c == 'q')
            options->quiet = true;
        else if (c == 'v')
            options->verbose++;
        else if (c == 'u')
            options->user = optarg;
        else if (c == 'R')
            return complain("-R (online restart) does not exist: set so_reuseport = 1, start the "
                            "new process beside the old one, then send the old one SIGTERM");
        else if (c == LONG_JSON)
            order->json = true;
        else if (c == LONG_STRICT)
            order->strict = true;
        else if (c == LONG_DEEP)
            order->deep = true;
        else if (c == 'V')
            order->action = ACTION_VERSION;
        else if (c == 'h')
            order->action = ACTION_HELP;
        else if (c >= LONG_ONLY)
            order->action = (enum action)(c - LONG_ONLY);
        else
            return complain("unknown option");
        if (c >= LONG_ONLY && optarg)
            order->name = optarg;
    }
    if ((order->json || order->strict || order->deep) && order->action != ACTION_CHECK)
        return complain("--json, --strict and --deep belong to --check");
    /* `--show-config production FILE` is what people type. */
    if (order->action == ACTION_SHOW_CONFIG && !order->name && argc - optind == 2)
        order->name = argv[optind++];
    bool needs_file = order->action <= ACTION_URL;
    order->files = argv + optind;
    order->file_count = (size_t)(argc - optind);
    if (order->action == ACTION_VERIFY_AUDIT && order->file_count == 0)
        return complain("which audit log? Name its file");
    if (needs_file && argc - optind != 1)
        return complain(argc == optind ? "which configuration? Name its file"
                                       : "one configuration file is expected");
    options->file = needs_file ? argv[optind] : NULL;
    return true;
}

int main(int argc, char **argv)
{
    struct order order = {.action = ACTION_RUN};
    /* before any thread: libpq would read them, and PGHOSTADDR redirect a probe */
    variable_hide("PG");
    if (!read_order(argc, argv, &order))
        return EXIT_FAILURE;
    int status = act(&order);
    return fflush(stdout) == 0 ? status : EXIT_FAILURE;
}
