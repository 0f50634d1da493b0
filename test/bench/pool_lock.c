/*
 * pool_lock.c: what lending a server and taking it back costs the workers that share one pool. Each
 * thread borrows and returns a server of its own as fast as it can, which no worker with clients
 * ever does: so the mutex is asked for as often as possible. Threads stay on a CPU each, as long as
 * there are enough: the kernel needs longer to part them than this takes.
 *
 *   pool_lock THREADS PAIRS
 *
 * Prints nanoseconds of processor time for each pair of pool_borrow and pool_return.
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "pgstage/base/check.h"
#include "pgstage/base/memory.h"
#include "pgstage/pool/pool.h"
#include "pgstage/pool/registry.h"

#define THREADS_MAX 64

struct lender {
    pthread_t thread;
    struct pool_waiter waiter;
    uint64_t nanoseconds;
};

static struct lender lenders[THREADS_MAX];
static unsigned lender_count;
static unsigned long pairs;
static struct pool *pool;
static pthread_barrier_t begin;
static unsigned opens_at; /* the worker that was asked to open */

static void on_open(struct pool *asked, unsigned worker)
{
    (void)asked;
    opens_at = worker;
}

static void on_item(struct pool *asked, unsigned worker, uint64_t item_id)
{
    (void)asked, (void)worker, (void)item_id;
    check(!"each has a server of its own");
}

static void on_doom(struct pool *asked, unsigned worker, uint64_t item_id, const char *why)
{
    (void)why;
    on_item(asked, worker, item_id);
}

static void on_drained(struct pool *asked)
{
    (void)asked;
}

/* A server of this worker, in the lender's hands. */
static struct pool_item *open_one(struct lender *lender)
{
    struct pool_item *item = memory_new(sizeof(*item));
    struct pool_grant grant;

    check(!pool_borrow(pool, &lender->waiter, 1));
    check(opens_at == lender->waiter.worker);
    check(pool_opened(pool, item, opens_at, 1, &grant) == POOL_LENT);
    check(grant.waiter == &lender->waiter);
    return item;
}

static uint64_t thread_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The calling thread to the CPU of this number among those that the process may use. */
static void stay_on(unsigned number)
{
    cpu_set_t allowed, one;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return;
    number %= (unsigned)CPU_COUNT(&allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || number-- > 0)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        (void)pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
        return;
    }
}

static void *lend(void *argument)
{
    struct lender *lender = argument;
    struct pool_grant grant;
    uint64_t before;

    stay_on(lender->waiter.worker);
    pthread_barrier_wait(&begin);
    before = thread_ns();

    for (unsigned long i = 0; i < pairs; i++) {
        struct pool_item *item = pool_borrow(pool, &lender->waiter, i);

        check(item && pool_return(pool, item, i, &grant) == POOL_KEPT);
    }
    lender->nanoseconds = thread_ns() - before;
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct pool_limits limits = {0};
    static const struct registry_events events = {
        .pool = {.open = on_open, .reclaim = on_item, .doom = on_doom, .drained = on_drained}};
    static const struct pool_key key = {"bench", "bench", NULL, false};
    struct pool_item *items[THREADS_MAX];
    struct registry *registry;
    struct pool_grant grant;
    uint64_t total = 0;

    lender_count = argc == 3 ? (unsigned)atoi(argv[1]) : 0;
    pairs = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (lender_count == 0 || lender_count > THREADS_MAX || pairs == 0) {
        fprintf(stderr, "usage: pool_lock THREADS PAIRS\n");
        return 2;
    }
    registry = registry_new(lender_count, &events);
    pool = registry_pool(registry, &key, &limits, NULL);
    for (unsigned i = 0; i < lender_count; i++) {
        lenders[i].waiter = (struct pool_waiter){.id = i + 1, .worker = i};
        items[i] = open_one(&lenders[i]);
    }
    for (unsigned i = 0; i < lender_count; i++)
        check(pool_return(pool, items[i], 1, &grant) == POOL_KEPT);
    check(pthread_barrier_init(&begin, NULL, lender_count) == 0);
    for (unsigned i = 0; i < lender_count; i++)
        check(pthread_create(&lenders[i].thread, NULL, lend, &lenders[i]) == 0);
    for (unsigned i = 0; i < lender_count; i++) {
        pthread_join(lenders[i].thread, NULL);
        total += lenders[i].nanoseconds;
    }
    printf("%.1f\n", (double)total / (double)pairs / lender_count);
    return 0;
}
