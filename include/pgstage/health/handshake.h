/*
 * handshake: a connection that goes as far as TLS and no further, to see whether it stands and what
 * certificate the server shows. It is made with the code and the context of the data plane, which
 * says exactly what is wrong with a certificate (libpq 15 says "certificate verify failed" only).
 *
 * One loop's thread. No callback comes from inside a call, and none after handshake_close.
 */
#ifndef PGSTAGE_HEALTH_HANDSHAKE_H
#define PGSTAGE_HEALTH_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "pgstage/health/probe.h"

struct handshake;

struct handshake_result {
    enum probe_error error; /* of the step */
    enum probe_step step;   /* CONNECT or TLS: where it ended */
    char text[PROBE_TEXT_BYTES];
    uint64_t connect_us, tls_us; /* 0: not reached */
    bool secured;                /* false and no error: no TLS is asked for, or 'N' under prefer */
    bool verified;               /* the certificate was checked */
    char protocol[96];           /* "TLSv1.3/…" */
    char subject[256];
    time_t not_after; /* 0: unknown */
};

typedef void handshake_done(void *context, const struct handshake_result *result);

/* Connects to `address`; with a context (a reference is taken; NULL: without TLS) asks for TLS as
 * the host `name`. `done` comes once, at the latest at `deadline_us`. */
struct handshake *handshake_open(struct loop *loop, const struct address *address,
                                 struct tls_context *tls, const char *name, uint64_t deadline_us,
                                 handshake_done *done, void *context)
    __attribute__((warn_unused_result));
/* The same, but always asks for TLS, also where none is wanted (`tls` NULL) and over a Unix socket:
 * that the server answers the request at all shows that it lives, which a connection that stands
 * does not (the kernel makes those for a process that is stopped). */
struct handshake *handshake_ping(struct loop *loop, const struct address *address,
                                 struct tls_context *tls, const char *name, uint64_t deadline_us,
                                 handshake_done *done, void *context)
    __attribute__((warn_unused_result));
/* Ends it; NULL is nothing. Its memory goes at the end of the turn. */
void handshake_close(struct handshake *handshake);

#endif
