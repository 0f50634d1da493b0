/*
 * chaos: many clients do random things on few servers while backends are killed, the server is
 * restarted, the configuration changes and the console interferes. Each answer carries a number that
 * only its client knows: nobody may ever see another's, nobody may hang, and when all have gone
 * nothing is left that counts them, and no descriptor.
 *
 * The threads share nothing but atomic counters and the first problem; the test's own thread
 * asserts. PGSTAGE_TEST_CHAOS says how many seconds it lasts.
 */
#include "system.h"

#include <pthread.h>
#include <stdatomic.h>

TestSuite(chaos, .fini = test_end, .timeout = 900);

#define CLIENTS 24

struct chaos {
    /* fixed */
    const char *conninfos[2], *past_conninfo;
    int port;
    /* shared: atomic, the text under the mutex */
    atomic_bool stopping;
    atomic_int running; /* players */
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
            conn = PQconnectdb(player->chaos->conninfos[roll(player, 3) == 0]);
        PQsetNoticeProcessor(conn, hush, NULL);
        if (PQstatus(conn) != CONNECTION_OK || roll(player, 60) == 0) {
            PQfinish(conn);
            conn = NULL;
            continue;
        }
        play(player, conn);
    }
    PQfinish(conn);
    atomic_fetch_sub(&player->chaos->running, 1);
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
        if (PQstatus(conn) != CONNECTION_OK)
            PQreset(conn); /* the server was restarted */
        pause_ms(150);
    }
    PQfinish(conn);
    return NULL;
}

/* ---- what the operator does ---- */

struct arena {
    struct cluster *cluster;
    struct proxy *proxy;
};

/* The sizes of everything that has one, from 0 on another one each time; negative: the end, when
 * servers that nobody uses go. */
static void configure(const struct arena *arena, int turn)
{
    bool over = turn < 0;
    int size = over ? 4 : 1 + turn % 5;
    char *text = text_of(
        "workers = 4\npool_mode = transaction\nmax_client_conn = 200\nserver_login_retry = 1\n"
        "query_wait_timeout = 20\nserver_idle_timeout = %d\nmin_pool_size = %d\n"
        "reserve_pool_size = %d\nreserve_pool_timeout = 1\n"
        "max_db_connections = %d\nmax_user_connections = %d\n"
        "[environment stage]\nclass = local_development\nhosts = 127.0.0.1:%d\n"
        "max_server_connections = %d\nserver_idle_timeout = %d\nmin_pool_size = %d\n"
        "[databases]\napp = environment=stage pool_size=%d\n%s%s\n",
        over ? 1 : 60, over ? 0 : turn % 3, turn & 1, turn % 4 == 3 ? 2 : 0, turn % 7 == 6 ? 3 : 0,
        arena->cluster->port, turn % 5 == 4 ? 2 : 0, over ? 1 : 30, over ? 0 : turn % 2, size,
        turn % 6 == 5 ? "" : "side = dbname=app ",
        turn % 6 == 5 ? "" : cluster_route(arena->cluster));

    proxy_rewrite(arena->proxy, "%s", text);
    free(text);
}

static void restart(const struct arena *arena, int turn)
{
    static const enum cluster_end ends[] = {CLUSTER_FAST, CLUSTER_IMMEDIATE, CLUSTER_KILL};

    cluster_end(arena->cluster, ends[turn % 3]);
    cluster_again(arena->cluster);
}

static void command_about(const struct arena *arena, int seconds)
{
    static const char *const commands[] = {
        "RECONNECT",  "SHOW POOLS", "SHOW CLIENTS", "RECONNECT app", "SHOW SERVERS", "SHOW SOCKETS",
        "SHOW STATS", "PAUSE app",  "RESUME app",   "DISABLE side",  "SHOW LISTS",   "ENABLE side",
        "PAUSE",      "KILL app",   "RESUME app",   "RESUME"};
    const int count = sizeof commands / sizeof commands[0];
    PGconn *console = proxy_console(arena->proxy);
    int64_t begin = now_ms();

    for (int i = 0, restarts = 0; now_ms() < begin + seconds * 1000; i++) {
        if (i % count == 0) {
            configure(arena, i / count);
            cr_expect_null(proxy_reload(arena->proxy));
        }
        PQclear(PQexec(console, commands[i % count]));
        if (now_ms() > begin + 5000 + restarts * 10000)
            restart(arena, restarts++);
        pause_ms(40);
    }
    PQclear(PQexec(console, "RESUME"));
    PQclear(PQexec(console, "ENABLE side"));
    configure(arena, -1);
    cr_expect_null(proxy_reload(arena->proxy));
}

/* ---- what is left ---- */

static long list_items(const struct arena *arena, const char *list)
{
    return proxy_figure(arena->proxy, "LISTS", "list", list, "items");
}

/* All that counts clients or servers says that there are none. */
static void nobody_is_left(const struct arena *arena)
{
    static const struct {
        const char *view, *key, *column;
    } figures[] = {
        {"POOLS", NULL, "cl_active"},
        {"POOLS", NULL, "cl_waiting"},
        {"POOLS", NULL, "sv_active"},
        {"POOLS", NULL, "sv_idle"},
        {"POOLS", NULL, "sv_used"},
        {"POOLS", NULL, "sv_tested"},
        {"POOLS", NULL, "sv_login"},
        {"POOLS", NULL, "maxwait"},
        {"DATABASES", NULL, "current_connections"},
        {"DATABASES", NULL, "current_client_connections"},
        {"USERS", "app", "current_connections"},
        {"USERS", "app", "current_client_connections"},
        {"ENVIRONMENTS", NULL, "current_client_connections"},
        {"ENVIRONMENTS", NULL, "current_connections"},
        {"SERVERS", NULL, NULL},
    };

    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        const char *view = figures[i].view, *key = figures[i].key, *column = figures[i].column;
        const char *key_column = key ? "name" : NULL;

        cr_expect(until((column ? proxy_figure(arena->proxy, view, key_column, key, column)
                                : proxy_rows(arena->proxy, view, NULL, NULL)) == 0,
                        PATIENCE_MS),
                  "%s %s: %ld", view, column ? column : "rows",
                  column ? proxy_figure(arena->proxy, view, key_column, key, column) : -1);
    }
    cr_expect(until(list_items(arena, "used_servers") == 0, PATIENCE_MS));
    cr_expect(until(list_items(arena, "used_clients") == 1, PATIENCE_MS)); /* the console */
    cr_expect(until(list_items(arena, "login_clients") == 0, PATIENCE_MS));
}

static long total(const struct arena *arena, const char *name)
{
    return proxy_figure(arena->proxy, "TOTALS", "name", name, "value");
}

static void start(struct chaos *chaos, struct player *players, pthread_t *threads)
{
    atomic_store(&chaos->running, CLIENTS);
    for (int i = 0; i < CLIENTS; i++) {
        players[i] = (struct player){chaos, (unsigned)i + 1, (unsigned)(i + 1) * 100000};
        cr_assert_eq(pthread_create(&threads[i], NULL, player_main, &players[i]), 0);
    }
}

static void make_table(const struct cluster *cluster)
{
    PGconn *direct = cluster_connect(cluster, "app");

    client_do(direct, "CREATE TABLE chaos (a int)");
    client_do(direct, "GRANT ALL ON chaos TO public");
    PQfinish(direct);
}

SYSTEM_TEST(chaos, every_client_reads_only_its_own_and_nothing_is_left_behind)
{
    SKIP_ON_PGBOUNCER();
    const char *seconds = getenv("PGSTAGE_TEST_CHAOS");
    struct cluster *cluster = cluster_start(&(struct cluster_options){0});
    struct arena arena = {cluster, proxy_start("workers = 4\n")};
    struct chaos chaos = {.port = arena.proxy->port, .mutex = PTHREAD_MUTEX_INITIALIZER};
    struct player players[CLIENTS];
    pthread_t threads[CLIENTS], killer;
    int descriptors;

    chaos.conninfos[0] = client_conninfo(arena.proxy, NULL);
    chaos.conninfos[1] = client_conninfo(arena.proxy, "dbname=side");
    chaos.past_conninfo = text_of("%s dbname=postgres user=postgres", cluster_route(cluster));
    make_table(cluster);
    configure(&arena, 0);
    cr_assert_null(proxy_reload(arena.proxy));
    descriptors = process_descriptor_count(arena.proxy->pid);

    start(&chaos, players, threads);
    cr_assert_eq(pthread_create(&killer, NULL, killer_main, &chaos), 0);
    command_about(&arena, seconds ? atoi(seconds) : 15);
    atomic_store(&chaos.stopping, true);
    pthread_join(killer, NULL);
    cr_assert(until(atomic_load(&chaos.running) == 0, PATIENCE_MS), "%d clients hang",
              atomic_load(&chaos.running));
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);

    cr_expect_str_eq(chaos.problem, "");
    cr_expect(proxy_is_alive(arena.proxy));
    cr_expect_gt(atomic_load(&chaos.queries), 100);
    cr_expect_gt(atomic_load(&chaos.killed), 5);
    nobody_is_left(&arena);
    cr_expect(until(process_descriptor_count(arena.proxy->pid) <= descriptors + 2, PATIENCE_MS),
              "%d descriptors, %d before", process_descriptor_count(arena.proxy->pid), descriptors);
    cr_expect_eq(total(&arena, "total_xact_count"),
                 proxy_figure(arena.proxy, "STATS", NULL, NULL, "total_xact_count"));
    cr_expect_geq(total(&arena, "total_query_count"), atomic_load(&chaos.queries));
    /* and all of it still works */
    cr_expect_eq(client_number(client_open(arena.proxy, NULL), "SELECT 42"), 42);
    cr_expect_eq(client_number(client_open(arena.proxy, "dbname=side"), "SELECT 43"), 43);
}
