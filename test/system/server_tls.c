/*
 * server_tls: TLS between pgstage and PostgreSQL. verify-full means verify-full: whatever is wrong
 * with a certificate, no query passes, and there is no fallback to anything weaker.
 */
#include "system.h"

SYSTEM_SUITE(server_tls);

static const char *const SSL_STATE = "SELECT ssl::text || ' ' || coalesce(version, '') FROM "
                                     "pg_stat_ssl WHERE pid = pg_backend_pid()";

/* A proxy to 127.0.0.1:port with this mode and CA. With a host name the environment grammar is used
 * (name@address), which PgBouncer has not. */
static struct proxy *proxy_to(int port, const char *mode, const char *ca_file, const char *name)
{
    const char *ca = ca_file ? text_of("server_tls_ca_file = %s\n", ca_file) : "";
    const char *quick =
        "query_wait_timeout = 8\nserver_login_retry = 1\nserver_connect_timeout = 8\n";

    if (!name)
        return proxy_start(
            "server_tls_sslmode = %s\n%s%s[databases]\napp = host=127.0.0.1 port=%d\n", mode, ca,
            quick, port);
    return proxy_start("%sdefault_environment = tested\n"
                       "[environment tested]\nclass = staging\nclient_tls_sslmode = disable\n"
                       "server_tls_sslmode = %s\n%shosts = %s@127.0.0.1:%d\nmin_pool_size = 0\n"
                       "[databases]\napp = dbname=app\n",
                       quick, mode, ca, name, port);
}

/* The login fails, and what the log says has the reason. */
static void is_refused(struct proxy *proxy, const char *reason)
{
    client_refusal(proxy, NULL);
    if (reason && !program_is_pgbouncer())
        cr_assert(until(proxy_logged(proxy, reason), PATIENCE_MS), "\"%s\" is not in its log",
                  reason);
}

SYSTEM_TEST(server_tls, disable_prefer_and_require_do_what_they_say)
{
    int port = cluster_shared()->port;

    cr_assert_str_eq(
        client_value(client_open(proxy_to(port, "disable", NULL, NULL), NULL), SSL_STATE),
        "false ");
    cr_assert_str_eq(
        client_value(client_open(proxy_to(port, "prefer", NULL, NULL), NULL), SSL_STATE),
        "true TLSv1.3");
    cr_assert_str_eq(
        client_value(client_open(proxy_to(port, "require", NULL, NULL), NULL), SSL_STATE),
        "true TLSv1.3");
}

SYSTEM_TEST(server_tls, prefer_goes_on_without_where_the_server_has_none)
{
    struct cluster_options options = {.settings = "ssl = off\n"};
    struct cluster *cluster = cluster_start(&options);

    cr_assert_str_eq(
        client_value(client_open(proxy_to(cluster->port, "prefer", NULL, NULL), NULL), SSL_STATE),
        "false ");
    is_refused(proxy_to(cluster->port, "require", NULL, NULL), "SSL");
    is_refused(proxy_to(cluster->port, "verify-ca", pki_shared_ca()->certificate, NULL), "SSL");
}

SYSTEM_TEST(server_tls, verify_ca_accepts_any_name_of_the_right_ca)
{
    struct proxy *proxy =
        proxy_to(cluster_shared()->port, "verify-ca", pki_shared_ca()->certificate, NULL);

    cr_assert_str_eq(client_value(client_open(proxy, NULL), SSL_STATE), "true TLSv1.3");
}

SYSTEM_TEST(server_tls, verify_full_accepts_the_right_name)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_to(cluster_shared()->port, "verify-full",
                                   pki_shared_ca()->certificate, "pg.production.test");

    cr_assert_str_eq(client_value(client_open(proxy, NULL), SSL_STATE), "true TLSv1.3");
}

SYSTEM_TEST(server_tls, verify_full_refuses_a_wrong_host_name)
{
    SKIP_ON_PGBOUNCER();
    is_refused(proxy_to(cluster_shared()->port, "verify-full", pki_shared_ca()->certificate,
                        "pg.elsewhere.test"),
               "hostname mismatch");
}

SYSTEM_TEST(server_tls, verify_full_refuses_an_address_that_the_certificate_does_not_name)
{
    is_refused(proxy_to(cluster_shared()->port, "verify-full", pki_shared_ca()->certificate, NULL),
               "mismatch");
}

SYSTEM_TEST(server_tls, verify_full_accepts_an_address_in_the_certificate)
{
    struct pki_request request = {.file = "by_address",
                                  .common_name = "somewhere",
                                  .names = "IP:127.0.0.1",
                                  .issuer = pki_shared_ca()};
    struct cluster_options options = {.certificate = pki_issue(test_folder(), &request)};
    struct cluster *cluster = cluster_start(&options);
    struct proxy *proxy =
        proxy_to(cluster->port, "verify-full", pki_shared_ca()->certificate, NULL);

    cr_assert_str_eq(client_value(client_open(proxy, NULL), SSL_STATE), "true TLSv1.3");
}

SYSTEM_TEST(server_tls, an_unknown_ca_is_refused)
{
    struct pki_request request = {.file = "other_ca", .common_name = "Test CA", .authority = true};
    struct pki_certificate *other = pki_issue(test_folder(), &request);

    is_refused(proxy_to(cluster_shared()->port, "verify-ca", other->certificate, NULL),
               "certificate");
    if (!program_is_pgbouncer())
        is_refused(proxy_to(cluster_shared()->port, "verify-full", other->certificate,
                            "pg.production.test"),
                   "certificate");
}

SYSTEM_TEST(server_tls, an_expired_certificate_is_refused)
{
    struct pki_request request = {.file = "expired",
                                  .common_name = "pg.production.test",
                                  .names = "DNS:pg.production.test",
                                  .issuer = pki_shared_ca(),
                                  .starts_in_days = -30,
                                  .ends_in_days = -1};
    struct cluster_options options = {.certificate = pki_issue(test_folder(), &request)};
    struct cluster *cluster = cluster_start(&options);

    is_refused(proxy_to(cluster->port, "verify-ca", pki_shared_ca()->certificate, NULL), "expired");
    if (!program_is_pgbouncer())
        is_refused(proxy_to(cluster->port, "verify-full", pki_shared_ca()->certificate,
                            "pg.production.test"),
                   "expired");
}

SYSTEM_TEST(server_tls, a_certificate_of_tomorrow_is_refused)
{
    struct pki_request request = {.file = "early",
                                  .common_name = "pg.production.test",
                                  .names = "DNS:pg.production.test",
                                  .issuer = pki_shared_ca(),
                                  .starts_in_days = 1,
                                  .ends_in_days = 10};
    struct cluster_options options = {.certificate = pki_issue(test_folder(), &request)};
    struct cluster *cluster = cluster_start(&options);

    is_refused(proxy_to(cluster->port, "verify-ca", pki_shared_ca()->certificate, NULL),
               "not yet valid");
}

SYSTEM_TEST(server_tls, a_self_signed_certificate_is_refused)
{
    struct pki_request request = {
        .file = "own", .common_name = "pg.production.test", .names = "DNS:pg.production.test"};
    struct cluster_options options = {.certificate = pki_issue(test_folder(), &request)};
    struct cluster *cluster = cluster_start(&options);

    is_refused(proxy_to(cluster->port, "verify-ca", pki_shared_ca()->certificate, NULL),
               "self-signed");
    if (!program_is_pgbouncer())
        is_refused(proxy_to(cluster->port, "verify-full", pki_shared_ca()->certificate,
                            "pg.production.test"),
                   "self-signed");
}

SYSTEM_TEST(server_tls, an_intermediate_chain_is_followed)
{
    struct pki_request middle_request = {
        .file = "middle", .common_name = "Middle CA", .authority = true, .issuer = pki_shared_ca()};
    struct pki_certificate *middle = pki_issue(test_folder(), &middle_request);
    struct pki_request request = {.file = "chained",
                                  .common_name = "pg.production.test",
                                  .names = "DNS:pg.production.test,IP:127.0.0.1",
                                  .issuer = middle};
    struct cluster_options options = {.certificate = pki_issue(test_folder(), &request)};
    struct cluster *cluster = cluster_start(&options);

    cr_assert_str_eq(client_value(client_open(proxy_to(cluster->port, "verify-full",
                                                       pki_shared_ca()->certificate, NULL),
                                              NULL),
                                  SSL_STATE),
                     "true TLSv1.3");
}

SYSTEM_TEST(server_tls, the_common_name_does_not_count_where_there_are_names)
{
    struct pki_request request = {.file = "misleading",
                                  .common_name = "pg.production.test",
                                  .names = "DNS:pg.elsewhere.test",
                                  .issuer = pki_shared_ca()};
    struct cluster_options options = {.certificate = pki_issue(test_folder(), &request)};
    struct cluster *cluster = cluster_start(&options);

    SKIP_ON_PGBOUNCER();
    is_refused(
        proxy_to(cluster->port, "verify-full", pki_shared_ca()->certificate, "pg.production.test"),
        "hostname mismatch");
}

SYSTEM_TEST(server_tls, a_client_certificate_is_shown_to_the_server)
{
    struct pki_request request = {
        .file = "client", .common_name = "app", .issuer = pki_shared_ca()};
    struct pki_certificate *client = pki_issue(test_folder(), &request);
    struct cluster_options options = {
        .hba = "local all all trust\nhostssl all app 127.0.0.1/32 cert\n"};
    struct cluster *cluster = cluster_start(&options);
    struct proxy *proxy = proxy_start(
        "server_tls_sslmode = require\nserver_tls_cert_file = %s\nserver_tls_key_file = %s\n"
        "[databases]\napp = %s\n",
        client->certificate, client->key, cluster_route(cluster));

    cr_assert_str_eq(client_value(client_open(proxy, NULL), "SELECT current_user"), "app");
}

/* ---- servers that misbehave before TLS ---- */

static void serve_n(struct wire *wire, struct fake *fake)
{
    (void)fake;
    if (fake_startup(wire, 'N')) {
        fake_welcome(wire);
        fake_answer(wire, "in the clear");
    }
}

SYSTEM_TEST(server_tls, n_is_no_answer_where_tls_is_required)
{
    struct fake *plain = fake_start(serve_n, NULL);

    is_refused(proxy_to(plain->port, "require", NULL, NULL), "SSL");
    is_refused(proxy_to(plain->port, "verify-ca", pki_shared_ca()->certificate, NULL), "SSL");
    if (!program_is_pgbouncer())
        is_refused(proxy_to(plain->port, "verify-full", pki_shared_ca()->certificate,
                            "pg.production.test"),
                   "SSL");
}

static void serve_stall(struct wire *wire, struct fake *fake)
{
    (void)fake;
    fake_startup(wire, 'S');
    fake_hang(wire);
}

SYSTEM_TEST(server_tls, a_stall_after_s_ends_with_the_connect_timeout)
{
    struct fake *stalled = fake_start(serve_stall, NULL);
    struct proxy *proxy = proxy_start("server_tls_sslmode = require\nserver_connect_timeout = 1\n"
                                      "server_login_retry = 1\nquery_wait_timeout = 4\n"
                                      "[databases]\napp = %s\n",
                                      fake_route(stalled));

    client_refusal(proxy, NULL);
    cr_assert(until(proxy_logged(proxy, "connect timeout") || proxy_logged(proxy, "connect failed"),
                    PATIENCE_MS));
}

static void serve_stuffed(struct wire *wire, struct fake *fake)
{
    unsigned char head[8];

    (void)fake;
    /* 'S' with plaintext right behind it, as a man in the middle would */
    if (wire_take(wire, head, 8, PATIENCE_MS) == 8)
        wire_write(wire, "SR\0\0\0\010\0\0\0\0", 10);
    fake_hang(wire);
}

SYSTEM_TEST(server_tls, plaintext_behind_s_is_refused)
{
    struct fake *stuffed = fake_start(serve_stuffed, NULL);

    is_refused(proxy_to(stuffed->port, "require", NULL, NULL), NULL);
}

static void serve_error(struct wire *wire, struct fake *fake)
{
    unsigned char head[8];

    (void)fake;
    if (wire_take(wire, head, 8, PATIENCE_MS) == 8)
        fake_error(wire, "FATAL", "53300", "too many clients, said in the clear");
    fake_hang(wire);
}

SYSTEM_TEST(server_tls, an_error_in_the_clear_is_not_believed)
{
    SKIP_ON_PGBOUNCER();
    struct fake *fake = fake_start(serve_error, NULL);
    struct proxy *proxy = proxy_to(fake->port, "require", NULL, NULL);
    char *text = client_refusal(proxy, NULL);

    /* CVE-2024-10977: what came before TLS may be anybody's words */
    cr_assert_null(strstr(text, "said in the clear"), "%s", text);
}

SYSTEM_TEST(server_tls, cancel_requests_go_over_tls_too)
{
    SKIP_ON_PGBOUNCER();
    struct cluster_options options = {
        .hba = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n",
        .settings = "log_connections = on\n"};
    struct cluster *cluster = cluster_start(&options);
    struct proxy *proxy =
        proxy_to(cluster->port, "verify-full", pki_shared_ca()->certificate, "pg.production.test");
    PGconn *client = client_open(proxy, NULL);
    char problem[256];

    client_start(client, "SELECT pg_sleep(82)");
    cr_assert(until(cluster_running(cluster, "SELECT pg_sleep(82)") == 1, PATIENCE_MS));
    cr_assert(PQcancel(PQgetCancel(client), problem, sizeof problem));
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "57014");
}
