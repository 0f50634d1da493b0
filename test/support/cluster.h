/*
 * cluster: a PostgreSQL server of the tests' own, on 127.0.0.1 and a Unix socket.
 *
 * Roles: postgres (superuser), app (owns the databases app and db2), other, crowd, throng;
 * user_md5, user_scram and user_plain must show the password "secret" by that method, everybody
 * else is trusted. TLS is on, with the certificate of pki_shared_server() unless the options name
 * another.
 */
#ifndef SUPPORT_CLUSTER_H
#define SUPPORT_CLUSTER_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <sys/types.h>

#include "pki.h"

struct cluster {
    char *folder;        /* of data/ and the log */
    char *socket_folder; /* of the Unix socket: a short path, as they must be */
    const char *address; /* where it listens: 127.0.0.1 if nothing else was said */
    const char *network; /* the network namespace it lives in; NULL: ours */
    int port;
    pid_t pid;      /* 0: stopped, or the program's shared one */
    pid_t *orphans; /* what CLUSTER_KILL_POSTMASTER left running */
    int orphan_count;
};

struct cluster_options {
    const char *name;                          /* of its folder in the test's; NULL: "cluster" */
    const char *settings;                      /* more lines of postgresql.conf */
    const char *hba;                           /* instead of the usual pg_hba.conf */
    const struct pki_certificate *certificate; /* NULL: the shared server certificate */
    const char *ca_file;                       /* for client certificates; NULL: the shared CA */
    const char *address;                       /* to listen on; NULL: 127.0.0.1 */
    int port;                                  /* 0: a free one */
    const char *network;                       /* a network namespace (network.h); NULL: ours */
    const char *follows; /* primary_conninfo: starts as a standby of that server, from the same
                            beginning as every other cluster of the tests; NULL: a primary */
    bool stranger;       /* has a system identifier of its own */
};

enum cluster_end {
    CLUSTER_FAST,            /* SIGINT: clients get 57P01 */
    CLUSTER_IMMEDIATE,       /* SIGQUIT: as after a crash */
    CLUSTER_KILL,            /* SIGKILL to the postmaster and all its children */
    CLUSTER_KILL_POSTMASTER, /* SIGKILL to the postmaster alone: busy backends go on answering */
};

/* The one that all tests of the program share: not to be stopped or reconfigured. */
struct cluster *cluster_shared(void);
/* A test's own; stopped at the test's end. Ready when this returns. */
struct cluster *cluster_start(const struct cluster_options *options);
/* The same, made from a base backup of `primary`, whose settings it has but for what the options
 * say; it streams when this returns. Named "standby" unless the options name it. */
struct cluster *cluster_standby(const struct cluster *primary,
                                const struct cluster_options *options);
void cluster_end(struct cluster *cluster, enum cluster_end how);
/* Starts again after cluster_end, on the same port and data; what the postmaster left behind is
 * killed first. */
void cluster_again(struct cluster *cluster);
/* Adds lines to its settings, for the next start (or a reload: SIGHUP to `pid`). */
void cluster_set(const struct cluster *cluster, const char *settings);
/* Will start as a standby of `primary_conninfo` next time; NULL: as a primary. */
void cluster_follow(const struct cluster *cluster, const char *primary_conninfo);
/* `pg_ctl promote`; returns when it takes writes. */
void cluster_promote(const struct cluster *cluster);
/* One program of PostgreSQL's, with arguments, as the servers' user; its output, allocated. The
 * test fails when it ends with another status than 0. */
char *cluster_tool(const char *program, char *const *arguments);
/* "host=127.0.0.1 port=…" for a line of [databases]. */
const char *cluster_route(const struct cluster *cluster);
/* A connection past the pooler, as postgres; never NULL. */
PGconn *cluster_connect(const struct cluster *cluster, const char *database);
/* One value, asked past the pooler; allocated. */
char *cluster_value(const struct cluster *cluster, const char *sql);
long cluster_number(const struct cluster *cluster, const char *sql);
/* How many of its sessions run this statement now, by its whole text. */
long cluster_running(const struct cluster *cluster, const char *sql);
/* Stops (SIGSTOP) or continues all processes of a test's own cluster: a host that hangs. */
void cluster_freeze(struct cluster *cluster, bool frozen);

/* For the runner. */
void cluster_shared_start(void);
void cluster_shared_stop(void);

#endif
