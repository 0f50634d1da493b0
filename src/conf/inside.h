/*
 * inside: how a snapshot is made of parts. For the files of conf/ only.
 *
 *   files, variables ──source.c──> entries ──build.c──> layers ──resolve.c──> settings
 *   ──validate.c, certificate.c, floor.c──> a frozen snapshot
 */
#ifndef PGSTAGE_CONF_INSIDE_H
#define PGSTAGE_CONF_INSIDE_H

#include <openssl/x509.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "pgstage/base/map.h"
#include "pgstage/conf/arena.h"
#include "pgstage/conf/class.h"
#include "pgstage/conf/hba.h"
#include "pgstage/conf/ini.h"
#include "pgstage/conf/option.h"
#include "pgstage/conf/origin.h"
#include "pgstage/conf/report.h"
#include "pgstage/conf/rule.h"
#include "pgstage/conf/snapshot.h"
#include "pgstage/conf/users.h"

/* One value that something says for an option. */
struct assignment {
    const struct option *option;
    struct option_value value;
    struct origin origin;
    const char *raw; /* as it was written, before variables; NULL: a preset */
    bool literal;    /* the value (or a part of it) stands in a file, not only a variable's name */
    bool derived;    /* made from another one (the content of password_file) */
};

/* What one section or line says; later ones have replaced earlier ones. Items are in the arena. */
struct layer {
    struct assignment *items;
    size_t count, capacity;
};

/* A growing array of pointers; the array is allocated, the objects are in the arena. */
struct pointers {
    void **items;
    size_t count, capacity;
};

/* One line of the files, one variable, or one SET, in the order in which they count. */
struct source_entry {
    struct ini_entry ini;
    struct origin origin;
};

struct environment {
    struct environment_config config;
    const struct environment_class *class;
    struct layer preset, layer;
    struct settings settings; /* defaults < [pgstage] < preset < [environment] */
    struct origin origin;
    UT_hash_handle hh;
};

struct database {
    struct database_config config;
    const char *key; /* name, NUL, environment */
    size_t key_length;
    const char *whole; /* the line as it stands when a variable holds all of it; else NULL */
    struct layer layer;
    const char *dbname; /* NULL: the same name */
    bool sets;          /* it says more than environment, host and dbname */
    struct origin origin;
    UT_hash_handle hh;
};

struct user_line {
    const char *name;
    struct layer layer;
    struct origin origin;
    UT_hash_handle hh;
};

struct listener {
    struct listener_config config;
    struct layer layer;
    struct settings settings;
    struct origin origin;
};

struct peer {
    struct peer_config config;
    struct layer layer;
    struct origin origin;
};

/* A TLS server name and the environment that it means. */
struct sni_name {
    const char *name; /* in lower case */
    struct environment *environment;
    UT_hash_handle hh;
};

struct snapshot {
    /* fixed */
    struct arena arena;
    const char *file, *config_dir;
    bool offline; /* made from a text: no other file is read */
    struct source_entry *entries;
    size_t entry_count, entry_capacity;
    struct layer layer; /* [pgstage] */
    struct settings globals;
    struct pointers environments, databases, users, listeners, peers; /* struct x * of each */
    struct environment *environment_by_name;
    struct database *database_by_key;
    bool has_bound_lines; /* a line is called `name@environment` */
    struct user_line *user_by_name;
    struct sni_name *sni_by_name;
    struct environment *default_environment;
    struct pointers certificates; /* struct certificate *, as they were loaded */
    struct host_config socket;    /* where a database without host is looked for */
    bool has_socket;
    struct users *secrets;
    struct pointers hba_files; /* hba_check.c's, one for each path */
    const struct hba *hba;     /* of [pgstage] */
    struct ident *ident;
    const struct ldap_options *ldap; /* auth_ldap_options; NULL: not said, or wrong */
    /* shared: atomic */
    atomic_uint references;
};

enum section_kind {
    SECTION_GLOBAL,
    SECTION_DATABASES,
    SECTION_USERS,
    SECTION_PEERS,
    SECTION_ENVIRONMENT,
    SECTION_LISTENER,
    SECTION_UNKNOWN,
};

/* layer.c */
struct assignment *layer_find(const struct layer *layer, const struct option *option);
struct assignment *layer_find_name(const struct layer *layer, const char *name);
/* Puts it in place of an earlier one for the same option. */
struct assignment *layer_put(struct arena *arena, struct layer *layer,
                             const struct assignment *assignment);
void layer_apply(const struct layer *layer, struct settings *settings);
void pointers_add(struct pointers *pointers, void *item);
/* Where the value is from that holds for the database line (may be NULL) in the environment (may be
 * NULL) before a user is known; NULL: the built-in default. */
const struct assignment *snapshot_assignment(const struct snapshot *snapshot,
                                             const struct environment *environment,
                                             const struct database *line,
                                             const struct option *option);
/* report_error and report_warning at the place of an origin (NULL: nowhere). */
void origin_error(struct report *report, const struct origin *origin, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void origin_warning(struct report *report, const struct origin *origin, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The error that a rule of the floor is broken: "<what stands there>: <what holds>; write <what>
 * [rule]". `option` (may be NULL) is the one to write. */
void origin_broken(struct report *report, const struct origin *origin, enum rule_id id,
                   const char *option, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* source.c */
void source_add(struct snapshot *snapshot, const struct ini_entry *ini, struct origin origin);
/* `waits`: the main file may be a pipe. */
void source_read(struct snapshot *snapshot, bool waits, struct report *report);
void source_read_text(struct snapshot *snapshot, const char *text, size_t length,
                      struct report *report);
/* The kind of a section, and in `*name` what stands behind `environment` or `listener` (in the
 * arena). */
enum section_kind section_parse(struct arena *arena, const char *section, const char **name);

/* build.c */
void build_snapshot(struct snapshot *snapshot, struct report *report);

/* resolve.c */
void resolve_snapshot(struct snapshot *snapshot, struct report *report);

/* access.c */
void access_resolve_environment(struct snapshot *snapshot, struct environment *environment,
                                struct report *report);
/* [pgstage]'s own listener before the others. */
void access_resolve_listener(struct snapshot *snapshot, struct listener *listener,
                             struct report *report);

/* The environment whose name is nearest to a mistyped one; NULL: none is near. */
const char *environment_nearest(const struct snapshot *snapshot, const char *name);

/* hba_check.c. Reads the rules and maps that the scopes go by, and looks whether they fit. */
void hba_check(struct snapshot *snapshot, struct report *report);
void hba_files_free(struct snapshot *snapshot);

/* validate.c, certificate.c, floor.c, guard.c, fit.c, fit_failover.c */
void validate_snapshot(struct snapshot *snapshot, struct report *report);
void certificate_check(struct snapshot *snapshot, struct report *report);
/* What options make of each other: warnings mostly. */
void fit_check(const struct snapshot *snapshot, struct report *report);
/* fit_failover.c: what an environment's options about failover make of each other. */
void fit_failover(const struct snapshot *snapshot, const struct environment *environment,
                  struct report *report);

/* outside_check.c. Reads auth_ldap_options; can logins by LDAP and PAM work? Before hba_check. */
void outside_check(struct snapshot *snapshot, struct report *report);

/* floor.c. Belongs the file to this process's user alone, or to root and a group? */
bool file_is_private(const char *path, struct stat *status);
/* Is every address of a list (listen_addr) on this machine's loopback? */
bool listens_on_loopback(const char *addresses);

/* inquiry_check.c: can auth_query work? */
void inquiry_check(const struct snapshot *snapshot, struct report *report);

/* inventory.c. Puts a certificate into the snapshot; `used_by` is the caller's to fill. */
struct certificate;
struct certificate *inventory_add(struct snapshot *snapshot, const char *file, bool authority,
                                  const X509 *x509);
void floor_check(const struct snapshot *snapshot, struct report *report);
/* No host of a production class stands anywhere else. */
void guard_check(const struct snapshot *snapshot, struct report *report);

#endif
