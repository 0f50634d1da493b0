/*
 * warm.c: derives the keys of plain secrets before their users come.
 *
 * A first login with a plain secret costs thousands of hashes on a helper thread; done beforehand
 * it costs as little as the later ones, and takes no longer than the refusal of an unknown user.
 * One user at a time, behind whatever logins wait for the same helper.
 */
#include <stdlib.h>

#include "pgstage/auth/login.h"
#include "pgstage/base/memory.h"
#include "pgstage/session/worker.h"

/* Beyond this many the first logins pay for themselves. */
#define WARM_USERS_MAX 1000

struct warming {
    struct offload_job job;
    struct plane *plane;
    struct snapshot *snapshot; /* a reference */
    size_t next;
    const struct user_secret *secret;
};

static bool find_next(struct warming *warming)
{
    const struct users *users = snapshot_users(warming->snapshot);

    while (users && warming->next < users_count(users) && warming->next < WARM_USERS_MAX) {
        warming->secret = users_at(users, warming->next++);
        if (warming->secret->kind == SECRET_PLAIN)
            return true;
    }
    return false;
}

static void work(struct offload_job *job)
{
    struct warming *warming = (struct warming *)job;

    (void)!auth_warm(warming->secret, warming->plane->keys);
}

static void go_on(struct warming *warming)
{
    if (find_next(warming) &&
        offload_submit(warming->plane->derivations, warming->plane->control, &warming->job))
        return;
    snapshot_unref(warming->snapshot);
    free(warming);
}

static void done(struct loop *loop, struct offload_job *job)
{
    struct warming *warming = (struct warming *)job;

    (void)loop;
    if (!job->cancelled && !warming->plane->stopping &&
        warming->snapshot == plane_snapshot(warming->plane)) {
        go_on(warming);
        return;
    }
    snapshot_unref(warming->snapshot);
    free(warming);
}

void plane_warm_keys(struct plane *plane)
{
    struct warming *warming = memory_new(sizeof(*warming));

    warming->job.work = work;
    warming->job.done = done;
    warming->plane = plane;
    warming->snapshot = snapshot_ref(plane_snapshot(plane));
    go_on(warming);
}
