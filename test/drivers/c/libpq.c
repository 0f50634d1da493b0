/*
 * libpq: the C library that half of the drivers stand on, with everything it has: asynchronous
 * queries, pipeline mode, COPY, cancel, large objects.
 *
 * Prints its verdicts as TAP (see ../drivers.c). A case ends at its first failed check, by
 * longjmp; what it opened then stays open until the end.
 */
#include <libpq-fe.h>
#include <libpq/libpq-fs.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CLIENTS = 20, TRANSACTIONS = 100, COPIED = 5000, PIPELINED = 200 };

static jmp_buf failed;
static char why[1024];
static bool session;
static int others; /* who take all servers but one, so that a client has to go to another server */

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    longjmp(failed, 1);
}

#define check(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail("line %d: %s", __LINE__, #condition);                                             \
    } while (0)

static PGconn *connect_with(const char *more)
{
    char info[512];
    PGconn *conn;

    snprintf(info, sizeof info, "sslmode=disable gssencmode=disable connect_timeout=30 %s", more);
    conn = PQconnectdb(info);
    if (PQstatus(conn) != CONNECTION_OK)
        fail("connect: %s", PQerrorMessage(conn));
    return conn;
}

/* A statement that succeeds. */
static void run(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);

    PQclear(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail("%s: %s", sql, PQerrorMessage(conn));
}

/* The first value of a result, which is cleared; good until the next call. */
static const char *first(PGconn *conn, PGresult *result)
{
    static char text[1024];

    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) < 1)
        fail("no row: %s", PQerrorMessage(conn));
    snprintf(text, sizeof text, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return text;
}

static const char *value(PGconn *conn, const char *sql)
{
    return first(conn, PQexec(conn, sql));
}

static void expect(PGconn *conn, const char *sql, const char *expected)
{
    const char *seen = value(conn, sql);

    if (strcmp(seen, expected) != 0)
        fail("%s: \"%s\" instead of \"%s\"", sql, seen, expected);
}

/* The SQLSTATE of a result, which is cleared. */
static void expect_state(PGresult *result, const char *state)
{
    const char *seen = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    bool same = seen && strcmp(seen, state) == 0;

    if (!same)
        fail("SQLSTATE %s instead of %s", seen ? seen : "none", state);
    PQclear(result);
}

static PGresult *prepared(PGconn *conn, const char *name, int number)
{
    char text[16];
    const char *values[] = {text};

    snprintf(text, sizeof text, "%d", number);
    return PQexecPrepared(conn, name, 1, values, NULL, NULL, 0);
}

static void prepare(PGconn *conn, const char *name, const char *sql)
{
    PGresult *result = PQprepare(conn, name, sql, 0, NULL);

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fail("prepare: %s", PQerrorMessage(conn));
    PQclear(result);
}

static void restart_server(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(getenv("PGSTAGE_TEST_CONTROL")))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char answer[8] = "";

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    check(write(fd, "restart\n", 8) == 8 && read(fd, answer, 5) == 5 && !strcmp(answer, "done\n"));
    close(fd);
}

/* ---- the cases ---- */

static void connects(void)
{
    PGconn *conn = connect_with("");

    check(PQserverVersion(conn) >= 90000 && PQbackendPID(conn) != 0);
    PQfinish(conn);
}

static void simple_query(void)
{
    PGconn *conn = connect_with("");

    expect(conn, "SELECT 1; SELECT 2", "2");
    check(PQsendQuery(conn, "SELECT 3; SELECT 4"));
    expect_state(PQexec(conn, "SELECT nonsense"), "42703"); /* PQexec throws the rest away */
    check(PQsendQuery(conn, "SELECT generate_series(1, 1000)") && PQsetSingleRowMode(conn));
    for (int n = 1; n <= 1000; n++) {
        PGresult *result = PQgetResult(conn);

        check(PQresultStatus(result) == PGRES_SINGLE_TUPLE && atoi(PQgetvalue(result, 0, 0)) == n);
        PQclear(result);
    }
    PQclear(PQgetResult(conn));
    check(PQgetResult(conn) == NULL);
    PQfinish(conn);
}

static void parametrised_query(void)
{
    enum { LONG = 300000 };
    PGconn *conn = connect_with("");
    char *text = malloc(LONG + 1);
    const char *values[] = {"7", "täxt", "\0\1", NULL, text};
    const int lengths[] = {0, 0, 2, 0, 0}, formats[] = {0, 0, 1, 0, 0};
    PGresult *result;

    memset(text, 'x', LONG);
    text[LONG] = 0;
    result = PQexecParams(conn, "SELECT $1::int, $2::text, $3::bytea, $4::int, $5::text", 5, NULL,
                          values, lengths, formats, 1);
    check(PQresultStatus(result) == PGRES_TUPLES_OK);
    check(!memcmp(PQgetvalue(result, 0, 0), "\0\0\0\7", 4));
    check(!strcmp(PQgetvalue(result, 0, 1), "täxt"));
    check(PQgetlength(result, 0, 2) == 2 && !memcmp(PQgetvalue(result, 0, 2), "\0\1", 2));
    check(PQgetisnull(result, 0, 3) && !strcmp(PQgetvalue(result, 0, 4), text));
    PQclear(result);
    free(text);
    PQfinish(conn);
}

static void prepared_over_transactions(void)
{
    PGconn *conn = connect_with(""), *other[4];
    char servers[20][16];
    int different = 0;

    prepare(conn, "plus", "SELECT $1::int + 1");
    for (int i = 0; i < others; i++)
        other[i] = connect_with("");
    for (int n = 0; n < 20; n++) {
        bool seen = false;

        /* the others take all servers, then one gives up its own: only that is free */
        for (int i = 0; i < others; i++)
            run(other[i], "BEGIN");
        if (others > 0)
            run(other[n % others], "COMMIT");
        run(conn, "BEGIN");
        check(atoi(first(conn, prepared(conn, "plus", n))) == n + 1);
        snprintf(servers[n], sizeof servers[n], "%s", value(conn, "SELECT pg_backend_pid()"));
        run(conn, "COMMIT");
        for (int i = 0; i < others; i++)
            if (i != n % others)
                run(other[i], "COMMIT");
        for (int i = 0; i < n; i++)
            seen = seen || strcmp(servers[i], servers[n]) == 0;
        different += !seen;
    }
    check(different == (session ? 1 : others));
    for (int i = 0; i < others; i++)
        PQfinish(other[i]);
    PQfinish(conn);
}

static void prepared_over_restart(void)
{
    PGconn *conn = connect_with("");

    prepare(conn, "twice", "SELECT $1::int * 2");
    check(atoi(first(conn, prepared(conn, "twice", 4))) == 8);
    restart_server();
    if (session) {
        PQclear(prepared(conn, "twice", 4));
        check(PQstatus(conn) == CONNECTION_BAD);
        PQreset(conn);
        prepare(conn, "twice", "SELECT $1::int * 2");
    }
    for (int n = 0; n < 10; n++)
        check(atoi(first(conn, prepared(conn, "twice", n))) == n * 2);
    PQfinish(conn);
}

static void commit_and_rollback(void)
{
    PGconn *conn = connect_with("");

    run(conn, "BEGIN");
    run(conn, "INSERT INTO item VALUES (1, 'kept')");
    check(PQtransactionStatus(conn) == PQTRANS_INTRANS);
    run(conn, "COMMIT");
    run(conn, "BEGIN");
    run(conn, "INSERT INTO item VALUES (2, 'lost')");
    run(conn, "ROLLBACK AND CHAIN");
    run(conn, "SAVEPOINT s");
    run(conn, "INSERT INTO item VALUES (3, 'lost')");
    run(conn, "ROLLBACK TO s");
    run(conn, "COMMIT");
    expect(conn, "SELECT string_agg(id::text, ',') FROM item", "1");
    PQfinish(conn);
}

static void error_and_recovery(void)
{
    PGconn *conn = connect_with("");

    prepare(conn, "divide", "SELECT 1 / $1::int");
    for (int n = 0; n < 3; n++)
        expect_state(prepared(conn, "divide", 0), "22012");
    expect_state(PQprepare(conn, "divide", "SELECT 2", 0, NULL), "42P05");
    expect_state(prepared(conn, "nobody", 0), "26000");
    run(conn, "BEGIN");
    expect_state(PQexec(conn, "SELECT nonsense"), "42703");
    check(PQtransactionStatus(conn) == PQTRANS_INERROR);
    expect_state(PQexec(conn, "SELECT 1"), "25P02");
    run(conn, "ROLLBACK");
    check(atoi(first(conn, prepared(conn, "divide", 1))) == 1);
    PQfinish(conn);
}

static void copy_start(PGconn *conn, const char *sql, ExecStatusType status)
{
    PGresult *result = PQexec(conn, sql);

    if (PQresultStatus(result) != status)
        fail("%s: %s", sql, PQerrorMessage(conn));
    PQclear(result);
}

static void copy_in_and_out(void)
{
    PGconn *conn = connect_with("");
    char line[64], *seen;
    PGresult *result;

    copy_start(conn, "COPY copied FROM STDIN", PGRES_COPY_IN);
    for (int n = 0; n < COPIED; n++) {
        int length = snprintf(line, sizeof line, "%d\tname %d\n", n, n);

        check(PQputCopyData(conn, line, length) == 1);
    }
    check(PQputCopyEnd(conn, NULL) == 1);
    result = PQgetResult(conn);
    check(!strcmp(PQcmdTuples(result), "5000"));
    PQclear(result);
    check(PQgetResult(conn) == NULL);

    copy_start(conn, "COPY (SELECT * FROM copied ORDER BY id) TO STDOUT", PGRES_COPY_OUT);
    for (int n = 0; n < COPIED; n++) {
        snprintf(line, sizeof line, "%d\tname %d\n", n, n);
        check(PQgetCopyData(conn, &seen, 0) > 0 && !strcmp(seen, line));
        PQfreemem(seen);
    }
    check(PQgetCopyData(conn, &seen, 0) == -1);
    while ((result = PQgetResult(conn)))
        PQclear(result);

    copy_start(conn, "COPY copied FROM STDIN", PGRES_COPY_IN);
    check(PQputCopyData(conn, "no number\tx\n", 12) == 1 && PQputCopyEnd(conn, NULL) == 1);
    expect_state(PQgetResult(conn), "22P02");
    check(PQgetResult(conn) == NULL);
    copy_start(conn, "COPY copied FROM STDIN", PGRES_COPY_IN);
    check(PQputCopyData(conn, "1\tx\n", 4) == 1 && PQputCopyEnd(conn, "given up") == 1);
    expect_state(PQgetResult(conn), "57014");
    check(PQgetResult(conn) == NULL);
    expect(conn, "SELECT count(*) FROM copied", "5000");
    PQfinish(conn);
}

static void cancels(void)
{
    PGconn *conn = connect_with(""), *other = connect_with("");
    PGcancel *cancel = PQgetCancel(conn);
    char text[256];

    check(PQsendQuery(conn, "SELECT pg_sleep(50)"));
    while (!strcmp(value(other, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
                                "AND query = 'SELECT pg_sleep(50)'"),
                   "0"))
        usleep(5000);
    check(PQcancel(cancel, text, sizeof text));
    expect_state(PQgetResult(conn), "57014");
    check(PQgetResult(conn) == NULL);
    /* one that comes too late hits nobody */
    check(PQcancel(cancel, text, sizeof text));
    for (int n = 0; n < 20; n++) {
        expect(conn, "SELECT 1", "1");
        expect(other, "SELECT 2", "2");
    }
    PQfreeCancel(cancel);
    PQfinish(conn);
    PQfinish(other);
}

static void set_local(void)
{
    PGconn *conn = connect_with("");

    run(conn, "BEGIN");
    run(conn, "SET LOCAL work_mem = '7MB'");
    expect(conn, "SHOW work_mem", "7MB");
    run(conn, "COMMIT");
    expect(conn, "SHOW work_mem", "4MB");
    PQfinish(conn);
}

static void set_reported(void)
{
    PGconn *one = connect_with(""), *two = connect_with("");

    run(one, "SET TimeZone = 'Asia/Tokyo'");
    run(two, "SET TimeZone = 'America/Lima'");
    check(PQsetClientEncoding(two, "LATIN1") == 0);
    for (int n = 0; n < 10; n++) {
        expect(one, "SHOW TimeZone", "Asia/Tokyo");
        expect(two, "SHOW TimeZone", "America/Lima");
        expect(two, "SELECT chr(228)", "\xe4");
        expect(one, "SELECT chr(228)", "ä");
    }
    check(!strcmp(PQparameterStatus(one, "TimeZone"), "Asia/Tokyo"));
    PQfinish(one);
    PQfinish(two);
}

static void set_other(void)
{
    PGconn *one = connect_with(""), *two = connect_with("");

    run(one, "SET search_path = tenant_a");
    run(one, "SET app.tenant = 'a'");
    run(two, "SELECT set_config('search_path', 'tenant_b', false)");
    for (int n = 0; n < 10; n++) {
        expect(one, "SELECT current_schema() || current_setting('app.tenant')", "tenant_aa");
        expect(two, "SELECT current_schema() || coalesce(current_setting('app.tenant', true), '')",
               "tenant_b");
    }
    PQfinish(one);
    PQfinish(two);
}

static void startup_options(void)
{
    PGconn *one = connect_with("options='-c statement_timeout=77s --search_path=tenant_b'");
    PGconn *two = connect_with("");

    for (int n = 0; n < 10; n++) {
        expect(one, "SHOW statement_timeout", "77s");
        expect(one, "SELECT current_schema()", "tenant_b");
        expect(two, "SHOW statement_timeout", "0");
    }
    run(one, "SET statement_timeout = '5s'");
    run(one, "RESET statement_timeout");
    /* in session mode RESET is the server's own, which was there before its client */
    if (!session)
        expect(one, "SHOW statement_timeout", "77s");
    PQfinish(one);
    PQfinish(two);
}

static void session_state(void)
{
    PGconn *one = connect_with(""), *two = connect_with("");

    run(one, "CREATE TEMP TABLE mine AS SELECT 1 AS n");
    expect(one, "SELECT pg_try_advisory_lock(42)", "t");
    run(one, "DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)");
    for (int n = 0; n < 10; n++) {
        expect(one, "SELECT n FROM mine", "1");
        expect(two, "SELECT pg_try_advisory_lock(42)", "f");
    }
    expect(one, "FETCH 3 FROM held", "1");
    expect(one, "SELECT pg_advisory_unlock(42)", "t");
    expect(two, "SELECT pg_try_advisory_lock(42)", "t");
    PQfinish(one);
    PQfinish(two);
}

static void listen_and_notify(void)
{
    static const char *const payloads[] = {"first", "second"};
    PGconn *one = connect_with(""), *two = connect_with("");

    run(one, "LISTEN news");
    run(two, "NOTIFY news, 'first'");
    run(two, "SELECT pg_notify('news', 'second')");
    for (int n = 0; n < 2; n++) {
        PGnotify *notify;
        struct pollfd wait = {.fd = PQsocket(one), .events = POLLIN};

        while (!(notify = PQnotifies(one))) {
            check(poll(&wait, 1, 30000) == 1 && PQconsumeInput(one));
        }
        check(!strcmp(notify->relname, "news") && !strcmp(notify->extra, payloads[n]));
        PQfreemem(notify);
    }
    PQfinish(one);
    PQfinish(two);
}

static void pipeline_send(PGconn *conn, int number)
{
    char text[16];
    const char *values[] = {text};

    snprintf(text, sizeof text, "%d", number);
    check(PQsendQueryParams(conn, "SELECT 100 / $1::int", 1, NULL, values, NULL, NULL, 0));
}

/* The next result, which has this status, and the NULL behind it. */
static void pipeline_take(PGconn *conn, ExecStatusType status)
{
    PGresult *result = PQgetResult(conn);
    ExecStatusType seen = PQresultStatus(result);

    PQclear(result);
    if (seen != status)
        fail("%s instead of %s", PQresStatus(seen), PQresStatus(status));
    if (status != PGRES_PIPELINE_SYNC)
        check(PQgetResult(conn) == NULL);
}

static void pipelines(void)
{
    PGconn *conn = connect_with("");

    check(PQenterPipelineMode(conn) == 1);
    for (int n = 1; n <= PIPELINED; n++)
        pipeline_send(conn, n);
    check(PQsendPrepare(conn, "kept", "SELECT 1", 0, NULL) && PQpipelineSync(conn));
    for (int n = 1; n <= PIPELINED; n++)
        pipeline_take(conn, PGRES_TUPLES_OK);
    pipeline_take(conn, PGRES_COMMAND_OK);
    pipeline_take(conn, PGRES_PIPELINE_SYNC);

    /* an error aborts up to the next sync, and not what is behind it */
    pipeline_send(conn, 1);
    pipeline_send(conn, 0);
    check(PQsendPrepare(conn, "gone", "SELECT 1", 0, NULL) && PQpipelineSync(conn));
    check(PQsendQueryPrepared(conn, "kept", 0, NULL, NULL, NULL, 0) && PQpipelineSync(conn));
    check(PQsendQueryPrepared(conn, "gone", 0, NULL, NULL, NULL, 0) && PQpipelineSync(conn));
    pipeline_take(conn, PGRES_TUPLES_OK);
    pipeline_take(conn, PGRES_FATAL_ERROR);
    pipeline_take(conn, PGRES_PIPELINE_ABORTED);
    pipeline_take(conn, PGRES_PIPELINE_SYNC);
    pipeline_take(conn, PGRES_TUPLES_OK);
    pipeline_take(conn, PGRES_PIPELINE_SYNC);
    pipeline_take(conn, PGRES_FATAL_ERROR);
    pipeline_take(conn, PGRES_PIPELINE_SYNC);

    /* a flush request alone brings the answer */
    pipeline_send(conn, 5);
    check(PQsendFlushRequest(conn) == 1 && PQflush(conn) == 0);
    pipeline_take(conn, PGRES_TUPLES_OK);
    check(PQpipelineSync(conn) == 1);
    pipeline_take(conn, PGRES_PIPELINE_SYNC);
    check(PQexitPipelineMode(conn) == 1);
    expect(conn, "SELECT 4", "4");
    PQfinish(conn);
}

static void large_object(void)
{
    enum { SIZE = 300000 };
    PGconn *conn = connect_with("");
    char *data = malloc(SIZE), *seen = malloc(SIZE);
    Oid id;
    int object;

    for (int n = 0; n < SIZE; n++)
        data[n] = (char)(n * 7);
    run(conn, "BEGIN");
    id = lo_creat(conn, INV_READ | INV_WRITE); /* FunctionCall messages */
    object = lo_open(conn, id, INV_READ | INV_WRITE);
    check(lo_write(conn, object, data, SIZE) == SIZE);
    check(lo_lseek64(conn, object, 0, SEEK_SET) == 0 && lo_read(conn, object, seen, SIZE) == SIZE);
    check(!memcmp(seen, data, SIZE) && lo_truncate(conn, object, 10) == 0);
    check(lo_close(conn, object) == 0);
    run(conn, "COMMIT");
    check(lo_unlink(conn, id) == 1);
    check(lo_unlink(conn, id) == -1);
    expect(conn, "SELECT 1", "1");
    free(data);
    free(seen);
    PQfinish(conn);
}

static void work(int number)
{
    char text[256], expected[128], digits[2][16];
    const char *values[] = {digits[0], digits[1]};
    PGconn *conn;

    snprintf(text, sizeof text, "application_name='client %d'", number);
    conn = connect_with(text);
    snprintf(text, sizeof text, "SET app.client = '%d'", number);
    run(conn, text);
    prepare(conn, "look",
            "SELECT concat_ws(' ', $1::int, $2::int, current_setting('application_name'), "
            "current_setting('app.client'), count(*), max(n)) FROM seen WHERE client = $1");
    for (int n = 0; n < TRANSACTIONS; n++) {
        const char *seen;

        run(conn, "BEGIN");
        snprintf(text, sizeof text, "INSERT INTO seen VALUES (%d, %d)", number, n);
        run(conn, text);
        snprintf(digits[0], sizeof digits[0], "%d", number);
        snprintf(digits[1], sizeof digits[1], "%d", n);
        seen = first(conn, PQexecPrepared(conn, "look", 2, values, NULL, NULL, 0));
        snprintf(expected, sizeof expected, "%d %d client %d %d %d %d", number, n, number, number,
                 n + 1, n);
        if (strcmp(seen, expected) != 0)
            fail("\"%s\" instead of \"%s\"", seen, expected);
        run(conn, "COMMIT");
    }
    PQfinish(conn);
}

__attribute__((noreturn)) static void client(int number)
{
    if (setjmp(failed)) {
        puts(why);
        fflush(stdout);
        _exit(1);
    }
    work(number);
    _exit(0);
}

static void clients(void)
{
    int status, lost = 0;

    for (int number = 0; number < CLIENTS; number++) {
        if (fork() == 0)
            client(number);
    }
    while (wait(&status) > 0)
        lost += status != 0;
    check(lost == 0);
}

static const struct {
    const char *name;
    void (*work)(void);
} cases[] = {
    {"connect", connects},
    {"simple query", simple_query},
    {"parametrised query", parametrised_query},
    {"prepared statement over transactions", prepared_over_transactions},
    {"prepared statement over a server restart", prepared_over_restart},
    {"commit and rollback", commit_and_rollback},
    {"error and recovery", error_and_recovery},
    {"copy in and out", copy_in_and_out},
    {"cancel", cancels},
    {"set local", set_local},
    {"set of a reported parameter", set_reported},
    {"set of another parameter", set_other},
    {"startup options", startup_options},
    {"session state that pins", session_state},
    {"listen and notify", listen_and_notify},
    {"pipeline", pipelines},
    {"large object", large_object},
    {"20 clients keep to themselves", clients},
};

int main(void)
{
    volatile size_t number, problems = 0;

    session = strcmp(getenv("PGSTAGE_TEST_MODE"), "session") == 0;
    others = session ? 0 : 4;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (number = 0; number < sizeof cases / sizeof cases[0]; number++) {
        alarm(60);
        if (setjmp(failed)) {
            problems++;
            printf("not ok %zu - %s\n%s\n", number + 1, cases[number].name, why);
            continue;
        }
        cases[number].work();
        printf("ok %zu - %s\n", number + 1, cases[number].name);
    }
    return problems != 0;
}
