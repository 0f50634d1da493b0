/*
 * lookup: what auth_query needs from a connection and what its answer means, for the logins of
 * clients and for CHECK. Pure.
 */
#ifndef PGSTAGE_HEALTH_LOOKUP_H
#define PGSTAGE_HEALTH_LOOKUP_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/auth/secrets.h"
#include "pgstage/conf/settings.h"
#include "pgstage/conf/users.h"

#define LOOKUP_SETTINGS_BYTES 160

/* The password with which `auth_user` logs in to the database of these settings: that of the
 * database's own user when it is the same one, else the one in auth_file. NULL: none is known, a
 * hash proves nothing to a server. The snapshot's. */
const char *lookup_password(const struct settings *settings, const struct users *users,
                            const char *auth_user);
/* What is said on a new connection before anything is asked: how times are printed, and how long a
 * query may take. */
void lookup_settings_sql(char sql[LOOKUP_SETTINGS_BYTES], uint64_t timeout_us);
/* Reads the answer to the question for `user`. True: `known` says whether there is such a user, and
 * `fetched` shows him then, with the texts of `user` and `rows` (nothing to free). False: this is no
 * answer, and `problem` (constant) says why. */
bool lookup_read(const PGresult *rows, const char *user, struct fetched *fetched, bool *known,
                 const char **problem) __attribute__((warn_unused_result));

#endif
