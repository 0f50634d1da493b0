/*
 * frame: the header that every message after the startup packet has, and the reader of bodies.
 *
 *     byte 0   1..4                5 …
 *     +------+-------------------+---------------------+
 *     | type | length (itself+   | body                |
 *     |      | body, big-endian) | length - 4 bytes    |
 *     +------+-------------------+---------------------+
 *
 * Everything here looks at bytes of a peer: every length is compared with what is left, never added
 * to a position first, and nothing ends the process. Owns nothing; any thread.
 */
#include "pgstage/wire/frame.h"

#include <string.h>

void reader_init(struct reader *reader, const uint8_t *body, size_t length)
{
    reader->data = body;
    reader->available = length;
    reader->failed = false;
}

const uint8_t *reader_bytes(struct reader *reader, size_t count)
{
    if (reader->failed || count > reader->available) {
        reader->failed = true;
        return NULL;
    }
    const uint8_t *bytes = reader->data;
    if (count > 0)
        reader->data += count;
    reader->available -= count;
    return bytes;
}

uint8_t reader_u8(struct reader *reader)
{
    const uint8_t *bytes = reader_bytes(reader, 1);
    return bytes ? bytes[0] : 0;
}

uint16_t reader_u16(struct reader *reader)
{
    const uint8_t *bytes = reader_bytes(reader, 2);
    return bytes ? wire_get_u16(bytes) : 0;
}

uint32_t reader_u32(struct reader *reader)
{
    const uint8_t *bytes = reader_bytes(reader, 4);
    return bytes ? wire_get_u32(bytes) : 0;
}

const char *reader_string(struct reader *reader)
{
    const uint8_t *end = NULL;
    if (!reader->failed && reader->available > 0)
        end = memchr(reader->data, 0, reader->available);
    if (!end) {
        reader->failed = true;
        return "";
    }
    return (const char *)reader_bytes(reader, (size_t)(end - reader->data) + 1);
}

bool reader_is_done(const struct reader *reader)
{
    return !reader->failed && reader->available == 0;
}
