/*
 * probe_words: what libpq says of a failure, sorted into kinds.
 *
 *   connection to server at "db1" (10.0.0.3), port 5432 failed: FATAL:  28P01: password
 * …\nLOCATION: … └──────────────── taken off ────────────────┘             └state┘└─ text ─┘└──
 * taken off ──┘
 *
 * libpq keeps no SQLSTATE of a connection that fails, but its verbose message has it behind the
 * severity. Where the connection stood counts first: what is said before TLS stands may be
 * anybody's words, so an error that comes then is a failure of TLS, whatever number it shows. Pure.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "pgstage/base/text.h"
#include "probe_inside.h"

static const struct {
    const char *word;
    bool is_host;
} errors[] = {
    [PROBE_FINE] = {"fine", false},
    [PROBE_DNS] = {"dns", true},
    [PROBE_REFUSED] = {"refused", true},
    [PROBE_TIMEOUT] = {"timeout", true},
    [PROBE_TLS] = {"tls", true},
    [PROBE_AUTH] = {"auth", false},
    [PROBE_NO_DATABASE] = {"no_database", false},
    [PROBE_TOO_MANY] = {"too_many", false},
    [PROBE_STARTING_UP] = {"starting_up", false},
    [PROBE_SERVER] = {"server", false},
    [PROBE_LOST] = {"lost", true},
    [PROBE_PROTOCOL] = {"protocol", true},
    [PROBE_LOCAL] = {"local", false},
};

/* What socket() and connect() fail with when it is this machine that lacks something. */
static const int shortages[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL};

const char *probe_error_word(enum probe_error error)
{
    return errors[error].word;
}

bool probe_error_is_host(enum probe_error error)
{
    return errors[error].is_host;
}

bool probe_errno_is_local(int error)
{
    for (size_t i = 0; i < sizeof shortages / sizeof shortages[0]; i++) {
        if (shortages[i] == error)
            return true;
    }
    return false;
}

static bool tells_of_shortage(const char *text)
{
    for (size_t i = 0; i < sizeof shortages / sizeof shortages[0]; i++) {
        if (strstr(text, strerror(shortages[i])))
            return true;
    }
    return false;
}

static bool is_state(const char *text)
{
    for (size_t i = 0; i < 5; i++) {
        if (!isdigit((unsigned char)text[i]) && !(text[i] >= 'A' && text[i] <= 'Z'))
            return false;
    }
    return true;
}

/* The text behind "SEVERITY:  XXXXX: ", and the state; NULL when there is none. The severity is in
 * the server's language and not looked at. */
static const char *find_state(const char *message, char sqlstate[6])
{
    for (const char *at = message; (at = strstr(at, ":  ")); at++) {
        if (strlen(at) >= 10 && is_state(at + 3) && at[8] == ':' && at[9] == ' ') {
            memcpy(sqlstate, at + 3, 5);
            sqlstate[5] = '\0';
            return at + 10;
        }
    }
    return NULL;
}

/* Behind the last `connection to server … failed: `: with several attempts the last one counts. */
static const char *skip_prefix(const char *message)
{
    for (const char *line = message, *next; line; line = next) {
        const char *failed = strstr(line, " failed: ");
        next = strstr(line, "\nconnection to server ");
        next = next ? next + 1 : NULL;
        if (!next)
            return text_starts_with(line, "connection to server ") && failed ? failed + 9 : line;
    }
    return message;
}

/* The first line, with control characters made blank. */
static void put_line(char *text, size_t size, const char *line)
{
    size_t length = strcspn(line, "\n");
    if (length >= size)
        length = size - 1;
    memcpy(text, line, length);
    text[length] = '\0';
    for (char *at = text; *at; at++)
        *at = iscntrl((unsigned char)*at) ? ' ' : *at;
}

static enum probe_error of_state(const char *sqlstate)
{
    static const struct {
        const char *state;
        enum probe_error error;
    } known[] = {
        {"28000", PROBE_AUTH},     {"28P01", PROBE_AUTH},        {"3D000", PROBE_NO_DATABASE},
        {"53300", PROBE_TOO_MANY}, {"57P03", PROBE_STARTING_UP}, {"57P01", PROBE_LOST},
        {"57P02", PROBE_LOST},     {"57P05", PROBE_LOST},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(sqlstate, known[i].state) == 0)
            return known[i].error;
    }
    return PROBE_SERVER;
}

/* Without a state: libpq's own words, which are English because no locale is set. */
static enum probe_error of_words(enum probe_step step, const char *text)
{
    static const struct {
        const char *part;
        enum probe_error error;
    } known[] = {
        {"SSL", PROBE_TLS},
        {"certificate", PROBE_TLS},
        {"server closed the connection", PROBE_LOST},
        {"could not receive data", PROBE_LOST},
        {"could not send data", PROBE_LOST},
        {"no connection to the server", PROBE_LOST},
        {"password", PROBE_AUTH},
        {"authentication method", PROBE_AUTH},
        {"SCRAM", PROBE_AUTH},
        {"SASL", PROBE_AUTH},
        {"signature", PROBE_AUTH},
        {"peer user name", PROBE_AUTH},
        {"requirepeer", PROBE_AUTH},
    };
    if (step == PROBE_STEP_RESOLVE)
        return PROBE_DNS;
    if (step == PROBE_STEP_CONNECT && tells_of_shortage(text))
        return PROBE_LOCAL;
    if (step == PROBE_STEP_CONNECT)
        return strstr(text, "timed out") ? PROBE_TIMEOUT : PROBE_REFUSED;
    /* A peer that just goes away (a balancer before a dead server does) has said nothing of TLS. */
    if (step == PROBE_STEP_TLS)
        return strstr(text, "SSL SYSCALL error") || strstr(text, "closed the connection") ||
                       strstr(text, "could not receive data") || strstr(text, "could not send data")
                   ? PROBE_LOST
                   : PROBE_TLS;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strstr(text, known[i].part))
            return known[i].error;
    }
    return PROBE_PROTOCOL;
}

void probe_classify(enum probe_step step, const char *message, bool needs_password,
                    struct probe_result *result)
{
    const char *text = skip_prefix(message ? message : "");
    char sqlstate[6];
    const char *behind =
        step == PROBE_STEP_LOGIN || step == PROBE_STEP_QUERY ? find_state(text, sqlstate) : NULL;
    result->step = step;
    result->sqlstate[0] = '\0';
    if (behind) {
        memcpy(result->sqlstate, sqlstate, sizeof sqlstate);
        put_line(result->text, sizeof result->text, behind);
        result->error = of_state(sqlstate);
        return;
    }
    put_line(result->text, sizeof result->text, text);
    if (needs_password) {
        result->error = PROBE_AUTH;
        (void)text_fit(result->text, sizeof result->text,
                       "the server asks for a password, and none is known");
    } else {
        result->error = of_words(step, result->text);
    }
    if (!result->text[0])
        (void)text_fit(result->text, sizeof result->text, "the connection failed");
}
