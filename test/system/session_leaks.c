/*
 * session_leaks: hostile clients do things to session state at random, while others check theirs;
 * and the same random statements on PostgreSQL directly and through pgstage leave the same
 * settings.
 *
 * PGSTAGE_TEST_TRANSACTIONS=100000 makes as many checked transactions in each session_state
 * setting, with 50 hostile clients and 50 that check; PGSTAGE_TEST_SEED repeats a run's choices.
 */
#include <pthread.h>

#include "system.h"

SYSTEM_SUITE(session_leaks);
#define LONG_TEST(name) Test(session_leaks, name, .fini = test_end, .timeout = 3600)

static unsigned seed_of_run(void)
{
    const char *text = getenv("PGSTAGE_TEST_SEED");

    return text ? (unsigned)strtoul(text, NULL, 10) : (unsigned)now_ms();
}

static long transactions_of_run(void)
{
    const char *text = getenv("PGSTAGE_TEST_TRANSACTIONS");

    return text ? strtol(text, NULL, 10) : 0;
}

static const char *pick(const char *const *texts, size_t count, unsigned *seed)
{
    return texts[(size_t)rand_r(seed) % count];
}
#define PICK(texts, seed) pick(texts, sizeof texts / sizeof *texts, seed)

/* ---- hostile clients ---- */

static const char *const visible[] = {
    "SET lock_timeout = 4711",
    "SET work_mem = '1717kB'",
    "SET search_path TO pg_catalog, \"Evil\"",
    "SELECT set_config('my.secret', 'leaked', false)",
    "SELECT set_config('my.secret', 'lea' || 'ked', false)",
    "SET my.secret = 'leaked'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET datestyle = 'german'",
    "SET client_encoding = 'latin1'",
    "SET standard_conforming_strings = off",
    "SET ROLE app",
    "SET SESSION AUTHORIZATION other",
    "RESET ROLE",
    "RESET SESSION AUTHORIZATION",
    "RESET ALL",
    "DISCARD ALL",
    "CREATE TEMP TABLE evil (a int)",
    "SELECT 1 AS a INTO TEMP evil2",
    "CREATE TEMP VIEW evil3 AS SELECT 1 AS a",
    "DROP TABLE evil",
    "DECLARE evil CURSOR WITH HOLD FOR SELECT 1",
    "CLOSE ALL",
    "SELECT pg_advisory_lock(666)",
    "SELECT pg_try_advisory_lock_shared(667)",
    "SELECT pg_advisory_unlock_all()",
    "PREPARE evil AS SELECT 1",
    "EXECUTE evil",
    "DEALLOCATE ALL",
    "LISTEN evil",
    "UNLISTEN *",
    "NOTIFY evil",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "RELEASE a",
    "SELECT 1/0",
    "SELECT 1; SET lock_timeout = 4712; SELECT 2",
    "SET lock_timeout = 4713; SELECT 1/0",
    "BEGIN; SET lock_timeout = 4714; COMMIT; SELECT 1/0",
    "BEGIN; SET LOCAL lock_timeout = 4715; CREATE TEMP TABLE evil (a int) ON COMMIT DROP; COMMIT",
    "/* hidden */ ; -- more\n SET lock_timeout = 4716",
    "SELECT $$;$$, ';', E'\\';' ; SET lock_timeout = 4717",
    "SET ROLE NONE",
    "SET LOCAL standard_conforming_strings = off",
    "SELECT 'a\\', '; SET lock_timeout = 4719 --'",
    "SELECT set_config('lock_timeout', '4720', false) AS U&\"x\"",
    "PREPARE evil2 AS SELECT set_config('lock_timeout', '4721', false), pg_advisory_lock(669)",
    "EXECUTE evil2",
    "DEALLOCATE evil2",
    "DEALLOCATE pgstage_1",
    "CREATE TABLE pg_temp.evil4 (a int)",
    "CALL commits()",
    "CALL commits_and_fails()",
    "SAVEPOINT a23456789b123456789c123456789d123456789e123456789f123456789g12xONE",
    "SAVEPOINT a23456789b123456789c123456789d123456789e123456789f123456789g12xTWO",
    "ROLLBACK TO a23456789b123456789c123456789d123456789e123456789f123456789g12xTWO",
};
static const char *const hidden[] = {
    "DO $$ BEGIN SET lock_timeout = 4718; END $$",
    "DO $$ BEGIN PERFORM set_config('my.secret', 'leaked', false); END $$",
    "DO $$ BEGIN EXECUTE 'CREATE TEMP TABLE evil (a int)'; END $$",
    "DO $$ BEGIN PERFORM pg_advisory_lock(668); END $$",
    "DO $$ BEGIN EXECUTE 'LISTEN evil'; END $$",
    "DO $$ BEGIN EXECUTE 'PREPARE evil AS SELECT 1'; END $$",
    "DO $$ BEGIN EXECUTE 'SET ROLE app'; END $$",
};

struct arena {
    struct proxy *proxy;
    bool hide;      /* hostile clients use functions, too */
    bool own_state; /* checkers have parameters of their own */
    long wanted;    /* checked transactions */
    _Atomic long checked, attacks;
    _Atomic bool over;
    pthread_mutex_t mutex;
    char *leak; /* the first one */
};

struct fighter {
    pthread_t thread;
    struct arena *arena;
    unsigned seed;
    int number;
};

static void attack(PGconn *conn, const char *sql, unsigned *seed)
{
    static _Atomic unsigned number;
    char name[32];
    PGresult *result;

    switch (rand_r(seed) % 3) {
    case 0:
        result = PQexecParams(conn, sql, 0, NULL, NULL, NULL, NULL, 0);
        break;
    case 1:
        snprintf(name, sizeof(name), "x%u", ++number);
        PQclear(PQprepare(conn, name, sql, 0, NULL));
        result = PQexecPrepared(conn, name, 0, NULL, NULL, NULL, 0);
        break;
    default:
        result = PQexec(conn, sql);
        break;
    }
    PQclear(result);
    PQconsumeInput(conn);
    for (PGnotify *notify; (notify = PQnotifies(conn));)
        PQfreemem(notify);
}

/* The same statements in one pipeline after another, as no library sends them: portals that are
 * left in the middle or executed twice, a Query behind them without a Sync, the end anywhere. */
static void attack_by_hand(struct arena *arena, unsigned *seed)
{
    struct wire *wire = wire_open(arena->proxy);
    int answers = 0;

    wire_login(wire, "postgres", "app");
    for (int batch = rand_r(seed) % 8; batch >= 0 && !arena->over; batch--) {
        wire_cork(wire, true);
        for (int i = rand_r(seed) % 5; i >= 0; i--) {
            const char *sql = PICK(visible, seed), *portal = rand_r(seed) % 3 ? "" : "p";
            const char *name = rand_r(seed) % 3 ? "" : text_of("h%d", rand_r(seed) % 4);

            wire_parse(wire, name, sql);
            wire_bind(wire, portal, name, NULL);
            wire_execute(wire, portal, (unsigned)rand_r(seed) % 2);
            if (rand_r(seed) % 8 == 0)
                wire_execute(wire, portal, (unsigned)rand_r(seed) % 2);
            arena->attacks++;
        }
        if (rand_r(seed) % 3 == 0)
            wire_query(wire, PICK(visible, seed));
        wire_sync(wire);
        answers++; /* at least: a Query is answered too, unless it was skipped */
        wire_cork(wire, false);
        if (rand_r(seed) % 3 == 0)
            continue; /* the next one goes out before it is answered */
        for (; answers > 0 && !wire->ended; answers--)
            free(wire_types(wire, 'Z', PATIENCE_MS));
    }
    wire_close(wire);
}

static void quiet(void *argument, const PGresult *result)
{
    (void)argument;
    (void)result;
}

static void *attacker(void *argument)
{
    struct fighter *fighter = argument;
    struct arena *arena = fighter->arena;
    unsigned *seed = &fighter->seed;

    while (!arena->over) {
        PGconn *conn;

        if (rand_r(seed) % 3 == 0)
            attack_by_hand(arena, seed);
        conn = client_try(arena->proxy, "user=postgres");

        PQsetNoticeReceiver(conn, quiet, NULL);
        for (int i = rand_r(seed) % 60; i >= 0 && !arena->over; i--) {
            if (PQstatus(conn) != CONNECTION_OK)
                break;
            if (rand_r(seed) % 40 == 0) {
                PQsendQuery(conn, PICK(visible, seed)); /* and leaves without the answer */
                break;
            }
            attack(conn,
                   arena->hide && rand_r(seed) % 3 == 0 ? PICK(hidden, seed) : PICK(visible, seed),
                   seed);
            arena->attacks++;
        }
        PQfinish(conn);
    }
    return NULL;
}

/* ---- clients that check ---- */

static const char state_sql[] =
    "SELECT concat_ws('|', current_setting('lock_timeout'), current_setting('work_mem'), "
    "current_setting('search_path'), coalesce(current_setting('my.secret', true), ''), "
    "current_setting('default_transaction_read_only'), "
    "current_setting('default_transaction_isolation'), current_setting('TimeZone'), "
    "current_setting('DateStyle'), current_setting('client_encoding'), "
    "current_setting('standard_conforming_strings'), current_user, session_user, "
    "current_setting('statement_timeout'), current_setting('application_name'), "
    "(SELECT count(*) FROM pg_catalog.pg_class WHERE relnamespace = pg_my_temp_schema()), "
    "(SELECT count(*) FROM pg_catalog.pg_cursors WHERE is_holdable), "
    "(SELECT count(*) FROM pg_catalog.pg_prepared_statements WHERE from_sql), "
    "(SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = "
    "pg_backend_pid()), (SELECT count(*) FROM pg_catalog.pg_listening_channels()))";

static void tell_leak(struct arena *arena, char *text)
{
    pthread_mutex_lock(&arena->mutex);
    if (!arena->leak)
        arena->leak = text;
    pthread_mutex_unlock(&arena->mutex);
    arena->over = true;
}

/* What it sees now; NULL and a leak told when it cannot even ask. */
static char *look(struct arena *arena, PGconn *conn)
{
    PGresult *result = PQexec(conn, state_sql);
    char *text = NULL;

    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        text = text_of("%s", PQgetvalue(result, 0, 0));
    else
        tell_leak(arena, text_of("a checker's query failed: %s", PQresultErrorMessage(result)));
    PQclear(result);
    return text;
}

static void *checker(void *argument)
{
    struct fighter *fighter = argument;
    struct arena *arena = fighter->arena;
    unsigned *seed = &fighter->seed;
    int number = fighter->number;
    PGconn *conn = client_try(arena->proxy,
                              text_of("user=postgres application_name=c%d options='-c "
                                      "statement_timeout=%d -c timezone=Europe/%s'",
                                      number, 100000 + number, number % 2 ? "Berlin" : "Lisbon"));
    char *expected =
        text_of("%s|%s|\"$user\", public||off|read committed|Europe/%s|ISO, MDY|UTF8|on|postgres|"
                "postgres|%dms|c%d|0|0|0|0|0",
                arena->own_state ? text_of("%dms", 5000 + number) : "0",
                arena->own_state ? text_of("%dkB", 8000 + number) : "4MB",
                number % 2 ? "Berlin" : "Lisbon", 100000 + number, number);

    if (PQstatus(conn) != CONNECTION_OK)
        tell_leak(arena, text_of("a checker cannot connect: %s", PQerrorMessage(conn)));
    if (arena->own_state)
        PQclear(PQexec(conn, text_of("SET lock_timeout = %d; SET work_mem = '%dkB'", 5000 + number,
                                     8000 + number)));
    while (!arena->over) {
        bool block = rand_r(seed) % 2;
        char *seen;

        if (block)
            PQclear(PQexec(conn, "BEGIN"));
        seen = look(arena, conn);
        if (seen && strcmp(seen, expected) != 0)
            tell_leak(arena,
                      text_of("checker %d saw\n  %s\ninstead of\n  %s", number, seen, expected));
        if (block)
            PQclear(PQexec(conn, "COMMIT"));
        if (PQnotifies(conn))
            tell_leak(arena, text_of("checker %d heard somebody else's notification", number));
        if (++arena->checked >= arena->wanted && arena->wanted)
            arena->over = true;
    }
    PQfinish(conn);
    return NULL;
}

/* Tests that run side by side find them made. */
static void make_procedures(struct cluster *cluster)
{
    PGconn *conn = cluster_connect(cluster, "app");

    PQsetNoticeReceiver(conn, quiet, NULL);
    client_do(conn, "SELECT pg_advisory_xact_lock(4711); "
                    "CREATE OR REPLACE PROCEDURE commits() LANGUAGE plpgsql AS "
                    "$$ BEGIN COMMIT; END $$; "
                    "CREATE OR REPLACE PROCEDURE commits_and_fails() LANGUAGE plpgsql AS "
                    "$$ BEGIN COMMIT; RAISE division_by_zero; END $$");
    PQfinish(conn);
}

/* Enough to mean something. */
static bool fought(const struct arena *arena)
{
    return arena->checked > 10 && arena->attacks > 10;
}

static void fight(const char *setting, bool own_state, bool hide, int ms)
{
    struct cluster *cluster = cluster_shared();
    long wanted = transactions_of_run();
    int each = wanted ? 50 : 8;
    struct arena arena = {.own_state = own_state, .hide = hide, .wanted = wanted};
    struct fighter fighters[100];
    unsigned seed = seed_of_run();

    arena.proxy =
        proxy_start("pool_mode = transaction\nsession_state = %s\nmax_client_conn = 1000\n"
                    "query_wait_timeout = 300\nlog_connections = 0\nlog_disconnections = "
                    "0\nlog_pooler_errors = 0\n[databases]\napp = %s pool_size=%d\n",
                    setting, cluster_route(cluster), each + 4);
    pthread_mutex_init(&arena.mutex, NULL);
    make_procedures(cluster);
    for (int i = 0; i < 2 * each; i++) {
        fighters[i] = (struct fighter){.arena = &arena, .seed = seed + (unsigned)i, .number = i};
        cr_assert_eq(
            pthread_create(&fighters[i].thread, NULL, i < each ? attacker : checker, &fighters[i]),
            0);
    }
    (void)until(arena.over, wanted ? 3000000 : ms);
    (void)until(arena.over || fought(&arena), PATIENCE_MS);
    arena.over = true;
    for (int i = 0; i < 2 * each; i++)
        pthread_join(fighters[i].thread, NULL);
    fprintf(stderr, "session_state = %s: %ld transactions checked, %ld attacks (seed %u)\n",
            setting, (long)arena.checked, (long)arena.attacks, seed);
    cr_assert_null(arena.leak, "session_state = %s, seed %u: %s", setting, seed, arena.leak);
    cr_assert(fought(&arena));
}

LONG_TEST(nothing_visible_leaks_with_track)
{
    fight("track", true, false, 4000);
}

LONG_TEST(nothing_visible_leaks_with_pin)
{
    fight("pin", false, false, 4000);
}

LONG_TEST(nothing_visible_leaks_with_reset)
{
    fight("reset", false, false, 4000);
}

LONG_TEST(nothing_leaks_with_reset_always)
{
    fight("reset_always", false, true, 4000);
}

LONG_TEST(nothing_visible_leaks_with_error)
{
    fight("error", false, false, 4000);
}

/* ---- the same as without a pooler ---- */

static const char *const steps[] = {
    "SET lock_timeout = 1111",
    "SET lock_timeout = 2222",
    "SET LOCAL lock_timeout = 3333",
    "RESET lock_timeout",
    "SET lock_timeout TO DEFAULT",
    "SET work_mem = 4444",
    "SET search_path TO a, \"B c\", 'd'",
    "SET search_path = 'a, b'",
    "SET SCHEMA 'x'",
    "RESET search_path",
    "SET my.own = 'x''y'",
    "SET my.own = E'back\\\\slash'",
    "SET LOCAL my.own = 'local'",
    "RESET my.own",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET TIME ZONE -7",
    "RESET TIME ZONE",
    "SET datestyle = 'dmy'",
    "SET datestyle = 'sql'",
    "RESET datestyle",
    "SET intervalstyle = 'iso_8601'",
    "SET standard_conforming_strings = off",
    "SET standard_conforming_strings = on",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, DEFERRABLE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET xmloption = 'document'",
    "SET XML OPTION CONTENT",
    "SELECT set_config('random_page_cost', '7.5', false)",
    "SELECT set_config('random_page_cost', '8.5', true)",
    "SET extra_float_digits = 0",
    "SET bytea_output = escape",
    "SET statement_timeout = '1min'",
    "SET enable_seqscan TO off",
    "RESET ALL",
    "DISCARD ALL",
    "BEGIN",
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "COMMIT AND CHAIN",
    "ROLLBACK",
    "ROLLBACK AND CHAIN",
    "SAVEPOINT a",
    "SAVEPOINT b",
    "SAVEPOINT a",
    "RELEASE a",
    "RELEASE SAVEPOINT b",
    "ROLLBACK TO a",
    "ROLLBACK TO SAVEPOINT b",
    "SELECT 1/0",
    "SET nonsense = 1",
    "SET lock_timeout = 5555; SELECT 1/0",
    "SET lock_timeout = 6666; COMMIT; SET work_mem = 7777; SELECT 1/0",
    "BEGIN; SET lock_timeout = 8888; SAVEPOINT c; SET lock_timeout = 9999; ROLLBACK TO c; COMMIT",
    "SET lock_timeout = 1234; ROLLBACK; SET work_mem = 2345",
};

/* All settings, as one text; NULL in an aborted transaction. */
static char *settings_of(PGconn *conn)
{
    PGresult *result;
    char *text = NULL;

    if (PQtransactionStatus(conn) == PQTRANS_INERROR)
        return NULL;
    result = PQexec(conn, "SELECT string_agg(name || '=' || setting, E'\\n' ORDER BY name) || "
                          "E'\\nmy.own=' || coalesce(current_setting('my.own', true), '') FROM "
                          "pg_settings WHERE name <> 'application_name'");
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQresultErrorMessage(result));
    text = text_of("%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return text;
}

/* Does the step; its SQLSTATE. */
static char *play(PGconn *conn, const char *sql, bool extended)
{
    PGresult *result =
        extended ? PQexecParams(conn, sql, 0, NULL, NULL, NULL, NULL, 0) : PQexec(conn, sql);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    char *text = text_of("%s %d", sqlstate ? sqlstate : "00000", PQtransactionStatus(conn));

    PQclear(result);
    return text;
}

/* Several steps in one pipeline; their SQLSTATEs. */
static char *play_pipeline(PGconn *conn, const char *const *texts, int count)
{
    char *said = "";
    bool over = false;

    cr_assert(PQenterPipelineMode(conn));
    for (int i = 0; i < count; i++)
        cr_assert(PQsendQueryParams(conn, texts[i], 0, NULL, NULL, NULL, NULL, 0));
    cr_assert(PQpipelineSync(conn));
    while (!over && PQstatus(conn) == CONNECTION_OK) {
        PGresult *result = PQgetResult(conn);
        const char *sqlstate;

        if (!result)
            continue; /* between two of them */
        sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        over = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
        said = text_of("%s %s", said, sqlstate ? sqlstate : PQresStatus(PQresultStatus(result)));
        PQclear(result);
    }
    cr_assert(PQexitPipelineMode(conn), "%s", PQerrorMessage(conn));
    return text_of("%s %d", said, PQtransactionStatus(conn));
}

/* The first line in which they differ. */
static const char *difference(const char *a, const char *b)
{
    while (*a && *b) {
        size_t length_a = strcspn(a, "\n"), length_b = strcspn(b, "\n");

        if (length_a != length_b || memcmp(a, b, length_a) != 0)
            return text_of("%.*s, directly %.*s", (int)length_b, b, (int)length_a, a);
        a += length_a + (a[length_a] == '\n');
        b += length_b + (b[length_b] == '\n');
    }
    return "the number of lines";
}

static void compare_sequence(struct proxy *proxy, struct cluster *cluster, unsigned seed)
{
    PGconn *direct = PQconnectdb(text_of("%s dbname=app user=app", cluster_route(cluster)));
    PGconn *pooled = client_open(proxy, NULL), *other = client_open(proxy, NULL);
    char *said = "";

    cr_assert_eq(PQstatus(direct), CONNECTION_OK);
    PQsetNoticeReceiver(direct, quiet, NULL);
    PQsetNoticeReceiver(pooled, quiet, NULL);
    PQsetNoticeReceiver(other, quiet, NULL);
    for (int i = 0; i < 40; i++) {
        const char *step = PICK(steps, &seed);
        bool extended = rand_r(&seed) % 3 == 0 && !strchr(step, ';');
        const char *pipeline[] = {step, PICK(steps, &seed), PICK(steps, &seed)};
        int length = rand_r(&seed) % 4 ? 1 : 2 + rand_r(&seed) % 2;
        char *a, *b, *all_a, *all_b;

        a = length > 1 ? play_pipeline(direct, pipeline, length) : play(direct, step, extended);
        b = length > 1 ? play_pipeline(pooled, pipeline, length) : play(pooled, step, extended);
        said = text_of("%s\n%s%s%s%s%s", said, step, extended ? " (extended)" : "",
                       length > 1 ? text_of(" + %s", pipeline[1]) : "",
                       length > 2 ? text_of(" + %s", pipeline[2]) : "",
                       length > 1 ? " (one pipeline)" : "");
        cr_assert_str_eq(a, b, "%s", said);
        /* somebody else has the server in between */
        if (PQtransactionStatus(pooled) == PQTRANS_IDLE && rand_r(&seed) % 2)
            (void)play(other, PICK(steps, &seed), false);
        if (PQtransactionStatus(other) != PQTRANS_IDLE)
            (void)play(other, "ROLLBACK", false);
        all_a = settings_of(direct);
        all_b = settings_of(pooled);
        if (all_a)
            cr_assert(strcmp(all_a, all_b) == 0, "%s\n%s", difference(all_a, all_b), said);
    }
    PQfinish(direct);
    PQfinish(pooled);
    PQfinish(other);
}

LONG_TEST(settings_are_those_of_a_direct_connection)
{
    struct cluster *cluster = cluster_shared();
    struct proxy *proxy = proxy_start("pool_mode = transaction\nlog_connections = 0\n"
                                      "log_disconnections = 0\n[databases]\napp = %s pool_size=1\n",
                                      cluster_route(cluster));
    unsigned seed = seed_of_run();
    int64_t end = now_ms() + (transactions_of_run() ? 120000 : 8000);
    int sequences = 0;

    for (; now_ms() < end || sequences <= 3; sequences++) {
        fprintf(stderr, "%s",
                sequences % 50
                    ? ""
                    : text_of("sequence %d, seed %u\n", sequences, seed + (unsigned)sequences));
        compare_sequence(proxy, cluster, seed + (unsigned)sequences);
    }
}
