/*
 * main: the command line.
 *
 * Without an action the pooler runs (boot.c). The actions print something about a configuration or
 * about the program and end: 0 when all is well, 1 when the configuration has mistakes or the
 * command line cannot be understood.
 */
#include <event2/event.h>
#include <getopt.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot.h"
#include "config.h"
#include "pgstage/admin/command.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/print.h"
#include "pgstage/conf/report.h"
#include "pgstage/conf/show.h"
#include "pgstage/conf/snapshot.h"
#include "pgstage/env/url.h"

enum action {
    ACTION_RUN,
    ACTION_CHECK,
    ACTION_SHOW_CONFIG,
    ACTION_URL,
    ACTION_PRINT_SAMPLE,
    ACTION_PRINT_REFERENCE,
    ACTION_PRINT_CONSOLE_REFERENCE,
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
    "      --check            check FILE: every mistake and warning with its line; exit 0 or 1\n"
    "      --show-config      print the merged configuration with the origin of each value\n"
    "      --url=NAME         print the connection URL of database[@environment] NAME\n"
    "      --print-sample     print a complete, commented configuration\n"
    "      --print-reference  print the reference of all options (Markdown)\n"
    "      --print-console-reference\n"
    "                         print the reference of the console (Markdown)\n"
    "  -V, --version          print the versions of pgstage and its libraries\n"
    "  -h, --help             print this text\n\n"
    "Signals: HUP reads the configuration again; TERM ends when clients have left, INT when\n"
    "transactions are over, a second one or QUIT at once; USR1 pauses, USR2 resumes.\n";

static int complain(const char *problem)
{
    fprintf(stderr, "pgstage: %s\nTry `pgstage --help`.\n", problem);
    return EXIT_FAILURE;
}

static int print_version(void)
{
    printf("%s\nlibevent %s\nadns: getaddrinfo\ntls: %s\n", PACKAGE_STRING, event_get_version(),
           OpenSSL_version(OPENSSL_VERSION));
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

/* Prints what the load found to stderr. */
static struct snapshot *load(const char *file, struct report *report)
{
    struct snapshot *snapshot = snapshot_load(file, report);
    for (size_t i = 0; i < report->count; i++) {
        char *line = report_line(&report->entries[i]);
        fprintf(stderr, "%s\n", line);
        free(line);
    }
    return snapshot;
}

static int check_file(const char *file)
{
    struct report report = {0};
    struct snapshot *snapshot = load(file, &report);
    if (snapshot)
        printf("%s: the configuration is good (%zu warning%s)\n", file, report.warnings,
               report.warnings == 1 ? "" : "s");
    else
        printf("%s: the configuration has %zu mistake%s (%zu warning%s)\n", file, report.errors,
               report.errors == 1 ? "" : "s", report.warnings, report.warnings == 1 ? "" : "s");
    bool good = snapshot != NULL;
    snapshot_unref(snapshot);
    report_fini(&report);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
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

/* --show-config and --url. */
static int print_from(const char *file, const char *url_name)
{
    struct report report = {0};
    struct snapshot *snapshot = load(file, &report);
    bool good = snapshot != NULL;
    if (snapshot && url_name)
        good = print_url(snapshot, url_name);
    else if (snapshot)
        config_print(snapshot, stdout);
    snapshot_unref(snapshot);
    report_fini(&report);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int act(enum action action, const struct boot_options *options, const char *url_name)
{
    switch (action) {
    case ACTION_RUN:
        break;
    case ACTION_CHECK:
        return check_file(options->file);
    case ACTION_SHOW_CONFIG:
    case ACTION_URL:
        return print_from(options->file, url_name);
    case ACTION_PRINT_SAMPLE:
        conf_print_sample(stdout);
        return EXIT_SUCCESS;
    case ACTION_PRINT_REFERENCE:
        conf_print_reference(stdout);
        return EXIT_SUCCESS;
    case ACTION_PRINT_CONSOLE_REFERENCE:
        return print_console_reference();
    case ACTION_VERSION:
        return print_version();
    case ACTION_HELP:
        fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    return boot_run(options);
}

int main(int argc, char **argv)
{
    enum { LONG_ONLY = 256 };
    static const struct option longs[] = {
        {"daemon", no_argument, NULL, 'd'},
        {"quiet", no_argument, NULL, 'q'},
        {"verbose", no_argument, NULL, 'v'},
        {"user", required_argument, NULL, 'u'},
        {"reboot", no_argument, NULL, 'R'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {"check", no_argument, NULL, LONG_ONLY + ACTION_CHECK},
        {"show-config", no_argument, NULL, LONG_ONLY + ACTION_SHOW_CONFIG},
        {"url", required_argument, NULL, LONG_ONLY + ACTION_URL},
        {"print-sample", no_argument, NULL, LONG_ONLY + ACTION_PRINT_SAMPLE},
        {"print-reference", no_argument, NULL, LONG_ONLY + ACTION_PRINT_REFERENCE},
        {"print-console-reference", no_argument, NULL, LONG_ONLY + ACTION_PRINT_CONSOLE_REFERENCE},
        {NULL, 0, NULL, 0},
    };
    struct boot_options options = {0};
    enum action action = ACTION_RUN;
    const char *url_name = NULL;
    for (int c; (c = getopt_long(argc, argv, "dqvu:RVh", longs, NULL)) != -1;) {
        if (c == 'd')
            options.background = true;
        else if (c == 'q')
            options.quiet = true;
        else if (c == 'v')
            options.verbose++;
        else if (c == 'u')
            options.user = optarg;
        else if (c == 'R')
            return complain("-R (online restart) does not exist: set so_reuseport = 1, start the "
                            "new process beside the old one, then send the old one SIGTERM");
        else if (c == 'V')
            action = ACTION_VERSION;
        else if (c == 'h')
            action = ACTION_HELP;
        else if (c >= LONG_ONLY)
            action = (enum action)(c - LONG_ONLY);
        else
            return complain("unknown option");
        if (c == LONG_ONLY + ACTION_URL)
            url_name = optarg;
    }
    bool needs_file = action <= ACTION_URL;
    if (needs_file && argc - optind != 1)
        return complain(argc == optind ? "which configuration? Name its file"
                                       : "one configuration file is expected");
    options.file = needs_file ? argv[optind] : NULL;
    int status = act(action, &options, url_name);
    return fflush(stdout) == 0 ? status : EXIT_FAILURE;
}
