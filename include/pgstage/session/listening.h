/*
 * listening: LISTEN and NOTIFY in transaction mode.
 *
 * All clients of a database (in an environment, with one client_encoding) share one server
 * connection that listens for them, opened when the first one wants it and outside every pool. What
 * a client says is carried out by its own server, too (so that PostgreSQL judges it), whose session
 * is cleaned afterwards; its notifications come from the shared one:
 *
 *   worker 1 ear ◄───────────┐ letters                 NOTIFY by anybody
 *    └ channel ► clients     hub (on one worker) ◄──── PostgreSQL
 *   worker 2 ear ◄───────────┘
 *
 * A LISTEN waits until the hub has the channel, so nothing is missed that is sent after its
 * transaction. When the hub loses its connection, every client that listens there is told or ended
 * (listen_gap): something may have been missed. Each client's own worker, except what says
 * otherwise.
 */
#ifndef PGSTAGE_SESSION_LISTENING_H
#define PGSTAGE_SESSION_LISTENING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client;
struct hubs;
struct server;
struct worker;

/* The longest name of a channel. */
#define CHANNEL_NAME_MAX_BYTES 63
/* The most channels of one client. */
#define CHANNELS_PER_CLIENT_MAX 1000

enum listening {
    LISTENING_READY,  /* the hub listens there */
    LISTENING_WAIT,   /* not yet: the client's task is deferred when it is known */
    LISTENING_FAILED, /* it cannot, and `problem` says why */
};

/* The client is about to LISTEN there. */
enum listening listening_prepare(struct client *client, const char *channel, char *problem,
                                 size_t size);
/* Does its LISTEN wait? */
bool listening_waits(const struct client *client);
/* Its LISTEN is committed. */
void listening_start(struct client *client, const char *channel);
/* Its UNLISTEN is committed; NULL: all channels. */
void listening_stop(struct client *client, const char *channel);
/* Sends what has come for it while it was in a transaction. To be called when that has ended.
 * False: the client has ended. */
bool listening_flush(struct client *client);
/* The client ends. */
void listening_leave(struct client *client);

struct hubs *hubs_new(void);
/* After all loops have ended. */
void hubs_free(struct hubs *hubs);

#endif
