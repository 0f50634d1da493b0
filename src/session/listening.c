/*
 * listening.c: the workers' side of LISTEN and NOTIFY: which clients listen to what.
 *
 * A channel that a client wants is asked of the hub once for the worker, and kept for a while after
 * the last client has left it, so that clients that come and go cost nothing. Notifications reach a
 * client between its transactions, as PostgreSQL delivers them; until then they wait in a queue
 * with a bound.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "listening_inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/pool/registry.h"
#include "pgstage/session/server.h"
#include "pgstage/wire/message.h"

/* What may wait for one client, here and in its socket. */
#define QUEUE_MAX_BYTES (1024 * 1024)
/* How long a channel that nobody uses is kept. */
#define CHANNEL_KEPT_US (600 * CLOCK_SECOND)
/* How long after a failure a channel is asked for again. */
#define RETRY_US CLOCK_SECOND

/* ---- hubs ---- */

struct hubs *hubs_new(void)
{
    struct hubs *hubs = memory_new(sizeof(*hubs));

    pthread_mutex_init(&hubs->mutex, NULL);
    list_init(&hubs->list);
    return hubs;
}

static void sweep(struct loop *loop, struct timer *timer);

static struct hub *hub_new(struct worker *worker, const struct pool *pool, const char *encoding)
{
    struct plane *plane = worker->plane;
    struct hub *hub = memory_new(sizeof(*hub));

    hub->plane = plane;
    hub->worker = worker;
    hub->database = text_copy(pool_database(pool));
    hub->environment = text_copy(pool_environment(pool));
    hub->encoding = text_copy(encoding);
    hub->ears = memory_new(plane->worker_count * sizeof(*hub->ears));
    list_init(&hub->sent);
    for (unsigned i = 0; i < plane->worker_count; i++) {
        hub->ears[i].hub = hub;
        hub->ears[i].worker = &plane->workers[i];
        hub->ears[i].sweep.fire = sweep;
    }
    return hub;
}

/* The hub of the client's database; made on this worker when there is none. Any worker. */
static struct hub *find_hub(struct worker *worker, const struct pool *pool, const char *encoding)
{
    struct hubs *hubs = worker->plane->hubs;
    struct hub *found = NULL;

    pthread_mutex_lock(&hubs->mutex);
    list_for_each (node, &hubs->list) {
        struct hub *hub = list_entry(node, struct hub, node);

        if (text_equal(hub->database, pool_database(pool)) &&
            text_equal(hub->environment, pool_environment(pool)) &&
            text_equal_nocase(hub->encoding, encoding)) {
            found = hub;
            break;
        }
    }
    if (!found) {
        found = hub_new(worker, pool, encoding);
        list_push_back(&hubs->list, &found->node);
    }
    pthread_mutex_unlock(&hubs->mutex);
    return found;
}

static void ear_fini(struct ear *ear)
{
    struct channel *channel, *next;

    HASH_ITER (hh, ear->channels, channel, next) {
        HASH_DEL(ear->channels, channel);
        free(channel);
    }
}

void hubs_free(struct hubs *hubs)
{
    struct list_node *node;

    if (!hubs)
        return;
    while ((node = list_pop_front(&hubs->list))) {
        struct hub *hub = list_entry(node, struct hub, node);
        struct hub_channel *channel, *next;

        for (unsigned i = 0; i < hub->plane->worker_count; i++)
            ear_fini(&hub->ears[i]);
        HASH_ITER (hh, hub->channels, channel, next) {
            HASH_DEL(hub->channels, channel);
            free(channel->wanted);
            free(channel);
        }
        free(hub->ears);
        free(hub->tail);
        free(hub->database);
        free(hub->environment);
        free(hub->encoding);
        free(hub);
    }
    pthread_mutex_destroy(&hubs->mutex);
    free(hubs);
}

/* ---- channels of a worker ---- */

static struct channel *channel_find(struct ear *ear, const char *name)
{
    struct channel *channel;

    HASH_FIND(hh, ear->channels, name, strlen(name), channel);
    return channel;
}

static struct channel *channel_get(struct ear *ear, const char *name, struct pool *pool)
{
    struct channel *channel = channel_find(ear, name);

    if (channel)
        return channel;
    channel = memory_new(sizeof(*channel));
    channel->ear = ear;
    list_init(&channel->clients);
    list_init(&channel->waiters);
    (void)text_fit(channel->name, sizeof(channel->name), name);
    HASH_ADD(hh, ear->channels, name, strlen(channel->name), channel);
    hub_want(ear->hub, ear->worker, name, pool);
    return channel;
}

static void channel_drop(struct channel *channel)
{
    HASH_DEL(channel->ear->channels, channel);
    free(channel);
}

/* Asks for it again, for those that listen already. */
static void want(struct channel *channel)
{
    const struct subscription *first =
        list_entry(list_first(&channel->clients), struct subscription, channel_node);

    channel->retry = false;
    hub_want(channel->ear->hub, channel->ear->worker, channel->name,
             first->client->share->backend->pool);
}

/* Notes since when nobody uses it, and looks again later. */
static void look_at_use(struct channel *channel)
{
    struct ear *ear = channel->ear;
    uint64_t now_us = loop_now_us(ear->worker->loop);

    if (!list_is_empty(&channel->clients) || !list_is_empty(&channel->waiters)) {
        channel->unused_us = 0;
        return;
    }
    channel->unused_us = now_us;
    if (!timer_is_set(&ear->sweep))
        timer_set(ear->worker->loop, &ear->sweep, now_us + CHANNEL_KEPT_US);
}

static void sweep(struct loop *loop, struct timer *timer)
{
    struct ear *ear = list_entry(timer, struct ear, sweep);
    uint64_t now_us = loop_now_us(loop), next_us = 0;
    struct channel *channel, *next;

    HASH_ITER (hh, ear->channels, channel, next) {
        if (channel->retry && !list_is_empty(&channel->clients))
            want(channel);
        if (!channel->unused_us)
            continue;
        if (now_us >= channel->unused_us + CHANNEL_KEPT_US) {
            hub_unwant(ear->hub, ear->worker, channel->name);
            channel_drop(channel);
        } else if (!next_us || channel->unused_us + CHANNEL_KEPT_US < next_us) {
            next_us = channel->unused_us + CHANNEL_KEPT_US;
        }
    }
    if (next_us)
        timer_set(loop, timer, next_us);
}

/* ---- a client's part ---- */

static struct hearing *hearing_of(struct client *client)
{
    struct hearing *hearing = client->hearing;

    if (hearing)
        return hearing;
    hearing = client->hearing = memory_new(sizeof(*hearing));
    hearing->client = client;
    list_init(&hearing->subscriptions);
    return hearing;
}

static struct subscription *subscription_find(const struct hearing *hearing, const char *channel)
{
    list_for_each (node, &hearing->subscriptions) {
        struct subscription *subscription = list_entry(node, struct subscription, node);

        if (strcmp(subscription->channel->name, channel) == 0)
            return subscription;
    }
    return NULL;
}

static void subscription_end(struct subscription *subscription)
{
    list_remove(&subscription->client->hearing->subscriptions, &subscription->node);
    list_remove(&subscription->channel->clients, &subscription->channel_node);
    look_at_use(subscription->channel);
    free(subscription);
}

static void stop_waiting(struct hearing *hearing)
{
    struct channel *channel = hearing->waits;

    if (!channel)
        return;
    hearing->waits = NULL;
    list_remove(&channel->waiters, &hearing->wait_node);
    look_at_use(channel);
}

/* What the client's texts are encoded in. */
static const char *encoding_of(const struct client *client)
{
    const char *own = parameters_get(client->parameters, "client_encoding");

    if (!own && client->server)
        own = parameters_get(client->server->reported, "client_encoding");
    return own ? own : "UTF8";
}

enum listening listening_prepare(struct client *client, const char *name, char *problem,
                                 size_t size)
{
    struct hearing *hearing = hearing_of(client);
    struct pool *pool = client->share->backend->pool;
    const char *encoding = encoding_of(client);
    struct channel *channel;

    stop_waiting(hearing);
    if (hearing->problem) {
        (void)text_fit(problem, size, hearing->problem);
        free(hearing->problem);
        hearing->problem = NULL;
        return LISTENING_FAILED;
    }
    if (hearing->subscriptions.length >= CHANNELS_PER_CLIENT_MAX &&
        !subscription_find(hearing, name)) {
        (void)text_fit(problem, size, "too many channels");
        return LISTENING_FAILED;
    }
    if (!hearing->ear || (list_is_empty(&hearing->subscriptions) &&
                          !text_equal_nocase(hearing->ear->hub->encoding, encoding)))
        hearing->ear = &find_hub(client->worker, pool, encoding)->ears[client->worker->index];
    channel = channel_get(hearing->ear, name, pool);
    if (channel->ready) {
        look_at_use(channel);
        return LISTENING_READY;
    }
    hearing->waits = channel;
    list_push_back(&channel->waiters, &hearing->wait_node);
    channel->unused_us = 0;
    return LISTENING_WAIT;
}

bool listening_waits(const struct client *client)
{
    return client->hearing && client->hearing->waits;
}

void listening_start(struct client *client, const char *name)
{
    struct hearing *hearing = client->hearing;
    struct subscription *subscription;
    struct channel *channel = hearing && hearing->ear ? channel_find(hearing->ear, name) : NULL;

    if (!channel || !channel->ready) {
        /* it was there when the LISTEN was sent: the hub has been lost since */
        client_fail(client, REASON_LISTEN_GAP, NULL);
        return;
    }
    if (subscription_find(hearing, name))
        return;
    subscription = memory_new(sizeof(*subscription));
    subscription->client = client;
    subscription->channel = channel;
    list_push_back(&hearing->subscriptions, &subscription->node);
    list_push_back(&channel->clients, &subscription->channel_node);
    channel->unused_us = 0;
}

void listening_stop(struct client *client, const char *name)
{
    struct hearing *hearing = client->hearing;
    struct subscription *subscription;

    if (!hearing)
        return;
    if (name) {
        subscription = subscription_find(hearing, name);
        if (subscription)
            subscription_end(subscription);
        return;
    }
    while (!list_is_empty(&hearing->subscriptions))
        subscription_end(
            list_entry(list_first(&hearing->subscriptions), struct subscription, node));
}

void listening_leave(struct client *client)
{
    struct hearing *hearing = client->hearing;

    if (!hearing)
        return;
    stop_waiting(hearing);
    listening_stop(client, NULL);
    buffer_fini(&hearing->queue);
    free(hearing->problem);
    free(hearing);
    client->hearing = NULL;
}

/* ---- hearing ---- */

/* Between two transactions, and between two messages. */
static bool may_hear_now(const struct client *client)
{
    const struct server *server = client->server;

    if (client->state == CLIENT_IDLE || client->state == CLIENT_WAITING)
        return true;
    return client->state == CLIENT_ACTIVE && server && server->state == SERVER_ACTIVE &&
           !server->body_left && !client->body_left && transaction_is_free(&server->transaction);
}

bool listening_flush(struct client *client)
{
    struct hearing *hearing = client->hearing;
    struct buffer queue = hearing->queue;

    if (queue.length == 0 || !may_hear_now(client))
        return true;
    /* the client may end in it, and its hearing with it */
    hearing->queue = (struct buffer){0};
    return client_send_buffer(client, &queue);
}

static void hear(struct client *client, const uint8_t *message, size_t bytes)
{
    struct hearing *hearing = client->hearing;

    if (hearing->queue.length + stream_queued_bytes(&client->stream) + bytes > QUEUE_MAX_BYTES) {
        client_fail(client, REASON_LISTEN_QUEUE, NULL);
        return;
    }
    buffer_put(&hearing->queue, message, bytes);
    (void)listening_flush(client);
}

/* Those that listen there, by id: telling one may end another. */
static uint64_t *listeners_of(const struct channel *channel, size_t *count)
{
    uint64_t *ids = memory_resize(NULL, channel->clients.length + 1, sizeof(*ids));

    *count = 0;
    list_for_each (node, &channel->clients)
        ids[(*count)++] = list_entry(node, struct subscription, channel_node)->client->id;
    return ids;
}

/* The client with this id, as long as it listens to something. */
static struct client *listener(const struct ear *ear, uint64_t id)
{
    struct client *client = worker_client(ear->worker, id);

    return client && client->hearing && !client_is_over(client) ? client : NULL;
}

static void hear_all(struct channel *channel, const uint8_t *message, size_t bytes)
{
    struct ear *ear = channel->ear;
    size_t count;
    uint64_t *ids = listeners_of(channel, &count);

    for (size_t i = 0; i < count; i++) {
        struct client *client = listener(ear, ids[i]);

        if (client)
            hear(client, message, bytes);
    }
    free(ids);
}

void ear_hear(struct ear *ear, const char *name, const uint8_t *message, size_t bytes)
{
    struct channel *channel = channel_find(ear, name);

    if (channel)
        hear_all(channel, message, bytes);
}

/* The client's LISTEN goes on, or is refused. */
static void wake(struct hearing *hearing, const char *problem)
{
    struct client *client = hearing->client;

    list_remove(&hearing->waits->waiters, &hearing->wait_node);
    hearing->waits = NULL;
    hearing->problem = text_copy(problem);
    client->granted = true;
    loop_defer(client->worker->loop, &client->task);
}

static void wake_all(struct channel *channel, const char *problem)
{
    while (!list_is_empty(&channel->waiters))
        wake(list_entry(list_first(&channel->waiters), struct hearing, wait_node), problem);
}

/* After a gap (listen_gap = notice): it listens again, and has missed what came meanwhile. */
static void tell_of_gap(struct channel *channel)
{
    struct buffer out = {0};

    channel->gap = false;
    message_notice(&out, "WARNING", "01000",
                   "notifications may have been lost: the connection that listens was interrupted");
    hear_all(channel, out.data, out.length);
    buffer_fini(&out);
}

void ear_told(struct ear *ear, const char *name, const char *problem)
{
    struct channel *channel = channel_find(ear, name);

    if (!channel) {
        if (!problem)
            hub_unwant(ear->hub, ear->worker, name);
        return;
    }
    channel->ready = problem == NULL;
    wake_all(channel, problem);
    if (!problem) {
        if (channel->gap)
            tell_of_gap(channel);
        look_at_use(channel);
    } else if (list_is_empty(&channel->clients)) {
        channel_drop(channel); /* the next LISTEN asks again */
    } else {
        channel->retry = true;
        timer_set(ear->worker->loop, &ear->sweep, loop_now_us(ear->worker->loop) + RETRY_US);
    }
}

/* Ends those clients that want to be ended. */
static void disconnect(struct channel *channel)
{
    struct ear *ear = channel->ear;
    size_t count;
    uint64_t *ids = listeners_of(channel, &count);

    for (size_t i = 0; i < count; i++) {
        struct client *client = listener(ear, ids[i]);

        if (client && share_settings(client->share)->listen_gap == LISTEN_GAP_DISCONNECT)
            client_fail(client, REASON_LISTEN_GAP, NULL);
    }
    free(ids);
}

void ear_gap(struct ear *ear)
{
    struct channel *channel, *next;

    HASH_ITER (hh, ear->channels, channel, next) {
        channel->ready = false;
        wake_all(channel, "the connection that listens was lost");
        disconnect(channel);
        if (list_is_empty(&channel->clients)) {
            channel_drop(channel);
            continue;
        }
        channel->gap = true;
        want(channel);
    }
}
