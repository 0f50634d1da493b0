/*
 * monitor_inside: what the files of the monitor share.
 *
 *   monitor.c       environments out of a snapshot, and what is asked about their hosts
 *   monitor_name.c  names and their addresses
 *   monitor_host.c  one host: its connection, when it is probed, what is asked
 *   facts.c         the one question, and its answer as values (pure)
 *   judge.c         what a finding does to a report (pure)
 *   report.c        words (pure)
 */
#ifndef PGSTAGE_HEALTH_MONITOR_INSIDE_H
#define PGSTAGE_HEALTH_MONITOR_INSIDE_H

#include "pgstage/base/list.h"
#include "pgstage/conf/settings.h"
#include "pgstage/health/handshake.h"
#include "pgstage/health/monitor.h"
#include "pgstage/net/tls.h"
#include "pgstage/worker/timer.h"

/* ---- facts ---- */

#define FACTS_TEXT_BYTES 256
#define FACTS_REPLICAS_MAX 64

struct facts_replica {
    char application_name[64], client_address[64], state[16];
    enum sync_state sync;
};

/* What a server says of itself. */
struct facts {
    bool in_recovery, read_only;
    bool sees_stats; /* the login may read pg_stat_replication and the receiver's details */
    int server_version;
    uint64_t system_identifier;
    uint64_t started_wall_us; /* pg_postmaster_start_time() */
    uint32_t timeline;        /* 0: unknown */
    bool timeline_lagging;
    uint64_t lsn_written, lsn_flushed, lsn_received, lsn_replayed;
    int64_t replay_age_us; /* since the last replayed transaction was committed; < 0: none was */
    enum receiver_state receiver;
    int64_t receiver_silent_us;
    uint64_t wal_receiver_timeout_us;
    char upstream[FACTS_TEXT_BYTES], replica_name[64], sync_names[FACTS_TEXT_BYTES];
    size_t replica_count;
    struct facts_replica replicas[FACTS_REPLICAS_MAX];
};

extern const char facts_sql[];
/* False: these are no such rows. */
bool facts_read(struct facts *facts, const PGresult *rows) __attribute__((warn_unused_result));

/* ---- judging ---- */

/* What one probe found out. */
struct finding {
    enum probe_error error;
    const char *sqlstate, *text;
    uint64_t duration_us;
    const struct facts *facts; /* NULL: nothing was asked, or it failed */
};

struct judge_limits {
    unsigned rise, fall;
    uint64_t slow_us;        /* a longer good probe is a slow one; 0: never */
    uint64_t lag_warning_us; /* replication_lag_warning; 0: never */
    uint64_t max_lag_us;     /* max_replica_lag; 0: no limit */
};

/* What must be remembered between the probes of a host beside its report. */
struct judge_memory {
    unsigned unwell, well;    /* good probes in a row that were slow or late / neither */
    unsigned late, in_time;   /* probes in a row over / within max_replica_lag */
    unsigned closed;          /* probes in a row that could not look inside */
    unsigned alone;           /* probes in a row without a receiver */
    uint64_t caught_up_us;    /* when the standby last had everything; 0: never */
    uint64_t replayed_before; /* at the probe before */
};

/* The primary of the environment, as far as a standby's lag is concerned. */
struct judge_primary {
    bool known;
    uint64_t lsn;         /* the last one read */
    uint64_t lsn_earlier; /* the one before it: what a standby should have by now */
};

/* Lets a finding change the report (texts are the caller's business); returns the bits of enum
 * monitor_change. `role_from_facts` etc. are all in here, no I/O. */
unsigned judge(struct host_report *report, struct judge_memory *memory,
               const struct finding *finding, const struct judge_limits *limits,
               const struct judge_primary *primary, uint64_t now_us);
/* How far a standby is behind; fills lag_bytes and lag_us. */
void judge_lag(struct host_report *report, struct judge_memory *memory, const struct facts *facts,
               const struct judge_primary *primary, uint64_t now_us);

/* ---- hosts and environments ---- */

struct monitor_environment;

struct monitored {
    /* fixed */
    struct monitor_environment *environment;
    struct monitor_name *name;
    struct list_node node;  /* in environment->hosts */
    struct address address; /* length 0: not resolved */
    char *label, *address_text;
    /* owner */
    struct host_report report;
    struct judge_memory memory;
    struct facts facts; /* of the last probe that read them */
    bool has_facts;
    char error_text[PROBE_TEXT_BYTES], upstream[FACTS_TEXT_BYTES], replica_name[64],
        sync_names[FACTS_TEXT_BYTES];
    uint64_t lsn_earlier;  /* primary: its position at the probe before */
    struct timer timer;    /* the next probe */
    struct probe *kept;    /* the open session; NULL: none */
    struct probe *opening; /* a new login under way */
    struct handshake *handshake;
    unsigned since_login; /* probes since the last login */
    unsigned database;    /* which of the environment's databases is tried */
    uint64_t begin_us, deadline_us;
    uint64_t login_us; /* how long the login of this probe took */
    bool asked;        /* a question is under way on `kept` */
    bool wanted_again; /* probe_now came while one was under way */
};

/* A host as the configuration names it: has addresses. */
struct monitor_name {
    /* fixed */
    struct monitor_environment *environment;
    struct list_node node;     /* in environment->names */
    struct host_config config; /* texts are its own */
    char *text_name, *text_address;
    bool is_dr;
    /* owner */
    struct resolver_query query;
    struct timer timer; /* the next look-up */
    bool resolved;
    char problem[PROBE_TEXT_BYTES]; /* of the look-up; "" */
};

struct monitor_environment {
    /* fixed until the next load */
    struct monitor *monitor;
    struct list_node node; /* in monitor->environments */
    char *name;
    struct snapshot *snapshot; /* a reference; the two below are its */
    const struct settings *settings;
    const struct environment_config *config;
    enum probe_login login;
    const char *user, *password;
    char *databases[2];      /* tried one after the other; NULL: no second one */
    struct tls_context *tls; /* for handshakes; NULL: none */
    char *tls_problem;       /* NULL: none */
    /* owner */
    struct list names, hosts; /* hosts in the order of the names */
    bool hurried;             /* monitor_hurry */
    uint64_t primary_us;      /* when a primary was last seen to be well; 0: never */
    bool present;             /* in the snapshot that is being loaded */
};

struct monitor {
    /* fixed */
    struct loop *loop;
    struct resolver *resolver;
    struct monitor_hooks hooks;
    /* owner */
    struct list environments;
    uint64_t dns_ttl_us;
};

struct monitored *monitored_new(struct monitor_name *name, const struct address *address,
                                bool several);
void monitored_free(struct monitored *host);
/* The first probe, or the next one at its due time. */
void monitored_schedule(struct monitored *host, uint64_t at_us);
/* Ends what is under way and the kept connection; the next probe begins anew. */
void monitored_reset(struct monitored *host);
/* Nothing is probed any more, so nothing is known. */
void monitored_forget(struct monitored *host);
/* Tells the hooks. */
void monitored_changed(struct monitored *host, unsigned what);
/* Is something of the environment not well, so that all of it is probed fast? */
bool environment_is_anxious(struct monitor_environment *environment);
/* Takes over the names of the configuration: those that are still there keep their hosts. */
void environment_take_names(struct monitor_environment *environment);
void environment_drop_names(struct monitor_environment *environment);

#endif
