/*
 * steer: puts the monitor, the failover engine and the data plane together.
 *
 *   probes ─► monitor ─ changed ─► failover ─► plane: standing, hold, close, release
 *   procedures (promotion, switchover …) ─► failover, plane, and the operator's commands
 *   plane ─ what live traffic shows ─► monitor: the next probe comes earlier
 *
 * Control thread.
 */
#ifndef PGSTAGE_STEER_H
#define PGSTAGE_STEER_H

#include <stdbool.h>
#include <stddef.h>

#include "pgstage/conf/snapshot.h"

struct failover;
struct loop;
struct monitor;
struct plane;
struct procedures;

/* Zeroed is none. */
struct steer {
    /* owner */
    struct plane *plane;
    struct monitor *monitor;
    struct failover *failover;
    struct procedures *procedures;
};

/* Begins to watch; before plane_start, so that no client is served before it is known whom writes
 * may go to. `steer` must stay where it is. False and `problem`: state_dir cannot be used. */
bool steer_start(struct steer *steer, struct loop *loop, struct plane *plane,
                 struct snapshot *snapshot, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* The plane has this configuration now. */
void steer_reload(struct steer *steer, struct snapshot *snapshot);
/* Nothing is decided any more; commands that wait for it are answered. */
void steer_stop(struct steer *steer);
/* Ends the probes; before plane_free. */
void steer_end(struct steer *steer);
/* After plane_free, before loop_free. */
void steer_fini(struct steer *steer);

#endif
