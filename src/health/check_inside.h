/*
 * check_inside: what the files of check share.
 *
 *   check.c          the whole: subjects ─► hosts ─► names resolved ─► visits; deadline; rows in
 * order check_subject.c  what there is to check, out of a snapshot check_visit.c    one address:
 * tcp, tls, login, and the questions to the server check_judge.c    what the answers mean (pure)
 */
#ifndef PGSTAGE_HEALTH_CHECK_INSIDE_H
#define PGSTAGE_HEALTH_CHECK_INSIDE_H

#include <stdbool.h>

#include "pgstage/base/list.h"
#include "pgstage/health/check.h"
#include "pgstage/health/handshake.h"
#include "pgstage/health/probe.h"
#include "pgstage/worker/timer.h"

/* ---- what there is to check ---- */

/* Hosts that are reached in one way: environment, TLS policy and login are the same. */
struct check_subject {
    /* fixed, once collected */
    struct list_node node;
    struct effective *effective; /* of the first of its databases */
    const char *environment;     /* NULL: PgBouncer style */
    struct tls_context *tls;     /* NULL: no TLS, or `tls_problem` */
    char tls_problem[256];
    const char *dbname;      /* where the login goes */
    const char **databases;  /* names that must exist on the server; the effectives' */
    struct effective **held; /* what those names belong to */
    size_t database_count;
    const char *user, *password; /* user NULL: there is nobody to log in as */
    const char *user_from;       /* "monitor_user" … */
    struct effective *asking;    /* the database where auth_query is tried; NULL: none */
    /* owner */
    struct list hosts; /* struct check_host */
};

/* How many server connections pools may open to one host. */
struct check_demand {
    uint64_t fixed;    /* of pools with a forced user */
    uint64_t per_user; /* for each user that logs in */
    bool unlimited;    /* a pool without a limit is among them */
};

struct check_host {
    /* fixed */
    struct list_node node;
    struct check *check;
    struct check_subject *subject;
    const struct host_config *config;
    bool dr;
    char *label; /* "name:port" */
    struct check_demand demand;
    /* owner */
    struct resolver_query query;
    uint64_t begin_us;
    struct check_rows rows; /* of dns */
    struct list visits;
    bool resolved;
};

/* Fills `subjects` with what the names mean, and gives what pools may open to every host of the
 * whole configuration (empty: NULL), in one walk over it. Reads TLS files. */
struct check_demands;
struct check_demands *check_subjects_collect(struct list *subjects, struct snapshot *snapshot,
                                             const char *database, const char *environment)
    __attribute__((warn_unused_result));
void check_subject_free(struct check_subject *subject);
void check_demands_find(const struct check_demands *demands, const struct host_config *host,
                        struct check_demand *demand);
void check_demands_free(struct check_demands *demands);

/* ---- one address ---- */

struct check_visit {
    /* fixed */
    struct list_node node;
    struct check_host *host;
    struct address address;
    char *label;
    /* owner */
    struct handshake *handshake;
    struct probe *probe;
    struct check_rows rows;
    bool reached; /* TCP stood */
    bool over;
    bool answered; /* the facts below are known */
    bool in_recovery;
    char system_identifier[24];
};

struct check {
    /* fixed */
    struct loop *loop;
    struct resolver *resolver;
    struct snapshot *snapshot;
    uint64_t deadline_us;
    check_done *done;
    void *context;
    /* owner */
    struct list subjects;
    size_t pending; /* names and visits under way */
    struct timer timer;
    struct loop_task task;
};

void check_visit_start(struct check_host *host, const struct address *address, bool several);
void check_visit_free(struct check_visit *visit);
/* One thing that was waited for is over. */
void check_went_on(struct check *check);

/* ---- what it means ---- */

struct check_facts {
    bool in_recovery, default_read_only, has_receiver;
    const char *version, *system_identifier;
    int64_t max_connections, reserved;
    double lag_s;                 /* < 0: unknown */
    int64_t lag_bytes;            /* < 0: unknown */
    uint64_t idle_session_us;     /* 0: off */
    bool sees_all;                /* statistics and settings of others: a member of pg_monitor */
    uint64_t receiver_timeout_us; /* 0: off */
    const char *missing;          /* databases that do not exist; "" none */
};

/* The questions, for the databases that should exist; allocated. */
char *check_facts_sql(const char *const *databases, size_t count);
/* False: these are no such rows. */
bool check_facts_read(struct check_facts *facts, const PGresult *rows);
/* Rows of everything but tcp, tls and login. */
void check_judge(struct check_rows *rows, const char *environment, const char *host,
                 const struct check_facts *facts, const struct check_demand *demand,
                 const struct settings *settings, bool dr, size_t database_count,
                 uint64_t duration_us);
/* What failover_user is asked in its own session: one row with what it lacks, as text. */
extern const char check_grants_sql[];
/* Rows of failover_user; `rows` is NULL when it could not be asked, and `problem` says why. */
void check_judge_grants(struct check_rows *to, const char *environment, const char *host,
                        const PGresult *rows, const char *problem, const struct settings *settings,
                        uint64_t duration_us);
/* The row of auth_query, which was asked for auth_user itself; `rows` as above. */
void check_judge_lookup(struct check_rows *to, const char *environment, const char *host,
                        const PGresult *rows, const char *problem, const char *auth_user,
                        const char *dbname, uint64_t duration_us);
/* The row of tls. `now` in seconds since 1970. */
void check_judge_tls(struct check_rows *rows, const char *environment, const char *host,
                     const struct handshake_result *result, enum tls_mode mode, bool local,
                     time_t now);

#endif
