/*
 * gate.c: holding the clients of an environment, and letting them go again.
 *
 *   plane_hold ──► gate->held ──► every pool behind it: pool_hold   (new transactions queue)
 *                      └────────► workers: sessions that keep their server begin nothing
 *   plane_release ─► the same way back, and workers look again at who waits
 *
 *   no host to connect to ──► the pool's `primary.since_us` ──► workers look at who waits
 *   a login succeeds ───────► 0 again ───────────────────────► the same
 *
 * A pool is exact by its own mutex: after pool_hold nobody is lent anything. A client that keeps
 * its server between transactions takes nothing from the pool, so it asks gate_begin. There it
 * first says that it runs and then looks whether the gate is shut, while plane_hold first shuts it
 * and then counts who runs: one of them sees the other. `kept` is written only by such clients; a
 * client of transaction mode that need not wait pays nothing for all this.
 */
#include "pgstage/session/gate.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/backend.h"
#include "pgstage/session/choice.h"
#include "pgstage/session/client.h"
#include "pgstage/session/pace.h"
#include "pgstage/session/server.h"
#include "pgstage/session/standing.h"
#include "pgstage/session/wait.h"
#include "pgstage/session/worker.h"

/* What is counted belongs to one trouble until it is over, or nothing has happened for so long. */
#define GATE_TROUBLE_US (60 * CLOCK_SECOND)

struct gate {
    /* fixed */
    char *environment;
    UT_hash_handle hh;
    struct pace pace; /* has a mutex of its own */
    /* shared: atomic */
    _Atomic int held;        /* 0, or enum gate_scope + 1 */
    _Atomic int64_t missing; /* pools that lack their primary */
    _Atomic int64_t kept;    /* servers that are kept by clients in no transaction */
    _Atomic int64_t waiting; /* clients at the gate */
    /* of the present trouble, or the last one: */
    _Atomic bool over;
    _Atomic uint64_t event_us, queued, errored;
    _Atomic uint32_t trouble; /* its number, from 1 */
};

struct gates {
    /* shared: mutex */
    pthread_mutex_t mutex;
    struct gate *by_name;
};

struct gates *gates_new(void)
{
    struct gates *gates = memory_new(sizeof(*gates));

    pthread_mutex_init(&gates->mutex, NULL);
    return gates;
}

void gates_free(struct gates *gates)
{
    struct gate *gate, *next;

    if (!gates)
        return;
    HASH_ITER (hh, gates->by_name, gate, next) {
        HASH_DEL(gates->by_name, gate);
        pace_fini(&gate->pace);
        free(gate->environment);
        free(gate);
    }
    pthread_mutex_destroy(&gates->mutex);
    free(gates);
}

struct gate *gates_get(struct gates *gates, const char *environment)
{
    struct gate *gate;

    if (!environment)
        return NULL;
    pthread_mutex_lock(&gates->mutex);
    HASH_FIND_STR(gates->by_name, environment, gate);
    if (!gate) {
        gate = memory_new(sizeof(*gate));
        gate->environment = text_copy(environment);
        pace_init(&gate->pace);
        HASH_ADD_KEYPTR(hh, gates->by_name, gate->environment, strlen(gate->environment), gate);
    }
    pthread_mutex_unlock(&gates->mutex);
    return gate;
}

struct pace *gate_pace(struct gate *gate)
{
    return &gate->pace;
}

void gates_flush(struct gates *gates, struct list *orders)
{
    struct gate *gate, *next;

    HASH_ITER (hh, gates->by_name, gate, next) {
        pace_flush(&gate->pace, orders);
    }
}

/* ---- shut or open ---- */

static bool shuts(const struct gate *gate, const struct meaning *meaning)
{
    int held = gate ? atomic_load(&gate->held) : 0;

    return held && (held == GATE_ALL + 1 || choice_wants_primary(meaning->effective));
}

static bool is_held(const struct share *share)
{
    return shuts(share->backend->gate, share->meaning);
}

void gate_fit(struct pool *pool)
{
    struct backend *backend = backend_of(pool);
    struct meaning *meaning = backend_meaning(backend);
    uint64_t now_us = clock_now_us();
    bool shut = shuts(backend->gate, meaning);

    do {
        if (shut)
            pool_hold(pool, now_us);
        else
            pool_release(pool, now_us);
        /* it may have moved meanwhile */
    } while (shuts(backend->gate, meaning) != shut && (shut = !shut, true));
    meaning_unref(meaning);
}

void gate_admit(struct pool *pool)
{
    struct gate *gate = backend_of(pool)->gate;

    if (gate && atomic_load(&gate->held))
        gate_fit(pool);
}

/* ---- what is counted ---- */

/* Something happens: with what came before, or as the beginning of another trouble. */
static void note_event(struct gate *gate)
{
    uint64_t now_us = clock_now_us(), last_us = atomic_exchange(&gate->event_us, now_us);

    if (atomic_exchange(&gate->over, false) || now_us > last_us + GATE_TROUBLE_US) {
        atomic_store(&gate->queued, 0);
        atomic_store(&gate->errored, 0);
        atomic_fetch_add(&gate->trouble, 1);
    }
}

static void note_end(struct gate *gate)
{
    if (!atomic_load(&gate->held) && atomic_load(&gate->missing) <= 0)
        atomic_store(&gate->over, true);
}

void gate_erred(const struct share *share)
{
    struct gate *gate = share->backend->gate;

    if (!gate)
        return;
    note_event(gate);
    atomic_fetch_add(&gate->errored, 1);
}

/* ---- clients that wait ---- */

bool gate_is_shut(const struct share *share)
{
    return gate_lacks_primary(share) || is_held(share);
}

uint64_t gate_opened_us(const struct share *share)
{
    return atomic_load_explicit(&share->backend->primary.opened_us, memory_order_relaxed);
}

bool gate_enter(struct client *client)
{
    struct gate *gate = client->share->backend->gate;
    int64_t limit = share_settings(client->share)->failover_queue_limit;
    uint32_t trouble;

    if (client->at_gate || !gate || !gate_is_shut(client->share))
        return true;
    note_event(gate);
    if (atomic_fetch_add(&gate->waiting, 1) >= limit && limit) {
        atomic_fetch_sub(&gate->waiting, 1);
        return false;
    }
    client->at_gate = true;
    trouble = atomic_load(&gate->trouble);
    if (client->held_in != trouble) /* how often it waits in one trouble is its own business */
        atomic_fetch_add(&gate->queued, 1);
    client->held_in = trouble;
    return true;
}

void gate_leave(struct client *client)
{
    client->at_gate = false;
    atomic_fetch_sub(&client->share->backend->gate->waiting, 1);
}

/* ---- clients that keep their server ---- */

void gate_keep(struct server *server)
{
    if (server->kept || !server->backend->gate)
        return;
    server->kept = true;
    atomic_fetch_add(&server->backend->gate->kept, 1);
}

bool gate_begin(struct server *server)
{
    if (!server->kept)
        return true;
    atomic_fetch_sub(&server->backend->gate->kept, 1);
    server->kept = is_held(server->share);
    if (server->kept)
        atomic_fetch_add(&server->backend->gate->kept, 1);
    return !server->kept;
}

void gate_part(struct server *server)
{
    if (server->kept)
        atomic_fetch_sub(&server->backend->gate->kept, 1);
    server->kept = false;
}

/* ---- workers hear of it ---- */

struct gate_letter {
    struct mail mail;
    const struct gate *gate;
};

/* Who was held before its own server may go on, and the time that others may wait is another. */
static void look_at(struct share *share)
{
    size_t count;
    void **clients = list_objects(&share->clients, offsetof(struct client, share_node), &count);

    for (size_t i = 0; i < count; i++) {
        struct client *client = clients[i];

        if (client->state == CLIENT_ACTIVE && client->held_bytes) {
            client->granted = true;
            loop_defer(share->worker->loop, &client->task);
        }
        if (!client_is_over(client))
            wait_look(client);
    }
    free(clients);
    standing_retire(share);
    share_pump(share);
}

static void deliver_changed(struct loop *loop, struct mail *mail)
{
    const struct gate *gate = ((struct gate_letter *)mail)->gate;
    struct worker *worker = worker_of(loop);

    if (!worker->ended) {
        list_for_each (node, &worker->shares) {
            struct share *share = list_entry(node, struct share, node);

            if (share->backend->gate == gate)
                look_at(share);
        }
    }
    free(mail);
}

static void drop_changed(struct mail *mail)
{
    free(mail);
}

static void tell_workers(struct plane *plane, const struct gate *gate)
{
    for (unsigned i = 0; i < plane->worker_count; i++) {
        struct gate_letter *letter = memory_new(sizeof(*letter));

        letter->mail.deliver = deliver_changed;
        letter->mail.drop = drop_changed;
        letter->gate = gate;
        loop_post(plane->loops[i], &letter->mail);
    }
}

/* ---- without a primary ---- */

bool gate_lacks_primary(const struct share *share)
{
    return atomic_load_explicit(&share->backend->primary.since_us, memory_order_relaxed) != 0;
}

bool gate_takes_standby(const struct share *share)
{
    return gate_lacks_primary(share) &&
           share_settings(share)->no_primary_action == NO_PRIMARY_READ_ONLY;
}

/* While a connection is tried its outcome is waited for: somebody has to find out. */
bool gate_refuses(const struct share *share)
{
    const struct missing *primary = &share->backend->primary;
    struct pool_counts counts;

    if (!gate_lacks_primary(share) ||
        share_settings(share)->no_primary_action != NO_PRIMARY_ERROR ||
        loop_now_us(share->worker->loop) >= atomic_load(&primary->retry_us))
        return false;
    pool_counts(share->backend->pool, &counts);
    return counts.opening == 0;
}

/* Does the pool still have servers that may be on the primary? Where the control plane knows that
 * there is none, they are not. */
static bool has_servers(const struct share *share)
{
    struct pool_counts counts;

    pool_counts(share->backend->pool, &counts);
    return counts.idle + counts.active + counts.reserved > 0 && !choice_knows_no_primary(share);
}

void gate_missed(struct share *share, uint64_t retry_at_us)
{
    struct backend *backend = share->backend;
    uint64_t none = 0;
    bool news;

    if (!backend->gate || !choice_wants_primary(share->meaning->effective))
        return;
    if (!gate_lacks_primary(share) && has_servers(share))
        return;
    atomic_store(&backend->primary.retry_us, retry_at_us);
    news = atomic_compare_exchange_strong(&backend->primary.since_us, &none,
                                          loop_now_us(share->worker->loop));
    if (news) {
        note_event(backend->gate);
        atomic_fetch_add(&backend->gate->missing, 1);
        log_warning("environment %s: %s/%s has no primary to connect to",
                    backend->gate->environment, pool_database(backend->pool),
                    pool_user(backend->pool));
    }
    if (news || share_settings(share)->no_primary_action == NO_PRIMARY_ERROR)
        tell_workers(backend->plane, backend->gate);
}

static bool end_missing(struct backend *backend)
{
    uint64_t since_us = atomic_exchange(&backend->primary.since_us, 0);

    if (!since_us)
        return false;
    atomic_store(&backend->primary.opened_us, clock_now_us());
    atomic_fetch_sub(&backend->gate->missing, 1);
    note_end(backend->gate);
    return true;
}

void gate_found(struct server *server)
{
    struct backend *backend = server->backend;
    uint64_t since_us = atomic_load_explicit(&backend->primary.since_us, memory_order_relaxed);

    if (!since_us || server->stands_in || !end_missing(backend))
        return;
    log_write(RANK_LOG, "environment %s: %s/%s has a primary again after %" PRIu64 " ms",
              backend->gate->environment, pool_database(backend->pool), pool_user(backend->pool),
              (clock_now_us() - since_us) / CLOCK_MS);
    tell_workers(backend->plane, backend->gate);
}

void gate_forget(struct backend *backend)
{
    (void)end_missing(backend);
}

/* ---- the control plane's side ---- */

static void fit_one(struct pool *pool, void *argument)
{
    struct backend *backend = backend_of(pool);

    if (backend->gate != argument)
        return;
    gate_fit(pool);
    if (!atomic_load(&backend->gate->held))
        atomic_store(&backend->primary.opened_us, clock_now_us());
}

static void set_held(struct plane *plane, const char *environment, int held)
{
    struct gate *gate = gates_get(plane->gates, environment);

    if (!gate || atomic_load(&gate->held) == held)
        return;
    if (held)
        note_event(gate);
    if (!held)
        pace_slow(&gate->pace, clock_now_us());
    atomic_store(&gate->held, held);
    if (!held)
        note_end(gate);
    log_write(RANK_LOG, "environment %s: clients are %s", environment, held ? "held" : "released");
    registry_each(plane->registry, fit_one, gate);
    tell_workers(plane, gate);
}

void plane_hold(struct plane *plane, const char *environment, enum gate_scope scope)
{
    set_held(plane, environment, (int)scope + 1);
}

void plane_release(struct plane *plane, const char *environment)
{
    set_held(plane, environment, 0);
}

struct gate_count {
    const struct gate *gate;
    struct gate_counts *counts;
};

static void count_one(struct pool *pool, void *argument)
{
    struct gate_count *count = argument;
    struct backend *backend = backend_of(pool);
    struct pool_counts counts;
    struct meaning *meaning;

    if (backend->gate != count->gate)
        return;
    meaning = backend_meaning(backend);
    if (choice_wants_primary(meaning->effective)) {
        pool_counts(pool, &counts);
        count->counts->running += counts.active;
        count->counts->waiting += counts.waiting;
    }
    meaning_unref(meaning);
}

void plane_gate_counts(struct plane *plane, const char *environment, struct gate_counts *counts)
{
    struct gate *gate = gates_get(plane->gates, environment);
    struct gate_count count = {gate, counts};
    int64_t kept;

    *counts = (struct gate_counts){0};
    if (!gate)
        return;
    counts->held = atomic_load(&gate->held) != 0;
    counts->queued = atomic_load(&gate->queued);
    counts->errored = atomic_load(&gate->errored);
    kept = atomic_load(&gate->kept); /* before the others: too many run rather than too few */
    registry_each(plane->registry, count_one, &count);
    counts->running -= (size_t)kept < counts->running ? (size_t)kept : counts->running;
}
