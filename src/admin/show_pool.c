/*
 * show_pool: SHOW POOLS.
 *
 * The workers know what their clients and servers are doing; the registry knows which pools there
 * are, used or not. Each worker notes its share of each pool with a reference to the pool; here the
 * shares of one pool are summed (the longest wait is the maximum) by the pool's name: replication
 * connections have a pool of their own under the same name, and are counted in its row.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/pool/registry.h"

struct shares {
    struct pool_view *views; /* each with a reference to its pool */
    size_t count, capacity;
};

struct sum {
    char *name; /* allocated */
    uint64_t pool_id;
    struct pool_view view; /* with a reference to the pool */
    UT_hash_handle hh;
};

static void note_share(void *argument, const struct pool_view *view)
{
    struct shares *shares = argument;
    if (shares->count == shares->capacity) {
        shares->capacity = shares->capacity ? 2 * shares->capacity : 16;
        shares->views = memory_resize(shares->views, shares->capacity, sizeof *shares->views);
    }
    shares->views[shares->count] = *view;
    pool_ref(shares->views[shares->count++].pool);
}

static void note_shares(struct loop *loop, const struct console_job *job, void *part)
{
    (void)job;
    worker_each_pool(loop, note_share, part);
}

/* The sum for this pool, made when it is new; takes over the reference. */
static struct sum *sum_of(struct sum **sums, struct pool *pool)
{
    struct sum *sum;
    const char *environment = pool_environment(pool);
    char *name = text_print("%s\n%s\n%s", pool_database(pool), pool_user(pool),
                            environment ? environment : "");
    HASH_FIND_STR(*sums, name, sum);
    if (sum) {
        free(name);
        pool_unref(pool);
        return sum;
    }
    sum = memory_new(sizeof *sum);
    sum->name = name;
    sum->pool_id = pool_id(pool);
    sum->view.pool = pool;
    HASH_ADD_KEYPTR(hh, *sums, sum->name, strlen(sum->name), sum);
    return sum;
}

static void note_pool(struct pool *pool, void *argument)
{
    (void)sum_of(argument, pool_ref(pool));
}

static void add_share(struct pool_view *sum, const struct pool_view *share)
{
    sum->cl_active += share->cl_active;
    sum->cl_waiting += share->cl_waiting;
    sum->cl_active_cancel_req += share->cl_active_cancel_req;
    sum->cl_waiting_cancel_req += share->cl_waiting_cancel_req;
    sum->sv_active += share->sv_active;
    sum->sv_active_cancel += share->sv_active_cancel;
    sum->sv_being_canceled += share->sv_being_canceled;
    sum->sv_idle += share->sv_idle;
    sum->sv_used += share->sv_used;
    sum->sv_tested += share->sv_tested;
    sum->sv_login += share->sv_login;
    if (share->max_wait_us > sum->max_wait_us)
        sum->max_wait_us = share->max_wait_us;
}

static void put_row(struct result *result, const struct pool_view *view)
{
    const char *environment = pool_environment(view->pool);
    char *database = database_name(pool_database(view->pool), environment);
    struct effective *effective = plane_pool_effective(view->pool);
    char *problem = plane_pool_problem(view->pool);
    struct pool_counts counts;
    pool_counts(view->pool, &counts);
    const uint64_t numbers[] = {
        view->cl_active,
        view->cl_waiting,
        view->cl_active_cancel_req,
        view->cl_waiting_cancel_req,
        view->sv_active,
        view->sv_active_cancel,
        view->sv_being_canceled,
        view->sv_idle,
        view->sv_used,
        view->sv_tested,
        view->sv_login,
        view->max_wait_us / CLOCK_SECOND,
        view->max_wait_us % CLOCK_SECOND,
    };
    result_begin(result);
    result_text(result, database);
    result_text(result, pool_user(view->pool));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        result_uint(result, numbers[i]);
    result_text(result, option_word("pool_mode", effective->settings->pool_mode));
    result_text(result,
                effective->host_count > 1
                    ? option_word("load_balance_hosts", effective->settings->load_balance_hosts)
                    : NULL);
    result_text(result, environment);
    result_int(result, counts.paused);
    result_text(result, problem);
    result_end(result);
    free(problem);
    effective_unref(effective);
    free(database);
}

static int by_id(struct sum *a, struct sum *b)
{
    return a->pool_id < b->pool_id ? -1 : a->pool_id > b->pool_id;
}

static void put_pools(struct gathering *gathering)
{
    struct sum *sums = NULL;
    registry_each(plane_registry(gathering->admin->plane), note_pool, &sums);
    for (unsigned i = 0; i < gathering->count; i++) {
        struct shares *shares = gathering_part(gathering, i);
        for (size_t k = 0; k < shares->count; k++)
            add_share(&sum_of(&sums, shares->views[k].pool)->view, &shares->views[k]);
        free(shares->views);
    }
    HASH_SORT(sums, by_id);
    struct sum *sum, *next;
    HASH_ITER (hh, sums, sum, next) {
        put_row(&gathering->job->result, &sum->view);
        HASH_DEL(sums, sum);
        pool_unref(sum->view.pool);
        free(sum->name);
        free(sum);
    }
    console_done(gathering->job);
}

void command_show_pools(struct admin *admin, struct console_job *job)
{
    gathering_start(admin, job, sizeof(struct shares), note_shares, put_pools);
}
