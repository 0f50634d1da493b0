/*
 * show_config: what the configuration says: SHOW CONFIG, CLASSES, DATABASES, USERS, ENVIRONMENTS,
 * PEERS, PEER_POOLS.
 *
 * Read from the snapshot in force; present numbers come from the registry. Control thread.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/access.h"
#include "pgstage/conf/class.h"
#include "pgstage/conf/show.h"
#include "pgstage/conf/users.h"
#include "pgstage/failover/failover.h"
#include "pgstage/health/monitor.h"
#include "pgstage/pool/registry.h"

/* The environment that the command names; NULL: none. False: there is no such one, and the job has
 * been failed. */
static bool read_environment(struct admin *admin, struct console_job *job,
                             const struct environment_config **environment)
{
    const char *name = job->command.target;
    *environment = name ? snapshot_find_environment(plane_snapshot(admin->plane), name) : NULL;
    if (!name || *environment)
        return true;
    char *text = text_print("no such environment: %s", name);
    console_fail(job, "3D000", text, NULL, "SHOW ENVIRONMENTS lists them.");
    free(text);
    return false;
}

void command_show_config(struct admin *admin, struct console_job *job)
{
    const struct environment_config *environment;
    struct config_row row = {0};
    if (!read_environment(admin, job, &environment))
        return;
    while (config_row_next(plane_snapshot(admin->plane), admin->started, environment, &row)) {
        result_begin(&job->result);
        result_text(&job->result, row.key);
        result_text(&job->result, row.value);
        result_text(&job->result, row.default_text);
        result_yes(&job->result, row.changeable);
        if (job->command.columns == &columns_of_config) {
            result_text(&job->result, row.origin);
            result_text(&job->result, row.pending);
            result_text(&job->result, row.rule);
        }
        result_end(&job->result);
    }
    console_done(job);
}

/* ---- classes ---- */

/* "production, production-eu"; NULL when no environment is of the class; allocated. */
static char *environments_of(const struct snapshot *snapshot, const char *class)
{
    struct buffer names = {0};
    for (size_t i = 0; i < snapshot_environment_count(snapshot); i++) {
        const struct environment_config *environment = snapshot_environment(snapshot, i);
        if (text_equal(environment->class_name, class))
            buffer_print(&names, "%s%s", names.length ? ", " : "", environment->name);
    }
    if (!names.length)
        return NULL;
    buffer_put_u8(&names, '\0');
    return (char *)names.data;
}

void command_show_classes(struct admin *admin, struct console_job *job)
{
    struct result *result = &job->result;
    for (size_t i = 0; i < class_count(); i++) {
        const struct environment_class *class = class_at(i);
        char *environments = environments_of(plane_snapshot(admin->plane), class->name);
        result_begin(result);
        result_text(result, class->name);
        result_yes(result, class->production);
        result_text(result, class->purpose);
        for (enum class_preset preset = 0; preset < PRESET_COUNT; preset++) {
            if (preset == PRESET_POOL_SIZE || preset == PRESET_MIN_POOL_SIZE)
                result_int(result, atoll(class->presets[preset]));
            else
                result_text(result, class->presets[preset]);
        }
        result_text(result, environments);
        result_end(result);
        free(environments);
    }
    console_done(job);
}

/* ---- databases ---- */

struct listing {
    struct admin *admin;
    struct result *result;
};

/* The hosts' names alone: the port is a column of its own, that of the first. */
static void put_hosts(struct result *result, const struct effective *effective)
{
    struct buffer names = {0};
    for (size_t i = 0; i < effective->host_count; i++)
        buffer_print(&names, "%s%s", i ? "," : "", effective->hosts[i].name);
    buffer_put_u8(&names, '\0');
    result_text(result, effective->host_count ? (const char *)names.data : NULL);
    buffer_fini(&names);
    result_int(result,
               effective->host_count ? effective->hosts[0].port : effective->settings->port);
}

static void put_database(struct effective *effective, void *argument)
{
    const struct listing *listing = argument;
    struct result *result = listing->result;
    struct registry *registry = plane_registry(listing->admin->plane);
    const struct settings *settings = effective->settings;
    const char *environment = effective->environment ? effective->environment->name : NULL;
    char *name = database_name(effective->database, environment);
    struct limit_counts counts = {0};
    registry_database_counts(registry, effective->database, environment, &counts);

    result_begin(result);
    result_text(result, name);
    put_hosts(result, effective);
    result_text(result, effective->dbname);
    result_text(result, settings->user);
    result_int(result, settings_pool_size(settings));
    result_int(result, settings->min_pool_size);
    result_int(result, settings->reserve_pool_size);
    result_uint(result, settings->server_lifetime_us / CLOCK_SECOND);
    result_text(result, option_word("pool_mode", settings->pool_mode));
    result_text(result, effective->host_count > 1
                            ? option_word("load_balance_hosts", settings->load_balance_hosts)
                            : NULL);
    result_int(result, settings->max_db_connections);
    result_int(result, counts.servers);
    result_int(result, settings->max_db_client_connections);
    result_int(result, counts.clients);
    result_int(result, registry_is_paused(registry, effective->database, environment));
    result_int(result, registry_is_disabled(registry, effective->database, environment));
    result_text(result, environment);
    result_end(result);
    free(name);
}

void command_show_databases(struct admin *admin, struct console_job *job)
{
    struct listing listing = {admin, &job->result};
    databases_each(admin, put_database, &listing);
    console_done(job);
}

/* ---- users ---- */

/* NULL where [users] says nothing of its own for this user. */
static bool has_own_settings(const struct snapshot *snapshot, const char *user)
{
    for (size_t i = 0; i < snapshot_user_count(snapshot); i++) {
        if (strcmp(snapshot_user(snapshot, i), user) == 0)
            return true;
    }
    return false;
}

static void put_user(struct admin *admin, struct result *result, const char *user,
                     const char *source)
{
    const struct snapshot *snapshot = plane_snapshot(admin->plane);
    const struct settings *globals = snapshot_globals(snapshot);
    bool own = has_own_settings(snapshot, user);
    struct settings settings;
    snapshot_user_settings(snapshot, user, &settings);
    struct limit_counts counts = {0};
    registry_user_counts(plane_registry(admin->plane), user, &counts);

    result_begin(result);
    result_text(result, user);
    if (own && settings.pool_size >= 0)
        result_int(result, settings.pool_size);
    else
        result_null(result);
    if (own && settings.reserve_pool_size != globals->reserve_pool_size)
        result_int(result, settings.reserve_pool_size);
    else
        result_null(result);
    result_text(result, own && settings.pool_mode != globals->pool_mode
                            ? option_word("pool_mode", settings.pool_mode)
                            : NULL);
    result_int(result, settings.max_user_connections);
    result_int(result, counts.servers);
    result_int(result, settings.max_user_client_connections);
    result_int(result, counts.clients);
    result_text(result, source);
    result_end(result);
}

/* The users that auth_query has found, each once. */
struct found {
    struct admin *admin;
    struct result *result;
    struct found_name *names; /* uthash */
};

struct found_name {
    UT_hash_handle hh;
    char text[];
};

static void put_found(void *argument, const char *user)
{
    struct found *found = argument;
    struct found_name *name;
    HASH_FIND_STR(found->names, user, name);
    if (name || users_find(snapshot_users(plane_snapshot(found->admin->plane)), user))
        return;
    name = memory_new(sizeof *name + strlen(user) + 1);
    memcpy(name->text, user, strlen(user));
    HASH_ADD_KEYPTR(hh, found->names, name->text, strlen(user), name);
    put_user(found->admin, found->result, user, "auth_query");
}

void command_show_users(struct admin *admin, struct console_job *job)
{
    const struct snapshot *snapshot = plane_snapshot(admin->plane);
    const struct users *users = snapshot_users(snapshot);
    struct found found = {.admin = admin, .result = &job->result};
    struct found_name *name, *next;
    for (size_t i = 0; i < users_count(users); i++)
        put_user(admin, &job->result, users_at(users, i)->user, "auth_file");
    plane_each_fetched_user(admin->plane, put_found, &found);
    for (size_t i = 0; i < snapshot_user_count(snapshot); i++) {
        const char *user = snapshot_user(snapshot, i);
        HASH_FIND_STR(found.names, user, name);
        if (!name && !users_find(users, user))
            put_user(admin, &job->result, user, "users");
    }
    HASH_ITER (hh, found.names, name, next) {
        HASH_DEL(found.names, name);
        free(name);
    }
    console_done(job);
}

/* ---- environments ---- */

static void put_list(struct result *result, const struct host_config *hosts, size_t count)
{
    char *text = hosts_text(hosts, count);
    result_text(result, text);
    free(text);
}

static void put_expiry(struct result *result, const struct environment_config *environment)
{
    char moment[32];
    access_time_print(environment->expires_at_us, moment, sizeof moment);
    result_text(result, environment->expires_at_us ? moment : NULL);
}

static const char *environment_state(struct admin *admin,
                                     const struct environment_config *environment)
{
    if (environment_is_expired(environment, clock_wall_us()))
        return "expired";
    bool paused = registry_is_paused(plane_registry(admin->plane), NULL, environment->name);
    return paused ? "paused" : "active";
}

/* What is in use of one environment. */
struct usage {
    const char *environment;
    int64_t hosts, up, pools;
    struct buffer primaries; /* labels, with commas between */
};

static void count_host(void *argument, const struct host_report *report)
{
    struct usage *usage = argument;
    bool alive = report->health == HEALTH_HEALTHY || report->health == HEALTH_WARNING;
    if (!report->is_dr) {
        usage->hosts++;
        usage->up += alive;
    }
    if (alive && report->role == ROLE_PRIMARY)
        buffer_print(&usage->primaries, "%s%s", usage->primaries.length ? ", " : "", report->label);
}

static void count_pool(struct pool *pool, void *argument)
{
    struct usage *usage = argument;
    usage->pools += text_equal(pool_environment(pool), usage->environment);
}

static void put_usage(struct admin *admin, struct result *result,
                      const struct environment_config *environment)
{
    struct usage usage = {.environment = environment->name};
    monitor_each(admin->monitor, environment->name, count_host, &usage);
    registry_each(plane_registry(admin->plane), count_pool, &usage);
    buffer_put_u8(&usage.primaries, '\0');
    result_int(result, usage.up);
    result_int(result, usage.hosts);
    result_int(result, usage.pools);
    result_text(result, usage.primaries.length > 1 ? (const char *)usage.primaries.data : NULL);
    buffer_fini(&usage.primaries);
}

/* The accepted primary, and what is going on. */
static void put_failover(struct admin *admin, struct result *result,
                         const struct environment_config *environment,
                         const struct settings *settings)
{
    const struct situation *situation = failover_situation(admin->failover, environment->name);
    enum failover_state state = failover_state(admin->failover, environment->name);
    char moment[32];
    result_text(result, situation ? situation->accepted : NULL);
    result_text(result, option_word("failover_mode", settings->failover_mode));
    result_text(result, failover_state_word(state));
    if (situation && situation->timeline)
        result_uint(result, situation->timeline);
    else
        result_null(result);
    if (situation && situation->system_identifier)
        result_print(result, "%" PRIu64, situation->system_identifier);
    else
        result_null(result);
    if (!situation || !situation_in_maintenance(situation, clock_now_us())) {
        result_text(result, "no");
    } else {
        access_time_print(situation->maintenance_until_us, moment, sizeof moment);
        result_text(result,
                    situation->maintenance_until_us == MAINTENANCE_UNTIL_OFF ? "yes" : moment);
    }
}

void command_show_environments(struct admin *admin, struct console_job *job)
{
    const struct snapshot *snapshot = plane_snapshot(admin->plane);
    const struct environment_config *by_default = snapshot_default_environment(snapshot);
    struct result *result = &job->result;
    for (size_t i = 0; i < snapshot_environment_count(snapshot); i++) {
        const struct environment_config *environment = snapshot_environment(snapshot, i);
        const struct settings *settings = snapshot_environment_settings(snapshot, environment);
        struct limit_counts counts = {0};
        registry_environment_counts(plane_registry(admin->plane), environment->name, &counts);
        result_begin(result);
        result_text(result, environment->name);
        result_text(result, environment->class_name);
        result_yes(result, environment->production_class);
        put_list(result, environment->hosts, environment->host_count);
        put_list(result, environment->dr_hosts, environment->dr_host_count);
        result_text(result, option_word("server_tls_sslmode", settings->server_tls_sslmode));
        result_text(result, option_word("client_tls_sslmode", settings->client_tls_sslmode));
        result_int(result, settings_pool_size(settings));
        result_int(result, counts.max_servers);
        result_int(result, counts.servers);
        result_int(result, counts.max_clients);
        result_int(result, counts.clients);
        result_yes(result, environment == by_default);
        put_expiry(result, environment);
        result_text(result, environment_state(admin, environment));
        put_usage(admin, result, environment);
        put_failover(admin, result, environment, settings);
        result_end(result);
    }
    console_done(job);
}
