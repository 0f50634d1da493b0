/*
 * source: gathers what a configuration is made of, in the order in which it counts.
 *
 *   main file (with includes) < pgstage.d/<name>.ini, in name order < pgstage.local.ini <
 * PGSTAGE__…
 *
 * Both stand beside the main file. The entries are kept in the snapshot, so that SET can make a new
 * snapshot of the same entries and one more. Runs on the thread that loads.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inside.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

#define VARIABLE_PREFIX "PGSTAGE__"

void source_add(struct snapshot *snapshot, const struct ini_entry *ini, struct origin origin)
{
    if (snapshot->entry_count == snapshot->entry_capacity) {
        snapshot->entry_capacity = snapshot->entry_capacity ? snapshot->entry_capacity * 2 : 64;
        snapshot->entries = memory_resize(snapshot->entries, snapshot->entry_capacity,
                                          sizeof(snapshot->entries[0]));
    }
    snapshot->entries[snapshot->entry_count++] = (struct source_entry){*ini, origin};
}

static void source_take(void *context, const struct ini_entry *ini)
{
    source_add(context, ini, (struct origin){ORIGIN_FILE, ini->file, ini->line});
}

enum section_kind section_parse(struct arena *arena, const char *section, const char **name)
{
    static const struct {
        const char *word;
        enum section_kind kind;
    } kinds[] = {
        {"pgstage", SECTION_GLOBAL},      {"pgbouncer", SECTION_GLOBAL},
        {"databases", SECTION_DATABASES}, {"users", SECTION_USERS},
        {"peers", SECTION_PEERS},         {"environment", SECTION_ENVIRONMENT},
        {"listener", SECTION_LISTENER},
    };
    size_t length = strcspn(section, " \t");
    const char *rest = section + length + strspn(section + length, " \t");
    *name = NULL;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strlen(kinds[i].word) != length || strncmp(kinds[i].word, section, length) != 0)
            continue;
        bool named = kinds[i].kind == SECTION_ENVIRONMENT || kinds[i].kind == SECTION_LISTENER;
        if (named != (*rest != '\0'))
            return SECTION_UNKNOWN;
        size_t rest_length = strlen(rest);
        if (rest_length >= 2 && (*rest == '"' || *rest == '\'') && rest[rest_length - 1] == *rest)
            *name = arena_copy_n(arena, rest + 1, rest_length - 2);
        else if (named)
            *name = rest;
        return kinds[i].kind;
    }
    return SECTION_UNKNOWN;
}

static int is_ini(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 4 && entry->d_name[0] != '.' && strcmp(entry->d_name + length - 4, ".ini") == 0;
}

static void source_read_folder(const struct ini_reader *reader, const char *folder)
{
    struct dirent **names;
    int count = scandir(folder, &names, is_ini, alphasort);
    if (count < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            report_error(reader->report, NULL, 0, "cannot read the folder %s: %s", folder,
                         strerror(errno));
        return;
    }
    for (int i = 0; i < count; i++) {
        char *path = file_join(folder, names[i]->d_name);
        (void)ini_read_file(reader, path, false);
        free(path);
        free(names[i]);
    }
    free(names);
}

/* Is `variable` (of `length` bytes) how an environment's name is written in a variable? Letters and
 * digits stay, in capitals; everything else is an underscore. */
static bool variable_means(const char *variable, size_t length, const char *environment)
{
    if (strlen(environment) != length)
        return false;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)environment[i];
        if (variable[i] != (isalnum(byte) ? toupper(byte) : '_'))
            return false;
    }
    return true;
}

/* The section `environment X` among the entries that a variable means, or NULL. */
static const char *variable_section(struct snapshot *snapshot, const char *variable, size_t length)
{
    for (size_t i = 0; i < snapshot->entry_count; i++) {
        const struct ini_entry *ini = &snapshot->entries[i].ini;
        const char *name;
        if (!ini->key &&
            section_parse(&snapshot->arena, ini->section, &name) == SECTION_ENVIRONMENT &&
            variable_means(variable, length, name))
            return ini->section;
    }
    return NULL;
}

/* One `PGSTAGE__…=value`. */
static void source_read_variable(struct snapshot *snapshot, const char *variable,
                                 struct report *report)
{
    struct arena *arena = &snapshot->arena;
    const char *equals = strchr(variable, '=');
    const char *name = arena_copy_n(arena, variable, (size_t)(equals - variable));
    const char *rest = name + strlen(VARIABLE_PREFIX), *option = rest;
    for (const char *at = rest; (at = strstr(at, "__")); at++)
        option = at + 2;
    struct ini_entry ini = {.section = "pgstage", .value = arena_copy(arena, equals + 1)};
    if (option != rest) {
        ini.section = variable_section(snapshot, rest, (size_t)(option - 2 - rest));
        if (!ini.section) {
            report_error(report, NULL, 0, "variable %s: there is no environment %.*s", name,
                         (int)(option - 2 - rest), rest);
            return;
        }
    }
    char *key = text_copy(option);
    for (char *at = key; *at; at++)
        *at = (char)tolower((unsigned char)*at);
    ini.key = arena_copy(arena, key);
    free(key);
    source_add(snapshot, &ini, (struct origin){ORIGIN_VARIABLE, name, 0});
}

static int variable_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void source_read_variables(struct snapshot *snapshot, struct report *report)
{
    struct pointers found = {0};
    for (char **at = environ; at && *at; at++)
        if (text_starts_with(*at, VARIABLE_PREFIX) && strchr(*at, '='))
            pointers_add(&found, *at);
    /* In name order, so that mistakes come in the same order each time. */
    if (found.count)
        qsort(found.items, found.count, sizeof(found.items[0]), variable_compare);
    for (size_t i = 0; i < found.count; i++)
        source_read_variable(snapshot, found.items[i], report);
    free(found.items);
}

void source_read(struct snapshot *snapshot, bool waits, struct report *report)
{
    struct ini_reader reader = {
        .arena = &snapshot->arena,
        .report = report,
        .config_dir = snapshot->config_dir,
        .entry = source_take,
        .context = snapshot,
        .includes = true,
    };
    if (ini_read_file(&reader, snapshot->file, waits)) {
        char *folder = file_join(snapshot->config_dir, "pgstage.d");
        char *local = file_join(snapshot->config_dir, "pgstage.local.ini");
        source_read_folder(&reader, folder);
        if (access(local, F_OK) == 0)
            (void)ini_read_file(&reader, local, false);
        free(folder);
        free(local);
    }
    source_read_variables(snapshot, report);
}

void source_read_text(struct snapshot *snapshot, const char *text, size_t length,
                      struct report *report)
{
    struct ini_reader reader = {
        .arena = &snapshot->arena,
        .report = report,
        .config_dir = snapshot->config_dir,
        .entry = source_take,
        .context = snapshot,
    };
    ini_read_text(&reader, snapshot->file, text, length);
}
