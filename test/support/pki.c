/*
 * pki: makes certificates with OpenSSL's API.
 */
#include "pki.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program.h"

static EVP_PKEY *key_read(const char *path)
{
    FILE *file = fopen(path, "re");
    EVP_PKEY *key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;

    if (!key)
        support_fail("cannot read the key %s", path);
    fclose(file);
    return key;
}

static X509 *certificate_read(const char *path)
{
    FILE *file = fopen(path, "re");
    X509 *certificate = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;

    if (!certificate)
        support_fail("cannot read the certificate %s", path);
    fclose(file);
    return certificate;
}

static void extend(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    if (!extension || !X509_add_ext(certificate, extension, -1))
        support_fail("cannot add to a certificate: %s", value);
    X509_EXTENSION_free(extension);
}

static void certificate_fill(X509 *certificate, EVP_PKEY *key, const struct pki_request *request)
{
    X509_NAME *name = X509_get_subject_name(certificate);
    unsigned char serial[8];
    uint64_t number = 0;
    size_t i;

    RAND_bytes(serial, sizeof serial);
    for (i = 0; i < sizeof serial; i++)
        number = number << 8 | serial[i];
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), number >> 1);
    X509_time_adj_ex(X509_getm_notBefore(certificate),
                     request->starts_in_days ? request->starts_in_days : -1, 0, NULL);
    X509_time_adj_ex(X509_getm_notAfter(certificate),
                     request->ends_in_days ? request->ends_in_days : 365, 0, NULL);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                               (const unsigned char *)request->common_name, -1, -1, 0);
    X509_set_pubkey(certificate, key);
}

static void files_write(const struct pki_certificate *made, X509 *certificate, EVP_PKEY *key)
{
    const struct pki_certificate *issuer;
    FILE *file = fopen(made->key, "we");

    if (!file || !PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) || fclose(file) ||
        chmod(made->key, 0600))
        support_fail("cannot write %s", made->key);
    file = fopen(made->certificate, "we");
    if (!file || !PEM_write_X509(file, certificate))
        support_fail("cannot write %s", made->certificate);
    for (issuer = made->issuer; issuer && issuer->issuer; issuer = issuer->issuer) {
        X509 *link = certificate_read(issuer->certificate);

        PEM_write_X509(file, link);
        X509_free(link);
    }
    fclose(file);
    path_give(made->key);
    path_give(made->certificate);
}

struct pki_certificate *pki_issue(const char *folder, const struct pki_request *request)
{
    struct pki_certificate *made = calloc(1, sizeof *made);
    X509 *certificate = X509_new();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *issuer = certificate;
    EVP_PKEY *issuer_key = key;

    if (!made || !certificate || !key)
        support_fail("cannot make a key");
    made->certificate = text_of("%s/%s.crt", folder, request->file);
    made->key = text_of("%s/%s.key", folder, request->file);
    made->issuer = request->issuer;
    certificate_fill(certificate, key, request);
    if (request->issuer) {
        issuer = certificate_read(request->issuer->certificate);
        issuer_key = key_read(request->issuer->key);
    }
    X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
    extend(certificate, issuer, NID_basic_constraints,
           request->authority ? "critical,CA:TRUE" : "CA:FALSE");
    if (request->authority)
        extend(certificate, issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
    extend(certificate, issuer, NID_subject_key_identifier, "hash");
    if (request->names)
        extend(certificate, issuer, NID_subject_alt_name, request->names);
    if (!X509_sign(certificate, issuer_key, EVP_sha256()))
        support_fail("cannot sign the certificate of %s", request->common_name);
    files_write(made, certificate, key);
    if (request->issuer) {
        X509_free(issuer);
        EVP_PKEY_free(issuer_key);
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    return made;
}

/* Made by the runner, found again by the tests. */
static const struct pki_certificate *shared(const struct pki_request *request)
{
    char *folder = text_of("%s/pki", program_folder());
    struct pki_certificate *known = calloc(1, sizeof *known);

    if (!known)
        abort();
    known->certificate = text_of("%s/%s.crt", folder, request->file);
    known->key = text_of("%s/%s.key", folder, request->file);
    known->issuer = request->issuer;
    if (access(known->certificate, F_OK) == 0)
        return known;
    folder_make(folder);
    return pki_issue(folder, request);
}

const struct pki_certificate *pki_shared_ca(void)
{
    static const struct pki_certificate *ca;
    struct pki_request request = {.file = "ca", .common_name = "Test CA", .authority = true};

    if (!ca)
        ca = shared(&request);
    return ca;
}

const struct pki_certificate *pki_shared_server(void)
{
    static const struct pki_certificate *server;
    struct pki_request request = {.file = "server",
                                  .common_name = "pg.production.test",
                                  .names = "DNS:pg.production.test",
                                  .issuer = pki_shared_ca()};

    if (!server)
        server = shared(&request);
    return server;
}
