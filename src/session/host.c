/*
 * host.c: one record for each server host.
 *
 * A host that cannot be reached is left alone for a while: 100 ms after the first failure, twice as
 * long after each further one, up to server_login_retry; one success forgets all. The pause belongs
 * to the host and not to a pool, so that a dead host costs one attempt at a time and not one for
 * each pool; nobody waits out the whole pause when the host is back early.
 */
#include "pgstage/session/host.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

#define HOST_FIRST_PAUSE_US (100 * CLOCK_MS)

struct host {
    /* fixed */
    char *key;
    char *environment, *name, *address;
    uint16_t port;
    UT_hash_handle hh;
    struct host *next; /* in the list that hosts_each walks */
    /* shared: atomic */
    _Atomic int64_t connections;
    _Atomic uint64_t retry_at_us;
    /* shared: mutex */
    pthread_mutex_t mutex;
    uint64_t failures, pause_us;
    bool tried;
    char last_error[256];
};

struct hosts {
    /* shared: mutex */
    pthread_mutex_t mutex;
    struct host *by_key;
    struct host *first;
};

struct hosts *hosts_new(void)
{
    struct hosts *hosts = memory_new(sizeof(*hosts));

    pthread_mutex_init(&hosts->mutex, NULL);
    return hosts;
}

void hosts_free(struct hosts *hosts)
{
    struct host *host, *next;

    if (!hosts)
        return;
    HASH_ITER (hh, hosts->by_key, host, next) {
        HASH_DEL(hosts->by_key, host);
        pthread_mutex_destroy(&host->mutex);
        free(host->key);
        free(host->environment);
        free(host->name);
        free(host->address);
        free(host);
    }
    pthread_mutex_destroy(&hosts->mutex);
    free(hosts);
}

struct host *hosts_get(struct hosts *hosts, const char *environment,
                       const struct host_config *config)
{
    char *key = text_print("%s\n%s\n%s\n%u", environment ? environment : "", config->name,
                           config->address ? config->address : "", config->port);
    struct host *host;

    pthread_mutex_lock(&hosts->mutex);
    HASH_FIND_STR(hosts->by_key, key, host);
    if (!host) {
        host = memory_new(sizeof(*host));
        host->key = key;
        key = NULL;
        host->environment = text_copy(environment);
        host->name = text_copy(config->name);
        host->address = text_copy(config->address);
        host->port = config->port;
        pthread_mutex_init(&host->mutex, NULL);
        HASH_ADD_KEYPTR(hh, hosts->by_key, host->key, strlen(host->key), host);
        host->next = hosts->first;
        hosts->first = host;
    }
    pthread_mutex_unlock(&hosts->mutex);
    free(key);
    return host;
}

void hosts_each(struct hosts *hosts, void (*each)(struct host *host, void *argument),
                void *argument)
{
    struct host *host;

    /* records are only ever put in front, and live as long as `hosts`: the list can be walked
     * without the lock */
    pthread_mutex_lock(&hosts->mutex);
    host = hosts->first;
    pthread_mutex_unlock(&hosts->mutex);
    for (; host; host = host->next)
        each(host, argument);
}

const char *host_name(const struct host *host)
{
    return host->name;
}

const char *host_address_text(const struct host *host)
{
    return host->address;
}

const char *host_environment(const struct host *host)
{
    return host->environment;
}

uint16_t host_port(const struct host *host)
{
    return host->port;
}

bool host_is_local(const struct host *host)
{
    return host->name[0] == '/' || host->name[0] == '@';
}

uint64_t host_retry_at(struct host *host)
{
    return atomic_load_explicit(&host->retry_at_us, memory_order_relaxed);
}

uint64_t host_failed(struct host *host, uint64_t now_us, uint64_t longest_us, const char *problem)
{
    uint64_t retry_at_us;

    pthread_mutex_lock(&host->mutex);
    host->tried = true;
    host->failures++;
    retry_at_us = host_retry_at(host);
    if (now_us >= retry_at_us) {
        /* attempts that began together fail together: they count once */
        host->pause_us = host->pause_us ? host->pause_us * 2 : HOST_FIRST_PAUSE_US;
        if (host->pause_us > longest_us)
            host->pause_us = longest_us;
        retry_at_us = now_us + host->pause_us;
        atomic_store_explicit(&host->retry_at_us, retry_at_us, memory_order_relaxed);
    }
    (void)text_fit(host->last_error, sizeof(host->last_error), problem);
    pthread_mutex_unlock(&host->mutex);
    return retry_at_us;
}

void host_succeeded(struct host *host)
{
    pthread_mutex_lock(&host->mutex);
    host->tried = true;
    host->pause_us = 0;
    host->failures = 0;
    host->last_error[0] = '\0';
    atomic_store_explicit(&host->retry_at_us, 0, memory_order_relaxed);
    pthread_mutex_unlock(&host->mutex);
}

void host_connections_add(struct host *host, int change)
{
    atomic_fetch_add_explicit(&host->connections, change, memory_order_relaxed);
}

void host_state(struct host *host, struct host_state *state)
{
    pthread_mutex_lock(&host->mutex);
    state->connections = (uint64_t)atomic_load_explicit(&host->connections, memory_order_relaxed);
    state->failures = host->failures;
    state->retry_at_us = host_retry_at(host);
    state->tried = host->tried;
    memcpy(state->last_error, host->last_error, sizeof(state->last_error));
    pthread_mutex_unlock(&host->mutex);
}
