/*
 * transcript: what a server says, as text that can be compared and read.
 *
 *     1 2 T[?column?:25] D[a,NULL] C[SELECT 1] Z[I]      E[26000 prepared statement "x" does not …]
 *
 * Left out: ParameterStatus, and what differs from run to run (positions in source files, process
 * ids of notifications).
 */
#ifndef SUPPORT_TRANSCRIPT_H
#define SUPPORT_TRANSCRIPT_H

#include "wire.h"

/* Adds one message; nothing for those that are left out. */
void transcript_add(struct bytes *text, const struct wire_message *message);
/* Reads up to and including the `ready`-th ReadyForQuery: the text, allocated. "!" at its end: the
 * connection ended; "?": `ms` have passed. */
char *transcript(struct wire *wire, int ready, int ms);

#endif
