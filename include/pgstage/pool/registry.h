/*
 * registry: all pools by key, and the limits that span them.
 *
 * Shared by all threads; a mutex of its own that is never held together with a pool's. Limits are
 * counters with reserve and release; a pool that meets a full one stands in that limit's FIFO and
 * an idle item of another pool under the same limit is evicted (exactly one for each wish), and the
 * place that becomes free goes to the pool that waited longest.
 */
#ifndef PGSTAGE_POOL_REGISTRY_H
#define PGSTAGE_POOL_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/pool/pool.h"

struct registry;

struct pool_key {
    const char *database;    /* the name clients use, without @environment */
    const char *user;        /* the login on the server: the forced user or the client's */
    const char *environment; /* NULL: none */
    bool own_items; /* each of its items is opened for one waiter (pool_opened_for): another pool */
};

struct registry_events {
    struct pool_events pool;
    /* A new pool: returns what pool_attachment gives. `argument` comes from registry_pool. The
     * registry's mutex is held: allocate only. */
    void *(*attach)(struct pool *pool, void *argument);
    /* The pool goes away: free the attachment. No lock held. */
    void (*detach)(void *attachment);
};

/* For `workers` workers (indexes 0 … workers-1). */
struct registry *registry_new(unsigned workers, const struct registry_events *events)
    __attribute__((warn_unused_result));
/* All items, waiters and references must be gone. */
void registry_free(struct registry *registry);

/* Finds or makes the pool, with a reference for the caller. `limits` and `argument` are used for a
 * new one only. A pool of a paused database is born paused. */
struct pool *registry_pool(struct registry *registry, const struct pool_key *key,
                           const struct pool_limits *limits, void *argument)
    __attribute__((warn_unused_result));
/* The pool with a reference for the caller; NULL: there is none. */
struct pool *registry_find(struct registry *registry, const struct pool_key *key)
    __attribute__((warn_unused_result));
struct pool *pool_ref(struct pool *pool);
/* Pools without references, items and waiters are freed by registry_sweep, not here. */
void pool_unref(struct pool *pool);
/* May this unused pool be freed? Asked twice: first without a lock and with `act`, when it may do
 * something about what is in the way; then, when nobody else can find the pool any more, under the
 * registry's lock, when it may only look. */
typedef bool registry_may_go(struct pool *pool, bool act, void *argument);
/* Frees pools that nobody has used for `idle_us` (0: keep them) and that `may_go` (NULL: all)
 * allows; returns how many. Control thread. */
size_t registry_sweep(struct registry *registry, uint64_t now_us, uint64_t idle_us,
                      registry_may_go *may_go, void *argument);
/* Calls `each` for every pool with a reference held, no lock held. A pool that is made meanwhile is
 * visited too. */
void registry_each(struct registry *registry, void (*each)(struct pool *pool, void *argument),
                   void *argument);
size_t registry_pool_count(struct registry *registry);

/* Limits on servers; 0: none. Set at load and reload. Environment NULL: databases without one. */
void registry_limit_database(struct registry *registry, const char *database,
                             const char *environment, int64_t max_servers, int64_t max_clients,
                             uint64_t now_us);
/* The same for the database of a pool that is there, which costs no search. The caller has a
 * reference. */
void pool_limit_database(struct pool *pool, int64_t max_servers, int64_t max_clients,
                         uint64_t now_us);
void registry_limit_user(struct registry *registry, const char *user, int64_t max_servers,
                         int64_t max_clients, uint64_t now_us);
void registry_limit_environment(struct registry *registry, const char *environment,
                                int64_t max_servers, int64_t max_clients, uint64_t now_us);
/* max_client_conn. */
void registry_limit_clients(struct registry *registry, int64_t max_clients);

enum admission {
    ADMITTED,
    REFUSED_TOTAL,       /* max_client_conn */
    REFUSED_DATABASE,    /* max_db_client_connections */
    REFUSED_USER,        /* max_user_client_connections */
    REFUSED_ENVIRONMENT, /* max_client_connections of the environment */
};
/* Counts a client in before anything is known of it (only the total); every admitted client is
 * discharged exactly once with the same arguments. */
enum admission registry_admit(struct registry *registry) __attribute__((warn_unused_result));
void registry_discharge(struct registry *registry);
/* Counts it under its database, user and environment once it is authenticated: all or none. */
enum admission registry_admit_to(struct registry *registry, const struct pool_key *key,
                                 const char *client_user) __attribute__((warn_unused_result));
void registry_discharge_from(struct registry *registry, const struct pool_key *key,
                             const char *client_user);
/* The same two for a pool that is there, which costs no search; the pool counts as its key. */
enum admission pool_admit(struct pool *pool, const char *client_user)
    __attribute__((warn_unused_result));
void pool_discharge(struct pool *pool, const char *client_user);
int64_t registry_client_count(struct registry *registry);

/* PAUSE, RESUME, DISABLE, ENABLE for one database, with environment NULL for that name in every
 * environment, with database NULL for all of the environment, with both NULL for all; remembered
 * for pools that are made later. The latest word about a database counts. */
void registry_pause(struct registry *registry, const char *database, const char *environment,
                    bool paused, uint64_t now_us);
void registry_disable(struct registry *registry, const char *database, const char *environment,
                      bool disabled);
bool registry_is_paused(struct registry *registry, const char *database, const char *environment);
bool registry_is_disabled(struct registry *registry, const char *database, const char *environment);

struct limit_counts {
    int64_t servers, max_servers, clients, max_clients;
};
void registry_database_counts(struct registry *registry, const char *database,
                              const char *environment, struct limit_counts *counts);
void registry_user_counts(struct registry *registry, const char *user, struct limit_counts *counts);
void registry_environment_counts(struct registry *registry, const char *environment,
                                 struct limit_counts *counts);

#endif
