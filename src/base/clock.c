/*
 * clock: the two clocks of the kernel in microseconds. Both are vDSO reads (no system call).
 * Any thread.
 */
#include "pgstage/base/clock.h"

#include <time.h>

static uint64_t clock_read_us(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * CLOCK_SECOND + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_now_us(void)
{
    return clock_read_us(CLOCK_MONOTONIC);
}

uint64_t clock_wall_us(void)
{
    return clock_read_us(CLOCK_REALTIME);
}
