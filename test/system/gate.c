/*
 * gate: plane_hold, plane_release and plane_close_host, as failovers call them: a plane of the
 * test's own, in this process, before a real PostgreSQL. The test's thread is the control thread.
 */
#include "system.h"
#include "valve.h"

#include "pgstage/conf/report.h"
#include "pgstage/conf/snapshot.h"
#include "pgstage/session/pace.h"
#include "pgstage/session/plane.h"
#include "pgstage/worker/loop.h"

TestSuite(gate, .timeout = TEST_LIMIT_S);

struct stage {
    struct loop *control;
    struct plane *plane;
    int port;
};

static void ignore(void *context)
{
    (void)context;
}

/* `server_port`: of the server, or of what stands before it. */
static struct stage stage_before(int server_port, const char *more)
{
    static const struct plane_hooks hooks = {.pools_changed = ignore, .idle = ignore};
    struct stage stage = {.port = port_take()};
    struct report report = {0};
    struct snapshot *snapshot;
    char problem[256];
    char *file = text_of("%s/gate.ini", test_folder());
    char *users = text_of("%s/users.txt", test_folder());

    signal(SIGPIPE, SIG_IGN);
    file_write(users, 0600, "\"app\" \"\"\n");
    file_write(file, 0644,
               text_of("[pgstage]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\n"
                       "auth_type = trust\nauth_file = %s\nworkers = 2\n"
                       "[environment e]\nclass = local_development\nhosts = 127.0.0.1:%d\n"
                       "pool_size = 8\n%s"
                       "[databases]\napp = environment=e dbname=app\n* = environment=e "
                       "dbname=app\n"
                       "[users]\napp =\n",
                       stage.port, users, server_port, more));
    snapshot = snapshot_load(file, false, &report);
    cr_assert_not_null(snapshot, "%s", report.count ? report.entries[0].text : "");
    report_fini(&report);
    stage.control = loop_new(0, NULL);
    stage.plane = plane_new(stage.control, snapshot, &hooks, NULL, 0, problem, sizeof problem);
    cr_assert_not_null(stage.plane, "%s", problem);
    snapshot_unref(snapshot);
    cr_assert(plane_start(stage.plane));
    return stage;
}

static struct stage stage_start(const char *more)
{
    return stage_before(cluster_shared()->port, more);
}

static void stage_end(struct stage *stage)
{
    plane_free(stage->plane);
    loop_free(stage->control);
}

static PGconn *client_of_database(const struct stage *stage, const char *database)
{
    PGconn *conn = NULL;

    cr_assert(until((PQfinish(conn),
                     conn = PQconnectdb(text_of("host=127.0.0.1 port=%d dbname=%s user=app "
                                                "sslmode=disable",
                                                stage->port, database)),
                     PQstatus(conn) == CONNECTION_OK),
                    PATIENCE_MS),
              "%s", PQerrorMessage(conn));
    return conn;
}

static PGconn *client_of(const struct stage *stage)
{
    return client_of_database(stage, "app");
}

/* The support's own words for this have the names of the product's functions. */
static void sql_do(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);

    cr_assert_leq(PQresultStatus(result), PGRES_TUPLES_OK, "%s: %s", sql, PQerrorMessage(conn));
    PQclear(result);
}

static void sql_send(PGconn *conn, const char *sql)
{
    cr_assert(PQsendQuery(conn, sql), "%s", PQerrorMessage(conn));
}

static bool sql_is_ready(PGconn *conn)
{
    cr_assert(PQconsumeInput(conn), "%s", PQerrorMessage(conn));
    return !PQisBusy(conn);
}

/* Reads all results; the SQLSTATE of the first error, or "". */
static const char *sql_finish(PGconn *conn)
{
    const char *state = "";
    PGresult *result;

    cr_assert(until(sql_is_ready(conn), PATIENCE_MS));
    while ((result = PQgetResult(conn))) {
        if (PQresultStatus(result) > PGRES_TUPLES_OK && !*state)
            state = text_of("%s", PQresultErrorField(result, PG_DIAG_SQLSTATE));
        PQclear(result);
    }
    return state;
}

static struct gate_counts counts_of(const struct stage *stage)
{
    struct gate_counts counts;

    plane_gate_counts(stage->plane, "e", &counts);
    return counts;
}

static void hold_and_release(const char *mode)
{
    struct stage stage = stage_start(text_of("query_wait_timeout = 6\n%s", mode));
    PGconn *running = client_of(&stage), *idle = client_of(&stage), *fresh;

    sql_do(idle, "SELECT 1");
    sql_do(running, "BEGIN");
    cr_assert(until(counts_of(&stage).running == 1, PATIENCE_MS));
    plane_hold(stage.plane, "e", GATE_WRITERS);
    cr_assert(counts_of(&stage).held);
    cr_assert_eq(counts_of(&stage).running, 1);

    /* new transactions wait, longer than query_wait_timeout */
    sql_send(idle, "SELECT 2");
    fresh = client_of(&stage);
    sql_send(fresh, "SELECT 3");
    pause_ms(6500);
    cr_assert_not(sql_is_ready(idle));
    cr_assert_not(sql_is_ready(fresh));
    /* what runs goes on to its end */
    sql_do(running, "SELECT 4");
    sql_do(running, "COMMIT");
    cr_assert(until(counts_of(&stage).running == 0, PATIENCE_MS));
    sql_send(running, "BEGIN");
    pause_ms(200);
    cr_assert_not(sql_is_ready(running));
    cr_assert_eq(counts_of(&stage).running, 0);

    plane_release(stage.plane, "e");
    cr_assert_not(counts_of(&stage).held);
    cr_assert_str_eq(sql_finish(idle), "");
    cr_assert_str_eq(sql_finish(fresh), "");
    cr_assert_str_eq(sql_finish(running), "");
    sql_do(running, "COMMIT");
    PQfinish(running);
    PQfinish(idle);
    PQfinish(fresh);
    stage_end(&stage);
}

Test(gate, transactions_are_held_and_released)
{
    hold_and_release("pool_mode = transaction\n");
}

Test(gate, sessions_are_held_between_their_transactions)
{
    hold_and_release("pool_mode = session\n");
}

Test(gate, a_client_that_is_pinned_is_held_between_its_transactions)
{
    struct stage stage = stage_start("pool_mode = transaction\n");
    PGconn *pinned = client_of(&stage);

    sql_do(pinned, "SELECT pg_advisory_lock(4711)");
    cr_assert(until(counts_of(&stage).running == 0, PATIENCE_MS));
    plane_hold(stage.plane, "e", GATE_WRITERS);
    sql_send(pinned, "SELECT 5");
    pause_ms(300);
    cr_assert_not(sql_is_ready(pinned));
    cr_assert_eq(counts_of(&stage).running, 0);
    plane_release(stage.plane, "e");
    cr_assert_str_eq(sql_finish(pinned), "");
    PQfinish(pinned);
    stage_end(&stage);
}

Test(gate, a_wait_at_a_gate_that_stays_shut_ends_with_an_error)
{
    struct stage stage = stage_start("pool_mode = transaction\nfailover_wait_timeout = 2\n");
    PGconn *client = client_of(&stage);

    plane_hold(stage.plane, "e", GATE_WRITERS);
    sql_send(client, "SELECT 1");
    cr_assert_str_eq(sql_finish(client), "08006");
    cr_assert_eq(counts_of(&stage).queued, 1);
    cr_assert_eq(counts_of(&stage).errored, 1);
    plane_release(stage.plane, "e");
    sql_do(client, "SELECT 42");
    PQfinish(client);
    stage_end(&stage);
}

Test(gate, a_session_at_a_gate_that_stays_shut_ends)
{
    struct stage stage = stage_start("pool_mode = session\nfailover_wait_timeout = 2\n");
    PGconn *client = client_of(&stage);

    sql_do(client, "SELECT 1");
    plane_hold(stage.plane, "e", GATE_WRITERS);
    sql_send(client, "SELECT 2");
    cr_assert(until((PQconsumeInput(client), !PQisBusy(client)), PATIENCE_MS));
    PGresult *result = PQgetResult(client);
    cr_assert_str_eq(PQresultErrorField(result, PG_DIAG_SQLSTATE), "08006");
    PQclear(result);
    PQfinish(client);
    stage_end(&stage);
}

Test(gate, pools_that_do_not_write_go_on_unless_all_are_held)
{
    struct stage stage = stage_start("pool_mode = transaction\ntarget_session_attrs = any\n");
    PGconn *client = client_of(&stage);

    plane_hold(stage.plane, "e", GATE_WRITERS);
    sql_do(client, "SELECT 1");
    plane_hold(stage.plane, "e", GATE_ALL);
    sql_send(client, "SELECT 2");
    pause_ms(200);
    cr_assert_not(sql_is_ready(client));
    plane_release(stage.plane, "e");
    cr_assert_str_eq(sql_finish(client), "");
    PQfinish(client);
    stage_end(&stage);
}

/* Nobody is lent anything from when plane_hold has returned, and nothing gets lost meanwhile. */
Test(gate, nothing_runs_between_hold_and_release_under_load)
{
    struct stage stage = stage_start("pool_mode = transaction\n");
    PGconn *clients[12];
    long held = 0;

    for (int i = 0; i < 12; i++)
        sql_send(clients[i] = client_of(&stage), "SELECT pg_sleep(0.001)");
    for (int round = 0; round < 30 || (held <= 30 && round < 600); round++) {
        int64_t quiet_until;

        for (int64_t end = now_ms() + 20; now_ms() < end;) {
            for (int i = 0; i < 12; i++) {
                if (!sql_is_ready(clients[i]))
                    continue;
                cr_assert_str_eq(sql_finish(clients[i]), "");
                sql_send(clients[i], "SELECT pg_sleep(0.001)");
            }
        }
        plane_hold(stage.plane, "e", GATE_WRITERS);
        cr_assert(until(counts_of(&stage).running == 0, PATIENCE_MS));
        for (quiet_until = now_ms() + 20; now_ms() < quiet_until; pause_ms(1))
            cr_assert_eq(counts_of(&stage).running, 0);
        held += (long)counts_of(&stage).waiting;
        plane_release(stage.plane, "e");
    }
    for (int i = 0; i < 12; i++) {
        cr_assert_str_eq(sql_finish(clients[i]), "");
        PQfinish(clients[i]);
    }
    cr_assert_gt(held, 30);
    stage_end(&stage);
}

/* ---- plane_close_host ---- */

#define CROWD 12

static void note_closed(void *context)
{
    *(bool *)context = true;
}

/* Is this process among "1,2,3,"? */
static bool is_among(const char *pids, const char *pid)
{
    return strstr(pids, text_of(",%s,", pid)) != NULL;
}

/* One more answer of each: its server's process, or an error where its server was closed. */
static void ask_all(PGconn **clients, const char *closed)
{
    for (int i = 0; i < CROWD; i++)
        sql_send(clients[i], "SELECT pg_backend_pid() FROM pg_sleep(0.001)");
    for (int i = 0; i < CROWD; i++) {
        PGresult *result;

        cr_assert(until(sql_is_ready(clients[i]), PATIENCE_MS));
        while ((result = PQgetResult(clients[i]))) {
            cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s",
                         PQresultErrorMessage(result));
            cr_assert_not(is_among(closed, PQgetvalue(result, 0, 0)), "%s was closed, and answers",
                          PQgetvalue(result, 0, 0));
            PQclear(result);
        }
    }
}

/* Idle ones, busy ones, those on their way from one worker to another, and those being opened: when
 * `done` has come, none of them is used any more. */
Test(gate, when_a_host_is_closed_nothing_goes_on_over_what_there_was)
{
    struct cluster *cluster = cluster_start(NULL);
    struct stage stage = stage_before(cluster->port, "pool_mode = transaction\n");
    const char *label = text_of("127.0.0.1:%d", cluster->port);
    PGconn *clients[CROWD], *busy = client_of(&stage);

    for (int i = 0; i < CROWD; i++)
        clients[i] = client_of(&stage);
    for (int round = 0; round < 15; round++) {
        char *before;
        bool done = false;

        ask_all(clients, ",");
        sql_send(busy, text_of("SELECT pg_sleep(60) AS round_%d", round));
        for (int i = 0; i < CROWD; i++)
            sql_send(clients[i], "SELECT pg_sleep(0.001)");
        cr_assert(until(
            cluster_number(cluster, text_of("SELECT count(*) FROM pg_stat_activity WHERE query "
                                            "LIKE '%% AS round_%d' AND state = 'active'",
                                            round)) > 0,
            PATIENCE_MS));
        before = cluster_value(cluster, "SELECT ',' || string_agg(pid::text, ',') || ',' FROM "
                                        "pg_stat_activity WHERE usename = 'app'");
        plane_close_host(stage.plane, "e", label, REASON_SERVER_FENCED, "test", note_closed, &done);
        cr_assert_not(done, "it was told from inside the call");
        cr_assert(until((loop_turn(stage.control, false), done), PATIENCE_MS));
        cr_assert_str_eq(sql_finish(busy), "08007");
        for (int i = 0; i < CROWD; i++)
            (void)sql_finish(clients[i]);
        ask_all(clients, before);
        free(before);
    }
    /* the host itself is as good as before */
    sql_do(busy, "SELECT 1");
    for (int i = 0; i < CROWD; i++)
        PQfinish(clients[i]);
    PQfinish(busy);
    stage_end(&stage);
}

/* Whoever loses something with its host is counted: an answer, a transaction between two of its
 * statements, a session; an idle client of a pool loses nothing. */
Test(gate, clients_that_lose_a_transaction_or_a_session_are_counted)
{
    struct stage stage = stage_start("pool_mode = transaction\n");
    PGconn *idle = client_of(&stage), *between = client_of(&stage), *pinned = client_of(&stage);
    bool done = false;

    sql_do(idle, "SELECT 1");
    sql_do(between, "BEGIN; SELECT 1");
    sql_do(pinned, "CREATE TEMP TABLE of_its_own ()");
    plane_close_host(stage.plane, "e", text_of("127.0.0.1:%d", cluster_shared()->port),
                     REASON_SERVER_FENCED, "test", note_closed, &done);
    cr_assert(until((loop_turn(stage.control, false), done), PATIENCE_MS));
    cr_assert_eq(counts_of(&stage).errored, 2);
    sql_do(idle, "SELECT 1");
    sql_send(between, "SELECT 1");
    cr_assert_str_eq(sql_finish(between), "57P01");
    cr_assert_eq(counts_of(&stage).errored, 2);
    PQfinish(idle);
    PQfinish(between);
    PQfinish(pinned);
    stage_end(&stage);
}

/* ---- slow start ---- */

/* Fifty pools whose clients are let go at the same moment: their servers are opened a few at a
 * time, though each pool by itself would begin with two. */
Test(gate, the_pools_of_an_environment_start_slowly_together)
{
    enum { POOLS = 50 };
    struct cluster *cluster = cluster_start(NULL);
    struct valve *valve = valve_start("127.0.0.1", cluster->port);
    struct stage stage = stage_before(
        valve->port,
        "server_connect_timeout = 60\nmax_db_connections = 0\npool_mode = transaction\n");
    PGconn *clients[POOLS];
    bool done = false;
    long before;

    for (int i = 0; i < POOLS; i++) {
        clients[i] = client_of_database(&stage, text_of("app%d", i));
        sql_do(clients[i], "SELECT 1");
    }
    plane_hold(stage.plane, "e", GATE_WRITERS);
    plane_close_host(stage.plane, "e", text_of("127.0.0.1:%d", valve->port), REASON_SERVER_FENCED,
                     "test", note_closed, &done);
    cr_assert(until((loop_turn(stage.control, false), done), PATIENCE_MS));
    for (int i = 0; i < POOLS; i++)
        sql_send(clients[i], "SELECT 2");
    cr_assert(until(counts_of(&stage).waiting == POOLS, PATIENCE_MS));
    before = atomic_load(&valve->accepted);
    valve_turn(valve, VALVE_SHUT, 0);
    plane_release(stage.plane, "e");
    cr_assert(until(atomic_load(&valve->accepted) > before, PATIENCE_MS));
    pause_ms(500);
    cr_assert_leq(atomic_load(&valve->accepted) - before, PACE_FIRST);
    valve_turn(valve, VALVE_OPEN, 0);
    for (int i = 0; i < POOLS; i++) {
        cr_assert_str_eq(sql_finish(clients[i]), "");
        PQfinish(clients[i]);
    }
    stage_end(&stage);
}

/* Openings that still wait when the process ends are given up. */
Test(gate, openings_that_wait_end_with_the_process)
{
    struct cluster *cluster = cluster_start(NULL);
    struct valve *valve = valve_start("127.0.0.1", cluster->port);
    struct stage stage = stage_before(valve->port, "pool_mode = transaction\n");
    PGconn *clients[2 * PACE_FIRST];
    bool done = false;
    long before;

    for (int i = 0; i < 2 * PACE_FIRST; i++) {
        clients[i] = client_of_database(&stage, text_of("app%d", i));
        sql_do(clients[i], "SELECT 1");
    }
    plane_hold(stage.plane, "e", GATE_WRITERS);
    plane_close_host(stage.plane, "e", text_of("127.0.0.1:%d", valve->port), REASON_SERVER_FENCED,
                     "test", note_closed, &done);
    cr_assert(until((loop_turn(stage.control, false), done), PATIENCE_MS));
    for (int i = 0; i < 2 * PACE_FIRST; i++)
        sql_send(clients[i], "SELECT 2");
    cr_assert(until(counts_of(&stage).waiting == 2 * PACE_FIRST, PATIENCE_MS));
    before = atomic_load(&valve->accepted);
    valve_turn(valve, VALVE_SHUT, 0);
    plane_release(stage.plane, "e");
    cr_assert(until(atomic_load(&valve->accepted) > before, PATIENCE_MS));
    stage_end(&stage);
    for (int i = 0; i < 2 * PACE_FIRST; i++)
        PQfinish(clients[i]);
}
