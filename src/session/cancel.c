/*
 * cancel.c: from a CancelRequest to the server that runs the query.
 *
 *   requester's worker ── letter ──► worker of the client whose key it is ── connect ──► server
 *          ▲                                     │ re-check, CancelRequest, wait for its end
 *          └────────────── letter: over ─────────┘
 *
 * A key names worker and slot, so the letter goes to the right place at once. While the connection
 * for the cancel is being made the query may end; it is looked at again right before the request is
 * sent, and until the cancel connection has ended the server is lent to nobody else
 * (server->cancels). When the postmaster does not end it in time, the request may still be carried
 * out later: then the server is lent to nobody else at all. The connection to the server has the
 * same TLS policy as its other ones.
 */
#include "pgstage/session/cancel.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/cancel_key.h"
#include "pgstage/session/client.h"
#include "pgstage/session/console.h"
#include "pgstage/session/peer.h"
#include "pgstage/session/server.h"
#include "pgstage/session/wait.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"
#include "pgstage/wire/startup.h"

/* More requests than this at a time for one server tell nothing new. */
#define CANCELS_PER_SERVER 4

/* A connection to a server that carries one CancelRequest. */
struct cancel {
    /* fixed */
    struct worker *worker;
    struct share *share;
    struct meaning *meaning;
    struct host *host; /* used */
    uint64_t server_id, links, requester_id;
    uint32_t remote_pid;
    size_t secret_bytes;
    uint8_t secret[CANCEL_KEY_MAX_BYTES];
    /* owner */
    struct list_node node; /* in worker->cancels */
    struct stream stream;
    struct timer timer;
    bool asked_tls, sent, over;
    bool heard; /* the postmaster has ended it: the signal was passed on */
    struct address address;
};

/* ---- letters ---- */

struct cancel_letter {
    struct mail mail;
    uint64_t requester_id; /* 0: nobody waits */
    bool heard;
    struct cancel_key key;
    int64_t peer_id; /* 0: for one of our own clients */
};

static void deliver_over(struct loop *loop, struct mail *mail)
{
    struct cancel_letter *letter = (struct cancel_letter *)mail;
    struct client *requester = worker_client(worker_of(loop), letter->requester_id);

    if (requester && requester->state == CLIENT_CANCEL)
        client_close(requester,
                     letter->heard ? REASON_CLIENT_CANCEL_SENT : REASON_CLIENT_CANCEL_UNKNOWN);
    free(letter);
}

void cancel_tell(struct plane *plane, uint64_t requester_id, bool heard)
{
    struct cancel_letter *letter;

    if (!requester_id)
        return;
    letter = memory_new(sizeof(*letter));
    letter->mail.deliver = deliver_over;
    letter->requester_id = requester_id;
    letter->heard = heard;
    loop_post(plane->loops[worker_of_id(requester_id)], &letter->mail);
}

/* ---- the connection ---- */

static void cancel_free(void *object)
{
    struct cancel *cancel = object;

    meaning_unref(cancel->meaning);
    host_unuse(cancel->host);
    free(cancel);
}

static void cancel_over(struct cancel *cancel)
{
    struct server *server = worker_server(cancel->worker, cancel->server_id);
    struct loop *loop = cancel->worker->loop;

    if (cancel->over)
        return;
    cancel->over = true;
    list_remove(&cancel->worker->cancels, &cancel->node);
    stream_close(&cancel->stream);
    timer_detach(loop, &cancel->timer);
    cancel->share->cancels--;
    cancel_tell(cancel->worker->plane, cancel->requester_id, cancel->sent);
    loop_release(loop, cancel, cancel_free);
    if (!server)
        return;
    if (cancel->sent && !cancel->heard) {
        server_log(server, RANK_WARNING,
                   "a cancel request was not taken in time: the connection is not used again");
        server->stained = true;
    }
    server_cancel_over(server);
}

/* Does it run something? Of a replication connection, which is nobody else's, that is not known. */
static bool is_busy(const struct server *server)
{
    return server->replication || !transaction_is_settled(&server->transaction);
}

/* Is the query still the one that was meant? Then ask the server to end it. */
static void send_request(struct cancel *cancel)
{
    struct server *server = worker_server(cancel->worker, cancel->server_id);
    struct buffer out = {0};

    /* a server that was closed runs nobody else's query: what it may still run is meant */
    if (server && (server->links != cancel->links ||
                   (server->state != SERVER_ACTIVE && server->state != SERVER_DRAINING) ||
                   !is_busy(server))) {
        cancel_over(cancel);
        return;
    }
    message_cancel(&out, cancel->remote_pid, cancel->secret, cancel->secret_bytes);
    cancel->sent = stream_write(&cancel->stream, out.data, out.length) != STREAM_BROKEN;
    buffer_fini(&out);
    if (!cancel->sent)
        cancel_over(cancel);
}

static void tls_answered(struct cancel *cancel)
{
    struct tls_context *tls = cancel->meaning->tls;
    uint8_t answer;
    ssize_t count = stream_read(&cancel->stream, &answer, 1);
    SSL *ssl = NULL;

    if (count == 0)
        return;
    if (count == 1 && answer == 'S')
        ssl = tls_connect_new(tls, host_name(cancel->host));
    if (ssl)
        stream_secure(&cancel->stream, ssl, false);
    else if (count == 1 && answer == 'N' && tls_context_mode(tls) <= TLS_PREFER)
        send_request(cancel);
    else
        cancel_over(cancel);
}

/* Has the postmaster ended the connection, in whatever way? A network that gives up has not. */
static bool is_end(const struct stream *stream, ssize_t count)
{
    return count < 0 && stream->error != ETIMEDOUT && stream->error != EHOSTUNREACH &&
           stream->error != ENETUNREACH;
}

static void cancel_event(struct stream *stream, enum stream_event event)
{
    struct cancel *cancel = list_entry(stream, struct cancel, stream);
    uint8_t scrap[64];
    struct buffer out = {0};
    ssize_t count;

    switch (event) {
    case STREAM_CONNECTED:
        if (address_is_local(&cancel->address) &&
            !meaning_knows_peer(cancel->meaning, stream->watch.fd)) {
            cancel_over(cancel);
            break;
        }
        if (!cancel->meaning->tls || address_is_local(&cancel->address)) {
            send_request(cancel);
            break;
        }
        cancel->asked_tls = true;
        message_ssl_request(&out);
        if (stream_write(stream, out.data, out.length) == STREAM_BROKEN)
            cancel_over(cancel);
        buffer_fini(&out);
        break;
    case STREAM_SECURED:
        send_request(cancel);
        break;
    case STREAM_READABLE:
        if (cancel->asked_tls && !stream->ssl && !cancel->sent) {
            tls_answered(cancel);
            break;
        }
        count = stream_read(stream, scrap, sizeof(scrap));
        cancel->heard = is_end(stream, count);
        if (count != 0)
            cancel_over(cancel);
        break;
    case STREAM_CLOSED:
        cancel->heard = true;
        cancel_over(cancel);
        break;
    case STREAM_FAILED:
        cancel_over(cancel);
        break;
    case STREAM_DRAINED:
        break;
    }
}

static void cancel_timer(struct loop *loop, struct timer *timer)
{
    (void)loop;
    cancel_over(list_entry(timer, struct cancel, timer));
}

/* The policy in force now, under which a rotated certificate is trusted, rather than the one that
 * the server's own connection was made under; but never a weaker one. */
static struct meaning *policy_of(const struct server *server)
{
    struct meaning *then = server->meaning, *now = server->share->meaning;
    bool weaker =
        then->tls && (!now->tls || tls_context_mode(now->tls) < tls_context_mode(then->tls));

    return weaker ? then : now;
}

static bool cancel_start(struct server *server, uint64_t requester_id)
{
    const struct settings *globals = snapshot_globals(server->worker->setup->snapshot);
    struct loop *loop = server->worker->loop;
    struct cancel *cancel;

    if (!server->cancel_secret || server->cancels >= CANCELS_PER_SERVER ||
        server->cancel_secret_bytes > CANCEL_KEY_MAX_BYTES)
        return false;
    cancel = memory_new(sizeof(*cancel));
    cancel->worker = server->worker;
    cancel->share = server->share;
    cancel->meaning = meaning_ref(policy_of(server));
    cancel->host = server->host;
    host_use(cancel->host);
    cancel->server_id = server->item.id;
    cancel->links = server->links;
    cancel->requester_id = requester_id;
    cancel->remote_pid = server->remote_pid;
    cancel->secret_bytes = server->cancel_secret_bytes;
    memcpy(cancel->secret, server->cancel_secret, cancel->secret_bytes);
    cancel->address = server->address;
    cancel->timer.fire = cancel_timer;
    if (!stream_connect(&cancel->stream, loop, &cancel->address, cancel_event)) {
        cancel_free(cancel);
        return false;
    }
    timer_set(loop, &cancel->timer,
              loop_now_us(loop) + (globals->cancel_wait_timeout_us ? globals->cancel_wait_timeout_us
                                                                   : 10 * CLOCK_SECOND));
    list_push_back(&cancel->worker->cancels, &cancel->node);
    server->cancels++;
    cancel->share->cancels++;
    return true;
}

void cancel_abort_all(struct worker *worker)
{
    while (!list_is_empty(&worker->cancels))
        cancel_over(list_entry(list_first(&worker->cancels), struct cancel, node));
}

void cancel_abort_host(struct worker *worker, const struct host *host)
{
    list_for_each_safe (node, &worker->cancels) {
        struct cancel *cancel = list_entry(node, struct cancel, node);

        if (cancel->host == host)
            cancel_over(cancel);
    }
}

void cancel_server(struct server *server)
{
    (void)cancel_start(server, 0);
}

/* ---- whose key is it? ---- */

static void refuse_held(struct client *client)
{
    wait_refuse(client, "57014", "canceling statement due to user request");
}

/* True when a connection to a server was begun, which will tell the requester. */
static bool cancel_client(struct client *client, uint64_t requester_id)
{
    switch (client->state) {
    case CLIENT_WAITING:
        refuse_held(client);
        return false;
    case CLIENT_ACTIVE:
        /* our own statements are not what the client wants cancelled */
        if (client->server->state != SERVER_ACTIVE) {
            server_abandon(client->server, true);
            refuse_held(client);
            return false;
        }
        if (!is_busy(client->server))
            return false;
        return cancel_start(client->server, requester_id);
    case CLIENT_CONSOLE:
        console_cancel(client);
        return false;
    default:
        return false;
    }
}

static void deliver_request(struct loop *loop, struct mail *mail)
{
    struct cancel_letter *letter = (struct cancel_letter *)mail;
    struct worker *worker = worker_of(loop);
    struct client *client = cancel_key_client(&letter->key, worker);

    if (!client || !cancel_client(client, letter->requester_id))
        cancel_tell(worker->plane, letter->requester_id, client != NULL);
    free(letter);
}

/* On the worker that carries the peer's requests. */
static void deliver_to_peer(struct loop *loop, struct mail *mail)
{
    struct cancel_letter *letter = (struct cancel_letter *)mail;
    struct worker *worker = worker_of(loop);

    if (!peer_forward(worker, letter->peer_id, &letter->key, letter->requester_id))
        cancel_tell(worker->plane, letter->requester_id, false);
    free(letter);
}

/* The peer whose client's key it is; 0: we look among our own. */
static int64_t peer_of(const struct worker *worker, const struct cancel_key *key)
{
    int64_t own_id = snapshot_globals(worker->setup->snapshot)->peer_id;
    int64_t peer_id = own_id ? cancel_key_peer(key) : 0;

    /* a key from before we had a number, or from a peer that is none any more, may look like this */
    return peer_id != own_id && peer_is_known(worker, peer_id) ? peer_id : 0;
}

void cancel_request(struct client *requester, const struct startup *startup)
{
    struct plane *plane = requester->worker->plane;
    struct cancel_letter *letter;
    struct cancel_key key;
    unsigned worker = 0;
    int64_t peer_id = 0;
    bool known = cancel_key_read(&key, startup->cancel_pid, startup->cancel_secret,
                                 startup->cancel_secret_bytes);

    if (known) {
        peer_id = peer_of(requester->worker, &key);
        if (peer_id)
            worker = peer_worker(plane, peer_id);
        else
            known = cancel_key_worker(&key, requester->worker, &worker);
    }
    if (peer_id && !cancel_key_hop(&key)) {
        client_log(requester, RANK_WARNING,
                   "a cancel request for peer %" PRId64 " has been passed on too often", peer_id);
        known = false;
    }
    if (!known) {
        client_close(requester, REASON_CLIENT_CANCEL_UNKNOWN);
        return;
    }
    if (peer_id)
        client_log(requester, RANK_DEBUG, "a cancel request is passed on to peer %" PRId64,
                   peer_id);
    letter = memory_new(sizeof(*letter));
    letter->mail.deliver = peer_id ? deliver_to_peer : deliver_request;
    letter->peer_id = peer_id;
    letter->requester_id = requester->id;
    letter->key = key;
    loop_post(plane->loops[worker], &letter->mail);
}
