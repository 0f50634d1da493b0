/*
 * deep: `--check --deep`: connects to every host that a configuration names and prints what it finds.
 */
#ifndef PGSTAGE_DEEP_H
#define PGSTAGE_DEEP_H

#include <stdbool.h>
#include <stdio.h>

#include "pgstage/conf/snapshot.h"

/* Takes up to check_timeout. A table, or with `json` one JSON object on a line for each row. False
 * when there is an error among the rows, or nothing could be begun. Main thread, no loop running. */
bool deep_check(struct snapshot *snapshot, bool json, FILE *out);

#endif
