/*
 * probe_inside: what the files of probe share: parameters for libpq, and what its words mean.
 */
#ifndef PGSTAGE_HEALTH_PROBE_INSIDE_H
#define PGSTAGE_HEALTH_PROBE_INSIDE_H

#include "pgstage/health/probe.h"

#define PROBE_PARAMETERS_MAX 40

/* Keywords and values as PQconnectStartParams takes them, NULL at the end. The values point into
 * the target and into `texts`. */
struct probe_parameters {
    const char *keywords[PROBE_PARAMETERS_MAX], *values[PROBE_PARAMETERS_MAX];
    size_t count;
    char host[1025], port[8], address[ADDRESS_TEXT_BYTES];
};

/* False and `problem` when nothing may be tried (a revocation list that cannot be read …). */
bool probe_parameters_fill(struct probe_parameters *parameters, const struct probe_target *target,
                           const struct address *address, char *problem, size_t size);

/* What a failed connection or query means. `message` is libpq's (verbosity VERBOSE). Fills error,
 * sqlstate and text. Pure. */
void probe_classify(enum probe_step step, const char *message, bool needs_password,
                    struct probe_result *result);

#endif
