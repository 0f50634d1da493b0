/*
 * floor: what a production class (pre_production, production, disaster_recovery) can never be
 * configured below, by whatever layer.
 *
 * Each rule looks at the values in force, so it does not matter who set them, and is reported at
 * the line that broke it. What is not visible in the files (the real peer of a connection, the name
 * in a certificate) is checked where it becomes visible.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inside.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/host.h"

/* One environment of a production class, on its own or as a database line sees it. */
struct floor {
    const struct snapshot *snapshot;
    struct report *report;
    const struct environment *environment;
    const struct database *line; /* NULL: the environment itself */
    struct settings settings;
};

/* The place of an option's value: the assignment in force, else the line, else the section. */
static const struct origin *floor_origin(const struct floor *floor, const char *option)
{
    const struct option *row = option_find(SCOPE_ENVIRONMENT, option);
    const struct assignment *found =
        row ? snapshot_assignment(floor->snapshot, floor->environment, floor->line, row) : NULL;
    if (found && found->origin.kind != ORIGIN_PRESET)
        return &found->origin;
    return floor->line ? &floor->line->origin : &floor->environment->origin;
}

/* Says which environment a message is about. */
#define floor_error(floor, option, format, ...)                                                    \
    origin_error((floor)->report, floor_origin(floor, option),                                     \
                 "environment %s (class %s): " format, (floor)->environment->config.name,          \
                 (floor)->environment->config.class_name, __VA_ARGS__)

/* Does a list of protocols allow something older than TLS 1.2? */
static bool protocols_are_old(const char *protocols)
{
    return protocols && (strcasestr(protocols, "all") || strcasestr(protocols, "legacy") ||
                         strcasestr(protocols, "tlsv1.0") || strcasestr(protocols, "tlsv1.1"));
}

static void floor_tls(struct floor *floor)
{
    const struct settings *settings = &floor->settings;
    if (settings->server_tls_sslmode < TLS_VERIFY_FULL)
        floor_error(floor, "server_tls_sslmode", "%s",
                    "servers of a production class are reached over verify-full TLS only: write "
                    "server_tls_sslmode = verify-full or remove the line");
    if (!settings->server_tls_ca_file)
        floor_error(floor, "server_tls_ca_file", "%s",
                    "servers' certificates need something to be checked against: write "
                    "server_tls_ca_file = FILE, or system for the distribution's authorities");
    if (protocols_are_old(settings->server_tls_protocols))
        floor_error(floor, "server_tls_protocols", "%s",
                    "TLS older than 1.2 is refused: write server_tls_protocols = secure");
}

/* A secret whose text stands in a file is one that many people read. */
static void floor_secret(struct floor *floor, const char *option)
{
    const struct layer *layer = floor->line ? &floor->line->layer : &floor->environment->layer;
    const struct assignment *secret = layer_find_name(layer, option);
    if (secret && secret->literal && !secret->derived && secret->value.text)
        floor_error(floor, option,
                    "a literal %s is refused: write %s_file = FILE or %s = ${VARIABLE}", option,
                    option, option);
}

/* Key and secret files belong to this process's user alone, or to root and a group. */
static void floor_file(struct floor *floor, const char *option)
{
    const struct layer *layer = floor->line ? &floor->line->layer : &floor->environment->layer;
    const struct assignment *file = layer_find_name(layer, option);
    struct stat status;
    if (!file && !floor->line)
        file = layer_find_name(&floor->snapshot->layer, option);
    if (!file || !file->value.text || floor->snapshot->offline ||
        stat(file->value.text, &status) < 0)
        return;
    mode_t allowed = status.st_uid == 0 ? 0640 : 0600;
    if ((status.st_uid != 0 && status.st_uid != geteuid()) || (status.st_mode & 07777 & ~allowed))
        floor_error(floor, option,
                    "%s %s must belong to this process's user with mode 0600, or to root with at "
                    "most 0640",
                    option, file->value.text);
}

static void floor_logins(struct floor *floor)
{
    int type = floor->settings.auth_type;
    if (type == AUTH_ANY || type == AUTH_TRUST || type == AUTH_PLAIN || type == AUTH_MD5)
        floor_error(floor, "auth_type", "%s",
                    "logins by any, trust, plain and md5 are refused: write auth_type = "
                    "scram-sha-256 here or in [pgstage]");
    if (floor->settings.client_tls_sslmode < TLS_REQUIRE)
        floor_error(floor, "client_tls_sslmode", "%s",
                    "clients come over TLS only: write client_tls_sslmode = require or stricter, "
                    "or remove the line");
}

static void floor_sockets(struct floor *floor, const struct host_config *hosts, size_t count,
                          const char *option)
{
    for (size_t i = 0; i < count; i++)
        if (host_is_socket(&hosts[i]) && !floor->settings.server_peer_user)
            floor_error(floor, option,
                        "the Unix socket %s needs server_peer_user, the system user that owns the "
                        "server",
                        hosts[i].name);
}

/* The rules for an environment itself. */
static void floor_environment(const struct snapshot *snapshot,
                              const struct environment *environment, struct report *report)
{
    struct floor floor = {snapshot, report, environment, NULL, environment->settings};
    const struct environment_config *config = &environment->config;
    floor_tls(&floor);
    floor_logins(&floor);
    floor_secret(&floor, "password");
    floor_secret(&floor, "monitor_password");
    floor_file(&floor, "password_file");
    floor_file(&floor, "monitor_password_file");
    floor_file(&floor, "server_tls_key_file");
    floor_sockets(&floor, config->hosts, config->host_count, "hosts");
    floor_sockets(&floor, config->dr_hosts, config->dr_host_count, "dr_hosts");
}

/* The rules for what a database line says otherwise in an environment that it can serve. */
static void floor_database(const struct snapshot *snapshot, const struct environment *environment,
                           const struct database *line, struct report *report)
{
    bool tls = false, other = false;
    for (size_t i = 0; i < line->layer.count; i++) {
        const char *name = line->layer.items[i].option->name;
        tls = tls || text_starts_with(name, "server_tls_");
        other = other || text_starts_with(name, "password") || strcmp(name, "host") == 0;
    }
    /* Most lines touch nothing that the floor is about: thousands of them cost nothing. */
    if (!tls && !other)
        return;
    struct floor floor = {snapshot, report, environment, line, environment->settings};
    layer_apply(&line->layer, &floor.settings);
    if (tls)
        floor_tls(&floor);
    floor_secret(&floor, "password");
    floor_file(&floor, "password_file");
    floor_file(&floor, "server_tls_key_file");
    floor_sockets(&floor, line->config.hosts, line->config.host_count, "host");
}

/* A host of a production environment, found by what it is connected by. */
struct guarded {
    char *key; /* address or name, lower case, and port */
    const struct environment *environment;
    UT_hash_handle hh;
};

static char *guard_key(const struct host_config *host)
{
    char *key = text_print("%s %u", host->address ? host->address : host->name, host->port);
    for (char *at = key; *at; at++)
        *at = *at >= 'A' && *at <= 'Z' ? (char)(*at + 32) : *at;
    return key;
}

static void guard_hosts(struct guarded **guards, const struct environment *environment,
                        const struct host_config *hosts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct guarded *guard;
        char *key = guard_key(&hosts[i]);
        HASH_FIND_STR(*guards, key, guard);
        if (guard) {
            free(key);
            continue;
        }
        guard = memory_new(sizeof(*guard));
        guard->key = key;
        guard->environment = environment;
        HASH_ADD_KEYPTR(hh, *guards, guard->key, strlen(guard->key), guard);
    }
}

/* May hosts of one production class also be named by the other? Only the disaster recovery site's,
 * which production names as its dr_hosts. */
static bool classes_share(const struct environment_class *a, const struct environment_class *b)
{
    return a == b || (a && a->production && b->production &&
                      (strcmp(a->name, "disaster_recovery") == 0 ||
                       strcmp(b->name, "disaster_recovery") == 0));
}

/* Reports hosts that belong to an environment of a production class other than `class`. */
static void guard_check(struct guarded *guards, const struct environment_class *class,
                        const struct host_config *hosts, size_t count, const struct origin *origin,
                        struct report *report)
{
    for (size_t i = 0; i < count; i++) {
        struct guarded *guard;
        char *key = guard_key(&hosts[i]), *host = host_print(&hosts[i]);
        HASH_FIND_STR(guards, key, guard);
        if (guard && !classes_share(class, guard->environment->class))
            origin_error(report, origin,
                         "%s is a host of environment %s (class %s), whose rules would not hold "
                         "here: a production host stands in its own environment only",
                         host, guard->environment->config.name, guard->environment->class->name);
        free(key);
        free(host);
    }
}

static const struct origin *hosts_origin(const struct layer *layer, const char *option,
                                         const struct origin *section)
{
    const struct assignment *hosts = layer_find_name(layer, option);
    return hosts ? &hosts->origin : section;
}

/* No production host hides behind another class, a PgBouncer-style line or `*`. */
static void floor_hosts(const struct snapshot *snapshot, struct report *report)
{
    struct guarded *guards = NULL, *guard, *next;
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        const struct environment_config *config = &environment->config;
        if (!config->production_class)
            continue;
        guard_hosts(&guards, environment, config->hosts, config->host_count);
        guard_hosts(&guards, environment, config->dr_hosts, config->dr_host_count);
    }
    for (size_t i = 0; guards && i < snapshot->environments.count; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        const struct environment_config *config = &environment->config;
        const struct layer *layer = &environment->layer;
        guard_check(guards, environment->class, config->hosts, config->host_count,
                    hosts_origin(layer, "hosts", &environment->origin), report);
        guard_check(guards, environment->class, config->dr_hosts, config->dr_host_count,
                    hosts_origin(layer, "dr_hosts", &environment->origin), report);
    }
    for (size_t i = 0; guards && i < snapshot->databases.count; i++) {
        const struct database *line = snapshot->databases.items[i];
        const char *name =
            line->config.environment ? line->config.environment : line->config.in_environment;
        struct environment *environment = NULL;
        if (name)
            HASH_FIND_STR(snapshot->environment_by_name, name, environment);
        guard_check(guards, environment ? environment->class : NULL, line->config.hosts,
                    line->config.host_count, &line->origin, report);
    }
    HASH_ITER (hh, guards, guard, next) {
        HASH_DEL(guards, guard);
        free(guard->key);
        free(guard);
    }
}

void floor_check(const struct snapshot *snapshot, struct report *report)
{
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        if (!environment->config.production_class)
            continue;
        floor_environment(snapshot, environment, report);
        for (size_t j = 0; j < snapshot->databases.count; j++) {
            const struct database *line = snapshot->databases.items[j];
            if (line->layer.count && database_serves(&line->config, &environment->config))
                floor_database(snapshot, environment, line, report);
        }
    }
    floor_hosts(snapshot, report);
}
