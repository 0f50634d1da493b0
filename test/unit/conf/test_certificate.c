/* Certificates and keys that a configuration names. */
#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "desk.h"
#include "pgstage/conf/certificate.h"

TestSuite(certificate, .init = desk_set, .fini = desk_clear);

static X509 *make_certificate(const char *name, EVP_PKEY *key, long from, long to)
{
    X509 *certificate = X509_new();
    cr_assert(key && certificate);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_set_version(certificate, 2);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, subject);
    X509_gmtime_adj(X509_getm_notBefore(certificate), from * 86400);
    X509_gmtime_adj(X509_getm_notAfter(certificate), to * 86400);
    X509_EXTENSION *names =
        X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:pg.example.com,IP:10.0.0.1");
    X509_add_ext(certificate, names, -1);
    X509_EXTENSION_free(names);
    X509_set_pubkey(certificate, key);
    X509_sign(certificate, key, EVP_sha256());
    return certificate;
}

/* Opens a file of the test's folder for writing or appending. */
static FILE *open_file(const char *name, const char *end, const char *mode)
{
    char path[64];
    snprintf(path, sizeof(path), "%s%s", name, end);
    if (*mode == 'w')
        desk_write(path, "");
    FILE *file = fopen(path, mode);
    cr_assert(file);
    return file;
}

/* Writes NAME.key and a self-signed NAME.pem that is valid from `from` to `to` days from now. */
static void make_pair(const char *name, long from, long to, const char *passphrase)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = make_certificate(name, key, from, to);
    FILE *file = open_file(name, ".pem", "w");
    PEM_write_X509(file, certificate);
    fclose(file);
    file = open_file(name, ".key", "w");
    PEM_write_PrivateKey(file, key, passphrase ? EVP_aes_128_cbc() : NULL,
                         (const unsigned char *)passphrase,
                         passphrase ? (int)strlen(passphrase) : 0, NULL, NULL);
    fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

/* Appends a certificate of somebody else to NAME.pem. */
static void append_other(const char *name, const char *other, long to)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = make_certificate(other, key, -10, to);
    FILE *file = open_file(name, ".pem", "a");
    PEM_write_X509(file, certificate);
    fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

/* Writes NAME.crl, a list that is to be replaced in `to` days. */
static void make_crl(const char *name, long to)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = make_certificate(name, key, -10, 10);
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *when = ASN1_TIME_new();
    X509_CRL_set_version(crl, 1);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(certificate));
    X509_CRL_set1_lastUpdate(crl, X509_gmtime_adj(when, -20 * 86400));
    X509_CRL_set1_nextUpdate(crl, X509_gmtime_adj(when, to * 86400));
    X509_CRL_sign(crl, key, EVP_sha256());
    FILE *file = open_file(name, ".crl", "w");
    PEM_write_X509_CRL(file, crl);
    fclose(file);
    ASN1_TIME_free(when);
    X509_CRL_free(crl);
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

Test(certificate, the_chain_behind_one_is_looked_at_too)
{
    make_pair("good", -1, 100, NULL);
    append_other("good", "intermediate", -1);
    desk_refuses(SERVER("good.pem", "good.key"), 2, "expired on");
}

Test(certificate, a_revocation_list_that_is_out_of_date_is_refused)
{
    make_crl("new", 5);
    make_crl("old", -5);
    snapshot_unref(desk_accepts("[pgstage]\nserver_tls_crl_file = new.crl\n"));
    desk_refuses("[pgstage]\nserver_tls_crl_file = old.crl\n", 2, "was to be replaced by");
}

/* The certificate whose subject is `CN=name`. */
static const struct certificate *find(const struct snapshot *snapshot, const char *name)
{
    char subject[64];
    snprintf(subject, sizeof(subject), "CN=%s", name);
    for (size_t i = 0; i < snapshot_certificate_count(snapshot); i++)
        if (strcmp(snapshot_certificate(snapshot, i)->subject, subject) == 0)
            return snapshot_certificate(snapshot, i);
    cr_assert(false, "there is no %s", subject);
    return NULL;
}

Test(certificate, every_one_is_known_with_who_uses_it)
{
    make_pair("own", -1, 100, NULL);
    append_other("own", "intermediate", 90);
    make_pair("ca", -1, 200, NULL);
    append_other("ca", "older-ca", 50);
    struct snapshot *snapshot =
        desk_accepts("[pgstage]\nclient_tls_cert_file = own.pem\nclient_tls_key_file = own.key\n"
                     "[environment a]\nclass = staging\nhosts = h\nserver_tls_ca_file = ca.pem\n"
                     "[environment b]\nclass = staging\nhosts = g\nserver_tls_ca_file = system\n"
                     "[databases]\nx@b = server_tls_ca_file=ca.pem\n");
    cr_assert_eq(snapshot_certificate_count(snapshot), 4);
    const struct certificate *own = find(snapshot, "own"), *ca = find(snapshot, "older-ca");
    cr_expect_str_eq(own->used_by, "listener [pgstage]");
    cr_expect_str_eq(own->file, "own.pem");
    cr_expect_str_eq(own->issuer, "CN=own");
    cr_expect_str_eq(own->names, "DNS:pg.example.com, IP Address:10.0.0.1");
    cr_expect_not(own->authority);
    cr_expect_eq(certificate_days_left(own, (int64_t)time(NULL) + 3600), 99);
    cr_expect_str_eq(ca->used_by, "environment a, database x@b");
    cr_expect(ca->authority);
    cr_expect_str_eq(find(snapshot, "intermediate")->used_by, "listener [pgstage]");
    snapshot_unref(snapshot);
}

Test(certificate, a_warning_is_due_under_two_weeks)
{
    const int64_t day = 86400, end = 1000 * day;
    struct certificate one = {"f.pem", "CN=x", "CN=y", NULL, "environment e", false, end};
    static const struct {
        int64_t before_s;
        const char *words;
    } cases[] = {
        {15 * 86400, NULL},
        {14 * 86400, NULL},
        {14 * 86400 - 1, "expires in 13 days"},
        {86400, "expires in 1 day,"},
        {1, "expires in 0 days"},
        {-1, "has expired"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = certificate_warning(&one, end - cases[i].before_s);
        if (cases[i].words)
            cr_expect(text && strstr(text, cases[i].words) && strstr(text, "f.pem") &&
                          strstr(text, "1972-09-27 00:00:00 UTC"),
                      "%s", text);
        else
            cr_expect_null(text);
        free(text);
    }
    cr_expect_eq(certificate_days_left(&one, end + 1), -1);
    cr_expect_eq(certificate_days_left(&one, end - day), 1);
}
