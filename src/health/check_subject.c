/*
 * check_subject: what there is to check, out of a configuration.
 *
 *   every (database line, environment) that can be served
 *        └─ with the same hosts, TLS policy and login ─► one subject, which looks once
 *
 * Who logs in: monitor_user; else the forced user; else the first user of auth_file whose secret is
 * a password (a hash proves nothing to a server). How many connections pools may open to a host is
 * summed over the whole configuration, whatever part of it is checked.
 */
#include <stdlib.h>
#include <string.h>

#include "check_inside.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/host.h"
#include "pgstage/conf/users.h"
#include "pgstage/env/route.h"
#include "pgstage/net/tls.h"

/* The database that a login goes to when no line says one. */
#define ANY_DATABASE "postgres"

typedef void pair_each(void *argument, const struct database_config *line,
                       struct effective *effective);

static void pair(struct snapshot *snapshot, const struct database_config *line,
                 const struct environment_config *environment, pair_each *each, void *argument)
{
    const char *name = line->is_fallback ? ANY_DATABASE : line->name;
    struct effective *effective = snapshot_effective(snapshot, line, name, environment, NULL);
    each(argument, line, effective);
    effective_unref(effective);
}

/* Every line in every environment that it serves. */
static void each_pair(struct snapshot *snapshot, pair_each *each, void *argument)
{
    for (size_t i = 0; i < snapshot_database_count(snapshot); i++) {
        const struct database_config *line = snapshot_database(snapshot, i);
        bool served = false;
        for (size_t k = 0; k < snapshot_environment_count(snapshot); k++) {
            const struct environment_config *environment = snapshot_environment(snapshot, k);
            if (!database_serves(line, environment))
                continue;
            served = true;
            /* `app@production` says it better than `app` */
            if (line->environment || line->is_fallback ||
                !snapshot_find_database(snapshot, line->name, environment->name))
                pair(snapshot, line, environment, each, argument);
        }
        if (!served && !line->environment && !line->in_environment)
            pair(snapshot, line, NULL, each, argument);
    }
}

/* ---- who logs in ---- */

static void use(struct check_subject *subject, const char *user, const char *password,
                const char *from)
{
    subject->user = user;
    subject->password = password;
    subject->user_from = from;
}

static const char *plain_secret(const struct users *users, const char *user)
{
    const struct user_secret *secret = users_find(users, user);
    return secret && secret->kind == SECRET_PLAIN ? secret->secret : NULL;
}

static void choose_login(struct check_subject *subject)
{
    const struct settings *settings = subject->effective->settings;
    const struct users *users = snapshot_users(subject->effective->snapshot);
    if (settings->monitor_user) {
        use(subject, settings->monitor_user, settings->monitor_password, "monitor_user");
        return;
    }
    if (settings->user) {
        const char *password = settings->password;
        if (!password)
            password = plain_secret(users, settings->user);
        else if (secret_kind_of(password) != SECRET_PLAIN)
            password = NULL;
        use(subject, settings->user, password, "the forced user");
        return;
    }
    for (size_t i = 0; users && i < users_count(users); i++) {
        const struct user_secret *secret = users_at(users, i);
        if (secret->kind == SECRET_PLAIN) {
            use(subject, secret->user, secret->secret, "the first password of auth_file");
            return;
        }
    }
}

/* ---- what pools may open ---- */

struct check_demands {
    char *key;
    struct check_demand demand;
    UT_hash_handle hh;
};

static char *demand_key(const struct host_config *host)
{
    return text_print("%s\n%u\n%s", host->name, host->port, host->address ? host->address : "");
}

static void add_pool(struct check_demand *demand, const struct settings *settings)
{
    int64_t size = settings_pool_size(settings), most = settings->max_db_connections;
    if (size > 0)
        size += settings->reserve_pool_size > 0 ? settings->reserve_pool_size : 0;
    if (most > 0 && (size == 0 || size > most))
        demand->fixed += (uint64_t)most; /* holds for all users of the database together */
    else if (size == 0)
        demand->unlimited = true;
    else if (settings->user)
        demand->fixed += (uint64_t)size;
    else
        demand->per_user += (uint64_t)size;
}

static void sum_at(struct check_demands **demands, const struct effective *effective,
                   const struct host_config *hosts, size_t count)
{
    struct check_demands *found;
    for (size_t i = 0; i < count; i++) {
        char *key = demand_key(&hosts[i]);
        HASH_FIND_STR(*demands, key, found);
        if (!found) {
            found = memory_new(sizeof *found);
            found->key = key;
            HASH_ADD_KEYPTR(hh, *demands, found->key, strlen(found->key), found);
        } else {
            free(key);
        }
        add_pool(&found->demand, effective->settings);
    }
}

/* After a DR failover the pools of an environment's hosts go to its dr_hosts. */
static void sum(struct check_demands **demands, const struct effective *effective)
{
    const struct environment_config *of = effective->environment;
    sum_at(demands, effective, effective->hosts, effective->host_count);
    if (of && host_lists_equal(effective->hosts, effective->host_count, of->hosts, of->host_count))
        sum_at(demands, effective, of->dr_hosts, of->dr_host_count);
}

/* ---- subjects ---- */

struct collecting {
    struct list *subjects;
    struct check_demands *demands;
    struct snapshot *snapshot;
    const char *database, *environment;
};

static bool same_tls(const struct settings *a, const struct settings *b)
{
    return a->server_tls_sslmode == b->server_tls_sslmode &&
           a->server_channel_binding == b->server_channel_binding &&
           text_equal(a->server_tls_ca_file, b->server_tls_ca_file) &&
           text_equal(a->server_tls_cert_file, b->server_tls_cert_file) &&
           text_equal(a->server_tls_key_file, b->server_tls_key_file) &&
           text_equal(a->server_tls_crl_file, b->server_tls_crl_file) &&
           text_equal(a->server_tls_protocols, b->server_tls_protocols) &&
           text_equal(a->server_tls_ciphers, b->server_tls_ciphers) &&
           text_equal(a->server_tls13_ciphers, b->server_tls13_ciphers);
}

static bool same_login(const struct settings *a, const struct settings *b)
{
    return text_equal(a->monitor_user, b->monitor_user) &&
           (a->monitor_user ||
            (text_equal(a->user, b->user) && text_equal(a->password, b->password)));
}

static bool is_same(const struct check_subject *subject, const struct effective *effective)
{
    const struct effective *own = subject->effective;
    return own->environment == effective->environment &&
           host_lists_equal(own->hosts, own->host_count, effective->hosts, effective->host_count) &&
           same_tls(own->settings, effective->settings) &&
           same_login(own->settings, effective->settings);
}

static void make_tls(struct check_subject *subject)
{
    struct tls_settings tls;
    tls_settings_of_servers(&tls, subject->effective->settings);
    if (tls.mode <= TLS_ALLOW) /* as on the data plane: allow never begins TLS */
        return;
    subject->tls = tls_context_for_servers(&tls, subject->tls_problem, sizeof subject->tls_problem);
}

static struct check_subject *subject_of(struct collecting *collecting, struct effective *effective)
{
    list_for_each (node, collecting->subjects) {
        struct check_subject *subject = list_entry(node, struct check_subject, node);
        if (is_same(subject, effective))
            return subject;
    }
    struct check_subject *subject = memory_new(sizeof *subject);
    subject->effective = effective_ref(effective);
    subject->environment = effective->environment ? effective->environment->name : NULL;
    subject->dbname = effective->dbname;
    list_init(&subject->hosts);
    make_tls(subject);
    choose_login(subject);
    list_push_back(collecting->subjects, &subject->node);
    return subject;
}

static void expect_database(struct check_subject *subject, struct effective *effective)
{
    size_t count = subject->database_count;
    for (size_t i = 0; i < count; i++) {
        if (text_equal(subject->databases[i], effective->dbname))
            return;
    }
    subject->databases = memory_resize(subject->databases, count + 1, sizeof *subject->databases);
    subject->held = memory_resize(subject->held, count + 1, sizeof *subject->held);
    subject->databases[count] = effective->dbname;
    subject->held[count] = effective_ref(effective);
    subject->database_count++;
    /* better than what stands in for one */
    if (count == 0)
        subject->dbname = effective->dbname;
}

/* The first database in which users are asked for: the line that auth_dbname names, or, where it
 * names none, whichever a client asks for. */
static void ask_in(struct check_subject *subject, struct effective *effective)
{
    const struct settings *settings = effective->settings;
    if (!subject->asking && settings->auth_user && settings->auth_query &&
        (!settings->auth_dbname || text_equal(settings->auth_dbname, effective->database)))
        subject->asking = effective_ref(effective);
}

static bool is_wanted(const struct collecting *collecting, const struct effective *effective)
{
    return (!collecting->database || text_equal(collecting->database, effective->database)) &&
           (!collecting->environment ||
            text_equal(collecting->environment,
                       effective->environment ? effective->environment->name : NULL));
}

static void collect(void *argument, const struct database_config *line, struct effective *effective)
{
    struct collecting *collecting = argument;
    sum(&collecting->demands, effective);
    if (!is_wanted(collecting, effective) || effective->host_count == 0)
        return;
    struct check_subject *subject = subject_of(collecting, effective);
    if (!line->is_fallback || effective->dbname != effective->database)
        expect_database(subject, effective);
    ask_in(subject, effective);
}

/* A database that only `*` serves. */
static void collect_rest(struct collecting *collecting)
{
    struct route route;
    if (!collecting->database || !list_is_empty(collecting->subjects))
        return;
    char *name = collecting->environment
                     ? text_print("%s@%s", collecting->database, collecting->environment)
                     : text_copy(collecting->database);
    struct route_request request = {.database = name};
    if (route_find(collecting->snapshot, &request, &route) == ROUTE_FOUND) {
        struct effective *effective = snapshot_effective(collecting->snapshot, route.line,
                                                         route.database, route.environment, NULL);
        if (effective->host_count > 0) {
            struct check_subject *subject = subject_of(collecting, effective);
            expect_database(subject, effective);
            ask_in(subject, effective);
        }
        effective_unref(effective);
    }
    free(name);
}

struct check_demands *check_subjects_collect(struct list *subjects, struct snapshot *snapshot,
                                             const char *database, const char *environment)
{
    struct collecting collecting = {subjects, NULL, snapshot, database, environment};
    each_pair(snapshot, collect, &collecting);
    collect_rest(&collecting);
    return collecting.demands;
}

void check_subject_free(struct check_subject *subject)
{
    for (size_t i = 0; i < subject->database_count; i++)
        effective_unref(subject->held[i]);
    free(subject->held);
    free(subject->databases);
    effective_unref(subject->asking);
    tls_context_unref(subject->tls);
    effective_unref(subject->effective);
    free(subject);
}

/* ---- what was summed ---- */

void check_demands_find(const struct check_demands *demands, const struct host_config *host,
                        struct check_demand *demand)
{
    struct check_demands *found;
    char *key = demand_key(host);
    HASH_FIND_STR(demands, key, found);
    *demand = found ? found->demand : (struct check_demand){0};
    free(key);
}

void check_demands_free(struct check_demands *demands)
{
    struct check_demands *one, *next;
    HASH_ITER (hh, demands, one, next) {
        HASH_DEL(demands, one);
        free(one->key);
        free(one);
    }
}
