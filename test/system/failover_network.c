/*
 * failover_network: the way to the primary is what fails: it swallows everything, refuses, is slow,
 * comes and goes.
 */
#include "failover.h"

SYSTEM_SUITE(failover_network);

/* The old primary is cut off from pgstage and from its standbys, lives on, and learns nothing. */
static void goes_dark(struct scene *scene, void (*cut)(struct star *star, bool off))
{
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];
    int64_t dark;

    cut(old, true);
    dark = now_ms();
    cluster_promote(new->cluster);
    scene_goes_on(scene, 100);
    cr_expect_eq(ledger_closed(scene->ledger), 0, "%ld clients were disconnected: %s",
                 ledger_closed(scene->ledger), ledger_last_error(scene->ledger));
    /* it comes back as it went, a primary on the old timeline, and gets nothing */
    ledger_mark(scene->ledger);
    cut(old, false);
    cr_expect(until(has_alarm(scene->proxy, "two_primaries", old), PATIENCE_MS));
    scene_goes_on(scene, 200);
    cr_expect_gt(ledger_fresh_on(scene->ledger, new->cluster), 0);
    cr_expect_eq(ledger_fresh_on(scene->ledger, old->cluster), 0,
                 "the old primary still gets writes");
    cluster_end(old->cluster, CLUSTER_KILL);
    scene_judge(scene, new, old, dark + ANSWER_LAG_MS);
}

static void cut_network(struct star *star, bool off)
{
    network_drop(star->network, off);
}

static void cut_valve(struct star *star, bool off)
{
    valve_turn(star->valve, off ? VALVE_SHUT : VALVE_OPEN, 0);
}

static void cut_refused(struct star *star, bool off)
{
    valve_turn(star->valve, off ? VALVE_REFUSE : VALVE_OPEN, 0);
}

SYSTEM_TEST(failover_network, a_black_hole_is_noticed_and_left)
{
    SKIP_WITHOUT_NETWORK();
    goes_dark(scene_start(&(struct scene_options){.sky = {.standbys = 2, .network = {true}}}),
              cut_network);
}

SYSTEM_TEST(failover_network, a_wire_that_swallows_everything_is_noticed_and_left)
{
    goes_dark(scene_start(&(struct scene_options){.sky = {.standbys = 2, .valve = {true}}}),
              cut_valve);
}

SYSTEM_TEST(failover_network, a_host_that_refuses_is_left)
{
    goes_dark(scene_start(&(struct scene_options){.sky = {.standbys = 2, .valve = {true}}}),
              cut_refused);
}

SYSTEM_TEST(failover_network, a_slow_primary_is_no_dead_one)
{
    struct scene_options options = {.sky = {.standbys = 1, .valve = {true}},
                                    .promotes = true,
                                    .environment = "failover_delay = 1\n"
                                                   "allow_unfenced_promotion = yes\n"};
    struct scene *scene = scene_start(&options);

    valve_turn(scene->sky->stars[0].valve, VALVE_SLOW, 20);
    pause_ms(4000);
    scene_goes_on(scene, 20);
    cr_expect(star_is_in_recovery(&scene->sky->stars[1]), "a slow primary was failed over");
    cr_expect(!host_is(scene->proxy, &scene->sky->stars[0], "health", "critical"));
    valve_turn(scene->sky->stars[0].valve, VALVE_OPEN, 0);
    scene_goes_on(scene, 100);
    cr_expect_eq(ledger_closed(scene->ledger), 0, "%s", ledger_last_error(scene->ledger));
    scene_judge(scene, &scene->sky->stars[0], NULL, 0);
}

SYSTEM_TEST(failover_network, a_flapping_primary_is_not_failed_over_before_its_time)
{
    struct scene_options options = {.sky = {.standbys = 1, .valve = {true}},
                                    .promotes = true,
                                    .environment = "failover_delay = 10\n"
                                                   "allow_unfenced_promotion = yes\n"};
    struct scene *scene = scene_start(&options);

    for (int i = 0; i < 4; i++) {
        valve_turn(scene->sky->stars[0].valve, VALVE_REFUSE, 0);
        pause_ms(1200);
        valve_turn(scene->sky->stars[0].valve, VALVE_OPEN, 0);
        scene_goes_on(scene, 20);
    }
    cr_expect(star_is_in_recovery(&scene->sky->stars[1]), "a flapping primary was failed over");
    cr_expect_eq(ledger_closed(scene->ledger), 0, "%s", ledger_last_error(scene->ledger));
    scene_judge(scene, &scene->sky->stars[0], NULL, 0);
}
