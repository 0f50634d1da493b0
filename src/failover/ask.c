/*
 * ask.c: what operators ask for: FAILOVER, FAILBACK, ABORT FAILOVER; and the beginning and end of
 * everything.
 *
 *   every host is probed ─► the host that is named, or the best one ─► the guards ─► refused, shown
 *   (DRY RUN) or begun
 *
 * Without TO the candidates are the hosts of the primary's own site; only when none of them can be
 * used at all, and it is no planned switchover, those of dr_hosts.
 */
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/health/monitor.h"
#include "pgstage/session/plane.h"
#include "procedure_inside.h"

/* How long a question waits for fresh answers of all hosts, and how often it looks. */
#define FRESH_LIMIT_US (1500 * CLOCK_MS)
#define FRESH_LOOK_US (10 * CLOCK_MS)

/* ---- answers that come at once come a little later ---- */

struct answer_later {
    struct list_node node;
    struct loop_task task;
    struct procedures *procedures;
    procedure_answered *answered;
    void *context;
    bool ok;
    const char *sqlstate, *hint; /* constant */
    char *text, *detail;
    struct procedure_rows rows;
};

static void answer_free(struct answer_later *answer)
{
    list_remove(&answer->procedures->later, &answer->node);
    loop_undefer(answer->procedures->loop, &answer->task);
    rows_fini(&answer->rows);
    free(answer->text);
    free(answer->detail);
    free(answer);
}

static void deliver(struct loop_task *task)
{
    struct answer_later *later = list_entry(task, struct answer_later, task);
    struct procedure_answer answer = {
        .ok = later->ok,
        .text = later->text,
        .detail = later->detail,
        .hint = later->hint,
        .rows = &later->rows,
    };
    (void)text_fit(answer.sqlstate, sizeof answer.sqlstate, later->sqlstate);
    if (later->answered)
        later->answered(later->context, &answer);
    answer_free(later);
}

static struct answer_later *answer_new(struct procedures *procedures, procedure_answered *answered,
                                       void *context)
{
    struct answer_later *later = memory_new(sizeof *later);
    later->procedures = procedures;
    later->answered = answered;
    later->context = context;
    later->ok = true;
    later->sqlstate = "00000";
    later->task.run = deliver;
    list_push_back(&procedures->later, &later->node);
    loop_defer(procedures->loop, &later->task);
    return later;
}

/* Takes over both texts. */
static void refuse(struct procedures *procedures, procedure_answered *answered, void *context,
                   const char *sqlstate, char *text, char *detail, const char *hint)
{
    struct answer_later *later = answer_new(procedures, answered, context);
    later->ok = false;
    later->sqlstate = sqlstate;
    later->text = text;
    later->detail = detail;
    later->hint = hint;
}

/* ---- which host ---- */

struct asking {
    struct procedures *procedures;
    const struct procedure_request *request;
    const struct situation *situation;
    struct scene scene;
    struct guard_report report;
    char *problem; /* why there is no candidate at all; NULL: the guards say */
};

static void judge(struct asking *asking, bool is_dr, size_t wanted)
{
    struct guard_case *guarded = &asking->scene.guarded;
    guarded->type = asking->request->type;
    guarded->is_dr = is_dr;
    guarded->leaves_site = is_dr && !asking->situation->dr_in_force;
    guarded->wanted = wanted;
    guard_judge(guarded, &asking->report);
}

struct former {
    const char *environment, *accepted;
    const char *from; /* the episodes' */
};

static void find_former(void *argument, const struct episode *episode)
{
    struct former *former = argument;
    if (episode->result == EPISODE_DONE && text_equal(episode->environment, former->environment) &&
        text_equal(episode->to, former->accepted))
        former->from = episode->from;
}

/* FAILBACK: from the DR site to the best host of `hosts`; else to the primary before. */
static void choose_back(struct asking *asking)
{
    struct former former = {asking->request->environment, asking->situation->accepted, NULL};
    if (asking->situation->dr_in_force) {
        judge(asking, false, GUARD_NO_HOST);
        return;
    }
    failover_each_episode(asking->procedures->failover, find_former, &former);
    size_t wanted = scene_find(&asking->scene, former.from);
    if (!former.from)
        asking->problem =
            text_print("there was no failover to %s to go back from; FAILOVER … TO … PLANNED "
                       "names a host",
                       asking->situation->accepted ? asking->situation->accepted : "a host");
    else if (wanted == GUARD_NO_HOST)
        asking->problem =
            text_print("the former primary %s is no host of the environment any more", former.from);
    else
        judge(asking, asking->scene.hosts[wanted].is_dr, wanted);
}

static bool has_dr_hosts(const struct scene *scene)
{
    for (size_t i = 0; i < scene->count; i++) {
        if (scene->hosts[i].is_dr)
            return true;
    }
    return false;
}

static void choose(struct asking *asking, const char *key)
{
    bool at_dr = asking->situation->dr_in_force;
    if (key) {
        size_t wanted = scene_find(&asking->scene, key);
        if (wanted == GUARD_NO_HOST)
            asking->problem = text_print("%s is not monitored", key);
        else
            judge(asking, asking->scene.hosts[wanted].is_dr, wanted);
    } else if (asking->request->failback) {
        choose_back(asking);
    } else {
        judge(asking, at_dr, GUARD_NO_HOST);
        bool nobody = asking->report.candidate == GUARD_NO_HOST ||
                      asking->report.rows[GUARD_CANDIDATE].verdict == GUARD_REFUSES;
        if (nobody && !at_dr && has_dr_hosts(&asking->scene) &&
            asking->request->type != EPISODE_PLANNED)
            judge(asking, true, GUARD_NO_HOST);
    }
}

/* ---- what becomes of it ---- */

static char *trigger_of(const struct procedure_request *request)
{
    return text_print("%s by %s", request->failback ? "FAILBACK" : "FAILOVER", request->by);
}

static struct procedure_spec spec_of(const struct asking *asking, const char *trigger)
{
    const struct guard_case *guarded = &asking->scene.guarded;
    size_t candidate = asking->report.candidate;
    return (struct procedure_spec){
        .environment = asking->request->environment,
        .type = asking->request->type,
        .is_dr = guarded->is_dr,
        .leaves_site = guarded->leaves_site,
        .is_chosen = asking->request->type == EPISODE_PLANNED || asking->request->to,
        .candidate = candidate == GUARD_NO_HOST ? NULL : asking->scene.hosts[candidate].host,
        .by = trigger,
        .detection_ms = UINT64_MAX,
        .loss_bytes = asking->request->type == EPISODE_PLANNED ? 0 : asking->report.loss_bytes,
    };
}

static void show(struct asking *asking, procedure_answered *answered, void *context)
{
    struct procedures *procedures = asking->procedures;
    struct snapshot *snapshot = plane_snapshot(procedures->plane);
    const struct environment_config *environment =
        snapshot_find_environment(snapshot, asking->request->environment);
    const struct settings *settings = snapshot_environment_settings(snapshot, environment);
    const struct procedure imagined = {
        .procedures = procedures,
        .environment = environment,
        .settings = settings,
        .type = asking->request->type,
        .old = asking->situation->accepted,
    };
    struct answer_later *later = answer_new(procedures, answered, context);
    plan_print(&later->rows,
               plan_of(asking->request->type, settings->failover_mode == FAILOVER_PROMOTE),
               &imagined, &asking->report, &asking->scene);
}

static void begin(struct asking *asking, procedure_progress *progress, procedure_answered *answered,
                  void *context)
{
    char problem[256];
    char *trigger = trigger_of(asking->request);
    struct procedure_spec spec = spec_of(asking, trigger);
    struct procedure *procedure =
        procedure_start(asking->procedures, &spec, problem, sizeof problem);
    if (procedure) {
        struct asker *asker = memory_new(sizeof *asker);
        *asker = (struct asker){.progress = progress, .answered = answered, .context = context};
        list_push_back(&procedure->askers, &asker->node);
    } else {
        refuse(asking->procedures, answered, context, "55006", text_copy(problem), NULL,
               "SHOW FAILOVERS shows what is under way; ABORT FAILOVER ends it.");
    }
    free(trigger);
}

static char *refusals_by_line(const struct guard_report *report)
{
    struct buffer text = {0};
    for (size_t i = 0; i < GUARD_COUNT; i++) {
        if (report->rows[i].verdict == GUARD_REFUSES)
            buffer_print(&text, "%s%s: %s", text.length ? "\n" : "", guard_word((enum guard_id)i),
                         report->rows[i].text);
    }
    buffer_put_u8(&text, '\0');
    return (char *)text.data;
}

/* What to do about it, beyond what the first refusal says. */
static const char *advice(const struct procedure_request *request, enum guard_id first)
{
    if (first == GUARD_MODE)
        return "Promote the standby with what manages the cluster, or with pg_ctl promote: pgstage "
               "follows. To promote from here, set failover_mode = promote.";
    if (request->type == EPISODE_MANUAL)
        return "DRY RUN shows every guard; EMERGENCY does not ask those about waits and lag.";
    return "DRY RUN shows every guard.";
}

static void refuse_by_guards(struct asking *asking, procedure_answered *answered, void *context)
{
    const struct procedure_request *request = asking->request;
    enum guard_id first = guard_first_refusal(&asking->report);
    char *text = text_print("%s is refused: %s", request->failback ? "FAILBACK" : "FAILOVER",
                            asking->report.rows[first].text);
    refuse(asking->procedures, answered, context, "55000", text, refusals_by_line(&asking->report),
           advice(request, first));
}

/* With what the hosts have answered since the question was asked. */
static void judge_question(struct procedures *procedures, const struct procedure_request *request,
                           procedure_progress *progress, procedure_answered *answered,
                           void *context)
{
    struct snapshot *snapshot = plane_snapshot(procedures->plane);
    const struct environment_config *environment =
        snapshot_find_environment(snapshot, request->environment);
    const struct situation *situation =
        environment ? failover_situation(procedures->failover, request->environment) : NULL;
    struct asking asking = {.procedures = procedures, .request = request, .situation = situation};
    const char *key = NULL, *of_environment;
    struct failover_answer answer;
    if (!situation) {
        refuse(procedures, answered, context, environment ? "55000" : "3D000",
               text_print(environment ? "environment %s is not watched: it has no hosts of its "
                                        "own, or no monitor_user"
                                      : "no such environment: %s",
                          request->environment),
               NULL, "SHOW ENVIRONMENTS lists them.");
        return;
    }
    if (request->to && !failover_find_host(procedures->failover, request->environment, request->to,
                                           &key, &of_environment, &answer)) {
        refuse(procedures, answered, context, "22023", text_copy(answer.text), NULL,
               "SHOW HOSTS lists them.");
        return;
    }
    struct watch *watch = watch_get(procedures, request->environment);
    uint64_t now_us = loop_now_us(procedures->loop);
    memory_refresh(&watch->memory, procedures->monitor, request->environment, now_us);
    scene_init(&asking.scene, procedures->monitor, &watch->memory, environment,
               snapshot_environment_settings(snapshot, environment), situation, now_us);
    choose(&asking, key);
    if (asking.problem)
        refuse(procedures, answered, context, "55000", asking.problem, NULL, NULL);
    else if (request->dry_run)
        show(&asking, answered, context);
    else if (!asking.report.allowed)
        refuse_by_guards(&asking, answered, context);
    else
        begin(&asking, progress, answered, context);
    scene_fini(&asking.scene);
}

/* ---- first the hosts are asked how they are ---- */

struct question {
    /* fixed */
    struct list_node node;
    struct procedures *procedures;
    char *environment, *to, *by;
    struct procedure_request request; /* its texts are those above */
    procedure_progress *progress;
    procedure_answered *answered;
    void *context;
    uint64_t began_us;
    /* owner */
    struct timer timer;
};

static void question_free(struct question *question)
{
    list_remove(&question->procedures->questions, &question->node);
    timer_detach(question->procedures->loop, &question->timer);
    free(question->environment);
    free(question->to);
    free(question->by);
    free(question);
}

struct freshness {
    uint64_t since_us;
    bool all_fresh;
};

static void look_at_age(void *argument, const struct host_report *report)
{
    struct freshness *freshness = argument;
    if (report->probed_us <= freshness->since_us)
        freshness->all_fresh = false;
}

static void on_question(struct loop *loop, struct timer *timer)
{
    struct question *question = list_entry(timer, struct question, timer);
    struct procedures *procedures = question->procedures;
    struct freshness freshness = {question->began_us, true};
    uint64_t now_us = loop_now_us(loop);
    monitor_each(procedures->monitor, question->environment, look_at_age, &freshness);
    if (!freshness.all_fresh && now_us < question->began_us + FRESH_LIMIT_US) {
        timer_set(loop, timer, now_us + FRESH_LOOK_US);
        return;
    }
    judge_question(procedures, &question->request, question->progress, question->answered,
                   question->context);
    question_free(question);
}

void procedures_ask(struct procedures *procedures, const struct procedure_request *request,
                    procedure_progress *progress, procedure_answered *answered, void *context)
{
    struct question *question = memory_new(sizeof *question);
    question->procedures = procedures;
    question->environment = text_copy(request->environment);
    question->to = text_copy(request->to);
    question->by = text_copy(request->by);
    question->request = *request;
    question->request.environment = question->environment;
    question->request.to = question->to;
    question->request.by = question->by;
    question->progress = progress;
    question->answered = answered;
    question->context = context;
    question->began_us = loop_now_us(procedures->loop);
    question->timer.fire = on_question;
    list_push_back(&procedures->questions, &question->node);
    monitor_probe_now(procedures->monitor, request->environment, NULL);
    timer_set(procedures->loop, &question->timer, question->began_us + FRESH_LOOK_US);
}

void procedures_abort(struct procedures *procedures, const char *environment, const char *by,
                      procedure_answered *answered, void *context)
{
    struct procedure *procedure = procedures_find(procedures, environment);
    if (!snapshot_find_environment(plane_snapshot(procedures->plane), environment)) {
        refuse(procedures, answered, context, "3D000",
               text_print("no such environment: %s", environment), NULL,
               "SHOW ENVIRONMENTS lists them.");
        return;
    }
    if (!procedure) {
        refuse(procedures, answered, context, "55000",
               text_print("no failover of %s is under way", environment), NULL,
               "SHOW FAILOVERS shows what was.");
        return;
    }
    if (procedure->is_past_return) {
        refuse(procedures, answered, context, "55000",
               text_print("the failover of %s is past the point of no return: %s", environment,
                          procedure->plan == plan_follow ? "switchover_command has been carried out"
                                                         : "pg_promote has been asked for"),
               NULL, "SHOW FAILOVERS shows how it goes on.");
        return;
    }
    (void)procedure_abort(procedure, by); /* else it is on its way back already */
    struct asker *asker = memory_new(sizeof *asker);
    *asker = (struct asker){.answered = answered, .context = context, .aborts = true};
    list_push_back(&procedure->askers, &asker->node);
}

void procedures_forget(struct procedures *procedures, void *context)
{
    list_for_each (node, &procedures->running) {
        struct procedure *procedure = list_entry(node, struct procedure, node);
        list_for_each_safe (inner, &procedure->askers) {
            struct asker *asker = list_entry(inner, struct asker, node);
            if (asker->context != context)
                continue;
            list_remove(&procedure->askers, &asker->node);
            free(asker);
        }
    }
    list_for_each_safe (node, &procedures->questions) {
        struct question *question = list_entry(node, struct question, node);
        if (question->context == context)
            question_free(question);
    }
    list_for_each (node, &procedures->later) {
        struct answer_later *later = list_entry(node, struct answer_later, node);
        if (later->context == context)
            later->answered = NULL;
    }
    drills_forget(procedures, context);
}

/* ---- all of them ---- */

struct procedure *procedures_find(const struct procedures *procedures, const char *environment)
{
    list_for_each (node, &procedures->running) {
        struct procedure *procedure = list_entry(node, struct procedure, node);
        if (text_equal(procedure->environment->name, environment))
            return procedure;
    }
    return NULL;
}

struct procedures *procedures_new(struct failover *failover, struct plane *plane,
                                  struct monitor *monitor)
{
    struct procedures *procedures = memory_new(sizeof *procedures);
    struct failover_procedures hooks = {
        .context = procedures,
        .looked = automatic_looked,
        .unfinished = automatic_unfinished,
        .ended = aftermath_begin,
    };
    procedures->loop = plane_control(plane);
    procedures->failover = failover;
    procedures->plane = plane;
    procedures->monitor = monitor;
    procedures->resolver = plane_resolver(plane);
    list_init(&procedures->watches);
    list_init(&procedures->running);
    list_init(&procedures->drills);
    list_init(&procedures->later);
    list_init(&procedures->questions);
    list_init(&procedures->hooks);
    list_init(&procedures->leftovers);
    failover_set_procedures(failover, &hooks);
    return procedures;
}

void procedures_stop(struct procedures *procedures)
{
    struct list_node *node;
    procedures->is_stopped = true;
    while ((node = list_first(&procedures->running)))
        procedure_drop(list_entry(node, struct procedure, node));
    while ((node = list_first(&procedures->questions))) {
        struct question *question = list_entry(node, struct question, node);
        refuse(procedures, question->answered, question->context, "57P01",
               text_copy("pgstage is shutting down"), NULL, NULL);
        question_free(question);
    }
    drills_end(procedures);
    aftermaths_end(procedures);
    while ((node = list_first(&procedures->later)))
        deliver(&list_entry(node, struct answer_later, node)->task);
    list_for_each (watch_node, &procedures->watches)
        timer_detach(procedures->loop, &list_entry(watch_node, struct watch, node)->timer);
}

void procedures_free(struct procedures *procedures)
{
    struct list_node *node;
    if (!procedures)
        return;
    while ((node = list_pop_front(&procedures->leftovers)))
        procedure_bury(list_entry(node, struct procedure, node));
    while ((node = list_pop_front(&procedures->watches))) {
        struct watch *watch = list_entry(node, struct watch, node);
        memory_fini(&watch->memory);
        free(watch->environment);
        free(watch);
    }
    free(procedures);
}
