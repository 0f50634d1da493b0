/*
 * step_switch.c: the steps that only planned switchovers have.
 *
 *   promote mode  locks ─► checkpoint ─► approach ─► hold ─► drain ─► close ─► position ─► demote
 *                 ─► stopped ─► received ─► intent ══► promote …
 *   follow mode   hold ─► drain ─► close ─► switchover ─► follow ─► accept ─► release
 *
 * Only a stopped server is fenced from clients that come past pgstage. A fast shutdown sends all
 * WAL, the shutdown checkpoint included, to the standbys that are connected before the server ends;
 * so the candidate has everything when it has (1) all that the old primary had written when it was
 * asked last, (2) lost its WAL receiver, because the primary ended, and (3) where demote_command
 * tells the place of the shutdown checkpoint, replayed that.
 */
#include <stdlib.h>
#include <string.h>

#include "lsn.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/health/monitor.h"
#include "pgstage/net/tls.h"
#include "pgstage/session/plane.h"
#include "step.h"

#define LOOK_US (20 * CLOCK_MS)
#define DRAIN_LOOK_US (5 * CLOCK_MS)
#define PROBE_US (200 * CLOCK_MS)
#define NEAR_BYTES (1024 * 1024) /* so little is caught up with in no time */
#define STEADY_US (300 * CLOCK_MS)

static const struct delegate *candidate_of(const struct procedure *procedure)
{
    return delegation_find(procedure->delegation, procedure->candidate);
}

static uint64_t position_of(const struct delegate *delegate)
{
    return delegate->received_lsn > delegate->replayed_lsn ? delegate->received_lsn
                                                           : delegate->replayed_lsn;
}

/* ---- before clients are held ---- */

static void on_checkpoint(void *context)
{
    struct procedure *procedure = context;
    const struct delegate *old = delegation_find(procedure->delegation, procedure->old);
    if (old && old->has_failed)
        procedure_note(procedure, "not done, the shutdown may take longer: %s", old->problem);
    procedure_next(procedure);
}

/* What is written out now need not be while clients wait. It needs pg_checkpoint, and is no must.
 */
void step_checkpoint(struct procedure *procedure)
{
    const struct delegate *old = delegation_find(procedure->delegation, procedure->old);
    if (!old || !old->is_open) {
        procedure_fail(procedure, "failover_user cannot log in to the primary %s: %s",
                       procedure->old, old ? old->problem : "it is not monitored");
        return;
    }
    delegation_ask(procedure->delegation, procedure->old, "CHECKPOINT",
                   procedure_deadline_us(procedure) - CLOCK_SECOND, NULL, on_checkpoint);
}

static void ask_distance(struct procedure *procedure);

static void judge_distance(struct procedure *procedure)
{
    const struct delegate *old = delegation_find(procedure->delegation, procedure->old);
    const struct delegate *candidate = candidate_of(procedure);
    if (!old->is_open || !candidate->is_open) {
        procedure_fail(procedure, "the session on %s is lost: %s",
                       old->is_open ? candidate->host : old->host,
                       old->is_open ? candidate->problem : old->problem);
        return;
    }
    uint64_t behind =
        old->written_lsn > candidate->replayed_lsn ? old->written_lsn - candidate->replayed_lsn : 0;
    if (candidate->streams && behind <= NEAR_BYTES)
        procedure_next(procedure);
    else
        procedure_poll(procedure, PROBE_US, ask_distance);
}

static void ask_distance(struct procedure *procedure)
{
    procedure_survey(procedure, judge_distance);
}

void step_approach(struct procedure *procedure)
{
    ask_distance(procedure);
}

/* ---- hold, drain ---- */

/* The end of the procedure lets clients go on, when the old primary is seen to take writes. */
void undo_hold(struct procedure *procedure)
{
    procedure_undone(procedure);
}

static void look_at_running(struct procedure *procedure)
{
    const struct settings *settings = procedure->settings;
    uint64_t waited_us = procedure_now_us(procedure) - procedure->step_began_us;
    struct gate_counts counts;
    plane_gate_counts(procedure->procedures->plane, procedure->environment->name, &counts);
    if (counts.running == 0) {
        procedure_note(procedure, "%zu clients wait", counts.waiting);
        procedure_next(procedure);
    } else if (waited_us < settings->drain_timeout_us) {
        procedure_poll(procedure, DRAIN_LOOK_US, look_at_running);
    } else if (settings->on_demote == ON_DEMOTE_CLOSE) {
        procedure_note(procedure, "%zu transactions outlast drain_timeout and are cut",
                       counts.running);
        procedure_next(procedure);
    } else {
        procedure_fail(procedure,
                       "%zu transactions still run after drain_timeout (%.1f s), and on_demote = "
                       "drain does not cut them",
                       counts.running, (double)settings->drain_timeout_us / 1e6);
    }
}

void step_drain(struct procedure *procedure)
{
    look_at_running(procedure);
}

/* ---- demote ---- */

static void note_position(struct procedure *procedure)
{
    const struct delegate *old = delegation_find(procedure->delegation, procedure->old);
    const struct delegate *candidate = candidate_of(procedure);
    char text[20];
    if (!old->is_open || old->has_failed || old->written_lsn == 0) {
        procedure_fail(procedure, "the position of %s cannot be read: %s", old->host, old->problem);
        return;
    }
    if (!candidate->is_open || candidate->has_failed || !candidate->streams) {
        procedure_fail(procedure, "%s %s: it would miss what %s writes until it is stopped",
                       candidate->host,
                       candidate->is_open && !candidate->has_failed ? "does not stream any more"
                                                                    : candidate->problem,
                       old->host);
        return;
    }
    procedure->last_lsn = old->written_lsn;
    procedure_note(procedure, "%s", lsn_text(procedure->last_lsn, text));
    delegation_dismiss(procedure->delegation, procedure->old);
    procedure_next(procedure);
}

void step_position(struct procedure *procedure)
{
    procedure_survey(procedure, note_position);
}

static void on_marked(struct procedure *procedure, int how)
{
    if (how == FAILOVER_NOT_SAVED)
        procedure_fail(procedure, "state_dir cannot be written, and without a note there a restart "
                                  "would leave the old primary stopped");
    else
        procedure_next(procedure);
}

static void on_mark_saved(void *context, enum failover_saved how)
{
    letter_arrive(context, (int)how);
}

/* A pgstage that ends while the old primary is stopped finds this, and starts it again. */
void step_mark(struct procedure *procedure)
{
    struct failover *failover = procedure->procedures->failover;
    failover_intent(failover, procedure->environment->name, INTENT_DEMOTE, procedure->old,
                    procedure->candidate, procedure->old_timeline);
    failover_save(failover, on_mark_saved, procedure_letter(procedure, on_marked));
    procedure_poll(procedure, FAILOVER_PATIENCE_US, procedure_disk_is_late);
}

static void on_demoted(struct procedure *procedure, const struct hook_result *result)
{
    char text[20];
    if (!result->ok) {
        procedure_fail(procedure, "demote_command %s", result->summary);
        return;
    }
    procedure->final_lsn = lsn_in_output(result->output);
    if (procedure->final_lsn)
        procedure_note(procedure, "its shutdown checkpoint is at %s",
                       lsn_text(procedure->final_lsn, text));
    procedure_next(procedure);
}

void step_demote(struct procedure *procedure)
{
    procedure_run(procedure, "demote_command", procedure->settings->demote_command, on_demoted);
}

static void wait_for_old(struct procedure *procedure)
{
    if (procedure_sees_writer(procedure, procedure->old, procedure->step_began_us)) {
        procedure_undone(procedure);
        return;
    }
    monitor_probe_now(procedure->procedures->monitor, procedure->environment->name, procedure->old);
    procedure_poll(procedure, PROBE_US, wait_for_old);
}

static void on_undemoted(struct procedure *procedure, const struct hook_result *result)
{
    if (!result->ok) {
        procedure_trouble(procedure, "undemote_command %s: start %s by hand", result->summary,
                          procedure->old);
        procedure_undone(procedure);
        return;
    }
    procedure->step_began_us = procedure_now_us(procedure);
    wait_for_old(procedure);
}

void undo_demote(struct procedure *procedure)
{
    procedure_run(procedure, "undemote_command", procedure->settings->undemote_command,
                  on_undemoted);
}

/* ---- what a restart finds before the promotion ---- */

static void wait_for_started(struct procedure *procedure)
{
    if (procedure_sees_writer(procedure, procedure->old, procedure->step_began_us)) {
        procedure_fail(procedure, "pgstage had ended in the middle of a switchover, before its "
                                  "promotion: the old primary takes writes again");
        return;
    }
    monitor_probe_now(procedure->procedures->monitor, procedure->environment->name, procedure->old);
    procedure_poll(procedure, PROBE_US, wait_for_started);
}

static void on_started(struct procedure *procedure, const struct hook_result *result)
{
    if (result->ok)
        wait_for_started(procedure);
    else
        procedure_fail(procedure, "undemote_command %s: start %s by hand", result->summary,
                       procedure->old);
}

void step_undemote(struct procedure *procedure)
{
    const char *command = procedure->settings->undemote_command;
    if (command)
        procedure_run(procedure, "undemote_command", command, on_started);
    else
        procedure_fail(procedure, "there is no undemote_command any more: start %s by hand",
                       procedure->old);
}

/* ---- is it stopped, and has the candidate everything? ---- */

static void visit(struct procedure *procedure);

static void on_visited(struct probe *probe, void *context, const struct probe_result *result)
{
    struct procedure *procedure = context;
    /* and where nothing could be tried nothing is known */
    bool stopping = result->error == PROBE_STARTING_UP || result->error == PROBE_LOST ||
                    result->error == PROBE_LOCAL;
    (void)probe;
    probe_close(procedure->visitor);
    procedure->visitor = NULL;
    if (result->error == PROBE_REFUSED) {
        procedure_next(procedure);
    } else if (result->error == PROBE_TIMEOUT) {
        procedure_note(procedure, "it does not answer at all");
        procedure_next(procedure);
    } else if (stopping) {
        procedure_poll(procedure, PROBE_US, visit);
    } else {
        procedure_fail(procedure,
                       "demote_command exited with 0, but %s still answers: only a stopped server "
                       "is fenced",
                       procedure->old);
    }
}

static void visit(struct procedure *procedure)
{
    const struct host_report *report = procedure_report(procedure, procedure->old);
    const struct settings *settings = procedure->settings;
    if (!report) {
        procedure_fail(procedure, "%s is not monitored any more", procedure->old);
        return;
    }
    struct probe_target target = {
        .name = report->name,
        .address = *report->address ? report->address : NULL,
        .port = report->port,
        .user = settings->failover_user,
        .password = settings->failover_password,
        .dbname = settings->failover_dbname,
        .peer_user = settings->server_peer_user,
    };
    tls_settings_of_servers(&target.tls, settings);
    procedure->visitor = probe_open(
        procedure->procedures->loop, procedure->procedures->resolver, &target,
        procedure_now_us(procedure) + procedure_login_limit_us(procedure), on_visited, procedure);
}

void step_stopped(struct procedure *procedure)
{
    visit(procedure);
}

static void ask_received(struct procedure *procedure);

/* "" when the candidate has everything; else what it lacks. */
static const char *what_lacks(struct procedure *procedure, const struct delegate *candidate)
{
    uint64_t now_us = procedure_now_us(procedure), position = position_of(candidate);
    if (position != procedure->steady_lsn) {
        procedure->steady_lsn = position;
        procedure->steady_us = now_us;
    }
    if (position < procedure->last_lsn)
        return "it has not received everything that the old primary had written";
    if (procedure->final_lsn)
        return candidate->replayed_lsn > procedure->final_lsn
                   ? ""
                   : "it has not replayed the old primary's shutdown";
    if (candidate->streams)
        return "it still streams";
    if (candidate->replayed_lsn < candidate->received_lsn)
        return "it has not replayed everything that it has received";
    return now_us - procedure->steady_us >= STEADY_US ? "" : "it still receives";
}

static void judge_received(struct procedure *procedure)
{
    const struct delegate *candidate = candidate_of(procedure);
    char text[20];
    if (!candidate->is_open) {
        procedure_fail(procedure, "the session on %s is lost: %s", candidate->host,
                       candidate->problem);
        return;
    }
    if (!candidate->in_recovery) {
        procedure_fail(procedure, "%s takes writes already: somebody else has promoted it",
                       candidate->host);
        return;
    }
    const char *lacks = what_lacks(procedure, candidate);
    free(procedure->note);
    procedure->note = *lacks ? text_print("%s: %s", candidate->host, lacks) : NULL;
    if (*lacks) {
        procedure_poll(procedure, LOOK_US, ask_received);
        return;
    }
    procedure->episode->lag_bytes = 0;
    procedure_note(procedure, "%s has everything, up to %s", candidate->host,
                   lsn_text(position_of(candidate), text));
    procedure_next(procedure);
}

static void ask_received(struct procedure *procedure)
{
    procedure_survey(procedure, judge_received);
}

void step_received(struct procedure *procedure)
{
    procedure->steady_lsn = 0;
    ask_received(procedure);
}

/* ---- follow mode ---- */

static void on_switched(struct procedure *procedure, const struct hook_result *result)
{
    if (result->ok)
        procedure_next(procedure);
    else
        procedure_fail(procedure, "switchover_command %s", result->summary);
}

void step_switchover(struct procedure *procedure)
{
    procedure_run(procedure, "switchover_command", procedure->settings->switchover_command,
                  on_switched);
}

struct finding {
    const struct procedure *procedure;
    const struct host_report *found, *fenced; /* fenced: it takes writes, and may not */
    bool old_writes;
};

static void find_writer(void *argument, const struct host_report *report)
{
    struct finding *finding = argument;
    const struct procedure *procedure = finding->procedure;
    bool is_old = text_equal(report->label, procedure->old);
    bool fits = report->system_identifier == procedure->system_identifier &&
                report->timeline > procedure->old_timeline;
    if (!procedure_sees_writer(procedure, report->label, procedure->step_began_us))
        return;
    finding->old_writes = finding->old_writes || is_old;
    if (is_old || !fits || report->is_dr != procedure->is_dr)
        return;
    const struct situation *situation =
        failover_situation(procedure->procedures->failover, procedure->environment->name);
    if (situation && situation_fence(situation, report->label))
        finding->fenced = report;
    else
        finding->found = report;
}

static char *describe(const struct finding *finding)
{
    if (finding->old_writes)
        return text_copy("the old primary still takes writes");
    if (finding->fenced)
        return text_print("%s takes writes, and is fenced", finding->fenced->label);
    return text_copy("no other host takes writes yet");
}

static void look_for_writer(struct procedure *procedure)
{
    struct finding finding = {.procedure = procedure};
    struct procedures *procedures = procedure->procedures;
    const char *environment = procedure->environment->name;
    monitor_each(procedures->monitor, environment, find_writer, &finding);
    if (!finding.found || finding.old_writes) {
        free(procedure->note);
        procedure->note = describe(&finding);
        /* as long as it is seen that nothing has changed there is a way back */
        procedure->is_past_return = !(finding.old_writes && !finding.found && !finding.fenced);
        monitor_probe_now(procedures->monitor, environment, NULL);
        procedure_poll(procedure, PROBE_US / 4, look_for_writer);
        return;
    }
    const struct host_report *old = procedure_report(procedure, procedure->old);
    free(procedure->note);
    procedure->note = NULL;
    procedure->is_past_return = true;
    if (procedure->candidate && !text_equal(procedure->candidate, finding.found->label))
        procedure_note(procedure, "%s was promoted instead of %s", finding.found->label,
                       procedure->candidate);
    free(procedure->candidate);
    procedure->candidate = text_copy(finding.found->label);
    procedure->new_timeline = finding.found->timeline;
    procedure->old_streams = old && old->role == ROLE_STANDBY && old->error == PROBE_FINE &&
                             old->receiver == RECEIVER_STREAMING &&
                             old->timeline >= procedure->new_timeline;
    procedure->episode->lag_bytes = 0;
    procedure_note(procedure, "%s takes writes", procedure->candidate);
    procedure_next(procedure);
}

void step_follow(struct procedure *procedure)
{
    look_for_writer(procedure);
}
