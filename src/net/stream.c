/*
 * stream: states, events and the life of a connection.
 *
 *   stream_connect ─► CONNECTING ─┐                    ┌─► (stream_secure) SHAKING ─► OPEN, with
 * TLS stream_init ──────────────────┴─► OPEN ────────────┘ failures of CONNECTING and SHAKING ─►
 * FAILED, until stream_close
 *
 * stream_watch alone changes what a stream waits for. A plain connection is watched edge-triggered:
 * to look at each socket a second time, as epoll does when it is level-triggered, costs a query
 * some per cent (doc/benchmarks.md). So `unread` remembers that the socket may hold what no event will announce, until a read
 * gives less than was asked for. An owner need not know: when it leaves something, reads nothing at
 * all, or resumes, LATER_IO does what the second look would have done.
 *
 * TLS keeps bytes of its own and stays level-triggered. Pausing only sets a flag: the watch moves
 * when bytes come all the same. It then waits for EPOLLRDHUP, edge-triggered, since an end stays.
 *
 * One callback at most for each event of the loop or run of the task, and always as the last thing
 * done: the owner may have closed the stream, or opened another connection in it. What else is to
 * be told goes through the task, as bits of `later`.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pgstage/base/check.h"
#include "pgstage/base/kernel.h"
#include "pgstage/base/text.h"
#include "stream_inside.h"

/* The plain stream whose owner is being told that it is readable, until nothing is left for the
 * owner's next time. Not a flag in the stream: that may belong to another thread when its owner
 * returns. */
static _Thread_local struct stream *being_read;

static void leave_alone(struct stream *stream)
{
    if (being_read == stream)
        being_read = NULL;
}

/* 0: nothing. */
static uint32_t wanted(const struct stream *stream)
{
    switch ((enum stream_state)stream->state) {
    case STREAM_STATE_CLOSED:
    case STREAM_STATE_FAILED:
        return 0;
    case STREAM_STATE_CONNECTING:
        return EPOLLOUT;
    case STREAM_STATE_SHAKING:
        return stream->read_for_write ? EPOLLOUT : EPOLLIN;
    case STREAM_STATE_OPEN:
        break;
    }
    uint32_t write = stream->blocked && !stream->write_for_read ? EPOLLOUT : 0;
    if (!stream->ssl)
        return EPOLLIN | EPOLLRDHUP | EPOLLET | write;
    if (stream->read_held && !stream->write_for_read)
        return EPOLLRDHUP | EPOLLET | write;
    return EPOLLIN | write | (stream->read_for_write ? EPOLLOUT : 0);
}

bool stream_watch(struct stream *stream)
{
    if (!stream->loop)
        return true;
    uint32_t events = wanted(stream);
    if (events)
        return loop_watch(stream->loop, &stream->watch, events);
    loop_unwatch(stream->loop, &stream->watch);
    return true;
}

/* Changes the watch where nobody can be told at once that it failed (epoll is out of memory). */
static void watch_or_fail(struct stream *stream)
{
    if (!stream_watch(stream))
        stream_fail(stream, errno ? errno : ENOMEM);
}

void stream_tell_later(struct stream *stream, uint8_t bits)
{
    stream->later |= bits;
    if (stream->loop)
        loop_defer(stream->loop, &stream->task);
}

void stream_fail(struct stream *stream, int error)
{
    stream->error = error;
    stream->state = STREAM_STATE_FAILED;
    stream->write_broken = true;
    stream_output_free(stream);
    (void)stream_watch(stream); /* ends the watch: that cannot fail */
    stream->later = 0;
    stream_tell_later(stream, LATER_FAILED);
}

void stream_become_open(struct stream *stream, uint8_t tell)
{
    stream->state = STREAM_STATE_OPEN;
    if (stream_has_output(stream) && !stream->corked) {
        enum stream_result result = stream_flush(stream);
        if (result == STREAM_BROKEN)
            tell |= LATER_FAILED;
        else if (result == STREAM_DONE)
            tell |= LATER_DRAINED;
    }
    if (stream_has_pending(stream))
        tell |= LATER_READABLE;
    if (!stream_watch(stream))
        stream_fail(stream, errno ? errno : ENOMEM);
    else
        stream_tell_later(stream, tell);
}

/* The last act of its caller. */
static void tell_readable(struct stream *stream)
{
    if (stream->ssl || !stream->unread) {
        stream->on_event(stream, STREAM_READABLE);
        return;
    }
    being_read = stream;
    stream->on_event(stream, STREAM_READABLE);
    if (being_read) { /* it is still ours then, and open */
        being_read = NULL;
        stream_tell_later(stream, LATER_IO);
    }
}

/* Tells the first thing that waits; the last act of its caller. */
static void tell(struct stream *stream)
{
    static const enum stream_event events[] = {
        [1] = STREAM_CONNECTED, [2] = STREAM_SECURED,  [3] = STREAM_FAILED,
        [4] = STREAM_DRAINED,   [5] = STREAM_READABLE, [6] = STREAM_CLOSED,
    };
    if (stream->blocked)
        stream->later &= (uint8_t)~LATER_DRAINED;     /* more was written since */
    uint8_t now = stream->later & (uint8_t)~LATER_IO; /* run_task's */
    if (stream->read_paused)
        now &= (uint8_t)~LATER_READABLE; /* stream_resume looks again */
    else
        now &= (uint8_t)~LATER_CLOSED; /* being readable will tell the end */
    if (now == 0)
        return;
    unsigned bit = (unsigned)__builtin_ctz(now);
    stream->later &= (uint8_t) ~(1u << bit);
    if (now & (now - 1))
        loop_defer(stream->loop, &stream->task);
    if (1u << bit == LATER_FAILED)
        stream->close_told = true;
    if (1u << bit == LATER_READABLE)
        tell_readable(stream);
    else
        stream->on_event(stream, events[bit]);
}

static void note_paused(struct stream *stream, bool readable, uint32_t events)
{
    if (stream->ssl && !stream->read_held) {
        stream->read_held = readable;
    } else if (!stream->close_told && (events & EPOLLRDHUP)) {
        stream->close_told = true;
        stream->later |= LATER_CLOSED;
    }
}

static void on_open_io(struct stream *stream, uint32_t events)
{
    stream->later &= (uint8_t)~LATER_IO;
    if (events & EPOLLRDHUP)
        stream->peer_left = true;
    if (events & EPOLLIN) {
        stream->read_starved = false;
        stream->unread = true;
    }
    bool readable = (events & EPOLLIN) || (stream->read_for_write && (events & EPOLLOUT));

    if (stream->blocked && (events & (stream->write_for_read ? EPOLLIN : EPOLLOUT))) {
        enum stream_result result = stream_flush(stream);
        if (result == STREAM_BROKEN)
            stream->later |= LATER_FAILED;
        else if (result == STREAM_DONE)
            stream->later |= LATER_DRAINED;
    }
    if (stream->read_paused)
        note_paused(stream, readable, events);
    else if (readable)
        stream->later |= LATER_READABLE;
    watch_or_fail(stream);
    tell(stream);
}

/* What epoll would say again of what is still unread. */
static void run_io(struct stream *stream)
{
    stream->later &= (uint8_t)~LATER_IO;
    if (stream->state == STREAM_STATE_OPEN && !stream->ssl && stream->unread)
        on_open_io(stream, EPOLLIN | (stream->peer_left ? EPOLLRDHUP : 0));
    else
        tell(stream);
}

static void run_task(struct loop_task *task)
{
    struct stream *stream = list_entry(task, struct stream, task);
    if (stream->later & LATER_SHAKE) {
        stream->later &= (uint8_t)~LATER_SHAKE;
        if (stream->state == STREAM_STATE_SHAKING)
            stream_shake(stream);
    }
    if (stream->later & LATER_IO)
        run_io(stream);
    else
        tell(stream);
}

/* The way of nearly every query and answer: nothing else is to be told, done or waited for. */
static bool is_plainly_readable(const struct stream *stream, uint32_t events)
{
    return events == EPOLLIN && stream->state == STREAM_STATE_OPEN && !stream->read_paused &&
           !stream->blocked && !stream->later;
}

static void on_io(struct loop_watch *watch, uint32_t events)
{
    struct stream *stream = list_entry(watch, struct stream, watch);
    if (is_plainly_readable(stream, events)) {
        stream->read_starved = false;
        stream->unread = true;
        tell_readable(stream);
        return;
    }
    if (events & (EPOLLERR | EPOLLHUP)) /* reading and writing will say what it is */
        events |= EPOLLIN | EPOLLOUT | EPOLLRDHUP;
    switch ((enum stream_state)stream->state) {
    case STREAM_STATE_CONNECTING:
        stream_connect_finish(stream);
        tell(stream);
        break;
    case STREAM_STATE_SHAKING:
        stream_shake(stream);
        tell(stream);
        break;
    case STREAM_STATE_OPEN:
        on_open_io(stream, events);
        break;
    case STREAM_STATE_CLOSED:
    case STREAM_STATE_FAILED:
        break; /* not watched */
    }
}

void stream_adopt(struct stream *stream, int fd,
                  void (*on_event)(struct stream *stream, enum stream_event event))
{
    *stream = (struct stream){.watch = {.ready = on_io, .fd = fd},
                              .state = STREAM_STATE_OPEN,
                              .on_event = on_event,
                              .task = {.run = run_task}};
}

void stream_init(struct stream *stream, int fd,
                 void (*on_event)(struct stream *stream, enum stream_event event))
{
    stream_adopt(stream, fd, on_event);
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && !(flags & O_NONBLOCK))
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    int on = 1; /* fails on a Unix socket, which needs none */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

bool stream_attach(struct stream *stream, struct loop *loop)
{
    check(!stream->loop);
    stream->loop = loop;
    stream->read_held = stream->read_paused;
    stream->close_told = false;
    if (!stream_watch(stream)) {
        stream->loop = NULL;
        return false;
    }
    if (stream_has_pending(stream))
        stream->later |= LATER_READABLE;
    if (stream->later)
        loop_defer(loop, &stream->task);
    return true;
}

void stream_detach(struct stream *stream)
{
    if (!stream->loop)
        return;
    check(!stream_has_output(stream));
    loop_unwatch(stream->loop, &stream->watch);
    loop_undefer(stream->loop, &stream->task);
    stream->loop = NULL;
    leave_alone(stream);
}

void stream_close(struct stream *stream)
{
    if (stream->state == STREAM_STATE_CLOSED)
        return;
    stream_tls_close(stream); /* looks at the state, and at what waits */
    stream_output_free(stream);
    stream_detach(stream);
    close(stream->watch.fd);
    stream->watch.fd = -1;
    stream->later = 0;
    stream->state = STREAM_STATE_CLOSED;
    free(stream->tls_problem);
    stream->tls_problem = NULL;
}

void stream_abort(struct stream *stream)
{
    struct linger none = {.l_onoff = 1};
    if (stream->watch.fd >= 0)
        (void)setsockopt(stream->watch.fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

static void note_read(struct stream *stream, bool all)
{
    stream->unread = !all;
    if (all)
        leave_alone(stream);
}

ssize_t stream_read(struct stream *stream, void *buffer, size_t size)
{
    if (stream->state == STREAM_STATE_CLOSED || stream->state == STREAM_STATE_FAILED)
        return -1;
    if (stream->state != STREAM_STATE_OPEN || size == 0)
        return 0;
    if (stream->ssl)
        return stream_tls_read(stream, buffer, size);
    ssize_t count;
    do {
        count = kernel_recv(stream->watch.fd, buffer, size, 0);
    } while (count < 0 && errno == EINTR);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        note_read(stream, true);
        return 0;
    }
    if (count > 0) {
        /* more than what epoll has told of came in meanwhile: that is an event of its own */
        note_read(stream, (size_t)count < size && !stream->peer_left);
        return count;
    }
    stream->error = count == 0 ? 0 : errno;
    stream->peer_left = true;
    note_read(stream, false);
    return -1;
}

bool stream_has_pending(const struct stream *stream)
{
    if (!stream->ssl || stream->state != STREAM_STATE_OPEN)
        return false;
    return stream->read_ended || (!stream->read_starved && SSL_has_pending(stream->ssl));
}

void stream_read_later(struct stream *stream)
{
    if (stream->state == STREAM_STATE_OPEN)
        stream_tell_later(stream, LATER_READABLE);
}

void stream_read_soon(struct stream *stream)
{
    leave_alone(stream);
}

void stream_reread(struct stream *stream)
{
    if (stream->unread && !stream->ssl && !stream->read_paused)
        stream_tell_later(stream, LATER_IO);
}

void stream_pause(struct stream *stream)
{
    stream->read_paused = true;
}

void stream_resume(struct stream *stream)
{
    if (!stream->read_paused)
        return;
    stream->read_paused = false;
    stream->read_held = false;
    stream->later &= (uint8_t)~LATER_CLOSED;
    if (stream->state != STREAM_STATE_FAILED)
        stream->close_told = false;
    if (stream->state == STREAM_STATE_OPEN)
        watch_or_fail(stream);
    if (stream_has_pending(stream))
        stream->later |= LATER_READABLE;
    if (!stream->ssl && stream->unread)
        stream->later |= LATER_IO;
    if (stream->later && stream->loop)
        loop_defer(stream->loop, &stream->task);
}

const char *stream_problem(const struct stream *stream, char *text, size_t size)
{
    if (size == 0)
        return "";
    char buffer[128];
    const char *words = "the connection has ended";
    if (stream->tls_problem)
        words = stream->tls_problem;
    else if (stream->error)
        words = strerror_r(stream->error, buffer, sizeof buffer);
    (void)text_fit(text, size, words);
    return text;
}
