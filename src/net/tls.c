/*
 * tls: contexts.
 *
 *   settings ─► tls_context (mode, SSL_CTX) ─► SSL of a connection (tls_connection.c)
 *
 * A context is made and checked on the control thread and then only read; workers count references.
 * The CA file is parsed once, here: never for a connection. What is the same for all: no
 * compression, no renegotiation, no session cache and no tickets (connections are pooled and live
 * long, so resumption would cost more memory and work than it saves), buffers released when they
 * are empty.
 */
#include "pgstage/net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/file.h"
#include "tls_inside.h"

/* Bundles of authorities have a few hundred kB. */
#define FILE_MAX_BYTES ((size_t)64 << 20)
/* The first byte of the numbers of TLS 1.3's cipher suites. */
#define TLS13_SUITES 0x13

struct maker {
    SSL_CTX *ssl_context;
    const struct tls_settings *settings;
    char *problem;
    size_t size;
};

/* "<text>: <what OpenSSL says>"; false, for returning it. */
__attribute__((format(printf, 2, 3))) static bool refuse(struct maker *maker, const char *format,
                                                         ...)
{
    char text[512], words[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (ERR_peek_error() != 0) {
        tls_problem(NULL, words, sizeof words);
        snprintf(maker->problem, maker->size, "%s: %s", text, words);
    } else {
        snprintf(maker->problem, maker->size, "%s", text);
    }
    return false;
}

/* A key file with a passphrase: OpenSSL would ask the terminal. */
static int no_passphrase(char *buffer, int size, int writing, void *argument)
{
    (void)buffer, (void)size, (void)writing, (void)argument;
    return -1;
}

static bool is_set(const char *text)
{
    return text && *text;
}

static bool use_protocols(struct maker *maker)
{
    uint64_t forbidden;
    int minimum;
    if (!tls_policy_protocols(maker->settings->protocols, &minimum, &forbidden))
        return refuse(maker, "unknown TLS protocols \"%s\"", maker->settings->protocols);
    SSL_CTX_set_options(maker->ssl_context, forbidden);
    if (SSL_CTX_set_min_proto_version(maker->ssl_context, minimum) != 1)
        return refuse(maker, "TLS protocols \"%s\" are not available", maker->settings->protocols);
    return true;
}

#define QUICK_SUITE "TLS_AES_128_GCM_SHA256"

/* Of what OpenSSL (or the policy of the distribution) allows, AES-128-GCM comes first: no weaker
 * than the key exchange, and SHA-256 makes a handshake 15 us shorter than SHA-384 does. */
static bool prefer_quick_suite(SSL_CTX *ssl_context)
{
    const STACK_OF(SSL_CIPHER) *ciphers = SSL_CTX_get_ciphers(ssl_context);
    char list[256] = QUICK_SUITE;
    size_t length = strlen(list);
    bool found = false;
    for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); i++) {
        const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(ciphers, i);
        const char *name = SSL_CIPHER_get_name(cipher);
        bool is_quick = strcmp(name, QUICK_SUITE) == 0;
        found = found || is_quick;
        if (is_quick || SSL_CIPHER_get_protocol_id(cipher) >> 8 != TLS13_SUITES)
            continue;
        length += (size_t)snprintf(list + length, sizeof list - length, ":%s", name);
        if (length >= sizeof list)
            return true; /* more than there are: left as it is */
    }
    return !found || SSL_CTX_set_ciphersuites(ssl_context, list) == 1;
}

static bool use_ciphers(struct maker *maker, bool for_clients)
{
    const struct tls_settings *settings = maker->settings;
    bool without_ecdhe = text_equal(settings->ecdh_curve, "none");
    bool without_dhe = text_equal(settings->dh_params, "none");
    char *list = text_print("%s%s%s", tls_policy_ciphers(settings->ciphers),
                            without_ecdhe ? ":!kECDHE" : "", without_dhe ? ":!kDHE" : "");
    int taken = SSL_CTX_set_cipher_list(maker->ssl_context, list);
    free(list);
    if (taken != 1)
        return refuse(maker, "TLS ciphers \"%s\" cannot be used", settings->ciphers);
    if (is_set(settings->ciphersuites) &&
        SSL_CTX_set_ciphersuites(maker->ssl_context, settings->ciphersuites) != 1)
        return refuse(maker, "TLS 1.3 cipher suites \"%s\" cannot be used", settings->ciphersuites);
    if (for_clients && !is_set(settings->ciphersuites) && !prefer_quick_suite(maker->ssl_context))
        return refuse(maker, "TLS 1.3 cipher suites cannot be put in order");
    if (is_set(settings->ecdh_curve) && !without_ecdhe &&
        !text_equal(settings->ecdh_curve, "auto") &&
        SSL_CTX_set1_groups_list(maker->ssl_context, settings->ecdh_curve) != 1)
        return refuse(maker, "TLS curves \"%s\" cannot be used", settings->ecdh_curve);
    if (is_set(settings->dh_params) && !without_dhe && !text_equal(settings->dh_params, "auto") &&
        !text_equal(settings->dh_params, "legacy"))
        return refuse(maker, "DHE parameters must be none, auto or legacy, not \"%s\"",
                      settings->dh_params);
    SSL_CTX_set_dh_auto(maker->ssl_context, without_dhe ? 0 : 1);
    return true;
}

static bool use_certificate(struct maker *maker, bool needed)
{
    const char *certificate = maker->settings->cert_file, *key = maker->settings->key_file;
    if (!is_set(certificate) && !is_set(key) && !needed)
        return true;
    if (!is_set(certificate))
        return refuse(maker, is_set(key) ? "a key file is given but no certificate file"
                                         : "TLS for clients needs a certificate file");
    if (!is_set(key))
        return refuse(maker, "a certificate file is given but no key file");
    if (SSL_CTX_use_certificate_chain_file(maker->ssl_context, certificate) != 1)
        return refuse(maker, "certificate file \"%s\" cannot be used", certificate);
    if (SSL_CTX_use_PrivateKey_file(maker->ssl_context, key, SSL_FILETYPE_PEM) != 1)
        return refuse(maker, "key file \"%s\" cannot be used with certificate file \"%s\"", key,
                      certificate);
    if (SSL_CTX_check_private_key(maker->ssl_context) != 1)
        return refuse(maker, "key file \"%s\" does not belong to certificate file \"%s\"", key,
                      certificate);
    return true;
}

/* The distribution's bundle, as one file that is read now, and never by a worker. */
const char *tls_system_bundle(void)
{
    static const char *const places[] = {
        "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Arch, Alpine */
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* Fedora */
        "/etc/pki/tls/certs/ca-bundle.crt",                  /* older Red Hat */
        "/etc/ssl/ca-bundle.pem",                            /* SUSE */
        "/etc/ssl/cert.pem",
    };
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (access(places[i], R_OK) == 0)
            return places[i];
    }
    return NULL;
}

static bool use_crl(struct maker *maker)
{
    const char *file = maker->settings->crl_file;
    if (!is_set(file))
        return true;
    X509_STORE *store = SSL_CTX_get_cert_store(maker->ssl_context);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    if (!lookup || X509_load_crl_file(lookup, file, X509_FILETYPE_PEM) < 1)
        return refuse(maker, "CRL file \"%s\" cannot be used", file);
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return true;
}

static bool use_authorities(struct maker *maker, bool for_clients)
{
    bool asks = for_clients && maker->settings->asks_certificate;
    if (maker->settings->mode < TLS_VERIFY_CA && !asks) {
        SSL_CTX_set_verify(maker->ssl_context, SSL_VERIFY_NONE, NULL);
        return true;
    }
    const char *file = maker->settings->ca_file;
    if (!is_set(file))
        return refuse(maker, "no CA file is given, so nothing can be verified");
    bool system = text_equal(file, "system");
    if (system && !(file = tls_system_bundle()))
        return refuse(maker, "this system has no bundle of CA certificates");
    if (SSL_CTX_load_verify_locations(maker->ssl_context, file, NULL) != 1)
        return refuse(maker, "CA file \"%s\" cannot be used", file);
    if (for_clients && !system) { /* tells clients with several certificates which one to show */
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(file);
        if (!names)
            return refuse(maker, "CA file \"%s\" cannot be used", file);
        SSL_CTX_set_client_CA_list(maker->ssl_context, names);
    }
    SSL_CTX_set_verify(maker->ssl_context,
                       maker->settings->mode < TLS_VERIFY_CA
                           ? SSL_VERIFY_PEER
                           : SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       NULL);
    return use_crl(maker);
}

/* What the files hold, so that a rotation under the same names is seen. Read once more: a file that
 * is changed at this very moment gives a context that differs from the next one. */
static bool take_fingerprint(struct tls_context *context, const struct tls_settings *settings)
{
    const char *ca_file = settings->ca_file;
    bool system = text_equal(ca_file, "system");
    const char *const files[] = {system ? tls_system_bundle() : ca_file, settings->cert_file,
                                 settings->key_file, settings->crl_file};
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    bool good = digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1;
    for (size_t i = 0; good && i < sizeof files / sizeof files[0]; i++) {
        char problem[8];
        size_t length = 0;
        char *text = is_set(files[i]) ? file_read(files[i], FILE_MAX_BYTES, &length, NULL, problem,
                                                  sizeof problem)
                                      : NULL;
        good = EVP_DigestUpdate(digest, &length, sizeof length) == 1 &&
               (!text || EVP_DigestUpdate(digest, text, length) == 1);
        if (text)
            text_wipe(text, length);
        free(text);
    }
    good = good && EVP_DigestFinal_ex(digest, context->fingerprint, NULL) == 1;
    EVP_MD_CTX_free(digest);
    return good;
}

bool tls_context_same_files(const struct tls_context *a, const struct tls_context *b)
{
    return a == b || (a && b && memcmp(a->fingerprint, b->fingerprint, sizeof a->fingerprint) == 0);
}

static void use_defaults(SSL_CTX *ssl_context)
{
    SSL_CTX_set_options(ssl_context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                         SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                         SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ssl_context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl_context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ssl_context, 0);
    /* One read(2) for a record instead of two (header, body): measured 11 % less time for a round
     * of small messages and 32 % more bytes a second. stream_has_pending copes with the rest. */
    SSL_CTX_set_read_ahead(ssl_context, 1);
    SSL_CTX_set_default_passwd_cb(ssl_context, no_passphrase);
}

static bool fill(struct maker *maker, bool for_clients)
{
    use_defaults(maker->ssl_context);
    if (!use_protocols(maker) || !use_ciphers(maker, for_clients) ||
        !use_certificate(maker, for_clients) || !use_authorities(maker, for_clients))
        return false;
    if (for_clients)
        tls_alpn_accept(maker->ssl_context);
    else if (!tls_alpn_offer(maker->ssl_context))
        return refuse(maker, "ALPN cannot be offered");
    return true;
}

static struct tls_context *context_new(const struct tls_settings *settings, bool for_clients,
                                       char *problem, size_t size)
{
    struct tls_context *context = memory_new(sizeof *context);
    atomic_init(&context->references, 1);
    context->mode = settings->mode;
    if (settings->mode == TLS_DISABLE)
        return context;
    ERR_clear_error();
    struct maker maker = {.settings = settings, .problem = problem, .size = size};
    maker.ssl_context = SSL_CTX_new(for_clients ? TLS_server_method() : TLS_client_method());
    context->ssl_context = maker.ssl_context;
    bool made =
        maker.ssl_context ? fill(&maker, for_clients) : refuse(&maker, "OpenSSL gives no context");
    if (made && !take_fingerprint(context, settings))
        made = refuse(&maker, "SHA-256 is not available");
    ERR_clear_error();
    if (!made) {
        tls_context_unref(context);
        return NULL;
    }
    return context;
}

struct tls_context *tls_context_for_clients(const struct tls_settings *settings, char *problem,
                                            size_t size)
{
    return context_new(settings, true, problem, size);
}

struct tls_context *tls_context_for_servers(const struct tls_settings *settings, char *problem,
                                            size_t size)
{
    return context_new(settings, false, problem, size);
}

void tls_settings_of_clients(struct tls_settings *tls, const struct settings *settings)
{
    *tls = (struct tls_settings){
        .mode = (enum tls_mode)settings->client_tls_sslmode,
        .ca_file = settings->client_tls_ca_file,
        .cert_file = settings->client_tls_cert_file,
        .key_file = settings->client_tls_key_file,
        .crl_file = settings->client_tls_crl_file,
        .protocols = settings->client_tls_protocols,
        .ciphers = settings->client_tls_ciphers,
        .ciphersuites = settings->client_tls13_ciphers,
        .ecdh_curve = settings->client_tls_ecdhcurve,
        .dh_params = settings->client_tls_dheparams,
    };
}

void tls_settings_of_servers(struct tls_settings *tls, const struct settings *settings)
{
    *tls = (struct tls_settings){
        .mode = (enum tls_mode)settings->server_tls_sslmode,
        .ca_file = settings->server_tls_ca_file,
        .cert_file = settings->server_tls_cert_file,
        .key_file = settings->server_tls_key_file,
        .crl_file = settings->server_tls_crl_file,
        .protocols = settings->server_tls_protocols,
        .ciphers = settings->server_tls_ciphers,
        .ciphersuites = settings->server_tls13_ciphers,
        .channel_binding = (enum channel_binding)settings->server_channel_binding,
    };
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
    atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
    return context;
}

void tls_context_unref(struct tls_context *context)
{
    if (!context || atomic_fetch_sub_explicit(&context->references, 1, memory_order_acq_rel) != 1)
        return;
    SSL_CTX_free(context->ssl_context);
    free(context);
}

enum tls_mode tls_context_mode(const struct tls_context *context)
{
    return context->mode;
}
