/*
 * tls_connection: the SSL of one connection: making it, asking it, and what went wrong.
 *
 * What verify-full checks is set on the SSL before the handshake, so OpenSSL itself breaks the
 * handshake off; nothing is left to be remembered afterwards. OpenSSL takes an empty name for
 * "check none" and a name with a leading dot for "any below": both are refused here.
 */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/text.h"
#include "pgstage/net/address.h"
#include "tls_inside.h"

/* One protocol name with its length before it. */
static const unsigned char alpn_postgresql[] = "\012postgresql";
#define ALPN_BYTES (sizeof alpn_postgresql - 1)

static int choose_alpn(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_length,
                       const unsigned char *offered, unsigned offered_length, void *argument)
{
    (void)ssl, (void)argument;
    unsigned char *found;
    if (SSL_select_next_proto(&found, chosen_length, alpn_postgresql, ALPN_BYTES, offered,
                              offered_length) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
}

void tls_alpn_accept(SSL_CTX *ssl_context)
{
    SSL_CTX_set_alpn_select_cb(ssl_context, choose_alpn, NULL);
}

bool tls_alpn_offer(SSL_CTX *ssl_context)
{
    return SSL_CTX_set_alpn_protos(ssl_context, alpn_postgresql, ALPN_BYTES) == 0;
}

bool tls_has_alpn(const SSL *ssl)
{
    const unsigned char *chosen;
    unsigned length;
    SSL_get0_alpn_selected(ssl, &chosen, &length);
    return length == ALPN_BYTES - 1 && memcmp(chosen, alpn_postgresql + 1, length) == 0;
}

static int choose_certificate(SSL *ssl, int *alert, void *argument)
{
    const struct tls_context *context = argument, *chosen;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert;
    if (!name || !(chosen = context->choose(context->choose_argument, name)) ||
        !chosen->ssl_context)
        return SSL_TLSEXT_ERR_OK;
    return SSL_set_SSL_CTX(ssl, chosen->ssl_context) ? SSL_TLSEXT_ERR_OK
                                                     : SSL_TLSEXT_ERR_ALERT_FATAL;
}

void tls_context_choose(struct tls_context *context,
                        struct tls_context *(*choose)(void *argument, const char *server_name),
                        void *argument)
{
    context->choose = choose;
    context->choose_argument = argument;
    if (!context->ssl_context)
        return;
    SSL_CTX_set_tlsext_servername_callback(context->ssl_context, choose_certificate);
    SSL_CTX_set_tlsext_servername_arg(context->ssl_context, context);
}

SSL *tls_accept_new(struct tls_context *context)
{
    return context->ssl_context ? SSL_new(context->ssl_context) : NULL;
}

/* The name as certificates and SNI write it: without the dot that ends an absolute name. */
static bool checkable_name(const char *host, char *name, size_t size)
{
    size_t length = host ? strlen(host) : 0;
    if (length > 0 && host[length - 1] == '.')
        length--;
    if (length == 0 || length >= size || host[0] == '.')
        return false;
    memcpy(name, host, length);
    name[length] = '\0';
    return true;
}

static bool name_host(SSL *ssl, const char *name, bool verify)
{
    struct address address;
    X509_VERIFY_PARAM *parameters = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (address_parse(&address, name, 0)) {
        char plain[ADDRESS_TEXT_BYTES]; /* no certificate has an interface's name */
        if (address.any.sa_family == AF_INET6)
            address.ip6.sin6_scope_id = 0;
        address_host_text(&address, plain);
        return !verify || X509_VERIFY_PARAM_set1_ip_asc(parameters, plain) == 1;
    }
    if (name[0] != '/' && SSL_set_tlsext_host_name(ssl, name) != 1)
        return false;
    return !verify || X509_VERIFY_PARAM_set1_host(parameters, name, 0) == 1;
}

SSL *tls_connect_new(struct tls_context *context, const char *host)
{
    if (!context->ssl_context)
        return NULL;
    char name[TLSEXT_MAXLEN_host_name + 1];
    bool verify = context->mode == TLS_VERIFY_FULL;
    bool named = checkable_name(host, name, sizeof name);
    if (verify && !named)
        return NULL;
    SSL *ssl = SSL_new(context->ssl_context);
    if (ssl && named && !name_host(ssl, name, verify)) {
        SSL_free(ssl);
        ssl = NULL;
    }
    return ssl;
}

void tls_describe(const SSL *ssl, char *text, size_t size)
{
    snprintf(text, size, "%s/%s", SSL_get_version(ssl), SSL_get_cipher_name(ssl));
}

const char *tls_server_name(const SSL *ssl)
{
    return SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
}

bool tls_peer_is_verified(const SSL *ssl)
{
    return SSL_get0_peer_certificate(ssl) && (SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) &&
           SSL_get_verify_result(ssl) == X509_V_OK;
}

char *tls_peer_common_name(const SSL *ssl)
{
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    if (!tls_peer_is_verified(ssl))
        return NULL;
    X509_NAME *subject = X509_get_subject_name(certificate);
    int place = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (place < 0)
        return NULL;
    unsigned char *utf8 = NULL;
    int length =
        ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, place)));
    /* A NUL inside would make "admin\0.evil.example" read as admin. */
    char *name =
        length > 0 && strlen((char *)utf8) == (size_t)length ? text_copy((char *)utf8) : NULL;
    OPENSSL_free(utf8);
    return name;
}

size_t tls_endpoint_hash(const SSL *ssl, bool is_server, unsigned char *hash)
{
    X509 *certificate = is_server ? SSL_get_certificate(ssl) : SSL_get0_peer_certificate(ssl);
    unsigned length = 0;
    int digest_nid;
    if (!certificate || X509_get_signature_info(certificate, &digest_nid, NULL, NULL, NULL) != 1 ||
        digest_nid == NID_undef)
        return 0;
    if (digest_nid == NID_md5 || digest_nid == NID_sha1)
        digest_nid = NID_sha256; /* RFC 5929: these two are too weak */
    const EVP_MD *digest = EVP_get_digestbynid(digest_nid);
    if (!digest || X509_digest(certificate, digest, hash, &length) != 1) {
        ERR_clear_error();
        return 0;
    }
    return length;
}

void tls_problem(const SSL *verify_of, char *text, size_t size)
{
    unsigned long code = ERR_peek_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    long verified = verify_of && (SSL_get_verify_mode(verify_of) & SSL_VERIFY_PEER)
                        ? SSL_get_verify_result(verify_of)
                        : X509_V_OK;
    char number[64];
    if (verified != X509_V_OK) {
        snprintf(text, size, "the peer's certificate is refused: %s",
                 X509_verify_cert_error_string(verified));
    } else if (code && ERR_SYSTEM_ERROR(code)) {
        char buffer[128];
        (void)text_fit(text, size, strerror_r(ERR_GET_REASON(code), buffer, sizeof buffer));
    } else if (reason) {
        (void)text_fit(text, size, reason);
    } else if (code) {
        ERR_error_string_n(code, number, sizeof number);
        (void)text_fit(text, size, number);
    } else {
        (void)text_fit(text, size, "the connection has ended");
    }
    ERR_clear_error();
}
