/*
 * expiry.c: environments that end by themselves.
 *
 *   a day before ─► a warning      expires_at ─► pools: nothing kept open, idle servers closed,
 *                                                others when their transaction is over
 *                                            └─► workers: clients end with their transaction
 *
 * Logins look at the clock themselves (access.c). The timer is only told the nearest moment, and at
 * most a minute: it counts monotonic time, and the wall clock may be set. Control thread; a share's
 * `expired` belongs to its worker, which is told by letter.
 */
#include "pgstage/session/expiry.h"

#include <stdlib.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/conf/access.h"
#include "pgstage/session/backend.h"

#define LOOK_US (60 * CLOCK_SECOND)
#define WARNING_US (86400 * CLOCK_SECOND)

/* ---- workers ---- */

static void deliver_expiry(struct loop *loop, struct mail *mail)
{
    struct worker *worker = worker_of(loop);

    list_for_each (node, &worker->shares) {
        share_look_at_expiry(list_entry(node, struct share, node));
    }
    free(mail);
}

static void drain_pool(struct pool *pool, void *argument)
{
    struct plane *plane = argument;
    struct meaning *meaning = backend_meaning(backend_of(pool));
    const struct environment_config *environment = meaning->effective->environment;
    uint64_t now_us = loop_now_us(plane->control);
    struct pool_limits limits;

    if (environment && environment_is_expired(environment, clock_wall_us())) {
        meaning_limits(meaning, pool_has_own_items(pool), &limits);
        pool_configure(pool, &limits, now_us);
        pool_obsolete(pool, now_us);
    }
    meaning_unref(meaning);
}

static void drain(struct plane *plane)
{
    registry_each(plane->registry, drain_pool, plane);
    for (unsigned i = 0; i < plane->worker_count; i++) {
        struct mail *mail = memory_new(sizeof(*mail));

        mail->deliver = deliver_expiry;
        loop_post(plane->loops[i], mail);
    }
}

/* ---- looking ---- */

/* Has this moment come since the last look? */
static bool has_come(uint64_t moment_us, uint64_t looked_us, uint64_t now_us)
{
    return now_us >= moment_us && looked_us < moment_us;
}

static void sooner(uint64_t *wait_us, uint64_t moment_us, uint64_t now_us)
{
    if (moment_us > now_us && moment_us - now_us < *wait_us)
        *wait_us = moment_us - now_us;
}

static void on_expiry(struct loop *loop, struct timer *timer)
{
    (void)loop;
    expiry_look(list_entry(timer, struct plane, expiry), false);
}

void expiry_look(struct plane *plane, bool anew)
{
    const struct snapshot *snapshot = plane->setup->snapshot;
    uint64_t now_us = clock_wall_us(), wait_us = LOOK_US;
    uint64_t looked_us = anew ? 0 : plane->expiry_looked_us;
    bool expired = false;

    for (size_t i = 0; i < snapshot_environment_count(snapshot); i++) {
        const struct environment_config *environment = snapshot_environment(snapshot, i);
        uint64_t end_us = environment->expires_at_us;
        uint64_t warning_us = end_us > WARNING_US ? end_us - WARNING_US : 1;
        char moment[32];

        if (!end_us)
            continue;
        access_time_print(end_us, moment, sizeof(moment));
        if (has_come(end_us, looked_us, now_us)) {
            log_log("environment %s has expired at %s: logins are refused, its pools are drained",
                    environment->name, moment);
            expired = true;
        } else if (has_come(warning_us, looked_us, now_us) && now_us < end_us) {
            log_warning("environment %s expires at %s", environment->name, moment);
        }
        sooner(&wait_us, end_us, now_us);
        sooner(&wait_us, warning_us, now_us);
    }
    if (expired)
        drain(plane);
    plane->expiry_looked_us = now_us;
    plane->expiry.fire = on_expiry;
    timer_set(plane->control, &plane->expiry, loop_now_us(plane->control) + wait_us + CLOCK_MS);
}

void expiry_stop(struct plane *plane)
{
    timer_detach(plane->control, &plane->expiry);
}
