/*
 * maintenance.c: MAINTENANCE ON FOR a time lasts that long, whatever becomes of the wall clock.
 *
 * The loop's clock, which nobody sets, says when it ends. The state file and people need a moment
 * of the wall clock: it is derived from the other, anew when the clock has been set. Only the time
 * between two processes is measured by the wall clock, for want of another.
 */
#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"

/* The two clocks never run quite alike. */
#define SLACK_US CLOCK_SECOND

static bool is_timed(const struct situation *situation)
{
    return situation->maintenance_until_us &&
           situation->maintenance_until_us != MAINTENANCE_UNTIL_OFF;
}

void maintenance_set(struct ward *ward, bool on, uint64_t for_us)
{
    struct situation *situation = ward->situation;
    situation->maintenance_until_us = !on      ? 0
                                      : for_us ? clock_wall_us() + for_us
                                               : MAINTENANCE_UNTIL_OFF;
    situation->maintenance_due_us = on && for_us ? loop_now_us(ward->failover->loop) + for_us : 0;
}

void maintenance_resume(struct ward *ward)
{
    struct situation *situation = ward->situation;
    uint64_t wall_us = clock_wall_us(), until_us = situation->maintenance_until_us;
    if (is_timed(situation))
        situation->maintenance_due_us =
            loop_now_us(ward->failover->loop) + (until_us > wall_us ? until_us - wall_us : 0);
}

void maintenance_look(struct ward *ward)
{
    struct situation *situation = ward->situation;
    uint64_t now_us = loop_now_us(ward->failover->loop), wall_us = clock_wall_us();
    if (!is_timed(situation))
        return;
    if (now_us >= situation->maintenance_due_us) {
        log_log("failover: %s: MAINTENANCE is over", ward->name);
        situation->maintenance_until_us = situation->maintenance_due_us = 0;
        keep_save(ward->failover, NULL, NULL);
        return;
    }
    uint64_t until_us = wall_us + (situation->maintenance_due_us - now_us);
    uint64_t before_us = situation->maintenance_until_us;
    if ((until_us > before_us ? until_us - before_us : before_us - until_us) <= SLACK_US)
        return;
    situation->maintenance_until_us = until_us;
    keep_save(ward->failover, NULL, NULL);
}
