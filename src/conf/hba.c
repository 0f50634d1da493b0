/*
 * hba: rules in the manner of pg_hba.conf: from lines to rules, and the first one that fits a
 * login.
 *
 *   TYPE  DATABASE[@ENVIRONMENT]  USER  [ADDRESS [MASK]]  METHOD  [map=…] [clientcert=…] [ldap…=…]
 *   [pamservice=…] [environment=…]
 *
 * A rule that cannot be understood is a mistake at its line, never left out in silence: the next
 * one might let in whom this one was to keep out. Read on the thread that loads, then frozen; any
 * thread asks.
 */
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hba_inside.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

#define PROBLEM_BYTES 256

static const struct {
    const char *word;
    enum auth_type method;
} methods[] = {
    {"trust", AUTH_TRUST},
    {"reject", AUTH_REJECT},
    {"md5", AUTH_MD5},
    {"cert", AUTH_CERT},
    {"scram-sha-256", AUTH_SCRAM},
    {"password", AUTH_PLAIN},
    {"peer", AUTH_PEER},
    {"plain", AUTH_PLAIN},
    {"ident", AUTH_PEER},
    {"ldap", AUTH_LDAP},
    {"pam", AUTH_PAM},
};

const char *hba_method_name(enum auth_type method)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if (methods[i].method == method)
            return methods[i].word;
    return "";
}

/* One line on its way to a rule. */
struct reading {
    struct hba *hba;
    const struct hba_line *line;
    struct hba_rule *rule;
    size_t at; /* the next field */
};

#define reading_error(reading, ...)                                                                \
    hba_error(&(reading)->hba->words, (reading)->line->number, __VA_ARGS__)

static const struct hba_field *next_field(struct reading *reading)
{
    return reading->at < reading->line->count ? &reading->line->fields[reading->at++] : NULL;
}

/* The next field, which is to be one word. */
static const struct hba_word *next_single(struct reading *reading, const char *what)
{
    const struct hba_field *field = next_field(reading);
    if (!field || field->count != 1) {
        reading_error(reading, field ? "the %s is one word, not a list" : "the %s is missing",
                      what);
        return NULL;
    }
    return &field->words[0];
}

/* ---- names ---- */

static bool take_pattern(struct reading *reading, const struct hba_word *word,
                         struct hba_name *name)
{
    name->match = HBA_PATTERN;
    name->environment = NULL;
    name->pattern = hba_pattern(&reading->hba->words, reading->line->number, word->whole + 1);
    return name->pattern != NULL;
}

static bool take_database(struct reading *reading, const struct hba_word *word,
                          struct hba_name *name)
{
    *name = (struct hba_name){HBA_EXACT, word->text, NULL, word->environment};
    if (word->environment && !*word->environment) {
        reading_error(reading, "%.100s: an environment's name stands behind @", word->whole);
        return false;
    }
    if (!word->quoted && word->whole[0] == '/')
        return take_pattern(reading, word, name);
    if (hba_word_is(word, "all")) {
        name->match = HBA_ALL;
    } else if (hba_word_is(word, "sameuser")) {
        name->match = HBA_SAMEUSER;
    } else if (hba_word_is(word, "replication")) {
        name->match = HBA_REPLICATION;
    } else if (hba_word_is(word, "samerole") || hba_word_is(word, "samegroup")) {
        reading_error(reading, "%s: pgstage knows no groups of users; write the databases",
                      word->text);
        return false;
    }
    return true;
}

static bool take_user(struct reading *reading, const struct hba_word *word, struct hba_name *name)
{
    *name = (struct hba_name){HBA_EXACT, word->whole, NULL, NULL};
    if (!word->quoted && word->whole[0] == '/')
        return take_pattern(reading, word, name);
    if (!word->quoted && word->whole[0] == '+') {
        reading_error(reading, "%.100s: pgstage knows no groups of users; write the names",
                      word->whole);
        return false;
    }
    if (!word->quoted && strcmp(word->whole, "all") == 0)
        name->match = HBA_ALL;
    return true;
}

static bool take_names(struct reading *reading, const char *what,
                       bool (*take)(struct reading *reading, const struct hba_word *word,
                                    struct hba_name *name),
                       struct hba_names *names)
{
    const struct hba_field *field = next_field(reading);
    if (!field || !field->count) {
        reading_error(reading, field ? "the list of %ss is empty" : "the %s is missing", what);
        return false;
    }
    struct hba_name *items = arena_get(&reading->hba->words.arena, field->count * sizeof(*items));
    for (size_t i = 0; i < field->count; i++)
        if (!take(reading, &field->words[i], &items[i]))
            return false;
    names->items = items;
    names->count = field->count;
    return true;
}

/* ---- addresses ---- */

static unsigned mask_bits(const struct sockaddr *mask)
{
    const uint8_t *bytes = NULL;
    unsigned bits = 0, count = 0;
    if (mask && mask->sa_family == AF_INET) {
        bytes = (const uint8_t *)&((const struct sockaddr_in *)(const void *)mask)->sin_addr;
        count = 32;
    } else if (mask && mask->sa_family == AF_INET6) {
        bytes = (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)mask)->sin6_addr;
        count = 128;
    }
    while (bits < count && bytes[bits / 8] & (0x80 >> bits % 8))
        bits++;
    return bits;
}

/* This machine's addresses, or the networks that it is in. */
static bool take_own_addresses(struct reading *reading, bool networks)
{
    struct ifaddrs *all = NULL;
    size_t count = 0, most = 0;
    if (getifaddrs(&all) != 0) {
        reading_error(reading, "this machine's addresses cannot be read");
        return false;
    }
    for (struct ifaddrs *one = all; one; one = one->ifa_next)
        most++;
    struct cidr *items = arena_get(&reading->hba->words.arena, (most + 1) * sizeof(*items));
    for (struct ifaddrs *one = all; one; one = one->ifa_next) {
        const struct sockaddr *address = one->ifa_addr;
        struct cidr *cidr = &items[count];
        unsigned bits;
        if (!address || (address->sa_family != AF_INET && address->sa_family != AF_INET6))
            continue;
        bool is4 = address->sa_family == AF_INET;
        *cidr = (struct cidr){.address_bytes = is4 ? 4 : 16};
        if (is4)
            memcpy(cidr->bytes, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
        else
            memcpy(cidr->bytes, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr,
                   16);
        bits = networks ? mask_bits(one->ifa_netmask) : is4 ? 32 : 128;
        cidr->bits = (uint8_t)bits;
        for (unsigned i = 0; i < cidr->address_bytes; i++) /* zero behind the bits that count */
            cidr->bytes[i] &= i * 8 >= bits      ? 0
                              : bits - i * 8 < 8 ? (uint8_t)(0xff << (8 - (bits - i * 8)))
                                                 : 0xff;
        count++;
    }
    freeifaddrs(all);
    reading->rule->addresses = (struct cidr_list){items, count};
    return true;
}

static bool looks_like_address(const char *text)
{
    struct cidr cidr;
    char problem[PROBLEM_BYTES];
    return !strchr(text, '/') && cidr_parse(&cidr, text, problem, sizeof(problem));
}

static bool take_address(struct reading *reading)
{
    const struct hba_word *word = next_single(reading, "address");
    char problem[PROBLEM_BYTES];
    if (!word)
        return false;
    if (hba_word_is(word, "all")) {
        reading->rule->any_address = true;
        return true;
    }
    if (hba_word_is(word, "samehost") || hba_word_is(word, "samenet"))
        return take_own_addresses(reading, strcmp(word->text, "samenet") == 0);
    struct cidr *cidr = arena_get(&reading->hba->words.arena, sizeof(*cidr));
    const struct hba_field *mask =
        reading->at < reading->line->count ? &reading->line->fields[reading->at] : NULL;
    bool good;
    if (looks_like_address(word->whole) && mask && mask->count == 1 &&
        looks_like_address(mask->words[0].whole)) {
        reading->at++;
        good = cidr_parse_mask(cidr, word->whole, mask->words[0].whole, problem, sizeof(problem));
    } else {
        good = cidr_parse(cidr, word->whole, problem, sizeof(problem));
    }
    if (!good)
        reading_error(reading,
                      "%s; write an address with its bits (10.0.0.0/8), all, samehost or samenet: "
                      "names of hosts are not looked up",
                      problem);
    reading->rule->addresses = (struct cidr_list){cidr, 1};
    return good;
}

/* ---- method and options ---- */

static bool take_method(struct reading *reading)
{
    const struct hba_word *word = next_single(reading, "method");
    struct hba_rule *rule = reading->rule;
    if (!word)
        return false;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(word->whole, methods[i].word) != 0)
            continue;
        rule->method = methods[i].method;
        if (rule->method == AUTH_PEER && rule->kind != HBA_LOCAL) {
            reading_error(reading, "%s is for local lines only: the system vouches for nobody else",
                          word->whole);
            return false;
        }
        if (rule->method == AUTH_CERT && rule->kind != HBA_HOSTSSL) {
            reading_error(reading, "cert is for hostssl lines only");
            return false;
        }
        return true;
    }
    reading_error(reading,
                  "the method \"%.60s\" is none of trust, reject, md5, scram-sha-256, password, "
                  "cert, peer, ldap, pam",
                  word->whole);
    return false;
}

static bool take_environments(struct reading *reading, const struct hba_field *field,
                              const char *first)
{
    const char **names = arena_get(&reading->hba->words.arena, field->count * sizeof(*names));
    for (size_t i = 0; i < field->count; i++) {
        names[i] = i ? field->words[i].whole : first;
        if (!*names[i]) {
            reading_error(reading, "environment= names no environment");
            return false;
        }
    }
    reading->rule->environments = names;
    reading->rule->environment_count = field->count;
    return true;
}

/* False: it is none, or it is wrong and that has been said. */
static bool take_ldap_option(struct reading *reading, const char *text, bool *is_one)
{
    struct arena *arena = &reading->hba->words.arena;
    const char *equals = strchr(text, '=');
    char problem[PROBLEM_BYTES];
    *is_one = reading->rule->method == AUTH_LDAP && equals;
    if (!*is_one)
        return false;
    const char *name = arena_copy_n(arena, text, (size_t)(equals - text));
    if (ldap_options_take(arena, reading->rule->ldap, name, equals + 1, problem, sizeof(problem)))
        return true;
    *is_one = *problem;
    if (*problem)
        reading_error(reading, "%s: %s", name, problem);
    return false;
}

static bool take_option(struct reading *reading, const struct hba_field *field)
{
    struct hba_rule *rule = reading->rule;
    const char *text = field->count ? field->words[0].whole : "";
    bool is_ldap;
    if (text_starts_with(text, "environment="))
        return take_environments(reading, field, strchr(text, '=') + 1);
    if (field->count != 1) {
        reading_error(reading, "\"%.100s\" is followed by a comma", text);
        return false;
    }
    if (text_starts_with(text, "map=") && text[4]) {
        rule->map = text + 4;
        if (rule->method == AUTH_CERT || rule->method == AUTH_PEER)
            return true;
        reading_error(reading, "map= is for cert and peer");
        return false;
    }
    if (text_starts_with(text, "clientcert=") && rule->kind == HBA_HOSTSSL) {
        bool valid = strcmp(text + 11, "verify-ca") == 0;
        bool named = strcmp(text + 11, "verify-full") == 0;
        rule->certificate = named ? HBA_CERTIFICATE_NAMED : HBA_CERTIFICATE_VALID;
        if (valid || named)
            return true;
    }
    if (text_starts_with(text, "pamservice=") && text[11] && rule->method == AUTH_PAM) {
        rule->pam_service = text + 11;
        return true;
    }
    if (take_ldap_option(reading, text, &is_ldap))
        return true;
    if (is_ldap)
        return false;
    /* of an option of ldap only the name: the value may be a password */
    reading_error(reading,
                  "unknown option \"%.*s\"; there are map=MAP (cert, peer), clientcert=verify-ca "
                  "or verify-full (hostssl), pamservice=NAME (pam), ldap… (ldap) and "
                  "environment=NAME",
                  (int)(text_starts_with(text, "ldap") ? strcspn(text, "=") : strnlen(text, 100)),
                  text);
    return false;
}

static bool take_kind(struct reading *reading)
{
    static const struct {
        const char *word;
        enum hba_kind kind;
    } kinds[] = {
        {"local", HBA_LOCAL},         {"host", HBA_HOST},         {"hostssl", HBA_HOSTSSL},
        {"hostnossl", HBA_HOSTNOSSL}, {"hostnogssenc", HBA_HOST},
    };
    const struct hba_word *word = next_single(reading, "type");
    if (!word)
        return false;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        reading->rule->kind = kinds[i].kind;
        if (strcmp(word->whole, kinds[i].word) == 0)
            return true;
    }
    reading_error(reading, "expected local, host, hostssl or hostnossl, not \"%.60s\"",
                  word->whole);
    return false;
}

static bool finish_ldap(struct reading *reading)
{
    char problem[PROBLEM_BYTES];
    if (ldap_options_finish(&reading->hba->words.arena, reading->rule->ldap, problem,
                            sizeof(problem)))
        return true;
    reading_error(reading, "%s", problem);
    return false;
}

static bool take_rule(struct reading *reading)
{
    struct hba_rule *rule = reading->rule;
    if (!take_kind(reading) || !take_names(reading, "database", take_database, &rule->databases) ||
        !take_names(reading, "user", take_user, &rule->users) ||
        (rule->kind != HBA_LOCAL && !take_address(reading)) || !take_method(reading))
        return false;
    if (rule->method == AUTH_LDAP) {
        rule->ldap = arena_get(&reading->hba->words.arena, sizeof(*rule->ldap));
        ldap_options_init(rule->ldap);
    }
    for (const struct hba_field *field; (field = next_field(reading));)
        if (!take_option(reading, field))
            return false;
    return !rule->ldap || finish_ldap(reading);
}

static struct hba *hba_finish(struct hba *hba, bool read, size_t errors_before)
{
    struct hba_words *words = &hba->words;
    hba->rules = arena_get(&words->arena, (words->count + 1) * sizeof(*hba->rules));
    for (size_t i = 0; i < words->count; i++) {
        struct hba_rule *rule = &hba->rules[hba->count];
        struct reading reading = {hba, &words->lines[i], rule, 0};
        *rule = (struct hba_rule){.line = words->lines[i].number};
        hba->count += take_rule(&reading);
    }
    if (read && words->report->errors == errors_before)
        return hba;
    hba_free(hba);
    return NULL;
}

struct hba *hba_load(const char *file, struct report *report)
{
    struct hba *hba = memory_new(sizeof(*hba));
    size_t errors = report->errors;
    bool read = hba_words_load(&hba->words, file, report);
    return hba_finish(hba, read, errors);
}

struct hba *hba_parse(const char *name, const char *text, size_t length, struct report *report)
{
    struct hba *hba = memory_new(sizeof(*hba));
    size_t errors = report->errors;
    hba_words_parse(&hba->words, name, text, length, report);
    return hba_finish(hba, true, errors);
}

void hba_free(struct hba *hba)
{
    if (!hba)
        return;
    hba_words_fini(&hba->words);
    free(hba);
}

/* ---- which rule ---- */

bool hba_name_fits(const struct hba_name *name, const char *text)
{
    switch (name->match) {
    case HBA_ALL:
        return true;
    case HBA_EXACT:
        return strcmp(name->text, text) == 0;
    case HBA_PATTERN:
        return hba_pattern_fits(name->pattern, text, NULL, 0);
    default:
        return false;
    }
}

static bool is_there(const struct hba_rule *rule, const char *environment)
{
    for (size_t i = 0; i < rule->environment_count; i++)
        if (text_equal(rule->environments[i], environment))
            return true;
    return !rule->environment_count;
}

static bool database_fits(const struct hba_name *name, const struct hba_login *login)
{
    if (name->environment && !text_equal(name->environment, login->environment))
        return false;
    if (name->match == HBA_REPLICATION || login->is_replication)
        return name->match == HBA_REPLICATION && login->is_replication;
    if (name->match == HBA_SAMEUSER)
        return strcmp(login->database, login->user) == 0;
    if (login->is_console) /* two names of one thing: neither may be a way around the other */
        return hba_name_fits(name, "pgstage") || hba_name_fits(name, "pgbouncer");
    return hba_name_fits(name, login->database);
}

static bool kind_fits(const struct hba_rule *rule, const struct hba_login *login)
{
    switch (rule->kind) {
    case HBA_LOCAL:
        return login->is_local;
    case HBA_HOST:
        return !login->is_local;
    case HBA_HOSTSSL:
        return !login->is_local && login->has_tls;
    case HBA_HOSTNOSSL:
        return !login->is_local && !login->has_tls;
    }
    return false;
}

static bool rule_fits(const struct hba_rule *rule, const struct hba_login *login)
{
    bool database = false, user = false;
    if (!kind_fits(rule, login) || !is_there(rule, login->environment))
        return false;
    if (rule->kind != HBA_LOCAL && !rule->any_address &&
        !cidr_list_holds(&rule->addresses, login->address))
        return false;
    for (size_t i = 0; i < rule->databases.count && !database; i++)
        database = database_fits(&rule->databases.items[i], login);
    for (size_t i = 0; database && i < rule->users.count && !user; i++)
        user = hba_name_fits(&rule->users.items[i], login->user);
    return database && user;
}

bool hba_find(const struct hba *hba, const struct hba_login *login, struct hba_verdict *verdict)
{
    for (size_t i = 0; i < hba->count; i++) {
        const struct hba_rule *rule = &hba->rules[i];
        if (!rule_fits(rule, login))
            continue;
        *verdict = (struct hba_verdict){.method = rule->method,
                                        .certificate = rule->certificate,
                                        .map = rule->map,
                                        .ldap = rule->ldap,
                                        .pam_service = rule->pam_service,
                                        .file = hba->words.file,
                                        .line = rule->line};
        return true;
    }
    return false;
}
