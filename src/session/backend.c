/*
 * backend.c: what a pool means, and how its wishes reach the right worker.
 *
 * A pool knows only items and waiters. The backend that is attached to it knows hosts, credentials
 * and TLS under the configuration in force (`struct meaning`, immutable), and what its servers said
 * of themselves (`struct welcome`). Wishes of the pool (open, reclaim, doom) always travel by mail,
 * also to the own worker, so that nothing happens inside the call that caused it.
 */
#include "pgstage/session/backend.h"
#include "pgstage/conf/access.h"
#include "pgstage/session/accepted.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/settings.h"
#include "pgstage/session/change.h"
#include "pgstage/session/client.h"
#include "pgstage/session/login.h"
#include "pgstage/session/pace.h"
#include "pgstage/session/relay.h"
#include "pgstage/session/server.h"
#include "pgstage/session/wait.h"
#include "pgstage/session/watch.h"
#include "pgstage/wire/message.h"

/* The pause after the first refused login on a server. */
#define BACKEND_FIRST_PAUSE_US (200 * CLOCK_MS)

/* ---- meaning ---- */

/* The hosts and the TLS context of a meaning of the same kind under the same setup. */
static void take_over(struct meaning *meaning, const struct meaning *like)
{
    meaning->tls = like->tls ? tls_context_ref(like->tls) : NULL;
    meaning->dr_from = like->dr_from;
    meaning->host_count = like->host_count;
    memcpy(meaning->hosts, like->hosts, like->host_count * sizeof(struct host *));
}

struct meaning *meaning_new(struct plane *plane, struct setup *setup, struct effective *effective,
                            const struct meaning *like, char *problem, size_t size)
{
    const struct environment_config *of = effective->environment;
    /* a line's own hosts have no disaster recovery site */
    size_t dr_count = of && effective->hosts == of->hosts ? of->dr_host_count : 0;
    struct meaning *meaning =
        memory_new(sizeof(*meaning) + (effective->host_count + dr_count) * sizeof(struct host *));
    const char *environment = of ? of->name : NULL;

    atomic_init(&meaning->references, 1);
    meaning->effective = effective;
    if (like && effective_same_kind(like->effective, effective)) {
        take_over(meaning, like);
        return meaning;
    }
    if (effective->settings->server_tls_sslmode > TLS_ALLOW) {
        meaning->tls = setup_server_tls(setup, effective->settings, problem, size);
        if (!meaning->tls) {
            meaning_unref(meaning);
            return NULL;
        }
    }
    meaning->dr_from = effective->host_count;
    for (size_t i = 0; i < effective->host_count; i++)
        meaning->hosts[meaning->host_count++] =
            hosts_get(plane->hosts, environment, &effective->hosts[i]);
    for (size_t i = 0; i < dr_count; i++)
        meaning->hosts[meaning->host_count++] =
            hosts_get(plane->hosts, environment, &of->dr_hosts[i]);
    return meaning;
}

bool meaning_knows_peer(const struct meaning *meaning, int fd)
{
    const struct environment_config *environment = meaning->effective->environment;
    struct ucred peer;
    socklen_t length = sizeof(peer);

    if (!environment || environment->server_peer_uid < 0)
        return true;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
           (int64_t)peer.uid == environment->server_peer_uid;
}

struct meaning *meaning_ref(struct meaning *meaning)
{
    atomic_fetch_add_explicit(&meaning->references, 1, memory_order_relaxed);
    return meaning;
}

void meaning_unref(struct meaning *meaning)
{
    if (!meaning || atomic_fetch_sub_explicit(&meaning->references, 1, memory_order_acq_rel) != 1)
        return;
    tls_context_unref(meaning->tls);
    effective_unref(meaning->effective);
    free(meaning);
}

static bool is_expired(const struct meaning *meaning)
{
    const struct environment_config *environment = meaning->effective->environment;

    return environment && environment_is_expired(environment, clock_wall_us());
}

void meaning_limits(const struct meaning *meaning, bool own_items, struct pool_limits *limits)
{
    const struct settings *settings = meaning->effective->settings;

    limits->pool_size = settings_pool_size(settings);
    limits->min_pool_size = settings->min_pool_size;
    limits->reserve_pool_size = settings->reserve_pool_size;
    limits->reserve_pool_timeout_us = settings->reserve_pool_timeout_us;
    limits->round_robin = settings->server_round_robin;
    limits->warm = settings->user != NULL;
    if (own_items)
        limits->reserve_pool_size = 0;
    if (is_expired(meaning) || own_items) {
        limits->min_pool_size = 0;
        limits->warm = false;
    }
}

/* ---- welcome ---- */

static struct welcome *welcome_new(struct parameters *parameters)
{
    struct welcome *welcome = memory_new(sizeof(*welcome));

    atomic_init(&welcome->references, 1);
    welcome->parameters = parameters;
    for (size_t i = 0; i < parameters_count(parameters); i++) {
        const char *name, *value;

        parameters_at(parameters, i, &name, &value);
        message_parameter_status(&welcome->messages, name, value);
    }
    return welcome;
}

void welcome_unref(struct welcome *welcome)
{
    if (!welcome || atomic_fetch_sub_explicit(&welcome->references, 1, memory_order_acq_rel) != 1)
        return;
    parameters_unref(welcome->parameters);
    buffer_fini(&welcome->messages);
    free(welcome);
}

/* ---- backend ---- */

/* What lingered here long enough is given to whoever waits. */
static void linger_due(struct loop *loop, struct timer *timer)
{
    struct share *share = list_entry(timer, struct share, linger);
    enum pool_outcome outcome;
    struct pool_grant grant;
    struct pool_item *item;

    while ((item = pool_unlinger(share->backend->pool, share->worker->index, loop_now_us(loop),
                                 &outcome, &grant)))
        server_dispose(list_entry(item, struct server, item), outcome, &grant);
}

static void pump_due(struct loop *loop, struct timer *timer)
{
    (void)loop;
    share_pump(list_entry(timer, struct share, pump));
}

void *backend_attach(struct pool *pool, void *argument)
{
    struct backend_seed *seed = argument;
    unsigned count = seed->plane->worker_count;
    struct backend *backend = memory_new(sizeof(*backend) + count * sizeof(struct share));

    backend->plane = seed->plane;
    backend->pool = pool;
    backend->gate = gates_get(seed->plane->gates, pool_environment(pool));
    pthread_mutex_init(&backend->mutex, NULL);
    backend->meaning = meaning_ref(seed->meaning);
    for (unsigned i = 0; i < count; i++) {
        struct share *share = &backend->shares[i];

        share->backend = backend;
        share->worker = &seed->plane->workers[i];
        share->stats = pool_stats(pool, i);
        list_init(&share->clients);
        list_init(&share->servers);
        share->pump.fire = pump_due;
        share->linger.fire = linger_due;
    }
    return backend;
}

static void backend_free(struct backend *backend)
{
    welcome_unref(backend->welcome);
    meaning_unref(backend->meaning);
    free(backend->failure.text);
    pthread_mutex_destroy(&backend->mutex);
    free(backend);
}

/* A pool is swept only when no worker has its share in its lists any more (plane_forget_pool),
 * or when the workers have ended. */
void backend_detach(void *attachment)
{
    struct backend *backend = attachment;

    check(!backend->plane->running || atomic_load(&backend->listed) == 0);
    gate_forget(backend);
    for (unsigned i = 0; i < backend->plane->worker_count; i++)
        meaning_unref(backend->shares[i].meaning);
    for (unsigned i = 0; i < backend->plane->worker_count; i++)
        accepted_free(backend->shares[i].accepted);
    for (unsigned i = 0; i < backend->plane->worker_count; i++)
        free(atomic_load(&backend->shares[i].kept_watch));
    backend_free(backend);
}

struct share *backend_share(struct backend *backend, struct worker *worker)
{
    struct share *share = &backend->shares[worker->index];

    if (!share->meaning) {
        share->meaning = backend_meaning(backend);
        share->expired = is_expired(share->meaning);
        watch_refresh(share);
        list_push_back(&worker->shares, &share->node);
        atomic_fetch_add(&backend->listed, 1);
    }
    return share;
}

struct meaning *backend_meaning(struct backend *backend)
{
    struct meaning *meaning;

    pthread_mutex_lock(&backend->mutex);
    meaning = meaning_ref(backend->meaning);
    pthread_mutex_unlock(&backend->mutex);
    return meaning;
}

struct welcome *backend_welcome(struct backend *backend)
{
    struct welcome *welcome;

    pthread_mutex_lock(&backend->mutex);
    welcome = backend->welcome;
    if (welcome)
        atomic_fetch_add_explicit(&welcome->references, 1, memory_order_relaxed);
    pthread_mutex_unlock(&backend->mutex);
    return welcome;
}

void backend_set_meaning(struct backend *backend, struct meaning *meaning)
{
    struct meaning *old;

    pthread_mutex_lock(&backend->mutex);
    old = backend->meaning;
    backend->meaning = meaning;
    pthread_mutex_unlock(&backend->mutex);
    meaning_unref(old);
}

void share_look_at_expiry(struct share *share)
{
    bool was_expired = share->expired;
    void **clients;
    size_t count;

    share->expired = is_expired(share->meaning);
    if (!share->expired || was_expired)
        return;
    clients = list_objects(&share->clients, offsetof(struct client, share_node), &count);
    for (size_t i = 0; i < count; i++)
        client_stop(clients[i]);
    free(clients);
}

void share_refresh(struct share *share)
{
    struct meaning *old = share->meaning;

    share->meaning = backend_meaning(share->backend);
    meaning_unref(old);
    watch_refresh(share);
    list_for_each (node, &share->clients) {
        client_arm(list_entry(node, struct client, share_node));
    }
    list_for_each (node, &share->servers) {
        server_refresh(list_entry(node, struct server, share_node));
    }
    share_look_at_expiry(share);
}

void backend_server_ready(struct backend *backend, struct parameters *parameters)
{
    struct welcome *old = NULL;
    char *text;

    pthread_mutex_lock(&backend->mutex);
    text = backend->failure.text;
    backend->failure.text = NULL;
    backend->failure.pause_us = 0;
    atomic_store_explicit(&backend->failing, false, memory_order_relaxed);
    if (!backend->welcome || !parameters_equal(backend->welcome->parameters, parameters)) {
        old = backend->welcome;
        backend->welcome = welcome_new(parameters_ref(parameters));
    }
    pthread_mutex_unlock(&backend->mutex);
    parameters_unref(parameters);
    welcome_unref(old);
    free(text);
}

uint64_t backend_pause(struct backend *backend, uint64_t now_us, uint64_t longest_us)
{
    uint64_t pause_us;

    pthread_mutex_lock(&backend->mutex);
    pause_us = backend->failure.pause_us ? backend->failure.pause_us * 2 : BACKEND_FIRST_PAUSE_US;
    if (pause_us > longest_us)
        pause_us = longest_us;
    if (pause_us < SERVER_LEAST_PAUSE_US)
        pause_us = SERVER_LEAST_PAUSE_US;
    backend->failure.pause_us = pause_us;
    pthread_mutex_unlock(&backend->mutex);
    return now_us + pause_us;
}

/* With the mutex: has the last login failed so recently that nobody tries again yet? */
static bool is_refused_still(const struct backend *backend, uint64_t now_us)
{
    return backend->failure.text && now_us < backend->failure.retry_at_us;
}

bool backend_is_failing(struct backend *backend, uint64_t now_us, struct backend_failure *failure)
{
    bool failing;

    if (!atomic_load_explicit(&backend->failing, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&backend->mutex);
    failing = is_refused_still(backend, now_us);
    if (failing) {
        memcpy(failure->sqlstate, backend->failure.sqlstate, sizeof(failure->sqlstate));
        failure->text =
            text_print("server login has been failing, cached error: %s (server_login_retry)",
                       backend->failure.text);
        failure->may_mend = backend->failure.may_mend;
    }
    pthread_mutex_unlock(&backend->mutex);
    return failing;
}

char *backend_failure_text(struct backend *backend)
{
    char *text = NULL;

    pthread_mutex_lock(&backend->mutex);
    if (backend->failure.text)
        text = text_print("%s: %s", backend->failure.sqlstate, backend->failure.text);
    pthread_mutex_unlock(&backend->mutex);
    return text;
}

/* ---- letters to workers about a pool ---- */

enum order {
    ORDER_OPEN,
    ORDER_RECLAIM,
    ORDER_DOOM,
    ORDER_LOGIN_FAILED,
    ORDER_FORGET,
    ORDER_REFRESH
};

struct order_letter {
    struct mail mail;
    enum order order;
    struct pool *pool; /* a reference */
    uint64_t item_id;
    const char *why; /* static */
};

static enum reason doom_reason(const char *why)
{
    static const enum reason known[] = {REASON_SERVER_EVICTED, REASON_SERVER_OBSOLETE,
                                        REASON_SERVER_PAUSED, REASON_SERVER_CHANGED};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(why, reason_text(known[i])) == 0)
            return known[i];
    return strcmp(why, "paused") == 0     ? REASON_SERVER_PAUSED
           : strcmp(why, "obsolete") == 0 ? REASON_SERVER_OBSOLETE
                                          : REASON_SERVER_NOT_NEEDED;
}

static void surrender(struct server *server)
{
    struct pool_grant grant = {0};
    enum pool_outcome outcome;

    if (server->state != SERVER_IDLE)
        return; /* it is closing, and the pool has been told */
    /* its end may lie in the socket already: a query must not be sent after it */
    if (!stream_is_quiet(&server->stream)) {
        relay_server(server);
        if (server->state != SERVER_IDLE)
            return;
    }
    outcome = pool_surrender(server->backend->pool, &server->item,
                             loop_now_us(server->worker->loop), &grant);
    server_dispose(server, outcome, &grant);
}

/* A login on the server was refused: clients that wait for a server may have to hear why. */
static void tell_waiting(struct share *share)
{
    size_t count;
    void **clients = list_objects(&share->clients, offsetof(struct client, share_node), &count);

    for (size_t i = 0; i < count; i++)
        if (!client_is_over(clients[i]))
            wait_look(clients[i]);
    free(clients);
}

/* Out of the worker's lists, when it has nothing of this pool. */
static void forget(struct share *share)
{
    if (!share->meaning || share->cancels || !list_is_empty(&share->clients) ||
        !list_is_empty(&share->servers))
        return;
    timer_detach(share->worker->loop, &share->pump);
    timer_detach(share->worker->loop, &share->linger);
    accepted_free(share->accepted);
    share->accepted = NULL;
    list_remove(&share->worker->shares, &share->node);
    meaning_unref(share->meaning);
    share->meaning = NULL;
    atomic_fetch_sub(&share->backend->listed, 1);
}

/* Whose openings share one pace with the pool's; NULL: nobody's. */
static struct pace *pace_of(struct pool *pool)
{
    struct gate *gate = backend_of(pool)->gate;

    return gate && !pool_has_own_items(pool) ? gate_pace(gate) : NULL;
}

static void drop_order(struct mail *mail)
{
    struct order_letter *letter = (struct order_letter *)mail;

    if (letter->order == ORDER_OPEN) {
        struct pace *pace = pace_of(letter->pool);

        if (pace) /* nobody is left who could open what waits: see backends_end */
            pace_end(pace, false, clock_now_us(), NULL);
        pool_open_failed(letter->pool, clock_now_us(), UINT64_MAX);
    }
    pool_unref(letter->pool);
    free(letter);
}

static void deliver_order(struct loop *loop, struct mail *mail)
{
    struct order_letter *letter = (struct order_letter *)mail;
    struct worker *worker = worker_of(loop);
    struct backend *backend = backend_of(letter->pool);
    struct server *server = worker_server(worker, letter->item_id);

    if (worker->ended) {
        drop_order(mail);
        return;
    }
    switch (letter->order) {
    case ORDER_OPEN:
        server_open(backend_share(backend, worker));
        break;
    case ORDER_RECLAIM:
        if (server)
            surrender(server);
        break;
    case ORDER_DOOM:
        if (server && server->state == SERVER_IDLE)
            server_close(server, doom_reason(letter->why), NULL);
        break;
    case ORDER_LOGIN_FAILED:
        if (backend->shares[worker->index].meaning)
            tell_waiting(&backend->shares[worker->index]);
        break;
    case ORDER_REFRESH:
        if (backend->shares[worker->index].meaning)
            share_refresh(&backend->shares[worker->index]);
        break;
    case ORDER_FORGET:
        forget(&backend->shares[worker->index]);
        break;
    }
    pool_unref(letter->pool);
    free(letter);
}

static void post_order(struct pool *pool, unsigned worker, enum order order, uint64_t item_id,
                       const char *why)
{
    struct order_letter *letter = memory_new(sizeof(*letter));

    letter->mail.deliver = deliver_order;
    letter->mail.drop = drop_order;
    letter->order = order;
    letter->pool = pool_ref(pool);
    letter->item_id = item_id;
    letter->why = why;
    loop_post(backend_of(pool)->plane->loops[worker], &letter->mail);
}

/* ---- a login that a reload overtook ---- */

/* Names the pool: a reference would keep it when the process ends. */
struct stale_letter {
    struct mail mail;
    struct plane *plane;
    char *database, *user, *environment;
    bool own_items;
};

static void stale_free(struct mail *mail)
{
    struct stale_letter *letter = (struct stale_letter *)mail;

    free(letter->database);
    free(letter->user);
    free(letter->environment);
    free(letter);
}

static void deliver_stale(struct loop *loop, struct mail *mail)
{
    struct stale_letter *letter = (struct stale_letter *)mail;
    struct pool_key key = {letter->database, letter->user, letter->environment, letter->own_items};
    struct pool *pool = registry_find(letter->plane->registry, &key);

    if (pool && change_renew(letter->plane, pool, loop_now_us(loop)))
        for (unsigned i = 0; i < letter->plane->worker_count; i++)
            post_order(pool, i, ORDER_REFRESH, 0, NULL);
    if (pool)
        pool_unref(pool);
    stale_free(mail);
}

void share_look_at_setup(struct share *share)
{
    const struct pool *pool = share->backend->pool;
    struct stale_letter *letter;

    if (share->meaning->effective->snapshot == share->worker->setup->snapshot)
        return;
    letter = memory_new(sizeof(*letter));
    letter->mail.deliver = deliver_stale;
    letter->mail.drop = stale_free;
    letter->plane = share->backend->plane;
    letter->database = text_copy(pool_database(pool));
    letter->user = text_copy(pool_user(pool));
    letter->environment = text_copy(pool_environment(pool));
    letter->own_items = pool_has_own_items(pool);
    loop_post(letter->plane->control, &letter->mail);
}

bool plane_forget_pool(struct pool *pool, bool act)
{
    struct backend *backend = backend_of(pool);

    if (atomic_load(&backend->listed) == 0)
        return true;
    for (unsigned i = 0; act && i < backend->plane->worker_count; i++)
        post_order(pool, i, ORDER_FORGET, 0, NULL);
    return false;
}

static void on_open(struct pool *pool, unsigned worker)
{
    struct pace *pace = pace_of(pool);

    if (!pace || pace_begin(pace, pool, worker, clock_now_us()))
        post_order(pool, worker, ORDER_OPEN, 0, NULL);
}

void backend_open_ended(struct pool *pool, bool opened)
{
    struct pace *pace = pace_of(pool);
    struct list orders;
    struct list_node *node;

    if (!pace)
        return;
    list_init(&orders);
    pace_end(pace, opened, clock_now_us(), &orders);
    while ((node = list_pop_front(&orders))) {
        struct pace_order *order = list_entry(node, struct pace_order, node);

        post_order(order->pool, order->worker, ORDER_OPEN, 0, NULL);
        free(order);
    }
}

void backends_end(struct plane *plane)
{
    struct list orders;
    struct list_node *node;

    list_init(&orders);
    gates_flush(plane->gates, &orders);
    while ((node = list_pop_front(&orders))) {
        struct pace_order *order = list_entry(node, struct pace_order, node);

        pool_open_failed(order->pool, clock_now_us(), UINT64_MAX);
        free(order);
    }
}

static void on_reclaim(struct pool *pool, unsigned worker, uint64_t item_id)
{
    post_order(pool, worker, ORDER_RECLAIM, item_id, NULL);
}

static void on_doom(struct pool *pool, unsigned worker, uint64_t item_id, const char *why)
{
    post_order(pool, worker, ORDER_DOOM, item_id, why);
}

struct drained_letter {
    struct mail mail;
    struct plane *plane;
};

static void deliver_drained(struct loop *loop, struct mail *mail)
{
    struct plane *plane = ((struct drained_letter *)mail)->plane;

    (void)loop;
    plane->hooks.pools_changed(plane->hooks.context);
    free(mail);
}

static void on_drained(struct pool *pool)
{
    struct drained_letter *letter = memory_new(sizeof(*letter));

    letter->mail.deliver = deliver_drained;
    letter->plane = backend_of(pool)->plane;
    loop_post(letter->plane->control, &letter->mail);
}

const struct pool_events backend_events = {
    .open = on_open,
    .reclaim = on_reclaim,
    .doom = on_doom,
    .drained = on_drained,
};

static void tell_workers(struct backend *backend)
{
    for (unsigned i = 0; i < backend->plane->worker_count; i++)
        post_order(backend->pool, i, ORDER_LOGIN_FAILED, 0, NULL);
}

void backend_login_failed(struct backend *backend, const char *sqlstate, const char *text,
                          bool may_mend, uint64_t retry_at_us)
{
    char *copy = text_copy(text), *old;

    pthread_mutex_lock(&backend->mutex);
    old = backend->failure.text;
    backend->failure.text = copy;
    (void)text_fit(backend->failure.sqlstate, sizeof(backend->failure.sqlstate), sqlstate);
    backend->failure.retry_at_us = retry_at_us;
    backend->failure.may_mend = may_mend;
    atomic_store_explicit(&backend->failing, true, memory_order_relaxed);
    pthread_mutex_unlock(&backend->mutex);
    free(old);
    tell_workers(backend);
}

bool backend_tell_failure(struct backend *backend, uint64_t now_us)
{
    bool failing;

    if (!atomic_load_explicit(&backend->failing, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&backend->mutex);
    failing = is_refused_still(backend, now_us);
    pthread_mutex_unlock(&backend->mutex);
    if (failing)
        tell_workers(backend);
    return failing;
}

void share_pump(struct share *share)
{
    struct loop *loop = share->worker->loop;
    uint64_t again_us = pool_pump(share->backend->pool, loop_now_us(loop));

    if (again_us)
        timer_set(loop, &share->pump, again_us);
    else
        timer_clear(&share->pump);
}
