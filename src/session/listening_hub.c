/*
 * listening_hub.c: the one connection that listens for all clients of a database.
 *
 * It belongs to the worker that first wanted it; ears speak to it by letters, also that worker's
 * own. It is opened for the first channel and closed with the last:
 *
 *   no server ── want ──► opening ── logged in ──► SET client_encoding, LISTEN for each channel
 *       ▲                    │ failed: told                │ answered: told
 *       └──── lost: gap ─────┴─────────────────────────────┘
 *
 * Commands are sent as they come and answered in order. What it says unasked are notifications,
 * which go to every worker that wants their channel.
 */
#include <stdlib.h>
#include <string.h>

#include "listening_inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/pool/registry.h"
#include "pgstage/session/parameters.h"
#include "pgstage/session/server.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"

/* How often the pool is asked whether a connection of now is still the right one. */
#define LOOK_US (10 * CLOCK_SECOND)
/* Channels over which no more are taken. */
#define HUB_CHANNELS_MAX 100000

/* A statement that was sent. */
struct command {
    struct list_node node; /* in hub->sent */
    bool failed;
    char channel[CHANNEL_NAME_MAX_BYTES + 1]; /* LISTEN; "": something else */
    char problem[160];
};

/* ---- letters ---- */

enum letter_kind { LETTER_WANT, LETTER_UNWANT, LETTER_TOLD, LETTER_HEAR, LETTER_GAP };

struct letter {
    struct mail mail;
    enum letter_kind kind;
    struct hub *hub;
    struct worker *ear; /* whose ear it comes from, or goes to */
    struct pool *pool;  /* WANT; a reference */
    char channel[CHANNEL_NAME_MAX_BYTES + 1];
    char *problem; /* TOLD; NULL: it listens */
    uint8_t *message;
    size_t bytes;
};

static void want(struct hub *hub, unsigned index, const char *name, struct pool *pool);
static void unwant(struct hub *hub, unsigned index, const char *name);

static void letter_free(struct mail *mail)
{
    struct letter *letter = (struct letter *)mail;

    if (letter->pool)
        pool_unref(letter->pool);
    free(letter->problem);
    free(letter->message);
    free(letter);
}

static void deliver(struct loop *loop, struct mail *mail)
{
    struct letter *letter = (struct letter *)mail;
    struct ear *ear = &letter->hub->ears[letter->ear->index];

    if (!worker_of(loop)->ended) {
        switch (letter->kind) {
        case LETTER_WANT:
            want(letter->hub, letter->ear->index, letter->channel, letter->pool);
            break;
        case LETTER_UNWANT:
            unwant(letter->hub, letter->ear->index, letter->channel);
            break;
        case LETTER_TOLD:
            ear_told(ear, letter->channel, letter->problem);
            break;
        case LETTER_HEAR:
            ear_hear(ear, letter->channel, letter->message, letter->bytes);
            break;
        case LETTER_GAP:
            ear_gap(ear);
            break;
        }
    }
    letter_free(mail);
}

static struct letter *letter_new(enum letter_kind kind, struct hub *hub, struct worker *ear,
                                 const char *channel)
{
    struct letter *letter = memory_new(sizeof(*letter));

    letter->mail.deliver = deliver;
    letter->mail.drop = letter_free;
    letter->kind = kind;
    letter->hub = hub;
    letter->ear = ear;
    (void)text_fit(letter->channel, sizeof(letter->channel), channel);
    return letter;
}

void hub_want(struct hub *hub, struct worker *from, const char *channel, struct pool *pool)
{
    struct letter *letter = letter_new(LETTER_WANT, hub, from, channel);

    letter->pool = pool_ref(pool);
    loop_post(hub->worker->loop, &letter->mail);
}

void hub_unwant(struct hub *hub, struct worker *from, const char *channel)
{
    loop_post(hub->worker->loop, &letter_new(LETTER_UNWANT, hub, from, channel)->mail);
}

static void tell(struct hub *hub, unsigned index, const char *channel, const char *problem)
{
    struct worker *ear = &hub->plane->workers[index];
    struct letter *letter = letter_new(LETTER_TOLD, hub, ear, channel);

    letter->problem = text_copy(problem);
    loop_post(ear->loop, &letter->mail);
}

static void tell_wanting(const struct hub_channel *channel, struct hub *hub, const char *problem)
{
    for (unsigned i = 0; i < hub->plane->worker_count; i++) {
        if (channel->wanted[i])
            tell(hub, i, channel->name, problem);
    }
}

/* ---- channels ---- */

static struct hub_channel *channel_find(struct hub *hub, const char *name)
{
    struct hub_channel *channel;

    HASH_FIND(hh, hub->channels, name, strlen(name), channel);
    return channel;
}

static void channel_drop(struct hub *hub, struct hub_channel *channel)
{
    HASH_DEL(hub->channels, channel);
    free(channel->wanted);
    free(channel);
}

/* ---- commands ---- */

static bool send_command(struct hub *hub, const char *channel, const char *sql)
{
    struct command *command = memory_new(sizeof(*command));
    struct buffer out = {0};
    enum stream_result result;

    (void)text_fit(command->channel, sizeof(command->channel), channel);
    list_push_back(&hub->sent, &command->node);
    message_query(&out, sql);
    result = stream_write(&hub->server->stream, out.data, out.length);
    buffer_fini(&out);
    if (result == STREAM_BROKEN) {
        server_close(hub->server, REASON_SERVER_BROKEN, NULL);
        return false;
    }
    return true;
}

/* An answer may not take for ever. */
static void limit_answers(struct hub *hub)
{
    struct server *server = hub->server;

    if (list_is_empty(&hub->sent))
        timer_clear(&server->timer);
    else
        server_limit_own(server);
}

/* `word` is LISTEN or UNLISTEN. */
static bool send_listen(struct hub *hub, const char *word, const char *channel)
{
    struct buffer sql = {0};
    bool sent;

    buffer_print(&sql, "%s \"", word);
    for (const char *at = channel; *at; at++) {
        if (*at == '"')
            buffer_put_u8(&sql, '"');
        buffer_put_u8(&sql, (uint8_t)*at);
    }
    buffer_put(&sql, "\"", 2);
    sent = send_command(hub, *word == 'L' ? channel : "", (const char *)sql.data);
    buffer_fini(&sql);
    if (sent)
        limit_answers(hub);
    return sent;
}

static void forget_commands(struct hub *hub)
{
    struct list_node *node;

    while ((node = list_pop_front(&hub->sent)))
        free(list_entry(node, struct command, node));
}

/* The first command is answered. */
static void finish_command(struct hub *hub)
{
    struct command *command;
    struct hub_channel *channel;

    if (list_is_empty(&hub->sent))
        return;
    command = list_entry(list_pop_front(&hub->sent), struct command, node);
    limit_answers(hub);
    channel = command->channel[0] ? channel_find(hub, command->channel) : NULL;
    if (command->failed && !command->channel[0]) {
        server_close(hub->server, REASON_SERVER_PARAMETERS_FAILED, command->problem);
    } else if (channel && command->failed) {
        tell_wanting(channel, hub, command->problem);
        channel_drop(hub, channel);
    } else if (channel && !channel->ready) {
        channel->ready = true;
        tell_wanting(channel, hub, NULL);
    }
    free(command);
}

static void note_problem(struct hub *hub, const uint8_t *body, size_t length)
{
    struct command *command;
    struct error_fields fields;

    if (list_is_empty(&hub->sent))
        return;
    command = list_entry(list_first(&hub->sent), struct command, node);
    (void)error_fields_read(&fields, body, length);
    command->failed = true;
    (void)text_fit(command->problem, sizeof(command->problem), fields.message);
}

/* ---- the connection ---- */

/* After RECONNECT, or a RELOAD that changed what the pool means, the connection is an old one. */
static void look_at_age(struct loop *loop, struct timer *timer)
{
    struct hub *hub = list_entry(timer, struct hub, timer);

    if (!hub->server || !hub->ready)
        return;
    if (hub->server->item.generation != pool_generation(hub->pool))
        server_close(hub->server, REASON_SERVER_OBSOLETE, NULL);
    else
        timer_set(loop, timer, loop_now_us(loop) + LOOK_US);
}

static void ready(struct server *server)
{
    struct hub *hub = server->aside_owner;
    struct hub_channel *channel, *next;
    struct buffer sql = {0};

    buffer_print(&sql, "SET client_encoding = ");
    parameters_put_literal(&sql, hub->encoding);
    buffer_put_u8(&sql, 0);
    hub->ready = send_command(hub, "", (const char *)sql.data);
    buffer_fini(&sql);
    hub->timer.fire = look_at_age;
    timer_set(hub->worker->loop, &hub->timer, loop_now_us(hub->worker->loop) + LOOK_US);
    HASH_ITER (hh, hub->channels, channel, next) {
        if (!hub->ready || !hub->server)
            return;
        hub->ready = send_listen(hub, "LISTEN", channel->name);
    }
}

/* It is gone, or was never there: all channels are. */
static void over(struct hub *hub, const char *problem)
{
    bool was_ready = hub->ready;
    struct hub_channel *channel, *next;

    hub->server = NULL;
    hub->ready = false;
    forget_commands(hub);
    memory_keep(&hub->tail, &hub->tail_bytes, NULL, 0);
    HASH_ITER (hh, hub->channels, channel, next) {
        if (!was_ready)
            tell_wanting(channel, hub, problem);
        channel_drop(hub, channel);
    }
    for (unsigned i = 0; was_ready && i < hub->plane->worker_count; i++) {
        struct worker *ear = &hub->plane->workers[i];

        loop_post(ear->loop, &letter_new(LETTER_GAP, hub, ear, "")->mail);
    }
    if (hub->pool)
        pool_unref(hub->pool);
    hub->pool = NULL;
}

static void failed(struct server *server, const struct server_failure *failure)
{
    over(server->aside_owner, failure->text);
}

static void closed(struct server *server, enum reason reason)
{
    over(server->aside_owner, reason_text(reason));
}

static void spread(struct hub *hub, const uint8_t *message, size_t bytes)
{
    struct reader reader;
    struct hub_channel *channel;
    const char *name;

    reader_init(&reader, message + FRAME_HEADER_BYTES, bytes - FRAME_HEADER_BYTES);
    (void)reader_u32(&reader);
    name = reader_string(&reader);
    if (reader.failed || strlen(name) > CHANNEL_NAME_MAX_BYTES)
        return;
    channel = channel_find(hub, name);
    for (unsigned i = 0; channel && i < hub->plane->worker_count; i++) {
        struct worker *ear = &hub->plane->workers[i];
        struct letter *letter;

        if (!channel->wanted[i])
            continue;
        letter = letter_new(LETTER_HEAR, hub, ear, name);
        letter->message = memory_get(bytes);
        letter->bytes = bytes;
        memcpy(letter->message, message, bytes);
        loop_post(ear->loop, &letter->mail);
    }
}

static void message(struct hub *hub, uint8_t type, const uint8_t *whole, size_t total)
{
    switch (type) {
    case 'A':
        spread(hub, whole, total);
        break;
    case 'E':
        note_problem(hub, whole + FRAME_HEADER_BYTES, total - FRAME_HEADER_BYTES);
        break;
    case 'Z':
        finish_command(hub);
        break;
    default:
        break;
    }
}

static void readable(struct server *server)
{
    struct hub *hub = server->aside_owner;
    size_t size, length = hub->tail_bytes, at = 0, total;
    uint8_t *buffer = loop_buffer(server->worker->loop, &size);
    struct frame frame;
    ssize_t count;

    if (length)
        memcpy(buffer, hub->tail, length);
    count = stream_read(&server->stream, buffer + length, size - length);
    if (count <= 0) {
        if (count < 0)
            server_close(server, REASON_SERVER_CRASHED, NULL);
        return;
    }
    length += (size_t)count;
    while (frame_peek(buffer + at, length - at, UINT32_MAX, &frame) == FRAME_OK) {
        total = FRAME_HEADER_BYTES + (size_t)frame.body_bytes;
        if (total > LOOP_BUFFER_BYTES) {
            server_close(server, REASON_SERVER_PROTOCOL, "message too long for one that listens");
            return;
        }
        if (total > length - at)
            break;
        message(hub, frame.type, buffer + at, total);
        if (hub->server != server)
            return;
        at += total;
    }
    if (length - at >= FRAME_HEADER_BYTES &&
        frame_peek(buffer + at, length - at, UINT32_MAX, &frame) == FRAME_BAD) {
        server_close(server, REASON_SERVER_PROTOCOL, "bad message length");
        return;
    }
    memory_keep(&hub->tail, &hub->tail_bytes, buffer + at, length - at);
    if (stream_has_pending(&server->stream))
        stream_read_later(&server->stream);
}

static const struct server_aside listens = {ready, failed, readable, closed};

static void open_connection(struct hub *hub, struct pool *pool)
{
    struct share *share = backend_share(backend_of(pool), hub->worker);

    hub->pool = pool_ref(pool);
    hub->server = server_open_aside(share, &listens, hub);
    if (!hub->server)
        over(hub, "no host of the database can be reached");
}

/* ---- wants ---- */

static void want(struct hub *hub, unsigned index, const char *name, struct pool *pool)
{
    struct hub_channel *channel = channel_find(hub, name);

    if (channel) {
        channel->wanted[index] = true;
        if (channel->ready)
            tell(hub, index, name, NULL);
        return;
    }
    if (HASH_COUNT(hub->channels) >= HUB_CHANNELS_MAX) {
        tell(hub, index, name, "too many channels");
        return;
    }
    channel = memory_new(sizeof(*channel));
    channel->wanted = memory_new(hub->plane->worker_count * sizeof(bool));
    channel->wanted[index] = true;
    (void)text_fit(channel->name, sizeof(channel->name), name);
    HASH_ADD(hh, hub->channels, name, strlen(channel->name), channel);
    if (!hub->server)
        open_connection(hub, pool);
    else if (hub->ready)
        (void)send_listen(hub, "LISTEN", name);
}

static void unwant(struct hub *hub, unsigned index, const char *name)
{
    struct hub_channel *channel = channel_find(hub, name);

    if (!channel)
        return;
    channel->wanted[index] = false;
    for (unsigned i = 0; i < hub->plane->worker_count; i++) {
        if (channel->wanted[i])
            return;
    }
    if (channel->ready)
        (void)send_listen(hub, "UNLISTEN", name);
    if (!hub->server)
        return; /* it broke, and took the channel with it */
    channel_drop(hub, channel);
    if (!hub->channels)
        server_close(hub->server, REASON_SERVER_NOT_NEEDED, NULL);
}
