/*
 * standing: from what is known of a host to what the data plane may use it for. Pure.
 */
#ifndef PGSTAGE_FAILOVER_STANDING_H
#define PGSTAGE_FAILOVER_STANDING_H

#include "pgstage/health/report.h"
#include "pgstage/session/plane.h"

/* Who says which host takes writes. */
enum standing_writer {
    WRITER_BY_ROLE, /* nobody decides: whichever host is a primary */
    WRITER_THIS,    /* this host is the accepted primary */
    WRITER_OTHER,   /* another one is, or none: this host takes no writes */
};

/* `shut_out`: not for reads either (fenced, another cluster …). */
struct standing standing_of(const struct host_report *report, enum standing_writer writer,
                            bool shut_out);

#endif
