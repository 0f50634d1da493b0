/*
 * timeouts: each one, with PgBouncer's text, a proper SQLSTATE, and nothing left behind.
 */
#include "system.h"

SYSTEM_SUITE(timeouts);

/* The FATAL that ends this connection; its SQLSTATE must be `sqlstate` (PgBouncer has 08P01 for
 * all). */
static void ends_with(struct wire *wire, const char *sqlstate, const char *text)
{
    char *error = wire_error(wire, PATIENCE_MS);

    cr_assert_has(error, text);
    cr_assert_has(error, "FATAL");
    if (!program_is_pgbouncer())
        cr_assert_has(error, sqlstate);
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
}

SYSTEM_TEST(timeouts, query_wait_timeout_ends_a_waiting_client)
{
    struct proxy *proxy =
        proxy_start("pool_mode = transaction\ndefault_pool_size = 1\nquery_wait_timeout = 3\n");
    PGconn *first = client_open(proxy, NULL);
    struct wire *waiting = wire_client(proxy);

    client_do(first, "BEGIN");
    int64_t start = now_ms();
    wire_query(waiting, "SELECT 1");
    ends_with(waiting, "53300", "query_wait_timeout");
    cr_assert_geq(now_ms() - start, 2900);
    client_do(first, "COMMIT");
    cr_assert(until(proxy_logged(proxy, "query_wait_timeout"), PATIENCE_MS));
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 0, PATIENCE_MS));
}

SYSTEM_TEST(timeouts, query_wait_timeout_counts_from_the_query_not_from_the_login)
{
    struct proxy *proxy =
        proxy_start("pool_mode = transaction\ndefault_pool_size = 1\nquery_wait_timeout = 8\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, NULL);

    pause_ms(7500);
    client_do(first, "BEGIN");
    client_start(second, "SELECT 1");
    pause_ms(1000);
    client_do(first, "COMMIT");
    cr_assert_str_eq(client_finish(second, PATIENCE_MS), "");
}

SYSTEM_TEST(timeouts, query_timeout_ends_a_long_query_on_the_server_too)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nquery_timeout = 1\n");
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "SELECT pg_sleep(71)");
    ends_with(wire, "57014", "query timeout");
    cr_assert(until(proxy_logged(proxy, "query timeout"), PATIENCE_MS));
    if (!program_is_pgbouncer())
        cr_assert(until(!cluster_running(cluster_shared(), "SELECT pg_sleep(71)"), PATIENCE_MS));
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(timeouts, query_timeout_holds_for_the_query_of_who_has_taken_leave)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n"
                                      "query_timeout = 1\n");
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "SELECT pg_sleep(74)");
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_sleep(74)"), PATIENCE_MS));
    wire_send(wire, 'X', NULL, 0);
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
    cr_assert(until(!cluster_running(cluster_shared(), "SELECT pg_sleep(74)"), PATIENCE_MS));
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(timeouts, query_timeout_leaves_idle_transactions_and_short_queries_alone)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\nquery_timeout = 5\n");
    PGconn *client = client_open(proxy, NULL);
    int i;

    client_do(client, "BEGIN");
    for (i = 0; i < 5; i++)
        client_do(client, "SELECT pg_sleep(1.1)");
    pause_ms(5500);
    client_do(client, "COMMIT");
}

SYSTEM_TEST(timeouts, a_query_timeout_of_a_user_line_wins)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\n[databases]\n* = %s\n"
                                      "[users]\nother = query_timeout=1\n",
                                      cluster_route(cluster_shared()));
    PGconn *client = client_open(proxy, NULL);
    struct wire *wire = wire_open(proxy);

    wire_login(wire, "other", "app");
    client_start(client, "SELECT pg_sleep(2.5)");
    wire_query(wire, "SELECT pg_sleep(72)");
    ends_with(wire, "57014", "query timeout");
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "");
}

SYSTEM_TEST(timeouts, transaction_timeout_ends_a_long_transaction)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\ntransaction_timeout = 1\n");
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "BEGIN");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CZ");
    wire_query(wire, "SELECT pg_sleep(73)");
    ends_with(wire, "25P04", "transaction timeout");
    cr_assert(until(!cluster_running(cluster_shared(), "SELECT pg_sleep(73)"), PATIENCE_MS));
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(timeouts, idle_transaction_timeout_ends_a_forgotten_transaction)
{
    struct proxy *proxy = proxy_start(
        "pool_mode = transaction\ndefault_pool_size = 1\nidle_transaction_timeout = 1\n");
    struct wire *wire = wire_client(proxy);
    PGconn *other = client_open(proxy, NULL);

    wire_query(wire, "BEGIN");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CZ");
    ends_with(wire, "25P03", "idle transaction timeout");
    client_do(other, "SELECT 1");
    cr_assert(until(proxy_logged(proxy, "idle transaction timeout"), PATIENCE_MS));
}

SYSTEM_TEST(timeouts, idle_transaction_timeout_leaves_busy_transactions_alone)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nidle_transaction_timeout = 5\n");
    PGconn *client = client_open(proxy, NULL);
    int i;

    client_do(client, "BEGIN");
    client_do(client, "SELECT pg_sleep(6)");
    for (i = 0; i < 6; i++) {
        pause_ms(1000);
        client_do(client, "SELECT 1");
    }
    client_do(client, "COMMIT");
}

SYSTEM_TEST(timeouts, client_idle_timeout_ends_an_idle_client)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nclient_idle_timeout = 3\n");
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "SELECT 1");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "TDCZ");
    ends_with(wire, "57P05", "client_idle_timeout");
}

SYSTEM_TEST(timeouts, client_idle_timeout_does_not_count_a_running_query)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nclient_idle_timeout = 5\n");
    PGconn *client = client_open(proxy, NULL);

    client_do(client, "SELECT pg_sleep(6)");
    client_do(client, "SELECT 1");
}

SYSTEM_TEST(timeouts, client_login_timeout_ends_a_login_that_stalls)
{
    struct proxy *proxy = proxy_start("auth_type = md5\nclient_login_timeout = 5\n"
                                      "tcp_defer_accept = 0\n");
    struct wire *silent = wire_open(proxy);
    struct wire *half = wire_open(proxy);
    struct wire *stalled = wire_open(proxy);
    struct bytes packet = startup_packet("user", "app", "database", "app", NULL);

    wire_write(half, packet.data, 5);
    wire_write(stalled, packet.data, packet.count);
    cr_assert_str_eq(wire_types(stalled, 'R', PATIENCE_MS), "R");
    cr_assert(wire_is_closed(silent, PATIENCE_MS));
    cr_assert(wire_is_closed(half, PATIENCE_MS));
    ends_with(stalled, "57014", "client_login_timeout");
}

SYSTEM_TEST(timeouts, server_idle_timeout_closes_unused_servers)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nserver_idle_timeout = 1\n");
    PGconn *client = client_open(proxy, NULL);
    int backend = client_backend(client);

    cr_assert(until(proxy_rows(proxy, "SERVERS", NULL, NULL) == 0, PATIENCE_MS));
    cr_assert(until(proxy_logged(proxy, "server idle timeout"), PATIENCE_MS));
    cr_assert_neq(client_backend(client), backend);
}

SYSTEM_TEST(timeouts, server_lifetime_closes_old_servers)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nserver_lifetime = 1\n");
    PGconn *client = client_open(proxy, NULL);
    int backend = client_backend(client);

    cr_assert(until(client_backend(client) != backend || (pause_ms(200), false), PATIENCE_MS));
    cr_assert(until(proxy_logged(proxy, "server lifetime over"), PATIENCE_MS));
}

SYSTEM_TEST(timeouts, server_lifetime_0_uses_a_server_once)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nserver_lifetime = 0\n");
    PGconn *client = client_open(proxy, NULL);
    int backend = client_backend(client);

    cr_assert_neq(client_backend(client), backend);
}

static void serve_nothing(struct wire *wire, struct fake *fake)
{
    (void)fake;
    fake_hang(wire);
}

SYSTEM_TEST(timeouts, server_connect_timeout_of_0_is_none)
{
    struct proxy *proxy = proxy_start("server_connect_timeout = 0\npool_mode = session\n"
                                      "server_check_delay = 0\nserver_check_query = SELECT 1\n"
                                      "default_pool_size = 1\nquery_wait_timeout = 20\n");
    PGconn *client = client_open(proxy, NULL);
    int backend = client_backend(client);

    /* what pgstage asks on its own account, to clean and to check, is not cut short either */
    PQfinish(client);
    cr_assert_eq(client_backend(client_open(proxy, NULL)), backend);
}

SYSTEM_TEST(timeouts, server_connect_timeout_ends_an_attempt_that_hangs)
{
    struct fake *silent = fake_start(serve_nothing, NULL);
    struct proxy *proxy = proxy_start("server_connect_timeout = 1\nquery_wait_timeout = 3\n"
                                      "server_login_retry = 1\n"
                                      "[databases]\napp = %s\n",
                                      fake_route(silent));
    PGconn *client = NULL;

    client = client_try(proxy, NULL);
    cr_assert_eq(PQstatus(client), CONNECTION_BAD);
    cr_assert(until(proxy_logged(proxy, "connect timeout") ||
                        proxy_logged(proxy, "connect failed") ||
                        proxy_logged(proxy, "login timeout"),
                    PATIENCE_MS));
    cr_assert_gt(silent->accepted, 0);
}

SYSTEM_TEST(timeouts, a_refused_server_is_told_to_the_client_within_the_wait)
{
    int nobody = port_take();
    struct proxy *proxy = proxy_start("query_wait_timeout = 3\nserver_login_retry = 1\n"
                                      "[databases]\napp = host=127.0.0.1 port=%d\n",
                                      nobody);

    char *text = client_refusal(proxy, NULL);

    cr_assert(strstr(text, "server login has been failing") || strstr(text, "query_wait_timeout") ||
                  strstr(text, "connect failed") || strstr(text, "could not connect"),
              "%s", text);
}

SYSTEM_TEST(timeouts, a_server_that_comes_back_is_found_before_server_login_retry)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_start(NULL);
    struct proxy *proxy =
        proxy_start("pool_mode = transaction\nserver_login_retry = 600\n[databases]\napp = %s\n",
                    cluster_route(cluster));
    PGconn *client = client_open(proxy, NULL);

    client_do(client, "SELECT 1");
    cluster_end(cluster, CLUSTER_IMMEDIATE);
    cr_assert(until(proxy_rows(proxy, "SERVERS", NULL, NULL) == 0, PATIENCE_MS));
    client_start(client, "SELECT 'patient'");
    pause_ms(1500);
    cluster_again(cluster);
    /* the back-off is per host and begins short, it is no cliff */
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "");
}

SYSTEM_TEST(timeouts, server_check_query_finds_a_dead_server_before_a_client_does)
{
    struct cluster *cluster = cluster_start(NULL);
    struct proxy *proxy = proxy_start("pool_mode = transaction\nserver_check_delay = 0\n"
                                      "server_check_query = select 1\n"
                                      "[databases]\napp = %s\n",
                                      cluster_route(cluster));
    PGconn *client = client_open(proxy, NULL);
    int i;

    for (i = 0; i < 5; i++)
        client_do(client, "SELECT 1");
    cluster_end(cluster, CLUSTER_FAST);
    cluster_again(cluster);
    client_do(client, "SELECT 2");
}

SYSTEM_TEST(timeouts, query_wait_notify_tells_a_waiting_client_once_and_lets_it_wait)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n"
                                      "query_wait_notify = 1\n");
    PGconn *first = client_open(proxy, NULL);
    struct wire *waiting = wire_client(proxy);

    client_do(first, "BEGIN");
    wire_query(waiting, "SELECT 1");
    cr_assert_str_eq(wire_types(waiting, 'N', PATIENCE_MS),
                     ""); /* it came, and nothing before it */
    client_do(first, "COMMIT");
    cr_assert_str_eq(wire_types(waiting, 'Z', PATIENCE_MS), "TDCZ");
}
