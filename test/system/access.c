/*
 * access: who gets into an environment, how many at once, and until when.
 */
#include <time.h>

#include "system.h"

SYSTEM_SUITE(access);

static const char *const LOGIN = "user=user_scram password=secret";

/* Two environments before the same cluster; `open` and `more` are further lines of theirs. */
static struct proxy *start(const char *globals, const char *closed, const char *open)
{
    return proxy_start("pool_mode = transaction\n%s"
                       "[environment closed]\nclass = review_apps\nhosts = 127.0.0.1:%d\n"
                       "auth_type = scram-sha-256\n%s"
                       "[environment open]\nclass = review_apps\nhosts = 127.0.0.1:%d\n"
                       "auth_type = scram-sha-256\n%s"
                       "[databases]\napp =\n",
                       globals, cluster_shared()->port, closed, cluster_shared()->port, open);
}

static PGconn *enter(struct proxy *proxy, const char *environment)
{
    return client_open(proxy, text_of("%s dbname=app@%s", LOGIN, environment));
}

static char *refused(struct proxy *proxy, const char *environment)
{
    return client_refusal(proxy, text_of("%s dbname=app@%s", LOGIN, environment));
}

SYSTEM_TEST(access, users_that_are_not_listed_are_refused_after_their_password)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("", "allow_users = boss, user_plain\n", "");
    char *text = refused(proxy, "closed");

    cr_assert_has(text, "28000");
    cr_assert_has(text, "not allowed to log in here");
    cr_assert_null(strstr(text, "boss"));
    cr_assert_null(strstr(text, "allow_users"));
    cr_assert(proxy_logged(proxy, "login refused by allow_users of environment closed"));
    text = client_refusal(proxy, "user=user_scram password=wrong dbname=app@closed");
    cr_assert_has(text, "28P01");
    client_do(enter(proxy, "open"), "SELECT 1");
    client_do(client_open(proxy, "user=user_plain password=secret dbname=app@closed"), "SELECT 1");
}

SYSTEM_TEST(access, addresses_that_are_not_listed_are_refused)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("", "allow_from = 10.0.0.0/8, ::1\n", "allow_from = 127.0.0.0/8\n");
    char *text = refused(proxy, "closed");

    cr_assert_has(text, "28000");
    cr_assert_null(strstr(text, "10.0.0.0"));
    cr_assert(proxy_logged(proxy, "login refused by allow_from of environment closed"));
    client_do(enter(proxy, "open"), "SELECT 1");
    /* a Unix socket is where 127.0.0.1 is */
    client_do(
        client_open(proxy, text_of("%s host=%s dbname=app@open", LOGIN, proxy->socket_folder)),
        "SELECT 1");
}

SYSTEM_TEST(access, an_ambiguous_name_is_told_only_what_the_user_may_use)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("", "allow_users = boss\n", "");
    char *text = client_refusal(proxy, text_of("%s dbname=app", LOGIN));

    cr_assert_has(text, "3D000");
    cr_assert_has(text, "app@open");
    cr_assert_null(strstr(text, "closed"));
}

SYSTEM_TEST(access, client_limits_hold_for_one_environment_alone)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("", "max_client_connections = 2\n", "");
    PGconn *first = enter(proxy, "closed"), *second = enter(proxy, "closed");
    char *text = refused(proxy, "closed");
    int i;

    cr_assert_has(text, "53300");
    cr_assert_has(text, "max_client_connections");
    for (i = 0; i < 5; i++)
        client_do(enter(proxy, "open"), "SELECT 1");
    PQfinish(first);
    client_do(second, "SELECT 1");
    cr_assert(until(
        proxy_figure(proxy, "ENVIRONMENTS", "name", "closed", "current_client_connections") == 1,
        5000));
    client_do(enter(proxy, "closed"), "SELECT 1");
}

/* Opens a transaction in each; how many have a server when nothing changes any more. */
static int begun(PGconn **clients, int count)
{
    int ready = 0, i;

    for (i = 0; i < count; i++)
        ready += client_is_ready(clients[i]);
    return ready;
}

SYSTEM_TEST(access, server_limits_of_one_environment_starve_no_other)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("", "max_server_connections = 2\npool_size = 5\n", "");
    PGconn *closed[6], *open[3];
    int i;

    for (i = 0; i < 6; i++) {
        closed[i] = enter(proxy, "closed");
        client_send(closed[i], "BEGIN");
    }
    cr_assert(until(begun(closed, 6) == 2, 10000));
    cr_assert_eq(proxy_figure(proxy, "ENVIRONMENTS", "name", "closed", "current_connections"), 2);
    for (i = 0; i < 3; i++) {
        open[i] = enter(proxy, "open");
        client_do(open[i], "BEGIN");
    }
    cr_assert_eq(begun(closed, 6), 2);
    cr_assert_eq(proxy_figure(proxy, "POOLS", "environment", "closed", "cl_waiting"), 4);
}

SYSTEM_TEST(access, a_freed_place_goes_to_the_pool_that_waited_longest)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("", "auth_type = trust\nmax_server_connections = 1\n", "");
    static const char *const users[] = {"user_plain", "crowd", "other", "user_scram"};
    PGconn *clients[4];
    int i;

    /* one pool for each user; the last takes the only place */
    for (i = 0; i < 4; i++) {
        clients[i] =
            client_open(proxy, text_of("user=%s password=secret dbname=app@closed", users[i]));
        client_do(clients[i], "SELECT 1");
    }
    client_do(clients[3], "BEGIN");
    for (i = 2; i >= 0; i--) {
        client_send(clients[i], "BEGIN");
        cr_assert(until(
            proxy_figure(proxy, "POOLS", "environment", "closed", "cl_waiting") == 3 - i, 5000));
    }
    client_do(clients[3], "COMMIT");
    for (i = 2; i >= 0; i--) {
        cr_assert_str_eq(client_finish(clients[i], 5000), "");
        cr_assert_eq(begun(clients, i), 0);
        client_do(clients[i], "COMMIT");
    }
}

SYSTEM_TEST(access, limits_that_a_reload_raises_or_lowers_hold_at_once)
{
    SKIP_ON_PGBOUNCER();
    static const char text[] = "pool_mode = transaction\n"
                               "[environment closed]\nclass = review_apps\nhosts = 127.0.0.1:%d\n"
                               "max_server_connections = %d\nmax_client_connections = %d\n"
                               "[databases]\napp =\n";
    int port = cluster_shared()->port, i;
    struct proxy *proxy = proxy_start(text, port, 1, 3);
    PGconn *clients[3];

    for (i = 0; i < 3; i++) {
        clients[i] = enter(proxy, "closed");
        client_send(clients[i], "BEGIN");
    }
    cr_assert(until(begun(clients, 3) == 1, 5000));
    proxy_rewrite(proxy, text, port, 3, 4);
    cr_assert_null(proxy_reload(proxy));
    cr_assert(until(begun(clients, 3) == 3, 5000));
    PGconn *fourth = enter(proxy, "closed");
    proxy_rewrite(proxy, text, port, 1, 2);
    cr_assert_null(proxy_reload(proxy));
    for (i = 0; i < 3; i++) {
        cr_assert_str_eq(client_finish(clients[i], 1000), "");
        client_do(clients[i], "COMMIT");
    }
    cr_assert(until(
        proxy_figure(proxy, "ENVIRONMENTS", "name", "closed", "current_connections") <= 1, 5000));
    PQfinish(fourth);
    PQfinish(clients[0]);
    cr_assert(until(
        proxy_figure(proxy, "ENVIRONMENTS", "name", "closed", "current_client_connections") == 2,
        5000));
    cr_assert_has(refused(proxy, "closed"), "max_client_connections");
}

/* ---- expires_at ---- */

/* This many seconds from now. */
static char *in_seconds(int seconds)
{
    time_t moment = time(NULL) + seconds;
    char text[64];
    struct tm parts;

    gmtime_r(&moment, &parts);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text_of("expires_at = %s\n", text);
}

static const char *state_of(struct proxy *proxy, const char *environment)
{
    PGresult *result = proxy_show(proxy, "ENVIRONMENTS");
    int row;

    for (row = 0; row < PQntuples(result); row++)
        if (!strcmp(PQgetvalue(result, row, PQfnumber(result, "name")), environment))
            return PQgetvalue(result, row, PQfnumber(result, "state"));
    return "?";
}

SYSTEM_TEST(access, an_environment_that_has_expired_refuses_logins)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("", "expires_at = 2020-02-01T10:00:00Z\n", "");
    char *text = refused(proxy, "closed");

    cr_assert_has(text, "57P03");
    cr_assert_has(text, "environment \"closed\" has expired at 2020-02-01T10:00:00Z");
    cr_assert_has(client_refusal(proxy, "user=user_scram password=wrong dbname=app@closed"),
                  "28P01");
    client_do(enter(proxy, "open"), "SELECT 1");
    cr_assert_str_eq(state_of(proxy, "closed"), "expired");
    cr_assert_str_eq(state_of(proxy, "open"), "active");
}

SYSTEM_TEST(access, pools_are_drained_when_their_environment_expires)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("", in_seconds(3), "");
    PGconn *idle = enter(proxy, "closed"), *busy = enter(proxy, "closed");
    PGconn *other = enter(proxy, "open");

    client_do(busy, "BEGIN");
    client_do(idle, "SELECT 1");
    client_do(other, "SELECT 1");
    cr_assert(proxy_logged(proxy, "environment closed expires at"));
    cr_assert(client_is_closed(idle, 10000));
    cr_assert(proxy_logged(proxy, "environment closed has expired"));
    /* its transaction is allowed to end */
    client_do(busy, "SELECT 1");
    client_do(busy, "COMMIT");
    cr_assert(client_is_closed(busy, 5000));
    cr_assert(until(
        proxy_figure(proxy, "ENVIRONMENTS", "name", "closed", "current_connections") == 0, 5000));
    client_do(other, "SELECT 1");
    cr_assert_has(refused(proxy, "closed"), "57P03");
}

SYSTEM_TEST(access, a_reload_can_give_an_environment_more_time)
{
    SKIP_ON_PGBOUNCER();
    static const char text[] = "pool_mode = transaction\n"
                               "[environment closed]\nclass = review_apps\nhosts = 127.0.0.1:%d\n"
                               "expires_at = %s\n[databases]\napp =\n";
    struct proxy *proxy = proxy_start(text, cluster_shared()->port, "2020-01-01");

    cr_assert_has(refused(proxy, "closed"), "57P03");
    proxy_rewrite(proxy, text, cluster_shared()->port, "2999-01-01");
    cr_assert_null(proxy_reload(proxy));
    client_do(enter(proxy, "closed"), "SELECT 1");
    cr_assert_str_eq(state_of(proxy, "closed"), "active");
    PGconn *client = enter(proxy, "closed");
    proxy_rewrite(proxy, text, cluster_shared()->port, "2020-01-01");
    cr_assert_null(proxy_reload(proxy));
    cr_assert(client_is_closed(client, 5000));
}
