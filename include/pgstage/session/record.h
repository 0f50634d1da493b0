/*
 * record: what of a client's login goes to the audit log, and what waits for it. The worker's
 * thread only.
 */
#ifndef PGSTAGE_SESSION_RECORD_H
#define PGSTAGE_SESSION_RECORD_H

#include <stdbool.h>

#include "pgstage/session/client.h"

/* The client may come in. True: its answer has to wait for the audit log; login_recorded is called
 * when that has been written, or could not be. */
bool record_accepted(struct client *client);
/* The client, which is over, was refused with these words. True: `farewell` is kept and sent when
 * the line is on the disk. */
bool record_refused(struct client *client, const char *sqlstate, const char *text,
                    struct buffer *farewell);
/* Is its acceptance being written at present? */
static inline bool record_is_waiting(const struct client *client)
{
    return client->recorded == RECORD_WAITING;
}

#endif
