/*
 * copy: COPY in and out, good and bad, in the simple and the extended protocol.
 */
#include "system.h"

SYSTEM_SUITE(copy);

static PGconn *prepared(struct proxy **proxy, const char *table)
{
    *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *client = client_open(*proxy, NULL);

    client_do(client, text_of("DROP TABLE IF EXISTS %s", table));
    client_do(client, text_of("CREATE TABLE %s (a int PRIMARY KEY, b text)", table));
    return client;
}

static bool server_is_free(struct proxy *proxy)
{
    return proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 0;
}

SYSTEM_TEST(copy, in_stores_all_rows)
{
    struct proxy *proxy;
    PGconn *client = prepared(&proxy, "copy_in");
    int i;

    PQclear(PQexec(client, "COPY copy_in FROM STDIN"));
    for (i = 0; i < 20000; i++) {
        char *row = text_of("%d\tthe text of row %d\n", i, i);

        cr_assert_eq(PQputCopyData(client, row, (int)strlen(row)), 1);
        free(row);
    }
    cr_assert_eq(PQputCopyEnd(client, NULL), 1);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "");
    cr_assert_eq(client_number(client, "SELECT count(*) FROM copy_in"), 20000);
    cr_assert(until(server_is_free(proxy), PATIENCE_MS));
}

SYSTEM_TEST(copy, out_gives_all_rows)
{
    struct proxy *proxy;
    PGconn *client = prepared(&proxy, "copy_out");
    char *row;
    int count = 0;

    client_do(client, "INSERT INTO copy_out SELECT g, 'x' FROM generate_series(1, 20000) g");
    PQclear(PQexec(client, "COPY copy_out TO STDOUT"));
    while (PQgetCopyData(client, &row, 0) > 0) {
        count++;
        PQfreemem(row);
    }
    cr_assert_eq(count, 20000);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "");
    cr_assert(until(server_is_free(proxy), PATIENCE_MS));
}

SYSTEM_TEST(copy, a_bad_row_fails_once_and_the_connection_goes_on)
{
    struct proxy *proxy;
    PGconn *client = prepared(&proxy, "copy_bad");
    const char *rows = "1\tgood\nnot a number\tbad\n";

    PQclear(PQexec(client, "COPY copy_bad FROM STDIN"));
    PQputCopyData(client, rows, (int)strlen(rows));
    PQputCopyEnd(client, NULL);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "22P02");
    cr_assert_eq(client_number(client, "SELECT count(*) FROM copy_bad"), 0);
    cr_assert(until(server_is_free(proxy), PATIENCE_MS));
}

SYSTEM_TEST(copy, rows_that_come_after_the_error_disturb_nobody)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy;
    PGconn *client = prepared(&proxy, "copy_late");
    struct wire *wire = wire_client(proxy);
    int i;

    wire_query(wire, "COPY copy_late FROM STDIN");
    cr_assert_str_eq(wire_types(wire, 'G', PATIENCE_MS), "G");
    wire_copy_data(wire, "bad row\n");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "EZ");
    /* the server has ended the COPY, the client does not know yet */
    for (i = 0; i < 1000; i++)
        wire_copy_data(wire, "5\tlate\n");
    client_do(client, "SELECT 1");
    wire_send(wire, 'c', NULL, 0);
    wire_query(wire, "SELECT 'alive'");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "alive");
    client_do(client, "INSERT INTO copy_late VALUES (1, 'x')");
    cr_assert_eq(client_number(client, "SELECT count(*) FROM copy_late"), 1);
}

SYSTEM_TEST(copy, copy_fail_ends_it_with_its_reason)
{
    struct proxy *proxy;
    PGconn *client = prepared(&proxy, "copy_fail");

    PQclear(PQexec(client, "COPY copy_fail FROM STDIN"));
    PQputCopyData(client, "1\ta\n", 4);
    PQputCopyEnd(client, "the client thought better of it");
    PGresult *result = client_result(client, PATIENCE_MS);
    cr_assert_str_eq(PQresultErrorField(result, PG_DIAG_SQLSTATE), "57014");
    cr_assert_has(PQresultErrorMessage(result), "thought better of it");
    client_finish(client, PATIENCE_MS);
    cr_assert_eq(client_number(client, "SELECT count(*) FROM copy_fail"), 0);
}

SYSTEM_TEST(copy, several_copies_in_one_string_are_told_apart)
{
    struct proxy *proxy;
    PGconn *client = prepared(&proxy, "copy_several");
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "COPY copy_several FROM STDIN; COPY copy_several FROM STDIN; "
                     "COPY copy_several TO STDOUT");
    cr_assert_str_eq(wire_types(wire, 'G', PATIENCE_MS), "G");
    wire_copy_data(wire, "1\ta\n");
    wire_send(wire, 'c', NULL, 0);
    cr_assert_str_eq(wire_types(wire, 'G', PATIENCE_MS), "CG");
    wire_copy_data(wire, "2\tb\n");
    wire_send(wire, 'c', NULL, 0);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CHddcCZ");
    cr_assert_eq(client_number(client, "SELECT count(*) FROM copy_several"), 2);
}

SYSTEM_TEST(copy, in_by_the_extended_protocol_stores_rows)
{
    struct proxy *proxy;
    PGconn *client = prepared(&proxy, "copy_extended");
    struct wire *wire = wire_client(proxy);

    wire_parse(wire, "", "COPY copy_extended FROM STDIN");
    wire_bind(wire, "", "", NULL);
    wire_execute(wire, "", 0);
    wire_flush(wire);
    cr_assert_str_eq(wire_types(wire, 'G', PATIENCE_MS), "12G");
    wire_copy_data(wire, "1\ta\n2\tb\n");
    wire_send(wire, 'c', NULL, 0);
    wire_sync(wire);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CZ");
    cr_assert_eq(client_number(client, "SELECT count(*) FROM copy_extended"), 2);
    cr_assert(until(server_is_free(proxy), PATIENCE_MS));
}

/* A COPY by the extended protocol, up to its CopyInResponse, with the Sync of its batch inside. */
static void begin_extended(struct wire *wire, const char *text)
{
    wire_parse(wire, "", text);
    wire_bind(wire, "", "", NULL);
    wire_execute(wire, "", 0);
    wire_sync(wire);
    cr_assert_str_eq(wire_types(wire, 'G', PATIENCE_MS), "12G");
}

SYSTEM_TEST(copy, a_sync_inside_copy_in_is_ignored_while_it_goes_well)
{
    struct proxy *proxy;
    PGconn *client = prepared(&proxy, "copy_sync");
    struct wire *wire = wire_client(proxy);

    begin_extended(wire, "COPY copy_sync FROM STDIN");
    wire_copy_data(wire, "1\ta\n");
    wire_sync(wire);
    wire_copy_data(wire, "2\tb\n");
    wire_send(wire, 'c', NULL, 0);
    wire_sync(wire);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CZ");
    cr_assert_eq(client_number(client, "SELECT count(*) FROM copy_sync"), 2);
    wire_query(wire, "SELECT 'alive'");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "alive");
    cr_assert(until(server_is_free(proxy), PATIENCE_MS));
}

SYSTEM_TEST(copy, a_transaction_whose_sync_went_into_a_copy_is_not_given_to_another_client)
{
    struct proxy *proxy;
    PGconn *client = prepared(&proxy, "copy_open");
    struct wire *wire = wire_client(proxy);

    begin_extended(wire, "COPY copy_open FROM STDIN");
    wire_copy_data(wire, "1\ta\n");
    wire_send(wire, 'c', NULL, 0);
    wire_flush(wire);
    cr_assert_str_eq(wire_types(wire, 'C', PATIENCE_MS), "C");
    client_start(client, "SELECT count(*) FROM copy_open");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    /* it is undone with the rest of its batch */
    wire_parse(wire, "", "SELECT 1/0");
    wire_bind(wire, "", "", NULL);
    wire_execute(wire, "", 0);
    wire_sync(wire);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "1EZ");
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "");
    cr_expect_eq(client_number(client, "SELECT count(*) FROM copy_open"), 0);
    cr_assert(until(server_is_free(proxy), PATIENCE_MS));
}

/* What comes after the error may be one ReadyForQuery or two, and only the server knows: whatever
 * the pooler does, no later answer may be shifted, for this client or any other. */
static void bad_row_with_sync(const char *table, bool trigger)
{
    struct proxy *proxy;
    PGconn *client = prepared(&proxy, table);
    struct wire *wire = wire_client(proxy);
    int round;

    if (trigger) {
        client_do(client, text_of("CREATE OR REPLACE FUNCTION %s_no() RETURNS trigger LANGUAGE "
                                  "plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'",
                                  table));
        client_do(client, text_of("CREATE TRIGGER no BEFORE INSERT ON %s FOR EACH STATEMENT "
                                  "EXECUTE FUNCTION %s_no()",
                                  table, table));
    }
    for (round = 0; round < 20; round++) {
        wire_parse(wire, "", text_of("COPY %s FROM STDIN", table));
        wire_bind(wire, "", "", NULL);
        wire_execute(wire, "", 0);
        wire_sync(wire);
        wire_copy_data(wire, "bad row\n");
        wire_send(wire, 'c', NULL, 0);
        wire_sync(wire);
        char *types = wire_types(wire, 'Z', PATIENCE_MS);
        cr_assert(strchr(types, 'E') && strchr(types, 'Z'), "%s", types);
        cr_assert_str_eq(client_value(client, text_of("SELECT 'other %d'", round)),
                         text_of("other %d", round));
        wire_query(wire, text_of("SELECT 'mine %d'", round));
        char *value = wire_value(wire, PATIENCE_MS);
        if (!*value) /* the second ReadyForQuery came first */
            value = wire_value(wire, PATIENCE_MS);
        cr_assert_str_eq(value, text_of("mine %d", round));
    }
}

SYSTEM_TEST(copy, a_bad_row_with_sync_in_the_stream_shifts_no_answers)
{
    SKIP_ON_PGBOUNCER();
    bad_row_with_sync("copy_bad_sync", false);
}

SYSTEM_TEST(copy, a_trigger_that_raises_with_sync_in_the_stream_shifts_no_answers)
{
    SKIP_ON_PGBOUNCER();
    bad_row_with_sync("copy_bad_trigger", true);
}

SYSTEM_TEST(copy, a_client_that_vanishes_inside_copy_in_stores_nothing)
{
    struct proxy *proxy;
    PGconn *client = prepared(&proxy, "copy_vanish");
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "COPY copy_vanish FROM STDIN");
    cr_assert_str_eq(wire_types(wire, 'G', PATIENCE_MS), "G");
    wire_copy_data(wire, "1\ta\n");
    wire_reset(wire);
    cr_assert(until(server_is_free(proxy), PATIENCE_MS));
    cr_assert_eq(client_number(client, "SELECT count(*) FROM copy_vanish"), 0);
}

SYSTEM_TEST(copy, a_client_that_vanishes_inside_copy_out_leaves_a_clean_pool)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *client = client_open(proxy, NULL);
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 50000)) TO STDOUT");
    cr_assert_str_eq(wire_types(wire, 'd', PATIENCE_MS), "Hd");
    wire_reset(wire);
    cr_assert_str_eq(client_value(client, "SELECT 'clean'"), "clean");
    cr_assert_str_eq(client_value(client, "SELECT 'clean again'"), "clean again");
}
