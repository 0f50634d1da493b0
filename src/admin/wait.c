/*
 * wait: commands that answer when servers have gone: PAUSE and WAIT_CLOSE.
 *
 * The plane says when something has changed (hooks.pools_changed), and a timer looks once a second
 * besides, so a wait can be late but never lost. A cancel ends the command; that of a PAUSE takes
 * the pause back, as PgBouncer does. A client that goes away leaves the pause in force: scripts
 * rely on it, so it is only logged.
 */
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/pool/registry.h"

struct wait {
    /* fixed */
    struct admin *admin;
    struct console_job *job;
    struct target target;
    bool paused, obsolete_only;
    /* owner */
    struct list_node node;
};

static void wait_free(struct wait *wait)
{
    list_remove(&wait->admin->waits, &wait->node);
    target_fini(&wait->target);
    free(wait);
}

static bool is_over(const struct wait *wait)
{
    return !plane_has_servers(wait->admin->plane, wait->target.database, wait->target.environment,
                              wait->obsolete_only);
}

static void on_cancel(struct console_job *job, bool gone)
{
    struct wait *wait = job->state;
    struct admin *admin = wait->admin;
    if (gone) {
        /* Nobody waits for the answer any more; what was asked for stays in force. */
        if (wait->paused)
            log_warning("console: %s@%s has left while PAUSE was waiting: still paused", job->user,
                        job->from);
    } else if (wait->paused) {
        log_log("console: PAUSE cancelled, resuming");
        registry_pause(plane_registry(admin->plane), wait->target.database,
                       wait->target.environment, false, loop_now_us(plane_control(admin->plane)));
    }
    wait_free(wait);
    console_fail(job, "57014", "canceling statement due to user request", NULL, NULL);
}

void wait_start(struct admin *admin, struct console_job *job, struct target *target, bool paused,
                bool obsolete_only)
{
    struct wait *wait = memory_new(sizeof *wait);
    wait->admin = admin;
    wait->job = job;
    wait->target = *target;
    wait->paused = paused;
    wait->obsolete_only = obsolete_only;
    *target = (struct target){0};
    job->state = wait;
    job->cancelled = on_cancel;
    list_push_back(&admin->waits, &wait->node);
    if (is_over(wait)) {
        wait_free(wait);
        console_done(job);
    }
}

static struct wait *find_over(struct admin *admin)
{
    list_for_each (node, &admin->waits) {
        struct wait *wait = list_entry(node, struct wait, node);
        if (is_over(wait))
            return wait;
    }
    return NULL;
}

void waits_look(struct admin *admin)
{
    struct wait *wait;
    /* A job that ends may start the session's next command, and that another wait. */
    while ((wait = find_over(admin))) {
        struct console_job *job = wait->job;
        wait_free(wait);
        console_done(job);
    }
}

void waits_end(struct admin *admin)
{
    struct list_node *node;
    while ((node = list_first(&admin->waits))) {
        struct wait *wait = list_entry(node, struct wait, node);
        struct console_job *job = wait->job;
        wait_free(wait);
        console_fail(job, "57P01", "pgstage is shutting down", NULL, NULL);
    }
}
