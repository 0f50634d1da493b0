/*
 * gate: the door through which the clients of one environment come to its primary.
 *
 * One for each environment, kept while the process lives. Shut by the control plane (plane_hold),
 * or standing open in front of nothing while no host takes writes; then clients queue. The control
 * plane's calls are in session/plane.h; these are the workers'. Any thread, but for what says
 * otherwise.
 */
#ifndef PGSTAGE_SESSION_GATE_H
#define PGSTAGE_SESSION_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client;
struct gate;
struct gates;
struct pool;
struct server;
struct share;

struct gates *gates_new(void) __attribute__((warn_unused_result));
void gates_free(struct gates *gates);
/* Finds or makes the gate of an environment. NULL for databases without one: they have no gate. */
struct gate *gates_get(struct gates *gates, const char *environment);

/* Shuts or opens a pool as its gate stands: for pools that got a new meaning. */
void gate_fit(struct pool *pool);
/* The same for a pool that a login has just found or made, at the cost of one look. */
void gate_admit(struct pool *pool);
/* Must the share's clients wait because the gate is shut? */
bool gate_holds(const struct share *share);

/* A client keeps this server although it is in no transaction (session mode, pins): it does not
 * count as one that runs. The worker's thread. */
void gate_keep(struct server *server);
/* Such a server begins a transaction: false, and nothing changes, when the gate is shut. True for
 * all others. The worker's thread. */
bool gate_begin(struct server *server) __attribute__((warn_unused_result));
/* The server is its client's no more. The worker's thread. */
void gate_part(struct server *server);

#endif
