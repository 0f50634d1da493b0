/*
 * mask: a statement's text without its literals, for logs. Pure; any thread.
 */
#ifndef PGSTAGE_WIRE_MASK_H
#define PGSTAGE_WIRE_MASK_H

#include <stdbool.h>
#include <stddef.h>

#include "pgstage/base/buffer.h"

/* Puts the text behind `out` with `?` for each string, dollar quote and number, one blank for
 * blanks and comments. `cut`: the text goes on behind its end. False: it cannot be told what is a
 * literal; nothing was put. */
bool mask_literals(const char *sql, size_t length, bool cut, struct buffer *out)
    __attribute__((warn_unused_result));

#endif
