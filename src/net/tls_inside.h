/*
 * tls_inside: what the files of tls share. tls.c makes contexts, tls_policy.c knows the words for
 * protocols and ciphers, tls_connection.c makes and asks the SSL of one connection.
 */
#ifndef PGSTAGE_NET_TLS_INSIDE_H
#define PGSTAGE_NET_TLS_INSIDE_H

#include <stdatomic.h>
#include <stdint.h>

#include "pgstage/net/tls.h"

struct tls_context {
    /* fixed */
    enum tls_mode mode;
    SSL_CTX *ssl_context; /* NULL: disabled */
    struct tls_context *(*choose)(void *argument, const char *server_name);
    void *choose_argument;
    uint8_t fingerprint[32]; /* SHA-256 of what the files held */
    /* shared: atomic */
    atomic_uint references;
};

/* The lowest version that `words` (NULL: secure) allow, and SSL_OP_NO_… of the others between it
 * and the highest. False: not understood, or nothing is allowed. */
bool tls_policy_protocols(const char *words, int *minimum, uint64_t *forbidden);
/* The OpenSSL list (TLS 1.2 and before) for a word or a list. */
const char *tls_policy_ciphers(const char *words);

void tls_alpn_accept(SSL_CTX *ssl_context);
bool tls_alpn_offer(SSL_CTX *ssl_context);

#endif
