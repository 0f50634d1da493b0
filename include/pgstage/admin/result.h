/*
 * result: the rows of one answer, built as protocol messages while the view is walked.
 *
 * A result belongs to one thread at a time. Parts can be built by several threads (result_part) and
 * put together afterwards. Any thread.
 */
#ifndef PGSTAGE_ADMIN_RESULT_H
#define PGSTAGE_ADMIN_RESULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/admin/column.h"
#include "pgstage/base/buffer.h"

struct result {
    const struct columns *columns;
    const uint16_t *formats; /* one for each column, 0 text, 1 binary; NULL: all text. Not owned */
    struct buffer rows;      /* whole DataRow messages */
    size_t row_count;
    size_t row_begin, cells; /* of the row that is being built */
};

void result_init(struct result *result, const struct columns *columns, const uint16_t *formats);
void result_fini(struct result *result);
/* A result with the same columns and formats and no rows. */
void result_part(struct result *part, const struct result *whole);
/* Moves the rows of `part` behind those of `result`. */
void result_append(struct result *result, struct result *part);

/* A row: begin, one call for each column in order, end. */
void result_begin(struct result *result);
/* NULL is SQL's NULL. The column's type is COLUMN_TEXT. */
void result_text(struct result *result, const char *text);
void result_print(struct result *result, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A column of any type; INT4 columns show what does not fit as the nearest that does. */
void result_int(struct result *result, int64_t value);
void result_uint(struct result *result, uint64_t value);
/* "yes" or "no". */
void result_yes(struct result *result, bool value);
void result_null(struct result *result);
void result_end(struct result *result);

/* RowDescription, or NoData when there are no columns (`formats` as in the struct). */
void result_describe(struct buffer *out, const struct columns *columns, const uint16_t *formats);

#endif
