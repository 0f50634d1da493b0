/*
 * step_promote.c: the steps around pg_promote().
 *
 *   locks ─► hold ─► fence ─► close ─► final ─► intent ══► promote ─► prove ─► accept ─► release
 *
 * locks   a session of failover_user on every standby; a majority of them must grant this process
 *         an advisory lock, and none may have been promoted already. The sessions, and so the
 * locks, are kept to the end. final   after the fence nothing more can arrive: all standbys are
 * asked once more, and the guards look at what they say. intent  is on the disk before pg_promote
 * is asked for: a restart finds it. prove   a transaction that writes WAL and needs no table:
 * pg_logical_emit_message. With synchronous_commit = local, because standbys that
 * synchronous_standby_names asks for are absent now, and waiting for them would prove nothing; that
 * clients' commits may wait for them is said.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/health/monitor.h"
#include "pgstage/session/plane.h"
#include "step.h"

#define LOOK_US (10 * CLOCK_MS)
#define ANSWER_LIMIT_US (10 * CLOCK_SECOND)
#define PROBE_US (200 * CLOCK_MS)

/* ---- locks ---- */

/* Does this host's lock count for the majority? */
static bool is_voter(const struct procedure *procedure, const struct host_report *report)
{
    const struct situation *situation =
        failover_situation(procedure->procedures->failover, procedure->environment->name);
    return report->is_dr == procedure->is_dr && !text_equal(report->label, procedure->old) &&
           !situation_fence(situation, report->label);
}

static void add_delegate(void *argument, const struct host_report *report)
{
    struct procedure *procedure = argument;
    bool is_old = text_equal(report->label, procedure->old);
    const struct situation *situation =
        failover_situation(procedure->procedures->failover, procedure->environment->name);
    if (is_old ? procedure->type != EPISODE_PLANNED
               : situation_fence(situation, report->label) != NULL)
        return;
    if (report->health == HEALTH_CRITICAL) { /* it would only be waited for */
        procedure->silent_voters += is_voter(procedure, report);
        return;
    }
    delegation_add(procedure->delegation, report);
    delegation_find(procedure->delegation, report->label)->is_voter = is_voter(procedure, report);
}

struct votes {
    size_t voters, granted;
    const struct delegate *refused, *promoted;
};

static void count_votes(const struct procedure *procedure, struct votes *votes)
{
    *votes = (struct votes){.voters = procedure->silent_voters};
    list_for_each (node, delegation_list(procedure->delegation)) {
        const struct delegate *delegate = list_entry(node, struct delegate, node);
        bool ours = delegate->is_open && !delegate->has_failed &&
                    delegate->system_identifier == procedure->system_identifier;
        votes->voters += delegate->is_voter;
        if (!ours)
            continue;
        if (!delegate->has_lock)
            votes->refused = delegate;
        if (!delegate->in_recovery && !text_equal(delegate->host, procedure->old))
            votes->promoted = delegate;
        votes->granted += delegate->is_voter && delegate->has_lock;
    }
}

/* The promotion that a former process had asked for has come about while this one was at work. */
static bool is_promoted_already(const struct procedure *procedure, const struct delegate *delegate)
{
    return procedure->is_resumed && delegate && delegate->is_open && !delegate->has_failed &&
           text_equal(delegate->host, procedure->candidate) && !delegate->in_recovery &&
           delegate->system_identifier == procedure->system_identifier &&
           delegate->timeline > procedure->old_timeline;
}

/* A majority is what keeps two processes from promoting at once; in a planned switchover the lock
 * on the primary, which both would need, does. */
static bool judge_majority(struct procedure *procedure, const struct votes *votes)
{
    bool is_needed = procedure->type == EPISODE_AUTOMATIC || procedure->type == EPISODE_MANUAL;
    if (!is_needed || 2 * votes->granted > votes->voters)
        return true;
    procedure_fail(procedure,
                   "%zu of %zu standbys grant the advisory lock: no majority, so another "
                   "pgstage might promote another one",
                   votes->granted, votes->voters);
    return false;
}

static void judge_votes(struct procedure *procedure)
{
    const struct delegate *candidate =
        procedure->candidate ? delegation_find(procedure->delegation, procedure->candidate) : NULL;
    struct votes votes;
    count_votes(procedure, &votes);
    if (votes.promoted && !is_promoted_already(procedure, votes.promoted)) {
        procedure_fail(procedure, "%s takes writes already: somebody else has promoted it",
                       votes.promoted->host);
        return;
    }
    if (votes.refused) {
        procedure_fail(procedure,
                       "%s does not grant the advisory lock: another pgstage is at work there",
                       votes.refused->host);
        return;
    }
    if (candidate && (!candidate->is_open || candidate->has_failed)) {
        procedure_fail(procedure, "failover_user cannot work on %s: %s", candidate->host,
                       candidate->problem);
        return;
    }
    if (!judge_majority(procedure, &votes))
        return;
    procedure_note(procedure, "granted by %zu of %zu standbys", votes.granted, votes.voters);
    procedure_next(procedure);
}

static void on_delegates_open(void *context)
{
    struct procedure *procedure = context;
    procedure_survey(procedure, judge_votes);
}

static void on_surveyed(void *context)
{
    struct procedure *procedure = context;
    procedure->delegated(procedure);
}

void procedure_survey(struct procedure *procedure, void (*surveyed)(struct procedure *procedure))
{
    procedure->delegated = surveyed;
    delegation_survey(procedure->delegation, procedure_deadline_us(procedure), on_surveyed);
}

void step_locks(struct procedure *procedure)
{
    struct procedures *procedures = procedure->procedures;
    procedure->silent_voters = 0;
    procedure->delegation =
        delegation_new(procedures->loop, procedures->resolver, procedure->settings, procedure);
    monitor_each(procedures->monitor, procedure->environment->name, add_delegate, procedure);
    /* dead hosts are not waited for longer than a living one needs */
    delegation_open(procedure->delegation, NULL,
                    procedure_now_us(procedure) + procedure_login_limit_us(procedure),
                    on_delegates_open);
}

/* ---- hold, fence, close ---- */

void step_hold(struct procedure *procedure)
{
    failover_hold(procedure->procedures->failover, procedure->environment->name);
    procedure->held_us = procedure_now_us(procedure);
    procedure_next(procedure);
}

static void on_fenced(struct procedure *procedure, const struct hook_result *result)
{
    if (result->ok)
        procedure_next(procedure);
    else
        procedure_fail(procedure,
                       "fence_command %s; the old primary may still be running, so nothing is "
                       "promoted",
                       result->summary);
}

void step_fence(struct procedure *procedure)
{
    const char *command = procedure->settings->fence_command;
    failover_withdraw(procedure->procedures->failover, procedure->environment->name);
    if (!procedure->old || !command) {
        procedure_note(procedure, "%s",
                       command ? "there was no primary" : "there is no fence_command");
        procedure_next(procedure);
        return;
    }
    procedure_run(procedure, "fence_command", command, on_fenced);
}

static void on_closed(struct procedure *procedure, int value)
{
    (void)value;
    procedure_next(procedure);
}

static void on_host_closed(void *context)
{
    letter_arrive(context, 0);
}

void step_close(struct procedure *procedure)
{
    failover_withdraw(procedure->procedures->failover, procedure->environment->name);
    if (!procedure->old) {
        procedure_next(procedure);
        return;
    }
    plane_close_host(procedure->procedures->plane, procedure->environment->name, procedure->old,
                     REASON_SERVER_FENCED, "failover", on_host_closed,
                     procedure_letter(procedure, on_closed));
}

/* ---- final ---- */

/* What the delegates say is newer than what the monitor knows. */
static void overlay(const struct procedure *procedure, struct scene *scene)
{
    for (size_t i = 0; i < scene->count; i++) {
        const struct delegate *delegate =
            delegation_find(procedure->delegation, scene->hosts[i].host);
        struct guard_host *host = &scene->hosts[i];
        if (!delegate || i == scene->guarded.primary)
            continue;
        host->answers = delegate->is_open && !delegate->has_failed && delegate->has_lock;
        if (!host->answers)
            continue;
        host->role = delegate->in_recovery ? GUARD_ROLE_STANDBY : GUARD_ROLE_WRITER;
        host->system_identifier = delegate->system_identifier;
        host->received_lsn = delegate->received_lsn;
        host->replayed_lsn = delegate->replayed_lsn;
        host->receiver = !delegate->has_receiver ? GUARD_RECEIVER_NONE
                         : delegate->streams     ? GUARD_RECEIVER_STREAMS
                                                 : GUARD_RECEIVER_WAITS;
        host->silent_us = delegate->silent_us;
        host->receiver_timeout_us = delegate->receiver_timeout_us;
        if (delegate->timeline > host->timeline)
            host->timeline = delegate->timeline;
    }
}

static void judge_final(struct procedure *procedure)
{
    struct scene scene;
    struct guard_report report;
    struct votes votes;
    if (procedure_is_lost(procedure))
        return;
    if (is_promoted_already(procedure,
                            delegation_find(procedure->delegation, procedure->candidate))) {
        procedure->promoted = PROMOTED_YES;
        procedure_note(procedure, "%s has been promoted already", procedure->candidate);
        procedure_next(procedure);
        return;
    }
    /* sessions, and their locks with them, may have been lost while fence_command was at work */
    count_votes(procedure, &votes);
    if (!judge_majority(procedure, &votes))
        return;
    procedure_look(procedure, &scene);
    overlay(procedure, &scene);
    guard_judge(&scene.guarded, &report);
    if (!report.allowed) {
        char *refusals = guard_refusals(&report);
        procedure_fail(procedure, "%s", refusals);
        free(refusals);
    } else {
        const char *host = scene.hosts[report.candidate].host;
        if (!text_equal(host, procedure->candidate)) {
            procedure_note(procedure, "%s is further now", host);
            free(procedure->candidate);
            procedure->candidate = text_copy(host);
        }
        procedure->episode->lag_bytes = report.loss_bytes;
        procedure_note(procedure, "%s, %s", host, report.rows[GUARD_HIGHEST].text);
        procedure_next(procedure);
    }
    scene_fini(&scene);
}

void step_final(struct procedure *procedure)
{
    procedure_survey(procedure, judge_final);
}

/* ---- intent ---- */

static void on_saved(struct procedure *procedure, int how)
{
    if (how == FAILOVER_NOT_SAVED) {
        procedure_fail(procedure, "the intent cannot be written to state_dir, and without it "
                                  "nothing is promoted");
        return;
    }
    if (how == FAILOVER_NOT_KEPT)
        procedure_note(procedure, "there is no state_dir: a restart would not know");
    procedure_next(procedure);
}

void procedure_disk_is_late(struct procedure *procedure)
{
    failover_save_is_late(procedure->procedures->failover);
    procedure_note(procedure, "state_dir does not answer");
}

static void on_state_saved(void *context, enum failover_saved how)
{
    letter_arrive(context, (int)how);
}

void step_intent(struct procedure *procedure)
{
    struct failover *failover = procedure->procedures->failover;
    const char *environment = procedure->environment->name;
    if (procedure->old)
        failover_fence(failover, environment, procedure->old, procedure->by);
    failover_intent(failover, environment, episode_type_word(procedure->type), procedure->old,
                    procedure->candidate, procedure->old_timeline);
    failover_save(failover, on_state_saved, procedure_letter(procedure, on_saved));
    procedure_poll(procedure, FAILOVER_PATIENCE_US, procedure_disk_is_late);
}

static void on_unsaved(struct procedure *procedure, int how)
{
    (void)how;
    procedure_undone(procedure);
}

static void on_unsaving_late(struct procedure *procedure)
{
    procedure_disk_is_late(procedure);
    procedure_undone(procedure);
}

void undo_intent(struct procedure *procedure)
{
    struct failover *failover = procedure->procedures->failover;
    const char *environment = procedure->environment->name;
    if (procedure->plan == plan_switch) /* the old primary is stopped still: see step_mark */
        failover_intent(failover, environment, INTENT_DEMOTE, procedure->old, procedure->candidate,
                        procedure->old_timeline);
    else
        failover_intent_clear(failover, environment);
    if (procedure->old)
        failover_unfence(failover, environment, procedure->old);
    failover_save(failover, on_state_saved, procedure_letter(procedure, on_unsaved));
    procedure_poll(procedure, FAILOVER_PATIENCE_US, on_unsaving_late);
}

/* ---- promote ---- */

static void wait_for_writer(struct procedure *procedure)
{
    if (procedure_sees_writer(procedure, procedure->candidate, procedure->step_began_us)) {
        procedure_next(procedure);
        return;
    }
    monitor_probe_now(procedure->procedures->monitor, procedure->environment->name,
                      procedure->candidate);
    procedure_poll(procedure, PROBE_US, wait_for_writer);
}

static const char recovery_sql[] = "SELECT pg_catalog.pg_is_in_recovery()";

static void ask_recovery(struct procedure *procedure);

static void on_recovery(void *context, struct delegate *delegate, const struct probe_result *result)
{
    struct procedure *procedure = context;
    (void)delegate;
    procedure->promoted = result->error == PROBE_FINE && PQntuples(result->rows) == 1 &&
                                  PQgetvalue(result->rows, 0, 0)[0] == 'f'
                              ? PROMOTED_YES
                              : PROMOTED_UNKNOWN;
}

static void after_recovery(void *context)
{
    struct procedure *procedure = context;
    const struct delegate *delegate = delegation_find(procedure->delegation, procedure->candidate);
    if (procedure->promoted == PROMOTED_YES)
        procedure_next(procedure);
    else if (delegate->is_open)
        procedure_poll(procedure, LOOK_US, ask_recovery);
    else
        wait_for_writer(procedure); /* whether it happens, the monitor sees */
}

/* pg_promote's own waiting looks ten times a second only. */
static void ask_recovery(struct procedure *procedure)
{
    delegation_ask(procedure->delegation, procedure->candidate, recovery_sql,
                   procedure_now_us(procedure) + ANSWER_LIMIT_US, on_recovery, after_recovery);
}

static void on_promoted(void *context, struct delegate *delegate, const struct probe_result *result)
{
    struct procedure *procedure = context;
    if (result->error == PROBE_FINE) {
        procedure->promoted = PROMOTED_YES;
    } else if (result->error == PROBE_SERVER) {
        /* refused before anything was done: a missing grant, or no standby any more */
        procedure->promoted = PROMOTED_NO;
        procedure_note(procedure, "%s", delegate->problem);
    } else {
        procedure->promoted = PROMOTED_UNKNOWN;
        procedure_note(procedure, "pg_promote: %s", delegate->problem);
    }
}

static void refuse_promotion(struct procedure *procedure)
{
    procedure->is_past_return = false;
    procedure_fail(procedure, "%s refuses pg_promote: %s", procedure->candidate,
                   procedure->note ? procedure->note : "");
}

static void after_refusal(void *context)
{
    struct procedure *procedure = context;
    if (procedure->promoted == PROMOTED_YES)
        procedure_next(procedure);
    else
        refuse_promotion(procedure);
}

static void after_promoted(void *context)
{
    struct procedure *procedure = context;
    switch (procedure->promoted) {
    case PROMOTED_YES:
        ask_recovery(procedure);
        break;
    case PROMOTED_NO:
        if (procedure->is_resumed) /* it may be none any more because a former process had asked */
            delegation_ask(procedure->delegation, procedure->candidate, recovery_sql,
                           procedure_now_us(procedure) + ANSWER_LIMIT_US, on_recovery,
                           after_refusal);
        else
            refuse_promotion(procedure);
        break;
    case PROMOTED_UNKNOWN:
        wait_for_writer(procedure);
        break;
    }
}

void step_promote(struct procedure *procedure)
{
    const struct delegate *delegate = delegation_find(procedure->delegation, procedure->candidate);
    if (procedure->promoted == PROMOTED_YES) { /* as a former process had asked */
        wait_for_writer(procedure);
        return;
    }
    if (!delegate || !delegate->is_open) {
        procedure->is_past_return = false; /* it was not asked for */
        procedure_fail(procedure, "the session on %s is lost: %s", procedure->candidate,
                       delegate ? delegate->problem : "");
        return;
    }
    procedure->promoted = PROMOTED_UNKNOWN;
    delegation_ask(procedure->delegation, procedure->candidate,
                   "SELECT pg_catalog.pg_promote(false)",
                   procedure_now_us(procedure) + ANSWER_LIMIT_US, on_promoted, after_promoted);
}

/* ---- prove ---- */

static const char prove_sql[] =
    "BEGIN READ WRITE; SET LOCAL synchronous_commit = local;"
    " SELECT pg_catalog.pg_logical_emit_message(true, 'pgstage', 'failover'); COMMIT";

/* Whose commits would wait for whom? */
static const char facts_sql[] =
    "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()),"
    " pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8),"
    " pg_catalog.current_setting('synchronous_standby_names'),"
    " pg_catalog.current_setting('default_transaction_read_only'),"
    " (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication"
    " WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum'))";

static void on_facts(void *context, struct delegate *delegate, const struct probe_result *result)
{
    struct procedure *procedure = context;
    const PGresult *rows = result->rows;
    (void)delegate;
    if (result->error != PROBE_FINE || PQntuples(rows) != 1 || PQnfields(rows) != 5)
        return;
    uint64_t identifier = strtoull(PQgetvalue(rows, 0, 0), NULL, 10);
    if (identifier == procedure->system_identifier)
        procedure->new_timeline = (uint32_t)strtoul(PQgetvalue(rows, 0, 1), NULL, 16);
    const char *names = PQgetvalue(rows, 0, 2);
    if (*names && strcmp(PQgetvalue(rows, 0, 4), "0") == 0) {
        procedure_note(procedure,
                       "synchronous_standby_names is '%s' and none of these streams yet: commits "
                       "wait until one does",
                       names);
        log_warning("failover: %s: %s: synchronous_standby_names is '%s' and none of these "
                    "streams yet: commits wait until one does, or the setting is changed",
                    procedure->environment->name, procedure->candidate, names);
    }
    if (strcmp(PQgetvalue(rows, 0, 3), "on") == 0)
        procedure_note(procedure, "default_transaction_read_only is on there");
}

static void on_facts_over(void *context)
{
    struct procedure *procedure = context;
    const struct delegate *delegate = delegation_find(procedure->delegation, procedure->candidate);
    if (procedure->new_timeline == 0)
        procedure_fail(procedure,
                       "%s was promoted and takes writes, but what it is now cannot be "
                       "read: %s",
                       procedure->candidate,
                       delegate && delegate->problem[0] ? delegate->problem
                                                        : "another system identifier");
    else
        procedure_next(procedure);
}

static void on_proved(void *context)
{
    struct procedure *procedure = context;
    const struct delegate *delegate = delegation_find(procedure->delegation, procedure->candidate);
    if (!delegate->is_open || delegate->has_failed)
        procedure_fail(procedure, "%s was promoted, but a write there was not committed: %s",
                       procedure->candidate, delegate->problem);
    else
        delegation_ask(procedure->delegation, procedure->candidate, facts_sql,
                       procedure_deadline_us(procedure), on_facts, on_facts_over);
}

static void on_candidate_open(void *context)
{
    struct procedure *procedure = context;
    const struct delegate *delegate = delegation_find(procedure->delegation, procedure->candidate);
    if (!delegate->is_open)
        procedure_fail(procedure, "%s was promoted, but failover_user cannot log in any more: %s",
                       procedure->candidate, delegate->problem);
    else
        delegation_ask(procedure->delegation, procedure->candidate, prove_sql,
                       procedure_deadline_us(procedure), NULL, on_proved);
}

/* Clients wait: nobody else that was lost is waited for. */
void step_prove(struct procedure *procedure)
{
    delegation_open(procedure->delegation, procedure->candidate,
                    procedure_now_us(procedure) + procedure_login_limit_us(procedure),
                    on_candidate_open);
}

/* ---- accept, release ---- */

static void on_accepted(struct procedure *procedure, int how)
{
    if (how == FAILOVER_NOT_SAVED)
        procedure_note(procedure, "state_dir cannot be written");
    procedure_next(procedure);
}

/* An outage of the disk is no reason to keep clients from a primary that is there. */
static void on_accepting_late(struct procedure *procedure)
{
    procedure_disk_is_late(procedure);
    procedure_next(procedure);
}

void step_accept(struct procedure *procedure)
{
    struct failover *failover = procedure->procedures->failover;
    const char *environment = procedure->environment->name;
    failover_accept(failover, environment, procedure->candidate, procedure->system_identifier,
                    procedure->new_timeline, procedure->old_streams);
    if (procedure->type == EPISODE_AUTOMATIC)
        failover_note_automatic(failover, environment);
    procedure_note(procedure, "timeline %" PRIu32, procedure->new_timeline);
    failover_save(failover, on_state_saved, procedure_letter(procedure, on_accepted));
    procedure_poll(procedure, FAILOVER_PATIENCE_US, on_accepting_late);
}

void step_release(struct procedure *procedure)
{
    uint64_t now_us = procedure_now_us(procedure);
    struct episode *episode = procedure->episode;
    procedure_count_clients(procedure); /* later they are another trouble's */
    failover_release(procedure->procedures->failover, procedure->environment->name);
    episode->hold_ms = (int64_t)((now_us - procedure->held_us) / CLOCK_MS);
    episode->total_ms = (int64_t)((now_us - procedure->began_us) / CLOCK_MS) +
                        (episode->detection_ms > 0 ? episode->detection_ms : 0);
    procedure_next(procedure);
}
