/*
 * report: what a configuration load found: every mistake and warning with its file and line.
 */
#ifndef PGSTAGE_CONF_REPORT_H
#define PGSTAGE_CONF_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct report_entry {
    bool is_error; /* else a warning */
    char *file;    /* NULL: not from a file (a variable, the command line) */
    int line;      /* 0: the whole file */
    const char
        *rule;  /* the name of the rule of tables/rules.def that it breaks, or NULL; constant */
    char *text; /* what is wrong and what to write instead */
};

struct report {
    struct report_entry *entries;
    size_t count, errors, warnings;
};

/* A zeroed report is empty. */
void report_fini(struct report *report);
void report_error(struct report *report, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void report_warning(struct report *report, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The error that a rule of tables/rules.def is broken; `rule` is its name and lives as long. */
void report_broken(struct report *report, const char *rule, const char *file, int line,
                   const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Puts the entries in the order of files (as they were first named) and lines. */
void report_sort(struct report *report);
/* `file:line: error: text` of one entry, allocated. */
char *report_line(const struct report_entry *entry);
/* Everything as one JSON object: file, errors, warnings, entries of severity, file, line, rule,
 * text (what is not known is null). */
void report_print_json(const struct report *report, const char *file, FILE *out);
/* The same, with further members of the object that `more` prints (each with a comma before it). */
void report_print_json_with(const struct report *report, const char *file,
                            void (*more)(void *argument, FILE *out), void *argument, FILE *out);
/* A text as JSON; NULL is null. */
void report_print_json_text(const char *text, FILE *out);

#endif
