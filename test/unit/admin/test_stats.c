/* stats: sums by database, pools that go, averages. */
#include <criterion/criterion.h>
#include <string.h>

#include "pgstage/admin/stats.h"
#include "pgstage/base/clock.h"

#define START (100 * CLOCK_SECOND)

static struct stats *stats;

static void begin(void)
{
    stats = stats_new(START);
}

static void end(void)
{
    stats_free(stats);
}

TestSuite(stats, .init = begin, .fini = end);

/* A look at one pool with so many queries, each of 10 us. */
static void see(uint64_t pool_id, const char *database, bool keep, uint64_t queries)
{
    struct stats_values values = {{0}};
    values.of[METRIC_query_count] = queries;
    values.of[METRIC_query_time] = 10 * queries;
    stats_see(stats, pool_id, database, keep, &values);
}

struct row {
    struct stats_values totals, averages;
    unsigned count;
    char names[64];
};

static void note_row(const char *database, const struct stats_values *totals,
                     const struct stats_values *averages, void *argument)
{
    struct row *row = argument;
    row->totals = *totals;
    row->averages = *averages;
    row->count++;
    strncat(row->names, database, sizeof row->names - strlen(row->names) - 1);
}

static struct row rows_at(uint64_t now_us)
{
    struct row row = {0};
    stats_each(stats, now_us, note_row, &row);
    return row;
}

Test(stats, sum_the_pools_of_a_database)
{
    stats_begin(stats);
    see(1, "app", true, 5);
    see(2, "app", true, 7);
    stats_end(stats);
    struct row row = rows_at(START + CLOCK_SECOND);
    cr_expect_eq(row.count, 1);
    cr_expect_eq(row.totals.of[METRIC_query_count], 12);
    cr_expect_eq(row.totals.of[METRIC_query_time], 120);
}

Test(stats, do_not_lose_what_a_pool_counted_that_is_gone)
{
    stats_begin(stats);
    see(1, "app", true, 5);
    see(2, "app", true, 7);
    stats_end(stats);
    stats_begin(stats);
    see(2, "app", true, 8);
    stats_end(stats);
    cr_expect_eq(rows_at(START).totals.of[METRIC_query_count], 13);
    stats_begin(stats);
    stats_end(stats);
    cr_expect_eq(rows_at(START).totals.of[METRIC_query_count], 13);
}

Test(stats, forget_a_database_that_nobody_configured_with_its_last_pool)
{
    stats_begin(stats);
    see(1, "made-up", false, 5);
    stats_end(stats);
    stats_begin(stats);
    stats_end(stats);
    cr_expect_eq(rows_at(START).count, 0);
}

Test(stats, average_over_the_time_since_the_period_before)
{
    stats_begin(stats);
    see(1, "app", true, 100);
    stats_end(stats);
    stats_tick(stats, START + 60 * CLOCK_SECOND);
    stats_tick(stats, START + 120 * CLOCK_SECOND);
    stats_begin(stats);
    see(1, "app", true, 1000);
    stats_end(stats);
    /* 900 queries since the look that the tick before the last took over, 90 s ago */
    struct row row = rows_at(START + 150 * CLOCK_SECOND);
    cr_expect_eq(row.averages.of[METRIC_query_count], 10);
    cr_expect_eq(row.averages.of[METRIC_query_time], 10);
}

Test(stats, average_times_per_query_and_not_per_second)
{
    stats_begin(stats);
    see(1, "app", true, 3);
    stats_end(stats);
    cr_expect_eq(rows_at(START).averages.of[METRIC_query_time], 10);
    cr_expect_eq(rows_at(START).averages.of[METRIC_xact_time], 0);
}

Test(stats, come_in_the_order_of_names)
{
    stats_begin(stats);
    see(1, "c", true, 1);
    see(2, "a", true, 1);
    see(3, "b", true, 1);
    stats_end(stats);
    cr_expect_str_eq(rows_at(START).names, "abc");
}

Test(stats, sum_over_all_databases)
{
    struct stats_values totals, averages;
    stats_begin(stats);
    see(1, "a", true, 20);
    see(2, "b", true, 30);
    stats_end(stats);
    stats_sum(stats, START, &totals, &averages);
    cr_expect_eq(totals.of[METRIC_query_count], 50);
    cr_expect_eq(averages.of[METRIC_query_count], 50);
}
