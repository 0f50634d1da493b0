/*
 * procedure_inside.h: what the files of the procedures share. The control thread only.
 *
 *   procedure.c        one procedure: steps forward, the way back, the end
 *   plan.c             which steps make which procedure, and DRY RUN
 *   step_promote.c     locks, fence, final look, intent, promote, prove, accept
 *   step_switch.c      what only planned switchovers do: drain, demote, stopped, received …
 *   step_repoint.c     telling the other standbys whom to follow
 *   automatic.c        when pgstage begins one by itself, and what a restart finds unfinished
 *   ask.c              what operators ask for
 *   drill.c            DRILL
 */
#ifndef PGSTAGE_FAILOVER_PROCEDURE_INSIDE_H
#define PGSTAGE_FAILOVER_PROCEDURE_INSIDE_H

#include "delegation.h"
#include "pgstage/base/buffer.h"
#include "pgstage/base/list.h"
#include "pgstage/conf/snapshot.h"
#include "pgstage/failover/hook.h"
#include "pgstage/failover/procedure.h"
#include "pgstage/worker/loop.h"
#include "pgstage/worker/timer.h"
#include "scene.h"

struct procedure;

/* ---- steps ---- */

struct step {
    const char *name; /* NULL ends a plan */
    const char *help; /* what it does, for DRY RUN */
    uint64_t (*limit_us)(const struct procedure *procedure);
    /* Ends, now or later, with procedure_next or procedure_fail. */
    void (*begin)(struct procedure *procedure);
    /* Takes back what the step did, or had begun to do; ends with procedure_undone. NULL: nothing
     * to take back. */
    void (*undo)(struct procedure *procedure);
    const char *back;  /* what `undo` does, for DRY RUN */
    bool is_no_return; /* from its beginning on there is no way back */
};

extern const struct step plan_promote[], plan_switch[], plan_follow[], plan_undemote[];
/* Which one an operator's or pgstage's own failover of this type has. */
const struct step *plan_of(enum episode_type type, bool promotes);
/* Rows of DRY RUN: guards, steps, estimate. */
void plan_print(struct procedure_rows *rows, const struct step *plan,
                const struct procedure *procedure, const struct guard_report *report,
                const struct scene *scene);

void guards_print(struct procedure_rows *rows, const struct guard_report *report);
void loss_print(struct procedure_rows *rows, const struct scene *scene,
                const struct guard_report *report);

/* ---- one procedure ---- */

enum procedure_state {
    PROCEDURE_FORWARD,
    PROCEDURE_HALTING, /* it has failed; a command that runs is being ended */
    PROCEDURE_BACK,    /* steps are taken back, the latest first */
    PROCEDURE_OVER,
};

/* Who waits for an answer. */
struct asker {
    struct list_node node;
    procedure_progress *progress;
    procedure_answered *answered;
    void *context;
    bool aborts; /* it asked for ABORT FAILOVER */
};

enum promoted { PROMOTED_UNKNOWN, PROMOTED_NO, PROMOTED_YES };

/* What one login of the standbys' repointing is at: step_repoint.c. */
enum repoint_phase { REPOINT_READ, REPOINT_SLOT, REPOINT_WRITE, REPOINT_RELOAD };

struct procedure {
    /* fixed */
    struct list_node node;
    struct procedures *procedures;
    struct snapshot *snapshot; /* a reference: options stay as they were at the beginning */
    const struct environment_config *environment;
    const struct settings *settings;
    enum episode_type type;
    bool is_dr, leaves_site; /* as in struct guard_case */
    bool is_chosen;          /* the candidate was named, and is not chosen anew */
    bool is_resumed;         /* a restart found it unfinished */
    char *by;                /* "FAILOVER by admin@127.0.0.1" */
    const struct step *plan;
    char *old; /* key of the primary before; NULL: none was accepted */
    uint64_t began_us;
    /* owner */
    enum procedure_state state;
    size_t at; /* the step */
    bool is_past_return, is_aborted, is_held_by_us;
    char *candidate;        /* key; NULL in follow mode until something was promoted */
    char *failure;          /* why it goes back */
    struct buffer troubles; /* what went wrong on the way back */
    char *note;             /* what the running step has to say */
    struct procedure_rows rows;
    struct episode *episode;
    uint64_t step_began_us, held_us;
    struct timer deadline, poll;
    void (*polled)(struct procedure *procedure);
    struct loop_task task;
    void (*later)(struct procedure *procedure);
    unsigned serial;     /* of what is waited for: letters of earlier steps are not listened to */
    struct list letters; /* that cannot be taken back and have not come */
    struct hook *hook;
    void (*hooked)(struct procedure *procedure, const struct hook_result *result);
    struct delegation *delegation;
    void (*delegated)(struct procedure *procedure);
    struct probe *visitor; /* that looks whether the old primary is stopped */
    /* owner: what was found out */
    uint64_t system_identifier;
    uint32_t old_timeline, new_timeline;
    uint64_t last_lsn;              /* the old primary's position when it was last asked */
    uint64_t final_lsn;             /* of its shutdown, when demote_command says it; else 0 */
    uint64_t steady_lsn, steady_us; /* the candidate's position, and since when it is that */
    size_t silent_voters;           /* standbys that are known to be dead */
    enum promoted promoted;
    bool old_streams; /* the old primary has joined the new one already */
    size_t repoint_at;
    enum repoint_phase repoint_phase;
    char *conninfo, *slot; /* of the standby that is repointed; a password may be in it */
    struct list askers;
};

struct procedure_spec {
    const char *environment;
    enum episode_type type;
    bool is_dr, leaves_site, is_chosen, is_resumed;
    const struct step *plan; /* NULL: that of the type */
    const char *candidate;   /* NULL: none (follow mode without TO) */
    const char *by;
    uint64_t detection_ms; /* UINT64_MAX: not known */
    int64_t loss_bytes;
};

/* Begins. NULL and `problem`: the environment is claimed by something else. */
struct procedure *procedure_start(struct procedures *procedures, const struct procedure_spec *spec,
                                  char *problem, size_t size) __attribute__((warn_unused_result));
/* ABORT: false when it is too late. */
bool procedure_abort(struct procedure *procedure, const char *by);
/* The last of it, whose letters will not come any more. */
void procedure_bury(struct procedure *procedure);
/* The end of the process: nothing is taken back. */
void procedure_drop(struct procedure *procedure);

/* For steps. */
void procedure_next(struct procedure *procedure);
void procedure_fail(struct procedure *procedure, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void procedure_undone(struct procedure *procedure);
/* Has a reload taken the environment away, while there is a way back? Then the step has failed. */
bool procedure_is_lost(struct procedure *procedure);
/* Adds to what the step says of itself in the history and in the answer. */
void procedure_note(struct procedure *procedure, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A trouble on the way back: it goes on. */
void procedure_trouble(struct procedure *procedure, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Calls `polled` after `us`; once. */
void procedure_poll(struct procedure *procedure, uint64_t us,
                    void (*polled)(struct procedure *procedure));
/* Runs a command of the operator's with what is known of the failover in PGSTAGE_… variables. */
void procedure_run(struct procedure *procedure, const char *name, const char *command,
                   void (*hooked)(struct procedure *procedure, const struct hook_result *result));
/* Something that cannot be taken back: hand the letter over as its context. */
struct letter;
struct letter *procedure_letter(struct procedure *procedure,
                                void (*arrived)(struct procedure *procedure, int value));
/* Delivers it: `arrived` is called if the step still waits for it. */
void letter_arrive(struct letter *letter, int value);
/* When the step must be over. */
uint64_t procedure_deadline_us(const struct procedure *procedure);
uint64_t procedure_now_us(const struct procedure *procedure);
/* How many clients the trouble has held and hurt, as it stands now, for SHOW FAILOVERS. */
void procedure_count_clients(struct procedure *procedure);
const struct host_report *procedure_report(const struct procedure *procedure, const char *host);
/* Is this host a primary now, as a probe has seen since `since_us`? */
bool procedure_sees_writer(const struct procedure *procedure, const char *host, uint64_t since_us);
/* The scene as it is now, with type, site and candidate of the procedure. */
void procedure_look(const struct procedure *procedure, struct scene *scene);

/* ---- rows ---- */

void rows_add(struct procedure_rows *rows, const char *item, const char *name, const char *result,
              int64_t duration_us, const char *format, ...) __attribute__((format(printf, 6, 7)));
void rows_fini(struct procedure_rows *rows);

/* ---- all of them ---- */

/* An environment, as long as the process knows it. */
struct watch {
    struct list_node node;
    struct procedures *procedures;
    char *environment;
    struct memory memory;
    struct timer timer;         /* looks again while there is no primary */
    uint64_t siteless_since_us; /* no host of the site can be used; 0: one can */
    uint64_t again_us;          /* no attempt before */
    unsigned attempts;          /* that failed in a row */
    uint32_t refused;           /* the guards that refused last, as bits: for the log */
    bool is_alarmed;            /* … and whether that is an alarm */
};

struct answer_later;
struct drill;

struct procedures {
    /* fixed */
    struct loop *loop;
    struct failover *failover;
    struct plane *plane;
    struct monitor *monitor;
    struct resolver *resolver;
    /* owner */
    struct list watches, running, drills, later, questions;
    struct list hooks;     /* on_failover_command, after the procedure is over */
    struct list leftovers; /* procedures that are over, and for which letters are under way */
    bool is_stopped;
};

struct watch *watch_get(struct procedures *procedures, const char *environment);
struct procedure *procedures_find(const struct procedures *procedures, const char *environment);
/* hooks of failover.h */
void automatic_looked(void *context, const char *environment);
void automatic_unfinished(void *context, const char *environment, const struct intent *intent);
/* A procedure of this environment is over. */
void automatic_note_end(struct procedures *procedures, const struct procedure *procedure,
                        enum episode_result result);
/* A failover has ended: runs on_failover_command. */
void aftermath_begin(void *context, const struct episode *episode);
void aftermaths_end(struct procedures *procedures);
/* What a command is told, in PGSTAGE_… variables. */
#define COMMAND_VARIABLES 16
struct command_variables {
    struct hook_variable items[COMMAND_VARIABLES];
    char *texts[COMMAND_VARIABLES];
    size_t count;
};
struct command_facts {
    struct procedures *procedures;
    const char *command, *environment, *trigger;
    enum episode_type type;
    const char *old, *new;     /* keys; NULL: none */
    const char *result, *text; /* NULL: it is not over */
};
void command_variables_init(struct command_variables *variables, const struct command_facts *facts);
void command_variables_fini(struct command_variables *variables);
void drills_end(struct procedures *procedures);
void drills_forget(struct procedures *procedures, void *context);

/* "failover: production: " in front. */
#define procedure_log(procedure, format, ...)                                                      \
    log_log("failover: %s: " format, (procedure)->environment->name, __VA_ARGS__)

#endif
