/*
 * refused: servers that let nobody in: clients hear why instead of waiting for what does not mend,
 * and wait for what may.
 */
#include "fake.h"
#include "system.h"

SYSTEM_SUITE(refused);

/* A pool of user_scram, with one client that has been welcomed; the pauses between attempts would
 * outlast the test. */
struct scene {
    struct cluster *cluster;
    struct proxy *proxy;
    PGconn *super, *client;
};

#define PROXY                                                                                      \
    "pool_mode = transaction\nserver_login_retry = %d\nquery_wait_timeout = 600\n"                 \
    "[databases]\napp = %s user=user_scram password=%s\n"

static struct scene set_scene(int retry_s)
{
    struct scene scene = {.cluster = cluster_start(NULL)};

    scene.proxy = proxy_start(PROXY, retry_s, cluster_route(scene.cluster), "secret");
    scene.super = cluster_connect(scene.cluster, "app");
    scene.client = client_open(scene.proxy, NULL);
    client_do(scene.client, "SELECT 1");
    return scene;
}

/* From now on servers answer this statement's way, to new logins only. */
static void change(struct scene *scene, const char *sql)
{
    client_do(scene->super, sql);
    client_do(scene->super, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                            "WHERE usename = 'user_scram'");
    cr_assert(until(proxy_rows(scene->proxy, "SERVERS", NULL, NULL) == 0, PATIENCE_MS));
}

/* SHOW POOLS' login_error of the only pool; "" when there is none. */
static const char *login_error(struct proxy *proxy)
{
    PGresult *result = proxy_show(proxy, "POOLS");

    cr_assert_eq(PQntuples(result), 1);
    const char *text = text_of("%s", PQgetvalue(result, 0, PQfnumber(result, "login_error")));
    PQclear(result);
    return text;
}

SYSTEM_TEST(refused, a_query_hears_that_the_password_is_wrong_and_the_client_stays)
{
    SKIP_ON_PGBOUNCER();
    struct scene scene = set_scene(600);
    char *error;

    change(&scene, "ALTER ROLE user_scram PASSWORD 'other'");
    error = client_error(scene.client, "SELECT 1");
    cr_assert_has(error, "ERROR:  28P01: server login has been failing, cached error: "
                         "password authentication failed for user \"user_scram\"");
    cr_assert_null(strstr(error, "secret"));
    /* while no login is tried too, and clients that come anew */
    cr_assert_str_eq(client_sqlstate(scene.client, "SELECT 1"), "28P01");
    cr_assert_has(client_error(client_open(scene.proxy, NULL), "SELECT 1"), "28P01");
    cr_assert_has(login_error(scene.proxy), "28P01: password authentication failed");
    /* whoever mends it waits for no pause */
    proxy_rewrite(scene.proxy, PROXY, 600, cluster_route(scene.cluster), "other");
    cr_assert_null(proxy_reload(scene.proxy));
    client_do(scene.client, "SELECT 1");
    cr_assert_str_eq(login_error(scene.proxy), "");
}

SYSTEM_TEST(refused, a_login_tries_again_as_soon_as_somebody_has_mended_it)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_start(NULL);
    struct proxy *proxy = proxy_start(PROXY, 600, cluster_route(cluster), "wrong");

    for (int i = 0; i < 4; i++) /* so that the pause has grown */
        cr_assert_has(client_refusal(proxy, NULL), "28P01: server login has been failing");
    proxy_rewrite(proxy, PROXY, 600, cluster_route(cluster), "secret");
    cr_assert_null(proxy_reload(proxy));
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(refused, a_server_without_a_free_connection_is_waited_for)
{
    SKIP_ON_PGBOUNCER();
    struct scene scene = set_scene(600);

    change(&scene, "ALTER ROLE user_scram CONNECTION LIMIT 0");
    client_start(scene.client, "SELECT 'patient'");
    cr_assert(until(proxy_logged(scene.proxy, "too many connections for role"), PATIENCE_MS));
    cr_assert_not(client_is_ready(scene.client));
    client_do(scene.super, "ALTER ROLE user_scram CONNECTION LIMIT -1");
    cr_assert_str_eq(client_finish(scene.client, PATIENCE_MS), "");
}

SYSTEM_TEST(refused, but_not_for_longer_than_the_longest_pause_between_attempts)
{
    SKIP_ON_PGBOUNCER();
    struct scene scene = set_scene(1);

    change(&scene, "ALTER ROLE user_scram CONNECTION LIMIT 0");
    client_start(scene.client, "SELECT 1");
    cr_assert_str_eq(client_finish(scene.client, PATIENCE_MS), "53300");
    client_do(scene.super, "ALTER ROLE user_scram CONNECTION LIMIT -1");
    client_do(scene.client, "SELECT 1");
}

static void serve_no_tls(struct wire *wire, struct fake *fake)
{
    (void)fake;
    if (fake_startup(wire, 'N'))
        fake_hang(wire);
}

/* A pool on two hosts, which must speak TLS. */
static struct proxy *before_two(const char *options, int first, int second)
{
    return proxy_start("pool_mode = transaction\nserver_tls_sslmode = require\n%s"
                       "[databases]\napp = host=127.0.0.1:%d,127.0.0.1:%d\n",
                       options, first, second);
}

SYSTEM_TEST(refused, of_two_hosts_the_other_is_asked_before_anybody_hears_of_it)
{
    SKIP_ON_PGBOUNCER();
    struct fake *first = fake_start(serve_no_tls, NULL);
    struct proxy *proxy = before_two("server_login_retry = 600\nload_balance_hosts = disable\n",
                                     first->port, cluster_shared()->port);

    client_do(client_open(proxy, NULL), "SELECT 1");
    cr_assert_gt(first->accepted, 0, "the first host was not asked at all");
}

/* A batch whose pieces come one by one, before and behind the refusal. */
SYSTEM_TEST(refused, a_batch_in_pieces_is_owed_one_error_and_one_end)
{
    SKIP_ON_PGBOUNCER();
    struct scene scene = set_scene(1);
    struct wire *wire = wire_client(scene.proxy);

    wire_query(wire, "SET search_path = pg_catalog");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CZ");
    change(&scene, "ALTER ROLE user_scram PASSWORD 'other'");
    for (int round = 0; round < 60; round++) {
        wire_parse(wire, round % 2 ? "named" : "", "COMMIT");
        if (round % 3 == 0)
            cr_assert_str_eq(wire_types(wire, 'E', PATIENCE_MS), "E");
        wire_bind(wire, "", round % 2 ? "named" : "", NULL);
        if (round % 3 == 1)
            pause_ms(round);
        wire_execute(wire, "", 0);
        wire_sync(wire);
        cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), round % 3 == 0 ? "Z" : "EZ");
    }
}

SYSTEM_TEST(refused, when_each_of_two_hosts_has_refused_clients_hear_it)
{
    SKIP_ON_PGBOUNCER();
    struct fake *first = fake_start(serve_no_tls, NULL), *second = fake_start(serve_no_tls, NULL);
    struct proxy *proxy = before_two("query_wait_timeout = 600\n", first->port, second->port);

    cr_assert_has(client_refusal(proxy, NULL), "server login has been failing");
    cr_assert_gt(first->accepted, 0);
    cr_assert_gt(second->accepted, 0);
}

static void serve_broken_handshake(struct wire *wire, struct fake *fake)
{
    (void)fake;
    (void)fake_startup(wire, 'S');
}

/* That is what a host looks like that dies in this moment. */
SYSTEM_TEST(refused, a_host_that_leaves_in_the_handshake_is_waited_for)
{
    SKIP_ON_PGBOUNCER();
    struct fake *fake = fake_start(serve_broken_handshake, NULL);
    struct proxy *proxy = proxy_start("pool_mode = transaction\nquery_wait_timeout = 2\n"
                                      "server_tls_sslmode = require\n"
                                      "[databases]\napp = %s\n",
                                      fake_route(fake));

    cr_assert_has(client_refusal(proxy, NULL), "query_wait_timeout");
    cr_assert(proxy_logged(proxy, "TLS handshake failed"));
}
