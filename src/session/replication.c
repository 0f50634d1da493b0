/*
 * replication.c: a client's replication connection, from its wish to its end.
 *
 *   login ─► queue of a pool of its kind ─► place under the limits ─► server_open ─► login on the
 *   server, with replication= and the client's parameters ─► welcome ─► bytes, both ways ─► the end
 *   of one is the end of the other
 *
 * Nothing is asked of the server that the client did not, so no queue of answers is needed: COPY
 * BOTH, in which both sides talk at once, passes like everything else. Only the frames are followed,
 * to refuse what no client may send, and to know whether a last word would be understood. No timeout
 * for queries or idleness holds here: a stream of WAL is neither.
 *
 * The server is "aside" (server.h), but with an item in its pool, ACTIVE from beginning to end.
 */
#include "pgstage/session/replication.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/client.h"
#include "pgstage/session/exchange.h"
#include "pgstage/session/login.h"
#include "pgstage/session/record.h"
#include "pgstage/session/server.h"
#include "pgstage/session/server_login.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/kinds.h"
#include "pgstage/wire/message.h"

/* ---- the startup parameter ---- */

/* Is it the word, or at least so many of its letters? */
static bool begins(const char *value, const char *word, size_t least)
{
    size_t length = strlen(value);

    return length >= least && strncasecmp(value, word, length) == 0;
}

bool replication_read(const char *value, enum replication *kind)
{
    *kind = REPLICATION_NONE;
    if (strcmp(value, "database") == 0)
        *kind = REPLICATION_LOGICAL;
    else if (begins(value, "true", 1) || begins(value, "yes", 1) || begins(value, "on", 2) ||
             strcmp(value, "1") == 0)
        *kind = REPLICATION_PHYSICAL;
    else
        return begins(value, "false", 1) || begins(value, "no", 1) || begins(value, "off", 2) ||
               strcmp(value, "0") == 0;
    return true;
}

const char *replication_name(enum replication kind)
{
    static const char *const names[] = {
        [REPLICATION_NONE] = "none",
        [REPLICATION_LOGICAL] = "logical",
        [REPLICATION_PHYSICAL] = "physical",
    };
    return names[kind];
}

/* ---- a server of its own ---- */

static struct pool *pool_of(const struct server *server)
{
    return server->backend->pool;
}

static uint64_t now_of(const struct server *server)
{
    return loop_now_us(server->worker->loop);
}

static void run(struct loop_task *task);
static void on_ready(struct server *server);
static void on_failed(struct server *server, const struct server_failure *failure);
static void on_readable(struct server *server);
static void on_closed(struct server *server, enum reason reason);

static const struct server_aside replicates = {on_ready, on_failed, on_readable, on_closed};

void replication_begin(struct client *client)
{
    if (!record_accepted(client)) /* else login_recorded comes back here */
        (void)client_borrow(client);
}

/* What is being opened for the client; NULL: nothing. */
static struct server *opening_for(const struct share *share, const struct client *client)
{
    list_for_each (node, &share->servers) {
        struct server *server = list_entry(node, struct server, share_node);

        if (server->login && server->aside_owner == client)
            return server;
    }
    return NULL;
}

struct client *replication_next(const struct share *share)
{
    struct client *next = NULL;

    list_for_each (node, &share->clients) {
        struct client *client = list_entry(node, struct client, share_node);

        if (client->state != CLIENT_WELCOME || client->server || !client->exchange ||
            client->exchange->waiter.state != WAITER_QUEUED || opening_for(share, client))
            continue;
        if (!next || client->exchange->waiter.since_us < next->exchange->waiter.since_us)
            next = client;
    }
    return next;
}

void replication_attach(struct server *server, struct client *client)
{
    server->aside = &replicates;
    server->aside_owner = client;
    server->replication = client->replication;
}

const struct client *replication_client_of(const struct server *server)
{
    return server->aside_owner;
}

void replication_leave(struct client *client)
{
    struct server *server = client->share ? opening_for(client->share, client) : NULL;

    if (server)
        server_login_abandon(server);
}

/* What the client asked for is told as the server spells it. */
static void adopt_reported(struct client *client, const struct server *server)
{
    for (size_t i = 0; i < parameters_count(server->reported); i++) {
        const char *name, *value;

        parameters_at(server->reported, i, &name, &value);
        if (parameters_get(client->parameters, name))
            client->parameters = parameters_with(client->parameters, name, value);
    }
}

static void welcome(struct client *client, const struct server *server)
{
    struct buffer messages = {0};

    adopt_reported(client, server);
    for (size_t i = 0; i < parameters_count(server->reported); i++) {
        const char *name, *value;

        parameters_at(server->reported, i, &name, &value);
        message_parameter_status(&messages, name, value);
    }
    client_welcome(client, server->reported, &messages);
    buffer_fini(&messages);
}

static void on_ready(struct server *server)
{
    struct client *client = server->aside_owner;
    struct pool_stats *stats = pool_stats(pool_of(server), server->worker->index);

    if (!pool_opened_for(pool_of(server), &server->item, server->worker->index,
                         &client->exchange->waiter, now_of(server))) {
        server_close(server, REASON_SERVER_NOT_NEEDED, NULL); /* paused meanwhile: it waits on */
        return;
    }
    HASH_ADD(hh, server->worker->servers_by_id, item.id, sizeof(server->item.id), server);
    counter_add(&stats->server_assignment_count, 1);
    counter_add(&stats->wait_time, now_of(server) - client->exchange->waiter.since_us);
    server->client = client;
    client->server = server;
    server->links++;
    gate_keep(server); /* it is in no transaction that a switchover would have to wait for */
    welcome(client, server);
    if (client_is_over(client))
        return;
    client_set_state(client, CLIENT_ACTIVE);
    client->task.run = run; /* what has come already was given to it by the welcome */
    timer_clear(&client->timer);
    client_update_flow(client);
}

/* Why it could not be had; what may mend by itself is tried again by the pool. */
static void on_failed(struct server *server, const struct server_failure *failure)
{
    struct client *client = server->aside_owner;

    if (failure->lasting && !client_is_over(client))
        client_fail_as(client, REASON_LOGIN_SERVER_FAILING, failure->sqlstate, failure->text);
}

/* One end of both. */
static void on_closed(struct server *server, enum reason reason)
{
    struct client *client = server->aside_owner;

    if (!server->item.id) {
        pool_open_dropped(pool_of(server), now_of(server));
        return;
    }
    pool_remove(pool_of(server), &server->item, now_of(server));
    if (client_is_over(client))
        return;
    if (server->body_left || server->fatal)
        client_close(client, reason); /* it would not be understood, or has been said */
    else
        client_fail_as(client, reason, "57P01", reason_text(reason));
}

/* What is there of the body of a message that has begun; the rest stays in `left`. */
static size_t step_over(uint32_t *left, size_t there)
{
    size_t count = *left < there ? *left : there;

    *left -= (uint32_t)count;
    return count;
}

/* ---- client to server ---- */

static bool may_pass(struct client *client, const struct frame *frame)
{
    const struct settings *globals = snapshot_globals(client->worker->setup->snapshot);
    struct pool_stats *stats = pool_stats(client->share->backend->pool, client->worker->index);

    if (kind_find(KIND_CLIENT, frame->type)->relay == KIND_REFUSE)
        client_fail(client, REASON_CLIENT_UNEXPECTED, NULL);
    else if (frame->body_bytes > globals->max_packet_size_bytes)
        client_fail(client, REASON_CLIENT_TOO_LONG, NULL);
    else if (frame->type == 'Q' && globals->disable_pqexec)
        client_fail(client, REASON_CLIENT_PQEXEC, NULL);
    else if (frame->type == 'X')
        client_close(client, REASON_CLIENT_TERMINATE);
    if (client_is_over(client))
        return false;
    if (frame->type == 'Q') {
        counter_add(&stats->query_count, 1);
        client->request_us = loop_now_us(client->worker->loop);
    }
    return true;
}

/* How many of these bytes may go on: all but the beginning of a header; -1: the client has ended. */
static ssize_t pass(struct client *client, const uint8_t *data, size_t length)
{
    size_t at = 0;

    while (at < length) {
        struct frame frame;

        at += step_over(&client->body_left, length - at);
        switch (frame_peek(data + at, length - at, UINT32_MAX, &frame)) {
        case FRAME_PARTIAL:
            return (ssize_t)at;
        case FRAME_BAD:
            client_fail(client, REASON_CLIENT_BAD_LENGTH, NULL);
            return -1;
        case FRAME_OK:
            break;
        }
        if (frame.type == 'X' && at > 0)
            (void)!stream_write(&client->server->stream, data, at);
        if (!may_pass(client, &frame))
            return -1;
        client->body_left = frame.body_bytes;
        at += FRAME_HEADER_BYTES;
    }
    return (ssize_t)at;
}

static void relay(struct client *client)
{
    struct loop *loop = client->worker->loop;
    size_t size, length = client->held_bytes;
    uint8_t *buffer = loop_buffer(loop, &size);
    ssize_t count = 0, passed;

    client->granted = false;
    if (length)
        memcpy(buffer, client->held, length);
    if (length < size && !client->stream.read_paused)
        count = stream_read(&client->stream, buffer + length, size - length);
    if (count < 0) {
        client_close(client, client->stream.error ? REASON_CLIENT_BROKEN : REASON_CLIENT_EOF);
        return;
    }
    length += (size_t)count;
    client->received_bytes += (size_t)count;
    client->active_us = loop_now_us(loop);
    counter_add(&pool_stats(client->share->backend->pool, client->worker->index)->bytes_received,
                (uint64_t)count);
    if (stream_has_pending(&client->stream))
        stream_read_later(&client->stream);
    passed = pass(client, buffer, length);
    if (passed < 0)
        return;
    if (passed > 0 &&
        stream_write(&client->server->stream, buffer, (size_t)passed) == STREAM_BROKEN)
        stream_read_later(&client->server->stream); /* its last words first */
    client_hold(client, buffer + passed, length - (size_t)passed);
    client_update_flow(client);
    if (client_is_stopping(client))
        client_stop(client);
}

/* The client's task once it has its server. */
static void run(struct loop_task *task)
{
    struct client *client = list_entry(task, struct client, task);

    if (client->state == CLIENT_ACTIVE)
        relay(client);
    else
        client_run(task);
}

/* ---- server to client ---- */

static void note_error(struct server *server, const uint8_t *body, size_t there)
{
    struct error_fields fields;

    (void)error_fields_read(&fields, body, there);
    server->fatal |= strcmp(fields.severity, "FATAL") == 0 || strcmp(fields.severity, "PANIC") == 0;
}

/* How many of these bytes may go on; -1: the server is closed. An error that fits the buffer is
 * looked at as a whole. */
static ssize_t follow(struct server *server, const uint8_t *data, size_t length)
{
    size_t at = 0;

    while (at < length) {
        struct frame frame;
        size_t there, total;

        at += step_over(&server->body_left, length - at);
        there = length - at;
        switch (frame_peek(data + at, there, UINT32_MAX, &frame)) {
        case FRAME_PARTIAL:
            return (ssize_t)at;
        case FRAME_BAD:
            server_close(server, REASON_SERVER_PROTOCOL, "bad message length");
            return -1;
        case FRAME_OK:
            break;
        }
        total = FRAME_HEADER_BYTES + (size_t)frame.body_bytes;
        if (frame.type == 'E' && total > there && total <= LOOP_BUFFER_BYTES)
            return (ssize_t)at;
        if (frame.type == 'E')
            note_error(server, data + at + FRAME_HEADER_BYTES,
                       (total < there ? total : there) - FRAME_HEADER_BYTES);
        server->body_left = frame.body_bytes;
        at += FRAME_HEADER_BYTES;
    }
    return (ssize_t)at;
}

static void on_readable(struct server *server)
{
    struct client *client = server->client;
    size_t size, length = server->tail_bytes;
    uint8_t *buffer = loop_buffer(server->worker->loop, &size);
    ssize_t count, passed;

    if (length)
        memcpy(buffer, server->tail, length);
    count = stream_read(&server->stream, buffer + length, size - length);
    if (count == 0 && !server->stream.write_broken)
        return;
    if (count <= 0) {
        server_close(server, server->fatal ? REASON_SERVER_FATAL : REASON_SERVER_CRASHED, NULL);
        return;
    }
    if (stream_has_pending(&server->stream) || server->stream.write_broken)
        stream_read_later(&server->stream);
    length += (size_t)count;
    passed = follow(server, buffer, length);
    if (passed < 0)
        return;
    memory_keep(&server->tail, &server->tail_bytes, buffer + passed, length - (size_t)passed);
    counter_add(&pool_stats(pool_of(server), server->worker->index)->bytes_sent, (uint64_t)passed);
    if (passed > 0 && stream_write(&client->stream, buffer, (size_t)passed) == STREAM_BROKEN) {
        client_close(client, REASON_CLIENT_BROKEN);
        return;
    }
    server_update_flow(server);
}
