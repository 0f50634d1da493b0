/*
 * stream: one non-blocking connection, plain or TLS, with backpressure.
 *
 *          read ──► stream_read ──► the caller's buffer        (nothing is kept here)
 *   stream_write ──► sendmsg/SSL_write at once ──► what the socket does not take waits in `output`
 *
 * An idle stream owns no buffer: `output` exists only while bytes wait. It stands in epoll for
 * reading from attach to detach, also while it is paused, so that a peer who leaves is still seen.
 * Callbacks come from the loop, never from inside a call of these functions; a callback may close
 * this or any other stream (the memory of its owner is released at the end of the turn), and none
 * comes after stream_close. All functions: the owning loop's thread. The process must ignore
 * SIGPIPE: OpenSSL writes with write(2).
 */
#ifndef PGSTAGE_NET_STREAM_H
#define PGSTAGE_NET_STREAM_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "pgstage/net/address.h"
#include "pgstage/net/tuning.h"
#include "pgstage/worker/loop.h"

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
    struct loop_watch watch; /* `fd` -1: closed */
    int error;               /* errno of the last failure, 0: see the TLS problem */
    uint8_t state;           /* stream.c's; 0: closed, so a zeroed struct is a closed stream */
    uint8_t later;           /* stream.c's: what the deferred task will announce */
    uint8_t postponed;       /* turns that this handshake has waited for */
    bool read_paused;        /* by the owner */
    bool unread;             /* plain: the socket may hold what no event will announce */
    bool peer_left;          /* plain: and its end */
    bool read_held;          /* TLS: paused, and taken out of epoll, because bytes came */
    bool close_told;         /* STREAM_CLOSED or STREAM_FAILED was announced */
    bool corked;             /* by the owner */
    bool blocked;            /* `output` waits for the socket */
    bool read_ended;         /* TLS: the next read tells the end or the failure */
    bool read_starved;       /* TLS: nothing whole is left until the socket is readable again */
    bool read_for_write;     /* TLS: reading goes on when the socket is writable */
    bool write_for_read;     /* TLS: writing goes on when the socket is readable */
    bool write_broken;       /* nothing can be sent any more */
    uint64_t offered_bytes;  /* given to stream_write so far … */
    uint64_t
        sent_bytes; /* … and how many of them the socket (or TLS) has taken; stay when closed */
    SSL *ssl;       /* NULL: plain */
    char *tls_problem; /* NULL: none; of the last TLS failure */
    struct loop *loop; /* NULL: detached */
    void (*on_event)(struct stream *stream, enum stream_event event);
    struct stream_output *output; /* NULL: nothing waits */
    struct loop_task task;
};

enum stream_result {
    STREAM_DONE,   /* all of it is in the kernel */
    STREAM_QUEUED, /* some of it waits: pause the source until STREAM_DRAINED */
    STREAM_BROKEN, /* the connection is unusable */
};

/* Takes over `fd` (made non-blocking, TCP_NODELAY when TCP), detached. */
void stream_init(struct stream *stream, int fd,
                 void (*on_event)(struct stream *stream, enum stream_event event));
/* The same for a descriptor that is all this already, as a listener gives it. */
void stream_adopt(struct stream *stream, int fd,
                  void (*on_event)(struct stream *stream, enum stream_event event));
/* Starts watching on a loop. When decrypted bytes wait inside OpenSSL a STREAM_READABLE follows. */
bool stream_attach(struct stream *stream, struct loop *loop) __attribute__((warn_unused_result));
/* Stops watching; the stream may then be handed to another thread and attached there. Requires that
 * nothing is queued for output. */
void stream_detach(struct stream *stream);
/* Detaches, shuts TLS down as far as that needs no waiting, closes the descriptor, frees what
 * waits. Harmless when closed already. */
void stream_close(struct stream *stream);
/* What has been written and not yet reached the peer's kernel will not reach it any more once the
 * stream is closed (TCP): else the kernel goes on trying for minutes, and a peer that was cut off
 * receives it when the way is open again. Closing is then a reset. */
void stream_abort(struct stream *stream);
static inline bool stream_is_open(const struct stream *stream)
{
    return stream->state != 0;
}

/* Begins to connect; STREAM_CONNECTED or STREAM_FAILED follows. False: failed at once (errno), the
 * stream is closed. The stream is initialised and attached by this. Keepalive and tcp_user_timeout
 * are set by the caller through stream_tune. */
bool stream_connect(struct stream *stream, struct loop *loop, const struct address *address,
                    void (*on_event)(struct stream *stream, enum stream_event event))
    __attribute__((warn_unused_result));
/* TLS with this SSL (owned by the stream from now on); `accepting` says which side. Bytes already
 * buffered in the kernel before the handshake are the handshake's. STREAM_SECURED or STREAM_FAILED
 * follows. A turn that has been busy with handshakes for some milliseconds leaves further ones to
 * the next turn. */
void stream_secure(struct stream *stream, SSL *ssl, bool accepting);

/* Up to `size` bytes. > 0: that many; 0: nothing now; -1: end or failure (`error` 0 for a clean end
 * or an unclean TLS end, else an errno; EPROTO: stream_problem has TLS's words). What had arrived
 * can still be read after a write has failed. */
ssize_t stream_read(struct stream *stream, void *buffer, size_t size);
/* Are there decrypted bytes that epoll cannot announce? After a short read the caller must ask (or
 * loop until stream_read gives 0). */
bool stream_has_pending(const struct stream *stream);
/* Reading again in this turn is wanted though epoll will not say so: STREAM_READABLE comes by the
 * loop's deferred work. */
void stream_read_later(struct stream *stream);
/* In STREAM_READABLE: the owner reads later in this turn, by work of its own, and calls
 * stream_reread behind that. Spares a look at what has not been read meanwhile. */
void stream_read_soon(struct stream *stream);
/* What is unread still is told again. */
void stream_reread(struct stream *stream);
/* Writes behind what waits. Never blocks, never cuts: either all is taken (written or queued) or
 * the stream is broken. Before a connection or handshake is complete everything is queued. */
enum stream_result stream_write(struct stream *stream, const void *bytes, size_t count);
enum stream_result stream_writev(struct stream *stream, const struct iovec *pieces, int count);
/* Bytes that wait for the socket. */
size_t stream_queued_bytes(const struct stream *stream);
/* While corked, writes are only collected (STREAM_DONE, or STREAM_QUEUED when bytes waited for the
 * socket already); uncorking sends them in one write. */
void stream_cork(struct stream *stream);
enum stream_result stream_uncork(struct stream *stream);

/* No STREAM_READABLE until resumed; STREAM_CLOSED still comes (once for each pause). Idempotent,
 * and without a system call (TLS: unless bytes arrive in between). */
void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream);

/* Without consuming: the first `count` bytes that have arrived, for telling TLS from a startup
 * packet (plain only). Returns how many there are, 0 none yet, -1 end. */
ssize_t stream_peek(struct stream *stream, void *buffer, size_t count);

/* Has nothing arrived, not even the end? Asks the kernel; what TLS has decrypted counts too. */
bool stream_is_quiet(const struct stream *stream);

/* Of a Unix socket only the buffers are set. */
void stream_tune(struct stream *stream, const struct tuning *tuning);
/* The same by the options tcp_…. */
struct settings;
void stream_tune_as(struct stream *stream, const struct settings *settings);
bool stream_local_address(const struct stream *stream, struct address *address);
bool stream_peer_address(const struct stream *stream, struct address *address);
/* What went wrong, for the log: errno's text or the TLS problem; `text` is returned. */
const char *stream_problem(const struct stream *stream, char *text, size_t size);

#endif
