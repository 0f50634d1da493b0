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

static void report_add(struct report *report, bool is_error, const char *file, int line, char *text)
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
    *entry = (struct report_entry){is_error, text_copy(file), line, text};
}

void report_error(struct report *report, const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    report_add(report, true, file, line, text_vprint(format, arguments));
    va_end(arguments);
}

void report_warning(struct report *report, const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    report_add(report, false, file, line, text_vprint(format, arguments));
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
