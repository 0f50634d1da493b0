/*
 * monitor: which hosts there are to be probed.
 *
 *   snapshot ─► environments ─► names (hosts, dr_hosts) ─► addresses ─► a monitored host for each
 *
 * A load compares by value: an environment, name or address that is still there keeps its hosts
 * with all that is known of them; when the login or the TLS policy is another one, only their
 * connections begin anew. A name is looked up again each dns_max_ttl. A name that has one address
 * is one host, whose label has no address in it; an address that changes makes another host of it,
 * of which nothing is known. While a name has never been resolved it stands as a host that is down.
 */
#include <stdlib.h>
#include <string.h>

#include "monitor_inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/host.h"
#include "pgstage/conf/users.h"

/* The least time between look-ups of a name, whatever dns_max_ttl says. */
#define LOOK_UP_LEAST_US CLOCK_SECOND
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

/* ---- hosts of a name ---- */

static void drop_host(struct monitored *host)
{
    list_remove(&host->environment->hosts, &host->node);
    monitored_changed(host, MONITOR_GONE);
    monitored_free(host);
}

/* Behind the other hosts of its name and of the names before it. */
static void add_host(struct monitor_name *name, const struct address *address, bool several)
{
    struct monitor_environment *environment = name->environment;
    struct monitored *host = monitored_new(name, address, several);
    uint64_t now_us = loop_now_us(environment->monitor->loop);

    list_push_back(&environment->hosts, &host->node);
    /* a name service gets as long to answer as a server */
    monitored_schedule(host, address ? now_us : now_us + environment->settings->probe_timeout_us);
}

/* hosts in the order of the names, whenever some were added. */
static void order_hosts(struct monitor_environment *environment)
{
    struct list ordered;
    struct list_node *node;

    list_init(&ordered);
    list_for_each (name_node, &environment->names) {
        struct monitor_name *name = list_entry(name_node, struct monitor_name, node);

        list_for_each_safe (host_node, &environment->hosts) {
            struct monitored *host = list_entry(host_node, struct monitored, node);

            if (host->name != name)
                continue;
            list_remove(&environment->hosts, &host->node);
            list_push_back(&ordered, &host->node);
        }
    }
    while ((node = list_pop_front(&ordered)))
        list_push_back(&environment->hosts, node);
}

static bool is_answered(const struct resolver_answer *answer, const struct address *address)
{
    for (size_t i = 0; i < answer->count; i++)
        if (address_equal(&answer->addresses[i], address))
            return true;
    return false;
}

static bool has_host(const struct monitor_name *name, const struct address *address)
{
    list_for_each (node, &name->environment->hosts) {
        const struct monitored *host = list_entry(node, struct monitored, node);

        if (host->name == name && address_equal(&host->address, address))
            return true;
    }
    return false;
}

static void tell_addresses(const struct monitor_name *name, const struct resolver_answer *answer)
{
    const struct monitor_hooks *hooks = &name->environment->monitor->hooks;
    char texts[RESOLVER_ADDRESSES_MAX][ADDRESS_TEXT_BYTES];
    const char *addresses[RESOLVER_ADDRESSES_MAX];

    if (!hooks->addresses)
        return;
    for (size_t i = 0; i < answer->count; i++)
        addresses[i] = address_host_text(&answer->addresses[i], texts[i]);
    hooks->addresses(hooks->context, name->environment->name, &name->config, addresses,
                     answer->count);
}

static size_t count_hosts(const struct monitor_name *name)
{
    size_t count = 0;

    list_for_each (node, &name->environment->hosts) {
        const struct monitored *host = list_entry(node, struct monitored, node);

        count += host->name == name && host->address.length > 0;
    }
    return count;
}

/* The name means these addresses now. */
static void take_addresses(struct monitor_name *name, const struct resolver_answer *answer)
{
    struct monitor_environment *environment = name->environment;
    bool several = answer->count > 1, relabel = (count_hosts(name) > 1) != several;
    bool same = !relabel && count_hosts(name) == answer->count;

    for (size_t i = 0; i < answer->count && same; i++)
        same = has_host(name, &answer->addresses[i]);
    if (same)
        return;
    tell_addresses(name, answer);
    list_for_each_safe (node, &environment->hosts) {
        struct monitored *host = list_entry(node, struct monitored, node);

        if (host->name == name && (relabel || !is_answered(answer, &host->address)))
            drop_host(host);
    }
    for (size_t i = 0; i < answer->count; i++)
        if (!has_host(name, &answer->addresses[i]))
            add_host(name, &answer->addresses[i], several);
    order_hosts(environment);
}

/* ---- names ---- */

/* Two names of one answer may be one address (getaddrinfo repeats itself with odd hosts files). */
static void drop_duplicates(struct resolver_answer *answer)
{
    size_t kept = 0;

    for (size_t i = 0; i < answer->count; i++) {
        bool seen = false;

        for (size_t k = 0; k < kept && !seen; k++)
            seen = address_equal(&answer->addresses[k], &answer->addresses[i]);
        if (!seen)
            answer->addresses[kept++] = answer->addresses[i];
    }
    answer->count = kept;
}

static void resolved(struct monitor_name *name, const struct resolver_answer *given)
{
    struct monitor *monitor = name->environment->monitor;
    struct resolver_answer answer = *given;
    uint64_t again_us = monitor->dns_ttl_us;

    if (again_us < LOOK_UP_LEAST_US)
        again_us = LOOK_UP_LEAST_US;
    timer_set(monitor->loop, &name->timer, loop_now_us(monitor->loop) + again_us);
    if (answer.count == 0) {
        /* what was known stays in use */
        (void)text_fit(name->problem, sizeof name->problem,
                       answer.problem[0] ? answer.problem : "the name has no address");
        return;
    }
    name->problem[0] = '\0';
    drop_duplicates(&answer);
    take_addresses(name, &answer);
}

static void on_resolved(struct loop *loop, struct resolver_query *query,
                        const struct resolver_answer *answer)
{
    (void)loop;
    resolved(list_entry(query, struct monitor_name, query), answer);
}

static void look_up(struct monitor_name *name)
{
    struct monitor *monitor = name->environment->monitor;
    const struct host_config *config = &name->config;
    struct resolver_answer answer = {0};

    if (host_is_socket(config)) {
        answer.count = address_local(&answer.addresses[0], config->name, config->port);
        (void)text_fit(name->problem, sizeof name->problem, "the path of the socket is too long");
        take_addresses(name, &answer);
        return;
    }
    if (name->query.ticket)
        return;
    if (resolver_ask(monitor->resolver, monitor->loop, &name->query,
                     config->address ? config->address : config->name, config->port, &answer))
        resolved(name, &answer);
}

static void on_look_up(struct loop *loop, struct timer *timer)
{
    (void)loop;
    look_up(list_entry(timer, struct monitor_name, timer));
}

static struct monitor_name *name_new(struct monitor_environment *environment,
                                     const struct host_config *config, bool is_dr)
{
    struct monitor_name *name = memory_new(sizeof *name);

    name->environment = environment;
    name->text_name = text_copy(config->name);
    name->text_address = text_copy(config->address);
    name->config = (struct host_config){name->text_name, name->text_address, config->port};
    name->is_dr = is_dr;
    name->query.answered = on_resolved;
    name->timer.fire = on_look_up;
    return name;
}

static void name_free(struct monitor_name *name)
{
    struct monitor *monitor = name->environment->monitor;

    list_for_each_safe (node, &name->environment->hosts) {
        struct monitored *host = list_entry(node, struct monitored, node);

        if (host->name == name)
            drop_host(host);
    }
    if (name->query.ticket)
        resolver_cancel(monitor->resolver, monitor->loop, &name->query);
    timer_detach(monitor->loop, &name->timer);
    free(name->text_name);
    free(name->text_address);
    free(name);
}

static bool name_is(const struct monitor_name *name, const struct host_config *config, bool is_dr)
{
    return name->is_dr == is_dr && host_lists_equal(&name->config, 1, config, 1);
}

/* Moves the name to `kept`, or makes it there. */
static void keep_name(struct monitor_environment *environment, struct list *kept,
                      const struct host_config *config, bool is_dr)
{
    list_for_each_safe (node, &environment->names) {
        struct monitor_name *name = list_entry(node, struct monitor_name, node);

        if (name_is(name, config, is_dr)) {
            list_remove(&environment->names, &name->node);
            list_push_back(kept, &name->node);
            return;
        }
    }
    list_push_back(kept, &name_new(environment, config, is_dr)->node);
}

static void take_names(struct monitor_environment *environment)
{
    const struct environment_config *config = environment->config;
    static const struct resolver_answer nothing;
    struct list kept;
    struct list_node *gone;

    list_init(&kept);
    for (size_t i = 0; i < config->host_count; i++)
        keep_name(environment, &kept, &config->hosts[i], false);
    for (size_t i = 0; i < config->dr_host_count; i++)
        keep_name(environment, &kept, &config->dr_hosts[i], true);
    while ((gone = list_pop_front(&environment->names)))
        name_free(list_entry(gone, struct monitor_name, node));
    while ((gone = list_pop_front(&kept)))
        list_push_back(&environment->names, gone);
    list_for_each (node, &environment->names) {
        struct monitor_name *name = list_entry(node, struct monitor_name, node);

        if (name->resolved)
            continue;
        name->resolved = true;
        tell_addresses(name, &nothing); /* that there is such a host */
        look_up(name);
        if (count_hosts(name) == 0)
            add_host(name, NULL, false);
    }
    order_hosts(environment);
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
        host->report.login = environment->login;
        if (!settings->probe_interval_us)
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
    struct list_node *node;

    while ((node = list_pop_front(&environment->names)))
        name_free(list_entry(node, struct monitor_name, node));
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
        take_names(environment);
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

void monitor_each_replica(struct monitor *monitor, const char *environment, const char *label,
                          void (*each)(void *argument, const struct monitor_replica *replica),
                          void *argument)
{
    const struct monitored *host = find_host(monitor, environment, label);

    for (size_t i = 0; host && i < host->facts.replica_count; i++) {
        const struct facts_replica *from = &host->facts.replicas[i];
        struct monitor_replica replica = {from->application_name, from->client_address, from->state,
                                          from->sync};

        each(argument, &replica);
    }
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
