/*
 * stream_tls: a stream's OpenSSL calls: handshake, reading, writing, goodbye.
 *
 * The SSL sits on the descriptor itself. Each call starts with an empty error queue, since the
 * queue belongs to the thread and not to the connection. Reading or writing may ask for the other
 * direction (a key update after the handshake): read_for_write and write_for_read make stream_watch
 * wait for it.
 *
 * read_starved makes stream_has_pending exact. OpenSSL counts a record of which only half has come
 * as pending; whoever read on for that would spin until the rest arrives.
 */
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "pgstage/net/tls.h"
#include "stream_inside.h"

/* A handshake with its signature costs a millisecond; a crowd of new clients must not keep
 * everybody else waiting. One that has waited long enough gets a larger share, so that it starves
 * only on a loop that has no time for anything. */
#define SHAKE_SHARE_US (5 * CLOCK_MS)
#define SHAKE_LATE_SHARE_US (50 * CLOCK_MS)
#define SHAKE_POSTPONED_MAX 100

static void keep_problem(struct stream *stream, bool verifying)
{
    char text[256];
    tls_problem(verifying ? stream->ssl : NULL, text, sizeof text);
    free(stream->tls_problem);
    stream->tls_problem = text_copy(text);
    stream->error = EPROTO;
}

void stream_secure(struct stream *stream, SSL *ssl, bool accepting)
{
    stream->ssl = ssl;
    stream->state = STREAM_STATE_SHAKING;
    stream->read_for_write = false;
    stream->postponed = 0;
    stream->later = 0; /* what was to be told of the plain connection is over */
    ERR_clear_error();
    if (stream_has_output(stream)) {
        stream_fail(stream, EPROTO); /* plain bytes would be sent as secret ones */
        return;
    }
    if (SSL_set_fd(ssl, stream->watch.fd) != 1) {
        stream_fail(stream, ENOMEM);
        return;
    }
    if (accepting)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    if (!stream_watch(stream))
        stream_fail(stream, errno ? errno : ENOMEM);
    else if (!accepting)
        stream_tell_later(stream, LATER_SHAKE); /* the client speaks first */
}

/* The turn's clock starts when somebody first asks for it; among crowds of new clients that is
 * here.
 */
static bool turn_is_used_up(struct stream *stream)
{
    if (!SSL_is_server(stream->ssl))
        return false;
    uint64_t share_us =
        stream->postponed < SHAKE_POSTPONED_MAX ? SHAKE_SHARE_US : SHAKE_LATE_SHARE_US;
    uint64_t began_us = loop_now_us(stream->loop);
    if (clock_now_us() - began_us < share_us)
        return false;
    if (stream->postponed < SHAKE_POSTPONED_MAX)
        stream->postponed++;
    return true; /* level-triggered: it is reported again */
}

void stream_shake(struct stream *stream)
{
    if (turn_is_used_up(stream))
        return;
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(stream->ssl);
    int system_error = errno;
    if (result == 1) {
        stream->read_for_write = false;
        stream_become_open(stream, LATER_SECURED);
        return;
    }
    int reason = SSL_get_error(stream->ssl, result);
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE) {
        stream->read_for_write = reason == SSL_ERROR_WANT_WRITE;
        if (!stream_watch(stream))
            stream_fail(stream, errno ? errno : ENOMEM);
    } else if (reason == SSL_ERROR_SYSCALL && system_error && ERR_peek_error() == 0) {
        stream_fail(stream, system_error);
    } else {
        if (ERR_peek_error() == 0)
            ERR_raise(ERR_LIB_SSL, SSL_R_UNEXPECTED_EOF_WHILE_READING);
        bool ended = ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
        keep_problem(stream, true);
        stream_fail(stream, ended ? ECONNRESET : EPROTO);
    }
}

/* What one SSL_read that gave nothing means: 0 nothing now, -1 end or failure. */
static int read_outcome(struct stream *stream, int result, int system_error)
{
    switch (SSL_get_error(stream->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        stream->read_starved = true;
        return 0;
    case SSL_ERROR_WANT_WRITE:
        stream->read_starved = true;
        stream->read_for_write = true;
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        stream->error = 0;
        return -1;
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error() == 0) {
            stream->error = system_error;
            return -1;
        }
        break;
    }
    keep_problem(stream, false);
    stream->write_broken = true;
    return -1;
}

ssize_t stream_tls_read(struct stream *stream, void *buffer, size_t size)
{
    if (stream->read_ended)
        return -1;
    bool waited_for_write = stream->read_for_write;
    stream->read_for_write = false;
    size_t count = 0;
    int outcome = 1;
    while (outcome > 0 && count < size) {
        size_t got = 0;
        ERR_clear_error();
        errno = 0;
        int result = SSL_read_ex(stream->ssl, (uint8_t *)buffer + count, size - count, &got);
        int system_error = errno;
        if (result == 1) {
            count += got;
            stream->read_starved = false;
            if (!SSL_has_pending(stream->ssl))
                break;
        } else {
            outcome = read_outcome(stream, result, system_error);
        }
    }
    if (waited_for_write != stream->read_for_write && !stream_watch(stream)) {
        stream->error = errno ? errno : ENOMEM;
        outcome = -1;
    }
    if (outcome < 0) {
        stream->read_ended = true; /* no event would announce it again */
        if (count == 0)
            return -1;
        stream_read_later(stream);
    }
    return (ssize_t)count;
}

ssize_t stream_tls_write(struct stream *stream, const void *bytes, size_t count)
{
    size_t taken = 0;
    stream->write_for_read = false;
    ERR_clear_error();
    errno = 0;
    int result = SSL_write_ex(stream->ssl, bytes, count, &taken);
    int system_error = errno;
    if (result == 1)
        return (ssize_t)taken;
    switch (SSL_get_error(stream->ssl, result)) {
    case SSL_ERROR_WANT_WRITE:
        return 0;
    case SSL_ERROR_WANT_READ:
        stream->write_for_read = true;
        return 0;
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error() == 0) {
            stream->error = system_error ? system_error : EPIPE;
            return -1;
        }
        break;
    }
    keep_problem(stream, false);
    return -1;
}

void stream_tls_close(struct stream *stream)
{
    if (!stream->ssl)
        return;
    ERR_clear_error();
    if (stream->state == STREAM_STATE_OPEN && !stream->write_broken && !stream_has_output(stream))
        (void)SSL_shutdown(stream->ssl);
    SSL_free(stream->ssl);
    ERR_clear_error();
    stream->ssl = NULL;
}
