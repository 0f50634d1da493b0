/*
 * snapshot: a whole validated configuration, immutable and reference-counted.
 *
 * Made on the control thread by `snapshot_load`, then read by any thread that holds a reference.
 * Everything that a snapshot hands out lives as long as the snapshot, except `struct effective`,
 * which holds a reference of its own.
 */
#ifndef PGSTAGE_CONF_SNAPSHOT_H
#define PGSTAGE_CONF_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/cidr.h"
#include "pgstage/conf/report.h"
#include "pgstage/conf/settings.h"

struct snapshot;
struct ldap_options; /* conf/ldap.h */
struct hba;          /* rules of logins: see conf/hba.h */
struct ident;        /* auth_ident_file's content, there too */
struct users;        /* auth_file's content: see conf/users.h */

/* One `host[@address][:port]` of a list, or a Unix socket folder (name starts with '/' or '@'). */
struct host_config {
    const char *name;    /* as the file says: what a certificate must show */
    const char *address; /* after '@', or NULL: resolve `name` */
    uint16_t port;
};

struct environment_config {
    const char *name;
    const char *class_name; /* NULL when the file gives none */
    bool production_class;
    const struct host_config *hosts;
    size_t host_count;
    const struct host_config *dr_hosts;
    size_t dr_host_count;
    const char *const *allow_users; /* conf/access.h answers for these three */
    size_t allow_user_count;
    struct cidr_list allow_from;
    uint64_t expires_at_us;  /* of the wall clock; 0: never */
    int64_t server_peer_uid; /* of server_peer_user; -1: not said */
    /* its own certificate for clients that ask for its `sni`; NULL: the listener's */
    const char *client_cert_file, *client_key_file;
    const struct hba *hba; /* of auth_type = hba; else NULL */
    size_t index;          /* its place in the snapshot */
};

/* One line of [databases]. `name` without the "@environment". */
struct database_config {
    const char *name;
    const char *environment;         /* after '@' in the key; NULL: any (or PgBouncer style) */
    const char *in_environment;      /* the line's `environment=`; NULL: none */
    bool is_fallback;                /* the key `*` */
    const struct host_config *hosts; /* of `host=`/`port=`; none: the environment's hosts */
    size_t host_count;
};

struct listener_config {
    const char *name;                /* NULL: the listener of [pgstage] itself */
    const char *environment;         /* NULL: not bound to one */
    struct cidr_list proxy_from;     /* proxy_protocol_from: whose PROXY headers are believed */
    bool asks_certificate;           /* of clients, though client_tls_sslmode demands none */
    const struct settings *settings; /* listen_addr, listen_port, unix_socket_dir, client_tls_* … */
};

struct peer_config {
    int64_t id;
    const char *host;
    uint16_t port;
    int64_t pool_size;
};

/* What one (database, environment, user) means, scopes resolved. Reference-counted. */
struct effective {
    struct snapshot *snapshot;                    /* a reference */
    const char *database;                         /* the client's name for it */
    const char *dbname;                           /* the server's name for it */
    const struct environment_config *environment; /* NULL: PgBouncer style, no environment */
    const struct host_config *hosts;
    size_t host_count;
    bool fallback; /* came from `*` */
    /* All options but `environment`, `host` and `dbname`, which the fields above tell of. Lines that
     * say no more than these share their environment's record, or [pgstage]'s. */
    const struct settings *settings;
};

/*
 * Reads FILE with its includes, pgstage.d (its .ini files in name order), pgstage.local.ini and
 * PGSTAGE__… variables, layers and validates it. On any error NULL, and `report` says every
 * mistake; warnings are in `report` in both cases. Blocks on the disk. Files are regular files (or
 * /dev/null); `waits`: FILE itself may also be a pipe, which is waited for: never while clients are
 * served. Control thread.
 */
struct snapshot *snapshot_load(const char *file, bool waits, struct report *report)
    __attribute__((warn_unused_result));
/* The same for a text in place of a file; no other file and no variable of the process's layer is
 * read. `name` stands for the file in messages. */
struct snapshot *snapshot_parse(const char *name, const char *text, size_t length,
                                struct report *report) __attribute__((warn_unused_result));
/* The configuration of `old` with one option of [pgstage] set otherwise (the console's SET), as a
 * new snapshot; NULL and errors in `report` when it does not fit or needs a restart. A RELOAD ends
 * what was set. Control thread. */
struct snapshot *snapshot_set(const struct snapshot *old, const char *key, const char *value,
                              struct report *report) __attribute__((warn_unused_result));
struct snapshot *snapshot_ref(struct snapshot *snapshot);
void snapshot_unref(struct snapshot *snapshot);

/* The [pgstage] scope. */
const struct settings *snapshot_globals(const struct snapshot *snapshot);
/* [pgstage] < preset < [environment]: what holds for an environment before any database is known.
 */
const struct settings *snapshot_environment_settings(const struct snapshot *snapshot,
                                                     const struct environment_config *environment);
const struct users *snapshot_users(const struct snapshot *snapshot);
/* The rules of the console and of databases in no environment; NULL: auth_type is not hba. */
const struct hba *snapshot_hba(const struct snapshot *snapshot);
/* auth_ldap_options; NULL: there are none. */
const struct ldap_options *snapshot_ldap(const struct snapshot *snapshot);
/* Can any login be one by LDAP or PAM? */
bool snapshot_asks_outside(const struct snapshot *snapshot);
/* NULL: there are no maps. */
const struct ident *snapshot_ident(const struct snapshot *snapshot);

size_t snapshot_environment_count(const struct snapshot *snapshot);
const struct environment_config *snapshot_environment(const struct snapshot *snapshot,
                                                      size_t index);
/* Is any of them of a production class? */
bool snapshot_has_production(const struct snapshot *snapshot);
/* NULL when there is none. Hash lookups, as all of snapshot_find_…. */
const struct environment_config *snapshot_find_environment(const struct snapshot *snapshot,
                                                           const char *name);
const struct environment_config *snapshot_default_environment(const struct snapshot *snapshot);
/* The environment that a TLS server name means. */
const struct environment_config *snapshot_find_sni(const struct snapshot *snapshot,
                                                   const char *server_name);
/* The line `name@environment`, or plain `name` when `environment` is NULL. */
const struct database_config *snapshot_find_database(const struct snapshot *snapshot,
                                                     const char *name, const char *environment);
/* May this line serve that environment? A PgBouncer-style line serves none. */
bool database_serves(const struct database_config *line,
                     const struct environment_config *environment);
size_t snapshot_database_count(const struct snapshot *snapshot);
const struct database_config *snapshot_database(const struct snapshot *snapshot, size_t index);
size_t snapshot_listener_count(const struct snapshot *snapshot);
const struct listener_config *snapshot_listener(const struct snapshot *snapshot, size_t index);
/* The names in [users], and [pgstage] < [users] for one user (known there or not): the limits that
 * count over all databases. */
size_t snapshot_user_count(const struct snapshot *snapshot);
const char *snapshot_user(const struct snapshot *snapshot, size_t index);
void snapshot_user_settings(const struct snapshot *snapshot, const char *user,
                            struct settings *settings);
size_t snapshot_peer_count(const struct snapshot *snapshot);
const struct peer_config *snapshot_peer(const struct snapshot *snapshot, size_t index);

/* Scopes resolved for one [databases] line (or `*` under the name `database`), one environment
 * (NULL: none) and one user (NULL: before the user is known). Caller owns the reference. */
struct effective *snapshot_effective(struct snapshot *snapshot, const struct database_config *line,
                                     const char *database,
                                     const struct environment_config *environment, const char *user)
    __attribute__((warn_unused_result));
void effective_unref(struct effective *effective);
struct effective *effective_ref(struct effective *effective);
/* True when a server connection opened under `a` may go on serving under `b` (same hosts, dbname,
 * forced user and password, TLS, connect_query). */
bool effective_same_servers(const struct effective *a, const struct effective *b);
/* True when they have one record of settings and one list of hosts: what effective_same_servers says
 * of one, the database's name apart, holds for the other. Costs no look into the settings. */
bool effective_same_kind(const struct effective *a, const struct effective *b);

#endif
