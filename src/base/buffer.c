/*
 * buffer: bytes that grow at the end.
 *
 *     data            length                capacity
 *      |  bytes put     |   reserved, unused    |
 *
 * Capacity doubles, so n puts cost O(n). Owned by one thread. length <= capacity always; data is
 * NULL only while capacity is 0.
 */
#include "pgstage/base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/check.h"
#include "pgstage/base/memory.h"

#define BUFFER_FIRST_BYTES 64

void buffer_fini(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

uint8_t *buffer_reserve(struct buffer *buffer, size_t more)
{
    if (more > buffer->capacity - buffer->length || !buffer->data) {
        check(more <= SIZE_MAX - buffer->length);
        size_t needed = buffer->length + more;
        size_t capacity = buffer->capacity ? buffer->capacity : BUFFER_FIRST_BYTES;
        while (capacity < needed)
            capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
        buffer->data = memory_resize(buffer->data, capacity, 1);
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->length;
}

void buffer_put(struct buffer *buffer, const void *bytes, size_t count)
{
    if (count == 0)
        return;
    memcpy(buffer_reserve(buffer, count), bytes, count);
    buffer->length += count;
}

void buffer_put_u8(struct buffer *buffer, uint8_t value)
{
    buffer_put(buffer, &value, 1);
}

void buffer_put_u16(struct buffer *buffer, uint16_t value)
{
    uint8_t bytes[2] = {(uint8_t)(value >> 8), (uint8_t)value};
    buffer_put(buffer, bytes, sizeof bytes);
}

static void write_u32(uint8_t *target, uint32_t value)
{
    target[0] = (uint8_t)(value >> 24);
    target[1] = (uint8_t)(value >> 16);
    target[2] = (uint8_t)(value >> 8);
    target[3] = (uint8_t)value;
}

void buffer_put_u32(struct buffer *buffer, uint32_t value)
{
    write_u32(buffer_reserve(buffer, 4), value);
    buffer->length += 4;
}

void buffer_put_string(struct buffer *buffer, const char *text)
{
    if (!text)
        text = "";
    buffer_put(buffer, text, strlen(text) + 1);
}

void buffer_print(struct buffer *buffer, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);

    /* Usually it fits into what is there; else its length is known and it is printed again. */
    size_t room = buffer->capacity - buffer->length;
    char *target = room ? (char *)buffer->data + buffer->length : NULL;
    int length = vsnprintf(target, room, format, arguments);
    check(length >= 0);
    if ((size_t)length >= room) {
        target = (char *)buffer_reserve(buffer, (size_t)length + 1);
        vsnprintf(target, (size_t)length + 1, format, again);
    }
    buffer->length += (size_t)length;

    va_end(again);
    va_end(arguments);
}

void buffer_set_u32(struct buffer *buffer, size_t offset, uint32_t value)
{
    check(offset <= buffer->length && buffer->length - offset >= 4);
    write_u32(buffer->data + offset, value);
}

void buffer_consume(struct buffer *buffer, size_t count)
{
    check(count <= buffer->length);
    buffer->length -= count;
    if (buffer->length)
        memmove(buffer->data, buffer->data + count, buffer->length);
}
