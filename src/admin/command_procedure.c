/*
 * command_procedure: FAILOVER, FAILBACK, ABORT FAILOVER and DRILL.
 *
 * They answer when the procedure is over; until then each of its steps is told by a NOTICE.
 * Nobody's leaving ends a failover: a cancel, or a client that goes, only ends the waiting. Control
 * thread.
 */
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/failover/procedure.h"

struct proceeding {
    /* fixed */
    struct admin *admin;
    struct console_job *job;
    /* owner */
    struct list_node node; /* in admin->proceedings */
};

static void proceeding_free(struct proceeding *proceeding)
{
    list_remove(&proceeding->admin->proceedings, &proceeding->node);
    free(proceeding);
}

static void on_cancel(struct console_job *job, bool gone)
{
    struct proceeding *proceeding = job->state;
    (void)gone;
    procedures_forget(proceeding->admin->procedures, proceeding);
    proceeding_free(proceeding);
    console_fail(job, "57014", "canceling statement due to user request",
                 job->command.id == COMMAND_drill ? NULL : "What was begun goes on.",
                 job->command.id == COMMAND_drill ? NULL : "ABORT FAILOVER ends it.");
}

static struct proceeding *proceeding_new(struct admin *admin, struct console_job *job)
{
    struct proceeding *proceeding = memory_new(sizeof *proceeding);
    proceeding->admin = admin;
    proceeding->job = job;
    job->state = proceeding;
    job->cancelled = on_cancel;
    list_push_back(&admin->proceedings, &proceeding->node);
    return proceeding;
}

static void on_progress(void *context, const char *text)
{
    struct proceeding *proceeding = context;
    console_notice(proceeding->job, text);
}

static void put_row(struct result *result, const struct procedure_row *row)
{
    result_begin(result);
    result_text(result, row->item);
    result_text(result, row->name);
    result_text(result, row->result);
    result_text(result, row->detail);
    if (row->duration_us < 0)
        result_null(result);
    else
        result_int(result, row->duration_us / (int64_t)CLOCK_MS);
    result_end(result);
}

static void on_answered(void *context, const struct procedure_answer *answer)
{
    struct proceeding *proceeding = context;
    struct console_job *job = proceeding->job;
    proceeding_free(proceeding);
    if (!answer->ok) {
        console_fail(job, answer->sqlstate, answer->text, answer->detail, answer->hint);
        return;
    }
    for (size_t i = 0; i < answer->rows->count; i++)
        put_row(&job->result, &answer->rows->items[i]);
    console_done(job);
}

void proceedings_end(struct admin *admin)
{
    struct list_node *node;
    while ((node = list_first(&admin->proceedings))) {
        struct proceeding *proceeding = list_entry(node, struct proceeding, node);
        struct console_job *job = proceeding->job;
        procedures_forget(admin->procedures, proceeding);
        proceeding_free(proceeding);
        console_fail(job, "57P01", "pgstage is shutting down", NULL, NULL);
    }
}

static void ask(struct admin *admin, struct console_job *job, enum episode_type type, bool failback)
{
    const struct command *command = &job->command;
    char *by = text_print("%s@%s", job->user, job->from);
    struct procedure_request request = {
        .environment = command->target,
        .to = command->value,
        .type = type,
        .failback = failback,
        .dry_run = command->is_dry_run,
        .by = by,
    };
    procedures_ask(admin->procedures, &request, on_progress, on_answered,
                   proceeding_new(admin, job));
    free(by);
}

void command_failover(struct admin *admin, struct console_job *job)
{
    ask(admin, job,
        job->command.is_planned     ? EPISODE_PLANNED
        : job->command.is_emergency ? EPISODE_EMERGENCY
                                    : EPISODE_MANUAL,
        false);
}

void command_failback(struct admin *admin, struct console_job *job)
{
    ask(admin, job, EPISODE_PLANNED, true);
}

void command_abort_failover(struct admin *admin, struct console_job *job)
{
    char *by = text_print("%s@%s", job->user, job->from);
    procedures_abort(admin->procedures, job->command.target, by, on_answered,
                     proceeding_new(admin, job));
    free(by);
}

void command_drill(struct admin *admin, struct console_job *job)
{
    procedures_drill(admin->procedures, job->command.target, on_answered,
                     proceeding_new(admin, job));
}
