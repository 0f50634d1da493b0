/*
 * relay_client.c: the path of a query, from a client to its server.
 *
 *   client ──► loop buffer ──► frames ──► (borrow) ──► one write to the server
 *
 * Bytes are looked at where they were read and written from there; nothing is copied unless it
 * cannot go on now. A message that fits into the buffer passes only when it is whole: so both sides
 * can be told the truth when the other is lost. A longer one streams, and is counted in
 * `body_left`. What the bytes mean to the server's state is the transaction's business
 * (transaction.c). The way back is relay_server.c.
 */
#include "pgstage/session/relay.h"

#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/session/client.h"
#include "pgstage/session/exchange.h"
#include "pgstage/session/lost.h"
#include "pgstage/session/prepared.h"
#include "pgstage/session/server.h"
#include "pgstage/session/statement_names.h"
#include "pgstage/session/tracker.h"
#include "pgstage/session/watch.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/intent.h"
#include "pgstage/wire/kinds.h"
#include "pgstage/wire/message.h"
#include "relay_inside.h"

enum step {
    STEP_NEXT, /* go on with the next message */
    STEP_HOLD, /* keep what is left: it cannot go on now */
    STEP_OVER, /* the client has ended */
};

/* Where one pass over the client's bytes stands. */
struct pass {
    const uint8_t *data;
    size_t length;
    size_t at;            /* what has been dealt with */
    size_t from;          /* what has been passed on; [from, at) goes out with the next write */
    struct outgoing *out; /* pieces that go before it; NULL: nothing was rewritten */
    const uint8_t *batch; /* where one begins that again_keep wants to know of; NULL: none does */
    bool describes;       /* … a Describe is in it */
};

/* Writes what was gathered. A server that takes no more is lost, but what it has said until then is
 * read first: the loop calls relay_server, and the client's further bytes wait for that. */
static void pass_flush(struct client *client, struct pass *pass)
{
    size_t count = pass->at - pass->from;
    const uint8_t *bytes = pass->data + pass->from;
    struct server *server = client->server;
    struct stream *stream = &server->stream;
    enum stream_result result = STREAM_DONE;

    pass->from = pass->at;
    if (pass->out) {
        outgoing_add(pass->out, bytes, count);
        if (pass->out->count)
            result = stream_writev(stream, pass->out->pieces, pass->out->count);
        outgoing_clear(pass->out);
        pass->out = NULL;
    } else if (count) {
        result = stream_write(stream, bytes, count);
    }
    if (server->ahead_asked) {
        server->ahead_asked = false; /* it was among the pieces */
        buffer_fini(&server->ahead);
    }
    if (result == STREAM_BROKEN)
        stream_read_later(stream);
}

/* Bytes that were passed on and are not written yet. */
static size_t pass_waiting(const struct pass *pass)
{
    return pass->at - pass->from + (pass->out ? pass->out->bytes : 0);
}

/* The pieces of what is to be written, with room for one message more. */
static struct outgoing *pass_pieces(struct client *client, struct pass *pass)
{
    struct worker *worker = client->worker;

    if (pass->out && !outgoing_has_room(pass->out))
        pass_flush(client, pass);
    if (!worker->outgoing)
        worker->outgoing = memory_get(sizeof(*worker->outgoing));
    if (!pass->out)
        outgoing_clear(worker->outgoing);
    pass->out = worker->outgoing;
    outgoing_add(pass->out, pass->data + pass->from, pass->at - pass->from);
    pass->from = pass->at;
    return pass->out;
}

/* Its server is lost in the middle of something: is the message part of that? */
static bool is_lost(struct client *client, const struct frame *frame, const uint8_t *body,
                    size_t there, struct buffer *out)
{
    struct loss_message message = {.type = frame->type};

    recall_message(client, body, there, &message);
    if (!loss_message(&client->exchange->loss, &message, out))
        return false;
    recall_done(client, body, there, &message);
    return true;
}

/* The client has no server: does it get its answer here? */
static bool is_local(struct client *client, const struct frame *frame, const uint8_t *body,
                     size_t there, struct buffer *out)
{
    if (client->exchange && loss_is_busy(&client->exchange->loss) &&
        is_lost(client, frame, body, there, out))
        return true;
    switch (frame->type) {
    case 'S':
        message_ready(out, 'I'); /* nothing is open: the answer is known */
        return true;
    case 'H':
    case 'd':
    case 'c':
    case 'f':
        return true; /* Flush, and what comes after a failed COPY, ask for nothing */
    default:
        return false;
    }
}

static enum step answer_locally(struct client *client, struct pass *pass, const struct frame *frame,
                                struct buffer *out)
{
    size_t total = FRAME_HEADER_BYTES + (size_t)frame->body_bytes;
    size_t there = pass->length - pass->at;

    if (!client_send_buffer(client, out))
        return STEP_OVER;
    client->body_left = total > there ? (uint32_t)(total - there) : 0;
    client->body_dropped = client->body_left > 0;
    total -= client->body_left;
    if (client->exchange)
        loss_passed(&client->exchange->loss, total);
    pass->at += total;
    pass->from = pass->at;
    return STEP_NEXT;
}

/* Terminate: what was sent before it still goes out. */
static enum step terminate(struct client *client, struct pass *pass)
{
    if (client->server)
        pass_flush(client, pass);
    client_close(client, REASON_CLIENT_TERMINATE);
    return STEP_OVER;
}

static void count_message(struct client *client, uint8_t type, const uint8_t *body, size_t there)
{
    struct pool_stats *stats = relay_stats(client);

    switch (type) {
    case 'Q':
    case 'F':
    case 'E':
        counter_add(&stats->query_count, 1);
        break;
    case 'P':
        if (there && body[0] != '\0')
            counter_add(&stats->client_parse_count, 1);
        break;
    case 'B':
        counter_add(&stats->bind_count, 1);
        break;
    default:
        break;
    }
}

/* The query or batch begins: from here its time is counted. */
static void begin_request(struct client *client)
{
    struct server *server = client->server;
    uint64_t now_us = loop_now_us(client->worker->loop);

    if (!transaction_is_settled(&server->transaction))
        return;
    client->request_us = now_us;
    server->request_us = now_us;
    if (client->share->watch)
        watch_began(client);
    if (server->transaction.status == 'I') {
        if (client->exchange->changes)
            client_parameters_stay(client);
        client->exchange->transaction_us = now_us;
        recall_begin(&client->exchange->recall);
    }
}

/* The server is asked; `note` is 0 or ANSWER_NOTED. False: it will give no answer. */
static bool ask(struct client *client, struct pass *pass, const struct passing *passing,
                uint8_t intent, unsigned note)
{
    struct server *server = client->server;
    size_t left = passing->total - passing->there;

    bool entered =
        transaction_ask_for(&server->transaction, passing->type, ANSWER_FORWARD | note, intent,
                            server->stream.offered_bytes + pass_waiting(pass) + passing->total);

    if (left) {
        client->body_left = (uint32_t)left;
        client->body_type = passing->type;
        client->body_intent = intent;
        client->body_dropped = false;
    }
    pass->at += passing->there;
    return entered;
}

/* Answers of our own that are due at once, because nothing is owed before them. */
static bool send_produced(struct client *client)
{
    for (unsigned count = prepared_produce(client->server); count > 0; count--) {
        if (!client_send(client, relay_parse_complete, sizeof(relay_parse_complete)))
            return false;
    }
    return true;
}

/* The server is asked with a message that is rewritten, or that others must go before. */
static enum step ask_rewritten(struct client *client, struct pass *pass,
                               const struct passing *passing, struct prepared_plan *plan,
                               uint8_t intent)
{
    struct server *server = client->server;
    struct outgoing *out = pass_pieces(client, pass);
    size_t left = passing->total - passing->there;
    bool entered;

    if (transaction_is_free(&server->transaction)) {
        pass->batch = plan->kind == PLAN_USE ? passing->data : NULL;
        pass->describes = passing->type == 'D';
    }
    prepared_send(client, passing, plan, out);
    pass->at += passing->there;
    pass->from = pass->at;
    entered =
        transaction_add_last(&server->transaction, passing->type, passing->noted ? ANSWER_NOTED : 0,
                             intent, server->stream.offered_bytes + pass_waiting(pass) + left);
    if (passing->noted)
        tracker_asked(client, entered);
    client->body_left = (uint32_t)left;
    client->body_type = passing->type;
    client->body_intent = intent;
    client->body_dropped = left && plan->kind == PLAN_REFUSE;
    if (out->urgent)
        pass_flush(client, pass);
    return send_produced(client) ? STEP_NEXT : STEP_OVER;
}

/* Gets a server for the message that is looked at: relay_bytes arms the client behind it. */
static bool borrow(struct client *client)
{
    bool lent;

    client->asking = true;
    lent = client_borrow(client);
    client->asking = false;
    return lent;
}

/* Can the client's server be sent something now? */
static bool may_ask(struct client *client)
{
    struct server *server = client->server;

    return server->state == SERVER_ACTIVE && /* else it is being checked or prepared */
           !server->stream.write_broken && !transaction_is_full(&server->transaction) &&
           (!server->kept || gate_begin(server));
}

/* What gives the server its client's parameters goes with the client's first message. */
static void pass_ahead(struct client *client, struct pass *pass)
{
    struct server *server = client->server;

    if (server->ahead_asked)
        return;
    outgoing_add(pass_pieces(client, pass), server->ahead.data, server->ahead.length);
    server_ask_ahead(server);
}

/* A statement that session_state = error does not allow: what goes to the server in its place fails
 * there. */
static void pass_refusal(struct client *client, struct pass *pass, uint8_t type, size_t total)
{
    struct stream *stream = &client->server->stream;
    struct buffer out = {0};

    pass_flush(client, pass);
    tracker_refusal(client, type, pass->data + pass->at + FRAME_HEADER_BYTES, &out);
    tracker_asked(client, transaction_ask_for(&client->server->transaction, type, ANSWER_NOTED, 0,
                                              stream->offered_bytes + out.length));
    if (stream_write(stream, out.data, out.length) == STREAM_BROKEN)
        stream_read_later(stream);
    buffer_fini(&out);
    pass->at += total;
    pass->from = pass->at;
}

/* The client sends what no client may: what it sent before that still goes out. */
static enum step fail(struct client *client, struct pass *pass, enum reason reason)
{
    if (client->server && client->server->state == SERVER_ACTIVE)
        pass_flush(client, pass);
    client_fail(client, reason, NULL);
    return STEP_OVER;
}

/* What no client may send. */
static bool is_refused(const struct client *client, const struct frame *frame, enum reason *reason)
{
    const struct settings *globals = snapshot_globals(client->worker->setup->snapshot);

    if (kind_find(KIND_CLIENT, frame->type)->relay == KIND_REFUSE)
        *reason = REASON_CLIENT_UNEXPECTED;
    else if (frame->body_bytes > globals->max_packet_size_bytes)
        *reason = REASON_CLIENT_TOO_LONG;
    else if (frame->type == 'H' && frame->body_bytes)
        *reason = REASON_CLIENT_BAD_LENGTH; /* an error that answers nothing would come of it */
    else if (frame->type == 'Q' && globals->disable_pqexec)
        *reason = REASON_CLIENT_PQEXEC;
    else
        return false;
    return true;
}

/* What the text of a Query or Parse may do, as far as it is here. */
static unsigned read_text(const struct client *client, uint8_t type, const uint8_t *body,
                          size_t there)
{
    const char *text = (const char *)body;
    size_t length;

    if (type == 'P') {
        /* nearly always the unnamed one */
        text = there && body[0] == '\0' ? text : memchr(body, '\0', there);
        if (!text)
            return INTENT_COMMITS | INTENT_STATE;
        text++;
        there -= (size_t)(text - (const char *)body);
    }
    length = strnlen(text, there);
    return intent_of(text, length, length == there, client->sql_mode);
}

/* Notes what the message names, and tells what it does. `bound`: the statement of a Bind. */
static uint8_t recall(struct client *client, const struct passing *passing, uint8_t bound)
{
    uint8_t first = passing->there > FRAME_HEADER_BYTES ? passing->data[FRAME_HEADER_BYTES] : 0;

    switch (passing->type) {
    case 'Q':
    case 'P':
        return passing->intent;
    case 'B':
        recall_bind(&client->exchange->recall, first, bound);
        return bound;
    case 'E':
        return recall_portal(&client->exchange->recall, first);
    default:
        return 0;
    }
}

/* It is certain that it goes to the server. */
static enum step pass_on(struct client *client, struct pass *pass, struct passing *passing,
                         enum tracker_step tracked, enum prepared_step prepared,
                         struct prepared_plan *plan)
{
    const uint8_t *body = passing->data + FRAME_HEADER_BYTES;
    size_t there = passing->there - FRAME_HEADER_BYTES;
    uint8_t type = passing->type, intent;

    begin_request(client);
    if (client->server->ahead.length)
        pass_ahead(client, pass);
    count_message(client, type, body, there);
    if (client->share->watch && (type == 'Q' || type == 'P' || type == 'F'))
        watch_statement(client, type, body, there, passing->total - FRAME_HEADER_BYTES);
    intent = recall(client, passing, plan->intent);
    if (type == 'D')
        pass->describes = true;
    if (tracked == TRACKER_REFUSE)
        pass_refusal(client, pass, type, passing->total);
    else if (prepared == PREPARED_TAKE)
        return ask_rewritten(client, pass, passing, plan, intent);
    else if (tracked == TRACKER_NOTE)
        tracker_asked(client, ask(client, pass, passing, intent, ANSWER_NOTED));
    else
        (void)ask(client, pass, passing, intent, 0);
    if (pass->batch && type == 'S') {
        again_keep(client, pass->batch, (size_t)(pass->data + pass->at - pass->batch),
                   pass->describes);
        pass->batch = NULL;
    }
    return STEP_NEXT;
}

static enum step pass_message(struct client *client, struct pass *pass)
{
    enum tracker_step tracked = TRACKER_PASS;
    enum prepared_step prepared = PREPARED_PASS;
    const uint8_t *data = pass->data + pass->at, *body = data + FRAME_HEADER_BYTES;
    size_t there = pass->length - pass->at, total;
    struct prepared_plan plan;
    struct passing passing;
    struct buffer out = {0};
    enum reason reason;
    struct frame frame;
    unsigned intent = 0;

    switch (frame_peek(data, there, UINT32_MAX, &frame)) {
    case FRAME_PARTIAL:
        return STEP_HOLD;
    case FRAME_BAD:
        return fail(client, pass, REASON_CLIENT_BAD_LENGTH);
    case FRAME_OK:
        break;
    }
    if (is_refused(client, &frame, &reason))
        return fail(client, pass, reason);
    total = FRAME_HEADER_BYTES + (size_t)frame.body_bytes;
    passing = (struct passing){frame.type, data, total > there ? there : total, total, false, 0};
    if (total > there && (total <= LOOP_BUFFER_BYTES || prepared_wants_more(client, &passing)))
        return STEP_HOLD;
    if (frame.type == 'X')
        return terminate(client, pass);
    there = passing.there - FRAME_HEADER_BYTES;
    if (!client->server && is_local(client, &frame, body, there, &out))
        return answer_locally(client, pass, &frame, &out);
    if (!client->server && tracker_needs_more(client, frame.type, there, frame.body_bytes))
        return STEP_HOLD;
    if (!client->server && !borrow(client))
        return client_is_over(client) ? STEP_OVER : STEP_HOLD;
    if (!may_ask(client))
        return STEP_HOLD;
    plan.intent = 0;
    if (share_settings(client->share)->pool_mode != POOL_MODE_SESSION) {
        if (frame.type == 'Q' || frame.type == 'P')
            intent = read_text(client, frame.type, body, there);
        passing.intent = (uint8_t)intent;
        if (tracker_concerns(client, frame.type))
            tracked = tracker_look(client, frame.type, intent, body, there, frame.body_bytes);
        if (tracked == TRACKER_HOLD)
            return STEP_HOLD;
        passing.noted = tracked == TRACKER_NOTE;
        if (tracked != TRACKER_REFUSE && prepared_concerns(client, frame.type))
            prepared = prepared_look(client, &passing, &plan);
        client->awaiting = prepared == PREPARED_HOLD;
        if (prepared == PREPARED_HOLD)
            return STEP_HOLD;
        if (prepared == PREPARED_FAIL)
            return fail(client, pass, REASON_CLIENT_LONG_NAME);
    }
    return pass_on(client, pass, &passing, tracked, prepared, &plan);
}

/* A batch is open, and nothing is to be looked at in what follows of it but what pass_plain does. */
static bool is_plain_batch(const struct client *client)
{
    const struct server *server = client->server;
    const struct transaction *transaction = &server->transaction;

    return transaction->batch_open && !transaction->skipping && !transaction->uncertain &&
           !client->tracker && !client->body_left && !(client->names && client->names->wiped) &&
           server->state == SERVER_ACTIVE && !server->kept && !server->ahead.length &&
           !server->stream.write_broken &&
           share_settings(client->share)->pool_mode != POOL_MODE_SESSION;
}

/* Is it a Bind of the unnamed statement that this very batch has parsed? */
static bool is_plain_bind(const struct client *client, const uint8_t *body, size_t there)
{
    const struct server *server = client->server;

    return !client->names && there >= 2 && body[0] == '\0' && body[1] == '\0' &&
           server->unnamed_links == server->links &&
           client->unnamed.batch == transaction_batch(&server->transaction);
}

/* Passes on what nearly always follows in a batch, up to its end: Bind of what was just parsed,
 * Describe and Execute of a portal, Sync. Anything else, and what is not whole, is left to
 * pass_message, which would do the same with these. */
static void pass_plain(struct client *client, struct pass *pass)
{
    const struct settings *globals = snapshot_globals(client->worker->setup->snapshot);
    struct server *server = client->server;
    struct transaction *transaction = &server->transaction;
    struct recall *recall = &client->exchange->recall;
    uint64_t end = server->stream.offered_bytes + pass_waiting(pass);
    struct frame frame;

    while (transaction->batch_open && !transaction_is_full(transaction)) {
        const uint8_t *body = pass->data + pass->at + FRAME_HEADER_BYTES;
        uint8_t intent = 0;

        if (frame_peek(pass->data + pass->at, pass->length - pass->at,
                       globals->max_packet_size_bytes, &frame) != FRAME_OK ||
            frame.body_bytes > pass->length - pass->at - FRAME_HEADER_BYTES)
            return;
        switch (frame.type) {
        case 'B':
            if (!is_plain_bind(client, body, frame.body_bytes))
                return;
            intent = client->unnamed.intent;
            unnamed_bound(client);
            recall_bind(recall, 0, intent);
            counter_add(&relay_stats(client)->bind_count, 1);
            break;
        case 'D':
            if (frame.body_bytes == 0 || body[0] != 'P')
                return;
            pass->describes = true;
            break;
        case 'E':
            intent = recall_portal(recall, frame.body_bytes ? body[0] : 0);
            counter_add(&relay_stats(client)->query_count, 1);
            break;
        case 'S':
            if (pass->batch || client->unnamed.state == UNNAMED_LONG)
                return;
            break;
        default:
            return;
        }
        pass->at += FRAME_HEADER_BYTES + (size_t)frame.body_bytes;
        end += FRAME_HEADER_BYTES + (size_t)frame.body_bytes;
        transaction_ask_in_batch(transaction, frame.type, intent, end);
    }
}

/* The rest of a message that streams. */
static enum step pass_body(struct client *client, struct pass *pass)
{
    size_t there = pass->length - pass->at;
    size_t count = client->body_left < there ? client->body_left : there;
    struct buffer out = {0};

    if (!client->body_dropped && client->server->stream.write_broken)
        return STEP_HOLD;
    if (client->tracker && !client->body_dropped && client->server)
        tracker_piece(client, pass->data + pass->at, count);
    client->body_left -= (uint32_t)count;
    pass->at += count;
    if (!client->body_dropped)
        return STEP_NEXT;
    pass->from = pass->at;
    if (client->exchange)
        loss_passed(&client->exchange->loss, count);
    if (client->body_left)
        return STEP_NEXT;
    client->body_dropped = false;
    if (client->exchange && client->exchange->loss.cut)
        loss_cut_over(&client->exchange->loss, &out);
    return client_send_buffer(client, &out) ? STEP_NEXT : STEP_OVER;
}

/* The name is one that no client can have prepared, since it holds a byte that no identifier of a
 * driver does. */
void relay_fence(struct server *server)
{
    struct buffer out = {0};

    message_close(&out, 'S',
                  "pgstage\x01"
                  "fence");
    message_empty(&out, 'S');
    transaction_fence(&server->transaction);
    if (stream_write(&server->stream, out.data, out.length) == STREAM_BROKEN)
        stream_read_later(&server->stream);
    buffer_fini(&out);
}

static void relay_bytes(struct client *client, const uint8_t *data, size_t length)
{
    struct pass pass = {.data = data, .length = length};
    enum step step = STEP_NEXT;
    struct server *server;

    while (step == STEP_NEXT && pass.at < pass.length) {
        server = client->server;
        step = client->body_left ? pass_body(client, &pass) : pass_message(client, &pass);
        if (step == STEP_OVER) {
            /* its server waits for what was asked of it and will never be sent */
            if (server && pass_waiting(&pass))
                server_close(server, REASON_SERVER_ABANDONED, NULL);
            return;
        }
        if (step != STEP_NEXT || !client->server)
            continue;
        if (transaction_wants_fence(&client->server->transaction) && !client->body_left) {
            pass_flush(client, &pass);
            relay_fence(client->server);
        } else if (is_plain_batch(client)) {
            pass_plain(client, &pass);
        }
    }
    if (client->server && client->server->state == SERVER_ACTIVE)
        pass_flush(client, &pass);
    if (pass.at < pass.length)
        client_hold(client, pass.data + pass.at, pass.length - pass.at);
    if (client->server && client->server->state == SERVER_ACTIVE)
        server_settled(client->server); /* the last bytes may have been what it waited for */
    if (client_is_over(client))
        return;
    if (client->state == CLIENT_IDLE && client->exchange)
        exchange_end(client); /* what its lost server left behind is over */
    client_arm(client);
    client_update_flow(client);
}

/* Do these bytes end with a Terminate? */
static bool ends_with_terminate(const uint8_t *data, size_t length)
{
    size_t at = 0, total = 0;
    struct frame frame = {.type = 0};

    while (at < length && frame_peek(data + at, length - at, UINT32_MAX, &frame) == FRAME_OK) {
        total = FRAME_HEADER_BYTES + (size_t)frame.body_bytes;
        if (total > length - at)
            return false;
        at += total;
    }
    return at == length && frame.type == 'X';
}

/* Is a server there, or on its way, for what the client has asked? */
static bool is_served(const struct client *client)
{
    if (client->state == CLIENT_WAITING)
        return pool_is_coming(client->share->backend->pool, &client->exchange->waiter);
    return client->state == CLIENT_ACTIVE;
}

/* Its end has come. When it took its leave behind what its server is about to get, that is done
 * first; one that stands in the queue leaves it. */
static void part(struct client *client, const uint8_t *data, size_t length)
{
    if (client->body_left == 0 && ends_with_terminate(data, length) && is_served(client)) {
        client->parting = true;
        client_hold(client, data, length);
        client_update_flow(client);
        return;
    }
    client_close(client, client->stream.error ? REASON_CLIENT_BROKEN : REASON_CLIENT_EOF);
}

/* Does it send what goes through as it comes, so that nothing of it has to be kept here? */
static bool is_streaming(const struct client *client)
{
    return client->server && (client->body_left || client->server->transaction.copy == COPY_IN) &&
           stream_queued_bytes(&client->server->stream) == 0;
}

void relay_client(struct client *client)
{
    struct loop *loop = client->worker->loop;
    size_t size, length = client->held_bytes;
    uint8_t *buffer = loop_buffer(loop, &size);
    bool only_held = client->granted && length > 0;

    client->granted = false;
    if (client->streams && is_streaming(client))
        size = LOOP_STREAM_BYTES;
    if (length) {
        memcpy(buffer, client->held, length);
        client_hold(client, NULL, 0);
    }
    if (!only_held && length < size && !client->stream.read_paused) {
        ssize_t count = stream_read(&client->stream, buffer + length, size - length);

        if (count < 0) {
            part(client, buffer, length);
            return;
        }
        length += (size_t)count;
        client->streams = length >= LOOP_BUFFER_BYTES;
        client->active_us = loop_now_us(loop);
        client->received_bytes += (size_t)count;
        if (client->share)
            counter_add(&relay_stats(client)->bytes_received, (uint64_t)count);
        if (stream_has_pending(&client->stream))
            stream_read_later(&client->stream);
    }
    if (only_held && stream_has_pending(&client->stream))
        stream_read_later(&client->stream); /* no event would tell of it again */
    if (client->state == CLIENT_WELCOME || client->state == CLIENT_WAITING) {
        /* it waits for a server already: what comes meanwhile is kept behind the rest */
        client_hold(client, buffer, length);
        client_update_flow(client);
        return;
    }
    relay_bytes(client, buffer, length);
}
