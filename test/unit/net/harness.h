/*
 * harness: loops that a test turns by hand, and streams that count what they are told.
 */
#ifndef PGSTAGE_TEST_NET_HARNESS_H
#define PGSTAGE_TEST_NET_HARNESS_H

#include "pgstage/base/buffer.h"
#include "pgstage/net/stream.h"
#include "pgstage/worker/loop.h"

/* Turns the loop until `done`, for ten seconds at most; what `done` says in the end. */
bool turn_until(struct loop *loop, bool (*done)(void *argument), void *argument);
/* Turns the loop for this long and returns how many turns it took: thousands when it spins. */
unsigned turns_within(struct loop *loop, unsigned milliseconds);
/* A few turns without waiting, for what must not happen. */
void settle(struct loop *loop);

/* A stream that counts events and, unless told otherwise, keeps all it can read. */
struct peer {
    struct stream stream;
    unsigned readable, drained, connected, secured, closed, failed;
    unsigned events;     /* of all kinds */
    bool lazy;           /* does not read by itself */
    bool ended;          /* stream_read gave -1 */
    int end_error;       /* stream.error then */
    size_t read_at_most; /* bytes of one stream_read, 0: 16 kB */
    struct buffer got;
    char problem[256]; /* when it failed */
    /* Called after the counting, may close. */
    void (*then)(struct peer *peer, enum stream_event event);
    void *argument;
};

/* On the descriptor, attached to the loop (NULL: not). */
void peer_init(struct peer *peer, struct loop *loop, int fd);
/* Begins to connect. */
bool peer_connect(struct peer *peer, struct loop *loop, const struct address *address);
void peer_fini(struct peer *peer);
/* Reads what is there now. */
void peer_read(struct peer *peer);
/* Two ends of a Unix connection on one loop. */
void peers_init(struct peer *a, struct peer *b, struct loop *loop);
/* The same, of a TCP connection on 127.0.0.1. */
void peers_init_tcp(struct peer *a, struct peer *b, struct loop *loop);
/* Two descriptors of a TCP connection. */
void tcp_pair(int fds[2]);
/* Closing it sends a reset. */
void reset_on_close(int fd);

bool peer_is_secured(void *peer);
bool peer_has_ended(void *peer);
bool peer_has_failed(void *peer);
bool peer_has_drained(void *peer);
bool peer_is_readable(void *peer);

/* Bytes that repeat after a prime number of them only. */
uint8_t pattern_at(size_t place);
void pattern_fill(uint8_t *bytes, size_t place, size_t count);
/* The first byte of `got` that is not the pattern's; `length` when all are. */
size_t pattern_differs(const uint8_t *bytes, size_t length);

/* A new empty folder, and its removal with the files in it. */
const char *folder_make(void);
void folder_remove(void);
/* A path in it, of static memory. */
const char *folder_path(const char *name);

#endif
