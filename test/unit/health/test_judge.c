/* What findings of probes do to a host's report: rise and fall, kinds of failure, role, lag. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "src/health/monitor_inside.h"

#define SECOND CLOCK_SECOND

static struct host_report report;
static struct judge_memory memory;
static struct judge_limits limits;
static struct judge_primary primary;
static struct facts facts;
static uint64_t now_us;

static void set_up(void)
{
    memset(&report, 0, sizeof report);
    memset(&memory, 0, sizeof memory);
    memset(&facts, 0, sizeof facts);
    report.error_text = report.upstream = report.replica_name = report.sync_names = "";
    facts.replay_age_us = facts.receiver_silent_us = -1;
    facts.system_identifier = 42;
    facts.timeline = 1;
    limits = (struct judge_limits){
        .rise = 2, .fall = 2, .slow_us = SECOND / 2, .lag_warning_us = 10 * SECOND};
    primary = (struct judge_primary){0};
    now_us = 1000 * SECOND;
}

TestSuite(judge, .init = set_up);

static unsigned found(enum probe_error error, const struct facts *what)
{
    struct finding finding = {
        .error = error, .sqlstate = "", .text = "", .duration_us = 1000, .facts = what};

    now_us += SECOND;
    return judge(&report, &memory, &finding, &limits, &primary, now_us);
}

static unsigned good(void)
{
    return found(PROBE_FINE, &facts);
}

static unsigned bad(void)
{
    return found(PROBE_REFUSED, NULL);
}

static void is(enum health health, enum breaker breaker, const char *when)
{
    cr_assert_eq(report.health, health, "%s: %s", when, health_word(report.health));
    cr_assert_eq(report.breaker, breaker, "%s: breaker %s", when, breaker_word(report.breaker));
}

static void be_standby(void)
{
    facts.in_recovery = true;
    facts.receiver = RECEIVER_STREAMING;
    facts.lsn_received = facts.lsn_replayed = 1000;
}

/* A word for each probe: + good, - refused; then the health (h, w, c, u) and breaker (c, o, h). */
Test(judge, rise_and_fall)
{
    static const struct {
        unsigned rise, fall;
        const char *probes, *health, *breaker;
    } cases[] = {
        {2, 2, "+", "h", "c"},
        {2, 2, "-", "u", "c"},
        {2, 2, "--", "uc", "co"},
        {2, 2, "+-+-+-", "hhhhhh", "cccccc"},
        {2, 2, "+--", "hhc", "cco"},
        {2, 2, "+--+", "hhcc", "ccoh"},
        {2, 2, "+--++", "hhcch", "ccohc"},
        {2, 2, "+--+-+", "hhcccc", "ccohoh"},
        {2, 2, "+--+-++", "hhcccch", "ccohohc"},
        {1, 1, "+-+", "hch", "coc"},
        {3, 3, "+---+++", "hhhccch", "cccohhc"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        set_up();
        limits.rise = cases[i].rise;
        limits.fall = cases[i].fall;
        for (size_t k = 0; cases[i].probes[k]; k++) {
            unsigned what = cases[i].probes[k] == '+' ? good() : bad();
            char health = health_word(report.health)[0];
            char before = k ? cases[i].health[k - 1] : 'u';
            char where[64];

            snprintf(where, sizeof where, "%s, probe %zu", cases[i].probes, k + 1);
            cr_assert_eq(health, cases[i].health[k], "%s: %c", where, health);
            cr_assert_eq(breaker_word(report.breaker)[0], cases[i].breaker[k], "%s: breaker %s",
                         where, breaker_word(report.breaker));
            cr_assert_eq((what & MONITOR_HEALTH) != 0, health != before, "%s", where);
        }
    }
}

Test(judge, kinds_of_failure)
{
    static const struct {
        enum probe_error error;
        enum health health; /* after two of them */
        bool blind, starting;
    } cases[] = {
        {PROBE_DNS, HEALTH_CRITICAL, false, false},
        {PROBE_REFUSED, HEALTH_CRITICAL, false, false},
        {PROBE_TIMEOUT, HEALTH_CRITICAL, false, false},
        {PROBE_TLS, HEALTH_CRITICAL, false, false},
        {PROBE_LOST, HEALTH_CRITICAL, false, false},
        {PROBE_PROTOCOL, HEALTH_CRITICAL, false, false},
        {PROBE_AUTH, HEALTH_WARNING, true, false},
        {PROBE_NO_DATABASE, HEALTH_WARNING, true, false},
        {PROBE_TOO_MANY, HEALTH_WARNING, true, false},
        {PROBE_SERVER, HEALTH_WARNING, true, false},
        {PROBE_STARTING_UP, HEALTH_WARNING, false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *word = probe_error_word(cases[i].error);

        set_up();
        good();
        cr_assert_eq(report.role, ROLE_PRIMARY);
        found(cases[i].error, NULL);
        cr_assert_eq(report.role, ROLE_PRIMARY, "%s: one failure tells nothing", word);
        found(cases[i].error, NULL);
        is(cases[i].health, cases[i].health == HEALTH_CRITICAL ? BREAKER_OPEN : BREAKER_CLOSED,
           word);
        cr_assert_eq(report.blind, cases[i].blind, "%s", word);
        cr_assert_eq(report.starting, cases[i].starting, "%s", word);
        /* what is down keeps its role; what lives and cannot be looked into has none */
        cr_assert_eq(report.role, cases[i].health == HEALTH_CRITICAL ? ROLE_PRIMARY : ROLE_UNKNOWN,
                     "%s", word);
        good();
        good();
        is(HEALTH_HEALTHY, BREAKER_CLOSED, word);
        cr_assert_eq(report.role, ROLE_PRIMARY);
        cr_assert(!report.blind && !report.starting);
    }
}

Test(judge, what_could_not_be_tried_changes_nothing)
{
    good();
    for (int i = 0; i < 5; i++)
        cr_assert_eq(found(PROBE_LOCAL, NULL), 0);
    is(HEALTH_HEALTHY, BREAKER_CLOSED, "up");
    cr_assert_eq(report.role, ROLE_PRIMARY);
    cr_assert_eq(report.error, PROBE_LOCAL);
    found(PROBE_REFUSED, NULL);
    found(PROBE_LOCAL, NULL);
    found(PROBE_REFUSED, NULL);
    is(HEALTH_CRITICAL, BREAKER_OPEN, "down");
    found(PROBE_LOCAL, NULL);
    found(PROBE_LOCAL, NULL);
    is(HEALTH_CRITICAL, BREAKER_OPEN, "still down");
}

Test(judge, one_refused_login_at_the_start_shows_that_it_lives)
{
    found(PROBE_AUTH, NULL);
    is(HEALTH_WARNING, BREAKER_CLOSED, "at the start");
    cr_assert_eq(report.role, ROLE_UNKNOWN);
}

Test(judge, a_role_is_what_the_last_answer_says)
{
    good();
    cr_assert_eq(report.role, ROLE_PRIMARY);
    be_standby();
    cr_assert(good() & MONITOR_ROLE);
    cr_assert_eq(report.role, ROLE_STANDBY);
    facts.in_recovery = false;
    cr_assert(good() & MONITOR_ROLE);
    cr_assert_eq(report.role, ROLE_PRIMARY);
    cr_assert_eq(report.role_since_us, now_us);
    cr_assert(!(good() & MONITOR_ROLE));
}

Test(judge, what_clients_have_seen_yields_to_what_probes_see)
{
    report.role = ROLE_STANDBY;
    report.hearsay = true;
    be_standby();
    cr_assert(good() & MONITOR_ROLE);
    cr_assert(!report.hearsay);
}

Test(judge, a_standby_without_receiver_is_orphaned_after_fall)
{
    be_standby();
    good();
    facts.receiver = RECEIVER_NONE;
    good();
    cr_assert_eq(report.role, ROLE_STANDBY, "a receiver that restarts is no orphan");
    good();
    cr_assert_eq(report.role, ROLE_ORPHANED);
    facts.receiver = RECEIVER_OTHER;
    good();
    cr_assert_eq(report.role, ROLE_STANDBY);
    /* from an archive comes more each time */
    facts.receiver = RECEIVER_NONE;
    for (int i = 0; i < 5; i++) {
        facts.lsn_replayed += 100;
        good();
        cr_assert_eq(report.role, ROLE_STANDBY);
    }
}

Test(judge, lag)
{
    static const struct {
        const char *what;
        enum receiver_state receiver;
        uint64_t received, replayed;
        int64_t age_s;
        bool known; /* the primary, and its positions now and a probe before */
        uint64_t lsn, lsn_earlier;
        int64_t caught_up_s; /* since it was last seen to have all; < 0: never */
        int64_t lag_bytes, lag_s;
    } cases[] = {
        {"idle and streaming", RECEIVER_STREAMING, 500, 500, 50, true, 500, 500, 1, 0, 0},
        {"nothing is known of a primary", RECEIVER_STREAMING, 500, 500, 50, false, 0, 0, -1, 0, 0},
        {"what the primary had a probe ago is there", RECEIVER_STREAMING, 500, 500, 50, true, 900,
         500, 1, 400, 0},
        {"it is missing", RECEIVER_STREAMING, 500, 500, 50, true, 900, 600, 7, 400, 7},
        {"replays slowly", RECEIVER_STREAMING, 900, 500, 5, true, 900, 900, 60, 400, 5},
        {"a burst after a pause", RECEIVER_STREAMING, 900, 500, 50, true, 900, 500, 1, 400, 1},
        {"never seen to have all", RECEIVER_STREAMING, 900, 500, 50, true, 900, 500, -1, 400, 50},
        {"orphaned, had all there was", RECEIVER_NONE, 500, 500, 50, true, 500, 500, 50, 0, 0},
        {"orphaned, and the primary went on", RECEIVER_NONE, 500, 500, 50, true, 900, 900, 30, 400,
         30},
        {"orphaned, of no known primary", RECEIVER_NONE, 500, 500, 50, false, 0, 0, -1, 0, 50},
        {"restarted while the primary is dead", RECEIVER_NONE, 100, 500, 50, false, 0, 0, -1, 0,
         50},
        {"nothing was ever replayed", RECEIVER_NONE, 0, 0, -1, false, 0, 0, -1, -1, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        set_up();
        facts.in_recovery = true;
        facts.receiver = cases[i].receiver;
        facts.lsn_received = cases[i].received;
        facts.lsn_replayed = cases[i].replayed;
        facts.replay_age_us = cases[i].age_s < 0 ? -1 : cases[i].age_s * (int64_t)SECOND;
        primary = (struct judge_primary){cases[i].known, cases[i].lsn, cases[i].lsn_earlier};
        if (cases[i].caught_up_s >= 0)
            memory.caught_up_us = now_us - (uint64_t)cases[i].caught_up_s * SECOND;
        judge_lag(&report, &memory, &facts, &primary, now_us);
        cr_assert_eq(report.lag_bytes, cases[i].lag_bytes, "%s: %ld bytes", cases[i].what,
                     (long)report.lag_bytes);
        cr_assert_eq(report.lag_us, cases[i].lag_s < 0 ? -1 : cases[i].lag_s * (int64_t)SECOND,
                     "%s: %ld us", cases[i].what, (long)report.lag_us);
    }
}

Test(judge, lag_over_the_warning_is_a_warning_with_rise_and_fall)
{
    be_standby();
    good();
    memory.caught_up_us = 0;
    facts.lsn_received = 2000;
    facts.replay_age_us = 11 * SECOND;
    good();
    is(HEALTH_HEALTHY, BREAKER_CLOSED, "late once");
    memory.caught_up_us = 0;
    good();
    is(HEALTH_WARNING, BREAKER_CLOSED, "late twice");
    facts.lsn_replayed = 2000;
    good();
    is(HEALTH_WARNING, BREAKER_CLOSED, "in time once");
    good();
    is(HEALTH_HEALTHY, BREAKER_CLOSED, "in time twice");
}

Test(judge, max_replica_lag_is_left_and_reached_again)
{
    limits.max_lag_us = 5 * SECOND;
    be_standby();
    good();
    cr_assert(!report.lag_over);
    facts.lsn_received = 2000;
    facts.replay_age_us = 6 * SECOND;
    memory.caught_up_us = 0;
    good();
    cr_assert(!report.lag_over, "late once");
    memory.caught_up_us = 0;
    cr_assert(good() & MONITOR_LAG_OVER);
    cr_assert(report.lag_over);
    facts.lsn_replayed = 2000;
    good();
    cr_assert(report.lag_over, "in time once");
    cr_assert(good() & MONITOR_LAG_OVER);
    cr_assert(!report.lag_over);
    limits.max_lag_us = 0;
    facts.lsn_received = 3000;
    for (int i = 0; i < 4; i++) {
        memory.caught_up_us = 0;
        good();
    }
    cr_assert(!report.lag_over, "no limit");
}

Test(judge, a_standby_that_is_late_from_the_start_is_not_used)
{
    limits.max_lag_us = 5 * SECOND;
    be_standby();
    facts.lsn_received = 2000;
    facts.replay_age_us = 6 * SECOND;
    good();
    cr_assert(report.lag_over);
}

Test(judge, slow_answers_are_a_warning)
{
    struct finding finding = {
        .error = PROBE_FINE, .sqlstate = "", .text = "", .duration_us = SECOND, .facts = &facts};

    good();
    judge(&report, &memory, &finding, &limits, &primary, now_us);
    is(HEALTH_HEALTHY, BREAKER_CLOSED, "slow once");
    judge(&report, &memory, &finding, &limits, &primary, now_us);
    is(HEALTH_WARNING, BREAKER_CLOSED, "slow twice");
    good();
    good();
    is(HEALTH_HEALTHY, BREAKER_CLOSED, "fast twice");
}

Test(judge, identity_and_timeline)
{
    cr_assert(good() & MONITOR_IDENTITY);
    cr_assert_eq(report.system_identifier, 42);
    cr_assert_eq(report.timeline, 1);
    facts.timeline = 2;
    cr_assert(good() & MONITOR_IDENTITY);
    cr_assert_eq(report.timeline, 2);
    /* what a standby without a receiver says may be older than what it has received */
    be_standby();
    facts.receiver = RECEIVER_NONE;
    facts.timeline = 1;
    facts.timeline_lagging = true;
    good();
    cr_assert_eq(report.timeline, 2);
    cr_assert(report.timeline_lagging);
    facts.timeline_lagging = false;
    good();
    cr_assert_eq(report.timeline, 1, "a receiver knows it");
    facts.system_identifier = 43;
    cr_assert(good() & MONITOR_IDENTITY);
}

/* ---- the answer of a server ---- */

static PGresult *answer(const char *const *values, int count)
{
    PGresult *rows = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc columns[64];

    for (int i = 0; i < count; i++)
        columns[i] = (PGresAttDesc){.name = (char *)"c"};
    cr_assert(PQsetResultAttrs(rows, count, columns));
    for (int i = 0; i < count; i++)
        cr_assert(
            PQsetvalue(rows, 0, i, (char *)values[i], values[i] ? (int)strlen(values[i]) : -1));
    return rows;
}

Test(facts, of_a_primary)
{
    const char *values[] = {"f",
                            "off",
                            "t",
                            "150004",
                            "7300000000000000001",
                            "0000000A0000000300000012",
                            NULL,
                            NULL,
                            "3/12000028",
                            "3/12000000",
                            NULL,
                            NULL,
                            NULL,
                            NULL,
                            NULL,
                            NULL,
                            "60000000",
                            NULL,
                            NULL,
                            NULL,
                            "",
                            "ANY 1 (s1, s2)",
                            "s1\x1f"
                            "10.0.0.2\x1f"
                            "streaming\x1fquorum\x1e"
                            "s2\x1f\x1f"
                            "catchup\x1f"
                            "async",
                            "1700000000123456"};
    PGresult *rows = answer(values, 24);

    cr_assert(facts_read(&facts, rows));
    cr_assert(!facts.in_recovery && facts.sees_stats && !facts.read_only);
    cr_assert_eq(facts.system_identifier, UINT64_C(7300000000000000001));
    cr_assert_eq(facts.timeline, 10);
    cr_assert_eq(facts.started_wall_us, UINT64_C(1700000000123456));
    cr_assert_eq(facts.lsn_written, UINT64_C(0x312000028));
    cr_assert_eq(facts.lsn_flushed, UINT64_C(0x312000000));
    cr_assert_str_eq(facts.sync_names, "ANY 1 (s1, s2)");
    cr_assert_eq(facts.replica_count, 2);
    cr_assert_str_eq(facts.replicas[0].application_name, "s1");
    cr_assert_str_eq(facts.replicas[0].client_address, "10.0.0.2");
    cr_assert_eq(facts.replicas[0].sync, SYNC_QUORUM);
    cr_assert_str_eq(facts.replicas[1].client_address, "");
    cr_assert_str_eq(facts.replicas[1].state, "catchup");
    cr_assert_eq(facts.replicas[1].sync, SYNC_ASYNC);
    PQclear(rows);
}

Test(facts, of_a_standby)
{
    const char *values[] = {"t",       "off",        "t",         "150004", "7",       NULL,
                            "2",       "1",          NULL,        NULL,     "0/5000",  "0/4000",
                            "1500000", "77",         "streaming", "250000", "5000000", "10.0.0.1",
                            "5432",    "'o''s\\'x'", "c",         "",       NULL,      NULL};
    PGresult *rows;

    values[19] = "'a\\'b'";
    rows = answer(values, 24);
    cr_assert(facts_read(&facts, rows));
    cr_assert(facts.in_recovery);
    cr_assert_eq(facts.timeline, 2);
    cr_assert(!facts.timeline_lagging);
    cr_assert_eq(facts.lsn_received, 0x5000);
    cr_assert_eq(facts.lsn_replayed, 0x4000);
    cr_assert_eq(facts.replay_age_us, 1500000);
    cr_assert_eq(facts.receiver, RECEIVER_STREAMING);
    cr_assert_eq(facts.receiver_silent_us, 250000);
    cr_assert_eq(facts.wal_receiver_timeout_us, 5000000);
    cr_assert_str_eq(facts.upstream, "10.0.0.1:5432");
    cr_assert_str_eq(facts.replica_name, "a'b");
    PQclear(rows);
    /* without pg_monitor */
    values[2] = "f";
    values[6] = values[14] = values[15] = values[17] = values[18] = values[19] = NULL;
    rows = answer(values, 24);
    cr_assert(facts_read(&facts, rows));
    cr_assert_eq(facts.receiver, RECEIVER_UNKNOWN);
    cr_assert_eq(facts.receiver_silent_us, -1);
    cr_assert_eq(facts.timeline, 1);
    cr_assert(facts.timeline_lagging);
    cr_assert_str_eq(facts.replica_name, "c", "its cluster_name");
    PQclear(rows);
    values[13] = NULL;
    rows = answer(values, 24);
    cr_assert(facts_read(&facts, rows));
    cr_assert_eq(facts.receiver, RECEIVER_NONE);
    PQclear(rows);
}

Test(facts, of_something_else)
{
    const char *values[24] = {"maybe"};
    PGresult *rows = answer(values, 24), *few = answer(values, 3);

    cr_assert(!facts_read(&facts, rows));
    cr_assert(!facts_read(&facts, few));
    cr_assert(!facts_read(&facts, NULL));
    PQclear(rows);
    PQclear(few);
}

Test(facts, of_a_flood_of_replicas_as_many_as_there_is_room_for)
{
    static char flood[40000];
    const char *values[] = {"f",  "off", "t",   "1",   "1",   "000000010000000000000001",
                            NULL, NULL,  "0/1", "0/1", NULL,  NULL,
                            NULL, NULL,  NULL,  NULL,  "0",   NULL,
                            NULL, NULL,  "",    "",    flood, NULL};
    PGresult *rows;

    for (int i = 0; i < 200; i++)
        strcat(flood, "a_name_that_is_longer_than_postgresql_allows_and_than_there_is_room_for_it"
                      "\x1f::1\x1fstreaming\x1fsync\x1e");
    rows = answer(values, 24);
    cr_assert(facts_read(&facts, rows));
    cr_assert_eq(facts.replica_count, FACTS_REPLICAS_MAX);
    cr_assert_eq(strlen(facts.replicas[0].application_name), 63);
    cr_assert_eq(facts.replicas[63].sync, SYNC_SYNC);
    PQclear(rows);
}
