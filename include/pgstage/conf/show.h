/*
 * show: a snapshot as rows (SHOW CONFIG) and as a file (--show-config). Any thread that holds the
 * snapshot.
 */
#ifndef PGSTAGE_CONF_SHOW_H
#define PGSTAGE_CONF_SHOW_H

#include <stdbool.h>
#include <stdio.h>

#include "pgstage/conf/snapshot.h"

/* Texts are the row's own; secrets are masked. */
struct config_row {
    const char *key;
    char *value;        /* a bare number counts PgBouncer's unit */
    char *default_text; /* "" where nothing is set */
    bool changeable;    /* without a restart */
    char *origin;       /* "file:line", "variable NAME", "class NAME", "SET", "default" */
};

/*
 * Steps through the options by name: of [pgstage], or what holds in `environment` when that is not
 * NULL. Starts with a zeroed row; frees the texts of the row before. False after the last one.
 */
bool config_row_next(const struct snapshot *snapshot, const struct environment_config *environment,
                     struct config_row *row);
/* Frees a row that is given up before the last. */
void config_row_fini(struct config_row *row);

/* The merged configuration as one file, each value with its origin in a comment and secrets masked
 * (or as the ${VARIABLE} that they came from). The file is itself a valid configuration. */
void config_print(const struct snapshot *snapshot, FILE *out);

#endif
