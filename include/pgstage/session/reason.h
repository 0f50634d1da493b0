/*
 * reason: why a connection ends, from tables/reasons.def. Pure; any thread.
 */
#ifndef PGSTAGE_SESSION_REASON_H
#define PGSTAGE_SESSION_REASON_H

enum reason {
#define REASON(name, sqlstate, text) REASON_##name,
#include "pgstage/tables/reasons.def"
#undef REASON
    REASON_COUNT
};

const char *reason_text(enum reason reason);
const char *reason_sqlstate(enum reason reason);

#endif
