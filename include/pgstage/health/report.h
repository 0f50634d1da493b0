/*
 * report: what is known of one monitored host. Made by the monitor, read by whoever decides or
 * shows.
 *
 * A host is named by its label everywhere (views, logs, plane_… calls, state that is kept): as the
 * configuration writes it, with its port ("pg1.example.com:5432"); each address of a name that has
 * several is a host of its own, with the address in its label ("pg1.example.com@10.0.0.3:5432").
 * Moments are of the loop's clock (loop_now_us). Plain data: a copy is good as long as its texts,
 * which live as long as the host is monitored. Control thread.
 */
#ifndef PGSTAGE_HEALTH_REPORT_H
#define PGSTAGE_HEALTH_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/health/probe.h"

enum health {
    HEALTH_UNKNOWN, /* not probed yet */
    HEALTH_HEALTHY,
    HEALTH_WARNING,  /* it lives, but is slow, late, starting, or lets no probe in */
    HEALTH_CRITICAL, /* down: probe_fall probes in a row found it so */
};

enum role {
    ROLE_UNKNOWN,
    ROLE_PRIMARY,
    ROLE_STANDBY,
    ROLE_ORPHANED, /* a standby that follows nobody */
};

enum breaker {
    BREAKER_CLOSED,
    BREAKER_OPEN,      /* critical: only probes go there */
    BREAKER_HALF_OPEN, /* probes succeed again, but not yet probe_rise of them */
};

/* Who the probes log in as. */
enum probe_login {
    PROBE_LOGIN_NONE, /* nobody is known: only that the server answers a handshake is looked at */
    PROBE_LOGIN_MONITOR, /* monitor_user */
    PROBE_LOGIN_FORCED,  /* the environment's forced user */
};

/* The WAL receiver of a standby. */
enum receiver_state {
    RECEIVER_UNKNOWN, /* there is one, but the probes' login may not see more (pg_monitor) */
    RECEIVER_NONE,
    RECEIVER_STREAMING,
    RECEIVER_OTHER, /* starting, waiting, restarting, stopping */
};

enum sync_state {
    SYNC_UNKNOWN, /* not listed by the primary, or not visible */
    SYNC_ASYNC,
    SYNC_POTENTIAL,
    SYNC_QUORUM,
    SYNC_SYNC,
};

struct host_report {
    /* who */
    const char *environment;
    const char *label;
    const char *name;    /* as the configuration says it, without the port */
    const char *address; /* numeric; "" while the name is not resolved, and for a Unix socket */
    uint16_t port;
    bool is_dr;    /* one of dr_hosts */
    bool is_local; /* a Unix socket */

    /* judged */
    enum health health;
    enum role role; /* of a host that is down: the last that it had */
    enum breaker breaker;
    bool lag_over; /* behind by more than max_replica_lag */
    bool starting; /* alive, but says 57P03: starting, stopping or recovering */
    bool blind;    /* alive, but probes cannot log in (password, database, max_connections …) */
    bool hearsay;  /* the role is what connections of clients have seen, not the probes */
    uint64_t health_since_us, role_since_us, breaker_since_us; /* 0: since the start */

    /* identity; 0: unknown */
    uint64_t system_identifier;
    uint32_t timeline;        /* primary: of its WAL; standby: that it last received on */
    bool timeline_lagging;    /* the standby has no receiver now, the true one may be newer */
    uint64_t started_wall_us; /* when its postmaster started: with the system identifier it tells
                                 two names of one server from two servers */
    int server_version;       /* as server_version_num: 150004 */
    bool read_only;           /* default_transaction_read_only */

    /* positions; 0: unknown. Of a host that is down: the last good ones. */
    uint64_t lsn_written, lsn_flushed; /* primary */
    uint64_t lsn_received,
        lsn_replayed;     /* standby; the greater is what it would have if promoted */
    uint64_t position_us; /* when they were read */
    int64_t lag_bytes;    /* standby: behind the primary as last seen; < 0: unknown */
    int64_t lag_us;       /* standby; 0 when it has all there is; < 0: unknown */

    /* the standby's receiver */
    enum receiver_state receiver;
    int64_t receiver_silent_us;       /* since the last message from upstream; < 0: unknown */
    uint64_t wal_receiver_timeout_us; /* 0: off or unknown */
    const char *upstream;             /* "host:port" that it follows; "": unknown */
    const char *replica_name;         /* by what application_name the primary knows it; "" */

    /* the primary's replication */
    const char *sync_names; /* synchronous_standby_names; "": none, or not visible */
    bool sync_visible;      /* pg_stat_replication could be read */
    size_t replica_count;   /* of pg_stat_replication */
    enum sync_state sync;   /* standby: what its primary says of it */

    /* the probing */
    enum probe_login login;
    enum probe_error error; /* of the last probe */
    const char *error_text; /* "" when it was fine */
    char sqlstate[6];       /* "": none */
    uint64_t latency_us;    /* of the last good probe */
    uint64_t probed_us;     /* when the last probe ended; 0: never */
    uint64_t answered_us;   /* when a probe last read the role; 0: never */
    uint64_t next_us;       /* when the next one begins; 0: it is under way, or none will */
    unsigned good, bad;     /* probes in a row that found it alive / dead */
};

/* The position that the host would have if it were promoted now. */
static inline uint64_t host_report_position(const struct host_report *report)
{
    if (report->role == ROLE_PRIMARY)
        return report->lsn_flushed;
    return report->lsn_received > report->lsn_replayed ? report->lsn_received
                                                       : report->lsn_replayed;
}

/* Words of views and logs. Constant. */
const char *health_word(enum health health);
const char *role_word(enum role role);
const char *breaker_word(enum breaker breaker);
const char *probe_login_word(enum probe_login login);
const char *receiver_word(enum receiver_state state);
const char *sync_word(enum sync_state state);
/* "3/4A00F8" as PostgreSQL writes it; `text` is at least 20 bytes; "" for 0. */
const char *lsn_text(uint64_t lsn, char text[20]);

#endif
