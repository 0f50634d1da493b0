/*
 * client: libpq through the proxy. Nothing here waits for ever: connecting has a deadline, and a
 * query that hangs is ended by the test's own.
 */
#include "client.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"
#include "proxy.h"
#include "until.h"

const char *client_conninfo(const struct proxy *proxy, const char *extra)
{
    return text_of("host=127.0.0.1 port=%d dbname=app user=app sslmode=disable "
                   "gssencmode=disable connect_timeout=50 %s",
                   proxy->port, extra ? extra : "");
}

static void ignore_notice(void *argument, const char *text)
{
    (void)argument;
    (void)text;
}

/* By PQconnectStart, so that the verbosity can be set before an error comes. */
PGconn *client_try(const struct proxy *proxy, const char *extra)
{
    PGconn *conn = PQconnectStart(client_conninfo(proxy, extra));
    int64_t deadline = now_ms() + PATIENCE_MS;
    PostgresPollingStatusType step = PGRES_POLLING_WRITING;

    if (!conn)
        abort();
    PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
    PQsetNoticeProcessor(conn, ignore_notice, NULL);
    while (PQstatus(conn) != CONNECTION_BAD && step != PGRES_POLLING_OK &&
           step != PGRES_POLLING_FAILED) {
        struct pollfd wait = {.fd = PQsocket(conn),
                              .events = step == PGRES_POLLING_READING ? POLLIN : POLLOUT};

        if (poll(&wait, 1, (int)(deadline - now_ms())) <= 0)
            support_fail("no answer to a login");
        step = PQconnectPoll(conn);
    }
    return conn;
}

PGconn *client_open(const struct proxy *proxy, const char *extra)
{
    PGconn *conn = client_try(proxy, extra);

    if (PQstatus(conn) != CONNECTION_OK)
        support_fail("cannot connect (%s): %s", extra ? extra : "", PQerrorMessage(conn));
    return conn;
}

char *client_refusal(const struct proxy *proxy, const char *extra)
{
    PGconn *conn = client_try(proxy, extra);
    char *text = text_of("%s", PQerrorMessage(conn));

    if (PQstatus(conn) == CONNECTION_OK)
        support_fail("the login was accepted: %s", extra ? extra : "");
    PQfinish(conn);
    return text;
}

static bool is_success(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY ||
           status == PGRES_SINGLE_TUPLE;
}

void client_do(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);

    if (!is_success(result))
        support_fail("%.200s: %s", sql, PQerrorMessage(conn));
    PQclear(result);
}

char *client_value(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    char *value;

    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) < 1)
        support_fail("%.200s: %s", sql, PQerrorMessage(conn));
    value = text_of("%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return value;
}

long client_number(PGconn *conn, const char *sql)
{
    char *value = client_value(conn, sql);
    long number = atol(value);

    free(value);
    return number;
}

int client_backend(PGconn *conn)
{
    return (int)client_number(conn, "SELECT pg_backend_pid()");
}

static char *sqlstate_of(const PGresult *result)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    return text_of("%s", state ? state : "-----");
}

char *client_sqlstate(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    char *state = sqlstate_of(result);

    if (is_success(result))
        support_fail("this should have failed: %.200s", sql);
    PQclear(result);
    return state;
}

char *client_error(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    char *text = text_of("%s", PQerrorMessage(conn));

    if (is_success(result))
        support_fail("this should have failed: %.200s", sql);
    PQclear(result);
    return text;
}

void client_start(PGconn *conn, const char *sql)
{
    if (!PQsendQuery(conn, sql))
        support_fail("cannot send: %s", PQerrorMessage(conn));
    while (PQflush(conn) > 0)
        pause_ms(1);
}

bool client_is_ready(PGconn *conn)
{
    if (!PQconsumeInput(conn))
        return true;
    return !PQisBusy(conn);
}

PGresult *client_result(PGconn *conn, int ms)
{
    int64_t deadline = now_ms() + ms;

    while (!client_is_ready(conn)) {
        struct pollfd wait = {.fd = PQsocket(conn), .events = POLLIN};
        int64_t left = deadline - now_ms();

        if (left <= 0 || poll(&wait, 1, (int)left) == 0)
            support_fail("no answer within %d ms", ms);
    }
    return PQgetResult(conn);
}

char *client_finish(PGconn *conn, int ms)
{
    char *state = NULL;
    PGresult *result;

    while ((result = client_result(conn, ms))) {
        if (!state && !is_success(result))
            state = sqlstate_of(result);
        PQclear(result);
    }
    return state ? state : text_of("%s", "");
}

bool client_is_closed(PGconn *conn, int ms)
{
    return until((PQconsumeInput(conn), PQisBusy(conn), PQstatus(conn) == CONNECTION_BAD), ms);
}
