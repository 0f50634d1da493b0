/*
 * boot: one run of the pooler, from the configuration to the exit status.
 */
#ifndef PGSTAGE_BOOT_H
#define PGSTAGE_BOOT_H

#include <stdbool.h>

/* What the command line says. */
struct boot_options {
    const char *file;
    const char *user; /* -u; NULL: the configuration's */
    bool background;  /* -d */
    bool quiet;       /* -q */
    int verbose;      /* the number of -v */
};

/* Returns the exit status. Main thread. */
int boot_run(const struct boot_options *options);

#endif
