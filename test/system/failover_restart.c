/*
 * failover_restart: the primary goes away and comes back by itself; nobody is promoted, and what
 * was acknowledged is there.
 */
#include "failover.h"

SYSTEM_SUITE(failover_restart);

/* Nothing that was acknowledged is missing, and every client has kept its connection. */
static void is_sound(struct scene *scene)
{
    cr_expect_eq(ledger_closed(scene->ledger), 0, "%ld clients were disconnected: %s",
                 ledger_closed(scene->ledger), ledger_last_error(scene->ledger));
    scene_judge(scene, &scene->sky->stars[0], NULL, 0);
    cr_expect(star_is_in_recovery(&scene->sky->stars[1]), "a standby was promoted");
}

static void comes_back(enum cluster_end how)
{
    struct scene *scene = scene_start(&(struct scene_options){.sky = {.standbys = 2}});

    cluster_end(scene->sky->stars[0].cluster, how);
    pause_ms(300);
    cluster_again(scene->sky->stars[0].cluster);
    scene_goes_on(scene, 100);
    is_sound(scene);
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
    char *victim = cluster_value(scene->sky->stars[0].cluster,
                                 "SELECT pid FROM pg_stat_activity WHERE usename = 'app' LIMIT 1");

    /* its postmaster then ends all the others and recovers */
    cr_assert_eq(kill((pid_t)atoi(victim), SIGKILL), 0);
    scene_goes_on(scene, 100);
    is_sound(scene);
}

/* The port is open, nobody answers, and nobody says that anything is wrong. */
SYSTEM_TEST(failover_restart, a_primary_that_hangs_and_goes_on_loses_nothing)
{
    struct scene *scene = scene_start(&(struct scene_options){.sky = {.standbys = 1}});

    cluster_freeze(scene->sky->stars[0].cluster, true);
    cr_expect(
        until(host_is(scene->proxy, &scene->sky->stars[0], "health", "critical"), PATIENCE_MS));
    cluster_freeze(scene->sky->stars[0].cluster, false);
    scene_goes_on(scene, 100);
    is_sound(scene);
}

SYSTEM_TEST(failover_restart, everything_down_and_back_is_waited_for)
{
    struct scene_options options = {.sky = {.standbys = 2, .dr = true}};
    struct scene *scene = scene_start(&options);

    for (int i = scene->sky->count - 1; i >= 0; i--)
        cluster_end(scene->sky->stars[i].cluster, i % 2 ? CLUSTER_IMMEDIATE : CLUSTER_KILL);
    cr_expect(until(has_alarm(scene->proxy, "no_primary", NULL), PATIENCE_MS));
    cr_expect(until(scene_is_quiet(scene), PATIENCE_MS));
    /* standbys first: they are no primary, whatever pgstage waits for */
    for (int i = scene->sky->count - 1; i >= 0; i--)
        cluster_again(scene->sky->stars[i].cluster);
    scene_goes_on(scene, 100);
    cr_expect(until(!has_alarm(scene->proxy, "no_primary", NULL), PATIENCE_MS));
    is_sound(scene);
}
