/*
 * ldap: asks a directory whether a password is right, by binding with it.
 *
 *   connect [StartTLS] ─┬─ simple bind: as prefix user suffix ─────────────────────────┐
 *                       └─ bind as ldapbinddn, or anonymously ─ search ─ one entry ────┴─ bind ─ yes/no
 *
 * A server's certificate is always verified (against TLS_CACERT of ldap.conf(5) or LDAPTLS_CACERT),
 * whatever that file says of TLS_REQCERT. Referrals are not followed: a password goes to the servers
 * that are configured. Every step stands under what is left of the deadline. Blocks; a helper
 * thread.
 */
#include <ldap.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "pgstage/auth/outside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"

struct asking {
    const struct ldap_options *options;
    uint64_t deadline_us;
    char *problem;
    size_t size;
    LDAP *ld;
};

/* The library reads its files at its first use, which is not safe for two threads at once. What it
 * shall demand of certificates is said to it as a whole: a context of one connection's own would
 * know nothing of the authorities in those files. */
static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static bool library_is_strict;

static void open_library(void)
{
    const int demand = LDAP_OPT_X_TLS_DEMAND;
    library_is_strict =
        ldap_set_option(NULL, LDAP_OPT_X_TLS_REQUIRE_CERT, &demand) == LDAP_OPT_SUCCESS;
}

/* Says what went wrong at a step; `code` is libldap's. */
static enum outside_result tell(struct asking *asking, enum outside_result result, const char *step,
                                int code)
{
    char *more = NULL;
    if (asking->ld)
        (void)ldap_get_option(asking->ld, LDAP_OPT_DIAGNOSTIC_MESSAGE, &more);
    snprintf(asking->problem, asking->size, "LDAP: %s: %s%s%s", step, ldap_err2string(code),
             more && *more ? ", " : "", more ? more : "");
    ldap_memfree(more);
    return result;
}

/* What is left of the time; false: nothing. Each call of libldap is given that. */
static bool set_time(struct asking *asking, struct timeval *left)
{
    uint64_t now_us = clock_now_us();
    if (now_us >= asking->deadline_us) {
        snprintf(asking->problem, asking->size, "LDAP: no answer in time");
        return false;
    }
    uint64_t left_us = asking->deadline_us - now_us;
    *left = (struct timeval){.tv_sec = (time_t)(left_us / CLOCK_SECOND),
                             .tv_usec = (suseconds_t)(left_us % CLOCK_SECOND)};
    return ldap_set_option(asking->ld, LDAP_OPT_NETWORK_TIMEOUT, left) == LDAP_OPT_SUCCESS &&
           ldap_set_option(asking->ld, LDAP_OPT_TIMEOUT, left) == LDAP_OPT_SUCCESS;
}

static bool set_options(LDAP *ld)
{
    const int version = LDAP_VERSION3;
    return library_is_strict &&
           ldap_set_option(ld, LDAP_OPT_PROTOCOL_VERSION, &version) == LDAP_OPT_SUCCESS &&
           ldap_set_option(ld, LDAP_OPT_REFERRALS, LDAP_OPT_OFF) == LDAP_OPT_SUCCESS &&
           ldap_set_option(ld, LDAP_OPT_RESTART, LDAP_OPT_ON) == LDAP_OPT_SUCCESS;
}

static enum outside_result connect_to(struct asking *asking)
{
    struct timeval left;
    int code = ldap_initialize(&asking->ld, asking->options->uris);
    if (code != LDAP_SUCCESS)
        return tell(asking, OUTSIDE_FAILED, asking->options->uris, code);
    if (!set_options(asking->ld)) {
        snprintf(asking->problem, asking->size, "LDAP: TLS cannot be set up");
        return OUTSIDE_FAILED;
    }
    if (!set_time(asking, &left))
        return OUTSIDE_FAILED;
    if (asking->options->start_tls &&
        (code = ldap_start_tls_s(asking->ld, NULL, NULL)) != LDAP_SUCCESS)
        return tell(asking, OUTSIDE_FAILED, "StartTLS", code);
    return OUTSIDE_YES;
}

/* Did the directory judge, or did it not get to that? */
static bool is_judgement(int code)
{
    return code > 0 && code != LDAP_BUSY && code != LDAP_UNAVAILABLE &&
           code != LDAP_OPERATIONS_ERROR && code != LDAP_PROTOCOL_ERROR &&
           code != LDAP_TIMELIMIT_EXCEEDED && code != LDAP_ADMINLIMIT_EXCEEDED &&
           code != LDAP_CONFIDENTIALITY_REQUIRED && code != LDAP_OTHER && code != LDAP_REFERRAL;
}

static enum outside_result bind_as(struct asking *asking, const char *name, const char *password,
                                   const char *step)
{
    struct berval secret = {.bv_val = (char *)password, .bv_len = strlen(password)};
    struct timeval left;
    if (!set_time(asking, &left))
        return OUTSIDE_FAILED;
    int code = ldap_sasl_bind_s(asking->ld, name, LDAP_SASL_SIMPLE, &secret, NULL, NULL, NULL);
    if (code == LDAP_SUCCESS)
        return OUTSIDE_YES;
    return tell(asking, is_judgement(code) ? OUTSIDE_NO : OUTSIDE_FAILED, step, code);
}

/* The one entry that the filter finds; its name, allocated by libldap. */
static enum outside_result search(struct asking *asking, const char *filter, char **name)
{
    static const int reaches[] = {LDAP_SCOPE_BASE, LDAP_SCOPE_ONELEVEL, LDAP_SCOPE_SUBTREE};
    char *no_attributes[] = {(char *)LDAP_NO_ATTRS, NULL};
    const struct ldap_options *options = asking->options;
    LDAPMessage *found = NULL;
    struct timeval left;
    enum outside_result result = OUTSIDE_NO;
    if (!set_time(asking, &left))
        return OUTSIDE_FAILED;
    int code = ldap_search_ext_s(asking->ld, options->base_dn, reaches[options->reach], filter,
                                 no_attributes, 0, NULL, NULL, &left, 2, &found);
    int count = code == LDAP_SUCCESS ? ldap_count_entries(asking->ld, found) : 0;
    if (code == LDAP_SIZELIMIT_EXCEEDED || count > 1)
        snprintf(asking->problem, asking->size, "LDAP: %s fits more than one entry", filter);
    else if (code != LDAP_SUCCESS)
        result = tell(asking, OUTSIDE_FAILED, "search", code);
    else if (count < 1)
        snprintf(asking->problem, asking->size, "LDAP: %s fits no entry", filter);
    else if ((*name = ldap_get_dn(asking->ld, ldap_first_entry(asking->ld, found))))
        result = OUTSIDE_YES;
    ldap_msgfree(found);
    return result;
}

static enum outside_result search_and_bind(struct asking *asking, const char *user,
                                           const char *password)
{
    const struct ldap_options *options = asking->options;
    const char *reader = options->bind_dn ? options->bind_dn : "";
    char *name = NULL, *filter;
    /* that pgstage itself may not read is no judgement about the user */
    if (bind_as(asking, reader, options->bind_password ? options->bind_password : "",
                *reader ? reader : "anonymous bind") != OUTSIDE_YES)
        return OUTSIDE_FAILED;
    filter = ldap_filter_for(options, user);
    enum outside_result result = search(asking, filter, &name);
    if (result == OUTSIDE_YES)
        result = bind_as(asking, name, password, name);
    ldap_memfree(name);
    free(filter);
    return result;
}

enum outside_result ldap_ask(const struct ldap_options *options, const char *user,
                             const char *password, uint64_t deadline_us, char *problem, size_t size)
{
    struct asking asking = {options, deadline_us, problem, size, NULL};
    pthread_once(&library_once, open_library);
    enum outside_result result = connect_to(&asking);
    if (result == OUTSIDE_YES && options->is_search) {
        result = search_and_bind(&asking, user, password);
    } else if (result == OUTSIDE_YES) {
        char *name = ldap_name_for(options, user);
        result = bind_as(&asking, name, password, name);
        free(name);
    }
    if (asking.ld)
        ldap_unbind_ext_s(asking.ld, NULL, NULL);
    return result;
}
