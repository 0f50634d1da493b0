/*
 * monitor: probes every host of every environment and knows how each of them is.
 *
 *   probe ─► finding ─► judged (health, role, breaker, lag) ─► report ─► hooks
 *
 * All hosts are probed in parallel, each on a connection of its own that stays open; every fifth
 * probe logs in anew, because a stopped postmaster's old sessions go on answering. After bad news
 * the whole environment is probed at probe_fast_interval. Names are resolved again as dns_max_ttl
 * says. Who decides what follows from a report is elsewhere (failover/). One loop's thread; no hook
 * comes from inside a call but monitor_load, which tells of hosts that come and go.
 */
#ifndef PGSTAGE_HEALTH_MONITOR_H
#define PGSTAGE_HEALTH_MONITOR_H

#include <stdbool.h>

#include "pgstage/conf/snapshot.h"
#include "pgstage/health/report.h"
#include "pgstage/net/resolver.h"
#include "pgstage/worker/loop.h"

struct monitor;

/* What of a report has changed (bits). */
enum monitor_change {
    MONITOR_HEALTH = 1,
    MONITOR_ROLE = 2,
    MONITOR_BREAKER = 4,
    MONITOR_LAG_OVER = 8,  /* lag_over */
    MONITOR_IDENTITY = 16, /* system identifier, timeline, address */
    MONITOR_RECEIVER = 32, /* receiver, upstream */
    MONITOR_SYNC = 64,     /* synchronous_standby_names, sync */
    MONITOR_NEW = 128,     /* the host is new */
    MONITOR_GONE = 256,    /* the host is not monitored any more; its texts die with the call */
    MONITOR_BLIND = 512,   /* blind or starting */
};

struct monitor_hooks {
    void *context;
    /* Something of this host that matters has changed (`what`: bits). NULL: nobody wants it. */
    void (*changed)(void *context, const struct host_report *report, unsigned what);
    /* A probe has ended (after `changed`): positions, delays and counts are new. NULL: nobody. */
    void (*probed)(void *context, const struct host_report *report);
    /* A name now means these addresses (numeric); each is a host of its own when there are several.
     * Comes before `changed` of the hosts that come and go. NULL: nobody. */
    void (*addresses)(void *context, const char *environment, const struct host_config *host,
                      const char *const *addresses, size_t count);
};

struct monitor *monitor_new(struct loop *loop, struct resolver *resolver,
                            const struct monitor_hooks *hooks) __attribute__((warn_unused_result));
void monitor_free(struct monitor *monitor);
/* Monitors what this configuration names: at the start, and at each reload. Hosts that mean the
 * same keep their connection and history. A reference of the snapshot is taken. */
void monitor_load(struct monitor *monitor, struct snapshot *snapshot);

/* Every host of an environment (NULL: of all), hosts before dr_hosts, in the order of the file. */
void monitor_each(struct monitor *monitor, const char *environment,
                  void (*each)(void *argument, const struct host_report *report), void *argument);
/* NULL: no such host. Valid until the loop goes on. */
const struct host_report *monitor_find(struct monitor *monitor, const char *environment,
                                       const char *label);

/* Brings the next probe forward to now; label NULL: of every host of the environment. A host that
 * is being probed is left alone. */
void monitor_probe_now(struct monitor *monitor, const char *environment, const char *label);
/* While `fast`, the environment is probed at probe_fast_interval whatever its health. */
void monitor_hurry(struct monitor *monitor, const char *environment, bool fast);

/* What live traffic shows of a host: it brings the next probe forward and decides nothing. */
enum monitor_evidence {
    EVIDENCE_TROUBLE, /* refused, reset, 57P01 to 57P03, a read-only error of a supposed primary */
    EVIDENCE_PRIMARY, /* a login found it out of recovery */
    EVIDENCE_STANDBY, /* a login found it in recovery */
};
void monitor_note(struct monitor *monitor, const char *environment, const char *label,
                  enum monitor_evidence evidence);

#endif
