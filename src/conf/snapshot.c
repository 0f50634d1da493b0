/*
 * snapshot: one whole configuration: loading it, looking into it, resolving its scopes.
 *
 * The thread that loads makes it; once handed out it is only read, by any thread with a reference.
 * `struct effective` holds one, so that it may outlive a RELOAD.
 *
 *   snapshot_load: source_read -> build_snapshot -> validate_snapshot -> (any error: NULL) ->
 * frozen
 */
#include "pgstage/conf/snapshot.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/check.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/host.h"

static struct snapshot *snapshot_new(const char *file)
{
    struct snapshot *snapshot = memory_new(sizeof(*snapshot));
    atomic_init(&snapshot->references, 1);
    snapshot->file = arena_copy(&snapshot->arena, file);
    char *folder = file_folder(file);
    snapshot->config_dir = arena_copy(&snapshot->arena, folder);
    free(folder);
    return snapshot;
}

static void snapshot_free(struct snapshot *snapshot)
{
    HASH_CLEAR(hh, snapshot->environment_by_name);
    HASH_CLEAR(hh, snapshot->database_by_key);
    HASH_CLEAR(hh, snapshot->user_by_name);
    HASH_CLEAR(hh, snapshot->sni_by_name);
    free(snapshot->environments.items);
    free(snapshot->databases.items);
    free(snapshot->users.items);
    free(snapshot->listeners.items);
    free(snapshot->peers.items);
    free(snapshot->certificates.items);
    free(snapshot->entries);
    users_free(snapshot->secrets);
    hba_files_free(snapshot);
    arena_fini(&snapshot->arena);
    free(snapshot);
}

/* Builds and validates the entries; frees the snapshot and gives NULL when anything is wrong. */
static struct snapshot *snapshot_finish(struct snapshot *snapshot, struct report *report,
                                        size_t errors_before)
{
    build_snapshot(snapshot, report);
    resolve_snapshot(snapshot, report);
    validate_snapshot(snapshot, report);
    report_sort(report);
    if (report->errors == errors_before)
        return snapshot;
    snapshot_free(snapshot);
    return NULL;
}

struct snapshot *snapshot_load(const char *file, bool waits, struct report *report)
{
    struct snapshot *snapshot = snapshot_new(file);
    size_t errors = report->errors;
    source_read(snapshot, waits, report);
    /* Without the main file everything else would be nonsense about what is missing. */
    if (report->errors != errors && snapshot->entry_count == 0) {
        snapshot_free(snapshot);
        return NULL;
    }
    return snapshot_finish(snapshot, report, errors);
}

struct snapshot *snapshot_parse(const char *name, const char *text, size_t length,
                                struct report *report)
{
    struct snapshot *snapshot = snapshot_new(name);
    size_t errors = report->errors;
    snapshot->offline = true;
    source_read_text(snapshot, text, length, report);
    return snapshot_finish(snapshot, report, errors);
}

struct snapshot *snapshot_set(const struct snapshot *old, const char *key, const char *value,
                              struct report *report)
{
    const struct option *option = option_find(SCOPE_GLOBAL, key);
    const struct origin origin = {ORIGIN_SET, NULL, 0};
    const char *nearest = option ? NULL : option_nearest(SCOPE_GLOBAL, key);
    if (!option) {
        report_error(report, NULL, 0, "unknown option \"%.100s\"%s%s", key,
                     nearest ? "; did you mean " : "", nearest ? nearest : "");
        return NULL;
    }
    if (option->reload == RELOAD_RESTART) {
        report_error(report, NULL, 0, "%s cannot be changed without a restart", key);
        return NULL;
    }
    for (const char *at = value; *at; at++) {
        if (iscntrl((unsigned char)*at)) {
            report_error(report, NULL, 0, "%s: a value is one line without control characters",
                         key);
            return NULL;
        }
    }
    struct snapshot *snapshot = snapshot_new(old->file);
    size_t errors = report->errors;
    struct arena *arena = &snapshot->arena;
    snapshot->offline = old->offline;
    for (size_t i = 0; i < old->entry_count; i++) {
        struct source_entry entry = old->entries[i];
        struct ini_entry *ini = &entry.ini;
        /* One text for a section's entries: that is how build knows that they follow each other. */
        const struct source_entry *last = i ? &snapshot->entries[i - 1] : NULL;
        bool same = i && old->entries[i - 1].ini.section == ini->section;
        ini->section = same ? last->ini.section : arena_copy(arena, ini->section);
        same = i && old->entries[i - 1].origin.name == entry.origin.name;
        entry.origin.name = same ? last->origin.name : arena_copy(arena, entry.origin.name);
        ini->key = arena_copy(arena, ini->key);
        ini->suffix = arena_copy(arena, ini->suffix);
        ini->value = arena_copy(arena, ini->value);
        ini->file = NULL;
        source_add(snapshot, ini, entry.origin);
    }
    struct ini_entry set = {
        .section = "pgstage", .key = arena_copy(arena, key), .value = arena_copy(arena, value)};
    source_add(snapshot, &set, origin);
    return snapshot_finish(snapshot, report, errors);
}

struct snapshot *snapshot_ref(struct snapshot *snapshot)
{
    atomic_fetch_add_explicit(&snapshot->references, 1, memory_order_relaxed);
    return snapshot;
}

void snapshot_unref(struct snapshot *snapshot)
{
    if (snapshot && atomic_fetch_sub_explicit(&snapshot->references, 1, memory_order_acq_rel) == 1)
        snapshot_free(snapshot);
}

const struct settings *snapshot_globals(const struct snapshot *snapshot)
{
    return &snapshot->globals;
}

const struct settings *snapshot_environment_settings(const struct snapshot *snapshot,
                                                     const struct environment_config *environment)
{
    const struct environment *own = snapshot->environments.items[environment->index];
    return &own->settings;
}

const struct users *snapshot_users(const struct snapshot *snapshot)
{
    return snapshot->secrets;
}

const struct hba *snapshot_hba(const struct snapshot *snapshot)
{
    return snapshot->hba;
}

const struct ident *snapshot_ident(const struct snapshot *snapshot)
{
    return snapshot->ident;
}

size_t snapshot_environment_count(const struct snapshot *snapshot)
{
    return snapshot->environments.count;
}

const struct environment_config *snapshot_environment(const struct snapshot *snapshot, size_t index)
{
    const struct environment *environment = snapshot->environments.items[index];
    return &environment->config;
}

bool snapshot_has_production(const struct snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->environments.count; i++)
        if (snapshot_environment(snapshot, i)->production_class)
            return true;
    return false;
}

const struct environment_config *snapshot_find_environment(const struct snapshot *snapshot,
                                                           const char *name)
{
    struct environment *environment;
    HASH_FIND_STR(snapshot->environment_by_name, name, environment);
    return environment ? &environment->config : NULL;
}

const struct environment_config *snapshot_default_environment(const struct snapshot *snapshot)
{
    return snapshot->default_environment ? &snapshot->default_environment->config : NULL;
}

const struct environment_config *snapshot_find_sni(const struct snapshot *snapshot,
                                                   const char *server_name)
{
    char name[256];
    struct sni_name *found;
    if (!snapshot->sni_by_name || !text_fit(name, sizeof(name), server_name))
        return NULL;
    for (char *at = name; *at; at++)
        *at = (char)tolower((unsigned char)*at);
    HASH_FIND_STR(snapshot->sni_by_name, name, found);
    char *dot = strchr(name, '.');
    if (!found && dot && dot != name) {
        /* "pg.example.com" is also looked for as "*.example.com". */
        dot[-1] = '*';
        HASH_FIND_STR(snapshot->sni_by_name, dot - 1, found);
    }
    return found ? &found->environment->config : NULL;
}

size_t snapshot_database_count(const struct snapshot *snapshot)
{
    return snapshot->databases.count;
}

const struct database_config *snapshot_database(const struct snapshot *snapshot, size_t index)
{
    const struct database *database = snapshot->databases.items[index];
    return &database->config;
}

const struct database_config *snapshot_find_database(const struct snapshot *snapshot,
                                                     const char *name, const char *environment)
{
    char key[512];
    size_t name_length = strlen(name), rest = environment ? strlen(environment) : 0;
    struct database *database;
    if (name_length > 255 || rest > 255 || (environment && !snapshot->has_bound_lines))
        return NULL;
    memcpy(key, name, name_length + 1);
    if (rest)
        memcpy(key + name_length + 1, environment, rest);
    HASH_FIND(hh, snapshot->database_by_key, key, name_length + 1 + rest, database);
    return database ? &database->config : NULL;
}

size_t snapshot_listener_count(const struct snapshot *snapshot)
{
    return snapshot->listeners.count;
}

const struct listener_config *snapshot_listener(const struct snapshot *snapshot, size_t index)
{
    const struct listener *listener = snapshot->listeners.items[index];
    return &listener->config;
}

size_t snapshot_peer_count(const struct snapshot *snapshot)
{
    return snapshot->peers.count;
}

const struct peer_config *snapshot_peer(const struct snapshot *snapshot, size_t index)
{
    const struct peer *peer = snapshot->peers.items[index];
    return &peer->config;
}

void snapshot_user_settings(const struct snapshot *snapshot, const char *user,
                            struct settings *settings)
{
    struct user_line *line;
    HASH_FIND_STR(snapshot->user_by_name, user, line);
    *settings = snapshot->globals;
    if (line)
        layer_apply(&line->layer, settings);
}

size_t snapshot_user_count(const struct snapshot *snapshot)
{
    return snapshot->users.count;
}

const char *snapshot_user(const struct snapshot *snapshot, size_t index)
{
    const struct user_line *line = snapshot->users.items[index];
    return line->name;
}
