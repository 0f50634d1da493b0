/*
 * limits: how many servers and clients there may be, exactly, whatever the number of workers.
 */
#include "system.h"

SYSTEM_SUITE(limits);

static const char CLIENTS_TEXT[] = "no more connections allowed";

/* How many backends of `user` PostgreSQL has for database app. */
static long backends(const char *user)
{
    return cluster_number(cluster_shared(),
                          text_of("SELECT count(*) FROM pg_stat_activity WHERE usename = '%s' AND "
                                  "application_name <> 'direct'",
                                  user));
}

/* Opens `count` clients that each sit in a transaction, or wait for that. */
static void begin_all(const struct proxy *proxy, PGconn **clients, int count, const char *extra)
{
    int i;

    for (i = 0; i < count; i++)
        clients[i] = client_open(proxy, extra);
    for (i = 0; i < count; i++)
        client_start(clients[i], "BEGIN");
}

static int ready_count(PGconn **clients, int count)
{
    int ready = 0, i;

    for (i = 0; i < count; i++)
        ready += client_is_ready(clients[i]);
    return ready;
}

SYSTEM_TEST(limits, default_pool_size_is_exact_under_fifty_clients)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 7\n");
    PGconn *clients[50];
    int served = 0, i;

    begin_all(proxy, clients, 50, "user=crowd");
    cr_assert(until(ready_count(clients, 50) == 7, PATIENCE_MS));
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 43, PATIENCE_MS));
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_active") == 7, PATIENCE_MS));
    cr_assert_eq(backends("crowd"), 7);
    while (served < 50) {
        for (i = 0; i < 50; i++) {
            if (!clients[i] || !client_is_ready(clients[i]))
                continue;
            cr_assert_str_eq(client_finish(clients[i], PATIENCE_MS), "");
            client_do(clients[i], "COMMIT");
            cr_assert_leq(backends("crowd"), 7);
            PQfinish(clients[i]);
            clients[i] = NULL;
            served++;
        }
    }
    cr_assert_leq(proxy_figure(proxy, "POOLS", "database", "app", "sv_idle") +
                      proxy_figure(proxy, "POOLS", "database", "app", "sv_used"),
                  7);
}

SYSTEM_TEST(limits, pool_size_holds_under_load_from_many_threads)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 5\n");
    struct load_options options = {.clients = 50, .conninfo = "user=throng"};
    struct load *load = load_start(proxy, &options);
    long most = 0;

    cr_assert(until(load_done(load) > 50, PATIENCE_MS));
    for (int64_t end = now_ms() + PATIENCE_MS;
         load_done(load) < 1000 || (most < 4 && now_ms() < end);) {
        long now = backends("throng");

        most = now > most ? now : most;
        cr_assert_leq(now, 5);
    }
    load_stop(load);
    cr_assert_eq(load_errors(load) + load_lost(load), 0, "%s", load_first_error(load));
    cr_assert_geq(most, 4);
}

SYSTEM_TEST(limits, waiting_clients_are_served_first_in_first_out)
{
    struct proxy *proxy = proxy_start("pool_mode = session\ndefault_pool_size = 1\n");
    PGconn *clients[6];
    int i;

    for (i = 0; i < 6; i++)
        clients[i] = client_open(proxy, NULL);
    client_do(clients[0], "SELECT 1");
    for (i = 1; i < 6; i++) {
        client_start(clients[i], "SELECT 1");
        cr_assert(
            until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == i, PATIENCE_MS));
        /* a waiter of the same worker may pass one who came less than a millisecond before */
        pause_ms(5);
    }
    for (i = 1; i < 6; i++) {
        PQfinish(clients[i - 1]);
        cr_assert_str_eq(client_finish(clients[i], PATIENCE_MS), "");
        cr_assert_eq(ready_count(&clients[i + 1 < 6 ? i + 1 : 5], i + 1 < 6), 0);
    }
}

SYSTEM_TEST(limits, max_client_conn_refuses_the_next_client_clearly)
{
    struct proxy *proxy = proxy_start("max_client_conn = 3\n");
    PGconn *clients[3];
    int i;

    for (i = 0; i < 3; i++)
        clients[i] = client_open(proxy, NULL);
    char *text = client_refusal(proxy, NULL);
    cr_assert_has(text, CLIENTS_TEXT);
    if (!program_is_pgbouncer())
        cr_assert_has(text, "53300");
    PQfinish(clients[1]);
    PGconn *again = NULL;
    cr_assert(
        until((again = client_try(proxy, NULL), PQstatus(again) == CONNECTION_OK), PATIENCE_MS));
    client_do(again, "SELECT 1");
    client_do(clients[0], "SELECT 1");
}

SYSTEM_TEST(limits, the_console_has_a_place_when_all_others_are_taken)
{
    struct proxy *proxy = proxy_start("max_client_conn = 2\n");

    client_open(proxy, NULL);
    client_open(proxy, NULL);
    cr_assert_has(client_refusal(proxy, NULL), CLIENTS_TEXT);
    PGconn *admin = client_open(proxy, "user=admin dbname=pgbouncer");
    PQclear(PQexec(admin, "SHOW VERSION"));
    cr_assert_eq(PQstatus(admin), CONNECTION_OK);
}

SYSTEM_TEST(limits, max_user_client_connections_counts_one_users_clients)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("max_user_client_connections = 2\n");

    client_open(proxy, NULL);
    PGconn *second = client_open(proxy, NULL);
    char *text = client_refusal(proxy, NULL);
    cr_assert_has(text, "client connections exceeded");
    cr_assert_has(text, "53300");
    client_open(proxy, "user=other");
    PQfinish(second);
    cr_assert(until(PQstatus(client_try(proxy, NULL)) == CONNECTION_OK, PATIENCE_MS));
}

SYSTEM_TEST(limits, max_db_client_connections_counts_one_databases_clients)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("max_db_client_connections = 2\n");

    client_open(proxy, NULL);
    PGconn *second = client_open(proxy, "user=other");
    char *text = client_refusal(proxy, "user=postgres");
    cr_assert_has(text, "client connections exceeded");
    cr_assert_has(text, "53300");
    client_open(proxy, "dbname=db2");
    PQfinish(second);
    cr_assert(until(PQstatus(client_try(proxy, NULL)) == CONNECTION_OK, PATIENCE_MS));
}

SYSTEM_TEST(limits, a_user_line_may_give_its_own_client_limit)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("max_user_client_connections = 5\n"
                                      "[databases]\n* = %s\n"
                                      "[users]\nother = max_user_client_connections=1\n",
                                      cluster_route(cluster_shared()));

    client_open(proxy, "user=other");
    cr_assert_has(client_refusal(proxy, "user=other"), "client connections exceeded");
    client_open(proxy, NULL);
    client_open(proxy, NULL);
}

SYSTEM_TEST(limits, refused_logins_give_their_places_back)
{
    struct proxy *proxy = proxy_start("auth_type = md5\nmax_client_conn = 5\n");
    int i;

    for (i = 0; i < 20; i++)
        cr_assert_has(client_refusal(proxy, "password=wrong"), "password authentication failed");
    for (i = 0; i < 4; i++)
        client_do(client_open(proxy, "user=user_plain password=secret"), "SELECT 1");
}

SYSTEM_TEST(limits, min_pool_size_keeps_servers_open)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nmin_pool_size = 4\n"
                                      "[databases]\napp = %s user=other\n",
                                      cluster_route(cluster_shared()));

    client_open(proxy, NULL);
    cr_assert(until(proxy_figure(proxy, "POOLS", "database", "app", "sv_idle") +
                            proxy_figure(proxy, "POOLS", "database", "app", "sv_used") ==
                        4,
                    PATIENCE_MS));
}

SYSTEM_TEST(limits, the_reserve_opens_after_its_timeout)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 2\n"
                                      "reserve_pool_size = 1\nreserve_pool_timeout = 1\n");
    PGconn *clients[5];

    int64_t start = now_ms();
    begin_all(proxy, clients, 5, NULL);
    cr_assert(until(ready_count(clients, 5) == 3, PATIENCE_MS));
    cr_assert_geq(now_ms() - start, 900);
    cr_assert(until(proxy_logged(proxy, "taking connection from reserve_pool"), PATIENCE_MS));
    cr_assert_not(until(ready_count(clients, 5) > 3, 1500));
}

SYSTEM_TEST(limits, max_db_connections_spans_the_pools_and_evicts_idle_servers)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nmax_db_connections = 2\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, "user=other");
    PGconn *third = client_open(proxy, "user=postgres");

    client_do(first, "BEGIN");
    client_do(second, "SELECT 1");
    /* other's server is idle: postgres takes its place */
    client_do(third, "BEGIN");
    cr_assert(until(proxy_rows(proxy, "SERVERS", "database", "app") == 2, PATIENCE_MS));
    client_start(second, "SELECT 1");
    cr_assert(until(proxy_figure(proxy, "POOLS", "user", "other", "cl_waiting") == 1, PATIENCE_MS));
    cr_assert(until(proxy_rows(proxy, "SERVERS", "database", "app") == 2, PATIENCE_MS));
    client_do(first, "COMMIT");
    cr_assert_str_eq(client_finish(second, PATIENCE_MS), "");
    cr_assert_leq(proxy_rows(proxy, "SERVERS", "database", "app"), 2);
    client_do(third, "COMMIT");
}

SYSTEM_TEST(limits, max_user_connections_spans_databases)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nmax_user_connections = 2\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, "dbname=db2");
    PGconn *third = client_open(proxy, "dbname=postgres");

    client_do(first, "BEGIN");
    client_do(second, "BEGIN");
    client_start(third, "SELECT 1");
    cr_assert(until(proxy_figure(proxy, "POOLS", "database", "postgres", "cl_waiting") == 1,
                    PATIENCE_MS));
    cr_assert(until(proxy_rows(proxy, "SERVERS", "user", "app") == 2, PATIENCE_MS));
    client_do(second, "COMMIT");
    cr_assert_str_eq(client_finish(third, PATIENCE_MS), "");
    client_do(first, "COMMIT");
}

SYSTEM_TEST(limits, a_pool_size_of_a_database_line_wins)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n"
                                      "[databases]\napp = %s pool_size=3\n",
                                      cluster_route(cluster_shared()));
    PGconn *clients[5];

    begin_all(proxy, clients, 5, NULL);
    cr_assert(until(ready_count(clients, 5) == 3, PATIENCE_MS));
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 2, PATIENCE_MS));
}

SYSTEM_TEST(limits, a_waiting_client_that_leaves_frees_its_place_in_the_queue)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = session\ndefault_pool_size = 1\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, NULL);
    PGconn *third = client_open(proxy, NULL);

    client_do(first, "SELECT 1");
    client_start(second, "SELECT 1");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    PQfinish(second);
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 0, PATIENCE_MS));
    client_start(third, "SELECT 1");
    PQfinish(first);
    cr_assert_str_eq(client_finish(third, PATIENCE_MS), "");
}
