/*
 * admin: the control plane's desk: the console's commands and views, statistics, upkeep of pools.
 *
 * One of it, on the control thread. What reaches beyond the data plane (reading files, ending the
 * process) it asks of its owner through callbacks.
 */
#ifndef PGSTAGE_ADMIN_ADMIN_H
#define PGSTAGE_ADMIN_ADMIN_H

#include <stdbool.h>

#include "pgstage/conf/snapshot.h"
#include "pgstage/session/plane.h"

struct admin;
struct failover;
struct monitor;
struct procedures;

enum admin_shutdown {
    ADMIN_SHUTDOWN_NOW,
    ADMIN_SHUTDOWN_FOR_CLIENTS,
    ADMIN_SHUTDOWN_FOR_SERVERS,
};

struct admin_callbacks {
    void *context;
    /* Reads the configuration again and puts it into force. False: nothing has changed, and
     * `*problem` (allocated) lists every mistake, a line each. `who` asks for it. */
    bool (*reload)(void *context, const char *who, char **problem);
    /* Puts a snapshot into force (SET); otherwise as reload. */
    bool (*apply)(void *context, struct snapshot *snapshot, const char *who, char **problem);
    void (*shutdown)(void *context, enum admin_shutdown how);
    /* plane_hooks.idle. */
    void (*idle)(void *context);
};

struct admin *admin_new(const struct admin_callbacks *callbacks)
    __attribute__((warn_unused_result));
/* For plane_new. */
struct plane_hooks admin_hooks(struct admin *admin);
/* The plane, the monitor, the failover engine and its procedures exist: timers begin. */
void admin_start(struct admin *admin, struct plane *plane, struct monitor *monitor,
                 struct failover *failover, struct procedures *procedures);
/* The configuration has changed: timers are set anew. */
void admin_reloaded(struct admin *admin);
/* Does a command still wait for the workers' answers? Then loop_turn, before plane_free. */
bool admin_is_busy(const struct admin *admin);
/* Ends waiting commands and timers; before plane_free. No hook is served any more. */
void admin_stop(struct admin *admin);
/* After plane_free. */
void admin_free(struct admin *admin);

/* PAUSE and RESUME of everything, as signals ask for them. False: it was so already. */
bool admin_pause_all(struct admin *admin);
bool admin_resume_all(struct admin *admin);

#endif
