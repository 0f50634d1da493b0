/*
 * scene: what is known of an environment at this moment, as the guards read it: from the monitor's
 * reports, the situation and the options. Control thread.
 */
#ifndef PGSTAGE_FAILOVER_SCENE_H
#define PGSTAGE_FAILOVER_SCENE_H

#include "pgstage/base/list.h"
#include "pgstage/conf/snapshot.h"
#include "pgstage/failover/guard.h"
#include "pgstage/failover/situation.h"
#include "pgstage/health/report.h"

struct monitor;

/* What has to be remembered of each host from one look to the next. Zeroed is empty. */
struct memory {
    struct memory_host *first;
};
struct memory_host {
    struct memory_host *next;
    char *host;
    bool streams, is_there;
    uint64_t lost_us; /* since when it is not seen to stream; 0: it never was */
};
/* Looks at what streams now; hosts that are monitored no more are forgotten. */
void memory_refresh(struct memory *memory, struct monitor *monitor, const char *environment,
                    uint64_t now_us);
void memory_fini(struct memory *memory);

struct scene {
    struct guard_case guarded;
    struct guard_host *hosts;
    struct host_report *reports; /* of the same places; texts are the monitor's */
    size_t count;
};

/* `guarded` is filled but for type, is_dr and wanted (GUARD_NO_HOST). */
void scene_init(struct scene *scene, struct monitor *monitor, const struct memory *memory,
                const struct environment_config *environment, const struct settings *settings,
                const struct situation *situation, uint64_t now_us);
void scene_fini(struct scene *scene);
/* GUARD_NO_HOST: there is no such host. */
size_t scene_find(const struct scene *scene, const char *host);

#endif
