/*
 * host.c: one record for each server host.
 *
 * A host that cannot be reached is left alone for a while: 100 ms after the first failure, twice as
 * long after each further one, up to server_login_retry; one success forgets all. The pause belongs
 * to the host and not to a pool, so that a dead host costs one attempt at a time and not one for
 * each pool; nobody waits out the whole pause when the host is back early.
 *
 *   "pg:5432" ─ parts ─► "pg@10.0.0.1:5432", "pg@10.0.0.2:5432"     a name with several addresses
 *
 * Records that the configuration names are never freed. A part goes when its address is no more and
 * nothing uses it: connections that are open or being opened count as users, and a part is given to
 * a new one only under its owner's mutex, while it is in the list.
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
#include "pgstage/conf/host.h"
#include "pgstage/session/plane.h"

/* Another role is told no more often than this. */
#define HOST_NEWS_US (100 * CLOCK_MS)

struct host {
    /* fixed */
    char *key, *label;
    char *environment, *name, *address;
    uint16_t port;
    UT_hash_handle hh;
    /* shared: the mutex of all */
    bool pinned; /* the configuration names it: it is never freed */
    /* owner: the control thread */
    struct host *next; /* in the list that hosts_each walks */
    bool dropped;      /* a part that is no more: freed when nothing uses it */
    char *sole;        /* the one address of its name; NULL: not known, or several */
    /* shared: atomic */
    _Atomic int64_t connections;
    _Atomic unsigned users;
    _Atomic unsigned standing, generation;
    _Atomic uint64_t system_identifier;
    _Atomic uint32_t timeline;
    _Atomic uint64_t retry_at_us;
    _Atomic uint64_t misfit_until_us[2]; /* for those that want a primary, a standby */
    _Atomic uint64_t trouble_us, role_us;
    _Atomic bool old; /* it is asked for protocol 3.0 */
    _Atomic int role; /* what was told last: 0: nothing, 1: primary, 2: standby */
    /* shared: mutex */
    pthread_mutex_t mutex;
    struct host **parts;
    size_t part_count;
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

static void host_free(struct host *host)
{
    pthread_mutex_destroy(&host->mutex);
    free(host->key);
    free(host->label);
    free(host->environment);
    free(host->name);
    free(host->address);
    free(host->parts);
    free(host->sole);
    free(host);
}

void hosts_free(struct hosts *hosts)
{
    struct host *host, *next;

    if (!hosts)
        return;
    HASH_ITER (hh, hosts->by_key, host, next) {
        HASH_DEL(hosts->by_key, host);
        host_free(host);
    }
    pthread_mutex_destroy(&hosts->mutex);
    free(hosts);
}

static char *key_of(const char *environment, const char *label)
{
    return text_print("%s\n%s", environment ? environment : "", label);
}

static struct host *find_or_make(struct hosts *hosts, const char *environment,
                                 const struct host_config *config, bool pinned)
{
    char *label = host_print(config), *key = key_of(environment, label);
    struct host *host;

    pthread_mutex_lock(&hosts->mutex);
    HASH_FIND_STR(hosts->by_key, key, host);
    if (!host) {
        host = memory_new(sizeof(*host));
        host->key = key;
        host->label = label;
        key = label = NULL;
        host->environment = text_copy(environment);
        host->name = text_copy(config->name);
        host->address = text_copy(config->address);
        host->port = config->port;
        pthread_mutex_init(&host->mutex, NULL);
        HASH_ADD_KEYPTR(hh, hosts->by_key, host->key, strlen(host->key), host);
        host->next = hosts->first;
        hosts->first = host;
    }
    host->pinned = host->pinned || pinned;
    pthread_mutex_unlock(&hosts->mutex);
    free(key);
    free(label);
    return host;
}

struct host *hosts_get(struct hosts *hosts, const char *environment,
                       const struct host_config *config)
{
    return find_or_make(hosts, environment, config, true);
}

struct host *hosts_find(struct hosts *hosts, const char *environment, const char *label)
{
    char *key = key_of(environment, label);
    struct host *host;

    pthread_mutex_lock(&hosts->mutex);
    HASH_FIND_STR(hosts->by_key, key, host);
    pthread_mutex_unlock(&hosts->mutex);
    free(key);
    return host;
}

/* Frees the parts that are no more and that nothing uses. */
static void sweep(struct hosts *hosts)
{
    pthread_mutex_lock(&hosts->mutex);
    for (struct host **at = &hosts->first; *at;) {
        struct host *host = *at;

        if (!host->dropped || host->pinned || atomic_load(&host->users) > 0) {
            at = &host->next;
            continue;
        }
        *at = host->next;
        HASH_DEL(hosts->by_key, host);
        host_free(host);
    }
    pthread_mutex_unlock(&hosts->mutex);
}

void hosts_each(struct hosts *hosts, void (*each)(struct host *host, void *argument),
                void *argument)
{
    struct host *host;

    sweep(hosts);
    /* records are only ever put in front, and taken out by this thread: the list can be walked
     * without the lock */
    pthread_mutex_lock(&hosts->mutex);
    host = hosts->first;
    pthread_mutex_unlock(&hosts->mutex);
    for (struct host *next; host; host = next) {
        next = host->next;
        each(host, argument);
    }
}

/* ---- the addresses of a name ---- */

static bool is_among(const struct host *host, struct host *const *parts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (parts[i] == host)
            return true;
    return false;
}

static void set_parts(struct host *host, struct host **parts, size_t count)
{
    struct host **old;

    pthread_mutex_lock(&host->mutex);
    old = host->parts;
    host->parts = parts;
    host->part_count = count;
    pthread_mutex_unlock(&host->mutex);
    free(old);
}

void hosts_split(struct hosts *hosts, struct host *host, const char *const *addresses, size_t count,
                 void (*gone)(void *argument, struct host *part), void *argument)
{
    static const struct standing nothing;
    size_t kept = count > 1 ? count : 0, old_count = host->part_count;
    struct host **parts = memory_new(kept * sizeof(struct host *));
    struct host **old = memory_new(old_count * sizeof(struct host *));
    const char *sole = count == 1 ? addresses[0] : NULL;

    for (size_t i = 0; i < old_count; i++)
        old[i] = host->parts[i];
    for (size_t i = 0; i < kept; i++) {
        struct host_config config = {host->name, addresses[i], host->port};

        parts[i] = find_or_make(hosts, host->environment, &config, false);
        parts[i]->dropped = false;
        if (!is_among(parts[i], old, old_count))
            (void)host_set_standing(parts[i], &nothing);
    }
    set_parts(host, parts, kept);
    if (old_count > 0 || !sole || !text_equal(host->sole, sole))
        (void)host_set_standing(host, &nothing);
    /* it stands for another address than before, or for none any more */
    if (old_count == 0 && count > 0 && (kept || (host->sole && !text_equal(host->sole, sole))))
        gone(argument, host);
    free(host->sole);
    host->sole = text_copy(sole);
    for (size_t i = 0; i < old_count; i++) {
        if (is_among(old[i], parts, kept))
            continue;
        old[i]->dropped = true;
        gone(argument, old[i]);
    }
    free(old);
    sweep(hosts);
}

size_t host_use_parts(struct host *host, struct host **parts, size_t room)
{
    size_t count = 0;

    pthread_mutex_lock(&host->mutex);
    for (size_t i = 0; i < host->part_count && count < room; i++)
        parts[count++] = host->parts[i];
    if (host->part_count == 0 && room > 0)
        parts[count++] = host;
    for (size_t i = 0; i < count; i++)
        host_use(parts[i]);
    pthread_mutex_unlock(&host->mutex);
    return count;
}

void host_use(struct host *host)
{
    atomic_fetch_add(&host->users, 1);
}

void host_unuse(struct host *host)
{
    atomic_fetch_sub(&host->users, 1);
}

uint64_t host_users(const struct host *host)
{
    return atomic_load_explicit(&host->users, memory_order_relaxed);
}

/* ---- who it is ---- */

const char *host_label(const struct host *host)
{
    return host->label;
}

const char *host_name(const struct host *host)
{
    return host->name;
}

const char *host_address_text(const struct host *host)
{
    return host->address;
}

const char *host_target(const struct host *host)
{
    return host->address ? host->address : host->name;
}

const char *host_environment(const struct host *host)
{
    return host->environment;
}

uint16_t host_port(const struct host *host)
{
    return host->port;
}

/* ---- standing ---- */

/* | breaker_open | read_only | standby 2 bits | write 2 bits | */
static unsigned pack(const struct standing *standing)
{
    return (unsigned)standing->write | (unsigned)standing->standby << 2 |
           (unsigned)standing->read_only << 4 | (unsigned)standing->breaker_open << 5;
}

struct standing host_standing(const struct host *host)
{
    unsigned packed = atomic_load_explicit(&host->standing, memory_order_acquire);

    return (struct standing){
        .write = (enum allowance)(packed & 3),
        .standby = (enum allowance)(packed >> 2 & 3),
        .read_only = packed >> 4 & 1,
        .breaker_open = packed >> 5 & 1,
    };
}

bool host_set_standing(struct host *host, const struct standing *standing)
{
    unsigned packed = pack(standing);
    uint64_t identifier = atomic_exchange(&host->system_identifier, standing->system_identifier);
    uint32_t timeline = atomic_exchange(&host->timeline, standing->timeline);
    unsigned before = atomic_exchange_explicit(&host->standing, packed, memory_order_acq_rel);

    return before != packed || identifier != standing->system_identifier ||
           timeline != standing->timeline;
}

struct host_identity host_identity(const struct host *host)
{
    return (struct host_identity){atomic_load(&host->system_identifier),
                                  atomic_load(&host->timeline)};
}

unsigned host_generation(const struct host *host)
{
    return atomic_load(&host->generation);
}

void host_close_generation(struct host *host)
{
    atomic_fetch_add(&host->generation, 1);
}

/* ---- attempts ---- */

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
        host->pause_us *= 2;
        if (host->pause_us > longest_us)
            host->pause_us = longest_us;
        if (host->pause_us < SERVER_LEAST_PAUSE_US)
            host->pause_us = SERVER_LEAST_PAUSE_US;
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

void host_forgive(struct host *host)
{
    pthread_mutex_lock(&host->mutex);
    host->pause_us = 0;
    atomic_store_explicit(&host->retry_at_us, 0, memory_order_relaxed);
    atomic_store_explicit(&host->misfit_until_us[0], 0, memory_order_relaxed);
    atomic_store_explicit(&host->misfit_until_us[1], 0, memory_order_relaxed);
    pthread_mutex_unlock(&host->mutex);
}

void host_connections_add(struct host *host, int change)
{
    atomic_fetch_add_explicit(&host->connections, change, memory_order_relaxed);
}

static uint64_t connections_of(const struct host *host)
{
    return (uint64_t)atomic_load_explicit(&host->connections, memory_order_relaxed);
}

bool host_is_old(const struct host *host)
{
    return atomic_load_explicit(&host->old, memory_order_relaxed);
}

void host_set_old(struct host *host, bool old)
{
    atomic_store_explicit(&host->old, old, memory_order_relaxed);
}

bool host_saw_role(struct host *host, bool in_recovery, uint64_t now_us, uint64_t again_us)
{
    int role = in_recovery ? 2 : 1;
    uint64_t told_us = atomic_load_explicit(&host->role_us, memory_order_relaxed);
    bool news = atomic_load_explicit(&host->role, memory_order_relaxed) != role;

    /* two servers behind one address may say something else each time */
    if (told_us && now_us - told_us < (news ? HOST_NEWS_US : again_us))
        return false;
    atomic_store_explicit(&host->role, role, memory_order_relaxed);
    return atomic_compare_exchange_strong(&host->role_us, &told_us, now_us);
}

uint64_t host_misfit_until(const struct host *host, bool wants_standby)
{
    return atomic_load_explicit(&host->misfit_until_us[wants_standby], memory_order_relaxed);
}

void host_is_misfit(struct host *host, bool wants_standby, uint64_t until_us)
{
    atomic_store_explicit(&host->misfit_until_us[wants_standby], until_us, memory_order_relaxed);
}

bool host_saw_trouble(struct host *host, uint64_t now_us, uint64_t again_us)
{
    uint64_t told_us = atomic_load_explicit(&host->trouble_us, memory_order_relaxed);

    /* of several threads one tells it */
    return (told_us == 0 || now_us - told_us >= again_us) &&
           atomic_compare_exchange_strong(&host->trouble_us, &told_us, now_us);
}

void host_state(struct host *host, struct host_state *state)
{
    pthread_mutex_lock(&host->mutex);
    state->connections = connections_of(host);
    state->failures = host->failures;
    state->retry_at_us = host_retry_at(host);
    state->tried = host->tried;
    state->is_split = host->part_count > 0;
    memcpy(state->last_error, host->last_error, sizeof(state->last_error));
    pthread_mutex_unlock(&host->mutex);
}
