/*
 * peers: a cancel request reaches the process whose client it is meant for, whichever of the
 * processes behind one address it arrives at.
 */
#include "system.h"

#include <sys/resource.h>

SYSTEM_SUITE(peers);

static const char *configuration(int id, const char *peers)
{
    return text_of("pool_mode = transaction\nverbose = 1\npeer_id = %d\n[databases]\n* = %s\n"
                   "[peers]\n%s\n",
                   id, cluster_route(cluster_shared()), peers);
}

static const char *line_of(int id, const struct proxy *proxy)
{
    return text_of("%d = host=127.0.0.1 port=%d\n", id, proxy->port);
}

static void know(struct proxy *proxy, int id, const char *peers)
{
    proxy_rewrite(proxy, "%s", configuration(id, peers));
    char *problem = proxy_reload(proxy);
    cr_assert_null(problem, "%s", problem);
}

/* So many processes with the numbers 1, 2 …, that know each other through TCP. */
static void start_peers(struct proxy **proxies, int count)
{
    const char *lines = "";

    for (int i = 0; i < count; i++) {
        proxies[i] = proxy_start("%s", configuration(i + 1, ""));
        lines = text_of("%s%s", lines, line_of(i + 1, proxies[i]));
    }
    for (int i = 0; i < count; i++)
        know(proxies[i], i + 1, lines);
}

SYSTEM_TEST(peers, keys_are_laid_out_as_pgbouncer_lays_them_out)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("%s", configuration(0x1234, ""));

    for (unsigned minor = 0; minor <= 2; minor += 2) {
        struct wire *first = wire_client_of(proxy, minor), *second = wire_client_of(proxy, minor);

        cr_assert_eq(first->key_bytes, minor ? 36 : 8);
        cr_assert_eq(first->key[0] & 0x80, 0); /* process ids are positive */
        cr_assert_eq(first->key[1], 0x34);
        cr_assert_eq(first->key[2], 0x12);
        cr_assert_eq(first->key[7] & 3, 3); /* it may be passed on three times */
        cr_assert_neq(memcmp(first->key + 3, second->key + 3, 5), 0);
    }
}

SYSTEM_TEST(peers, a_request_is_passed_on_to_whom_it_concerns)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxies[3];

    start_peers(proxies, 3);
    for (int i = 0; i < 3; i++) {
        for (unsigned minor = 0; minor <= 2; minor += 2) {
            struct wire *wire = wire_client_of(proxies[i], minor);
            char *sql = text_of("SELECT pg_sleep(6%d.%u)", i, minor);

            wire_query(wire, sql);
            cr_assert(until(cluster_running(cluster_shared(), sql), PATIENCE_MS));
            wire_cancel_at(proxies[(i + 1) % 3], wire->key, wire->key_bytes);
            cr_assert_has(wire_error(wire, PATIENCE_MS), "57014");
            wire_close(wire);
        }
    }
}

SYSTEM_TEST(peers, a_waiting_client_is_cancelled_through_a_peer_too)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxies[2];
    struct wire *waiting;

    start_peers(proxies, 2);
    waiting = wire_client_of(proxies[0], 0);
    proxy_do(proxies[0], "PAUSE");
    wire_query(waiting, "SELECT 1");
    cr_assert(until(proxy_figure(proxies[0], "POOLS", "database", "app", "cl_waiting") == 1,
                    PATIENCE_MS));
    wire_cancel_at(proxies[1], waiting->key, waiting->key_bytes);
    cr_assert_has(wire_error(waiting, PATIENCE_MS), "57014");
    proxy_do(proxies[0], "RESUME");
}

SYSTEM_TEST(peers, one_wrong_bit_cancels_nothing)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxies[2];
    struct wire *wire;

    start_peers(proxies, 2);
    wire = wire_client_of(proxies[0], 0);
    wire_query(wire, "SELECT pg_sleep(66.5)");
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_sleep(66.5)"), PATIENCE_MS));
    for (int bit = 0; bit < 64; bit++) {
        unsigned char key[8];

        if (bit / 8 == 7 && bit % 8 < 2)
            continue; /* the hops are no part of the key */
        memcpy(key, wire->key, 8);
        key[bit / 8] ^= (unsigned char)(1 << bit % 8);
        wire_cancel_at(proxies[bit % 2], key, 8);
    }
    cr_assert(cluster_running(cluster_shared(), "SELECT pg_sleep(66.5)"));
    wire_cancel_at(proxies[1], wire->key, 8);
    cr_assert_has(wire_error(wire, PATIENCE_MS), "57014");
}

SYSTEM_TEST(peers, share_one_port)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *first = proxy_start("so_reuseport = 1\n%s", configuration(1, ""));
    struct proxy_options options = {.twin = first};
    char *folder = text_of("%s/two", test_folder());
    char *make[] = {"mkdir", folder, NULL};
    const char *lines = text_of("1 = host=%s port=%d\n2 = host=%s port=%d\n", first->socket_folder,
                                first->port, folder, first->port);
    struct proxy *second;
    int rounds;

    cr_assert_eq(process_run(make, NULL, NULL), 0);
    second = proxy_start_with(&options, "so_reuseport = 1\nunix_socket_dir = %s\n%s", folder,
                              configuration(2, lines));
    proxy_rewrite(first, "so_reuseport = 1\n%s", configuration(1, lines));
    /* through the port it might go to either of them */
    client_do(
        client_open(first, text_of("host=%s dbname=pgstage user=admin", first->socket_folder)),
        "RELOAD");
    /* each request goes to either, and each is carried out */
    for (rounds = 0; rounds < 100 && !(proxy_logged(first, "is passed on to peer 2") &&
                                       proxy_logged(second, "is passed on to peer 1"));
         rounds++) {
        struct wire *wire = wire_client_of(first, rounds % 2 ? 2 : 0);
        char *sql = text_of("SELECT pg_sleep(67), %d", rounds);

        wire_query(wire, sql);
        cr_assert(until(cluster_running(cluster_shared(), sql), PATIENCE_MS));
        wire_cancel_at(first, wire->key, wire->key_bytes);
        cr_assert_has(wire_error(wire, PATIENCE_MS), "57014");
        wire_close(wire);
    }
    cr_assert_lt(rounds, 100);
}

/* It names another as itself: the request goes round until its hops are used up. */
SYSTEM_TEST(peers, that_name_each_other_wrongly_do_not_keep_a_request_going)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxies[2];
    struct wire *wire;
    unsigned char key[8];

    start_peers(proxies, 2);
    wire = wire_client_of(proxies[0], 0);
    memcpy(key, wire->key, 8);
    key[1] = 9; /* 9 is what each takes the other for */
    know(proxies[0], 1, line_of(9, proxies[1]));
    know(proxies[1], 2, line_of(9, proxies[0]));
    wire_cancel_at(proxies[0], key, 8);
    cr_assert(until(proxy_logged(proxies[1], "has been passed on too often"), PATIENCE_MS));
    cr_assert_eq(proxy_log_count(proxies[0], "has been passed on too often") +
                     proxy_log_count(proxies[1], "has been passed on too often"),
                 1);
}

SYSTEM_TEST(peers, that_are_unknown_or_down_end_the_request_soon)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxies[2];
    struct wire *wire;

    start_peers(proxies, 2);
    wire = wire_client_of(proxies[1], 0);
    proxy_stop(proxies[1]);
    wire_cancel_at(proxies[0], wire->key, 8);
    cr_assert(until(proxy_logged(proxies[0], "peer 2 cannot be reached"), PATIENCE_MS));
    know(proxies[0], 1, "");
    wire_cancel_at(proxies[0], wire->key, 8);
    cr_assert(until(proxy_log_count(proxies[0], "peer 2 cannot be reached") == 1, PATIENCE_MS));
}

/* Accepts, reads the request, and says nothing until it is told to. */
static _Atomic int requests;
static _Atomic bool go_on;

static void hold(struct wire *wire, struct fake *fake)
{
    (void)fake;
    if (!fake_startup(wire, 'N') || wire->version != 80877102)
        return;
    requests++;
    while (!go_on && !wire->ended)
        pause_ms(5);
}

SYSTEM_TEST(peers, requests_for_one_peer_are_bounded_in_number_and_time)
{
    SKIP_ON_PGBOUNCER();
    struct fake *fake = fake_start(hold, NULL);
    struct proxy *proxy = proxy_start(
        "cancel_wait_timeout = 60\n%s",
        configuration(1, text_of("2 = host=127.0.0.1 port=%d pool_size=2", fake->port)));
    static const unsigned char key[8] = {0, 2, 0, 7, 1, 2, 3, 3};
    struct wire *request[5];

    for (int i = 0; i < 5; i++) {
        request[i] = wire_open(proxy);
        wire_cancel_key(request[i], key, sizeof key);
    }
    cr_assert(until(requests == 2, PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "PEER_POOLS", "peer_id", "2", "cl_waiting_cancel_req") == 3,
                    PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "PEER_POOLS", "peer_id", "2", "sv_active_cancel") == 2,
                    PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "PEERS", "peer_id", "2", "pool_size") == 2, PATIENCE_MS));
    cr_assert_eq(requests, 2);
    go_on = true; /* as one ends the next begins */
    cr_assert(until(requests == 5, PATIENCE_MS));
    for (int i = 0; i < 5; i++)
        cr_assert(wire_is_closed(request[i], PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "PEER_POOLS", "peer_id", "2", "cl_active_cancel_req") == 0,
                    PATIENCE_MS));
}

SYSTEM_TEST(peers, more_than_a_thousand_do_not_wait_for_one_peer)
{
    SKIP_ON_PGBOUNCER();
    enum { UNDER_WAY = 1, WAITING = 1000 };
    struct rlimit limit = {4000, 4000};
    struct fake *fake = fake_start(hold, NULL);
    struct proxy *proxy =
        proxy_start("cancel_wait_timeout = 60\nmax_client_conn = 1500\n%s",
                    configuration(1, text_of("2 = host=127.0.0.1 port=%d pool_size=%d", fake->port,
                                             UNDER_WAY)));
    static const unsigned char key[8] = {0, 2, 0, 7, 1, 2, 3, 3};
    static struct wire *request[UNDER_WAY + WAITING];

    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < UNDER_WAY + WAITING; i++) {
        request[i] = wire_open(proxy);
        wire_cancel_key(request[i], key, sizeof key);
    }
    cr_assert(
        until(proxy_figure(proxy, "PEER_POOLS", "peer_id", "2", "cl_waiting_cancel_req") == WAITING,
              PATIENCE_MS));
    wire_cancel_at(proxy, key, sizeof key); /* one more is over at once */
    cr_assert(
        until(proxy_logged(proxy, "peer 2: too many cancel requests wait for it"), PATIENCE_MS));
    cr_assert_eq(proxy_figure(proxy, "PEER_POOLS", "peer_id", "2", "cl_waiting_cancel_req"),
                 WAITING);
    client_do(client_open(proxy, NULL), "SELECT 1");
    proxy_stop(proxy); /* with all of them */
    for (int i = 0; i < UNDER_WAY + WAITING; i++)
        cr_assert(wire_is_closed(request[i], PATIENCE_MS));
}

SYSTEM_TEST(peers, one_that_never_answers_is_given_up)
{
    SKIP_ON_PGBOUNCER();
    struct fake *fake = fake_start(hold, NULL);
    struct proxy *proxy = proxy_start(
        "cancel_wait_timeout = 1\n%s",
        configuration(1, text_of("2 = host=127.0.0.1 port=%d pool_size=1", fake->port)));
    static const unsigned char key[8] = {0, 2, 0, 7, 1, 2, 3, 3};
    struct wire *request[3];

    for (int i = 0; i < 3; i++) {
        request[i] = wire_open(proxy);
        wire_cancel_key(request[i], key, sizeof key);
    }
    for (int i = 0; i < 3; i++)
        cr_assert(wire_is_closed(request[i], PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "PEER_POOLS", NULL, NULL, "cl_waiting_cancel_req") +
                            proxy_figure(proxy, "PEER_POOLS", NULL, NULL, "sv_active_cancel") ==
                        0,
                    PATIENCE_MS));
    proxy_stop(proxy); /* … also while one is under way */
}
