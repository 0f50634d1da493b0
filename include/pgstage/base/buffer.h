/*
 * buffer: bytes that grow at the end, to build messages and texts in.
 *
 * Owned by one thread. A zeroed struct is an empty buffer. `data` may move on every put.
 */
#ifndef PGSTAGE_BASE_BUFFER_H
#define PGSTAGE_BASE_BUFFER_H

#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *data;
    size_t length;
    size_t capacity;
};

/* Frees the bytes; the buffer is empty afterwards and may be used again. */
void buffer_fini(struct buffer *buffer);
/* Makes room for `more` further bytes and returns where they go; `length` stays. */
uint8_t *buffer_reserve(struct buffer *buffer, size_t more);
void buffer_put(struct buffer *buffer, const void *bytes, size_t count);
void buffer_put_u8(struct buffer *buffer, uint8_t value);
/* Network byte order. */
void buffer_put_u16(struct buffer *buffer, uint16_t value);
void buffer_put_u32(struct buffer *buffer, uint32_t value);
/* The text and its NUL; NULL counts as "". */
void buffer_put_string(struct buffer *buffer, const char *text);
/* Formatted text without its NUL. */
void buffer_print(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Overwrites the four bytes at `offset`, in network byte order. */
void buffer_set_u32(struct buffer *buffer, size_t offset, uint32_t value);
/* Removes the first `count` bytes. */
void buffer_consume(struct buffer *buffer, size_t count);

#endif
