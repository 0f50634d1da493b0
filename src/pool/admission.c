/*
 * admission.c: the limits by name: setting and reading them, and counting clients in and out.
 *
 * Any thread, under the registry's mutex, except for places for servers, which have the mutex of
 * each limit (limit.c). A limit lives while pools or clients are under it or a number is set for
 * it.
 */
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/check.h"

struct limit *registry_limit(struct registry *registry, char kind, const char *name,
                             const char *environment, bool make)
{
    size_t length;
    struct limit *limit;
    char *key = registry_key(kind, name, environment, NULL, &length);
    HASH_FIND(hh, registry->limits, key, length, limit);
    if (limit || !make) {
        free(key);
        return limit;
    }
    limit = limit_new(key, length);
    HASH_ADD_KEYPTR(hh, registry->limits, limit->key, limit->key_length, limit);
    return limit;
}

void registry_drop_limit(struct registry *registry, struct limit *limit)
{
    check(limit->users > 0);
    limit->users--;
    if (limit->users || limit->max_clients || atomic_load(&limit->max_servers))
        return;
    HASH_DEL(registry->limits, limit);
    limit_free(limit);
}

/* ---- setting ---- */

static void set_max_servers(struct limit *limit, int64_t max_servers, uint64_t now_us)
{
    struct summons summons = {0};
    limit_set_max(limit, max_servers, now_us, &summons);
    summons_run(&summons, now_us);
    limit_evict(limit, now_us);
}

static void set_limit(struct registry *registry, char kind, const char *name,
                      const char *environment, int64_t max_servers, int64_t max_clients,
                      uint64_t now_us)
{
    pthread_mutex_lock(&registry->mutex);
    struct limit *limit = registry_limit(registry, kind, name, environment, true);
    limit->users++;
    limit->max_clients = max_clients < 0 ? 0 : max_clients;
    pthread_mutex_unlock(&registry->mutex);

    set_max_servers(limit, max_servers < 0 ? 0 : max_servers, now_us);

    pthread_mutex_lock(&registry->mutex);
    registry_drop_limit(registry, limit);
    pthread_mutex_unlock(&registry->mutex);
}

void registry_limit_database(struct registry *registry, const char *database,
                             const char *environment, int64_t max_servers, int64_t max_clients,
                             uint64_t now_us)
{
    set_limit(registry, LIMIT_DATABASE, database, environment, max_servers, max_clients, now_us);
}

void pool_limit_database(struct pool *pool, int64_t max_servers, int64_t max_clients,
                         uint64_t now_us)
{
    struct limit *limit = pool->limits[0];
    pthread_mutex_lock(&pool->registry->mutex);
    limit->max_clients = max_clients < 0 ? 0 : max_clients;
    pthread_mutex_unlock(&pool->registry->mutex);
    /* where there was no limit and is none, nobody waits for a place */
    if (max_servers > 0 || atomic_load(&limit->max_servers))
        set_max_servers(limit, max_servers < 0 ? 0 : max_servers, now_us);
}

void registry_limit_user(struct registry *registry, const char *user, int64_t max_servers,
                         int64_t max_clients, uint64_t now_us)
{
    set_limit(registry, LIMIT_USER, user, NULL, max_servers, max_clients, now_us);
}

void registry_limit_environment(struct registry *registry, const char *environment,
                                int64_t max_servers, int64_t max_clients, uint64_t now_us)
{
    set_limit(registry, LIMIT_ENVIRONMENT, environment, NULL, max_servers, max_clients, now_us);
}

void registry_limit_clients(struct registry *registry, int64_t max_clients)
{
    atomic_store(&registry->max_clients, max_clients < 0 ? 0 : max_clients);
}

/* ---- clients ---- */

enum admission registry_admit(struct registry *registry)
{
    int64_t clients = atomic_load(&registry->clients);
    int64_t max_clients = atomic_load(&registry->max_clients);
    do {
        if (max_clients && clients >= max_clients)
            return REFUSED_TOTAL;
    } while (!atomic_compare_exchange_weak(&registry->clients, &clients, clients + 1));
    return ADMITTED;
}

void registry_discharge(struct registry *registry)
{
    check(atomic_fetch_sub(&registry->clients, 1) > 0);
}

int64_t registry_client_count(struct registry *registry)
{
    return atomic_load(&registry->clients);
}

/* The limits that count a client, in the order of the refusals; NULL: none. Under the registry's
 * mutex. */
static void client_limits(struct registry *registry, const struct pool_key *key,
                          const char *client_user, bool make, struct limit **limits)
{
    limits[0] = registry_limit(registry, LIMIT_DATABASE, key->database, key->environment, make);
    limits[1] = registry_limit(registry, LIMIT_USER, client_user, NULL, make);
    limits[2] = key->environment
                    ? registry_limit(registry, LIMIT_ENVIRONMENT, key->environment, NULL, make)
                    : NULL;
}

/* The same for clients of a pool, which knows its limits. */
static void client_limits_in(struct pool *pool, const char *client_user, bool make,
                             struct limit **limits)
{
    memcpy(limits, pool->limits, sizeof(pool->limits));
    if (strcmp(client_user, pool->user) != 0)
        limits[1] = registry_limit(pool->registry, LIMIT_USER, client_user, NULL, make);
}

/* Counts a client under all limits or none. Under the registry's mutex. */
static enum admission admit(struct registry *registry, struct limit **limits)
{
    static const enum admission refusals[] = {REFUSED_DATABASE, REFUSED_USER, REFUSED_ENVIRONMENT};
    enum admission admission = ADMITTED;
    for (unsigned i = 0; i < POOL_LIMITS && admission == ADMITTED; i++)
        if (limits[i] && limits[i]->max_clients && limits[i]->clients >= limits[i]->max_clients)
            admission = refusals[i];
    for (unsigned i = 0; i < POOL_LIMITS; i++) {
        if (!limits[i])
            continue;
        limits[i]->users++;
        if (admission == ADMITTED)
            limits[i]->clients++;
        else
            registry_drop_limit(registry, limits[i]);
    }
    return admission;
}

enum admission registry_admit_to(struct registry *registry, const struct pool_key *key,
                                 const char *client_user)
{
    struct limit *limits[POOL_LIMITS];
    pthread_mutex_lock(&registry->mutex);
    client_limits(registry, key, client_user, true, limits);
    enum admission admission = admit(registry, limits);
    pthread_mutex_unlock(&registry->mutex);
    return admission;
}

enum admission pool_admit(struct pool *pool, const char *client_user)
{
    struct limit *limits[POOL_LIMITS];
    pthread_mutex_lock(&pool->registry->mutex);
    client_limits_in(pool, client_user, true, limits);
    enum admission admission = admit(pool->registry, limits);
    pthread_mutex_unlock(&pool->registry->mutex);
    return admission;
}

/* Under the registry's mutex. */
static void discharge(struct registry *registry, struct limit **limits, bool has_environment)
{
    for (unsigned i = 0; i < POOL_LIMITS; i++) {
        if (i == 2 && !has_environment)
            continue;
        check(limits[i] && limits[i]->clients > 0);
        limits[i]->clients--;
        registry_drop_limit(registry, limits[i]);
    }
}

void registry_discharge_from(struct registry *registry, const struct pool_key *key,
                             const char *client_user)
{
    struct limit *limits[POOL_LIMITS];
    pthread_mutex_lock(&registry->mutex);
    client_limits(registry, key, client_user, false, limits);
    discharge(registry, limits, key->environment != NULL);
    pthread_mutex_unlock(&registry->mutex);
}

void pool_discharge(struct pool *pool, const char *client_user)
{
    struct limit *limits[POOL_LIMITS];
    pthread_mutex_lock(&pool->registry->mutex);
    client_limits_in(pool, client_user, false, limits);
    discharge(pool->registry, limits, pool->environment != NULL);
    pthread_mutex_unlock(&pool->registry->mutex);
}

/* ---- reading ---- */

static void count(struct registry *registry, char kind, const char *name, const char *environment,
                  struct limit_counts *counts)
{
    *counts = (struct limit_counts){0};
    pthread_mutex_lock(&registry->mutex);
    struct limit *limit = registry_limit(registry, kind, name, environment, false);
    if (limit) {
        counts->servers = atomic_load(&limit->servers);
        counts->max_servers = atomic_load(&limit->max_servers);
        counts->clients = limit->clients;
        counts->max_clients = limit->max_clients;
    }
    pthread_mutex_unlock(&registry->mutex);
}

void registry_database_counts(struct registry *registry, const char *database,
                              const char *environment, struct limit_counts *counts)
{
    count(registry, LIMIT_DATABASE, database, environment, counts);
}

void registry_user_counts(struct registry *registry, const char *user, struct limit_counts *counts)
{
    count(registry, LIMIT_USER, user, NULL, counts);
}

void registry_environment_counts(struct registry *registry, const char *environment,
                                 struct limit_counts *counts)
{
    count(registry, LIMIT_ENVIRONMENT, environment, NULL, counts);
}
