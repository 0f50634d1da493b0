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
    char *value;        /* in force; a bare number counts PgBouncer's unit */
    char *default_text; /* "" where nothing is set */
    bool changeable;    /* without a restart */
    char *origin;       /* "file:line", "variable NAME", "class NAME", "SET", "default" */
    char *pending;      /* the value that waits for a restart; NULL: none does */
    const char *rule;   /* the name of the rule that holds it where it is, or NULL; constant */
};

/*
 * Steps through the options by name: of [pgstage], or what holds in `environment` when that is not
 * NULL. `started` is the configuration that the process started with, which goes on counting where
 * an option needs a restart; NULL: `snapshot` counts everywhere. Starts with a zeroed row; frees
 * the texts of the row before. False after the last one.
 */
bool config_row_next(const struct snapshot *snapshot, const struct snapshot *started,
                     const struct environment_config *environment, struct config_row *row);
/* Frees a row that is given up before the last. */
void config_row_fini(struct config_row *row);

/* The merged configuration as one file, each value with its origin in a comment and secrets masked
 * (or as the ${VARIABLE} that they came from). The file is itself a valid configuration.
 * `environment`: only what it is made of; NULL: everything. */
void config_print(const struct snapshot *snapshot, const struct environment_config *environment,
                  FILE *out);
/* Every value that holds in an environment, with its origin and the rule of its class that it
 * stands under; then what lines of [databases] and [users] say otherwise. */
void config_explain(const struct snapshot *snapshot, const struct environment_config *environment,
                    FILE *out);

#endif
