/*
 * gate: the door through which the clients of one environment come to its primary.
 *
 * One for each environment, kept while the process lives. It is shut by the control plane
 * (plane_hold), or stands open before nothing: each pool that writes notes when it can find no
 * primary. In both cases its clients wait in another manner (wait.h). The control plane's calls are
 * in session/plane.h; these are the workers'. Any thread, but for what says otherwise.
 */
#ifndef PGSTAGE_SESSION_GATE_H
#define PGSTAGE_SESSION_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct backend;
struct client;
struct gate;
struct gates;
struct list;
struct pace;
struct pool;
struct server;
struct share;

/* A pool's part: does it miss its primary? */
struct missing {
    /* shared: atomic */
    _Atomic uint64_t since_us;  /* 0: it has one, or has not looked */
    _Atomic uint64_t opened_us; /* when it found it again, or its clients were let go */
    _Atomic uint64_t retry_us;  /* while missing: nothing is tried before that */
};

struct gates *gates_new(void) __attribute__((warn_unused_result));
void gates_free(struct gates *gates);
/* Finds or makes the gate of an environment. NULL for databases without one: they have no gate. */
struct gate *gates_get(struct gates *gates, const char *environment);
/* How fast its pools open connections. */
struct pace *gate_pace(struct gate *gate);
/* No worker opens anything any more: the openings that wait (struct pace_order). */
void gates_flush(struct gates *gates, struct list *orders);

/* ---- pools ---- */

/* Shuts or opens a pool as its gate stands: for pools that got a new meaning. */
void gate_fit(struct pool *pool);
/* The same for a pool that a login has just found or made, at the cost of one look. */
void gate_admit(struct pool *pool);
/* The pool goes away. */
void gate_forget(struct backend *backend);
/* A pool that writes could connect to no host, and tries again at `retry_at_us`. The worker's. */
void gate_missed(struct share *share, uint64_t retry_at_us);
/* A server of the pool has logged in. The worker's. */
void gate_found(struct server *server);
/* Does the pool write, and can find no primary? */
bool gate_lacks_primary(const struct share *share);
/* … and so is to be served by standbys (no_primary_action)? */
bool gate_takes_standby(const struct share *share);

/* ---- clients that wait: the worker's thread ---- */

/* Must the share's clients wait because the gate is shut, or lacks its primary? */
bool gate_is_shut(const struct share *share);
/* Since when that is over; 0: it never was so. */
uint64_t gate_opened_us(const struct share *share);
/* Are its clients to be refused rather than to wait (no_primary_action)? */
bool gate_refuses(const struct share *share);
/* The client waits: counted once while the gate is shut, until it waits no more (gate_leave).
 * False: too many do already. */
bool gate_enter(struct client *client) __attribute__((warn_unused_result));
void gate_leave(struct client *client);
/* A client of the share has lost an answer, a transaction or its session with its server, or is
 * told that it has waited in vain. */
void gate_erred(const struct share *share);

/* ---- clients that keep their server between transactions: the worker's thread ---- */

/* A client keeps this server although it is in no transaction (session mode, pins): it does not
 * count as one that runs. */
void gate_keep(struct server *server);
/* Such a server begins a transaction: false, and nothing changes, when the gate is shut. True for
 * all others. */
bool gate_begin(struct server *server) __attribute__((warn_unused_result));
/* The server is its client's no more. */
void gate_part(struct server *server);

#endif
