/*
 * server: one connection to a PostgreSQL server. Belongs to the worker that does its I/O, and moves
 * between workers only as a whole, in a letter.
 */
#ifndef PGSTAGE_SESSION_SERVER_H
#define PGSTAGE_SESSION_SERVER_H

#include "pgstage/base/log.h"
#include "pgstage/base/map.h"
#include "pgstage/net/stream.h"
#include "pgstage/pool/pool.h"
#include "pgstage/session/backend.h"
#include "pgstage/session/reason.h"
#include "pgstage/session/transaction.h"

struct client;
struct figures;
struct prepared;
struct server_login;
struct server_aside;

/*
 *  OPENING ─► LOGIN ─► SETUP ─┬─► IDLE ◄──► ACTIVE ─► DRAINING ─┐
 *                             │     ▲       │   ▲               │
 *                             │     └─ RESET ◄──┘ CHECK         │
 *                             └──────────┴── any ─► GONE ◄──────┘
 */
enum server_state {
    SERVER_OPENING,  /* name, TCP, TLS */
    SERVER_LOGIN,    /* proves who we are; up to the first ReadyForQuery */
    SERVER_SETUP,    /* runs connect_query */
    SERVER_IDLE,     /* in the pool */
    SERVER_CHECK,    /* linked: proves that it is alive before the client may use it */
    SERVER_PREPARE,  /* linked: is given the client's session parameters */
    SERVER_ACTIVE,   /* linked to a client */
    SERVER_DRAINING, /* its client has gone: finishes what is owed */
    SERVER_RESET,    /* runs server_reset_query */
    SERVER_MOVING,   /* in a letter to another worker */
    SERVER_GONE,     /* freed at the end of the turn */
};

struct server {
    /* fixed */
    struct backend *backend;
    struct host *host;        /* used until the server is freed */
    unsigned host_generation; /* of the host when it was begun */
    unsigned border_epoch;    /* of the plane when border.h was asked last */
    uint64_t connected_wall_us;
    uint64_t logged_in_us; /* monotonic */
    /* owner */
    uint64_t retire_us; /* when server_lifetime is over, monotonic; 0: never; 1: after one use */
    struct worker *worker;
    struct share *share;
    enum server_state state;
    struct stream stream;
    struct pool_item item;
    struct list_node node;       /* in worker->servers */
    struct list_node share_node; /* in share->servers */
    UT_hash_handle hh;           /* in worker->servers_by_id */
    struct timer timer;
    struct client *client;
    struct transaction transaction;
    struct meaning *meaning;       /* what it was opened under */
    struct parameters *parameters; /* what it was given for the client it served last */
    struct parameters *before;     /* … what it had until then, while `undecided` */
    struct parameters *said;       /* undecided: what it has reported meanwhile */
    struct buffer ahead;           /* the statement that gives it these, to be sent with the next */
    bool ahead_asked;              /* … entered in the queue already */
    struct parameters *reported;   /* what it has reported since its login: the pool's welcome */
    uint8_t *tail;                 /* the beginning of a message whose end has not come */
    uint32_t tail_bytes;
    bool streams;        /* its last read was a full one, and its client took all of it */
    uint32_t body_left;  /* of a message that is passed on in pieces */
    bool body_swallowed; /* … or dropped */
    bool query_failed;   /* a statement of our own was answered with an error: */
    char query_sqlstate[6];
    char told[16]; /* the last row of a statement of our own that is listened to */
    char *query_error;
    bool undecided;    /* whether it took the parameters that it was given is not known yet */
    bool stands_in;    /* on a standby, because its pool lacks a primary */
    bool kept;         /* by a client in no transaction, and counted so at the gate */
    bool close_needed; /* it goes when it is free */
    bool fatal;        /* it said FATAL: its end follows */
    bool stained;      /* what is left in its session, or may still hit it, can only go with it */
    bool soiled;   /* a client's state may be left in its session: it is cleaned when it is free */
    bool cleaning; /* RESET: by the tracker's statements */
    uint8_t sql_mode;          /* enum sql_mode, by what it reported at its login */
    bool asking;               /* PREPARE: it is asked what of its client's state there is */
    bool releasing;            /* free, but a cancel aimed at it is under way or bytes wait */
    unsigned cancels;          /* cancel connections aimed at it */
    uint64_t links;            /* how often it was linked: tells one client's time from another's */
    uint64_t unnamed_links;    /* the value of `links` whose client's unnamed statement it has */
    struct prepared *prepared; /* what it has prepared; NULL: never anything */
    uint32_t awaited;          /* changes of names and statements that await an answer */
    struct server_login *login; /* until it is ready */
    uint32_t remote_pid;
    uint8_t replication;    /* enum replication: it is one client's own (replication.c) */
    uint8_t protocol_minor; /* 0 or 2: of protocol 3 */
    uint8_t *cancel_secret;
    size_t cancel_secret_bytes;
    struct address address;
    struct figures *figures; /* of its host; a worker's */
    uint64_t request_us;
    const struct server_aside *aside; /* it is in no pool: whose it is; NULL: a pool's */
    void *aside_owner;
};

/* A server that is in no pool and serves one purpose: what its owner is told. It is logged in as
 * the pool's others are; then its bytes are the owner's (ACTIVE). */
struct server_failure {
    const char *sqlstate, *text;
    bool lasting; /* waiting does not mend it */
};
struct server_aside {
    void (*ready)(struct server *server);
    /* before it was ready */
    void (*failed)(struct server *server, const struct server_failure *failure);
    void (*readable)(struct server *server);
    void (*closed)(struct server *server, enum reason reason);
};

/* Has its client had the beginning of a message whose end has not come? */
static inline bool server_cuts_answer(const struct server *server)
{
    return server->client && server->body_left && !server->body_swallowed;
}

/* The number of the batch (transaction_batch) that its client's next message is in, also when what
 * goes ahead of that message, as a batch of its own, is not entered in the queue yet. */
static inline uint32_t server_next_batch(const struct server *server)
{
    return transaction_batch(&server->transaction) + (server->ahead.length && !server->ahead_asked);
}

/* Begins to connect for this share's pool (pool_events.open). The worker's thread. */
void server_open(struct share *share);
/* Begins to connect one that is in no pool; NULL: no host may be tried now. It may fail before this
 * returns (`failed` is called; NULL, too). */
struct server *server_open_aside(struct share *share, const struct server_aside *aside, void *owner)
    __attribute__((warn_unused_result));
void server_set_state(struct server *server, enum server_state state);
const char *server_state_name(const struct server *server);
/* Closes it, takes it out of its pool; a client that is linked is told (see server_lost). */
void server_close(struct server *server, enum reason reason, const char *detail);
/* Is it linked to the client, and starts what must be done first (check, parameters); the client's
 * task runs when it is ready. */
void server_link(struct server *server, struct client *client);
/* Its client needs it no more: back to the pool (through a reset where that is due), or closed in
 * doubt. Unlinks. */
void server_release(struct server *server);
/* Its client has gone. `terminated`: it said so behind its last message; else it vanished. */
void server_abandon(struct server *server, bool terminated);
/* The settings of its pool are others: how long it lives, and is idle, is counted by these. */
void server_refresh(struct server *server);
/* What the pool said of a server that was returned, opened, surrendered or accepted. */
void server_dispose(struct server *server, enum pool_outcome outcome,
                    const struct pool_grant *grant);
/* A server that another worker sent here for the client with this id (a letter's content). */
void server_arrive(struct worker *worker, struct server *server, uint64_t waiter_id);
/* A cancel connection aimed at it has ended. */
void server_cancel_over(struct server *server);
/* The transaction-time part: everything owed is answered. Called by the relay. */
void server_settled(struct server *server);
/* Pauses or resumes reading, by the client's side. */
void server_update_flow(struct server *server);
/* Gives the session the parameters that its client has, before that one goes on. */
void server_prepare(struct server *server);
/* What must go to it before the next message of its client is about to be asked, if anything:
 * enters it in the queue. */
void server_ask_ahead(struct server *server);
/* The statement that went ahead is answered. False: the server and its client are gone. */
bool server_decide_ahead(struct server *server);
/* Asks something of our own before the client goes on; tracker_row and tracker_told get the answer.
 */
void server_ask(struct server *server, const char *sql);
/* A statement of our own, answers swallowed. */
bool server_query(struct server *server, const char *sql);
/* What was sent on our own account is over when server_connect_timeout is, or a minute where that is
 * none: then the server's timer fires. */
void server_limit_own(struct server *server);
void server_log(const struct server *server, enum log_rank rank, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Room-internal: server_login.c hands over a server that has logged in. */
void server_logged_in(struct server *server);
void server_open_failed(struct server *server, enum reason reason, const char *sqlstate,
                        const char *text);

#endif
