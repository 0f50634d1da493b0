/*
 * decide: from what all hosts of an environment say, and the situation, to what is to be done.
 *
 *   sights of hosts ─┐
 *   situation ───────┼─► decide ─► verdict, host to accept, fences to set and clear, alarms
 *   policy ──────────┘
 *
 * Pure: no clock, no I/O, nothing is changed. Any thread.
 */
#ifndef PGSTAGE_FAILOVER_DECIDE_H
#define PGSTAGE_FAILOVER_DECIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/conf/settings.h"
#include "pgstage/failover/situation.h"

/* Hosts of one environment that are looked at, those of dr_hosts included. */
#define DECIDE_HOSTS_MAX 128

/* What one host looks like. */
enum sight {
    SIGHT_UNASKED, /* it has neither answered nor failed to since the start */
    SIGHT_DOWN,    /* critical, or the first answer of all is still missing */
    SIGHT_BLIND,   /* it answers, but its role cannot be read (login, database, limits) */
    SIGHT_STANDBY,
    SIGHT_WRITER,
};

struct sighting {
    const char *host; /* key */
    bool is_dr;
    enum sight sight;
    bool is_fresh;              /* the latest probe was good; else it is what was seen before */
    bool was_standby;           /* of a blind one: that is what it was when it could be read */
    uint64_t system_identifier; /* 0: not known */
    uint32_t timeline;          /* 0: not known */
    bool is_streaming;          /* a standby whose WAL receiver streams */
    uint32_t streamed_timeline; /* the newest on which it was ever seen to stream; 0: none */
    uint64_t started_wall_us;   /* of its postmaster; hosts with the same one are the same server;
                                   0: not known */
};

struct policy {
    bool promotes;                    /* failover_mode = promote */
    enum two_primaries two_primaries; /* as configured */
    bool in_maintenance;
    /* Since the start, or since the environment became known, no decision has been made. */
    bool is_first;
};

enum verdict {
    VERDICT_WAIT,       /* not everybody has answered yet: nobody may write */
    VERDICT_KEEP,       /* `host` is the accepted primary and takes writes */
    VERDICT_ACCEPT,     /* `host` is to become it */
    VERDICT_UNVERIFIED, /* nothing can be verified: blind hosts may be tried */
    VERDICT_NONE,       /* no host that may be accepted takes writes */
    VERDICT_STOP,       /* writers of equal standing: an operator must say */
};

enum alarm_kind {
#define ALARM(id, word, help) ALARM_##id,
#include "pgstage/tables/alarms.def"
#undef ALARM
    ALARM_KINDS,
};
const char *alarm_word(enum alarm_kind kind);
const char *alarm_help(enum alarm_kind kind);

#define DECISION_NO_HOST SIZE_MAX
#define DECISION_TEXT_BYTES 320

/* What is decided of one host. */
struct host_decision {
    enum fence_kind fence; /* to be set; FENCE_NONE: no change */
    bool unfence;
    bool shut_out;  /* not for reads either: another cluster, fenced, follows an old line */
    bool has_alarm; /* `alarm` with `text` */
    enum alarm_kind alarm;
    char text[DECISION_TEXT_BYTES];
};

struct decision {
    enum verdict verdict;
    size_t host; /* KEEP, ACCEPT; else DECISION_NO_HOST */
    char reason[DECISION_TEXT_BYTES];
    bool has_alarm; /* of the environment as a whole */
    enum alarm_kind alarm;
    struct host_decision of[DECIDE_HOSTS_MAX];
};

/* `count` is at most DECIDE_HOSTS_MAX; names in `decision` are copies. */
void decide(const struct situation *situation, const struct policy *policy,
            const struct sighting *hosts, size_t count, struct decision *decision);

#endif
