/*
 * url: the connection URL that an application should use. Pure but for the machine's name; any
 * thread.
 */
#ifndef PGSTAGE_ENV_URL_H
#define PGSTAGE_ENV_URL_H

#include <stddef.h>

#include "pgstage/conf/snapshot.h"

/*
 * `postgresql://HOST:PORT/DATABASE?sslmode=…` for what a client calls `name` (`app`,
 * `app@production`), allocated. A listener that is bound to the environment is preferred. NULL and
 * `problem` when no database is called so.
 */
char *url_print(const struct snapshot *snapshot, const char *name, char *problem, size_t size)
    __attribute__((warn_unused_result));

#endif
