/*
 * generator: the load of the benchmark. One thread, one epoll, any number of connections.
 */
#ifndef BENCH_GENERATOR_H
#define BENCH_GENERATOR_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/auth/scram.h"
#include "pgstage/base/buffer.h"

enum phase {
    PHASE_CONNECT,
    PHASE_SSL_ANSWER,
    PHASE_TLS,
    PHASE_LOGIN, /* up to the first ReadyForQuery */
    PHASE_READY, /* logged in, nothing asked */
    PHASE_BUSY,  /* asked, not answered */
    PHASE_OVER,
};

struct connection {
    int fd;
    SSL *ssl;
    enum phase phase;
    uint32_t events; /* what epoll looks for */
    uint64_t began_us;
    uint64_t copy_left; /* of a COPY: bytes that are still to be sent */
    bool copying;
    bool prepared;          /* the named statement was made */
    const uint8_t *to_send; /* shared bytes, or those of `own` */
    size_t to_send_bytes;
    struct buffer own; /* messages of the login */
    struct scram_client *scram;
    uint32_t header_have, body_left, body_have;
    uint8_t header[5];
    uint8_t *body; /* kept while logging in, and of errors */
};

struct plan {
    const char *host; /* an IPv4 address */
    uint16_t port;
    const char *user, *database, *password;
    bool tls;
    const char *mode;
    int clients;
    double seconds, warm_seconds;
    uint64_t transactions; /* in all; 0: go by the time */
    uint64_t bytes;        /* of each bulk answer or COPY */
    uint64_t burst_bytes;  /* idle: of one answer for each client before it rests */
    int databases;         /* 0: `database` for all; else that name with 0 … databases - 1 */
    int at_once;           /* logins under way at the same time */
};

/* The dialogue of a login: takes one message of the server, and puts into connection->own what is
 * to be sent. False when it failed (a line on stderr). */
bool login_message(struct connection *connection, const struct plan *plan, uint8_t type);
/* The startup packet. */
void login_startup(struct connection *connection, const struct plan *plan);
void login_fini(struct connection *connection);

#endif
