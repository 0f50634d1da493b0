/*
 * relay: a wire between pgstage and a server that remembers every byte of both directions. It
 * listens on 127.0.0.1 and can be turned to another server for the connections that come later.
 */
#ifndef SUPPORT_RELAY_H
#define SUPPORT_RELAY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct relay {
    /* fixed */
    int port;
    int listener;
    /* shared: atomic */
    _Atomic int target_port;
    _Atomic long accepted;
    /* shared: mutex */
    pthread_mutex_t mutex;
    unsigned char *bytes; /* of all connections and both directions, as they came */
    size_t count, size;
    size_t sent; /* of them towards the server */
};

/* Lives until the test's process ends. */
struct relay *relay_start(int target_port);
/* Connections that come from now on go there. */
void relay_turn(struct relay *relay, int target_port);
/* Did this text pass, in whatever direction, in one piece of reading or over several? */
bool relay_saw(struct relay *relay, const char *text);
bool relay_saw_bytes(struct relay *relay, const void *bytes, size_t count);
size_t relay_count(struct relay *relay);
/* What was recorded so far counts no more. */
void relay_forget(struct relay *relay);

#endif
