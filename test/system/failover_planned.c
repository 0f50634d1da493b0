/*
 * failover_planned: operators move the primary while everybody works: clients of pgstage see a
 * pause and no error, and a switchover that fails ends where it began.
 */
#include "failover.h"
#include "hand.h"

#include <pthread.h>
#include <stdatomic.h>

SYSTEM_SUITE(failover_planned);

/* Writes 1, 2, 3 … past pgstage until its server ends. */
struct past {
    /* fixed */
    const char *conninfo;
    /* shared: atomic */
    atomic_bool stopping;
    atomic_long acknowledged;
};

static void *past_main(void *argument)
{
    struct past *past = argument;
    PGconn *conn = PQconnectdb(past->conninfo);
    bool ok = true;

    while (ok && !atomic_load(&past->stopping)) {
        PGresult *result =
            PQexec(conn, text_of("INSERT INTO note VALUES (%ld)", past->acknowledged + 1));

        ok = PQresultStatus(result) == PGRES_COMMAND_OK;
        if (ok)
            atomic_fetch_add(&past->acknowledged, 1);
        PQclear(result);
    }
    PQfinish(conn);
    return NULL;
}

static struct scene *planned_scene(const struct scene_options *given, const char *demote,
                                   const char *undemote)
{
    struct scene *scene = calloc(1, sizeof *scene);
    struct scene_options options = *given;
    const char *hand;

    scene->sky = constellation_start(&options.sky);
    hand = hand_start(scene->sky);
    options.promotes = true;
    options.environment =
        text_of("allow_unfenced_promotion = yes\nprobe_timeout = 15\ndemote_command = %s "
                "%s\nundemote_command = %s "
                "%s\n%s",
                hand, demote, hand, undemote, given->environment ? given->environment : "");
    scene->proxy = scene_proxy(scene->sky, &options);
    scene_work(scene, &options.ledger);
    ledger_mark(scene->ledger);
    return scene;
}

static void no_client_saw_an_error(struct scene *scene)
{
    cr_expect_eq(ledger_failed(scene->ledger) + ledger_unknown(scene->ledger) +
                     ledger_closed(scene->ledger),
                 0, "clients saw errors: %s", ledger_last_error(scene->ledger));
}

SYSTEM_TEST(failover_planned, a_switchover_shows_clients_a_pause_and_nothing_else)
{
    struct scene_options options = {.sky = {.standbys = 2, .dr = true}};
    struct scene *scene = planned_scene(&options, "stop pg1", "start pg1");
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];
    struct ledger_verdict verdict;

    proxy_do(scene->proxy, text_of("FAILOVER drill TO %s PLANNED", new->name));
    cr_expect_str_eq(last_failover(scene->proxy, "type"), "planned");
    cr_expect(until(!strcmp(last_failover(scene->proxy, "result"), "done"), PATIENCE_MS));
    cr_expect_not(star_is_in_recovery(new));
    scene_goes_on(scene, 100);
    no_client_saw_an_error(scene);
    /* cleanly stopped, it follows without rewind */
    star_rejoin(scene->sky, old, new, false);
    cr_expect(until(star_streams(old), PATIENCE_MS));
    cr_expect(until(host_is(scene->proxy, old, "role", "standby"), PATIENCE_MS));
    verdict = scene_judge(scene, new, NULL, 0);
    cr_expect_lt(verdict.longest_ms, PATIENCE_MS);
}

/* What streams does not end by itself: it is ended, and comes back to the new primary. */
SYSTEM_TEST(failover_planned, a_replication_connection_does_not_hold_a_switchover_up)
{
    struct scene_options options = {.sky = {.standbys = 1}};
    struct scene *scene = planned_scene(&options, "stop pg1", "start pg1");
    struct star *new = &scene->sky->stars[1];
    struct wire *wire = wire_open(scene->proxy);
    char *error;

    cluster_value(scene->sky->stars[0].cluster, "ALTER ROLE app REPLICATION");
    wire_log_in(wire,
                startup_packet("user", "app", "database", "app", "replication", "database", NULL));
    wire_query(wire,
               text_of("START_REPLICATION PHYSICAL %s",
                       cluster_value(scene->sky->stars[0].cluster, "SELECT pg_current_wal_lsn()")));
    cr_assert_str_eq(wire_types(wire, 'd', PATIENCE_MS), "Wd");
    proxy_do(scene->proxy, text_of("FAILOVER drill TO %s PLANNED", new->name));
    cr_expect(until(!strcmp(last_failover(scene->proxy, "result"), "done"), PATIENCE_MS), "%s",
              last_failover(scene->proxy, "result"));
    error = wire_error(wire, PATIENCE_MS);
    cr_expect(strstr(error, "FATAL 57P01") != NULL, "%s", error);
    no_client_saw_an_error(scene);
    wire = wire_open(scene->proxy);
    wire_log_in(wire,
                startup_packet("user", "app", "database", "app", "replication", "database", NULL));
    wire_query(wire, "SELECT pg_is_in_recovery() || ' ' || current_setting('port')");
    cr_expect_str_eq(wire_value(wire, PATIENCE_MS), text_of("false %d", new->cluster->port));
    scene_judge(scene, new, NULL, 0);
}

/* Another client, that does not come through pgstage: what was acknowledged to it is there, too. */
SYSTEM_TEST(failover_planned, a_client_past_pgstage_loses_nothing_that_was_acknowledged)
{
    struct scene_options options = {.sky = {.standbys = 1}};
    struct scene *scene = planned_scene(&options, "halt pg1", "start pg1");
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];
    struct past past = {.conninfo = text_of("host=%s port=%d user=postgres dbname=app",
                                            old->cluster->socket_folder, old->cluster->port)};
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, past_main, &past), 0);
    cr_assert(until(atomic_load(&past.acknowledged) > 100, PATIENCE_MS));
    proxy_do(scene->proxy, "FAILOVER drill PLANNED");
    cr_expect(until(!strcmp(last_failover(scene->proxy, "result"), "done"), PATIENCE_MS));
    atomic_store(&past.stopping, true);
    pthread_join(thread, NULL);
    cr_expect_eq(cluster_number(new->cluster, text_of("SELECT count(*) FROM note WHERE id <= %ld",
                                                      atomic_load(&past.acknowledged))),
                 atomic_load(&past.acknowledged));
    scene_goes_on(scene, 100);
    no_client_saw_an_error(scene);
    scene_judge(scene, new, NULL, 0);
}

SYSTEM_TEST(failover_planned, one_whose_demote_command_fails_ends_where_it_began)
{
    struct scene_options options = {.sky = {.standbys = 1}};
    struct scene *scene = planned_scene(&options, "fail", "start pg1");
    char *state;

    state = client_sqlstate(proxy_console(scene->proxy), "FAILOVER drill PLANNED");
    cr_expect_str_neq(state, "-----");
    cr_expect_str_eq(last_failover(scene->proxy, "result"), "failed");
    scene_goes_on(scene, 100);
    no_client_saw_an_error(scene);
    cr_expect(star_is_in_recovery(&scene->sky->stars[1]));
    scene_judge(scene, &scene->sky->stars[0], NULL, 0);
}

/* The transaction of a client holds it up: with on_demote = drain it is given up. */
SYSTEM_TEST(failover_planned, one_that_cannot_drain_is_given_up)
{
    struct scene_options options = {.sky = {.standbys = 1}, .environment = "drain_timeout = 1\n"};
    struct scene *scene = planned_scene(&options, "stop pg1", "start pg1");
    PGconn *busy = client_open(scene->proxy, NULL);

    client_do(busy, "BEGIN");
    client_do(busy, "INSERT INTO note VALUES (1)");
    (void)client_sqlstate(proxy_console(scene->proxy), "FAILOVER drill PLANNED");
    cr_expect_str_eq(last_failover(scene->proxy, "result"), "failed");
    client_do(busy, "COMMIT");
    scene_goes_on(scene, 100);
    no_client_saw_an_error(scene);
    cr_expect_eq(hand_count("stop"), 0);
    cr_expect(star_is_in_recovery(&scene->sky->stars[1]));
    scene_judge(scene, &scene->sky->stars[0], NULL, 0);
}

/* To the DR site, when nothing is left, and back when it streams again. */
SYSTEM_TEST(failover_planned, to_the_dr_site_and_back)
{
    struct scene_options options = {.sky = {.standbys = 1, .dr = true}};
    struct scene *scene = planned_scene(&options, "stop dr1", "start dr1");
    struct star *old = &scene->sky->stars[0], *near = &scene->sky->stars[1],
                *far = &scene->sky->stars[2];
    int64_t killed;

    cluster_end(old->cluster, CLUSTER_KILL);
    cluster_end(near->cluster, CLUSTER_KILL);
    killed = now_ms();
    cr_assert(until(has_alarm(scene->proxy, "no_primary", NULL), PATIENCE_MS));
    proxy_do(scene->proxy, text_of("FAILOVER drill TO %s EMERGENCY", far->name));
    scene_goes_on(scene, 100);
    cr_expect_not(star_is_in_recovery(far));
    ledger_stop(scene->ledger);
    struct ledger_verdict verdict = ledger_judge(scene->ledger, far->cluster);
    ledger_expect_sound(&verdict, true);
    cr_expect_leq(verdict.last_missing, killed + ANSWER_LAG_MS);

    /* a mere re-route would lose what was written there */
    (void)client_sqlstate(proxy_console(scene->proxy), "FAILBACK drill");
    star_rejoin(scene->sky, old, far, true);
    cr_assert(until(star_streams(old), PATIENCE_MS));
    cr_assert(star_catches_up(old, far));
    PGconn *client = client_open(scene->proxy, NULL);
    client_do(client, "INSERT INTO note VALUES (1)");
    /* seen to stream from the accepted primary, it is fenced no more */
    cr_expect(until(!is_fenced(scene->proxy, old), PATIENCE_MS));
    proxy_do(scene->proxy, "FAILBACK drill");
    client_do(client, "INSERT INTO note VALUES (2)");
    cr_expect_eq(served_by(scene->sky, client), old);
    cr_expect_eq(rows_on(old, "note"), 2);
}
