/*
 * fake: a PostgreSQL server that does what a real one never would: says nothing, lies, stops in the
 * middle. It listens on 127.0.0.1 and runs a function of the test's for each connection, in a
 * thread.
 */
#ifndef SUPPORT_FAKE_H
#define SUPPORT_FAKE_H

#include "wire.h"

struct fake {
    /* fixed */
    int port;
    void (*serve)(struct wire *wire, struct fake *fake);
    const void *context; /* the test's own */
    int listener;
    /* shared: atomic */
    _Atomic long accepted;
};

/* `serve` owns nothing: the connection is closed after it returns. It must not assert. Lives until
 * the test's process ends. */
struct fake *fake_start(void (*serve)(struct wire *wire, struct fake *fake), const void *context);
/* "host=127.0.0.1 port=…" */
const char *fake_route(const struct fake *fake);

/* Steps for `serve`: reads the startup packet (answering `ssl_answer` to an SSLRequest, and
 * stopping there with false when that is not 'S' or 'N' or the peer leaves). Sets `version` of the
 * wire, and what follows it as `key`. */
bool fake_startup(struct wire *wire, char ssl_answer);
/* AuthenticationOk, the usual parameters, BackendKeyData, ReadyForQuery. */
void fake_welcome(struct wire *wire);
/* … with this key: process id and secret. */
void fake_welcome_with(struct wire *wire, const void *key, size_t key_bytes);
/* Answers every query with one row `value`, until the peer leaves. */
void fake_answer(struct wire *wire, const char *value);
/* Waits until the peer leaves. */
void fake_hang(struct wire *wire);
void fake_error(struct wire *wire, const char *severity, const char *sqlstate, const char *text);

#endif
