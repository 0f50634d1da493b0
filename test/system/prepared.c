/*
 * prepared: named and unnamed prepared statements in transaction and statement mode, message by
 * message. What a client sees must be what PostgreSQL would have said to it alone.
 */
#include "system.h"

#include <sys/socket.h>

#include "transcript.h"

SYSTEM_SUITE(prepared);

static struct proxy *start(const char *more)
{
    return proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n%s", more);
}

/* Takes the only server for a transaction of its own, so that it is somebody else's in between. */
static void disturb(struct wire *other)
{
    wire_parse(other, "", "SELECT 'other''s'");
    wire_bind(other, "", "", NULL);
    wire_execute(other, "", 0);
    wire_sync(other);
    cr_assert_str_eq(transcript(other, 1, PATIENCE_MS), "1 2 D[other's] C[SELECT 1] Z[I]");
}

static void bind_execute(struct wire *wire, const char *name)
{
    wire_bind(wire, "", name, NULL);
    wire_execute(wire, "", 0);
}

static void assert_said(struct wire *wire, int ready, const char *expected)
{
    char *said = transcript(wire, ready, PATIENCE_MS);

    cr_assert_str_eq(said, expected, "expected: %s\ngot:      %s", expected, said);
}

static void assert_parsed(struct wire *wire, const char *name, const char *sql)
{
    wire_parse(wire, name, sql);
    wire_sync(wire);
    assert_said(wire, 1, "1 Z[I]");
}

static void assert_value(struct wire *wire, const char *name, const char *value)
{
    bind_execute(wire, name);
    wire_sync(wire);
    assert_said(wire, 1, text_of("2 D[%s] C[SELECT 1] Z[I]", value));
}

static long server_parses(struct proxy *proxy)
{
    return proxy_figure(proxy, "STATS_TOTALS", "database", "app", "server_parse_count");
}

static void begin(struct wire *wire)
{
    wire_query(wire, "BEGIN");
    assert_said(wire, 1, "C[BEGIN] Z[T]");
}

static void commit(struct wire *wire)
{
    wire_query(wire, "COMMIT");
    assert_said(wire, 1, "C[COMMIT] Z[I]");
}

SYSTEM_TEST(prepared, a_statement_follows_its_client_to_other_servers)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 3\n");
    struct wire *wire = wire_client(proxy), *others[3];

    assert_parsed(wire, "a", "SELECT 'mine', $1 || '!'");
    for (int i = 0; i < 3; i++)
        begin(others[i] = wire_client(proxy));
    /* the one server that is free is another one each time */
    for (int i = 0; i < 6; i++) {
        commit(others[i % 3]);
        wire_bind(wire, "", "a", "yes", NULL);
        wire_execute(wire, "", 0);
        wire_sync(wire);
        assert_said(wire, 1, "2 D[mine,yes!] C[SELECT 1] Z[I]");
        begin(others[i % 3]);
    }
    cr_assert_eq(server_parses(proxy), 3);
    cr_assert(until(proxy_figure(proxy, "SERVERS", "database", "app", "prepared_statements") == 3,
                    PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "CLIENTS", "database", "app", "prepared_statements") == 1,
                    PATIENCE_MS));
}

SYSTEM_TEST(prepared, two_clients_have_statements_of_the_same_name)
{
    struct proxy *proxy = start("");
    struct wire *one = wire_client(proxy), *two = wire_client(proxy);

    assert_parsed(one, "s", "SELECT 'one'");
    assert_parsed(two, "s", "SELECT 'two'");
    for (int i = 0; i < 3; i++) {
        assert_value(one, "s", "one");
        assert_value(two, "s", "two");
    }
    wire_close_name(one, 'S', "s");
    wire_sync(one);
    assert_said(one, 1, "3 Z[I]");
    assert_value(two, "s", "two");
    bind_execute(one, "s");
    wire_sync(one);
    assert_said(one, 1, "E[26000 prepared statement \"s\" does not exist] Z[I]");
}

SYSTEM_TEST(prepared, the_same_text_is_parsed_once_for_all_clients)
{
    struct proxy *proxy = start("");

    for (int i = 0; i < 5; i++) {
        struct wire *wire = wire_client(proxy);

        assert_parsed(wire, text_of("name_%d", i), "SELECT 'shared'");
        assert_value(wire, text_of("name_%d", i), "shared");
        wire_close(wire);
    }
    cr_assert_eq(server_parses(proxy), 1);
    cr_assert(
        until(proxy_figure(proxy, "STATS_TOTALS", "database", "app", "client_parse_count") == 5,
              PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "STATS_TOTALS", "database", "app", "bind_count") == 5,
                    PATIENCE_MS));
}

SYSTEM_TEST(prepared, parameter_types_belong_to_the_text)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy);
    struct bytes body = {0};

    assert_parsed(wire, "text", "SELECT $1");
    bytes_add_text(&body, "int");
    bytes_add_text(&body, "SELECT $1");
    bytes_add16(&body, 1);
    bytes_add32(&body, 23);
    wire_send(wire, 'P', body.data, body.count);
    wire_bind(wire, "", "int", "07", NULL);
    wire_execute(wire, "", 0);
    wire_bind(wire, "", "text", "07", NULL);
    wire_execute(wire, "", 0);
    wire_sync(wire);
    assert_said(wire, 1, "1 2 D[7] C[SELECT 1] 2 D[07] C[SELECT 1] Z[I]");
}

SYSTEM_TEST(prepared, describe_tells_of_the_statement)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);

    assert_parsed(wire, "d", "SELECT $1::int AS a, 'x'::text AS b");
    disturb(other);
    wire_describe(wire, 'S', "d");
    wire_sync(wire);
    assert_said(wire, 1, "t[\\00\\01\\00\\00\\00\\17] T[a:23:4294967295:0,b:25:4294967295:0] Z[I]");
    wire_describe(wire, 'S', "nothing");
    wire_sync(wire);
    assert_said(wire, 1, "E[26000 prepared statement \"nothing\" does not exist] Z[I]");
}

SYSTEM_TEST(prepared, mistakes_are_answered_in_order_and_skip_to_sync)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy);

    client_do(cluster_connect(cluster_shared(), "app"),
              "DROP TABLE IF EXISTS prepared_order; CREATE TABLE prepared_order (a int);"
              "GRANT ALL ON prepared_order TO app");
    assert_parsed(wire, "known", "INSERT INTO prepared_order VALUES (1)");
    /* an unknown name: what the batch did before it is undone, what follows is skipped */
    bind_execute(wire, "known");
    bind_execute(wire, "unknown");
    bind_execute(wire, "known");
    wire_sync(wire);
    bind_execute(wire, "known");
    wire_sync(wire);
    assert_said(wire, 2,
                "2 C[INSERT 0 1] E[26000 prepared statement \"unknown\" does not exist] Z[I] "
                "2 C[INSERT 0 1] Z[I]");
    /* a name in use */
    bind_execute(wire, "known");
    wire_parse(wire, "known", "SELECT 2");
    bind_execute(wire, "known");
    wire_sync(wire);
    assert_said(wire, 1,
                "2 C[INSERT 0 1] E[42P05 prepared statement \"known\" already exists] Z[I]");
    wire_query(wire, "SELECT count(*) FROM prepared_order");
    assert_said(wire, 1, "T[count:20:4294967295:0] D[1] C[SELECT 1] Z[I]");
    /* a syntax error is told first, also for a name in use */
    wire_parse(wire, "known", "SELEC 2");
    wire_sync(wire);
    assert_said(wire, 1, "E[42601 syntax error at or near \"SELEC\"] Z[I]");
    /* the name still stands for what it stood for */
    bind_execute(wire, "known");
    wire_sync(wire);
    assert_said(wire, 1, "2 C[INSERT 0 1] Z[I]");
}

SYSTEM_TEST(prepared, a_statement_that_failed_is_not_there)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy);

    wire_parse(wire, "f", "SELECT nonsense");
    wire_sync(wire);
    bind_execute(wire, "f");
    wire_sync(wire);
    assert_said(wire, 2,
                "E[42703 column \"nonsense\" does not exist] Z[I] "
                "E[26000 prepared statement \"f\" does not exist] Z[I]");
    assert_parsed(wire, "f", "SELECT 'better'");
    assert_value(wire, "f", "better");
}

SYSTEM_TEST(prepared, what_a_failed_batch_skipped_has_not_happened)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);

    assert_parsed(other, "x", "SELECT 'skipped'"); /* the server has it already */
    assert_parsed(wire, "k", "SELECT 'kept'");
    /* in one pipeline: Parse and Close behind an error never happen */
    wire_parse(wire, "", "nonsense");
    wire_parse(wire, "s", "SELECT 'skipped'");
    wire_close_name(wire, 'S', "k");
    wire_sync(wire);
    bind_execute(wire, "s");
    wire_sync(wire);
    bind_execute(wire, "k");
    wire_sync(wire);
    assert_said(wire, 3,
                "E[42601 syntax error at or near \"nonsense\"] Z[I] "
                "E[26000 prepared statement \"s\" does not exist] Z[I] "
                "2 D[kept] C[SELECT 1] Z[I]");
    wire_parse(wire, "k", "SELECT 1");
    wire_sync(wire);
    assert_said(wire, 1, "E[42P05 prepared statement \"k\" already exists] Z[I]");
}

SYSTEM_TEST(prepared, a_pipeline_uses_names_as_it_makes_them)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy);

    wire_parse(wire, "p", "SELECT 'first'");
    bind_execute(wire, "p");
    wire_close_name(wire, 'S', "p");
    wire_parse(wire, "p", "SELECT 'second'");
    bind_execute(wire, "p");
    wire_sync(wire);
    bind_execute(wire, "p");
    wire_sync(wire);
    wire_close_name(wire, 'S', "p");
    wire_sync(wire);
    wire_parse(wire, "p", "SELECT 'third'");
    bind_execute(wire, "p");
    wire_sync(wire);
    assert_said(wire, 4,
                "1 2 D[first] C[SELECT 1] 3 1 2 D[second] C[SELECT 1] Z[I] "
                "2 D[second] C[SELECT 1] Z[I] 3 Z[I] 1 2 D[third] C[SELECT 1] Z[I]");
}

SYSTEM_TEST(prepared, an_aborted_transaction_refuses_what_is_known_too)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);
    static const char aborted[] = "E[25P02 current transaction is aborted, commands ignored until "
                                  "end of transaction block] Z[E]";

    assert_parsed(other, "r", "ROLLBACK");
    assert_parsed(other, "o", "SELECT 'one'");
    wire_query(wire, "BEGIN");
    wire_query(wire, "SELECT 1/0");
    wire_parse(wire, "mine", "SELECT 'one'"); /* before the failure is known here */
    wire_sync(wire);
    assert_said(wire, 3,
                text_of("C[BEGIN] Z[T] "
                        "E[22012 division by zero] Z[E] %s",
                        aborted));
    wire_parse(wire, "mine", "SELECT 'one'"); /* and after */
    wire_sync(wire);
    assert_said(wire, 1, aborted);
    wire_parse(wire, "back", "ROLLBACK");
    bind_execute(wire, "back");
    wire_sync(wire);
    assert_said(wire, 1, "1 2 C[ROLLBACK] Z[I]");
    bind_execute(wire, "mine");
    wire_sync(wire);
    assert_said(wire, 1, "E[26000 prepared statement \"mine\" does not exist] Z[I]");
    assert_value(other, "o", "one");
}

SYSTEM_TEST(prepared, the_least_used_make_room_within_the_pipeline)
{
    struct proxy *proxy = start("max_prepared_statements = 3\n");
    struct wire *wire = wire_client(proxy);

    for (int i = 0; i < 8; i++)
        assert_parsed(wire, text_of("s%d", i), text_of("SELECT 'value %d'", i));
    cr_assert(until(proxy_figure(proxy, "SERVERS", "database", "app", "prepared_statements") == 3,
                    PATIENCE_MS));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 8; i++)
            bind_execute(wire, text_of("s%d", i));
        wire_sync(wire);
        assert_said(wire, 1,
                    "2 D[value 0] C[SELECT 1] 2 D[value 1] C[SELECT 1] 2 D[value 2] C[SELECT 1] "
                    "2 D[value 3] C[SELECT 1] 2 D[value 4] C[SELECT 1] 2 D[value 5] C[SELECT 1] "
                    "2 D[value 6] C[SELECT 1] 2 D[value 7] C[SELECT 1] Z[I]");
    }
    for (int i = 0; i < 20; i++)
        assert_value(wire, text_of("s%d", i % 3), text_of("value %d", i % 3));
    wire_query(wire, "SELECT count(*) FROM pg_prepared_statements");
    assert_said(wire, 1, "T[count:20:4294967295:0] D[3] C[SELECT 1] Z[I]");
    cr_assert_eq(server_parses(proxy), 8 + 24 + 3);
}

SYSTEM_TEST(prepared, a_client_has_no_more_names_than_allowed)
{
    struct proxy *proxy = start("max_client_prepared_statements = 2\n");
    struct wire *wire = wire_client(proxy);

    assert_parsed(wire, "a", "SELECT 'a'");
    assert_parsed(wire, "b", "SELECT 'b'");
    wire_parse(wire, "c", "SELECT 'c'");
    bind_execute(wire, "a");
    wire_sync(wire);
    assert_said(wire, 1, "E[54000 too many prepared statements] Z[I]");
    assert_value(wire, "a", "a");
    wire_close_name(wire, 'S', "a");
    wire_sync(wire);
    assert_said(wire, 1, "3 Z[I]");
    assert_parsed(wire, "c", "SELECT 'c'");
}

SYSTEM_TEST(prepared, the_memory_for_texts_is_bounded)
{
    struct proxy *proxy = start("prepared_statements_memory = 64kB\n");
    struct wire *wire = wire_client(proxy), *next;
    char *said = NULL;
    int taken = 0;

    for (; taken < 100; taken++) {
        wire_parse(wire, text_of("m%d", taken), text_of("SELECT %d, '%*s'", taken, 1000, ""));
        wire_sync(wire);
        said = transcript(wire, 1, PATIENCE_MS);
        if (strcmp(said, "1 Z[I]") != 0)
            break;
    }
    cr_assert_str_eq(said, "E[53200 no memory left for prepared statements] Z[I]");
    cr_assert_gt(taken, 40);
    /* what nobody has a name for makes room */
    wire_close(wire);
    next = wire_client(proxy);
    cr_assert(until(proxy_rows(proxy, "CLIENTS", "database", "app") == 1, PATIENCE_MS));
    for (int i = 0; i < 40; i++)
        assert_parsed(next, text_of("n%d", i), text_of("SELECT -%d, '%*s'", i, 1000, ""));
}

SYSTEM_TEST(prepared, a_bind_of_any_size_streams)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);
    size_t size = 20u << 20;
    struct bytes body = {0};
    char *large = malloc(size + 1);

    memset(large, 'x', size);
    large[size] = '\0';
    assert_parsed(wire, "large", "SELECT length($1), substr($1, 20971000, 3)");
    disturb(other);
    for (int i = 0; i < 2; i++) {
        wire_bind(wire, "", "large", large, NULL);
        wire_execute(wire, "", 0);
        wire_sync(wire);
        assert_said(wire, 1, "2 D[20971520,xxx] C[SELECT 1] Z[I]");
    }
    /* its names come in pieces */
    bytes_add_text(&body, "");
    bytes_add_text(&body, "large");
    bytes_add16(&body, 0);
    bytes_add16(&body, 1);
    bytes_add32(&body, 40000);
    bytes_add(&body, large, 40000);
    bytes_add16(&body, 0);
    {
        unsigned char header[5] = {'B'};
        uint32_t length = (uint32_t)body.count + 4;

        for (int i = 0; i < 4; i++)
            header[1 + i] = (unsigned char)(length >> (24 - 8 * i));
        wire_write(wire, header, 5);
        for (size_t i = 0; i < 8; i++) {
            wire_write(wire, body.data + i, 1);
            pause_ms(2);
        }
        wire_write(wire, body.data + 8, body.count - 8);
    }
    wire_execute(wire, "", 0);
    wire_sync(wire);
    assert_said(wire, 1, "2 D[40000,] C[SELECT 1] Z[I]");
    free(large);
}

SYSTEM_TEST(prepared, a_statement_too_long_to_keep_keeps_its_server)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);
    char *sql = text_of("SELECT 'long'%*s", 40000, "");

    assert_parsed(wire, "long", sql);
    cr_assert(until(proxy_figure(proxy, "PINS", "reason", "long_statement", "clients") == 1,
                    PATIENCE_MS));
    cr_assert(until(proxy_rows(proxy, "CLIENTS", "pinned", "long_statement") == 1, PATIENCE_MS));
    assert_value(wire, "long", "long");
    wire_query(other, "SELECT 'waits'");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    assert_value(wire, "long", "long");
    wire_parse(wire, "long", "SELECT 1");
    wire_sync(wire);
    assert_said(wire, 1, "E[42P05 prepared statement \"long\" already exists] Z[I]");
    wire_close_name(wire, 'S', "long");
    wire_sync(wire);
    assert_said(wire, 1, "3 Z[I]");
    assert_said(other, 1, "T[?column?:25:4294967295:0] D[waits] C[SELECT 1] Z[I]");
    cr_assert(until(proxy_figure(proxy, "PINS", "reason", "long_statement", "clients") == 0,
                    PATIENCE_MS));
    cr_assert(
        until(proxy_figure(proxy, "PINS", "reason", "long_statement", "total") == 1, PATIENCE_MS));
}

SYSTEM_TEST(prepared, discard_all_and_deallocate_all_take_every_name)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);
    static const char *const statements[] = {"DEALLOCATE ALL", "DISCARD ALL",
                                             "/* as */ deallocate  prepare all"};

    assert_parsed(other, "o", "SELECT 'o'");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        assert_parsed(wire, "a", "SELECT 'a'");
        wire_query(wire, statements[i]);
        free(transcript(wire, 1, PATIENCE_MS));
        bind_execute(wire, "a");
        wire_sync(wire);
        assert_said(wire, 1, "E[26000 prepared statement \"a\" does not exist] Z[I]");
        /* another client of the same server keeps its own */
        assert_value(other, "o", "o");
    }
}

/* The parameters that the server must be given first are a batch of their own, and its answer is not
 * that of the text behind it. */
SYSTEM_TEST(prepared, names_that_may_be_gone_are_waited_for_behind_a_change_of_parameters)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);

    wire_query(wire, "SET application_name = 'one'");
    assert_said(wire, 1, "C[SET] Z[I]");
    wire_query(other, "SET application_name = 'two'");
    assert_said(other, 1, "C[SET] Z[I]");
    for (int round = 0; round < 3; round++) { /* from the second on the values are known */
        assert_parsed(wire, "a", text_of("SELECT 'a%d'", round));
        disturb(other);
        wire_cork(wire, true);
        wire_query(wire, "SELECT pg_sleep(0.2); DEALLOCATE ALL");
        wire_parse(wire, "a", "SELECT 'new'");
        wire_sync(wire);
        wire_cork(wire, false);
        assert_said(wire, 2,
                    "T[pg_sleep:2278:4294967295:0] D[] C[SELECT 1] C[DEALLOCATE ALL] Z[I] 1 Z[I]");
        assert_value(wire, "a", "new");
        wire_close_name(wire, 'S', "a");
        wire_sync(wire);
        assert_said(wire, 1, "3 Z[I]");
    }
}

SYSTEM_TEST(prepared, sql_deallocates_a_name_of_the_protocol)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);
    static const char *const statements[] = {"DEALLOCATE a", "deallocate prepare \"a\" ;",
                                             " DEALLOCATE A"};

    assert_parsed(other, "a", "SELECT 'a'");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        assert_parsed(wire, "a", "SELECT 'a'");
        wire_query(wire, statements[i]);
        bind_execute(wire, "a");
        wire_sync(wire);
        assert_said(wire, 2,
                    "C[DEALLOCATE] Z[I] E[26000 prepared statement \"a\" does not exist] Z[I]");
        assert_value(other, "a", "a");
        assert_parsed(wire, "a", "SELECT 'a'");
        wire_parse(wire, "", statements[i]);
        bind_execute(wire, "");
        wire_sync(wire);
        bind_execute(wire, "a");
        wire_sync(wire);
        assert_said(wire, 2,
                    "1 2 C[DEALLOCATE] Z[I] E[26000 prepared statement \"a\" does not exist] Z[I]");
    }
    assert_parsed(wire, "a", "SELECT 'a'");
    wire_query(wire, "DEALLOCATE b");
    assert_said(wire, 1, "E[26000 prepared statement \"b\" does not exist] Z[I]");
    wire_query(wire, "BEGIN; SELECT 1/0");
    wire_query(wire, "DEALLOCATE a");
    wire_query(wire, "ROLLBACK");
    free(transcript(wire, 3, PATIENCE_MS));
    assert_value(wire, "a", "a");
}

/* psqlODBC does it between SAVEPOINT and RELEASE. DEALLOCATE is not rolled back. */
SYSTEM_TEST(prepared, sql_deallocates_a_name_among_other_statements)
{
    static const struct {
        const char *sql, *said;
        bool gone;
    } cases[] = {
        {"BEGIN;SAVEPOINT s;DEALLOCATE \"a\";RELEASE s;COMMIT",
         "C[BEGIN] C[SAVEPOINT] C[DEALLOCATE] C[RELEASE] C[COMMIT] Z[I]", true},
        {"/* DEALLOCATE b; */ DEALLOCATE /* b */ A; -- DEALLOCATE b", "C[DEALLOCATE] Z[I]", true},
        {"BEGIN;DEALLOCATE PREPARE a;ROLLBACK", "C[BEGIN] C[DEALLOCATE] C[ROLLBACK] Z[I]", true},
        {"DEALLOCATE a;SET work_mem = 'much'",
         "C[DEALLOCATE] E[22023 invalid value for parameter \"work_mem\": \"much\"] Z[I]", true},
        {"SET work_mem = 'much';DEALLOCATE a",
         "E[22023 invalid value for parameter \"work_mem\": \"much\"] Z[I]", false},
    };
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);

    assert_parsed(other, "a", "SELECT 'other'");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_parsed(wire, "a", "SELECT 'a'");
        wire_query(wire, cases[i].sql);
        assert_said(wire, 1, cases[i].said);
        assert_value(other, "a", "other");
        if (!cases[i].gone) {
            assert_value(wire, "a", "a");
            continue;
        }
        bind_execute(wire, "a");
        wire_sync(wire);
        assert_said(wire, 1, "E[26000 prepared statement \"a\" does not exist] Z[I]");
    }
}

SYSTEM_TEST(prepared, closing_an_unknown_name_succeeds)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy);

    wire_close_name(wire, 'S', "never");
    wire_close_name(wire, 'P', "never");
    wire_close_name(wire, 'S', "");
    wire_sync(wire);
    assert_said(wire, 1, "3 3 3 Z[I]");
}

SYSTEM_TEST(prepared, names_like_ours_reach_nothing_of_others)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);
    char *name;

    assert_parsed(other, "secret", "SELECT 'secret'");
    wire_query(wire, "SELECT name FROM pg_prepared_statements");
    name = wire_value(wire, PATIENCE_MS);
    bind_execute(wire, name);
    wire_sync(wire);
    wire_describe(wire, 'S', name);
    wire_sync(wire);
    wire_close_name(wire, 'S', name);
    wire_sync(wire);
    assert_said(wire, 3,
                text_of("E[26000 prepared statement \"%s\" does not exist] Z[I] "
                        "E[26000 prepared statement \"%s\" does not exist] Z[I] 3 Z[I]",
                        name, name));
    assert_parsed(wire, name, "SELECT 'mine'");
    assert_value(wire, name, "mine");
    assert_value(other, "secret", "secret");
    wire_close_name(wire, 'S', name);
    wire_sync(wire);
    assert_said(wire, 1, "3 Z[I]");
    assert_value(other, "secret", "secret");
    bind_execute(wire, name);
    wire_sync(wire);
    assert_said(wire, 1, text_of("E[26000 prepared statement \"%s\" does not exist] Z[I]", name));
    assert_value(other, "secret", "secret");
}

SYSTEM_TEST(prepared, a_server_that_lost_its_statements_is_believed)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy);

    assert_parsed(wire, "a", "SELECT 'a'");
    assert_parsed(wire, "b", "SELECT 'b'");
    wire_query(wire, "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$");
    assert_said(wire, 1, "C[DO] Z[I]");
    bind_execute(wire, "a");
    wire_sync(wire);
    assert_said(wire, 1, "E[26000 prepared statement \"a\" does not exist] Z[I]");
    assert_value(wire, "a", "a");
    assert_value(wire, "b", "b");
}

SYSTEM_TEST(prepared, the_context_of_a_text_decides_whose_it_is)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);

    wire_query(other, "SET standard_conforming_strings = off; SET escape_string_warning = off");
    free(transcript(other, 1, PATIENCE_MS));
    for (int i = 0; i < 2; i++) {
        assert_parsed(other, text_of("s%d", i), "SELECT length('\\\\')");
        assert_parsed(wire, text_of("s%d", i), "SELECT length('\\\\')");
    }
    assert_value(other, "s0", "1");
    assert_value(wire, "s0", "2");
    assert_value(other, "s1", "1");
    assert_value(wire, "s1", "2");
}

SYSTEM_TEST(prepared, errors_speak_of_the_clients_names)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy);

    assert_parsed(wire, "needs_two", "SELECT $1::int, $2::int");
    wire_bind(wire, "", "needs_two", "1", NULL);
    wire_sync(wire);
    assert_said(wire, 1,
                "E[08P01 bind message supplies 1 parameters, but prepared statement \"needs_two\" "
                "requires 2] Z[I]");
}

SYSTEM_TEST(prepared, a_changed_result_is_told_once_and_then_works)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);

    client_do(cluster_connect(cluster_shared(), "app"),
              "DROP TABLE IF EXISTS prepared_ddl; CREATE TABLE prepared_ddl AS SELECT 1 AS a;"
              "GRANT ALL ON prepared_ddl TO app");
    assert_parsed(wire, "d", "SELECT * FROM prepared_ddl");
    assert_parsed(other, "d", "SELECT * FROM prepared_ddl");
    assert_value(wire, "d", "1");
    client_do(cluster_connect(cluster_shared(), "app"),
              "ALTER TABLE prepared_ddl ADD COLUMN b text DEFAULT 'two'");
    bind_execute(wire, "d");
    wire_sync(wire);
    assert_said(wire, 1, "E[0A000 cached plan must not change result type] Z[I]");
    for (int i = 0; i < 2; i++) {
        assert_value(wire, "d", "1,two");
        assert_value(other, "d", "1,two");
    }
}

SYSTEM_TEST(prepared, a_changed_result_is_not_told_where_the_batch_describes_it)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);
    PGconn *admin = cluster_connect(cluster_shared(), "app");
    static const char *const said[] = {
        "2 T[a:23:4294967295:0] D[1] C[SELECT 1] Z[I]",
        "2 T[a:23:4294967295:0,b:25:4294967295:0] D[1,two] C[SELECT 1] Z[I]",
        "2 T[a:23:4294967295:0,b:25:4294967295:0,c:25:4294967295:0] D[1,two,three] C[SELECT 1] "
        "Z[I]",
    };

    client_do(admin, "DROP TABLE IF EXISTS prepared_again; CREATE TABLE prepared_again AS SELECT 1 "
                     "AS a; GRANT ALL ON prepared_again TO app");
    assert_parsed(wire, "d", "SELECT * FROM prepared_again");
    for (int i = 0; i < 3; i++) {
        if (i == 1)
            client_do(admin, "ALTER TABLE prepared_again ADD COLUMN b text DEFAULT 'two'");
        if (i == 2)
            client_do(admin, "ALTER TABLE prepared_again ADD COLUMN c text DEFAULT 'three'");
        disturb(other);
        for (int k = 0; k < 2; k++) {
            wire_cork(wire, true); /* the batch can be sent again while it is whole in the buffer */
            wire_bind(wire, "", "d", NULL);
            wire_describe(wire, 'P', "");
            wire_execute(wire, "", 0);
            wire_sync(wire);
            wire_cork(wire, false);
            assert_said(wire, 1, said[i]);
        }
    }
    /* in a transaction it is told: what was done before is undone by it */
    client_do(admin, "ALTER TABLE prepared_again ADD COLUMN e text");
    begin(wire);
    wire_bind(wire, "", "d", NULL);
    wire_describe(wire, 'P', "");
    wire_execute(wire, "", 0);
    wire_sync(wire);
    assert_said(wire, 1, "E[0A000 cached plan must not change result type] Z[E]");
    wire_query(wire, "ROLLBACK");
    assert_said(wire, 1, "C[ROLLBACK] Z[I]");
}

/* ---- unnamed ---- */

SYSTEM_TEST(prepared, an_unnamed_statement_outlives_its_batch)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);

    assert_parsed(wire, "", "SELECT 'mine'");
    disturb(other);
    wire_describe(wire, 'S', "");
    wire_sync(wire);
    assert_said(wire, 1, "t[\\00\\00] T[?column?:25:4294967295:0] Z[I]");
    disturb(other);
    for (int i = 0; i < 3; i++) {
        assert_value(wire, "", "mine");
        disturb(other);
    }
    wire_query(wire, "SELECT 1");
    free(transcript(wire, 1, PATIENCE_MS));
    bind_execute(wire, "");
    wire_sync(wire);
    assert_said(wire, 1, "E[26000 unnamed prepared statement does not exist] Z[I]");
}

SYSTEM_TEST(prepared, nobody_gets_the_unnamed_statement_of_another)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);

    disturb(other);
    bind_execute(wire, "");
    wire_sync(wire);
    assert_said(wire, 1, "E[26000 unnamed prepared statement does not exist] Z[I]");
    disturb(other);
    /* its own Parse is skipped, in one pipeline */
    wire_parse(wire, "bad", "nonsense");
    wire_parse(wire, "", "SELECT 'mine'");
    wire_sync(wire);
    bind_execute(wire, "");
    wire_sync(wire);
    assert_said(wire, 2,
                "E[42601 syntax error at or near \"nonsense\"] Z[I] "
                "E[26000 unnamed prepared statement does not exist] Z[I]");
}

SYSTEM_TEST(prepared, a_long_unnamed_statement_keeps_its_server_until_it_is_bound)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);
    char *sql = text_of("SELECT 'long'%*s", 40000, "");

    assert_parsed(wire, "", sql);
    cr_assert(until(proxy_figure(proxy, "PINS", "reason", "unnamed_statement", "clients") == 1,
                    PATIENCE_MS));
    wire_query(other, "SELECT 'waits'");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    assert_value(wire, "", "long");
    assert_said(other, 1, "T[?column?:25:4294967295:0] D[waits] C[SELECT 1] Z[I]");
    cr_assert(until(proxy_figure(proxy, "PINS", "reason", "unnamed_statement", "clients") == 0,
                    PATIENCE_MS));
}

/* ---- the other modes ---- */

SYSTEM_TEST(prepared, statement_mode_follows_them_too)
{
    struct proxy *proxy = proxy_start("pool_mode = statement\ndefault_pool_size = 1\n");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);

    assert_parsed(wire, "a", "SELECT 'a'");
    assert_parsed(other, "a", "SELECT 'other'");
    assert_value(wire, "a", "a");
    assert_value(other, "a", "other");
}

SYSTEM_TEST(prepared, session_mode_passes_everything_as_it_is)
{
    struct proxy *proxy = proxy_start("pool_mode = session\n");
    struct wire *wire = wire_client(proxy);

    assert_parsed(wire, "as_it_is", "SELECT 'a'");
    wire_query(wire, "SELECT name FROM pg_prepared_statements");
    assert_said(wire, 1, "T[name:25:4294967295:0] D[as_it_is] C[SELECT 1] Z[I]");
    assert_value(wire, "as_it_is", "a");
}

SYSTEM_TEST(prepared, they_survive_the_loss_of_every_server)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy);

    assert_parsed(wire, "a", "SELECT 'a'");
    assert_parsed(wire, "", "SELECT 'unnamed'");
    proxy_do(proxy, "RECONNECT");
    assert_value(wire, "a", "a");
    proxy_do(proxy, "RECONNECT");
    assert_value(wire, "", "unnamed");
    assert_value(wire, "a", "a");
    cr_assert_eq(server_parses(proxy), 3);
}

SYSTEM_TEST(prepared, parse_complete_comes_in_its_place_with_flush)
{
    struct proxy *proxy = start("");
    struct wire *wire = wire_client(proxy), *other = wire_client(proxy);
    struct wire_message message;

    assert_parsed(other, "a", "SELECT 'a'");
    wire_parse(wire, "b", "SELECT 'a'");
    wire_flush(wire);
    cr_assert(wire_read(wire, &message, PATIENCE_MS));
    cr_assert_eq(message.type, '1');
    bind_execute(wire, "b");
    wire_parse(wire, "c", "SELECT 'a'");
    bind_execute(wire, "c");
    wire_flush(wire);
    cr_assert_str_eq(wire_types(wire, 'C', PATIENCE_MS), "2DC");
    cr_assert_str_eq(wire_types(wire, 'C', PATIENCE_MS), "12DC");
    wire_sync(wire);
    assert_said(wire, 1, "Z[I]");
}

/* Parse, Bind, Describe, Execute and Close of two names and the unnamed statement, as bytes. */
static struct bytes every_message(void)
{
    struct bytes all = {0};
    int ends[2];
    struct wire *scratch;
    unsigned char piece[4096];
    ssize_t got;

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    scratch = wire_of(ends[0]);
    wire_parse(scratch, "first", "SELECT $1 || ' first'");
    wire_bind(scratch, "portal", "first", "value", NULL);
    wire_describe(scratch, 'P', "portal");
    wire_execute(scratch, "portal", 0);
    wire_parse(scratch, "", "SELECT 'unnamed'");
    wire_bind(scratch, "", "", NULL);
    wire_execute(scratch, "", 0);
    wire_describe(scratch, 'S', "first");
    wire_close_name(scratch, 'S', "first");
    wire_sync(scratch);
    wire_bind(scratch, "", "first", NULL);
    wire_sync(scratch);
    wire_close(scratch);
    while ((got = read(ends[1], piece, sizeof piece)) > 0)
        bytes_add(&all, piece, (size_t)got);
    close(ends[1]);
    return all;
}

SYSTEM_TEST(prepared, messages_may_be_cut_anywhere)
{
    struct proxy *proxy = start("max_prepared_statements = 1\n");
    struct wire *wire = wire_client(proxy);
    struct bytes all = every_message();

    for (size_t cut = 1; cut < all.count; cut++) {
        cr_assert(wire_write(wire, all.data, cut));
        if (cut % 4 == 0)
            pause_ms(1); /* often enough it is read as it was cut */
        cr_assert(wire_write(wire, all.data + cut, all.count - cut));
        assert_said(wire, 2,
                    "1 2 T[?column?:25:4294967295:0] D[value first] C[SELECT 1] "
                    "1 2 D[unnamed] C[SELECT 1] t[\\00\\01\\00\\00\\00\\19] "
                    "T[?column?:25:4294967295:0] 3 Z[I] "
                    "E[26000 prepared statement \"first\" does not exist] Z[I]");
    }
    free(all.data);
}

SYSTEM_TEST(prepared, a_parse_without_a_text_is_an_error_and_no_more)
{
    struct proxy *proxy = start("");

    /* no name at all, no text behind the name, no types behind the text */
    for (size_t length = 0; length < 3; length++) {
        struct wire *wire = wire_client(proxy);
        struct wire_message message;

        wire_send(wire, 'P', "\0\0", length);
        wire_sync(wire);
        do
            cr_assert(wire_read(wire, &message, PATIENCE_MS), "nothing is said to %zu bytes",
                      length);
        while (message.type == 'N' || message.type == 'S');
        cr_assert_eq(message.type, 'E', "%c is said to %zu bytes", message.type, length);
        wire_close(wire);
    }
    /* it hurts nobody else */
    assert_parsed(wire_client(proxy), "a", "SELECT 1");
}
