/*
 * change: what a new configuration means for the pools that are there. Room-internal; control
 * thread.
 */
#ifndef PGSTAGE_SESSION_CHANGE_H
#define PGSTAGE_SESSION_CHANGE_H

#include "pgstage/session/worker.h"

struct changes;

/* Works out what every pool will mean under `setup`. NULL and `problem` when a TLS file cannot be
 * used: nothing has changed then. */
struct changes *changes_plan(struct plane *plane, struct setup *setup, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* Makes it so, and frees `changes`. Workers take the new meanings over with their new setup. */
void changes_apply(struct changes *changes, uint64_t now_us);
/* The same for one pool that was made under an older configuration than the plane's; false: it was
 * not. The workers are to be told. */
bool change_renew(struct plane *plane, struct pool *pool, uint64_t now_us);
/* Leaves everything as it is. */
void changes_free(struct changes *changes);

#endif
