/*
 * inventory: what is known of each certificate of a configuration once it has been loaded.
 *
 * certificate.c finds and checks them and hands them over here; the records are made in the
 * snapshot's arena and frozen with it. A certificate that is replaced on the disk is seen by the
 * next RELOAD, as by the connections.
 */
#include <inttypes.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "inside.h"
#include "pgstage/base/buffer.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/certificate.h"

#define DAY_S 86400
#define WATCH_DAYS 14

/* What a BIO was written to, in the arena; NULL when that is nothing. */
static const char *bio_text(struct arena *arena, BIO *bio)
{
    char *data;
    long length = BIO_get_mem_data(bio, &data);
    return length > 0 ? arena_copy_n(arena, data, (size_t)length) : NULL;
}

static const char *name_text(struct arena *arena, const X509_NAME *name)
{
    BIO *bio = BIO_new(BIO_s_mem());
    const char *text = NULL;
    if (bio && X509_NAME_print_ex(bio, name, 0,
                                  XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) >= 0)
        text = bio_text(arena, bio);
    BIO_free(bio);
    return text ? text : "";
}

static const char *alternative_names(struct arena *arena, const X509 *x509)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
    BIO *bio = names ? BIO_new(BIO_s_mem()) : NULL;
    const char *text = NULL;
    for (int i = 0; bio && i < sk_GENERAL_NAME_num(names); i++) {
        if (i)
            BIO_puts(bio, ", ");
        GENERAL_NAME_print(bio, sk_GENERAL_NAME_value(names, i));
    }
    if (bio)
        text = bio_text(arena, bio);
    BIO_free(bio);
    GENERAL_NAMES_free(names);
    return text;
}

static int64_t time_of(const ASN1_TIME *when)
{
    struct tm parts;
    return ASN1_TIME_to_tm(when, &parts) == 1 ? (int64_t)timegm(&parts) : 0;
}

struct certificate *inventory_add(struct snapshot *snapshot, const char *file, bool authority,
                                  const X509 *x509)
{
    struct arena *arena = &snapshot->arena;
    struct certificate *record = arena_get(arena, sizeof(*record));
    *record = (struct certificate){
        .file = file,
        .subject = name_text(arena, X509_get_subject_name(x509)),
        .issuer = name_text(arena, X509_get_issuer_name(x509)),
        .names = alternative_names(arena, x509),
        .authority = authority,
        .not_after_s = time_of(X509_get0_notAfter(x509)),
    };
    pointers_add(&snapshot->certificates, record);
    return record;
}

size_t snapshot_certificate_count(const struct snapshot *snapshot)
{
    return snapshot->certificates.count;
}

const struct certificate *snapshot_certificate(const struct snapshot *snapshot, size_t index)
{
    return snapshot->certificates.items[index];
}

int64_t certificate_days_left(const struct certificate *certificate, int64_t now_s)
{
    int64_t left = certificate->not_after_s - now_s;
    /* Rounded down below zero too: one second too late is a day of -1. */
    return left >= 0 ? left / DAY_S : -((-left + DAY_S - 1) / DAY_S);
}

void certificate_time(int64_t when_s, char *text, size_t size)
{
    time_t when = (time_t)when_s;
    struct tm parts;
    if (!gmtime_r(&when, &parts) || strftime(text, size, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
        text[0] = '\0';
}

char *certificate_warning(const struct certificate *certificate, int64_t now_s)
{
    int64_t days = certificate_days_left(certificate, now_s);
    char when[32];
    if (days >= WATCH_DAYS)
        return NULL;
    certificate_time(certificate->not_after_s, when, sizeof(when));
    char *rest = days < 0 ? text_copy("has expired")
                          : text_print("expires in %" PRId64 " day%s", days, days == 1 ? "" : "s");
    char *text =
        text_print("the certificate of %s in %s (%s) %s, on %s: replace it and RELOAD",
                   certificate->subject, certificate->file, certificate->used_by, rest, when);
    free(rest);
    return text;
}
