/*
 * ini: PgBouncer's INI grammar on inih.
 *
 * inih cuts lines at 200 bytes and section names at 49, joins indented lines to the one before and
 * takes ` ;` in a value for a comment. So `ini_next` reads the lines itself, follows includes,
 * keeps the real section, key, value, file and line in struct scan, and hands inih one short token
 * for each; inih's call of `ini_key` then takes what was kept.
 *
 *   files ──ini_next──> "k=v" ──inih──> ini_key ──> entry(section, key, value, file, line)
 *              └───────── scan.entry, kept aside ─────────┘
 *
 * Runs on the thread that loads. All texts are cut from the caller's arena.
 */
#include "pgstage/conf/ini.h"

#include <ctype.h>
#include <ini.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/variable.h"

#define FILE_MAX_BYTES ((size_t)64 << 20)
#define INCLUDES_MAX 16
#define BLANKS " \t\r\f\v"

/* A file that is being read; the including one is below. */
struct ini_file {
    struct ini_file *below;
    const char *name;
    struct file_identity identity;
    char *text; /* NULL: the text is the caller's */
    const char *at, *end;
    int line;
    const char *section; /* NULL before the first */
};

struct scan {
    const struct ini_reader *reader;
    struct ini_file *file; /* the top of the stack; NULL: all read */
    size_t depth;
    struct ini_entry entry; /* kept for ini_key */
};

static void scan_push(struct scan *scan, const char *name, const char *text, size_t length,
                      char *owned, struct file_identity identity)
{
    struct ini_file *file = memory_new(sizeof(*file));
    file->below = scan->file;
    file->name = arena_copy(scan->reader->arena, name);
    file->identity = identity;
    file->text = owned;
    file->at = text;
    file->end = text + length;
    file->section = scan->file ? scan->file->section : NULL;
    /* A byte order mark of UTF-8 is no text. */
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        file->at += 3;
    scan->file = file;
    scan->depth++;
}

static void scan_pop(struct scan *scan)
{
    struct ini_file *file = scan->file;
    scan->file = file->below;
    scan->depth--;
    free(file->text);
    free(file);
}

#define scan_error(scan, ...)                                                                      \
    report_error((scan)->reader->report, (scan)->file->name, (scan)->file->line, __VA_ARGS__)

static bool scan_push_file(struct scan *scan, const char *path, bool waits, char *problem,
                           size_t size)
{
    size_t length;
    struct file_identity identity;
    char *text = waits ? file_read_waiting(path, FILE_MAX_BYTES, &length, &identity, problem, size)
                       : file_read(path, FILE_MAX_BYTES, &length, &identity, problem, size);
    if (!text)
        return false;
    for (const struct ini_file *file = scan->file; file; file = file->below) {
        if (file->identity.device == identity.device && file->identity.inode == identity.inode) {
            snprintf(problem, size, "%.300s includes itself (by way of %.300s)", path,
                     scan->file->name);
            free(text);
            return false;
        }
    }
    scan_push(scan, path, text, length, text, identity);
    return true;
}

/* `rest` is what stands behind %include. */
static void scan_include(struct scan *scan, const char *rest)
{
    char problem[1024];
    if (!scan->reader->includes) {
        scan_error(scan, "%%include is possible in files only");
        return;
    }
    if (!*rest) {
        scan_error(scan, "%%include names no file");
        return;
    }
    if (scan->depth >= INCLUDES_MAX) {
        scan_error(scan, "%%include goes deeper than %d files", INCLUDES_MAX);
        return;
    }
    char *path = variable_expand(rest, scan->reader->config_dir, NULL, problem, sizeof(problem));
    if (path) {
        char *folder = file_folder(scan->file->name);
        char *joined = file_join(folder, path);
        struct ini_file *including = scan->file;
        if (!scan_push_file(scan, joined, false, problem, sizeof(problem)))
            report_error(scan->reader->report, including->name, including->line, "%%include: %s",
                         problem);
        free(joined);
        free(folder);
        free(path);
    } else {
        scan_error(scan, "%%include: %s", problem);
    }
}

/* Cuts blanks off both ends, in place. */
static char *trim(char *text)
{
    text += strspn(text, BLANKS);
    size_t length = strlen(text);
    while (length && strchr(BLANKS, text[length - 1]))
        text[--length] = '\0';
    return text;
}

/* Takes the quotes off a key: `'it''s'` is it's. Returns what stands behind, or NULL. */
static char *unquote_key(char *text, const char **key)
{
    char quote = *text, *out = text, *start = text;
    for (text++; *text; text++) {
        if (*text == quote && *++text != quote) {
            char *behind = text;
            *key = start;
            /* `out` never passes `text`, so the end mark may overwrite the closing quote only. */
            *out = '\0';
            return behind;
        }
        *out++ = *text;
    }
    return NULL;
}

static bool is_name_byte(unsigned char byte)
{
    return isalnum(byte) || strchr("_.-*@", byte) || byte >= 0x80;
}

/* Finds the key at the start of `line` and returns its `=`, or NULL after a report. */
static char *scan_key(struct scan *scan, char *line)
{
    struct ini_entry *entry = &scan->entry;
    char *behind;
    entry->suffix = NULL;
    entry->key_is_quoted = *line == '"' || *line == '\'';
    if (entry->key_is_quoted) {
        behind = unquote_key(line, &entry->key);
        if (!behind) {
            scan_error(scan, "the quote that opens the name is not closed");
            return NULL;
        }
        if (*behind == '@') {
            entry->suffix = ++behind;
            while (*behind && *behind != '=' && is_name_byte((unsigned char)*behind))
                behind++;
        }
    } else {
        entry->key = line;
        for (behind = line; *behind && is_name_byte((unsigned char)*behind);)
            behind++;
    }
    char *equals = behind + strspn(behind, BLANKS);
    if (*equals != '=') {
        const char *found = strchr(equals, '=');
        if (!entry->key_is_quoted && found)
            scan_error(scan,
                       "\"%.60s\" is not a name; put \"quotes\" around a name with other "
                       "characters than letters, digits and _.-*@",
                       line);
        else
            scan_error(scan, "expected `name = value` at \"%.60s\"", line);
        return NULL;
    }
    if (behind == line) {
        scan_error(scan, "there is no name before the =");
        return NULL;
    }
    /* The end mark may fall on the = itself: the value begins behind it in any case. */
    *behind = '\0';
    return equals;
}

/* A line that is no comment and no section; true when an entry is ready for inih. */
static bool scan_pair(struct scan *scan, char *line)
{
    struct ini_entry *entry = &scan->entry;
    char *equals = scan_key(scan, line);
    if (!equals)
        return false;
    if (!scan->file->section) {
        scan_error(scan, "%.60s stands before the first [section]", entry->key);
        return false;
    }
    struct arena *arena = scan->reader->arena;
    entry->section = scan->file->section;
    entry->key = arena_copy(arena, entry->key);
    entry->suffix = arena_copy(arena, entry->suffix);
    entry->value = arena_copy(arena, trim(equals + 1));
    entry->file = scan->file->name;
    entry->line = scan->file->line;
    return true;
}

/* `[name]`: the section of all that follows. Returns what stands behind it. */
static char *scan_section(struct scan *scan, char *line)
{
    char *close = strchr(line, ']');
    if (!close) {
        scan_error(scan, "the section \"%.60s\" is not closed with ]", line);
        return NULL;
    }
    *close = '\0';
    scan->file->section = arena_copy(scan->reader->arena, trim(line + 1));
    struct ini_entry begin = {
        .section = scan->file->section, .file = scan->file->name, .line = scan->file->line};
    scan->reader->entry(scan->reader->context, &begin);
    return trim(close + 1);
}

/* Acts on one line; true when it is a pair, kept in scan->entry. */
static bool scan_line(struct scan *scan, char *line)
{
    line = trim(line);
    bool section = *line == '[';
    if (section)
        line = scan_section(scan, line);
    if (!line || !*line || *line == ';' || *line == '#')
        return false;
    if (*line == '%') {
        size_t word = strcspn(line, BLANKS);
        if (word == 8 && strncmp(line, "%include", 8) == 0)
            scan_include(scan, trim(line + 8));
        else
            scan_error(scan, "\"%.60s\" is unknown; %%include FILE is the only one of its kind",
                       line);
        return false;
    }
    return scan_pair(scan, line);
}

/* Reads lines up to the next pair. False at the end of everything. */
static bool scan_next(struct scan *scan)
{
    bool found = false;
    while (scan->file && !found) {
        struct ini_file *file = scan->file;
        if (file->at >= file->end) {
            scan_pop(scan);
            continue;
        }
        const char *newline = memchr(file->at, '\n', (size_t)(file->end - file->at));
        size_t length = (size_t)((newline ? newline : file->end) - file->at);
        char *line = text_copy_n(file->at, length);
        file->line++;
        /* Moved on before the line acts: an include puts another file on top. */
        file->at += length + (newline != NULL);
        const char *carriage_return = memchr(line, '\r', length);
        if (memchr(line, '\0', length))
            scan_error(scan, "there is a NUL byte in this line");
        else if (carriage_return &&
                 strspn(carriage_return, BLANKS) != (size_t)(line + length - carriage_return))
            scan_error(scan, "there is a carriage return inside this line: lines end with a "
                             "newline, with or without one before it");
        else
            found = scan_line(scan, line);
        text_wipe(line, length);
        free(line);
    }
    return found;
}

/* inih's reader: a short token for each pair. */
static char *ini_next(char *line, int size, void *stream)
{
    struct scan *scan = stream;
    if (!scan_next(scan))
        return NULL;
    snprintf(line, (size_t)size, "k=v\n");
    return line;
}

/* inih's handler: what the token stood for. */
static int ini_key(void *user, const char *section, const char *name, const char *value)
{
    struct scan *scan = user;
    (void)section, (void)name, (void)value;
    scan->reader->entry(scan->reader->context, &scan->entry);
    return 1;
}

static void scan_run(struct scan *scan)
{
    if (ini_parse_stream(ini_next, scan, ini_key, scan) != 0)
        report_error(scan->reader->report, NULL, 0, "the INI reader gave up");
    while (scan->file)
        scan_pop(scan);
}

bool ini_read_file(const struct ini_reader *reader, const char *file, bool waits)
{
    struct scan scan = {.reader = reader};
    char problem[1024];
    if (!scan_push_file(&scan, file, waits, problem, sizeof(problem))) {
        report_error(reader->report, NULL, 0, "%s", problem);
        return false;
    }
    scan_run(&scan);
    return true;
}

void ini_read_text(const struct ini_reader *reader, const char *name, const char *text,
                   size_t length)
{
    struct scan scan = {.reader = reader};
    scan_push(&scan, name, text, length, NULL, (struct file_identity){0});
    scan_run(&scan);
}
