/*
 * relay_server.c: the path of a query's answer, from a server to its client.
 *
 *   client ◄── one write ◄──── frames ◄── loop buffer ◄── server
 *
 * Each message is weighed: it is the client's, or an answer to a statement of our own, or a reason
 * to close the server. What is the client's goes on from where it was read, in one gathered write.
 */
#include "pgstage/session/relay.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/choice.h"
#include "pgstage/session/client.h"
#include "pgstage/session/exchange.h"
#include "pgstage/session/lost.h"
#include "pgstage/session/prepared.h"
#include "pgstage/session/server.h"
#include "pgstage/session/server_login.h"
#include "pgstage/session/standing.h"
#include "pgstage/session/tracker.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"
#include "relay_inside.h"

/* Pieces of one gathered write. */
#define PIECES_MAX 16

struct gather {
    struct iovec pieces[PIECES_MAX];
    int count;
    size_t bytes;
};

static void gather_add(struct gather *gather, const uint8_t *bytes, size_t count)
{
    struct iovec *last = gather->count ? &gather->pieces[gather->count - 1] : NULL;

    gather->bytes += count;
    if (last && (uint8_t *)last->iov_base + last->iov_len == bytes) {
        last->iov_len += count;
        return;
    }
    gather->pieces[gather->count++] = (struct iovec){(void *)bytes, count};
}

static void gather_flush(struct server *server, struct gather *gather)
{
    struct client *client = server->client;
    int count = gather->count;

    gather->count = 0;
    if (!client || count == 0)
        return;
    counter_add(&relay_stats(client)->bytes_sent, gather->bytes);
    gather->bytes = 0;
    switch (stream_writev(&client->stream, gather->pieces, count)) {
    case STREAM_DONE:
        break;
    case STREAM_QUEUED:
        server->streams = false; /* what is read on is kept here: not so much at once */
        break;
    case STREAM_BROKEN:
        client_close(client, REASON_CLIENT_BROKEN);
        break;
    }
}

/* ParseComplete for what the server was not asked, now that its turn has come. */
static void gather_produced(struct server *server, struct gather *gather, unsigned count)
{
    for (; count > 0; count--) {
        if (gather->count == PIECES_MAX)
            gather_flush(server, gather);
        if (server->client)
            gather_add(gather, relay_parse_complete, sizeof(relay_parse_complete));
    }
}

/* What the client hears instead of the server's message. */
static void gather_instead(struct server *server, struct gather *gather, struct buffer *instead,
                           bool heard)
{
    gather_flush(server, gather);
    if (server->client && heard)
        (void)client_send_buffer(server->client, instead);
    buffer_fini(instead);
}

/* A command tag or an error may have changed what the server has prepared, and what its client's
 * names mean. */
static void note_prepared(struct server *server, const struct frame *frame, const uint8_t *body,
                          size_t there, bool own)
{
    uint8_t lost = server->transaction.lost;

    if (frame->type == 'C')
        prepared_command(server, body, there, own);
    server->transaction.lost = 0;
    /* unless it has been parsed again since, behind that batch */
    if (lost && server->client &&
        server->client->unnamed.batch == server->transaction.batches_over) {
        server->unnamed_links = 0;
        if (lost & LOST_FORWARDED)
            unnamed_forget(server->client);
    }
}

/* A ParameterStatus: the server's session has changed; so has its client's. */
static void note_parameter(struct server *server, const uint8_t *body, size_t length)
{
    struct client *client = server->client;
    struct reader reader;
    const char *name, *value, *standard;

    reader_init(&reader, body, length);
    name = reader_string(&reader);
    value = reader_string(&reader);
    if (reader.failed)
        return;
    if (parameters_bytes(server->parameters) > PARAMETERS_REPORTED_MAX_BYTES ||
        parameters_bytes(server->reported) > PARAMETERS_REPORTED_MAX_BYTES) {
        server->close_needed = true; /* what is not followed must not reach another client */
        return;
    }
    if (server->awaited &&
        (strcmp(name, "client_encoding") == 0 || strcmp(name, "standard_conforming_strings") == 0))
        prepared_context_changed(server);
    if (server->state == SERVER_SETUP) {
        /* connect_query makes the session what it is for every client */
        server->reported = parameters_with(server->reported, name, value);
        return;
    }
    if (strcmp(name, "in_hot_standby") == 0)
        server_role_changed(server, strcmp(value, "on") == 0);
    if (!parameter_follows(name))
        return;
    if (server->undecided)
        server->said = parameters_with(server->said, name, value);
    standard = parameters_get(server->reported, name);
    if (standard && strcmp(standard, value) == 0)
        value = NULL; /* as it was at the server's login: nothing that must follow the client */
    server->parameters = parameters_with(server->parameters, name, value);
    if (client && server->state == SERVER_ACTIVE) {
        client_parameter_reported(client, name, value);
        if (client->server)
            tracker_linked(client);
    }
}

/* An ErrorResponse; its body may be longer than what is there. */
static void note_error(struct server *server, const uint8_t *body, size_t there)
{
    struct error_fields fields;

    (void)error_fields_read(&fields, body, there);
    if (strcmp(fields.sqlstate, "25006") == 0 && choice_wants_primary(server->meaning->effective))
        server_saw_trouble(server); /* or the client itself wanted to read only: a look will tell */
    if (strcmp(fields.severity, "FATAL") == 0 || strcmp(fields.severity, "PANIC") == 0) {
        server->fatal = true;
        server_log(server, RANK_WARNING, "server says %s: %s (%s)", fields.severity, fields.message,
                   fields.sqlstate);
    } else if (transaction_is_swallowing(&server->transaction)) {
        server_log(server, RANK_WARNING, "own statement failed: %s (%s)", fields.message,
                   fields.sqlstate);
    } else {
        return;
    }
    server->query_failed = transaction_is_swallowing(&server->transaction);
    free(server->query_error);
    server->query_error = text_copy(fields.message);
    (void)text_fit(server->query_sqlstate, sizeof(server->query_sqlstate), fields.sqlstate);
}

enum weight {
    WEIGHT_FORWARD,
    WEIGHT_SWALLOW,
    WEIGHT_CLOSE, /* the server is to be closed, for `reason` */
    WEIGHT_GONE,  /* it is closed */
};

/* Beside the message. */
struct besides {
    enum reason reason;
    unsigned produced;     /* ParseComplete that go behind it */
    bool again;            /* its batch is sent again, and nobody is to hear it */
    struct buffer instead; /* what goes in its place */
};

/* What a message means. */
static enum weight weigh_message(struct server *server, const struct frame *frame,
                                 const uint8_t *body, size_t there, struct besides *besides)
{
    enum verdict verdict;
    char status = 0;

    besides->reason = REASON_SERVER_PROTOCOL;
    if (server->state == SERVER_IDLE && frame->type != 'S' && frame->type != 'N') {
        if (frame->type == 'E')
            note_error(server, body, there);
        besides->reason = server->fatal ? REASON_SERVER_FATAL : REASON_SERVER_DIRTY;
        return WEIGHT_CLOSE;
    }
    switch (frame->type) {
    case 'Z':
        if (frame->body_bytes != 1)
            return WEIGHT_CLOSE;
        status = (char)body[0];
        if (status != 'I' && server->state == SERVER_ACTIVE &&
            share_settings(server->share)->pool_mode == POOL_MODE_STATEMENT) {
            /* before the client hears that its transaction has begun */
            client_fail(server->client, REASON_STATEMENT_MODE, NULL);
            server_close(server, REASON_SERVER_UNCLEAN, NULL);
            return WEIGHT_GONE;
        }
        break;
    case 'E':
        note_error(server, body, there);
        besides->reason = REASON_SERVER_FATAL;
        /* the client hears it as the error of its query; while the server is being prepared for it,
         * nothing of its has been sent, and it gets another one */
        if (server->fatal && server->client &&
            (server->state != SERVER_ACTIVE || lost_is_told(server)))
            return WEIGHT_CLOSE;
        besides->reason = REASON_SERVER_PROTOCOL;
        if (server->prepared && frame->body_bytes == there)
            (void)prepared_error(server, body, there, &besides->instead, &besides->again);
        break;
    case 'D':
        if (server->login)
            server_login_row(server, body, there);
        else if (server->asking || server->cleaning)
            tracker_row(server, body, there);
        break;
    case 'A':
        if (!tracker_may_hear(server))
            return WEIGHT_SWALLOW; /* somebody has listened on it unseen */
        break;
    case 'S':
        if (frame->body_bytes > there)
            server->close_needed =
                true; /* too long to be followed: another client must not get it */
        else
            note_parameter(server, body, there);
        if (server->close_needed && server->state == SERVER_IDLE) {
            besides->reason = REASON_SERVER_DIRTY;
            return WEIGHT_CLOSE;
        }
        break;
    default:
        break;
    }
    if (server->client && server->client->tracker && server->state == SERVER_ACTIVE) {
        tracker_answered(server, frame->type, body, there, &besides->instead);
        if (server->state == SERVER_GONE)
            return WEIGHT_GONE;
    }
    verdict = transaction_answer(&server->transaction, frame->type, status);
    if (verdict == VERDICT_BAD || (verdict == VERDICT_LAST && !server->fatal))
        return WEIGHT_CLOSE;
    if (verdict == VERDICT_SWALLOW && frame->type == 'Z' && server->undecided &&
        server->state == SERVER_ACTIVE && !server_decide_ahead(server))
        return WEIGHT_GONE;
    if (frame->type == 'E' || (frame->type == 'C' && there > 1 && body[0] == 'D'))
        note_prepared(server, frame, body, there, verdict == VERDICT_SWALLOW);
    if (frame->type == 'C' && server->client && server->client->exchange->changes &&
        there == sizeof("COMMIT") && memcmp(body, "COMMIT", there) == 0)
        client_parameters_stay(server->client);
    if (server->awaited)
        besides->produced = prepared_answered(server, frame->type);
    if (besides->again) {
        besides->again = false;
        return WEIGHT_SWALLOW;
    }
    return verdict == VERDICT_SWALLOW ? WEIGHT_SWALLOW : WEIGHT_FORWARD;
}

/* Messages that go to a client without anything to be learned from them but that they answer what
 * was asked: passes them in the queue, and tells how many bytes of them are whole here. They are
 * rows, and what stands before and behind these, up to the end of the transaction; but of the
 * command tags those of DEALLOCATE and DISCARD, and COMMIT after a SET, say something. `course` is
 * that of the first. */
static size_t take_plain(struct server *server, enum course course, const uint8_t *data,
                         size_t length)
{
    struct frame frame;
    size_t at = 0;

    if (server->state != SERVER_ACTIVE || !server->client || server->client->tracker ||
        server->awaited || server->login || server->asking || server->cleaning)
        return 0;
    do {
        if (frame_peek(data + at, length - at, UINT32_MAX, &frame) != FRAME_OK ||
            frame.body_bytes > length - at - FRAME_HEADER_BYTES)
            break;
        if (frame.type == 'C' && (frame.body_bytes == 0 || data[at + FRAME_HEADER_BYTES] == 'D' ||
                                  server->client->exchange->changes))
            break;
        if (course == COURSE_READY) {
            if (frame.body_bytes != 1 || data[at + FRAME_HEADER_BYTES] != 'I')
                break;
            transaction_rest(&server->transaction);
        } else if (course == COURSE_OVER) {
            transaction_pass(&server->transaction);
        }
        at += FRAME_HEADER_BYTES + (size_t)frame.body_bytes;
    } while (at < length &&
             (course = transaction_course(&server->transaction, data[at])) != COURSE_OTHER);
    return at;
}

/* Passes on what is whole; returns how many bytes were dealt with, or -1 when the server is closed.
 */
static ssize_t relay_frames(struct server *server, const uint8_t *data, size_t length)
{
    struct gather gather; /* its pieces need no value */
    struct besides besides = {.produced = 0};
    size_t at = 0;

    gather.count = 0;
    gather.bytes = 0;
    while (at < length) {
        size_t there = length - at, total, count;
        struct frame frame;
        enum course course;
        enum weight weight;

        if (server->body_left) {
            count = server->body_left < there ? server->body_left : there;
            server->body_left -= (uint32_t)count;
            if (!server->body_swallowed)
                gather_add(&gather, data + at, count);
            at += count;
            continue;
        }
        if ((course = transaction_course(&server->transaction, data[at])) != COURSE_OTHER &&
            (count = take_plain(server, course, data + at, there)) > 0) {
            gather_add(&gather, data + at, count);
            if (gather.count == PIECES_MAX)
                gather_flush(server, &gather);
            at += count;
            continue;
        }
        switch (frame_peek(data + at, there, UINT32_MAX, &frame)) {
        case FRAME_PARTIAL:
            goto partial;
        case FRAME_BAD:
            gather_flush(server, &gather);
            server_close(server, REASON_SERVER_PROTOCOL, "bad message length");
            return -1;
        case FRAME_OK:
            break;
        }
        total = FRAME_HEADER_BYTES + (size_t)frame.body_bytes;
        if (total > there && total <= LOOP_BUFFER_BYTES)
            goto partial;
        count = total > there ? there : total;
        weight = weigh_message(server, &frame, data + at + FRAME_HEADER_BYTES,
                               count - FRAME_HEADER_BYTES, &besides);
        if (weight == WEIGHT_CLOSE) {
            gather_flush(server, &gather); /* what came before it is the client's */
            server_close(server, besides.reason, NULL);
        }
        if (weight >= WEIGHT_CLOSE) {
            buffer_fini(&besides.instead);
            return -1;
        }
        server->body_left = (uint32_t)(total - count);
        /* the rest of what nobody hears now must not reach who has the server by then */
        server->body_swallowed = weight == WEIGHT_SWALLOW || !server->client;
        if (besides.instead.length) {
            server->body_swallowed = true;
            gather_instead(server, &gather, &besides.instead, weight == WEIGHT_FORWARD);
        } else if (weight == WEIGHT_FORWARD) {
            gather_add(&gather, data + at, count);
        }
        at += count;
        if (besides.produced) {
            gather_produced(server, &gather, besides.produced);
            besides.produced = 0;
        }
        if (gather.count == PIECES_MAX)
            gather_flush(server, &gather);
        if (transaction_wants_fence(&server->transaction) &&
            !(server->client && server->client->body_left)) {
            gather_flush(server, &gather);
            if (server->state == SERVER_GONE)
                return -1;
            relay_fence(server);
        }
    }
partial:
    gather_flush(server, &gather);
    return server->state == SERVER_GONE ? -1 : (ssize_t)at;
}

/* Answers have come: a client that was held up because too many were owed may go on. */
static void go_on(struct client *client)
{
    client->awaiting = false;
    client_update_flow(client);
    if (client->held_bytes && !transaction_is_full(&client->server->transaction)) {
        client->granted = true;
        loop_defer(client->worker->loop, &client->task);
    }
}

void relay_server(struct server *server)
{
    size_t size, length = server->tail_bytes;
    uint8_t *buffer = loop_buffer(server->worker->loop, &size);
    uint64_t links = server->links;
    bool full = transaction_is_full(&server->transaction);
    ssize_t count, done;

    if (server->streams)
        size = LOOP_STREAM_BYTES;
    if (length)
        memcpy(buffer, server->tail, length);
    count = stream_read(&server->stream, buffer + length, size - length);
    if (count == 0 && server->stream.write_broken)
        count = -1; /* that was all it had said */
    if (count == 0)
        return;
    if (count < 0) {
        server_close(server,
                     server->fatal
                         ? REASON_SERVER_FATAL
                         : (server->stream.error ? REASON_SERVER_BROKEN : REASON_SERVER_CRASHED),
                     NULL);
        return;
    }
    length += (size_t)count;
    server->streams = length >= LOOP_BUFFER_BYTES;
    if (stream_has_pending(&server->stream) || server->stream.write_broken)
        stream_read_later(&server->stream);
    done = relay_frames(server, buffer, length);
    if (done < 0)
        return;
    if (length - (size_t)done > 0 || server->tail_bytes)
        memory_keep(&server->tail, &server->tail_bytes, buffer + done, length - (size_t)done);
    if (server->links != links)
        return; /* its client broke, and it has been lent to another one since */
    server_settled(server);
    if (server->state == SERVER_GONE || server->state == SERVER_MOVING)
        return;
    server_update_flow(server);
    /* one that listens has no client, and comes here with the last word of its setup */
    if (server->links == links && server->state == SERVER_ACTIVE && server->client &&
        (full || server->client->awaiting))
        go_on(server->client);
}
