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
#include "pgstage/conf/host.h"
#include "pgstage/conf/variable.h"

#define PROBLEM_BYTES 512
#define PASSWORD_MAX_BYTES ((size_t)65536)

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
    bool expanded; /* came out of a variable already */
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

/* An option that this version does not have must not look as if it were in force. */
static bool status_accepts(struct build *build, const struct claim *claim,
                           const struct option *option, struct option_value value)
{
    if (option->status == STATUS_NOW || option_value_equal(option, value, option_default(option)))
        return true;
    if (option->status == STATUS_LATER) {
        origin_warning(build->report, claim->origin, "%s is accepted but has no effect yet",
                       claim->key);
        return true;
    }
    origin_error(build->report, claim->origin,
                 "%s is not available in this version, and without it the configuration would be "
                 "weaker than it says: remove the line",
                 claim->key);
    return false;
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
    if (!status_accepts(build, claim, assignment.option, assignment.value))
        return NULL;
    assignment.raw = claim->origin->kind == ORIGIN_VARIABLE
                         ? arena_print(&build->snapshot->arena, "${%s}", claim->origin->name)
                         : claim->text;
    assignment.literal = !replaced;
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

/* Puts `key=value …` into a layer. */
static void build_pairs(struct build *build, const struct source_entry *entry,
                        enum option_scope scope, struct layer *layer)
{
    struct arena *arena = &build->snapshot->arena;
    const char *text = entry->ini.value, *start = text;
    size_t length = strlen(text);
    struct claim claim = {.scope = scope, .key = entry->ini.key, .origin = &entry->origin};
    char problem[PROBLEM_BYTES];
    enum connstr_step step;
    /* `app = ${APP}`: the variable holds the whole line. */
    if (strncmp(text, "${", 2) == 0 && strchr(text, '}') == text + length - 1) {
        claim.text = text;
        text = claim_expand(build, &claim, &claim.expanded);
        if (!text)
            return;
    }
    while ((step = connstr_next(arena, &text, &claim.key, &claim.text, problem, sizeof(problem))) ==
           CONNSTR_PAIR) {
        struct assignment *put = claim_put(build, layer, &claim);
        if (put && claim.expanded)
            put->raw = start;
    }
    if (step == CONNSTR_WRONG)
        origin_error(build->report, &entry->origin, "%s: %s", entry->ini.key, problem);
}

/* Cuts `name@environment` and makes both parts texts of the arena. */
static void database_name(struct build *build, const struct ini_entry *ini,
                          struct database_config *config)
{
    struct arena *arena = &build->snapshot->arena;
    const char *at = ini->key_is_quoted ? NULL : strrchr(ini->key, '@');
    config->environment = ini->suffix ? ini->suffix : at ? at + 1 : NULL;
    config->name = at ? arena_copy_n(arena, ini->key, (size_t)(at - ini->key)) : ini->key;
    config->is_fallback = strcmp(config->name, "*") == 0 && !ini->key_is_quoted;
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
    }
    /* A later line for the same name stands in place of the whole earlier one. */
    database->config = config;
    database->origin = entry->origin;
    database->layer = (struct layer){0};
    build_pairs(build, entry, SCOPE_DATABASE, &database->layer);
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
    }
    user->origin = entry->origin;
    user->layer = (struct layer){0};
    build_pairs(build, entry, SCOPE_USER, &user->layer);
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
    }
    peer->origin = entry->origin;
    peer->layer = (struct layer){0};
    build_pairs(build, entry, SCOPE_PEER, &peer->layer);
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
    struct claim claim = {SCOPE_GLOBAL, entry->ini.key, entry->ini.value, false, &entry->origin};
    if (!entry->ini.key || entry->ini.section != build->section)
        build_section(build, entry);
    if (!entry->ini.key)
        return;
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

/* `password_file = F` in a layer becomes `password = <first line of F>` in the same layer. */
static void read_secret_file(struct build *build, struct layer *layer, const char *option)
{
    char *file_option = text_print("%s_file", option), problem[PROBLEM_BYTES];
    struct assignment *file = layer_find_name(layer, file_option);
    struct assignment *given = layer_find_name(layer, option);
    free(file_option);
    if (!file || !file->value.text)
        return;
    if (given) {
        origin_error(build->report, &file->origin, "%s and %s exclude each other", option,
                     file->option->name);
        return;
    }
    if (build->snapshot->offline)
        return;
    size_t length;
    char *text =
        file_read(file->value.text, PASSWORD_MAX_BYTES, &length, NULL, problem, sizeof(problem));
    if (!text) {
        origin_error(build->report, &file->origin, "%s: %s", file->option->name, problem);
        return;
    }
    text[strcspn(text, "\r\n")] = '\0';
    if (!*text)
        origin_error(build->report, &file->origin, "%s: the first line of %s is empty",
                     file->option->name, file->value.text);
    struct assignment secret = {
        .option = option_find(SCOPE_ENVIRONMENT, option),
        .value.text = arena_copy(&build->snapshot->arena, *text ? text : NULL),
        .origin = file->origin,
        .derived = true,
    };
    layer_put(&build->snapshot->arena, layer, &secret);
    text_wipe(text, length);
    free(text);
}

static void build_preset(struct build *build, struct environment *environment,
                         const struct origin *origin)
{
    for (enum class_preset preset = 0; preset < PRESET_COUNT; preset++) {
        const char *text = environment->class->presets[preset];
        struct assignment assignment = {
            .option = option_find(SCOPE_ENVIRONMENT, class_preset_option(preset)),
            .origin = {ORIGIN_PRESET, environment->class->name, 0},
        };
        char problem[PROBLEM_BYTES];
        if (!text)
            continue;
        if (option_parse(assignment.option, text, &assignment.value, problem, sizeof(problem)))
            layer_put(&build->snapshot->arena, &environment->preset, &assignment);
        else
            origin_error(build->report, origin, "class %s: %s: %s", environment->class->name,
                         assignment.option->name, problem);
    }
}

/* The hosts of an assignment of the kind `hosts = …`; none when there is no such assignment. */
static void build_hosts(struct build *build, const struct assignment *assignment, uint16_t port,
                        const struct host_config **hosts, size_t *count)
{
    char problem[PROBLEM_BYTES];
    if (assignment && assignment->value.text &&
        !host_list_parse(&build->snapshot->arena, assignment->value.text, port, hosts, count,
                         problem, sizeof(problem)))
        origin_error(build->report, &assignment->origin, "%s: %s", assignment->option->name,
                     problem);
}

static void finish_environment(struct build *build, struct environment *environment)
{
    struct layer *layer = &environment->layer;
    const struct assignment *class = layer_find_name(layer, "class");
    read_secret_file(build, layer, "password");
    read_secret_file(build, layer, "monitor_password");
    if (class && class->value.text) {
        environment->class = class_find(class->value.text);
        environment->config.class_name = class->value.text;
        const char *nearest = environment->class ? NULL : class_nearest(class->value.text);
        if (nearest)
            origin_error(build->report, &class->origin, "unknown class \"%.80s\"; did you mean %s?",
                         class->value.text, nearest);
        else if (!environment->class)
            origin_error(build->report, &class->origin, "unknown class \"%.80s\"",
                         class->value.text);
    }
    if (environment->class) {
        environment->config.production_class = environment->class->production;
        build_preset(build, environment, &class->origin);
    }
    build_hosts(build, layer_find_name(layer, "hosts"), 5432, &environment->config.hosts,
                &environment->config.host_count);
    build_hosts(build, layer_find_name(layer, "dr_hosts"), 5432, &environment->config.dr_hosts,
                &environment->config.dr_host_count);
    environment->settings = build->snapshot->globals;
    layer_apply(&environment->preset, &environment->settings);
    layer_apply(layer, &environment->settings);
}

static void finish_database(struct build *build, struct database *database)
{
    const struct assignment *host = layer_find_name(&database->layer, "host");
    const struct assignment *port = layer_find_name(&database->layer, "port");
    const struct assignment *environment = layer_find_name(&database->layer, "environment");
    struct database_config *config = &database->config;
    uint16_t number = port ? (uint16_t)port->value.number : 5432;
    read_secret_file(build, &database->layer, "password");
    config->in_environment = environment ? environment->value.text : NULL;
    if (host && host->value.text) {
        build_hosts(build, host, number, &config->hosts, &config->host_count);
    } else if (port && build->snapshot->has_socket) {
        /* PgBouncer's `app = port=5433`: another server's Unix socket. */
        struct host_config *socket = arena_get(&build->snapshot->arena, sizeof(*socket));
        *socket = build->snapshot->socket;
        socket->port = number;
        config->hosts = socket;
        config->host_count = 1;
    }
}

/* A listener bound to an environment asks of its clients what the environment says in its own
 * section, unless the listener says otherwise. */
static void finish_listener(struct build *build, struct listener *listener)
{
    struct snapshot *snapshot = build->snapshot;
    const struct assignment *bound = layer_find_name(&listener->layer, "environment");
    struct environment *environment = NULL;
    listener->settings = snapshot->globals;
    if (bound && bound->value.text) {
        listener->config.environment = bound->value.text;
        HASH_FIND_STR(snapshot->environment_by_name, bound->value.text, environment);
    }
    const struct assignment *mode =
        environment ? layer_find_name(&environment->layer, "client_tls_sslmode") : NULL;
    if (mode)
        option_store(mode->option, mode->value, &listener->settings);
    layer_apply(&listener->layer, &listener->settings);
}

static void finish_sni(struct build *build, struct environment *environment)
{
    struct snapshot *snapshot = build->snapshot;
    const struct assignment *sni = layer_find_name(&environment->layer, "sni");
    if (!sni || !sni->value.text)
        return;
    char *names = text_copy(sni->value.text), *rest = NULL;
    for (char *at = names; *at; at++)
        *at = (char)tolower((unsigned char)*at);
    for (char *name = strtok_r(names, ", \t", &rest); name; name = strtok_r(NULL, ", \t", &rest)) {
        struct sni_name *known;
        HASH_FIND_STR(snapshot->sni_by_name, name, known);
        if (known && known->environment != environment) {
            origin_error(build->report, &sni->origin, "sni: %s already means environment %s", name,
                         known->environment->config.name);
        } else if (!known) {
            known = arena_get(&snapshot->arena, sizeof(*known));
            known->name = arena_copy(&snapshot->arena, name);
            known->environment = environment;
            HASH_ADD_KEYPTR(hh, snapshot->sni_by_name, known->name, strlen(name), known);
        }
    }
    free(names);
}

void build_snapshot(struct snapshot *snapshot, struct report *report)
{
    struct build build = {.snapshot = snapshot, .report = report};
    struct origin start = {ORIGIN_FILE, snapshot->file, 0};
    listener_get(&build, &start, NULL);
    for (size_t i = 0; i < snapshot->entry_count; i++)
        build_entry(&build, &snapshot->entries[i]);
    option_defaults(&snapshot->globals);
    layer_apply(&snapshot->layer, &snapshot->globals);
    snapshot->has_socket = snapshot->globals.unix_socket_dir != NULL;
    snapshot->socket = (struct host_config){snapshot->globals.unix_socket_dir, NULL, 5432};
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        finish_environment(&build, snapshot->environments.items[i]);
        finish_sni(&build, snapshot->environments.items[i]);
    }
    for (size_t i = 0; i < snapshot->databases.count; i++)
        finish_database(&build, snapshot->databases.items[i]);
    for (size_t i = 0; i < snapshot->listeners.count; i++)
        finish_listener(&build, snapshot->listeners.items[i]);
    if (snapshot->globals.default_environment)
        HASH_FIND_STR(snapshot->environment_by_name, snapshot->globals.default_environment,
                      snapshot->default_environment);
}
