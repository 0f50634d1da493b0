/*
 * restart: PostgreSQL goes away and comes back while clients work.
 */
#include "system.h"

SYSTEM_SUITE(restart);

static void restart_under_load(enum cluster_end how)
{
    struct cluster *cluster = cluster_start(NULL);
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 5\n"
                                      "server_login_retry = 1\n[databases]\napp = %s\n",
                                      cluster_route(cluster));
    struct load_options options = {.clients = 10, .reconnect = true};
    struct load *load = load_start(proxy, &options);
    long before;

    cr_assert(until(load_done(load) > 30, PATIENCE_MS));
    cluster_end(cluster, how);
    cr_assert(proxy_is_alive(proxy));
    cluster_again(cluster);
    before = load_done(load);
    cr_assert(until(load_done(load) > before + 100, PATIENCE_MS), "%s", load_first_error(load));
    load_stop(load);
    cr_assert_leq(proxy_rows(proxy, "SERVERS", "database", "app"), 5);
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(restart, a_fast_restart_under_load_is_survived)
{
    restart_under_load(CLUSTER_FAST);
}

SYSTEM_TEST(restart, an_immediate_restart_under_load_is_survived)
{
    restart_under_load(CLUSTER_IMMEDIATE);
}

SYSTEM_TEST(restart, a_killed_server_under_load_is_survived)
{
    restart_under_load(CLUSTER_KILL);
}

SYSTEM_TEST(restart, idle_clients_do_not_notice_it)
{
    struct cluster *cluster = cluster_start(NULL);
    struct proxy *proxy = proxy_start("pool_mode = transaction\nserver_login_retry = 1\n"
                                      "[databases]\napp = %s\n",
                                      cluster_route(cluster));
    PGconn *clients[5];
    int i;

    for (i = 0; i < 5; i++) {
        clients[i] = client_open(proxy, NULL);
        client_do(clients[i], "SELECT 1");
    }
    cluster_end(cluster, CLUSTER_FAST);
    cr_assert(until(proxy_rows(proxy, "SERVERS", NULL, NULL) == 0, PATIENCE_MS));
    cluster_again(cluster);
    for (i = 0; i < 5; i++)
        client_do(clients[i], "SELECT 1");
}

SYSTEM_TEST(restart, queries_sent_while_it_is_away_wait_for_it)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_start(NULL);
    struct proxy *proxy =
        proxy_start("pool_mode = transaction\n[databases]\napp = %s\n", cluster_route(cluster));
    PGconn *clients[5];
    int i;

    for (i = 0; i < 5; i++)
        clients[i] = client_open(proxy, NULL);
    client_do(clients[0], "SELECT 1");
    cluster_end(cluster, CLUSTER_FAST);
    cr_assert(until(proxy_rows(proxy, "SERVERS", NULL, NULL) == 0, PATIENCE_MS));
    for (i = 0; i < 5; i++)
        client_start(clients[i], text_of("SELECT %d", i));
    pause_ms(500);
    cluster_again(cluster);
    for (i = 0; i < 5; i++)
        cr_assert_str_eq(client_finish(clients[i], PATIENCE_MS), "");
}

SYSTEM_TEST(restart, a_client_in_a_transaction_learns_of_the_loss)
{
    struct cluster *cluster = cluster_start(NULL);
    struct proxy *proxy = proxy_start("pool_mode = transaction\nserver_login_retry = 1\n"
                                      "[databases]\napp = %s\n",
                                      cluster_route(cluster));
    PGconn *client = client_open(proxy, NULL);

    client_do(client, "CREATE TABLE restart_lost (a int)");
    client_do(client, "BEGIN");
    client_do(client, "INSERT INTO restart_lost VALUES (1)");
    cluster_end(cluster, CLUSTER_IMMEDIATE);
    cluster_again(cluster);
    cr_assert_str_eq(client_sqlstate(client, "COMMIT"), program_is_pgbouncer() ? "-----" : "57P01");
    cr_assert_eq(cluster_number(cluster, "SELECT count(*) FROM restart_lost"), 0);
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(restart, a_terminated_backend_ends_its_session_with_its_sqlstate)
{
    struct proxy *proxy = proxy_start("pool_mode = session\n");
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "SELECT pg_sleep(91)");
    cr_assert(until(cluster_number(cluster_shared(),
                                   "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                                   "WHERE query = 'SELECT pg_sleep(91)' AND state = 'active'") == 1,
                    PATIENCE_MS));
    cr_assert_has(wire_error(wire, PATIENCE_MS), "57P01");
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(restart, a_server_that_is_starting_up_is_waited_for)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_start(NULL);
    struct proxy *proxy =
        proxy_start("pool_mode = transaction\n[databases]\napp = %s\n", cluster_route(cluster));

    cluster_end(cluster, CLUSTER_IMMEDIATE);
    /* a first login that finds nobody there, and then somebody who is not ready */
    PGconn *client = PQconnectStart(client_conninfo(proxy, NULL));
    PostgresPollingStatusType step = PGRES_POLLING_WRITING;
    until((step = PQconnectPoll(client), step == PGRES_POLLING_FAILED), 300);
    cr_assert_neq(step, PGRES_POLLING_FAILED, "%s", PQerrorMessage(client));
    cluster_again(cluster);
    cr_assert(until(
        (step = PQconnectPoll(client), step == PGRES_POLLING_OK || step == PGRES_POLLING_FAILED),
        PATIENCE_MS));
    cr_assert_eq(step, PGRES_POLLING_OK, "%s", PQerrorMessage(client));
    client_do(client, "SELECT 1");
}

SYSTEM_TEST(restart, a_list_of_hosts_is_tried_until_one_answers)
{
    struct cluster *cluster = cluster_start(NULL);
    int nobody = cluster->port;

    if (program_is_pgbouncer())
        cr_skip_test("PgBouncer has one port for all hosts");
    struct proxy *proxy = proxy_start("pool_mode = transaction\n[databases]\n"
                                      "app = host=127.0.0.1:%d,127.0.0.1:%d\n",
                                      port_take(), nobody);
    client_do(client_open(proxy, NULL), "SELECT 1");
}
