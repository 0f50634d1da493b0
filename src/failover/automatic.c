/*
 * automatic.c: when pgstage promotes by itself, and what becomes of a promotion in whose middle it
 * ended.
 *
 *   no primary, failover_mode = promote ─► the guards, five times a second ─► procedure_start
 *
 * First a standby of the primary's own site; with dr_failover = automatic, and no host of the site
 * usable for dr_failover_delay, one of dr_hosts. A refusal is logged when it becomes another one.
 * After an attempt that failed the next one waits, for longer each time.
 */
#include <stdlib.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/health/monitor.h"
#include "pgstage/session/plane.h"
#include "step.h"

#define LOOK_US (200 * CLOCK_MS)
#define LONGEST_PAUSE_US (60 * CLOCK_SECOND)
/* How long guards may refuse before somebody should look. */
#define PATIENCE_US (2 * CLOCK_SECOND)

static void consider(struct watch *watch);

static void on_timer(struct loop *loop, struct timer *timer)
{
    (void)loop;
    consider(list_entry(timer, struct watch, timer));
}

struct watch *watch_get(struct procedures *procedures, const char *environment)
{
    list_for_each (node, &procedures->watches) {
        struct watch *watch = list_entry(node, struct watch, node);
        if (text_equal(watch->environment, environment))
            return watch;
    }
    struct watch *watch = memory_new(sizeof *watch);
    watch->procedures = procedures;
    watch->environment = text_copy(environment);
    watch->timer.fire = on_timer;
    list_push_back(&procedures->watches, &watch->node);
    return watch;
}

static uint64_t now_of(const struct watch *watch)
{
    return loop_now_us(watch->procedures->loop);
}

/* ---- refusals ---- */

/* At first guards judge by what standbys said before the primary went; and the one that only waits
 * is no alarm for as long as it may have to wait. */
static bool is_alarming(const struct watch *watch, uint32_t bits, uint64_t delay_us)
{
    uint64_t since_us = failover_no_primary_since(watch->procedures->failover, watch->environment);
    uint64_t wait_us = PATIENCE_US + (bits == UINT32_C(1) << GUARD_PRIMARY ? delay_us : 0);
    return since_us && now_of(watch) > since_us + wait_us;
}

static void note_refusal(struct watch *watch, const struct guard_report *report, uint64_t delay_us)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < GUARD_COUNT; i++)
        bits |= (uint32_t)(report->rows[i].verdict == GUARD_REFUSES) << i;
    bool alarming = is_alarming(watch, bits, delay_us);
    if (bits == watch->refused && alarming == watch->is_alarmed)
        return;
    char *refusals = guard_refusals(report);
    if (bits != watch->refused)
        log_warning("failover: %s: nothing is promoted yet: %s", watch->environment, refusals);
    if (alarming || !watch->attempts) /* how the last attempt ended says more than that it waits */
        failover_refuse(watch->procedures->failover, watch->environment,
                        alarming ? refusals : NULL);
    watch->refused = bits;
    watch->is_alarmed = alarming;
    free(refusals);
}

static void forget_refusal(struct watch *watch)
{
    watch->refused = 0;
    watch->is_alarmed = false;
    failover_refuse(watch->procedures->failover, watch->environment, NULL);
}

/* ---- beginning ---- */

static bool begin(struct watch *watch, const struct scene *scene, const struct guard_report *report)
{
    const struct guard_case *guarded = &scene->guarded;
    const struct host_report *primary =
        guarded->primary == GUARD_NO_HOST ? NULL : &scene->reports[guarded->primary];
    uint64_t now_us = now_of(watch);
    char problem[256];
    struct procedure_spec spec = {
        .environment = watch->environment,
        .type = EPISODE_AUTOMATIC,
        .is_dr = guarded->is_dr,
        .leaves_site = guarded->leaves_site,
        .candidate = scene->hosts[report->candidate].host,
        .by = guarded->leaves_site ? "no host of the site can be used" : "the primary is down",
        .detection_ms = primary && primary->answered_us ? (now_us - primary->answered_us) / CLOCK_MS
                                                        : UINT64_MAX,
        .loss_bytes = report->loss_bytes,
    };
    watch->refused = 0;
    if (procedure_start(watch->procedures, &spec, problem, sizeof problem))
        return true;
    log_warning("failover: %s: cannot begin: %s", watch->environment, problem);
    return false;
}

/* Since when no host of the site can be used, but for the primary, which is down. */
static void note_site(struct watch *watch, const struct scene *scene)
{
    bool usable = false;
    for (size_t i = 0; i < scene->count; i++) {
        const struct guard_host *host = &scene->hosts[i];
        usable = usable || (!host->is_dr && host->answers && !host->is_fenced &&
                            host->role != GUARD_ROLE_UNKNOWN);
    }
    if (usable)
        watch->siteless_since_us = 0;
    else if (!watch->siteless_since_us)
        watch->siteless_since_us = now_of(watch);
}

static bool consider_dr(struct watch *watch, struct scene *scene, const struct settings *settings)
{
    struct guard_case *guarded = &scene->guarded;
    struct guard_report report;
    note_site(watch, scene);
    if (settings->dr_failover != DR_FAILOVER_AUTOMATIC || !watch->siteless_since_us)
        return false;
    guarded->is_dr = guarded->leaves_site = true;
    guarded->delay_us = settings->dr_failover_delay_us;
    guarded->critical_us = now_of(watch) - watch->siteless_since_us + 1;
    guard_judge(guarded, &report);
    if (report.allowed)
        return begin(watch, scene, &report);
    note_refusal(watch, &report, settings->dr_failover_delay_us);
    return false;
}

/* True: a procedure has begun. */
static bool consider_now(struct watch *watch, const struct environment_config *environment,
                         const struct settings *settings, const struct situation *situation)
{
    struct procedures *procedures = watch->procedures;
    struct scene scene;
    struct guard_report report;
    scene_init(&scene, procedures->monitor, &watch->memory, environment, settings, situation,
               now_of(watch));
    scene.guarded.type = EPISODE_AUTOMATIC;
    scene.guarded.is_dr = situation->dr_in_force;
    guard_judge(&scene.guarded, &report);
    bool begun = false;
    if (report.allowed) {
        begun = begin(watch, &scene, &report);
    } else if (situation->dr_in_force || environment->dr_host_count == 0) {
        note_refusal(watch, &report, settings->failover_delay_us);
    } else {
        if (settings->dr_failover != DR_FAILOVER_AUTOMATIC || !watch->siteless_since_us)
            note_refusal(watch, &report, settings->failover_delay_us);
        begun = consider_dr(watch, &scene, settings);
    }
    scene_fini(&scene);
    return begun;
}

static void consider(struct watch *watch)
{
    struct procedures *procedures = watch->procedures;
    struct snapshot *snapshot = plane_snapshot(procedures->plane);
    const struct environment_config *environment =
        snapshot_find_environment(snapshot, watch->environment);
    const struct situation *situation =
        failover_situation(procedures->failover, watch->environment);
    if (procedures->is_stopped || !environment || !situation)
        return;
    const struct settings *settings = snapshot_environment_settings(snapshot, environment);
    memory_refresh(&watch->memory, procedures->monitor, watch->environment, now_of(watch));
    if (procedures_find(procedures, watch->environment))
        return;
    if (situation->intent) { /* nobody else begins anything until it is settled */
        automatic_unfinished(procedures, watch->environment, situation->intent);
        return;
    }
    if (settings->failover_mode != FAILOVER_PROMOTE || !situation->accepted ||
        failover_state(procedures->failover, watch->environment) != FAILOVER_STATE_NO_PRIMARY) {
        forget_refusal(watch);
        watch->siteless_since_us = 0;
        return;
    }
    if (now_of(watch) >= watch->again_us && consider_now(watch, environment, settings, situation))
        return;
    timer_set(procedures->loop, &watch->timer, now_of(watch) + LOOK_US);
}

void automatic_looked(void *context, const char *environment)
{
    consider(watch_get(context, environment));
}

void automatic_note_end(struct procedures *procedures, const struct procedure *procedure,
                        enum episode_result result)
{
    struct watch *watch = watch_get(procedures, procedure->environment->name);
    uint64_t pause_us;
    if (result == EPISODE_DONE) {
        watch->attempts = 0;
        watch->again_us = 0;
        return;
    }
    char *refusal = text_print("the last attempt %s: %s", episode_result_word(result),
                               procedure->failure ? procedure->failure : "it ended half done");
    if (procedure->type == EPISODE_AUTOMATIC)
        failover_refuse(procedures->failover, watch->environment, refusal);
    free(refusal);
    pause_us = CLOCK_SECOND << (watch->attempts < 6 ? watch->attempts : 6);
    watch->attempts++;
    watch->again_us = now_of(watch) + (pause_us < LONGEST_PAUSE_US ? pause_us : LONGEST_PAUSE_US);
    timer_set(procedures->loop, &watch->timer, watch->again_us);
}

/* ---- what a restart finds ---- */

static bool is_writer(const struct host_report *report)
{
    return report && report->role == ROLE_PRIMARY && report->error == PROBE_FINE;
}

static bool is_standby(const struct host_report *report)
{
    return report && (report->role == ROLE_STANDBY || report->role == ROLE_ORPHANED) &&
           report->error == PROBE_FINE;
}

/* A standby that streams, and has replayed all there is, has not been asked to promote itself. */
static bool is_untouched(const struct host_report *report)
{
    return is_standby(report) && report->receiver == RECEIVER_STREAMING &&
           report->lsn_replayed >= report->lsn_received;
}

static enum episode_type type_of(const struct intent *intent)
{
    if (text_equal(intent->type, episode_type_word(EPISODE_AUTOMATIC)))
        return EPISODE_AUTOMATIC;
    if (text_equal(intent->type, episode_type_word(EPISODE_EMERGENCY)))
        return EPISODE_EMERGENCY;
    return EPISODE_MANUAL; /* a planned one whose old primary is stopped by now */
}

static void give_up(struct procedures *procedures, const char *environment,
                    const struct intent *intent)
{
    char problem[256];
    struct episode *episode =
        failover_claim(procedures->failover, environment, type_of(intent), intent->from, intent->to,
                       "found unfinished at the start", problem, sizeof problem);
    if (!episode)
        return;
    if (intent->from)
        failover_unfence(procedures->failover, environment, intent->from);
    failover_intent_clear(procedures->failover, environment);
    failover_end(procedures->failover, episode, EPISODE_FAILED,
                 "pgstage ended before the promotion: nothing was promoted, the old primary takes "
                 "writes");
}

static void go_on(struct procedures *procedures, const char *environment,
                  const struct intent *intent, const struct host_report *candidate)
{
    char problem[256];
    const struct situation *situation = failover_situation(procedures->failover, environment);
    struct procedure_spec spec = {
        .environment = environment,
        .type = type_of(intent),
        .is_dr = candidate->is_dr,
        .leaves_site = candidate->is_dr && !situation->dr_in_force,
        .is_chosen = true,
        .is_resumed = true,
        .candidate = intent->to,
        .by = "found unfinished at the start",
        .detection_ms = UINT64_MAX,
        .loss_bytes = -1,
    };
    if (!procedure_start(procedures, &spec, problem, sizeof problem))
        log_warning("failover: %s: cannot go on: %s", environment, problem);
}

/* A switchover had stopped the old primary, and had not come to its promotion. */
static void start_again(struct procedures *procedures, const char *environment,
                        const struct intent *intent)
{
    char problem[256];
    struct procedure_spec spec = {
        .environment = environment,
        .type = EPISODE_PLANNED,
        .plan = plan_undemote,
        .is_chosen = true,
        .is_resumed = true,
        .candidate = intent->to,
        .by = "found unfinished at the start",
        .detection_ms = UINT64_MAX,
        .loss_bytes = 0,
    };
    if (!procedure_start(procedures, &spec, problem, sizeof problem))
        log_warning("failover: %s: cannot go on: %s", environment, problem);
}

/*
 * The candidate takes writes: the promotion went through, and it is accepted without us. It is
 * still a standby: with the old primary at work nothing was promoted; with the old one down the
 * promotion is asked for (again), because what it was checked for before holds. Anything else is
 * for people.
 */
void automatic_unfinished(void *context, const char *environment, const struct intent *intent)
{
    struct procedures *procedures = context;
    const struct host_report *candidate =
        monitor_find(procedures->monitor, environment, intent->to);
    const struct host_report *old =
        intent->from ? monitor_find(procedures->monitor, environment, intent->from) : NULL;
    if (procedures->is_stopped)
        return;
    if (text_equal(intent->type, INTENT_DEMOTE)) {
        if (is_writer(old))
            give_up(procedures, environment, intent);
        else if (old && old->health == HEALTH_CRITICAL && !is_writer(candidate))
            start_again(procedures, environment, intent);
        return;
    }
    if (is_writer(candidate) || !is_standby(candidate))
        return;
    if (is_writer(old) && is_untouched(candidate))
        give_up(procedures, environment, intent);
    else if (!old || old->health == HEALTH_CRITICAL)
        go_on(procedures, environment, intent, candidate);
}
