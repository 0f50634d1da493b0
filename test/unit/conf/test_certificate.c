/* Certificates and keys that a configuration names. */
#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "desk.h"

TestSuite(certificate, .init = desk_set, .fini = desk_clear);

/* Writes NAME.key and a self-signed NAME.pem that is valid from `from` to `to` days from now. */
static void make_pair(const char *name, long from, long to, const char *passphrase)
{
    char path[64];
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_NAME *subject = X509_get_subject_name(certificate);
    cr_assert(key && certificate);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, subject);
    X509_gmtime_adj(X509_getm_notBefore(certificate), from * 86400);
    X509_gmtime_adj(X509_getm_notAfter(certificate), to * 86400);
    X509_set_pubkey(certificate, key);
    X509_sign(certificate, key, EVP_sha256());
    snprintf(path, sizeof(path), "%s.pem", name);
    desk_write(path, "");
    FILE *file = fopen(path, "w");
    PEM_write_X509(file, certificate);
    fclose(file);
    snprintf(path, sizeof(path), "%s.key", name);
    desk_write(path, "");
    file = fopen(path, "w");
    PEM_write_PrivateKey(file, key, passphrase ? EVP_aes_128_cbc() : NULL,
                         (const unsigned char *)passphrase,
                         passphrase ? (int)strlen(passphrase) : 0, NULL, NULL);
    fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

#define SERVER(certificate, key)                                                                   \
    "[pgstage]\nserver_tls_cert_file = " certificate "\nserver_tls_key_file = " key "\n"

Test(certificate, a_good_pair_is_accepted)
{
    make_pair("good", -1, 100, NULL);
    snapshot_unref(desk_accepts(SERVER("good.pem", "good.key")));
    cr_expect_eq(desk_report.warnings, 0);
}

Test(certificate, an_expired_one_is_refused)
{
    make_pair("old", -10, -1, NULL);
    desk_refuses(SERVER("old.pem", "old.key"), 2, "expired on");
}

Test(certificate, one_that_is_not_valid_yet_is_refused)
{
    make_pair("young", 1, 100, NULL);
    desk_refuses(SERVER("young.pem", "young.key"), 2, "not valid before");
}

Test(certificate, one_that_expires_soon_is_warned_about)
{
    make_pair("soon", -10, 20, NULL);
    snapshot_unref(desk_accepts(SERVER("soon.pem", "soon.key")));
    cr_expect(desk_said(2, "less than 30 days"));
}

Test(certificate, a_key_of_another_one_is_refused)
{
    make_pair("a", -1, 100, NULL);
    make_pair("b", -1, 100, NULL);
    desk_refuses(SERVER("a.pem", "b.key"), 3, "does not belong to the certificate in a.pem");
}

Test(certificate, a_key_with_a_passphrase_is_refused_without_asking_for_it)
{
    make_pair("locked", -1, 100, "secret");
    desk_refuses(SERVER("locked.pem", "locked.key"), 3, "has a passphrase");
}

Test(certificate, files_that_hold_something_else_are_refused)
{
    make_pair("good", -1, 100, NULL);
    desk_write("text", "hello\n");
    desk_refuses(SERVER("text", "good.key"), 2, "no certificate (PEM)");
    desk_refuses(SERVER("good.pem", "text"), 3, "no private key (PEM)");
    desk_refuses("[pgstage]\nserver_tls_ca_file = text\n", 2, "no certificate (PEM)");
    desk_refuses("[pgstage]\nserver_tls_crl_file = text\n", 2, "no revocation list (PEM)");
}

Test(certificate, every_place_that_names_one_is_looked_at)
{
    make_pair("old", -10, -1, NULL);
    desk_refuses("[environment e]\nclass = review_apps\nhosts = h\nserver_tls_ca_file = old.pem\n",
                 4, "expired on");
    desk_refuses("[databases]\na = host=h server_tls_ca_file=old.pem\n", 2, "expired on");
    desk_refuses("[listener l]\nlisten_port = 1\nclient_tls_cert_file = old.pem\n"
                 "client_tls_key_file = old.key\n",
                 3, "expired on");
}

Test(certificate, a_listener_offers_tls_as_soon_as_a_class_wants_it)
{
    make_pair("good", -1, 100, NULL);
#define PAIR "[pgstage]\nclient_tls_cert_file = good.pem\nclient_tls_key_file = good.key\n"
#define ENVIRONMENT "[environment e]\nclass = review_apps\nhosts = h\n"
    struct snapshot *offers = desk_accepts(PAIR ENVIRONMENT);
    struct snapshot *alone = desk_accepts(PAIR);
    struct snapshot *without = desk_accepts(ENVIRONMENT);
    struct snapshot *told = desk_accepts(PAIR "client_tls_sslmode = disable\n" ENVIRONMENT);
    cr_expect_eq(snapshot_listener(offers, 0)->settings->client_tls_sslmode, TLS_PREFER);
    cr_expect_eq(snapshot_listener(alone, 0)->settings->client_tls_sslmode, TLS_DISABLE);
    cr_expect_eq(snapshot_listener(without, 0)->settings->client_tls_sslmode, TLS_DISABLE);
    cr_expect_eq(snapshot_listener(told, 0)->settings->client_tls_sslmode, TLS_DISABLE);
    snapshot_unref(offers);
    snapshot_unref(alone);
    snapshot_unref(without);
    snapshot_unref(told);
}
