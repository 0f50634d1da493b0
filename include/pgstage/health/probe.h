/*
 * probe: one connection of pgstage's own to one server, for asking how it is: libpq, never
 * blocking.
 *
 *   probe_open ─► opened ─► probe_query ─► answered ─► probe_query … ─► probe_close
 *
 * A connection may stay open and be asked again and again. Every parameter of libpq is given, so
 * nothing comes from defaults of the account that pgstage runs under; variables of the process that
 * libpq reads by itself are put out of its way by variable_hide (conf/variable.h) at the start. The
 * TLS policy is that of the environment's other server connections, with one difference: libpq
 * takes no list of ciphers. One loop's thread. No callback comes from inside a call, and none after
 * probe_close.
 */
#ifndef PGSTAGE_HEALTH_PROBE_H
#define PGSTAGE_HEALTH_PROBE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "pgstage/net/resolver.h"
#include "pgstage/net/tls.h"
#include "pgstage/worker/loop.h"

struct probe;

/* What went wrong. Only some of it says anything about the host: see probe_error_is_host. */
enum probe_error {
    PROBE_FINE,
    PROBE_DNS,         /* the name has no address */
    PROBE_REFUSED,     /* nobody listens, or no way leads there */
    PROBE_TIMEOUT,     /* the deadline passed */
    PROBE_TLS,         /* no TLS, or not the TLS that is asked for */
    PROBE_AUTH,        /* 28000, 28P01, or no password to show */
    PROBE_NO_DATABASE, /* 3D000 */
    PROBE_TOO_MANY,    /* 53300 */
    PROBE_STARTING_UP, /* 57P03: starting, stopping or recovering */
    PROBE_SERVER,      /* another error that the server reported */
    PROBE_LOST,        /* the connection ended */
    PROBE_PROTOCOL,    /* this is no PostgreSQL server */
    PROBE_LOCAL,       /* nothing was tried: pgstage has no descriptor, memory or port left */
};

/* How far it had got. */
enum probe_step {
    PROBE_STEP_RESOLVE,
    PROBE_STEP_CONNECT,
    PROBE_STEP_TLS,
    PROBE_STEP_LOGIN,
    PROBE_STEP_QUERY,
};

#define PROBE_TEXT_BYTES 512

struct probe_result {
    enum probe_error error;
    enum probe_step step;        /* where it ended */
    char sqlstate[6];            /* "": the server said none */
    char text[PROBE_TEXT_BYTES]; /* one line, "" when fine */
    uint64_t duration_us;        /* of this opening or query */
    const PGresult *rows;        /* of a query that is fine; the callback's only while it runs */
};

/* Whom to ask. Texts need to live only during probe_open. */
struct probe_target {
    const char *name;    /* as the configuration names the host: what its certificate must show; a
                            folder for a Unix socket */
    const char *address; /* numeric; NULL: the name is resolved, and its first address taken */
    uint16_t port;
    const char *user, *dbname;
    const char *password;  /* NULL: none */
    const char *peer_user; /* who must own the server behind a Unix socket; NULL: anybody */
    struct tls_settings tls;
};

typedef void probe_done(struct probe *probe, void *context, const struct probe_result *result);

/* Begins to connect; `opened` comes once, at the latest at `deadline_us` (loop_now_us's clock).
 * When it tells of an error nothing is left but probe_close. */
struct probe *probe_open(struct loop *loop, struct resolver *resolver,
                         const struct probe_target *target, uint64_t deadline_us,
                         probe_done *opened, void *context) __attribute__((warn_unused_result));
/* Asks an open probe that waits for nothing. After an error other than PROBE_SERVER the connection
 * is of no use any more. */
void probe_query(struct probe *probe, const char *sql, uint64_t deadline_us, probe_done *answered);
/* The same with the value of $1 (text). One statement. */
void probe_query_with(struct probe *probe, const char *sql, const char *value, uint64_t deadline_us,
                      probe_done *answered);
/* `ended` is called when the server ends an open probe that waits for nothing (once; the probe is
 * of no use then). */
void probe_on_end(struct probe *probe, void (*ended)(struct probe *probe, void *context));
/* Ends it, whatever it is doing; NULL is nothing. Its memory goes at the end of the turn. */
void probe_close(struct probe *probe);
/* Is it open, and is nothing asked of it? */
bool probe_is_idle(const struct probe *probe);
/* "TLSv1.3/TLS_AES_256_GCM_SHA384", or "" without TLS; `text` is at least 96 bytes. */
void probe_describe_tls(const struct probe *probe, char *text, size_t size);

/* "timeout", "no_database" … */
const char *probe_error_word(enum probe_error error);
/* Does this error say that the host itself is not well (and not one login or database)? */
bool probe_error_is_host(enum probe_error error);
/* Is this errno of socket() or connect() a shortage of our own? */
bool probe_errno_is_local(int error);

#endif
