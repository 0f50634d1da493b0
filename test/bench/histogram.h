/*
 * histogram: latencies in microseconds, counted in buckets of at most 1.6 % width.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

/* 64 buckets for each power of two, up to 2^32 us (over an hour). */
#define HISTOGRAM_BUCKETS (64 * 28)

struct histogram {
    uint64_t count, sum_us, max_us;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value_us);
/* The value that this share (0 to 1) of the values does not exceed; 0 when there are none. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);

#endif
