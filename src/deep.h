/*
 * deep: `--check --deep`: connects to every host that a configuration names and prints what it
 * finds.
 */
#ifndef PGSTAGE_DEEP_H
#define PGSTAGE_DEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "pgstage/conf/snapshot.h"

struct deep_counts {
    size_t errors, warnings;
};

/* Takes up to check_timeout. Prints a table, or with `json` a member "checks" of an object that is
 * being printed. Main thread, no loop running. */
struct deep_counts deep_check(struct snapshot *snapshot, bool json, FILE *out);

#endif
