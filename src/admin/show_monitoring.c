/*
 * show_monitoring: SHOW HISTOGRAMS, STATS_USERS, STATS_HOSTS, which the monitoring levels above
 * basic count, and SECURITY and PINS, which are always counted.
 *
 * Histograms and security counters can be read from any thread; the tables of users and hosts are
 * asked of each worker and summed here. Control thread.
 */
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/pool/registry.h"
#include "pgstage/session/audit.h"

/* ---- histograms ---- */

struct histogram_rows {
    struct admin *admin;
    struct result *result;
    struct pool *pool;
    char *name;
};

static void put_bucket(void *argument, enum watch_kind kind, uint64_t bound_us, uint64_t count)
{
    static const char *const names[] = {
        [WATCH_query] = "query",
        [WATCH_transaction] = "transaction",
        [WATCH_wait] = "wait",
    };
    const struct histogram_rows *rows = argument;
    result_begin(rows->result);
    result_text(rows->result, rows->name);
    result_text(rows->result, pool_user(rows->pool));
    result_text(rows->result, pool_environment(rows->pool));
    result_text(rows->result, names[kind]);
    if (bound_us == UINT64_MAX)
        result_null(rows->result);
    else
        result_uint(rows->result, bound_us);
    result_uint(rows->result, count);
    result_end(rows->result);
}

static void put_pool(struct pool *pool, void *argument)
{
    struct histogram_rows *rows = argument;
    if (pool_has_own_items(pool))
        return; /* replication: there is nothing to measure */
    rows->pool = pool;
    rows->name = database_name(pool_database(pool), pool_environment(pool));
    plane_each_bucket(rows->admin->plane, pool, put_bucket, rows);
    free(rows->name);
}

void command_show_histograms(struct admin *admin, struct console_job *job)
{
    struct histogram_rows rows = {.admin = admin, .result = &job->result};
    registry_each(plane_registry(admin->plane), put_pool, &rows);
    console_done(job);
}

/* ---- users and hosts ---- */

/* One worker's part, then the sum of all: by name and environment. */
struct sum {
    char *key, *name, *environment;
    uint64_t of[FIGURE_COUNT];
    UT_hash_handle hh;
};

struct sums {
    struct sum *sums; /* uthash */
};

static void add(void *argument, const struct figures_view *view)
{
    struct sums *sums = argument;
    struct sum *sum;
    char *key = text_print("%s@%s", view->name, view->environment ? view->environment : "");
    HASH_FIND_STR(sums->sums, key, sum);
    if (!sum) {
        sum = memory_new(sizeof *sum);
        sum->key = key;
        sum->name = text_copy(view->name);
        sum->environment = text_copy(view->environment);
        HASH_ADD_KEYPTR(hh, sums->sums, sum->key, strlen(sum->key), sum);
    } else {
        free(key);
    }
    for (size_t i = 0; i < FIGURE_COUNT; i++)
        sum->of[i] += view->of[i];
}

static void note_users(struct loop *loop, const struct console_job *job, void *part)
{
    (void)job;
    worker_each_figures(loop, FIGURES_OF_USERS, add, part);
}

static void note_hosts(struct loop *loop, const struct console_job *job, void *part)
{
    (void)job;
    worker_each_figures(loop, FIGURES_OF_HOSTS, add, part);
}

static int by_key(struct sum *a, struct sum *b)
{
    return strcmp(a->key, b->key);
}

static void sums_free(struct sums *sums)
{
    struct sum *sum, *next;
    HASH_ITER (hh, sums->sums, sum, next) {
        HASH_DEL(sums->sums, sum);
        free(sum->key);
        free(sum->name);
        free(sum->environment);
        free(sum);
    }
}

static void put_sums(struct gathering *gathering)
{
    struct result *result = &gathering->job->result;
    struct sums all = {0};
    struct sum *sum, *next;
    for (unsigned i = 0; i < gathering->count; i++) {
        struct sums *part = gathering_part(gathering, i);
        HASH_ITER (hh, part->sums, sum, next) {
            struct figures_view view = {.name = sum->name, .environment = sum->environment};
            memcpy(view.of, sum->of, sizeof view.of);
            add(&all, &view);
        }
        sums_free(part);
    }
    HASH_SORT(all.sums, by_key);
    HASH_ITER (hh, all.sums, sum, next) {
        result_begin(result);
        result_text(result, sum->name);
        result_text(result, sum->environment);
        for (size_t i = 0; i < FIGURE_COUNT; i++)
            result_uint(result, sum->of[i]);
        result_end(result);
    }
    sums_free(&all);
    console_done(gathering->job);
}

void command_show_stats_users(struct admin *admin, struct console_job *job)
{
    gathering_start(admin, job, sizeof(struct sums), note_users, put_sums);
}

void command_show_stats_hosts(struct admin *admin, struct console_job *job)
{
    gathering_start(admin, job, sizeof(struct sums), note_hosts, put_sums);
}

/* ---- security ---- */

static void put_security(void *argument, const char *name, uint64_t value, const char *help)
{
    struct result *result = argument;
    result_begin(result);
    result_text(result, name);
    result_uint(result, value);
    result_text(result, help);
    result_end(result);
}

void command_show_security(struct admin *admin, struct console_job *job)
{
    struct audit_counts counts;
    audit_counts(plane_audit(admin->plane), &counts);
    plane_each_security(admin->plane, put_security, &job->result);
    put_security(&job->result, "audit_lines_written", counts.written, "lines in the audit log");
    put_security(&job->result, "audit_lines_lost", counts.lost,
                 "lines that could not be written to it");
    put_security(&job->result, "audit_failing", counts.failing,
                 "1: the audit log cannot be written at present");
    console_done(job);
}

/* ---- pins ---- */

static void put_pin(void *argument, const char *name, uint64_t clients, uint64_t total,
                    const char *help)
{
    struct result *result = argument;
    result_begin(result);
    result_text(result, name);
    result_uint(result, clients);
    result_uint(result, total);
    result_text(result, help);
    result_end(result);
}

void command_show_pins(struct admin *admin, struct console_job *job)
{
    plane_each_pin(admin->plane, put_pin, &job->result);
    console_done(job);
}
