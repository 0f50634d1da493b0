/*
 * resolve: turns layers into settings, hosts and TLS server names, once every entry has been read.
 *
 *   defaults < [pgstage] < class preset < [environment]   one struct settings for each environment
 *
 * Lines of [databases] and [users] stay layers: they are put on top when a client asks
 * (effective.c). Runs on the thread that loads; nobody else sees the snapshot yet.
 */
#include <ctype.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/buffer.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/host.h"

#define PROBLEM_BYTES 512
#define PASSWORD_MAX_BYTES ((size_t)65536)

struct resolve {
    struct snapshot *snapshot;
    struct report *report;
};

/* `password_file = F` in a layer becomes `password = <first line of F>` in the same layer. */
static void read_secret_file(struct resolve *resolve, struct layer *layer, const char *option)
{
    char *file_option = text_print("%s_file", option), problem[PROBLEM_BYTES];
    struct assignment *file = layer_find_name(layer, file_option);
    struct assignment *given = layer_find_name(layer, option);
    free(file_option);
    if (!file || !file->value.text)
        return;
    if (given) {
        origin_error(resolve->report, &file->origin, "%s and %s exclude each other", option,
                     file->option->name);
        return;
    }
    if (resolve->snapshot->offline)
        return;
    size_t length;
    char *text =
        file_read(file->value.text, PASSWORD_MAX_BYTES, &length, NULL, problem, sizeof(problem));
    if (!text) {
        origin_error(resolve->report, &file->origin, "%s: %s", file->option->name, problem);
        return;
    }
    text[strcspn(text, "\r\n")] = '\0';
    if (!*text)
        origin_error(resolve->report, &file->origin, "%s: the first line of %s is empty",
                     file->option->name, file->value.text);
    struct assignment secret = {
        .option = option_find(SCOPE_ENVIRONMENT, option),
        .value.text = arena_copy(&resolve->snapshot->arena, *text ? text : NULL),
        .origin = file->origin,
        .derived = true,
    };
    layer_put(&resolve->snapshot->arena, layer, &secret);
    text_wipe(text, length);
    free(text);
}

static void resolve_preset(struct resolve *resolve, struct environment *environment,
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
            layer_put(&resolve->snapshot->arena, &environment->preset, &assignment);
        else
            origin_error(resolve->report, origin, "class %s: %s: %s", environment->class->name,
                         assignment.option->name, problem);
    }
}

/* The hosts of an assignment of the kind `hosts = …`; none when there is no such assignment. */
static void resolve_hosts(struct resolve *resolve, const struct assignment *assignment,
                          uint16_t port, const struct host_config **hosts, size_t *count)
{
    char problem[PROBLEM_BYTES];
    if (assignment && assignment->value.text &&
        !host_list_parse(&resolve->snapshot->arena, assignment->value.text, port, hosts, count,
                         problem, sizeof(problem)))
        origin_error(resolve->report, &assignment->origin, "%s: %s", assignment->option->name,
                     problem);
}

/* Looked up now: a worker must not wait for a directory service. A number becomes the name, which
 * is what libpq asks for. */
static void resolve_peer_user(struct resolve *resolve, struct environment *environment)
{
    const struct assignment *peer = layer_find_name(&environment->layer, "server_peer_user");
    struct environment_config *config = &environment->config;
    config->server_peer_uid = -1;
    if (!peer || !peer->value.text)
        return;
    const char *name = peer->value.text;
    struct passwd record, *found = NULL;
    char space[4096];
    if (strlen(name) <= 9 && name[strspn(name, "0123456789")] == '\0') {
        config->server_peer_uid = atol(name);
        if (getpwuid_r((uid_t)config->server_peer_uid, &record, space, sizeof(space), &found) ==
                0 &&
            found)
            environment->settings.server_peer_user =
                arena_copy(&resolve->snapshot->arena, found->pw_name);
    } else if (getpwnam_r(name, &record, space, sizeof(space), &found) == 0 && found) {
        config->server_peer_uid = (int64_t)found->pw_uid;
    } else {
        origin_error(resolve->report, &peer->origin,
                     "server_peer_user: there is no system user \"%.80s\"", name);
    }
}

/* A class that is near to none of them. */
static void refuse_class(struct report *report, const struct assignment *class)
{
    struct buffer names = {0};
    for (size_t i = 0; i < class_count(); i++)
        buffer_print(&names, "%s%s", i ? ", " : "", class_at(i)->name);
    buffer_put_u8(&names, '\0');
    origin_error(report, &class->origin, "unknown class \"%.80s\"; there are: %s",
                 class->value.text, (const char *)names.data);
    buffer_fini(&names);
}

static void resolve_environment(struct resolve *resolve, struct environment *environment)
{
    struct layer *layer = &environment->layer;
    const struct assignment *class = layer_find_name(layer, "class");
    read_secret_file(resolve, layer, "password");
    read_secret_file(resolve, layer, "monitor_password");
    read_secret_file(resolve, layer, "failover_password");
    if (class && class->value.text) {
        environment->class = class_find(class->value.text);
        environment->config.class_name = class->value.text;
        const char *nearest = environment->class ? NULL : class_nearest(class->value.text);
        if (nearest)
            origin_error(resolve->report, &class->origin,
                         "unknown class \"%.80s\"; did you mean %s?", class->value.text, nearest);
        else if (!environment->class)
            refuse_class(resolve->report, class);
    }
    if (environment->class) {
        environment->config.production_class = environment->class->production;
        resolve_preset(resolve, environment, &class->origin);
    }
    resolve_hosts(resolve, layer_find_name(layer, "hosts"), 5432, &environment->config.hosts,
                  &environment->config.host_count);
    resolve_hosts(resolve, layer_find_name(layer, "dr_hosts"), 5432, &environment->config.dr_hosts,
                  &environment->config.dr_host_count);
    environment->settings = resolve->snapshot->globals;
    layer_apply(&environment->preset, &environment->settings);
    layer_apply(layer, &environment->settings);
    resolve_peer_user(resolve, environment);
    const struct assignment *certificate = layer_find_name(layer, "client_tls_cert_file");
    const struct assignment *key = layer_find_name(layer, "client_tls_key_file");
    if (certificate && key && certificate->value.text && key->value.text) {
        environment->config.client_cert_file = certificate->value.text;
        environment->config.client_key_file = key->value.text;
    }
    access_resolve_environment(resolve->snapshot, environment, resolve->report);
}

static void resolve_database(struct resolve *resolve, struct database *database)
{
    const struct assignment *host = layer_find_name(&database->layer, "host");
    const struct assignment *port = layer_find_name(&database->layer, "port");
    const struct assignment *environment = layer_find_name(&database->layer, "environment");
    const struct assignment *dbname = layer_find_name(&database->layer, "dbname");
    struct database_config *config = &database->config;
    uint16_t number = port ? (uint16_t)port->value.number : 5432;
    read_secret_file(resolve, &database->layer, "password");
    config->in_environment = environment ? environment->value.text : NULL;
    database->dbname = dbname ? dbname->value.text : NULL;
    database->sets =
        database->layer.count > (host != NULL) + (environment != NULL) + (size_t)(dbname != NULL);
    if (host && host->value.text) {
        resolve_hosts(resolve, host, number, &config->hosts, &config->host_count);
    } else if (port && resolve->snapshot->has_socket) {
        /* PgBouncer's `app = port=5433`: another server's Unix socket. */
        struct host_config *socket = arena_get(&resolve->snapshot->arena, sizeof(*socket));
        *socket = resolve->snapshot->socket;
        socket->port = number;
        config->hosts = socket;
        config->host_count = 1;
    }
}

/* Does an environment that clients of this listener can reach speak TLS with its clients? */
static bool environments_offer_tls(const struct snapshot *snapshot, const struct environment *bound)
{
    if (bound)
        return bound->settings.client_tls_sslmode >= TLS_PREFER;
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        if (environment->settings.client_tls_sslmode >= TLS_PREFER)
            return true;
    }
    return false;
}

/*
 * What TLS a listener speaks: what it says itself, or [pgstage], or the section of the environment
 * that it is bound to. Where nobody says anything, a listener with a certificate offers TLS
 * (`prefer`) as soon as an environment's class wants it; who must come over TLS is then decided for
 * each client, when its environment is known.
 */
static void resolve_listener_tls(struct resolve *resolve, struct listener *listener,
                                 const struct environment *bound)
{
    struct snapshot *snapshot = resolve->snapshot;
    struct settings *settings = &listener->settings;
    const char *option = "client_tls_sslmode";
    const struct assignment *mode = layer_find_name(&listener->layer, option);
    if (!mode && bound)
        mode = layer_find_name(&bound->layer, option);
    if (!mode)
        mode = layer_find_name(&snapshot->layer, option);
    if (mode)
        settings->client_tls_sslmode = (int)mode->value.number;
    else if (settings->client_tls_cert_file && settings->client_tls_key_file &&
             environments_offer_tls(snapshot, bound))
        settings->client_tls_sslmode = TLS_PREFER;
}

static void resolve_listener(struct resolve *resolve, struct listener *listener)
{
    struct snapshot *snapshot = resolve->snapshot;
    const struct assignment *bound = layer_find_name(&listener->layer, "environment");
    struct environment *environment = NULL;
    listener->settings = snapshot->globals;
    layer_apply(&listener->layer, &listener->settings);
    if (bound && bound->value.text) {
        listener->config.environment = bound->value.text;
        HASH_FIND_STR(snapshot->environment_by_name, bound->value.text, environment);
    }
    /* a listener of one environment shows that one's certificate, unless it has its own */
    if (environment && environment->config.client_cert_file &&
        !layer_find_name(&listener->layer, "client_tls_cert_file")) {
        listener->settings.client_tls_cert_file = environment->config.client_cert_file;
        listener->settings.client_tls_key_file = environment->config.client_key_file;
    }
    resolve_listener_tls(resolve, listener, environment);
    access_resolve_listener(snapshot, listener, resolve->report);
}

static void resolve_sni(struct resolve *resolve, struct environment *environment)
{
    struct snapshot *snapshot = resolve->snapshot;
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
            origin_error(resolve->report, &sni->origin, "sni: %s already means environment %s",
                         name, known->environment->config.name);
        } else if (!known) {
            known = arena_get(&snapshot->arena, sizeof(*known));
            known->name = arena_copy(&snapshot->arena, name);
            known->environment = environment;
            HASH_ADD_KEYPTR(hh, snapshot->sni_by_name, known->name, strlen(name), known);
        }
    }
    free(names);
}

void resolve_snapshot(struct snapshot *snapshot, struct report *report)
{
    struct resolve resolve = {snapshot, report};
    option_defaults(&snapshot->globals);
    layer_apply(&snapshot->layer, &snapshot->globals);
    snapshot->has_socket = snapshot->globals.unix_socket_dir != NULL;
    snapshot->socket = (struct host_config){snapshot->globals.unix_socket_dir, NULL, 5432};
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        resolve_environment(&resolve, snapshot->environments.items[i]);
        resolve_sni(&resolve, snapshot->environments.items[i]);
    }
    for (size_t i = 0; i < snapshot->databases.count; i++)
        resolve_database(&resolve, snapshot->databases.items[i]);
    for (size_t i = 0; i < snapshot->listeners.count; i++)
        resolve_listener(&resolve, snapshot->listeners.items[i]);
    if (snapshot->globals.default_environment)
        HASH_FIND_STR(snapshot->environment_by_name, snapshot->globals.default_environment,
                      snapshot->default_environment);
}
