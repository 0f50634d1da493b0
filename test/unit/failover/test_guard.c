/* guard: each guard by itself, then which standby is chosen. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/failover/guard.h"

#define IDENTITY UINT64_C(7300000000000000001)
#define SECOND CLOCK_SECOND

static struct guard_host hosts[5];
static struct guard_case guarded;
static struct guard_report report;

static void standby(size_t index, const char *name, uint64_t lsn)
{
    hosts[index] = (struct guard_host){
        .host = name,
        .answers = true,
        .role = GUARD_ROLE_STANDBY,
        .system_identifier = IDENTITY,
        .timeline = 3,
        .received_lsn = lsn,
        .replayed_lsn = lsn,
        .receiver = GUARD_RECEIVER_NONE,
        .receiver_timeout_us = 5 * SECOND,
        .has_streamed = true,
        .upstream = 0,
        .lag_us = 0,
    };
}

/* pg1 has been dead for 20 s; pg2 has all that was seen of it, pg3 a little less. */
static void set_scene(void)
{
    hosts[0] = (struct guard_host){.host = "pg1:5432",
                                   .role = GUARD_ROLE_UNKNOWN,
                                   .system_identifier = IDENTITY,
                                   .timeline = 3,
                                   .upstream = GUARD_NO_HOST};
    standby(1, "pg2:5432", 1000);
    standby(2, "pg3:5432", 900);
    guarded = (struct guard_case){
        .type = EPISODE_AUTOMATIC,
        .promotes = true,
        .has_user = true,
        .production = true,
        .hosts = hosts,
        .count = 3,
        .primary = 0,
        .wanted = GUARD_NO_HOST,
        .critical_us = 20 * SECOND,
        .primary_lsn = 1000,
        .primary_seen_us = 20 * SECOND,
        .system_identifier = IDENTITY,
        .timeline = 3,
        .since_automatic_us = UINT64_MAX,
        .has_fence = true,
        .has_demote = true,
        .has_undemote = true,
        .delay_us = 10 * SECOND,
        .min_interval_us = 3600 * SECOND,
    };
}

TestSuite(guard, .init = set_scene, .timeout = 300);

static void allows(const char *host)
{
    guard_judge(&guarded, &report);
    char *refusals = guard_refusals(&report);
    cr_assert(report.allowed, "%s", refusals);
    cr_assert_str_eq(hosts[report.candidate].host, host);
    free(refusals);
}

/* This guard refuses, and nothing else does. */
static void refuses(enum guard_id id, const char *text)
{
    guard_judge(&guarded, &report);
    char *refusals = guard_refusals(&report);
    cr_assert_not(report.allowed);
    for (size_t i = 0; i < GUARD_COUNT; i++)
        cr_expect_eq(report.rows[i].verdict == GUARD_REFUSES, i == id, "%s: %s",
                     guard_word((enum guard_id)i), refusals);
    cr_expect(strstr(report.rows[id].text, text) != NULL, "\"%s\" is not in: %s", text,
              report.rows[id].text);
    free(refusals);
}

static void does_not_ask(enum guard_id id)
{
    guard_judge(&guarded, &report);
    cr_expect(report.allowed);
    cr_expect_eq(report.rows[id].verdict, GUARD_NOT_ASKED, "%s", report.rows[id].text);
}

Test(guard, the_best_standby_of_a_dead_primary_may_be_promoted)
{
    allows("pg2:5432");
    cr_assert_eq(report.loss_bytes, 0);
    cr_assert_eq(report.loss_us, 0);
    for (size_t i = 0; i < GUARD_COUNT; i++)
        cr_expect_neq(report.rows[i].text[0], '\0', "%s says nothing",
                      guard_word((enum guard_id)i));
}

Test(guard, mode_only_where_pgstage_promotes_and_has_a_login)
{
    guarded.promotes = false;
    refuses(GUARD_MODE, "failover_mode = follow");
    guarded.promotes = true;
    guarded.has_user = false;
    guarded.type = EPISODE_EMERGENCY;
    refuses(GUARD_MODE, "failover_user");
}

Test(guard, maintenance_stops_what_is_automatic)
{
    guarded.in_maintenance = true;
    refuses(GUARD_MAINTENANCE, "MAINTENANCE");
    guarded.type = EPISODE_MANUAL;
    does_not_ask(GUARD_MAINTENANCE);
}

Test(guard, interval_between_automatic_failovers)
{
    guarded.since_automatic_us = 60 * SECOND;
    refuses(GUARD_INTERVAL, "60 s ago");
    guarded.since_automatic_us = 3600 * SECOND;
    allows("pg2:5432");
    guarded.since_automatic_us = 0;
    guarded.type = EPISODE_MANUAL;
    does_not_ask(GUARD_INTERVAL);
}

Test(guard, fence_is_needed_in_production_unless_allowed_without)
{
    guarded.has_fence = false;
    refuses(GUARD_FENCE, "no fence_command");
    guarded.allow_unfenced = true;
    allows("pg2:5432");
    guarded.allow_unfenced = false;
    guarded.production = false;
    allows("pg2:5432");
}

Test(guard, primary_must_have_been_critical_for_the_delay)
{
    guarded.critical_us = 9 * SECOND;
    refuses(GUARD_PRIMARY, "critical for 9.0 s");
    guarded.critical_us = 0;
    refuses(GUARD_PRIMARY, "is not down");
    guarded.critical_us = 1;
    guarded.delay_us = 0;
    allows("pg2:5432");
}

Test(guard, primary_that_works_is_not_replaced_by_hand_but_in_an_emergency)
{
    hosts[0].answers = true;
    hosts[0].role = GUARD_ROLE_WRITER;
    guarded.critical_us = 0;
    guarded.type = EPISODE_MANUAL;
    refuses(GUARD_PRIMARY, "PLANNED");
    guarded.critical_us = 1; /* the delay is not for operators */
    allows("pg2:5432");
    guarded.critical_us = 0;
    guarded.type = EPISODE_EMERGENCY;
    does_not_ask(GUARD_PRIMARY);
}

Test(guard, primary_that_was_never_known_is_not_missing)
{
    guarded.primary = GUARD_NO_HOST;
    guarded.critical_us = 0;
    hosts[0].answers = false;
    refuses(GUARD_PRIMARY, "ever accepted");
}

Test(guard, candidate_must_answer_be_a_standby_and_not_fenced)
{
    guarded.wanted = 2;
    guarded.max_lag_bytes = 1000;
    hosts[1].is_fenced = true;
    allows("pg3:5432");
    hosts[2].is_fenced = true;
    refuses(GUARD_CANDIDATE, "fenced");
    hosts[2].is_fenced = false;
    hosts[2].answers = false;
    refuses(GUARD_CANDIDATE, "does not answer");
    hosts[2].answers = true;
    hosts[2].role = GUARD_ROLE_WRITER;
    refuses(GUARD_CANDIDATE, "takes writes already");
    hosts[2].role = GUARD_ROLE_UNKNOWN;
    refuses(GUARD_CANDIDATE, "role");
    guarded.wanted = 0;
    guard_judge(&guarded, &report);
    cr_assert_eq(report.rows[GUARD_CANDIDATE].verdict, GUARD_REFUSES);
}

Test(guard, candidate_is_missing_when_there_is_no_other_host)
{
    guarded.count = 1;
    guard_judge(&guarded, &report);
    cr_assert_not(report.allowed);
    cr_assert_eq(report.candidate, GUARD_NO_HOST);
    cr_assert_eq(report.rows[GUARD_CANDIDATE].verdict, GUARD_REFUSES);
    cr_assert_eq(report.loss_bytes, -1);
}

Test(guard, identity_is_asked_in_an_emergency_too)
{
    guarded.wanted = 1;
    hosts[1].system_identifier = IDENTITY + 1;
    refuses(GUARD_IDENTITY, "7300000000000000002");
    guarded.type = EPISODE_EMERGENCY;
    refuses(GUARD_IDENTITY, "system identifier");
    hosts[1].system_identifier = IDENTITY;
    guarded.system_identifier = 0;
    refuses(GUARD_IDENTITY, "not known");
}

Test(guard, timeline_is_asked_in_an_emergency_too)
{
    guarded.wanted = 1;
    guarded.type = EPISODE_EMERGENCY;
    hosts[1].timeline = 2;
    refuses(GUARD_TIMELINE, "timeline 2, the accepted one is 3");
    hosts[1].timeline = 0;
    refuses(GUARD_TIMELINE, "not known");
}

Test(guard, streaming_when_the_primary_was_last_seen)
{
    guarded.wanted = 1;
    hosts[1].has_streamed = false;
    refuses(GUARD_STREAMING, "was not streaming");
    guarded.type = EPISODE_EMERGENCY;
    does_not_ask(GUARD_STREAMING);
}

Test(guard, receiver_that_still_hears_the_primary_is_a_witness)
{
    guarded.wanted = 1;
    hosts[1].receiver = GUARD_RECEIVER_STREAMS;
    hosts[1].silent_us = 4 * SECOND;
    refuses(GUARD_RECEIVER, "4.0 s, its wal_receiver_timeout is 5.0 s");
    hosts[1].silent_us = 6 * SECOND;
    allows("pg2:5432");
    hosts[1].receiver_timeout_us = 0;
    refuses(GUARD_RECEIVER, "timeout is 0");
    guarded.type = EPISODE_EMERGENCY;
    does_not_ask(GUARD_RECEIVER);
}

Test(guard, receiver_of_a_cascaded_standby_is_judged_by_its_upstream)
{
    /* pg3 ─► pg2 ─► pg1: pg3 stays "streaming" whatever becomes of pg1 */
    guarded.wanted = 2;
    guarded.max_lag_bytes = 1000;
    hosts[1].received_lsn = hosts[1].replayed_lsn = 900;
    hosts[2].receiver = GUARD_RECEIVER_STREAMS;
    hosts[2].upstream = 1;
    allows("pg3:5432");
    hosts[1].receiver = GUARD_RECEIVER_STREAMS;
    refuses(GUARD_RECEIVER, "pg2:5432, which the candidate streams from,");
    hosts[1].upstream = 2; /* a loop, as only nonsense can give */
    refuses(GUARD_RECEIVER, "has not heard");
}

Test(guard, highest_compares_timelines_first)
{
    guarded.wanted = 2;
    guarded.max_lag_bytes = 1000;
    refuses(GUARD_HIGHEST, "pg2:5432 is further");
    hosts[2].timeline = 4;
    allows("pg3:5432");
    guarded.wanted = GUARD_NO_HOST;
    allows("pg3:5432");
}

Test(guard, highest_takes_the_greater_of_received_and_replayed)
{
    hosts[2].received_lsn = 10; /* restarted while the primary is dead */
    hosts[2].replayed_lsn = 2000;
    allows("pg3:5432");
}

Test(guard, highest_leaves_out_who_cannot_be_promoted)
{
    guarded.max_lag_bytes = 1000;
    hosts[1].answers = false;
    allows("pg3:5432");
    hosts[1].answers = true;
    hosts[1].system_identifier = 5;
    allows("pg3:5432");
    hosts[1].system_identifier = IDENTITY;
    hosts[1].is_dr = true;
    allows("pg3:5432");
}

Test(guard, lag_against_what_was_last_seen_on_the_primary)
{
    guarded.primary_lsn = 1500;
    refuses(GUARD_LAG, "lacks 500 bytes");
    cr_assert_eq(report.loss_bytes, 500);
    guarded.max_lag_bytes = 500;
    allows("pg2:5432");
    guarded.max_lag_bytes = 0;
    guarded.type = EPISODE_EMERGENCY;
    does_not_ask(GUARD_LAG);
}

Test(guard, lag_that_is_not_known_allows_no_automatic_failover)
{
    guarded.primary_lsn = 0;
    refuses(GUARD_LAG, "not known");
    guarded.type = EPISODE_MANUAL;
    allows("pg2:5432");
    cr_assert_eq(report.loss_bytes, -1);
}

Test(guard, synchronous_standbys_come_first_and_alone)
{
    guarded.sync_in_force = true;
    guarded.wanted = 1;
    refuses(GUARD_SYNCHRONOUS, "was not one of the synchronous");
    hosts[1].in_sync_set = true;
    allows("pg2:5432");
    guarded.wanted = GUARD_NO_HOST;
    hosts[1].in_sync_set = false;
    hosts[2].in_sync_set = true;
    hosts[2].received_lsn = 1000;
    allows("pg3:5432");
}

/* ---- planned ---- */

static void set_planned(void)
{
    set_scene();
    hosts[0].answers = true;
    hosts[0].role = GUARD_ROLE_WRITER;
    hosts[1].receiver = hosts[2].receiver = GUARD_RECEIVER_STREAMS;
    guarded.type = EPISODE_PLANNED;
    guarded.critical_us = 0;
}

Test(guard, planned_takes_a_standby_that_streams_from_the_primary, .init = set_planned)
{
    allows("pg2:5432");
    guarded.wanted = 2; /* it will catch up */
    allows("pg3:5432");
    hosts[2].upstream = 1;
    refuses(GUARD_STREAMING, "from pg2:5432, not from the primary");
    hosts[2].upstream = GUARD_NO_HOST; /* its upstream is named otherwise than ours */
    allows("pg3:5432");
    hosts[2].receiver = GUARD_RECEIVER_WAITS;
    refuses(GUARD_STREAMING, "does not stream");
}

Test(guard, planned_needs_a_primary_that_works, .init = set_planned)
{
    hosts[0].answers = false;
    refuses(GUARD_PRIMARY, "does not answer");
    hosts[0].answers = true;
    hosts[0].role = GUARD_ROLE_STANDBY;
    refuses(GUARD_PRIMARY, "takes no writes");
    guarded.primary = GUARD_NO_HOST;
    guard_judge(&guarded, &report);
    cr_assert_eq(report.rows[GUARD_PRIMARY].verdict, GUARD_REFUSES);
}

Test(guard, planned_needs_something_to_act_with, .init = set_planned)
{
    guarded.has_undemote = false;
    refuses(GUARD_COMMANDS, "undemote_command");
    guarded.has_demote = false;
    refuses(GUARD_COMMANDS, "no demote_command");
    guarded.promotes = false;
    refuses(GUARD_COMMANDS, "switchover_command");
    guarded.has_switchover = true;
    allows("pg2:5432");
}

/* ---- DR ---- */

/* The whole site is gone; dr1 and dr2 are there, with dr1 first in the file. */
static void set_dr(void)
{
    set_scene();
    hosts[1].answers = hosts[2].answers = false;
    standby(3, "dr1:5432", 800);
    standby(4, "dr2:5432", 800);
    hosts[3].is_dr = hosts[4].is_dr = true;
    hosts[3].lag_us = hosts[4].lag_us = 4 * SECOND;
    guarded.count = 5;
    guarded.is_dr = guarded.leaves_site = true;
    guarded.max_lag_bytes = 4096;
}

Test(guard, dr_hosts_are_taken_in_order, .init = set_dr)
{
    allows("dr1:5432");
    cr_assert_eq(report.loss_bytes, 200);
    cr_assert_eq(report.loss_us, 4 * (int64_t)SECOND);
    hosts[3].answers = false;
    allows("dr2:5432");
}

Test(guard, dr_host_that_is_further_comes_first, .init = set_dr)
{
    hosts[4].received_lsn = 850;
    allows("dr2:5432");
}

Test(guard, dr_never_happens_by_itself_while_a_host_can_be_used, .init = set_dr)
{
    hosts[2].answers = true;
    refuses(GUARD_SITE, "pg3:5432 of `hosts` answers");
    hosts[2].is_fenced = true;
    allows("dr1:5432");
    hosts[2].is_fenced = false;
    guarded.type = EPISODE_MANUAL;
    does_not_ask(GUARD_SITE);
}

Test(guard, dr_loses_no_more_than_rpo_limit, .init = set_dr)
{
    guarded.wanted = 3;
    guarded.rpo_limit_us = 3 * SECOND;
    refuses(GUARD_RPO, "4.0 s would be lost, rpo_limit is 3.0 s");
    guarded.rpo_limit_us = 4 * SECOND;
    allows("dr1:5432");
    hosts[3].lag_us = -1;
    refuses(GUARD_RPO, "not known");
    guarded.type = EPISODE_EMERGENCY;
    does_not_ask(GUARD_RPO);
}

Test(guard, without_dr_its_hosts_are_no_candidates, .init = set_dr)
{
    guarded.is_dr = guarded.leaves_site = false;
    guard_judge(&guarded, &report);
    cr_assert_not(report.allowed);
    cr_assert_not(hosts[report.candidate].is_dr);
}
