/*
 * stats: sums by database, and what they were one and two periods ago.
 *
 *   pool counters (per worker) ─ stats_see ─► struct seen (per pool) ─┐
 *                                             a pool that is gone ────┴─► struct database
 *   stats_tick: older ◄─ newer ◄─ current      averages = (current − older) / (now − older's time)
 *
 * So an average covers between one and two periods, as in PgBouncer. Databases that are not in the
 * configuration (made from `*`) are forgotten with their last pool, so nobody can fill the memory
 * with names. Control thread only.
 */
#include "pgstage/admin/stats.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

struct database {
    char *name;
    struct stats_values retired; /* of pools that are gone */
    struct stats_values current, newer, older;
    size_t pools;
    bool keep;
    UT_hash_handle hh;
};

struct seen {
    uint64_t pool_id;
    struct database *database;
    struct stats_values values;
    uint64_t look; /* the latest look that saw it */
    UT_hash_handle hh;
};

struct stats {
    /* owner */
    struct database *databases;
    struct seen *pools;
    uint64_t look;
    uint64_t newer_us, older_us;
};

struct stats *stats_new(uint64_t now_us)
{
    struct stats *stats = memory_new(sizeof *stats);
    stats->newer_us = now_us;
    /* The first period: as if the counting had begun a second ago. */
    stats->older_us = now_us > CLOCK_SECOND ? now_us - CLOCK_SECOND : 0;
    return stats;
}

static void database_free(struct stats *stats, struct database *database)
{
    HASH_DEL(stats->databases, database);
    free(database->name);
    free(database);
}

void stats_free(struct stats *stats)
{
    struct seen *seen, *next;
    HASH_ITER (hh, stats->pools, seen, next) {
        HASH_DEL(stats->pools, seen);
        free(seen);
    }
    struct database *database, *after;
    HASH_ITER (hh, stats->databases, database, after)
        database_free(stats, database);
    free(stats);
}

static void add(struct stats_values *sum, const struct stats_values *values)
{
    for (size_t i = 0; i < METRIC_COUNT; i++)
        sum->of[i] += values->of[i];
}

static struct database *database_find(struct stats *stats, const char *name)
{
    struct database *database;
    HASH_FIND_STR(stats->databases, name, database);
    if (!database) {
        database = memory_new(sizeof *database);
        database->name = text_copy(name);
        HASH_ADD_KEYPTR(hh, stats->databases, database->name, strlen(database->name), database);
    }
    return database;
}

void stats_begin(struct stats *stats)
{
    stats->look++;
}

void stats_see(struct stats *stats, uint64_t pool_id, const char *name, bool keep,
               const struct stats_values *values)
{
    struct seen *seen;
    HASH_FIND(hh, stats->pools, &pool_id, sizeof pool_id, seen);
    if (!seen) {
        seen = memory_new(sizeof *seen);
        seen->pool_id = pool_id;
        seen->database = database_find(stats, name);
        seen->database->pools++;
        HASH_ADD(hh, stats->pools, pool_id, sizeof seen->pool_id, seen);
    }
    seen->database->keep = keep;
    seen->values = *values;
    seen->look = stats->look;
}

void stats_end(struct stats *stats)
{
    struct database *database, *after;
    HASH_ITER (hh, stats->databases, database, after)
        database->current = (struct stats_values){0};

    struct seen *seen, *next;
    HASH_ITER (hh, stats->pools, seen, next) {
        bool gone = seen->look != stats->look;
        add(gone ? &seen->database->retired : &seen->database->current, &seen->values);
        if (!gone)
            continue;
        seen->database->pools--;
        HASH_DEL(stats->pools, seen);
        free(seen);
    }

    HASH_ITER (hh, stats->databases, database, after) {
        add(&database->current, &database->retired);
        if (database->pools == 0 && !database->keep)
            database_free(stats, database);
    }
}

void stats_of_pool(struct pool *pool, unsigned workers, struct stats_values *values)
{
    *values = (struct stats_values){0};
    for (unsigned i = 0; i < workers; i++) {
        const struct pool_stats *counters = pool_stats(pool, i);
#define METRIC(name, unit, help) values->of[METRIC_##name] += counter_read(&counters->name);
#include "pgstage/tables/metrics.def"
#undef METRIC
    }
}

void stats_tick(struct stats *stats, uint64_t now_us)
{
    stats->older_us = stats->newer_us;
    stats->newer_us = now_us;
    struct database *database, *after;
    HASH_ITER (hh, stats->databases, database, after) {
        database->older = database->newer;
        database->newer = database->current;
    }
}

/* Per what a metric's average counts: METRIC_COUNT stands for the second. */
static enum metric divisor(enum metric metric)
{
    switch (metric) {
    case METRIC_xact_time:
        return METRIC_xact_count;
    case METRIC_query_time:
        return METRIC_query_count;
    case METRIC_wait_time:
        return METRIC_server_assignment_count;
    default:
        return METRIC_COUNT;
    }
}

static void average(const struct stats_values *now, const struct stats_values *then,
                    uint64_t passed_us, struct stats_values *averages)
{
    for (enum metric i = 0; i < METRIC_COUNT; i++) {
        enum metric by = divisor(i);
        uint64_t amount = now->of[i] - then->of[i];
        if (by == METRIC_COUNT) {
            double per_second = (double)amount * (double)CLOCK_SECOND / (double)passed_us;
            averages->of[i] = passed_us ? (uint64_t)per_second : 0;
        } else {
            uint64_t count = now->of[by] - then->of[by];
            averages->of[i] = count ? amount / count : 0;
        }
    }
}

static int by_name(const void *a, const void *b)
{
    const struct database *const *one = a, *const *other = b;
    return strcmp((*one)->name, (*other)->name);
}

void stats_each(struct stats *stats, uint64_t now_us,
                void (*each)(const char *database, const struct stats_values *totals,
                             const struct stats_values *averages, void *argument),
                void *argument)
{
    size_t count = 0, all = HASH_COUNT(stats->databases);
    struct database **sorted = memory_get(all * sizeof(struct database *));
    struct database *database, *after;
    HASH_ITER (hh, stats->databases, database, after)
        sorted[count++] = database;
    qsort(sorted, count, sizeof(struct database *), by_name);
    for (size_t i = 0; i < count; i++) {
        struct stats_values averages;
        average(&sorted[i]->current, &sorted[i]->older, now_us - stats->older_us, &averages);
        each(sorted[i]->name, &sorted[i]->current, &averages, argument);
    }
    free(sorted);
}

void stats_sum(struct stats *stats, uint64_t now_us, struct stats_values *totals,
               struct stats_values *averages)
{
    struct stats_values older = {0};
    *totals = (struct stats_values){0};
    struct database *database, *after;
    HASH_ITER (hh, stats->databases, database, after) {
        add(totals, &database->current);
        add(&older, &database->older);
    }
    average(totals, &older, now_us - stats->older_us, averages);
}
