/*
 * offload: a few helper threads for work that would stall a loop (PBKDF2, getaddrinfo).
 *
 * A job runs on a helper, then its `done` runs on the loop that submitted it. The queue is bounded:
 * a submission over the bound is refused, and the caller answers its peer accordingly.
 */
#ifndef PGSTAGE_WORKER_OFFLOAD_H
#define PGSTAGE_WORKER_OFFLOAD_H

#include <stdbool.h>

#include "pgstage/worker/loop.h"

struct offload;

struct offload_job {
    struct mail mail;  /* offload's */
    struct loop *home; /* offload's */
    /* On a helper thread. */
    void (*work)(struct offload_job *job);
    /* On the submitter's loop; owns the job from then on. Also called, with work never run and
     * `cancelled` true, for what is queued when the threads are stopped; and, by loop_free, with
     * `cancelled` true for a job whose letter the loop no longer delivered. */
    void (*done)(struct loop *loop, struct offload_job *job);
    bool cancelled;
};

/* `threads` helpers, at most `bound` waiting jobs. NULL when no thread can be started. */
struct offload *offload_new(const char *name, unsigned threads, unsigned bound)
    __attribute__((warn_unused_result));
/* Waits for the running jobs. Before the loops that submitted jobs are freed. */
void offload_free(struct offload *offload);
/* The same, when the process is about to end: waits for running jobs for `wait_ms` at most. A job that
 * is still running then never goes home, and what it holds is lost. False: there is one. */
bool offload_abandon(struct offload *offload, unsigned wait_ms);
/* False when the queue is full: the job stays the caller's. The thread of `home`. */
bool offload_submit(struct offload *offload, struct loop *home, struct offload_job *job)
    __attribute__((warn_unused_result));

#endif
