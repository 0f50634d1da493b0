/*
 * pooling: when a server belongs to a client and when it is free for others, in each pool_mode.
 */
#include "system.h"

SYSTEM_SUITE(pooling);

SYSTEM_TEST(pooling, session_mode_keeps_the_server_until_the_client_leaves)
{
    struct proxy *proxy = proxy_start("pool_mode = session\ndefault_pool_size = 1\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, NULL);
    int backend = client_backend(first);

    client_start(second, "SELECT pg_backend_pid()");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    cr_assert_not(client_is_ready(second));
    cr_assert_eq(client_backend(first), backend);
    PQfinish(first);
    PGresult *result = client_result(second, PATIENCE_MS);
    cr_assert_eq(atoi(PQgetvalue(result, 0, 0)), backend);
}

SYSTEM_TEST(pooling, session_mode_runs_the_reset_query_before_the_next_client)
{
    struct proxy *proxy = proxy_start("pool_mode = session\ndefault_pool_size = 1\n");
    PGconn *first = client_open(proxy, NULL);

    client_do(first, "SET work_mem = '77kB'");
    client_do(first, "CREATE TEMPORARY TABLE session_leftover (a int)");
    int backend = client_backend(first);
    PQfinish(first);
    PGconn *second = client_open(proxy, NULL);
    cr_assert_eq(client_backend(second), backend);
    cr_assert_str_neq(client_value(second, "SHOW work_mem"), "77kB");
    cr_assert_str_eq(client_sqlstate(second, "SELECT * FROM session_leftover"), "42P01");
}

SYSTEM_TEST(pooling, the_reset_query_is_the_one_that_is_configured)
{
    struct proxy *proxy = proxy_start("pool_mode = session\ndefault_pool_size = 1\n"
                                      "server_reset_query = SET work_mem = '99kB'\n");
    PGconn *first = client_open(proxy, NULL);

    client_do(first, "SET temp_buffers = '1234kB'");
    PQfinish(first);
    PGconn *second = client_open(proxy, NULL);
    cr_assert_str_eq(client_value(second, "SHOW work_mem"), "99kB");
    cr_assert_str_eq(client_value(second, "SHOW temp_buffers"), "1232kB");
}

SYSTEM_TEST(pooling, transaction_mode_shares_one_server_between_transactions)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, NULL);
    int backend = client_backend(first);

    cr_assert_eq(client_backend(second), backend);
    cr_assert_eq(client_backend(first), backend);
}

SYSTEM_TEST(pooling, transaction_mode_keeps_the_server_within_a_transaction)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, NULL);

    client_do(first, "BEGIN");
    int backend = client_backend(first);
    client_start(second, "SELECT 1");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    cr_assert_eq(client_backend(first), backend);
    cr_assert_not(client_is_ready(second));
    client_do(first, "COMMIT");
    cr_assert_str_eq(client_finish(second, PATIENCE_MS), "");
}

SYSTEM_TEST(pooling, a_failed_transaction_keeps_the_server_until_rollback)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, NULL);

    client_do(first, "BEGIN");
    cr_assert_str_eq(client_sqlstate(first, "SELECT 1/0"), "22012");
    client_start(second, "SELECT 1");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    cr_assert_str_eq(client_sqlstate(first, "SELECT 1"), "25P02");
    cr_assert_not(client_is_ready(second));
    client_do(first, "ROLLBACK");
    cr_assert_str_eq(client_finish(second, PATIENCE_MS), "");
}

SYSTEM_TEST(pooling, transaction_mode_does_not_run_the_reset_query)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *first = client_open(proxy, NULL);

    client_do(first, "SET work_mem = '77kB'");
    cr_assert_str_eq(client_value(first, "SHOW work_mem"), "77kB");
}

SYSTEM_TEST(pooling, server_reset_query_always_runs_it_after_each_transaction)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n"
                                      "server_reset_query_always = 1\n");
    PGconn *first = client_open(proxy, NULL);

    /* hidden from pgstage, which would let a plain SET follow its client */
    client_do(first, "DO $$ BEGIN SET work_mem = '77kB'; END $$");
    cr_assert_str_neq(client_value(first, "SHOW work_mem"), "77kB");
}

SYSTEM_TEST(pooling, statement_mode_refuses_transactions_of_several_statements)
{
    struct proxy *proxy = proxy_start("pool_mode = statement\n");
    PGconn *client = client_open(proxy, NULL);

    cr_assert_str_eq(client_value(client, "SELECT 'one'"), "one");
    char *text = client_error(client, "BEGIN");
    cr_assert_has(text, "transaction blocks not allowed in statement pooling mode");
}

SYSTEM_TEST(pooling, the_mode_of_a_database_line_wins_over_the_global_one)
{
    struct proxy *proxy = proxy_start("pool_mode = session\n"
                                      "[databases]\n"
                                      "app = %s pool_mode=transaction pool_size=1\n",
                                      cluster_route(cluster_shared()));
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, NULL);

    cr_assert_eq(client_backend(first), client_backend(second));
}

SYSTEM_TEST(pooling, the_mode_of_a_user_line_wins_over_the_databases)
{
    struct proxy *proxy = proxy_start("pool_mode = session\n"
                                      "[databases]\n"
                                      "app = %s pool_mode=session pool_size=1\n"
                                      "[users]\n"
                                      "app = pool_mode=transaction\n",
                                      cluster_route(cluster_shared()));
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, NULL);

    cr_assert_eq(client_backend(first), client_backend(second));
}

SYSTEM_TEST(pooling, different_users_never_share_a_server)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, "user=other");

    cr_assert_neq(client_backend(first), client_backend(second));
    cr_assert_str_eq(client_value(first, "SELECT current_user"), "app");
    cr_assert_str_eq(client_value(second, "SELECT current_user"), "other");
}

SYSTEM_TEST(pooling, a_forced_user_makes_one_pool_for_all)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n"
                                      "[databases]\n"
                                      "app = %s user=other\n",
                                      cluster_route(cluster_shared()));
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, "user=postgres");
    int backend = client_backend(first);

    /* its answer comes just before its server is given back */
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 0, PATIENCE_MS));
    cr_assert_eq(client_backend(second), backend);
    cr_assert_str_eq(client_value(first, "SELECT current_user"), "other");
}

SYSTEM_TEST(pooling, the_name_for_clients_may_differ_from_the_servers)
{
    struct proxy *proxy = proxy_start("[databases]\n"
                                      "shop = %s dbname=db2\n",
                                      cluster_route(cluster_shared()));
    PGconn *client = client_open(proxy, "dbname=shop");

    cr_assert_str_eq(client_value(client, "SELECT current_database()"), "db2");
    cr_assert_str_eq(PQdb(client), "shop");
}

SYSTEM_TEST(pooling, a_unix_socket_serves_clients_and_reaches_servers)
{
    struct cluster *cluster = cluster_shared();
    struct proxy *proxy = proxy_start("[databases]\n"
                                      "app = host=%s port=%d\n",
                                      cluster->socket_folder, cluster->port);
    PGconn *client = client_open(proxy, text_of("host=%s", proxy->socket_folder));

    cr_assert_str_eq(client_value(client, "SELECT 'by socket'"), "by socket");
    cr_assert_str_eq(client_value(client, "SELECT inet_client_addr() IS NULL"), "t");
}

SYSTEM_TEST(pooling, connect_query_runs_once_on_each_new_server)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n"
                                      "[databases]\n"
                                      "app = %s connect_query='set work_mem = ''81kB'''\n",
                                      cluster_route(cluster_shared()));
    PGconn *client = client_open(proxy, NULL);

    cr_assert_str_eq(client_value(client, "SHOW work_mem"), "81kB");
}

SYSTEM_TEST(pooling, idle_servers_are_used_again_last_in_first_out)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, NULL);

    client_do(first, "BEGIN");
    client_do(second, "BEGIN");
    client_do(first, "COMMIT");
    /* its answer comes just before its server is given back */
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 1, PATIENCE_MS));
    int last = client_backend(second);
    client_do(second, "COMMIT");
    cr_assert_eq(client_backend(second), last);
    cr_assert_eq(client_backend(second), last);
    cr_assert(until(proxy_figure(proxy, "POOLS", "database", "app", "sv_idle") +
                            proxy_figure(proxy, "POOLS", "database", "app", "sv_used") ==
                        2,
                    PATIENCE_MS));
}

SYSTEM_TEST(pooling, parameters_of_a_client_follow_it_to_other_servers)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *first = client_open(proxy, "application_name=first");
    PGconn *second = client_open(proxy, "application_name=second");

    client_do(first, "SET TimeZone = 'Asia/Tokyo'");
    cr_assert_str_eq(client_value(second, "SHOW application_name"), "second");
    cr_assert_str_eq(client_value(second, "SHOW TimeZone"), "UTC");
    cr_assert_str_eq(client_value(first, "SHOW application_name"), "first");
    cr_assert_str_eq(client_value(first, "SHOW TimeZone"), "Asia/Tokyo");
}

SYSTEM_TEST(pooling, a_server_that_dies_while_idle_is_not_given_to_a_client)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);
    int backend = client_backend(client);

    cluster_number(cluster_shared(), text_of("SELECT pg_terminate_backend(%d)::int", backend));
    cr_assert(until(proxy_rows(proxy, "SERVERS", "database", "app") == 0, PATIENCE_MS));
    cr_assert_neq(client_backend(client), backend);
}

SYSTEM_TEST(pooling, a_client_that_leaves_in_a_transaction_leaves_no_trace_of_it)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, NULL);

    client_do(second, "CREATE TABLE IF NOT EXISTS pooling_left (a int)");
    client_do(first, "BEGIN");
    client_do(first, "INSERT INTO pooling_left VALUES (1)");
    PQfinish(first);
    cr_assert_eq(client_number(second, "SELECT count(*) FROM pooling_left"), 0);
    client_do(second, "BEGIN");
    client_do(second, "COMMIT");
}

SYSTEM_TEST(pooling, unused_pools_are_forgotten_while_somebody_looks_at_them)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nserver_idle_timeout = 1\n"
                                      "pool_idle_timeout = 1\n");

    SKIP_ON_PGBOUNCER();
    for (int i = 0; i < 4; i++) {
        PGconn *client = client_open(proxy, NULL);

        client_do(client, "SELECT 1");
        PQfinish(client);
    }
    /* looking holds a pool for a moment, so not all the time */
    for (int i = 0; i < 160 && proxy_rows(proxy, "POOLS", "database", "app") > 0; i++)
        pause_ms(250);
    cr_assert(until(proxy_rows(proxy, "POOLS", "database", "app") == 0, PATIENCE_MS));
    client_do(client_open(proxy, NULL), "SELECT 1");
}
