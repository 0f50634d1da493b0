/*
 * failover_restart: the primary goes away and comes back by itself; nobody is promoted, and what
 * was acknowledged is there.
 */
#include "failover.h"

FAILOVER_SUITE(failover_restart);

/* The ledger's clients work on, idle ones stay, nothing that was acknowledged is missing. */
static void comes_back(enum cluster_end how)
{
    struct scene *scene = scene_start(&(struct scene_options){.sky = {.standbys = 2}});
    struct star *primary = &scene->sky->stars[0];

    cluster_end(primary->cluster, how);
    pause_ms(300);
    cluster_again(primary->cluster);
    cr_assert(ledger_goes_on(scene->ledger, 100, 60000), "%s", ledger_last_error(scene->ledger));
    scene_judge(scene, primary, NULL, 0);
    cr_expect(star_is_in_recovery(&scene->sky->stars[1]));
}

SYSTEM_TEST(failover_restart, a_fast_restart_loses_nothing)
{
    comes_back(CLUSTER_FAST);
}

SYSTEM_TEST(failover_restart, an_immediate_restart_loses_nothing)
{
    comes_back(CLUSTER_IMMEDIATE);
}

SYSTEM_TEST(failover_restart, a_killed_primary_that_is_started_again_has_lost_nothing)
{
    comes_back(CLUSTER_KILL);
}

SYSTEM_TEST(failover_restart, a_crash_of_one_backend_restarts_the_server_and_loses_nothing)
{
    struct scene *scene = scene_start(&(struct scene_options){.sky = {.standbys = 1}});
    struct star *primary = &scene->sky->stars[0];
    char *victim = cluster_value(primary->cluster, "SELECT pid FROM pg_stat_activity "
                                                   "WHERE usename = 'app' LIMIT 1");

    /* its postmaster then ends all the others and recovers */
    cr_assert_eq(kill((pid_t)atoi(victim), SIGKILL), 0);
    cr_assert(ledger_goes_on(scene->ledger, 100, 60000), "%s", ledger_last_error(scene->ledger));
    scene_judge(scene, primary, NULL, 0);
}
