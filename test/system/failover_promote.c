/*
 * failover_promote: failover_mode = promote; pgstage itself decides and promotes.
 */
#include "failover.h"

SYSTEM_SUITE(failover_promote);

/* A fence_command needs the servers' folder, so it is given after they are there. */
static struct scene *promoting_scene(struct scene_options *options)
{
    options->promotes = true;
    if (!options->environment)
        options->environment = "failover_delay = 0\nallow_unfenced_promotion = yes\n";
    return scene_start(options);
}

static struct star *promoted(struct scene *scene)
{
    struct star *found = NULL;

    for (int i = 1; i < scene->sky->count; i++)
        if (scene->sky->stars[i].cluster->pid && !star_is_in_recovery(&scene->sky->stars[i])) {
            cr_expect_null(found, "two standbys were promoted");
            found = &scene->sky->stars[i];
        }
    return found;
}

static void nobody_was_disconnected(struct scene *scene)
{
    cr_expect_eq(ledger_closed(scene->ledger), 0, "%ld clients were disconnected: %s",
                 ledger_closed(scene->ledger), ledger_last_error(scene->ledger));
}

SYSTEM_TEST(failover_promote, the_best_standby_is_promoted_and_the_others_follow_it)
{
    struct scene_options options = {.sky = {.standbys = 2,
                                            .cascade = true,
                                            .dr = true,
                                            .settings = "wal_retrieve_retry_interval = 2s\n"}};
    struct scene *scene = promoting_scene(&options);
    struct star *old = &scene->sky->stars[0], *new, *other;
    int64_t killed;

    cluster_end(old->cluster, CLUSTER_KILL);
    killed = now_ms();
    scene_goes_on(scene, 100);
    new = promoted(scene);
    cr_assert_not_null(new, "nobody was promoted");
    cr_expect(new == &scene->sky->stars[1] || new == &scene->sky->stars[2],
              "a cascading or DR standby was promoted: %s", new->name);
    nobody_was_disconnected(scene);
    other = new == &scene->sky->stars[1] ? &scene->sky->stars[2] : &scene->sky->stars[1];
    /* it is not over, and nobody else is let promote, before the other one streams */
    cr_expect(until(!strcmp(last_failover(scene->proxy, "result"), "done"), PATIENCE_MS));
    cr_expect(star_streams(other), "the other standby was not repointed");
    cr_expect(star_catches_up(other, new));
    cr_expect_str_eq(last_failover(scene->proxy, "type"), "automatic");
    cr_expect(names_star(last_failover(scene->proxy, "from"), old));
    cr_expect(names_star(last_failover(scene->proxy, "to"), new));
    scene_judge(scene, new, old, killed + ANSWER_LAG_MS);
}

SYSTEM_TEST(failover_promote, with_synchronous_replication_nothing_is_missing)
{
    struct scene_options options = {.sky = {.standbys = 2, .synchronous = true}};
    struct scene *scene = promoting_scene(&options);
    struct star *new;

    cluster_end(scene->sky->stars[0].cluster, CLUSTER_KILL);
    scene_goes_on(scene, 100);
    new = promoted(scene);
    cr_assert_not_null(new, "nobody was promoted");
    nobody_was_disconnected(scene);
    scene_judge(scene, new, NULL, 0);
}

/* synchronous_standby_names names servers that are not there: the first write hangs after every
 * promotion, until somebody changes it. */
SYSTEM_TEST(failover_promote, absent_synchronous_names_are_told_and_do_not_hang_pgstage)
{
    struct scene_options options = {
        .sky = {.standbys = 1, .settings = "synchronous_standby_names = 'FIRST 1 (pg1, pg2)'\n"}};
    struct scene *scene = promoting_scene(&options);
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];
    PGconn *direct;

    cluster_end(old->cluster, CLUSTER_KILL);
    cr_assert(until(!star_is_in_recovery(new), PATIENCE_MS));
    /* it takes writes, but none is ever acknowledged; the console answers all the while */
    long before = ledger_acknowledged(scene->ledger);
    cr_expect(until(proxy_logged(scene->proxy, "synchronous"), PATIENCE_MS),
              "nothing was said of the hanging write");
    cr_expect_eq(ledger_acknowledged(scene->ledger), before);
    proxy_do(scene->proxy, "SHOW HOSTS");
    direct = cluster_connect(new->cluster, "postgres");
    client_do(direct, "ALTER SYSTEM SET synchronous_standby_names = ''");
    client_do(direct, "SELECT pg_reload_conf()");
    scene_goes_on(scene, 100);
    nobody_was_disconnected(scene);
    scene_judge(scene, new, NULL, 0);
}

SYSTEM_TEST(failover_promote, a_restart_within_failover_delay_is_no_failover)
{
    struct scene_options options = {.sky = {.standbys = 1},
                                    .environment = "failover_delay = 30\n"
                                                   "allow_unfenced_promotion = yes\n"};
    struct scene *scene = promoting_scene(&options);

    cluster_end(scene->sky->stars[0].cluster, CLUSTER_IMMEDIATE);
    cr_expect(
        until(host_is(scene->proxy, &scene->sky->stars[0], "health", "critical"), PATIENCE_MS));
    pause_ms(1000);
    cluster_again(scene->sky->stars[0].cluster);
    scene_goes_on(scene, 100);
    cr_expect(star_is_in_recovery(&scene->sky->stars[1]), "a restart was failed over");
    nobody_was_disconnected(scene);
    scene_judge(scene, &scene->sky->stars[0], NULL, 0);
}

/* What it lacks is more than may be lost: nobody is promoted, and somebody is told. */
SYSTEM_TEST(failover_promote, a_standby_that_lags_too_far_behind_is_not_promoted)
{
    struct scene_options options = {.sky = {.standbys = 1},
                                    .environment = "failover_delay = 0\nmax_failover_lag = 16kB\n"
                                                   "allow_unfenced_promotion = yes\n"};
    struct scene *scene = promoting_scene(&options);
    struct star *primary = &scene->sky->stars[0], *late = &scene->sky->stars[1];
    pid_t receiver = (pid_t)cluster_number(late->cluster, "SELECT pid FROM pg_stat_wal_receiver");

    cr_assert_eq(kill(receiver, SIGSTOP), 0);
    scene_goes_on(scene, 500);
    long written = star_written(primary);
    cr_assert(until(seen_written(scene->proxy, primary) >= written, PATIENCE_MS));
    cluster_end(primary->cluster, CLUSTER_KILL);
    cr_expect(until(has_alarm(scene->proxy, "promotion_refused", NULL), PATIENCE_MS));
    cr_expect(until(proxy_logged(scene->proxy, "max_failover_lag"), PATIENCE_MS));
    pause_ms(1000);
    cr_expect(star_is_in_recovery(late), "it was promoted and lacks too much");
    cluster_again(primary->cluster);
    scene_goes_on(scene, 100);
    cr_expect(until(!has_alarm(scene->proxy, "promotion_refused", NULL), PATIENCE_MS));
    kill(receiver, SIGCONT);
    nobody_was_disconnected(scene);
    scene_judge(scene, primary, NULL, 0);
}

/* The standby still hears of it: it is pgstage that cannot reach the primary. */
SYSTEM_TEST(failover_promote, a_primary_that_only_pgstage_cannot_reach_is_not_failed_over)
{
    /* a witness that is not deaf for two seconds, as it may be on a busy machine */
    struct scene_options options = {
        .sky = {.standbys = 1, .settings = "wal_receiver_timeout = 60s\n"}};
    struct scene *scene;
    struct valve *valve;

    options.ledger.clients = -1;
    scene = promoting_scene(&options);
    proxy_stop(scene->proxy);
    /* a wire for pgstage alone */
    valve = valve_start("127.0.0.1", scene->sky->stars[0].port);
    scene->sky->stars[0].port = valve->port;
    scene->proxy = scene_proxy(scene->sky, &options);
    scene->sky->stars[0].port = scene->sky->stars[0].cluster->port;
    scene_work(scene, &(struct ledger_options){0});
    valve_turn(valve, VALVE_REFUSE, 0);
    cr_expect(
        until(host_is(scene->proxy, &scene->sky->stars[0], "health", "critical"), PATIENCE_MS));
    pause_ms(5000);
    cr_expect(star_is_in_recovery(&scene->sky->stars[1]), "a living primary was failed over");
    valve_turn(valve, VALVE_OPEN, 0);
    scene_goes_on(scene, 100);
    nobody_was_disconnected(scene);
    scene_judge(scene, &scene->sky->stars[0], NULL, 0);
}

/* Half of the clients come through each. */
SYSTEM_TEST(failover_promote, two_pgstage_promote_once)
{
    struct scene_options options = {
        .sky = {.standbys = 3},
        .ledger = {.clients = 50, .idle = 25, .listeners = 3, .shared = true}};
    struct scene *scene = promoting_scene(&options);
    struct scene second = {.sky = scene->sky, .proxy = scene_proxy(scene->sky, &options)};
    struct star *old = &scene->sky->stars[0], *new;
    int64_t killed;

    options.ledger.first = 50;
    scene_work(&second, &options.ledger);
    cluster_end(old->cluster, CLUSTER_KILL);
    killed = now_ms();
    scene_goes_on(scene, 100);
    scene_goes_on(&second, 100);
    new = promoted(scene);
    cr_assert_not_null(new, "nobody was promoted");
    cr_expect_eq(cluster_number(new->cluster, "SELECT ('x' || substr(pg_walfile_name("
                                              "pg_current_wal_lsn()), 1, 8))::bit(32)::int"),
                 2, "promoted more than once");
    nobody_was_disconnected(scene);
    nobody_was_disconnected(&second);
    /* the sums are right only when both have ended */
    ledger_stop(second.ledger);
    scene_judge(scene, new, old, killed + ANSWER_LAG_MS);
    scene_compare(&second, new, old, killed + ANSWER_LAG_MS);
}

/* Has pg_promote() come to one of them? */
static bool is_asked_to_promote(const struct scene *scene)
{
    bool asked = false;

    for (int i = 1; i < scene->sky->count; i++) {
        char *log = file_text(text_of("%s/postgres.log", scene->sky->stars[i].cluster->folder));

        asked = asked || strstr(log, "received promote request");
        free(log);
    }
    return asked;
}

/* It dies between its intent and the end of the promotion, and its successor brings it to an end;
 * the old primary is there again by then. */
SYSTEM_TEST(failover_promote, a_pgstage_that_dies_in_the_middle_is_continued_by_the_next)
{
    struct scene_options options = {.sky = {.standbys = 2},
                                    .ledger = {.cut = true},
                                    .state_dir = text_of("%s/kept", test_folder())};
    struct scene *scene = promoting_scene(&options);
    struct star *old = &scene->sky->stars[0], *new;
    int64_t killed;
    long before;

    cluster_end(old->cluster, CLUSTER_KILL);
    killed = now_ms();
    cr_assert(until(is_asked_to_promote(scene), PATIENCE_MS));
    scene_cut(scene);
    cr_assert(until((new = promoted(scene)) != NULL, PATIENCE_MS));
    cluster_again(old->cluster);
    before = rows_on(old, "transfer");
    scene_mend(scene, &options, false);
    scene_goes_on(scene, 100);
    cr_expect_eq(rows_on(old, "transfer"), before, "the old primary was written to");
    cr_expect_eq(promoted(scene), new);
    cluster_end(old->cluster, CLUSTER_KILL);
    scene_judge(scene, new, old, killed + ANSWER_LAG_MS);
}

SYSTEM_TEST(failover_promote, a_fence_command_that_fails_stops_the_promotion)
{
    struct scene_options options = {.sky = {.standbys = 1}};
    struct scene *scene;

    options.environment = "failover_delay = 0\nfence_command = /bin/false\n";
    scene = promoting_scene(&options);
    cluster_end(scene->sky->stars[0].cluster, CLUSTER_KILL);
    cr_expect(until(!strcmp(last_failover(scene->proxy, "result"), "failed"), PATIENCE_MS));
    pause_ms(1000);
    cr_expect(star_is_in_recovery(&scene->sky->stars[1]), "promoted without its fence");
    cluster_again(scene->sky->stars[0].cluster);
    scene_goes_on(scene, 20);
    scene_judge(scene, &scene->sky->stars[0], NULL, 0);
}
