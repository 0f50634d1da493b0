/*
 * hba: rules about who may come from where and how they prove who they are, in the manner of
 * pg_hba.conf, and maps of user names in the manner of pg_ident.conf.
 *
 * Read once for each configuration load, immutable afterwards; any thread asks. What differs from
 * PostgreSQL: `database@environment`, the option `environment=`, no groups (+role) and no host
 * names, and patterns are POSIX extended regular expressions.
 */
#ifndef PGSTAGE_CONF_HBA_H
#define PGSTAGE_CONF_HBA_H

#include <stdbool.h>
#include <stddef.h>

#include "pgstage/conf/ldap.h"
#include "pgstage/conf/report.h"
#include "pgstage/conf/settings.h"

struct hba;
struct ident;
struct sockaddr;

/* What a rule asks of the client's certificate, besides its method. */
enum hba_certificate { HBA_CERTIFICATE_NONE, HBA_CERTIFICATE_VALID, HBA_CERTIFICATE_NAMED };

/* What the first rule that fits says. */
struct hba_verdict {
    enum auth_type method; /* AUTH_REJECT too */
    enum hba_certificate certificate;
    const char *map;                 /* of cert and peer; NULL: both names must be the same */
    const struct ldap_options *ldap; /* of ldap */
    const char *pam_service;         /* of pam; NULL: auth_pam_service */
    const char *file;                /* where the rule stands */
    int line;
};

/* One login. */
struct hba_login {
    const char *user;
    const char *database;    /* without "@environment" */
    const char *environment; /* NULL: none */
    bool is_console;         /* then rules for `pgstage` and for `pgbouncer` are about it */
    bool is_replication;     /* physical: only the keyword `replication` is about it */
    bool is_local;           /* came through a Unix socket */
    bool has_tls;
    const struct sockaddr *address; /* of a client that is not local */
};

/*
 * NULL and entries in `report` when the file cannot be read or a line is wrong; every mistake is
 * reported. Lists (`@file`) are read below the file's own folder, `samehost` and `samenet` are this
 * machine's addresses of now. Reads the disk: the thread that loads.
 */
struct hba *hba_load(const char *file, struct report *report) __attribute__((warn_unused_result));
/* The same for a text in place of a file, without any other file. */
struct hba *hba_parse(const char *name, const char *text, size_t length, struct report *report)
    __attribute__((warn_unused_result));
void hba_free(struct hba *hba);
/* The first rule that fits; false: there is none, so that the login is to be refused. */
bool hba_find(const struct hba *hba, const struct hba_login *login, struct hba_verdict *verdict);

/* Maps: `map system-name user` a line. As hba_load and hba_parse. */
struct ident *ident_load(const char *file, struct report *report)
    __attribute__((warn_unused_result));
struct ident *ident_parse(const char *name, const char *text, size_t length, struct report *report)
    __attribute__((warn_unused_result));
void ident_free(struct ident *ident);
/* Has the file a line of this map? `ident` may be NULL (no file). */
bool ident_has_map(const struct ident *ident, const char *map);
/* May whoever the system (or a certificate) knows by this name be this user? Without a map (NULL)
 * when both are the same. */
bool ident_allows(const struct ident *ident, const char *map, const char *system_name,
                  const char *user);

#endif
