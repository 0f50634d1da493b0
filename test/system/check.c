/*
 * check: CHECK on the console and `--check --deep`, over real servers.
 */
#include <stdatomic.h>

#include "system.h"

SYSTEM_SUITE(check);

/* An environment `tested` on 127.0.0.1:port under this name, class staging (verify-full). */
static struct proxy *proxy_before(int port, const char *name, const char *more, const char *lines)
{
    return proxy_start("check_timeout = 30\nserver_connect_timeout = 8\nserver_login_retry = 1\n"
                       "query_wait_timeout = 8\ndefault_environment = tested\n"
                       "[environment tested]\nclass = staging\nclient_tls_sslmode = disable\n"
                       "server_tls_ca_file = %s\nhosts = %s@127.0.0.1:%d\nmin_pool_size = 0\n%s"
                       "[databases]\napp = dbname=app\n%s",
                       pki_shared_ca()->certificate, name, port, more, lines);
}

static void hang(struct wire *wire, struct fake *fake)
{
    (void)fake;
    fake_hang(wire);
}

static PGresult *checked(struct proxy *proxy, const char *target)
{
    PGresult *result = PQexec(proxy_console(proxy), text_of("CHECK %s", target));

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        support_fail("CHECK %s: %s", target, PQerrorMessage(proxy_console(proxy)));
    return result;
}

/* "result: detail" of a check of a host ("" the one that is there first); "none" without a row. */
static const char *said(const PGresult *result, const char *host, const char *check)
{
    for (int row = 0; row < PQntuples(result); row++) {
        if (!strcmp(PQgetvalue(result, row, 2), check) &&
            strstr(PQgetvalue(result, row, 1), host) == PQgetvalue(result, row, 1))
            return text_of("%s: %s", PQgetvalue(result, row, 3), PQgetvalue(result, row, 4));
    }
    return "none";
}

static int errors(const PGresult *result)
{
    int count = 0;

    for (int row = 0; row < PQntuples(result); row++)
        count += !strcmp(PQgetvalue(result, row, 3), "error");
    return count;
}

static void is_said(const PGresult *result, const char *host, const char *check, const char *text)
{
    const char *is = said(result, host, check);

    cr_assert(strstr(is, text) != NULL, "%s: \"%s\" is not in: %s", check, text, is);
}

SYSTEM_TEST(check, a_good_host_has_a_row_for_everything)
{
    struct proxy *proxy = proxy_before(cluster_shared()->port, "pg.production.test",
                                       "monitor_user = other\npool_size = 7\n", "");
    PGresult *result = checked(proxy, "tested");
    char *identifier =
        cluster_value(cluster_shared(), "SELECT system_identifier FROM pg_control_system()");

    cr_assert_eq(errors(result), 0, "%s", said(result, "", "login"));
    cr_assert_str_eq(PQgetvalue(result, 0, 0), "tested");
    is_said(result, "pg.production.test:", "dns", "ok: 127.0.0.1");
    is_said(result, "pg.production.test:", "tcp", "ok: connected");
    is_said(result, "pg.production.test:", "tls", "ok: verify-full, TLSv1.3/");
    is_said(result, "pg.production.test:", "tls", "CN=pg.production.test");
    is_said(result, "pg.production.test:", "login", "ok: as other (monitor_user) to app");
    is_said(result, "pg.production.test:", "role", "ok: primary");
    is_said(result, "pg.production.test:", "server_version", "ok: 15");
    is_said(result, "pg.production.test:", "system_identifier", identifier);
    is_said(result, "pg.production.test:", "max_connections",
            "ok: 200, 10 of them reserved; pools may open ");
    is_said(result, "pg.production.test:", "settings", "ok");
    is_said(result, "pg.production.test:", "databases", "ok");
    is_said(result, "", "primary", "ok: pg.production.test:");
}

SYSTEM_TEST(check, only_administrators_may)
{
    struct proxy *proxy = proxy_before(cluster_shared()->port, "pg.production.test", "", "");
    PGconn *stats = client_open(proxy, "user=stats dbname=pgstage");

    cr_assert_str_eq(client_sqlstate(stats, "CHECK tested"), "42501");
    cr_assert_str_eq(client_sqlstate(proxy_console(proxy), "CHECK nowhere"), "3D000");
}

SYSTEM_TEST(check, a_login_is_found_and_named)
{
    /* without monitor_user: the forced user, else a password of auth_file */
    struct proxy *proxy = proxy_before(cluster_shared()->port, "pg.production.test", "",
                                       "forced = dbname=db2 user=user_scram password=secret\n");

    is_said(checked(proxy, "app@tested"), "", "login", "(the first password of auth_file)");
    is_said(checked(proxy, "forced@tested"), "", "login",
            "ok: as user_scram (the forced user) to db2");
}

SYSTEM_TEST(check, a_refused_login_tells_the_servers_own_words)
{
    struct proxy *wrong =
        proxy_before(cluster_shared()->port, "pg.production.test",
                     "monitor_user = user_scram\nmonitor_password = nonsense\n", "");
    struct proxy *none = proxy_before(cluster_shared()->port, "pg.production.test",
                                      "monitor_user = user_scram\n", "");

    is_said(checked(wrong, "tested"), "", "login", "error: as user_scram (monitor_user) to app");
    is_said(checked(wrong, "tested"), "", "login", "auth: password authentication failed");
    is_said(checked(wrong, "tested"), "", "login", "(28P01)");
    is_said(checked(none, "tested"), "", "login", "asks for a password, and none is known");
}

SYSTEM_TEST(check, a_missing_database_is_named)
{
    struct proxy *proxy = proxy_before(cluster_shared()->port, "pg.production.test",
                                       "monitor_user = other\n", "gone = dbname=it's\\gone\n");

    is_said(checked(proxy, "tested"), "", "databases", "error: the server has none of this name");
    is_said(checked(proxy, "tested"), "", "databases", "it's\\gone");
    is_said(checked(proxy, "gone@tested"), "", "login", "(3D000)");
}

SYSTEM_TEST(check, pools_that_exceed_the_server_are_a_warning)
{
    struct proxy *proxy =
        proxy_before(cluster_shared()->port, "pg.production.test",
                     "monitor_user = other\npool_size = 150\n", "second = dbname=db2\n");

    is_said(checked(proxy, "tested"), "", "max_connections", "warning: 200, 10 of them reserved");
    is_said(checked(proxy, "tested"), "", "max_connections", "and 300 more for each further user");
}

SYSTEM_TEST(check, a_refused_connection_a_wrong_port_and_a_silent_server_end_in_time)
{
    struct fake *silent = fake_start(hang, NULL);
    int nobody = port_take();
    struct proxy *proxy = proxy_start(
        "check_timeout = 12\n"
        "[environment tested]\nclass = staging\nclient_tls_sslmode = disable\n"
        "server_tls_ca_file = %s\nmonitor_user = other\nhosts = a.test@127.0.0.1:%d, "
        "b.test@127.0.0.1:%d, "
        "c.invalid:5432, pg.production.test@127.0.0.1:%d\n[databases]\napp@tested = dbname=app\n",
        pki_shared_ca()->certificate, nobody, silent->port, cluster_shared()->port);
    int64_t start = now_ms();
    PGresult *result = checked(proxy, "tested");

    cr_assert_leq(now_ms() - start, PATIENCE_MS);
    is_said(result, "a.test", "tcp", "error: refused: Connection refused");
    is_said(result, "b.test", "tls", "error: ");
    is_said(result, "c.invalid", "dns", "error: dns: ");
    is_said(result, "pg.production.test", "role", "ok: primary");
}

/* ---- auth_query ---- */

/* What the row of auth_query says with these lines of the environment and of [databases]. */
static const char *auth_query_said(const char *more, const char *lines, const char *target)
{
    struct proxy *proxy = proxy_before(cluster_shared()->port, "pg.production.test",
                                       text_of("monitor_user = other\n%s", more), lines);
    const char *text = said(checked(proxy, target), "pg.production.test:", "auth_query");

    proxy_stop(proxy);
    return text;
}

SYSTEM_TEST(check, auth_query_is_tried_for_auth_user_itself)
{
    cr_assert_str_eq(auth_query_said("", "", "tested"), "none", "nobody is asked for");
    cr_assert_str_eq(auth_query_said("auth_user = postgres\n", "", "tested"),
                     "ok: as postgres to app: asked for postgres itself, it answered");
    cr_assert_str_eq(auth_query_said("auth_user = other\nauth_query = SELECT $1, 'x' WHERE false\n",
                                     "", "tested"),
                     "ok: as other to app: asked for other itself, it answered that there is no "
                     "such user");
    /* in the database that is asked, though another one stands first */
    cr_assert_str_eq(auth_query_said("auth_user = postgres\nauth_dbname = secrets\n",
                                     "secrets = dbname=db2\n", "tested"),
                     "ok: as postgres to db2: asked for postgres itself, it answered");
}

SYSTEM_TEST(check, an_auth_query_that_would_let_nobody_in_is_an_error)
{
    cr_assert_str_eq(auth_query_said("auth_user = other\n", "", "tested"),
                     "error: as other to app: server: permission denied for table pg_authid "
                     "(42501)");
    cr_assert_str_eq(
        auth_query_said("auth_user = other\nauth_query = SELECT 'another'::text, $1::text\n", "",
                        "tested"),
        "error: as other to app: auth_query gave another user than it was asked for");
    cr_assert_str_eq(
        auth_query_said(
            "auth_user = other\nauth_query = SELECT $1::text, 'x', now() - interval '1 day'\n", "",
            "tested"),
        "ok: as other to app: asked for other itself, it answered");
    proxy_set_users("\"admin\" \"adminsecret\"\n");
    const char *text = auth_query_said("auth_user = user_scram\n", "", "tested");
    cr_assert_has(text, "error: as user_scram to app: auth: ");
    cr_assert_has(text, "asks for a password, and none is known");
}

/* ---- a primary and its standby ---- */

SYSTEM_TEST(check, a_standby_is_told_from_its_primary)
{
    struct cluster *primary = cluster_start(NULL);
    struct cluster *standby = cluster_standby(primary, NULL);
    struct proxy *proxy =
        proxy_start("[environment pair]\nclass = local_development\nmonitor_user = other\n"
                    "hosts = 127.0.0.1:%d, 127.0.0.1:%d\npool_size = 5\n"
                    "[environment site]\nclass = local_development\nmonitor_user = other\n"
                    "hosts = 127.0.0.1:%d\ndr_hosts = 127.0.0.1:%d\npool_size = 7\n"
                    "[databases]\napp@pair = dbname=app\napp@site = dbname=app\n",
                    standby->port, primary->port, primary->port, standby->port);
    PGresult *result = checked(proxy, "pair");
    const char *first = text_of("127.0.0.1:%d", standby->port);
    const char *second = text_of("127.0.0.1:%d", primary->port);

    cr_assert_eq(errors(result), 0);
    is_said(result, first, "role", "ok: standby");
    is_said(result, first, "lag", "bytes received and not replayed");
    is_said(result, second, "role", "ok: primary");
    cr_assert_str_eq(said(result, second, "lag"), "none");
    is_said(result, "", "primary", text_of("ok: %s", second));
    /* what a DR failover would bring to it is held against its limit, too */
    is_said(checked(proxy, "site"), first, "max_connections", "pools may open 12, and 12 more");
    cluster_end(primary, CLUSTER_FAST);
    cr_assert(until(cluster_number(standby, "SELECT count(*) FROM pg_stat_wal_receiver") == 0,
                    PATIENCE_MS));
    result = checked(proxy, "pair");
    is_said(result, first, "role", "warning: standby that follows nobody");
    is_said(result, second, "tcp", "error: refused");
    is_said(result, "", "primary", "error: none of the hosts that answered");
}

SYSTEM_TEST(check, two_clusters_in_one_environment_are_an_error)
{
    struct cluster *other = cluster_start(NULL);
    char *copied = cluster_value(other, "SELECT system_identifier FROM pg_control_system()");
    struct proxy *proxy =
        proxy_start("[environment pair]\nclass = local_development\nmonitor_user = other\n"
                    "hosts = 127.0.0.1:%d, 127.0.0.1:%d\n[databases]\napp@pair = dbname=app\n",
                    cluster_shared()->port, other->port);

    /* both are unpacked from one initdb, so they share an identifier: two primaries are seen */
    cr_assert_neq(*copied, '\0');
    is_said(checked(proxy, "pair"), "", "primary", "error: several hosts take writes");
}

/* ---- the process ---- */

SYSTEM_TEST(check, a_cancel_ends_it)
{
    struct fake *silent = fake_start(hang, NULL);
    struct proxy *proxy = proxy_before(silent->port, "pg.production.test", "", "");
    PGconn *console = proxy_console(proxy);
    char problem[256];

    PGcancel *cancel = PQgetCancel(console);

    client_start(console, "CHECK tested");
    /* one that comes before the command has no effect */
    cr_assert(
        until((PQcancel(cancel, problem, sizeof problem), client_is_ready(console)), PATIENCE_MS));
    cr_assert_str_eq(client_finish(console, PATIENCE_MS), "57014");
    PQfreeCancel(cancel);
    client_do(console, "SHOW VERSION");
}

SYSTEM_TEST(check, it_ends_with_its_client_and_with_the_process)
{
    struct fake *silent = fake_start(hang, NULL);
    struct proxy *proxy = proxy_before(silent->port, "pg.production.test", "", "");
    PGconn *leaving = client_open(proxy, "user=admin dbname=pgstage");
    PGconn *staying = client_open(proxy, "user=admin dbname=pgstage");

    client_start(leaving, "CHECK tested");
    /* probes of the host may be among those that came */
    cr_assert(until(atomic_load(&silent->accepted) >= 1, PATIENCE_MS));
    PQfinish(leaving);
    long before = atomic_load(&silent->accepted);
    client_start(staying, "CHECK tested");
    cr_assert(until(atomic_load(&silent->accepted) > before, PATIENCE_MS));
    proxy_stop(proxy);
}

static int run_deep(const struct proxy *proxy, char *const *environment, const char *option,
                    char **output)
{
    char *arguments[] = {text_of("%s", program_binary()),
                         "--check",
                         "--deep",
                         text_of("%s", option ? option : proxy->file),
                         option ? proxy->file : NULL,
                         NULL};
    struct process_options options = {.environment = environment};

    return process_run(arguments, &options, output);
}

SYSTEM_TEST(check, deep_prints_the_same_and_exits_with_1_on_errors)
{
    struct proxy *good =
        proxy_before(cluster_shared()->port, "pg.production.test", "monitor_user = other\n", "");
    struct proxy *bad =
        proxy_before(cluster_shared()->port, "pg.elsewhere.test", "monitor_user = other\n", "");
    char *output;

    cr_assert_eq(run_deep(good, NULL, NULL, &output), 0, "%s", output);
    cr_assert_has(output, "as other (monitor_user) to app");
    cr_assert_has(output, "0 errors");
    cr_assert_eq(run_deep(bad, NULL, NULL, &output), 1, "%s", output);
    cr_assert_has(output, "hostname mismatch");
    cr_assert_eq(run_deep(good, NULL, "--json", &output), 0, "%s", output);
    cr_assert_has(output, "\"checks\": [");
    cr_assert_has(output, "\"check\": \"tls\", \"result\": \"ok\"");
    cr_assert_eq(run_deep(bad, NULL, "--json", &output), 1, "%s", output);
}

/* What libpq would take from the process's environment; most of it breaks every connection. */
static char *const hostile[] = {
    "PGHOSTADDR=192.0.2.1",
    "PGHOST=192.0.2.1",
    "PGPORT=1",
    "PGUSER=nobody",
    "PGPASSWORD=wrong",
    "PGPASSFILE=/dev/null/x",
    "PGDATABASE=nowhere",
    "PGOPTIONS=-c default_transaction_read_only=on",
    "PGSERVICE=none",
    "PGSYSCONFDIR=/nowhere",
    "PGSSLMODE=disable",
    "PGSSLROOTCERT=/nowhere",
    "PGSSLCRL=/nowhere",
    "PGSSLCERT=/nowhere",
    "PGSSLKEY=/nowhere",
    NULL,
};

SYSTEM_TEST(check, no_variable_of_libpq_has_an_effect)
{
    struct proxy_options options = {.environment = hostile};
    struct proxy *proxy = proxy_start_with(
        &options,
        "check_timeout = 5\n[environment tested]\nclass = staging\nclient_tls_sslmode = disable\n"
        "server_tls_ca_file = %s\nhosts = pg.production.test@127.0.0.1:%d\n"
        "monitor_user = other\n[databases]\napp@tested = dbname=app\n",
        pki_shared_ca()->certificate, cluster_shared()->port);
    PGresult *result = checked(proxy, "tested");
    char *output;

    cr_assert_eq(errors(result), 0, "%s", said(result, "", "login"));
    is_said(result, "", "login", "ok: as other (monitor_user) to app");
    is_said(result, "", "settings", "ok");
    cr_assert_eq(run_deep(proxy, hostile, NULL, &output), 0, "%s", output);
}

SYSTEM_TEST(check, such_a_variable_still_serves_the_configuration)
{
    char *variables[] = {"PGPASSWORD=secret", NULL};
    struct proxy_options options = {.environment = variables};
    struct proxy *proxy =
        proxy_start_with(&options, "[databases]\napp = %s user=user_scram password=${PGPASSWORD}\n",
                         cluster_route(cluster_shared()));

    is_said(checked(proxy, "app"), "", "login", "ok: as user_scram (the forced user)");
    cr_assert_null(proxy_reload(proxy));
    is_said(checked(proxy, ""), "", "login", "ok: as user_scram (the forced user)");
}

SYSTEM_TEST(check, queries_go_on_meanwhile)
{
    struct fake *silent = fake_start(hang, NULL);
    struct proxy *proxy = proxy_start("check_timeout = 10\n[databases]\n* = %s\nslow = %s\n",
                                      cluster_route(cluster_shared()), fake_route(silent));
    PGconn *console = proxy_console(proxy), *client = client_open(proxy, NULL);

    client_start(console, "CHECK slow");
    cr_assert(until(atomic_load(&silent->accepted) > 0, PATIENCE_MS));
    cr_assert_eq(client_number(client, "SELECT 41 + 1"), 42);
    cr_assert(!client_is_ready(console));
    cr_assert_str_eq(client_finish(console, PATIENCE_MS), "");
}

/* ---- Unix sockets ---- */

static struct proxy *proxy_before_socket(const char *peer)
{
    return proxy_start("check_timeout = 30\nserver_login_retry = 1\nquery_wait_timeout = 8\n"
                       "[environment near]\nclass = staging\nclient_tls_sslmode = disable\n"
                       "server_tls_ca_file = %s\nhosts = %s:%d\nmonitor_user = other\n%s"
                       "[databases]\napp@near = dbname=app\n"
                       "old = host=%s port=%d dbname=app user=other\n",
                       pki_shared_ca()->certificate, cluster_shared()->socket_folder,
                       cluster_shared()->port, peer, cluster_shared()->socket_folder,
                       cluster_shared()->port);
}

SYSTEM_TEST(check, a_server_behind_a_unix_socket_is_checked_too)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_before_socket(text_of("server_peer_user = %s\n", program_user()));
    PGresult *result = checked(proxy, "near");
    const char *folder = cluster_shared()->socket_folder;
    const char *number = text_of("server_peer_user = %u\n", (unsigned)program_uid());

    cr_assert_eq(errors(result), 0, "%s", said(result, "", "login"));
    is_said(result, folder, "tcp", "ok: a Unix socket");
    is_said(result, folder, "tls", "a Unix socket crosses no wire");
    is_said(result, folder, "login", "ok: as other (monitor_user) to app");
    is_said(result, folder, "role", "ok: primary");
    /* and one in no environment */
    result = checked(proxy, "old");
    cr_assert_eq(errors(result), 0, "%s", said(result, "", "login"));
    is_said(result, folder, "tcp", "ok: a Unix socket");
    client_do(client_open(proxy, "dbname=app@near"), "SELECT 1");
    /* the user's number means the same */
    result = checked(proxy_before_socket(number), "near");
    cr_assert_eq(errors(result), 0, "%s", said(result, "", "login"));
}

SYSTEM_TEST(check, a_server_that_another_user_started_is_an_error)
{
    SKIP_ON_PGBOUNCER();
    static const char *const strangers[] = {"daemon", "1"}; /* the same by name and by number */

    for (int i = 0; i < 2; i++) {
        struct proxy *proxy = proxy_before_socket(text_of("server_peer_user = %s\n", strangers[i]));
        PGresult *result = checked(proxy, "near");

        cr_assert(errors(result) > 0);
        is_said(result, cluster_shared()->socket_folder, "login", "error: ");
        cr_assert_has(client_refusal(proxy, "dbname=app@near"), "server_peer_user");
    }
}

SYSTEM_TEST(check, a_socket_that_is_not_there_is_an_error)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("check_timeout = 30\n[databases]\nold = host=%s port=1 "
                                      "dbname=app\n",
                                      test_folder());
    PGresult *result = checked(proxy, "old");

    cr_assert(errors(result) > 0);
    is_said(result, test_folder(), "tcp", "error: ");
}
