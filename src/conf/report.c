/*
 * report: collects every mistake and warning of one configuration load.
 *
 * The loader goes on after a mistake, so that a person sees all of them at once. Owned by whoever
 * loads; entries own their texts.
 */
#include "pgstage/conf/report.h"

#include <stdarg.h>
#include <stdlib.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

/* A file of nonsense must not fill the memory with complaints. */
#define ENTRIES_MAX 10000

static void report_add(struct report *report, bool is_error, const char *rule, const char *file,
                       int line, char *text)
{
    if (is_error)
        report->errors++;
    else
        report->warnings++;
    if (report->count >= ENTRIES_MAX) {
        free(text);
        return;
    }
    /* Grows when the count reaches a power of two. */
    if ((report->count & (report->count - 1)) == 0)
        report->entries = memory_resize(report->entries, report->count ? report->count * 2 : 1,
                                        sizeof(*report->entries));
    struct report_entry *entry = &report->entries[report->count++];
    *entry = (struct report_entry){is_error, text_copy(file), line, rule, text};
}

void report_error(struct report *report, const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    report_add(report, true, NULL, file, line, text_vprint(format, arguments));
    va_end(arguments);
}

void report_warning(struct report *report, const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    report_add(report, false, NULL, file, line, text_vprint(format, arguments));
    va_end(arguments);
}

void report_broken(struct report *report, const char *rule, const char *file, int line,
                   const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    report_add(report, true, rule, file, line, text_vprint(format, arguments));
    va_end(arguments);
}

void report_fini(struct report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        free(report->entries[i].file);
        free(report->entries[i].text);
    }
    free(report->entries);
    *report = (struct report){0};
}

char *report_line(const struct report_entry *entry)
{
    const char *kind = entry->is_error ? "error" : "warning";
    if (!entry->file)
        return text_print("%s: %s", kind, entry->text);
    if (!entry->line)
        return text_print("%s: %s: %s", entry->file, kind, entry->text);
    return text_print("%s:%d: %s: %s", entry->file, entry->line, kind, entry->text);
}

struct placed {
    struct report_entry entry;
    size_t file, place;
};

static int placed_compare(const void *left, const void *right)
{
    const struct placed *a = left, *b = right;
    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    if (a->entry.line != b->entry.line)
        return a->entry.line < b->entry.line ? -1 : 1;
    return a->place < b->place ? -1 : a->place > b->place;
}

/* The number of the file among those named so far; no file counts as the last. */
static size_t file_number(const struct placed *placed, size_t count, const char *file)
{
    if (!file)
        return ENTRIES_MAX + 1;
    for (size_t i = 0; i < count; i++)
        if (text_equal(placed[i].entry.file, file))
            return placed[i].file;
    return count;
}

void report_sort(struct report *report)
{
    struct placed *placed = memory_get((report->count + 1) * sizeof(*placed));
    for (size_t i = 0; i < report->count; i++) {
        placed[i].entry = report->entries[i];
        placed[i].place = i;
        /* Most entries stand in the file of the one before: looked at first. */
        if (i && text_equal(placed[i - 1].entry.file, report->entries[i].file))
            placed[i].file = placed[i - 1].file;
        else
            placed[i].file = file_number(placed, i, report->entries[i].file);
    }
    qsort(placed, report->count, sizeof(*placed), placed_compare);
    for (size_t i = 0; i < report->count; i++)
        report->entries[i] = placed[i].entry;
    free(placed);
}

/* The bytes of the UTF-8 character at `at`; 0: it is none. */
static size_t utf8_length(const unsigned char *at)
{
    size_t length = at[0] < 0x80                    ? 1
                    : at[0] >= 0xc2 && at[0] < 0xe0 ? 2
                    : at[0] >= 0xe0 && at[0] < 0xf0 ? 3
                    : at[0] >= 0xf0 && at[0] < 0xf5 ? 4
                                                    : 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

/* A JSON string, or null. A byte that is no UTF-8 is shown as the character of its number: names of
 * files may hold anything. */
void report_print_json_text(const char *text, FILE *out)
{
    if (!text) {
        fputs("null", out);
        return;
    }
    fputc('"', out);
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        size_t length = utf8_length(at);
        if (length > 1) {
            fwrite(at, 1, length, out);
            at += length - 1;
            continue;
        }
        if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else if (*at < 0x20 || *at >= 0x7f)
            fprintf(out, "\\u%04x", *at);
        else
            fputc(*at, out);
    }
    fputc('"', out);
}

void report_print_json_with(const struct report *report, const char *file,
                            void (*more)(void *argument, FILE *out), void *argument, FILE *out)
{
    fputs("{\n  \"file\": ", out);
    report_print_json_text(file, out);
    fprintf(out, ",\n  \"errors\": %zu,\n  \"warnings\": %zu,\n  \"entries\": [", report->errors,
            report->warnings);
    for (size_t i = 0; i < report->count; i++) {
        const struct report_entry *entry = &report->entries[i];
        fprintf(out, "%s\n    {\"severity\": \"%s\", \"file\": ", i ? "," : "",
                entry->is_error ? "error" : "warning");
        report_print_json_text(entry->file, out);
        if (entry->line)
            fprintf(out, ", \"line\": %d, \"rule\": ", entry->line);
        else
            fputs(", \"line\": null, \"rule\": ", out);
        report_print_json_text(entry->rule, out);
        fputs(", \"text\": ", out);
        report_print_json_text(entry->text, out);
        fputs("}", out);
    }
    fprintf(out, "%s]", report->count ? "\n  " : "");
    if (more)
        more(argument, out);
    fputs("\n}\n", out);
}

void report_print_json(const struct report *report, const char *file, FILE *out)
{
    report_print_json_with(report, file, NULL, NULL, out);
}
