/*
 * certificate: see the header. P-256 keys, because making them takes no time.
 */
#include "certificate.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "pgstage/base/check.h"

#define DAY 86400L

static void extend(X509 *x509, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    check(extension && X509_add_ext(x509, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

struct certificate certificate_new(const struct certificate_options *options,
                                   const struct certificate *issuer)
{
    static long serial = 1000;
    struct certificate made = {.x509 = X509_new(), .key = EVP_EC_gen("P-256")};
    check(made.x509 && made.key);
    const struct certificate *signer = issuer ? issuer : &made;
    X509_set_version(made.x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(made.x509), serial++);
    bool usual = options->from_days == 0 && options->to_days == 0;
    X509_gmtime_adj(X509_getm_notBefore(made.x509), (usual ? -1 : options->from_days) * DAY);
    X509_gmtime_adj(X509_getm_notAfter(made.x509), (usual ? 1 : options->to_days) * DAY);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made.x509), "CN", MBSTRING_UTF8,
                               (const unsigned char *)options->common_name, -1, -1, 0);
    X509_set_issuer_name(made.x509, X509_get_subject_name(signer->x509));
    X509_set_pubkey(made.x509, made.key);
    extend(made.x509, signer->x509, NID_basic_constraints,
           options->authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    extend(made.x509, signer->x509, NID_subject_key_identifier, "hash");
    if (options->authority)
        extend(made.x509, signer->x509, NID_key_usage, "critical,keyCertSign,cRLSign");
    if (options->alternatives)
        extend(made.x509, signer->x509, NID_subject_alt_name, options->alternatives);
    check(X509_sign(made.x509, signer->key, EVP_sha256()) > 0);
    return made;
}

void certificate_free(struct certificate *certificate)
{
    X509_free(certificate->x509);
    EVP_PKEY_free(certificate->key);
    *certificate = (struct certificate){0};
}

void certificate_write(const char *path, const struct certificate *certificate)
{
    FILE *file = fopen(path, "a");
    check(file && PEM_write_X509(file, certificate->x509) == 1);
    fclose(file);
}

void certificate_write_key(const char *path, const struct certificate *certificate,
                           const char *passphrase)
{
    FILE *file = fopen(path, "w");
    check(file &&
          PEM_write_PrivateKey(file, certificate->key, passphrase ? EVP_aes_256_cbc() : NULL,
                               (const unsigned char *)passphrase,
                               passphrase ? (int)strlen(passphrase) : 0, NULL, NULL) == 1);
    fclose(file);
}

void certificate_write_crl(const char *path, const struct certificate *issuer,
                           const struct certificate *revoked)
{
    X509_CRL *crl = X509_CRL_new();
    X509_CRL_set_version(crl, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->x509));
    ASN1_TIME *when = ASN1_TIME_new();
    X509_gmtime_adj(when, -DAY);
    X509_CRL_set1_lastUpdate(crl, when);
    if (revoked) {
        X509_REVOKED *entry = X509_REVOKED_new();
        X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked->x509));
        X509_REVOKED_set_revocationDate(entry, when);
        X509_CRL_add0_revoked(crl, entry);
    }
    X509_gmtime_adj(when, DAY);
    X509_CRL_set1_nextUpdate(crl, when);
    ASN1_TIME_free(when);
    check(X509_CRL_sign(crl, issuer->key, EVP_sha256()) > 0);
    FILE *file = fopen(path, "w");
    check(file && PEM_write_X509_CRL(file, crl) == 1);
    fclose(file);
    X509_CRL_free(crl);
}
