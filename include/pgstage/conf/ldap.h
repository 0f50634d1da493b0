/*
 * ldap: the options of LDAP logins, as lines of HBA files and auth_ldap_options write them. The
 * names and what goes with what are PostgreSQL's.
 *
 *   simple bind   ldapprefix user ldapsuffix ──> bind as that name with the client's password
 *   search+bind   search ldapbasedn for the user, then bind as what was found
 *
 * Made on the thread that loads, then frozen; any thread reads. Texts live in the arena.
 */
#ifndef PGSTAGE_CONF_LDAP_H
#define PGSTAGE_CONF_LDAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;

enum ldap_reach { LDAP_REACH_BASE, LDAP_REACH_ONE, LDAP_REACH_SUBTREE };

struct ldap_options {
    const char *servers; /* ldapserver: names with blanks between */
    uint16_t port;       /* 0: the scheme's */
    bool is_ldaps;       /* ldapscheme = ldaps */
    bool start_tls;      /* ldaptls = 1 */
    const char *prefix, *suffix;
    const char *base_dn, *bind_dn, *bind_password;
    const char *attribute; /* ldapsearchattribute; NULL: uid */
    const char *filter;    /* ldapsearchfilter, with $username in it; NULL: by the attribute */
    enum ldap_reach reach; /* of the search */
    bool is_search;        /* search+bind */
    const char *uris;      /* of all servers, with blanks between; ldap_options_finish makes it */
};

/* What ldap_options_init makes: PostgreSQL's defaults. */
void ldap_options_init(struct ldap_options *options);
/* Takes one `name=value`. False: this is no such option, or `problem` says what is wrong with it
 * ("" when there is no option of that name). */
bool ldap_options_take(struct arena *arena, struct ldap_options *options, const char *name,
                       const char *value, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* All have been taken: do they go together? False and `problem` when not. */
bool ldap_options_finish(struct arena *arena, struct ldap_options *options, char *problem,
                         size_t size) __attribute__((warn_unused_result));
/* Does the password cross a wire in the clear, on its way to one of the servers? */
bool ldap_options_are_clear(const struct ldap_options *options);

#endif
