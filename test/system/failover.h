/*
 * failover: what the failover tests share: a scene is pgstage before a constellation with clients
 * of the ledger at work.
 */
#ifndef SYSTEM_FAILOVER_H
#define SYSTEM_FAILOVER_H

#include "constellation.h"
#include "ledger.h"
#include "system.h"

/* These last longer than others: servers are started, killed and started again. */
#define FAILOVER_SUITE(name) TestSuite(name, .fini = test_end, .timeout = 150)

struct scene {
    struct constellation *sky;
    struct proxy *proxy;
    struct ledger *ledger;
};

struct scene_options {
    struct constellation_options sky;
    struct ledger_options ledger; /* clients 0: 100 and 50 idle ones; -1: none */
    const char *general;          /* more lines of [pgstage] */
    const char *environment;      /* more lines of [environment drill] */
    bool promotes;                /* failover_mode = promote, and the user for it */
    const char *state_dir;        /* NULL: one of its own */
};

/* Everything runs, and the ledger's clients have begun to pay, when this returns. */
struct scene *scene_start(const struct scene_options *options);
/* Another pgstage before the same servers. */
struct proxy *scene_proxy(struct constellation *sky, const struct scene_options *options);
/*
 * Stops the clients and judges what `primary` holds. With `old` (stopped, the former primary) what
 * is missing must have been written there and not have reached the new one, before `latest_ms`
 * (now_ms; 0: at any time); without it nothing may be missing.
 */
struct ledger_verdict scene_judge(struct scene *scene, struct star *primary, struct star *old,
                                  int64_t latest_ms);

#endif
