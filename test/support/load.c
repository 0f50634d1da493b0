/*
 * load: threads that query. Counters are atomic; a thread touches no other of the test's data.
 */
#include "load.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "program.h"
#include "until.h"

struct load {
    /* fixed */
    const char *conninfo;
    const char *sql;
    bool reconnect;
    int clients;
    pthread_t threads[128];
    /* shared: atomic, the text under the mutex */
    atomic_bool stopping;
    atomic_long done, errors, lost;
    pthread_mutex_t mutex;
    char first_error[512];
};

static void note(struct load *load, const char *text)
{
    pthread_mutex_lock(&load->mutex);
    if (!load->first_error[0])
        snprintf(load->first_error, sizeof load->first_error, "%s", text && *text ? text : "?");
    pthread_mutex_unlock(&load->mutex);
}

static bool succeeded(struct load *load, PGconn *conn, PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    bool ok = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;

    if (!ok) {
        atomic_fetch_add(&load->errors, 1);
        note(load, PQerrorMessage(conn));
    }
    PQclear(result);
    return ok;
}

/* BEGIN, the backend's pid twice, COMMIT: both must be the same. */
static void transaction(struct load *load, PGconn *conn)
{
    char first[32] = "";
    PGresult *result;

    if (!succeeded(load, conn, PQexec(conn, "BEGIN")))
        return;
    result = PQexec(conn, "SELECT pg_backend_pid()");
    if (PQntuples(result) == 1)
        snprintf(first, sizeof first, "%s", PQgetvalue(result, 0, 0));
    if (!succeeded(load, conn, result))
        return;
    result = PQexec(conn, "SELECT pg_backend_pid()");
    if (PQntuples(result) == 1 && strcmp(first, PQgetvalue(result, 0, 0))) {
        atomic_fetch_add(&load->errors, 1);
        note(load, "two backends within one transaction");
    }
    if (!succeeded(load, conn, result))
        return;
    if (succeeded(load, conn, PQexec(conn, "COMMIT")))
        atomic_fetch_add(&load->done, 1);
}

static void *client_main(void *argument)
{
    struct load *load = argument;
    PGconn *conn = NULL;

    while (!atomic_load(&load->stopping)) {
        if (!conn)
            conn = PQconnectdb(load->conninfo);
        if (PQstatus(conn) != CONNECTION_OK) {
            atomic_fetch_add(&load->lost, 1);
            note(load, PQerrorMessage(conn));
            PQfinish(conn);
            conn = NULL;
            if (!load->reconnect)
                return NULL;
            pause_ms(20);
            continue;
        }
        if (!load->sql)
            transaction(load, conn);
        else if (succeeded(load, conn, PQexec(conn, load->sql)))
            atomic_fetch_add(&load->done, 1);
    }
    PQfinish(conn);
    return NULL;
}

struct load *load_start(const struct proxy *proxy, const struct load_options *options)
{
    struct load *load = calloc(1, sizeof *load);
    int i;

    if (!load || options->clients > 128)
        abort();
    load->conninfo = client_conninfo(proxy, options->conninfo);
    load->sql = options->sql;
    load->reconnect = options->reconnect;
    load->clients = options->clients;
    pthread_mutex_init(&load->mutex, NULL);
    for (i = 0; i < load->clients; i++)
        if (pthread_create(&load->threads[i], NULL, client_main, load))
            support_fail("pthread_create");
    return load;
}

long load_done(const struct load *load)
{
    return atomic_load(&load->done);
}

long load_errors(const struct load *load)
{
    return atomic_load(&load->errors);
}

long load_lost(const struct load *load)
{
    return atomic_load(&load->lost);
}

void load_stop(struct load *load)
{
    int i;

    atomic_store(&load->stopping, true);
    for (i = 0; i < load->clients; i++)
        pthread_join(load->threads[i], NULL);
}

const char *load_first_error(const struct load *load)
{
    return load->first_error;
}
