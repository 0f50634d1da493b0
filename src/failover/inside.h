/*
 * inside.h: what the files of the room share. The control thread only.
 *
 *   struct failover ─ struct ward (one for each environment) ─ struct ward_host (one for each host)
 */
#ifndef PGSTAGE_FAILOVER_INSIDE_H
#define PGSTAGE_FAILOVER_INSIDE_H

#include "pgstage/base/list.h"
#include "pgstage/base/map.h"
#include "pgstage/failover/decide.h"
#include "pgstage/failover/failover.h"
#include "pgstage/failover/standing.h"
#include "pgstage/failover/store.h"
#include "pgstage/worker/loop.h"
#include "pgstage/worker/timer.h"

/* ---- alarms (alarm.c) ---- */

struct alarm {
    struct alarm *next;
    enum alarm_kind kind;
    char *host; /* NULL: none in particular */
    char *detail;
    uint64_t since_wall_us;
    bool is_wanted; /* since alarms_begin */
};

struct alarms {
    struct alarm *first;
};

/* Raises it, or keeps one that is raised with a new detail. `environment` is for the log. */
void alarm_raise(struct alarms *alarms, const char *environment, const char *host,
                 enum alarm_kind kind, const char *detail);
/* Those that are not raised between the two end. */
void alarms_begin(struct alarms *alarms);
void alarms_end(struct alarms *alarms, const char *environment);
void alarm_end(struct alarms *alarms, const char *environment, enum alarm_kind kind);
void alarms_fini(struct alarms *alarms);

/* ---- environments (ward.c) ---- */

/* What is remembered of a host from one look to the next. */
struct ward_host {
    struct list_node node; /* in ward->hosts, in the monitor's order */
    char *label;
    char *name; /* as the configuration has it, without the port */
    uint16_t port;
    char *address;    /* numeric, as last known; NULL: not known */
    bool is_listed;   /* by the monitor, at the last look */
    bool is_shut_out; /* from reads as well */
    uint32_t streamed_timeline;
    /* The last standing that was told; `is_told` false: none. */
    struct standing told;
    bool is_told;
    bool is_new; /* has not taken over what is fenced under its former labels */
    /* A connection that writes may have been opened since all were closed. */
    bool may_have_writers;
    bool was_opened;      /* … since the latest closing began */
    unsigned closing;     /* closings under way */
    char *writer_address; /* where it was when it took writes last; NULL: not known */
    uint64_t answered_us; /* when it was last seen to take writes */
    uint64_t standby_lsn; /* what it had when it was last seen as a standby; 0: not known */
    /* When a procedure has seen it take writes, and on which timeline: probes that began before say
     * nothing against it. */
    uint64_t proven_us;
    uint32_t proven_timeline;
    struct sighting sighting;
    struct host_report report; /* its texts are not for use */
};

/* Closing and writing down before another host takes writes. */
struct change {
    bool is_under_way;
    bool has_closed; /* no connection that may write is left */
    bool is_saving;  /* the disk is waited for */
    struct timer patience;
};

struct operation;

struct ward {
    /* fixed */
    struct failover *failover;
    char *name;
    UT_hash_handle hh;
    /* owner */
    struct situation *situation;
    struct list hosts;
    struct alarms alarms;
    struct loop_task task; /* looks at the end of the turn */
    bool is_listed;        /* the configuration names it, with hosts */
    bool is_watched;       /* its hosts can be asked for their role */
    bool has_decided;      /* all hosts had answered once */
    bool is_held, is_withdrawn;
    bool was_told_unfinished; /* the procedures, of the intent that the state file had */
    enum failover_state state;
    enum verdict verdict;
    char reason[DECISION_TEXT_BYTES];
    uint64_t held_since_us;
    uint64_t no_primary_since_us; /* 0: there is one */
    uint64_t last_writer_us;      /* when the accepted primary was last seen to take writes */
    uint64_t last_writer_lsn;     /* … and how far it had written; 0: not known */
    struct change change;
    unsigned unsaved;        /* changes whose writing the disk has not answered */
    char *refusal;           /* why nothing is promoted; NULL: that does not apply */
    struct episode *episode; /* of the change, or of the claim */
    uint64_t episode_began_us;
    bool is_claimed;
    struct operation *operation; /* that waits for the change */
};

struct failover {
    /* fixed */
    struct loop *loop;
    struct failover_world world;
    struct failover_procedures procedures;
    struct store *store; /* NULL: no state_dir */
    /* owner */
    struct snapshot *snapshot;
    struct ward *wards;
    struct alarms alarms; /* of the process */
    struct history history;
    /* what waits for the plane or the disk, so that it can be freed when they are gone */
    struct list operations; /* commands whose answer has not come */
    struct list savings, closings;
    bool is_started, is_stopped;
    bool is_behind;           /* the disk has refused what was to be written last */
    struct decision decision; /* of the look that runs; too large for a stack */
};

struct ward *ward_find(const struct failover *failover, const char *environment);
/* Finds or makes it. */
struct ward *ward_get(struct failover *failover, const char *environment);
void ward_free(struct ward *ward);
struct ward_host *ward_host_find(const struct ward *ward, const char *label);
/* The options of a listed environment. */
const struct settings *ward_settings(const struct ward *ward);
/* Takes over what the monitor knows: sightings, and what was streamed. */
void ward_ask(struct ward *ward);
/* Looks at the end of this turn. */
void ward_look_later(struct ward *ward);
/* For the audit log. `what` and the rest as in struct failover_record. */
void ward_record(const struct ward *ward, struct failover_record record);
/* That a failover begins, or how it has ended. */
void ward_record_episode(const struct ward *ward, const struct episode *episode);

/* ---- looking (look.c) ---- */

void ward_look(struct ward *ward);
/* Tells the plane what each host may be used for: `writer` (NULL: none) takes the writes;
 * `unknown`: every host that is not shut out may, as far as its logins find it fit. */
void ward_tell(struct ward *ward, const char *writer, bool unknown);
void ward_hold(struct ward *ward);
void ward_release(struct ward *ward);
/* Fences with a log line; false: it was fenced so already. */
bool ward_fence(struct ward *ward, const char *host, enum fence_kind kind, const char *by);
bool ward_unfence(struct ward *ward, const char *host, const char *why);

/* ---- changing the accepted primary (follow.c) ---- */

/* Begins: hold, withdraw, close, write down. The situation is the new one from now on. `trigger`
 * NULL: no failover, nothing goes into the history. `replaces`: its identity and timeline count
 * whatever they were (ACCEPT). */
void change_begin(struct ward *ward, const struct sighting *to, enum episode_type type,
                  const char *trigger, bool replaces);
/* Is one under way, or over without a look having said what became of it? */
bool ward_is_changing(const struct ward *ward);
/* Ends the episode of a change, if there is one that no claim owns, and answers who waits for it.
 * `failure`: what the new primary came to; NULL: it is in use. */
void change_settle(struct ward *ward, const char *failure);
void change_stop(struct ward *ward);
/* Has any host but this one (NULL: any at all) connections that may write? */
bool writers_remain(const struct ward *ward, const char *but);
/* Begins to close them. */
void close_writers(struct ward *ward, const char *but, const char *why);

/* ---- what survives (keep.c) ---- */

/* Reads the state file into wards and history. */
void keep_load(struct failover *failover);
/* Writes down what is known now; `done` may be NULL. */
void keep_save(struct failover *failover, void (*done)(void *context, enum failover_saved how),
               void *context);
/* Puts an ended episode into the history, with its number. */
void keep_episode(struct failover *failover, struct episode *episode);

/* ---- MAINTENANCE (maintenance.c) ---- */

/* `for_us` 0: until OFF. In memory. */
void maintenance_set(struct ward *ward, bool on, uint64_t for_us);
/* What the state file has says how long it still lasts. */
void maintenance_resume(struct ward *ward);
/* Ends it when its time is over, and keeps what is shown and written down right when the wall clock
 * has been set. */
void maintenance_look(struct ward *ward);

/* ---- commands (operator.c) ---- */

/* The change that a command waited for is over, as in change_settle: its answer goes out when all
 * is on the disk. */
void operation_changed(struct ward *ward, const char *failure);
void operations_end(struct failover *failover);

/* Frees what the plane and the disk will not answer any more. */
void closings_free(struct failover *failover);
void savings_free(struct failover *failover);
void operations_free(struct failover *failover);

/* Calls `run` from the loop, later in this turn or in the next; not at all when the loop ends. */
void failover_later(struct failover *failover, void (*run)(void *context, int value), void *context,
                    int value);

#endif
