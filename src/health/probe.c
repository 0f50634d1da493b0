/*
 * probe: drives one libpq connection on a loop.
 *
 *   RESOLVING ─► CONNECTING ─► OPENING ─► IDLE ◄─► ASKED
 *        │            │           │         └───────┴────► BROKEN ─► probe_close
 *        └────────────┴───────────┴──────────────────────────▲
 *
 * CONNECTING is TCP, OPENING everything up to ReadyForQuery; both are PQconnectPoll. libpq may
 * close its socket and take another one in any call, so the watch ends before each call and begins
 * anew for whatever socket there is after it. An outcome is told by the loop's deferred work, never from inside a call. In IDLE the socket is watched only for whoever has asked
 * for it with probe_on_end; else that a server has ended is noticed with the next query.
 */
#include "pgstage/health/probe.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "pgstage/base/list.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/worker/timer.h"
#include "probe_inside.h"

enum state {
    STATE_RESOLVING,
    STATE_CONNECTING,
    STATE_OPENING,
    STATE_IDLE,
    STATE_ASKED,
    STATE_BROKEN,
    STATE_CLOSED,
};

struct probe {
    /* fixed */
    struct loop *loop;
    struct resolver *resolver;
    void *context;
    char *name, *user, *dbname, *password, *peer_user;
    char *ca_file, *cert_file, *key_file, *crl_file, *protocols;
    struct probe_target target; /* its texts are those above */
    /* owner */
    enum state state;
    PGconn *conn;
    struct loop_watch watch; /* of libpq's socket */
    struct timer timer;
    struct loop_task task; /* tells the result */
    struct resolver_query query;
    struct probe_result result;
    PGresult *rows;
    uint64_t begin_us;
    enum probe_step step;
    bool has_result;
    probe_done *done;
    void (*ended)(struct probe *probe, void *context); /* NULL: nobody watches the idle probe */
};

/* ---- what is told ---- */

static void unwatch(struct probe *probe)
{
    loop_unwatch(probe->loop, &probe->watch);
}

/* Begins to watch the socket that libpq has now; false when that is impossible. */
static bool watch_for(struct probe *probe, uint32_t events,
                      void (*ready)(struct loop_watch *watched, uint32_t events))
{
    int fd = PQsocket(probe->conn);
    probe->watch = (struct loop_watch){.ready = ready, .fd = fd};
    return fd >= 0 && loop_watch(probe->loop, &probe->watch, events);
}

/* The result is complete but for its duration: it is told at the end of the turn. */
static void finish(struct probe *probe, enum state state)
{
    if (probe->has_result)
        return;
    unwatch(probe);
    timer_clear(&probe->timer);
    probe->state = state;
    probe->has_result = true;
    probe->result.duration_us = loop_now_us(probe->loop) - probe->begin_us;
    loop_defer(probe->loop, &probe->task);
}

static void fail(struct probe *probe, enum probe_error error, enum probe_step step,
                 const char *text)
{
    if (probe->has_result)
        return;
    probe->result.error = error;
    probe->result.step = step;
    (void)text_fit(probe->result.text, sizeof probe->result.text, text);
    finish(probe, STATE_BROKEN);
}

static void watch_idle(struct probe *probe);

static void tell(struct loop_task *task)
{
    struct probe *probe = list_entry(task, struct probe, task);
    struct probe_result result = probe->result;
    PGresult *rows = probe->rows;

    probe->rows = NULL;
    probe->has_result = false;
    result.rows = rows;
    watch_idle(probe);
    probe->done(probe, probe->context, &result);
    PQclear(rows);
}

/* ---- an idle probe ---- */

static void on_idle_ready(struct loop_watch *watched, uint32_t events)
{
    struct probe *probe = list_entry(watched, struct probe, watch);
    (void)events;
    unwatch(probe);
    /* a notice, or a parameter that has changed, says nothing */
    if (PQconsumeInput(probe->conn) && PQstatus(probe->conn) == CONNECTION_OK) {
        watch_idle(probe);
        return;
    }
    probe->state = STATE_BROKEN;
    probe->ended(probe, probe->context);
}

static void watch_idle(struct probe *probe)
{
    if (probe->ended && probe->state == STATE_IDLE && !probe->watch.events)
        (void)!watch_for(probe, EPOLLIN, on_idle_ready);
}

void probe_on_end(struct probe *probe, void (*ended)(struct probe *probe, void *context))
{
    probe->ended = ended;
    if (!probe->has_result)
        watch_idle(probe);
}

static void on_deadline(struct loop *loop, struct timer *timer)
{
    static const char *const waiting[] = {
        [PROBE_STEP_RESOLVE] = "no answer from the name service in time",
        [PROBE_STEP_CONNECT] = "no connection in time",
        [PROBE_STEP_TLS] = "the TLS handshake was not over in time",
        [PROBE_STEP_LOGIN] = "the login was not over in time",
        [PROBE_STEP_QUERY] = "no answer to the query in time",
    };
    struct probe *probe = list_entry(timer, struct probe, timer);
    (void)loop;
    fail(probe, PROBE_TIMEOUT, probe->step, waiting[probe->step]);
}

/* ---- connecting ---- */

static void on_ready(struct loop_watch *watched, uint32_t events);

static void watch(struct probe *probe, uint32_t events)
{
    if (!watch_for(probe, events, on_ready))
        fail(probe, PROBE_LOST, probe->step, "the socket cannot be watched");
}

/* Where libpq stands, before it is polled: what fails then failed there. */
static enum probe_step step_of(PGconn *conn, bool tls)
{
    switch (PQstatus(conn)) {
    case CONNECTION_NEEDED:
    case CONNECTION_STARTED:
        return PROBE_STEP_CONNECT;
    case CONNECTION_MADE: /* before the SSLRequest, and again behind the handshake */
        return tls && !PQsslInUse(conn) ? PROBE_STEP_TLS : PROBE_STEP_LOGIN;
    case CONNECTION_SSL_STARTUP:
        return PROBE_STEP_TLS;
    default:
        return PROBE_STEP_LOGIN;
    }
}

static void fail_by_libpq(struct probe *probe)
{
    probe_classify(probe->step, PQerrorMessage(probe->conn), PQconnectionNeedsPassword(probe->conn),
                   &probe->result);
    finish(probe, STATE_BROKEN);
}

static void poll_connection(struct probe *probe)
{
    bool tls = probe->target.tls.mode > TLS_ALLOW && probe->target.name[0] != '/';
    probe->step = step_of(probe->conn, tls);
    unwatch(probe);
    switch (PQconnectPoll(probe->conn)) {
    case PGRES_POLLING_READING:
        watch(probe, EPOLLIN);
        break;
    case PGRES_POLLING_WRITING:
        watch(probe, EPOLLOUT);
        break;
    case PGRES_POLLING_OK:
        if (PQsetnonblocking(probe->conn, 1) != 0) {
            fail_by_libpq(probe);
            return;
        }
        probe->result.step = PROBE_STEP_LOGIN;
        finish(probe, STATE_IDLE);
        return;
    default:
        fail_by_libpq(probe);
        return;
    }
    probe->step = step_of(probe->conn, tls);
    if (!probe->has_result)
        probe->state = probe->step == PROBE_STEP_CONNECT ? STATE_CONNECTING : STATE_OPENING;
}

/* A server's chatter is not for our stderr. */
static void on_notice(void *argument, const char *message)
{
    (void)argument;
    log_debug("probe: %s", message);
}

static void start(struct probe *probe, const struct address *address)
{
    struct probe_parameters parameters;
    char problem[PROBE_TEXT_BYTES];

    probe->state = STATE_CONNECTING;
    probe->step = PROBE_STEP_CONNECT;
    if (!probe_parameters_fill(&parameters, &probe->target, address, problem, sizeof problem)) {
        fail(probe, PROBE_TLS, PROBE_STEP_TLS, problem);
        return;
    }
    probe->conn = PQconnectStartParams(parameters.keywords, parameters.values, 0);
    if (!probe->conn) {
        fail(probe, PROBE_PROTOCOL, PROBE_STEP_CONNECT, "out of memory");
        return;
    }
    PQsetErrorVerbosity(probe->conn, PQERRORS_VERBOSE);
    PQsetNoticeProcessor(probe->conn, on_notice, NULL);
    if (PQstatus(probe->conn) == CONNECTION_BAD)
        fail_by_libpq(probe);
    else
        watch(probe, EPOLLOUT);
}

static void start_resolved(struct probe *probe, const struct resolver_answer *answer)
{
    if (answer->count > 0)
        start(probe, &answer->addresses[0]);
    else
        fail(probe, PROBE_DNS, PROBE_STEP_RESOLVE,
             answer->problem[0] ? answer->problem : "the name has no address");
}

static void on_resolved(struct loop *loop, struct resolver_query *query,
                        const struct resolver_answer *answer)
{
    (void)loop;
    start_resolved(list_entry(query, struct probe, query), answer);
}

static void find_address(struct probe *probe, const char *numeric)
{
    const struct probe_target *target = &probe->target;
    struct resolver_answer answer;
    struct address address;

    if (target->name[0] == '/' || target->name[0] == '@') {
        if (address_local(&address, target->name, target->port))
            start(probe, &address);
        else
            fail(probe, PROBE_DNS, PROBE_STEP_RESOLVE, "the path of the socket is too long");
    } else if (numeric && address_parse(&address, numeric, target->port)) {
        start(probe, &address);
    } else if (resolver_ask(probe->resolver, probe->loop, &probe->query,
                            numeric ? numeric : target->name, target->port, &answer)) {
        start_resolved(probe, &answer);
    }
}

static void copy_target(struct probe *probe, const struct probe_target *target)
{
    struct probe_target *own = &probe->target;
    *own = *target;
    own->address = NULL;
    own->name = probe->name = text_copy(target->name);
    own->user = probe->user = text_copy(target->user);
    own->dbname = probe->dbname = text_copy(target->dbname);
    own->password = probe->password = text_copy(target->password);
    own->peer_user = probe->peer_user = text_copy(target->peer_user);
    own->tls = (struct tls_settings){.mode = target->tls.mode,
                                     .channel_binding = target->tls.channel_binding};
    own->tls.ca_file = probe->ca_file = text_copy(target->tls.ca_file);
    own->tls.cert_file = probe->cert_file = text_copy(target->tls.cert_file);
    own->tls.key_file = probe->key_file = text_copy(target->tls.key_file);
    own->tls.crl_file = probe->crl_file = text_copy(target->tls.crl_file);
    own->tls.protocols = probe->protocols = text_copy(target->tls.protocols);
}

struct probe *probe_open(struct loop *loop, struct resolver *resolver,
                         const struct probe_target *target, uint64_t deadline_us,
                         probe_done *opened, void *context)
{
    struct probe *probe = memory_new(sizeof *probe);
    probe->loop = loop;
    probe->resolver = resolver;
    probe->context = context;
    probe->done = opened;
    probe->task.run = tell;
    probe->timer.fire = on_deadline;
    probe->query.answered = on_resolved;
    probe->begin_us = loop_now_us(loop);
    copy_target(probe, target);
    timer_set(loop, &probe->timer, deadline_us);
    find_address(probe, target->address);
    return probe;
}

/* ---- asking ---- */

/* A query's results one by one; what is kept is the last one, or the first error. */
static void take_results(struct probe *probe)
{
    while (!PQisBusy(probe->conn)) {
        PGresult *rows = PQgetResult(probe->conn);
        if (!rows) {
            enum probe_error error = probe->result.error;
            bool usable = error == PROBE_FINE || error == PROBE_SERVER;
            probe->result.step = PROBE_STEP_QUERY;
            finish(probe,
                   usable && PQstatus(probe->conn) == CONNECTION_OK ? STATE_IDLE : STATE_BROKEN);
            return;
        }
        ExecStatusType status = PQresultStatus(rows);
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK &&
            probe->result.error == PROBE_FINE)
            probe_classify(PROBE_STEP_QUERY, PQresultErrorMessage(rows), false, &probe->result);
        PQclear(probe->rows);
        probe->rows = rows;
        if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
            fail(probe, PROBE_PROTOCOL, PROBE_STEP_QUERY, "the query began a COPY");
            return;
        }
    }
    watch(probe, EPOLLIN);
}

static void go_on(struct probe *probe)
{
    unwatch(probe);
    if (!PQconsumeInput(probe->conn)) {
        fail_by_libpq(probe);
        return;
    }
    int left = PQflush(probe->conn);
    if (left < 0)
        fail_by_libpq(probe);
    else if (left > 0)
        watch(probe, EPOLLIN | EPOLLOUT);
    else
        take_results(probe);
}

static void on_ready(struct loop_watch *watched, uint32_t events)
{
    struct probe *probe = list_entry(watched, struct probe, watch);
    (void)events;
    if (probe->state == STATE_ASKED)
        go_on(probe);
    else
        poll_connection(probe);
}

/* `value` NULL: without parameter. */
static void send_query(struct probe *probe, const char *sql, const char *value,
                       uint64_t deadline_us, probe_done *answered)
{
    const char *const values[] = {value};
    probe->done = answered;
    probe->result = (struct probe_result){0};
    probe->begin_us = loop_now_us(probe->loop);
    probe->step = PROBE_STEP_QUERY;
    if (probe->state != STATE_IDLE) {
        fail(probe, PROBE_LOST, PROBE_STEP_QUERY, "the connection is not open");
        return;
    }
    unwatch(probe);
    probe->state = STATE_ASKED;
    timer_set(probe->loop, &probe->timer, deadline_us);
    int sent = value ? PQsendQueryParams(probe->conn, sql, 1, NULL, values, NULL, NULL, 0)
                     : PQsendQuery(probe->conn, sql);
    if (!sent) {
        fail_by_libpq(probe);
        return;
    }
    int left = PQflush(probe->conn);
    if (left < 0)
        fail_by_libpq(probe);
    else
        watch(probe, left > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void probe_query(struct probe *probe, const char *sql, uint64_t deadline_us, probe_done *answered)
{
    send_query(probe, sql, NULL, deadline_us, answered);
}

void probe_query_with(struct probe *probe, const char *sql, const char *value, uint64_t deadline_us,
                      probe_done *answered)
{
    send_query(probe, sql, value, deadline_us, answered);
}

bool probe_is_idle(const struct probe *probe)
{
    return probe->state == STATE_IDLE && !probe->has_result;
}

void probe_describe_tls(const struct probe *probe, char *text, size_t size)
{
    const SSL *ssl = probe->conn ? PQsslStruct(probe->conn, "OpenSSL") : NULL;
    if (ssl)
        tls_describe(ssl, text, size);
    else
        text[0] = '\0';
}

/* ---- the end ---- */

static void release(void *object)
{
    struct probe *probe = object;
    if (probe->password)
        text_wipe(probe->password, strlen(probe->password));
    free(probe->name);
    free(probe->user);
    free(probe->dbname);
    free(probe->password);
    free(probe->peer_user);
    free(probe->ca_file);
    free(probe->cert_file);
    free(probe->key_file);
    free(probe->crl_file);
    free(probe->protocols);
    free(probe);
}

void probe_close(struct probe *probe)
{
    if (!probe || probe->state == STATE_CLOSED)
        return;
    probe->state = STATE_CLOSED;
    unwatch(probe);
    timer_detach(probe->loop, &probe->timer);
    loop_undefer(probe->loop, &probe->task);
    if (probe->query.ticket)
        resolver_cancel(probe->resolver, probe->loop, &probe->query);
    PQclear(probe->rows);
    probe->rows = NULL;
    PQfinish(probe->conn);
    probe->conn = NULL;
    loop_release(probe->loop, probe, release);
}
