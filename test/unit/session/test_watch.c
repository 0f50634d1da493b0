/*
 * watch: the buckets of the histograms.
 */
#include <criterion/criterion.h>

#include "pgstage/session/watch.h"

Test(watch, every_time_is_in_the_bucket_whose_bound_is_the_next_one_up)
{
    for (uint64_t us = 0; us < 100000; us++) {
        unsigned bucket = histogram_bucket(us);
        cr_assert_leq(us, histogram_bound_us(bucket));
        if (bucket > 0)
            cr_assert_gt(us, histogram_bound_us(bucket - 1));
    }
}

Test(watch, bounds_are_at_most_a_quarter_apart)
{
    for (unsigned i = 4; i + 2 < HISTOGRAM_BUCKETS; i++)
        cr_assert_leq(histogram_bound_us(i + 1) - histogram_bound_us(i),
                      (histogram_bound_us(i) + 1) / 4 + 1);
}

Test(watch, what_is_too_long_is_in_the_open_bucket)
{
    cr_expect_eq(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
    cr_expect_eq(histogram_bound_us(HISTOGRAM_BUCKETS - 1), UINT64_MAX);
    cr_expect_lt(histogram_bucket(3600 * UINT64_C(1000000)), HISTOGRAM_BUCKETS - 1);
}
