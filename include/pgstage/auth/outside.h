/*
 * outside: passwords that others know: an LDAP directory, or the system's PAM.
 *
 * Blocks for as long as they take, so it is asked on a helper thread. Whoever it is about and what
 * went wrong stands in `problem`, a password never.
 */
#ifndef PGSTAGE_AUTH_OUTSIDE_H
#define PGSTAGE_AUTH_OUTSIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/buffer.h"
#include "pgstage/conf/ldap.h"
#include "pgstage/conf/settings.h"

/* Whom to ask, and how. The texts are the caller's, until the answer is there. */
struct outside {
    enum auth_type method;           /* AUTH_LDAP, AUTH_PAM */
    const struct ldap_options *ldap; /* AUTH_LDAP */
    const char *pam_service;         /* AUTH_PAM */
    const char *pam_folder;          /* of service files; NULL: the system's */
    uint64_t timeout_us;             /* from when the password has come */
};

enum outside_result {
    OUTSIDE_YES,
    OUTSIDE_NO,     /* a wrong password, no such user, an account that is locked … */
    OUTSIDE_FAILED, /* nobody could be asked, or answered in time */
};

/* Is this the user's password? `from`: the client's address as text, NULL for a Unix socket. An
 * empty password is no password anywhere: LDAP would take it for an anonymous bind. LDAP gives up
 * at the deadline (clock_now_us's clock); of PAM nothing can be taken back. Any thread; blocks. */
enum outside_result outside_ask(const struct outside *outside, const char *user,
                                const char *password, const char *from, uint64_t deadline_us,
                                char *problem, size_t size) __attribute__((warn_unused_result));

/* ---- for outside.c and tests ---- */

enum outside_result ldap_ask(const struct ldap_options *options, const char *user,
                             const char *password, uint64_t deadline_us, char *problem, size_t size)
    __attribute__((warn_unused_result));
enum outside_result pam_ask(const char *service, const char *folder, const char *user,
                            const char *password, const char *from, char *problem, size_t size)
    __attribute__((warn_unused_result));

/* Puts a value so that in a filter (RFC 4515) / in a distinguished name (RFC 4514) it is nothing
 * but a value. */
void ldap_put_filter_value(struct buffer *out, const char *value);
void ldap_put_dn_value(struct buffer *out, const char *value);
/* The filter that finds the user / the name to bind as; allocated. */
char *ldap_filter_for(const struct ldap_options *options, const char *user)
    __attribute__((warn_unused_result));
char *ldap_name_for(const struct ldap_options *options, const char *user)
    __attribute__((warn_unused_result));

#endif
