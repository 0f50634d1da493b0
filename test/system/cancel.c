/*
 * cancel: a cancel request reaches the one query that it is meant for, and no other.
 */
#include "system.h"

SYSTEM_SUITE(cancel);

static void request_cancel(PGconn *client)
{
    char problem[256];
    PGcancel *cancel = PQgetCancel(client);

    cr_assert(PQcancel(cancel, problem, sizeof problem), "%s", problem);
    PQfreeCancel(cancel);
}

SYSTEM_TEST(cancel, a_running_query_is_cancelled_and_the_connection_goes_on)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);

    client_start(client, "SELECT pg_sleep(61)");
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_sleep(61)"), PATIENCE_MS));
    request_cancel(client);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "57014");
    client_do(client, "SELECT 1");
    cr_assert(until(proxy_figure(proxy, "POOLS", NULL, NULL, "sv_active") == 0, PATIENCE_MS));
}

SYSTEM_TEST(cancel, it_works_in_every_pool_mode)
{
    struct proxy *proxy =
        proxy_start("[databases]\nsession = %s pool_mode=session dbname=app\n"
                    "statement = %s pool_mode=statement dbname=app\n",
                    cluster_route(cluster_shared()), cluster_route(cluster_shared()));
    static const char *const names[] = {"session", "statement"};
    int i;

    for (i = 0; i < 2; i++) {
        PGconn *client = client_open(proxy, text_of("dbname=%s", names[i]));
        char *sql = text_of("SELECT pg_sleep(7%d)", i);

        client_start(client, sql);
        cr_assert(until(cluster_running(cluster_shared(), sql), PATIENCE_MS));
        request_cancel(client);
        cr_assert_str_eq(client_finish(client, PATIENCE_MS), "57014");
        client_do(client, "SELECT 1");
    }
}

SYSTEM_TEST(cancel, it_works_while_the_pool_is_full)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *client = client_open(proxy, NULL);
    PGconn *waiting = client_open(proxy, NULL);

    client_start(client, "SELECT pg_sleep(62)");
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_sleep(62)"), PATIENCE_MS));
    client_start(waiting, "SELECT 1");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    request_cancel(client);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "57014");
    cr_assert_str_eq(client_finish(waiting, PATIENCE_MS), "");
}

SYSTEM_TEST(cancel, a_waiting_query_is_cancelled_without_a_server)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *waiting = client_open(proxy, NULL);

    client_do(first, "BEGIN");
    client_start(waiting, "SELECT 'too late'");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    request_cancel(waiting);
    cr_assert_str_eq(client_finish(waiting, PATIENCE_MS), "57014");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 0, PATIENCE_MS));
    client_do(first, "COMMIT");
    cr_assert_str_eq(client_value(waiting, "SELECT 'usable'"), "usable");
}

SYSTEM_TEST(cancel, an_idle_client_s_request_changes_nothing)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *idle = client_open(proxy, NULL);
    PGconn *busy = client_open(proxy, NULL);
    PGconn *gate = cluster_connect(cluster_shared(), "app");
    int i;

    client_do(idle, "SELECT 1");
    client_do(gate, "BEGIN; SELECT pg_advisory_xact_lock(4701)");
    client_start(busy, "SELECT pg_advisory_xact_lock(4701)");
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_advisory_xact_lock(4701)"),
                    PATIENCE_MS));
    for (i = 0; i < 5; i++)
        request_cancel(idle);
    client_do(gate, "COMMIT");
    cr_assert_str_eq(client_finish(busy, PATIENCE_MS), "");
}

SYSTEM_TEST(cancel, a_wrong_key_cancels_nothing)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    struct wire *wire = wire_client(proxy);
    PGconn *gate = cluster_connect(cluster_shared(), "app");
    int i;

    client_do(gate, "BEGIN; SELECT pg_advisory_xact_lock(4702)");
    wire_query(wire, "SELECT pg_advisory_xact_lock(4702)");
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_advisory_xact_lock(4702)"),
                    PATIENCE_MS));
    for (i = 0; i < 32; i++) {
        struct wire *request = wire_open(proxy);

        wire_cancel_request(request, wire->key_pid, wire->key_secret ^ (1u << i));
        cr_assert(wire_is_closed(request, PATIENCE_MS));
        wire_close(request);
    }
    client_do(gate, "COMMIT");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "TDCZ");
}

SYSTEM_TEST(cancel, keys_of_clients_are_their_own_and_hard_to_guess)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    struct wire *first = wire_client(proxy);
    struct wire *second = wire_client(proxy);

    cr_assert_neq(first->key_secret, second->key_secret);
    cr_assert(first->key_pid != second->key_pid || first->key_secret != second->key_secret);
    cr_assert_neq(first->key_secret, 0);
}

SYSTEM_TEST(cancel, never_hits_another_clients_query)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 2\n");
    struct load_options options = {.clients = 4, .sql = "SELECT pg_sleep(0.002)"};
    struct load *load;
    PGconn *client = client_open(proxy, NULL);
    int i;

    load = load_start(proxy, &options);
    for (i = 0; i < 150 || load_done(load) <= 50; i++) {
        char *state;

        /* the request races with the end of its query */
        client_start(client, "SELECT pg_sleep(0.001)");
        request_cancel(client);
        state = client_finish(client, PATIENCE_MS);
        cr_assert(!*state || !strcmp(state, "57014"), "%s", state);
    }
    cr_assert(until(load_done(load) > 50, PATIENCE_MS));
    load_stop(load);
    cr_assert_eq(load_errors(load) + load_lost(load), 0, "%s", load_first_error(load));
}

SYSTEM_TEST(cancel, bytes_behind_the_request_do_no_harm)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    struct wire *wire = wire_client(proxy);
    struct wire *request = wire_open(proxy);
    struct bytes packet = {0};

    wire_query(wire, "SELECT pg_sleep(63)");
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_sleep(63)"), PATIENCE_MS));
    bytes_add32(&packet, 16);
    bytes_add32(&packet, 80877102);
    bytes_add32(&packet, wire->key_pid);
    bytes_add32(&packet, wire->key_secret);
    bytes_add(&packet, "\0\0\0\0junk", 8);
    wire_write(request, packet.data, packet.count);
    wire_close(request);
    cr_assert_has(wire_error(wire, PATIENCE_MS), "57014");
}

SYSTEM_TEST(cancel, a_request_of_wrong_length_is_refused)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    static const uint32_t lengths[] = {8, 12, 15, 17, 20};
    size_t i;

    for (i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct wire *request = wire_open(proxy);
        struct bytes packet = {0};

        bytes_add32(&packet, lengths[i]);
        bytes_add32(&packet, 80877102);
        bytes_add(&packet, "\0\0\0\0\0\0\0\0\0\0\0\0", lengths[i] - 8);
        wire_write(request, packet.data, packet.count);
        cr_assert(wire_is_closed(request, PATIENCE_MS), "length %u", lengths[i]);
        wire_close(request);
    }
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(cancel, it_does_not_need_a_place_among_the_clients)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nmax_client_conn = 2\n");
    PGconn *client = client_open(proxy, NULL);

    client_open(proxy, NULL);
    client_start(client, "SELECT pg_sleep(64)");
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_sleep(64)"), PATIENCE_MS));
    request_cancel(client);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "57014");
}

SYSTEM_TEST(cancel, many_requests_for_one_query_leave_the_pool_clean)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    struct wire *wire = wire_client(proxy);
    struct wire *requests[20];
    PGconn *other = client_open(proxy, NULL);
    int i;

    wire_query(wire, "SELECT pg_sleep(65)");
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_sleep(65)"), PATIENCE_MS));
    for (i = 0; i < 20; i++)
        requests[i] = wire_open(proxy);
    for (i = 0; i < 20; i++)
        wire_cancel_request(requests[i], wire->key_pid, wire->key_secret);
    cr_assert_has(wire_error(wire, PATIENCE_MS), "57014");
    for (i = 0; i < 20; i++)
        cr_assert_str_eq(client_value(other, "SELECT pg_sleep(0.01), 'intact'") ? "ok" : "", "ok");
    for (i = 0; i < 20; i++)
        cr_assert(wire_is_closed(requests[i], PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "POOLS", NULL, NULL, "cl_active_cancel_req") +
                            proxy_figure(proxy, "POOLS", NULL, NULL, "cl_waiting_cancel_req") ==
                        0,
                    PATIENCE_MS));
}

/* The query waits, and the cancel comes while a server is being handed to it. */
SYSTEM_TEST(cancel, of_a_waiting_query_refuses_that_query_and_not_the_next)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    struct wire *holder = wire_client(proxy);
    struct wire *waiting = wire_client(proxy);

    for (int round = 0; round < 150; round++) {
        wire_query(holder, "BEGIN");
        cr_assert_str_eq(wire_types(holder, 'Z', PATIENCE_MS), "CZ");
        wire_query(waiting, "SELECT 1");
        if (round % 3 == 0)
            cr_assert(until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1,
                            PATIENCE_MS));
        struct wire *cancel = wire_open(proxy);
        wire_query(holder, "COMMIT");
        wire_cancel_request(cancel, waiting->key_pid, waiting->key_secret);
        cr_assert_str_eq(wire_types(holder, 'Z', PATIENCE_MS), "CZ");
        char *types = wire_types(waiting, 'Z', PATIENCE_MS);
        cr_assert(strcmp(types, "EZ") == 0 || strcmp(types, "TDCZ") == 0 ||
                      strcmp(types, "TEZ") == 0,
                  "%s", types);
        cr_assert(wire_is_closed(cancel, PATIENCE_MS));
        wire_query(waiting, "SELECT 2");
        cr_assert_str_eq(wire_types(waiting, 'Z', PATIENCE_MS), "TDCZ");
        wire_close(cancel);
    }
}

/* A server whose postmaster takes a cancel request and never ends its connection: who asked is not
 * told whether the signal was passed on. */
struct busy {
    _Atomic int connections, queries, requests;
};

static void serve_busy(struct wire *wire, struct fake *fake)
{
    struct busy *busy = (struct busy *)fake->context;
    struct wire_message message;
    int number;

    if (!fake_startup(wire, 'N'))
        return;
    if (wire->version == 80877102) {
        busy->requests++;
        fake_hang(wire);
        return;
    }
    number = ++busy->connections;
    fake_welcome(wire);
    while (number == 1 && wire_read(wire, &message, PATIENCE_MS)) {
        if (message.type != 'Q')
            continue;
        busy->queries++;
        (void)until(busy->requests > 0, PATIENCE_MS);
        wire_send(wire, 'C', "SELECT 0", 9);
        wire_send(wire, 'Z', "I", 1);
        break;
    }
    fake_answer(wire, text_of("%d", number));
}

SYSTEM_TEST(cancel, a_request_that_may_still_be_carried_out_hits_nobody_else)
{
    SKIP_ON_PGBOUNCER();
    for (int vanish = 0; vanish < 2; vanish++) {
        struct busy busy = {0};
        struct proxy *proxy = proxy_start("pool_mode = transaction\ncancel_wait_timeout = 1\n"
                                          "[databases]\n* = %s pool_size=1\n",
                                          fake_route(fake_start(serve_busy, &busy)));
        struct wire *wire = wire_client(proxy), *request = NULL;
        PGconn *other = client_open(proxy, NULL);

        wire_query(wire, "SELECT");
        cr_assert(until(busy.queries == 1, PATIENCE_MS));
        if (vanish) {
            wire_close(wire);
        } else {
            request = wire_open(proxy);
            wire_cancel_key(request, wire->key, wire->key_bytes);
            cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CZ");
        }
        cr_expect_str_eq(client_value(other, "SELECT"), "2");
        cr_expect_eq(busy.requests, 1);
        cr_expect(
            until(proxy_logged(proxy, "a cancel request was not taken in time"), PATIENCE_MS));
        if (request) {
            cr_expect(wire_is_closed(request, PATIENCE_MS));
            wire_close(request);
            wire_close(wire);
        }
        PQfinish(other);
        proxy_stop(proxy);
    }
}
