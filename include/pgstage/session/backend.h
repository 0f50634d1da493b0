/*
 * backend: what a pool means to the session: hosts, credentials, TLS, the parameters that clients
 * are welcomed with; and each worker's share of it.
 *
 * One backend is attached to each pool. The control thread replaces its meaning on reload; each
 * worker then takes the new one over into its share, so that the hot path reads without a lock.
 */
#ifndef PGSTAGE_SESSION_BACKEND_H
#define PGSTAGE_SESSION_BACKEND_H

#include <pthread.h>
#include <stdatomic.h>

#include "pgstage/base/buffer.h"
#include "pgstage/conf/snapshot.h"
#include "pgstage/net/tls.h"
#include "pgstage/pool/pool.h"
#include "pgstage/session/gate.h"
#include "pgstage/session/host.h"
#include "pgstage/session/parameters.h"
#include "pgstage/session/worker.h"

/* The ParameterStatus messages of a server's login. Immutable, reference-counted. */
struct welcome {
    /* fixed */
    _Atomic unsigned references;
    struct parameters *parameters;
    struct buffer messages;
};

/* What a pool means under one configuration. Immutable, reference-counted. */
struct meaning {
    /* fixed */
    _Atomic unsigned references;
    struct effective *effective;
    struct tls_context *tls;    /* NULL: no TLS to its servers */
    size_t host_count, dr_from; /* from dr_from on: those of the disaster recovery site */
    struct host *hosts[];
};

/* How clients of a worker are counted in SHOW POOLS. */
enum client_tally { TALLY_ACTIVE, TALLY_WAITING, TALLY_NONE, TALLY_COUNT };

struct accepted;
struct watch;

/* One worker's part. */
struct share {
    /* fixed */
    struct backend *backend;
    struct worker *worker;
    struct pool_stats *stats; /* of the pool, on this worker */
    /* owner */
    struct list_node node; /* in worker->shares, from the first use */
    struct meaning *meaning;
    struct list clients; /* from login to end */
    struct list servers; /* those whose I/O this worker does */
    uint32_t tally[TALLY_COUNT];
    uint32_t cancels; /* cancel connections under way */
    struct timer pump;
    struct timer linger;       /* servers that linger in the pool (POOL_LINGERS) */
    struct accepted *accepted; /* parameters that hosts have taken; NULL: none yet */
    struct watch *watch;       /* NULL: monitoring = basic */
    bool expired;              /* its environment has: clients end with their transaction */
    /* shared: atomic */
    _Atomic(struct watch *) kept_watch; /* what was counted, also at basic; freed with the pool */
};

struct backend {
    /* fixed */
    struct plane *plane;
    struct pool *pool;
    struct gate *gate; /* of its environment; NULL: it has none */
    /* shared: atomic */
    _Atomic unsigned turn;   /* round-robin of hosts */
    struct missing primary;  /* gate.c's */
    _Atomic unsigned listed; /* shares in the lists of their workers */
    _Atomic bool failing;    /* failure.text is set */
    /* shared: mutex */
    pthread_mutex_t mutex;
    struct meaning *meaning;
    struct welcome *welcome; /* NULL: no server has logged in yet */
    struct {
        char sqlstate[6];
        char *text; /* NULL: the last login on a server was well */
        uint64_t retry_at_us, pause_us;
        bool may_mend;
    } failure;
    /* fixed array; each element has its own owner */
    struct share shares[];
};

static inline struct backend *backend_of(struct pool *pool)
{
    return pool_attachment(pool);
}
static inline const struct settings *share_settings(const struct share *share)
{
    return share->meaning->effective->settings;
}

/* registry_events.attach and detach. `argument` is a struct meaning (a reference is taken). */
void *backend_attach(struct pool *pool, void *argument);
void backend_detach(void *attachment);
/* The plane that attach needs, handed in through this argument. */
struct backend_seed {
    struct plane *plane;
    struct meaning *meaning;
};

/* Makes the meaning of a pool under a configuration; takes over the reference of `effective`. What
 * `like` (NULL: none), made under the same setup, has in common with it is not looked up again. NULL
 * and `problem` when a TLS file cannot be used. Control thread, or a worker at a client's login
 * (files were validated at load, and are read once for each new pool). */
struct meaning *meaning_new(struct plane *plane, struct setup *setup, struct effective *effective,
                            const struct meaning *like, char *problem, size_t size)
    __attribute__((warn_unused_result));
struct meaning *meaning_ref(struct meaning *meaning);
void meaning_unref(struct meaning *meaning);
/* Was the server behind a connected Unix socket started by the system user that the environment
 * names (server_peer_user)? Always true where it names none. */
bool meaning_knows_peer(const struct meaning *meaning, int fd);
/* The pool's limits under a meaning; with `own_items` (pool_key) nothing is kept ready. */
void meaning_limits(const struct meaning *meaning, bool own_items, struct pool_limits *limits);

/* This worker's share, entered into its list on first use. The worker's thread. */
struct share *backend_share(struct backend *backend, struct worker *worker);
/* A new reference of the meaning / the welcome in force (NULL). Any thread. */
struct meaning *backend_meaning(struct backend *backend);
struct welcome *backend_welcome(struct backend *backend);
void welcome_unref(struct welcome *welcome);
/* The reload's new meaning: stored, and taken over by share_refresh on each worker. */
void backend_set_meaning(struct backend *backend, struct meaning *meaning);
void share_refresh(struct share *share);
/* Was its meaning made under another configuration than the worker's? Then its pool was made by a
 * login that a reload overtook, and the control thread makes its meaning anew. */
void share_look_at_setup(struct share *share);
/* Sets `expired` by the clock and what the share's meaning says of its environment; when it just
 * has, its clients end, each with its transaction. */
void share_look_at_expiry(struct share *share);
/* A server has logged in and reported these (reference taken over). */
void backend_server_ready(struct backend *backend, struct parameters *parameters);
/* A connection that the pool had asked for is open, or could not be opened: another one of its
 * environment may begin. Before the pool is told. Any thread. */
void backend_open_ended(struct pool *pool, bool opened);
/* The workers have ended: what still waits to be opened is given up. */
void backends_end(struct plane *plane);
/* A login on a server failed, and will again before `retry_at_us`; `may_mend`: it may be another
 * thing for one that waits a while. Whoever waits for the pool looks at it (wait_look). */
void backend_login_failed(struct backend *backend, const char *sqlstate, const char *text,
                          bool may_mend, uint64_t retry_at_us);
/* No host is left that could be tried now: whoever waits looks again, when the last login was such a
 * failure. False: it was not, and waiting may help. */
bool backend_tell_failure(struct backend *backend, uint64_t now_us);
/* When a login that was refused may be tried again: the pause doubles from 200 ms to `longest_us`
 * (but is SERVER_LEAST_PAUSE_US at least), until a login succeeds. */
uint64_t backend_pause(struct backend *backend, uint64_t now_us, uint64_t longest_us);
/* Why no login on a server succeeds. */
struct backend_failure {
    char sqlstate[6];
    char *text; /* what clients are told; allocated */
    bool may_mend;
};
/* Has the last login failed so recently that nobody tries again yet? Cheap where none has. */
bool backend_is_failing(struct backend *backend, uint64_t now_us, struct backend_failure *failure);
/* "SQLSTATE: text" of the last login, when it failed; allocated. NULL: it was well. */
char *backend_failure_text(struct backend *backend);
/* Calls pool_pump now and arms the share's timer for when it wants to be called again. */
void share_pump(struct share *share);

/* pool_events: carried to the worker that is meant, by mail. Any thread. */
extern const struct pool_events backend_events;

#endif
