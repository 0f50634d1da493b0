/*
 * model: procedures through long random runs of everything that can happen to them: servers that
 * die, hang, are promoted by others or cut off; commands that fail, hang and lie; sessions that are
 * lost; a disk that is slow or refuses; operators that abort, fence, drill and fail over again; new
 * configurations; ends and restarts at any step.
 *
 * Looked at in the calls themselves: what must be so before pg_promote() is asked for, and who takes
 * writes (model_world.c). At the end of each episode: what has been taken back, and how often. After
 * each event: fences, episodes, and that nothing is left of a procedure that is over. In a quarter
 * of the runs servers, commands and the disk do what they should: then what is begun comes to its
 * end, or back to where it began.
 *
 * PGSTAGE_MODEL_SEED=n runs only the seed n, with the log; PGSTAGE_MODEL_RUNS=n that many seeds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_cluster.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "pgstage/failover/procedure.h"
#include "pgstage/pool/registry.h"
#include "src/failover/procedure_inside.h"

#define SEEDS 500
#define EVENTS 400
#define CONFIGURATIONS 5
/* Longer than all steps of a plan and its way back may take together. */
#define LONGEST_US (1200 * CLOCK_SECOND)
#define SETTLE_ROUNDS 8000

TestSuite(procedures_model, .timeout = 1800);

static struct procedures *procedures;

/* ---- configurations ---- */

#define PROMOTE                                                                                    \
    "failover_mode = promote\nfailover_user = f\nfailover_delay = 2\nfailover_min_interval = 60\n" \
    "max_failover_lag = 1000000\nfailover_command_timeout = 20\ndrain_timeout = 3\n"

static const struct {
    const char *text;
    size_t hosts; /* of model_labels, from the first one on */
} configurations[CONFIGURATIONS] = {
    {"hosts = a:1, b:2, c:3\ndr_hosts = d:4\nmonitor_user = m\n" PROMOTE
     "fence_command = fence\ndemote_command = demote\nundemote_command = undemote\n"
     "on_failover_command = tell\ndr_failover = automatic\ndr_failover_delay = 5",
     4},
    {"hosts = a:1, b:2, c:3\ndr_hosts = d:4\nmonitor_user = m\n" PROMOTE
     "demote_command = demote\nundemote_command = undemote\non_demote = close",
     4},
    {"hosts = a:1, b:2, c:3\ndr_hosts = d:4\nmonitor_user = m\ndrain_timeout = 3\n"
     "failover_command_timeout = 20\nswitchover_command = switch",
     4},
    {"hosts = a:1, b:2\nmonitor_user = m\n" PROMOTE "fence_command = fence", 2},
    {NULL, 0},
};
#define FOLLOW 2
#define NOTHING 4

static struct snapshot *snapshots[2][CONFIGURATIONS]; /* without and with state_dir */
static bool has_state_dir;
static size_t configuration;
static unsigned level; /* of trouble; 0: none at all */

static void take_configuration(size_t which)
{
    configuration = which;
    world.configured = configurations[which].hosts;
    cluster.snapshot = snapshots[has_state_dir][which];
}

static void configure(size_t which)
{
    model_note("configuration %zu", which);
    take_configuration(which);
    failover_changed(world.failover, "e");
    failover_reloaded(world.failover, cluster.snapshot);
}

static const struct situation *situation_now(void)
{
    return failover_situation(world.failover, "e");
}

static const struct procedure *running(void)
{
    return procedures ? procedures_find(procedures, "e") : NULL;
}

/* ---- fences of the operator ---- */

static bool operator_fenced[MODEL_HOSTS];

static bool has_fence(size_t host, enum fence_kind kind)
{
    const struct situation *situation = situation_now();
    const struct fence *fence = situation ? situation_fence(situation, model_labels[host]) : NULL;
    return fence && fence->kind == kind;
}

static void note_operator_fences(void)
{
    for (size_t i = 0; i < MODEL_HOSTS; i++)
        operator_fenced[i] = has_fence(i, FENCE_OPERATOR);
}

static void check_operator_fences(void)
{
    for (size_t i = 0; situation_now() && i < MODEL_HOSTS; i++)
        promise(!operator_fenced[i] || has_fence(i, FENCE_OPERATOR));
}

/* ---- what an episode began with ---- */

static struct {
    char *accepted;
    bool is_fenced[MODEL_HOSTS]; /* by a procedure before */
    bool is_resumed, is_procedure, is_past_return;
    uint64_t began_us;
    uint64_t final_us; /* when its last look began */
    size_t at;         /* its step, which way, and since when */
    bool is_forward;
    uint64_t step_us;
    bool is_maintained; /* during all of that look MAINTENANCE was in force */
    size_t configured;  /* hosts that it knew of */
} episode;
/* ---- pg_promote() is asked for ---- */

static void check_locks(const struct procedure *procedure, size_t candidate)
{
    size_t voters = 0, granted = 0;
    for (size_t i = 0; i < world.configured && i < episode.configured; i++) {
        if (!world.hosts[i].is_there || text_equal(model_labels[i], procedure->old) ||
            world.hosts[i].report.is_dr != world.hosts[candidate].report.is_dr ||
            situation_fence(situation_now(), model_labels[i]))
            continue;
        voters++;
        const struct model_server *server = &cluster.servers[i];
        bool is_ours = server->lock && server->lock != &cluster;
        /* what is lost after the last look cannot be known */
        granted += is_ours || server->lock_lost_us >= episode.final_us;
    }
    promise(2 * granted > voters);
}

/* Of those that granted their lock when they were asked last nobody was further. */
static void check_rivals(size_t candidate)
{
    const struct model_server *own = &cluster.servers[candidate];
    promise(own->surveyed_us);
    for (size_t i = 0; i < world.configured; i++) {
        const struct model_server *other = &cluster.servers[i];
        bool counts = other->surveyed_us == own->surveyed_us && !other->is_primary &&
                      !situation_fence(situation_now(), model_labels[i]) &&
                      world.hosts[i].report.is_dr == world.hosts[candidate].report.is_dr;
        promise(!counts || other->surveyed_timeline < own->surveyed_timeline ||
                other->surveyed_lsn <= own->surveyed_lsn);
    }
}

static void check_written_down(size_t candidate, const char *old)
{
    json_error_t error;
    json_t *content = world.durable ? json_loads(world.durable, 0, &error) : NULL;
    const json_t *of = json_object_get(json_object_get(content, "environments"), "e");
    const json_t *intent = json_object_get(of, "intent");
    const json_t *fences = json_object_get(of, "fences");
    bool is_fenced = !old;
    promise(text_equal(json_string_value(json_object_get(intent, "to")), model_labels[candidate]));
    for (size_t i = 0; i < json_array_size(fences); i++)
        is_fenced |=
            text_equal(json_string_value(json_object_get(json_array_get(fences, i), "host")), old);
    promise(is_fenced);
    json_decref(content);
}

static unsigned promotions_of[EPISODE_TYPES];

void model_check_promotion(size_t candidate)
{
    const struct procedure *procedure = running();
    promise(procedure && procedure->is_past_return && !procedure->is_aborted);
    const struct situation *situation = situation_now();
    promotions_of[procedure->type]++;
    promise(world.is_held);
    promise(!world.hosts[candidate].may_write && !world_others_may_write(candidate));
    promise(world.is_dead || !has_state_dir ||
            (check_written_down(candidate, procedure->old), true));
    if (!situation) /* the configuration has lost it since */
        return;
    promise(!situation_fence(situation, model_labels[candidate]));
    promise(!procedure->old || situation_fence(situation, procedure->old));
    promise(world.hosts[candidate].report.system_identifier == situation->system_identifier);
    promise(cluster.servers[candidate].surveyed_timeline >= situation->timeline);
    bool by_majority = procedure->type == EPISODE_AUTOMATIC || procedure->type == EPISODE_MANUAL;
    if (by_majority && configuration != NOTHING)
        check_locks(procedure, candidate);
    if (by_majority && !procedure->is_resumed) {
        check_rivals(candidate);
        /* a cascaded one may still stream from a standby */
        size_t from = cluster.servers[candidate].surveyed_from;
        promise(from == MODEL_HOSTS || !text_equal(model_labels[from], procedure->old));
    }
    promise(procedure->type != EPISODE_AUTOMATIC || procedure->is_resumed ||
            !episode.is_maintained);
    if (procedure->type != EPISODE_PLANNED) {
        promise(!procedure->old || !procedure->settings->fence_command || cluster.was_fenced);
        return;
    }
    size_t old = model_host_find(procedure->old);
    promise(cluster.was_demoted && cluster.servers[old].refused_us >= cluster.demoted_us);
    promise(cluster.has_said_end || cluster.servers[candidate].surveyed_from == MODEL_HOSTS);
    promise(cluster.servers[candidate].surveyed_lsn >= cluster.servers[old].surveyed_lsn);
    /* nothing that was acknowledged is lost, whoever wrote it */
    if (!cluster.has_lied && cluster.misses_none && !cluster.servers[old].is_running)
        promise(cluster_position(candidate) >= cluster.servers[old].written);
}

/* ---- the beginning and the end of episodes ---- */

static unsigned results_of[EPISODE_TYPES][EPISODE_RESULTS];

static void begin_episode(const struct failover_record *record)
{
    const struct situation *situation = situation_now();
    free(episode.accepted);
    episode.accepted = text_copy(situation ? situation->accepted : NULL);
    episode.is_past_return = false;
    episode.final_us = 0;
    episode.is_maintained = false;
    episode.began_us = world.now_us;
    episode.configured = world.configured;
    episode.is_procedure = failover_state(world.failover, "e") == FAILOVER_STATE_PROCEDURE;
    episode.is_resumed =
        strcmp(record->reason ? record->reason : "", "found unfinished at the start") == 0;
    for (size_t i = 0; i < MODEL_HOSTS; i++)
        episode.is_fenced[i] = has_fence(i, FENCE_PROCEDURE);
    world.is_claimed = episode.is_procedure;
    cluster_new_episode();
}

/* It has not come to pg_promote(): everything is as it was. */
static void check_way_back(const struct episode *ended)
{
    const struct situation *situation = situation_now();
    promise(ended->text && *ended->text);
    promise(!strstr(ended->text, "intent: not over within") || strstr(ended->text, "state_dir"));
    promise(cluster.undemotes == (cluster.demotes > 0));
    if (!situation)
        return;
    promise(text_equal(situation->accepted, episode.accepted));
    promise(!situation->intent);
    for (size_t i = 0; i < MODEL_HOSTS; i++)
        promise(!has_fence(i, FENCE_PROCEDURE) || episode.is_fenced[i]);
}

static void end_episode(const struct episode *ended)
{
    results_of[ended->type][ended->result]++;
    if (!episode.is_procedure || ended->result == EPISODE_BROKEN)
        return;
    promise(cluster.demotes <= 1 && cluster.undemotes <= 1 && cluster.fences <= 1);
    promise(ended->result != EPISODE_ABORTED || !episode.is_past_return);
    promise(cluster.promotions == 0 || episode.is_past_return);
    if (ended->result != EPISODE_DONE && !episode.is_past_return && !episode.is_resumed)
        check_way_back(ended);
    if (ended->result == EPISODE_DONE)
        promise(text_equal(situation_now() ? situation_now()->accepted : ended->to, ended->to));
}

static void on_record(void *context, const struct failover_record *record)
{
    model_failover_world.record(context, record);
    if (strcmp(record->what, "begin") == 0)
        begin_episode(record);
    if (strcmp(record->what, "end") == 0) {
        end_episode(record->episode);
        world.is_claimed = false;
    }
}

/* ---- operators ---- */

static void on_answer(void *context, const struct procedure_answer *answer)
{
    promise(answer->ok || answer->text);
    model_answer(context, answer->ok, answer->sqlstate, answer->text);
}

static void on_progress(void *context, const char *text)
{
    const struct model_command *command = context;
    promise(*text && !command->is_answered && !command->is_forgotten);
}

static void ask_failover(bool is_dry)
{
    static const enum episode_type types[] = {EPISODE_PLANNED, EPISODE_PLANNED, EPISODE_MANUAL,
                                              EPISODE_MANUAL,  EPISODE_MANUAL,  EPISODE_EMERGENCY};
    struct procedure_request request = {
        .environment = dice(30) ? "e" : "nowhere",
        .to = dice(2) ? model_labels[dice(MODEL_HOSTS)] : NULL,
        .type = types[dice(level ? 6 : 2)],
        .dry_run = is_dry,
        .by = "admin",
    };
    request.failback = request.type == EPISODE_PLANNED && !request.to && !dice(3);
    procedures_ask(procedures, &request, on_progress, on_answer, model_command("FAILOVER"));
}

static void event_command(void)
{
    static const char *const words[] = {"FAILOVER", "FAILOVER",   "FAILOVER", "DRY RUN",
                                        "ABORT",    "DRILL",      "FENCE",    "UNFENCE",
                                        "ACCEPT",   "MAINTENANCE"};
    unsigned what = dice(level ? 10 : 6);
    const char *host = model_labels[dice(MODEL_HOSTS)];
    struct model_command *command;
    model_note("%s", words[what]);
    switch (what) {
    case 0:
    case 1:
    case 2:
    case 3:
        ask_failover(what == 3);
        break;
    case 4:
        if (level == 0 && running() && running()->is_resumed)
            return; /* it would leave the old primary stopped, as the process before had */
        procedures_abort(procedures, "e", "admin", on_answer, model_command("ABORT"));
        break;
    case 5:
        procedures_drill(procedures, "e", on_answer, model_command("DRILL"));
        break;
    case 6:
        failover_fence_command(world.failover, host, "admin", model_answered,
                               model_command("FENCE"));
        note_operator_fences();
        break;
    case 7:
        failover_unfence_command(world.failover, host, "admin", model_answered,
                                 model_command("UNFENCE"));
        note_operator_fences();
        break;
    case 8:
        failover_accept_command(world.failover, "e", host, "admin", model_answered,
                                model_command("ACCEPT"));
        note_operator_fences();
        break;
    default:
        failover_maintenance_command(world.failover, "e", !dice(3), dice(2) * 20 * CLOCK_SECOND,
                                     "admin", model_answered, model_command("MAINTENANCE"));
        break;
    }
    command = &model_commands.items[model_commands.count - 1];
    if (!dice(10)) {
        procedures_forget(procedures, command);
        failover_forget(world.failover, command);
        command->is_forgotten = true;
    }
}

/* ---- what must hold ---- */

static void note_progress(const struct procedure *procedure)
{
    const char *step = procedure->plan[procedure->at].name;
    episode.is_past_return = procedure->is_past_return;
    bool is_forward = procedure->state == PROCEDURE_FORWARD;
    if (episode.at != procedure->at || episode.is_forward != is_forward)
        episode.step_us = world.now_us;
    episode.at = procedure->at;
    episode.is_forward = is_forward;
    /* a disk that hangs does not keep clients waiting; an event takes 3 s at most */
    if (text_equal(step, is_forward ? "accept" : "intent"))
        promise(world.now_us < episode.step_us + FAILOVER_PATIENCE_US + 4 * CLOCK_SECOND);
    if (!text_equal(step, "final"))
        return;
    bool is_maintained =
        situation_now() && situation_in_maintenance(situation_now(), loop_now_us(world.loop));
    episode.is_maintained = is_maintained && (!episode.final_us || episode.is_maintained);
    episode.final_us = episode.final_us ? episode.final_us : world.now_us;
}

static void check_now(void)
{
    const struct situation *situation = situation_now();
    const struct procedure *procedure = running();
    if (procedure)
        note_progress(procedure);
    model_check_episodes(procedure != NULL);
    model_check_alarms();
    check_operator_fences();
    if (situation && configuration != NOTHING)
        model_check_fences(situation);
    promise(procedure || list_is_empty(&procedures->drills) == (cluster.sessions == 0) ||
            cluster.sessions == 0);
    promise(procedure || cluster.hooks == 0);
    promise(!procedure || world.now_us < procedure->began_us + LONGEST_US);
}

static void check_settled(void)
{
    enum failover_state state = failover_state(world.failover, "e");
    model_check_answered("");
    promise(cluster.sessions == 0 && cluster.hooks == 0 && cluster.aftermaths == 0);
    promise(list_is_empty(&procedures->leftovers) && list_is_empty(&procedures->later));
    promise(world.begun == world.ended);
    promise(state != FAILOVER_STATE_SWITCHING && state != FAILOVER_STATE_PROCEDURE);
    promise(world.is_held == (state == FAILOVER_STATE_STARTING));
    if (state == FAILOVER_STATE_OK) {
        size_t accepted = model_host_find(situation_now()->accepted);
        promise(world.hosts[accepted].standing.write != ALLOW_NO);
    }
    if (level == 0 && configuration != NOTHING) {
        promise(state == FAILOVER_STATE_OK);
        promise(cluster.servers[model_host_find(situation_now()->accepted)].is_primary);
    }
}

/* ---- time ---- */

static void event_closing(void)
{
    if (world.closing_count)
        world_closed(dice((unsigned)world.closing_count));
}

static void live(uint64_t us)
{
    world.now_us += us;
    world.wall_us += us;
    cluster_live();
    cluster_look();
    cluster_sessions_go_on(cluster.is_honest);
    cluster_hooks_go_on(cluster.is_honest);
    if (cluster.is_honest || dice(2))
        event_closing();
    if (!dice(60))
        cluster.disk_hangs = !cluster.disk_hangs && level;
    if (disk_is_busy() && (cluster.is_honest || (!cluster.disk_hangs && !dice(3))))
        disk_answers(cluster.is_honest || dice(12));
    loop_turn(world.loop, false);
}

static bool is_quiet(void)
{
    return !running() && !world.closing_count && !disk_is_busy() && !cluster.sessions &&
           !cluster.hooks && !cluster.aftermaths && list_is_empty(&procedures->questions) &&
           list_is_empty(&procedures->later) && list_is_empty(&procedures->drills);
}

/* Everything that is outstanding comes, and nothing is in the way of it. */
static void settle(void)
{
    unsigned quiet = 0;
    bool was_honest = cluster.is_honest;
    model_note("settle");
    cluster.is_honest = true;
    for (int i = 0; quiet < 8; i++) {
        promise(i < SETTLE_ROUNDS);
        live(150 * CLOCK_MS);
        check_now();
        quiet = is_quiet() ? quiet + 1 : 0;
    }
    check_settled();
    cluster.is_honest = was_honest;
}

/* ---- beginning and end of a process ---- */

static void start(void)
{
    const struct registry_events events = {0};
    struct failover_world stand_in = model_failover_world;
    char problem[256];
    stand_in.record = on_record;
    world.loop = loop_new(0, NULL);
    cluster.registry = registry_new(1, &events);
    take_configuration(configuration);
    world.failover = failover_new(world.loop, cluster.snapshot, &stand_in, problem, sizeof problem);
    promise(world.failover);
    procedures = procedures_new(world.failover, NULL, NULL);
}

static void stop(void)
{
    model_note(world.is_dead ? "killed" : "stop");
    procedures_stop(procedures);
    promise(cluster.sessions == 0 && cluster.hooks == 0 && cluster.aftermaths == 0);
    failover_stop(world.failover);
    model_check_answered("");
    while (dice(4)) {
        event_closing();
        if (disk_is_busy())
            disk_answers(true);
        loop_turn(world.loop, false);
    }
    model_commands.count = 0;
    failover_free(world.failover);
    procedures_free(procedures);
    loop_free(world.loop);
    registry_free(cluster.registry);
    world.failover = NULL;
    procedures = NULL;
    world.loop = NULL;
}

static void note_id(void *argument, const struct episode *row)
{
    (void)argument;
    if (row->result != EPISODE_RUNNING)
        world.ended_ids[world.ended++] = row->id;
}

static void event_restart(void)
{
    world.is_dead = !dice(2);
    stop();
    world_restart();
    cluster_forget();
    start();
    world.ended = 0;
    failover_each_episode(world.failover, note_id, NULL);
    world.begun = world.ended;
    note_operator_fences();
    failover_start(world.failover);
}

/* ---- runs ---- */

/* Where all goes well: without state_dir, and in follow mode, nobody knows afterwards what had been
 * begun. */
static bool is_restart_harmless(void)
{
    return level || (has_state_dir && (configuration != FOLLOW || !running()));
}

static void event(void)
{
    unsigned what = dice(200);
    bool goes_back = running() && running()->state == PROCEDURE_BACK;
    live(dice(20) ? dice(200 * CLOCK_MS) : dice(3000 * CLOCK_MS));
    if (what < 4 * level)
        cluster_trouble();
    else if (what < 24)
        event_command();
    else if (what < 26 && level)
        configure(dice(4) ? 0 : dice(CONFIGURATIONS));
    else if ((what == 26 || (goes_back && !dice(12))) && is_restart_harmless())
        event_restart();
    else if (what == 27)
        settle();
    check_now();
}

static void unfence_all(void)
{
    memset(operator_fenced, 0, sizeof operator_fenced);
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        if (situation_fence(situation_now(), model_labels[i]))
            failover_unfence_command(world.failover, model_labels[i], "admin", model_answered,
                                     model_command("UNFENCE"));
    }
}

static bool heal_once(void)
{
    size_t primary = dice(3);
    settle(); /* what is under way ends first: it may be about another one */
    cluster_heal(primary);
    settle();
    unfence_all();
    settle();
    if (failover_state(world.failover, "e") == FAILOVER_STATE_OK)
        return true;
    failover_accept_command(world.failover, "e", model_labels[primary], "admin", model_answered,
                            model_command("ACCEPT"));
    settle();
    return failover_state(world.failover, "e") == FAILOVER_STATE_OK;
}

/* Whatever has happened: with servers that are well, and an operator that says so, clients go on. A
 * failover that pgstage begins by itself in between may stop one of them once more. */
static void heal(void)
{
    unsigned rounds = 0;
    model_note("heal");
    cluster.is_honest = true;
    configure(0);
    level = 1;
    failover_maintenance_command(world.failover, "e", false, 0, "admin", model_answered,
                                 model_command("MAINTENANCE"));
    while (!heal_once())
        promise(++rounds < 3);
    promise(!world.is_held);
    promise(world.hosts[model_host_find(situation_now()->accepted)].standing.write == ALLOW_YES);
}

static void run(uint64_t seed)
{
    world_init(seed);
    cluster_init();
    cluster_forget();
    memset(operator_fenced, 0, sizeof operator_fenced);
    model_commands.count = 0;
    level = dice(4);
    has_state_dir = dice(5);
    configuration = dice(2) ? 0 : dice(CONFIGURATIONS - 1);
    cluster.is_honest = level == 0;
    start();
    failover_start(world.failover);
    settle();
    for (unsigned i = 0; i < EVENTS; i++)
        event();
    if (dice(2))
        heal();
    stop();
    world_fini();
    free(episode.accepted);
    episode.accepted = NULL;
}

Test(procedures_model, keeps_its_promises_whatever_happens)
{
    for (size_t i = 0; i < 2 * CONFIGURATIONS; i++)
        snapshots[i / CONFIGURATIONS][i % CONFIGURATIONS] =
            model_snapshot(configurations[i % CONFIGURATIONS].text, i / CONFIGURATIONS);
    uint64_t last = model_run(run, SEEDS);
    for (size_t i = 0; i < 2 * CONFIGURATIONS; i++)
        snapshot_unref(snapshots[i / CONFIGURATIONS][i % CONFIGURATIONS]);
    if (!last)
        return;
    /* it was about something */
    for (size_t i = 0; i < EPISODE_TYPES; i++) {
        printf("%s: %u promotions, %u done, %u failed, %u aborted\n", episode_type_word(i),
               promotions_of[i], results_of[i][EPISODE_DONE], results_of[i][EPISODE_FAILED],
               results_of[i][EPISODE_ABORTED]);
        cr_assert_gt(promotions_of[i], last / 200);
        cr_assert_gt(results_of[i][EPISODE_DONE], last / 50);
        cr_assert_gt(results_of[i][EPISODE_FAILED], last / 50);
    }
    cr_assert_gt(results_of[EPISODE_PLANNED][EPISODE_ABORTED], last / 20);
}
