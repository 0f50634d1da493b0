/*
 * access: who gets into an environment: users, addresses, and until when. Pure questions about a
 * snapshot; any thread.
 */
#ifndef PGSTAGE_CONF_ACCESS_H
#define PGSTAGE_CONF_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/conf/snapshot.h"

struct sockaddr;

/* May this user, or a client from this address, be in the environment at all? Users are compared
 * as PostgreSQL does: case counts. Without allow_users (allow_from) everyone may. */
bool environment_allows_user(const struct environment_config *environment, const char *user);
bool environment_allows_address(const struct environment_config *environment,
                                const struct sockaddr *address);
/* Is its expires_at over at this moment of the wall clock? */
bool environment_is_expired(const struct environment_config *environment, uint64_t wall_us);

/*
 * A day (`2026-01-31`: until it ends, in UTC) or a moment with its zone (`2026-01-31T18:00:00Z`,
 * `2026-01-31 18:00+02:00`) as microseconds of the wall clock. False when the text is neither; then
 * `problem` says what would be.
 */
bool access_time_parse(const char *text, uint64_t *wall_us, char *problem, size_t size);
/* "2026-01-31T18:00:00Z"; `text` is at least 32 bytes. */
void access_time_print(uint64_t wall_us, char *text, size_t size);

#endif
