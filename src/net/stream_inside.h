/*
 * stream_inside: what the files of stream share. stream.c has the states and the events,
 * stream_output.c the queue, stream_tls.c OpenSSL, stream_connect.c sockets and their options.
 */
#ifndef PGSTAGE_NET_STREAM_INSIDE_H
#define PGSTAGE_NET_STREAM_INSIDE_H

#include "pgstage/net/stream.h"

enum stream_state {
    STREAM_STATE_CLOSED,
    STREAM_STATE_CONNECTING,
    STREAM_STATE_SHAKING, /* TLS handshake */
    STREAM_STATE_OPEN,
    STREAM_STATE_FAILED, /* connect or handshake failed: waits to be closed */
};

/* Bits of `later`, in the order of telling. */
enum {
    LATER_SHAKE = 1 << 0, /* begin the handshake; nothing is told */
    LATER_CONNECTED = 1 << 1,
    LATER_SECURED = 1 << 2,
    LATER_FAILED = 1 << 3,
    LATER_DRAINED = 1 << 4,
    LATER_READABLE = 1 << 5,
    LATER_CLOSED = 1 << 6,
    LATER_IO = 1 << 7, /* look again at what is unread; nothing is told of itself */
};

/* --- stream.c --- */

/* Waits for what the stream now needs. False (errno): epoll refused. */
bool stream_watch(struct stream *stream);
/* Announces `bits` through the deferred task. */
void stream_tell_later(struct stream *stream, uint8_t bits);
/* Connect or handshake is over: the state is left and the outcome is announced later. */
void stream_fail(struct stream *stream, int error);
/* The stream becomes OPEN; what was written before is sent. */
void stream_become_open(struct stream *stream, uint8_t tell);

/* --- stream_output.c --- */

/* Sends what waits, as far as the socket takes it. */
enum stream_result stream_flush(struct stream *stream);
void stream_output_free(struct stream *stream);
bool stream_has_output(const struct stream *stream);

/* --- stream_tls.c --- */

/* The most that one TLS record carries. */
#define STREAM_RECORD_BYTES 16384

/* One step of the handshake. */
void stream_shake(struct stream *stream);
/* Writes at most one record. > 0: bytes taken, 0: blocked, -1: broken (`error`). After 0 the next
 * call must begin with the same bytes and bring at least as many. */
ssize_t stream_tls_write(struct stream *stream, const void *bytes, size_t count);
ssize_t stream_tls_read(struct stream *stream, void *buffer, size_t size);
/* Says goodbye where that needs no waiting, and frees the SSL. */
void stream_tls_close(struct stream *stream);

/* --- stream_connect.c --- */

/* The socket is writable or failed. */
void stream_connect_finish(struct stream *stream);

#endif
