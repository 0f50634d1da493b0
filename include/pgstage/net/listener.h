/*
 * listener: listening sockets (TCP, Unix, inherited from systemd).
 *
 * `on_accept` gets the descriptor (non-blocking, close-on-exec, tuned but for its buffers) and who is
 * there. Accepts per turn are capped; when descriptors run out, accepting pauses for a moment instead of spinning. The
 * loop that a listener is started on owns it; opening may happen before on another thread.
 */
#ifndef PGSTAGE_NET_LISTENER_H
#define PGSTAGE_NET_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/net/address.h"
#include "pgstage/net/tuning.h"

struct loop;
struct listener;

struct listener_options {
    int backlog;
    bool reuse_port;
    bool defer_accept;
    unsigned unix_mode;     /* of the socket file */
    const char *unix_group; /* NULL: leave */
    struct tuning tuning;   /* of the connections of TCP */
};

typedef void listener_accepted(struct listener *listener, int fd, const struct address *peer);

/* Opens and binds; NULL and `problem` when that fails. A stale Unix socket file (nobody answers) is
 * replaced, a live one is an error, or with `reuse_port` taken over from the other process. */
struct listener *listener_open(const struct address *address,
                               const struct listener_options *options, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* A socket that is bound and listening already (systemd). */
struct listener *listener_adopt(int fd, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* How connections that come from now on are tuned; nothing for a Unix socket. A listener that was
 * adopted has to be told. */
void listener_tune(struct listener *listener, const struct tuning *tuning);
/* Begins to accept on this loop's thread. */
bool listener_start(struct listener *listener, struct loop *loop, listener_accepted *on_accept,
                    void *context) __attribute__((warn_unused_result));
/* Stops accepting (the socket stays open: connections queue in the kernel). */
void listener_stop(struct listener *listener);
/* Accepts what is queued, stops, and closes the socket: further connections are refused, or go to
 * another process that shares the port. The struct and its address stay until listener_close. */
void listener_shut(struct listener *listener);
/* Stops, closes, and unlinks the Unix socket file that it made. */
void listener_close(struct listener *listener);
void *listener_context(const struct listener *listener);
const struct address *listener_address(const struct listener *listener);
int listener_descriptor(const struct listener *listener);

#endif
