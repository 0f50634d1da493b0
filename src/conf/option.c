/*
 * option: the table of options as data, and finding a row by the name that a file uses.
 *
 * Constant data and pure functions; any thread. How texts become values is in value.c.
 */
#include "pgstage/conf/option.h"

#include <stdio.h>
#include <string.h>

#include "pgstage/base/text.h"

static const struct option_word words_POOL_MODE[] = {
    {"session", POOL_MODE_SESSION},
    {"transaction", POOL_MODE_TRANSACTION},
    {"statement", POOL_MODE_STATEMENT},
    {NULL, 0},
};
static const struct option_word words_AUTH[] = {
    {"any", AUTH_ANY},
    {"trust", AUTH_TRUST},
    {"plain", AUTH_PLAIN},
    {"md5", AUTH_MD5},
    {"scram-sha-256", AUTH_SCRAM},
    {"cert", AUTH_CERT},
    {"hba", AUTH_HBA},
    {"ldap", AUTH_LDAP},
    {"pam", AUTH_PAM},
    {"peer", AUTH_PEER},
    {NULL, 0},
};
static const struct option_word words_TLS_MODE[] = {
    {"disable", TLS_DISABLE},
    {"allow", TLS_ALLOW},
    {"prefer", TLS_PREFER},
    {"require", TLS_REQUIRE},
    {"verify-ca", TLS_VERIFY_CA},
    {"verify-full", TLS_VERIFY_FULL},
    {NULL, 0},
};
static const struct option_word words_CHANNEL_BINDING[] = {
    {"disable", CHANNEL_BINDING_DISABLE},
    {"prefer", CHANNEL_BINDING_PREFER},
    {"require", CHANNEL_BINDING_REQUIRE},
    {NULL, 0},
};
static const struct option_word words_BALANCE[] = {
    {"round-robin", BALANCE_ROUND_ROBIN},
    {"disable", BALANCE_DISABLE},
    {"least-connections", BALANCE_LEAST},
    {"random", BALANCE_RANDOM},
    {NULL, 0},
};
static const struct option_word words_TARGET[] = {
    {"any", TARGET_ANY},
    {"read-write", TARGET_READ_WRITE},
    {"read-only", TARGET_READ_ONLY},
    {"primary", TARGET_PRIMARY},
    {"standby", TARGET_STANDBY},
    {"prefer-standby", TARGET_PREFER_STANDBY},
    {NULL, 0},
};
static const struct option_word words_NO_PRIMARY[] = {
    {"wait", NO_PRIMARY_WAIT},
    {"read_only", NO_PRIMARY_READ_ONLY},
    {"error", NO_PRIMARY_ERROR},
    {NULL, 0},
};
static const struct option_word words_SERVER_LOST[] = {
    {"error", SERVER_LOST_ERROR},
    {"disconnect", SERVER_LOST_DISCONNECT},
    {NULL, 0},
};
static const struct option_word words_CLIENT_GONE[] = {
    {"cancel", CLIENT_GONE_CANCEL},
    {"finish", CLIENT_GONE_FINISH},
    {"close", CLIENT_GONE_CLOSE},
    {NULL, 0},
};
static const struct option_word words_LISTEN_GAP[] = {
    {"disconnect", LISTEN_GAP_DISCONNECT},
    {"notice", LISTEN_GAP_NOTICE},
    {NULL, 0},
};
static const struct option_word words_SESSION_STATE[] = {
    {"track", SESSION_STATE_TRACK}, {"pin", SESSION_STATE_PIN},
    {"reset", SESSION_STATE_RESET}, {"reset_always", SESSION_STATE_RESET_ALWAYS},
    {"error", SESSION_STATE_ERROR}, {NULL, 0},
};
static const struct option_word words_FAILOVER[] = {
    {"follow", FAILOVER_FOLLOW},
    {"promote", FAILOVER_PROMOTE},
    {NULL, 0},
};
static const struct option_word words_TWO_PRIMARIES[] = {
    {"auto", TWO_PRIMARIES_AUTO},
    {"newest", TWO_PRIMARIES_NEWEST},
    {"keep", TWO_PRIMARIES_KEEP},
    {"stop", TWO_PRIMARIES_STOP},
    {NULL, 0},
};
static const struct option_word words_ON_DEMOTE[] = {
    {"close", ON_DEMOTE_CLOSE},
    {"drain", ON_DEMOTE_DRAIN},
    {NULL, 0},
};
static const struct option_word words_DR_FAILOVER[] = {
    {"manual", DR_FAILOVER_MANUAL},
    {"automatic", DR_FAILOVER_AUTOMATIC},
    {NULL, 0},
};
static const struct option_word words_MONITORING[] = {
    {"basic", MONITORING_BASIC},
    {"standard", MONITORING_STANDARD},
    {"enhanced", MONITORING_ENHANCED},
    {"comprehensive", MONITORING_COMPREHENSIVE},
    {NULL, 0},
};
static const struct option_word words_LOG_LEVEL[] = {
    {"debug", LOG_LEVEL_DEBUG},
    {"info", LOG_LEVEL_INFO},
    {"warning", LOG_LEVEL_WARNING},
    {"error", LOG_LEVEL_ERROR},
    {NULL, 0},
};

static const struct option_word words_AUDIT_FAILURE[] = {
    {"auto", AUDIT_FAILURE_AUTO},
    {"refuse", AUDIT_FAILURE_REFUSE},
    {"continue", AUDIT_FAILURE_CONTINUE},
    {NULL, 0},
};

static const struct option_word words_QUERY_TEXT[] = {
    {"masked", QUERY_TEXT_MASKED},
    {"full", QUERY_TEXT_FULL},
    {"none", QUERY_TEXT_NONE},
    {NULL, 0},
};

/* Forms that are no table of words have none. */
#define words_YES_NO NULL
#define words_NUMBER NULL
#define words_AUTO NULL
#define words_OCTAL NULL
#define words_SECONDS NULL
#define words_MILLISECONDS NULL
#define words_BYTES NULL
#define words_WORD NULL
#define words_LIST NULL
#define words_FILE NULL
#define words_PATH NULL
#define words_SECRET NULL
#define words_LINE NULL

/* A form that names a table of words is FORM_WORDS. */
enum {
    FORM_POOL_MODE = FORM_WORDS,
    FORM_AUTH = FORM_WORDS,
    FORM_TLS_MODE = FORM_WORDS,
    FORM_CHANNEL_BINDING = FORM_WORDS,
    FORM_BALANCE = FORM_WORDS,
    FORM_TARGET = FORM_WORDS,
    FORM_NO_PRIMARY = FORM_WORDS,
    FORM_SERVER_LOST = FORM_WORDS,
    FORM_CLIENT_GONE = FORM_WORDS,
    FORM_LISTEN_GAP = FORM_WORDS,
    FORM_SESSION_STATE = FORM_WORDS,
    FORM_FAILOVER = FORM_WORDS,
    FORM_TWO_PRIMARIES = FORM_WORDS,
    FORM_ON_DEMOTE = FORM_WORDS,
    FORM_DR_FAILOVER = FORM_WORDS,
    FORM_MONITORING = FORM_WORDS,
    FORM_LOG_LEVEL = FORM_WORDS,
    FORM_QUERY_TEXT = FORM_WORDS,
    FORM_AUDIT_FAILURE = FORM_WORDS,
};

/* The letters of the scopes column. */
enum {
    G = SCOPE_GLOBAL,
    L = SCOPE_LISTENER,
    E = SCOPE_ENVIRONMENT,
    D = SCOPE_DATABASE,
    U = SCOPE_USER,
    P = SCOPE_PEER,
};

#define FIELD_BOOL(name) offsetof(struct settings, name)
#define FIELD_INT(name) offsetof(struct settings, name)
#define FIELD_ENUM(name) offsetof(struct settings, name)
#define FIELD_TEXT(name) offsetof(struct settings, name)
#define FIELD_DURATION(name) offsetof(struct settings, name##_us)
#define FIELD_SIZE(name) offsetof(struct settings, name##_bytes)

static const struct option options[] = {
#define OPTION(type, name, form, scopes, text, minimum, maximum, reload, group, help)              \
    {#name,                                                                                        \
     OPTION_TYPE_##type,                                                                           \
     (enum option_form)FORM_##form,                                                                \
     scopes,                                                                                       \
     text,                                                                                         \
     minimum,                                                                                      \
     maximum,                                                                                      \
     RELOAD_##reload,                                                                              \
     #group,                                                                                       \
     help,                                                                                         \
     words_##form,                                                                                 \
     FIELD_##type(name)},
#include "pgstage/tables/options.def"
#undef OPTION
};

/* Other spellings of a name, each in one scope. */
static const struct {
    unsigned scopes;
    const char *alias, *name;
} aliases[] = {
    {SCOPE_GLOBAL, "user", "run_as_user"},
    {SCOPE_GLOBAL, "service_name", "job_name"},
    {SCOPE_DATABASE | SCOPE_USER | SCOPE_ENVIRONMENT, "reserve_pool", "reserve_pool_size"},
};

size_t option_count(void)
{
    return sizeof(options) / sizeof(options[0]);
}

const struct option *option_at(size_t index)
{
    return &options[index];
}

const struct option *option_find(enum option_scope scope, const char *name)
{
    for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
        if ((aliases[i].scopes & scope) && strcmp(aliases[i].alias, name) == 0)
            name = aliases[i].name;
    for (size_t i = 0; i < option_count(); i++)
        if ((options[i].scopes & scope) && options[i].name[0] == name[0] &&
            strcmp(options[i].name, name) == 0)
            return &options[i];
    return NULL;
}

const struct option *option_find_anywhere(const char *name)
{
    for (unsigned scope = SCOPE_GLOBAL; scope <= SCOPE_PEER; scope *= 2) {
        const struct option *option = option_find(scope, name);
        if (option)
            return option;
    }
    return NULL;
}

const char *option_nearest(enum option_scope scope, const char *name)
{
    const char *nearest = NULL;
    unsigned best = (unsigned)strlen(name) / 3 + 1;
    size_t length = strlen(name);
    for (size_t i = 0; i < option_count(); i++) {
        size_t other = strlen(options[i].name);
        /* Names that differ by more in length alone cannot be nearer. */
        if (!(options[i].scopes & scope) || other > length + best || length > other + best)
            continue;
        unsigned distance = text_distance(name, options[i].name);
        if (distance <= best && (!nearest || distance < best)) {
            nearest = options[i].name;
            best = distance;
        }
    }
    return nearest;
}

const char *option_scope_name(enum option_scope scope)
{
    switch (scope) {
    case SCOPE_GLOBAL:
        return "[pgstage]";
    case SCOPE_LISTENER:
        return "[listener]";
    case SCOPE_ENVIRONMENT:
        return "[environment]";
    case SCOPE_DATABASE:
        return "[databases]";
    case SCOPE_USER:
        return "[users]";
    case SCOPE_PEER:
        return "[peers]";
    }
    return "";
}

void option_scopes_text(const struct option *option, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (unsigned scope = SCOPE_GLOBAL; scope <= SCOPE_PEER; scope *= 2) {
        if (!(option->scopes & scope) || used >= size)
            continue;
        int length =
            snprintf(text + used, size - used, "%s%s", used ? ", " : "", option_scope_name(scope));
        used += length > 0 ? (size_t)length : 0;
    }
}
