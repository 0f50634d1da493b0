/*
 * client.c: an application's connection: its states, its waiting, its end.
 *
 * I/O callbacks only mark the client ready (client->task); what it sent is read in the second phase
 * of the loop's turn, by the row of its state: login.c, relay_client.c or console.c. A client is freed at
 * the end of the turn in which it ended, so code that called something which may end it asks
 * client_is_over afterwards and need not fear for the memory.
 *
 * Bytes that cannot be passed on yet (no server, half a message) are kept in `held`, a piece of
 * exactly their size and never more than one buffer; beyond that the client is paused.
 */
#include "pgstage/session/client.h"
#include "pgstage/session/exchange.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/random.h"
#include "pgstage/base/text.h"
#include "pgstage/session/cancel.h"
#include "pgstage/session/cancel_key.h"
#include "pgstage/session/console.h"
#include "pgstage/session/listening.h"
#include "pgstage/session/login.h"
#include "pgstage/session/prepared.h"
#include "pgstage/session/record.h"
#include "pgstage/session/relay.h"
#include "pgstage/session/replication.h"
#include "pgstage/session/server.h"
#include "pgstage/session/tracker.h"
#include "pgstage/session/wait.h"
#include "pgstage/wire/message.h"

/* How long a client that was told its end may take to read it. */
#define CLIENT_LINGER_US (5 * CLOCK_SECOND)

static void client_event(struct stream *stream, enum stream_event event);
static void client_timer(struct loop *loop, struct timer *timer);

/* ---- states ---- */

const char *client_state_name(enum client_state state)
{
    static const char *const names[] = {
        [CLIENT_STARTUP] = "login",
        [CLIENT_LOGIN] = "login",
        [CLIENT_WELCOME] = "waiting",
        [CLIENT_IDLE] = "idle",
        [CLIENT_WAITING] = "waiting",
        [CLIENT_ACTIVE] = "active",
        [CLIENT_CANCEL] = "active_cancel_req",
        [CLIENT_CONSOLE] = "active",
        [CLIENT_CLOSING] = "closing",
        [CLIENT_GONE] = "gone",
    };
    return names[state];
}

static const uint8_t tally_of[] = {
    [CLIENT_STARTUP] = TALLY_NONE,    [CLIENT_LOGIN] = TALLY_NONE,
    [CLIENT_WELCOME] = TALLY_WAITING, [CLIENT_IDLE] = TALLY_ACTIVE,
    [CLIENT_WAITING] = TALLY_WAITING, [CLIENT_ACTIVE] = TALLY_ACTIVE,
    [CLIENT_CANCEL] = TALLY_NONE,     [CLIENT_CONSOLE] = TALLY_NONE,
    [CLIENT_CLOSING] = TALLY_NONE,    [CLIENT_GONE] = TALLY_NONE,
};

/* Masks of the states that may follow. */
#define ENDS (1 << CLIENT_CLOSING | 1 << CLIENT_GONE)
static const uint16_t may_follow[] = {
    [CLIENT_STARTUP] = 1 << CLIENT_LOGIN | 1 << CLIENT_CANCEL | ENDS,
    [CLIENT_LOGIN] = 1 << CLIENT_WELCOME | 1 << CLIENT_CONSOLE | ENDS,
    [CLIENT_WELCOME] = 1 << CLIENT_IDLE | ENDS,
    [CLIENT_IDLE] = 1 << CLIENT_WAITING | 1 << CLIENT_ACTIVE | ENDS,
    [CLIENT_WAITING] = 1 << CLIENT_ACTIVE | 1 << CLIENT_IDLE | ENDS,
    [CLIENT_ACTIVE] = 1 << CLIENT_IDLE | 1 << CLIENT_WAITING | ENDS,
    [CLIENT_CANCEL] = ENDS,
    [CLIENT_CONSOLE] = ENDS,
    [CLIENT_CLOSING] = 1 << CLIENT_GONE,
    [CLIENT_GONE] = 0,
};

void client_set_state(struct client *client, enum client_state state)
{
    uint8_t tally = tally_of[state];

    check(may_follow[client->state] >> state & 1);
    if (log_wants(RANK_TRACE))
        client_log(client, RANK_TRACE, "client %s -> %s", client_state_name(client->state),
                   client_state_name(state));
    if (client->share && tally != client->tally) {
        client->share->tally[client->tally]--;
        client->share->tally[tally]++;
        client->tally = tally;
    }
    client->state = (uint8_t)state;
    if (client->at_gate && state != CLIENT_WAITING)
        gate_leave(client);
}

/* ---- beginning ---- */

void client_accept(struct worker *worker, struct door *door, int fd, const struct address *peer)
{
    struct client *client = memory_new(sizeof(*client));
    char text[ADDRESS_TEXT_BYTES];

    stream_adopt(&client->stream, fd, client_event);
    client->worker = worker;
    client->connected_us = clock_wall_us();
    client->active_us = loop_now_us(worker->loop);
    client->tally = TALLY_NONE;
    client->task.run = client_run;
    client->timer.fire = client_timer;
    client->address = address_copy(peer);
    if (!random_bytes(&client->secret, sizeof(client->secret)) ||
        !worker_add_client(worker, client)) {
        log_warning("%s: no room for a further client", address_text(peer, text));
        stream_close(&client->stream);
        free(client->address);
        free(client);
        atomic_fetch_sub_explicit(&worker->client_load, 1, memory_order_relaxed);
        return;
    }
    client->login = login_new(peer, door);
    if (!address_is_local(peer)) {
        struct tuning tuning = tuning_of(snapshot_globals(worker->setup->snapshot));

        tuning_buffers(fd, &tuning); /* the rest comes from the listening socket */
    }
    if (!stream_attach(&client->stream, worker->loop)) {
        client_close(client, REASON_CLIENT_BROKEN);
        return;
    }
    client_arm(client);
    if (door->brings_bytes)
        loop_defer(worker->loop, &client->task); /* epoll need not tell of them */
}

static void client_event(struct stream *stream, enum stream_event event)
{
    struct client *client = list_entry(stream, struct client, stream);

    switch (event) {
    case STREAM_READABLE:
        stream_read_soon(stream);
        loop_defer(client->worker->loop, &client->task);
        break;
    case STREAM_DRAINED:
        if (client->state == CLIENT_CLOSING) {
            if (client->login && login_farewell(client)->length > 0)
                break;                              /* they are still to come */
            client_close(client, REASON_SHUT_DOWN); /* it has read its last bytes */
            break;
        }
        client_update_flow(client);
        if (client->server)
            server_update_flow(client->server);
        if (client->held_bytes || client->state == CLIENT_CONSOLE)
            loop_defer(client->worker->loop, &client->task);
        break;
    case STREAM_SECURED:
        counter_add(&client->worker->security[SECURITY_client_tls_handshakes], 1);
        login_secured(client);
        break;
    case STREAM_CLOSED:
        if (!client->parting)
            client_close(client, REASON_CLIENT_EOF);
        break;
    case STREAM_FAILED:
        client_close(client, client->state == CLIENT_STARTUP ? REASON_CLIENT_TLS_FAILED
                                                             : REASON_CLIENT_BROKEN);
        break;
    case STREAM_CONNECTED:
        break;
    }
}

void client_run(struct loop_task *task)
{
    struct client *client = list_entry(task, struct client, task);

    switch ((enum client_state)client->state) {
    case CLIENT_STARTUP:
    case CLIENT_LOGIN:
        login_readable(client);
        break;
    case CLIENT_WELCOME:
    case CLIENT_IDLE:
    case CLIENT_WAITING:
    case CLIENT_ACTIVE:
        relay_client(client);
        break;
    case CLIENT_CONSOLE:
        console_readable(client);
        break;
    case CLIENT_CANCEL:
    case CLIENT_CLOSING: {
        uint8_t scrap[256];
        ssize_t count = stream_read(&client->stream, scrap, sizeof(scrap));

        if (count < 0)
            client_close(client, REASON_CLIENT_CANCEL_SENT);
        break;
    }
    case CLIENT_GONE:
        break;
    }
    stream_reread(&client->stream);
}

/* ---- sending ---- */

bool client_send(struct client *client, const void *bytes, size_t count)
{
    if (!stream_is_open(&client->stream))
        return false;
    if (stream_write(&client->stream, bytes, count) == STREAM_BROKEN) {
        client_close(client, REASON_CLIENT_BROKEN);
        return false;
    }
    return true;
}

bool client_send_buffer(struct client *client, struct buffer *bytes)
{
    bool sent = bytes->length == 0 || client_send(client, bytes->data, bytes->length);

    buffer_fini(bytes);
    return sent;
}

void client_hold(struct client *client, const uint8_t *bytes, size_t count)
{
    memory_keep(&client->held, &client->held_bytes, bytes, count);
}

/* ---- time ---- */

static uint64_t earlier(uint64_t due_us, uint64_t since_us, uint64_t limit_us)
{
    uint64_t other_us = since_us + limit_us;

    return limit_us && (!due_us || other_us < due_us) ? other_us : due_us;
}

void client_arm(struct client *client)
{
    const struct settings *settings = client->share ? share_settings(client->share) : NULL;
    const struct settings *globals;
    uint64_t due_us = 0;

    switch ((enum client_state)client->state) {
    case CLIENT_STARTUP:
    case CLIENT_LOGIN:
    case CLIENT_CANCEL:
        globals = snapshot_globals(client->worker->setup->snapshot);
        due_us = earlier(0, client->active_us,
                         client->state == CLIENT_CANCEL ? globals->cancel_wait_timeout_us
                                                        : globals->client_login_timeout_us);
        break;
    case CLIENT_WELCOME:
    case CLIENT_WAITING:
        if (record_is_waiting(client)) {
            globals = snapshot_globals(client->worker->setup->snapshot);
            due_us = earlier(0, client->active_us, globals->client_login_timeout_us);
            break;
        }
        due_us = wait_due(client);
        break;
    case CLIENT_IDLE:
        due_us = earlier(0, client->active_us, settings->client_idle_timeout_us);
        break;
    case CLIENT_ACTIVE:
        if (client->server && client->server->state != SERVER_ACTIVE)
            break; /* our own statements have a time of their own */
        due_us = earlier(0, client->exchange->transaction_us, settings->transaction_timeout_us);
        if (!client->server || !transaction_is_settled(&client->server->transaction))
            due_us = earlier(due_us, client->request_us, settings->query_timeout_us);
        else if (client->server->transaction.status != 'I')
            due_us = earlier(due_us, client->active_us, settings->idle_transaction_timeout_us);
        else if (client->server->kept && client->held_bytes) /* at the gate */
            due_us = earlier(0, client->active_us, settings->failover_wait_timeout_us);
        else
            due_us = earlier(0, client->active_us, settings->client_idle_timeout_us);
        break;
    case CLIENT_CLOSING:
        due_us = loop_now_us(client->worker->loop) + CLIENT_LINGER_US;
        break;
    case CLIENT_CONSOLE:
    case CLIENT_GONE:
        break;
    }
    if (due_us)
        timer_set(client->worker->loop, &client->timer, due_us);
    else
        timer_clear(&client->timer);
}

static void active_timed_out(struct client *client, uint64_t now_us)
{
    const struct settings *settings = share_settings(client->share);
    struct transaction *transaction = &client->server->transaction;
    bool settled = transaction_is_settled(transaction);

    if (settled && transaction->status == 'I') {
        client_fail(client,
                    client->server->kept && client->held_bytes ? REASON_FAILOVER_WAIT_TIMEOUT
                                                               : REASON_CLIENT_IDLE_TIMEOUT,
                    NULL);
    } else if (settings->transaction_timeout_us &&
               now_us >= client->exchange->transaction_us + settings->transaction_timeout_us) {
        if (!settled)
            cancel_server(client->server);
        client_fail(client, REASON_TRANSACTION_TIMEOUT, NULL);
    } else if (settled) {
        client_fail(client, REASON_IDLE_TRANSACTION_TIMEOUT, NULL);
    } else {
        cancel_server(client->server);
        client_fail(client, REASON_QUERY_TIMEOUT, NULL);
    }
}

static void client_timer(struct loop *loop, struct timer *timer)
{
    struct client *client = list_entry(timer, struct client, timer);

    switch ((enum client_state)client->state) {
    case CLIENT_STARTUP:
    case CLIENT_LOGIN:
        login_timed_out(client);
        break;
    case CLIENT_CANCEL:
        client_close(client, REASON_CANCEL_WAIT_TIMEOUT);
        break;
    case CLIENT_WELCOME:
    case CLIENT_WAITING:
        if (record_is_waiting(client))
            client_fail(client, REASON_LOGIN_AUDIT, "the disk does not answer");
        else
            wait_is_due(client, loop_now_us(loop));
        break;
    case CLIENT_IDLE:
        client_fail(client, REASON_CLIENT_IDLE_TIMEOUT, NULL);
        break;
    case CLIENT_ACTIVE:
        if (!client->replication) /* a stream of WAL has all time */
            active_timed_out(client, loop_now_us(loop));
        break;
    case CLIENT_CLOSING:
        client_close(client, REASON_CLIENT_BROKEN);
        break;
    case CLIENT_CONSOLE:
    case CLIENT_GONE:
        break;
    }
}

/* ---- flow ---- */

void client_update_flow(struct client *client)
{
    bool pause = client->parting;

    if (!stream_is_open(&client->stream) || client->state == CLIENT_CLOSING)
        return;
    switch ((enum client_state)client->state) {
    case CLIENT_WELCOME:
    case CLIENT_WAITING:
        pause |= client->held_bytes >= LOOP_BUFFER_BYTES;
        break;
    case CLIENT_IDLE:
        pause |= stream_queued_bytes(&client->stream) > 0;
        break;
    case CLIENT_CONSOLE:
        pause = client->console_busy || stream_queued_bytes(&client->stream) > 0;
        break;
    case CLIENT_ACTIVE:
        pause |= stream_queued_bytes(&client->server->stream) > 0 ||
                 transaction_is_full(&client->server->transaction) ||
                 client->held_bytes >= LOOP_BUFFER_BYTES ||
                 /* its answers are not read: it gets no more work done */
                 (stream_queued_bytes(&client->stream) > 0 &&
                  client->server->transaction.copy != COPY_IN && !client->replication);
        break;
    default:
        break;
    }
    if (pause)
        stream_pause(&client->stream);
    else
        stream_resume(&client->stream);
}

/* ---- parameters ---- */

void client_parameter_reported(struct client *client, const char *name, const char *value)
{
    struct exchange *exchange = client->exchange;
    struct parameters *before = parameters_ref(client->parameters);

    client->parameters = parameters_with(client->parameters, name, value);
    if (client->parameters == before || exchange->changes) {
        parameters_unref(before);
        return;
    }
    exchange->before = before;
    exchange->changes = true;
    exchange->marked = true;
}

void client_parameters_stay(struct client *client)
{
    struct exchange *exchange = client->exchange;

    parameters_unref(exchange->before);
    exchange->before = NULL;
    exchange->changes = false;
}

void client_parameters_undo(struct client *client)
{
    struct exchange *exchange = client->exchange;

    if (!exchange->changes)
        return;
    parameters_unref(client->parameters);
    client->parameters = exchange->before;
    exchange->before = NULL;
    exchange->changes = false;
}

/* ---- the end ---- */

/* The environment's log_level, as soon as it is known. */
static bool wants_log(const struct client *client, enum log_rank rank)
{
    const struct environment_config *environment;

    if (client->share)
        return log_wants_from(rank, settings_log_rank(share_settings(client->share)));
    environment = login_environment(client);
    if (!environment)
        return log_wants(rank);
    return log_wants_from(rank, settings_log_rank(login_settings(client)));
}

const char *client_from(const struct client *client, char text[ADDRESS_TEXT_BYTES])
{
    return address_text(client->address, text);
}

void client_log(const struct client *client, enum log_rank rank, const char *format, ...)
{
    va_list arguments;
    char *text, from[ADDRESS_TEXT_BYTES];

    if (!wants_log(client, rank))
        return;
    va_start(arguments, format);
    text = text_vprint(format, arguments);
    va_end(arguments);
    log_write(rank, "C-%" PRIx64 ": %s/%s@%s %s", client->id,
              client->database ? client->database : "(nodb)",
              client->user ? client->user : "(nouser)", client_from(client, from), text);
    free(text);
}

static void client_free(void *object)
{
    struct client *client = object;

    login_free(client->login);
    parameters_unref(client->parameters);
    parameters_unref(client->startup);
    parameters_unref(client->mode_of);
    tracker_free(client->tracker);
    prepared_client_free(client);
    free(client->held);
    exchange_free(client);
    free((char *)client->user);
    free((char *)client->database);
    free(client->address);
    free(client);
}

static void log_end(const struct client *client, enum reason reason, const char *detail)
{
    const struct settings *globals = snapshot_globals(client->worker->setup->snapshot);
    uint64_t age_us = clock_wall_us() - client->connected_us;

    if (!globals->log_disconnections)
        return;
    client_log(client, RANK_LOG,
               "closing because: %s%s%s (age=%" PRIu64 "s) environment=%s transactions=%" PRIu64
               " received=%" PRIu64 " sent=%" PRIu64,
               reason_text(reason), detail ? ": " : "", detail ? detail : "", age_us / CLOCK_SECOND,
               client->share && pool_environment(client->share->backend->pool)
                   ? pool_environment(client->share->backend->pool)
                   : "-",
               client->transactions, client->received_bytes, client->stream.offered_bytes);
}

/* A login has ended without a welcome: was it refused? */
static void count_refusal(struct client *client, enum reason reason)
{
    struct worker *worker = client->worker;

    switch (reason) {
    case REASON_CLIENT_TERMINATE:
    case REASON_CLIENT_EOF:
    case REASON_CLIENT_BROKEN:
    case REASON_CLIENT_CANCEL_SENT:
    case REASON_CLIENT_CANCEL_UNKNOWN:
    case REASON_CANCEL_WAIT_TIMEOUT:
    case REASON_SHUT_DOWN:
        return;
    case REASON_CLIENT_TLS_FAILED:
        counter_add(&worker->security[SECURITY_client_tls_failures], 1);
        break;
    default:
        break;
    }
    counter_add(&worker->security[SECURITY_logins_refused], 1);
    counter_add(&worker->refused[reason], 1);
}

/* Its names become its own again: the pool may end before it. */
static void keep_names(struct client *client)
{
    const struct pool *pool = client->share->backend->pool;

    if (client->user == pool_user(pool))
        client->user = text_copy(client->user);
    if (client->database == pool_database(pool))
        client->database = text_copy(client->database);
}

/* Has it sent its last message as a whole? What stood before it is finished, as PostgreSQL would. */
static bool took_leave(enum reason reason)
{
    switch (reason) {
    case REASON_CLIENT_TERMINATE:
    case REASON_CLIENT_BAD_LENGTH:
    case REASON_CLIENT_UNEXPECTED:
    case REASON_CLIENT_TOO_LONG:
    case REASON_CLIENT_PQEXEC:
    case REASON_CLIENT_LONG_NAME:
        return true;
    default:
        return false;
    }
}

/* Takes it out of everything that counts or could call it; only its stream and memory stay. */
static void client_leave(struct client *client, enum reason reason, const char *detail)
{
    struct worker *worker = client->worker;
    struct plane *plane = worker->plane;
    struct share *share = client->share;

    log_end(client, reason, detail);
    if (client->login)
        count_refusal(client, reason);
    client_set_state(client, CLIENT_CLOSING);
    if (client->console && client->login == NULL)
        console_left(client);
    if (client->server)
        server_abandon(client->server, took_leave(reason));
    else if (client->replication)
        replication_leave(client);
    cancel_key_forget(client);
    listening_leave(client);
    (void)client_unpin_all(client); /* its server went before it */
    if (share) {
        keep_names(client);
        client_forget_wait(client);
        share->tally[client->tally]--;
        list_remove(&share->clients, &client->share_node);
        client->share = NULL;
        if (client->admitted_to) {
            struct pool *pool = share->backend->pool;

            pool_discharge(pool, client->user);
            pool_client_removed(pool, loop_now_us(worker->loop));
        }
        pool_unref(share->backend->pool);
    }
    if (client->admitted)
        registry_discharge(plane->registry);
    atomic_fetch_sub_explicit(&worker->client_load, 1, memory_order_relaxed);
    plane_client_left(plane);
}

static void client_end(struct client *client)
{
    client_set_state(client, CLIENT_GONE);
    worker_remove_client(client->worker, client);
    stream_close(&client->stream);
    timer_detach(client->worker->loop, &client->timer);
    loop_undefer(client->worker->loop, &client->task);
    loop_release(client->worker->loop, client, client_free);
}

void client_close(struct client *client, enum reason reason)
{
    if (client->state == CLIENT_GONE)
        return;
    if (client->state != CLIENT_CLOSING)
        client_leave(client, reason, NULL);
    client_end(client);
}

/* Its last words. */
static void say_farewell(struct client *client, struct buffer *out)
{
    enum stream_result result = stream_write(&client->stream, out->data, out->length);

    buffer_fini(out);
    if (result == STREAM_QUEUED) {
        stream_resume(&client->stream);
        client_arm(client);
        return;
    }
    client_end(client);
}

void client_farewell(struct client *client)
{
    struct buffer *farewell = login_farewell(client), out = *farewell;

    *farewell = (struct buffer){0};
    say_farewell(client, &out);
}

void client_fail_as(struct client *client, enum reason reason, const char *sqlstate,
                    const char *text)
{
    const struct settings *globals;
    struct buffer out = {0};

    if (client_is_over(client))
        return;
    globals = snapshot_globals(client->worker->setup->snapshot);
    if (globals->log_pooler_errors)
        client_log(client, RANK_WARNING, "pooler error: %s", text);
    if (client->server && server_cuts_answer(client->server)) {
        client_close(client, reason); /* it would take our words for the rest of a row */
        return;
    }
    client_leave(client, reason, NULL);
    message_error(&out, "FATAL", sqlstate, text, NULL, NULL);
    if (reason != REASON_LOGIN_AUDIT && record_refused(client, sqlstate, text, &out))
        client_arm(client);
    else
        say_farewell(client, &out);
}

void client_fail(struct client *client, enum reason reason, const char *detail)
{
    char *text =
        text_print("%s%s%s", reason_text(reason), detail ? ": " : "", detail ? detail : "");

    client_fail_as(client, reason, reason_sqlstate(reason), text);
    free(text);
}

bool client_is_stopping(const struct client *client)
{
    return client->worker->stopping || (client->share && client->share->expired);
}

void client_stop(struct client *client)
{
    enum reason reason = client->worker->stopping ? REASON_SHUTDOWN : REASON_EXPIRED;

    switch ((enum client_state)client->state) {
    case CLIENT_STARTUP:
    case CLIENT_LOGIN:
    case CLIENT_WELCOME:
    case CLIENT_IDLE:
    case CLIENT_WAITING:
        client_fail(client, reason, NULL);
        break;
    case CLIENT_ACTIVE:
        if (transaction_is_free(&client->server->transaction) && !client->body_left)
            client_fail(client, reason, NULL);
        break;
    default:
        break;
    }
}
