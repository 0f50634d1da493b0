/*
 * chaos: many clients do random things on few servers while servers are killed and the
 * configuration is read again. Each answer carries a number that only its client knows: nobody may
 * ever see another's, and when all have gone nothing is left that counts them.
 *
 * The threads share nothing but atomic counters and the first problem; the test's own thread
 * asserts. PGSTAGE_TEST_CHAOS says how many seconds it lasts.
 */
#include "system.h"

#include <pthread.h>
#include <stdatomic.h>

TestSuite(chaos, .fini = test_end, .timeout = 300);

#define CLIENTS 24

struct chaos {
    /* fixed */
    const char *conninfo, *past_conninfo;
    int port;
    /* shared: atomic, the text under the mutex */
    atomic_bool stopping;
    atomic_long queries, rejected, killed;
    pthread_mutex_t mutex;
    char problem[512];
};

struct player {
    struct chaos *chaos;
    unsigned seed;
    unsigned number; /* only ever its own */
};

static void hush(void *argument, const char *text)
{
    (void)argument;
    (void)text;
}

static unsigned roll(struct player *player, unsigned sides)
{
    return (unsigned)rand_r(&player->seed) % sides;
}

static void complain(struct player *player, const char *what, const char *got)
{
    struct chaos *chaos = player->chaos;

    pthread_mutex_lock(&chaos->mutex);
    if (!chaos->problem[0])
        snprintf(chaos->problem, sizeof chaos->problem, "%s: \"%s\"", what, got);
    pthread_mutex_unlock(&chaos->mutex);
}

static unsigned own_number(struct player *player)
{
    return player->number = (player->number / 100000 * 100000) + roll(player, 100000);
}

/* One value that must be the client's own; an error is the chaos's right. */
static void compare(struct player *player, PGresult *result, const char *expected)
{
    if (PQresultStatus(result) == PGRES_TUPLES_OK) {
        atomic_fetch_add(&player->chaos->queries, 1);
        if (PQntuples(result) != 1 || strcmp(PQgetvalue(result, 0, 0), expected) != 0)
            complain(player, expected, PQntuples(result) ? PQgetvalue(result, 0, 0) : "no row");
    } else {
        atomic_fetch_add(&player->chaos->rejected, 1);
    }
    PQclear(result);
}

static void play_simple(struct player *player, PGconn *conn)
{
    char sql[128], expected[32];

    snprintf(expected, sizeof expected, "%u", own_number(player));
    snprintf(sql, sizeof sql, "SELECT %s, repeat('x', %u)", expected, 1 + roll(player, 40000));
    compare(player, PQexec(conn, sql), expected);
}

static void play_extended(struct player *player, PGconn *conn)
{
    char expected[32];
    const char *values[] = {expected};

    snprintf(expected, sizeof expected, "%u", own_number(player));
    compare(player, PQexecParams(conn, "SELECT $1::text", 1, NULL, values, NULL, NULL, 0),
            expected);
}

static void play_transaction(struct player *player, PGconn *conn)
{
    char sql[128], expected[32];

    PQclear(PQexec(conn, "BEGIN"));
    snprintf(expected, sizeof expected, "%u", own_number(player));
    snprintf(sql, sizeof sql, "SET LOCAL my.own = '%s'", expected);
    PQclear(PQexec(conn, sql));
    /* when one of these failed, so does this one */
    if (PQtransactionStatus(conn) == PQTRANS_INTRANS)
        compare(player, PQexec(conn, "SELECT current_setting('my.own')"), expected);
    PQclear(PQexec(conn, roll(player, 2) ? "COMMIT" : "ROLLBACK"));
}

static void play_pipeline(struct player *player, PGconn *conn)
{
    char texts[8][32];
    int count = 1 + (int)roll(player, 8);
    PGresult *result;

    if (!PQenterPipelineMode(conn))
        return;
    for (int i = 0; i < count; i++) {
        const char *values[] = {texts[i]};

        snprintf(texts[i], sizeof texts[i], "%u", own_number(player));
        PQsendQueryParams(conn, "SELECT $1::text", 1, NULL, values, NULL, NULL, 0);
        if (roll(player, 4) == 0)
            PQsendQueryParams(conn, "SELECT 1/0", 0, NULL, NULL, NULL, NULL, 0);
        else
            PQsendQueryParams(conn, "SELECT 'between'", 0, NULL, NULL, NULL, NULL, 0);
        PQpipelineSync(conn);
    }
    for (int i = 0; i < count && PQstatus(conn) == CONNECTION_OK; i++) {
        int seen = 0;

        while (PQstatus(conn) == CONNECTION_OK) {
            result = PQgetResult(conn);
            if (!result)
                continue;
            if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
                PQclear(result);
                break;
            }
            if (seen++ == 0)
                compare(player, result, texts[i]);
            else
                PQclear(result);
        }
    }
    if (PQstatus(conn) == CONNECTION_OK)
        (void)PQexitPipelineMode(conn);
}

static void play_copy_out(struct player *player, PGconn *conn)
{
    char sql[128], expected[40], *row;
    PGresult *result;

    snprintf(expected, sizeof expected, "%u\n", own_number(player));
    snprintf(sql, sizeof sql, "COPY (SELECT %u FROM generate_series(1, %u)) TO STDOUT",
             player->number, 1 + roll(player, 3000));
    PQclear(PQexec(conn, sql));
    while (PQgetCopyData(conn, &row, 0) > 0) {
        if (strcmp(row, expected) != 0)
            complain(player, expected, row);
        PQfreemem(row);
    }
    while ((result = PQgetResult(conn)))
        PQclear(result);
}

static void play_copy_in(struct player *player, PGconn *conn)
{
    PGresult *result = PQexec(conn, "COPY chaos FROM STDIN");
    char row[32];
    int rows = 1 + (int)roll(player, 3000);

    PQclear(result);
    if (PQresultStatus(result = PQgetResult(conn)) != PGRES_FATAL_ERROR && result)
        PQclear(result);
    for (int i = 0; i < rows; i++) {
        int length = snprintf(row, sizeof row, "%u\n", player->number);

        if (PQputCopyData(conn, row, length) <= 0)
            break;
    }
    PQputCopyEnd(conn, roll(player, 3) ? NULL : "had enough");
    while ((result = PQgetResult(conn)))
        PQclear(result);
}

static void play_errors(struct player *player, PGconn *conn)
{
    static const char *const texts[] = {"SELECT 1/0", "nonsense", "SELECT 1; SELECT 2/0; SELECT 3",
                                        "BEGIN; SELECT 1/0; COMMIT", ""};

    PQclear(PQexec(conn, texts[roll(player, 5)]));
    PQclear(PQexec(conn, "ROLLBACK"));
}

static void play_cancel(struct player *player, PGconn *conn)
{
    PGcancel *cancel = PQgetCancel(conn);
    char problem[256];
    PGresult *result;

    PQsendQuery(conn, "SELECT pg_sleep(0.05)");
    if (roll(player, 2))
        pause_ms((int)roll(player, 60));
    if (cancel)
        (void)PQcancel(cancel, problem, sizeof problem);
    PQfreeCancel(cancel);
    while ((result = PQgetResult(conn)))
        PQclear(result);
}

/* Leaves in the middle: of the login, a query, a batch, a COPY, a transaction. */
static void play_vanish(struct player *player)
{
    static const char *const texts[] = {"SELECT pg_sleep(0.2)",
                                        "SELECT repeat('y', 100000) FROM generate_series(1, 100)",
                                        "COPY chaos FROM STDIN", "BEGIN", "BEGIN; SELECT 1/0"};
    struct bytes packet =
        startup_packet("user", "app", "database", "app", "options", "-c work_mem=77kB", NULL);
    struct wire *wire = wire_open_port(player->chaos->port);

    if (!wire)
        return;
    wire_write(wire, packet.data, roll(player, 8) ? packet.count : packet.count / 2);
    if (roll(player, 4))
        (void)wire_types(wire, 'Z', 3000);
    if (roll(player, 3) == 0) {
        wire_parse(wire, "", "SELECT pg_sleep(0.1)");
        wire_bind(wire, "", "", NULL);
        wire_execute(wire, "", 0);
        if (roll(player, 2))
            wire_flush(wire);
        if (roll(player, 2))
            wire_sync(wire);
    } else {
        wire_query(wire, texts[roll(player, 5)]);
    }
    if (roll(player, 3) == 0)
        wire_send(wire, 'X', NULL, 0);
    pause_ms((int)roll(player, 20));
    if (roll(player, 2))
        wire_reset(wire);
    else
        wire_close(wire);
    free(packet.data);
}

static void play(struct player *player, PGconn *conn)
{
    switch (roll(player, 12)) {
    case 0:
        play_pipeline(player, conn);
        break;
    case 1:
        play_copy_out(player, conn);
        break;
    case 2:
        play_copy_in(player, conn);
        break;
    case 3:
        play_errors(player, conn);
        break;
    case 4:
        play_cancel(player, conn);
        break;
    case 5:
        play_vanish(player);
        break;
    case 6:
    case 7:
        play_transaction(player, conn);
        break;
    case 8:
    case 9:
        play_extended(player, conn);
        break;
    default:
        play_simple(player, conn);
        break;
    }
}

static void *player_main(void *argument)
{
    struct player *player = argument;
    PGconn *conn = NULL;

    while (!atomic_load(&player->chaos->stopping)) {
        if (!conn)
            conn = PQconnectdb(player->chaos->conninfo);
        PQsetNoticeProcessor(conn, hush, NULL);
        if (PQstatus(conn) != CONNECTION_OK || roll(player, 60) == 0) {
            PQfinish(conn);
            conn = NULL;
            continue;
        }
        play(player, conn);
    }
    PQfinish(conn);
    return NULL;
}

/* Ends backends, past the pooler. */
static void *killer_main(void *argument)
{
    struct chaos *chaos = argument;
    PGconn *conn = PQconnectdb(chaos->past_conninfo);

    for (int round = 0; !atomic_load(&chaos->stopping); round++) {
        PGresult *result = PQexec(conn, round % 10 ? "SELECT pg_terminate_backend(pid) FROM "
                                                     "pg_stat_activity WHERE usename = 'app' "
                                                     "ORDER BY random() LIMIT 1"
                                                   : "SELECT pg_terminate_backend(pid) FROM "
                                                     "pg_stat_activity WHERE usename = 'app'");

        atomic_fetch_add(&chaos->killed, PQntuples(result));
        PQclear(result);
        pause_ms(150);
    }
    PQfinish(conn);
    return NULL;
}

static void command_about(struct proxy *proxy, int seconds)
{
    static const char *const commands[] = {"RELOAD",       "RECONNECT",   "SHOW POOLS",
                                           "SHOW CLIENTS", "RECONNECT",   "SHOW SERVERS",
                                           "RELOAD",       "SHOW SOCKETS"};
    int64_t deadline = now_ms() + seconds * 1000;

    for (int i = 0; now_ms() < deadline; i++) {
        PQclear(PQexec(proxy_console(proxy), commands[i % 8]));
        if (i % 20 == 10) {
            PQclear(PQexec(proxy_console(proxy), "PAUSE app"));
            PQclear(PQexec(proxy_console(proxy), "RESUME app"));
        }
        if (i % 50 == 49) {
            PQclear(PQexec(proxy_console(proxy), "KILL app"));
            PQclear(PQexec(proxy_console(proxy), "RESUME app"));
        }
        pause_ms(100);
    }
}

SYSTEM_TEST(chaos, every_client_reads_only_its_own_and_nothing_is_left_behind)
{
    const char *seconds = getenv("PGSTAGE_TEST_CHAOS");
    static const char *const columns[] = {"cl_active", "cl_waiting", "sv_active", "sv_tested",
                                          "sv_login"};
    struct cluster *cluster = cluster_start(&(struct cluster_options){0});
    struct proxy *proxy =
        proxy_start("pool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 200\n"
                    "server_login_retry = 1\nquery_wait_timeout = 20\n"
                    "[databases]\napp = %s\n",
                    cluster_route(cluster));
    struct chaos chaos = {.port = proxy->port, .mutex = PTHREAD_MUTEX_INITIALIZER};
    struct player players[CLIENTS];
    pthread_t threads[CLIENTS], killer;
    PGconn *direct = cluster_connect(cluster, "app");

    SKIP_ON_PGBOUNCER();
    chaos.conninfo = client_conninfo(proxy, NULL);
    chaos.past_conninfo = text_of("%s dbname=postgres user=postgres", cluster_route(cluster));
    client_do(direct, "CREATE TABLE chaos (a int)");
    client_do(direct, "GRANT ALL ON chaos TO public");
    PQfinish(direct);
    for (int i = 0; i < CLIENTS; i++) {
        players[i] = (struct player){&chaos, (unsigned)i + 1, (unsigned)(i + 1) * 100000};
        cr_assert_eq(pthread_create(&threads[i], NULL, player_main, &players[i]), 0);
    }
    cr_assert_eq(pthread_create(&killer, NULL, killer_main, &chaos), 0);
    command_about(proxy, seconds ? atoi(seconds) : 20);
    atomic_store(&chaos.stopping, true);
    pthread_join(killer, NULL);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);

    cr_expect_str_eq(chaos.problem, "");
    cr_expect(proxy_is_alive(proxy));
    cr_expect_gt(atomic_load(&chaos.queries), 100);
    cr_expect_gt(atomic_load(&chaos.killed), 5);
    for (int i = 0; i < 5; i++)
        cr_expect(
            until(proxy_figure(proxy, "POOLS", "database", "app", columns[i]) == 0, PATIENCE_MS),
            "%s stays", columns[i]);
    cr_expect(until(proxy_rows(proxy, "CLIENTS", "database", "app") == 0, PATIENCE_MS));
    /* and all of it still works */
    cr_expect_eq(client_number(client_open(proxy, NULL), "SELECT 42"), 42);
}
