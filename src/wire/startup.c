/*
 * startup: reads the packet that opens a connection. It has no type byte:
 *
 *     0..3           4..7                 8 …
 *     +-------------+--------------------+----------------------------------------+
 *     | length      | 3.x: version       | name\0 value\0 name\0 value\0 … \0      |
 *     | (all of it) | 1234.5678: cancel  | pid(4) secret(4, or up to 256 in 3.2)   |
 *     |             | 1234.5679: SSL     |                                        |
 *     |             | 1234.5680: GSSENC  |                                        |
 *     +-------------+--------------------+----------------------------------------+
 *
 * The sender is nobody yet: what cannot become a good packet is refused as soon as its first bytes
 * show it, so that no peer makes pgstage wait for the rest of nonsense. Owns nothing; any thread.
 */
#include "pgstage/wire/startup.h"

#include <string.h>

#include "pgstage/wire/frame.h"

#define STARTUP_HEADER_BYTES 8
#define REQUEST_MAJOR 1234
#define REQUEST_CANCEL 5678
#define REQUEST_SSL 5679
#define REQUEST_GSSENC 5680
#define CANCEL_KEY_MIN_BYTES 4
#define CANCEL_FIXED_BYTES (STARTUP_HEADER_BYTES + 4)

static enum startup_result bad(struct startup *startup, const char *problem)
{
    startup->problem = problem;
    return STARTUP_BAD;
}

/* Names and values in turn, an empty name at the very end. */
static const char *parameters_problem(const uint8_t *data, size_t length)
{
    if (length == 0 || data[length - 1] != 0)
        return "expected a terminator as the last byte of the startup packet";
    struct reader reader;
    reader_init(&reader, data, length);
    while (reader.available > 1) {
        if (*reader_string(&reader) == 0)
            return "the startup packet has bytes behind its terminator";
        if (reader.available <= 1)
            return "the startup packet has a parameter without a value";
        (void)reader_string(&reader);
    }
    if (reader.failed || reader.available != 1)
        return "the startup packet has no terminator";
    return NULL;
}

static enum startup_result parse_message(const uint8_t *data, size_t available,
                                         struct startup *startup)
{
    startup->kind = STARTUP_MESSAGE;
    if (startup->total_bytes > available)
        return STARTUP_PARTIAL;
    /* other major versions have other layouts; the caller answers them */
    if (startup->major != 3)
        return STARTUP_OK;
    const uint8_t *body = data + STARTUP_HEADER_BYTES;
    size_t length = startup->total_bytes - STARTUP_HEADER_BYTES;
    const char *problem = parameters_problem(body, length);
    if (problem)
        return bad(startup, problem);
    startup->parameters = body;
    startup->parameters_bytes = length - 1;
    return STARTUP_OK;
}

static enum startup_result parse_cancel(const uint8_t *data, size_t available,
                                        struct startup *startup)
{
    startup->kind = STARTUP_CANCEL;
    if (startup->total_bytes < CANCEL_FIXED_BYTES + CANCEL_KEY_MIN_BYTES)
        return bad(startup, "the cancel request is too short");
    size_t key_bytes = startup->total_bytes - CANCEL_FIXED_BYTES;
    if (key_bytes > CANCEL_KEY_MAX_BYTES)
        return bad(startup, "the cancel request is too long");
    if (startup->total_bytes > available)
        return STARTUP_PARTIAL;
    startup->cancel_pid = wire_get_u32(data + STARTUP_HEADER_BYTES);
    startup->cancel_secret = data + CANCEL_FIXED_BYTES;
    /* node-postgres ends its packet with an empty string, and counts it */
    if (key_bytes == CANCEL_KEY_MIN_BYTES + 1 && startup->cancel_secret[key_bytes - 1] == 0)
        key_bytes--;
    startup->cancel_secret_bytes = key_bytes;
    return STARTUP_OK;
}

static enum startup_result parse_request(const uint8_t *data, size_t available,
                                         struct startup *startup)
{
    switch (startup->minor) {
    case REQUEST_CANCEL:
        return parse_cancel(data, available, startup);
    case REQUEST_SSL:
        startup->kind = STARTUP_SSL;
        break;
    case REQUEST_GSSENC:
        startup->kind = STARTUP_GSSENC;
        break;
    default:
        return bad(startup, "unknown request code in the startup packet");
    }
    if (startup->total_bytes != STARTUP_HEADER_BYTES)
        return bad(startup, "an encryption request has a wrong length");
    return STARTUP_OK;
}

enum startup_result startup_parse(const uint8_t *data, size_t available, struct startup *startup)
{
    memset(startup, 0, sizeof *startup);
    if (available < 4)
        return STARTUP_PARTIAL;
    uint32_t length = wire_get_u32(data);
    if (length < STARTUP_HEADER_BYTES || length > STARTUP_MAX_BYTES)
        return bad(startup, "invalid length of startup packet");
    startup->total_bytes = length;
    if (available < STARTUP_HEADER_BYTES)
        return STARTUP_PARTIAL;
    startup->major = wire_get_u16(data + 4);
    startup->minor = wire_get_u16(data + 6);
    if (startup->major == REQUEST_MAJOR)
        return parse_request(data, available, startup);
    return parse_message(data, available, startup);
}

bool startup_next(const struct startup *startup, size_t *offset, const char **name,
                  const char **value)
{
    if (*offset >= startup->parameters_bytes)
        return false;
    struct reader reader;
    reader_init(&reader, startup->parameters + *offset, startup->parameters_bytes - *offset);
    *name = reader_string(&reader);
    *value = reader_string(&reader);
    if (reader.failed)
        return false;
    *offset = startup->parameters_bytes - reader.available;
    return true;
}

bool startup_negotiated(const uint8_t *body, size_t length, uint32_t asked, uint32_t *minor)
{
    const uint32_t major = UINT32_C(3) << 16;
    struct reader reader;
    uint32_t version, options;

    reader_init(&reader, body, length);
    version = reader_u32(&reader);
    options = reader_u32(&reader);
    /* PostgreSQL says all of the version; its documentation once had the minor one alone */
    *minor = version < major ? version : version - major;
    return !reader.failed && reader.available == 0 && options == 0 && *minor <= asked;
}
