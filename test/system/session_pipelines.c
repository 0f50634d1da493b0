/*
 * session_pipelines: session state and the odd ways of the protocol to change it: pipelines that
 * fail behind what they have committed, portals that are suspended, texts whose meaning changes
 * while they are under way, servers that are lost in between. Part of test_session_state.
 */
#include "system.h"

SYSTEM_SUITE(session_pipelines);

#define ONE "pool_mode = transaction\ndefault_pool_size = 1\n"

#define cr_expect_shows(conn, name, value)                                                         \
    cr_expect_str_eq(client_value(conn, "SHOW " name), value, "SHOW " name " is %s",               \
                     client_value(conn, "SHOW " name))

/* What somebody sees of my.x, "" when nothing was set. */
static char *secret_of(PGconn *conn)
{
    return client_value(conn, "SELECT coalesce(current_setting('my.x', true), '')");
}

/* Parse, Bind and Execute of an unnamed statement. */
static void ask(struct wire *wire, const char *sql, unsigned rows)
{
    wire_parse(wire, "", sql);
    wire_bind(wire, "", "", NULL);
    wire_execute(wire, "", rows);
}

/* A query that may fail; the types of its answers. */
static char *query(struct wire *wire, const char *sql)
{
    wire_query(wire, sql);
    return wire_types(wire, 'Z', PATIENCE_MS);
}

static char *value(struct wire *wire, const char *sql)
{
    wire_query(wire, sql);
    return wire_value(wire, PATIENCE_MS);
}

static const char *pinned(struct proxy *proxy, const char *user)
{
    PGresult *result = proxy_show(proxy, "CLIENTS");
    const char *text = "(no such client)";

    for (int i = 0; i < PQntuples(result); i++) {
        if (strcmp(PQgetvalue(result, i, PQfnumber(result, "application_name")), user) == 0)
            text = text_of("%s", PQgetvalue(result, i, PQfnumber(result, "pinned")));
    }
    PQclear(result);
    return text;
}

SYSTEM_TEST(session_pipelines, a_suspended_portal_has_done_what_it_does)
{
    struct proxy *proxy = proxy_start(ONE);
    struct wire *a = wire_client(proxy);
    PGconn *b = client_open(proxy, NULL);

    ask(a, "SELECT set_config('my.x', 'own', false)", 1);
    wire_sync(a);
    cr_assert_str_eq(wire_types(a, 'Z', PATIENCE_MS), "12DsZ");
    cr_expect_str_eq(secret_of(b), "");
    cr_expect_str_eq(value(a, "SHOW my.x"), "own");
    /* what it did once is not done again when the rest is fetched */
    wire_query(a, "BEGIN");
    wire_parse(a, "", "SELECT set_config('my.x', 'first', false)");
    wire_bind(a, "p", "", NULL);
    wire_execute(a, "p", 1);
    wire_sync(a);
    wire_query(a, "SET my.x = 'second'");
    wire_execute(a, "p", 1);
    wire_sync(a);
    wire_query(a, "COMMIT");
    for (int i = 0; i < 5; i++)
        free(wire_types(a, 'Z', PATIENCE_MS));
    cr_expect_str_eq(secret_of(b), "");
    cr_expect_str_eq(value(a, "SHOW my.x"), "second");
}

SYSTEM_TEST(session_pipelines, what_commits_at_once_is_not_undone_by_a_later_error)
{
    struct proxy *proxy = proxy_start(ONE);
    struct wire *a = wire_client(proxy);
    PGconn *b = client_open(proxy, NULL);

    cr_assert_str_eq(query(a, "SET lock_timeout = 5; LISTEN batch"), "CCZ");
    ask(a, "DISCARD ALL", 0);
    ask(a, "SELECT 1/0", 0);
    wire_sync(a);
    cr_assert_str_eq(wire_types(a, 'Z', PATIENCE_MS), "12C1EZ");
    cr_expect_shows(b, "lock_timeout", "0");
    cr_expect_str_eq(value(a, "SHOW lock_timeout"), "0");
    client_do(b, "NOTIFY batch");
    client_do(b, "SELECT 1");
    cr_expect_str_eq(query(a, "SELECT 1"), "TDCZ");
}

SYSTEM_TEST(session_pipelines, a_lock_behind_discard_all_is_seen)
{
    struct proxy *proxy = proxy_start(ONE);
    struct wire *a = wire_client(proxy);
    PGconn *b = client_open(proxy, NULL);

    ask(a, "DISCARD ALL", 0);
    ask(a, "SELECT pg_advisory_lock(5)", 0);
    wire_sync(a);
    cr_assert_str_eq(wire_types(a, 'Z', PATIENCE_MS), "12C12DCZ");
    cr_expect(
        until(proxy_figure(proxy, "PINS", "reason", "advisory_lock", "clients") == 1, PATIENCE_MS));
    wire_close(a);
    cr_expect_str_eq(client_value(b, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
                                     "AND pid = pg_backend_pid()"),
                     "0");
}

SYSTEM_TEST(session_pipelines, what_was_committed_in_the_midst_of_a_pipeline_is_not_taken_as_undone)
{
    static const char *const commits[] = {"VACUUM midst", "CREATE INDEX CONCURRENTLY ON midst (a)",
                                          "CALL midst()", "COMMIT"};
    struct proxy *proxy = proxy_start(ONE);
    PGconn *b = client_open(proxy, NULL);

    client_do(b, "DROP TABLE IF EXISTS midst; CREATE TABLE midst (a int)");
    client_do(b, "CREATE OR REPLACE PROCEDURE midst() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$");
    for (size_t i = 0; i < sizeof commits / sizeof *commits; i++) {
        struct wire *a = wire_client(proxy);

        ask(a, "SELECT set_config('my.x', 'leaked', false)", 1);
        ask(a, commits[i], 0);
        ask(a, "SELECT 1/0", 0);
        wire_sync(a);
        free(wire_types(a, 'Z', PATIENCE_MS));
        cr_expect_str_eq(secret_of(b), "", "%s", commits[i]);
        wire_close(a);
    }
    /* a procedure that commits and fails */
    client_do(b, "CREATE OR REPLACE PROCEDURE midst() LANGUAGE plpgsql AS $$ BEGIN COMMIT; RAISE "
                 "division_by_zero; END $$");
    for (int rows = 0; rows < 2; rows++) {
        struct wire *a = wire_client(proxy);

        ask(a, "SELECT set_config('my.x', 'leaked', false)", (unsigned)rows);
        ask(a, "CALL midst()", 0);
        wire_sync(a);
        free(wire_types(a, 'Z', PATIENCE_MS));
        cr_expect_str_eq(secret_of(b), "");
        wire_close(a);
    }
    client_do(b, "DROP TABLE midst; DROP PROCEDURE midst");
}

/* Several statements, each in its own Parse, Bind and Execute, and one Sync. */
static char *pipeline(struct wire *wire, const char *const *texts)
{
    for (; *texts; texts++)
        ask(wire, *texts, 0);
    wire_sync(wire);
    return wire_types(wire, 'Z', PATIENCE_MS);
}

/* … between a query before and one behind it; NULL: none. */
static void run(struct wire *wire, const char *before, const char *const *texts, const char *after)
{
    if (before)
        free(query(wire, before));
    free(pipeline(wire, texts));
    if (after)
        free(query(wire, after));
}

SYSTEM_TEST(session_pipelines, what_was_committed_before_a_block_is_not_undone_with_it)
{
    static const struct {
        const char *before, *texts[6], *after;
    } cases[] = {
        /* the transaction that is rolled back began behind it */
        {NULL, {"SET my.x = 'leaked'", "CALL behind()", "BEGIN"}, "ROLLBACK"},
        {NULL, {"SET my.x = 'leaked'", "CALL behind()", "BEGIN", "SELECT 1/0"}, "ROLLBACK"},
        {NULL, {"SET my.x = 'leaked'", "CALL behind()", "BEGIN", "ROLLBACK"}, NULL},
        {NULL, {"SET my.x = 'leaked'", "CALL behind()", "BEGIN", "ROLLBACK AND CHAIN"}, "ROLLBACK"},
        /* there is none to be rolled back */
        {NULL, {"SET my.x = 'leaked'", "CALL behind()", "ROLLBACK"}, NULL},
        /* the block that the pipeline began in has ended before it */
        {"BEGIN", {"COMMIT", "SET my.x = 'leaked'", "CALL behind()", "SELECT 1/0"}, NULL},
        {"BEGIN", {"ROLLBACK", "SET my.x = 'leaked'", "CALL behind()", "ROLLBACK"}, NULL},
        {"BEGIN; SET LOCAL my.y = 1",
         {"COMMIT", "SET my.x = 'leaked'", "CALL behind()", "ROLLBACK"},
         NULL},
        {"BEGIN", {"COMMIT", "SET my.x = 'leaked'", "CALL behind()", "BEGIN"}, "ROLLBACK"},
    };
    struct proxy *proxy = proxy_start(ONE);
    PGconn *b = client_open(proxy, NULL);

    client_do(b,
              "CREATE OR REPLACE PROCEDURE behind() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct wire *a = wire_client(proxy);

        run(a, cases[i].before, cases[i].texts, cases[i].after);
        cr_expect_str_eq(secret_of(b), "", "case %zu", i);
        wire_close(a);
        cr_expect_str_eq(secret_of(b), "", "case %zu, afterwards", i);
    }
    client_do(b, "DROP PROCEDURE behind");
}

/* Where nothing is in doubt, nothing is asked, and what was set and rolled back is not kept. */
SYSTEM_TEST(session_pipelines, what_was_set_in_a_block_is_undone_with_it)
{
    static const struct {
        const char *before, *texts[6], *after, *then;
    } cases[] = {
        {NULL, {"SET my.x = 'set'", "BEGIN"}, "ROLLBACK", ""},
        {NULL, {"BEGIN", "SET my.x = 'set'"}, "ROLLBACK", ""},
        {NULL, {"BEGIN", "SET my.x = 'set'", "ROLLBACK"}, NULL, ""},
        {NULL, {"BEGIN", "SET my.x = 'set'", "SELECT 1/0"}, "COMMIT", ""},
        {"BEGIN", {"SET my.x = 'set'", "ROLLBACK"}, NULL, ""},
        {"BEGIN", {"SELECT 1", "SET my.x = 'set'"}, "ROLLBACK", ""},
        {"BEGIN", {"COMMIT", "SET my.x = 'set'"}, NULL, "set"},
        {"BEGIN", {"SET my.x = 'set'", "COMMIT", "BEGIN", "SELECT 1"}, "ROLLBACK", "set"},
    };
    struct proxy *proxy = proxy_start(ONE);
    PGconn *b = client_open(proxy, NULL);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct wire *a = wire_client(proxy);

        run(a, cases[i].before, cases[i].texts, cases[i].after);
        cr_expect_str_eq(secret_of(b), "", "case %zu", i);
        cr_expect_str_eq(value(a, "SELECT coalesce(current_setting('my.x', true), '')"),
                         cases[i].then, "case %zu", i);
        wire_close(a);
    }
}

SYSTEM_TEST(session_pipelines, an_error_before_the_loss_of_a_server_counts_for_nothing_behind_it)
{
    struct proxy *proxy =
        proxy_start(ONE "[databases]\napp = %s\nother = dbname=app %s\n",
                    cluster_route(cluster_shared()), cluster_route(cluster_shared()));
    struct wire *a = wire_client(proxy);
    PGconn *b = client_open(proxy, NULL), *killer = client_open(proxy, "dbname=other");
    char *pid;

    /* it has a tracker */
    cr_assert_str_eq(query(a, "SET my.x = 'a'"), "CZ");
    wire_query(a, "SELECT pg_backend_pid()");
    pid = wire_value(a, PATIENCE_MS);
    ask(a, "SELECT 1/0", 0);
    wire_flush(a);
    cr_assert_str_eq(wire_types(a, 'E', PATIENCE_MS), "1E");
    client_do(killer, text_of("SELECT pg_terminate_backend(%s)", pid));
    cr_assert(until(proxy_logged(proxy, "terminating connection due to administrator command"),
                    PATIENCE_MS));
    wire_sync(a);
    cr_assert_str_eq(wire_types(a, 'Z', PATIENCE_MS), "Z");
    cr_assert_str_eq(query(a, "SET my.x = 'leaked'"), "CZ");
    cr_expect_str_eq(secret_of(b), "");
    cr_expect_str_eq(value(a, "SHOW my.x"), "leaked");
}

SYSTEM_TEST(session_pipelines, what_was_reported_in_a_lost_transaction_is_undone_with_it)
{
    struct proxy *proxy =
        proxy_start(ONE "[databases]\napp = %s\nother = dbname=app %s\n",
                    cluster_route(cluster_shared()), cluster_route(cluster_shared()));
    struct wire *a = wire_client(proxy);
    PGconn *killer = client_open(proxy, "dbname=other");
    char *pid;

    cr_assert_str_eq(query(a, "SET IntervalStyle = 'sql_standard'"), "CZ");
    cr_assert_str_eq(query(a, "BEGIN; SET IntervalStyle = 'iso_8601'; SET LOCAL DateStyle = sql"),
                     "CCCZ");
    pid = value(a, "SELECT pg_backend_pid()");
    client_do(killer, text_of("SELECT pg_terminate_backend(%s)", pid));
    cr_assert(until(proxy_logged(proxy, "terminating connection due to administrator command"),
                    PATIENCE_MS));
    cr_assert_str_eq(query(a, "SELECT 1"), "EZ");
    cr_assert_str_eq(query(a, "ROLLBACK"), "CZ");
    cr_expect_str_eq(value(a, "SHOW IntervalStyle"), "sql_standard");
    cr_expect_str_eq(value(a, "SHOW DateStyle"), "ISO, MDY");
}

SYSTEM_TEST(session_pipelines, a_text_is_read_as_the_server_will_read_it)
{
    static const char hides[] = "SELECT 'a\\', '; SET lock_timeout = 99 --'";
    struct proxy *proxy = proxy_start(ONE);
    struct wire *a = wire_client(proxy);
    PGconn *b = client_open(proxy, NULL);

    wire_cork(a, true);
    wire_query(a, "SET standard_conforming_strings = off");
    wire_query(a, hides);
    wire_cork(a, false);
    cr_assert_str_eq(wire_types(a, 'Z', PATIENCE_MS), "CZ");
    cr_assert_str_eq(wire_types(a, 'Z', PATIENCE_MS), "TDCCZ");
    /* what it did is not known, but that something is there is */
    cr_expect(until(proxy_figure(proxy, "PINS", "reason", "unknown", "clients") == 1, PATIENCE_MS));
    wire_close(a);
    cr_expect_shows(b, "lock_timeout", "0");
    a = wire_client(proxy);
    wire_cork(a, true);
    wire_query(a, "BEGIN");
    wire_query(a, "SET LOCAL standard_conforming_strings = off");
    wire_query(a, hides);
    wire_query(a, "COMMIT");
    wire_cork(a, false);
    for (int i = 0; i < 4; i++)
        free(wire_types(a, 'Z', PATIENCE_MS));
    cr_expect(until(proxy_figure(proxy, "PINS", "reason", "unknown", "clients") == 1, PATIENCE_MS));
    wire_close(a);
    cr_expect_shows(b, "lock_timeout", "0");
}

SYSTEM_TEST(session_pipelines, more_statements_than_are_remembered_leak_nothing)
{
    struct proxy *proxy = proxy_start(ONE "max_client_prepared_statements = 5000\n"
                                          "max_prepared_statements = 3000\n");
    struct wire *a = wire_client(proxy);
    PGconn *b = client_open(proxy, NULL);

    for (int i = 0; i < 1010; i++) {
        wire_parse(a, text_of("s%d", i), text_of("SET lock_timeout = %d", i + 1));
        wire_sync(a);
        cr_assert_str_eq(wire_types(a, 'Z', PATIENCE_MS), "1Z");
    }
    client_do(b, "SELECT 1");
    for (int i = 1009; i > 990; i--) {
        wire_bind(a, "", text_of("s%d", i), NULL);
        wire_execute(a, "", 0);
        wire_sync(a);
        cr_assert_str_eq(wire_types(a, 'Z', PATIENCE_MS), "2CZ");
    }
    wire_close(a);
    cr_expect_shows(b, "lock_timeout", "0");
}

SYSTEM_TEST(session_pipelines, a_temporary_schema_by_its_real_name_is_one)
{
    struct proxy *proxy = proxy_start(ONE);
    PGconn *a = client_open(proxy, "application_name=a"), *b = client_open(proxy, NULL);
    char *schema;

    client_do(a, "CREATE TEMP TABLE evil (a int)");
    schema = client_value(a, "SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()");
    client_do(a, "DROP TABLE evil");
    cr_assert(until(strcmp(pinned(proxy, "a"), "") == 0, PATIENCE_MS));
    client_do(a, text_of("CREATE TABLE %s.evil (a int)", schema));
    cr_expect_str_eq(pinned(proxy, "a"), "temporary");
    PQfinish(a);
    cr_expect_str_eq(client_value(b, "SELECT coalesce(to_regclass('evil')::text, '')"), "");
}

SYSTEM_TEST(session_pipelines, savepoints_are_called_as_postgresql_calls_them)
{
    static const char stem[] = "a23456789b123456789c123456789d123456789e123456789f123456789g12";
    struct proxy *proxy = proxy_start(ONE);
    PGconn *a = client_open(proxy, NULL), *b = client_open(proxy, NULL);

    /* two savepoints of one name, since only 63 bytes of it count */
    client_do(a, "BEGIN");
    client_do(a, text_of("SAVEPOINT %sxONE", stem));
    client_do(a, "SET lock_timeout = 5");
    client_do(a, text_of("SAVEPOINT %sxTWO", stem));
    client_do(a, "SET lock_timeout = 6");
    client_do(a, text_of("ROLLBACK TO %sxONE", stem));
    client_do(a, "COMMIT");
    cr_expect_shows(b, "lock_timeout", "0");
    cr_expect_shows(a, "lock_timeout", "5ms");
}

SYSTEM_TEST(session_pipelines, what_a_prepared_statement_of_sql_does_is_followed)
{
    struct proxy *proxy = proxy_start(ONE);
    PGconn *a = client_open(proxy, "application_name=a"), *b = client_open(proxy, NULL);

    client_do(a, "BEGIN; PREPARE x AS SELECT set_config('lock_timeout', '77', false); ROLLBACK");
    client_do(a, "EXECUTE x");
    client_do(a, "DEALLOCATE x");
    PQfinish(a);
    cr_expect_shows(b, "lock_timeout", "0");
    a = client_open(proxy, "application_name=a");
    client_do(a, "PREPARE x AS SELECT set_config('lock_timeout', '77', false)");
    client_do(a, "RESET ALL");
    client_do(a, "EXECUTE x");
    client_do(a, "DEALLOCATE ALL");
    client_do(a, "SELECT 1");
    cr_expect_str_eq(pinned(proxy, "a"), "set_config");
    client_do(a, "RESET ALL");
    cr_expect(until(strcmp(pinned(proxy, "a"), "") == 0, PATIENCE_MS));
    client_do(a, "PREPARE x AS SELECT pg_advisory_lock(4)");
    client_do(a, "SELECT pg_advisory_unlock_all()");
    client_do(a, "EXECUTE x");
    client_do(a, "DEALLOCATE ALL");
    cr_expect(until(strcmp(pinned(proxy, "a"), "advisory_lock") == 0, PATIENCE_MS));
    PQfinish(a);
    cr_expect_shows(b, "lock_timeout", "0");
    cr_expect_str_eq(client_value(b, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
                                     "AND pid = pg_backend_pid()"),
                     "0");
}

SYSTEM_TEST(session_pipelines, reset_all_ends_what_could_not_be_read)
{
    struct proxy *proxy = proxy_start(ONE);
    PGconn *a = client_open(proxy, "application_name=a"), *b = client_open(proxy, NULL);

    client_do(a, "SELECT set_config('lock_timeout', '77', false) AS U&\"x\"");
    cr_expect(until(strstr(pinned(proxy, "a"), "unknown"), PATIENCE_MS));
    client_do(a, "RESET ALL");
    cr_expect(until(strcmp(pinned(proxy, "a"), "") == 0, PATIENCE_MS), "%s", pinned(proxy, "a"));
    cr_expect_shows(b, "lock_timeout", "0");
}

SYSTEM_TEST(session_pipelines, reset_inside_of_a_string_leads_back_to_the_startup_packet)
{
    struct proxy *proxy = proxy_start(ONE);
    PGconn *a = client_open(proxy, "options='-c datestyle=german -c lock_timeout=9'");
    PGconn *b = client_open(proxy, NULL);

    client_do(a, "SET datestyle = 'sql'; SET lock_timeout = 7");
    client_do(a, "BEGIN; RESET datestyle; RESET lock_timeout; COMMIT");
    cr_expect_shows(b, "datestyle", "ISO, MDY");
    cr_expect_shows(a, "datestyle", "German, DMY");
    cr_expect_shows(a, "lock_timeout", "9ms");
}

SYSTEM_TEST(session_pipelines, no_role_is_not_always_the_role_of_a_login)
{
    struct proxy *proxy =
        proxy_start(ONE "[databases]\nborn = %s dbname=app user=born\napp = %s\n",
                    cluster_route(cluster_shared()), cluster_route(cluster_shared()));
    PGconn *admin = client_open(proxy, "user=postgres"), *a, *b;

    client_do(admin, "DROP ROLE IF EXISTS born; CREATE ROLE born LOGIN; GRANT app TO born; "
                     "ALTER ROLE born SET role = 'app'");
    a = client_open(proxy, "dbname=born");
    b = client_open(proxy, "dbname=born");
    cr_expect_str_eq(client_value(b, "SELECT current_user"), "app");
    client_do(a, "SET ROLE NONE");
    cr_expect_str_eq(client_value(b, "SELECT current_user"), "app");
    PQfinish(a);
    PQfinish(b);
    client_do(admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = "
                     "'born'");
    client_do(admin, "DROP OWNED BY born; DROP ROLE born");
}

SYSTEM_TEST(session_pipelines, an_unnamed_statement_is_not_lost_with_that_of_the_batch_before)
{
    struct proxy *proxy = proxy_start(ONE);
    struct wire *a = wire_client(proxy);

    wire_cork(a, true);
    wire_bind(a, "", "nobody", NULL);
    wire_parse(a, "", "SELECT 1");
    wire_sync(a);
    wire_parse(a, "", "SELECT 'second'");
    wire_flush(a);
    wire_cork(a, false);
    cr_assert_str_eq(wire_types(a, '1', PATIENCE_MS), "EZ1");
    wire_bind(a, "", "", NULL);
    wire_execute(a, "", 0);
    wire_sync(a);
    cr_expect_str_eq(wire_value(a, PATIENCE_MS), "second");
    /* where it was the same batch, there is none */
    wire_cork(a, true);
    wire_bind(a, "", "nobody", NULL);
    wire_parse(a, "", "SELECT 1");
    wire_sync(a);
    wire_cork(a, false);
    cr_assert_str_eq(wire_types(a, 'Z', PATIENCE_MS), "EZ");
    wire_bind(a, "", "", NULL);
    wire_sync(a);
    cr_expect_str_eq(wire_types(a, 'Z', PATIENCE_MS), "EZ");
}
