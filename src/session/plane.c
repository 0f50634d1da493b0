/*
 * plane.c: the workers and what they share: made, started, given a new configuration, taken down.
 *
 * The control thread's hand on the data plane. What it wants of a worker goes there as a letter;
 * the sockets are door.c's, what a reload does to each pool is change.c's.
 */
#include "pgstage/session/plane.h"
#include "pgstage/session/listening.h"

#include <openssl/rand.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/access.h"
#include "pgstage/session/audit.h"
#include "pgstage/session/border.h"
#include "pgstage/session/cancel.h"
#include "pgstage/session/change.h"
#include "pgstage/session/client.h"
#include "pgstage/session/door.h"
#include "pgstage/session/exchange.h"
#include "pgstage/session/expiry.h"
#include "pgstage/session/failures.h"
#include "pgstage/session/gate.h"
#include "pgstage/session/inquiry.h"
#include "pgstage/session/peer.h"
#include "pgstage/session/server.h"
#include "pgstage/session/standing.h"
#include "pgstage/session/statement_cache.h"
#include "pgstage/session/watch.h"

/* Helpers for PBKDF2, and how many logins may wait for one. */
#define DERIVATION_THREADS 1
#define DERIVATIONS_MAX 4096
/* Logins that wait for the name of their system user. */
#define IDENTITIES_MAX 1024
#define KEYS_MAX 16384
/* How long the end waits for what PAM, or a name service, is doing. */
#define HELPERS_WAIT_MS 1000
/* Addresses whose failed logins are remembered. */
#define FAILED_ADDRESSES_MAX 8192

/* Parts of pools that a turn takes over into a new setup. */
#define SHARES_AT_ONCE 256

/* ---- letters from the control thread to a worker ---- */

enum plane_order { PLANE_LISTEN, PLANE_SHUT, PLANE_SETUP, PLANE_STOP, PLANE_KILL, PLANE_FINISH };

struct plane_letter {
    struct mail mail;
    enum plane_order order;
    struct plane *plane;
    struct setup *setup;
    char *database, *environment;
    bool tcp_only;
};

static bool is_meant(const struct pool *pool, const char *database, const char *environment)
{
    if (database && strcmp(pool_database(pool), database) != 0)
        return false;
    return !environment || text_equal(pool_environment(pool), environment);
}

/* Thousands of shares at once would keep the queries of all waiting for as many microseconds: the
 * rest waits for the next turn, and keeps its old meaning until then. Those that come meanwhile
 * stand at the end, with the new one. */
static void refresh_shares(struct loop_task *task)
{
    struct worker *worker = list_entry(task, struct worker, refresh);

    for (int i = 0; i < SHARES_AT_ONCE && worker->refresh_left; i++, worker->refresh_left--) {
        struct list_node *node = list_pop_front(&worker->shares);
        struct share *share;

        if (!node)
            return;
        share = list_entry(node, struct share, node);
        list_push_back(&worker->shares, node);
        share_refresh(share);
        share_look_at_setup(share);
    }
    if (worker->refresh_left)
        loop_defer(worker->loop, &worker->refresh);
}

static void take_setup(struct worker *worker, struct setup *setup)
{
    struct setup *old = worker->setup;

    worker->setup = setup_ref(setup);
    setup_unref(old);
    if (worker->index == 0)
        doors_tune(worker->plane, snapshot_globals(setup->snapshot));
    worker->refresh.run = refresh_shares;
    worker->refresh_left = worker->shares.length;
    loop_defer(worker->loop, &worker->refresh);
}

/* A client that ends may free a server for another, which turns out to be broken and ends too: hence
 * no walk over the list itself. Who ends stays readable up to the end of the turn. */
static void stop_clients(struct worker *worker)
{
    size_t count;
    void **clients = list_objects(&worker->clients, offsetof(struct client, node), &count);

    worker->stopping = true;
    for (size_t i = 0; i < count; i++)
        client_stop(clients[i]);
    free(clients);
}

static void kill_pools(struct worker *worker, const char *database, const char *environment)
{
    size_t count;
    void **clients = list_objects(&worker->clients, offsetof(struct client, node), &count);

    for (size_t i = 0; i < count; i++) {
        struct client *client = clients[i];

        if (client->share && is_meant(client->share->backend->pool, database, environment))
            client_fail(client, REASON_KILLED, NULL);
    }
    free(clients);
    list_for_each_safe (node, &worker->servers) {
        struct server *server = list_entry(node, struct server, node);

        if (is_meant(server->backend->pool, database, environment))
            server_close(server, REASON_KILLED, NULL);
    }
}

static void finish(struct worker *worker)
{
    worker->ended = true;
    while (!list_is_empty(&worker->clients)) {
        struct client *client = list_entry(list_first(&worker->clients), struct client, node);

        client_fail(client, REASON_SHUT_DOWN, NULL);
        client_close(client, REASON_SHUT_DOWN);
    }
    while (!list_is_empty(&worker->servers))
        server_close(list_entry(list_first(&worker->servers), struct server, node),
                     REASON_SERVER_SHUTDOWN, NULL);
    cancel_abort_all(worker);
    peer_abort_all(worker);
    loop_stop(worker->loop);
}

static void plane_letter_free(struct mail *mail)
{
    struct plane_letter *letter = (struct plane_letter *)mail;

    setup_unref(letter->setup);
    free(letter->database);
    free(letter->environment);
    free(letter);
}

static void deliver_order(struct loop *loop, struct mail *mail)
{
    struct plane_letter *letter = (struct plane_letter *)mail;
    struct worker *worker = worker_of(loop);

    switch (letter->order) {
    case PLANE_LISTEN:
        doors_listen(letter->plane, loop);
        break;
    case PLANE_SHUT:
        doors_shut(letter->plane, letter->tcp_only);
        break;
    case PLANE_SETUP:
        take_setup(worker, letter->setup);
        break;
    case PLANE_STOP:
        stop_clients(worker);
        break;
    case PLANE_KILL:
        kill_pools(worker, letter->database, letter->environment);
        break;
    case PLANE_FINISH:
        if (worker->index == 0)
            doors_shut(letter->plane, false);
        finish(worker);
        break;
    }
    plane_letter_free(mail);
}

static struct plane_letter *order_new(struct plane *plane, enum plane_order order)
{
    struct plane_letter *letter = memory_new(sizeof(*letter));

    letter->mail.deliver = deliver_order;
    letter->mail.drop = plane_letter_free;
    letter->plane = plane;
    letter->order = order;
    return letter;
}

static void order_all(struct plane *plane, enum plane_order order, const char *database,
                      const char *environment)
{
    for (unsigned i = 0; i < plane->worker_count; i++) {
        struct plane_letter *letter = order_new(plane, order);

        letter->setup = order == PLANE_SETUP ? setup_ref(plane->setup) : NULL;
        letter->database = text_copy(database);
        letter->environment = text_copy(environment);
        loop_post(plane->loops[i], &letter->mail);
    }
}

/* ---- making and taking down ---- */

static unsigned count_workers(const struct settings *globals)
{
    cpu_set_t cpus;
    long count = globals->workers;

    if (count == 0 && sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
        count = CPU_COUNT(&cpus);
    return count < 1 ? 1 : count > WORKERS_MAX ? WORKERS_MAX : (unsigned)count;
}

static bool make_workers(struct plane *plane)
{
    plane->workers = memory_new(plane->worker_count * sizeof(*plane->workers));
    plane->loops = memory_new(plane->worker_count * sizeof(struct loop *));
    for (unsigned i = 0; i < plane->worker_count; i++) {
        struct worker *worker = &plane->workers[i];

        worker->plane = plane;
        worker->index = i;
        worker->setup = setup_ref(plane->setup);
        list_init(&worker->clients);
        list_init(&worker->servers);
        list_init(&worker->cancels);
        list_init(&worker->shares);
        slab_init(&worker->exchanges, sizeof(struct exchange));
        slab_init(&worker->statement_heads, sizeof(struct statement_head));
        plane->loops[i] = worker->loop = loop_new(i, worker);
        if (!worker->loop)
            return false;
    }
    return true;
}

/* The threads that ask LDAP and PAM are there from the first configuration on that needs them. */
static bool start_helpers(struct plane *plane, const struct snapshot *snapshot, char *problem,
                          size_t size)
{
    const struct settings *globals = snapshot_globals(snapshot);

    if (plane->helpers || !snapshot_asks_outside(snapshot))
        return true;
    plane->helpers = offload_new("auth helper", (unsigned)globals->auth_helper_threads,
                                 (unsigned)globals->auth_helper_queue);
    if (!plane->helpers)
        text_fit(problem, size, "no helper thread can be started");
    return plane->helpers != NULL;
}

struct plane *plane_new(struct loop *control, struct snapshot *snapshot,
                        const struct plane_hooks *hooks, const struct plane_socket *inherited,
                        size_t inherited_count, char *problem, size_t size)
{
    const struct settings *globals = snapshot_globals(snapshot);
    static const struct registry_events no_events;
    struct registry_events events = no_events;
    struct plane *plane = memory_new(sizeof(*plane));

    plane->control = control;
    plane->hooks = *hooks;
    plane->worker_count = count_workers(globals);
    events.pool = backend_events;
    events.attach = backend_attach;
    events.detach = backend_detach;
    plane->registry = registry_new(plane->worker_count, &events);
    registry_limit_clients(plane->registry, globals->max_client_conn);
    plane->hosts = hosts_new();
    plane->gates = gates_new();
    plane->hubs = hubs_new();
    plane->inquiries = inquiries_new(plane);
    list_init(&plane->closings);
    plane->keys = key_cache_new(KEYS_MAX);
    plane->border = border_new();
    plane->failures = failures_new(FAILED_ADDRESSES_MAX);
    plane->statements = statement_cache_new();
    key_cache_set_iterations(plane->keys, (uint32_t)globals->scram_iterations);
    plane->resolver = resolver_new(globals->dns_max_ttl_us, globals->dns_nxdomain_ttl_us);
    plane->derivations = offload_new("derivation", DERIVATION_THREADS, DERIVATIONS_MAX);
    plane->identities = offload_new("identity", 1, IDENTITIES_MAX);
    plane->audit = audit_new();
    if (RAND_bytes(plane->cancel_seed, sizeof(plane->cancel_seed)) != 1) {
        text_fit(problem, size, "no random numbers can be had");
        goto failed;
    }
    if (!plane->resolver || !plane->derivations || !plane->identities || !plane->audit) {
        text_fit(problem, size, "no helper thread can be started");
        goto failed;
    }
    if (!start_helpers(plane, snapshot, problem, size))
        goto failed;
    if (!doors_open(plane, snapshot, inherited, inherited_count, problem, size))
        goto failed;
    plane->setup = setup_new(snapshot, plane->doors, plane->door_count, problem, size);
    if (!plane->setup)
        goto failed;
    access_limit_environments(plane->registry, NULL, snapshot);
    if (make_workers(plane))
        return plane;
    text_fit(problem, size, "no event loop can be made");
failed:
    plane_free(plane);
    return NULL;
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;

    loop_run(worker->loop);
    return NULL;
}

bool plane_start(struct plane *plane)
{
    for (unsigned i = 0; i < plane->worker_count; i++) {
        struct worker *worker = &plane->workers[i];
        char name[24];

        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
            /* those that run are ended by plane_free */
            plane->worker_count = i ? i : plane->worker_count;
            plane->running = i > 0;
            return false;
        }
        snprintf(name, sizeof(name), "worker %u", i + 1);
        name[15] = '\0'; /* the kernel's limit */
        pthread_setname_np(worker->thread, name);
    }
    plane->running = true;
    expiry_look(plane, true);
    plane_warm_keys(plane);
    loop_post(plane->loops[0], &order_new(plane, PLANE_LISTEN)->mail);
    return true;
}

void plane_free(struct plane *plane)
{
    if (!plane)
        return;
    expiry_stop(plane);
    if (plane->running) {
        order_all(plane, PLANE_FINISH, NULL, NULL);
        for (unsigned i = 0; i < plane->worker_count; i++)
            pthread_join(plane->workers[i].thread, NULL);
        plane->running = false;
        backends_end(plane);
    }
    doors_close(plane);
    offload_free(plane->derivations);
    offload_free(plane->identities);
    (void)offload_abandon(plane->helpers, HELPERS_WAIT_MS);
    resolver_stop(plane->resolver, HELPERS_WAIT_MS);
    audit_free(plane->audit);
    for (unsigned i = 0; plane->workers && i < plane->worker_count; i++)
        loop_free(plane->workers[i].loop);
    closings_end(plane);
    inquiries_free(plane->inquiries);
    resolver_free(plane->resolver);
    hubs_free(plane->hubs);
    registry_free(plane->registry);
    for (unsigned i = 0; plane->workers && i < plane->worker_count; i++) {
        struct worker *worker = &plane->workers[i];

        setup_unref(worker->setup);
        watch_forget(worker);
        free(worker->slots);
        free(worker->slot_next);
        free(worker->slot_generation);
        free(worker->outgoing);
        buffer_fini(&worker->context);
        slab_fini(&worker->exchanges);
        slab_fini(&worker->statement_heads);
    }
    setup_unref(plane->setup);
    hosts_free(plane->hosts);
    gates_free(plane->gates);
    key_cache_free(plane->keys);
    failures_free(plane->failures);
    border_free(plane->border);
    statement_cache_free(plane->statements);
    free(plane->workers);
    free(plane->loops);
    free(plane);
}

/* ---- reload ---- */

bool plane_reload(struct plane *plane, struct snapshot *snapshot, char *problem, size_t size)
{
    const struct settings *globals = snapshot_globals(snapshot);
    struct setup *setup = setup_new(snapshot, plane->doors, plane->door_count, problem, size);
    bool applied;
    struct changes *changes = setup ? changes_plan(plane, setup, problem, size) : NULL;

    if (changes && !audit_open(plane->audit, globals->audit_log, problem, size)) {
        changes_free(changes);
        changes = NULL;
    }
    if (changes && !start_helpers(plane, snapshot, problem, size)) {
        changes_free(changes);
        changes = NULL;
    }
    applied = changes != NULL;
    if (applied) {
        access_limit_environments(plane->registry, plane->setup->snapshot, snapshot);
        setup_unref(plane->setup);
        plane->setup = setup_ref(setup);
        registry_limit_clients(plane->registry, globals->max_client_conn);
        key_cache_set_iterations(plane->keys, (uint32_t)globals->scram_iterations);
        resolver_set_ttl(plane->resolver, globals->dns_max_ttl_us, globals->dns_nxdomain_ttl_us);
        changes_apply(changes, loop_now_us(plane->control));
        inquiries_renew(plane);
        order_all(plane, PLANE_SETUP, NULL, NULL);
        border_load(plane);
        expiry_look(plane, true);
        plane_warm_keys(plane);
    }
    setup_unref(setup);
    return applied;
}

struct snapshot *plane_snapshot(const struct plane *plane)
{
    return plane->setup->snapshot;
}

/* ---- what the control plane asks ---- */

void plane_login_totals(struct plane *plane, struct login_totals *totals)
{
    failures_totals(plane->failures, clock_now_us(), totals);
}

bool plane_open_audit(struct plane *plane, char *problem, size_t size)
{
    const char *path = snapshot_globals(plane->setup->snapshot)->audit_log;

    return !path || audit_open(plane->audit, path, problem, size);
}

struct audit *plane_audit(const struct plane *plane)
{
    return plane->audit;
}

struct registry *plane_registry(const struct plane *plane)
{
    return plane->registry;
}

struct resolver *plane_resolver(const struct plane *plane)
{
    return plane->resolver;
}

unsigned plane_worker_count(const struct plane *plane)
{
    return plane->worker_count;
}

struct loop *const *plane_loops(const struct plane *plane)
{
    return plane->loops;
}

struct loop *plane_control(const struct plane *plane)
{
    return plane->control;
}

struct matcher {
    const char *database, *environment;
    uint64_t now_us;
    bool obsolete_only, found;
};

static void reconnect_one(struct pool *pool, void *argument)
{
    struct matcher *matcher = argument;

    if (is_meant(pool, matcher->database, matcher->environment))
        pool_obsolete(pool, matcher->now_us);
}

void plane_reconnect(struct plane *plane, const char *database, const char *environment)
{
    struct matcher matcher = {database, environment, loop_now_us(plane->control), false, false};

    registry_each(plane->registry, reconnect_one, &matcher);
    inquiries_renew(plane);
}

void plane_kill(struct plane *plane, const char *database, const char *environment)
{
    order_all(plane, PLANE_KILL, database, environment);
}

static void look_for_servers(struct pool *pool, void *argument)
{
    struct matcher *matcher = argument;
    struct pool_counts counts;

    if (!is_meant(pool, matcher->database, matcher->environment))
        return;
    pool_counts(pool, &counts);
    if (matcher->obsolete_only ? counts.obsolete > 0
                               : counts.idle + counts.active + counts.reserved + counts.doomed > 0)
        matcher->found = true;
}

bool plane_has_servers(struct plane *plane, const char *database, const char *environment,
                       bool obsolete_only)
{
    struct matcher matcher = {database, environment, 0, obsolete_only, false};

    registry_each(plane->registry, look_for_servers, &matcher);
    return matcher.found;
}

struct kill_letter {
    struct mail mail;
    struct plane *plane;
    uint64_t client_id;
    void (*done)(void *argument, bool found);
    void *argument;
    bool found;
};

static void deliver_killed(struct loop *loop, struct mail *mail)
{
    struct kill_letter *letter = (struct kill_letter *)mail;

    (void)loop;
    letter->done(letter->argument, letter->found);
    free(letter);
}

static void deliver_kill(struct loop *loop, struct mail *mail)
{
    struct kill_letter *letter = (struct kill_letter *)mail;
    struct client *client = worker_client(worker_of(loop), letter->client_id);

    letter->found = client && !client_is_over(client);
    if (letter->found)
        client_fail(client, REASON_KILLED_CLIENT, NULL);
    letter->mail.deliver = deliver_killed;
    loop_post(letter->plane->control, &letter->mail);
}

void plane_kill_client(struct plane *plane, uint64_t client_id,
                       void (*done)(void *argument, bool found), void *argument)
{
    unsigned worker = worker_of_id(client_id);
    struct kill_letter *letter;

    if (worker >= plane->worker_count) {
        done(argument, false);
        return;
    }
    letter = memory_new(sizeof(*letter));
    letter->mail.deliver = deliver_kill;
    letter->plane = plane;
    letter->client_id = client_id;
    letter->done = done;
    letter->argument = argument;
    loop_post(plane->loops[worker], &letter->mail);
}

/* ---- stopping ---- */

struct idle_letter {
    struct mail mail;
    struct plane *plane;
};

static void deliver_idle(struct loop *loop, struct mail *mail)
{
    struct plane *plane = ((struct idle_letter *)mail)->plane;

    (void)loop;
    free(mail);
    plane->hooks.idle(plane->hooks.context);
}

void plane_client_left(struct plane *plane)
{
    struct idle_letter *letter;

    if (!atomic_load_explicit(&plane->stop, memory_order_acquire) ||
        registry_client_count(plane->registry) > 0)
        return;
    letter = memory_new(sizeof(*letter));
    letter->mail.deliver = deliver_idle;
    letter->plane = plane;
    loop_post(plane->control, &letter->mail);
}

void plane_stop(struct plane *plane, enum plane_stop how)
{
    struct plane_letter *letter = order_new(plane, PLANE_SHUT);

    plane->stopping = true;
    atomic_store_explicit(&plane->stop, (int)how + 1, memory_order_release);
    letter->tcp_only = true;
    loop_post(plane->loops[0], &letter->mail);
    if (how == PLANE_STOP_FOR_SERVERS)
        order_all(plane, PLANE_STOP, NULL, NULL);
    plane_client_left(plane);
}

bool plane_is_stopping(const struct plane *plane)
{
    return plane->stopping;
}

/* ---- views of the control thread ---- */

struct effective *plane_pool_effective(struct pool *pool)
{
    struct meaning *meaning = backend_meaning(backend_of(pool));
    struct effective *effective = effective_ref(meaning->effective);

    meaning_unref(meaning);
    return effective;
}

char *plane_pool_problem(struct pool *pool)
{
    return backend_failure_text(backend_of(pool));
}

struct host_row {
    void (*row)(void *argument, const struct host_view *);
    void *argument;
    uint64_t now_us;
};

static void view_host(struct host *host, uint64_t now_us, struct host_view *view)
{
    struct host_state state;

    host_state(host, &state);
    *view = (struct host_view){
        .environment = host_environment(host) ? host_environment(host) : "",
        .label = host_label(host),
        .name = host_name(host),
        .address = host_address_text(host) ? host_address_text(host) : "",
        .port = host_port(host),
        .standing = host_standing(host),
        .connections = state.connections,
        .failures = state.failures,
        .state = !state.tried     ? "unknown"
                 : state.failures ? "down"
                                  : "up",
        .retry_in_us = state.retry_at_us > now_us ? state.retry_at_us - now_us : 0,
        .is_split = state.is_split,
    };
    memcpy(view->last_error, state.last_error, sizeof(view->last_error));
}

static void show_host(struct host *host, void *argument)
{
    struct host_row *out = argument;
    struct host_view view;

    view_host(host, out->now_us, &view);
    out->row(out->argument, &view);
}

void plane_each_host(struct plane *plane, void (*row)(void *argument, const struct host_view *),
                     void *argument)
{
    struct host_row out = {row, argument, loop_now_us(plane->control)};

    hosts_each(plane->hosts, show_host, &out);
}

bool plane_view_host(struct plane *plane, const char *environment, const char *label,
                     struct host_view *view)
{
    struct host *host = hosts_find(plane->hosts, environment, label);

    if (host)
        view_host(host, loop_now_us(plane->control), view);
    return host != NULL;
}
