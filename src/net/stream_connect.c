/*
 * stream_connect: sockets: connecting, options, addresses, looking ahead.
 *
 * A TCP connection from a port to that very port can succeed without anybody listening, when the
 * kernel happens to choose the port of a dead server on this machine for our end. It would echo
 * what is sent and hold the port against the server, so it counts as refused.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "stream_inside.h"

bool stream_connect(struct stream *stream, struct loop *loop, const struct address *address,
                    void (*on_event)(struct stream *stream, enum stream_event event))
{
    *stream = (struct stream){.watch.fd = -1};
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        stream->error = errno;
        return false;
    }
    stream_init(stream, fd, on_event);
    int result;
    do {
        result = connect(fd, &address->any, address->length);
    } while (result < 0 && errno == EINTR);
    /* Even when it is complete already, the outcome is found where it always is. */
    stream->state = STREAM_STATE_CONNECTING;
    if ((result == 0 || errno == EINPROGRESS) && stream_attach(stream, loop))
        return true;
    int error = errno;
    stream_close(stream);
    stream->error = error;
    errno = error;
    return false;
}

static bool is_connected_to_itself(const struct stream *stream)
{
    struct address here, there;
    return stream_local_address(stream, &here) && stream_peer_address(stream, &there) &&
           !address_is_local(&here) && address_equal(&here, &there);
}

void stream_connect_finish(struct stream *stream)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(stream->watch.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error == 0 && is_connected_to_itself(stream))
        error = ECONNREFUSED;
    if (error)
        stream_fail(stream, error);
    else
        stream_become_open(stream, LATER_CONNECTED);
}

ssize_t stream_peek(struct stream *stream, void *buffer, size_t count)
{
    for (;;) {
        ssize_t there = recv(stream->watch.fd, buffer, count, MSG_PEEK);
        if (there > 0)
            return there;
        if (there == 0) {
            stream->error = 0;
            return -1;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return 0;
        if (errno != EINTR) {
            stream->error = errno;
            return -1;
        }
    }
}

void stream_tune(struct stream *stream, const struct tuning *tuning)
{
    struct address here;
    if (stream_local_address(stream, &here) && address_is_local(&here))
        tuning_buffers(stream->watch.fd, tuning);
    else
        tuning_apply(stream->watch.fd, tuning);
}

static bool address_by(int (*ask)(int, struct sockaddr *restrict, socklen_t *restrict),
                       const struct stream *stream, struct address *address)
{
    struct sockaddr_storage storage;
    socklen_t length = sizeof storage;
    if (ask(stream->watch.fd, (struct sockaddr *)&storage, &length) != 0) {
        memset(address, 0, sizeof *address);
        return false;
    }
    return address_from(address, (struct sockaddr *)&storage, length);
}

bool stream_local_address(const struct stream *stream, struct address *address)
{
    return address_by(getsockname, stream, address);
}

bool stream_peer_address(const struct stream *stream, struct address *address)
{
    return address_by(getpeername, stream, address);
}

bool stream_is_quiet(const struct stream *stream)
{
    char byte;

    if (stream->ssl && stream_has_pending(stream))
        return false;
    return recv(stream->watch.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

void stream_tune_as(struct stream *stream, const struct settings *settings)
{
    struct tuning tuning = tuning_of(settings);

    stream_tune(stream, &tuning);
}
