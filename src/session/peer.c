/*
 * peer.c: passes a cancel request on to the process that told its key.
 *
 *   requester's worker ── letter ──► worker of the peer ─► (pool_size of them at a time) ─► connect
 *          ▲                                                       CancelRequest, wait for its end
 *          └───────────────────────── letter: over ◄───────────────────────────────┘
 *
 * What waits is bounded in number, and everything in time (cancel_wait_timeout). How often a request
 * may be passed on is counted in its key, so that peers which name each other wrongly cannot keep
 * one going. The peer's end of the connection is the sign that it has dealt with the request.
 */
#include "pgstage/session/peer.h"

#include <stdlib.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/net/dial.h"
#include "pgstage/net/stream.h"
#include "pgstage/session/cancel.h"
#include "pgstage/session/worker.h"
#include "pgstage/wire/message.h"

/* Requests for one peer beyond those under way, and those under way where nothing limits them. */
#define WAITING_MAX 1000
#define ACTIVE_MAX 100

/* One peer, while there are requests for it. */
struct peer {
    /* owner: the worker that carries its requests */
    int64_t id;
    struct list waiting, active; /* of struct forward */
    bool pumping;
    UT_hash_handle hh; /* in worker->peers */
};

struct forward {
    /* fixed */
    struct worker *worker;
    struct peer *peer;
    uint64_t requester_id;
    struct cancel_key key;
    /* owner */
    struct list_node node; /* in peer->waiting or peer->active */
    struct stream stream;
    struct timer timer;
    struct dial dial;
    bool active, sent, over;
};

static void pump(struct worker *worker, struct peer *peer);

static const struct peer_config *find_config(const struct worker *worker, int64_t peer_id)
{
    const struct snapshot *snapshot = worker->setup->snapshot;

    for (size_t i = 0; i < snapshot_peer_count(snapshot); i++)
        if (snapshot_peer(snapshot, i)->id == peer_id)
            return snapshot_peer(snapshot, i);
    return NULL;
}

unsigned peer_worker(const struct plane *plane, int64_t peer_id)
{
    return (unsigned)((uint64_t)peer_id % plane->worker_count);
}

bool peer_is_known(const struct worker *worker, int64_t peer_id)
{
    return find_config(worker, peer_id) != NULL;
}

/* ---- one request ---- */

static void forward_free(void *object)
{
    free(object);
}

static void forward_over(struct forward *forward)
{
    struct worker *worker = forward->worker;
    struct peer *peer = forward->peer;

    if (forward->over)
        return;
    forward->over = true;
    dial_end(&forward->dial);
    list_remove(forward->active ? &peer->active : &peer->waiting, &forward->node);
    stream_close(&forward->stream);
    timer_detach(worker->loop, &forward->timer);
    cancel_tell(worker->plane, forward->requester_id, forward->sent);
    loop_release(worker->loop, forward, forward_free);
    pump(worker, peer);
}

static void forward_send(struct forward *forward)
{
    struct buffer out = {0};

    message_cancel(&out, forward->key.pid, forward->key.secret, forward->key.secret_bytes);
    forward->sent = stream_write(&forward->stream, out.data, out.length) != STREAM_BROKEN;
    buffer_fini(&out);
    if (!forward->sent)
        forward_over(forward);
}

static void forward_event(struct stream *stream, enum stream_event event);

/* Tries the next address; the deadline is that of the whole. */
static void connect_next(struct forward *forward)
{
    const struct address *address;

    while ((address = dial_next(&forward->dial))) {
        if (stream_connect(&forward->stream, forward->worker->loop, address, forward_event))
            return;
    }
    log_warning("peer %lld cannot be reached: a cancel request is lost",
                (long long)forward->peer->id);
    forward_over(forward);
}

static void forward_event(struct stream *stream, enum stream_event event)
{
    struct forward *forward = list_entry(stream, struct forward, stream);
    uint8_t scrap[64];

    switch (event) {
    case STREAM_CONNECTED:
        forward_send(forward);
        break;
    case STREAM_READABLE:
        if (stream_read(stream, scrap, sizeof(scrap)) != 0)
            forward_over(forward);
        break;
    case STREAM_CLOSED:
    case STREAM_FAILED:
        if (forward->sent) {
            forward_over(forward);
            break;
        }
        stream_close(stream);
        connect_next(forward);
        break;
    case STREAM_SECURED:
    case STREAM_DRAINED:
        break;
    }
}

static void resolved(struct dial *dial)
{
    connect_next(list_entry(dial, struct forward, dial));
}

static void forward_timer(struct loop *loop, struct timer *timer)
{
    (void)loop;
    forward_over(list_entry(timer, struct forward, timer));
}

static void forward_start(struct forward *forward, const struct peer_config *config)
{
    forward->active = true;
    list_push_back(&forward->peer->active, &forward->node);
    if (dial_begin(&forward->dial, config->host, config->port))
        connect_next(forward);
}

/* ---- one peer ---- */

static struct peer *peer_get(struct worker *worker, int64_t peer_id)
{
    struct peer *peer;

    HASH_FIND(hh, worker->peers, &peer_id, sizeof(peer_id), peer);
    if (peer)
        return peer;
    peer = memory_new(sizeof(*peer));
    peer->id = peer_id;
    list_init(&peer->waiting);
    list_init(&peer->active);
    HASH_ADD(hh, worker->peers, id, sizeof(peer->id), peer);
    return peer;
}

/* How many requests for it may be under way. */
static size_t room_of(const struct worker *worker, const struct peer_config *config)
{
    const struct settings *globals = snapshot_globals(worker->setup->snapshot);
    int64_t size = config->pool_size < 0 ? globals->default_pool_size : config->pool_size;

    return size > 0 ? (size_t)size : ACTIVE_MAX;
}

/* Starts what may be started; forgets a peer for which there is nothing. */
static void pump(struct worker *worker, struct peer *peer)
{
    const struct peer_config *config = find_config(worker, peer->id);

    if (peer->pumping)
        return; /* the call that does will see it */
    peer->pumping = true;
    while (!worker->ended && !list_is_empty(&peer->waiting) &&
           (!config || peer->active.length < room_of(worker, config))) {
        struct forward *forward = list_entry(list_first(&peer->waiting), struct forward, node);

        if (!config) {
            forward_over(forward); /* a reload has taken the peer away */
            continue;
        }
        list_remove(&peer->waiting, &forward->node);
        forward_start(forward, config);
    }
    peer->pumping = false;
    if (list_is_empty(&peer->waiting) && list_is_empty(&peer->active)) {
        HASH_DEL(worker->peers, peer);
        loop_release(worker->loop, peer, forward_free);
    }
}

bool peer_forward(struct worker *worker, int64_t peer_id, const struct cancel_key *key,
                  uint64_t requester_id)
{
    const struct settings *globals = snapshot_globals(worker->setup->snapshot);
    struct forward *forward;
    struct peer *peer;

    if (worker->ended || !peer_is_known(worker, peer_id))
        return false;
    peer = peer_get(worker, peer_id);
    if (peer->waiting.length >= WAITING_MAX) {
        log_warning("peer %lld: too many cancel requests wait for it", (long long)peer_id);
        return false;
    }
    forward = memory_new(sizeof(*forward));
    forward->worker = worker;
    forward->peer = peer;
    forward->requester_id = requester_id;
    forward->key = *key;
    forward->stream.watch.fd = -1;
    dial_init(&forward->dial, worker->loop, worker->plane->resolver, resolved);
    forward->timer.fire = forward_timer;
    timer_set(worker->loop, &forward->timer,
              loop_now_us(worker->loop) + (globals->cancel_wait_timeout_us
                                               ? globals->cancel_wait_timeout_us
                                               : 10 * CLOCK_SECOND));
    list_push_back(&peer->waiting, &forward->node);
    pump(worker, peer);
    return true;
}

void peer_abort_all(struct worker *worker)
{
    struct peer *peer, *next;

    HASH_ITER (hh, worker->peers, peer, next) {
        /* the last one takes the peer along, at the end of the turn */
        while (peer->waiting.length + peer->active.length > 0) {
            struct list *list = list_is_empty(&peer->waiting) ? &peer->active : &peer->waiting;

            forward_over(list_entry(list_first(list), struct forward, node));
        }
    }
}

/* ---- view ---- */

void worker_each_peer(struct loop *loop, void (*row)(void *argument, const struct peer_view *),
                      void *argument)
{
    struct worker *worker = worker_of(loop);
    struct peer *peer, *next;

    HASH_ITER (hh, worker->peers, peer, next) {
        struct peer_view view = {.id = peer->id, .waiting = peer->waiting.length};

        list_for_each (node, &peer->active) {
            if (list_entry(node, struct forward, node)->sent)
                view.sent++;
            else
                view.connecting++;
        }
        row(argument, &view);
    }
}
