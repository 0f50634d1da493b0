/*
 * procedure.c: takes one procedure through its steps, back again when one of them fails, and to its
 * end.
 *
 *   FORWARD ── step ─► step ─► … point of no return … ─► step ─► OVER (done)
 *      │ a step fails, its deadline passes, ABORT FAILOVER
 *      ├── past the point of no return ─────────────────────────► OVER (failed, and says where)
 *      ▼
 *   HALTING ── the command that runs is ended
 *      ▼
 *   BACK ───── the failed step's undo, then those before it ────► OVER (failed, aborted)
 *
 * Every move is made by the loop, never inside a step's own call, so steps may end at once. What
 * cannot be taken back (connections that close, a file that is written) comes by letter; one that
 * arrives when nobody waits any more is put aside.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/health/monitor.h"
#include "pgstage/session/plane.h"
#include "procedure_inside.h"

/* How long one step's undo may take, beyond the command that it runs. */
#define BACK_US (60 * CLOCK_SECOND)

/* ---- letters ---- */

struct letter {
    struct list_node node; /* in procedure->letters */
    struct procedure *procedure;
    unsigned serial;
    void (*arrived)(struct procedure *procedure, int value);
};

static void release_if_done(struct procedure *procedure);

struct letter *procedure_letter(struct procedure *procedure,
                                void (*arrived)(struct procedure *procedure, int value))
{
    struct letter *letter = memory_new(sizeof *letter);
    letter->procedure = procedure;
    letter->serial = procedure->serial;
    letter->arrived = arrived;
    list_push_back(&procedure->letters, &letter->node);
    return letter;
}

void letter_arrive(struct letter *letter, int value)
{
    struct procedure *procedure = letter->procedure;
    bool wanted = letter->serial == procedure->serial && procedure->state != PROCEDURE_OVER;
    void (*arrived)(struct procedure *, int) = letter->arrived;
    list_remove(&procedure->letters, &letter->node);
    free(letter);
    if (wanted && arrived)
        arrived(procedure, value);
    else
        release_if_done(procedure);
}

/* ---- small things ---- */

uint64_t procedure_now_us(const struct procedure *procedure)
{
    return loop_now_us(procedure->procedures->loop);
}

uint64_t procedure_deadline_us(const struct procedure *procedure)
{
    return procedure->deadline.due_us ? procedure->deadline.due_us
                                      : procedure_now_us(procedure) + CLOCK_SECOND;
}

const struct host_report *procedure_report(const struct procedure *procedure, const char *host)
{
    return host ? monitor_find(procedure->procedures->monitor, procedure->environment->name, host)
                : NULL;
}

bool procedure_sees_writer(const struct procedure *procedure, const char *host, uint64_t since_us)
{
    const struct host_report *report = procedure_report(procedure, host);
    return report && report->role == ROLE_PRIMARY && report->error == PROBE_FINE &&
           report->answered_us > since_us;
}

void procedure_look(const struct procedure *procedure, struct scene *scene)
{
    struct procedures *procedures = procedure->procedures;
    const char *name = procedure->environment->name;
    struct watch *watch = watch_get(procedures, name);
    memory_refresh(&watch->memory, procedures->monitor, name, procedure_now_us(procedure));
    scene_init(scene, procedures->monitor, &watch->memory, procedure->environment,
               procedure->settings, failover_situation(procedures->failover, name),
               procedure_now_us(procedure));
    /* what was checked before the intent was written cannot be checked after a restart */
    scene->guarded.type = procedure->is_resumed ? EPISODE_EMERGENCY : procedure->type;
    scene->guarded.is_dr = procedure->is_dr;
    scene->guarded.leaves_site = procedure->leaves_site;
    if (procedure->is_chosen)
        scene->guarded.wanted = scene_find(scene, procedure->candidate);
}

static void tell(struct procedure *procedure, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A line for the log and for those who wait. */
static void tell(struct procedure *procedure, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = text_vprint(format, arguments);
    va_end(arguments);
    procedure_log(procedure, "%s", text);
    list_for_each (node, &procedure->askers) {
        struct asker *asker = list_entry(node, struct asker, node);
        if (asker->progress)
            asker->progress(asker->context, text);
    }
    free(text);
}

void procedure_note(struct procedure *procedure, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = text_vprint(format, arguments), *before = procedure->note;
    va_end(arguments);
    procedure->note = before ? text_print("%s; %s", before, text) : text_copy(text);
    episode_note(procedure->episode, text);
    free(before);
    free(text);
}

void procedure_trouble(struct procedure *procedure, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = text_vprint(format, arguments);
    va_end(arguments);
    buffer_print(&procedure->troubles, "; on the way back: %s", text);
    tell(procedure, "%s", text);
    free(text);
}

static void on_poll(struct loop *loop, struct timer *timer)
{
    struct procedure *procedure = list_entry(timer, struct procedure, poll);
    (void)loop;
    if (procedure->polled)
        procedure->polled(procedure);
}

void procedure_poll(struct procedure *procedure, uint64_t us,
                    void (*polled)(struct procedure *procedure))
{
    procedure->polled = polled;
    timer_set(procedure->procedures->loop, &procedure->poll, procedure_now_us(procedure) + us);
}

/* Nothing that was begun before is listened to any more. */
static void let_go(struct procedure *procedure)
{
    procedure->serial++;
    procedure->polled = NULL;
    timer_clear(&procedure->poll);
    timer_clear(&procedure->deadline);
    delegation_hush(procedure->delegation);
    probe_close(procedure->visitor);
    procedure->visitor = NULL;
}

static void run_later(struct loop_task *task)
{
    struct procedure *procedure = list_entry(task, struct procedure, task);
    procedure->later(procedure);
}

static void later(struct procedure *procedure, void (*run)(struct procedure *procedure))
{
    procedure->later = run;
    loop_defer(procedure->procedures->loop, &procedure->task);
}

/* ---- the end ---- */

static void release(void *object)
{
    struct procedure *procedure = object;
    snapshot_unref(procedure->snapshot);
    buffer_fini(&procedure->troubles);
    rows_fini(&procedure->rows);
    if (procedure->conninfo)
        text_wipe(procedure->conninfo, strlen(procedure->conninfo));
    free(procedure->conninfo);
    free(procedure->slot);
    free(procedure->by);
    free(procedure->old);
    free(procedure->candidate);
    free(procedure->failure);
    free(procedure->note);
    free(procedure);
}

/* When it is over, and the last letter has come. */
static void release_if_done(struct procedure *procedure)
{
    struct list *leftovers = &procedure->procedures->leftovers;
    if (procedure->state != PROCEDURE_OVER)
        return;
    if (list_node_is_listed(&procedure->node))
        list_remove(leftovers, &procedure->node);
    if (list_is_empty(&procedure->letters))
        loop_release(procedure->procedures->loop, procedure, release);
    else
        list_push_back(leftovers, &procedure->node);
}

void procedure_bury(struct procedure *procedure)
{
    struct list_node *node;
    while ((node = list_pop_front(&procedure->letters)))
        free(list_entry(node, struct letter, node));
    release(procedure);
}

static void answer_all(struct procedure *procedure, enum episode_result result, const char *text)
{
    struct list_node *node;
    char *detail = NULL;
    if (result != EPISODE_DONE) {
        struct buffer steps = {0};
        for (size_t i = 0; i < procedure->rows.count; i++) {
            const struct procedure_row *row = &procedure->rows.items[i];
            buffer_print(&steps, "%s%s %s: %s%s%s", i ? "\n" : "", row->item, row->name,
                         row->result, *row->detail ? ", " : "", row->detail);
        }
        buffer_put_u8(&steps, '\0');
        detail = (char *)steps.data;
    }
    while ((node = list_pop_front(&procedure->askers))) {
        struct asker *asker = list_entry(node, struct asker, node);
        bool ok = result == EPISODE_DONE ||
                  (asker->aborts && result == EPISODE_ABORTED && procedure->troubles.length == 0);
        struct procedure_answer answer = {
            .ok = ok,
            .text = text,
            .detail = detail,
            .hint = "SHOW FAILOVERS has what was done; SHOW HOSTS has how the hosts are.",
            .rows = &procedure->rows,
        };
        (void)text_fit(answer.sqlstate, sizeof answer.sqlstate,
                       result == EPISODE_ABORTED ? "57014" : "55000");
        asker->answered(asker->context, &answer);
        free(asker);
    }
    free(detail);
}

void procedure_count_clients(struct procedure *procedure)
{
    struct gate_counts counts;
    plane_gate_counts(procedure->procedures->plane, procedure->environment->name, &counts);
    procedure->episode->clients_held = (int64_t)counts.queued;
    procedure->episode->clients_errored = (int64_t)counts.errored;
}

static void fill_episode(struct procedure *procedure)
{
    struct episode *episode = procedure->episode;
    uint64_t now_us = procedure_now_us(procedure);
    episode_step(episode, NULL, now_us);
    if (episode->clients_held < 0)
        procedure_count_clients(procedure);
    if (procedure->held_us && episode->hold_ms < 0)
        episode->hold_ms = (int64_t)((now_us - procedure->held_us) / CLOCK_MS);
    if (episode->total_ms < 0)
        episode->total_ms = (int64_t)((now_us - procedure->began_us) / CLOCK_MS);
    if (procedure->candidate && !text_equal(episode->to, procedure->candidate)) {
        free(episode->to);
        episode->to = text_copy(procedure->candidate);
    }
}

/* What a former process has fenced is not given back by the one that took it up. */
static void note_what_stays(struct procedure *procedure)
{
    const struct situation *situation =
        failover_situation(procedure->procedures->failover, procedure->environment->name);
    if (procedure->is_resumed && procedure->old && situation &&
        situation_fence(situation, procedure->old))
        buffer_print(&procedure->troubles, "; %s stays fenced (UNFENCE)", procedure->old);
}

static void finish(struct procedure *procedure, enum episode_result result)
{
    struct procedures *procedures = procedure->procedures;
    char *text = NULL;
    let_go(procedure);
    procedure->state = PROCEDURE_OVER;
    if (result != EPISODE_DONE) {
        note_what_stays(procedure);
        buffer_put_u8(&procedure->troubles, '\0');
        text = text_print("%s%s", procedure->failure, (const char *)procedure->troubles.data);
        procedure->troubles.length--;
    }
    fill_episode(procedure);
    tell(procedure, "failover (%s) %s%s%s", episode_type_word(procedure->type),
         episode_result_word(result), text ? ": " : "", text ? text : "");
    list_remove(&procedures->running, &procedure->node);
    delegation_free(procedure->delegation);
    procedure->delegation = NULL;
    monitor_hurry(procedures->monitor, procedure->environment->name, false);
    automatic_note_end(procedures, procedure, result);
    struct episode *episode = procedure->episode;
    procedure->episode = NULL;
    failover_end(procedures->failover, episode, result, text);
    answer_all(procedure, result, text);
    timer_detach(procedures->loop, &procedure->poll);
    timer_detach(procedures->loop, &procedure->deadline);
    loop_undefer(procedures->loop, &procedure->task);
    free(text);
    release_if_done(procedure);
}

void procedure_drop(struct procedure *procedure)
{
    let_go(procedure);
    procedure->state = PROCEDURE_OVER;
    procedure->failure =
        procedure->failure ? procedure->failure : text_copy("pgstage is shutting down");
    hook_cancel(procedure->hook);
    procedure->hook = NULL;
    list_remove(&procedure->procedures->running, &procedure->node);
    delegation_free(procedure->delegation);
    answer_all(procedure, EPISODE_BROKEN, "pgstage is shutting down");
    timer_detach(procedure->procedures->loop, &procedure->poll);
    timer_detach(procedure->procedures->loop, &procedure->deadline);
    loop_undefer(procedure->procedures->loop, &procedure->task);
    /* The episode is failover's: with the claim unended, the next start finds it broken. */
    release_if_done(procedure);
}

/* ---- forward ---- */

static void end_step(struct procedure *procedure, const char *result)
{
    uint64_t now_us = procedure_now_us(procedure);
    rows_add(&procedure->rows, "step", procedure->plan[procedure->at].name, result,
             (int64_t)(now_us - procedure->step_began_us), "%s",
             procedure->note ? procedure->note : "");
    free(procedure->note);
    procedure->note = NULL;
}

static void begin_step(struct procedure *procedure)
{
    const struct step *step = &procedure->plan[procedure->at];
    uint64_t now_us = procedure_now_us(procedure);
    if (!step->name) {
        finish(procedure, EPISODE_DONE);
        return;
    }
    procedure->step_began_us = now_us;
    episode_step(procedure->episode, step->name, now_us);
    tell(procedure, "%s: %s", step->name, step->help);
    timer_set(procedure->procedures->loop, &procedure->deadline,
              now_us + step->limit_us(procedure));
    if (step->is_no_return)
        procedure->is_past_return = true;
    step->begin(procedure);
}

bool procedure_is_lost(struct procedure *procedure)
{
    const char *environment = procedure->environment->name;
    if (procedure->is_past_return ||
        failover_situation(procedure->procedures->failover, environment))
        return false;
    procedure_fail(procedure, "%s is no environment of the configuration any more", environment);
    return true;
}

void procedure_next(struct procedure *procedure)
{
    if (procedure->state != PROCEDURE_FORWARD || procedure_is_lost(procedure))
        return;
    let_go(procedure);
    end_step(procedure, "done");
    procedure->at++;
    later(procedure, begin_step);
}

/* ---- back ---- */

static void undo_step(struct procedure *procedure)
{
    const struct step *step = &procedure->plan[procedure->at];
    if (step->undo) {
        procedure->step_began_us = procedure_now_us(procedure);
        tell(procedure, "way back: %s", step->back);
        timer_set(procedure->procedures->loop, &procedure->deadline,
                  procedure_now_us(procedure) + BACK_US +
                      procedure->settings->failover_command_timeout_us);
        step->undo(procedure);
        return;
    }
    procedure_undone(procedure);
}

void procedure_undone(struct procedure *procedure)
{
    const struct step *step = &procedure->plan[procedure->at];
    if (procedure->state != PROCEDURE_BACK)
        return;
    let_go(procedure);
    if (step->undo) {
        rows_add(&procedure->rows, "way back", step->name, "done",
                 (int64_t)(procedure_now_us(procedure) - procedure->step_began_us), "%s",
                 procedure->note ? procedure->note : step->back);
        free(procedure->note);
        procedure->note = NULL;
    }
    if (procedure->at == 0) {
        finish(procedure, procedure->is_aborted ? EPISODE_ABORTED : EPISODE_FAILED);
        return;
    }
    procedure->at--;
    later(procedure, undo_step);
}

static void turn_back(struct procedure *procedure)
{
    end_step(procedure, procedure->is_aborted ? "aborted" : "failed");
    if (procedure->is_past_return) {
        finish(procedure, EPISODE_FAILED);
        return;
    }
    procedure->state = PROCEDURE_BACK;
    episode_step(procedure->episode, "way back", procedure_now_us(procedure));
    later(procedure, undo_step);
}

static void fail(struct procedure *procedure, char *text)
{
    if (procedure->state != PROCEDURE_FORWARD) {
        free(text);
        return;
    }
    procedure->failure = text;
    tell(procedure, "%s: %s", procedure->plan[procedure->at].name, text);
    let_go(procedure);
    procedure->state = PROCEDURE_HALTING;
    if (procedure->hook)
        hook_end(procedure->hook);
    else
        later(procedure, turn_back);
}

void procedure_fail(struct procedure *procedure, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = text_vprint(format, arguments);
    va_end(arguments);
    const struct step *step = &procedure->plan[procedure->at];
    char *whole = text_print("%s: %s", step->name ? step->name : "end", text);
    free(text);
    fail(procedure, whole);
}

bool procedure_abort(struct procedure *procedure, const char *by)
{
    if (procedure->state != PROCEDURE_FORWARD || procedure->is_past_return)
        return false;
    procedure->is_aborted = true;
    fail(procedure,
         text_print("aborted by %s during the step %s", by,
                    procedure->plan[procedure->at].name ? procedure->plan[procedure->at].name
                                                        : "end"));
    return true;
}

static void on_deadline(struct loop *loop, struct timer *timer)
{
    struct procedure *procedure = list_entry(timer, struct procedure, deadline);
    const struct step *step = &procedure->plan[procedure->at];
    (void)loop;
    if (procedure->state == PROCEDURE_BACK) {
        procedure_trouble(procedure, "%s was not over in time", step->back);
        procedure_undone(procedure);
    } else if (procedure->state == PROCEDURE_FORWARD) {
        procedure_fail(procedure, "not over within %.1f s%s%s",
                       (double)step->limit_us(procedure) / 1e6, procedure->note ? ": " : "",
                       procedure->note ? procedure->note : "");
    }
}

/* ---- commands ---- */

static void on_hook(void *context, const struct hook_result *result)
{
    struct procedure *procedure = context;
    procedure->hook = NULL;
    if (procedure->state == PROCEDURE_HALTING)
        later(procedure, turn_back);
    else
        procedure->hooked(procedure, result);
}

void procedure_run(struct procedure *procedure, const char *name, const char *command,
                   void (*hooked)(struct procedure *procedure, const struct hook_result *result))
{
    char *label = text_print("failover: %s: %s", procedure->environment->name, name);
    const struct command_facts facts = {
        .procedures = procedure->procedures,
        .command = name,
        .environment = procedure->environment->name,
        .type = procedure->type,
        .trigger = procedure->by,
        .old = procedure->old,
        .new = procedure->candidate,
    };
    struct command_variables variables;
    command_variables_init(&variables, &facts);
    procedure->hooked = hooked;
    procedure->hook =
        hook_start(procedure->procedures->loop, label, command, variables.items, variables.count,
                   procedure_now_us(procedure) + procedure->settings->failover_command_timeout_us,
                   on_hook, procedure);
    command_variables_fini(&variables);
    free(label);
}

/* ---- the beginning ---- */

static void set_up(struct procedure *procedure, struct procedures *procedures,
                   const struct procedure_spec *spec)
{
    const struct situation *situation = failover_situation(procedures->failover, spec->environment);
    procedure->procedures = procedures;
    procedure->snapshot = snapshot_ref(plane_snapshot(procedures->plane));
    procedure->environment = snapshot_find_environment(procedure->snapshot, spec->environment);
    procedure->settings =
        snapshot_environment_settings(procedure->snapshot, procedure->environment);
    procedure->type = spec->type;
    procedure->is_dr = spec->is_dr;
    procedure->leaves_site = spec->leaves_site;
    procedure->is_chosen = spec->is_chosen;
    procedure->is_resumed = spec->is_resumed;
    procedure->by = text_copy(spec->by);
    procedure->old = text_copy(situation->accepted);
    procedure->candidate = text_copy(spec->candidate);
    procedure->system_identifier = situation->system_identifier;
    procedure->old_timeline = situation->timeline;
    procedure->plan =
        spec->plan ? spec->plan
                   : plan_of(spec->type, procedure->settings->failover_mode == FAILOVER_PROMOTE);
    procedure->began_us = loop_now_us(procedures->loop);
    procedure->deadline.fire = on_deadline;
    procedure->poll.fire = on_poll;
    procedure->task.run = run_later;
    list_init(&procedure->askers);
    list_init(&procedure->letters);
}

struct procedure *procedure_start(struct procedures *procedures, const struct procedure_spec *spec,
                                  char *problem, size_t size)
{
    const struct situation *situation = failover_situation(procedures->failover, spec->environment);
    if (!situation) {
        (void)text_fit(problem, size, "the environment is not watched");
        return NULL;
    }
    struct episode *episode =
        failover_claim(procedures->failover, spec->environment, spec->type, situation->accepted,
                       spec->candidate, spec->by, problem, size);
    if (!episode)
        return NULL;
    struct procedure *procedure = memory_new(sizeof *procedure);
    set_up(procedure, procedures, spec);
    procedure->episode = episode;
    episode->lag_bytes = spec->loss_bytes;
    if (spec->detection_ms != UINT64_MAX)
        episode->detection_ms = (int64_t)spec->detection_ms;
    list_push_back(&procedures->running, &procedure->node);
    monitor_hurry(procedures->monitor, spec->environment, true);
    tell(procedure, "failover (%s) begins: %s to %s, %s", episode_type_word(spec->type),
         procedure->old ? procedure->old : "no primary",
         procedure->candidate ? procedure->candidate : "whatever is promoted", spec->by);
    later(procedure, begin_step);
    return procedure;
}
