/*
 * listeners: what was published, what each heard, and when it was told of a gap.
 *
 *   publisher ─ pg_notify(channel, n) ─► acknowledged, unknown, failed
 *   listener  ─ LISTEN ─► period {from: the next number … last heard} ─ told ─► the next period
 */
#include "listeners.h"

#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "program.h"
#include "until.h"

#define NUMBERS_MAX 20000
#define PERIODS_MAX 64
#define PAUSE_MS 15

enum fate { FATE_FAILED, FATE_UNKNOWN, FATE_ACKNOWLEDGED };

/* What it hears from `from` on, up to `last`, is complete. */
struct period {
    long from, last;
};

struct listener {
    /* fixed */
    struct listeners *listeners;
    /* owner: the listening thread, later the judge */
    PGconn *conn;
    bool is_told; /* that its connection ends, since it listened */
    bool has_gap; /* that something may have been missed; it goes on */
    struct period periods[PERIODS_MAX];
    int period_count;
    unsigned char *heard; /* [NUMBERS_MAX] */
    long heard_count;
    atomic_long newest; /* heard last; 0 while it does not listen */
};

struct listeners {
    /* fixed */
    const char *conninfo, *channel, *listen_sql;
    int count;
    pthread_t publisher, listening;
    struct listener each[LISTENERS_MAX];
    /* owner: the publisher, later the judge */
    unsigned char fates[NUMBERS_MAX]; /* enum fate */
    /* shared: atomic */
    atomic_bool ends, publisher_ended, unanswered;
    atomic_int listen_count; /* how many have listened at least once */
    atomic_long begun, acknowledged, told, untold;
    /* owner: the listening thread, later the judge */
    char problem[256];
};

static void complain(struct listeners *listeners, const char *what, long number)
{
    if (!listeners->problem[0])
        snprintf(listeners->problem, sizeof listeners->problem, "%s: %ld", what, number);
}

/* ---- the publisher ---- */

/* NULL: no more, the connection has ended, or nothing comes for PATIENCE_MS. */
static PGresult *take(struct listeners *listeners, PGconn *conn)
{
    int64_t deadline = now_ms() + PATIENCE_MS;

    while (PQstatus(conn) == CONNECTION_OK && PQisBusy(conn)) {
        struct pollfd wait = {.fd = PQsocket(conn), .events = POLLIN};

        if (now_ms() > deadline) {
            atomic_store(&listeners->unanswered, true);
            return NULL;
        }
        if (poll(&wait, 1, 500) > 0 && !PQconsumeInput(conn))
            break;
    }
    return PQgetResult(conn);
}

/* Reads a whole answer: its fate, by the first result. */
static enum fate fate_of(struct listeners *listeners, PGconn *conn)
{
    enum fate fate = FATE_UNKNOWN;
    PGresult *result;
    bool first = true;

    while ((result = take(listeners, conn))) {
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

        if (first && PQresultStatus(result) == PGRES_TUPLES_OK)
            fate = FATE_ACKNOWLEDGED;
        else if (first && state && strcmp(state, "08007") != 0)
            fate = FATE_FAILED;
        first = false;
        PQclear(result);
    }
    return PQstatus(conn) == CONNECTION_OK ? fate : FATE_UNKNOWN;
}

static void publish(struct listeners *listeners, PGconn *conn, long number)
{
    char sql[80];

    snprintf(sql, sizeof sql, "SELECT pg_notify('%s', '%ld')", listeners->channel, number);
    atomic_store(&listeners->begun, number);
    listeners->fates[number] =
        (unsigned char)(PQsendQuery(conn, sql) ? fate_of(listeners, conn) : FATE_UNKNOWN);
    if (listeners->fates[number] == FATE_ACKNOWLEDGED)
        atomic_store(&listeners->acknowledged, number);
}

/* Has each heard what was published last? */
static bool all_hear(struct listeners *listeners, long number)
{
    for (int i = 0; i < listeners->count; i++)
        if (atomic_load(&listeners->each[i].newest) < number)
            return false;
    return true;
}

static void hush(void *argument, const char *text)
{
    (void)argument;
    (void)text;
}

static void *publisher_main(void *argument)
{
    struct listeners *listeners = argument;
    int64_t deadline = 0;
    PGconn *conn = NULL;

    for (long number = 1; number < NUMBERS_MAX;) {
        if (atomic_load(&listeners->ends) && !deadline)
            deadline = now_ms() + PATIENCE_MS;
        if (deadline && now_ms() > deadline)
            break;
        if (!conn || PQstatus(conn) != CONNECTION_OK) {
            PQfinish(conn);
            pause_ms(PAUSE_MS);
            conn = PQconnectdb(listeners->conninfo);
            PQsetNoticeProcessor(conn, hush, NULL);
            continue;
        }
        publish(listeners, conn, number);
        if (!deadline)
            pause_ms(PAUSE_MS);
        else if (listeners->fates[number] == FATE_ACKNOWLEDGED &&
                 until(all_hear(listeners, number), 3000))
            break;
        number++;
    }
    PQfinish(conn);
    atomic_store(&listeners->publisher_ended, true);
    return NULL;
}

/* ---- the listening thread ---- */

static void hear_notice(void *argument, const PGresult *notice)
{
    struct listener *listener = argument;
    const char *state = PQresultErrorField(notice, PG_DIAG_SQLSTATE);

    listener->is_told = listener->is_told || (state && !strcmp(state, "57P01"));
    listener->has_gap = listener->has_gap || (state && !strcmp(state, "01000"));
}

static void begin_period(struct listener *listener)
{
    if (listener->period_count == PERIODS_MAX) {
        complain(listener->listeners, "too many gaps", PERIODS_MAX);
        return;
    }
    listener->periods[listener->period_count++] =
        (struct period){.from = atomic_load(&listener->listeners->begun) + 1};
}

/* Connects and listens; tried again and again by the loop. */
static void begin_to_listen(struct listener *listener)
{
    bool was_there = listener->period_count > 0;
    PGresult *result;

    /* the end may be told in one piece with the answer to LISTEN */
    listener->is_told = listener->has_gap = false;
    listener->conn = PQconnectdb(listener->listeners->conninfo);
    PQsetNoticeReceiver(listener->conn, hear_notice, listener);
    result = PQexec(listener->conn, listener->listeners->listen_sql);
    if (PQresultStatus(result) == PGRES_COMMAND_OK && PQstatus(listener->conn) == CONNECTION_OK) {
        begin_period(listener);
        if (!was_there)
            atomic_fetch_add(&listener->listeners->listen_count, 1);
    } else {
        PQfinish(listener->conn);
        listener->conn = NULL;
    }
    PQclear(result);
}

static void hear(struct listener *listener, long number)
{
    struct listeners *listeners = listener->listeners;
    struct period *period = &listener->periods[listener->period_count - 1];

    if (number <= 0 || number >= NUMBERS_MAX) {
        complain(listeners, "heard what nobody said", number);
        return;
    }
    if (listener->heard[number])
        complain(listeners, "heard twice", number);
    if (number < period->last)
        complain(listeners, "heard out of order", number);
    listener->heard[number] = 1;
    listener->heard_count++;
    period->last = number;
    atomic_store(&listener->newest, number);
}

static void listen(struct listener *listener)
{
    struct listeners *listeners = listener->listeners;
    bool alive = PQconsumeInput(listener->conn) && PQstatus(listener->conn) == CONNECTION_OK;
    PGnotify *notify;

    while ((notify = PQnotifies(listener->conn))) {
        hear(listener, atol(notify->extra));
        PQfreemem(notify);
    }
    alive = alive && PQstatus(listener->conn) == CONNECTION_OK;
    if (!alive) {
        atomic_fetch_add(listener->is_told ? &listeners->told : &listeners->untold, 1);
        atomic_store(&listener->newest, 0);
        PQfinish(listener->conn);
        listener->conn = NULL;
    } else if (listener->has_gap) {
        atomic_fetch_add(&listeners->told, 1);
        listener->has_gap = false;
        begin_period(listener);
    }
}

static void *listening_main(void *argument)
{
    struct listeners *listeners = argument;

    while (!atomic_load(&listeners->publisher_ended)) {
        struct pollfd waits[LISTENERS_MAX];

        for (int i = 0; i < listeners->count; i++) {
            struct listener *listener = &listeners->each[i];

            if (!listener->conn)
                begin_to_listen(listener);
            waits[i] = (struct pollfd){.fd = listener->conn ? PQsocket(listener->conn) : -1,
                                       .events = POLLIN};
        }
        (void)poll(waits, (nfds_t)listeners->count, 50);
        for (int i = 0; i < listeners->count; i++)
            if (listeners->each[i].conn)
                listen(&listeners->each[i]);
    }
    for (int i = 0; i < listeners->count; i++)
        PQfinish(listeners->each[i].conn);
    return NULL;
}

/* ---- for tests ---- */

struct listeners *listeners_start(const struct proxy *proxy, int count, const char *channel,
                                  const char *extra)
{
    struct listeners *listeners = calloc(1, sizeof *listeners);

    if (!listeners || count > LISTENERS_MAX)
        abort();
    listeners->conninfo = client_conninfo(proxy, extra);
    listeners->channel = channel;
    listeners->listen_sql = text_of("LISTEN %s", channel);
    listeners->count = count;
    for (int i = 0; i < count; i++) {
        listeners->each[i].listeners = listeners;
        listeners->each[i].heard = calloc(NUMBERS_MAX, 1);
        if (!listeners->each[i].heard)
            abort();
    }
    if (pthread_create(&listeners->listening, NULL, listening_main, listeners) ||
        pthread_create(&listeners->publisher, NULL, publisher_main, listeners))
        support_fail("pthread_create");
    if (!until(atomic_load(&listeners->listen_count) == count, PATIENCE_MS))
        support_fail("%d of %d clients listen", atomic_load(&listeners->listen_count), count);
    return listeners;
}

void listeners_stop(struct listeners *listeners)
{
    atomic_store(&listeners->ends, true);
    pthread_join(listeners->publisher, NULL);
    pthread_join(listeners->listening, NULL);
}

static void judge_one(struct listeners *listeners, const struct listener *listener,
                      struct listeners_verdict *verdict)
{
    for (int i = 0; i < listener->period_count; i++) {
        const struct period *period = &listener->periods[i];
        bool is_last = i == listener->period_count - 1;
        long end = is_last ? atomic_load(&listeners->acknowledged) : period->last;

        for (long n = period->from; n <= end; n++)
            verdict->missed += listeners->fates[n] == FATE_ACKNOWLEDGED && !listener->heard[n];
    }
    for (long n = 1; n <= atomic_load(&listeners->begun); n++)
        if (listener->heard[n] && listeners->fates[n] == FATE_FAILED)
            complain(listeners, "heard although it was told to have failed", n);
    verdict->heard += listener->heard_count;
}

struct listeners_verdict listeners_judge(struct listeners *listeners)
{
    struct listeners_verdict verdict = {.told = atomic_load(&listeners->told),
                                        .untold = atomic_load(&listeners->untold)};

    for (long n = 1; n <= atomic_load(&listeners->begun); n++)
        verdict.published += listeners->fates[n] == FATE_ACKNOWLEDGED;
    for (int i = 0; i < listeners->count; i++)
        judge_one(listeners, &listeners->each[i], &verdict);
    if (atomic_load(&listeners->unanswered))
        complain(listeners, "no answer to the number", atomic_load(&listeners->begun));
    snprintf(verdict.problem, sizeof verdict.problem, "%s", listeners->problem);
    return verdict;
}
