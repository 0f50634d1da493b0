/*
 * lookup: one row of two columns or three, or no row at all.
 */
#include "pgstage/health/lookup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"

#define SECRET_MAX_BYTES ((size_t)64 * 1024)

const char *lookup_password(const struct settings *settings, const struct users *users,
                            const char *auth_user)
{
    const struct user_secret *secret = users_find(users, auth_user);

    if (text_equal(settings->user, auth_user) && settings->password)
        return settings->password;
    return secret && secret->kind == SECRET_PLAIN ? secret->secret : NULL;
}

void lookup_settings_sql(char sql[LOOKUP_SETTINGS_BYTES], uint64_t timeout_us)
{
    snprintf(sql, LOOKUP_SETTINGS_BYTES,
             "SET DateStyle TO 'ISO'; SET TimeZone TO 'UTC'; SET statement_timeout TO %" PRIu64,
             timeout_us / CLOCK_MS);
}

bool lookup_read(const PGresult *rows, const char *user, struct fetched *fetched, bool *known,
                 const char **problem)
{
    bool whole = PQresultStatus(rows) == PGRES_TUPLES_OK && PQnfields(rows) >= 2;
    const char *until = NULL;

    *known = whole && PQntuples(rows) > 0;
    *problem = NULL;
    if (!whole)
        *problem =
            "auth_query must give two columns, the user and the secret, and may give a third, "
            "the time until which it is valid";
    else if (PQntuples(rows) > 1)
        *problem = "auth_query gave more than one row";
    else if (*known && (PQgetisnull(rows, 0, 0) || strcmp(PQgetvalue(rows, 0, 0), user) != 0))
        *problem = "auth_query gave another user than it was asked for";
    else if (*known && (size_t)PQgetlength(rows, 0, 1) > SECRET_MAX_BYTES)
        *problem = "auth_query gave a secret that is too long";
    if (*problem || !*known)
        return !*problem;
    fetched->secret.user = user;
    fetched->secret.secret = PQgetvalue(rows, 0, 1); /* "" for NULL */
    fetched->secret.kind = secret_kind_of(fetched->secret.secret);
    if (PQnfields(rows) > 2 && !PQgetisnull(rows, 0, 2))
        until = PQgetvalue(rows, 0, 2);
    if (!valid_until_parse(until, &fetched->valid_until_us))
        *problem = "auth_query gave a third column that is no timestamp";
    return !*problem;
}
