/*
 * clock: the time. Any thread. On a loop's thread use loop_now_us, which reads once per turn.
 */
#ifndef PGSTAGE_BASE_CLOCK_H
#define PGSTAGE_BASE_CLOCK_H

#include <stdint.h>

#define CLOCK_MS UINT64_C(1000)
#define CLOCK_SECOND UINT64_C(1000000)

/* Microseconds of a clock that never jumps (CLOCK_MONOTONIC). */
uint64_t clock_now_us(void);
/* Microseconds since 1970, for people. */
uint64_t clock_wall_us(void);

#endif
