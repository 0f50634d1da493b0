/*
 * TLS contexts: which files and words they take, and whom the handshake believes.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "certificate.h"
#include "harness.h"
#include "pgstage/net/tls.h"

static struct loop *loop;
static struct certificate root, intermediate;
static char problem[512];

static void begin(void)
{
    folder_make();
    loop = loop_new(0, NULL);
    root = certificate_new(
        &(struct certificate_options){.common_name = "Test root", .authority = true}, NULL);
    intermediate = certificate_new(
        &(struct certificate_options){.common_name = "Test intermediate", .authority = true},
        &root);
    certificate_write(folder_path("root.pem"), &root);
}

static void end(void)
{
    certificate_free(&root);
    certificate_free(&intermediate);
    loop_free(loop);
    folder_remove();
}

TestSuite(tls, .init = begin, .fini = end);

/* server.pem (with `chain` behind it, unless NULL) and server-key.pem. */
static void write_server(const struct certificate_options *options,
                         const struct certificate *issuer, const struct certificate *chain)
{
    struct certificate server = certificate_new(options, issuer);
    unlink(folder_path("server.pem"));
    certificate_write(folder_path("server.pem"), &server);
    if (chain)
        certificate_write(folder_path("server.pem"), chain);
    certificate_write_key(folder_path("server-key.pem"), &server, NULL);
    certificate_free(&server);
}

static struct tls_settings accepting(void)
{
    return (struct tls_settings){.mode = TLS_REQUIRE,
                                 .cert_file = folder_path("server.pem"),
                                 .key_file = folder_path("server-key.pem")};
}

static struct tls_settings connecting(enum tls_mode mode)
{
    return (struct tls_settings){.mode = mode, .ca_file = folder_path("root.pem")};
}

struct outcome {
    bool server, client;
    char server_problem[256], client_problem[256];
    char described[96];
    char server_name[64];
    char *client_common_name;
    bool alpn;
};

static bool both_decided(void *argument)
{
    struct peer *peers = argument;
    return peers[0].secured + peers[0].failed > 0 && peers[1].secured + peers[1].failed > 0;
}

static bool has_news(void *argument)
{
    struct peer *client = argument;
    return client->failed > 0 || client->ended || client->got.length > 0;
}

/* Shakes hands; a client that is secured counts only when the server then gets a byte through. */
static struct outcome shake(const struct tls_settings *server_settings,
                            const struct tls_settings *client_settings, const char *host)
{
    struct outcome outcome = {0};
    struct tls_context *server = tls_context_for_clients(server_settings, problem, sizeof problem);
    cr_assert_not_null(server, "%s", problem);
    struct tls_context *client = tls_context_for_servers(client_settings, problem, sizeof problem);
    cr_assert_not_null(client, "%s", problem);
    struct peer peers[2];
    peers_init(&peers[0], &peers[1], loop);
    SSL *ssl = tls_connect_new(client, host);
    cr_assert_not_null(ssl);
    stream_secure(&peers[0].stream, tls_accept_new(server), true);
    stream_secure(&peers[1].stream, ssl, false);
    tls_context_unref(server); /* connections hold on by themselves */
    tls_context_unref(client);
    cr_assert(turn_until(loop, both_decided, peers));
    outcome.server = peers[0].secured == 1;
    if (outcome.server) {
        stream_write(&peers[0].stream, "!", 1);
        tls_describe(peers[0].stream.ssl, outcome.described, sizeof outcome.described);
        const char *name = tls_server_name(peers[0].stream.ssl);
        snprintf(outcome.server_name, sizeof outcome.server_name, "%s", name ? name : "");
        outcome.client_common_name = tls_peer_common_name(peers[0].stream.ssl);
        outcome.alpn = tls_has_alpn(peers[0].stream.ssl);
    } else {
        stream_close(&peers[0].stream);
    }
    cr_assert(turn_until(loop, has_news, &peers[1]));
    outcome.client = peers[1].got.length == 1;
    strcpy(outcome.server_problem, peers[0].problem);
    strcpy(outcome.client_problem, peers[1].problem);
    peer_fini(&peers[0]);
    peer_fini(&peers[1]);
    return outcome;
}

/* verify-full against server.pem. */
static struct outcome verify(const char *host)
{
    struct tls_settings server = accepting(), client = connecting(TLS_VERIFY_FULL);
    return shake(&server, &client, host);
}

static void believed(const char *host)
{
    struct outcome outcome = verify(host);
    cr_assert(outcome.client && outcome.server, "%s: %s", host, outcome.client_problem);
}

static void refused(const char *host, const char *because)
{
    struct outcome outcome = verify(host);
    cr_assert_not(outcome.client);
    cr_assert_not(outcome.server);
    cr_assert_not_null(strstr(outcome.client_problem, because), "%s", outcome.client_problem);
}

static const struct certificate_options named = {
    .common_name = "db", .alternatives = "DNS:db.example.com,DNS:*.pool.example.com"};

Test(tls, verify_full_believes_the_right_name)
{
    write_server(&named, &root, NULL);
    believed("db.example.com");
    believed("DB.example.COM");
    believed("db.example.com.");
    believed("a.pool.example.com");
}

Test(tls, verify_full_refuses_another_name)
{
    write_server(&named, &root, NULL);
    refused("other.example.com", "hostname mismatch");
    refused("example.com", "hostname mismatch");
    refused("x.db.example.com", "hostname mismatch");
    refused("a.b.pool.example.com", "hostname mismatch");
    refused("db", "hostname mismatch"); /* the common name does not count beside names */
    refused("127.0.0.1", "IP address mismatch");
}

Test(tls, a_wildcard_within_a_label_is_not_believed)
{
    struct certificate_options options = {.common_name = "x",
                                          .alternatives = "DNS:db*.example.com"};
    write_server(&options, &root, NULL);
    refused("db1.example.com", "hostname mismatch");
}

Test(tls, the_common_name_counts_when_there_are_no_other_names)
{
    struct certificate_options options = {.common_name = "old.example.com"};
    write_server(&options, &root, NULL);
    believed("old.example.com");
    refused("new.example.com", "hostname mismatch");
}

Test(tls, verify_full_knows_addresses)
{
    struct certificate_options options = {.common_name = "x",
                                          .alternatives = "IP:127.0.0.1,IP:::1,DNS:10.0.0.1"};
    write_server(&options, &root, NULL);
    believed("127.0.0.1");
    believed("::1");
    refused("127.0.0.2", "IP address mismatch");
    refused("10.0.0.1", "IP address mismatch"); /* a name that looks like one */
}

Test(tls, an_expired_certificate_is_refused)
{
    struct certificate_options options = {
        .common_name = "db.example.com", .from_days = -10, .to_days = -1};
    write_server(&options, &root, NULL);
    refused("db.example.com", "certificate has expired");
}

Test(tls, a_certificate_of_the_future_is_refused)
{
    struct certificate_options options = {
        .common_name = "db.example.com", .from_days = 2, .to_days = 5};
    write_server(&options, &root, NULL);
    refused("db.example.com", "not yet valid");
}

Test(tls, a_self_signed_certificate_is_refused)
{
    write_server(&named, NULL, NULL);
    refused("db.example.com", "self-signed certificate");
}

Test(tls, an_unknown_authority_is_refused)
{
    struct certificate stranger = certificate_new(
        &(struct certificate_options){.common_name = "Stranger", .authority = true}, NULL);
    write_server(&named, &stranger, NULL);
    refused("db.example.com", "unable to get local issuer certificate");
    write_server(&named, &stranger, &stranger);
    refused("db.example.com", "self-signed certificate in certificate chain");
    certificate_free(&stranger);
}

Test(tls, an_ordinary_certificate_is_no_authority)
{
    struct certificate leaf =
        certificate_new(&(struct certificate_options){.common_name = "leaf"}, &root);
    write_server(&named, &leaf, &leaf);
    struct outcome outcome = verify("db.example.com");
    cr_assert_not(outcome.client);
    certificate_free(&leaf);
}

Test(tls, an_intermediate_must_be_in_the_chain)
{
    write_server(&named, &intermediate, &intermediate);
    believed("db.example.com");
    write_server(&named, &intermediate, NULL);
    refused("db.example.com", "unable to get local issuer certificate");
}

Test(tls, verify_ca_checks_the_authority_and_not_the_name)
{
    write_server(&named, &root, NULL);
    struct tls_settings server = accepting(), client = connecting(TLS_VERIFY_CA);
    cr_assert(shake(&server, &client, "other.example.com").client);
    write_server(&named, NULL, NULL);
    cr_assert_not(shake(&server, &client, "db.example.com").client);
}

Test(tls, require_and_prefer_verify_nothing)
{
    write_server(&named, NULL, NULL);
    struct tls_settings server = accepting();
    enum tls_mode modes[] = {TLS_ALLOW, TLS_PREFER, TLS_REQUIRE};
    for (size_t i = 0; i < 3; i++) {
        struct tls_settings client = connecting(modes[i]);
        cr_assert(shake(&server, &client, "other.example.com").client);
    }
}

Test(tls, a_name_that_cannot_be_checked_gives_no_connection)
{
    struct tls_settings settings = connecting(TLS_VERIFY_FULL);
    struct tls_context *context = tls_context_for_servers(&settings, problem, sizeof problem);
    cr_assert_not_null(context);
    const char *names[] = {"", ".", ".example.com", NULL};
    for (size_t i = 0; i < 4; i++)
        cr_assert_null(tls_connect_new(context, names[i]));
    char name[400];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    cr_assert_null(tls_connect_new(context, name));
    tls_context_unref(context);
}

Test(tls, the_server_name_is_told_except_for_addresses)
{
    struct certificate_options options = {.common_name = "x",
                                          .alternatives = "IP:127.0.0.1,DNS:db.example.com"};
    write_server(&options, &root, NULL);
    cr_assert_str_eq(verify("db.example.com.").server_name, "db.example.com");
    cr_assert_str_eq(verify("127.0.0.1").server_name, "");
    struct tls_settings server = accepting(), client = connecting(TLS_REQUIRE);
    cr_assert_str_eq(shake(&server, &client, "anything.example").server_name, "anything.example");
}

Test(tls, alpn_is_agreed_on)
{
    write_server(&named, &root, NULL);
    cr_assert(verify("db.example.com").alpn);
}

Test(tls, a_revoked_certificate_is_refused)
{
    struct certificate server = certificate_new(&named, &root);
    certificate_write(folder_path("server.pem"), &server);
    certificate_write_key(folder_path("server-key.pem"), &server, NULL);
    struct tls_settings accept = accepting(), connect = connecting(TLS_VERIFY_FULL);
    connect.crl_file = folder_path("crl.pem");
    certificate_write_crl(connect.crl_file, &root, NULL);
    cr_assert(shake(&accept, &connect, "db.example.com").client);
    certificate_write_crl(connect.crl_file, &root, &server);
    struct outcome outcome = shake(&accept, &connect, "db.example.com");
    cr_assert_not(outcome.client);
    cr_assert_not_null(strstr(outcome.client_problem, "revoked"), "%s", outcome.client_problem);
    certificate_free(&server);
}

Test(tls, a_client_certificate_is_asked_for_and_named)
{
    write_server(&named, &root, NULL);
    struct certificate alice =
        certificate_new(&(struct certificate_options){.common_name = "alice"}, &root);
    certificate_write(folder_path("alice.pem"), &alice);
    certificate_write_key(folder_path("alice-key.pem"), &alice, NULL);
    struct tls_settings server = accepting(), client = connecting(TLS_VERIFY_FULL);
    server.mode = TLS_VERIFY_FULL;
    server.ca_file = folder_path("root.pem");
    client.cert_file = folder_path("alice.pem");
    client.key_file = folder_path("alice-key.pem");
    struct outcome outcome = shake(&server, &client, "db.example.com");
    cr_assert(outcome.client, "%s", outcome.server_problem);
    cr_assert_str_eq(outcome.client_common_name, "alice");
    free(outcome.client_common_name);
    certificate_free(&alice);

    client.cert_file = client.key_file = NULL;
    outcome = shake(&server, &client, "db.example.com");
    cr_assert_not(outcome.server);
    cr_assert_not_null(strstr(outcome.server_problem, "did not return a certificate"));
}

Test(tls, a_client_certificate_of_a_stranger_is_refused)
{
    write_server(&named, &root, NULL);
    struct certificate mallory =
        certificate_new(&(struct certificate_options){.common_name = "alice"}, NULL);
    certificate_write(folder_path("mallory.pem"), &mallory);
    certificate_write_key(folder_path("mallory-key.pem"), &mallory, NULL);
    certificate_free(&mallory);
    struct tls_settings server = accepting(), client = connecting(TLS_VERIFY_FULL);
    server.mode = TLS_VERIFY_CA;
    server.ca_file = folder_path("root.pem");
    client.cert_file = folder_path("mallory.pem");
    client.key_file = folder_path("mallory-key.pem");
    struct outcome outcome = shake(&server, &client, "db.example.com");
    cr_assert_not(outcome.server);
    cr_assert_not_null(strstr(outcome.server_problem, "self-signed"), "%s", outcome.server_problem);
}

Test(tls, without_verifying_no_client_certificate_is_asked_for)
{
    write_server(&named, &root, NULL);
    struct outcome outcome = verify("db.example.com");
    cr_assert(outcome.server);
    cr_assert_null(outcome.client_common_name);
}

Test(tls, protocols_are_limited)
{
    write_server(&named, &root, NULL);
    struct tls_settings server = accepting(), client = connecting(TLS_VERIFY_FULL);
    server.protocols = "tlsv1.2";
    struct outcome outcome = shake(&server, &client, "db.example.com");
    cr_assert_eq(strncmp(outcome.described, "TLSv1.2/", 8), 0, "%s", outcome.described);
    client.protocols = "tlsv1.3";
    cr_assert_not(shake(&server, &client, "db.example.com").client);
    server.protocols = "secure";
    outcome = shake(&server, &client, "db.example.com");
    cr_assert_eq(strncmp(outcome.described, "TLSv1.3/TLS_", 12), 0, "%s", outcome.described);
    client.protocols = "all,!tlsv1.3";
    outcome = shake(&server, &client, "db.example.com");
    cr_assert_eq(strncmp(outcome.described, "TLSv1.2/", 8), 0, "%s", outcome.described);
}

Test(tls, the_least_that_secure_means_is_1_2)
{
    write_server(&named, &root, NULL);
    struct tls_settings server = accepting(), client = connecting(TLS_REQUIRE);
    client.protocols = "tlsv1.1";
    client.ciphers = "ALL:@SECLEVEL=0";
    server.ciphers = "ALL:@SECLEVEL=0";
    cr_assert_not(shake(&server, &client, "db.example.com").server);
    server.protocols = "all";
    cr_assert(shake(&server, &client, "db.example.com").server);
}

Test(tls, ciphers_and_curves_are_chosen)
{
    write_server(&named, &root, NULL);
    struct tls_settings server = accepting(), client = connecting(TLS_VERIFY_FULL);
    server.protocols = "tlsv1.2";
    server.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256";
    server.ecdh_curve = "prime256v1";
    cr_assert_str_eq(shake(&server, &client, "db.example.com").described,
                     "TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256");
    server.protocols = NULL;
    server.ciphersuites = "TLS_CHACHA20_POLY1305_SHA256";
    cr_assert_str_eq(shake(&server, &client, "db.example.com").described,
                     "TLSv1.3/TLS_CHACHA20_POLY1305_SHA256");
}

Test(tls, a_server_prefers_the_quickest_suite_of_tls_1_3)
{
    write_server(&named, &root, NULL);
    struct tls_settings server = accepting(), client = connecting(TLS_VERIFY_FULL);
    cr_assert_str_eq(shake(&server, &client, "db.example.com").described,
                     "TLSv1.3/TLS_AES_128_GCM_SHA256");
    client.ciphersuites = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
    cr_assert_str_eq(shake(&server, &client, "db.example.com").described,
                     "TLSv1.3/TLS_AES_256_GCM_SHA384");
    client.ciphersuites = NULL;
    server.ciphersuites = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256";
    cr_assert_str_eq(shake(&server, &client, "db.example.com").described,
                     "TLSv1.3/TLS_AES_256_GCM_SHA384");
}

static void not_made(bool for_clients, const struct tls_settings *settings, const char *because)
{
    strcpy(problem, "");
    struct tls_context *context = for_clients
                                      ? tls_context_for_clients(settings, problem, sizeof problem)
                                      : tls_context_for_servers(settings, problem, sizeof problem);
    cr_assert_null(context, "%s", because);
    cr_assert_not_null(strstr(problem, because), "%s", problem);
}

Test(tls, files_that_cannot_be_used_are_named)
{
    write_server(&named, &root, NULL);
    struct tls_settings settings = accepting();
    settings.cert_file = folder_path("missing.pem");
    not_made(true, &settings, "missing.pem\" cannot be used: No such file");
    settings = accepting();
    settings.key_file = folder_path("nokey.pem");
    not_made(true, &settings, "nokey.pem");
    settings.key_file = NULL;
    not_made(true, &settings, "no key file");
    settings = (struct tls_settings){.mode = TLS_REQUIRE};
    not_made(true, &settings, "needs a certificate file");
    settings = connecting(TLS_VERIFY_FULL);
    settings.ca_file = folder_path("noca.pem");
    not_made(false, &settings, "noca.pem");
    settings.ca_file = NULL;
    not_made(false, &settings, "no CA file");
    settings = connecting(TLS_VERIFY_CA);
    settings.crl_file = folder_path("root.pem"); /* holds no CRL */
    not_made(false, &settings, "CRL file");
}

Test(tls, a_key_of_another_certificate_is_refused)
{
    write_server(&named, &root, NULL);
    certificate_write_key(folder_path("server-key.pem"), &root, NULL);
    struct tls_settings settings = accepting();
    not_made(true, &settings, "key values mismatch");
}

Test(tls, a_key_with_a_passphrase_is_refused_without_asking, .timeout = 300)
{
    write_server(&named, &root, NULL);
    certificate_write_key(folder_path("server-key.pem"), &root, "secret");
    struct tls_settings settings = accepting();
    not_made(true, &settings, "server-key.pem");
}

Test(tls, words_that_mean_nothing_are_refused)
{
    write_server(&named, &root, NULL);
    const char *protocols[] = {"tlsv9", "secure,sslv3", "tlsv1.2,!tlsv1.2", ",", "!"};
    for (size_t i = 0; i < sizeof protocols / sizeof protocols[0]; i++) {
        struct tls_settings settings = accepting();
        settings.protocols = protocols[i];
        not_made(true, &settings, "TLS protocols");
    }
    struct tls_settings settings = accepting();
    settings.ciphers = "NO-SUCH-CIPHER";
    not_made(true, &settings, "NO-SUCH-CIPHER");
    settings = accepting();
    settings.ciphersuites = "TLS_NO_SUCH";
    not_made(true, &settings, "TLS_NO_SUCH");
    settings = accepting();
    settings.ecdh_curve = "nocurve";
    not_made(true, &settings, "nocurve");
    settings = accepting();
    settings.dh_params = "maybe";
    not_made(true, &settings, "maybe");
}

Test(tls, pgbouncers_words_are_understood)
{
    write_server(&named, &root, NULL);
    const char *ciphers[] = {"default", "secure", "fast", "normal", "compat", "legacy", "all"};
    for (size_t i = 0; i < sizeof ciphers / sizeof ciphers[0]; i++) {
        struct tls_settings settings = accepting();
        settings.ciphers = ciphers[i];
        settings.ecdh_curve = i % 2 ? "auto" : "none";
        settings.dh_params = i % 2 ? "none" : "auto";
        struct tls_context *context = tls_context_for_clients(&settings, problem, sizeof problem);
        cr_assert_not_null(context, "%s: %s", ciphers[i], problem);
        tls_context_unref(context);
    }
}

Test(tls, the_systems_bundle_is_found)
{
    if (access("/etc/ssl/certs/ca-certificates.crt", R_OK) != 0)
        cr_skip_test("no bundle on this system");
    write_server(&named, &root, NULL);
    struct tls_settings server = accepting(), client = connecting(TLS_VERIFY_FULL);
    client.ca_file = "system";
    cr_assert_not(shake(&server, &client, "db.example.com").client);
}

Test(tls, disabled_makes_no_connections)
{
    struct tls_settings settings = {.mode = TLS_DISABLE};
    struct tls_context *context = tls_context_for_clients(&settings, problem, sizeof problem);
    cr_assert_not_null(context);
    cr_assert_eq(tls_context_mode(context), TLS_DISABLE);
    cr_assert_null(tls_accept_new(context));
    struct tls_context *again = tls_context_ref(context);
    tls_context_unref(context);
    cr_assert_null(tls_connect_new(again, "db.example.com"));
    tls_context_unref(again);
}

Test(tls, options_become_settings)
{
    struct settings settings = {.client_tls_sslmode = TLS_REQUIRE,
                                .client_tls_ca_file = "a",
                                .client_tls_key_file = "b",
                                .client_tls_crl_file = "c",
                                .server_tls_sslmode = TLS_VERIFY_FULL,
                                .server_tls_ca_file = "d",
                                .server_tls_cert_file = "e",
                                .server_tls13_ciphers = "f"};
    struct tls_settings tls;
    tls_settings_of_clients(&tls, &settings);
    cr_assert_eq(tls.mode, TLS_REQUIRE);
    cr_assert_str_eq(tls.ca_file, "a");
    cr_assert_str_eq(tls.key_file, "b");
    cr_assert_str_eq(tls.crl_file, "c");
    cr_assert_null(tls.cert_file);
    tls_settings_of_servers(&tls, &settings);
    cr_assert_eq(tls.mode, TLS_VERIFY_FULL);
    cr_assert_str_eq(tls.ca_file, "d");
    cr_assert_str_eq(tls.cert_file, "e");
    cr_assert_str_eq(tls.ciphersuites, "f");
}

/* ---- the hash that stands for a server ---- */

/* The hash of a certificate that is signed with this digest (NULL: by a key that needs none). */
static size_t hash_of(EVP_PKEY *key, const EVP_MD *signed_with, unsigned char *hash, X509 **x509)
{
    struct certificate made =
        certificate_new(&(struct certificate_options){.common_name = "db"}, NULL);
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    SSL *ssl;
    size_t bytes;
    if (key) {
        X509_set_pubkey(made.x509, key);
        EVP_PKEY_free(made.key);
        made.key = key;
    }
    cr_assert_gt(X509_sign(made.x509, made.key, signed_with), 0);
    SSL_CTX_set_security_level(context, 0);
    cr_assert_eq(SSL_CTX_use_certificate(context, made.x509), 1);
    ssl = SSL_new(context);
    bytes = tls_endpoint_hash(ssl, true, hash);
    cr_assert_eq(tls_endpoint_hash(ssl, false, hash), 0, "no peer has shown one");
    *x509 = X509_dup(made.x509);
    SSL_free(ssl);
    SSL_CTX_free(context);
    certificate_free(&made);
    return bytes;
}

Test(tls, a_server_is_known_by_a_hash_that_is_as_good_as_its_signature)
{
    const struct {
        const EVP_MD *signed_with, *hashed_with;
    } cases[] = {
        {EVP_sha256(), EVP_sha256()},
        {EVP_sha384(), EVP_sha384()},
        {EVP_sha512(), EVP_sha512()},
        {EVP_sha1(), EVP_sha256()},
    };
    unsigned char hash[EVP_MAX_MD_SIZE], expected[EVP_MAX_MD_SIZE];
    unsigned expected_bytes;
    X509 *x509;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t bytes = hash_of(NULL, cases[i].signed_with, hash, &x509);
        cr_assert_eq(X509_digest(x509, cases[i].hashed_with, expected, &expected_bytes), 1);
        cr_expect_eq(bytes, expected_bytes, "case %zu", i);
        cr_expect_arr_eq(hash, expected, expected_bytes);
        X509_free(x509);
    }
}

Test(tls, a_signature_without_a_hash_gives_none)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    X509 *x509;
    cr_assert_eq(hash_of(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), NULL, hash, &x509), 0);
    X509_free(x509);
}
