/*
 * channel_binding: SCRAM-SHA-256-PLUS with real libpq in front and real PostgreSQL behind.
 */
#include "system.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

SYSTEM_SUITE(channel_binding);

static struct pki_certificate *pooler_certificate(const char *file)
{
    struct pki_request request = {
        .file = file, .common_name = "localhost", .names = "IP:127.0.0.1"};

    return pki_issue(test_folder(), &request);
}

static const char *client_tls(const struct pki_certificate *pooler)
{
    return text_of("auth_type = scram-sha-256\nclient_tls_sslmode = prefer\n"
                   "client_tls_key_file = %s\nclient_tls_cert_file = %s\n",
                   pooler->key, pooler->certificate);
}

#define BOUND "sslmode=require channel_binding=require user=app password=appsecret"

SYSTEM_TEST(channel_binding, clients_can_require_it)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("%s", client_tls(pooler_certificate("pooler")));

    client_do(client_open(proxy, BOUND), "SELECT 1");
    /* … or do without, or not have it */
    client_do(client_open(proxy, "sslmode=require channel_binding=disable password=appsecret"),
              "SELECT 1");
    client_do(client_open(proxy, "sslmode=disable password=appsecret"), "SELECT 1");
    cr_assert_has(
        client_refusal(proxy, "sslmode=disable channel_binding=require password=appsecret"),
        "channel binding");
    cr_assert_has(client_refusal(proxy, "sslmode=require channel_binding=require password=wrong"),
                  "authentication failed");
}

SYSTEM_TEST(channel_binding, a_new_certificate_counts_for_new_handshakes)
{
    SKIP_ON_PGBOUNCER();
    struct pki_certificate *first = pooler_certificate("first");
    struct pki_certificate *second = pooler_certificate("second");
    struct proxy *proxy = proxy_start("%s", client_tls(first));
    PGconn *before = client_open(proxy, BOUND);

    proxy_rewrite(proxy, "%s", client_tls(second));
    cr_assert_null(proxy_reload(proxy));
    client_do(client_open(
                  proxy, text_of(BOUND " sslmode=verify-full sslrootcert=%s", second->certificate)),
              "SELECT 1");
    client_do(before, "SELECT 1");
}

/* The certificate of an environment that the client has named by SNI. */
SYSTEM_TEST(channel_binding, the_certificate_that_was_chosen_by_name_counts)
{
    SKIP_ON_PGBOUNCER();
    struct pki_certificate *pooler = pooler_certificate("pooler");
    struct pki_request request = {
        .file = "own", .common_name = "localhost", .names = "DNS:localhost"};
    struct pki_certificate *own = pki_issue(test_folder(), &request);
    struct proxy *proxy = proxy_start(
        "%s[environment named]\nclass = local_development\nhosts = 127.0.0.1:%d\nsni = localhost\n"
        "server_tls_sslmode = disable\nclient_tls_cert_file = %s\nclient_tls_key_file = %s\n"
        "[databases]\napp = dbname=app\n",
        client_tls(pooler), cluster_shared()->port, own->certificate, own->key);

    client_do(client_open(proxy, text_of(BOUND " host=localhost hostaddr=127.0.0.1 "
                                               "sslmode=verify-full sslrootcert=%s",
                                         own->certificate)),
              "SELECT 1");
}

/* Signs it anew with a key whose signatures have no hash. */
static void sign_with_ed25519(const struct pki_certificate *pooler)
{
    FILE *file = fopen(pooler->certificate, "r");
    X509 *x509 = PEM_read_X509(file, NULL, NULL, NULL);
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

    fclose(file);
    cr_assert(x509 && key && X509_set_pubkey(x509, key) == 1 && X509_sign(x509, key, NULL) > 0);
    file = fopen(pooler->certificate, "w");
    cr_assert(PEM_write_X509(file, x509));
    fclose(file);
    file = fopen(pooler->key, "w");
    cr_assert(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL));
    fclose(file);
    X509_free(x509);
    EVP_PKEY_free(key);
}

SYSTEM_TEST(channel_binding, is_not_offered_where_the_certificate_has_no_hash)
{
    SKIP_ON_PGBOUNCER();
    struct pki_certificate *pooler = pooler_certificate("pooler");

    sign_with_ed25519(pooler);
    struct proxy *proxy = proxy_start("%s", client_tls(pooler));

    /* offered, it would end in an error of libpq's */
    client_do(client_open(proxy, "sslmode=require channel_binding=prefer password=appsecret"),
              "SELECT 1");
    cr_assert_has(client_refusal(proxy, BOUND), "channel binding");
}

SYSTEM_TEST(channel_binding, a_downgraded_offer_is_refused)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("%s", client_tls(pooler_certificate("pooler")));
    struct wire *wire = wire_open(proxy);
    struct wire_message message;
    struct bytes packet, first = {0};
    char answer;

    wire_ssl_request(wire);
    cr_assert(wire_take(wire, &answer, 1, PATIENCE_MS) == 1 && answer == 'S');
    cr_assert(wire_secure(wire, false, NULL));
    packet = startup_packet("user", "app", "database", "app", NULL);
    wire_write(wire, packet.data, packet.count);
    cr_assert(wire_read(wire, &message, PATIENCE_MS));
    cr_assert_eq(message.type, 'R');
    cr_assert_eq(message.length, 4 + sizeof "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0");
    cr_assert_arr_eq(message.body + 4, "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0",
                     sizeof "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0");
    /* a client to whom somebody had shown another list */
    bytes_add_text(&first, "SCRAM-SHA-256");
    bytes_add32(&first, 14);
    bytes_add(&first, "y,,n=,r=abcdef", 14);
    wire_send(wire, 'p', first.data, first.count);
    cr_assert_str_eq(wire_error(wire, PATIENCE_MS),
                     "FATAL 28000 SCRAM channel binding negotiation error");
    cr_assert(until(proxy_logged(proxy, "somebody may be in the middle"), PATIENCE_MS));
}

/* ---- to servers ---- */

static struct proxy *proxy_binding(const char *binding, const char *mode, const char *user)
{
    return proxy_start("server_login_retry = 1\nserver_tls_sslmode = %s\n%s"
                       "[databases]\napp = %s user=%s password=secret\n",
                       mode, binding, cluster_route(cluster_shared()), user);
}

SYSTEM_TEST(channel_binding, pgstage_can_require_it_of_servers)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy =
        proxy_binding("server_channel_binding = require\n", "require", "user_scram");

    cr_assert_str_eq(client_value(client_open(proxy, NULL), "SELECT current_user"), "user_scram");
}

SYSTEM_TEST(channel_binding, a_server_that_asks_for_less_is_not_logged_in_to)
{
    SKIP_ON_PGBOUNCER();
    static const char *const users[] = {"user_md5", "user_plain", "app"};

    for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
        struct proxy *proxy =
            proxy_binding("server_channel_binding = require\n", "require", users[i]);

        cr_assert_has(client_refusal(proxy, NULL), "channel binding is required");
        proxy_stop(proxy);
    }
}

SYSTEM_TEST(channel_binding, by_default_servers_need_not_have_it)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_binding("", "require", "user_scram");

    cr_assert_str_eq(client_value(client_open(proxy, NULL), "SELECT current_user"), "user_scram");
    proxy_stop(proxy);
    proxy = proxy_binding("", "disable", "user_scram");
    cr_assert_str_eq(client_value(client_open(proxy, NULL), "SELECT current_user"), "user_scram");
    proxy_stop(proxy);
    proxy = proxy_binding("server_channel_binding = disable\n", "require", "user_scram");
    cr_assert_str_eq(client_value(client_open(proxy, NULL), "SELECT current_user"), "user_scram");
}

/* pgstage holds only a verifier: the client proves itself over one TLS connection, and with what its
 * proof has shown pgstage does over another, each bound to its own certificate. */
SYSTEM_TEST(channel_binding, both_sides_at_once_with_a_secret_that_is_passed_through)
{
    SKIP_ON_PGBOUNCER();
    char *verifier = cluster_value(
        cluster_shared(), "SELECT rolpassword FROM pg_authid WHERE rolname = 'user_scram'");

    proxy_set_users(text_of("\"user_scram\" \"%s\"\n\"admin\" \"x\"\n", verifier));
    struct proxy *proxy =
        proxy_start("%sserver_tls_sslmode = require\nserver_channel_binding = require\n"
                    "[databases]\napp = %s\n",
                    client_tls(pooler_certificate("pooler")), cluster_route(cluster_shared()));

    cr_assert_str_eq(client_value(client_open(proxy, "sslmode=require channel_binding=require "
                                                     "user=user_scram password=secret"),
                                  "SELECT current_user"),
                     "user_scram");
}

/* A man in the middle with a certificate of his own, who passes everything on: TLS alone (require)
 * does not notice him, channel binding does. */
static void pass_on(struct wire *wire, struct fake *fake)
{
    const struct pki_certificate *own = fake->context;
    struct wire *server = wire_open_port(cluster_shared()->port);
    unsigned char head[8], bytes[4096];
    char answer;
    size_t count;

    if (wire_take(wire, head, 8, PATIENCE_MS) != 8 || !wire_write(wire, "S", 1) ||
        !wire_accept_tls(wire, own->certificate, own->key))
        return;
    wire_ssl_request(server);
    if (wire_take(server, &answer, 1, PATIENCE_MS) != 1 || !wire_secure(server, false, NULL))
        return;
    for (int round = 0; round < 200 && !wire->ended && !server->ended; round++) {
        if ((count = wire_take(wire, bytes, sizeof bytes, 20)) > 0)
            wire_write(server, bytes, count);
        if ((count = wire_take(server, bytes, sizeof bytes, 20)) > 0)
            wire_write(wire, bytes, count);
    }
    wire_close(server);
}

SYSTEM_TEST(channel_binding, a_man_in_the_middle_of_tls_is_found_out)
{
    SKIP_ON_PGBOUNCER();
    struct pki_certificate *own = pooler_certificate("middle");
    struct fake *middle = fake_start(pass_on, own);
    struct proxy *proxy = proxy_start("server_login_retry = 1\nserver_tls_sslmode = require\n"
                                      "[databases]\napp = host=127.0.0.1 port=%d user=user_scram "
                                      "password=secret\n"
                                      "careless = host=127.0.0.1 port=%d user=user_scram "
                                      "password=secret dbname=app server_channel_binding=disable\n",
                                      middle->port, middle->port);

    cr_assert_str_eq(client_value(client_open(proxy, "dbname=careless"), "SELECT current_user"),
                     "user_scram");
    cr_assert_has(client_refusal(proxy, NULL), "channel binding check failed");
}
