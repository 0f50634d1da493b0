/*
 * procedure: failovers that pgstage carries out itself: promotion (automatic, manual, emergency),
 * planned switchover, disaster recovery and the way back from there; and the drill of it.
 *
 * A procedure is a list of steps. Each has a name, a deadline and, up to the point of no return
 * (pg_promote is asked for), a way back; ABORT FAILOVER takes it from any of them. Commands answer
 * late. Control thread; no callback comes from inside the call that asked for it.
 */
#ifndef PGSTAGE_FAILOVER_PROCEDURE_H
#define PGSTAGE_FAILOVER_PROCEDURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/failover/episode.h"
#include "pgstage/failover/failover.h"

struct monitor;
struct plane;
struct procedures;

struct procedures *procedures_new(struct failover *failover, struct plane *plane,
                                  struct monitor *monitor) __attribute__((warn_unused_result));
/* Ends what is under way where it stands (the intent that was written down tells the next start)
 * and answers who waits; before failover_stop. */
void procedures_stop(struct procedures *procedures);
/* After plane_free and failover_free, which may still deliver what was asked of them. */
void procedures_free(struct procedures *procedures);

/* What is told of a procedure, a row each. */
struct procedure_row {
    const char *item; /* guard, step, estimate, check; constant */
    char *name;       /* "receiver", "fence", "pg2:5432" … */
    char *result;     /* ok, refused, not asked, done, failed, planned … */
    char *detail;
    int64_t duration_us; /* -1: nothing was measured */
};
/* Zeroed is empty. */
struct procedure_rows {
    struct procedure_row *items;
    size_t count, capacity;
};

struct procedure_answer {
    bool ok;
    char sqlstate[6];
    const char *text, *detail, *hint; /* of what is not ok; detail and hint may be NULL */
    const struct procedure_rows *rows;
};
/* Called once. The answer is the callee's only during the call. */
typedef void procedure_answered(void *context, const struct procedure_answer *answer);
/* One line about what is going on; any number of times before the answer. */
typedef void procedure_progress(void *context, const char *text);

struct procedure_request {
    const char *environment;
    const char *to;         /* any spelling of one host; NULL: the best one */
    enum episode_type type; /* manual, planned, emergency */
    bool failback;          /* planned, to a host that was there before */
    bool dry_run;           /* only guards, steps and estimate */
    const char *by;         /* for the records */
};

/* FAILOVER, FAILBACK. Texts need to live only during the call; `progress` may be NULL. */
void procedures_ask(struct procedures *procedures, const struct procedure_request *request,
                    procedure_progress *progress, procedure_answered *answered, void *context);
/* ABORT FAILOVER: answers when the way back has been gone. */
void procedures_abort(struct procedures *procedures, const char *environment, const char *by,
                      procedure_answered *answered, void *context);
/* DRILL: every check of a DR failover, nothing is changed. */
void procedures_drill(struct procedures *procedures, const char *environment,
                      procedure_answered *answered, void *context);
/* Nobody waits for this answer any more; what was begun goes on, but for a drill. */
void procedures_forget(struct procedures *procedures, void *context);

#endif
