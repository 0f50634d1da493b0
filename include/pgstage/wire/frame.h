/*
 * frame: finds the messages in a stream of bytes (PostgreSQL protocol 3.0, "Message Formats").
 * Pure; any thread.
 */
#ifndef PGSTAGE_WIRE_FRAME_H
#define PGSTAGE_WIRE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER_BYTES 5

struct frame {
    uint8_t type;
    uint32_t body_bytes; /* after the header: the wire's length minus 4 */
};

enum frame_result {
    FRAME_OK,
    FRAME_PARTIAL, /* fewer than FRAME_HEADER_BYTES are there */
    FRAME_BAD,     /* the length is under 4 or over the limit, or the type is 0 */
};

static inline uint32_t wire_get_u32(const uint8_t *data)
{
    return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
}

static inline uint16_t wire_get_u16(const uint8_t *data)
{
    return (uint16_t)(data[0] << 8 | data[1]);
}

/* Reads one header from `available` bytes; the body need not be there. `maximum` bounds the body.
 */
static inline enum frame_result frame_peek(const uint8_t *data, size_t available, uint32_t maximum,
                                           struct frame *frame)
{
    uint32_t length;

    if (available < FRAME_HEADER_BYTES)
        return FRAME_PARTIAL;
    length = wire_get_u32(data + 1);
    /* the wire's lengths are signed */
    if (data[0] == 0 || length < 4 || length > INT32_MAX || length - 4 > maximum)
        return FRAME_BAD;
    frame->type = data[0];
    frame->body_bytes = length - 4;
    return FRAME_OK;
}

/* Reads the fields of one body in order. A read beyond the end sets `failed`, and every later read
 * gives 0, NULL or "". */
struct reader {
    const uint8_t *data;
    size_t available;
    bool failed;
};

void reader_init(struct reader *reader, const uint8_t *body, size_t length);
uint8_t reader_u8(struct reader *reader);
uint16_t reader_u16(struct reader *reader);
uint32_t reader_u32(struct reader *reader);
/* A NUL-terminated string inside the body; "" and `failed` when there is no NUL. */
const char *reader_string(struct reader *reader);
/* `count` bytes, or NULL and `failed`. */
const uint8_t *reader_bytes(struct reader *reader, size_t count);
/* Was everything read and nothing failed? */
bool reader_is_done(const struct reader *reader);

#endif
