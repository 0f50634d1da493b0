/*
 * session_state: what clients do to their sessions in transaction mode follows them, pins them, or
 * is cleaned away, and never reaches another client.
 */
#include "system.h"

SYSTEM_SUITE(session_state);

#define ONE "pool_mode = transaction\ndefault_pool_size = 1\n"
#define TWO "pool_mode = transaction\ndefault_pool_size = 2\n"

/* of this session alone: others on the same server hold some, too */
static const char HELD_LOCKS[] =
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";

#define cr_expect_shows(conn, name, value)                                                         \
    cr_expect_str_eq(client_value(conn, "SHOW " name), value, "SHOW " name " is %s",               \
                     client_value(conn, "SHOW " name))

/* Why the client with this application_name is pinned, "" when it is not. */
static const char *pinned(struct proxy *proxy, const char *name)
{
    PGresult *result = proxy_show(proxy, "CLIENTS");
    const char *text = "(no such client)";

    for (int i = 0; i < PQntuples(result); i++) {
        if (strcmp(PQgetvalue(result, i, PQfnumber(result, "application_name")), name) == 0)
            text = text_of("%s", PQgetvalue(result, i, PQfnumber(result, "pinned")));
    }
    PQclear(result);
    return text;
}

/* What ended may have to be asked of the server, behind the client's back. */
#define cr_expect_pinned(proxy, name, reason)                                                      \
    cr_expect(until(strcmp(pinned(proxy, name), reason) == 0, PATIENCE_MS), "pinned: %s, not %s",  \
              pinned(proxy, name), reason)

/* ---- track ---- */

SYSTEM_TEST(session_state, set_follows_its_client_and_nobody_else)
{
    struct proxy *proxy = proxy_start(ONE);
    PGconn *a = client_open(proxy, NULL), *b = client_open(proxy, NULL);
    char *path = client_value(b, "SHOW search_path"), *memory = client_value(b, "SHOW work_mem");

    client_do(a, "SET work_mem = '77kB'; SET search_path TO a, \"B c\", 'd''e'");
    client_do(a, "SET my.own = 'it''s \xc3\xa4'");
    client_do(a, "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE");
    client_do(a, "SELECT set_config('lock_timeout', '1234', false)");
    for (int round = 0; round < 3; round++) {
        cr_expect_shows(b, "work_mem", memory);
        cr_expect_shows(b, "search_path", path);
        cr_expect_shows(b, "default_transaction_isolation", "read committed");
        cr_expect_shows(b, "lock_timeout", "0");
        cr_expect_str_eq(client_value(b, "SELECT coalesce(current_setting('my.own', true), '')"),
                         "");
        cr_expect_shows(a, "work_mem", "77kB");
        cr_expect_shows(a, "search_path", "a, \"B c\", \"d'e\"");
        cr_expect_shows(a, "default_transaction_isolation", "serializable");
        cr_expect_shows(a, "lock_timeout", "1234ms");
        cr_expect_str_eq(client_value(a, "SHOW my.own"), "it's \xc3\xa4");
    }
    client_do(a, "RESET work_mem");
    client_do(b, "SELECT 1");
    cr_expect_shows(a, "work_mem", memory);
    cr_expect_shows(a, "lock_timeout", "1234ms");
    client_do(a, "DISCARD ALL");
    client_do(b, "SELECT 1");
    cr_expect_shows(a, "lock_timeout", "0");
    cr_expect_shows(a, "search_path", path);
    cr_expect(until(proxy_figure(proxy, "PINS", NULL, NULL, "total") == 0, PATIENCE_MS));
}

SYSTEM_TEST(session_state, set_is_undone_as_postgresql_undoes_it)
{
    struct proxy *proxy = proxy_start(ONE);
    PGconn *a = client_open(proxy, NULL), *b = client_open(proxy, NULL);

    client_do(a, "BEGIN");
    client_do(a, "SET lock_timeout = 1");
    client_do(a, "ROLLBACK");
    client_do(b, "SELECT 1");
    cr_expect_shows(a, "lock_timeout", "0");
    client_do(a, "BEGIN; SET lock_timeout = 1; SAVEPOINT s; SET lock_timeout = 2; SAVEPOINT t; SET "
                 "lock_timeout = 3");
    client_do(a, "ROLLBACK TO t");
    cr_expect_shows(a, "lock_timeout", "2ms");
    client_do(a, "RELEASE SAVEPOINT t; ROLLBACK TO SAVEPOINT s; COMMIT AND NO CHAIN");
    client_do(b, "SELECT 1");
    cr_expect_shows(a, "lock_timeout", "1ms");
    client_do(a,
              "BEGIN; SET LOCAL lock_timeout = 7; SET lock_timeout = 8; SET LOCAL lock_timeout = "
              "9; COMMIT");
    client_do(b, "SELECT 1");
    cr_expect_shows(a, "lock_timeout", "8ms");
    /* one string is one transaction */
    cr_expect_str_eq(client_sqlstate(a, "SET lock_timeout = 10; SELECT 1/0"), "22012");
    client_do(b, "SELECT 1");
    cr_expect_shows(a, "lock_timeout", "8ms");
    cr_expect_str_eq(client_sqlstate(a, "BEGIN; SET lock_timeout = 11; COMMIT; SELECT 1/0"),
                     "22012");
    client_do(b, "SELECT 1");
    cr_expect_shows(a, "lock_timeout", "11ms");
    /* an aborted transaction's COMMIT is a ROLLBACK */
    client_do(a, "BEGIN; SET lock_timeout = 12");
    cr_expect_str_eq(client_sqlstate(a, "SELECT 1/0"), "22012");
    client_do(a, "COMMIT");
    client_do(b, "SELECT 1");
    cr_expect_shows(a, "lock_timeout", "11ms");
    cr_expect_shows(b, "lock_timeout", "0");
}

SYSTEM_TEST(session_state, extended_protocol_is_followed_as_well)
{
    struct proxy *proxy = proxy_start(ONE);
    PGconn *a = client_open(proxy, NULL), *b = client_open(proxy, NULL);
    PGresult *result = PQexecParams(a, "SET lock_timeout = 5", 0, NULL, NULL, NULL, NULL, 0);

    cr_assert_eq(PQresultStatus(result), PGRES_COMMAND_OK);
    PQclear(result);
    cr_expect_shows(b, "lock_timeout", "0");
    cr_expect_shows(a, "lock_timeout", "5ms");
    client_do(a, "BEGIN");
    result = PQexecParams(a, "SET lock_timeout = 6", 0, NULL, NULL, NULL, NULL, 0);
    PQclear(result);
    result = PQexecParams(a, "ROLLBACK", 0, NULL, NULL, NULL, NULL, 0);
    PQclear(result);
    client_do(b, "SELECT 1");
    cr_expect_shows(a, "lock_timeout", "5ms");
    /* a pipeline that fails has done nothing */
    cr_assert(PQenterPipelineMode(a));
    PQsendQueryParams(a, "SET lock_timeout = 7", 0, NULL, NULL, NULL, NULL, 0);
    PQsendQueryParams(a, "SELECT 1/0", 0, NULL, NULL, NULL, NULL, 0);
    PQpipelineSync(a);
    for (int syncs = 0; syncs < 1;) {
        result = PQgetResult(a);
        syncs += PQresultStatus(result) == PGRES_PIPELINE_SYNC;
        PQclear(result);
    }
    cr_assert(PQexitPipelineMode(a));
    client_do(b, "SELECT 1");
    cr_expect_shows(a, "lock_timeout", "5ms");
}

SYSTEM_TEST(session_state, reset_leads_back_to_what_the_client_logged_in_with)
{
    struct proxy *proxy = proxy_start(ONE);
    PGconn *a = client_open(proxy, "options='-c lock_timeout=4321 --statement-timeout=8765 -c "
                                   "TimeZone=Europe/Berlin'");
    PGconn *b = client_open(proxy, NULL);

    cr_expect_shows(a, "lock_timeout", "4321ms");
    client_do(a, "SET lock_timeout = 1; SET timezone = 'America/Lima'");
    client_do(b, "SELECT 1");
    cr_expect_shows(a, "timezone", "America/Lima");
    client_do(a, "RESET lock_timeout; RESET timezone");
    cr_expect_shows(a, "lock_timeout", "4321ms");
    cr_expect_shows(a, "timezone", "Europe/Berlin");
    client_do(a, "SET lock_timeout = 1; SET statement_timeout = 2000; SET timezone = 'UTC'");
    client_do(a, "RESET ALL");
    cr_expect_shows(a, "lock_timeout", "4321ms");
    cr_expect_shows(a, "statement_timeout", "8765ms");
    cr_expect_shows(a, "timezone", "Europe/Berlin");
    client_do(a, "DISCARD ALL");
    client_do(b, "SELECT 1");
    cr_expect_shows(a, "statement_timeout", "8765ms");
    cr_expect_shows(b, "statement_timeout", "0");
    cr_expect_shows(b, "lock_timeout", "0");
}

/* A value that the server spells in another way costs one SET, not one at each change of client. */
SYSTEM_TEST(session_state, values_spelled_otherwise_cost_nothing)
{
    struct relay *relay = relay_start(cluster_shared()->port);
    struct proxy *proxy =
        proxy_start(ONE "[databases]\napp = host=127.0.0.1 port=%d\n", relay->port);
    PGconn *a = client_open(proxy, "options='-c datestyle=iso'"), *b = client_open(proxy, NULL);
    size_t sent;

    for (int i = 0; i < 3; i++) {
        client_do(a, "SELECT 1");
        client_do(b, "SELECT 1");
    }
    sent = relay->sent;
    client_do(a, "SELECT 1");
    client_do(b, "SELECT 1");
    cr_expect_eq(relay->sent - sent, 2 * (5 + sizeof("SELECT 1")));
}

/* DateStyle has two parts, and a value may name one. */
SYSTEM_TEST(session_state, half_a_date_style_is_not_completed_by_another_client)
{
    struct proxy *proxy = proxy_start(ONE);
    PGconn *a = client_open(proxy, "options='-c datestyle=sql'"), *b = client_open(proxy, NULL);
    char *plain = client_value(a, "SHOW datestyle");

    client_do(b, "SET datestyle = 'postgres, dmy'");
    cr_expect_shows(a, "datestyle", plain);
    cr_expect_shows(b, "datestyle", "Postgres, DMY");
}

/* ---- pins ---- */

static const struct pin_row {
    const char *reason, *makes, *ends;
    bool outlives_discard;
} pin_rows[] = {
    {"temporary", "CREATE TEMP TABLE t (a int)", "DROP TABLE t", false},
    {"temporary", "SELECT 1 AS a INTO TEMPORARY t", "DISCARD TEMP", false},
    {"temporary", "CREATE TABLE pg_temp.t (a int)", "DROP TABLE pg_temp.t", false},
    {"cursor", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE c", false},
    {"cursor", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE ALL", false},
    {"advisory_lock", "SELECT pg_advisory_lock(71)", "SELECT pg_advisory_unlock(71)", false},
    {"advisory_lock", "SELECT pg_try_advisory_lock(71)", "SELECT pg_advisory_unlock_all()", false},
    {"prepare", "PREPARE p AS SELECT 1", "DEALLOCATE p", false},
    {"prepare", "PREPARE p AS SELECT 1", "DEALLOCATE ALL", false},
    {"role", "SET ROLE other", "RESET ROLE", false},
    {"authorization", "SET SESSION AUTHORIZATION app", "RESET SESSION AUTHORIZATION", false},
    {"set_config", "SELECT set_config('my.x', 'a' || 'b', false)", "RESET ALL", false},
    {"listen", "LISTEN x", "UNLISTEN x", false},
    {"seed", "SELECT setseed(0.5)", NULL, true},
};

SYSTEM_TEST(session_state, what_cannot_follow_pins_until_it_is_gone)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nsession_state = pin\n"
                                      "[databases]\napp = pool_size=2 %s user=postgres\n",
                                      cluster_route(cluster_shared()));
    PGconn *a = client_open(proxy, "application_name=a");

    client_do(a, "SELECT 1");
    cr_expect_pinned(proxy, "a", "");
    for (size_t i = 0; i < sizeof pin_rows / sizeof *pin_rows; i++) {
        const struct pin_row *row = &pin_rows[i];

        client_do(a, row->makes);
        cr_expect_pinned(proxy, "a", row->reason);
        client_do(a, row->ends ? row->ends : "DISCARD ALL");
        cr_expect_pinned(proxy, "a", row->outlives_discard ? row->reason : "");
        if (row->outlives_discard)
            continue;
        client_do(a, row->makes);
        client_do(a, "DISCARD ALL");
        cr_expect_pinned(proxy, "a", "");
    }
    cr_expect_geq(proxy_figure(proxy, "PINS", "reason", "temporary", "total"), 6);
    cr_expect(
        until(proxy_figure(proxy, "PINS", "reason", "temporary", "clients") == 0, PATIENCE_MS));
    cr_expect(until(proxy_figure(proxy, "PINS", "reason", "seed", "clients") == 1, PATIENCE_MS));
}

SYSTEM_TEST(session_state, state_that_is_rolled_back_does_not_pin)
{
    struct proxy *proxy = proxy_start(TWO);
    PGconn *a = client_open(proxy, "application_name=a");

    client_do(a, "BEGIN; CREATE TEMP TABLE t (a int); DECLARE c CURSOR WITH HOLD FOR SELECT 1");
    client_do(a, "ROLLBACK");
    client_do(a, "BEGIN; SAVEPOINT s; CREATE TEMP TABLE t (a int); ROLLBACK TO s; COMMIT");
    client_do(a, "CREATE TEMP TABLE t2 (a int) ON COMMIT DROP");
    client_do(a, "SET LOCAL ROLE app; SELECT set_config('a.b', 'c', true)");
    client_do(a, "SELECT pg_advisory_xact_lock(72)");
    cr_expect_pinned(proxy, "a", "");
    /* a lock is not */
    client_do(a, "BEGIN; SELECT pg_advisory_lock(72)");
    client_do(a, "ROLLBACK");
    cr_expect_pinned(proxy, "a", "advisory_lock");
    client_do(a, "SELECT pg_advisory_unlock(72)");
    cr_expect_pinned(proxy, "a", "");
}

/* A statement that fails takes nothing away. */
SYSTEM_TEST(session_state, a_failed_deallocate_does_not_unpin)
{
    struct proxy *proxy = proxy_start(TWO);
    PGconn *a = client_open(proxy, "application_name=a");

    client_do(a, "PREPARE p AS SELECT 1");
    client_do(a, "BEGIN");
    cr_expect_str_eq(client_sqlstate(a, "SELECT 1/0"), "22012");
    cr_expect_str_eq(client_sqlstate(a, "DEALLOCATE ALL"), "25P02");
    client_do(a, "COMMIT");
    cr_expect_str_eq(pinned(proxy, "a"), "prepare");
    client_do(a, "EXECUTE p; DEALLOCATE ALL");
    cr_expect_pinned(proxy, "a", "");
}

SYSTEM_TEST(session_state, a_pinned_client_works_on_its_own_server)
{
    struct proxy *proxy = proxy_start(TWO);
    PGconn *a = client_open(proxy, "application_name=a"), *b = client_open(proxy, NULL);
    PGconn *c = client_open(proxy, NULL);
    int backend;

    client_do(a, "CREATE TEMP TABLE t AS SELECT 42 AS a; SET lock_timeout = 3");
    client_do(a, "PREPARE p (int) AS SELECT $1 + a FROM t");
    backend = client_backend(a);
    for (int i = 0; i < 5; i++) {
        cr_expect_neq(client_backend(b), backend);
        cr_expect_neq(client_backend(c), backend);
        cr_expect_eq(client_backend(a), backend);
        cr_expect_eq(client_number(a, "EXECUTE p(1)"), 43);
        cr_expect_str_eq(client_sqlstate(b, "SELECT * FROM t"), "42P01");
        cr_expect_str_eq(client_sqlstate(c, "EXECUTE p(1)"), "26000");
        cr_expect_shows(b, "lock_timeout", "0");
        cr_expect_shows(a, "lock_timeout", "3ms");
    }
    client_do(a, "DEALLOCATE p; DROP TABLE t");
    cr_expect_pinned(proxy, "a", "");
}

SYSTEM_TEST(session_state, what_a_pinned_client_leaves_is_gone_for_the_next)
{
    struct proxy *proxy = proxy_start(ONE);
    static const char *const states[] = {
        "CREATE TEMP TABLE t (a int)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT pg_advisory_lock(77)",
        "PREPARE p AS SELECT 1",
        "SET ROLE app",
        "SELECT set_config('my.x', 'a' || 'b', false)",
        "LISTEN x",
        "BEGIN; CREATE TEMP TABLE t (a int); SELECT pg_advisory_lock(78)",
    };

    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        PGconn *a = client_open(proxy, NULL), *b;

        client_do(a, states[i]);
        PQfinish(a);
        b = client_open(proxy, NULL);
        cr_expect_eq(client_number(b,
                                   "SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND "
                                   "relnamespace = pg_my_temp_schema()"),
                     0, "%s", states[i]);
        cr_expect_eq(client_number(b, "SELECT count(*) FROM pg_cursors WHERE is_holdable"), 0);
        cr_expect_eq(client_number(b, HELD_LOCKS), 0, "%s", states[i]);
        cr_expect_eq(client_number(b, "SELECT count(*) FROM pg_prepared_statements WHERE from_sql"),
                     0);
        cr_expect_eq(client_number(b, "SELECT count(*) FROM pg_listening_channels()"), 0);
        cr_expect_str_eq(client_value(b, "SELECT coalesce(current_setting('my.x', true), '')"), "");
        PQfinish(b);
    }
}

/* ---- the other settings ---- */

SYSTEM_TEST(session_state, pin_keeps_the_server_for_a_plain_set)
{
    struct proxy *proxy = proxy_start(TWO "session_state = pin\n");
    PGconn *a = client_open(proxy, "application_name=a");

    client_do(a, "SET application_name = 'a'; SET timezone = 'UTC'");
    cr_expect_pinned(proxy, "a", "");
    client_do(a, "SET lock_timeout = 3");
    cr_expect_pinned(proxy, "a", "setting");
    client_do(a, "RESET lock_timeout");
    cr_expect_pinned(proxy, "a", "");
}

SYSTEM_TEST(session_state, reset_cleans_only_what_was_soiled)
{
    struct relay *relay = relay_start(cluster_shared()->port);
    struct proxy *proxy =
        proxy_start(ONE "session_state = reset\n[databases]\napp = host=127.0.0.1 "
                        "port=%d\n",
                    relay->port);
    PGconn *a = client_open(proxy, "application_name=a");
    size_t sent;

    client_do(a, "SELECT 1");
    sent = relay->sent;
    client_do(a, "SELECT 1");
    cr_expect_eq(relay->sent - sent, 5 + sizeof("SELECT 1"));
    client_do(a, "SET lock_timeout = 3; SET timezone = 'Asia/Tokyo'");
    cr_expect_shows(a, "lock_timeout", "0");
    cr_expect_shows(a, "timezone", "Asia/Tokyo");
    client_do(a, "CREATE TEMP TABLE t (a int)");
    cr_expect_str_eq(client_sqlstate(a, "SELECT * FROM t"), "42P01");
    client_do(a, "PREPARE p AS SELECT 1");
    cr_expect_str_eq(client_sqlstate(a, "EXECUTE p"), "26000");
    cr_expect_pinned(proxy, "a", "");
}

SYSTEM_TEST(session_state, reset_always_cleans_what_functions_hide)
{
    struct proxy *proxy = proxy_start(ONE "session_state = reset_always\n");
    PGconn *a = client_open(proxy, NULL), *b = client_open(proxy, NULL);
    int backend = client_backend(a);

    client_do(a,
              "DO $$ BEGIN SET lock_timeout = 3; PERFORM set_config('my.x', 'y', false); EXECUTE "
              "'CREATE TEMP TABLE t (a int)'; PERFORM pg_advisory_lock(73); EXECUTE 'LISTEN x'; "
              "END $$");
    cr_expect_shows(b, "lock_timeout", "0");
    cr_expect_str_eq(client_value(b, "SELECT coalesce(current_setting('my.x', true), '')"), "");
    cr_expect_str_eq(client_sqlstate(b, "SELECT * FROM t"), "42P01");
    cr_expect_eq(client_number(b, HELD_LOCKS), 0);
    cr_expect_eq(client_number(b, "SELECT count(*) FROM pg_listening_channels()"), 0);
    cr_expect_eq(client_backend(b), backend);
    /* a prepared statement of SQL goes with its server */
    client_do(a, "DO $$ BEGIN EXECUTE 'PREPARE p AS SELECT 1'; END $$");
    cr_expect_str_eq(client_sqlstate(b, "EXECUTE p"), "26000");
    /* parameters of the login still follow */
    a = client_open(proxy, "options='-c statement_timeout=61111' application_name=x");
    client_do(b, "SELECT 1");
    cr_expect_shows(a, "statement_timeout", "61111ms");
    cr_expect_shows(a, "application_name", "x");
}

SYSTEM_TEST(session_state, error_refuses_with_a_hint_and_goes_on)
{
    struct proxy *proxy = proxy_start(ONE "session_state = error\n");
    PGconn *a = client_open(proxy, NULL), *b = client_open(proxy, NULL);
    static const char *const refused[] = {
        "SET lock_timeout = 3",
        "CREATE TEMP TABLE t (a int)",
        "SELECT pg_advisory_lock(74)",
        "PREPARE p AS SELECT 1",
        "LOAD 'auto_explain'",
        "LISTEN x",
        "SET ROLE app",
        "SELECT 1; SET work_mem = 64",
        "SELECT setseed(0.1)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT set_config('a.b', 'c', false)",
    };
    PGresult *result;

    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        cr_expect_str_eq(client_sqlstate(a, refused[i]), "0A000", "%s", refused[i]);
    cr_assert_has(client_error(a, "SET lock_timeout = 3"), "SET LOCAL");
    /* these do no harm */
    client_do(a, "SET timezone = 'Asia/Tokyo'; BEGIN; SET LOCAL lock_timeout = 3; COMMIT");
    client_do(a, "RESET ALL; UNLISTEN *; DISCARD TEMP");
    client_do(a, "CREATE TEMP TABLE t (a int) ON COMMIT DROP");
    cr_expect_shows(b, "lock_timeout", "0");
    /* a transaction is aborted by it, as by any error */
    client_do(a, "BEGIN");
    cr_expect_str_eq(client_sqlstate(a, "SET lock_timeout = 3"), "0A000");
    cr_expect_str_eq(client_sqlstate(a, "SELECT 1"), "25P02");
    client_do(a, "ROLLBACK");
    /* in a pipeline it comes at its place */
    result = PQexecParams(a, "SET lock_timeout = 4", 0, NULL, NULL, NULL, NULL, 0);
    cr_expect_str_eq(PQresultErrorField(result, PG_DIAG_SQLSTATE), "0A000");
    PQclear(result);
    client_do(a, "SELECT 1");
    cr_expect_shows(a, "lock_timeout", "0");
}

SYSTEM_TEST(session_state, session_mode_is_left_alone)
{
    struct proxy *proxy = proxy_start("pool_mode = session\nsession_state = error\n");
    PGconn *a = client_open(proxy, "application_name=a");

    client_do(a, "SET lock_timeout = 3; CREATE TEMP TABLE t (a int); PREPARE p AS SELECT 1");
    client_do(a, "LISTEN x; EXECUTE p; SELECT * FROM t");
    cr_expect_shows(a, "lock_timeout", "3ms");
    cr_expect_pinned(proxy, "a", "");
}

/* ---- what is hard to read ---- */

SYSTEM_TEST(session_state, long_texts_are_looked_at_as_they_pass)
{
    struct proxy *proxy = proxy_start(ONE);
    PGconn *a = client_open(proxy, "application_name=a"), *b = client_open(proxy, NULL);
    size_t length = 100000;
    char *filler = malloc(length + 1);

    memset(filler, 'x', length);
    filler[length] = '\0';
    client_do(a, text_of("SELECT '%s'", filler));
    cr_expect_pinned(proxy, "a", "");
    client_do(a, text_of("SELECT '%s'; SET lock_timeout = 3", filler));
    cr_expect_pinned(proxy, "a", "unknown");
    cr_expect_shows(a, "lock_timeout", "3ms");
    client_do(a, "RESET ALL; DROP TABLE IF EXISTS none");
    PQfinish(a);
    cr_expect_shows(b, "lock_timeout", "0");
    a = client_open(proxy, "application_name=a");
    client_do(a, text_of("SELECT '%s'; CREATE TEMP TABLE t (a int)", filler));
    cr_expect_pinned(proxy, "a", "temporary");
    client_do(a, "DROP TABLE t");
    /* a semicolon in a long string is no more than a question to the server */
    client_do(a, text_of("SELECT '%s;%s'", filler, filler));
    cr_expect_pinned(proxy, "a", "");
    cr_expect_shows(b, "lock_timeout", "0");
    free(filler);
}

SYSTEM_TEST(session_state, prepare_transaction_needs_no_server_of_its_own)
{
    struct cluster *cluster =
        cluster_start(&(struct cluster_options){.settings = "max_prepared_transactions = 5\n"});
    struct proxy *proxy = proxy_start(ONE "[databases]\napp = %s\n", cluster_route(cluster));
    PGconn *a = client_open(proxy, "application_name=a"), *b = client_open(proxy, NULL);

    client_do(a, "BEGIN; SET lock_timeout = 3; CREATE TABLE made (a int); PREPARE TRANSACTION 'x'");
    cr_expect_pinned(proxy, "a", "");
    cr_expect_shows(b, "lock_timeout", "0");
    client_do(b, "COMMIT PREPARED 'x'");
    cr_expect_shows(a, "lock_timeout", "3ms");
    client_do(a, "SELECT * FROM made; DROP TABLE made");
}

/* ---- together with the query ---- */

static _Atomic int sets_alone, sets_together;

/* Answers everything, and notes whether a SET came in one piece with the query behind it. */
static void note_sets(struct wire *wire, struct fake *fake)
{
    struct wire_message message;

    (void)fake;
    if (!fake_startup(wire, 'N'))
        return;
    fake_welcome(wire);
    while (wire_read(wire, &message, 60000) && message.type != 'X') {
        bool set = message.type == 'Q' && strncmp((char *)message.body, "SET", 3) == 0;

        if (set && wire->count > 5 && strncmp((char *)wire->bytes + 5, "SELECT", 6) == 0)
            sets_together++;
        else if (set)
            sets_alone++;
        wire_send(wire, 'C', set ? "SET" : "SELECT 0", set ? 4 : 9);
        wire_send(wire, 'Z', "I", 1);
    }
}

/* A value that the host has taken before goes out with the query that needs it. */
SYSTEM_TEST(session_state, parameters_that_were_taken_before_go_with_the_query)
{
    struct fake *fake = fake_start(note_sets, NULL);
    struct proxy *proxy = proxy_start(ONE "[databases]\napp = %s\n", fake_route(fake));
    PGconn *a = client_open(proxy, "application_name=a"), *b = client_open(proxy, NULL);

    for (int i = 0; i < 4; i++) {
        PQclear(PQexec(a, "SELECT 1"));
        PQclear(PQexec(b, "SELECT 1"));
    }
    cr_expect_eq(sets_alone, 1);
    cr_expect_eq(sets_together, 3);
}

/* … and when it is refused all the same, its client does not go on as if nothing had happened. */
SYSTEM_TEST(session_state, a_parameter_that_is_no_longer_taken_ends_its_client)
{
    struct proxy *proxy = proxy_start(ONE);
    PGconn *a = client_open(proxy, NULL), *b = client_open(proxy, NULL);

    client_do(b, "CREATE TEXT SEARCH CONFIGURATION fleeting (COPY = simple)");
    client_do(a, "SET default_text_search_config = 'public.fleeting'");
    for (int i = 0; i < 3; i++) {
        cr_expect_shows(a, "default_text_search_config", "public.fleeting");
        client_do(b, "SELECT 1");
    }
    client_do(b, "DROP TEXT SEARCH CONFIGURATION fleeting");
    cr_assert_has(client_error(a, "SELECT 1"), "invalid value for parameter");
    cr_expect_eq(PQstatus(a), CONNECTION_BAD);
    cr_expect_shows(b, "default_text_search_config", "pg_catalog.english");
}

/* ---- LISTEN and NOTIFY ---- */
/* (tests that run beside each other share a database: each has its own channels) */

/* Waits for a notification; its channel and payload, "" when none came. */
static char *heard(PGconn *conn)
{
    PGnotify *notify = NULL;
    char *text;

    (void)until((PQconsumeInput(conn), (notify = PQnotifies(conn)) != NULL), PATIENCE_MS);
    text = notify ? text_of("%s:%s", notify->relname, notify->extra) : "";
    PQfreemem(notify);
    return text;
}

static bool hears_nothing(PGconn *conn)
{
    PQconsumeInput(conn);
    return PQnotifies(conn) == NULL;
}

SYSTEM_TEST(session_state, listen_shares_one_connection)
{
    struct proxy *proxy = proxy_start(ONE);
    PGconn *clients[6], *deaf = client_open(proxy, NULL);

    for (int i = 0; i < 6; i++) {
        clients[i] = client_open(proxy, text_of("application_name=l%d", i));
        client_do(clients[i], "LISTEN news");
        client_do(clients[i], text_of("LISTEN \"Only %d\"", i));
        cr_expect_pinned(proxy, text_of("l%d", i), "");
    }
    cr_expect(until(proxy_rows(proxy, "SERVERS", NULL, NULL) == 2, PATIENCE_MS));
    client_do(deaf, "NOTIFY news, 'one'");
    for (int i = 0; i < 6; i++)
        cr_expect_str_eq(heard(clients[i]), "news:one");
    client_do(clients[3], "NOTIFY \"Only 4\", 'two'");
    cr_expect_str_eq(heard(clients[4]), "Only 4:two");
    client_do(clients[0], "UNLISTEN news");
    client_do(clients[1], "UNLISTEN *");
    client_do(clients[2], "DISCARD ALL");
    client_do(deaf, "NOTIFY news, 'three'; NOTIFY \"Only 0\", 'four'; NOTIFY \"Only 5\", 'five'");
    for (int i = 3; i < 6; i++)
        cr_expect_str_eq(heard(clients[i]), "news:three");
    cr_expect_str_eq(heard(clients[0]), "Only 0:four");
    cr_expect_str_eq(heard(clients[5]), "Only 5:five");
    for (int i = 0; i < 6; i++)
        cr_expect(hears_nothing(clients[i]), "%d", i);
    cr_expect(hears_nothing(deaf));
}

/* A function's LISTEN cannot be seen: its server goes on listening, whoever it is lent to. */
SYSTEM_TEST(session_state, what_was_listened_to_unseen_is_heard_by_nobody)
{
    struct proxy *proxy = proxy_start(ONE);
    PGconn *a = client_open(proxy, NULL), *b = client_open(proxy, NULL);

    client_do(a, "DO $$ BEGIN EXECUTE 'LISTEN unseen'; END $$");
    client_do(b, "NOTIFY unseen, 'one'");
    client_do(b, "SELECT 1");
    cr_expect(hears_nothing(b), "another client's notification was heard");
    /* who listens, too, hears it by the connection for all, and once only */
    client_do(b, "LISTEN unseen");
    client_do(b, "NOTIFY unseen, 'two'");
    cr_expect_str_eq(heard(b), "unseen:two");
    client_do(b, "NOTIFY unseen, 'three'");
    cr_expect_str_eq(heard(b), "unseen:three");
}

/* asyncpg puts the encoding into quotes, and PostgreSQL looks at its letters and digits only. */
SYSTEM_TEST(session_state, listen_with_an_encoding_in_quotes)
{
    static const char quoted[] = "client_encoding='\\'utf-8\\''";
    struct proxy *proxy = proxy_start(TWO);
    PGconn *a = client_open(proxy, quoted), *b = client_open(proxy, quoted);
    PGconn *c = client_open(proxy, quoted);

    client_do(a, "BEGIN");
    client_do(b, "SELECT 1");
    PQclear(PQexecParams(c, "LISTEN quoted", 0, NULL, NULL, NULL, NULL, 0));
    client_do(a, "ROLLBACK");
    client_do(a, "NOTIFY quoted, 'one'");
    cr_expect_str_eq(heard(c), "quoted:one");
}

/* Where new server connections are asked whom they have reached, the one that listens is, too. */
SYSTEM_TEST(session_state, listen_in_an_environment_that_is_watched)
{
    struct proxy *proxy =
        proxy_start(TWO "[environment e]\nclass = local_development\nhosts = 127.0.0.1:%d\n"
                        "monitor_user = other\n[databases]\napp@e = dbname=app\n",
                    cluster_shared()->port);
    PGconn *a, *b = client_open(proxy, "dbname=app@e");

    cr_assert(until(proxy_rows(proxy, "HOSTS", "role", "primary") == 1, PATIENCE_MS));
    a = client_open(proxy, "dbname=app@e");
    client_do(a, "LISTEN watched");
    client_do(b, "NOTIFY watched, 'one'");
    cr_expect_str_eq(heard(a), "watched:one");
}

SYSTEM_TEST(session_state, listen_takes_effect_with_its_transaction)
{
    struct proxy *proxy = proxy_start(TWO);
    PGconn *a = client_open(proxy, NULL), *b = client_open(proxy, NULL);
    PGresult *result;

    client_do(a, "BEGIN; LISTEN undone; ROLLBACK");
    client_do(a, "BEGIN; SAVEPOINT s; LISTEN undone; ROLLBACK TO s; LISTEN done; COMMIT");
    client_do(b, "NOTIFY undone, 'no'; NOTIFY done, 'yes'");
    cr_expect_str_eq(heard(a), "done:yes");
    cr_expect(hears_nothing(a));
    /* in a transaction nothing is heard, and all of it afterwards */
    client_do(a, "BEGIN");
    client_do(b, "NOTIFY done, '1'");
    client_do(b, "NOTIFY done, '2'");
    for (int i = 0; i < 20; i++) {
        client_do(a, "SELECT 1");
        pause_ms(5);
        cr_expect(hears_nothing(a));
    }
    client_do(a, "COMMIT");
    cr_expect_str_eq(heard(a), "done:1");
    cr_expect_str_eq(heard(a), "done:2");
    /* a prepared LISTEN, and one's own notification */
    result = PQprepare(a, "l", "LISTEN prepared", 0, NULL);
    cr_assert_eq(PQresultStatus(result), PGRES_COMMAND_OK);
    PQclear(result);
    client_do(b, "SELECT 1");
    result = PQexecParams(a, "LISTEN prepared", 0, NULL, NULL, NULL, NULL, 0);
    cr_assert_eq(PQresultStatus(result), PGRES_COMMAND_OK, "%s", PQresultErrorMessage(result));
    PQclear(result);
    client_do(a, "NOTIFY prepared, 'own'");
    cr_expect_str_eq(heard(a), "prepared:own");
}

SYSTEM_TEST(session_state, what_may_have_been_missed_is_told)
{
    struct cluster *cluster = cluster_start(&(struct cluster_options){0});
    struct proxy *proxy =
        proxy_start(TWO "[databases]\napp = %s\nkind = dbname=app %s listen_gap=notice\n",
                    cluster_route(cluster), cluster_route(cluster));
    PGconn *a = client_open(proxy, NULL), *b = client_open(proxy, "dbname=kind"), *c;

    client_do(a, "LISTEN x");
    client_do(b, "LISTEN x");
    free(cluster_value(cluster,
                       "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename "
                       "= 'app'"));
    cr_expect(client_is_closed(a, PATIENCE_MS));
    c = client_open(proxy, NULL);
    /* who only wants to be told goes on listening */
    (void)until((client_do(c, "NOTIFY x, 'again'"), PQconsumeInput(b), PQnotifies(b) != NULL),
                PATIENCE_MS);
    cr_expect_eq(PQstatus(b), CONNECTION_OK);
    cr_expect_str_eq(client_value(b, "SELECT 'well'"), "well");
}

SYSTEM_TEST(session_state, who_does_not_read_notifications_is_ended)
{
    struct proxy *proxy = proxy_start(TWO);
    PGconn *a = client_open(proxy, "application_name=lazy"), *b = client_open(proxy, NULL);

    client_do(a, "LISTEN lazy");
    client_do(a, "BEGIN");
    for (int i = 0; i < 3 && PQstatus(a) == CONNECTION_OK; i++)
        client_do(b, "SELECT count(pg_notify('lazy', g || repeat('y', 7000))) FROM "
                     "generate_series(1, 100) g");
    cr_expect(until(proxy_logged(proxy, "notifications have not been read"), PATIENCE_MS));
    cr_expect(client_is_closed(a, PATIENCE_MS));
    cr_expect_str_eq(client_value(b, "SELECT 'well'"), "well");
}
