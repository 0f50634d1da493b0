/*
 * plan.c: which steps make which procedure, with their deadlines and ways back, and what DRY RUN
 * says of it.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "step.h"

/* ---- deadlines ---- */

static uint64_t limit_short(const struct procedure *procedure)
{
    (void)procedure;
    return 10 * CLOCK_SECOND;
}

uint64_t procedure_login_limit_us(const struct procedure *procedure)
{
    const uint64_t least_us = 3 * CLOCK_SECOND, most_us = 15 * CLOCK_SECOND;
    uint64_t probe_us = procedure->settings->probe_timeout_us;
    return probe_us < least_us ? least_us : probe_us > most_us ? most_us : probe_us;
}

/* To log in, and to ask something. */
static uint64_t limit_login(const struct procedure *procedure)
{
    return procedure_login_limit_us(procedure) + 7 * CLOCK_SECOND;
}

static uint64_t limit_long(const struct procedure *procedure)
{
    (void)procedure;
    return 60 * CLOCK_SECOND;
}

static uint64_t limit_promote(const struct procedure *procedure)
{
    (void)procedure;
    return PROMOTE_LIMIT_US;
}

/* A command has its own deadline, and a few seconds to be ended. */
static uint64_t limit_command(const struct procedure *procedure)
{
    return procedure->settings->failover_command_timeout_us + 5 * CLOCK_SECOND;
}

/* The command, and until its server takes writes. */
static uint64_t limit_undemote(const struct procedure *procedure)
{
    return procedure->settings->failover_command_timeout_us + 60 * CLOCK_SECOND;
}

static uint64_t limit_drain(const struct procedure *procedure)
{
    return procedure->settings->drain_timeout_us + 5 * CLOCK_SECOND;
}

/* ---- plans ---- */

#define CLIENTS_GO_ON "clients go on, to the old primary"

/* clang-format off */
/* Steps that several plans have. */
#define HOLD \
    {.name = "hold", .help = "new transactions that write wait", .limit_us = limit_short, \
     .begin = step_hold, .undo = undo_hold, .back = CLIENTS_GO_ON}
#define DRAIN \
    {.name = "drain", .help = "running transactions end", .limit_us = limit_drain, \
     .begin = step_drain}
#define CLOSE \
    {.name = "close", .help = "close every server connection to the old primary", \
     .limit_us = limit_short, .begin = step_close}
#define ACCEPT \
    {.name = "accept", .help = "only the new primary takes writes from now on", \
     .limit_us = limit_short, .begin = step_accept, .is_no_return = true}
#define RELEASE \
    {.name = "release", .help = "clients go on", .limit_us = limit_short, .begin = step_release}
/* What every promotion comes to, whatever led there. */
#define PROMOTION \
    {.name = "intent", .help = "write down what is about to be promoted", \
     .limit_us = limit_short, .begin = step_intent, .undo = undo_intent, \
     .back = "the intent and the fence are taken back"}, \
    {.name = "promote", .help = "pg_promote()", .limit_us = limit_promote, \
     .begin = step_promote, .is_no_return = true}, \
    {.name = "prove", .help = "commit a write on the new primary", .limit_us = limit_login, \
     .begin = step_prove}, \
    ACCEPT, \
    RELEASE, \
    {.name = "repoint", .help = "standbys that followed the old primary follow the new one", \
     .limit_us = limit_long, .begin = step_repoint}
/* clang-format on */

const struct step plan_promote[] = {
    {.name = "locks",
     .help = "log in to every standby; a majority grants this pgstage an advisory lock",
     .limit_us = limit_login,
     .begin = step_locks},
    HOLD,
    {.name = "fence",
     .help = "fence_command makes sure that the old primary is stopped",
     .limit_us = limit_command,
     .begin = step_fence},
    CLOSE,
    {.name = "final",
     .help = "ask all standbys once more, and look at the guards again",
     .limit_us = limit_short,
     .begin = step_final},
    PROMOTION,
    {.name = NULL},
};

const struct step plan_switch[] = {
    {.name = "locks",
     .help = "log in to the primary and the standbys, and take an advisory lock there",
     .limit_us = limit_login,
     .begin = step_locks},
    {.name = "checkpoint",
     .help = "CHECKPOINT on the primary, so that its shutdown is quick",
     .limit_us = limit_long,
     .begin = step_checkpoint},
    {.name = "approach",
     .help = "wait until the candidate is close behind",
     .limit_us = limit_long,
     .begin = step_approach},
    HOLD,
    DRAIN,
    CLOSE,
    {.name = "position",
     .help = "read how far the old primary has written",
     .limit_us = limit_short,
     .begin = step_position},
    {.name = "mark",
     .help = "write down that the old primary is about to be stopped",
     .limit_us = limit_short,
     .begin = step_mark},
    {.name = "demote",
     .help = "demote_command stops the old primary",
     .limit_us = limit_command,
     .begin = step_demote,
     .undo = undo_demote,
     .back = "undemote_command starts the old primary again"},
    {.name = "stopped",
     .help = "the old primary answers no more",
     .limit_us = limit_login,
     .begin = step_stopped},
    {.name = "received",
     .help = "the candidate has received and replayed everything",
     .limit_us = limit_long,
     .begin = step_received},
    PROMOTION,
    {.name = NULL},
};

const struct step plan_follow[] = {
    HOLD,
    DRAIN,
    CLOSE,
    {.name = "switchover",
     .help = "switchover_command makes another host the primary",
     .limit_us = limit_command,
     .begin = step_switchover},
    {.name = "follow",
     .help = "wait until another host takes writes, and the old one does not",
     .limit_us = limit_long,
     .begin = step_follow,
     .is_no_return = true}, /* but see there */
    ACCEPT,
    RELEASE,
    {.name = NULL},
};

const struct step plan_undemote[] = {
    {.name = "undemote",
     .help = "a switchover was found unfinished: undemote_command starts the old primary again",
     .limit_us = limit_undemote,
     .begin = step_undemote},
    {.name = NULL},
};

const struct step *plan_of(enum episode_type type, bool promotes)
{
    if (type != EPISODE_PLANNED)
        return plan_promote;
    return promotes ? plan_switch : plan_follow;
}

/* ---- DRY RUN ---- */

void guards_print(struct procedure_rows *rows, const struct guard_report *report)
{
    for (size_t i = 0; i < GUARD_COUNT; i++)
        rows_add(rows, "guard", guard_word((enum guard_id)i),
                 guard_verdict_word(report->rows[i].verdict), -1, "%s", report->rows[i].text);
}

void loss_print(struct procedure_rows *rows, const struct scene *scene,
                const struct guard_report *report)
{
    const struct guard_case *guarded = &scene->guarded;
    bool planned = guarded->type == EPISODE_PLANNED;
    char text[20];
    if (planned) {
        rows_add(rows, "estimate", "loss", "0 bytes", -1,
                 "the candidate has received everything before it is promoted");
        return;
    }
    if (report->loss_bytes < 0) {
        rows_add(rows, "estimate", "loss", "unknown", -1,
                 "nothing is known of what the primary had written last");
        return;
    }
    char *result = report->loss_us < 0 ? text_print("%" PRId64 " bytes", report->loss_bytes)
                                       : text_print("%" PRId64 " bytes, %.1f s", report->loss_bytes,
                                                    (double)report->loss_us / 1e6);
    rows_add(rows, "estimate", "loss", result, -1,
             "against %s, seen on the primary %.1f s ago; what it wrote after that is not counted",
             lsn_text(guarded->primary_lsn, text), (double)guarded->primary_seen_us / 1e6);
    free(result);
}

void plan_print(struct procedure_rows *rows, const struct step *plan,
                const struct procedure *procedure, const struct guard_report *report,
                const struct scene *scene)
{
    bool found = report->candidate != GUARD_NO_HOST, may_return = true;
    rows_add(rows, "candidate", found ? scene->hosts[report->candidate].host : "",
             report->allowed ? "ok" : "refused", -1, "from %s",
             procedure->old ? procedure->old : "no primary");
    guards_print(rows, report);
    for (size_t i = 0; plan[i].name; i++) {
        char *limit = text_print("within %.0f s", (double)plan[i].limit_us(procedure) / 1e6);
        rows_add(rows, "step", plan[i].name, limit, -1, "%s%s%s%s", plan[i].help,
                 plan[i].back ? "; way back: " : "", plan[i].back ? plan[i].back : "",
                 plan[i].is_no_return && may_return ? "; from here on there is no way back" : "");
        may_return = may_return && !plan[i].is_no_return;
        free(limit);
    }
    loss_print(rows, scene, report);
}
