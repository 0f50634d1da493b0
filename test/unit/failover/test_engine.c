/*
 * The engine with stand-ins for the monitor and the plane: in which order things are held, closed,
 * accepted and released, what is written down, and what comes back after a restart.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgstage/base/buffer.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "pgstage/failover/failover.h"
#include "pgstage/health/report.h"
#include "pgstage/session/plane.h"
#include "pgstage/worker/loop.h"

#define HOSTS 3

static struct {
    char folder[64];
    struct loop *loop;
    struct snapshot *snapshot;
    struct failover *failover;
    struct host_report hosts[HOSTS];
    bool is_gone[HOSTS]; /* the monitor does not know it any more */
    struct standing standings[HOSTS];
    struct buffer log; /* what the plane was told, in order */
    struct buffer records;
    bool held;
    struct {
        void (*done)(void *argument);
        void *argument;
    } closing[8];
    size_t closing_count;
    const struct failover_procedures *procedures; /* from the next open_engine on */
} stage;

static const char *const labels[HOSTS] = {"a:1", "b:2", "c:3"};

/* ---- the world ---- */

static void on_hold(void *context, const char *environment)
{
    (void)context;
    cr_assert_str_eq(environment, "e");
    stage.held = true;
    buffer_print(&stage.log, "hold ");
}

static void on_release(void *context, const char *environment)
{
    (void)context;
    (void)environment;
    stage.held = false;
    buffer_print(&stage.log, "release ");
}

static void on_counts(void *context, const char *environment, struct failover_counts *counts)
{
    (void)context;
    (void)environment;
    *counts = (struct failover_counts){7, 2};
}

static void on_close_host(void *context, const char *environment, const char *host,
                          const char *detail, void (*done)(void *argument), void *argument)
{
    (void)context;
    (void)environment;
    (void)detail;
    cr_assert(stage.closing_count < 8);
    stage.closing[stage.closing_count].done = done;
    stage.closing[stage.closing_count++].argument = argument;
    buffer_print(&stage.log, "close(%s) ", host);
}

static void on_standing(void *context, const char *environment, const char *host,
                        const struct standing *standing)
{
    (void)context;
    (void)environment;
    for (size_t i = 0; i < HOSTS; i++) {
        if (strcmp(host, labels[i]) != 0)
            continue;
        if (standing->write == ALLOW_YES && stage.standings[i].write != ALLOW_YES)
            buffer_print(&stage.log, "writes(%s) ", host);
        if (standing->write == ALLOW_NO && stage.standings[i].write == ALLOW_YES)
            buffer_print(&stage.log, "stops(%s) ", host);
        stage.standings[i] = *standing;
    }
    /* at no moment two hosts */
    size_t writers = 0;
    for (size_t i = 0; i < HOSTS; i++)
        writers += stage.standings[i].write == ALLOW_YES;
    cr_assert(writers <= 1);
}

static void on_each_host(void *context, const char *environment,
                         void (*each)(void *argument, const struct host_report *report),
                         void *argument)
{
    (void)context;
    if (strcmp(environment, "e") != 0)
        return;
    for (size_t i = 0; i < HOSTS; i++) {
        if (!stage.is_gone[i])
            each(argument, &stage.hosts[i]);
    }
}

static void on_record(void *context, const struct failover_record *record)
{
    (void)context;
    cr_assert_str_eq(record->environment, "e");
    buffer_print(&stage.records, "%s(%s%s%s) ", record->what, record->host ? record->host : "",
                 record->result || record->kind ? " " : "",
                 record->result ? record->result
                 : record->kind ? record->kind
                                : "");
}

/* ---- helpers ---- */

static void look(size_t i, enum role role, uint32_t timeline)
{
    struct host_report *host = &stage.hosts[i];
    host->health = HEALTH_HEALTHY;
    host->role = role;
    host->breaker = BREAKER_CLOSED;
    host->system_identifier = 42;
    host->timeline = timeline;
    host->receiver = role == ROLE_STANDBY ? RECEIVER_STREAMING : RECEIVER_NONE;
    host->error = PROBE_FINE;
    host->bad = 0;
    host->probed_us = host->answered_us = clock_now_us();
    host->started_wall_us = 1000 + i;
}

static void down(size_t i)
{
    stage.hosts[i].health = HEALTH_CRITICAL;
    stage.hosts[i].breaker = BREAKER_OPEN;
    stage.hosts[i].error = PROBE_REFUSED;
    stage.hosts[i].bad = 2;
    stage.hosts[i].probed_us = clock_now_us();
}

static void on_saved(void *context, enum failover_saved how)
{
    (void)how;
    *(bool *)context = true;
}

/* Lets everything happen that can without a connection being closed: what is written down in a turn
 * may lead to another, so the disk is waited for more than once. */
static void turn(void)
{
    failover_changed(stage.failover, "e");
    for (int i = 0; i < 3; i++) {
        bool saved = false;
        loop_turn(stage.loop, false);
        failover_save(stage.failover, on_saved, &saved);
        while (!saved)
            loop_turn(stage.loop, true);
        loop_turn(stage.loop, false);
    }
}

static void close_all(void)
{
    size_t count = stage.closing_count;
    stage.closing_count = 0;
    for (size_t i = 0; i < count; i++)
        stage.closing[i].done(stage.closing[i].argument);
    turn();
}

/* What happened since the last time. */
static void assert_happened(const char *expected)
{
    buffer_put_u8(&stage.log, '\0');
    cr_assert_str_eq((const char *)stage.log.data, expected);
    buffer_fini(&stage.log);
}

static void open_engine(const char *more)
{
    struct report report = {0};
    char problem[256];
    char *text = text_print("[pgstage]\nstate_dir = %s\n[environment e]\nhosts = a:1, b:2, "
                            "c:3\nmonitor_user = m\n%s\n[databases]\napp = dbname=app\n",
                            stage.folder, more ? more : "");
    stage.snapshot = snapshot_parse("test.ini", text, strlen(text), &report);
    cr_assert_not_null(stage.snapshot, "%s", report.count ? report.entries[0].text : "");
    report_fini(&report);
    free(text);
    struct failover_world world = {
        .hold = on_hold,
        .release = on_release,
        .counts = on_counts,
        .close_host = on_close_host,
        .set_standing = on_standing,
        .each_host = on_each_host,
        .record = on_record,
    };
    stage.failover = failover_new(stage.loop, stage.snapshot, &world, problem, sizeof problem);
    cr_assert_not_null(stage.failover, "%s", problem);
    if (stage.procedures)
        failover_set_procedures(stage.failover, stage.procedures);
    failover_start(stage.failover);
}

static void close_engine(void)
{
    failover_stop(stage.failover);
    failover_free(stage.failover);
    snapshot_unref(stage.snapshot);
    stage.failover = NULL;
    stage.closing_count = 0;
    memset(stage.standings, 0, sizeof stage.standings);
    buffer_fini(&stage.log);
    buffer_fini(&stage.records);
}

static void begin(void)
{
    strcpy(stage.folder, "/tmp/pgstage-engine-XXXXXX");
    cr_assert_not_null(mkdtemp(stage.folder));
    stage.loop = loop_new(0, NULL);
    for (size_t i = 0; i < HOSTS; i++) {
        stage.hosts[i] = (struct host_report){
            .environment = "e",
            .label = labels[i],
            .name = (const char *[]){"a", "b", "c"}[i],
            .address = "",
            .port = (uint16_t)(i + 1),
            .login = PROBE_LOGIN_MONITOR,
            .lag_bytes = -1,
        };
    }
}

static void end(void)
{
    if (stage.failover)
        close_engine();
    loop_free(stage.loop);
    char *command = text_print("rm -rf %s", stage.folder);
    cr_assert_eq(system(command), 0);
    free(command);
}

TestSuite(engine, .init = begin, .fini = end, .timeout = 300);

/* a is the accepted primary, b and c stream from it. */
static void settle(const char *more)
{
    open_engine(more);
    look(0, ROLE_PRIMARY, 1);
    look(1, ROLE_STANDBY, 1);
    look(2, ROLE_STANDBY, 1);
    turn();
    assert_happened("hold writes(a:1) release ");
}

static bool nobody_writes(void)
{
    for (size_t i = 0; i < HOSTS; i++) {
        if (stage.standings[i].write != ALLOW_NO)
            return false;
    }
    return true;
}

static void find_alarm(void *argument, const struct alarm_view *alarm)
{
    struct {
        const char *word;
        bool found;
    } *search = argument;
    search->found = search->found || strcmp(alarm->alarm, search->word) == 0;
}

static bool has_alarm(const char *word)
{
    struct {
        const char *word;
        bool found;
    } search = {word, false};
    failover_each_alarm(stage.failover, find_alarm, &search);
    return search.found;
}

static void count_episode(void *argument, const struct episode *episode)
{
    const struct episode **last = argument;
    *last = episode;
}

static const struct episode *last_episode(void)
{
    const struct episode *last = NULL;
    failover_each_episode(stage.failover, count_episode, &last);
    return last;
}

struct tally {
    size_t of[EPISODE_RESULTS];
};

static void count_result(void *argument, const struct episode *episode)
{
    struct tally *tally = argument;
    tally->of[episode->result]++;
}

static struct tally episode_results(void)
{
    struct tally tally = {0};
    failover_each_episode(stage.failover, count_result, &tally);
    return tally;
}

static const struct situation *situation(void)
{
    return failover_situation(stage.failover, "e");
}

static struct failover_answer answer;
static int answers;

static void on_answer(void *context, const struct failover_answer *given)
{
    (void)context;
    answer = *given;
    answers++;
}

/* ---- following ---- */

Test(engine, nobody_writes_before_all_hosts_have_answered)
{
    open_engine(NULL);
    look(0, ROLE_PRIMARY, 1);
    look(1, ROLE_STANDBY, 1);
    turn();
    assert_happened("hold ");
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_STARTING);
    down(2); /* a time limit is an answer */
    turn();
    assert_happened("writes(a:1) release ");
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_OK);
    cr_assert_null(last_episode());
}

Test(engine, follows_a_promotion_and_closes_everything_to_the_old_one_first)
{
    settle(NULL);
    down(0);
    turn();
    assert_happened("stops(a:1) ");
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_NO_PRIMARY);
    cr_assert(has_alarm("no_primary"));
    cr_assert(failover_no_primary_since(stage.failover, "e") > 0);
    look(1, ROLE_PRIMARY, 2);
    turn();
    assert_happened("hold close(a:1) ");
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_SWITCHING);
    turn(); /* nothing happens before everything is closed */
    cr_assert(stage.held);
    close_all();
    assert_happened("writes(b:2) release ");
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_OK);
    cr_assert_not(has_alarm("no_primary"));
    cr_assert_str_eq(situation()->accepted, "b:2");
    cr_assert_eq(situation()->timeline, 2);
    cr_assert_eq(situation_fence(situation(), "a:1")->kind, FENCE_FORMER);
    const struct episode *episode = last_episode();
    cr_assert(episode->result == EPISODE_DONE && episode->type == EPISODE_AUTOMATIC);
    cr_assert_str_eq(episode->from, "a:1");
    cr_assert_str_eq(episode->to, "b:2");
    cr_assert(episode->id == 1 && episode->hold_ms >= 0 && episode->total_ms >= episode->hold_ms);
    cr_assert(episode->detection_ms >= 0 && episode->clients_held == 7 &&
              episode->clients_errored == 2);
}

Test(engine, what_it_decides_by_itself_is_recorded)
{
    settle(NULL);
    stage.hosts[0].lsn_flushed = 5000;
    stage.hosts[1].lsn_received = 4000;
    stage.hosts[1].lsn_replayed = 3900;
    turn();
    down(0);
    turn();
    look(1, ROLE_PRIMARY, 2);
    stage.hosts[1].lsn_flushed = 6000;
    turn();
    close_all();
    buffer_put_u8(&stage.records, '\0');
    cr_assert_str_eq((const char *)stage.records.data,
                     "accept(a:1) fence(a:1 former_primary) begin(b:2) accept(b:2) end(b:2 done) ");
    /* what b lacked of what was seen on a */
    cr_assert_eq(last_episode()->lag_bytes, 1000);
}

Test(engine, what_the_new_primary_lacks_is_not_guessed)
{
    settle(NULL);
    down(0);
    look(1, ROLE_PRIMARY, 2);
    turn();
    close_all();
    cr_assert_eq(last_episode()->lag_bytes, -1);
}

Test(engine, a_refused_promotion_is_an_alarm_until_it_does_not_apply)
{
    settle(NULL);
    down(0);
    turn();
    failover_refuse(stage.failover, "e", "receiver: b:2 still streams");
    cr_assert(has_alarm("promotion_refused"));
    turn(); /* looks keep it */
    cr_assert(has_alarm("promotion_refused"));
    cr_assert(has_alarm("no_primary"));
    failover_refuse(stage.failover, "e", NULL);
    cr_assert_not(has_alarm("promotion_refused"));
    cr_assert(has_alarm("no_primary"));
}

Test(engine, a_former_primary_is_fenced_until_it_streams_on_the_accepted_timeline)
{
    settle(NULL);
    down(0);
    look(1, ROLE_PRIMARY, 2);
    turn();
    close_all();
    look(0, ROLE_PRIMARY, 1); /* it comes back as it was */
    turn();
    cr_assert(has_alarm("two_primaries"));
    cr_assert_eq(stage.standings[0].write, ALLOW_NO);
    look(0, ROLE_STANDBY, 1); /* a standby of nobody we know */
    turn();
    cr_assert_not_null(situation_fence(situation(), "a:1"));
    cr_assert_eq(stage.standings[0].standby, ALLOW_NO);
    close_engine();
    open_engine(NULL); /* also over a restart */
    turn();
    cr_assert_not_null(situation_fence(situation(), "a:1"));
    cr_assert_eq(stage.standings[0].standby, ALLOW_NO);
    cr_assert_str_eq(situation()->accepted, "b:2");
    cr_assert_eq(last_episode()->id, 1);
    look(0, ROLE_STANDBY, 2);
    turn();
    cr_assert_null(situation_fence(situation(), "a:1"));
    cr_assert_eq(stage.standings[0].standby, ALLOW_YES);
}

Test(engine, a_restart_of_the_primary_is_no_failover)
{
    settle(NULL);
    down(0);
    turn();
    look(0, ROLE_PRIMARY, 1);
    turn();
    assert_happened("stops(a:1) writes(a:1) ");
    cr_assert_null(last_episode());
    cr_assert_eq(failover_no_primary_since(stage.failover, "e"), 0);
}

Test(engine, two_writers_on_one_timeline_stop_everything_until_ACCEPT)
{
    settle(NULL);
    look(1, ROLE_PRIMARY, 1);
    turn();
    assert_happened("stops(a:1) close(a:1) ");
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_STOPPED);
    cr_assert(has_alarm("equal_timelines"));
    close_all();
    cr_assert(nobody_writes());
    assert_happened("");
    failover_accept_command(stage.failover, "e", "b", "admin@here", on_answer, NULL);
    turn();
    close_all();
    turn();
    cr_assert(answers == 1 && answer.ok, "%s", answer.text);
    assert_happened("hold writes(b:2) release ");
    cr_assert(has_alarm("two_primaries"));
    cr_assert_not(has_alarm("equal_timelines"));
    cr_assert_eq(last_episode()->type, EPISODE_MANUAL);
    cr_assert_eq(situation_fence(situation(), "a:1")->kind, FENCE_FORMER);
}

Test(engine, ACCEPT_may_choose_the_one_that_had_been_accepted_before)
{
    settle(NULL);
    look(1, ROLE_PRIMARY, 1);
    turn();
    close_all();
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_STOPPED);
    failover_accept_command(stage.failover, "e", "a", "admin@here", on_answer, NULL);
    turn();
    close_all();
    turn();
    cr_assert(answers == 1 && answer.ok, "%s", answer.text);
    cr_assert_eq(stage.standings[0].write, ALLOW_YES);
    cr_assert_eq(stage.standings[1].write, ALLOW_NO);
    cr_assert_eq(situation_fence(situation(), "b:2")->kind, FENCE_FORMER);
    cr_assert_null(situation_fence(situation(), "a:1"));
}

Test(engine, without_any_login_that_can_look_everything_is_as_without_a_monitor)
{
    for (size_t i = 0; i < HOSTS; i++)
        stage.hosts[i].login = PROBE_LOGIN_NONE;
    open_engine(NULL);
    turn();
    assert_happened("");
    cr_assert_not(stage.held);
    cr_assert_eq(stage.standings[0].write, ALLOW_UNKNOWN);
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_UNWATCHED);
    /* once somebody can look, whatever may have been written to is closed first */
    for (size_t i = 0; i < HOSTS; i++)
        stage.hosts[i].login = PROBE_LOGIN_MONITOR;
    look(0, ROLE_STANDBY, 1);
    look(1, ROLE_PRIMARY, 1);
    look(2, ROLE_STANDBY, 1);
    turn();
    assert_happened("hold close(a:1) close(c:3) ");
    close_all();
    assert_happened("writes(b:2) release ");
}

Test(engine, another_server_behind_the_same_name_gets_no_connection_of_the_old_one)
{
    settle(NULL);
    stage.hosts[0].address = "10.0.0.1";
    turn();
    assert_happened("");
    stage.hosts[0].address = "10.0.0.9"; /* the name leads somewhere else now */
    look(0, ROLE_PRIMARY, 1);
    turn();
    assert_happened("hold stops(a:1) close(a:1) ");
    close_all();
    assert_happened("writes(a:1) release ");
    look(0, ROLE_PRIMARY, 2); /* a proxy leads to a promoted standby */
    turn();
    assert_happened("hold stops(a:1) close(a:1) ");
    close_all();
    assert_happened("writes(a:1) release ");
    cr_assert_eq(situation()->timeline, 2);
    cr_assert_eq(situation()->fence_count, 0);
    stage.hosts[0].started_wall_us++; /* a mere restart */
    turn();
    assert_happened("");
}

static struct snapshot *other_snapshot(const char *text)
{
    struct report report = {0};
    char *whole = text_print("[pgstage]\nstate_dir = %s\n%s\n[databases]\napp = dbname=app "
                             "host=1.2.3.4\n",
                             stage.folder, text);
    struct snapshot *snapshot = snapshot_parse("test.ini", whole, strlen(whole), &report);
    cr_assert_not_null(snapshot, "%s", report.count ? report.entries[0].text : "");
    report_fini(&report);
    free(whole);
    return snapshot;
}

Test(engine, an_environment_that_is_taken_out_holds_nobody_and_is_remembered)
{
    settle(NULL);
    down(0);
    look(1, ROLE_PRIMARY, 2);
    turn(); /* in the middle of a change */
    cr_assert(stage.held);
    struct snapshot *without = other_snapshot("");
    failover_reloaded(stage.failover, without);
    turn();
    close_all();
    turn();
    cr_assert_not(stage.held);
    cr_assert_null(failover_situation(stage.failover, "e"));
    cr_assert_not(has_alarm("two_primaries"));
    failover_reloaded(stage.failover, stage.snapshot);
    turn();
    cr_assert_str_eq(situation()->accepted, "b:2");
    cr_assert_not_null(situation_fence(situation(), "a:1"));
    cr_assert_not(stage.held);
    cr_assert_eq(stage.standings[1].write, ALLOW_YES);
    snapshot_unref(without);
}

Test(engine, an_accepted_host_that_is_configured_no_more_gives_way)
{
    settle(NULL);
    /* another name of the same server, on the same timeline */
    down(0);
    stage.hosts[0].label = "z:9";
    stage.hosts[0].name = "z";
    look(0, ROLE_PRIMARY, 1);
    turn();
    close_all();
    cr_assert_str_eq(situation()->accepted, "z:9");
}

Test(engine, a_new_primary_that_goes_away_meanwhile_gets_nobody)
{
    settle(NULL);
    down(0);
    look(1, ROLE_PRIMARY, 2);
    turn();
    down(1);
    close_all();
    cr_assert(nobody_writes());
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_NO_PRIMARY);
    cr_assert_eq(last_episode()->result, EPISODE_FAILED);
    look(1, ROLE_PRIMARY, 2);
    turn();
    cr_assert_not(stage.held);
    cr_assert_eq(stage.standings[1].write, ALLOW_YES);
}

/* The second of two promotions is seen before the first was released. */
Test(engine, a_failover_that_another_overtakes_is_kept_as_a_failed_one)
{
    settle(NULL);
    down(0);
    look(1, ROLE_PRIMARY, 2);
    turn();
    down(1);
    look(2, ROLE_PRIMARY, 3);
    close_all();
    cr_assert_str_eq(last_episode()->to, "c:3");
    close_all();
    cr_assert_eq(stage.standings[2].write, ALLOW_YES);
    cr_assert_eq(episode_results().of[EPISODE_FAILED], 1);
    cr_assert_eq(episode_results().of[EPISODE_DONE], 1);
    cr_assert_eq(episode_results().of[EPISODE_RUNNING], 0);
}

Test(engine, a_failover_that_nobody_can_watch_any_more_ends)
{
    settle(NULL);
    down(0);
    look(1, ROLE_PRIMARY, 2);
    turn();
    for (size_t i = 0; i < HOSTS; i++)
        stage.hosts[i].login = PROBE_LOGIN_NONE;
    close_all();
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_UNWATCHED);
    cr_assert_eq(episode_results().of[EPISODE_FAILED], 1);
    cr_assert_eq(episode_results().of[EPISODE_RUNNING], 0);
}

/* Its probes can log in no more, and then it dies. */
Test(engine, a_primary_that_nobody_can_look_into_and_that_dies_is_lost)
{
    settle(NULL);
    stage.hosts[0].blind = true;
    stage.hosts[0].error = PROBE_AUTH;
    turn();
    assert_happened("");
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_OK);
    down(0);
    turn();
    assert_happened("stops(a:1) ");
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_NO_PRIMARY);
}

Test(engine, a_primary_that_became_a_standby_and_lets_nobody_look_is_no_primary)
{
    settle(NULL);
    look(0, ROLE_STANDBY, 1);
    turn();
    stage.hosts[0].blind = true;
    stage.hosts[0].error = PROBE_AUTH;
    turn();
    cr_assert(nobody_writes());
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_NO_PRIMARY);
    cr_assert(failover_no_primary_since(stage.failover, "e") > 0);
}

/* Connections were opened again while earlier ones were being closed. */
Test(engine, what_was_opened_while_a_host_was_being_closed_is_closed_too)
{
    settle(NULL);
    look(1, ROLE_PRIMARY, 1);
    turn();
    assert_happened("stops(a:1) close(a:1) ");
    look(1, ROLE_STANDBY, 1); /* the other gives way before that has ended */
    turn();
    assert_happened("writes(a:1) ");
    down(0);
    look(2, ROLE_PRIMARY, 2);
    turn();
    assert_happened("hold stops(a:1) close(a:1) ");
    stage.closing[0].done(stage.closing[0].argument);
    stage.closing[0] = stage.closing[--stage.closing_count];
    turn();
    assert_happened("");
    close_all();
    assert_happened("writes(c:3) release ");
}

/* Before anybody could look, every login found out by itself which host takes writes. */
Test(engine, without_a_primary_nobody_writes_to_other_hosts_either)
{
    char problem[256];
    settle(NULL);
    for (size_t i = 0; i < HOSTS; i++) {
        stage.hosts[i].login = PROBE_LOGIN_NONE;
        stage.hosts[i].role = ROLE_UNKNOWN;
    }
    turn();
    for (size_t i = 0; i < HOSTS; i++) {
        stage.hosts[i].login = PROBE_LOGIN_MONITOR;
        look(i, ROLE_STANDBY, 1);
    }
    down(0);
    buffer_fini(&stage.log);
    turn();
    assert_happened("close(b:2) close(c:3) ");
    cr_assert_null(failover_claim(stage.failover, "e", EPISODE_MANUAL, "a:1", "b:2", "FAILOVER",
                                  problem, sizeof problem));
    cr_assert(strstr(problem, "have to be closed first"), "%s", problem);
    close_all();
    struct episode *claimed = failover_claim(stage.failover, "e", EPISODE_MANUAL, "a:1", "b:2",
                                             "FAILOVER", problem, sizeof problem);
    cr_assert_not_null(claimed);
    failover_end(stage.failover, claimed, EPISODE_FAILED, NULL);
}

/* Its first good probe does not make it healthy: clients keep what they had been given. */
Test(engine, hosts_that_can_be_read_again_are_not_down_until_they_are_healthy)
{
    open_engine(NULL);
    for (size_t i = 0; i < HOSTS; i++) {
        down(i);
        stage.hosts[i].error = PROBE_TLS;
    }
    turn();
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_UNVERIFIED);
    for (size_t i = 0; i < HOSTS; i++) {
        look(i, i ? ROLE_STANDBY : ROLE_PRIMARY, 1);
        stage.hosts[i].health = HEALTH_CRITICAL;
    }
    turn();
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_UNVERIFIED);
    cr_assert_eq(stage.closing_count, 0);
    for (size_t i = 0; i < HOSTS; i++)
        stage.hosts[i].health = HEALTH_HEALTHY;
    turn();
    close_all(); /* those of the standbys */
    cr_assert_eq(stage.standings[0].write, ALLOW_YES);
}

/* ---- what an operator says ---- */

Test(engine, maintenance_stops_following_until_it_ends)
{
    settle(NULL);
    failover_maintenance_command(stage.failover, "e", true, 0, "admin", on_answer, NULL);
    turn();
    cr_assert(answers == 1 && answer.ok);
    down(0);
    look(1, ROLE_PRIMARY, 2);
    turn();
    assert_happened("stops(a:1) ");
    close_engine();
    open_engine(NULL); /* it outlasts a restart */
    turn();
    cr_assert_str_eq(situation()->accepted, "a:1");
    cr_assert(nobody_writes());
    failover_maintenance_command(stage.failover, "e", false, 0, "admin", on_answer, NULL);
    turn();
    close_all();
    cr_assert_str_eq(situation()->accepted, "b:2");
    cr_assert_not(stage.held);
}

Test(engine, FENCE_of_the_primary_stops_it_and_UNFENCE_gives_it_back)
{
    settle(NULL);
    failover_fence_command(stage.failover, "a", "admin", on_answer, NULL);
    turn();
    assert_happened("stops(a:1) close(a:1) ");
    cr_assert_eq(answers, 0, "answered before it was closed");
    close_all();
    cr_assert(answers == 1 && answer.ok);
    failover_unfence_command(stage.failover, "a:1", "admin", on_answer, NULL);
    turn();
    cr_assert(answers == 2 && answer.ok);
    assert_happened("writes(a:1) ");
    failover_unfence_command(stage.failover, "a:1", "admin", on_answer, NULL);
    turn();
    cr_assert(answers == 3 && !answer.ok);
    cr_assert_str_eq(answer.sqlstate, "55000");
}

Test(engine, a_fence_holds_for_every_address_of_a_name_and_goes_with_the_last_of_its_labels)
{
    settle(NULL);
    failover_fence_command(stage.failover, "c", "admin", on_answer, NULL);
    close_all();
    cr_assert_eq(situation_fence(situation(), "c:3")->kind, FENCE_OPERATOR);
    stage.hosts[1].label = "c@192.0.2.1:3";
    stage.hosts[2].label = "c@192.0.2.2:3";
    stage.hosts[1].name = "c";
    stage.hosts[1].port = 3;
    stage.hosts[1].address = "192.0.2.1";
    stage.hosts[2].address = "192.0.2.2";
    turn();
    cr_assert_null(situation_fence(situation(), "c:3"));
    cr_assert_eq(situation_fence(situation(), "c@192.0.2.1:3")->kind, FENCE_OPERATOR);
    cr_assert_eq(situation_fence(situation(), "c@192.0.2.2:3")->kind, FENCE_OPERATOR);
}

Test(engine, a_host_is_named_so_that_one_is_meant)
{
    const char *key, *environment;
    settle(NULL);
    static const char *const good[] = {"b", "b:2", "B", "b@e", "b:2@e"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        cr_assert(failover_find_host(stage.failover, NULL, good[i], &key, &environment, &answer),
                  "%s", good[i]);
        cr_assert_str_eq(key, "b:2");
        cr_assert_str_eq(environment, "e");
    }
    cr_assert_not(failover_find_host(stage.failover, NULL, "d", &key, &environment, &answer));
    cr_assert_str_eq(answer.sqlstate, "42704");
    stage.hosts[2].name = "b";
    stage.hosts[2].label = "b:3";
    turn();
    cr_assert_not(failover_find_host(stage.failover, NULL, "b", &key, &environment, &answer));
    cr_assert_str_eq(answer.sqlstate, "42725");
    cr_assert(strstr(answer.hint, "b:2@e") && strstr(answer.hint, "b:3@e"), "%s", answer.hint);
}

Test(engine, ACCEPT_takes_only_a_host_that_writes)
{
    settle(NULL);
    failover_accept_command(stage.failover, "e", "b", "admin", on_answer, NULL);
    turn();
    cr_assert(answers == 1 && !answer.ok);
    cr_assert(strstr(answer.text, "it is a standby"), "%s", answer.text);
    assert_happened("");
}

/* Its name has another address, and nobody has looked since. */
Test(engine, ACCEPT_knows_that_a_host_has_just_gone)
{
    settle(NULL);
    stage.is_gone[1] = true;
    failover_accept_command(stage.failover, "e", "b", "admin", on_answer, NULL);
    turn();
    cr_assert(answers == 1 && !answer.ok);
    cr_assert_str_eq(answer.sqlstate, "42704");
}

Test(engine, ACCEPT_takes_another_cluster_after_a_restore)
{
    settle(NULL);
    look(0, ROLE_PRIMARY, 1);
    stage.hosts[0].system_identifier = 43;
    turn();
    cr_assert(has_alarm("wrong_cluster"));
    cr_assert(nobody_writes());
    buffer_fini(&stage.log);
    failover_accept_command(stage.failover, "e", "a:1", "admin", on_answer, NULL);
    turn();
    assert_happened("hold close(a:1) ");
    close_all();
    cr_assert(answers == 1 && answer.ok, "%s", answer.text);
    assert_happened("writes(a:1) release ");
    cr_assert_eq(situation()->system_identifier, 43);
    cr_assert_eq(stage.standings[1].standby, ALLOW_NO, "the old cluster's standby is still read");
}

/* ---- the state file ---- */

static void damage(const char *content)
{
    char *path = text_print("%s/failover.json", stage.folder);
    FILE *file = fopen(path, "w");
    fputs(content, file);
    fclose(file);
    free(path);
}

Test(engine, a_damaged_state_file_is_alarmed_and_nothing_of_it_believed)
{
    static const char *const damaged[] = {
        "{",
        "{\"version\": 2, \"next_id\": 1, \"environments\": {}, \"history\": []}",
        "{\"version\": 1, \"next_id\": 1, \"environments\": {\"e\": {}}, \"history\": []}",
        "{\"version\": 1, \"next_id\": 1, \"environments\": {}, \"history\": [3]}",
        "{\"version\": 1, \"environments\": {}, \"history\": []}",
    };
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        damage(damaged[i]);
        for (size_t k = 0; k < HOSTS; k++)
            stage.hosts[k].probed_us = 0;
        open_engine(NULL);
        cr_assert(has_alarm("state_lost"), "%s", damaged[i]);
        look(0, ROLE_PRIMARY, 1);
        look(1, ROLE_STANDBY, 1);
        turn();
        cr_assert(stage.held, "accepted before all had answered");
        look(2, ROLE_STANDBY, 1);
        turn();
        cr_assert_not(nobody_writes());
        cr_assert_not(stage.held);
        cr_assert(has_alarm("state_lost"));
        close_engine();
        open_engine(NULL); /* it is whole again */
        cr_assert_not(has_alarm("state_lost"));
        close_engine();
        char *aside = text_print("%s/failover.json.damaged", stage.folder);
        cr_assert_eq(access(aside, F_OK), 0);
        free(aside);
    }
}

Test(engine, a_disk_that_refuses_is_alarmed_and_does_not_keep_clients_waiting)
{
    settle(NULL);
    char *path = text_print("%s/failover.json.new", stage.folder);
    char *command = text_print("mkdir %s", path);
    cr_assert_eq(system(command), 0);
    down(0);
    look(1, ROLE_PRIMARY, 2);
    turn();
    close_all();
    cr_assert_not(stage.held);
    cr_assert(has_alarm("state_not_saved"));
    failover_fence_command(stage.failover, "c", "admin", on_answer, NULL);
    turn();
    close_all();
    cr_assert(answers == 1 && !answer.ok);
    cr_assert_str_eq(answer.sqlstate, "58030");
    cr_assert_eq(rmdir(path), 0);
    failover_unfence_command(stage.failover, "c", "admin", on_answer, NULL);
    turn();
    cr_assert(answers == 2 && answer.ok);
    cr_assert_not(has_alarm("state_not_saved"));
    free(command);
    free(path);
}

Test(engine, what_the_disk_has_refused_is_written_at_the_end)
{
    settle(NULL);
    char *path = text_print("%s/failover.json.new", stage.folder);
    cr_assert_eq(mkdir(path, 0700), 0);
    failover_fence_command(stage.failover, "c", "admin", on_answer, NULL);
    turn();
    close_all();
    cr_assert(answers == 1 && !answer.ok);
    cr_assert_eq(rmdir(path), 0);
    free(path);
    close_engine();
    open_engine(NULL);
    turn();
    cr_assert_not_null(situation_fence(situation(), "c:3"));
}

/* ---- procedures ---- */

static int looked;
static struct episode *claim;

static void on_looked(void *context, const char *environment)
{
    (void)context;
    (void)environment;
    looked++;
}

static void on_unfinished(void *context, const char *environment, const struct intent *intent)
{
    char problem[256];
    (void)context;
    cr_assert_str_eq(intent->to, "b:2");
    claim = failover_claim(stage.failover, environment, EPISODE_AUTOMATIC, "a:1", "b:2", "again",
                           problem, sizeof problem);
    cr_assert_not_null(claim, "%s", problem);
}

Test(engine, a_procedure_has_the_environment_for_itself)
{
    char problem[256];
    struct failover_procedures procedures = {.looked = on_looked};
    settle(NULL);
    failover_set_procedures(stage.failover, &procedures);
    turn();
    cr_assert(looked > 0);
    claim = failover_claim(stage.failover, "e", EPISODE_PLANNED, "a:1", "b:2", "FAILOVER", problem,
                           sizeof problem);
    cr_assert_not_null(claim);
    cr_assert_null(failover_claim(stage.failover, "e", EPISODE_PLANNED, NULL, NULL, "x", problem,
                                  sizeof problem));
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_PROCEDURE);
    looked = 0;
    failover_hold(stage.failover, "e");
    assert_happened("hold ");
    failover_withdraw(stage.failover, "e");
    assert_happened("stops(a:1) ");
    down(0);
    look(1, ROLE_PRIMARY, 2);
    turn(); /* the automatic part keeps its hands off */
    assert_happened("");
    cr_assert_eq(looked, 0);
    failover_accept(stage.failover, "e", "b:2", 42, 2, false);
    assert_happened("writes(b:2) ");
    failover_end(stage.failover, claim, EPISODE_DONE, NULL);
    turn();
    assert_happened("release ");
    cr_assert(looked > 0);
    cr_assert_eq(situation_fence(situation(), "a:1")->kind, FENCE_FORMER);
    cr_assert_eq(last_episode()->result, EPISODE_DONE);
}

/* Everything of the change is done but for the look that says what became of it. */
Test(engine, a_procedure_waits_until_a_change_has_been_looked_at)
{
    char problem[256];
    settle(NULL);
    down(0);
    look(1, ROLE_PRIMARY, 2);
    turn();
    cr_assert_eq(stage.closing_count, 1);
    stage.closing_count = 0;
    stage.closing[0].done(stage.closing[0].argument);
    cr_assert_null(failover_claim(stage.failover, "e", EPISODE_PLANNED, NULL, NULL, "x", problem,
                                  sizeof problem));
    cr_assert_str_eq(problem, "\"e\" is being switched to another primary");
    failover_accept_command(stage.failover, "e", "b:2", "admin", on_answer, NULL);
    turn();
    cr_assert_str_eq(answer.sqlstate, "55006");
    cr_assert_eq(last_episode()->result, EPISODE_DONE);
    claim = failover_claim(stage.failover, "e", EPISODE_PLANNED, NULL, NULL, "x", problem,
                           sizeof problem);
    cr_assert_not_null(claim);
    failover_end(stage.failover, claim, EPISODE_DONE, NULL);
}

/* The intent of a procedure that runs is no leftover of one that has ended. */
Test(engine, a_promotion_under_way_is_no_unfinished_failover)
{
    char problem[256];
    settle(NULL);
    claim = failover_claim(stage.failover, "e", EPISODE_AUTOMATIC, "a:1", "b:2", "down", problem,
                           sizeof problem);
    failover_intent(stage.failover, "e", "automatic", "a:1", "b:2", 1);
    down(0);
    turn();
    cr_assert_not(has_alarm("unfinished_failover"));
    failover_end(stage.failover, claim, EPISODE_FAILED, "it hung");
    turn();
}

/* Between the promotion and the next probe the monitor still says "standby". */
Test(engine, what_a_procedure_has_promoted_takes_writes_before_a_probe_says_so)
{
    char problem[256];
    settle(NULL);
    claim = failover_claim(stage.failover, "e", EPISODE_AUTOMATIC, "a:1", "b:2", "down", problem,
                           sizeof problem);
    failover_hold(stage.failover, "e");
    failover_withdraw(stage.failover, "e");
    down(0);
    look(1, ROLE_STANDBY, 1);
    turn();
    buffer_fini(&stage.log);
    failover_accept(stage.failover, "e", "b:2", 42, 2, false);
    failover_end(stage.failover, claim, EPISODE_DONE, NULL);
    turn();
    assert_happened("writes(b:2) release ");
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_OK);
    /* a probe that came later is believed, whatever it says */
    usleep(2000);
    look(1, ROLE_STANDBY, 2);
    turn();
    assert_happened("stops(b:2) ");
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_NO_PRIMARY);
}

Test(engine, a_procedure_that_gives_up_leaves_everything_as_it_was)
{
    char problem[256];
    settle(NULL);
    claim = failover_claim(stage.failover, "e", EPISODE_PLANNED, "a:1", "b:2", "FAILOVER", problem,
                           sizeof problem);
    failover_hold(stage.failover, "e");
    failover_withdraw(stage.failover, "e");
    failover_fence(stage.failover, "e", "a:1", "switchover");
    buffer_fini(&stage.log);
    failover_unfence(stage.failover, "e", "a:1");
    failover_end(stage.failover, claim, EPISODE_FAILED, "the candidate did not answer");
    turn();
    assert_happened("writes(a:1) release ");
    cr_assert_str_eq(last_episode()->text, "the candidate did not answer");
}

/* What somebody else has fenced is not the procedure's to give back. */
Test(engine, a_way_back_keeps_the_fences_of_others)
{
    char problem[256];
    settle(NULL);
    failover_fence_command(stage.failover, "a", "admin", on_answer, NULL);
    turn();
    close_all();
    claim = failover_claim(stage.failover, "e", EPISODE_EMERGENCY, "a:1", "b:2", "FAILOVER",
                           problem, sizeof problem);
    failover_fence(stage.failover, "e", "a:1", "failover");
    failover_fence(stage.failover, "e", "c:3", "failover");
    failover_unfence(stage.failover, "e", "a:1");
    failover_unfence(stage.failover, "e", "c:3");
    failover_end(stage.failover, claim, EPISODE_FAILED, "nobody was promoted");
    turn();
    cr_assert_eq(situation_fence(situation(), "a:1")->kind, FENCE_OPERATOR);
    cr_assert_null(situation_fence(situation(), "c:3"));
    cr_assert(nobody_writes());
    failover_unfence_command(stage.failover, "a", "admin", on_answer, NULL);
    look(1, ROLE_PRIMARY, 1); /* two of equal standing */
    turn();
    close_all();
    cr_assert_eq(situation_fence(situation(), "a:1")->kind, FENCE_CONTENDER);
    claim = failover_claim(stage.failover, "e", EPISODE_EMERGENCY, "a:1", "c:3", "FAILOVER",
                           problem, sizeof problem);
    failover_fence(stage.failover, "e", "a:1", "failover");
    failover_unfence(stage.failover, "e", "a:1");
    failover_end(stage.failover, claim, EPISODE_FAILED, "nobody was promoted");
    turn();
    cr_assert_eq(failover_state(stage.failover, "e"), FAILOVER_STATE_STOPPED);
    cr_assert(nobody_writes());
}

/* failover_min_interval counts from then. */
Test(engine, a_clock_that_was_ahead_does_not_keep_failovers_away)
{
    damage("{\"version\": 1, \"next_id\": 1, \"history\": [], \"environments\": {\"e\": {"
           "\"accepted\": \"a:1\", \"system_identifier\": \"42\", \"timeline\": 1,"
           "\"accepted_us\": 1, \"dr_in_force\": false, \"maintenance_until_us\": \"0\","
           "\"last_automatic_us\": 9000000000000000, \"fences\": [], \"intent\": null}}}");
    open_engine(NULL);
    cr_assert_not(has_alarm("state_lost"));
    look(0, ROLE_PRIMARY, 1);
    look(1, ROLE_STANDBY, 1);
    look(2, ROLE_STANDBY, 1);
    turn();
    cr_assert_leq(situation()->last_automatic_wall_us, clock_wall_us());
    cr_assert_gt(situation()->last_automatic_wall_us, 0);
}

static void promise_to_promote(void)
{
    char problem[256];
    settle("failover_mode = promote\nfailover_user = f");
    claim = failover_claim(stage.failover, "e", EPISODE_AUTOMATIC, "a:1", "b:2", "primary critical",
                           problem, sizeof problem);
    failover_hold(stage.failover, "e");
    failover_fence(stage.failover, "e", "a:1", "failover");
    failover_intent(stage.failover, "e", "automatic", "a:1", "b:2", 1);
    failover_save(stage.failover, NULL, NULL);
    turn();
    /* the process dies: what it would do at its end must not be in the file */
    char *copy = text_print("cp %s/failover.json %s/kept", stage.folder, stage.folder);
    cr_assert_eq(system(copy), 0);
    free(copy);
    close_engine();
    char *back = text_print("mv %s/kept %s/failover.json", stage.folder, stage.folder);
    cr_assert_eq(system(back), 0);
    free(back);
}

Test(engine, a_promotion_that_was_begun_before_a_crash_is_taken_up)
{
    struct failover_procedures procedures = {.unfinished = on_unfinished};
    promise_to_promote();
    look(0, ROLE_PRIMARY, 1);
    claim = NULL;
    stage.procedures = &procedures;
    open_engine("failover_mode = promote\nfailover_user = f");
    turn();
    cr_assert_not_null(claim);
    cr_assert(nobody_writes());
    cr_assert_eq(stage.standings[0].write, ALLOW_NO, "the fenced one came back");
    failover_end(stage.failover, claim, EPISODE_FAILED, "the candidate is a standby still");
    turn();
    cr_assert_null(situation()->intent);
    cr_assert(nobody_writes(), "who was fenced stays so");
}

Test(engine, a_promotion_that_was_begun_before_a_crash_and_that_nobody_takes_up_is_alarmed)
{
    promise_to_promote();
    look(0, ROLE_PRIMARY, 1);
    open_engine("failover_mode = promote\nfailover_user = f");
    turn();
    cr_assert(has_alarm("unfinished_failover"));
    cr_assert(nobody_writes());
    failover_accept_command(stage.failover, "e", "a", "admin", on_answer, NULL);
    turn();
    close_all();
    cr_assert(answers == 1 && answer.ok, "%s", answer.text);
    cr_assert_not(stage.held);
    cr_assert_not(has_alarm("unfinished_failover"));
}

Test(engine, a_promotion_that_took_place_before_a_crash_is_believed)
{
    promise_to_promote();
    look(0, ROLE_PRIMARY, 1);
    look(1, ROLE_PRIMARY, 2);
    open_engine("failover_mode = promote\nfailover_user = f");
    turn();
    close_all();
    cr_assert_str_eq(situation()->accepted, "b:2");
    cr_assert_null(situation()->intent);
    cr_assert_not_null(situation_fence(situation(), "a:1"));
    cr_assert_not(stage.held);
    cr_assert_eq(stage.standings[1].write, ALLOW_YES);
}
