/*
 * message: builds the messages that pgstage itself sends, at the end of a buffer.
 *
 *     message_begin          buffer_put_* …            message_end
 *     [type] [0 0 0 0]   →   [type] [0 0 0 0] body  →  [type] [length] body
 *             ^ returned offset
 *
 * The buffer may move while the body grows, so messages are remembered by offset. Texts that may
 * have come from a peer are cut in error and notice messages only; nothing else is. Owns nothing;
 * the buffer's thread.
 */
#include "pgstage/wire/message.h"

#include <string.h>

#define ERROR_TEXT_MAX_BYTES 8192
#define CANCEL_REQUEST_CODE (UINT32_C(1234) << 16 | 5678)
#define SSL_REQUEST_CODE (UINT32_C(1234) << 16 | 5679)

size_t message_begin(struct buffer *out, uint8_t type)
{
    if (type)
        buffer_put_u8(out, type);
    size_t begin = out->length;
    buffer_put_u32(out, 0);
    return begin;
}

void message_end(struct buffer *out, size_t begin)
{
    buffer_set_u32(out, begin, (uint32_t)(out->length - begin));
}

void message_empty(struct buffer *out, uint8_t type)
{
    message_end(out, message_begin(out, type));
}

/* One field; a long text ends before the UTF-8 character that would pass the limit. */
static void put_field(struct buffer *out, char code, const char *text)
{
    if (!text)
        return;
    size_t length = strlen(text);
    if (length > ERROR_TEXT_MAX_BYTES) {
        length = ERROR_TEXT_MAX_BYTES;
        while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80)
            length--;
    }
    buffer_put_u8(out, (uint8_t)code);
    buffer_put(out, text, length);
    buffer_put_u8(out, 0);
}

static void put_fields(struct buffer *out, uint8_t type, const char *severity, const char *sqlstate,
                       const char *text, const char *detail, const char *hint)
{
    size_t begin = message_begin(out, type);
    put_field(out, 'S', severity);
    put_field(out, 'V', severity);
    put_field(out, 'C', sqlstate);
    put_field(out, 'M', text);
    put_field(out, 'D', detail);
    put_field(out, 'H', hint);
    buffer_put_u8(out, 0);
    message_end(out, begin);
}

void message_error(struct buffer *out, const char *severity, const char *sqlstate, const char *text,
                   const char *detail, const char *hint)
{
    put_fields(out, 'E', severity, sqlstate, text, detail, hint);
}

void message_notice(struct buffer *out, const char *severity, const char *sqlstate,
                    const char *text)
{
    put_fields(out, 'N', severity, sqlstate, text, NULL, NULL);
}

void message_ready(struct buffer *out, char status)
{
    size_t begin = message_begin(out, 'Z');
    buffer_put_u8(out, (uint8_t)status);
    message_end(out, begin);
}

void message_parameter_status(struct buffer *out, const char *name, const char *value)
{
    size_t begin = message_begin(out, 'S');
    buffer_put_string(out, name);
    buffer_put_string(out, value);
    message_end(out, begin);
}

void message_backend_key(struct buffer *out, uint32_t pid, const uint8_t *secret, size_t length)
{
    size_t begin = message_begin(out, 'K');
    buffer_put_u32(out, pid);
    buffer_put(out, secret, length);
    message_end(out, begin);
}

void message_authentication(struct buffer *out, uint32_t code, const void *data, size_t length)
{
    size_t begin = message_begin(out, 'R');
    buffer_put_u32(out, code);
    buffer_put(out, data, length);
    message_end(out, begin);
}

void message_password(struct buffer *out, const void *bytes, size_t length)
{
    size_t begin = message_begin(out, 'p');
    buffer_put(out, bytes, length);
    message_end(out, begin);
}

void message_negotiate(struct buffer *out, uint32_t newest_minor, const char *const *unknown,
                       size_t count)
{
    size_t begin = message_begin(out, 'v');
    /* the documentation says "minor version", PostgreSQL sends and libpq expects all of it */
    buffer_put_u32(out, UINT32_C(3) << 16 | newest_minor);
    buffer_put_u32(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        buffer_put_string(out, unknown[i]);
    message_end(out, begin);
}

void message_query(struct buffer *out, const char *text)
{
    size_t begin = message_begin(out, 'Q');
    buffer_put_string(out, text);
    message_end(out, begin);
}

void message_parse(struct buffer *out, const char *statement, const char *query)
{
    size_t begin = message_begin(out, 'P');
    buffer_put_string(out, statement);
    buffer_put_string(out, query);
    buffer_put_u16(out, 0); /* no parameter types are given */
    message_end(out, begin);
}

void message_close(struct buffer *out, char what, const char *name)
{
    size_t begin = message_begin(out, 'C');
    buffer_put_u8(out, (uint8_t)what);
    buffer_put_string(out, name);
    message_end(out, begin);
}

void message_command_complete(struct buffer *out, const char *tag)
{
    size_t begin = message_begin(out, 'C');
    buffer_put_string(out, tag);
    message_end(out, begin);
}

void message_row_description(struct buffer *out, const char *const *names, size_t count)
{
    enum { TEXT_OID = 25 };
    size_t begin = message_begin(out, 'T');
    buffer_put_u16(out, (uint16_t)count);
    for (size_t i = 0; i < count; i++) {
        buffer_put_string(out, names[i]);
        buffer_put_u32(out, 0); /* of no table */
        buffer_put_u16(out, 0); /* of no column */
        buffer_put_u32(out, TEXT_OID);
        buffer_put_u16(out, UINT16_MAX); /* length -1: varies */
        buffer_put_u32(out, UINT32_MAX); /* modifier -1: none */
        buffer_put_u16(out, 0);          /* in text format */
    }
    message_end(out, begin);
}

void message_data_row(struct buffer *out, const char *const *values, size_t count)
{
    size_t begin = message_begin(out, 'D');
    buffer_put_u16(out, (uint16_t)count);
    for (size_t i = 0; i < count; i++) {
        if (!values[i]) {
            buffer_put_u32(out, UINT32_MAX); /* length -1: NULL */
            continue;
        }
        size_t length = strlen(values[i]);
        buffer_put_u32(out, (uint32_t)length);
        buffer_put(out, values[i], length);
    }
    message_end(out, begin);
}

void message_startup(struct buffer *out, uint32_t version, const char *const *names_and_values,
                     size_t pairs)
{
    size_t begin = message_begin(out, 0);
    buffer_put_u32(out, version);
    for (size_t i = 0; i < pairs; i++) {
        buffer_put_string(out, names_and_values[2 * i]);
        buffer_put_string(out, names_and_values[2 * i + 1]);
    }
    buffer_put_u8(out, 0);
    message_end(out, begin);
}

void message_ssl_request(struct buffer *out)
{
    size_t begin = message_begin(out, 0);
    buffer_put_u32(out, SSL_REQUEST_CODE);
    message_end(out, begin);
}

void message_cancel(struct buffer *out, uint32_t pid, const uint8_t *secret, size_t length)
{
    size_t begin = message_begin(out, 0);
    buffer_put_u32(out, CANCEL_REQUEST_CODE);
    buffer_put_u32(out, pid);
    buffer_put(out, secret, length);
    message_end(out, begin);
}
