/*
 * failures.c: failed logins of each address.
 *
 *   entry by key (hash)      list: quiet for longest ◄──────► heard of last
 *
 *   failure 1, 2, 3 … of a window: the answer waits 100 ms, 200 ms, 400 ms … 5 s
 *   failure `login_failures_limit`: refused for login_refusal_time, then counted from 0 again
 *
 * A window begins with its first failure. Successful logins change nothing: else whoever has one
 * password could go on guessing others. Everything under the mutex, which is held for a look-up.
 */
#include "pgstage/session/failures.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/list.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"

#define DELAY_FIRST_US (100 * CLOCK_MS)
#define DELAY_MOST_US (5 * CLOCK_SECOND)

/* The address without its port; IPv6 without the half that its owner chooses. */
struct failure_key {
    uint8_t family;
    uint8_t bytes[8];
};

struct failure {
    struct failure_key key;
    int64_t count;             /* in this window */
    uint64_t window_us;        /* when it began */
    uint64_t refused_until_us; /* 0: not refused */
    struct list_node node;
    UT_hash_handle hh;
};

struct failures {
    /* fixed */
    size_t most;
    /* shared: mutex */
    pthread_mutex_t mutex;
    struct failure *by_key;
    struct list by_age; /* the quietest first */
    uint64_t failed, refused;
};

struct failures *failures_new(size_t addresses_max)
{
    struct failures *failures = memory_new(sizeof(*failures));

    failures->most = addresses_max;
    pthread_mutex_init(&failures->mutex, NULL);
    list_init(&failures->by_age);
    return failures;
}

static void forget(struct failures *failures, struct failure *failure)
{
    list_remove(&failures->by_age, &failure->node);
    HASH_DEL(failures->by_key, failure);
    free(failure);
}

void failures_free(struct failures *failures)
{
    if (!failures)
        return;
    while (!list_is_empty(&failures->by_age))
        forget(failures, list_entry(list_first(&failures->by_age), struct failure, node));
    pthread_mutex_destroy(&failures->mutex);
    free(failures);
}

/* False: this address is not counted. */
static bool key_of(const struct settings *settings, const struct address *address,
                   struct failure_key *key)
{
    memset(key, 0, sizeof(*key));
    if (!settings->login_failures_limit || address->length == 0 || address_is_local(address) ||
        (address_is_loopback(address) && !settings->login_failures_loopback))
        return false;
    if (address->any.sa_family == AF_INET) {
        key->family = 4;
        memcpy(key->bytes, &address->ip4.sin_addr, 4);
        return true;
    }
    key->family = 6;
    memcpy(key->bytes, &address->ip6.sin6_addr, sizeof(key->bytes));
    return address->any.sa_family == AF_INET6;
}

static struct failure *find(struct failures *failures, const struct failure_key *key)
{
    struct failure *failure;

    HASH_FIND(hh, failures->by_key, key, sizeof(*key), failure);
    if (failure) {
        list_remove(&failures->by_age, &failure->node);
        list_push_back(&failures->by_age, &failure->node);
    }
    return failure;
}

static struct failure *find_or_add(struct failures *failures, const struct failure_key *key)
{
    struct failure *failure = find(failures, key);

    if (failure)
        return failure;
    if (failures->by_age.length >= failures->most)
        forget(failures, list_entry(list_first(&failures->by_age), struct failure, node));
    failure = memory_new(sizeof(*failure));
    failure->key = *key;
    HASH_ADD(hh, failures->by_key, key, sizeof(failure->key), failure);
    list_push_back(&failures->by_age, &failure->node);
    return failure;
}

bool failures_refuse(struct failures *failures, const struct settings *settings,
                     const struct address *address, uint64_t now_us)
{
    struct failure_key key;
    struct failure *failure;
    bool refused;

    if (!key_of(settings, address, &key))
        return false;
    pthread_mutex_lock(&failures->mutex);
    failure = find(failures, &key);
    refused = failure && now_us < failure->refused_until_us;
    failures->refused += refused;
    pthread_mutex_unlock(&failures->mutex);
    return refused;
}

static uint64_t delay_of(int64_t count)
{
    uint64_t delay_us = DELAY_FIRST_US;

    while (--count > 0 && delay_us < DELAY_MOST_US)
        delay_us *= 2;
    return delay_us < DELAY_MOST_US ? delay_us : DELAY_MOST_US;
}

uint64_t failures_count(struct failures *failures, const struct settings *settings,
                        const struct address *address, uint64_t now_us, bool *refused)
{
    struct failure_key key;
    struct failure *failure;
    uint64_t delay_us = 0;
    bool counted = key_of(settings, address, &key);

    *refused = false;
    pthread_mutex_lock(&failures->mutex);
    failures->failed++;
    if (counted) {
        failure = find_or_add(failures, &key);
        if (!failure->count || now_us - failure->window_us >= settings->login_failures_window_us) {
            failure->count = 0;
            failure->window_us = now_us;
        }
        delay_us = delay_of(++failure->count);
        if (failure->count >= settings->login_failures_limit) {
            /* logins that were under way when it was refused fail too: told once */
            *refused = now_us >= failure->refused_until_us;
            failure->refused_until_us = now_us + settings->login_refusal_time_us;
            failure->count = 0;
        }
    }
    pthread_mutex_unlock(&failures->mutex);
    return delay_us;
}

void failures_totals(struct failures *failures, uint64_t now_us, struct login_totals *totals)
{
    pthread_mutex_lock(&failures->mutex);
    totals->failures = failures->failed;
    totals->refusals = failures->refused;
    totals->addresses = failures->by_age.length;
    totals->refused_addresses = 0;
    list_for_each (node, &failures->by_age) {
        if (now_us < list_entry(node, struct failure, node)->refused_until_us)
            totals->refused_addresses++;
    }
    pthread_mutex_unlock(&failures->mutex);
}
