/*
 * failover: which host of each environment is the accepted primary, and who may say otherwise.
 *
 *   monitor ─ changed ─► look ─► decide (decide.h) ─► keep
 *                                  │                  hold, when no accepted host takes writes
 *                                  └─ another writer: hold → close all to the old one, write it
 * down → accept → standing → release
 *
 * A procedure (promotion, switchover, DR) claims an environment: the automatic part then only
 * watches, until the claim ends. One of it, on the control thread; every callback comes there too,
 * and none from inside the call that asked for it, unless it says so.
 */
#ifndef PGSTAGE_FAILOVER_FAILOVER_H
#define PGSTAGE_FAILOVER_FAILOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/clock.h"
#include "pgstage/conf/snapshot.h"
#include "pgstage/failover/episode.h"
#include "pgstage/failover/situation.h"

struct failover;
struct host_report;
struct loop;
struct standing;

/* How many clients a hold concerns. */
struct failover_counts {
    int64_t held, errored; /* since the hold began; -1: not known */
};

/* Something that was decided, for the audit log. Texts live during the call; NULL: not said. */
struct failover_record {
    const char *environment;
    const char *what; /* accept, fence, unfence, begin, end; constant */
    const char *host; /* that it is about; of a failover, the candidate or the new primary */
    const char *from; /* the accepted primary before */
    const char *type; /* of a failover */
    const char *kind; /* of a fence */
    const char *reason;
    const char *result;            /* of a failover that ends */
    int64_t timeline;              /* 0: not said */
    const struct episode *episode; /* of what ends; NULL */
};

/* What the engine sees and acts through: the monitor and the plane (see failover_world_of), or a
 * test's stand-ins. */
struct failover_world {
    void *context;
    /* New transactions that write wait, or go on. */
    void (*hold)(void *context, const char *environment);
    void (*release)(void *context, const char *environment);
    void (*counts)(void *context, const char *environment, struct failover_counts *counts);
    /* Closes every connection to a host; `done` comes later, never from inside. */
    void (*close_host)(void *context, const char *environment, const char *host, const char *detail,
                       void (*done)(void *argument), void *argument);
    void (*set_standing)(void *context, const char *environment, const char *host,
                         const struct standing *standing);
    /* Every monitored host of the environment. */
    void (*each_host)(void *context, const char *environment,
                      void (*each)(void *argument, const struct host_report *report),
                      void *argument);
    /* Writes down what was decided; nothing waits for it. NULL: nobody does. */
    void (*record)(void *context, const struct failover_record *record);
};

/* Opens and locks state_dir, if the configuration names one, and reads it. A reference of the
 * snapshot is taken. NULL and `problem`: the folder cannot be used, or another process has it. A
 * state file that is missing or damaged is no error: see failover_start. */
struct failover *failover_new(struct loop *loop, struct snapshot *snapshot,
                              const struct failover_world *world, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* The monitor has been loaded: environments are held until their hosts have answered or timed out.
 * Before plane_start. */
void failover_start(struct failover *failover);
/* A new configuration is in force (after the monitor and the plane have it). */
void failover_reloaded(struct failover *failover, struct snapshot *snapshot);
/* The monitor knows something new: looks at the environment at the end of this turn. */
void failover_changed(struct failover *failover, const char *environment);
/* No decision any more, commands that wait are answered; before plane_free. */
void failover_stop(struct failover *failover);
/* Writes down what is still to be written. After plane_free, before loop_free. */
void failover_free(struct failover *failover);

/* ---- what is known ---- */

/* What an environment is doing, in one word. */
enum failover_state {
    FAILOVER_STATE_UNWATCHED,  /* it has no hosts of its own, or no login to watch them with */
    FAILOVER_STATE_STARTING,   /* not all hosts have answered yet */
    FAILOVER_STATE_OK,         /* the accepted primary takes writes */
    FAILOVER_STATE_UNVERIFIED, /* hosts answer, but their role cannot be read */
    FAILOVER_STATE_NO_PRIMARY, /* clients that write wait */
    FAILOVER_STATE_STOPPED,    /* writers of equal standing: an operator must say which */
    FAILOVER_STATE_SWITCHING,  /* from one accepted primary to another */
    FAILOVER_STATE_PROCEDURE,  /* a failover command or promotion runs */
    FAILOVER_STATES,
};
const char *failover_state_word(enum failover_state state);
/* UNWATCHED for an environment that is not known. */
enum failover_state failover_state(const struct failover *failover, const char *environment);
/* NULL: the environment is not watched. Valid until the loop turns. */
const struct situation *failover_situation(const struct failover *failover,
                                           const char *environment);
/* Since when no host takes the environment's writes (loop_now_us's clock); 0: one does. */
uint64_t failover_no_primary_since(const struct failover *failover, const char *environment);

/* Ended episodes (the newest last), then those that run. */
void failover_each_episode(const struct failover *failover,
                           void (*row)(void *argument, const struct episode *episode),
                           void *argument);

struct alarm_view {
    const char *environment; /* NULL: the process */
    const char *host;        /* key; NULL: none in particular */
    const char *alarm;       /* word of alarms.def */
    const char *detail, *help;
    uint64_t since_wall_us;
};
/* The alarms that hold at present. Texts live during the call. */
void failover_each_alarm(const struct failover *failover,
                         void (*row)(void *argument, const struct alarm_view *alarm),
                         void *argument);

/* ---- what an operator says ---- */

/* What came of it: text "" when it went well. */
struct failover_answer {
    bool ok;
    char sqlstate[6];
    char text[512];
    char hint[512];
};
/* Called once, when it is done and on the disk (or could not be written). */
typedef void failover_answered(void *context, const struct failover_answer *answer);

/* `host` is a host's key, its name, or `name@environment` …: any spelling that means one host only.
 * `by` says who asks, for the records. */
void failover_fence_command(struct failover *failover, const char *host, const char *by,
                            failover_answered *answered, void *context);
void failover_unfence_command(struct failover *failover, const char *host, const char *by,
                              failover_answered *answered, void *context);
/* Accepts a host that takes writes whatever its identity and timeline are. */
void failover_accept_command(struct failover *failover, const char *environment, const char *host,
                             const char *by, failover_answered *answered, void *context);
/* `for_us` 0: until OFF. */
void failover_maintenance_command(struct failover *failover, const char *environment, bool on,
                                  uint64_t for_us, const char *by, failover_answered *answered,
                                  void *context);
/* A callback that has not come will not come. */
void failover_forget(struct failover *failover, void *context);

/* The key of the one host of `environment` (NULL: of any) that `spelling` means; `*key` and
 * `*of_environment` live until the loop turns. False and `answer`: none or several. */
bool failover_find_host(const struct failover *failover, const char *environment,
                        const char *spelling, const char **key, const char **of_environment,
                        struct failover_answer *answer);

/* ---- procedures ---- */

/* What the procedures' part is told. */
struct failover_procedures {
    void *context;
    /* The environment has been looked at, is not claimed and not in the middle of something:
     * here is the moment to begin a promotion (failover_claim may be called from inside). */
    void (*looked)(void *context, const char *environment);
    /* At the start, all hosts have answered or timed out, and an intent stands: how did it go on?
     * From inside, the procedure claims the environment, or leaves it: then a candidate that takes
     * writes on a newer timeline is accepted, and else the alarm unfinished_failover is raised. */
    void (*unfinished)(void *context, const char *environment, const struct intent *intent);
    /* A failover has ended, whoever carried it out; it is the callee's only during the call. */
    void (*ended)(void *context, const struct episode *episode);
};
void failover_set_procedures(struct failover *failover,
                             const struct failover_procedures *procedures);

/* Claims the environment for a procedure. The episode is the claim: it stands in SHOW FAILOVERS as
 * running and is filled by its owner (episode_step, episode_note, the public numbers). NULL and
 * `problem`: another procedure or a switch is under way, or the environment is not watched. */
struct episode *failover_claim(struct failover *failover, const char *environment,
                               enum episode_type type, const char *from, const char *to,
                               const char *trigger, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* Ends the claim: the episode goes into the history, the intent is cleared, and the environment is
 * looked at again, which releases the clients if an accepted primary takes writes. `text` may be
 * NULL. */
void failover_end(struct failover *failover, struct episode *episode, enum episode_result result,
                  const char *text);

/* Holds new transactions that write, if they are not held yet. While a claim stands only the
 * procedure releases; outside, the automatic part does. */
void failover_hold(struct failover *failover, const char *environment);
/* Lets them go on, to the accepted primary. */
void failover_release(struct failover *failover, const char *environment);
/* No host takes writes until failover_accept, or until the claim ends: then the accepted primary
 * goes on, if it is seen to take writes. */
void failover_withdraw(struct failover *failover, const char *environment);

/* Notes a fence, where there is none yet, or takes away one that was noted so; in memory:
 * failover_save makes it last. */
void failover_fence(struct failover *failover, const char *environment, const char *host,
                    const char *by);
void failover_unfence(struct failover *failover, const char *environment, const char *host);
/* "About to promote `to`". In memory; failover_save makes it last. */
void failover_intent(struct failover *failover, const char *environment, const char *type,
                     const char *from, const char *to, uint32_t timeline);
void failover_intent_clear(struct failover *failover, const char *environment);
/* A verified new primary: only it takes writes from now on; the former one is fenced unless
 * `former_streams` (a switchover whose old primary has joined again). In memory; failover_save
 * makes it last. Every connection to the old one must have been closed before. */
void failover_accept(struct failover *failover, const char *environment, const char *host,
                     uint64_t system_identifier, uint32_t timeline, bool former_streams);
/* Why pgstage does not promote by itself although there is no primary: the alarm
 * promotion_refused; NULL: it does not apply. */
void failover_refuse(struct failover *failover, const char *environment, const char *reason);
/* pgstage promotes by itself, now (failover_min_interval counts from here). */
void failover_note_automatic(struct failover *failover, const char *environment);

enum failover_saved {
    FAILOVER_SAVED,
    FAILOVER_NOT_KEPT,  /* there is no state_dir */
    FAILOVER_NOT_SAVED, /* the disk refuses; the alarm state_not_saved stands */
};
/* `done` comes when all that was noted before the call is on the disk, or cannot be. */
void failover_save(struct failover *failover, void (*done)(void *context, enum failover_saved how),
                   void *context);
/* How long the disk may take while clients wait, where what is written is no condition. */
#define FAILOVER_PATIENCE_US (2 * CLOCK_SECOND)
/* Nobody waits for the disk any longer: the alarm state_not_saved, until it has answered. */
void failover_save_is_late(struct failover *failover);

#endif
