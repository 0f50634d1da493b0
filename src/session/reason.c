/*
 * reason.c: the rows of tables/reasons.def as constant arrays.
 */
#include "pgstage/session/reason.h"

static const struct {
    const char *sqlstate, *text;
} reasons[REASON_COUNT] = {
#define REASON(name, sqlstate, text) {sqlstate, text},
#include "pgstage/tables/reasons.def"
#undef REASON
};

const char *reason_text(enum reason reason)
{
    return reasons[reason].text;
}

const char *reason_sqlstate(enum reason reason)
{
    return reasons[reason].sqlstate;
}
