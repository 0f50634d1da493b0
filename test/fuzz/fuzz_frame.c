/*
 * fuzz_frame: a stream of messages as a peer could send it. Finds the frames; reads bodies of
 * errors and notices as errors, and others field by field, in an order that the body itself
 * chooses.
 */
#include <string.h>

#include "pgstage/wire/frame.h"
#include "pgstage/wire/kinds.h"
#include "pgstage/wire/message.h"
#include "promise.h"

#define LIMIT_BYTES 100000

static void read_error(const uint8_t *body, size_t length)
{
    struct error_fields fields;
    int result = error_fields_read(&fields, body, length);
    promise(result == 0 || result == -1);
    promise(strlen(fields.sqlstate) == 5);
    promise(strlen(fields.severity) <= length && strlen(fields.message) <= length);
    promise(strlen(fields.detail) <= length && strlen(fields.hint) <= length);
    /* what was read can be sent on, and then reads the same */
    struct buffer out = {0};
    struct error_fields again;
    message_error(&out, fields.severity, fields.sqlstate, fields.message, fields.detail,
                  fields.hint);
    promise(error_fields_read(&again, out.data + FRAME_HEADER_BYTES,
                              out.length - FRAME_HEADER_BYTES) == 0);
    promise(strcmp(again.sqlstate, fields.sqlstate) == 0);
    promise(strncmp(again.message, fields.message, strlen(again.message)) == 0);
    buffer_fini(&out);
}

static void read_fields(const uint8_t *body, size_t length)
{
    struct reader reader;
    reader_init(&reader, body, length);
    while (!reader.failed && reader.available > 0) {
        size_t before = reader.available;
        const uint8_t *bytes;
        const char *text;
        switch (reader_u8(&reader) % 6) {
        case 0:
            (void)reader_u16(&reader);
            break;
        case 1:
            (void)reader_u32(&reader);
            break;
        case 2:
            text = reader_string(&reader);
            promise(strlen(text) < before);
            break;
        case 3:
            bytes = reader_bytes(&reader, reader_u16(&reader));
            promise(bytes || reader.failed);
            break;
        case 4:
            bytes = reader_bytes(&reader, reader_u32(&reader));
            promise(bytes || reader.failed);
            break;
        default:
            break;
        }
        promise(reader.available < before);
        promise(reader.failed || reader.data == body + (length - reader.available));
    }
    promise(reader_is_done(&reader) == !reader.failed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame frame;
    enum frame_result result;
    while ((result = frame_peek(data, size, LIMIT_BYTES, &frame)) == FRAME_OK) {
        promise(frame.body_bytes <= LIMIT_BYTES && frame.type != 0);
        promise(kind_name(KIND_CLIENT, frame.type) && kind_name(KIND_SERVER, frame.type));
        data += FRAME_HEADER_BYTES;
        size -= FRAME_HEADER_BYTES;
        size_t body_bytes = frame.body_bytes < size ? frame.body_bytes : size;
        if (frame.type == 'E' || frame.type == 'N')
            read_error(data, body_bytes);
        else
            read_fields(data, body_bytes);
        data += body_bytes;
        size -= body_bytes;
    }
    promise(result == FRAME_BAD || size < FRAME_HEADER_BYTES);
    return 0;
}
