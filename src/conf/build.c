/*
 * build: turns entries into layers and objects: environments, databases, users, listeners, peers.
 *
 * Every mistake is reported and the next entry is taken, so that one run shows them all. Runs on
 * the thread that loads; nobody else sees the snapshot yet.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/connstr.h"
#include "pgstage/conf/variable.h"

#define PROBLEM_BYTES 512

struct build {
    struct snapshot *snapshot;
    struct report *report;
    /* The section of the last entry: its entries follow one another. */
    const char *section;
    enum section_kind kind;
    struct environment *environment;
    struct listener *listener;
};

/* One `option = text` for a layer, and what is known about the text. */
struct claim {
    enum option_scope scope;
    const char *key, *text;
    bool expanded;  /* came out of a variable already */
    bool reference; /* and nothing of that line stands in a file but the variable's name */
    bool is_pair;   /* one of several in a line, whose layer is made anew for each line */
    const struct origin *origin;
};

static void report_unknown(struct build *build, const struct claim *claim)
{
    const struct option *elsewhere = option_find_anywhere(claim->key);
    const char *nearest = option_nearest(claim->scope, claim->key), *here;
    char scopes[96];
    here = option_scope_name(claim->scope);
    if (elsewhere) {
        option_scopes_text(elsewhere, scopes, sizeof(scopes));
        origin_error(build->report, claim->origin, "%s does not belong into %s, but into %s",
                     claim->key, here, scopes);
    } else if (nearest) {
        origin_error(build->report, claim->origin,
                     "unknown option \"%.100s\" in %s; did you mean %s?", claim->key, here,
                     nearest);
    } else {
        origin_error(build->report, claim->origin, "unknown option \"%.100s\" in %s", claim->key,
                     here);
    }
}

/* The text with its variables replaced, in the arena; NULL after a report. */
static const char *claim_expand(struct build *build, const struct claim *claim, bool *replaced)
{
    struct snapshot *snapshot = build->snapshot;
    char problem[PROBLEM_BYTES];
    *replaced = claim->expanded || claim->origin->kind == ORIGIN_VARIABLE;
    if (*replaced || claim->origin->kind == ORIGIN_SET)
        return claim->text;
    char *text =
        variable_expand(claim->text, snapshot->config_dir, replaced, problem, sizeof(problem));
    if (!text) {
        origin_error(build->report, claim->origin, "%s: %s", claim->key, problem);
        return NULL;
    }
    const char *copy = arena_copy(&snapshot->arena, text);
    text_wipe(text, strlen(text));
    free(text);
    return copy;
}

/* What a file says again counts from there on, as in PgBouncer; nobody means to say it twice in one
 * file, as one does to change an earlier file's. The same line again is a file included twice. */
static void warn_of_repetition(struct build *build, const struct origin *origin,
                               const struct origin *before, const char *kind, const char *name)
{
    if (origin->kind == ORIGIN_FILE && before->kind == ORIGIN_FILE &&
        text_equal(origin->name, before->name) && origin->line != before->line)
        origin_warning(build->report, origin, "%s%.100s stands at %s:%d already; this line counts",
                       kind, name, before->name, before->line);
}

/* Checks a claim and puts it into a layer; NULL when it is wrong. */
static struct assignment *claim_put(struct build *build, struct layer *layer,
                                    const struct claim *claim)
{
    struct assignment assignment = {.option = option_find(claim->scope, claim->key),
                                    .origin = *claim->origin};
    char problem[PROBLEM_BYTES];
    bool replaced;
    if (!assignment.option) {
        report_unknown(build, claim);
        return NULL;
    }
    const char *text = claim_expand(build, claim, &replaced);
    if (!text)
        return NULL;
    if (!option_parse(assignment.option, text, &assignment.value, problem, sizeof(problem))) {
        origin_error(build->report, claim->origin, "%s: %s", claim->key, problem);
        return NULL;
    }
    const struct assignment *before = layer_find(layer, assignment.option);
    if (before && claim->is_pair)
        origin_warning(build->report, claim->origin,
                       "%s stands twice in this line; the last one counts", claim->key);
    else if (before)
        warn_of_repetition(build, claim->origin, &before->origin, "", claim->key);
    assignment.raw = claim->origin->kind == ORIGIN_VARIABLE
                         ? arena_print(&build->snapshot->arena, "${%s}", claim->origin->name)
                         : claim->text;
    assignment.literal =
        claim->expanded ? !claim->reference
        : assignment.option->form == FORM_SECRET && claim->origin->kind != ORIGIN_VARIABLE
            ? !variable_is_reference(claim->text)
            : !replaced;
    return layer_put(&build->snapshot->arena, layer, &assignment);
}

/* Environment and listener names are parts of `database@name` and of variables. */
static bool name_check(struct build *build, const struct origin *origin, const char *name)
{
    size_t good = 0;
    while (name[good] && (isalnum((unsigned char)name[good]) || strchr("_-.", name[good])))
        good++;
    if (*name && !name[good] && good <= 63)
        return true;
    origin_error(build->report, origin,
                 "\"%.80s\" is not a name for a section: at most 63 letters, digits and _ - .",
                 name);
    return false;
}

static struct environment *environment_get(struct build *build, const struct origin *origin,
                                           const char *name)
{
    struct snapshot *snapshot = build->snapshot;
    struct environment *environment;
    HASH_FIND_STR(snapshot->environment_by_name, name, environment);
    if (environment || !name_check(build, origin, name))
        return environment;
    environment = arena_get(&snapshot->arena, sizeof(*environment));
    environment->config.name = arena_copy(&snapshot->arena, name);
    environment->config.index = snapshot->environments.count;
    environment->origin = *origin;
    pointers_add(&snapshot->environments, environment);
    HASH_ADD_KEYPTR(hh, snapshot->environment_by_name, environment->config.name, strlen(name),
                    environment);
    return environment;
}

static struct listener *listener_get(struct build *build, const struct origin *origin,
                                     const char *name)
{
    struct snapshot *snapshot = build->snapshot;
    for (size_t i = 0; i < snapshot->listeners.count; i++) {
        struct listener *listener = snapshot->listeners.items[i];
        if (text_equal(listener->config.name, name))
            return listener;
    }
    if (name && !name_check(build, origin, name))
        return NULL;
    struct listener *listener = arena_get(&snapshot->arena, sizeof(*listener));
    listener->config.name = arena_copy(&snapshot->arena, name);
    listener->config.settings = &listener->settings;
    listener->origin = *origin;
    pointers_add(&snapshot->listeners, listener);
    return listener;
}

/* Finds or makes what a section is about; its entries follow. */
static void build_section(struct build *build, const struct source_entry *entry)
{
    const char *name;
    build->section = entry->ini.section;
    build->kind = section_parse(&build->snapshot->arena, entry->ini.section, &name);
    build->environment = NULL;
    build->listener = NULL;
    if (build->kind == SECTION_ENVIRONMENT)
        build->environment = environment_get(build, &entry->origin, name);
    else if (build->kind == SECTION_LISTENER)
        build->listener = listener_get(build, &entry->origin, name);
    else if (build->kind == SECTION_UNKNOWN)
        origin_error(build->report, &entry->origin,
                     "unknown section [%.80s]; there are [pgstage] (or [pgbouncer]), [databases], "
                     "[users], [peers], [environment NAME] and [listener NAME]",
                     entry->ini.section);
}

/* Puts `key=value …` into a layer. True when one variable, and nothing else, holds all of it. */
static bool build_pairs(struct build *build, const struct source_entry *entry,
                        enum option_scope scope, struct layer *layer)
{
    struct arena *arena = &build->snapshot->arena;
    const char *text = entry->ini.value;
    size_t length = strlen(text);
    struct claim claim = {
        .scope = scope, .key = entry->ini.key, .is_pair = true, .origin = &entry->origin};
    char problem[PROBLEM_BYTES];
    enum connstr_step step;
    /* `app = ${APP}`: the variable holds the whole line. */
    if (strncmp(text, "${", 2) == 0 && strchr(text, '}') == text + length - 1) {
        claim.text = text;
        claim.reference = variable_is_reference(text);
        text = claim_expand(build, &claim, &claim.expanded);
        if (!text)
            return false;
    }
    while ((step = connstr_next(arena, &text, &claim.key, &claim.text, problem, sizeof(problem))) ==
           CONNSTR_PAIR)
        (void)claim_put(build, layer, &claim);
    if (step == CONNSTR_WRONG)
        origin_error(build->report, &entry->origin, "%s: %s", entry->ini.key, problem);
    return claim.reference;
}

/* Cuts `name@environment` and makes both parts texts of the arena. */
static void database_name(struct build *build, const struct ini_entry *ini,
                          struct database_config *config)
{
    struct arena *arena = &build->snapshot->arena;
    const char *at = ini->key_is_quoted ? NULL : strrchr(ini->key, '@');
    config->environment = ini->suffix ? ini->suffix : at ? at + 1 : NULL;
    config->name = at ? arena_copy_n(arena, ini->key, (size_t)(at - ini->key)) : ini->key;
    config->is_fallback = strcmp(config->name, "*") == 0;
}

static void build_database(struct build *build, const struct source_entry *entry)
{
    struct snapshot *snapshot = build->snapshot;
    struct database_config config = {0};
    database_name(build, &entry->ini, &config);
    if (!*config.name || strlen(config.name) > 255) {
        origin_error(build->report, &entry->origin, "a database's name has 1 to 255 bytes");
        return;
    }
    /* Name, NUL, environment: no name holds a NUL, so no two lines share a key. */
    size_t name_length = strlen(config.name);
    size_t key_length = name_length + 1 + (config.environment ? strlen(config.environment) : 0);
    char *key = arena_get(&snapshot->arena, key_length + 1);
    memcpy(key, config.name, name_length);
    if (config.environment)
        memcpy(key + name_length + 1, config.environment, strlen(config.environment));
    struct database *database;
    HASH_FIND(hh, snapshot->database_by_key, key, key_length, database);
    if (!database) {
        database = arena_get(&snapshot->arena, sizeof(*database));
        database->key = key;
        database->key_length = key_length;
        pointers_add(&snapshot->databases, database);
        HASH_ADD_KEYPTR(hh, snapshot->database_by_key, database->key, key_length, database);
    } else {
        warn_of_repetition(build, &entry->origin, &database->origin, "database ", entry->ini.key);
    }
    /* A later line for the same name stands in place of the whole earlier one. */
    database->config = config;
    snapshot->has_bound_lines = snapshot->has_bound_lines || config.environment;
    database->origin = entry->origin;
    database->layer = (struct layer){0};
    bool whole = build_pairs(build, entry, SCOPE_DATABASE, &database->layer);
    database->whole = whole ? entry->ini.value : NULL;
}

static void build_user(struct build *build, const struct source_entry *entry)
{
    struct snapshot *snapshot = build->snapshot;
    struct user_line *user;
    HASH_FIND_STR(snapshot->user_by_name, entry->ini.key, user);
    if (!user) {
        user = arena_get(&snapshot->arena, sizeof(*user));
        user->name = entry->ini.key;
        pointers_add(&snapshot->users, user);
        HASH_ADD_KEYPTR(hh, snapshot->user_by_name, user->name, strlen(user->name), user);
    } else {
        warn_of_repetition(build, &entry->origin, &user->origin, "user ", user->name);
    }
    user->origin = entry->origin;
    user->layer = (struct layer){0};
    (void)build_pairs(build, entry, SCOPE_USER, &user->layer);
}

static void build_peer(struct build *build, const struct source_entry *entry)
{
    struct snapshot *snapshot = build->snapshot;
    const char *key = entry->ini.key;
    long id = strlen(key) <= 5 && key[strspn(key, "0123456789")] == '\0' ? atol(key) : 0;
    if (id < 1 || id > 16383) {
        origin_error(build->report, &entry->origin,
                     "\"%.40s\" is not a peer's id: a number from 1 to 16383", key);
        return;
    }
    struct peer *peer = NULL;
    for (size_t i = 0; i < snapshot->peers.count && !peer; i++) {
        struct peer *other = snapshot->peers.items[i];
        peer = other->config.id == id ? other : NULL;
    }
    if (!peer) {
        peer = arena_get(&snapshot->arena, sizeof(*peer));
        pointers_add(&snapshot->peers, peer);
    } else {
        warn_of_repetition(build, &entry->origin, &peer->origin, "peer ", key);
    }
    peer->origin = entry->origin;
    peer->layer = (struct layer){0};
    (void)build_pairs(build, entry, SCOPE_PEER, &peer->layer);
    const struct assignment *host = layer_find_name(&peer->layer, "host");
    const struct assignment *port = layer_find_name(&peer->layer, "port");
    const struct assignment *size = layer_find_name(&peer->layer, "pool_size");
    peer->config = (struct peer_config){
        .id = id,
        .host = host ? host->value.text : NULL,
        .port = port ? (uint16_t)port->value.number : 6432,
        .pool_size = size ? size->value.number : -1,
    };
    if (!peer->config.host)
        origin_error(build->report, &entry->origin, "peer %ld has no host", id);
}

static void build_entry(struct build *build, const struct source_entry *entry)
{
    struct claim claim = {
        .scope = SCOPE_GLOBAL,
        .key = entry->ini.key,
        .text = entry->ini.value,
        .origin = &entry->origin,
    };
    if (!entry->ini.key || entry->ini.section != build->section)
        build_section(build, entry);
    if (!entry->ini.key)
        return;
    if (entry->ini.suffix && build->kind != SECTION_DATABASES) {
        origin_error(build->report, &entry->origin,
                     "\"%s\"@%s: only a database has an @environment", entry->ini.key,
                     entry->ini.suffix);
        return;
    }
    switch (build->kind) {
    case SECTION_GLOBAL:
        (void)claim_put(build, &build->snapshot->layer, &claim);
        return;
    case SECTION_ENVIRONMENT:
        claim.scope = SCOPE_ENVIRONMENT;
        if (build->environment)
            (void)claim_put(build, &build->environment->layer, &claim);
        return;
    case SECTION_LISTENER:
        claim.scope = SCOPE_LISTENER;
        if (build->listener)
            (void)claim_put(build, &build->listener->layer, &claim);
        return;
    case SECTION_DATABASES:
        build_database(build, entry);
        return;
    case SECTION_USERS:
        build_user(build, entry);
        return;
    case SECTION_PEERS:
        build_peer(build, entry);
        return;
    case SECTION_UNKNOWN:
        return;
    }
}

void build_snapshot(struct snapshot *snapshot, struct report *report)
{
    struct build build = {.snapshot = snapshot, .report = report};
    struct origin start = {ORIGIN_FILE, snapshot->file, 0};
    listener_get(&build, &start, NULL);
    for (size_t i = 0; i < snapshot->entry_count; i++)
        build_entry(&build, &snapshot->entries[i]);
}
