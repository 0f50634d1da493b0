/*
 * gather: asks every worker and comes back.
 *
 * `each` runs once on every loop's own thread with the same `argument` and the loop's place in
 * `loops` (write only to your own slot); when all have answered, `done` runs on `home`.
 */
#ifndef PGSTAGE_WORKER_GATHER_H
#define PGSTAGE_WORKER_GATHER_H

struct loop;

typedef void gather_each(struct loop *loop, unsigned slot, void *argument);
typedef void gather_done(struct loop *home, void *argument);

/* Called on `home`'s thread; `home` is freed after the others. A loop that is freed before it has
 * answered leaves its slot as it was. Neither runs when `home` itself is freed first. */
void gather_start(struct loop *home, struct loop *const *loops, unsigned count, gather_each *each,
                  gather_done *done, void *argument);

#endif
