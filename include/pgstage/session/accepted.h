/*
 * accepted: which values of parameters a host has taken before, for the user of a pool.
 *
 * A SET that was accepted once is accepted again, so it may be sent together with the query that
 * needs it; any other has to be answered first, because the query must not run without it. One
 * worker's; it has a bound and forgets all when it is reached.
 */
#ifndef PGSTAGE_SESSION_ACCEPTED_H
#define PGSTAGE_SESSION_ACCEPTED_H

#include <stdbool.h>

struct accepted;
struct host;
struct parameters;

/* Has the host taken every value that `want` has and `have` has not? `accepted` may be NULL. */
bool accepted_all(const struct accepted *accepted, const struct host *host,
                  const struct parameters *have, const struct parameters *want);
/* It has taken what is in the set. Makes *accepted where it is NULL. */
void accepted_add(struct accepted **accepted, const struct host *host,
                  const struct parameters *set);
/* Something was refused that had been taken before: nothing is known any more. */
void accepted_free(struct accepted *accepted);

#endif
