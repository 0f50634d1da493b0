/*
 * guard: may a standby be promoted, and which? From what is known of all hosts to a candidate and a
 * verdict, with a reason, for each guard of guards.def.
 *
 * Pure: no clock, no I/O, nothing is changed. Any thread.
 */
#ifndef PGSTAGE_FAILOVER_GUARD_H
#define PGSTAGE_FAILOVER_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/failover/episode.h"

#define GUARD_NO_HOST SIZE_MAX
#define GUARD_TEXT_BYTES 320

enum guard_id {
#define GUARD(id, word, asked, help) GUARD_##id,
#include "pgstage/tables/guards.def"
#undef GUARD
    GUARD_COUNT,
};

enum guard_role { GUARD_ROLE_UNKNOWN, GUARD_ROLE_STANDBY, GUARD_ROLE_WRITER };

/* Of a standby's WAL receiver. */
enum guard_receiver {
    GUARD_RECEIVER_NONE,
    GUARD_RECEIVER_STREAMS,
    GUARD_RECEIVER_WAITS, /* it is there and does not stream */
};

struct guard_host {
    const char *host; /* key */
    bool is_dr, is_fenced;
    bool answers; /* the latest probe was good */
    enum guard_role role;
    uint64_t system_identifier;          /* 0: not known */
    uint32_t timeline;                   /* 0: not known */
    uint64_t received_lsn, replayed_lsn; /* 0: none. The greater counts */
    enum guard_receiver receiver;
    uint64_t silent_us;           /* since the receiver last heard of its upstream */
    uint64_t receiver_timeout_us; /* wal_receiver_timeout; 0: never */
    bool has_streamed; /* it was streaming, from the primary or behind a standby of it, when the
                          primary was last seen */
    size_t upstream;   /* whom it follows: place in `hosts`; GUARD_NO_HOST: not known */
    bool in_sync_set;  /* the primary counted it as synchronous when it was last seen */
    int64_t lag_us;    /* age of what it lacks, as far as it can be told; -1: not known */
};

struct guard_case {
    enum episode_type type;
    bool is_dr;       /* the candidates are dr_hosts, not hosts */
    bool leaves_site; /* a DR failover: the primary was one of the others */
    bool promotes;    /* failover_mode = promote */
    bool has_user;    /* failover_user is set */
    bool production;  /* class */
    const struct guard_host *hosts;
    size_t count;
    size_t primary;             /* the accepted one; GUARD_NO_HOST: none */
    size_t wanted;              /* TO host; GUARD_NO_HOST: the best one */
    uint64_t critical_us;       /* how long the primary has been critical; 0: it is not */
    uint64_t primary_lsn;       /* last seen on it; 0: none known */
    uint64_t primary_seen_us;   /* how long ago that was */
    uint64_t system_identifier; /* expected; 0: none known */
    uint32_t timeline;          /* accepted; 0: none known */
    bool sync_in_force;
    uint64_t since_automatic_us; /* UINT64_MAX: there was none */
    bool in_maintenance;
    bool has_fence, allow_unfenced, has_demote, has_undemote, has_switchover; /* commands */
    /* options */
    uint64_t delay_us, min_interval_us, max_lag_bytes, rpo_limit_us;
};

enum guard_verdict {
    GUARD_OK,
    GUARD_REFUSES,
    GUARD_NOT_ASKED, /* it does not hold, but this type of failover does not ask it */
};

struct guard_row {
    enum guard_verdict verdict;
    char text[GUARD_TEXT_BYTES]; /* why; "" never */
};

struct guard_report {
    bool allowed;
    size_t candidate;   /* GUARD_NO_HOST: there is none at all */
    int64_t loss_bytes; /* estimate of what the candidate lacks; -1: not known */
    int64_t loss_us;
    struct guard_row rows[GUARD_COUNT];
};

/* Looks for the best candidate that every guard lets pass; when none does, the report is about the
 * most advanced one. */
void guard_judge(const struct guard_case *guarded, struct guard_report *report);
/* The first guard that refuses; GUARD_COUNT: none. */
enum guard_id guard_first_refusal(const struct guard_report *report);
/* Every refusal with its word, "; " between; allocated, "" without any. */
char *guard_refusals(const struct guard_report *report);

const char *guard_word(enum guard_id id);
const char *guard_verdict_word(enum guard_verdict verdict);

#endif
