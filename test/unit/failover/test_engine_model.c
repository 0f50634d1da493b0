/*
 * model: the engine through long random runs of everything that can happen to an environment: what
 * hosts say, new configurations, commands, procedures, connections that close late and in any order,
 * a disk that is slow or refuses, ends and restarts at any moment.
 *
 * After each event: who writes, what is fenced, held and running, and that no episode and no answer
 * is lost or comes twice (much of it is looked at in model_world.c, in the engine's own calls). Now
 * and then everything outstanding comes, and then whoever waits must have a reason. At the end of a
 * run all hosts get well, and clients must be served.
 *
 * PGSTAGE_MODEL_SEED=n runs only the seed n, with the log; PGSTAGE_MODEL_RUNS=n that many seeds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_world.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"

#define SEEDS 2000
#define EVENTS 150
#define CONFIGURATIONS 7
#define SETTLE_ROUNDS 100

TestSuite(engine_model, .timeout = 1800);

/* ---- configurations ---- */

static const struct {
    const char *text;
    size_t hosts; /* of model_labels, from the first one on */
    bool is_unprobed;
} configurations[CONFIGURATIONS] = {
    {"hosts = a:1, b:2, c:3\ndr_hosts = d:4\nmonitor_user = m", 4, false},
    {"hosts = a:1, b:2, c:3\ndr_hosts = d:4\nmonitor_user = m\nfailover_mode = promote\n"
     "failover_user = f",
     4, false},
    {"hosts = a:1, b:2, c:3\ndr_hosts = d:4\nmonitor_user = m\ntwo_primaries = stop", 4, false},
    {"hosts = a:1, b:2, c:3\ndr_hosts = d:4\nmonitor_user = m\ntwo_primaries = keep", 4, false},
    {"hosts = a:1, b:2\nmonitor_user = m", 2, false},
    {"hosts = a:1, b:2, c:3\nmonitor_user = m\nprobe_interval = 0", 3, true},
    {NULL, 0, false},
};
/* The first of those that leave the environment whole. */
#define WHOLE 0

static struct snapshot *snapshots[2][CONFIGURATIONS]; /* without and with state_dir */
static bool has_state_dir;
static size_t configuration;

static void take_configuration(size_t which)
{
    configuration = which;
    world.configured = configurations[which].hosts;
    world.is_unprobed = configurations[which].is_unprobed;
}

static void configure(size_t which)
{
    model_note("configuration %zu", which);
    take_configuration(which);
    failover_reloaded(world.failover, snapshots[has_state_dir][which]);
}

static void on_saved(void *context, enum failover_saved how)
{
    (void)how;
    model_answered(context, &(struct failover_answer){.ok = true});
}

/* ---- procedures ---- */

static struct {
    struct episode *episode;
    bool is_withdrawn;
    bool is_over; /* nobody begins anything any more */
} claim;
static unsigned claims, unfinished;

static bool claim_it(const char *trigger)
{
    char problem[256] = "";
    const struct situation *situation = failover_situation(world.failover, "e");
    claim.episode = failover_claim(
        world.failover, "e", EPISODE_PLANNED, situation ? situation->accepted : NULL,
        dice(2) ? model_labels[dice(MODEL_HOSTS)] : NULL, trigger, problem, sizeof problem);
    promise(claim.episode ? !*problem : *problem);
    claim.is_withdrawn = false;
    world.is_claimed = claim.episode != NULL;
    claims += claim.episode != NULL;
    return claim.episode != NULL;
}

static void end_claim(enum episode_result result)
{
    struct episode *episode = claim.episode;
    claim.episode = NULL;
    world.is_claimed = false;
    failover_end(world.failover, episode, result, result == EPISODE_DONE ? NULL : "it failed");
}

static void on_looked(void *context, const char *environment)
{
    (void)context;
    (void)environment;
    promise(!claim.episode);
    if (!claim.is_over && !dice(40))
        (void)claim_it("the primary is down");
}

static void on_unfinished(void *context, const char *environment, const struct intent *intent)
{
    (void)context;
    promise(!claim.episode);
    promise(intent->to && intent->type);
    unfinished++;
    if (claim.is_over || !dice(2) || !claim_it("found unfinished"))
        return;
    if (dice(2))
        return;
    if (intent->from)
        failover_unfence(world.failover, environment, intent->from);
    failover_intent_clear(world.failover, environment);
    end_claim(EPISODE_FAILED);
}

static void on_ended(void *context, const struct episode *episode)
{
    (void)context;
    promise(episode->result != EPISODE_RUNNING && episode->id);
}

static void accept_one(void)
{
    size_t host = dice((unsigned)(world.configured ? world.configured : MODEL_HOSTS));
    const struct situation *situation = failover_situation(world.failover, "e");
    if (!situation || !claim.is_withdrawn || situation_fence(situation, model_labels[host]))
        return;
    world_close_others(host);
    if (world_others_may_write(host))
        return;
    world.hosts[host].report.role = dice(3) ? ROLE_PRIMARY : ROLE_STANDBY;
    claim.is_withdrawn = false;
    failover_accept(world.failover, "e", model_labels[host], 42, situation->timeline + dice(3),
                    !dice(4));
    world.accept_asked = 0; /* writing it down is the procedure's business */
}

static void fence_of_procedure(void)
{
    const struct situation *situation = failover_situation(world.failover, "e");
    const char *host = model_labels[dice(MODEL_HOSTS)];
    const struct fence *fence = situation ? situation_fence(situation, host) : NULL;
    if (!fence)
        failover_fence(world.failover, "e", host, "the procedure");
    else if (fence->kind == FENCE_PROCEDURE)
        failover_unfence(world.failover, "e", host);
}

static void event_procedure(void)
{
    static const char *const words[] = {"claim",     "hold",  "release", "withdraw", "fence",
                                        "intent",    "clear", "accept",  "accept",   "refuse",
                                        "automatic", "end",   "end"};
    unsigned what = claim.episode ? 1 + dice(sizeof words / sizeof words[0] - 1) : 0;
    model_note("procedure: %s", words[what]);
    switch (what) {
    case 0:
        (void)claim_it("FAILOVER by somebody");
        break;
    case 1:
        failover_hold(world.failover, "e");
        break;
    case 2:
        failover_release(world.failover, "e");
        break;
    case 3:
        failover_withdraw(world.failover, "e");
        claim.is_withdrawn = true;
        break;
    case 4:
        fence_of_procedure();
        break;
    case 5:
        failover_intent(world.failover, "e", "automatic", dice(2) ? model_labels[0] : NULL,
                        model_labels[dice(MODEL_HOSTS)], dice(3));
        break;
    case 6:
        failover_intent_clear(world.failover, "e");
        break;
    case 7:
    case 8:
        accept_one();
        break;
    case 9:
        failover_refuse(world.failover, "e", dice(2) ? "nobody is good enough" : NULL);
        break;
    case 10:
        failover_note_automatic(world.failover, "e");
        break;
    default:
        end_claim((enum episode_result)(EPISODE_DONE + dice(3)));
        break;
    }
}

/* ---- what operators say ---- */

/* When MAINTENANCE ends, by the clock that nobody sets; 0: it is off. */
static uint64_t maintenance_due;
static bool is_maintenance_known; /* not after a restart whose configuration lacks it */

static void maintain(bool on, uint64_t for_us, struct model_command *command)
{
    if (failover_situation(world.failover, "e")) {
        is_maintenance_known = true;
        maintenance_due = !on ? 0 : for_us ? loop_now_us(world.loop) + for_us : UINT64_MAX;
    }
    failover_maintenance_command(world.failover, "e", on, for_us, "admin", model_answered, command);
}

/* What the state file has of it counts by the wall clock. */
static void read_maintenance(void)
{
    const struct situation *situation = failover_situation(world.failover, "e");
    uint64_t until_us = situation ? situation->maintenance_until_us : 0;
    is_maintenance_known = situation;
    maintenance_due = until_us == MAINTENANCE_UNTIL_OFF ? UINT64_MAX
                      : until_us > world.wall_us
                          ? loop_now_us(world.loop) + (until_us - world.wall_us)
                          : 0;
}

static void event_command(void)
{
    static const char *const words[] = {"FENCE", "UNFENCE", "ACCEPT", "MAINTENANCE", "save"};
    unsigned what = dice(sizeof words / sizeof words[0]);
    const char *host = dice(20) ? model_labels[dice(MODEL_HOSTS)] : "nobody";
    struct model_command *command = model_command(words[what]);
    model_note("%s %s", words[what], host);
    switch (what) {
    case 0:
        failover_fence_command(world.failover, host, "admin", model_answered, command);
        break;
    case 1:
        failover_unfence_command(world.failover, host, "admin", model_answered, command);
        break;
    case 2:
        failover_accept_command(world.failover, "e", host, "admin", model_answered, command);
        break;
    case 3:
        maintain(!dice(3), dice(2) * 3 * CLOCK_SECOND, command);
        break;
    default:
        failover_save(world.failover, on_saved, command);
        return; /* nobody can take that back */
    }
    if (!dice(10)) {
        failover_forget(world.failover, command);
        command->is_forgotten = true;
    }
}

/* ---- what comes late ---- */

static void turn(void)
{
    loop_turn(world.loop, false);
}

static void event_closing(void)
{
    if (!world.closing_count)
        return;
    size_t index = dice((unsigned)world.closing_count);
    model_note("%s closed", model_labels[world.closings[index].host]);
    world_closed(index);
}

static void event_disk(void)
{
    if (!disk_is_busy())
        return;
    bool well = dice(10);
    model_note(well ? "written" : "not written");
    disk_answers(well);
}

/* Everything that is outstanding comes. */
static void settle(void)
{
    model_note("settle");
    for (int i = 0; world.closing_count || disk_is_busy() || i < 3; i++) {
        promise(i < SETTLE_ROUNDS);
        while (world.closing_count)
            world_closed(world.closing_count - 1);
        while (disk_is_busy())
            disk_answers(true);
        failover_changed(world.failover, "e");
        turn();
        turn();
        /* letters of an engine without a disk bring new ones */
        world.now_us += 1000;
    }
}

/* ---- what must hold ---- */

static void check_now(void)
{
    const struct situation *situation = failover_situation(world.failover, "e");
    model_check_episodes(claim.episode != NULL);
    model_check_alarms();
    promise(!situation || !is_maintenance_known ||
            situation_in_maintenance(situation, loop_now_us(world.loop)) ==
                (maintenance_due > loop_now_us(world.loop)));
    if (situation && configurations[configuration].hosts)
        model_check_fences(situation);
}

/* Hosts that the monitor knows and that may be written to, or of which nobody knows. */
static size_t writers(void)
{
    size_t count = 0;
    for (size_t i = 0; i < world.configured; i++)
        count += world.hosts[i].is_there && world.hosts[i].standing.write != ALLOW_NO;
    return count;
}

/* The one that takes writes is what it should be. */
static void check_served(const struct situation *situation)
{
    size_t index = model_host_find(situation->accepted);
    const struct model_host *host = &world.hosts[index];
    const struct host_report *report = &host->report;
    promise(host->standing.write != ALLOW_NO);
    promise(writers() == 1 && host->is_there);
    promise(!report->system_identifier ||
            report->system_identifier == situation->system_identifier);
    /* what a procedure has just promoted is a standby to the probe before */
    bool is_seen = report->error == PROBE_FINE && report->role == ROLE_PRIMARY;
    promise(!is_seen || !report->timeline || report->timeline >= situation->timeline);
    promise(report->is_dr == situation->dr_in_force);
    promise(failover_no_primary_since(world.failover, "e") == 0);
}

static void check_settled(void)
{
    const struct situation *situation = failover_situation(world.failover, "e");
    enum failover_state state = failover_state(world.failover, "e");
    model_check_answered("");
    if (claim.episode) {
        promise(state == FAILOVER_STATE_PROCEDURE);
        return;
    }
    promise(world.begun == world.ended);
    promise(state != FAILOVER_STATE_SWITCHING && state != FAILOVER_STATE_PROCEDURE);
    promise(world.is_held == (state == FAILOVER_STATE_STARTING));
    promise(configurations[configuration].hosts || state == FAILOVER_STATE_UNWATCHED);
    if (state == FAILOVER_STATE_OK)
        check_served(situation);
    if (state == FAILOVER_STATE_NO_PRIMARY || state == FAILOVER_STATE_STOPPED ||
        state == FAILOVER_STATE_STARTING)
        promise(writers() == 0);
}

/* ---- beginning and end of a process ---- */

static void start(void)
{
    static const struct failover_procedures procedures = {
        .looked = on_looked, .unfinished = on_unfinished, .ended = on_ended};
    char problem[256];
    world.loop = loop_new(0, NULL);
    take_configuration(configuration);
    world.failover = failover_new(world.loop, snapshots[has_state_dir][configuration],
                                  &model_failover_world, problem, sizeof problem);
    promise(world.failover);
    failover_set_procedures(world.failover, &procedures);
}

static char *situation_text(void)
{
    const struct situation *situation = failover_situation(world.failover, "e");
    json_t *json = situation ? situation_to_json(situation) : json_null();
    char *text = json_dumps(json, JSON_ENCODE_ANY | JSON_SORT_KEYS);
    json_decref(json);
    return text;
}

static void note_id(void *argument, const struct episode *episode)
{
    (void)argument;
    if (episode->result != EPISODE_RUNNING)
        world.ended_ids[world.ended++] = episode->id;
}

/* What the state file holds; it may be less than was known when the process was killed. */
static void read_episodes(void)
{
    world.ended = 0;
    failover_each_episode(world.failover, note_id, NULL);
    world.begun = world.ended;
}

static void stop(void)
{
    model_note(world.is_dead ? "killed" : "stop");
    claim.episode = NULL;
    world.is_claimed = false;
    failover_stop(world.failover);
    model_check_answered("save");
    while (dice(4)) {
        event_closing();
        if (disk_is_busy())
            disk_answers(true);
        turn();
    }
    model_commands.count = 0;
    failover_free(world.failover);
    loop_free(world.loop);
    world.failover = NULL;
    world.loop = NULL;
}

static void event_restart(void)
{
    char *before = situation_text();
    bool was_killed = world.is_dead = !dice(3);
    unsigned ended = world.begun;
    stop();
    bool compares = has_state_dir && !was_killed;
    world_restart();
    start();
    read_episodes();
    read_maintenance();
    promise(!compares || world.ended == (ended > HISTORY_MAX ? HISTORY_MAX : ended));
    char *after = situation_text();
    if (compares && strcmp(before, after) != 0) {
        fprintf(stderr, "%s\n%s\n", before, after);
        model_fail("what was known before the end is known after it");
    }
    free(before);
    free(after);
    failover_start(world.failover);
}

/* ---- runs ---- */

static void event(void)
{
    unsigned what = dice(100);
    world.now_us += dice(20) ? dice(300 * CLOCK_MS) : 3 * CLOCK_SECOND;
    world.wall_us += dice(300 * CLOCK_MS);
    if (!dice(50))
        world.wall_us += dice(2) ? 5 * CLOCK_SECOND : -5 * CLOCK_SECOND;
    if (what < 22)
        event_host();
    else if (what < 27)
        event_promotion();
    else if (what < 28)
        event_logins();
    else if (what < 38)
        event_command();
    else if (what < 50)
        event_procedure();
    else if (what < 62)
        event_closing();
    else if (what < 74)
        event_disk();
    else if (what < 77)
        configure(dice(3) ? WHOLE : dice(CONFIGURATIONS));
    else if (what < 78)
        event_restart();
    else if (what < 80)
        settle();
    else
        turn();
    if (!world.failover)
        return;
    if (dice(2))
        failover_changed(world.failover, "e");
    check_now();
    if (what >= 78 && what < 80)
        check_settled();
}

static void unfence_all(void)
{
    const struct situation *situation = failover_situation(world.failover, "e");
    while (situation->fence_count) {
        char *host = text_copy(situation->fences[0].host);
        failover_unfence_command(world.failover, host, "admin", model_answered,
                                 model_command("UNFENCE"));
        free(host);
        settle();
    }
}

/* Whatever has happened: with hosts that are well, and an operator that says so, clients go on. */
static void heal(void)
{
    size_t primary = dice(MODEL_HOSTS);
    uint32_t timeline = newest_timeline() + 10;
    model_note("heal");
    claim.is_over = true;
    if (claim.episode)
        end_claim(EPISODE_ABORTED);
    configure(WHOLE);
    settle();
    maintain(false, 0, model_command("MAINTENANCE"));
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        struct host_report *report = &world.hosts[i].report;
        world.hosts[i].is_there = true;
        report->system_identifier = 42;
        report->login = PROBE_LOGIN_MONITOR;
        world.now_us += CLOCK_SECOND;
        if (i == primary)
            host_takes_writes(report, timeline);
        else
            host_follows(report, timeline);
    }
    settle();
    unfence_all();
    if (failover_state(world.failover, "e") != FAILOVER_STATE_OK) {
        failover_accept_command(world.failover, "e", model_labels[primary], "admin", model_answered,
                                model_command("ACCEPT"));
        settle();
    }
    check_now();
    promise(!world.is_held);
    promise(world.hosts[primary].standing.write == ALLOW_YES);
    check_settled();
}

static void run(uint64_t seed)
{
    world_init(seed);
    claim.episode = NULL;
    claim.is_over = false;
    model_commands.count = 0;
    maintenance_due = 0;
    is_maintenance_known = true;
    has_state_dir = dice(5);
    configuration = dice(4) ? WHOLE : dice(CONFIGURATIONS);
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        if (i == 0)
            host_takes_writes(&world.hosts[i].report, 1);
        else
            host_follows(&world.hosts[i].report, 1);
        if (!dice(8))
            world.hosts[i].report.probed_us = 0;
    }
    start();
    failover_start(world.failover);
    for (unsigned i = 0; i < EVENTS; i++)
        event();
    if (dice(2))
        heal();
    stop();
    world_fini();
}

static void begin_quietly(void)
{
    world_init(1);
    model_commands.count = 0;
    maintenance_due = 0;
    is_maintenance_known = true;
    claim.is_over = has_state_dir = true;
    snapshots[true][WHOLE] = model_snapshot(configurations[WHOLE].text, true);
    configuration = WHOLE;
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        struct host_report *report = &world.hosts[i].report;
        i == 0 ? host_takes_writes(report, 1) : host_follows(report, 1);
    }
    start();
    failover_start(world.failover);
    settle();
}

static void look(uint64_t later_us)
{
    world.now_us += later_us;
    turn();
    settle();
}

Test(maintenance, lasts_as_long_as_it_says_whatever_becomes_of_the_wall_clock)
{
    const struct situation *situation;
    begin_quietly();
    maintain(true, 600 * CLOCK_SECOND, model_command("MAINTENANCE"));
    world.wall_us += 7200 * CLOCK_SECOND;
    look(CLOCK_SECOND);
    check_now();
    situation = failover_situation(world.failover, "e");
    cr_assert(situation_in_maintenance(situation, world.now_us), "the clock has ended it");
    /* what is shown and written down is right again */
    uint64_t until_us = world.wall_us + 599 * CLOCK_SECOND;
    cr_assert(situation->maintenance_until_us <= until_us &&
              situation->maintenance_until_us + CLOCK_SECOND >= until_us);
    world.wall_us -= 86400 * CLOCK_SECOND;
    look(598 * CLOCK_SECOND);
    check_now();
    cr_assert(situation_in_maintenance(situation, world.now_us));
    look(2 * CLOCK_SECOND);
    cr_assert_not(situation_in_maintenance(situation, world.now_us), "the clock prolongs it");
    cr_assert_eq(situation->maintenance_until_us, 0);
    check_now();
    stop();
    world_fini();
    snapshot_unref(snapshots[true][WHOLE]);
}

Test(engine_model, keeps_its_promises_whatever_happens)
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
    cr_assert_gt(claims, last);
    cr_assert_gt(unfinished, last / 50);
    cr_assert_gt(model_commands.accepted, last);
}
