/*
 * client_tls: TLS between clients and pgstage, each sslmode, client certificates, direct TLS.
 */
#include "system.h"

SYSTEM_SUITE(client_tls);

/* A certificate for 127.0.0.1 and localhost, of the shared CA. */
static struct pki_certificate *pooler_certificate(void)
{
    struct pki_request request = {.file = "pooler",
                                  .common_name = "localhost",
                                  .names = "DNS:localhost,IP:127.0.0.1",
                                  .issuer = pki_shared_ca()};

    return pki_issue(test_folder(), &request);
}

static struct proxy *tls_proxy(const char *mode, const char *more)
{
    struct pki_certificate *pooler = pooler_certificate();

    return proxy_start("client_tls_sslmode = %s\nclient_tls_key_file = %s\n"
                       "client_tls_cert_file = %s\n%s",
                       mode, pooler->key, pooler->certificate, more);
}

SYSTEM_TEST(client_tls, disable_answers_n)
{
    struct wire *wire = wire_open(proxy_start("client_tls_sslmode = disable\n"));
    char answer = 0;

    wire_ssl_request(wire);
    cr_assert_eq(wire_take(wire, &answer, 1, PATIENCE_MS), 1);
    cr_assert_eq(answer, 'N');
    wire_login(wire, "app", "app");
}

SYSTEM_TEST(client_tls, allow_and_prefer_serve_both)
{
    static const char *const modes[] = {"allow", "prefer"};
    int i;

    for (i = 0; i < 2; i++) {
        struct proxy *proxy = tls_proxy(modes[i], "");
        PGconn *plain = client_open(proxy, NULL);
        PGconn *secured = client_open(proxy, "sslmode=require");

        cr_assert_not(PQsslInUse(plain));
        cr_assert(PQsslInUse(secured));
        client_do(plain, "SELECT 1");
        client_do(secured, "SELECT 1");
        cr_assert(until(proxy_logged(proxy, "tls=TLSv1.3/"), PATIENCE_MS));
    }
}

SYSTEM_TEST(client_tls, require_refuses_plain_clients_with_an_error)
{
    struct proxy *proxy = tls_proxy("require", "");
    char *text = client_refusal(proxy, NULL);

    cr_assert_has(text, "SSL required");
    client_do(client_open(proxy, "sslmode=require"), "SELECT 1");
}

SYSTEM_TEST(client_tls, clients_can_verify_the_pooler)
{
    struct proxy *proxy = tls_proxy("require", "");

    client_do(client_open(proxy, text_of("sslmode=verify-full sslrootcert=%s",
                                         pki_shared_ca()->certificate)),
              "SELECT 1");
}

SYSTEM_TEST(client_tls, a_unix_socket_needs_no_tls)
{
    struct proxy *proxy = tls_proxy("require", "");

    client_do(client_open(proxy, text_of("host=%s", proxy->socket_folder)), "SELECT 1");
}

SYSTEM_TEST(client_tls, verify_ca_wants_a_certificate_of_the_ca)
{
    struct pki_request client = {.file = "client", .common_name = "app", .issuer = pki_shared_ca()};
    struct pki_request other_ca = {
        .file = "other_ca", .common_name = "Other CA", .authority = true};
    struct pki_certificate *good = pki_issue(test_folder(), &client);
    struct pki_certificate *stranger_ca = pki_issue(test_folder(), &other_ca);
    struct pki_request stranger = {.file = "bad", .common_name = "app", .issuer = stranger_ca};
    struct pki_certificate *bad = pki_issue(test_folder(), &stranger);
    struct pki_request old = {.file = "old",
                              .common_name = "app",
                              .issuer = pki_shared_ca(),
                              .starts_in_days = -10,
                              .ends_in_days = -1};
    struct pki_certificate *expired = pki_issue(test_folder(), &old);
    struct proxy *proxy =
        tls_proxy("verify-ca", text_of("client_tls_ca_file = %s\n", pki_shared_ca()->certificate));
    const char *format = "sslmode=require sslcert=%s sslkey=%s";

    /* our own private key files belong to the unprivileged user: libpq wants them to be ours */
    if (geteuid() == 0) {
        cr_assert_eq(chown(good->key, 0, 0) + chown(bad->key, 0, 0) + chown(expired->key, 0, 0), 0);
    }
    client_do(client_open(proxy, text_of(format, good->certificate, good->key)), "SELECT 1");
    client_refusal(proxy, text_of(format, bad->certificate, bad->key));
    client_refusal(proxy, text_of(format, expired->certificate, expired->key));
    client_refusal(proxy, "sslmode=require");
    client_refusal(proxy, NULL);
    client_do(client_open(proxy, text_of(format, good->certificate, good->key)), "SELECT 1");
}

SYSTEM_TEST(client_tls, direct_tls_with_alpn_is_served)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = tls_proxy("require", "");
    struct wire *wire = wire_open(proxy);
    const unsigned char *protocol;
    unsigned length;

    cr_assert(wire_secure(wire, true, NULL));
    SSL_get0_alpn_selected(wire->ssl, &protocol, &length);
    cr_assert_eq(length, 10);
    cr_assert_arr_eq(protocol, "postgresql", 10);
    wire_login(wire, "app", "app");
    wire_query(wire, "SELECT 'directly'");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "directly");
}

SYSTEM_TEST(client_tls, direct_tls_without_alpn_is_refused)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = tls_proxy("require", "");
    struct wire *wire = wire_open(proxy);
    char byte;

    /* as PostgreSQL does: else another protocol could be talked into this port */
    if (wire_secure(wire, false, NULL)) {
        struct bytes packet = startup_packet("user", "app", "database", "app", NULL);

        wire_write(wire, packet.data, packet.count);
        char *types = wire_types(wire, 'Z', PATIENCE_MS);
        cr_assert(strchr(types, 'Z') == NULL, "%s", types);
    }
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
    (void)byte;
    client_do(client_open(proxy, "sslmode=require"), "SELECT 1");
}

SYSTEM_TEST(client_tls, direct_tls_is_refused_where_tls_is_disabled)
{
    SKIP_ON_PGBOUNCER();
    struct wire *wire = wire_open(proxy_start("client_tls_sslmode = disable\n"));

    cr_assert_not(wire_secure(wire, true, NULL));
}

SYSTEM_TEST(client_tls, a_handshake_that_never_ends_falls_to_the_login_timeout)
{
    struct proxy *proxy = tls_proxy("require", "client_login_timeout = 5\n");
    struct wire *wire = wire_open(proxy);
    struct wire *half = wire_open(proxy);
    char answer = 0;

    wire_ssl_request(wire);
    cr_assert_eq(wire_take(wire, &answer, 1, PATIENCE_MS), 1);
    cr_assert_eq(answer, 'S');
    wire_ssl_request(half);
    wire_take(half, &answer, 1, PATIENCE_MS);
    wire_write(half, "\x16\x03\x01\x00\xff\x01", 6);
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
    cr_assert(wire_is_closed(half, PATIENCE_MS));
}

SYSTEM_TEST(client_tls, a_second_request_inside_tls_is_refused)
{
    struct proxy *proxy = tls_proxy("require", "");
    struct wire *wire = wire_open(proxy);
    char answer = 0;

    wire_ssl_request(wire);
    wire_take(wire, &answer, 1, PATIENCE_MS);
    cr_assert(wire_secure(wire, false, NULL));
    wire_ssl_request(wire);
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
}

SYSTEM_TEST(client_tls, large_traffic_passes_unharmed)
{
    PGconn *client =
        client_open(tls_proxy("require", "pool_mode = transaction\n"), "sslmode=require");
    char *text = malloc(4000001);
    const char *values[] = {text};
    int i;

    for (i = 0; i < 4000000; i++)
        text[i] = (char)('a' + i % 26);
    text[4000000] = 0;
    for (i = 0; i < 3; i++) {
        PGresult *result = PQexecParams(client, "SELECT $1::text", 1, NULL, values, NULL, NULL, 0);

        cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(client));
        cr_assert_str_eq(PQgetvalue(result, 0, 0), text);
        PQclear(result);
    }
}

SYSTEM_TEST(client_tls, cancel_requests_come_over_tls_or_plain)
{
    struct proxy *proxy = tls_proxy("require", "pool_mode = transaction\n");
    struct wire *wire = wire_open(proxy);
    struct wire *request = wire_open(proxy);
    char answer = 0;

    wire_ssl_request(wire);
    wire_take(wire, &answer, 1, PATIENCE_MS);
    cr_assert(wire_secure(wire, false, NULL));
    wire_login(wire, "app", "app");
    wire_query(wire, "SELECT pg_sleep(81)");
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_sleep(81)") == 1, PATIENCE_MS));
    wire_ssl_request(request);
    wire_take(request, &answer, 1, PATIENCE_MS);
    cr_assert(wire_secure(request, false, NULL));
    wire_cancel_request(request, wire->key_pid, wire->key_secret);
    cr_assert_has(wire_error(wire, PATIENCE_MS), "57014");
}

SYSTEM_TEST(client_tls, old_protocol_versions_are_refused)
{
    struct proxy *proxy = tls_proxy("require", "");

    client_refusal(proxy, "sslmode=require ssl_min_protocol_version=TLSv1 "
                          "ssl_max_protocol_version=TLSv1.1");
    PGconn *client = client_open(proxy, "sslmode=require ssl_max_protocol_version=TLSv1.2");
    cr_assert_str_eq(PQsslAttribute(client, "protocol"), "TLSv1.2");
}

SYSTEM_TEST(client_tls, a_reload_brings_new_certificates_to_new_clients)
{
    SKIP_ON_PGBOUNCER();
    struct pki_certificate *first = pooler_certificate();
    struct pki_request request = {
        .file = "second", .common_name = "localhost", .names = "DNS:localhost,IP:127.0.0.1"};
    struct pki_certificate *second = pki_issue(test_folder(), &request);
    const char *format = "client_tls_sslmode = require\nclient_tls_key_file = %s\n"
                         "client_tls_cert_file = %s\n";
    struct proxy *proxy = proxy_start("client_tls_sslmode = require\nclient_tls_key_file = %s\n"
                                      "client_tls_cert_file = %s\n",
                                      first->key, first->certificate);
    const char *verify =
        text_of("sslmode=verify-full sslrootcert=%s", pki_shared_ca()->certificate);
    PGconn *old = client_open(proxy, verify);

    (void)format;
    proxy_rewrite(proxy,
                  "client_tls_sslmode = require\nclient_tls_key_file = %s\n"
                  "client_tls_cert_file = %s\n",
                  second->key, second->certificate);
    PGconn *admin = client_open(proxy, "user=admin dbname=pgbouncer sslmode=require");
    client_do(admin, "RELOAD");
    cr_assert_has(client_refusal(proxy, verify), "certificate");
    client_do(
        client_open(proxy, text_of("sslmode=verify-full sslrootcert=%s", second->certificate)),
        "SELECT 1");
    client_do(old, "SELECT 1");
}
