/* talk: see talk.h. */
#include "talk.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/text.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"

static void put_rows(struct buffer *text, struct reader *body, const uint32_t *binary)
{
    unsigned count = reader_u16(body);
    for (unsigned i = 0; i < count; i++) {
        uint32_t length = reader_u32(body);
        buffer_print(text, "%s", i ? "|" : "");
        if (length == UINT32_MAX) {
            buffer_print(text, "~");
            continue;
        }
        const uint8_t *bytes = reader_bytes(body, length);
        if (!bytes)
            return;
        if (*binary & (1U << i)) {
            buffer_print(text, "0x");
            for (uint32_t k = 0; k < length; k++)
                buffer_print(text, "%02x", bytes[k]);
        } else {
            buffer_print(text, "%.*s", (int)length, (const char *)bytes);
        }
    }
}

static void put_columns(struct buffer *text, struct reader *body, uint32_t *binary)
{
    unsigned count = reader_u16(body);
    *binary = 0;
    for (unsigned i = 0; i < count; i++) {
        const char *name = reader_string(body);
        (void)reader_bytes(body, 6);
        uint32_t type = reader_u32(body);
        (void)reader_bytes(body, 6);
        if (reader_u16(body) == 1)
            *binary |= 1U << i;
        buffer_print(text, "%s%s:%u", i ? " " : "", name, type);
    }
}

static void put_error(struct buffer *text, const uint8_t *body, size_t length)
{
    struct error_fields fields;
    (void)error_fields_read(&fields, body, length);
    buffer_print(text, "%s %s", fields.sqlstate, fields.message);
    if (*fields.detail)
        buffer_print(text, " / %s", fields.detail);
}

static void put_message(struct buffer *text, uint8_t type, const uint8_t *data, size_t length,
                        uint32_t *binary)
{
    struct reader body;
    reader_init(&body, data, length);
    buffer_print(text, "%s%c", text->length ? " " : "", type);
    if (length == 0)
        return;
    buffer_print(text, "(");
    if (type == 'T')
        put_columns(text, &body, binary);
    else if (type == 'D')
        put_rows(text, &body, binary);
    else if (type == 'E' || type == 'N')
        put_error(text, data, length);
    else if (type == 'C')
        buffer_print(text, "%s", reader_string(&body));
    else if (type == 'Z')
        buffer_print(text, "%c", reader_u8(&body));
    buffer_print(text, ")");
}

static void on_reply(void *context, uint64_t client_id, struct buffer *bytes, bool resume,
                     bool close)
{
    struct talk *talk = context;
    (void)client_id;
    static uint32_t binary; /* formats of the latest RowDescription, over several replies */
    struct buffer text = {0};
    if (talk->heard)
        buffer_print(&text, "%s", talk->heard);
    for (size_t at = 0; at < bytes->length;) {
        struct frame frame;
        if (frame_peek(bytes->data + at, bytes->length - at, INT32_MAX, &frame) != FRAME_OK)
            abort();
        put_message(&text, frame.type, bytes->data + at + FRAME_HEADER_BYTES, frame.body_bytes,
                    &binary);
        at += FRAME_HEADER_BYTES + frame.body_bytes;
    }
    buffer_put_u8(&text, '\0');
    free(talk->heard);
    talk->heard = (char *)text.data;
    talk->replies++;
    talk->resumed = resume;
    talk->closed = talk->closed || close;
}

static void on_run(void *context, struct console_job *job)
{
    struct talk *talk = context;
    talk->runs++;
    talk->last_id = job->command.id;
    job->state = talk;
    if (talk->run)
        talk->run(job);
    else
        console_done(job);
}

static void open_by(struct talk *talk, const char *database, enum console_level level)
{
    *talk = (struct talk){0};
    struct console_hooks hooks = {.context = talk, .run = on_run, .reply = on_reply};
    talk->console = console_new(&hooks);
    console_opened(talk->console, TALK_CLIENT, "alice", database, level, "127.0.0.1:4711");
}

void talk_open(struct talk *talk, enum console_level level)
{
    open_by(talk, "pgstage", level);
}

void talk_open_as_pgbouncer(struct talk *talk)
{
    open_by(talk, "pgbouncer", CONSOLE_STATS);
}

void talk_close(struct talk *talk)
{
    console_free(talk->console);
    buffer_fini(&talk->to);
    free(talk->heard);
}

void talk_query(struct talk *talk, const char *text)
{
    message_query(&talk->to, text);
}

void talk_parse(struct talk *talk, const char *name, const char *text)
{
    message_parse(&talk->to, name, text);
}

void talk_bind(struct talk *talk, const char *portal, const char *name, const char *formats)
{
    size_t begin = message_begin(&talk->to, 'B');
    buffer_put_string(&talk->to, portal);
    buffer_put_string(&talk->to, name);
    buffer_put_u16(&talk->to, 0);
    buffer_put_u16(&talk->to, 0);
    buffer_put_u16(&talk->to, (uint16_t)strlen(formats));
    for (; *formats; formats++)
        buffer_put_u16(&talk->to, (uint16_t)(*formats - '0'));
    message_end(&talk->to, begin);
}

void talk_describe(struct talk *talk, char what, const char *name)
{
    size_t begin = message_begin(&talk->to, 'D');
    buffer_put_u8(&talk->to, (uint8_t)what);
    buffer_put_string(&talk->to, name);
    message_end(&talk->to, begin);
}

void talk_execute(struct talk *talk, const char *portal, unsigned maximum)
{
    size_t begin = message_begin(&talk->to, 'E');
    buffer_put_string(&talk->to, portal);
    buffer_put_u32(&talk->to, maximum);
    message_end(&talk->to, begin);
}

void talk_close_name(struct talk *talk, char what, const char *name)
{
    message_close(&talk->to, what, name);
}

void talk_sync(struct talk *talk)
{
    message_empty(&talk->to, 'S');
}

const char *talk_hear(struct talk *talk)
{
    /* Two are kept, so that an assertion may show the one before. */
    static char *shown[2];
    free(shown[0]);
    shown[0] = shown[1];
    shown[1] = talk->heard ? talk->heard : text_copy("");
    talk->heard = NULL;
    return shown[1];
}

const char *talk_send(struct talk *talk)
{
    struct buffer bytes = talk->to;
    talk->to = (struct buffer){0};
    console_input(talk->console, TALK_CLIENT, bytes.data, bytes.length);
    buffer_fini(&bytes);
    return talk_hear(talk);
}

const char *talk_ask(struct talk *talk, const char *query)
{
    talk_query(talk, query);
    return talk_send(talk);
}
