/*
 * hand: what an operator's commands (fence_command, demote_command …) use in the tests to stop and
 * start servers. A server must be a child of the test, so that none outlives it: the commands only
 * leave a request, a thread of the test carries it out, and they wait for its answer.
 *
 *     <hand> stop pg1      a fast, clean shutdown; prints the place of the shutdown checkpoint
 *     <hand> halt pg1      the same, and says nothing
 *     <hand> kill pg1      SIGKILL of everything
 *     <hand> start pg1     as it was
 *     <hand> follow pg1 pg2   (re)starts pg1 as a standby of pg2, without rewind
 *     <hand> promote pg2
 *     <hand> fail          ends with status 1, having done nothing
 *     <hand> sleep 5       takes that many seconds
 */
#ifndef SUPPORT_HAND_H
#define SUPPORT_HAND_H

#include "constellation.h"

/* The path of the command; the thread lives as long as the test's process. */
const char *hand_start(struct constellation *sky);
/* How many requests were carried out that begin with this ("stop pg1"). */
int hand_count(const char *request);

#endif
