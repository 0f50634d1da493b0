/*
 * ThreadSanitizer over the pool room: four workers with loops of their own lend servers to 200
 * clients and exchange real mail, while a fifth loop pauses, resumes, reconnects, sweeps and
 * counts. A plain program (Criterion does not start under ThreadSanitizer): exit status 0 when no
 * server was lent twice, no limit was ever exceeded and everything is gone at the end; the
 * sanitizer reports the rest.
 *
 *   control (main) ── pause, resume, reconnect, sweep ──► registry ◄── borrow, return ── workers
 * 0..3 │ open, reclaim, doom         ▲ └───────────── mail ──────────┘
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "pgstage/base/check.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/pool/pool.h"
#include "pgstage/pool/registry.h"
#include "pgstage/worker/loop.h"
#include "pgstage/worker/timer.h"

#define WORKERS 4
#define CLIENTS_EACH 50
#define OPERATIONS 1000 /* of each client */
#define STEPS 8         /* of each client in a tick */
#define KEYS 4          /* pools; those with even numbers are of one user */
#define POOL_SIZE 9
#define ENVIRONMENT_LIMIT 20 /* over all pools */
#define USER_LIMIT 13        /* over the pools of even numbers */
#define TIME_LIMIT_SECONDS 300

struct server {
    struct pool_item item;
    struct pool *pool;
    unsigned key;
    struct list_node node; /* in the servers of the worker that owns it */
    struct client *client;
    unsigned uses; /* turns until it is returned */
    atomic_bool lent;
};

struct client {
    struct pool_waiter waiter;
    struct pool *pool; /* with a reference while it wants or has a server */
    struct server *server;
    unsigned left;
};

struct worker {
    struct loop *loop;
    pthread_t thread;
    struct timer tick;
    struct client clients[CLIENTS_EACH];
    struct list servers;
    unsigned random;
    unsigned long lent, moved, broken, lingered;
    bool done;
};

static struct worker workers[WORKERS];
static struct registry *registry;
static unsigned keys[KEYS];
/* Connections as the outside sees them: counted from the open until just before the place is given
 * back. */
static _Atomic int connections[KEYS], of_all, of_user, in_use[KEYS];
static _Atomic unsigned workers_done;

static unsigned dice(unsigned *random, unsigned sides)
{
    *random = *random * 1103515245u + 12345u;
    return (*random >> 16) % sides;
}

static unsigned key_of(const struct pool *pool)
{
    return *(unsigned *)pool_attachment(pool);
}

static void count_connection(unsigned key, int more)
{
    check(atomic_fetch_add(&connections[key], more) + more <= POOL_SIZE);
    check(atomic_fetch_add(&of_all, more) + more <= ENVIRONMENT_LIMIT);
    if (key % 2 == 0)
        check(atomic_fetch_add(&of_user, more) + more <= USER_LIMIT);
}

/* ---- mail ---- */

enum letter_kind { LETTER_OPEN, LETTER_RECLAIM, LETTER_DOOM, LETTER_GRANT, LETTER_UNLINGER };

struct letter {
    struct mail mail;
    enum letter_kind kind;
    struct pool *pool; /* OPEN and UNLINGER: others may come when it has gone */
    uint64_t id;
    struct server *server;
};

static void deliver(struct loop *loop, struct mail *mail);

static void drop(struct mail *mail)
{
    struct letter *letter = list_entry(mail, struct letter, mail);
    if (letter->kind == LETTER_UNLINGER)
        pool_unref(letter->pool);
    free(letter);
}

static void post(unsigned worker, struct letter content)
{
    struct letter *letter = memory_new(sizeof(*letter));
    *letter = content;
    letter->mail.deliver = deliver;
    letter->mail.drop = drop;
    loop_post(workers[worker].loop, &letter->mail);
}

static void on_open(struct pool *pool, unsigned worker)
{
    count_connection(key_of(pool), 1);
    post(worker, (struct letter){.kind = LETTER_OPEN, .pool = pool});
}

static void on_reclaim(struct pool *pool, unsigned worker, uint64_t item_id)
{
    (void)pool;
    post(worker, (struct letter){.kind = LETTER_RECLAIM, .id = item_id});
}

static void on_doom(struct pool *pool, unsigned worker, uint64_t item_id, const char *why)
{
    (void)pool;
    check(why != NULL);
    post(worker, (struct letter){.kind = LETTER_DOOM, .id = item_id});
}

static void on_drained(struct pool *pool)
{
    (void)pool;
}

static void *on_attach(struct pool *pool, void *argument)
{
    (void)pool;
    return argument;
}

/* ---- servers ---- */

static void bury(struct worker *worker, struct server *server)
{
    list_remove(&worker->servers, &server->node);
    count_connection(server->key, -1);
    pool_remove(server->pool, &server->item, loop_now_us(worker->loop));
    free(server);
}

static void link_up(struct worker *worker, struct server *server, struct client *client)
{
    check(!atomic_exchange(&server->lent, true));
    check(client->pool == server->pool && !client->server);
    check(atomic_fetch_add(&in_use[server->key], 1) < POOL_SIZE);
    client->server = server;
    server->client = client;
    server->uses = dice(&worker->random, 4);
    worker->lent++;
}

static void follow(struct worker *worker, struct server *server, enum pool_outcome outcome,
                   const struct pool_grant *grant)
{
    switch (outcome) {
    case POOL_KEPT:
        break;
    case POOL_LENT:
        link_up(worker, server, list_entry(grant->waiter, struct client, waiter));
        break;
    case POOL_MOVE:
        worker->moved++;
        list_remove(&worker->servers, &server->node);
        post(grant->worker,
             (struct letter){.kind = LETTER_GRANT, .id = grant->waiter_id, .server = server});
        break;
    case POOL_DISCARD:
        bury(worker, server);
        break;
    case POOL_LINGERS: /* in the next turn; others of this worker may have got it by then */
        worker->lingered++;
        post(loop_index(worker->loop),
             (struct letter){.kind = LETTER_UNLINGER, .pool = pool_ref(server->pool)});
        break;
    }
}

static void give_back(struct worker *worker, struct server *server)
{
    struct pool_grant grant;
    enum pool_outcome outcome =
        pool_return(server->pool, &server->item, loop_now_us(worker->loop), &grant);
    follow(worker, server, outcome, &grant);
}

static void open_server(struct worker *worker, struct pool *pool)
{
    struct pool_grant grant;
    uint64_t now_us = loop_now_us(worker->loop);
    unsigned key = key_of(pool);
    if (!dice(&worker->random, 10)) {
        count_connection(key, -1);
        pool_open_failed(pool, now_us, dice(&worker->random, 2) ? now_us + 2 * CLOCK_MS : 0);
        return;
    }
    struct server *server = memory_new(sizeof(*server));
    server->pool = pool;
    server->key = key;
    list_push_back(&worker->servers, &server->node);
    unsigned index = loop_index(worker->loop);
    follow(worker, server, pool_opened(pool, &server->item, index, now_us, &grant), &grant);
}

static void arrive(struct worker *worker, struct server *server, uint64_t client_id)
{
    struct client *client = &worker->clients[client_id % CLIENTS_EACH];
    list_push_back(&worker->servers, &server->node);
    struct pool_waiter *waiter =
        client->pool == server->pool && !client->server ? &client->waiter : NULL;
    if (pool_accept(server->pool, &server->item, loop_index(worker->loop), waiter))
        link_up(worker, server, client);
    else
        give_back(worker, server);
}

static void unlinger(struct worker *worker, struct pool *pool)
{
    enum pool_outcome outcome;
    struct pool_grant grant;
    struct pool_item *item;
    while ((item = pool_unlinger(pool, loop_index(worker->loop), loop_now_us(worker->loop),
                                 &outcome, &grant)))
        follow(worker, list_entry(item, struct server, item), outcome, &grant);
    pool_unref(pool);
}

static struct server *find_server(struct worker *worker, uint64_t item_id)
{
    list_for_each (node, &worker->servers) {
        struct server *server = list_entry(node, struct server, node);
        if (server->item.id == item_id)
            return server;
    }
    return NULL;
}

static void deliver(struct loop *loop, struct mail *mail)
{
    struct letter *letter = list_entry(mail, struct letter, mail);
    struct worker *worker = loop_context(loop);
    struct server *server = letter->id ? find_server(worker, letter->id) : NULL;
    struct pool_grant grant;
    switch (letter->kind) {
    case LETTER_OPEN:
        open_server(worker, letter->pool);
        break;
    case LETTER_RECLAIM:
        if (server)
            follow(worker, server,
                   pool_surrender(server->pool, &server->item, loop_now_us(loop), &grant), &grant);
        break;
    case LETTER_DOOM:
        if (server)
            bury(worker, server);
        break;
    case LETTER_GRANT:
        arrive(worker, letter->server, letter->id);
        break;
    case LETTER_UNLINGER:
        unlinger(worker, letter->pool);
        break;
    }
    free(letter);
}

/* ---- clients ---- */

static void finish(struct client *client)
{
    pool_unref(client->pool);
    client->pool = NULL;
    client->left--;
}

static struct pool *find_pool(unsigned key)
{
    char database[] = {(char)('a' + key), '\0'};
    struct pool_key names = {database, key % 2 ? "odd" : "even", "production", false};
    struct pool_limits limits = {.pool_size = POOL_SIZE, .min_pool_size = key, .warm = key == 1};
    return registry_pool(registry, &names, &limits, &keys[key]);
}

static void step_client(struct worker *worker, struct client *client)
{
    struct server *server = client->server;
    if (server) {
        if (server->uses-- > 0)
            return;
        client->server = NULL;
        server->client = NULL;
        atomic_fetch_sub(&in_use[server->key], 1);
        check(atomic_exchange(&server->lent, false));
        if (dice(&worker->random, 40)) {
            give_back(worker, server);
        } else {
            worker->broken++;
            bury(worker, server);
        }
        finish(client);
    } else if (client->pool) {
        if (dice(&worker->random, 100))
            return;
        pool_forget(client->pool, &client->waiter, loop_now_us(worker->loop));
        finish(client);
    } else if (client->left) {
        client->pool = find_pool(dice(&worker->random, KEYS));
        struct pool_item *item =
            pool_borrow(client->pool, &client->waiter, loop_now_us(worker->loop));
        if (item)
            link_up(worker, list_entry(item, struct server, item), client);
    }
}

/* Something befalls one of the worker's servers that nobody uses. */
static void step_server(struct worker *worker)
{
    struct list_node *node = list_first(&worker->servers);
    struct server *server = node ? list_entry(node, struct server, node) : NULL;
    if (!server || server->client)
        return;
    switch (dice(&worker->random, 3)) {
    case 0: /* its other end was closed: idle, reserved or doomed, it goes */
        worker->broken++;
        bury(worker, server);
        break;
    case 1:
        if (pool_retire(server->pool, &server->item, true))
            bury(worker, server);
        break;
    default:
        if (pool_take(server->pool, &server->item))
            give_back(worker, server);
        break;
    }
}

static void on_tick(struct loop *loop, struct timer *timer)
{
    struct worker *worker = loop_context(loop);
    unsigned long left = 0;
    for (unsigned i = 0; i < CLIENTS_EACH * STEPS; i++)
        step_client(worker, &worker->clients[i % CLIENTS_EACH]);
    for (unsigned i = 0; i < CLIENTS_EACH; i++)
        left += worker->clients[i].left;
    if (!dice(&worker->random, 10))
        step_server(worker);
    if (!left && !worker->done) {
        worker->done = true;
        atomic_fetch_add(&workers_done, 1);
    }
    if (!worker->done)
        timer_set(loop, timer, loop_now_us(loop) + CLOCK_MS / 2);
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    worker->tick.fire = on_tick;
    timer_set(worker->loop, &worker->tick, loop_now_us(worker->loop) + CLOCK_MS / 2);
    loop_run(worker->loop);
    timer_detach(worker->loop, &worker->tick);
    return NULL;
}

/* ---- control ---- */

static unsigned control_random = 7;
static unsigned long controls, swept;

static void look_at(struct pool *pool, void *argument)
{
    struct pool_counts counts;
    pool_counts(pool, &counts);
    check(counts.idle + counts.active + counts.reserved + counts.doomed + counts.opening <=
          POOL_SIZE);
    *(size_t *)argument += counts.idle + counts.active + counts.reserved + counts.doomed +
                           counts.opening + counts.waiting;
    (void)pool_pump(pool, clock_now_us());
}

static void obsolete(struct pool *pool, void *argument)
{
    (void)argument;
    pool_obsolete(pool, clock_now_us());
}

static void disturb(uint64_t now_us)
{
    static const char *const databases[] = {"a", "b", "c", "d"};
    const char *database = databases[dice(&control_random, KEYS)];
    switch (dice(&control_random, 8)) {
    case 0:
        registry_pause(registry, database, NULL, true, now_us);
        break;
    case 1:
        registry_each(registry, obsolete, NULL);
        break;
    case 2:
    case 3: /* allowing fewer for a while, in a limit that is not checked here */
        registry_limit_database(registry, "a", "production", dice(&control_random, 6), 0,
                                clock_now_us());
        break;
    default:
        registry_pause(registry, NULL, NULL, false, now_us);
        break;
    }
}

static void on_control(struct loop *loop, struct timer *timer)
{
    uint64_t now_us = loop_now_us(loop);
    size_t left = 0;
    bool ending = atomic_load(&workers_done) == WORKERS;
    if (ending)
        registry_pause(registry, NULL, NULL, true, now_us);
    else
        disturb(now_us);
    controls++;
    registry_each(registry, look_at, &left);
    swept += registry_sweep(registry, now_us, 1, NULL, NULL);
    if (ending && !left)
        loop_stop(loop);
    else
        timer_set(loop, timer, now_us + CLOCK_MS);
}

static bool make_workers(void)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        struct worker *worker = &workers[i];
        worker->loop = loop_new(i, worker);
        if (!worker->loop)
            return false;
        worker->random = i + 1;
        list_init(&worker->servers);
        for (unsigned j = 0; j < CLIENTS_EACH; j++) {
            struct client *client = &worker->clients[j];
            /* never 0, and its place in the array is in the number */
            client->waiter.id = (uint64_t)(i + 1) * CLIENTS_EACH * 1000 + j;
            client->waiter.worker = i;
            client->left = OPERATIONS;
        }
    }
    return true;
}

static int account(void)
{
    unsigned long lent = 0, moved = 0, broken = 0, lingered = 0;
    struct limit_counts counts;
    for (unsigned i = 0; i < WORKERS; i++) {
        lent += workers[i].lent;
        moved += workers[i].moved;
        lingered += workers[i].lingered;
        broken += workers[i].broken;
        check(list_is_empty(&workers[i].servers));
        loop_free(workers[i].loop);
    }
    registry_environment_counts(registry, "production", &counts);
    check(counts.servers == 0 && atomic_load(&of_all) == 0);
    registry_user_counts(registry, "even", &counts);
    check(counts.servers == 0 && atomic_load(&of_user) == 0);
    for (unsigned i = 0; i < KEYS; i++)
        check(atomic_load(&connections[i]) == 0 && atomic_load(&in_use[i]) == 0);
    printf("%lu lent, %lu moved, %lu lingered, %lu broken, %lu controls, %lu pools swept\n", lent,
           moved, lingered, broken, controls, swept);
    bool busy = lent > WORKERS * CLIENTS_EACH * OPERATIONS / 2;
    return busy && moved > 100 && lingered > 10 && broken > 100 ? 0 : 1;
}

int main(void)
{
    struct registry_events events = {.pool = {on_open, on_reclaim, on_doom, on_drained},
                                     .attach = on_attach};
    alarm(TIME_LIMIT_SECONDS);
    registry = registry_new(WORKERS, &events);
    registry_limit_environment(registry, "production", ENVIRONMENT_LIMIT, 0, clock_now_us());
    registry_limit_user(registry, "even", USER_LIMIT, 0, clock_now_us());
    for (unsigned i = 0; i < KEYS; i++)
        keys[i] = i;
    struct loop *control = loop_new(WORKERS, NULL);
    if (!make_workers() || !control)
        return 1;
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_create(&workers[i].thread, NULL, run, &workers[i]);
    struct timer tick = {.fire = on_control};
    timer_set(control, &tick, loop_now_us(control) + CLOCK_MS);
    loop_run(control);
    timer_detach(control, &tick);
    loop_free(control);
    for (unsigned i = 0; i < WORKERS; i++)
        loop_stop(workers[i].loop);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(workers[i].thread, NULL);
    int status = account();
    registry_free(registry);
    return status;
}
