/*
 * stats: totals of each database since the start, and averages over the latest period.
 *
 * Counters live in the pools, one set for each worker; here they are summed. A pool that is gone
 * leaves what it counted to its database, so totals never go back. Control thread only.
 */
#ifndef PGSTAGE_ADMIN_STATS_H
#define PGSTAGE_ADMIN_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/pool/pool.h"

enum metric {
#define METRIC(name, unit, help) METRIC_##name,
#include "pgstage/tables/metrics.def"
#undef METRIC
    METRIC_COUNT,
};

struct stats_values {
    uint64_t of[METRIC_COUNT];
};

struct stats;

struct stats *stats_new(uint64_t now_us) __attribute__((warn_unused_result));
void stats_free(struct stats *stats);

/* One look at all pools: begin, each pool, end. `keep`: the database outlives its pools (it stands
 * in the configuration). */
void stats_begin(struct stats *stats);
void stats_see(struct stats *stats, uint64_t pool_id, const char *database, bool keep,
               const struct stats_values *values);
void stats_end(struct stats *stats);
/* The sum of a pool's counters over `workers` workers. */
void stats_of_pool(struct pool *pool, unsigned workers, struct stats_values *values);

/* A period is over: what was seen last is what the next averages count from. */
void stats_tick(struct stats *stats, uint64_t now_us);

/* One database: its totals as seen last, and its averages: counts and bytes per second, times per
 * transaction, query and assignment. By name. */
void stats_each(struct stats *stats, uint64_t now_us,
                void (*each)(const char *database, const struct stats_values *totals,
                             const struct stats_values *averages, void *argument),
                void *argument);
/* The same over all databases. */
void stats_sum(struct stats *stats, uint64_t now_us, struct stats_values *totals,
               struct stats_values *averages);

#endif
