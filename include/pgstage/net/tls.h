/*
 * tls: OpenSSL contexts for one side and one policy, shared by all workers.
 *
 * A context is immutable and reference-counted; connections keep the one they began with.
 */
#ifndef PGSTAGE_NET_TLS_H
#define PGSTAGE_NET_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

#include "pgstage/conf/settings.h"

struct tls_context;

struct tls_settings {
    enum tls_mode mode;
    bool asks_certificate; /* of clients below verify-ca: who has one may show it, and it must be
                              valid */
    const char *ca_file;   /* "system": the distribution's bundle */
    const char *cert_file, *key_file;
    const char *crl_file;     /* NULL: none */
    const char *protocols;    /* PgBouncer's words: secure, all, tlsv1.2, tlsv1.3 … */
    const char *ciphers;      /* TLS 1.2: PgBouncer's words or an OpenSSL list */
    const char *ciphersuites; /* TLS 1.3 */
    const char *ecdh_curve, *dh_params;
    enum channel_binding channel_binding; /* to servers: for who logs in over it */
};

/* For connections from clients / to servers. NULL and `problem` (cut to `size`) when a file cannot
 * be used. Blocks on the disk: control thread. */
struct tls_context *tls_context_for_clients(const struct tls_settings *settings, char *problem,
                                            size_t size) __attribute__((warn_unused_result));
struct tls_context *tls_context_for_servers(const struct tls_settings *settings, char *problem,
                                            size_t size) __attribute__((warn_unused_result));
/* The distribution's bundle of CA certificates, what ca_file "system" means; NULL: there is none.
 */
const char *tls_system_bundle(void);
/* The lowest and highest version that `protocols` (NULL: secure) allow, in OpenSSL's and libpq's
 * words ("TLSv1.2"). False: the list is not understood or allows nothing. Pure. */
bool tls_version_range(const char *protocols, const char **minimum, const char **maximum);
/* The settings of a scope as tls_settings. */
void tls_settings_of_clients(struct tls_settings *tls, const struct settings *settings);
void tls_settings_of_servers(struct tls_settings *tls, const struct settings *settings);
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context);
/* Of the settings that the context was made from. */
enum tls_mode tls_context_mode(const struct tls_context *context);

/* Were both made from files with the same contents? Either may be NULL: no TLS. */
bool tls_context_same_files(const struct tls_context *a, const struct tls_context *b);

/* From now on `choose` is asked for the context of each accepted connection that names a server
 * (SNI): the certificate is that one's, everything else stays as it is here; NULL keeps this one's.
 * Called by workers during handshakes, so what it looks into must be immutable, and live as long as
 * handshakes may go on. Before the context is shared; control thread. */
void tls_context_choose(struct tls_context *context,
                        struct tls_context *(*choose)(void *argument, const char *server_name),
                        void *argument);

/* A new SSL to accept with: of a client that offers ALPN, "postgresql" is taken and anything else
 * refused. NULL when the mode is disable or memory is short. Any thread. */
SSL *tls_accept_new(struct tls_context *context) __attribute__((warn_unused_result));
/* A new SSL to connect to the host with the name `host` as the file writes it: SNI always (not for
 * numeric addresses), and with verify-full the name or IP SAN is checked against the certificate.
 * NULL when the mode is disable, and for a name that cannot be checked (empty, a leading dot). */
SSL *tls_connect_new(struct tls_context *context, const char *host)
    __attribute__((warn_unused_result));
/* "TLSv1.3/TLS_AES_256_GCM_SHA384"; `text` is at least 96 bytes. */
void tls_describe(const SSL *ssl, char *text, size_t size);
/* Did both sides agree on ALPN "postgresql"? Direct TLS (without an SSLRequest) demands it. */
bool tls_has_alpn(const SSL *ssl);
/* The server name (SNI) that the client asked for; NULL: none. Valid as long as `ssl`. */
const char *tls_server_name(const SSL *ssl);
/* Has the peer shown a certificate, and was it found to be valid? */
bool tls_peer_is_verified(const SSL *ssl);
/* The certificate's common name of the peer that verified, allocated; NULL: none. */
char *tls_peer_common_name(const SSL *ssl);
/* The hash that stands for this connection's server in channel binding (tls-server-end-point, RFC
 * 5929): of the certificate that was shown in this very handshake, by us (`is_server`) or by the
 * peer. `hash` has room for EVP_MAX_MD_SIZE bytes. 0: there is none (the certificate's signature has
 * no one hash: Ed25519). */
size_t tls_endpoint_hash(const SSL *ssl, bool is_server, unsigned char *hash);
/* Takes the thread's OpenSSL errors into one line and clears them. `verify_of` may be NULL; when
 * its verification failed, the line says why (expired, self-signed, host name mismatch …). */
void tls_problem(const SSL *verify_of, char *text, size_t size);

#endif
