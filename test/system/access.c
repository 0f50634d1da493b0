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
    cr_assert(until(proxy_logged(proxy, "login refused by allow_users of environment closed"),
                    PATIENCE_MS));
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
    cr_assert(until(proxy_logged(proxy, "login refused by allow_from of environment closed"),
                    PATIENCE_MS));
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
        PATIENCE_MS));
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
        client_start(closed[i], "BEGIN");
    }
    cr_assert(until(begun(closed, 6) == 2, PATIENCE_MS));
    cr_assert(
        until(proxy_figure(proxy, "ENVIRONMENTS", "name", "closed", "current_connections") == 2,
              PATIENCE_MS));
    for (i = 0; i < 3; i++) {
        open[i] = enter(proxy, "open");
        client_do(open[i], "BEGIN");
    }
    cr_assert_eq(begun(closed, 6), 2);
    cr_assert(until(proxy_figure(proxy, "POOLS", "environment", "closed", "cl_waiting") == 4,
                    PATIENCE_MS));
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
        client_start(clients[i], "BEGIN");
        cr_assert(
            until(proxy_figure(proxy, "POOLS", "environment", "closed", "cl_waiting") == 3 - i,
                  PATIENCE_MS));
    }
    client_do(clients[3], "COMMIT");
    for (i = 2; i >= 0; i--) {
        cr_assert_str_eq(client_finish(clients[i], PATIENCE_MS), "");
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
        client_start(clients[i], "BEGIN");
    }
    cr_assert(until(begun(clients, 3) == 1, PATIENCE_MS));
    proxy_rewrite(proxy, text, port, 3, 4);
    cr_assert_null(proxy_reload(proxy));
    cr_assert(until(begun(clients, 3) == 3, PATIENCE_MS));
    PGconn *fourth = enter(proxy, "closed");
    proxy_rewrite(proxy, text, port, 1, 2);
    cr_assert_null(proxy_reload(proxy));
    for (i = 0; i < 3; i++) {
        cr_assert_str_eq(client_finish(clients[i], PATIENCE_MS), "");
        client_do(clients[i], "COMMIT");
    }
    cr_assert(
        until(proxy_figure(proxy, "ENVIRONMENTS", "name", "closed", "current_connections") <= 1,
              PATIENCE_MS));
    PQfinish(fourth);
    PQfinish(clients[0]);
    cr_assert(until(
        proxy_figure(proxy, "ENVIRONMENTS", "name", "closed", "current_client_connections") == 2,
        PATIENCE_MS));
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
    struct proxy *proxy = start("", in_seconds(8), "");
    PGconn *idle = enter(proxy, "closed"), *busy = enter(proxy, "closed");
    PGconn *other = enter(proxy, "open");

    client_do(busy, "BEGIN");
    client_do(idle, "SELECT 1");
    client_do(other, "SELECT 1");
    cr_assert(until(proxy_logged(proxy, "environment closed expires at"), PATIENCE_MS));
    cr_assert(client_is_closed(idle, PATIENCE_MS));
    cr_assert(until(proxy_logged(proxy, "environment closed has expired"), PATIENCE_MS));
    /* its transaction is allowed to end */
    client_do(busy, "SELECT 1");
    client_do(busy, "COMMIT");
    cr_assert(client_is_closed(busy, PATIENCE_MS));
    cr_assert(
        until(proxy_figure(proxy, "ENVIRONMENTS", "name", "closed", "current_connections") == 0,
              PATIENCE_MS));
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
    cr_assert(client_is_closed(client, PATIENCE_MS));
}

/* ---- PROXY protocol ---- */

/* A second listener that wants headers, from 127.0.0.1 or from elsewhere. */
static struct proxy *start_behind(int port, const char *believed, const char *more)
{
    return proxy_start("pool_mode = transaction\n%s"
                       "[listener balanced]\nlisten_addr = 127.0.0.1\nlisten_port = %d\n"
                       "unix_socket_dir =\nproxy_protocol = yes\nproxy_protocol_from = %s\n"
                       "[environment e]\nclass = review_apps\nhosts = 127.0.0.1:%d\n"
                       "allow_from = 192.0.2.0/24, 2001:db8::/32, 127.0.0.1\n"
                       "[databases]\napp = environment=e\n",
                       more, port, believed, cluster_shared()->port);
}

/* Sends a header and the startup packet in one piece. */
static struct wire *come(int port, const void *header, size_t length)
{
    struct wire *wire = wire_open_port(port);
    struct bytes bytes = {0}, startup = startup_packet("user", "app", "database", "app", NULL);

    bytes_add(&bytes, header, length);
    bytes_add(&bytes, startup.data, startup.count);
    wire_write(wire, bytes.data, bytes.count);
    return wire;
}

static struct wire *come_with(int port, const char *line)
{
    return come(port, line, strlen(line));
}

SYSTEM_TEST(access, the_address_that_a_proxy_tells_is_the_clients)
{
    SKIP_ON_PGBOUNCER();
    int port = port_take();
    struct proxy *proxy = start_behind(port, "127.0.0.0/8", "");
    struct wire *wire = come_with(port, "PROXY TCP4 192.0.2.7 198.51.100.1 51000 6432\r\n");
    static const char binary[] = "\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24"
                                 "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09"
                                 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x11\x22\0\0";
    struct wire *second = come(port, binary, sizeof binary - 1);

    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "RKZ");
    cr_assert_str_eq(wire_types(second, 'Z', PATIENCE_MS), "RKZ");
    cr_assert(until(proxy_rows(proxy, "CLIENTS", "addr", "192.0.2.7") == 1, PATIENCE_MS));
    cr_assert(
        until(proxy_figure(proxy, "CLIENTS", "addr", "192.0.2.7", "port") == 51000, PATIENCE_MS));
    cr_assert(until(proxy_rows(proxy, "CLIENTS", "addr", "2001:db8::9") == 1, PATIENCE_MS));
    cr_assert(until(proxy_logged(proxy, "@192.0.2.7:51000 login attempt"), PATIENCE_MS));
    cr_assert(until(proxy_logged(proxy, "@[2001:db8::9]:4386 login attempt"), PATIENCE_MS));
}

SYSTEM_TEST(access, the_console_beside_production_wants_tls_from_elsewhere)
{
    SKIP_ON_PGBOUNCER();
    static const char production[] = "auth_type = scram-sha-256\n"
                                     "[environment p]\nclass = production\nhosts = pg.invalid\n"
                                     "server_tls_ca_file = %s\nmin_pool_size = 0\n";
    const char *header = "PROXY TCP4 192.0.2.7 198.51.100.1 51000 6432\r\n";
    struct bytes startup = startup_packet("user", "admin", "database", "pgstage", NULL);

    for (int i = 0; i < 2; i++) {
        int port = port_take();
        struct proxy *proxy = start_behind(
            port, "127.0.0.0/8", i ? text_of(production, pki_shared_ca()->certificate) : "");
        struct wire *wire = wire_open_port(port);
        struct bytes bytes = {0};

        bytes_add(&bytes, header, strlen(header));
        bytes_add(&bytes, startup.data, startup.count);
        wire_write(wire, bytes.data, bytes.count);
        if (i)
            cr_assert_has(wire_error(wire, PATIENCE_MS), "SSL required");
        else
            cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "RKZ");
        /* loopback crosses no wire */
        proxy_do(proxy, "SHOW VERSION");
    }
}

SYSTEM_TEST(access, allow_from_is_about_the_address_behind_the_proxy)
{
    SKIP_ON_PGBOUNCER();
    int port = port_take();
    struct proxy *proxy = start_behind(port, "127.0.0.1", "");
    struct wire *wire = come_with(port, "PROXY TCP4 203.0.113.5 198.51.100.1 51000 6432\r\n");

    cr_assert_has(wire_error(wire, PATIENCE_MS), "FATAL 28000 not allowed to log in here");
    /* the proxy's own connection comes from where the proxy is */
    wire = come_with(port, "PROXY UNKNOWN\r\n");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "RKZ");
    /* and [pgstage]'s own listener wants no header */
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(access, headers_are_believed_from_nobody_else)
{
    SKIP_ON_PGBOUNCER();
    int port = port_take();
    struct proxy *proxy = start_behind(port, "10.0.0.0/8", "");
    struct wire *wire = come_with(port, "PROXY TCP4 192.0.2.7 198.51.100.1 51000 6432\r\n");

    cr_assert_has(wire_error(wire, PATIENCE_MS), "28000 connections come through a proxy only");
    cr_assert(until(proxy_logged(proxy, "connections come through a proxy only"), PATIENCE_MS));
}

SYSTEM_TEST(access, a_connection_without_a_header_is_refused)
{
    SKIP_ON_PGBOUNCER();
    int port = port_take();
    struct proxy *proxy = start_behind(port, "127.0.0.1", "");
    struct wire *wire = come(port, "", 0);

    cr_assert_has(wire_error(wire, PATIENCE_MS), "a PROXY header was expected");
    (void)proxy;
}

SYSTEM_TEST(access, a_header_may_come_byte_by_byte)
{
    SKIP_ON_PGBOUNCER();
    int port = port_take();
    struct proxy *proxy = start_behind(port, "127.0.0.1", "");
    static const char line[] = "PROXY TCP6 2001:db8::1 2001:db8::2 51000 6432\r\n";
    struct wire *wire = wire_open_port(port);
    size_t i;

    for (i = 0; i < sizeof line - 1; i++) {
        wire_write(wire, line + i, 1);
        pause_ms(1);
    }
    wire_login(wire, "app", "app");
    cr_assert(until(proxy_rows(proxy, "CLIENTS", "addr", "2001:db8::1") == 1, PATIENCE_MS));
}

/* TLS begins behind the header: not a byte of the handshake may be read with it. */
SYSTEM_TEST(access, tls_follows_a_header)
{
    SKIP_ON_PGBOUNCER();
    int port = port_take();
    struct pki_request request = {.file = "pooler",
                                  .common_name = "localhost",
                                  .names = "DNS:localhost,IP:127.0.0.1",
                                  .issuer = pki_shared_ca()};
    struct pki_certificate *pooler = pki_issue(test_folder(), &request);
    struct proxy *proxy =
        start_behind(port, "127.0.0.1",
                     text_of("client_tls_sslmode = require\nclient_tls_cert_file = %s\n"
                             "client_tls_key_file = %s\n[listener own]\nlisten_addr = 127.0.0.1\n"
                             "unix_socket_dir =\nlisten_port = %d\nclient_tls_sslmode = disable\n",
                             pooler->certificate, pooler->key, port_take()));
    static const char line[] = "PROXY TCP4 192.0.2.8 198.51.100.1 51000 6432\r\n";
    struct wire *wire = wire_open_port(port);

    wire_write(wire, line, sizeof line - 1);
    cr_assert(wire_secure(wire, true, NULL));
    wire_login(wire, "app", "app");
    wire_query(wire, "SELECT 1");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "1");
    (void)proxy;
}

/* A client of production without TLS: from loopback through a proxy on loopback it may, and what
 * came to that proxy from elsewhere may not. */
SYSTEM_TEST(access, loopback_needs_no_tls_only_when_both_ends_are_loopback)
{
    SKIP_ON_PGBOUNCER();
    int port = port_take();
    struct proxy *proxy =
        proxy_start("auth_type = scram-sha-256\n"
                    "[listener balanced]\nlisten_addr = 127.0.0.1\nlisten_port = %d\n"
                    "unix_socket_dir =\nproxy_protocol = yes\nproxy_protocol_from = 127.0.0.1\n"
                    "[environment live]\nclass = production\n"
                    "hosts = pg.production.test@127.0.0.1:%d\nserver_tls_ca_file = %s\n"
                    "server_tls_sslmode = verify-full\nclient_tls_sslmode = require\n"
                    "[databases]\napp = environment=live\n",
                    port, cluster_shared()->port, pki_shared_ca()->certificate);
    struct wire *wire = come_with(port, "PROXY TCP4 192.0.2.7 198.51.100.1 51000 6432\r\n");

    cr_assert_has(wire_error(wire, PATIENCE_MS), "SSL required");
    wire = come_with(port, "PROXY TCP4 127.0.0.1 127.0.0.1 51000 6432\r\n");
    cr_assert_str_eq(wire_types(wire, 'R', PATIENCE_MS), "R");
    (void)proxy;
}

/* ---- failed logins ---- */

static const char GUARDED[] = "auth_type = scram-sha-256\nlogin_failures_loopback = yes\n"
                              "login_failures_limit = 3\nlogin_refusal_time = 10\n"
                              "pool_mode = transaction\n";

static long lists(PGconn *console, const char *name)
{
    PGresult *result = PQexec(console, "SHOW LISTS");
    int row;

    for (row = 0; row < PQntuples(result); row++)
        if (!strcmp(PQgetvalue(result, row, 0), name))
            return atol(PQgetvalue(result, row, 1));
    return -1;
}

static PGconn *console_of(struct proxy *proxy)
{
    return client_open(proxy, text_of("user=admin password=adminsecret dbname=pgstage host=%s",
                                      proxy->socket_folder));
}

SYSTEM_TEST(access, an_address_that_fails_too_often_is_refused_for_a_while)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("%s", GUARDED);
    PGconn *console = console_of(proxy), *before = client_open(proxy, LOGIN);
    int i;

    for (i = 0; i < 3; i++)
        cr_assert_has(client_refusal(proxy, "user=user_scram password=wrong"), "28P01");
    cr_assert(until(proxy_logged(proxy, "it is refused for 10 s"), PATIENCE_MS));
    char *text = client_refusal(proxy, LOGIN);
    cr_assert_has(text, "28000");
    cr_assert_has(text, "too many failed logins from this address");
    /* who is in stays in, and a Unix socket has no address */
    client_do(before, "SELECT 1");
    client_do(client_open(proxy, text_of("%s host=%s", LOGIN, proxy->socket_folder)), "SELECT 1");
    cr_assert_eq(lists(console, "login_failures"), 3);
    cr_assert_eq(lists(console, "login_refusals"), 1);
    cr_assert_eq(lists(console, "login_refused_addresses"), 1);
    cr_assert(until(lists(console, "login_refused_addresses") == 0, PATIENCE_MS));
    client_do(client_open(proxy, LOGIN), "SELECT 1");
}

SYSTEM_TEST(access, answers_that_wait_hold_up_nobody_else)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("auth_type = plain\nlogin_failures_loopback = yes\n"
                                      "workers = 1\nmax_client_conn = 1\n");
    struct wire *wire = NULL;
    struct bytes startup = startup_packet("user", "app", "database", "app", NULL);
    int i;

    for (i = 0; i < 4; i++)
        cr_assert_has(client_refusal(proxy, "user=app password=wrong"), "28P01");
    /* the fifth waits 1.6 s */
    wire = wire_open(proxy);
    wire_write(wire, startup.data, startup.count);
    cr_assert_str_eq(wire_types(wire, 'R', PATIENCE_MS), "R");
    wire_password(wire, "wrong");
    cr_assert_str_eq(wire_types(wire, 'E', 300), "?");
    /* it stands in no limit, and the loop goes on */
    client_do(client_open(proxy, "user=app password=appsecret"), "SELECT 1");
    cr_assert_has(wire_error(wire, PATIENCE_MS), "28P01");
}

SYSTEM_TEST(access, a_client_that_leaves_while_its_answer_waits_is_forgotten)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("auth_type = plain\nlogin_failures_loopback = yes\n");
    struct bytes startup = startup_packet("user", "app", "database", "app", NULL);
    int i;

    for (i = 0; i < 4; i++)
        cr_assert_has(client_refusal(proxy, "user=app password=wrong"), "28P01");
    struct wire *wire = wire_open(proxy);
    wire_write(wire, startup.data, startup.count);
    cr_assert_str_eq(wire_types(wire, 'R', PATIENCE_MS), "R");
    wire_password(wire, "wrong");
    cr_assert_str_eq(wire_types(wire, 'E', 200), "?");
    wire_reset(wire);
    PGconn *console = console_of(proxy);
    cr_assert(until(lists(console, "login_clients") == 0, PATIENCE_MS));
}

/* ---- a certificate for each environment ---- */

static struct pki_certificate *certificate_for(const char *file, const char *name)
{
    struct pki_request request = {.file = file,
                                  .common_name = name,
                                  .names = text_of("DNS:%s", name),
                                  .issuer = pki_shared_ca()};
    return pki_issue(test_folder(), &request);
}

/* Verifies the certificate for `name`, and goes to 127.0.0.1. */
static const char *as(const char *name)
{
    return text_of("%s host=%s hostaddr=127.0.0.1 sslmode=verify-full sslrootcert=%s", LOGIN, name,
                   pki_shared_ca()->certificate);
}

SYSTEM_TEST(access, each_name_is_shown_the_certificate_of_its_environment)
{
    SKIP_ON_PGBOUNCER();
    struct pki_certificate *own = certificate_for("own", "own.test"),
                           *one = certificate_for("one", "one.test"),
                           *two = certificate_for("two", "*.two.test");
    int live = port_take();
    struct proxy *proxy = proxy_start(
        "client_tls_sslmode = prefer\nclient_tls_cert_file = %s\n"
        "client_tls_key_file = %s\ndefault_environment = one\n"
        "[listener live]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nenvironment = two\n"
        "unix_socket_dir =\n"
        "[environment one]\nclass = review_apps\nhosts = 127.0.0.1:%d\nsni = one.test\n"
        "client_tls_cert_file = %s\nclient_tls_key_file = %s\n"
        "[environment two]\nclass = review_apps\nhosts = 127.0.0.1:%d\nsni = *.two.test\n"
        "client_tls_cert_file = %s\nclient_tls_key_file = %s\n"
        "[databases]\napp =\n",
        own->certificate, own->key, live, cluster_shared()->port, one->certificate, one->key,
        cluster_shared()->port, two->certificate, two->key);

    client_do(client_open(proxy, as("own.test")), "SELECT 1");
    client_do(client_open(proxy, as("one.test")), "SELECT 1");
    client_do(client_open(proxy, as("pg.two.test")), "SELECT 1");
    cr_assert_has(client_refusal(proxy, as("other.test")), "certificate");
    /* a listener of one environment shows that one's to everybody */
    client_do(client_open(proxy, text_of("%s port=%d", as("x.two.test"), live)), "SELECT 1");
    cr_assert_has(client_refusal(proxy, text_of("%s port=%d", as("own.test"), live)),
                  "certificate");
    /* a reload brings rotated ones into use */
    (void)certificate_for("one", "renamed.test");
    cr_assert_null(proxy_reload(proxy));
    cr_assert_has(client_refusal(proxy, as("one.test")), "certificate");
    client_do(client_open(proxy, as("own.test")), "SELECT 1");
}
