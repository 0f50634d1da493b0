/*
 * monitor: which environments there are, how their hosts are probed, and what is asked about them.
 *
 *   snapshot ─► environments ─► names (hosts, dr_hosts) ─► addresses ─► a monitored host for each
 *                                  monitor_name.c                        monitor_host.c
 *
 * A load compares by value: an environment, name or address that is still there keeps its hosts
 * with all that is known of them; when the login or the TLS policy is another one, only their
 * connections begin anew.
 */
#include <stdlib.h>
#include <string.h>

#include "monitor_inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/users.h"

/* How long all hosts are probed fast when the primary has gone. */
#define SEARCH_US (600 * CLOCK_SECOND)
/* The database that a probe logs in to when no line names one. */
#define ANY_DATABASE "postgres"

/* ---- finding ---- */

static struct monitor_environment *find_environment(struct monitor *monitor, const char *name)
{
    list_for_each (node, &monitor->environments) {
        struct monitor_environment *environment =
            list_entry(node, struct monitor_environment, node);

        if (text_equal(environment->name, name))
            return environment;
    }
    return NULL;
}

static struct monitored *find_host(struct monitor *monitor, const char *environment,
                                   const char *label)
{
    struct monitor_environment *found = find_environment(monitor, environment);

    if (!found)
        return NULL;
    list_for_each (node, &found->hosts) {
        struct monitored *host = list_entry(node, struct monitored, node);

        if (text_equal(host->label, label))
            return host;
    }
    return NULL;
}

bool environment_is_anxious(struct monitor_environment *environment)
{
    uint64_t now_us = loop_now_us(environment->monitor->loop);
    bool has_primary = false, unsure = false;

    list_for_each (node, &environment->hosts) {
        const struct host_report *report = &list_entry(node, struct monitored, node)->report;

        /* a host that has been down for a while does not make all the others be probed fast */
        unsure = unsure || (report->bad > 0 && report->health != HEALTH_CRITICAL) ||
                 report->breaker == BREAKER_HALF_OPEN;
        has_primary = has_primary || (report->role == ROLE_PRIMARY && report->bad == 0);
    }
    if (has_primary)
        environment->primary_us = now_us;
    /* the next primary is looked for in haste, but not for ever */
    return environment->hurried || unsure ||
           (environment->login != PROBE_LOGIN_NONE && environment->primary_us &&
            now_us - environment->primary_us < SEARCH_US && !has_primary);
}

/* ---- environments ---- */

static const char *plain_password(const struct monitor_environment *environment)
{
    const char *password = environment->settings->password;
    const struct user_secret *secret;

    if (password)
        return secret_kind_of(password) == SECRET_PLAIN ? password : NULL;
    secret = users_find(snapshot_users(environment->snapshot), environment->settings->user);
    return secret && secret->kind == SECRET_PLAIN ? secret->secret : NULL;
}

static void choose_login(struct monitor_environment *environment)
{
    const struct settings *settings = environment->settings;

    environment->user = environment->password = NULL;
    environment->login = PROBE_LOGIN_NONE;
    if (settings->monitor_user) {
        environment->login = PROBE_LOGIN_MONITOR;
        environment->user = settings->monitor_user;
        environment->password = settings->monitor_password;
    } else if (settings->user) {
        environment->login = PROBE_LOGIN_FORCED;
        environment->user = settings->user;
        environment->password = plain_password(environment);
    }
}

/* The database of the first line that serves the environment, then one that every cluster has. */
static void choose_databases(struct monitor_environment *environment)
{
    char *first = NULL;

    for (size_t i = 0; i < snapshot_database_count(environment->snapshot) && !first; i++) {
        const struct database_config *line = snapshot_database(environment->snapshot, i);
        struct effective *effective;

        if (line->is_fallback || line->host_count || !database_serves(line, environment->config))
            continue;
        effective =
            snapshot_effective(environment->snapshot, line, line->name, environment->config, NULL);
        first = text_copy(effective->dbname);
        effective_unref(effective);
    }
    free(environment->databases[0]);
    free(environment->databases[1]);
    environment->databases[0] = first ? first : text_copy(ANY_DATABASE);
    environment->databases[1] =
        first && strcmp(first, ANY_DATABASE) != 0 ? text_copy(ANY_DATABASE) : NULL;
}

static void make_tls(struct monitor_environment *environment)
{
    struct tls_settings tls;
    char problem[256] = "";

    tls_context_unref(environment->tls);
    free(environment->tls_problem);
    environment->tls = NULL;
    environment->tls_problem = NULL;
    tls_settings_of_servers(&tls, environment->settings);
    if (environment->login != PROBE_LOGIN_NONE || tls.mode <= TLS_ALLOW)
        return;
    environment->tls = tls_context_for_servers(&tls, problem, sizeof problem);
    if (!environment->tls)
        environment->tls_problem = text_copy(problem);
}

/* Would connections under the other settings be made in the same way? */
static bool same_connections(const struct settings *a, const struct settings *b)
{
    return text_equal(a->monitor_user, b->monitor_user) &&
           text_equal(a->monitor_password, b->monitor_password) && text_equal(a->user, b->user) &&
           text_equal(a->password, b->password) && a->server_tls_sslmode == b->server_tls_sslmode &&
           a->server_channel_binding == b->server_channel_binding &&
           text_equal(a->server_tls_ca_file, b->server_tls_ca_file) &&
           text_equal(a->server_tls_cert_file, b->server_tls_cert_file) &&
           text_equal(a->server_tls_key_file, b->server_tls_key_file) &&
           text_equal(a->server_tls_crl_file, b->server_tls_crl_file) &&
           text_equal(a->server_tls_protocols, b->server_tls_protocols) &&
           text_equal(a->server_peer_user, b->server_peer_user);
}

static void take_settings(struct monitor_environment *environment, struct snapshot *snapshot,
                          const struct environment_config *config)
{
    const struct settings *settings = snapshot_environment_settings(snapshot, config);
    bool same = environment->settings && same_connections(environment->settings, settings);
    struct snapshot *old = environment->snapshot;

    environment->snapshot = snapshot_ref(snapshot);
    environment->config = config;
    environment->settings = settings;
    choose_login(environment);
    choose_databases(environment);
    make_tls(environment);
    list_for_each (node, &environment->hosts) {
        struct monitored *host = list_entry(node, struct monitored, node);

        if (!same)
            monitored_reset(host);
        if (!environment->databases[1])
            host->database = 0;
        bool was_asked = host->report.login != PROBE_LOGIN_NONE;
        host->report.login = environment->login;
        /* a role that nobody looks at any more is only that of a moment ago */
        if (!settings->probe_interval_us || (was_asked && environment->login == PROBE_LOGIN_NONE))
            monitored_forget(host);
        /* the interval may be another one; soon enough to see at once what the change brought */
        monitored_schedule(host, loop_now_us(environment->monitor->loop));
    }
    snapshot_unref(old);
}

static struct monitor_environment *environment_new(struct monitor *monitor, const char *name)
{
    struct monitor_environment *environment = memory_new(sizeof *environment);

    environment->monitor = monitor;
    environment->name = text_copy(name);
    list_init(&environment->names);
    list_init(&environment->hosts);
    list_push_back(&monitor->environments, &environment->node);
    return environment;
}

static void environment_free(struct monitor_environment *environment)
{
    environment_drop_names(environment);
    list_remove(&environment->monitor->environments, &environment->node);
    tls_context_unref(environment->tls);
    free(environment->tls_problem);
    free(environment->databases[0]);
    free(environment->databases[1]);
    snapshot_unref(environment->snapshot);
    free(environment->name);
    free(environment);
}

void monitor_load(struct monitor *monitor, struct snapshot *snapshot)
{
    monitor->dns_ttl_us = snapshot_globals(snapshot)->dns_max_ttl_us;
    list_for_each (node, &monitor->environments) {
        list_entry(node, struct monitor_environment, node)->present = false;
    }
    for (size_t i = 0; i < snapshot_environment_count(snapshot); i++) {
        const struct environment_config *config = snapshot_environment(snapshot, i);
        struct monitor_environment *environment = find_environment(monitor, config->name);

        if (!environment)
            environment = environment_new(monitor, config->name);
        environment->present = true;
        take_settings(environment, snapshot, config);
        environment_take_names(environment);
    }
    list_for_each_safe (node, &monitor->environments) {
        struct monitor_environment *environment =
            list_entry(node, struct monitor_environment, node);

        if (!environment->present)
            environment_free(environment);
    }
}

struct monitor *monitor_new(struct loop *loop, struct resolver *resolver,
                            const struct monitor_hooks *hooks)
{
    struct monitor *monitor = memory_new(sizeof *monitor);

    monitor->loop = loop;
    monitor->resolver = resolver;
    monitor->hooks = *hooks;
    list_init(&monitor->environments);
    return monitor;
}

void monitor_free(struct monitor *monitor)
{
    struct list_node *node;

    if (!monitor)
        return;
    monitor->hooks = (struct monitor_hooks){0};
    while ((node = list_first(&monitor->environments)))
        environment_free(list_entry(node, struct monitor_environment, node));
    free(monitor);
}

/* ---- what is asked of it ---- */

void monitor_each(struct monitor *monitor, const char *environment,
                  void (*each)(void *argument, const struct host_report *report), void *argument)
{
    list_for_each (node, &monitor->environments) {
        struct monitor_environment *of = list_entry(node, struct monitor_environment, node);

        if (environment && !text_equal(of->name, environment))
            continue;
        list_for_each (inner, &of->hosts) {
            each(argument, &list_entry(inner, struct monitored, node)->report);
        }
    }
}

const struct host_report *monitor_find(struct monitor *monitor, const char *environment,
                                       const char *label)
{
    const struct monitored *host = find_host(monitor, environment, label);

    return host ? &host->report : NULL;
}

static void probe_by(struct monitored *host, uint64_t at_us)
{
    if (host->opening || host->handshake || host->asked)
        host->wanted_again = true;
    else if (!host->report.next_us || host->report.next_us > at_us)
        monitored_schedule(host, at_us);
}

void monitor_probe_now(struct monitor *monitor, const char *environment, const char *label)
{
    struct monitor_environment *found = find_environment(monitor, environment);

    if (!found)
        return;
    list_for_each (node, &found->hosts) {
        struct monitored *host = list_entry(node, struct monitored, node);

        if (!label || text_equal(host->label, label))
            probe_by(host, loop_now_us(monitor->loop));
    }
}

void monitor_hurry(struct monitor *monitor, const char *environment, bool fast)
{
    struct monitor_environment *found = find_environment(monitor, environment);

    if (!found || found->hurried == fast)
        return;
    found->hurried = fast;
    if (fast)
        monitor_probe_now(monitor, environment, NULL);
}

void monitor_note(struct monitor *monitor, const char *environment, const char *label,
                  enum monitor_evidence evidence)
{
    struct monitored *host = find_host(monitor, environment, label);
    struct host_report *report;
    uint64_t now_us = loop_now_us(monitor->loop), at_us;

    if (!host)
        return;
    report = &host->report;
    if (evidence != EVIDENCE_TROUBLE && (report->login == PROBE_LOGIN_NONE || report->hearsay)) {
        enum role role = evidence == EVIDENCE_PRIMARY ? ROLE_PRIMARY : ROLE_STANDBY;
        bool changed = report->role != role || !report->hearsay;

        if (report->role != role)
            report->role_since_us = now_us;
        report->role = role;
        report->hearsay = true;
        if (changed)
            monitored_changed(host, MONITOR_ROLE);
        return;
    }
    /* what the probes have seen already need not be looked at again */
    if (evidence != EVIDENCE_TROUBLE &&
        (report->role == ROLE_PRIMARY) == (evidence == EVIDENCE_PRIMARY))
        return;
    /* many see the same; what a probe that has just begun will say is soon enough */
    at_us = host->begin_us + host->environment->settings->probe_fast_interval_us;
    probe_by(host, host->begin_us && at_us > now_us ? at_us : now_us);
}
