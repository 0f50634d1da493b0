/*
 * histogram.c: a value up to 127 us has a bucket of its own; above, each power of two is split into
 * 64 buckets. So a quantile is off by 1.6 % at most, and adding costs a shift and an increment.
 */
#include "histogram.h"

static size_t bucket_of(uint64_t value_us)
{
    unsigned shift;
    size_t bucket;

    if (value_us < 128)
        return (size_t)value_us;
    shift = (unsigned)(63 - __builtin_clzll(value_us)) - 6;
    bucket = 64 * (size_t)shift + (size_t)(value_us >> shift);
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* The lowest value of a bucket. */
static uint64_t value_of(size_t bucket)
{
    unsigned shift;

    if (bucket < 128)
        return bucket;
    shift = (unsigned)(bucket / 64) - 1;
    return (uint64_t)(bucket - 64 * (size_t)shift) << shift;
}

void histogram_add(struct histogram *histogram, uint64_t value_us)
{
    histogram->count++;
    histogram->sum_us += value_us;
    if (value_us > histogram->max_us)
        histogram->max_us = value_us;
    histogram->buckets[bucket_of(value_us)]++;
}

uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)((double)histogram->count * share + 0.5), seen = 0;

    if (histogram->count == 0)
        return 0;
    if (wanted == 0)
        wanted = 1;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= wanted)
            return value_of(i);
    }
    return histogram->max_us;
}
