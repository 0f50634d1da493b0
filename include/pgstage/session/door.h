/*
 * door: the listening sockets of a plane (struct door in worker.h). Room-internal.
 */
#ifndef PGSTAGE_SESSION_DOOR_H
#define PGSTAGE_SESSION_DOOR_H

#include "pgstage/session/worker.h"

/* Opens what the configuration asks for, or adopts inherited sockets. False and `problem` when one
 * cannot be had; those opened before stay for doors_close. Control thread, before the workers run.
 */
bool doors_open(struct plane *plane, const struct snapshot *snapshot,
                const struct plane_socket *inherited, size_t inherited_count, char *problem,
                size_t size) __attribute__((warn_unused_result));
/* The options tcp_… hold for connections that come from now on. Worker 0. */
void doors_tune(struct plane *plane, const struct settings *globals);
/* Begins to accept. Worker 0. */
void doors_listen(struct plane *plane, struct loop *loop);
/* Accepts what waits, then closes the sockets (only those of TCP, so that an administrator can
 * still come in). Worker 0. */
void doors_shut(struct plane *plane, bool tcp_only);
/* Frees them all. Control thread, when no worker runs. */
void doors_close(struct plane *plane);

#endif
