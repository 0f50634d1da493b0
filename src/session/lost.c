/*
 * lost.c: a server has gone while a client had it.
 *
 *   server_close ─► lost_server
 *                     ├─ nothing of the client's was sent ─► it gets another one, hears nothing
 *                     ├─ half a message was received ──────► its connection ends without a word
 *                     ├─ session mode, pinned ─────────────► FATAL 57P01: its session has gone, too
 *                     └─ else loss_tell ─► an error for each ReadyForQuery that it is owed;
 *                                          the transaction that it believes in is made up
 *
 * A message is never sent to a second server: what had been given to the lost one is answered with
 * an error, and what had not, is still in client->held.
 */
#include "pgstage/session/lost.h"

#include <stdlib.h>
#include <sys/ioctl.h>

#include "pgstage/base/text.h"
#include "pgstage/session/client.h"
#include "pgstage/session/exchange.h"
#include "pgstage/session/gate.h"
#include "pgstage/session/server.h"

/* May it keep nothing of the session that was lost? */
static bool owns_session(const struct client *client)
{
    return share_settings(client->share)->pool_mode == POOL_MODE_SESSION || client->pins;
}

bool lost_is_told(const struct server *server)
{
    const struct client *client = server->client;

    return client && server->state == SERVER_ACTIVE && !owns_session(client) &&
           share_settings(client->share)->server_lost_action == SERVER_LOST_ERROR;
}

/* It goes on without a server: what it holds is looked at again. */
static void go_on(struct client *client)
{
    client_set_state(client, CLIENT_IDLE);
    client->active_us = loop_now_us(client->worker->loop);
    client->granted = true;
    loop_defer(client->worker->loop, &client->task);
    client_arm(client);
    client_update_flow(client);
}

/* Bytes that the client has sent and that have not been looked at yet. What TLS has not decrypted
 * is not counted. */
static uint64_t unread_bytes(const struct client *client)
{
    const struct stream *stream = &client->stream;
    int waiting = 0;

    if (stream->ssl)
        waiting = SSL_pending(stream->ssl);
    else if (ioctl(stream->watch.fd, FIONREAD, &waiting) != 0)
        waiting = 0;
    return client->held_bytes + (waiting > 0 ? (uint64_t)waiting : 0);
}

static char *detail_of(const struct server *server, enum reason reason)
{
    if (server->fatal && server->query_error)
        return text_print("The server said: FATAL %s %s", server->query_sqlstate,
                          server->query_error);
    return text_print("%s", reason_text(reason));
}

/* A message of which only a part was passed on: the rest is dropped. */
static uint8_t cut_message(struct client *client, struct server *server)
{
    if (!client->body_left || client->body_dropped)
        return 0;
    client->body_dropped = true;
    transaction_retract(&server->transaction, client->body_type, server->stream.sent_bytes);
    return client->body_type == 'Q' || client->body_type == 'F' ? client->body_type : 0;
}

static void tell(struct server *server, struct client *client, enum reason reason)
{
    uint8_t cut = cut_message(client, server);
    char *detail = detail_of(server, reason);
    struct loss_cause cause = {.detail = detail, .sent_bytes = server->stream.sent_bytes};
    struct buffer out = {0};
    bool doomed;

    if (server->fatal && server->query_error) {
        cause.sqlstate = server->query_sqlstate;
        cause.text = server->query_error;
    }
    client->exchange->marked = true;
    doomed = loss_tell(&client->exchange->loss, &server->transaction, &cause, &out);
    if (cut)
        loss_cut(&client->exchange->loss, cut, client->body_intent);
    if (doomed || (cut && server->transaction.status != 'I'))
        client->exchange->loss.doomed_bytes = unread_bytes(client);
    free(detail);
    if (client_send_buffer(client, &out))
        go_on(client);
}

/* Does its client lose an answer, a transaction or its session with it? */
static bool is_felt(const struct server *server, const struct client *client)
{
    return !transaction_is_free(&server->transaction) || owns_session(client);
}

void lost_server(struct server *server, struct client *client, enum reason reason, bool untouched,
                 bool cut)
{
    const struct settings *settings = share_settings(client->share);

    if (!untouched && is_felt(server, client))
        gate_erred(client->share);
    if (!untouched && !transaction_is_free(&server->transaction))
        client_parameters_undo(client);
    if (untouched) {
        go_on(client);
    } else if (cut || client->parting) {
        client_close(client, reason);
    } else if (server->fatal &&
               (owns_session(client) || settings->server_lost_action == SERVER_LOST_DISCONNECT)) {
        client_close(client, reason); /* it has had the server's own FATAL */
    } else if (owns_session(client)) {
        client_fail_as(client, reason, "57P01", reason_text(reason));
    } else if (settings->server_lost_action == SERVER_LOST_DISCONNECT) {
        client_fail(client, reason, NULL);
    } else {
        tell(server, client, reason);
    }
    if (client->state == CLIENT_IDLE && !client->held_bytes && client_is_stopping(client))
        client_stop(client);
}
