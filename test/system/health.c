/*
 * health: pgstage before a primary and a streaming standby: what it knows of them, whom it sends to
 * which, and what is no death.
 */
#include <stdatomic.h>
#include <sys/resource.h>

#include "system.h"

SYSTEM_SUITE(health);

struct pair {
    struct cluster *primary, *standby;
    struct proxy *proxy;
};

static const char DATABASES[] =
    "[databases]\n"
    "app = environment=e\n"
    "ro = environment=e dbname=app target_session_attrs=standby\n"
    "reports = environment=e dbname=app target_session_attrs=prefer-standby\n"
    "whatever = environment=e dbname=app target_session_attrs=any\n";

static void make_servers(struct pair *pair, const char *settings)
{
    struct cluster_options options = {.name = "primary", .settings = settings};

    pair->primary = cluster_start(&options);
    cluster_value(pair->primary, "CREATE ROLE watcher LOGIN");
    cluster_value(pair->primary, "GRANT pg_monitor TO watcher");
    cluster_value(pair->primary, "CREATE TABLE IF NOT EXISTS t (i int)");
    cluster_value(pair->primary, "ALTER TABLE t OWNER TO app");
    options.name = "standby";
    pair->standby = cluster_standby(pair->primary, &options);
}

/* A probe that takes seconds says how busy this machine is, and no more: the tests of hosts that hang
 * have a limit of their own. */
static void make_proxy(struct pair *pair, const char *more)
{
    pair->proxy =
        proxy_start("pool_mode = transaction\nserver_login_retry = 1\n"
                    "[environment e]\nclass = local_development\n"
                    "hosts = 127.0.0.1:%d, 127.0.0.1:%d\n"
                    "probe_interval = 200ms\nprobe_fast_interval = 100ms\n%s%s\n%s",
                    pair->primary->port, pair->standby->port,
                    strstr(more, "probe_timeout") ? "" : "probe_timeout = 10\n", more, DATABASES);
}

static struct pair make_pair(const char *more)
{
    struct pair pair;

    make_servers(&pair, NULL);
    make_proxy(&pair, more);
    return pair;
}

static const char *label(const struct cluster *cluster)
{
    return text_of("127.0.0.1:%d", cluster->port);
}

/* A cell of SHOW view in the row whose `key` is `value`; "" when there is none. */
static const char *cell(struct proxy *proxy, const char *view, const char *key, const char *value,
                        const char *column)
{
    PGresult *rows = proxy_show(proxy, view);
    const char *found = "";

    for (int i = 0; i < PQntuples(rows); i++)
        if (strcmp(PQgetvalue(rows, i, PQfnumber(rows, key)), value) == 0)
            found = text_of("%s", PQgetvalue(rows, i, PQfnumber(rows, column)));
    PQclear(rows);
    return found;
}

static bool says(const struct pair *pair, const struct cluster *cluster, const char *column,
                 const char *value)
{
    return strcmp(cell(pair->proxy, "HEALTH", "host", label(cluster), column), value) == 0;
}

static void becomes(const struct pair *pair, const struct cluster *cluster, const char *column,
                    const char *value)
{
    cr_assert(until(says(pair, cluster, column, value), PATIENCE_MS), "%s is %s, not %s\n%s",
              column, cell(pair->proxy, "HEALTH", "host", label(cluster), column), value,
              file_text(pair->proxy->log));
}

/* Both are known for what they are. */
static void settled(const struct pair *pair)
{
    becomes(pair, pair->primary, "role", "primary");
    becomes(pair, pair->standby, "role", "standby");
}

/* The port that serves a new session of this database now; -1: none does. */
static int port_of(const struct pair *pair, const char *database)
{
    PGconn *conn = client_try(pair->proxy, text_of("dbname=%s", database));
    PGresult *result = PQexec(conn, "SELECT inet_server_port()");
    int port = PQntuples(result) > 0 ? atoi(PQgetvalue(result, 0, 0)) : -1;

    PQclear(result);
    PQfinish(conn);
    return port;
}

static const char WATCHER[] = "monitor_user = watcher";

SYSTEM_TEST(health, roles_identity_and_lag_are_shown)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair(WATCHER);
    const char *system = cluster_value(pair.primary, "SELECT system_identifier FROM "
                                                     "pg_control_system()");

    settled(&pair);
    becomes(&pair, pair.primary, "health", "healthy");
    becomes(&pair, pair.standby, "health", "healthy");
    becomes(&pair, pair.standby, "lag_bytes", "0");
    becomes(&pair, pair.standby, "lag_ms", "0");
    cr_assert(says(&pair, pair.primary, "breaker", "closed"));
    cr_assert(says(&pair, pair.primary, "login", "monitor_user"));
    cr_assert(says(&pair, pair.primary, "timeline", "1"));
    cr_assert(says(&pair, pair.standby, "timeline", "1"));
    cr_assert(says(&pair, pair.primary, "system_identifier", system));
    cr_assert(says(&pair, pair.standby, "system_identifier", system));
    cr_assert(says(&pair, pair.standby, "receiver", "streaming"));
    becomes(&pair, pair.standby, "sync_state", "async");
    cr_assert_has(cell(pair.proxy, "HEALTH", "host", label(pair.standby), "upstream"),
                  text_of(":%d", pair.primary->port));
    cr_assert_str_eq(cell(pair.proxy, "ENVIRONMENTS", "name", "e", "primary"), label(pair.primary));
    cr_assert_str_eq(cell(pair.proxy, "ENVIRONMENTS", "name", "e", "hosts_up"), "2");
    cr_assert_str_eq(cell(pair.proxy, "HOSTS", "label", label(pair.standby), "role"), "standby");
    cr_assert(until(!strcmp(cell(pair.proxy, "HOSTS", "label", label(pair.standby), "lag_ms"), "0"),
                    PATIENCE_MS));
    cr_assert(
        until(proxy_logged(pair.proxy, text_of("host e/%s: role standby", label(pair.standby))),
              PATIENCE_MS));
    cr_assert(until(proxy_logged(pair.proxy, text_of("host e/%s is healthy", label(pair.primary))),
                    PATIENCE_MS));
    /* what an idle cluster does not send is no lag; a server writes a little now and then */
    pause_ms(1500);
    becomes(&pair, pair.standby, "lag_ms", "0");
}

SYSTEM_TEST(health, pools_are_served_by_the_role_that_they_ask_for)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair(WATCHER);

    settled(&pair);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(port_of(&pair, "app"), pair.primary->port);
        cr_assert_eq(port_of(&pair, "ro"), pair.standby->port);
        cr_assert_eq(port_of(&pair, "reports"), pair.standby->port);
        proxy_do(pair.proxy, "RECONNECT");
    }
    cr_assert_gt(port_of(&pair, "whatever"), 0);
    client_do(client_open(pair.proxy, "dbname=app"), "INSERT INTO t VALUES (1)");
}

SYSTEM_TEST(health, prefer_standby_goes_to_the_primary_while_there_is_no_standby)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair(WATCHER);

    settled(&pair);
    PGconn *kept = client_open(pair.proxy, "dbname=reports");
    cr_assert_eq(client_number(kept, "SELECT inet_server_port()"), pair.standby->port);
    cluster_end(pair.standby, CLUSTER_KILL);
    becomes(&pair, pair.standby, "health", "critical");
    becomes(&pair, pair.standby, "breaker", "open");
    cr_assert(says(&pair, pair.standby, "role", "standby"), "its last one");
    cr_assert_eq(client_number(kept, "SELECT inet_server_port()"), pair.primary->port);
    cr_assert_str_eq(cell(pair.proxy, "ENVIRONMENTS", "name", "e", "hosts_up"), "1");
    /* and back, without a new client */
    cluster_again(pair.standby);
    becomes(&pair, pair.standby, "health", "healthy");
    cr_assert(
        until(client_number(kept, "SELECT inet_server_port()") == pair.standby->port, PATIENCE_MS));
    cr_assert_eq(port_of(&pair, "ro"), pair.standby->port);
}

SYSTEM_TEST(health, a_standby_over_max_replica_lag_is_skipped_and_comes_back)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("monitor_user = watcher\nmax_replica_lag = 1s");

    settled(&pair);
    PGconn *kept = client_open(pair.proxy, "dbname=reports");
    cr_assert(
        until(client_number(kept, "SELECT inet_server_port()") == pair.standby->port, PATIENCE_MS));
    cluster_value(pair.standby, "SELECT pg_wal_replay_pause()");
    cr_assert(until(strcmp(cluster_value(pair.standby, "SELECT pg_get_wal_replay_pause_state()"),
                           "paused") == 0,
                    PATIENCE_MS));
    cluster_value(pair.primary, "INSERT INTO t VALUES (2)");
    cr_assert(
        until(client_number(kept, "SELECT inet_server_port()") == pair.primary->port, PATIENCE_MS),
        "it goes on reading from a standby that is late\n%s", file_text(pair.proxy->log));
    cr_assert_gt(atol(cell(pair.proxy, "HOSTS", "label", label(pair.standby), "lag_ms")), 1000);
    cr_assert_gt(atol(cell(pair.proxy, "HOSTS", "label", label(pair.standby), "lag_bytes")), 0);
    cr_assert(until(proxy_logged(pair.proxy, "is over max_replica_lag"), PATIENCE_MS));
    cluster_value(pair.standby, "SELECT pg_wal_replay_resume()");
    cr_assert(
        until(client_number(kept, "SELECT inet_server_port()") == pair.standby->port, PATIENCE_MS));
    cr_assert(until(proxy_logged(pair.proxy, "is within max_replica_lag"), PATIENCE_MS));
}

SYSTEM_TEST(health, a_host_that_hangs_is_down)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("monitor_user = watcher\nprobe_timeout = 500ms");

    settled(&pair);
    cluster_freeze(pair.primary, true);
    becomes(&pair, pair.primary, "health", "critical");
    becomes(&pair, pair.primary, "error", "timeout");
    cluster_freeze(pair.primary, false);
    becomes(&pair, pair.primary, "health", "healthy");
    becomes(&pair, pair.primary, "breaker", "closed");
    cr_assert_eq(port_of(&pair, "app"), pair.primary->port);
}

/* Its sessions go on answering; only a new login shows it. */
SYSTEM_TEST(health, a_stopped_postmaster_is_noticed_though_its_sessions_answer)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("monitor_user = watcher\nprobe_timeout = 500ms");

    settled(&pair);
    kill(pair.primary->pid, SIGSTOP);
    becomes(&pair, pair.primary, "health", "critical");
    kill(pair.primary->pid, SIGCONT);
    becomes(&pair, pair.primary, "health", "healthy");
}

SYSTEM_TEST(health, a_wrong_monitor_password_is_no_death)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("monitor_user = user_scram\nmonitor_password = wrong");

    becomes(&pair, pair.primary, "health", "warning");
    becomes(&pair, pair.standby, "health", "warning");
    cr_assert(says(&pair, pair.primary, "error", "auth"));
    cr_assert(says(&pair, pair.primary, "sqlstate", "28P01"));
    cr_assert(says(&pair, pair.primary, "breaker", "closed"));
    cr_assert(until(proxy_logged(pair.proxy, "password authentication failed"), PATIENCE_MS));
    /* roles are found out by logins then */
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(port_of(&pair, "app"), pair.primary->port);
        cr_assert_eq(port_of(&pair, "ro"), pair.standby->port);
        proxy_do(pair.proxy, "RECONNECT");
    }
    becomes(&pair, pair.primary, "role", "unknown");
}

SYSTEM_TEST(health, max_connections_reached_is_no_death)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair;
    PGconn *crowd[20];
    int count = 0;

    make_servers(&pair, "max_connections = 12\nsuperuser_reserved_connections = 3\n"
                        "max_wal_senders = 5\nautovacuum_max_workers = 1");
    make_proxy(&pair, WATCHER);
    settled(&pair);
    do {
        cr_assert_lt(count, 20);
        crowd[count] = PQconnectdb(
            text_of("%s user=crowd dbname=app sslmode=disable", cluster_route(pair.primary)));
    } while (PQstatus(crowd[count++]) == CONNECTION_OK);
    becomes(&pair, pair.primary, "error", "too_many");
    becomes(&pair, pair.primary, "health", "warning");
    cr_assert(says(&pair, pair.primary, "breaker", "closed"));
    while (count > 0)
        PQfinish(crowd[--count]);
    becomes(&pair, pair.primary, "health", "healthy");
    cr_assert_eq(proxy_log_count(pair.proxy, "is critical"), 0);
}

static long good_probes(const struct pair *pair)
{
    return proxy_figure(pair->proxy, "HEALTH", "host", label(pair->primary), "good");
}

static long logins_of_watcher(const struct cluster *cluster)
{
    char *log = file_text(text_of("%s/postgres.log", cluster->folder));
    long count = 0;

    for (const char *at = log; (at = strstr(at, "connection authorized: user=watcher")); at++)
        count++;
    free(log);
    return count;
}

SYSTEM_TEST(health, the_probes_session_is_kept_and_renewed_at_each_fifth_probe)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair;
    static const char COUNT[] = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'watcher'";
    long good, latest, logins;

    make_servers(&pair, "log_connections = on");
    make_proxy(&pair, WATCHER);
    settled(&pair);
    good = good_probes(&pair);
    logins = logins_of_watcher(pair.primary);
    while (good_probes(&pair) < good + 20)
        cr_assert_leq(cluster_number(pair.primary, COUNT), 2);
    /* each count is taken on the side that makes it the smaller one, then the greater one */
    latest = good_probes(&pair);
    cr_assert_geq(logins_of_watcher(pair.primary) - logins, (latest - good) / 5 - 1);
    logins = logins_of_watcher(pair.primary) - logins;
    cr_assert_leq(logins, (good_probes(&pair) - good) / 5 + 2);
    cr_assert(says(&pair, pair.primary, "health", "healthy"));
}

SYSTEM_TEST(health, an_open_breaker_costs_clients_nothing)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("monitor_user = watcher\nload_balance_hosts = round-robin");
    long failures;

    settled(&pair);
    cluster_end(pair.standby, CLUSTER_KILL);
    becomes(&pair, pair.standby, "breaker", "open");
    failures = proxy_figure(pair.proxy, "HOSTS", "label", label(pair.standby), "failures");
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(port_of(&pair, "whatever"), pair.primary->port);
        cr_assert_eq(port_of(&pair, "reports"), pair.primary->port);
        proxy_do(pair.proxy, "RECONNECT");
    }
    cr_assert_eq(proxy_figure(pair.proxy, "HOSTS", "label", label(pair.standby), "failures"),
                 failures, "a pool has tried a host whose breaker is open");
}

SYSTEM_TEST(health, a_promoted_standby_takes_the_writes)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair(WATCHER);

    settled(&pair);
    PGconn *writer = client_open(pair.proxy, "dbname=app");
    client_do(writer, "SELECT 1");
    cluster_end(pair.primary, CLUSTER_KILL);
    cluster_promote(pair.standby);
    becomes(&pair, pair.standby, "role", "primary");
    becomes(&pair, pair.standby, "timeline", "2");
    cr_assert(until(port_of(&pair, "app") == pair.standby->port, PATIENCE_MS));
    client_do(client_open(pair.proxy, "dbname=app"), "INSERT INTO t VALUES (3)");
}

SYSTEM_TEST(health, without_anybody_to_log_in_as_logins_of_clients_find_the_roles)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("");

    becomes(&pair, pair.primary, "health", "healthy");
    cr_assert(says(&pair, pair.primary, "login", "handshake"));
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(port_of(&pair, "app"), pair.primary->port);
        cr_assert_eq(port_of(&pair, "ro"), pair.standby->port);
        cr_assert_eq(port_of(&pair, "reports"), pair.standby->port);
        proxy_do(pair.proxy, "RECONNECT");
    }
    becomes(&pair, pair.primary, "role", "primary");
    becomes(&pair, pair.standby, "role", "standby");
    cr_assert(until(proxy_logged(pair.proxy, "seen by clients' connections"), PATIENCE_MS));
    /* and a failover is followed */
    cluster_end(pair.primary, CLUSTER_KILL);
    cluster_promote(pair.standby);
    cr_assert(until(port_of(&pair, "app") == pair.standby->port, PATIENCE_MS));
    becomes(&pair, pair.primary, "health", "critical");
    becomes(&pair, pair.standby, "role", "primary");
}

SYSTEM_TEST(health, a_hang_is_seen_without_a_login_too)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("probe_timeout = 500ms");

    becomes(&pair, pair.primary, "health", "healthy");
    kill(pair.primary->pid, SIGSTOP);
    becomes(&pair, pair.primary, "health", "critical");
    kill(pair.primary->pid, SIGCONT);
    becomes(&pair, pair.primary, "health", "healthy");
}

SYSTEM_TEST(health, an_ordinary_login_sees_roles_and_lag_and_no_more)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("monitor_user = other");

    settled(&pair);
    becomes(&pair, pair.standby, "lag_ms", "0");
    cr_assert(says(&pair, pair.standby, "receiver", "unknown"));
    cr_assert(says(&pair, pair.standby, "health", "healthy"));
    cr_assert(says(&pair, pair.standby, "sync_state", ""));
    PGresult *rows = PQexec(proxy_console(pair.proxy), "CHECK e");
    bool named = false;
    for (int i = 0; i < PQntuples(rows); i++)
        named = named ||
                strstr(PQgetvalue(rows, i, PQfnumber(rows, "detail")), "GRANT pg_monitor TO other");
    cr_assert(named);
    PQclear(rows);
}

SYSTEM_TEST(health, the_forced_user_of_the_environment_probes_when_no_monitor_user_is_named)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("user = app");

    settled(&pair);
    cr_assert(says(&pair, pair.primary, "login", "user"));
}

SYSTEM_TEST(health, synchronous_standbys_are_told)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair;

    make_servers(&pair, "cluster_name = 's1'\nsynchronous_standby_names = 's1'\n"
                        "synchronous_commit = local");
    make_proxy(&pair, WATCHER);
    settled(&pair);
    becomes(&pair, pair.standby, "replica_name", "s1");
    becomes(&pair, pair.standby, "sync_state", "sync");
    becomes(&pair, pair.primary, "synchronous_standby_names", "s1");
}

SYSTEM_TEST(health, a_reload_keeps_what_is_the_same_and_what_is_known)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair(WATCHER);
    long good;

    settled(&pair);
    cr_assert(until(proxy_figure(pair.proxy, "HEALTH", "host", label(pair.primary), "good") > 6,
                    PATIENCE_MS));
    good = proxy_figure(pair.proxy, "HEALTH", "host", label(pair.primary), "good");
    proxy_rewrite(pair.proxy,
                  "pool_mode = transaction\n[environment e]\nclass = local_development\n"
                  "hosts = 127.0.0.1:%d\nprobe_interval = 200ms\nprobe_timeout = 10\n"
                  "monitor_user = watcher\n%s",
                  pair.primary->port, DATABASES);
    cr_assert_null(proxy_reload(pair.proxy));
    cr_assert(until(proxy_rows(pair.proxy, "HEALTH", NULL, NULL) == 1, PATIENCE_MS));
    cr_assert_geq(proxy_figure(pair.proxy, "HEALTH", "host", label(pair.primary), "good"), good);
    cr_assert(says(&pair, pair.primary, "role", "primary"), "it is forgotten");
    cr_assert(until(cluster_number(pair.standby, "SELECT count(*) FROM pg_stat_activity "
                                                 "WHERE usename = 'watcher'") == 0,
                    PATIENCE_MS));
    proxy_rewrite(pair.proxy,
                  "pool_mode = transaction\n[environment e]\nclass = local_development\n"
                  "hosts = 127.0.0.1:%d\nprobe_interval = 0\nmonitor_user = watcher\n%s",
                  pair.primary->port, DATABASES);
    cr_assert_null(proxy_reload(pair.proxy));
    becomes(&pair, pair.primary, "health", "unknown");
    pause_ms(700);
    cr_assert(says(&pair, pair.primary, "good", "0"), "it is probed although probe_interval is 0");
}

SYSTEM_TEST(health, a_host_is_not_down_because_pgstage_has_no_descriptor_left)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = {.primary = cluster_shared()};
    struct rlimit few = {200, 200};
    struct wire *wires[175];
    PGconn *client;

    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0); /* for pgstage, which has more open than we */
    pair.proxy = proxy_start("workers = 8\npool_mode = transaction\nmax_client_conn = 1000\n"
                             "tcp_defer_accept = 0\n[environment e]\n"
                             "class = local_development\nhosts = 127.0.0.1:%d\n"
                             "probe_interval = 50ms\nprobe_timeout = 10\n%s",
                             pair.primary->port, DATABASES);
    client = client_open(pair.proxy, NULL);
    client_do(client, "SELECT 1");
    becomes(&pair, pair.primary, "health", "healthy");
    for (int i = 0; i < 175; i++)
        cr_assert_not_null(wires[i] = wire_open_port(pair.proxy->port));
    becomes(&pair, pair.primary, "error", "local");
    cr_assert(says(&pair, pair.primary, "health", "healthy"));
    cr_assert(says(&pair, pair.primary, "breaker", "closed"));
    client_do(client, "SELECT 1");
    for (int i = 0; i < 175; i++)
        wire_close(wires[i]);
    becomes(&pair, pair.primary, "error", "");
}

/* ---- servers before 14 do not report in_hot_standby ---- */

static void serve_standby(struct wire *wire, struct fake *fake)
{
    (void)fake;
    if (fake_startup(wire, 'N')) {
        fake_welcome(wire);
        fake_answer(wire, "t");
    }
}

SYSTEM_TEST(health, a_server_that_reports_no_role_is_asked)
{
    SKIP_ON_PGBOUNCER();
    struct fake *fake = fake_start(serve_standby, NULL);
    struct pair pair = {.primary = cluster_shared()};

    pair.proxy = proxy_start("pool_mode = transaction\n[environment e]\n"
                             "class = local_development\nhosts = 127.0.0.1:%d, 127.0.0.1:%d\n"
                             "probe_interval = 0\n%s",
                             fake->port, pair.primary->port, DATABASES);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(port_of(&pair, "app"), pair.primary->port);
        cr_assert_str_eq(client_value(client_open(pair.proxy, "dbname=ro"), "SELECT 1"), "t");
        proxy_do(pair.proxy, "RECONNECT");
    }
    cr_assert_gt(atomic_load(&fake->accepted), 4);
}

/* What a single host of an environment is, is looked at too. */
SYSTEM_TEST(health, a_write_session_is_never_served_by_a_lone_standby)
{
    SKIP_ON_PGBOUNCER();
    struct fake *fake = fake_start(serve_standby, NULL);
    struct proxy *proxy =
        proxy_start("pool_mode = transaction\nquery_wait_timeout = 2\n[environment e]\n"
                    "class = local_development\nhosts = 127.0.0.1:%d\nprobe_interval = 0\n"
                    "failover_wait_timeout = 2\nquery_wait_timeout = 2s\n%s",
                    fake->port, DATABASES);
    PGconn *conn = client_try(proxy, "dbname=app");
    PGresult *result = PQexec(conn, "SELECT 1");

    cr_assert_neq(PQresultStatus(result), PGRES_TUPLES_OK);
    cr_assert_str_eq(client_value(client_open(proxy, "dbname=ro"), "SELECT 1"), "t");
}
