/*
 * console.c: the worker's side of the console.
 *
 * The connection stays with its worker (TLS, login and backpressure are the same as for any
 * client); whole messages travel to the control thread in letters, and what that answers comes back
 * as bytes. One letter at a time: reading pauses until the answer says to go on.
 */
#include "pgstage/session/console.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/cancel_key.h"
#include "pgstage/session/login.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"

/* The longest message to the console. */
#define CONSOLE_MESSAGE_MAX_BYTES 65536

struct console_letter {
    struct mail mail;
    struct plane *plane;
    enum { CONSOLE_OPENED, CONSOLE_INPUT, CONSOLE_CANCELLED, CONSOLE_CLOSED } what;
    uint64_t client_id;
    enum console_level level;
    char *user, *database, *from;
    struct buffer bytes;
};

static void letter_free(struct mail *mail)
{
    struct console_letter *letter = (struct console_letter *)mail;

    free(letter->user);
    free(letter->database);
    free(letter->from);
    buffer_fini(&letter->bytes);
    free(letter);
}

static void deliver(struct loop *loop, struct mail *mail)
{
    struct console_letter *letter = (struct console_letter *)mail;
    const struct plane_hooks *hooks = &letter->plane->hooks;

    (void)loop;
    switch (letter->what) {
    case CONSOLE_OPENED:
        hooks->console_opened(hooks->context, letter->client_id, letter->user, letter->database,
                              letter->level, letter->from);
        break;
    case CONSOLE_INPUT:
        hooks->console_input(hooks->context, letter->client_id, letter->bytes.data,
                             letter->bytes.length);
        break;
    case CONSOLE_CANCELLED:
        hooks->console_cancelled(hooks->context, letter->client_id);
        break;
    case CONSOLE_CLOSED:
        hooks->console_closed(hooks->context, letter->client_id);
        break;
    }
    letter_free(mail);
}

static struct console_letter *letter_new(struct client *client, int what)
{
    struct console_letter *letter = memory_new(sizeof(*letter));

    letter->mail.deliver = deliver;
    letter->mail.drop = letter_free;
    letter->plane = client->worker->plane;
    letter->what = what;
    letter->client_id = client->id;
    return letter;
}

static void post(struct console_letter *letter)
{
    loop_post(letter->plane->control, &letter->mail);
}

void console_enter(struct client *client, enum console_level level, struct buffer *greeting)
{
    static const char *const parameters[][2] = {
        {"server_version", "15.0 (pgstage " PACKAGE_VERSION ")"},
        {"client_encoding", "UTF8"},
        {"server_encoding", "UTF8"},
        {"DateStyle", "ISO, MDY"},
        {"TimeZone", "GMT"},
        {"standard_conforming_strings", "on"},
        {"is_superuser", "on"},
        {"integer_datetimes", "on"},
    };
    struct console_letter *letter = letter_new(client, CONSOLE_OPENED);
    char from[ADDRESS_TEXT_BYTES];
    struct buffer out = *greeting;

    *greeting = (struct buffer){0};
    for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++)
        message_parameter_status(&out, parameters[i][0], parameters[i][1]);
    cancel_key_tell(client, &out);
    message_ready(&out, 'I');
    counter_add(&client->worker->security[SECURITY_logins_accepted], 1);
    login_free(client->login);
    client->login = NULL;
    client_set_state(client, CLIENT_CONSOLE);
    client_arm(client);
    letter->level = level;
    letter->user = text_copy(client->user);
    letter->database = text_copy(client->database);
    letter->from = text_copy(client_from(client, from));
    post(letter);
    if (client_send_buffer(client, &out) && client->held_bytes)
        loop_defer(client->worker->loop, &client->task);
}

/* How many of these bytes are whole messages; -1: the client has been told off. */
static ssize_t whole_messages(struct client *client, const uint8_t *data, size_t length)
{
    size_t at = 0;
    struct frame frame;

    while (at < length) {
        switch (frame_peek(data + at, length - at, CONSOLE_MESSAGE_MAX_BYTES, &frame)) {
        case FRAME_PARTIAL:
            return (ssize_t)at;
        case FRAME_BAD:
            client_fail(client, REASON_CLIENT_BAD_LENGTH, NULL);
            return -1;
        case FRAME_OK:
            break;
        }
        if (frame.type == 'X') {
            client_close(client, REASON_CLIENT_TERMINATE);
            return -1;
        }
        if (FRAME_HEADER_BYTES + (size_t)frame.body_bytes > length - at)
            break;
        at += FRAME_HEADER_BYTES + (size_t)frame.body_bytes;
    }
    return (ssize_t)at;
}

void console_readable(struct client *client)
{
    size_t length = client->held_bytes;
    struct buffer bytes = {0};
    ssize_t count, whole;

    if (client->stream.read_paused)
        return;
    buffer_put(&bytes, client->held, length);
    count =
        stream_read(&client->stream, buffer_reserve(&bytes, LOOP_BUFFER_BYTES), LOOP_BUFFER_BYTES);
    if (count < 0) {
        client_close(client, REASON_CLIENT_EOF);
        buffer_fini(&bytes);
        return;
    }
    bytes.length += (size_t)count;
    if (stream_has_pending(&client->stream))
        stream_read_later(&client->stream);
    whole = whole_messages(client, bytes.data, bytes.length);
    if (whole < 0) {
        buffer_fini(&bytes);
        return;
    }
    client_hold(client, bytes.data + whole, bytes.length - (size_t)whole);
    bytes.length = (size_t)whole;
    if (whole > 0) {
        struct console_letter *letter = letter_new(client, CONSOLE_INPUT);

        letter->bytes = bytes;
        client->console_busy = true;
        client_update_flow(client);
        post(letter);
        return;
    }
    buffer_fini(&bytes);
}

void console_left(struct client *client)
{
    post(letter_new(client, CONSOLE_CLOSED));
}

void console_cancel(struct client *client)
{
    post(letter_new(client, CONSOLE_CANCELLED));
}

/* ---- answers ---- */

struct reply_letter {
    struct mail mail;
    uint64_t client_id;
    struct buffer bytes;
    bool resume, close;
};

static void reply_free(struct mail *mail)
{
    struct reply_letter *letter = (struct reply_letter *)mail;

    buffer_fini(&letter->bytes);
    free(letter);
}

static void deliver_reply(struct loop *loop, struct mail *mail)
{
    struct reply_letter *letter = (struct reply_letter *)mail;
    struct client *client = worker_client(worker_of(loop), letter->client_id);

    if (client && client->state == CLIENT_CONSOLE && client_send_buffer(client, &letter->bytes)) {
        if (letter->close) {
            client_close(client, REASON_CLIENT_TERMINATE);
        } else if (letter->resume) {
            /* a client that does not read its answers gets no more work done */
            client->console_busy = false;
            client_update_flow(client);
            if (client->held_bytes)
                loop_defer(loop, &client->task);
        }
    }
    reply_free(mail);
}

void plane_console_reply(struct plane *plane, uint64_t client_id, struct buffer *bytes, bool resume,
                         bool close)
{
    struct reply_letter *letter = memory_new(sizeof(*letter));

    letter->mail.deliver = deliver_reply;
    letter->mail.drop = reply_free;
    letter->client_id = client_id;
    letter->bytes = *bytes;
    letter->resume = resume;
    letter->close = close;
    *bytes = (struct buffer){0};
    loop_post(plane->loops[worker_of_id(client_id)], &letter->mail);
}
