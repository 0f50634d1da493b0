/*
 * rows.c: the rows that procedures answer with.
 */
#include <stdarg.h>
#include <stdlib.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "procedure_inside.h"

static struct procedure_row *row_new(struct procedure_rows *rows)
{
    if (rows->count == rows->capacity) {
        rows->capacity = rows->capacity ? 2 * rows->capacity : 16;
        rows->items = memory_resize(rows->items, rows->capacity, sizeof *rows->items);
    }
    return &rows->items[rows->count++];
}

void rows_add(struct procedure_rows *rows, const char *item, const char *name, const char *result,
              int64_t duration_us, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    *row_new(rows) = (struct procedure_row){
        .item = item,
        .name = text_copy(name),
        .result = text_copy(result),
        .detail = text_vprint(format, arguments),
        .duration_us = duration_us,
    };
    va_end(arguments);
}

void rows_fini(struct procedure_rows *rows)
{
    for (size_t i = 0; i < rows->count; i++) {
        free(rows->items[i].name);
        free(rows->items[i].result);
        free(rows->items[i].detail);
    }
    free(rows->items);
    *rows = (struct procedure_rows){0};
}
