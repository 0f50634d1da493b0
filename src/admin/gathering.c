/*
 * gathering: one view's question to every worker.
 *
 *   gathering_start ─► each(worker 0) → part 0 ─┐
 *                   ─► each(worker n) → part n ─┴─► done: merges, ends the job, frees what parts
 * hold
 *
 * Parts are zeroed and written by one worker each, then read here: worker/gather makes the one
 * visible to the other. The job outlives the question even when its client leaves.
 */
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/memory.h"

void *gathering_part(const struct gathering *gathering, unsigned index)
{
    return gathering->parts + index * gathering->part_bytes;
}

static void on_each(struct loop *loop, unsigned slot, void *argument)
{
    const struct gathering *gathering = argument;
    gathering->each(loop, gathering->job, gathering_part(gathering, slot));
}

static void on_done(struct loop *home, void *argument)
{
    (void)home;
    struct gathering *gathering = argument;
    gathering->admin->gathers--;
    gathering->done(gathering);
    free(gathering->parts);
    free(gathering);
}

void gathering_start(struct admin *admin, struct console_job *job, size_t part_bytes,
                     void (*each)(struct loop *loop, const struct console_job *job, void *part),
                     void (*done)(struct gathering *gathering))
{
    struct gathering *gathering = memory_new(sizeof *gathering);
    gathering->admin = admin;
    gathering->job = job;
    gathering->each = each;
    gathering->done = done;
    gathering->count = plane_worker_count(admin->plane);
    gathering->part_bytes = part_bytes;
    gathering->parts = memory_new(gathering->count * part_bytes);
    admin->gathers++;
    gather_start(plane_control(admin->plane), plane_loops(admin->plane), gathering->count, on_each,
                 on_done, gathering);
}
