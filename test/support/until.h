/*
 * until: waits for a condition with a deadline, by looking again every few milliseconds.
 *
 *     cr_assert(until(show_number(proxy, ...) == 1, PATIENCE_MS));
 */
#ifndef SUPPORT_UNTIL_H
#define SUPPORT_UNTIL_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* So long a test waits at most for what must happen: far longer than it takes, also on a busy
 * machine, and shorter than the timeouts of a minute that are pgstage's defaults. */
#define PATIENCE_MS 50000

/* So long a whole test lasts at most: it is ended by this only when it hangs. */
#define TEST_LIMIT_S 300

static inline int64_t now_ms(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static inline void pause_ms(int ms)
{
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}

#define until(condition, ms)                                                                       \
    __extension__({                                                                                \
        int64_t until_deadline_ = now_ms() + (ms);                                                 \
        bool until_held_;                                                                          \
        while (!(until_held_ = (condition)) && now_ms() < until_deadline_)                         \
            pause_ms(5);                                                                           \
        until_held_;                                                                               \
    })

#endif
