/*
 * failover_follow: something else promotes a standby, and pgstage follows.
 */
#include "failover.h"

FAILOVER_SUITE(failover_follow);

/* kill -9 of everything, and at once `pg_ctl promote` of a standby. */
SYSTEM_TEST(failover_follow, a_killed_primary_costs_a_pause_and_nothing_that_was_replicated)
{
    struct scene_options options = {.sky = {.standbys = 2, .cascade = true, .dr = true}};
    struct scene *scene = scene_start(&options);
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];
    int64_t killed = now_ms();

    cluster_end(old->cluster, CLUSTER_KILL);
    ledger_mark(scene->ledger);
    cluster_promote(new->cluster);
    cr_assert(ledger_goes_on(scene->ledger, 100, 60000), "%s", ledger_last_error(scene->ledger));
    scene_judge(scene, new, old, killed + 1000);
}

SYSTEM_TEST(failover_follow, with_synchronous_replication_nothing_is_missing)
{
    struct scene_options options = {.sky = {.standbys = 2, .synchronous = true}};
    struct scene *scene = scene_start(&options);
    struct star *old = &scene->sky->stars[0], *one = &scene->sky->stars[1],
                *other = &scene->sky->stars[2], *new;

    cluster_end(old->cluster, CLUSTER_KILL);
    /* any one of them has what was acknowledged: the one that has more */
    cr_assert(until(!star_streams(one) && !star_streams(other), 30000));
    new = star_received(one) >= star_received(other) ? one : other;
    cluster_promote(new->cluster);
    star_repoint(scene->sky, new == one ? other : one, new);
    cr_assert(ledger_goes_on(scene->ledger, 100, 60000), "%s", ledger_last_error(scene->ledger));
    scene_judge(scene, new, NULL, 0);
}
