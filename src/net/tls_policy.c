/*
 * tls_policy: PgBouncer's words for TLS versions and ciphers. Pure; any thread.
 *
 * Versions are a list of words; one with "!" or "-" before it takes away, and a list that starts
 * with such a word starts from all. "secure" is 1.2 and 1.3.
 */
#include <openssl/ssl.h>
#include <string.h>
#include <strings.h>

#include "pgstage/base/text.h"
#include "tls_inside.h"

enum { TLS_1_0 = 1, TLS_1_1 = 2, TLS_1_2 = 4, TLS_1_3 = 8, TLS_ALL = 15 };

static const struct {
    const char *word;
    unsigned versions;
} protocol_words[] = {
    {"all", TLS_ALL},     {"legacy", TLS_ALL},  {"secure", TLS_1_2 | TLS_1_3},
    {"tlsv1", TLS_ALL},   {"tlsv1.0", TLS_1_0}, {"default", TLS_1_2 | TLS_1_3},
    {"tlsv1.1", TLS_1_1}, {"tlsv1.2", TLS_1_2}, {"tlsv1.3", TLS_1_3},
};

static const struct {
    unsigned version;
    int number;
    uint64_t without;
} versions_known[] = {
    {TLS_1_0, TLS1_VERSION, SSL_OP_NO_TLSv1},
    {TLS_1_1, TLS1_1_VERSION, SSL_OP_NO_TLSv1_1},
    {TLS_1_2, TLS1_2_VERSION, SSL_OP_NO_TLSv1_2},
    {TLS_1_3, TLS1_3_VERSION, SSL_OP_NO_TLSv1_3},
};

static unsigned versions_of(const char *word, size_t length)
{
    for (size_t i = 0; i < sizeof protocol_words / sizeof protocol_words[0]; i++) {
        if (strlen(protocol_words[i].word) == length &&
            strncasecmp(protocol_words[i].word, word, length) == 0)
            return protocol_words[i].versions;
    }
    return 0;
}

static bool versions_parse(const char *words, unsigned *allowed)
{
    bool first = true;
    *allowed = 0;
    for (;;) {
        words += strspn(words, " \t,:");
        size_t length = strcspn(words, " \t,:");
        if (length == 0)
            return !first && *allowed != 0;
        bool without = *words == '!' || *words == '-';
        unsigned versions = versions_of(words + without, length - without);
        if (versions == 0)
            return false;
        if (without)
            *allowed = (first ? TLS_ALL : *allowed) & ~versions;
        else
            *allowed |= versions;
        words += length;
        first = false;
    }
}

bool tls_policy_protocols(const char *words, int *minimum, uint64_t *forbidden)
{
    unsigned allowed;
    if (!versions_parse(words && *words ? words : "secure", &allowed))
        return false;
    *minimum = 0;
    *forbidden = 0;
    for (size_t i = 0; i < sizeof versions_known / sizeof versions_known[0]; i++) {
        if (!(allowed & versions_known[i].version))
            *forbidden |= versions_known[i].without;
        else if (*minimum == 0)
            *minimum = versions_known[i].number;
    }
    return true;
}

bool tls_version_range(const char *protocols, const char **minimum, const char **maximum)
{
    static const char *const names[] = {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"};
    unsigned allowed;
    if (!versions_parse(protocols && *protocols ? protocols : "secure", &allowed))
        return false;
    *minimum = *maximum = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!(allowed & versions_known[i].version))
            continue;
        *maximum = names[i];
        *minimum = *minimum ? *minimum : names[i];
    }
    return true;
}

/* The first three have authentication, 128 bits at least and no 3DES; what "secure" adds is that a
 * key which leaks later opens no recorded connection. */
const char *tls_policy_ciphers(const char *words)
{
    static const struct {
        const char *word, *list;
    } known[] = {
        {"default", "HIGH:!aNULL:!eNULL:!3DES:!PSK:!SRP"},
        {"normal", "HIGH:!aNULL:!eNULL:!3DES:!PSK:!SRP"},
        {"fast", "AES128:HIGH:!aNULL:!eNULL:!3DES:!PSK:!SRP"},
        {"secure", "HIGH:!aNULL:!eNULL:!3DES:!PSK:!SRP:!kRSA"},
        {"compat", "HIGH:!aNULL:!eNULL"},
        {"legacy", "HIGH:!aNULL:!eNULL"},
        {"all", "ALL:!aNULL:!eNULL"},
        {"insecure", "ALL:!aNULL:!eNULL"},
    };
    if (!words || !*words)
        words = "default";
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (text_equal_nocase(words, known[i].word))
            return known[i].list;
    }
    return words;
}
