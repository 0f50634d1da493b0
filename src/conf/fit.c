/*
 * fit: what options make of each other: pools that exceed what is declared elsewhere, and values
 * that contradict or undo one another.
 *
 * Warnings, because such a configuration works, only not as it reads; what cannot work is an error.
 * Runs on the thread that loads, on resolved settings.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/text.h"

/* The origin of an option in a layer, or of the layer's section itself. */
static const struct origin *origin_of(const struct layer *layer, const char *option,
                                      const struct origin *section)
{
    const struct assignment *assignment = layer_find_name(layer, option);
    return assignment ? &assignment->origin : section;
}

/* ---- pools ---- */

/* The pool_size that a class presets; 0: none. */
static int64_t preset_size(const struct environment *environment)
{
    const struct assignment *preset = layer_find_name(&environment->preset, "pool_size");
    return preset ? preset->value.number : 0;
}

/* The environment with the largest preset among those that a line serves (NULL: any line). */
static const struct environment *largest_preset(const struct snapshot *snapshot,
                                                const struct database *line)
{
    const struct environment *largest = NULL;
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        if (line && !database_serves(&line->config, &environment->config))
            continue;
        if (!preset_size(environment))
            return NULL;
        if (!largest || preset_size(environment) > preset_size(largest))
            largest = environment;
    }
    return largest;
}

/* A pool much larger than its class expects, in every environment where it can be. */
static void fit_preset(const struct layer *layer, const struct environment *environment,
                       struct report *report)
{
    const struct assignment *own = layer_find_name(layer, "pool_size");
    int64_t preset = environment ? preset_size(environment) : 0;
    if (own && preset && own->value.number * 2 > preset * 3)
        origin_warning(report, &own->origin,
                       "pool_size %" PRId64 " is more than 1.5 times the %" PRId64 " of class %s",
                       own->value.number, preset, environment->class->name);
}

/* A pool that can never be full: another limit is smaller. */
static void fit_limit(const struct settings *settings, const struct layer *layer,
                      const struct origin *section, struct report *report)
{
    int64_t size = settings_pool_size(settings);
    const struct assignment *least = layer_find_name(layer, "min_pool_size");
    /* A smaller pool_size than what a class keeps open is no mistake: the pool is just full. */
    if (size && least && least->value.number > size)
        origin_warning(report, &least->origin,
                       "min_pool_size %" PRId64 " is more than pool_size %" PRId64,
                       settings->min_pool_size, size);
    if (settings->max_db_connections && size > settings->max_db_connections)
        origin_warning(report, origin_of(layer, "pool_size", section),
                       "pool_size %" PRId64 " is more than max_db_connections %" PRId64
                       ", so the pool is never full",
                       size, settings->max_db_connections);
}

/* Each database has a pool for each user; even with one user each they may be too many. */
static void fit_sum(const struct snapshot *snapshot, const struct environment *environment,
                    struct report *report)
{
    const struct settings *own = &environment->settings;
    int64_t sum = 0, limit = own->max_server_connections;
    size_t pools = 0;
    for (size_t i = 0; limit && i < snapshot->databases.count; i++) {
        const struct database *line = snapshot->databases.items[i];
        struct settings settings = *own;
        /* `*` is as many databases as clients ask for; `app@e` counts instead of `app`. */
        if (line->config.is_fallback || !database_serves(&line->config, &environment->config) ||
            (!line->config.environment &&
             snapshot_find_database(snapshot, line->config.name, environment->config.name)))
            continue;
        layer_apply(&line->layer, &settings);
        int64_t size = settings_pool_size(&settings), most = settings.max_db_connections;
        sum += most && most < size ? most : size;
        pools++;
    }
    if (limit && pools > 1 && sum > limit)
        origin_warning(
            report, origin_of(&environment->layer, "max_server_connections", &environment->origin),
            "the pools of the %zu databases in environment %s add up to %" PRId64
            " with one user each, more than max_server_connections %" PRId64,
            pools, environment->config.name, sum, limit);
    else if (limit && settings_pool_size(own) > limit)
        origin_warning(report, origin_of(&environment->layer, "pool_size", &environment->origin),
                       "pool_size %" PRId64 " is more than max_server_connections %" PRId64
                       ", so the pool is never full",
                       settings_pool_size(own), limit);
}

/* ---- contradictions ---- */

/* What holds for [pgstage] or an environment. */
static void fit_times(const struct settings *settings, const struct layer *layer,
                      const struct origin *section, struct report *report)
{
    uint64_t limit = settings->transaction_timeout_us;
    if (limit && settings->idle_transaction_timeout_us > limit &&
        layer_find_name(layer, "transaction_timeout"))
        origin_warning(report, origin_of(layer, "transaction_timeout", section),
                       "idle_transaction_timeout has no effect: transaction_timeout is shorter");
    if (limit && settings->query_timeout_us > limit &&
        (layer_find_name(layer, "transaction_timeout") || layer_find_name(layer, "query_timeout")))
        origin_warning(report, origin_of(layer, "query_timeout", section),
                       "query_timeout has no effect: transaction_timeout is shorter");
    if (settings->reserve_pool_size && !settings->reserve_pool_timeout_us &&
        (layer_find_name(layer, "reserve_pool_size") ||
         layer_find_name(layer, "reserve_pool_timeout")))
        origin_warning(report, origin_of(layer, "reserve_pool_timeout", section),
                       "reserve_pool_size has no effect: reserve_pool_timeout = 0 never uses it");
    if (settings->server_reset_query_always && !settings->server_reset_query &&
        (layer_find_name(layer, "server_reset_query_always") ||
         layer_find_name(layer, "server_reset_query")))
        origin_warning(report, origin_of(layer, "server_reset_query_always", section),
                       "server_reset_query_always has no effect: server_reset_query is empty");
    const struct assignment *authorities = layer_find_name(layer, "server_tls_ca_file");
    if (authorities && authorities->value.text && settings->server_tls_sslmode < TLS_VERIFY_CA)
        origin_warning(
            report, &authorities->origin,
            "server_tls_ca_file has no effect: server_tls_sslmode is below verify-ca, so "
            "no server's certificate is checked");
}

/* A password is that of the forced user. */
static void fit_password(const struct settings *settings, const struct layer *layer,
                         struct report *report)
{
    const struct assignment *password = layer_find_name(layer, "password");
    if (password && password->value.text && !settings->user)
        origin_warning(report, &password->origin,
                       "%s has no effect without user: it is the password of the forced user",
                       password->derived ? "password_file" : "password");
}

/* Who logged in to production, and who changed what, is to be found somewhere. */
static void fit_audit(const struct snapshot *snapshot, const struct environment *environment,
                      struct report *report)
{
    if (environment->config.production_class && !snapshot->globals.audit_log)
        origin_warning(report, &environment->origin,
                       "environment %s (class %s) has no audit log: nothing shows who logged in or "
                       "changed something; write audit_log = FILE in [pgstage]",
                       environment->config.name, environment->config.class_name);
}

static void fit_environment(const struct snapshot *snapshot, const struct environment *environment,
                            struct report *report)
{
    const struct settings *settings = &environment->settings;
    const struct layer *layer = &environment->layer;
    fit_preset(layer, environment, report);
    fit_limit(settings, layer, &environment->origin, report);
    fit_sum(snapshot, environment, report);
    fit_times(settings, layer, &environment->origin, report);
    fit_password(settings, layer, report);
    fit_audit(snapshot, environment, report);
    fit_failover(snapshot, environment, report);
}

/* A line of [databases]; most say nothing that could be too much. */
static void fit_database(const struct snapshot *snapshot, const struct database *line,
                         struct report *report)
{
    const struct environment *environment = NULL;
    if (!line->sets)
        return;
    for (size_t i = 0; i < snapshot->environments.count && !environment; i++) {
        const struct environment *one = snapshot->environments.items[i];
        environment = database_serves(&line->config, &one->config) ? one : NULL;
    }
    struct settings settings = environment ? environment->settings : snapshot->globals;
    layer_apply(&line->layer, &settings);
    if (layer_find_name(&line->layer, "pool_size"))
        fit_preset(&line->layer, largest_preset(snapshot, line), report);
    if (layer_find_name(&line->layer, "pool_size") ||
        layer_find_name(&line->layer, "min_pool_size") ||
        layer_find_name(&line->layer, "max_db_connections"))
        fit_limit(&settings, &line->layer, &line->origin, report);
    fit_password(&settings, &line->layer, report);
}

static void fit_user(const struct snapshot *snapshot, const struct user_line *user,
                     struct report *report)
{
    const struct assignment *size = layer_find_name(&user->layer, "pool_size");
    const struct assignment *most = layer_find_name(&user->layer, "max_user_connections");
    if (!size)
        return;
    fit_preset(&user->layer, largest_preset(snapshot, NULL), report);
    if (most && most->value.number && size->value.number > most->value.number)
        origin_warning(report, &size->origin,
                       "pool_size %" PRId64 " of user %s is more than max_user_connections %" PRId64
                       ", so the pool is never full",
                       size->value.number, user->name, most->value.number);
}

void fit_check(const struct snapshot *snapshot, struct report *report)
{
    const struct settings *settings = &snapshot->globals;
    const struct assignment *group = layer_find_name(&snapshot->layer, "unix_socket_group");
    fit_times(settings, &snapshot->layer, NULL, report);
    if (group && group->value.text && !settings->unix_socket_dir)
        origin_warning(report, &group->origin,
                       "unix_socket_group has no effect: unix_socket_dir is empty");
    for (size_t i = 0; i < snapshot->environments.count; i++)
        fit_environment(snapshot, snapshot->environments.items[i], report);
    for (size_t i = 0; i < snapshot->databases.count; i++)
        fit_database(snapshot, snapshot->databases.items[i], report);
    for (size_t i = 0; i < snapshot->users.count; i++)
        fit_user(snapshot, snapshot->users.items[i], report);
}
