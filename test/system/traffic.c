/*
 * traffic: what passes between client and server: simple and extended queries, pipelines, several
 * statements in one string, notices, errors in any place.
 */
#include "system.h"

SYSTEM_SUITE(traffic);

static struct proxy *transaction_proxy(void)
{
    return proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
}

/* No server is left linked: the pool's only one is free again. */
static bool server_is_free(struct proxy *proxy)
{
    return proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 0;
}

SYSTEM_TEST(traffic, a_string_of_several_statements_gives_all_their_results)
{
    struct proxy *proxy = transaction_proxy();
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "SELECT 1; SELECT 2; INSERT INTO pg_temp.none SELECT 1 WHERE false");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "TDCTDCEZ");
    wire_query(wire, "BEGIN; SELECT 1; COMMIT; SELECT 2");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CTDCCTDCZ");
    cr_assert(until(server_is_free(proxy), PATIENCE_MS));
}

SYSTEM_TEST(traffic, an_empty_query_is_answered)
{
    struct wire *wire = wire_client(transaction_proxy());

    wire_query(wire, "");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "IZ");
    wire_query(wire, " ; ");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "IZ");
}

static void note_notice(void *count, const char *text)
{
    (void)text;
    ++*(int *)count;
}

SYSTEM_TEST(traffic, notices_reach_the_client_in_their_place)
{
    PGconn *client = client_open(transaction_proxy(), NULL);
    int count = 0;

    PQsetNoticeProcessor(client, note_notice, &count);
    client_do(client, "DO $$ BEGIN RAISE NOTICE 'one'; RAISE NOTICE 'two'; END $$");
    cr_assert_eq(count, 2);
    client_do(client, "DROP TABLE IF EXISTS traffic_no_such_table");
    cr_assert_eq(count, 3);
}

SYSTEM_TEST(traffic, an_error_leaves_the_connection_usable)
{
    struct proxy *proxy = transaction_proxy();
    PGconn *client = client_open(proxy, NULL);

    cr_assert_str_eq(client_sqlstate(client, "SELECT 1/0"), "22012");
    cr_assert_str_eq(client_sqlstate(client, "SELEC"), "42601");
    cr_assert_str_eq(client_value(client, "SELECT 'after'"), "after");
    cr_assert(until(server_is_free(proxy), PATIENCE_MS));
}

SYSTEM_TEST(traffic, the_fields_of_an_error_arrive_unchanged)
{
    PGconn *client = client_open(transaction_proxy(), NULL);
    PGresult *result = PQexec(client, "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'PG777', "
                                      "MESSAGE = 'the text', DETAIL = 'the detail', HINT = 'the "
                                      "hint'; END $$");

    cr_assert_str_eq(PQresultErrorField(result, PG_DIAG_SQLSTATE), "PG777");
    cr_assert_str_eq(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY), "the text");
    cr_assert_str_eq(PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL), "the detail");
    cr_assert_str_eq(PQresultErrorField(result, PG_DIAG_MESSAGE_HINT), "the hint");
}

SYSTEM_TEST(traffic, extended_queries_pass_with_text_and_binary_parameters)
{
    PGconn *client = client_open(transaction_proxy(), NULL);
    const char *values[] = {"41", "it's"};
    PGresult *result =
        PQexecParams(client, "SELECT $1::int + 1, $2::text", 2, NULL, values, NULL, NULL, 0);

    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(client));
    cr_assert_str_eq(PQgetvalue(result, 0, 0), "42");
    cr_assert_str_eq(PQgetvalue(result, 0, 1), "it's");
    const char binary[] = {0, 0, 0, 7};
    const char *raw[] = {binary};
    int lengths[] = {4}, formats[] = {1};
    Oid types[] = {23};
    result = PQexecParams(client, "SELECT $1", 1, types, raw, lengths, formats, 1);
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(client));
    cr_assert_arr_eq(PQgetvalue(result, 0, 0), binary, 4);
}

SYSTEM_TEST(traffic, an_extended_error_skips_to_sync)
{
    struct wire *wire = wire_client(transaction_proxy());

    wire_parse(wire, "", "SELECT 1/0");
    wire_bind(wire, "", "", NULL);
    wire_execute(wire, "", 0);
    wire_parse(wire, "", "SELECT 'skipped'");
    wire_bind(wire, "", "", NULL);
    wire_execute(wire, "", 0);
    wire_sync(wire);
    char *types = wire_types(wire, 'Z', PATIENCE_MS);
    /* the division may be folded while planning: in Bind */
    cr_assert(!strcmp(types, "12EZ") || !strcmp(types, "1EZ"), "%s", types);
    wire_query(wire, "SELECT 'alive'");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "alive");
}

SYSTEM_TEST(traffic, a_query_behind_a_failed_parse_is_skipped_to_sync)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = transaction_proxy();
    struct wire *wire = wire_client(proxy);

    wire_parse(wire, "", "SELEC");
    wire_query(wire, "SELECT 'never'");
    wire_sync(wire);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "EZ");
    wire_query(wire, "SELECT 'alive'");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "alive");
    cr_assert(until(server_is_free(proxy), PATIENCE_MS));
}

SYSTEM_TEST(traffic, a_statement_and_its_sync_may_come_in_separate_turns)
{
    struct proxy *proxy = transaction_proxy();
    struct wire *wire = wire_client(proxy);
    PGconn *other = client_open(proxy, NULL);

    wire_parse(wire, "", "SELECT 'slow typist'");
    wire_flush(wire);
    cr_assert_str_eq(wire_types(wire, '1', PATIENCE_MS), "1");
    /* answered, but not synced: the server is still this client's */
    client_start(other, "SELECT 1");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    wire_bind(wire, "", "", NULL);
    wire_execute(wire, "", 0);
    wire_flush(wire);
    cr_assert_str_eq(wire_types(wire, 'C', PATIENCE_MS), "2DC");
    cr_assert_not(client_is_ready(other));
    wire_sync(wire);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "Z");
    cr_assert_str_eq(client_finish(other, PATIENCE_MS), "");
}

SYSTEM_TEST(traffic, many_syncs_in_a_row_are_each_answered)
{
    struct proxy *proxy = transaction_proxy();
    struct wire *wire = wire_client(proxy);
    int i;

    for (i = 0; i < 50; i++)
        wire_sync(wire);
    for (i = 0; i < 50; i++)
        cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "Z");
    cr_assert(until(server_is_free(proxy), PATIENCE_MS));
}

SYSTEM_TEST(traffic, simple_queries_may_be_sent_without_waiting)
{
    struct proxy *proxy = transaction_proxy();
    struct wire *wire = wire_client(proxy);
    int i;

    for (i = 0; i < 100; i++)
        wire_query(wire, text_of("SELECT %d", i));
    for (i = 0; i < 100; i++)
        cr_assert_str_eq(wire_value(wire, PATIENCE_MS), text_of("%d", i));
    cr_assert(until(server_is_free(proxy), PATIENCE_MS));
}

SYSTEM_TEST(traffic, a_portal_may_be_fetched_in_portions)
{
    struct wire *wire = wire_client(transaction_proxy());

    wire_query(wire, "BEGIN");
    wire_types(wire, 'Z', PATIENCE_MS);
    wire_parse(wire, "", "SELECT * FROM generate_series(1, 5)");
    wire_bind(wire, "p", "", NULL);
    wire_execute(wire, "p", 2);
    wire_execute(wire, "p", 2);
    wire_execute(wire, "p", 2);
    wire_sync(wire);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "12DDsDDsDCZ");
    wire_close_name(wire, 'P', "p");
    wire_sync(wire);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "3Z");
    wire_query(wire, "COMMIT");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CZ");
}

SYSTEM_TEST(traffic, describe_of_statement_and_portal_are_answered)
{
    struct wire *wire = wire_client(transaction_proxy());

    wire_parse(wire, "", "SELECT $1::int");
    wire_describe(wire, 'S', "");
    wire_bind(wire, "", "", "5", NULL);
    wire_describe(wire, 'P', "");
    wire_execute(wire, "", 0);
    wire_sync(wire);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "1tT2TDCZ");
    wire_parse(wire, "", "SET work_mem = '5MB'");
    wire_describe(wire, 'S', "");
    wire_sync(wire);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "1tnZ");
}

/* Reads the next result of a pipeline; its end-of-query NULL as well. */
static ExecStatusType next_status(PGconn *client)
{
    PGresult *result = client_result(client, PATIENCE_MS);
    ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_PIPELINE_SYNC)
        cr_assert_null(client_result(client, PATIENCE_MS));
    PQclear(result);
    return status;
}

SYSTEM_TEST(traffic, a_libpq_pipeline_with_an_error_in_the_middle_gives_all_results)
{
    struct proxy *proxy = transaction_proxy();
    PGconn *client = client_open(proxy, NULL);

    cr_assert(PQenterPipelineMode(client));
    PQsendQueryParams(client, "SELECT 1", 0, NULL, NULL, NULL, NULL, 0);
    PQsendQueryParams(client, "SELECT 1/0", 0, NULL, NULL, NULL, NULL, 0);
    PQsendQueryParams(client, "SELECT 3", 0, NULL, NULL, NULL, NULL, 0);
    PQpipelineSync(client);
    PQsendQueryParams(client, "SELECT 4", 0, NULL, NULL, NULL, NULL, 0);
    PQpipelineSync(client);
    cr_assert_eq(next_status(client), PGRES_TUPLES_OK);
    cr_assert_eq(next_status(client), PGRES_FATAL_ERROR);
    cr_assert_eq(next_status(client), PGRES_PIPELINE_ABORTED);
    cr_assert_eq(next_status(client), PGRES_PIPELINE_SYNC);
    cr_assert_eq(next_status(client), PGRES_TUPLES_OK);
    cr_assert_eq(next_status(client), PGRES_PIPELINE_SYNC);
    cr_assert(PQexitPipelineMode(client));
    client_do(client, "SELECT 1");
    cr_assert(until(server_is_free(proxy), PATIENCE_MS));
}

SYSTEM_TEST(traffic, a_deep_pipeline_between_two_clients_mixes_nothing)
{
    struct proxy *proxy = transaction_proxy();
    PGconn *clients[2] = {client_open(proxy, NULL), client_open(proxy, NULL)};
    int i, who;

    for (who = 0; who < 2; who++) {
        PQenterPipelineMode(clients[who]);
        for (i = 0; i < 200; i++) {
            char *number = text_of("%d", who * 1000 + i);
            const char *values[] = {number};

            PQsendQueryParams(clients[who], "SELECT $1::int", 1, NULL, values, NULL, NULL, 0);
            PQpipelineSync(clients[who]);
        }
        PQflush(clients[who]);
    }
    for (i = 0; i < 200; i++) {
        for (who = 0; who < 2; who++) {
            PGresult *result = client_result(clients[who], PATIENCE_MS);

            cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK);
            cr_assert_eq(atoi(PQgetvalue(result, 0, 0)), who * 1000 + i);
            cr_assert_null(client_result(clients[who], PATIENCE_MS));
            cr_assert_eq(next_status(clients[who]), PGRES_PIPELINE_SYNC);
        }
    }
}

SYSTEM_TEST(traffic, function_calls_of_the_old_protocol_pass)
{
    struct wire *wire = wire_client(transaction_proxy());
    struct bytes body = {0};

    bytes_add32(&body, 2026); /* pg_backend_pid */
    bytes_add16(&body, 0);
    bytes_add16(&body, 0);
    bytes_add16(&body, 0);
    wire_send(wire, 'F', body.data, body.count);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "VZ");
}

SYSTEM_TEST(traffic, session_mode_passes_named_statements)
{
    struct wire *wire = wire_client(proxy_start("pool_mode = session\n"));

    wire_parse(wire, "by_name", "SELECT $1::text");
    wire_sync(wire);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "1Z");
    wire_bind(wire, "", "by_name", "hello", NULL);
    wire_execute(wire, "", 0);
    wire_sync(wire);
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "hello");
    wire_close_name(wire, 'S', "by_name");
    wire_sync(wire);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "3Z");
}

SYSTEM_TEST(traffic, session_mode_delivers_notifications)
{
    struct proxy *proxy = proxy_start("pool_mode = session\n");
    PGconn *listener = client_open(proxy, NULL);
    PGconn *speaker = client_open(proxy, NULL);
    PGnotify *note = NULL;

    client_do(listener, "LISTEN traffic_channel");
    client_do(speaker, "NOTIFY traffic_channel, 'the payload'");
    cr_assert(
        until((PQconsumeInput(listener), (note = PQnotifies(listener)) != NULL), PATIENCE_MS));
    cr_assert_str_eq(note->extra, "the payload");
}

SYSTEM_TEST(traffic, a_client_that_says_terminate_behind_its_query_has_it_finished)
{
    struct proxy *proxy = transaction_proxy();
    static const char INSERT[] = "INSERT INTO traffic_parting SELECT 1 FROM pg_sleep(2)";
    struct wire *wire = wire_client(proxy);
    PGconn *other = client_open(proxy, NULL);

    client_do(other, "DROP TABLE IF EXISTS traffic_parting");
    client_do(other, "CREATE TABLE traffic_parting (a int)");
    wire_query(wire, INSERT);
    cr_assert(until(cluster_running(cluster_shared(), INSERT) == 1, PATIENCE_MS));
    wire_send(wire, 'X', NULL, 0);
    wire_close(wire);
    cr_assert(
        until(client_number(other, "SELECT count(*) FROM traffic_parting") == 1, PATIENCE_MS));
}

SYSTEM_TEST(traffic, a_client_that_vanishes_has_its_query_cancelled)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = transaction_proxy();
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "SELECT pg_sleep(333)");
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_sleep(333)") == 1, PATIENCE_MS));
    wire_reset(wire);
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_sleep(333)") == 0, PATIENCE_MS));
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(traffic, client_gone_action_finish_lets_the_query_end)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n"
                                      "client_gone_action = finish\n");
    struct wire *wire = wire_client(proxy);
    PGconn *other = client_open(proxy, NULL);

    client_do(other, "DROP TABLE IF EXISTS traffic_gone");
    client_do(other, "CREATE TABLE traffic_gone (a int)");
    wire_query(wire, "INSERT INTO traffic_gone SELECT 1 FROM pg_sleep(2)");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 1, PATIENCE_MS));
    wire_reset(wire);
    cr_assert(until(client_number(other, "SELECT count(*) FROM traffic_gone") == 1, PATIENCE_MS));
}

SYSTEM_TEST(traffic, clients_that_vanish_at_every_moment_leave_the_pool_clean)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 3\n");
    int i;

    for (i = 0; i < 60; i++) {
        struct wire *wire = wire_client(proxy);

        if (i % 3 == 0)
            wire_query(wire, "BEGIN");
        wire_parse(wire, "", "SELECT 'someone else''s row' FROM generate_series(1, 100)");
        wire_bind(wire, "", "", NULL);
        if (i % 2)
            wire_execute(wire, "", 0);
        if (i % 4 < 2)
            wire_sync(wire);
        if (i % 5 == 0)
            wire_reset(wire);
        else
            wire_close(wire);
        PGconn *next = client_open(proxy, NULL);
        cr_assert_str_eq(client_value(next, "SELECT 'mine'"), "mine");
        PQfinish(next);
    }
}
