/*
 * stream_output: writing, and what waits when the socket takes no more.
 *
 *   stream_write ─► socket          nothing waits: straight from the caller's bytes
 *        └─ the rest ─► [chunk]─►[chunk]─►[chunk] ─► socket, when it is writable
 *                                          ▲
 *   later writes and corked ones ──────────┘ behind it, so the order stays
 *
 * A chunk is a copy of exactly what is left (small ones get room for a few more), so what a stream
 * holds is bounded by its owner, who pauses the source on STREAM_QUEUED. `output` and its chunks
 * are freed as soon as they are empty.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/kernel.h"
#include "pgstage/base/memory.h"
#include "stream_inside.h"

/* Room that a chunk has at least: pipelined messages come in dozens of bytes. */
#define CHUNK_SMALLEST_BYTES 1000
/* Pieces that one sendmsg gathers. */
#define PIECES_AT_ONCE 64

struct chunk {
    struct chunk *next;
    size_t start, end, capacity;
    uint8_t bytes[];
};

struct stream_output {
    struct chunk *first, *last;
    size_t bytes;
};

/* A place in the caller's pieces. */
struct cursor {
    const struct iovec *pieces;
    int count;     /* pieces from here on */
    size_t offset; /* in the first of them */
    size_t left;
};

static struct cursor cursor_at(const struct iovec *pieces, int count)
{
    struct cursor cursor = {.pieces = pieces, .count = count};
    for (int i = 0; i < count; i++)
        cursor.left += pieces[i].iov_len;
    return cursor;
}

/* The bytes here that lie together; `size` is more than 0 unless nothing is left. */
static const uint8_t *cursor_bytes(struct cursor *cursor, size_t *size)
{
    while (cursor->count > 0 && cursor->offset == cursor->pieces[0].iov_len) {
        cursor->pieces++;
        cursor->count--;
        cursor->offset = 0;
    }
    if (cursor->count == 0) {
        *size = 0;
        return NULL;
    }
    *size = cursor->pieces[0].iov_len - cursor->offset;
    return (const uint8_t *)cursor->pieces[0].iov_base + cursor->offset;
}

static void cursor_skip(struct cursor *cursor, size_t bytes)
{
    while (bytes > 0) {
        size_t here;
        (void)cursor_bytes(cursor, &here);
        size_t step = here < bytes ? here : bytes;
        cursor->offset += step;
        cursor->left -= step;
        bytes -= step;
    }
}

static void cursor_copy(struct cursor *cursor, uint8_t *target, size_t count)
{
    while (count > 0) {
        size_t here;
        const uint8_t *bytes = cursor_bytes(cursor, &here);
        size_t step = here < count ? here : count;
        memcpy(target, bytes, step);
        target += step;
        count -= step;
        cursor_skip(cursor, step);
    }
}

bool stream_has_output(const struct stream *stream)
{
    return stream->output != NULL;
}

size_t stream_queued_bytes(const struct stream *stream)
{
    return stream->output ? stream->output->bytes : 0;
}

void stream_output_free(struct stream *stream)
{
    stream->blocked = false;
    if (!stream->output)
        return;
    for (struct chunk *chunk = stream->output->first, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    free(stream->output);
    stream->output = NULL;
}

/* Copies all that is left behind what waits. */
static void append(struct stream *stream, struct cursor *cursor)
{
    if (cursor->left == 0)
        return;
    if (!stream->output)
        stream->output = memory_new(sizeof *stream->output);
    struct stream_output *output = stream->output;
    output->bytes += cursor->left;
    struct chunk *last = output->last;
    if (last && last->end < last->capacity) {
        size_t room = last->capacity - last->end;
        size_t count = cursor->left < room ? cursor->left : room;
        cursor_copy(cursor, last->bytes + last->end, count);
        last->end += count;
    }
    if (cursor->left == 0)
        return;
    size_t capacity = cursor->left > CHUNK_SMALLEST_BYTES ? cursor->left : CHUNK_SMALLEST_BYTES;
    struct chunk *chunk = memory_get(sizeof *chunk + capacity);
    *chunk = (struct chunk){.end = cursor->left, .capacity = capacity};
    cursor_copy(cursor, chunk->bytes, cursor->left);
    *(last ? &last->next : &output->first) = chunk;
    output->last = chunk;
}

static void consume(struct stream_output *output, size_t bytes)
{
    output->bytes -= bytes;
    while (bytes > 0) {
        struct chunk *chunk = output->first;
        size_t here = chunk->end - chunk->start;
        if (bytes < here) {
            chunk->start += bytes;
            return;
        }
        bytes -= here;
        output->first = chunk->next;
        if (!output->first)
            output->last = NULL;
        free(chunk);
    }
}

/* > 0: that many bytes, 0: the socket takes nothing now, -1: broken. */
static ssize_t plain_send(struct stream *stream, const struct iovec *pieces, int count)
{
    for (;;) {
        ssize_t sent;
        if (count == 1) {
            sent = kernel_send(stream->watch.fd, pieces->iov_base, pieces->iov_len, MSG_NOSIGNAL);
        } else {
            struct msghdr message = {.msg_iov = (struct iovec *)pieces,
                                     .msg_iovlen = (size_t)count};
            sent = sendmsg(stream->watch.fd, &message, MSG_NOSIGNAL);
        }
        if (sent >= 0)
            return sent;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return 0;
        if (errno != EINTR) {
            stream->error = errno;
            return -1;
        }
    }
}

/* Sends from the caller's pieces; on 0 and -1 the cursor stands where it stopped. */
static ssize_t plain_send_pieces(struct stream *stream, struct cursor *cursor)
{
    struct iovec gathered[PIECES_AT_ONCE];
    while (cursor->left > 0) {
        size_t offered = 0;
        (void)cursor_bytes(cursor, &offered); /* steps over empty pieces */
        const struct iovec *pieces = cursor->pieces;
        int count = cursor->count < PIECES_AT_ONCE ? cursor->count : PIECES_AT_ONCE;
        if (cursor->offset > 0) {
            memcpy(gathered, pieces, (size_t)count * sizeof gathered[0]);
            gathered[0].iov_base = (uint8_t *)gathered[0].iov_base + cursor->offset;
            gathered[0].iov_len -= cursor->offset;
            pieces = gathered;
        }
        for (int i = 1; i < count; i++)
            offered += pieces[i].iov_len;
        ssize_t sent = plain_send(stream, pieces, count);
        if (sent < 0)
            return -1;
        cursor_skip(cursor, (size_t)sent);
        if ((size_t)sent < offered)
            return 0; /* the socket is full: asking again would only give EAGAIN */
    }
    return 1;
}

/* The same through TLS. Small pieces are put together, so that they make one record. */
static ssize_t tls_send_pieces(struct stream *stream, struct cursor *cursor)
{
    uint8_t record[STREAM_RECORD_BYTES];
    while (cursor->left > 0) {
        size_t count;
        const uint8_t *bytes = cursor_bytes(cursor, &count);
        if (count < STREAM_RECORD_BYTES && count < cursor->left) {
            struct cursor ahead = *cursor;
            count = cursor->left < sizeof record ? cursor->left : sizeof record;
            cursor_copy(&ahead, record, count);
            bytes = record;
        }
        ssize_t taken = stream_tls_write(stream, bytes, count);
        if (taken <= 0)
            return taken;
        cursor_skip(cursor, (size_t)taken);
    }
    return 1;
}

static ssize_t plain_send_output(struct stream *stream)
{
    struct iovec pieces[PIECES_AT_ONCE];
    int count = 0;
    for (struct chunk *chunk = stream->output->first; chunk && count < PIECES_AT_ONCE;
         chunk = chunk->next)
        pieces[count++] = (struct iovec){.iov_base = chunk->bytes + chunk->start,
                                         .iov_len = chunk->end - chunk->start};
    return plain_send(stream, pieces, count);
}

/* A record that OpenSSL could not send must be offered again with the same first bytes and no fewer
 * of them. It is: the queue keeps its head and only grows at its end. */
static ssize_t tls_send_output(struct stream *stream)
{
    uint8_t record[STREAM_RECORD_BYTES];
    struct chunk *chunk = stream->output->first;
    size_t here = chunk->end - chunk->start;
    if (here >= sizeof record || !chunk->next)
        return stream_tls_write(stream, chunk->bytes + chunk->start, here);
    size_t count = 0;
    for (; chunk && count < sizeof record; chunk = chunk->next) {
        size_t room = sizeof record - count;
        here = chunk->end - chunk->start;
        if (here > room)
            here = room;
        memcpy(record + count, chunk->bytes + chunk->start, here);
        count += here;
    }
    return stream_tls_write(stream, record, count);
}

enum stream_result stream_flush(struct stream *stream)
{
    while (stream->output && stream->output->bytes > 0) {
        ssize_t sent = stream->ssl ? tls_send_output(stream) : plain_send_output(stream);
        if (sent < 0) {
            stream->write_broken = true;
            stream_output_free(stream);
            return STREAM_BROKEN;
        }
        if (sent == 0) {
            stream->blocked = true;
            return STREAM_QUEUED;
        }
        stream->sent_bytes += (size_t)sent;
        consume(stream->output, (size_t)sent);
    }
    stream_output_free(stream);
    return STREAM_DONE;
}

/* The caller learns of the broken stream from the result; no event follows. */
static enum stream_result broken(struct stream *stream)
{
    stream->write_broken = true;
    stream_output_free(stream);
    (void)stream_watch(stream);
    return STREAM_BROKEN;
}

/* The queue is kept though nothing may ever say that the socket is writable: refuse. */
static enum stream_result wait_for_socket(struct stream *stream)
{
    stream->blocked = true;
    if (stream_watch(stream))
        return STREAM_QUEUED;
    stream->error = errno ? errno : ENOMEM;
    return broken(stream);
}

/* One piece to a socket for which nothing waits: the way of nearly every query and answer. */
static enum stream_result write_plain(struct stream *stream, const void *bytes, size_t count)
{
    struct iovec piece = {.iov_base = (void *)bytes, .iov_len = count};
    stream->offered_bytes += count;
    if (count == 0)
        return STREAM_DONE;
    ssize_t sent = plain_send(stream, &piece, 1);
    if (sent < 0)
        return broken(stream);
    stream->sent_bytes += (size_t)sent;
    if ((size_t)sent == count)
        return STREAM_DONE;
    struct cursor cursor = cursor_at(&piece, 1);
    cursor_skip(&cursor, (size_t)sent);
    append(stream, &cursor);
    return wait_for_socket(stream);
}

enum stream_result stream_writev(struct stream *stream, const struct iovec *pieces, int count)
{
    if (stream->write_broken || stream->state == STREAM_STATE_CLOSED)
        return STREAM_BROKEN;
    if (count == 1 && !stream->ssl && !stream->output && !stream->corked &&
        stream->state == STREAM_STATE_OPEN)
        return write_plain(stream, pieces->iov_base, pieces->iov_len);
    struct cursor cursor = cursor_at(pieces, count);
    size_t offered = cursor.left;
    stream->offered_bytes += offered;
    if (stream->output || stream->corked || stream->state != STREAM_STATE_OPEN) {
        append(stream, &cursor);
        return stream->blocked ? STREAM_QUEUED : STREAM_DONE;
    }
    ssize_t sent =
        stream->ssl ? tls_send_pieces(stream, &cursor) : plain_send_pieces(stream, &cursor);
    stream->sent_bytes += offered - cursor.left;
    if (sent > 0)
        return STREAM_DONE;
    if (sent < 0)
        return broken(stream);
    append(stream, &cursor);
    return wait_for_socket(stream);
}

enum stream_result stream_write(struct stream *stream, const void *bytes, size_t count)
{
    struct iovec piece = {.iov_base = (void *)bytes, .iov_len = count};
    return stream_writev(stream, &piece, 1);
}

void stream_cork(struct stream *stream)
{
    stream->corked = true;
}

enum stream_result stream_uncork(struct stream *stream)
{
    stream->corked = false;
    if (stream->write_broken || stream->state == STREAM_STATE_CLOSED)
        return STREAM_BROKEN;
    if (!stream->output)
        return STREAM_DONE;
    if (stream->blocked || stream->state != STREAM_STATE_OPEN)
        return STREAM_QUEUED;
    switch (stream_flush(stream)) {
    case STREAM_DONE:
        return STREAM_DONE;
    case STREAM_QUEUED:
        return wait_for_socket(stream);
    default:
        return broken(stream);
    }
}
