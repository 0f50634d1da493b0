/*
 * certificate: authorities and certificates made inside a test, and written as PEM files.
 */
#ifndef PGSTAGE_TEST_NET_CERTIFICATE_H
#define PGSTAGE_TEST_NET_CERTIFICATE_H

#include <openssl/x509.h>
#include <stdbool.h>

struct certificate {
    X509 *x509;
    EVP_PKEY *key;
};

struct certificate_options {
    const char *common_name;
    const char *alternatives; /* as OpenSSL writes it: "DNS:db.example,IP:127.0.0.1"; NULL: none */
    bool authority;
    int from_days, to_days; /* from now; both 0: yesterday to tomorrow */
};

/* Signed by `issuer`, or by itself (NULL). */
struct certificate certificate_new(const struct certificate_options *options,
                                   const struct certificate *issuer);
void certificate_free(struct certificate *certificate);
/* Appends to the file. */
void certificate_write(const char *path, const struct certificate *certificate);
/* With a passphrase, or without (NULL). */
void certificate_write_key(const char *path, const struct certificate *certificate,
                           const char *passphrase);
/* A list that revokes one certificate (NULL: none). */
void certificate_write_crl(const char *path, const struct certificate *issuer,
                           const struct certificate *revoked);

#endif
