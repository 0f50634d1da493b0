/*
 * failover: what the failover tests share: a scene is pgstage before a constellation with clients
 * of the ledger at work.
 */
#ifndef SYSTEM_FAILOVER_H
#define SYSTEM_FAILOVER_H

#include "constellation.h"
#include "ledger.h"
#include "system.h"

struct scene {
    struct constellation *sky;
    struct proxy *proxy;
    struct ledger *ledger;
};

/* So long after a server's end a client may note an answer that the server gave before: it stands in
 * sockets, and on a busy machine the client's thread waits for its turn. */
#define ANSWER_LAG_MS 10000

struct scene_options {
    struct constellation_options sky;
    struct ledger_options ledger; /* clients 0: 100, 50 idle ones, 6 that listen; -1: none */
    const char *general;          /* more lines of [pgstage] */
    const char *environment;      /* more lines of [environment drill] */
    bool promotes;                /* failover_mode = promote, and the user for it */
    const char *state_dir;        /* NULL: one of its own */
    const struct proxy *twin;     /* pgstage takes this one's port over; that one has ended */
};

/* Everything runs, and the ledger's clients have begun to pay, when this returns. */
struct scene *scene_start(const struct scene_options *options);
/* Another pgstage before the same servers. */
struct proxy *scene_proxy(struct constellation *sky, const struct scene_options *options);
/* Starts the clients, once there is a proxy; they have begun to pay when this returns. */
void scene_work(struct scene *scene, const struct ledger_options *options);
/* Ends pgstage with SIGKILL while everybody works. */
void scene_cut(struct scene *scene);
/* Starts it again, on the same port: the clients come back. `forgets`: without its state file. */
void scene_mend(struct scene *scene, const struct scene_options *options, bool forgets);
/*
 * Stops the clients and judges what `primary` holds. With `old` (stopped, the former primary) what
 * is missing must have been written there and not have reached the new one, before `latest_ms`
 * (now_ms; 0: at any time); without it nothing may be missing.
 */
struct ledger_verdict scene_judge(struct scene *scene, struct star *primary, struct star *old,
                                  int64_t latest_ms);

/* The same, when the clients have been stopped. */
struct ledger_verdict scene_compare(struct scene *scene, struct star *primary, struct star *old,
                                    int64_t latest_ms);

/* The ledger's clients have got at least `count` acknowledgements for what they begin from now on.
 */
void scene_goes_on(struct scene *scene, long count);
/* Does a text of the console's name this host? */
bool names_star(const char *text, const struct star *star);
/* A field of the star's row in SHOW HOSTS; allocated. */
char *host_field(struct proxy *proxy, const struct star *star, const char *column);
bool host_is(struct proxy *proxy, const struct star *star, const char *column, const char *value);
/* How far it has written, and how far pgstage has seen it write; in bytes. */
long star_written(const struct star *star);
long seen_written(struct proxy *proxy, const struct star *star);
/* A moment without an acknowledgement, and without a new transfer on this star: what was on its way
 * when it was held up or cut off has arrived. */
bool scene_is_quiet(const struct scene *scene);
bool star_is_quiet(const struct star *star);
/* Is there an alarm of this name (about this star, unless NULL) in SHOW ALARMS? */
bool has_alarm(struct proxy *proxy, const char *alarm, const struct star *star);
/* Is it in SHOW FENCES? */
bool is_fenced(struct proxy *proxy, const struct star *star);
/* A field of the newest row of SHOW FAILOVERS, "" without any; allocated. */
char *last_failover(struct proxy *proxy, const char *column);
/* Which star serves a connection that asks as this one does (by the server's port). */
struct star *served_by(struct constellation *sky, PGconn *client);
/* How many rows that table has on a star, past pgstage. */
long rows_on(const struct star *star, const char *table);

#endif
