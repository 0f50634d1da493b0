/*
 * check: the last words of a process whose own structures are broken.
 *
 * Runs on whichever thread found the breakage. Nothing is cleaned up: the structures cannot be
 * trusted any more, and a core file should show them as they are.
 */
#include "pgstage/base/check.h"

#include <stdlib.h>

#include "pgstage/base/log.h"

void check_failed(const char *condition, const char *file, int line)
{
    log_write(RANK_FATAL, "internal check failed: %s (%s:%d)", condition, file, line);
    abort();
}
