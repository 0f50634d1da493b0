/*
 * certificate: looks at the certificates and keys that a configuration names, before a handshake
 * fails on them: readable, not expired, not expiring within 30 days, key and certificate a pair,
 * revocation lists in force. What is found goes into the snapshot for SHOW TLS (inventory.c).
 *
 * Runs on the thread that loads. Each file is looked at once for each load, however many
 * environments name it; who names it is remembered.
 */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "inside.h"
#include "pgstage/base/buffer.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/certificate.h"

#define PEM_MAX_BYTES ((size_t)16 << 20)
#define WARN_DAYS 30
#define RECORDS_MAX 500 /* of one file: a bundle of all the world's authorities is none of ours */

/* A file, or a pair of files, that was looked at. */
struct seen {
    char *key;
    struct pointers records; /* struct certificate * of it */
    struct buffer uses;      /* who names it, with commas between */
    UT_hash_handle hh;
};

struct examiner {
    struct snapshot *snapshot;
    struct report *report;
    struct seen *seen;
    const char *user; /* who names what is looked at now: "environment production" */
};

/* Remembers who names it; NULL when it was looked at before. */
static struct seen *see(struct examiner *examiner, const char *kind, const char *a, const char *b)
{
    struct seen *seen;
    char *key = text_print("%s\n%s\n%s", kind, a, b);
    HASH_FIND_STR(examiner->seen, key, seen);
    if (seen) {
        buffer_print(&seen->uses, ", %s", examiner->user);
        free(key);
        return NULL;
    }
    seen = memory_new(sizeof(*seen));
    seen->key = key;
    buffer_print(&seen->uses, "%s", examiner->user);
    HASH_ADD_KEYPTR(hh, examiner->seen, seen->key, strlen(key), seen);
    return seen;
}

static void remember(struct examiner *examiner, struct seen *seen, const char *file, bool authority,
                     const X509 *x509)
{
    if (seen->records.count < RECORDS_MAX)
        pointers_add(&seen->records, inventory_add(examiner->snapshot, file, authority, x509));
}

/* Everybody who names a file is known: the records say so from now on. */
static void see_no_more(struct examiner *examiner, struct seen *seen)
{
    const char *uses =
        arena_copy_n(&examiner->snapshot->arena, (const char *)seen->uses.data, seen->uses.length);
    for (size_t i = 0; i < seen->records.count; i++) {
        struct certificate *record = seen->records.items[i];
        record->used_by = uses;
    }
    HASH_DEL(examiner->seen, seen);
    free(seen->records.items);
    buffer_fini(&seen->uses);
    free(seen->key);
    free(seen);
}

/* The file as something OpenSSL reads from; NULL when it cannot be read (reported elsewhere). */
static BIO *open_pem(const char *path, char **text, size_t *length)
{
    char problem[512];
    *text = file_read(path, PEM_MAX_BYTES, length, NULL, problem, sizeof(problem));
    return *text ? BIO_new_mem_buf(*text, (int)*length) : NULL;
}

static void close_pem(BIO *bio, char *text, size_t length)
{
    BIO_free(bio);
    text_wipe(text, length);
    free(text);
    ERR_clear_error();
}

/* "Jan 31 12:00:00 2026 GMT" into `text`. */
static void print_time(const ASN1_TIME *when, char *text, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    int length = bio && ASN1_TIME_print(bio, when) ? BIO_read(bio, text, (int)size - 1) : 0;
    text[length > 0 ? length : 0] = '\0';
    BIO_free(bio);
}

static void check_dates(struct examiner *examiner, const struct origin *origin, const char *option,
                        const char *path, const X509 *certificate)
{
    char when[64];
    time_t soon = time(NULL) + (time_t)WARN_DAYS * 86400;
    const ASN1_TIME *end = X509_get0_notAfter(certificate);
    const ASN1_TIME *begin = X509_get0_notBefore(certificate);
    print_time(end, when, sizeof(when));
    if (X509_cmp_current_time(end) < 0)
        origin_error(examiner->report, origin, "%s: the certificate in %s expired on %s", option,
                     path, when);
    else if (X509_cmp_time(end, &soon) < 0)
        origin_warning(examiner->report, origin,
                       "%s: the certificate in %s expires in less than %d days, on %s", option,
                       path, WARN_DAYS, when);
    print_time(begin, when, sizeof(when));
    if (X509_cmp_current_time(begin) > 0)
        origin_error(examiner->report, origin, "%s: the certificate in %s is not valid before %s",
                     option, path, when);
}

/* The key of a certificate must never be asked for on the terminal. */
static int no_passphrase(char *buffer, int size, int writing, void *context)
{
    (void)buffer, (void)size, (void)writing;
    *(bool *)context = true;
    return -1;
}

static EVP_PKEY *read_key(struct examiner *examiner, const struct origin *origin,
                          const char *option, const char *path)
{
    char *text;
    size_t length;
    bool encrypted = false;
    BIO *bio = open_pem(path, &text, &length);
    if (!bio)
        return NULL;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &encrypted);
    if (encrypted)
        origin_error(examiner->report, origin,
                     "%s: the key in %s has a passphrase; remove it with openssl pkey", option,
                     path);
    else if (!key)
        origin_error(examiner->report, origin, "%s: there is no private key (PEM) in %s", option,
                     path);
    close_pem(bio, text, length);
    return key;
}

/* The first certificate of a file; those behind it are its chain and are looked at, too. */
static X509 *read_chain(struct examiner *examiner, struct seen *seen, const struct origin *origin,
                        const char *option, const char *path)
{
    char *text;
    size_t length;
    BIO *bio = open_pem(path, &text, &length);
    if (!bio)
        return NULL;
    X509 *first = NULL, *x509;
    while ((x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        check_dates(examiner, origin, option, path, x509);
        remember(examiner, seen, path, false, x509);
        if (first)
            X509_free(x509);
        else
            first = x509;
    }
    if (!first)
        origin_error(examiner->report, origin, "%s: there is no certificate (PEM) in %s", option,
                     path);
    close_pem(bio, text, length);
    return first;
}

/* A certificate and its key. */
static void examine_pair(struct examiner *examiner, const struct assignment *certificate,
                         const struct assignment *key)
{
    if (!certificate || !key || !certificate->value.text || !key->value.text)
        return;
    struct seen *seen = see(examiner, "pair", certificate->value.text, key->value.text);
    if (!seen)
        return;
    const char *path = certificate->value.text, *option = certificate->option->name;
    X509 *x509 = read_chain(examiner, seen, &certificate->origin, option, path);
    EVP_PKEY *pkey = read_key(examiner, &key->origin, key->option->name, key->value.text);
    if (x509 && pkey && X509_check_private_key(x509, pkey) != 1)
        origin_error(examiner->report, &key->origin,
                     "%s: the key in %s does not belong to the certificate in %s",
                     key->option->name, key->value.text, path);
    ERR_clear_error();
    X509_free(x509);
    EVP_PKEY_free(pkey);
}

/* A file of authorities: at least one, and what has expired is no use. */
static void examine_authorities(struct examiner *examiner, const struct assignment *ca)
{
    if (!ca || !ca->value.text || strcmp(ca->value.text, "system") == 0)
        return;
    struct seen *seen = see(examiner, "ca", ca->value.text, "");
    if (!seen)
        return;
    char *text;
    size_t length, count = 0, expired = 0;
    BIO *bio = open_pem(ca->value.text, &text, &length);
    if (!bio)
        return;
    X509 *x509, *first = NULL;
    while ((x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        count++;
        expired += X509_cmp_current_time(X509_get0_notAfter(x509)) < 0;
        remember(examiner, seen, ca->value.text, true, x509);
        if (first)
            X509_free(x509);
        else
            first = x509;
    }
    /* In a bundle of many some are always old; a single one matters. */
    if (count == 1)
        check_dates(examiner, &ca->origin, ca->option->name, ca->value.text, first);
    else if (count == 0)
        origin_error(examiner->report, &ca->origin, "%s: there is no certificate (PEM) in %s",
                     ca->option->name, ca->value.text);
    else if (expired == count)
        origin_error(examiner->report, &ca->origin, "%s: every certificate in %s has expired",
                     ca->option->name, ca->value.text);
    X509_free(first);
    close_pem(bio, text, length);
}

static void examine_crl(struct examiner *examiner, const struct assignment *crl)
{
    if (!crl || !crl->value.text || !see(examiner, "crl", crl->value.text, ""))
        return;
    char *text;
    size_t length;
    BIO *bio = open_pem(crl->value.text, &text, &length);
    if (!bio)
        return;
    X509_CRL *list = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
    if (!list)
        origin_error(examiner->report, &crl->origin, "%s: there is no revocation list (PEM) in %s",
                     crl->option->name, crl->value.text);
    for (; list; list = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)) {
        const ASN1_TIME *next = X509_CRL_get0_nextUpdate(list);
        char when[64];
        /* One that is out of date refuses every certificate of its issuer. */
        if (next && X509_cmp_current_time(next) < 0) {
            print_time(next, when, sizeof(when));
            origin_error(examiner->report, &crl->origin,
                         "%s: the revocation list in %s was to be replaced by %s",
                         crl->option->name, crl->value.text, when);
        }
        X509_CRL_free(list);
    }
    close_pem(bio, text, length);
}

/* The assignment in force for a listener. */
static const struct assignment *listener_assignment(const struct snapshot *snapshot,
                                                    const struct listener *listener,
                                                    const char *option)
{
    const struct assignment *own = layer_find_name(&listener->layer, option);
    return own ? own : layer_find_name(&snapshot->layer, option);
}

static void examine_listener(struct examiner *examiner, const struct snapshot *snapshot,
                             const struct listener *listener)
{
    char *user =
        text_print("listener %s", listener->config.name ? listener->config.name : "[pgstage]");
    examiner->user = user;
    examine_pair(examiner, listener_assignment(snapshot, listener, "client_tls_cert_file"),
                 listener_assignment(snapshot, listener, "client_tls_key_file"));
    examine_authorities(examiner, listener_assignment(snapshot, listener, "client_tls_ca_file"));
    examine_crl(examiner, listener_assignment(snapshot, listener, "client_tls_crl_file"));
    free(user);
}

/* What clients that ask for an environment's `sni` are shown. */
static void examine_own(struct examiner *examiner, const struct environment *environment)
{
    char *user = text_print("clients of environment %s", environment->config.name);
    examiner->user = user;
    examine_pair(examiner, layer_find_name(&environment->layer, "client_tls_cert_file"),
                 layer_find_name(&environment->layer, "client_tls_key_file"));
    free(user);
}

/* What holds for connections to the servers of an environment, or of a line. */
static void examine_servers(struct examiner *examiner, const struct snapshot *snapshot,
                            const struct environment *environment, const struct database *line)
{
    const struct assignment *found[4];
    static const char *const names[4] = {"server_tls_cert_file", "server_tls_key_file",
                                         "server_tls_ca_file", "server_tls_crl_file"};
    char *user = line ? text_print("database %s%s%s", line->config.name, environment ? "@" : "",
                                   environment ? environment->config.name : "")
                 : environment ? text_print("environment %s", environment->config.name)
                               : text_copy("[pgstage]");
    examiner->user = user;
    for (size_t i = 0; i < 4; i++)
        found[i] =
            snapshot_assignment(snapshot, environment, line, option_find(SCOPE_DATABASE, names[i]));
    examine_pair(examiner, found[0], found[1]);
    examine_authorities(examiner, found[2]);
    examine_crl(examiner, found[3]);
    free(user);
}

void certificate_check(struct snapshot *snapshot, struct report *report)
{
    struct examiner examiner = {.snapshot = snapshot, .report = report};
    struct seen *seen, *next;
    for (size_t i = 0; i < snapshot->listeners.count; i++)
        examine_listener(&examiner, snapshot, snapshot->listeners.items[i]);
    examine_servers(&examiner, snapshot, NULL, NULL);
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        examine_own(&examiner, environment);
        examine_servers(&examiner, snapshot, environment, NULL);
    }
    for (size_t i = 0; i < snapshot->databases.count; i++) {
        const struct database *line = snapshot->databases.items[i];
        struct environment *environment = NULL;
        const char *name =
            line->config.environment ? line->config.environment : line->config.in_environment;
        bool tls = false;
        for (size_t j = 0; j < line->layer.count; j++)
            tls = tls || text_starts_with(line->layer.items[j].option->name, "server_tls_");
        if (name)
            HASH_FIND_STR(snapshot->environment_by_name, name, environment);
        if (tls)
            examine_servers(&examiner, snapshot, environment, line);
    }
    HASH_ITER (hh, examiner.seen, seen, next)
        see_no_more(&examiner, seen);
}
