/*
 * constellation: servers of one PostgreSQL cluster, as a company runs them: a primary, standbys
 * that stream from it, one behind a standby, one at the disaster recovery site; all over TLS with
 * verify-full, each with a certificate for its own name.
 *
 * Names: pg1 (the first primary), pg2, pg3 …, then the cascading standby, then dr1, each with the
 * ending ".drill.test". Roles besides cluster.h's: pgstage_monitor, pgstage_failover, replicator,
 * and `app` has the password "appsecret"; everybody needs one over TCP.
 */
#ifndef SUPPORT_CONSTELLATION_H
#define SUPPORT_CONSTELLATION_H

#include "cluster.h"
#include "network.h"
#include "valve.h"

#define STAR_MAX 6

struct star {
    struct cluster *cluster;
    const char *name; /* pg1.drill.test */
    int port;         /* where the others and pgstage reach it: the valve's, when it has one */
    struct valve *valve;
    struct network *network;
    const char *upstream; /* primary_conninfo it was last told; NULL: none */
};

struct constellation {
    struct star stars[STAR_MAX]; /* stars[0] was the primary first */
    int count;
    int dr; /* which one is at the DR site; -1: none */
    const char *ca_file;
    const char *folder;
};

struct constellation_options {
    int standbys;           /* that stream from the primary */
    bool cascade;           /* one more, that streams from the first standby */
    bool dr;                /* one more, at the DR site, that streams from the primary */
    bool valve[STAR_MAX];   /* pgstage and the other servers reach this star through a valve */
    bool network[STAR_MAX]; /* this star lives in a network namespace of its own */
    bool synchronous;       /* commits wait for any one of the standbys */
    const char *settings;   /* more lines of every postgresql.conf */
};

/* Ready, with all standbys streaming, when this returns; ended with the test. */
struct constellation *constellation_start(const struct constellation_options *options);

/* For servers that something else has made: the roles, grants and tables, in the database `app`. */
void constellation_fill(const struct star *primary);

/* For an environment's `hosts` or `dr_hosts`: all stars that belong there. */
const char *constellation_hosts(const struct constellation *sky);
const char *constellation_dr_hosts(const struct constellation *sky);
/* "pg2.drill.test@127.0.0.1:25432": one of them. */
const char *star_host(const struct star *star);
/* The lines of an `[environment drill]` with these hosts over verify-full TLS and monitor_user with
 * its password; `more` follows. And `[databases]` with `app`, and `app_read` that prefers standbys.
 */
const char *constellation_environment(const struct constellation *sky, const char *more);
/* For `more`: failover_mode = promote, and failover_user with its password. */
const char *constellation_promoter(const struct constellation *sky);

/* primary_conninfo to follow that star; `extra` libpq parameters more. */
const char *star_conninfo(const struct constellation *sky, const struct star *star,
                          const char *application_name);
/* The star's first name: "pg2". */
const char *star_short(const struct star *star);
bool star_is_in_recovery(const struct star *star);
/* Does the standby have a WAL receiver that streams? */
bool star_streams(const struct star *star);
/* What that standby has received or replayed, the greater of the two, as bytes. */
long star_received(const struct star *star);
/* Has everything that `primary` has written by now arrived at and been replayed by it, within 30 s?
 */
bool star_catches_up(const struct star *star, const struct star *primary);
/* The LSN at which the timeline before the present one ended on a promoted star, as text; "" when
 * there was none. */
char *star_switch_point(const struct star *star);

/* Brings a stopped former primary back as a standby of another star: with pg_rewind, so that it may
 * really follow; or without, as a hasty operator does. Started when this returns. */
void star_rejoin(const struct constellation *sky, struct star *star, const struct star *primary,
                 bool rewind);
/* Tells a running standby to follow that star. */
void star_repoint(const struct constellation *sky, struct star *star, const struct star *primary);

#endif
