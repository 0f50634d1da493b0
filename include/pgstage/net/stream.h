/*
 * stream: one non-blocking connection, plain or TLS, with backpressure.
 *
 *          read ──► stream_read ──► the caller's buffer        (nothing is kept here)
 *   stream_write ──► writev/SSL_write at once ──► what the socket does not take waits in `output`
 *
 * An idle stream owns no buffer: `output` exists only while bytes wait. It stands in epoll for
 * reading from attach to detach; pausing switches it to EV_CLOSED, so that a peer who leaves is still
 * seen. Callbacks come from the loop; a callback may close the stream (the memory of its owner is
 * released at the end of the turn). All functions: the owning loop's thread.
 */
#ifndef PGSTAGE_NET_STREAM_H
#define PGSTAGE_NET_STREAM_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "pgstage/net/address.h"

struct loop;
struct tls_context;
struct stream_output;

enum stream_event {
    STREAM_READABLE,  /* bytes (or the end) can be read */
    STREAM_DRAINED,   /* everything that was queued has been written */
    STREAM_CONNECTED, /* stream_connect succeeded */
    STREAM_SECURED,   /* the TLS handshake is complete and verified */
    STREAM_CLOSED,    /* the peer left while reading was paused */
    STREAM_FAILED,    /* connect, handshake or a queued write failed: see stream_problem */
};

struct stream {
    /* owner */
    int fd; /* -1: closed */
    uint8_t state;
    bool read_paused;
    bool corked;
    SSL *ssl; /* NULL: plain */
    struct loop *loop; /* NULL: detached */
    void (*on_event)(struct stream *stream, enum stream_event event);
    struct stream_output *output; /* NULL: nothing waits */
    struct event event;
    int error; /* errno of the last failure, 0: see the TLS problem */
};

enum stream_result {
    STREAM_DONE,   /* all of it is in the kernel */
    STREAM_QUEUED, /* some of it waits: pause the source until STREAM_DRAINED */
    STREAM_BROKEN, /* the connection is unusable */
};

/* Takes over `fd` (made non-blocking, TCP_NODELAY when TCP), detached. */
void stream_init(struct stream *stream, int fd,
                 void (*on_event)(struct stream *stream, enum stream_event event));
/* Starts watching on a loop. When decrypted bytes wait inside OpenSSL a STREAM_READABLE follows. */
bool stream_attach(struct stream *stream, struct loop *loop) __attribute__((warn_unused_result));
/* Stops watching; the stream may then be handed to another thread and attached there. Requires that
 * nothing is queued for output. */
void stream_detach(struct stream *stream);
/* Detaches, shuts TLS down as far as that needs no waiting, closes the descriptor, frees what waits.
 * Harmless when closed already. */
void stream_close(struct stream *stream);
static inline bool stream_is_open(const struct stream *stream)
{
    return stream->fd >= 0;
}

/* Begins to connect; STREAM_CONNECTED or STREAM_FAILED follows. False: failed at once (errno). The
 * stream is initialised and attached by this. Keepalive and tcp_user_timeout are set by the caller
 * through stream_tune. */
bool stream_connect(struct stream *stream, struct loop *loop, const struct address *address,
                    void (*on_event)(struct stream *stream, enum stream_event event))
    __attribute__((warn_unused_result));
/* TLS with this SSL (owned by the stream from now on); `accepting` says which side. Bytes already
 * buffered in the kernel before the handshake are the handshake's. STREAM_SECURED or STREAM_FAILED. */
void stream_secure(struct stream *stream, SSL *ssl, bool accepting);

/* Up to `size` bytes. > 0: that many; 0: nothing now; -1: end or failure (`error` 0 for a clean end
 * or an unclean TLS end, else an errno). */
ssize_t stream_read(struct stream *stream, void *buffer, size_t size);
/* Are there decrypted bytes that epoll cannot announce? After a short read the caller must ask (or
 * loop until stream_read gives 0). */
bool stream_has_pending(const struct stream *stream);
/* Reading again in this turn is wanted though epoll will not say so: STREAM_READABLE comes by the
 * loop's deferred work. */
void stream_read_later(struct stream *stream);
/* Writes behind what waits. Never blocks, never cuts: either all is taken (written or queued) or the
 * stream is broken. */
enum stream_result stream_write(struct stream *stream, const void *bytes, size_t count);
enum stream_result stream_writev(struct stream *stream, const struct iovec *pieces, int count);
/* Bytes that wait for the socket. */
size_t stream_queued_bytes(const struct stream *stream);
/* While corked, writes are only collected; uncorking sends them in one write. */
void stream_cork(struct stream *stream);
enum stream_result stream_uncork(struct stream *stream);

/* No STREAM_READABLE until resumed; STREAM_CLOSED still comes. Idempotent. */
void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream);

/* Without consuming: the first `count` bytes that have arrived, for telling TLS from a startup packet
 * (plain only). Returns how many there are, 0 none yet, -1 end. */
ssize_t stream_peek(struct stream *stream, void *buffer, size_t count);

struct stream_tuning {
    bool keepalive;
    int keepidle_s, keepintvl_s, keepcnt; /* 0: the system's */
    int user_timeout_ms;                  /* 0: the system's */
    int socket_buffer_bytes;              /* 0: the system's */
};
void stream_tune(struct stream *stream, const struct stream_tuning *tuning);
bool stream_local_address(const struct stream *stream, struct address *address);
bool stream_peer_address(const struct stream *stream, struct address *address);
/* What went wrong, for the log: errno's text or the TLS problem; `text` is returned. */
const char *stream_problem(const struct stream *stream, char *text, size_t size);

#endif
