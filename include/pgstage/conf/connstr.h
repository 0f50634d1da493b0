/*
 * connstr: the values of [databases], [users] and [peers]: `key=value key='quoted value'`.
 *
 * Pure; any thread.
 */
#ifndef PGSTAGE_CONF_CONNSTR_H
#define PGSTAGE_CONF_CONNSTR_H

#include <stdbool.h>
#include <stddef.h>

#include "pgstage/conf/arena.h"

enum connstr_step { CONNSTR_PAIR, CONNSTR_END, CONNSTR_WRONG };

/*
 * Takes the next pair off `*text` (moved behind it). Values are split at blanks unless they stand
 * in single quotes, where '' is one quote. Key and value are made in `arena`. After CONNSTR_WRONG,
 * `problem` says why; the rest cannot be read.
 */
enum connstr_step connstr_next(struct arena *arena, const char **text, const char **key,
                               const char **value, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* The value as connstr_next reads it, quoted when that is needed; allocated. */
char *connstr_quote(const char *value) __attribute__((warn_unused_result));

#endif
