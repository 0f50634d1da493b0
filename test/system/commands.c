/*
 * commands: what administrators do on the console, and who may not.
 */
#include "system.h"

SYSTEM_SUITE(commands);

static struct proxy *transaction_proxy(void)
{
    return proxy_start("pool_mode = transaction\ndefault_pool_size = 2\n");
}

static long servers(struct proxy *proxy)
{
    return proxy_rows(proxy, "SERVERS", "database", "app");
}

SYSTEM_TEST(commands, both_names_of_the_console_work)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = transaction_proxy();

    cr_assert_eq(PQntuples(PQexec(client_open(proxy, "user=admin dbname=pgstage"), "SHOW VERSION")),
                 1);
    cr_assert_eq(
        PQntuples(PQexec(client_open(proxy, "user=admin dbname=pgbouncer"), "SHOW VERSION")), 1);
}

SYSTEM_TEST(commands, only_admin_and_stats_users_get_in)
{
    struct proxy *proxy = proxy_start("auth_type = plain\n");

    client_open(proxy, "user=admin password=adminsecret dbname=pgbouncer");
    client_open(proxy, "user=stats password=statssecret dbname=pgbouncer");
    char *text = client_refusal(proxy, "user=app password=appsecret dbname=pgbouncer");
    cr_assert_has(text, "not allowed");
    client_refusal(proxy, "user=admin password=wrong dbname=pgbouncer");
}

SYSTEM_TEST(commands, stats_users_may_look_but_not_touch)
{
    struct proxy *proxy = transaction_proxy();
    PGconn *stats = client_open(proxy, "user=stats dbname=pgbouncer");
    static const char *const forbidden[] = {
        "RELOAD",   "PAUSE",      "RESUME",   "DISABLE app",           "ENABLE app",   "RECONNECT",
        "KILL app", "WAIT_CLOSE", "SHUTDOWN", "SET query_timeout = 1", "KILL_CLIENT 1"};
    size_t i;

    cr_assert_geq(PQntuples(PQexec(stats, "SHOW POOLS")), 0);
    for (i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
        PGresult *result = PQexec(stats, forbidden[i]);

        cr_assert_eq(PQresultStatus(result), PGRES_FATAL_ERROR, "%s", forbidden[i]);
        if (!program_is_pgbouncer())
            cr_assert_str_eq(PQresultErrorField(result, PG_DIAG_SQLSTATE), "42501", "%s",
                             forbidden[i]);
        PGresult *extended = PQexecParams(stats, forbidden[i], 0, NULL, NULL, NULL, NULL, 0);
        cr_assert_eq(PQresultStatus(extended), PGRES_FATAL_ERROR, "%s", forbidden[i]);
    }
    cr_assert(proxy_is_alive(proxy));
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(commands, the_same_system_user_needs_no_password_over_the_unix_socket)
{
    struct proxy *proxy = proxy_start("auth_type = plain\n");
    char *query[] = {"psql",
                     "-X",
                     "-w",
                     "-A",
                     "-t",
                     "-c",
                     "SHOW VERSION",
                     text_of("host=%s port=%d user=pgbouncer dbname=pgbouncer",
                             proxy->socket_folder, proxy->port),
                     NULL};
    struct process_options other = {.keep_user = true};
    char *output;

    cr_assert_eq(process_run(query, NULL, &output), 0, "%s", output);
    if (geteuid() == 0 && program_uid() != 0)
        cr_assert_neq(process_run(query, &other, &output), 0, "another system user got in");
    client_refusal(proxy, "user=pgbouncer dbname=pgbouncer");
}

SYSTEM_TEST(commands, pause_waits_for_transactions_and_resume_goes_on)
{
    struct proxy *proxy = transaction_proxy();
    PGconn *busy = client_open(proxy, NULL);
    PGconn *waiting = client_open(proxy, NULL);
    PGconn *admin = client_open(proxy, "user=admin dbname=pgbouncer");

    client_do(waiting, "SELECT 1");
    client_do(busy, "BEGIN");
    client_start(admin, "PAUSE app");
    cr_assert(until(proxy_figure(proxy, "DATABASES", "name", "app", "paused") == 1, PATIENCE_MS));
    client_do(busy, "SELECT 1");
    client_start(waiting, "SELECT 'after the pause'");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    cr_assert_not(client_is_ready(admin));
    client_do(busy, "COMMIT");
    cr_assert_str_eq(client_finish(admin, PATIENCE_MS), "");
    cr_assert_eq(servers(proxy), 0);
    cr_assert_not(client_is_ready(waiting));
    client_do(admin, "RESUME app");
    cr_assert_str_eq(client_finish(waiting, PATIENCE_MS), "");
}

SYSTEM_TEST(commands, pause_of_all_databases_under_load_loses_nothing)
{
    struct proxy *proxy = transaction_proxy();
    struct load_options options = {.clients = 10};
    struct load *load = load_start(proxy, &options);
    int i;

    for (i = 0; i < 5; i++) {
        long before = load_done(load);

        cr_assert(until(load_done(load) > before + 5, PATIENCE_MS));
        proxy_do(proxy, "PAUSE");
        long paused = load_done(load);
        cr_assert_eq(servers(proxy), 0);
        cr_assert_leq(load_done(load), paused + 10);
        proxy_do(proxy, "RESUME");
    }
    load_stop(load);
    cr_assert_eq(load_errors(load) + load_lost(load), 0, "%s", load_first_error(load));
}

SYSTEM_TEST(commands, a_new_client_of_a_paused_database_waits_for_resume)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = transaction_proxy();

    client_do(client_open(proxy, NULL), "SELECT 1");
    proxy_do(proxy, "PAUSE");
    cr_assert_str_eq(PQgetvalue(proxy_show(proxy, "STATE"), 0, 1), "no");
    PGconn *fresh = PQconnectStart(client_conninfo(proxy, NULL));
    PostgresPollingStatusType step = PGRES_POLLING_WRITING;
    cr_assert_not_null(fresh);
    /* the login may complete from what is known, but no query is served */
    until((step = PQconnectPoll(fresh), step == PGRES_POLLING_OK || step == PGRES_POLLING_FAILED),
          700);
    cr_assert_neq(step, PGRES_POLLING_FAILED, "%s", PQerrorMessage(fresh));
    if (step == PGRES_POLLING_OK) {
        client_start(fresh, "SELECT 1");
        pause_ms(200);
        cr_assert_not(client_is_ready(fresh));
        proxy_do(proxy, "RESUME");
        cr_assert_str_eq(client_finish(fresh, PATIENCE_MS), "");
        return;
    }
    proxy_do(proxy, "RESUME");
    cr_assert(until((step = PQconnectPoll(fresh), step == PGRES_POLLING_OK), PATIENCE_MS));
    client_do(fresh, "SELECT 1");
}

SYSTEM_TEST(commands, a_cancelled_pause_resumes)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = transaction_proxy();
    PGconn *busy = client_open(proxy, NULL);
    PGconn *admin = client_open(proxy, "user=admin dbname=pgbouncer");
    char problem[256];

    client_do(busy, "BEGIN");
    client_start(admin, "PAUSE");
    cr_assert(until(strcmp(PQgetvalue(proxy_show(proxy, "STATE"), 0, 1), "yes"), PATIENCE_MS));
    cr_assert(PQcancel(PQgetCancel(admin), problem, sizeof problem));
    cr_assert_str_neq(client_finish(admin, PATIENCE_MS), "");
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(commands, disable_refuses_new_clients_and_enable_lets_them_in)
{
    struct proxy *proxy = transaction_proxy();
    PGconn *client = client_open(proxy, NULL);

    client_do(client, "SELECT 1");
    proxy_do(proxy, "DISABLE app");
    char *text = client_refusal(proxy, NULL);
    cr_assert(strstr(text, "is disabled") || strstr(text, "does not allow connections"), "%s",
              text);
    client_do(client, "SELECT 1");
    client_do(client_open(proxy, "dbname=db2"), "SELECT 1");
    proxy_do(proxy, "ENABLE app");
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(commands, reconnect_replaces_servers_when_they_are_free)
{
    struct proxy *proxy = transaction_proxy();
    PGconn *client = client_open(proxy, NULL);
    PGconn *busy = client_open(proxy, NULL);
    int backend = client_backend(client), held;

    client_do(busy, "BEGIN");
    held = client_backend(busy);
    proxy_do(proxy, "RECONNECT app");
    cr_assert_eq(client_backend(busy), held);
    client_do(busy, "COMMIT");
    cr_assert_neq(client_backend(busy), held);
    int fresh = client_backend(client);
    cr_assert(fresh != backend && fresh != held);
}

SYSTEM_TEST(commands, wait_close_answers_when_the_old_servers_are_gone)
{
    struct proxy *proxy = transaction_proxy();
    PGconn *busy = client_open(proxy, NULL);
    PGconn *admin = client_open(proxy, "user=admin dbname=pgbouncer");

    client_do(busy, "BEGIN");
    client_do(admin, "RECONNECT app");
    client_start(admin, "WAIT_CLOSE app");
    pause_ms(200);
    cr_assert_not(client_is_ready(admin));
    client_do(busy, "COMMIT");
    cr_assert_str_eq(client_finish(admin, PATIENCE_MS), "");
}

SYSTEM_TEST(commands, kill_ends_clients_and_servers_until_resume)
{
    struct proxy *proxy = transaction_proxy();
    PGconn *client = client_open(proxy, NULL);
    PGconn *other = client_open(proxy, "dbname=db2");
    struct wire *wire = wire_client(proxy);

    client_do(client, "BEGIN");
    client_do(other, "BEGIN");
    proxy_do(proxy, "KILL app");
    cr_assert(client_is_closed(client, PATIENCE_MS));
    char *error = wire_error(wire, PATIENCE_MS);
    if (!program_is_pgbouncer())
        cr_assert_has(error, "FATAL 57P01");
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
    cr_assert(until(servers(proxy) == 0, PATIENCE_MS));
    client_do(other, "COMMIT");
    proxy_do(proxy, "RESUME app");
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(commands, kill_client_ends_just_that_one)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = transaction_proxy();
    PGconn *first = client_open(proxy, "application_name=victim");
    PGconn *second = client_open(proxy, NULL);
    long id = proxy_figure(proxy, "CLIENTS", "application_name", "victim", "id");

    client_do(second, "SELECT 1");
    proxy_do(proxy, text_of("KILL_CLIENT %ld", id));
    cr_assert(client_is_closed(first, PATIENCE_MS));
    client_do(second, "SELECT 1");
    cr_assert_str_neq(client_sqlstate(proxy_console(proxy), text_of("KILL_CLIENT %ld", id)), "");
}

SYSTEM_TEST(commands, set_changes_an_option_for_the_running_process)
{
    struct proxy *proxy = transaction_proxy();
    PGconn *first = client_open(proxy, NULL);
    struct wire *waiting = wire_client(proxy);
    PGconn *second = client_open(proxy, NULL);

    client_do(first, "BEGIN");
    client_do(second, "BEGIN");
    proxy_do(proxy, "SET query_wait_timeout = 1");
    cr_assert_eq(proxy_figure(proxy, "CONFIG", "key", "query_wait_timeout", "value"), 1);
    wire_query(waiting, "SELECT 1");
    cr_assert_has(wire_error(waiting, PATIENCE_MS), "query_wait_timeout");
    cr_assert_str_neq(client_sqlstate(proxy_console(proxy), "SET no_such_option = 1"), "");
    cr_assert_str_neq(client_sqlstate(proxy_console(proxy), "SET query_wait_timeout = soon"), "");
    cr_assert_eq(proxy_figure(proxy, "CONFIG", "key", "query_wait_timeout", "value"), 1);
}

SYSTEM_TEST(commands, an_unknown_database_is_an_error)
{
    struct proxy *proxy = proxy_start("[databases]\napp = %s\n", cluster_route(cluster_shared()));
    PGconn *admin = proxy_console(proxy);
    static const char *const words[] = {"PAUSE", "RESUME", "DISABLE", "ENABLE", "KILL"};
    size_t i;

    for (i = 0; i < 5; i++) {
        PGresult *result = PQexec(admin, text_of("%s nosuch", words[i]));

        cr_assert_eq(PQresultStatus(result), PGRES_FATAL_ERROR, "%s", words[i]);
    }
}

SYSTEM_TEST(commands, what_changes_something_is_in_the_log)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = transaction_proxy();

    proxy_do(proxy, "PAUSE");
    proxy_do(proxy, "RESUME");
    proxy_do(proxy, "SET query_timeout = 7");
    cr_assert(until(proxy_logged(proxy, "PAUSE") && proxy_logged(proxy, "RESUME") &&
                        proxy_logged(proxy, "query_timeout"),
                    PATIENCE_MS));
    cr_assert(until(proxy_logged(proxy, "admin"), PATIENCE_MS));
}

SYSTEM_TEST(commands, shutdown_ends_the_process_at_once)
{
    struct proxy *proxy = transaction_proxy();
    PGconn *client = client_open(proxy, NULL);
    PGconn *admin = client_open(proxy, "user=admin dbname=pgbouncer");

    client_do(client, "BEGIN");
    PQclear(PQexec(admin, "SHUTDOWN"));
    cr_assert_leq(proxy_wait(proxy, PATIENCE_MS), 1);
    cr_assert(client_is_closed(client, PATIENCE_MS));
}

SYSTEM_TEST(commands, shutdown_wait_for_servers_lets_transactions_end)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = transaction_proxy();
    PGconn *busy = client_open(proxy, NULL);
    struct wire *idle = wire_client(proxy);
    PGconn *admin = client_open(proxy, "user=admin dbname=pgbouncer");

    client_do(busy, "BEGIN");
    client_do(busy, "SELECT 1");
    PQclear(PQexec(admin, "SHUTDOWN WAIT_FOR_SERVERS"));
    cr_assert_has(wire_error(idle, PATIENCE_MS), "57P01");
    client_do(busy, "SELECT 2");
    cr_assert(proxy_is_alive(proxy));
    client_do(busy, "COMMIT");
    cr_assert_eq(proxy_wait(proxy, PATIENCE_MS), 0);
}

/* Nobody gets in any more (who still did, left again). */
static bool refuses(const struct proxy *proxy)
{
    PGconn *late = client_try(proxy, NULL);
    bool refused = PQstatus(late) == CONNECTION_BAD;

    PQfinish(late);
    return refused;
}

SYSTEM_TEST(commands, shutdown_wait_for_clients_lets_clients_go_when_they_like)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = transaction_proxy();
    PGconn *client = client_open(proxy, NULL);
    PGconn *admin = client_open(proxy, "user=admin dbname=pgbouncer");

    client_do(client, "SELECT 1");
    PQclear(PQexec(admin, "SHUTDOWN WAIT_FOR_CLIENTS"));
    PQfinish(admin);
    client_do(client, "SELECT 2");
    cr_assert(until(refuses(proxy), PATIENCE_MS));
    client_do(client, "SELECT 3");
    PQfinish(client);
    cr_assert_eq(proxy_wait(proxy, PATIENCE_MS), 0);
}

SYSTEM_TEST(commands, several_administrators_do_not_get_in_each_others_way)
{
    struct proxy *proxy = transaction_proxy();
    PGconn *admins[10];
    int i, round;

    for (i = 0; i < 10; i++)
        admins[i] = client_open(proxy, "user=admin dbname=pgbouncer");
    for (round = 0; round < 20; round++) {
        for (i = 0; i < 10; i++)
            client_start(admins[i], i % 2 ? "SHOW POOLS" : "SHOW CLIENTS");
        for (i = 0; i < 10; i++)
            cr_assert_str_eq(client_finish(admins[i], PATIENCE_MS), "");
    }
}
