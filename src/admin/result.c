/*
 * result: cells in text or binary format, as the client's Bind asked for.
 *
 *   result_begin ─► DataRow header, column count ─► cells: length, bytes … ─► result_end: length
 *
 * Numbers are kept as integers until here, because only here is known which of the two formats of
 * which type they take: int4 and int8 are big-endian words, numeric is digits of base 10000.
 * Drivers ask for binary without asking first, so refusing it would lock them out.
 */
#include "pgstage/admin/result.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/check.h"
#include "pgstage/base/text.h"
#include "pgstage/wire/message.h"

#define NULL_CELL UINT32_MAX

void result_init(struct result *result, const struct columns *columns, const uint16_t *formats)
{
    *result = (struct result){.columns = columns, .formats = formats};
}

void result_fini(struct result *result)
{
    buffer_fini(&result->rows);
    result->row_count = 0;
}

void result_part(struct result *part, const struct result *whole)
{
    result_init(part, whole->columns, whole->formats);
}

void result_append(struct result *result, struct result *part)
{
    buffer_put(&result->rows, part->rows.data, part->rows.length);
    result->row_count += part->row_count;
    result_fini(part);
}

void result_begin(struct result *result)
{
    result->row_begin = message_begin(&result->rows, 'D');
    buffer_put_u16(&result->rows, (uint16_t)result->columns->count);
    result->cells = 0;
}

void result_end(struct result *result)
{
    check(result->cells == result->columns->count);
    message_end(&result->rows, result->row_begin);
    result->row_count++;
}

static bool next_is_binary(const struct result *result)
{
    return result->formats && result->formats[result->cells] == 1;
}

static void put_cell(struct result *result, const void *bytes, size_t length)
{
    check(result->cells < result->columns->count);
    buffer_put_u32(&result->rows, (uint32_t)length);
    buffer_put(&result->rows, bytes, length);
    result->cells++;
}

void result_null(struct result *result)
{
    buffer_put_u32(&result->rows, NULL_CELL);
    result->cells++;
}

void result_text(struct result *result, const char *text)
{
    if (text)
        put_cell(result, text, strlen(text));
    else
        result_null(result);
}

void result_print(struct result *result, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = text_vprint(format, arguments);
    va_end(arguments);
    result_text(result, text);
    free(text);
}

void result_yes(struct result *result, bool value)
{
    result_text(result, value ? "yes" : "no");
}

/* numeric's binary form: count of digits, weight of the first, sign, scale, digits of base 10000.
 */
static void put_numeric(struct result *result, uint64_t magnitude, bool negative)
{
    uint16_t digits[5];
    size_t count = 0;
    for (uint64_t rest = magnitude; rest > 0; rest /= 10000)
        digits[count++] = (uint16_t)(rest % 10000);

    buffer_put_u32(&result->rows, (uint32_t)(8 + 2 * count));
    buffer_put_u16(&result->rows, (uint16_t)count);
    buffer_put_u16(&result->rows, (uint16_t)(count > 0 ? count - 1 : 0));
    buffer_put_u16(&result->rows, negative ? 0x4000 : 0);
    buffer_put_u16(&result->rows, 0);
    while (count > 0)
        buffer_put_u16(&result->rows, digits[--count]);
    result->cells++;
}

static void put_binary(struct result *result, enum column_type type, uint64_t magnitude,
                       bool negative)
{
    uint64_t word = negative ? -magnitude : magnitude;
    switch (type) {
    case COLUMN_INT4:
        buffer_put_u32(&result->rows, 4);
        buffer_put_u32(&result->rows, (uint32_t)word);
        result->cells++;
        return;
    case COLUMN_INT8:
        buffer_put_u32(&result->rows, 8);
        buffer_put_u32(&result->rows, (uint32_t)(word >> 32));
        buffer_put_u32(&result->rows, (uint32_t)word);
        result->cells++;
        return;
    case COLUMN_NUMERIC:
        put_numeric(result, magnitude, negative);
        return;
    case COLUMN_TEXT:
        break;
    }
    check(!"a number in binary has a number's column");
}

static uint64_t limit_of(enum column_type type)
{
    switch (type) {
    case COLUMN_INT4:
        return INT32_MAX;
    case COLUMN_INT8:
        return INT64_MAX;
    case COLUMN_NUMERIC:
    case COLUMN_TEXT:
        break;
    }
    return UINT64_MAX;
}

static void put_number(struct result *result, uint64_t magnitude, bool negative)
{
    check(result->cells < result->columns->count);
    enum column_type type = result->columns->items[result->cells].type;
    uint64_t limit = limit_of(type);
    if (magnitude > limit)
        magnitude = limit;
    if (type != COLUMN_TEXT && next_is_binary(result)) {
        put_binary(result, type, magnitude, negative);
        return;
    }
    char text[24];
    int length = snprintf(text, sizeof text, "%s%" PRIu64, negative ? "-" : "", magnitude);
    put_cell(result, text, (size_t)length);
}

void result_int(struct result *result, int64_t value)
{
    put_number(result, value < 0 ? -(uint64_t)value : (uint64_t)value, value < 0);
}

void result_uint(struct result *result, uint64_t value)
{
    put_number(result, value, false);
}

static int16_t type_length(enum column_type type)
{
    return type == COLUMN_INT4 ? 4 : type == COLUMN_INT8 ? 8 : -1;
}

void result_describe(struct buffer *out, const struct columns *columns, const uint16_t *formats)
{
    if (columns->count == 0) {
        message_empty(out, 'n');
        return;
    }
    size_t begin = message_begin(out, 'T');
    buffer_put_u16(out, (uint16_t)columns->count);
    for (size_t i = 0; i < columns->count; i++) {
        const struct column *column = &columns->items[i];
        buffer_put_string(out, column->name);
        buffer_put_u32(out, 0); /* of no table */
        buffer_put_u16(out, 0);
        buffer_put_u32(out, (uint32_t)column->type);
        buffer_put_u16(out, (uint16_t)type_length(column->type));
        buffer_put_u32(out, UINT32_MAX); /* no type modifier */
        buffer_put_u16(out, formats ? formats[i] : 0);
    }
    message_end(out, begin);
}
