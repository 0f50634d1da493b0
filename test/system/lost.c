/*
 * lost: what a client sees when its server is lost, row by row, against a real PostgreSQL whose
 * backends and postmasters are ended in every way; and against fakes where the moment matters.
 *
 * What a client gets is compared as a whole: "E57P01 ZE" is an ErrorResponse and a ReadyForQuery,
 * and a question with an answer of its own behind it proves that there was nothing more.
 */
#include "system.h"

#include <stdatomic.h>

SYSTEM_SUITE(lost);

#define SETTINGS "pool_mode = transaction\nserver_login_retry = 1\ndefault_pool_size = 4\n"

/* ---- what comes ---- */

/* All messages up to the `count`th ReadyForQuery as words; ParameterStatus and notices are left
 * out. "!": the connection ended; "?": nothing more came. */
static char *told(struct wire *wire, int count)
{
    struct bytes words = {0};
    struct wire_message message;
    int64_t deadline = now_ms() + PATIENCE_MS;

    while (count > 0) {
        const char *word;

        if (!wire_read(wire, &message, (int)(deadline - now_ms()))) {
            bytes_add(&words, wire->ended ? "!" : "?", 1);
            break;
        }
        if (strchr("NS", message.type)) {
            free(message.body);
            continue;
        }
        if (words.count)
            bytes_add(&words, " ", 1);
        word = message.type == 'E'
                   ? text_of("%s%s",
                             strcmp(wire_field(&message, 'V'), "ERROR") ? wire_field(&message, 'V')
                                                                        : "E",
                             wire_field(&message, 'C'))
               : message.type == 'Z' ? text_of("Z%c", message.body[0])
               : message.type == 'C' ? text_of("C(%s)", (char *)message.body)
                                     : text_of("%c", message.type);
        bytes_add(&words, word, strlen(word));
        count -= message.type == 'Z';
        free(message.body);
    }
    bytes_add(&words, "", 1);
    return (char *)words.data;
}

#define cr_assert_told(wire, count, expected)                                                      \
    do {                                                                                           \
        char *told_ = told((wire), (count));                                                       \
        cr_assert_str_eq(told_, (expected), "told \"%s\"", told_);                                 \
    } while (0)

/* The same for the end of what is told: how much came before the loss is the server's business, if
 * it was no error. */
#define cr_assert_told_last(wire, count, expected)                                                 \
    do {                                                                                           \
        char *told_ = told((wire), (count));                                                       \
        cr_assert(ends_with_first_error(told_, (expected)), "told \"%s\"", told_);                 \
    } while (0)

static bool ends_with_first_error(const char *words, const char *expected)
{
    size_t length = strlen(words), wanted = strlen(expected);
    const char *end = words + length - wanted;
    const char *first = words[0] == 'E' ? words : strstr(words, " E");

    return length >= wanted && strcmp(end, expected) == 0 && first && first + 1 >= end;
}

/* Nothing more was on its way, and the connection works. */
static void cr_settled(struct wire *wire)
{
    static unsigned number;
    char *value = text_of("settled-%u", ++number);

    wire_query(wire, text_of("SELECT '%s'", value));
    cr_assert_str_eq(wire_types(wire, 'D', PATIENCE_MS), "TD");
    cr_assert_told(wire, 1, "C(SELECT 1) ZI");
}

static void cr_is_fatal(struct wire *wire, const char *start)
{
    char *error = wire_error(wire, PATIENCE_MS);

    cr_assert_eq(strncmp(error, start, strlen(start)), 0, "%s", error);
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
}

/* ---- ending servers ---- */

static int backend_of_query(struct cluster *cluster, const char *query)
{
    /* the text is there from Parse on: one that sleeps has got what comes behind that, too */
    bool sleeps = strstr(query, "pg_sleep(") != NULL;
    char *sql =
        text_of("SELECT coalesce(min(pid), 0) FROM pg_stat_activity WHERE query LIKE '%s%%' "
                "AND pid <> pg_backend_pid() AND backend_type = 'client backend'%s",
                query, sleeps ? " AND wait_event = 'PgSleep'" : "");
    long pid = 0;

    cr_assert(until((pid = cluster_number(cluster, sql)) != 0, PATIENCE_MS), "%s", query);
    return (int)pid;
}

/* Waits until this query runs, and ends its backend by FATAL 57P01. */
static void terminate(struct cluster *cluster, const char *query)
{
    int pid = backend_of_query(cluster, query);

    cr_assert_eq(
        cluster_number(cluster, text_of("SELECT pg_terminate_backend(%d, 50000)::int", pid)), 1);
}

/* The same when its transaction is being committed: its text has been there for longer. */
static void terminate_at_commit(struct cluster *cluster, const char *query)
{
    cr_assert(until(cluster_number(cluster, "SELECT count(*) FROM pg_stat_activity WHERE "
                                            "wait_event = 'PgSleep'") == 1,
                    PATIENCE_MS));
    terminate(cluster, query);
}

/* As a crash would: the postmaster ends all others and starts again. */
static void crash(struct cluster *cluster, const char *query)
{
    int pid = backend_of_query(cluster, query);

    cr_assert_eq(kill(pid, SIGKILL), 0);
}

static bool answers(const struct cluster *cluster)
{
    PGconn *conn = PQconnectdb(text_of("%s dbname=app user=postgres", cluster_route(cluster)));
    bool up = PQstatus(conn) == CONNECTION_OK;

    PQfinish(conn);
    return up;
}

/* An own cluster with a table, and a table whose rows make COMMIT last. */
static struct cluster *start_cluster(void)
{
    struct cluster *cluster = cluster_start(&(struct cluster_options){
        .settings = "restart_after_crash = on\nmax_prepared_transactions = 4\n"});
    PGconn *conn = cluster_connect(cluster, "app");

    client_do(conn, "CREATE TABLE t (id int primary key)");
    client_do(conn, "CREATE TABLE slow (id int)");
    client_do(conn, "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
                    "'BEGIN PERFORM pg_sleep(600); RETURN NULL; END'");
    client_do(conn, "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow DEFERRABLE INITIALLY "
                    "DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()");
    client_do(conn, "GRANT ALL ON t, slow TO public");
    PQfinish(conn);
    return cluster;
}

static struct proxy *start_proxy(const struct cluster *cluster, const char *more)
{
    return proxy_start("%s%s[databases]\napp = %s\n", SETTINGS, more, cluster_route(cluster));
}

static char *proxy_setting(struct proxy *proxy, const char *name)
{
    PGresult *rows = proxy_show(proxy, "CONFIG");
    char *value = text_of("%s", "");

    for (int row = 0; row < PQntuples(rows); row++)
        if (!strcmp(PQgetvalue(rows, row, 0), name))
            value = text_of("%s", PQgetvalue(rows, row, 1));
    PQclear(rows);
    return value;
}

static void statement(struct wire *wire, const char *sql)
{
    wire_parse(wire, "", sql);
    wire_bind(wire, "", "", NULL);
    wire_execute(wire, "", 0);
}

/* ---- between transactions ---- */

static void idle_clients_see_nothing(const char *mode)
{
    struct cluster *cluster = start_cluster();
    struct proxy *proxy = start_proxy(cluster, mode);
    struct wire *wires[8];
    static const enum cluster_end ways[] = {CLUSTER_KILL, CLUSTER_IMMEDIATE, CLUSTER_FAST};

    for (int i = 0; i < 8; i++)
        cr_settled(wires[i] = wire_client(proxy));
    for (size_t way = 0; way < 3; way++) {
        cluster_end(cluster, ways[way]);
        cr_assert(
            until(proxy_figure(proxy, "POOLS", "database", "app", "sv_idle") == 0, PATIENCE_MS));
        for (int i = 0; i < 4; i++)
            wire_query(wires[i], "SELECT 1"); /* of these no byte has gone to a server */
        for (int i = 4; i < 8; i++) {
            wire_parse(wires[i], "", "SELECT 1");
            wire_bind(wires[i], "", "", NULL);
            wire_execute(wires[i], "", 0);
            wire_sync(wires[i]);
        }
        cluster_again(cluster);
        for (int i = 0; i < 4; i++)
            cr_assert_told(wires[i], 1, "T D C(SELECT 1) ZI");
        for (int i = 4; i < 8; i++)
            cr_assert_told(wires[i], 1, "1 2 D C(SELECT 1) ZI");
    }
}

SYSTEM_TEST(lost, idle_clients_see_nothing_of_a_restart)
{
    SKIP_ON_PGBOUNCER();
    idle_clients_see_nothing("");
}

SYSTEM_TEST(lost, idle_clients_of_statement_mode_see_nothing_either)
{
    SKIP_ON_PGBOUNCER();
    idle_clients_see_nothing("pool_mode = statement\n");
}

/* ---- idle in a transaction ---- */

static struct wire *idle_in_transaction(struct proxy *proxy, const char *sql)
{
    struct wire *wire = wire_client(proxy);

    wire_query(wire, sql);
    cr_assert_has(told(wire, 1), "ZT");
    return wire;
}

/* Its server is gone, and pgstage knows. */
static void end_idle(struct cluster *cluster, struct proxy *proxy, const char *sql)
{
    terminate(cluster, sql);
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 0, PATIENCE_MS));
}

SYSTEM_TEST(lost, idle_in_a_transaction_hears_it_at_its_next_message_and_is_aborted_then)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_shared();
    struct proxy *proxy = proxy_start("%s", SETTINGS);
    struct wire *wire = idle_in_transaction(proxy, "BEGIN; SELECT 'lost-1'");
    char nothing;

    end_idle(cluster, proxy, "BEGIN; SELECT ''lost-1''");
    cr_assert_eq(wire_take(wire, &nothing, 1, 300), 0);
    wire_query(wire, "INSERT INTO nowhere VALUES (1)");
    cr_assert_told(wire, 1, "E57P01 ZE");
    wire_query(wire, "SELECT 1");
    cr_assert_told(wire, 1, "E25P02 ZE");
    wire_query(wire, "");
    cr_assert_told(wire, 1, "I ZE");
    wire_query(wire, "ROLLBACK TO SAVEPOINT a");
    cr_assert_told(wire, 1, "E25P02 ZE");
    wire_query(wire, "COMMIT AND CHAIN");
    cr_assert_told(wire, 1, "E25P02 ZE");
    wire_query(wire, "ROLLBACK; SELECT 1");
    cr_assert_told(wire, 1, "E25P02 ZE");
    statement(wire, "SELECT 1");
    wire_sync(wire);
    cr_assert_told(wire, 1, "E25P02 ZE");
    wire_close_name(wire, 'S', "any");
    wire_flush(wire);
    wire_sync(wire);
    cr_assert_told(wire, 1, "3 ZE");
    wire_query(wire, "ROLLBACK");
    cr_assert_told(wire, 1, "C(ROLLBACK) ZI");
    cr_settled(wire);
}

SYSTEM_TEST(lost, a_commit_of_an_idle_transaction_gets_the_error_and_ends_it)
{
    SKIP_ON_PGBOUNCER();
    static const char *const ends[] = {"COMMIT", "END;", "PREPARE TRANSACTION 'lost'", "ROLLBACK"};
    struct cluster *cluster = cluster_shared();
    struct proxy *proxy = proxy_start("%s", SETTINGS);

    for (size_t i = 0; i < 4; i++) {
        char *sql = text_of("BEGIN; SELECT 2 AS lost_%zu", i);
        struct wire *wire = idle_in_transaction(proxy, sql);

        end_idle(cluster, proxy, sql);
        wire_query(wire, ends[i]);
        cr_assert_told(wire, 1, "E57P01 ZI");
        cr_settled(wire);
        wire_close(wire);
    }
}

SYSTEM_TEST(lost, a_commit_by_a_named_statement_ends_a_lost_transaction_too)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_shared();
    struct proxy *proxy = proxy_start("%s", SETTINGS);
    struct wire *wire = idle_in_transaction(proxy, "BEGIN; SELECT 3 AS lost_named");

    wire_parse(wire, "lost_end", "COMMIT");
    wire_sync(wire);
    cr_assert_told(wire, 1, "1 ZT");
    wire_query(wire, "SELECT 3 AS lost_prepared");
    cr_assert_told(wire, 1, "T D C(SELECT 1) ZT");
    end_idle(cluster, proxy, "SELECT 3 AS lost_prepared");
    wire_bind(wire, "", "lost_end", NULL);
    wire_execute(wire, "", 0);
    wire_sync(wire);
    cr_assert_told(wire, 1, "E57P01 ZI");
    cr_settled(wire);
}

/* Parsed in the very batch that is refused, it is no statement that anybody keeps. */
SYSTEM_TEST(lost, a_commit_that_is_parsed_in_a_lost_transaction_ends_it_too)
{
    SKIP_ON_PGBOUNCER();
    static const char *const names[] = {"", "lost_fresh"};
    struct cluster *cluster = cluster_shared();
    struct proxy *proxy = proxy_start("%s", SETTINGS);

    for (size_t i = 0; i < 2; i++) {
        char *sql = text_of("BEGIN; SELECT 4 AS lost_parsed_%zu", i);
        struct wire *wire = idle_in_transaction(proxy, sql);

        end_idle(cluster, proxy, sql);
        wire_parse(wire, names[i], "COMMIT");
        wire_bind(wire, "", names[i], NULL);
        wire_execute(wire, "", 0);
        wire_sync(wire);
        cr_assert_told(wire, 1, "E57P01 ZI");
        cr_settled(wire);
        wire_bind(wire, "", names[i], NULL);
        wire_sync(wire);
        cr_assert_told(wire, 1, "E26000 ZI");
        wire_close(wire);
    }
}

SYSTEM_TEST(lost, a_name_that_is_closed_in_a_lost_transaction_is_free_again)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_shared();
    struct proxy *proxy = proxy_start("%s", SETTINGS);
    struct wire *wire = wire_client(proxy);

    wire_parse(wire, "lost_name", "SELECT 1");
    wire_sync(wire);
    cr_assert_told(wire, 1, "1 ZI");
    wire_query(wire, "BEGIN; SELECT 7 AS lost_close");
    cr_assert_has(told(wire, 1), "ZT");
    end_idle(cluster, proxy, "BEGIN; SELECT 7 AS lost_close");
    wire_sync(wire);
    cr_assert_told(wire, 1, "E57P01 ZE");
    wire_close_name(wire, 'S', "lost_name");
    statement(wire, "ROLLBACK");
    wire_sync(wire);
    cr_assert_told(wire, 1, "3 1 2 C(ROLLBACK) ZI");
    wire_parse(wire, "lost_name", "SELECT 2");
    wire_bind(wire, "", "lost_name", NULL);
    wire_execute(wire, "", 0);
    wire_sync(wire);
    cr_assert_told(wire, 1, "1 2 D C(SELECT 1) ZI");
}

SYSTEM_TEST(lost, a_name_that_is_prepared_in_a_lost_transaction_is_remembered)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_shared();
    struct proxy *proxy = proxy_start("%s", SETTINGS);
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "BEGIN; SELECT 7 AS lost_remember");
    cr_assert_has(told(wire, 1), "ZT");
    end_idle(cluster, proxy, "BEGIN; SELECT 7 AS lost_remember");
    wire_query(wire, "SELECT 1");
    cr_assert_told(wire, 1, "E57P01 ZE");
    /* as in an aborted transaction: only what ends it, and each name once */
    wire_parse(wire, "end", "ROLLBACK");
    wire_parse(wire, "end", "COMMIT");
    wire_sync(wire);
    cr_assert_told(wire, 1, "1 E42P05 ZE");
    wire_bind(wire, "", "nobody", NULL);
    wire_sync(wire);
    cr_assert_told(wire, 1, "E26000 ZE");
    wire_parse(wire, "select", "SELECT 1");
    wire_sync(wire);
    cr_assert_told(wire, 1, "E25P02 ZE");
    wire_parse(wire, "", "ROLLBACK");
    wire_bind(wire, "", "end", NULL);
    wire_execute(wire, "", 0);
    wire_sync(wire);
    cr_assert_told(wire, 1, "1 2 C(ROLLBACK) ZI");
    /* on a server that has never heard of them */
    wire_query(wire, "BEGIN");
    cr_assert_told(wire, 1, "C(BEGIN) ZT");
    wire_bind(wire, "", "end", NULL);
    wire_execute(wire, "", 0);
    wire_bind(wire, "", "select", NULL);
    wire_sync(wire);
    cr_assert_told(wire, 1, "2 C(ROLLBACK) E26000 ZI");
    wire_parse(wire, "end", "SELECT 1");
    wire_sync(wire);
    cr_assert_told(wire, 1, "E42P05 ZI");
    cr_settled(wire);
}

SYSTEM_TEST(lost, the_servers_own_reason_is_told_to_an_idle_transaction)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("%s", SETTINGS);
    struct wire *wire =
        idle_in_transaction(proxy, "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '50ms'");

    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 0, PATIENCE_MS));
    wire_query(wire, "SELECT 1");
    cr_assert_told(wire, 1, "E25P03 ZE");
    statement(wire, "ROLLBACK");
    wire_sync(wire);
    cr_assert_told(wire, 1, "1 2 C(ROLLBACK) ZI");
    cr_settled(wire);
}

SYSTEM_TEST(lost, libpq_takes_a_lost_transaction_for_an_aborted_one)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("%s", SETTINGS);
    PGconn *client = client_open(proxy, NULL);

    client_do(client, "BEGIN");
    client_do(client, "SELECT 4 AS lost_libpq");
    end_idle(cluster_shared(), proxy, "SELECT 4 AS lost_libpq");
    cr_assert_str_eq(client_sqlstate(client, "SELECT 1"), "57P01");
    cr_assert_eq(PQtransactionStatus(client), PQTRANS_INERROR);
    cr_assert_str_eq(client_sqlstate(client, "SELECT 1"), "25P02");
    client_do(client, "ROLLBACK");
    cr_assert_eq(PQtransactionStatus(client), PQTRANS_IDLE);
    cr_assert_eq(client_number(client, "SELECT 42"), 42);
}

/* ---- waiting for an answer ---- */

/* Every way to lose a backend, with the same result. */
static void what_commits_by_itself_is_unknown(const char *mode)
{
    struct cluster *cluster = start_cluster();
    struct proxy *proxy = start_proxy(cluster, mode);
    struct wire *simple = wire_client(proxy), *extended = wire_client(proxy);

    for (int way = 0; way < 4; way++) {
        wire_query(simple, text_of("SELECT pg_sleep(61%d)", way));
        statement(extended, text_of("SELECT pg_sleep(62%d)", way));
        wire_sync(extended);
        (void)backend_of_query(cluster, text_of("SELECT pg_sleep(61%d)", way));
        (void)backend_of_query(cluster, text_of("SELECT pg_sleep(62%d)", way));
        switch (way) {
        case 0:
            terminate(cluster, "SELECT pg_sleep(610)");
            terminate(cluster, "SELECT pg_sleep(620)");
            break;
        case 1:
            crash(cluster, "SELECT pg_sleep(611)");
            break;
        case 2:
            cluster_end(cluster, CLUSTER_IMMEDIATE);
            break;
        default:
            cluster_end(cluster, CLUSTER_KILL);
            break;
        }
        cr_assert_told_last(simple, 1, "E08007 ZI");
        cr_assert_told_last(extended, 1, "E08007 ZI");
        if (way >= 2)
            cluster_again(cluster);
        cr_assert(until(answers(cluster), PATIENCE_MS));
        cr_settled(simple);
        cr_settled(extended);
    }
    cr_assert_str_eq(proxy_setting(proxy, "pool_mode"), *mode ? "statement" : "transaction");
}

SYSTEM_TEST(lost, a_statement_that_commits_by_itself_is_unknown_whatever_ended_its_server)
{
    SKIP_ON_PGBOUNCER();
    what_commits_by_itself_is_unknown("");
}

/* There every statement commits by itself. */
SYSTEM_TEST(lost, a_statement_of_statement_mode_is_unknown_whatever_ended_its_server)
{
    SKIP_ON_PGBOUNCER();
    what_commits_by_itself_is_unknown("pool_mode = statement\n");
}

SYSTEM_TEST(lost, a_statement_in_a_transaction_was_rolled_back_for_certain)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = start_cluster();
    struct proxy *proxy = start_proxy(cluster, "");
    struct wire *simple = idle_in_transaction(proxy, "BEGIN");
    struct wire *extended = idle_in_transaction(proxy, "BEGIN");

    wire_query(simple, "SELECT pg_sleep(631)");
    statement(extended, "SELECT pg_sleep(632)");
    wire_sync(extended);
    (void)backend_of_query(cluster, "SELECT pg_sleep(631)");
    terminate(cluster, "SELECT pg_sleep(632)");
    crash(cluster, "SELECT pg_sleep(631)");
    cr_assert_told_last(simple, 1, "E57P01 ZI");
    cr_assert_told_last(extended, 1, "E57P01 ZI");
    cr_assert(until(answers(cluster), PATIENCE_MS));
    cr_settled(simple);
    cr_settled(extended);
}

SYSTEM_TEST(lost, a_commit_under_way_is_unknown_in_every_form)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = start_cluster();
    struct proxy *proxy = start_proxy(cluster, "");
    struct wire *wire;

    for (int form = 0; form < 4; form++) {
        wire = idle_in_transaction(proxy, "BEGIN");
        wire_query(wire, "INSERT INTO slow VALUES (1)");
        cr_assert_told(wire, 1, "C(INSERT 0 1) ZT");
        switch (form) {
        case 0:
            wire_query(wire, "COMMIT /* form 0 */");
            break;
        case 1:
            wire_query(wire, "INSERT INTO t VALUES (1); END; SELECT 1 /* form 1 */");
            break;
        case 2:
            statement(wire, "COMMIT /* form 2 */");
            wire_sync(wire);
            break;
        default:
            wire_parse(wire, "named_end", "END TRANSACTION /* form 3 */");
            wire_sync(wire);
            cr_assert_told(wire, 1, "1 ZT");
            wire_bind(wire, "", "named_end", NULL);
            wire_execute(wire, "", 0);
            wire_sync(wire);
            break;
        }
        terminate_at_commit(cluster, text_of("%%form %d", form));
        cr_assert_has(told(wire, 1), "E08007 ZI");
        cr_settled(wire);
        wire_close(wire);
    }
}

SYSTEM_TEST(lost, a_function_call_is_unknown)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("%s", SETTINGS);
    struct wire *wire = wire_client(proxy);
    struct bytes body = {0};

    bytes_add32(&body, 2626); /* pg_sleep */
    bytes_add16(&body, 0);
    bytes_add16(&body, 1);
    bytes_add32(&body, 4);
    bytes_add(&body, "6471", 4);
    bytes_add16(&body, 0);
    wire_query(wire, "SET application_name = 'lost_function'");
    cr_assert_told(wire, 1, "C(SET) ZI");
    wire_send(wire, 'F', body.data, body.count);
    cr_assert(until(cluster_number(cluster_shared(),
                                   "SELECT count(*) FROM pg_stat_activity WHERE "
                                   "application_name = 'lost_function' AND state = 'fastpath "
                                   "function call'") == 1,
                    PATIENCE_MS));
    cluster_number(cluster_shared(), "SELECT pg_terminate_backend(pid)::int FROM pg_stat_activity "
                                     "WHERE application_name = 'lost_function'");
    cr_assert_told_last(wire, 1, "E08007 ZI");
    cr_settled(wire);
}

/* ---- pipelines ---- */

SYSTEM_TEST(lost, every_query_of_a_pipeline_gets_one_error_and_one_readiness)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = start_cluster();
    struct proxy *proxy = start_proxy(cluster, "");
    struct wire *wire = wire_client(proxy);

    wire_cork(wire, true);
    wire_query(wire, "SELECT pg_sleep(641)");
    wire_query(wire, "BEGIN");
    wire_query(wire, "INSERT INTO t VALUES (641)");
    wire_query(wire, "COMMIT");
    wire_query(wire, "INSERT INTO t VALUES (642)");
    wire_cork(wire, false);
    crash(cluster, "SELECT pg_sleep(641)");
    cr_assert_told_last(wire, 5, "E08007 ZI E57P01 ZE E57P01 ZE E08007 ZI E08007 ZI");
    cr_assert(until(answers(cluster), PATIENCE_MS));
    cr_settled(wire);
    wire_cork(wire, true);
    wire_query(wire, "BEGIN");
    wire_query(wire, "SELECT pg_sleep(642)");
    wire_query(wire, "INSERT INTO t VALUES (643)");
    wire_cork(wire, false);
    terminate(cluster, "SELECT pg_sleep(642)");
    cr_assert_told_last(wire, 3, "E57P01 ZI E57P01 ZI");
    cr_settled(wire);
}

SYSTEM_TEST(lost, a_begin_that_went_unanswered_leaves_its_client_in_an_aborted_transaction)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_shared();
    struct proxy *proxy = proxy_start("%s", SETTINGS);
    struct wire *wire = wire_client(proxy);

    wire_cork(wire, true);
    wire_query(wire, "BEGIN; SELECT pg_sleep(651)");
    wire_query(wire, "SELECT 1");
    wire_cork(wire, false);
    terminate(cluster, "BEGIN; SELECT pg_sleep(651)");
    cr_assert_told_last(wire, 2, "E57P01 ZE E57P01 ZE");
    wire_query(wire, "SELECT 1");
    cr_assert_told(wire, 1, "E25P02 ZE");
    wire_query(wire, "COMMIT");
    cr_assert_told(wire, 1, "C(ROLLBACK) ZI");
    wire_cork(wire, true);
    statement(wire, "BEGIN");
    statement(wire, "SELECT pg_sleep(652)");
    wire_sync(wire);
    statement(wire, "SELECT 1");
    wire_sync(wire);
    wire_cork(wire, false);
    terminate(cluster, "SELECT pg_sleep(652)");
    cr_assert_told_last(wire, 2, "E57P01 ZE E57P01 ZE");
    wire_query(wire, "ROLLBACK");
    cr_assert_told(wire, 1, "C(ROLLBACK) ZI");
    cr_settled(wire);
}

SYSTEM_TEST(lost, a_batch_without_its_sync_hears_at_once_and_drops_the_rest)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_shared();
    struct proxy *proxy = proxy_start("%s", SETTINGS);
    struct wire *wire = wire_client(proxy);

    statement(wire, "SELECT pg_sleep(661)");
    wire_flush(wire);
    terminate(cluster, "SELECT pg_sleep(661)");
    cr_assert_str_eq(wire_types(wire, 'E', PATIENCE_MS), "12E");
    statement(wire, "SELECT 1");
    wire_query(wire, "SELECT 2");
    wire_sync(wire);
    cr_assert_told(wire, 1, "ZI");
    cr_settled(wire);
}

SYSTEM_TEST(lost, an_answered_batch_without_its_sync_is_not_taken_for_committed)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_shared();
    struct proxy *proxy = proxy_start("%s", SETTINGS);
    struct wire *wire = wire_client(proxy);

    statement(wire, "SELECT 5 AS lost_open");
    wire_flush(wire);
    cr_assert_str_eq(wire_types(wire, 'C', PATIENCE_MS), "12DC");
    end_idle(cluster, proxy, "SELECT 5 AS lost_open");
    wire_sync(wire);
    cr_assert_told(wire, 1, "E57P01 ZI");
    cr_settled(wire);
}

static const char *pipeline_results(PGconn *client)
{
    struct bytes words = {0};
    int syncs = 0;

    while (syncs < 3 && PQstatus(client) == CONNECTION_OK) {
        PGresult *result = client_result(client, PATIENCE_MS);
        const char *word;

        if (!result)
            continue;
        word = PQresultStatus(result) == PGRES_PIPELINE_SYNC      ? "sync "
               : PQresultStatus(result) == PGRES_PIPELINE_ABORTED ? "aborted "
               : PQresultStatus(result) == PGRES_FATAL_ERROR
                   ? text_of("%s ", PQresultErrorField(result, PG_DIAG_SQLSTATE))
                   : "done ";
        syncs += PQresultStatus(result) == PGRES_PIPELINE_SYNC;
        bytes_add(&words, word, strlen(word));
        PQclear(result);
    }
    bytes_add(&words, "", 1);
    return (char *)words.data;
}

SYSTEM_TEST(lost, a_pipeline_of_libpq_gets_a_result_for_each_query_and_goes_on)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_shared();
    struct proxy *proxy = proxy_start("%s", SETTINGS);
    PGconn *client = client_open(proxy, NULL);

    cr_assert(PQenterPipelineMode(client));
    cr_assert(PQsendQueryParams(client, "SELECT 1", 0, NULL, NULL, NULL, NULL, 0));
    cr_assert(PQsendQueryParams(client, "SELECT pg_sleep(671)", 0, NULL, NULL, NULL, NULL, 0));
    cr_assert(PQsendQueryParams(client, "SELECT 2", 0, NULL, NULL, NULL, NULL, 0));
    cr_assert(PQpipelineSync(client));
    cr_assert(PQsendQueryParams(client, "SELECT 3", 0, NULL, NULL, NULL, NULL, 0));
    cr_assert(PQpipelineSync(client));
    cr_assert(PQsendQueryParams(client, "SELECT 4", 0, NULL, NULL, NULL, NULL, 0));
    cr_assert(PQpipelineSync(client));
    terminate(cluster, "SELECT pg_sleep(671)");
    cr_assert_str_eq(pipeline_results(client), "done 08007 aborted sync 57P01 sync 57P01 sync ");
    cr_assert(PQexitPipelineMode(client), "%s", PQerrorMessage(client));
    cr_assert_eq(client_number(client, "SELECT 42"), 42);
}

/* ---- COPY ---- */

SYSTEM_TEST(lost, a_copy_in_is_certain_until_its_end_was_sent)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = start_cluster();
    struct proxy *proxy = start_proxy(cluster, "");
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "COPY t FROM STDIN");
    cr_assert_str_eq(wire_types(wire, 'G', PATIENCE_MS), "G");
    wire_copy_data(wire, "1\n");
    terminate(cluster, "COPY t FROM STDIN");
    cr_assert_told(wire, 1, "E57P01 ZI");
    wire_copy_data(wire, "2\n");
    wire_send(wire, 'c', NULL, 0);
    cr_settled(wire);

    statement(wire, "COPY t FROM STDIN --2");
    wire_flush(wire);
    cr_assert_str_eq(wire_types(wire, 'G', PATIENCE_MS), "12G");
    wire_copy_data(wire, "3\n");
    terminate(cluster, "COPY t FROM STDIN --2");
    cr_assert_str_eq(wire_types(wire, 'E', PATIENCE_MS), "E");
    wire_copy_data(wire, "4\n");
    wire_send(wire, 'c', NULL, 0);
    wire_sync(wire);
    cr_assert_told(wire, 1, "ZI");
    cr_settled(wire);

    wire_query(wire, "COPY slow FROM STDIN");
    cr_assert_str_eq(wire_types(wire, 'G', PATIENCE_MS), "G");
    wire_copy_data(wire, "1\n");
    wire_send(wire, 'c', NULL, 0);
    terminate_at_commit(cluster, "COPY slow FROM STDIN");
    cr_assert_told(wire, 1, "E08007 ZI");
    cr_settled(wire);
}

SYSTEM_TEST(lost, libpq_hears_the_loss_of_its_copy_at_the_end)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = start_cluster();
    struct proxy *proxy = start_proxy(cluster, "");
    PGconn *client = client_open(proxy, NULL);
    PGresult *result;

    for (int extended = 0; extended < 2; extended++) {
        const char *sql = extended ? "COPY t FROM STDIN --b" : "COPY t FROM STDIN --a";

        result = extended ? PQexecParams(client, sql, 0, NULL, NULL, NULL, NULL, 0)
                          : PQexec(client, sql);
        cr_assert_eq(PQresultStatus(result), PGRES_COPY_IN);
        PQclear(result);
        cr_assert_eq(PQputCopyData(client, "1\n", 2), 1);
        cr_assert_eq(PQflush(client), 0);
        terminate(cluster, sql);
        cr_assert_eq(PQputCopyData(client, "2\n", 2), 1);
        cr_assert_eq(PQputCopyEnd(client, NULL), 1);
        cr_assert_str_eq(client_finish(client, PATIENCE_MS), "57P01");
        cr_assert_eq(PQtransactionStatus(client), PQTRANS_IDLE);
        cr_assert_eq(client_number(client, "SELECT 42"), 42);
    }
}

SYSTEM_TEST(lost, a_copy_out_ends_with_an_error)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_shared();
    struct proxy *proxy = proxy_start("%s", SETTINGS);
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "COPY (SELECT 1 UNION ALL SELECT 2 WHERE pg_sleep(681) IS NULL) TO STDOUT");
    terminate(cluster, "COPY (SELECT 1 UNION");
    cr_assert_has(told(wire, 1), "E08007 ZI");
    cr_settled(wire);
}

/* ---- in the middle of a message ---- */

SYSTEM_TEST(lost, a_message_that_was_received_in_part_ends_the_connection)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = start_cluster();
    struct proxy *proxy = start_proxy(cluster, "");
    struct wire *wire = wire_client(proxy);
    unsigned char head[5 + 1000];

    wire_query(wire, "SELECT repeat('x', 100000000) AS lost_long");
    /* its beginning has come: the rest waits in three places, and that in the server never will */
    cr_assert_eq(wire_take(wire, head, sizeof head, PATIENCE_MS), sizeof head);
    crash(cluster, "SELECT repeat(''x'', 100000000) AS lost_long");
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
    cr_assert(until(answers(cluster), PATIENCE_MS));
    cr_settled(wire_client(proxy));
}

SYSTEM_TEST(lost, a_query_that_was_sent_in_part_did_not_run_and_hears_it_when_it_is_whole)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = start_cluster();
    struct proxy *proxy = start_proxy(cluster, "");
    struct wire *wire = wire_client(proxy);
    size_t length = 200000;
    char *sql = text_of("INSERT INTO t VALUES (77) -- %0*d", (int)length - 29, 0);
    struct bytes message = {0};
    unsigned char nothing;

    cr_settled(wire);
    bytes_add(&message, "Q", 1);
    bytes_add32(&message, (uint32_t)strlen(sql) + 5);
    bytes_add_text(&message, sql);
    for (int in_transaction = 0; in_transaction < 2; in_transaction++) {
        if (in_transaction) {
            wire_query(wire, "BEGIN");
            cr_assert_told(wire, 1, "C(BEGIN) ZT");
        }
        wire_write(wire, message.data, message.count / 2);
        cr_assert(
            until(proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 1, PATIENCE_MS));
        cluster_number(cluster, "SELECT count(pg_terminate_backend(pid, 50000)) FROM "
                                "pg_stat_activity WHERE usename = 'app'");
        cr_assert(
            until(proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 0, PATIENCE_MS));
        cr_assert_eq(wire_take(wire, &nothing, 1, 200), 0);
        wire_write(wire, message.data + message.count / 2, message.count - message.count / 2);
        cr_assert_told(wire, 1, "E57P01 ZI");
        cr_settled(wire);
    }
    PGconn *past = cluster_connect(cluster, "app");
    cr_assert_eq(client_number(past, "SELECT count(*) FROM t"), 0);
    PQfinish(past);
}

/* Answers one query and reads no further; ends the connection when the test says so. */
static void serve_deaf(struct wire *wire, struct fake *fake)
{
    const _Atomic bool *leave = fake->context;
    struct wire_message message;

    if (!fake_startup(wire, 'N'))
        return;
    fake_welcome(wire);
    if (atomic_load(leave)) {
        fake_answer(wire, "another");
        return;
    }
    if (wire_read(wire, &message, PATIENCE_MS))
        free(message.body);
    while (!atomic_load(leave))
        pause_ms(5);
}

SYSTEM_TEST(lost, what_never_reached_the_socket_is_told_from_what_may_have_run)
{
    SKIP_ON_PGBOUNCER();
    static _Atomic bool leave;
    struct fake *fake = fake_start(serve_deaf, &leave);
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n"
                                      "[databases]\napp = %s\n",
                                      fake_route(fake));
    struct wire *wire = wire_client(proxy);
    char *sql = text_of("SELECT '%08000d'", 0);
    int sent = 0, ready = 0, unknown = 0, certain = 0, done = 0;
    struct wire_message message;

    wire_query(wire, "SELECT 1");
    sent++;
    /* until its client is paused, since the server's socket takes no more; never far ahead of what
     * has been passed on, since a client that is paused takes nothing either */
    while (sent < 2000 && proxy_figure(proxy, "SOCKETS", "type", "S", "send_avail") <= 0) {
        for (int i = 0; i < 4; i++, sent++)
            wire_query(wire, sql);
    }
    cr_assert_lt(sent, 2000);
    atomic_store(&leave, true);
    while (ready < sent && wire_read(wire, &message, PATIENCE_MS)) {
        if (message.type == 'E' && strcmp(wire_field(&message, 'C'), "08007") == 0) {
            cr_assert_eq(certain + done, 0, "unknown after certain");
            unknown++;
        }
        if (message.type == 'E' && strcmp(wire_field(&message, 'C'), "57P01") == 0) {
            cr_assert_eq(done, 0);
            certain++;
        }
        done += message.type == 'D';
        ready += message.type == 'Z';
        free(message.body);
    }
    cr_assert_eq(ready, sent);
    cr_assert_eq(unknown + certain + done, sent);
    cr_assert_gt(unknown, 1);
    cr_assert_gt(certain, 0, "%d unknown, %d done", unknown, done);
}

/* ---- who does not stay ---- */

SYSTEM_TEST(lost, a_session_ends_with_its_server)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = start_cluster();
    struct proxy *proxy = proxy_start("pool_mode = session\ndefault_pool_size = 5\n"
                                      "[databases]\napp = %s\n",
                                      cluster_route(cluster));
    struct wire *idle = wire_client(proxy), *busy = wire_client(proxy), *fresh = wire_client(proxy);

    wire_query(idle, "SELECT 6 AS lost_session");
    cr_assert_told(idle, 1, "T D C(SELECT 1) ZI");
    wire_query(busy, "SELECT pg_sleep(691)");
    (void)backend_of_query(cluster, "SELECT pg_sleep(691)");
    cluster_end(cluster, CLUSTER_KILL);
    cr_is_fatal(idle, "FATAL 57P01");
    cr_is_fatal(busy, "FATAL 57P01");
    cluster_again(cluster);
    cr_settled(fresh); /* it had no server yet */
}

SYSTEM_TEST(lost, disconnect_is_what_pgbouncer_does)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = start_cluster();
    struct proxy *proxy = start_proxy(cluster, "server_lost_action = disconnect\n");
    struct wire *idle = idle_in_transaction(proxy, "BEGIN"), *busy = wire_client(proxy);
    struct wire *told_so = wire_client(proxy), *waiting = wire_client(proxy);

    wire_query(told_so, "SELECT pg_sleep(701)");
    terminate(cluster, "SELECT pg_sleep(701)");
    cr_is_fatal(told_so, "FATAL 57P01");
    wire_query(busy, "SELECT pg_sleep(702)");
    (void)backend_of_query(cluster, "SELECT pg_sleep(702)");
    cluster_end(cluster, CLUSTER_KILL);
    cr_is_fatal(idle, "FATAL 08006 server conn crashed?");
    cr_is_fatal(busy, "FATAL 08006 server conn crashed?");
    cluster_again(cluster);
    cr_settled(waiting);
}
