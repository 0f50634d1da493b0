/*
 * gate.c: holding the clients of an environment, and letting them go again.
 *
 *   plane_hold ──► gate->held ──► every pool behind it: pool_hold   (new transactions queue)
 *                      └────────► workers: sessions that keep their server begin nothing
 *   plane_release ─► the same way back, and workers look again at who waits
 *
 * A pool is exact by its own mutex: after pool_hold nobody is lent anything. A client that keeps
 * its server between transactions takes nothing from the pool, so it asks gate_begin. There it
 * first says that it runs and then looks whether the gate is shut, while plane_hold first shuts it
 * and then counts who runs: one of them sees the other. `kept` is written only by such clients; a
 * client of transaction mode pays nothing for all this.
 */
#include "pgstage/session/gate.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/backend.h"
#include "pgstage/session/client.h"
#include "pgstage/session/server.h"
#include "pgstage/session/worker.h"

struct gate {
    /* fixed */
    char *environment;
    UT_hash_handle hh;
    /* shared: atomic */
    _Atomic int held;     /* 0, or enum gate_scope + 1 */
    _Atomic int64_t kept; /* servers that are kept by clients in no transaction */
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
        HASH_ADD_KEYPTR(hh, gates->by_name, gate->environment, strlen(gate->environment), gate);
    }
    pthread_mutex_unlock(&gates->mutex);
    return gate;
}

/* ---- shut or open ---- */

static bool writes(const struct meaning *meaning)
{
    int wanted = meaning->effective->settings.target_session_attrs;

    return wanted == TARGET_READ_WRITE || wanted == TARGET_PRIMARY;
}

static bool shuts(const struct gate *gate, const struct meaning *meaning)
{
    int held = gate ? atomic_load(&gate->held) : 0;

    return held && (held == GATE_ALL + 1 || writes(meaning));
}

bool gate_holds(const struct share *share)
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
    } while (shuts(backend->gate, meaning) != shut &&
             (shut = !shut, true)); /* it moved meanwhile */
    meaning_unref(meaning);
}

void gate_admit(struct pool *pool)
{
    struct gate *gate = backend_of(pool)->gate;

    if (gate && atomic_load(&gate->held))
        gate_fit(pool);
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
    server->kept = gate_holds(server->share);
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

/* ---- the control plane's side ---- */

struct gate_letter {
    struct mail mail;
    const struct gate *gate;
};

/* Who was held before its own server may go on, and the time that others may wait is another. */
static void look_at(struct share *share)
{
    list_for_each (node, &share->clients) {
        struct client *client = list_entry(node, struct client, share_node);

        if (client->state == CLIENT_ACTIVE && client->held_bytes) {
            client->granted = true;
            loop_defer(share->worker->loop, &client->task);
        }
        client_arm(client);
    }
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

static void fit_one(struct pool *pool, void *argument)
{
    if (backend_of(pool)->gate == argument)
        gate_fit(pool);
}

static void set_held(struct plane *plane, const char *environment, int held)
{
    struct gate *gate = gates_get(plane->gates, environment);

    if (!gate || atomic_exchange(&gate->held, held) == held)
        return;
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
    if (writes(meaning)) {
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
    kept = atomic_load(&gate->kept); /* before the others: too many run rather than too few */
    registry_each(plane->registry, count_one, &count);
    counts->running -= (size_t)kept < counts->running ? (size_t)kept : counts->running;
}
