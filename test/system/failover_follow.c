/*
 * failover_follow: something else promotes a standby, and pgstage follows.
 */
#include "failover.h"

SYSTEM_SUITE(failover_follow);

static void nobody_was_disconnected(struct scene *scene)
{
    cr_expect_eq(ledger_closed(scene->ledger), 0, "%ld clients were disconnected: %s",
                 ledger_closed(scene->ledger), ledger_last_error(scene->ledger));
}

/* kill -9 of everything, and at once `pg_ctl promote` of a standby. */
SYSTEM_TEST(failover_follow, a_killed_primary_costs_a_pause_and_nothing_that_was_replicated)
{
    struct scene_options options = {.sky = {.standbys = 2, .cascade = true, .dr = true}};
    struct scene *scene = scene_start(&options);
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];

    cluster_end(old->cluster, CLUSTER_KILL);
    int64_t killed = now_ms();
    ledger_mark(scene->ledger);
    cluster_promote(new->cluster);
    scene_goes_on(scene, 100);
    nobody_was_disconnected(scene);
    scene_judge(scene, new, old, killed + ANSWER_LAG_MS);
}

SYSTEM_TEST(failover_follow, with_synchronous_replication_nothing_is_missing)
{
    struct scene_options options = {.sky = {.standbys = 2, .synchronous = true}};
    struct scene *scene = scene_start(&options);
    struct star *old = &scene->sky->stars[0], *one = &scene->sky->stars[1],
                *other = &scene->sky->stars[2], *new;

    cluster_end(old->cluster, CLUSTER_KILL);
    /* any one of them has what was acknowledged: the one that has more */
    cr_assert(until(!star_streams(one) && !star_streams(other), PATIENCE_MS));
    new = star_received(one) >= star_received(other) ? one : other;
    cluster_promote(new->cluster);
    star_repoint(scene->sky, new == one ? other : one, new);
    scene_goes_on(scene, 100);
    nobody_was_disconnected(scene);
    scene_judge(scene, new, NULL, 0);
}

/* Its backends go on answering who is in the middle of something, and their commits are lost: so
 * pgstage has closed all connections to it before the new primary gets any write. */
SYSTEM_TEST(failover_follow, a_dead_postmasters_backends_get_nothing_once_the_new_primary_does)
{
    struct scene *scene = scene_start(&(struct scene_options){.sky = {.standbys = 2}});
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];
    PGconn *sleeper = client_open(scene->proxy, NULL);
    char *state;

    /* one that is busy for long: it will not notice that its postmaster has gone */
    client_start(sleeper, "INSERT INTO note SELECT 1 FROM pg_sleep(200)");
    cr_assert(until(cluster_number(old->cluster, "SELECT count(*) FROM pg_stat_activity WHERE "
                                                 "query LIKE 'INSERT INTO note%' AND "
                                                 "wait_event = 'PgSleep'") == 1,
                    PATIENCE_MS));
    cluster_end(old->cluster, CLUSTER_KILL_POSTMASTER);
    cluster_promote(new->cluster);
    ledger_mark(scene->ledger);
    scene_goes_on(scene, 100);
    int64_t accepted = now_ms();
    state = client_finish(sleeper, PATIENCE_MS);
    cr_expect_str_eq(state, "08007", "an autocommit write whose server was lost: %s", state);
    nobody_was_disconnected(scene);
    cluster_end(old->cluster, CLUSTER_KILL);
    scene_judge(scene, new, old, accepted);
}

/* Somebody promotes a standby although the primary lives. */
SYSTEM_TEST(failover_follow, of_two_primaries_the_newer_timeline_is_followed)
{
    struct scene *scene = scene_start(&(struct scene_options){.sky = {.standbys = 2}});
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];

    cluster_promote(new->cluster);
    cr_expect(until(has_alarm(scene->proxy, "two_primaries", old), PATIENCE_MS));
    scene_goes_on(scene, 100);
    ledger_mark(scene->ledger);
    scene_goes_on(scene, 200);
    cr_expect_gt(ledger_fresh_on(scene->ledger, new->cluster), 0);
    cr_expect_eq(ledger_fresh_on(scene->ledger, old->cluster), 0,
                 "the old primary still gets writes");
    nobody_was_disconnected(scene);

    /* when it has been rewound and streams, all is well again */
    star_rejoin(scene->sky, old, new, true);
    cr_expect(until(!has_alarm(scene->proxy, "two_primaries", NULL), PATIENCE_MS));
    cr_expect(until(host_is(scene->proxy, old, "role", "standby"), PATIENCE_MS));
    ledger_stop(scene->ledger);
    struct ledger_verdict verdict = ledger_judge(scene->ledger, new->cluster);
    ledger_expect_sound(&verdict, true);
}

/* Is it the accepted primary in SHOW ENVIRONMENTS? */
static bool accepts(struct proxy *proxy, const struct star *star)
{
    PGresult *rows = proxy_show(proxy, "ENVIRONMENTS");
    int field = PQfnumber(rows, "accepted_primary");
    bool found = false;

    for (int row = 0; row < PQntuples(rows); row++)
        found = found || names_star(PQgetvalue(rows, row, field), star);
    PQclear(rows);
    return found;
}

/* Promoted at the same time, two standbys have the same new timeline: nobody can know which is
 * right, so nobody is written to until an operator says. */
SYSTEM_TEST(failover_follow, of_equal_timelines_an_operator_chooses)
{
    struct scene *scene = scene_start(&(struct scene_options){.sky = {.standbys = 2}});
    struct star *old = &scene->sky->stars[0], *one = &scene->sky->stars[1],
                *other = &scene->sky->stars[2];

    /* pgstage sees neither of them before both are promoted */
    proxy_signal(scene->proxy, SIGSTOP);
    cluster_end(old->cluster, CLUSTER_KILL);
    cluster_promote(one->cluster);
    cluster_promote(other->cluster);
    proxy_signal(scene->proxy, SIGCONT);
    cr_assert(until(has_alarm(scene->proxy, "equal_timelines", NULL), PATIENCE_MS));
    /* the one whose probe was answered first may have been taken, for as long as it was alone; then
     * only it has everything that was acknowledged */
    if (accepts(scene->proxy, one)) {
        one = other;
        other = &scene->sky->stars[1];
    }
    cr_expect(
        until(star_is_quiet(one) && star_is_quiet(other) && scene_is_quiet(scene), PATIENCE_MS),
        "one of two equals is written to");
    ledger_mark(scene->ledger);
    proxy_do(scene->proxy, text_of("ACCEPT drill %s", other->name));
    scene_goes_on(scene, 100);
    cr_expect_gt(ledger_fresh_on(scene->ledger, other->cluster), 0);
    cr_expect_eq(ledger_fresh_on(scene->ledger, one->cluster), 0);
    nobody_was_disconnected(scene);
    cr_expect(!has_alarm(scene->proxy, "equal_timelines", other));
    scene_judge(scene, other, old, 0);
}

SYSTEM_TEST(failover_follow, an_old_primary_that_comes_back_gets_nothing_until_it_streams)
{
    struct scene *scene = scene_start(&(struct scene_options){.sky = {.standbys = 2}});
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];

    cluster_end(old->cluster, CLUSTER_KILL);
    cluster_promote(new->cluster);
    scene_goes_on(scene, 50);
    cr_expect(is_fenced(scene->proxy, old));
    /* as it was: a primary on its own timeline */
    cluster_again(old->cluster);
    long before = rows_on(old, "transfer");
    cr_expect(until(has_alarm(scene->proxy, "two_primaries", old), PATIENCE_MS));
    scene_goes_on(scene, 200);
    cr_expect_eq(rows_on(old, "transfer"), before, "the old primary got writes");
    nobody_was_disconnected(scene);
    star_rejoin(scene->sky, old, new, true);
    cr_expect(until(star_streams(old), PATIENCE_MS));
    cr_expect(until(host_is(scene->proxy, old, "role", "standby"), PATIENCE_MS));
    cr_expect(until(!is_fenced(scene->proxy, old), PATIENCE_MS), "it streams, and is still fenced");
    ledger_stop(scene->ledger);
    struct ledger_verdict verdict = ledger_judge(scene->ledger, new->cluster);
    ledger_expect_sound(&verdict, true);
}

/* Does a new reader come to this one? */
static bool reads_from(struct scene *scene, const struct star *star)
{
    PGconn *reader = client_open(scene->proxy, "dbname=app_read");
    bool does = served_by(scene->sky, reader) == star;

    PQfinish(reader);
    return does;
}

/* A hasty operator: it says that it is a standby, has a WAL receiver that never streams, and serves
 * rows that nobody else has. */
SYSTEM_TEST(failover_follow, a_diverged_former_primary_without_rewind_serves_no_reads)
{
    struct scene_options options = {.sky = {.standbys = 2}, .general = "server_lifetime = 1\n"};
    struct scene *scene = scene_start(&options);
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];
    PGconn *direct;

    /* a row that never reaches a standby; the one that will lead has at least what the other has */
    cluster_end(scene->sky->stars[2].cluster, CLUSTER_FAST);
    cluster_end(scene->sky->stars[1].cluster, CLUSTER_FAST);
    direct = cluster_connect(old->cluster, "app");
    client_do(direct, "INSERT INTO note VALUES (4711)");
    PQfinish(direct);
    cluster_end(old->cluster, CLUSTER_KILL);
    cluster_again(scene->sky->stars[1].cluster);
    cluster_again(scene->sky->stars[2].cluster);
    cluster_promote(new->cluster);
    star_repoint(scene->sky, &scene->sky->stars[2], new);
    scene_goes_on(scene, 50);
    star_rejoin(scene->sky, old, new, false);
    cr_expect(star_is_in_recovery(old));
    cr_expect_eq(cluster_number(old->cluster, "SELECT count(*) FROM note WHERE id = 4711"), 1);
    cr_expect(until(host_is(scene->proxy, &scene->sky->stars[2], "role", "standby"), PATIENCE_MS));
    cr_expect(until(reads_from(scene, &scene->sky->stars[2]), PATIENCE_MS),
              "no read goes to the good standby");
    for (int i = 0; i < 40; i++) {
        PGconn *reader = client_open(scene->proxy, "dbname=app_read");

        cr_expect(is_fenced(scene->proxy, old));
        cr_expect_eq(client_number(reader, "SELECT count(*) FROM note WHERE id = 4711"), 0,
                     "lost rows were read");
        PQfinish(reader);
        pause_ms(50);
    }
    scene_judge(scene, new, old, 0);
}

/* Behind the address of the primary stands another cluster: restored from somewhere, or a mistake
 * of the network's. */
SYSTEM_TEST(failover_follow, another_cluster_behind_the_address_is_refused)
{
    struct scene_options options = {.sky = {.standbys = 1, .valve = {true}}};
    struct scene *scene = scene_start(&options);
    struct star *primary = &scene->sky->stars[0];
    struct star other = *primary;
    struct pki_certificate same = {.certificate = text_of("%s/pg1.crt", scene->sky->folder),
                                   .key = text_of("%s/pg1.key", scene->sky->folder)};
    struct cluster_options given = {.name = "stranger",
                                    .certificate = &same,
                                    .stranger = true,
                                    .hba = "local all all trust\n"
                                           "hostssl all all 127.0.0.1/32 scram-sha-256\n"};

    other.cluster = cluster_start(&given);
    constellation_fill(&other);
    /* everything through the wire is cut, and new connections lead to the other one */
    atomic_store(&primary->valve->target_port, other.cluster->port);
    valve_turn(primary->valve, VALVE_REFUSE, 0);
    valve_turn(primary->valve, VALVE_OPEN, 0);
    cr_expect(until(has_alarm(scene->proxy, "wrong_cluster", primary), PATIENCE_MS));
    pause_ms(1000);
    cr_expect_eq(rows_on(&other, "transfer"), 0, "another cluster was written to");
    atomic_store(&primary->valve->target_port, primary->cluster->port);
    valve_turn(primary->valve, VALVE_REFUSE, 0);
    valve_turn(primary->valve, VALVE_OPEN, 0);
    scene_goes_on(scene, 100);
    cr_expect(until(!has_alarm(scene->proxy, "wrong_cluster", NULL), PATIENCE_MS));
    nobody_was_disconnected(scene);
    cr_expect_eq(rows_on(&other, "transfer"), 0, "another cluster was written to");
    scene_judge(scene, primary, NULL, 0);
}
