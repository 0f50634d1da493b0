/*
 * listening_inside: what the two files of LISTEN and NOTIFY share: the hub and its ears.
 */
#ifndef PGSTAGE_SESSION_LISTENING_INSIDE_H
#define PGSTAGE_SESSION_LISTENING_INSIDE_H

#include <pthread.h>

#include "pgstage/base/buffer.h"
#include "pgstage/base/list.h"
#include "pgstage/base/map.h"
#include "pgstage/session/client.h"
#include "pgstage/session/listening.h"
#include "pgstage/session/worker.h"

/* A channel as one worker knows it. The worker's. */
struct channel {
    UT_hash_handle hh; /* in ear->channels */
    struct ear *ear;
    bool ready;          /* the hub listens */
    bool gap;            /* it does not any more: those that listen are told when it does again */
    bool retry;          /* … and has to be asked again */
    struct list clients; /* struct subscription: they listen */
    struct list waiters; /* struct hearing: their LISTEN waits */
    uint64_t unused_us;  /* since when nobody has listened or waited; 0: somebody does */
    char name[CHANNEL_NAME_MAX_BYTES + 1];
};

/* A worker's side of a hub. The worker's. */
struct ear {
    struct hub *hub;
    struct worker *worker;
    struct channel *channels; /* uthash */
    struct timer sweep;       /* gives up channels that nobody uses any more */
};

struct subscription {
    struct list_node node;         /* in hearing->subscriptions */
    struct list_node channel_node; /* in channel->clients */
    struct channel *channel;
    struct client *client;
};

/* A client's part, from its first LISTEN. */
struct hearing {
    struct client *client;
    struct ear *ear; /* NULL: none yet */
    struct list subscriptions;
    struct channel *waits; /* its LISTEN waits for this one, in `waiters` … */
    struct list_node wait_node;
    char *problem;       /* … or this came of it */
    struct buffer queue; /* notifications that cannot be sent now */
};

/* A channel as the hub knows it. The hub's worker's. */
struct hub_channel {
    UT_hash_handle hh; /* in hub->channels */
    bool ready;
    bool *wanted; /* by each worker */
    char name[CHANNEL_NAME_MAX_BYTES + 1];
};

struct hub {
    /* fixed */
    struct list_node node; /* in hubs->list (its mutex) */
    struct plane *plane;
    struct worker *worker; /* that does the I/O */
    char *database, *environment, *encoding;
    struct ear *ears; /* of each worker, whose they are */
    /* owner: the hub's worker */
    struct pool *pool;     /* whose credentials are used; a reference, while there is a server */
    struct server *server; /* NULL: none */
    bool ready;            /* it has logged in, and knows the encoding */
    struct hub_channel *channels; /* uthash */
    struct list sent;             /* struct command: not answered yet, in order */
    struct timer timer;
    uint8_t *tail;
    uint32_t tail_bytes;
};

struct hubs {
    pthread_mutex_t mutex;
    struct list list;
};

/* From an ear to its hub: this channel is wanted (or no more). `pool`: whose server may be used. */
void hub_want(struct hub *hub, struct worker *from, const char *channel, struct pool *pool);
void hub_unwant(struct hub *hub, struct worker *from, const char *channel);
/* From a hub to an ear, on the ear's worker. `problem` NULL: it listens. */
void ear_told(struct ear *ear, const char *channel, const char *problem);
void ear_hear(struct ear *ear, const char *channel, const uint8_t *message, size_t bytes);
/* Notifications may have been missed: on every channel. */
void ear_gap(struct ear *ear);

#endif
