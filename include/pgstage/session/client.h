/*
 * client: one application's connection. Its worker's thread only.
 */
#ifndef PGSTAGE_SESSION_CLIENT_H
#define PGSTAGE_SESSION_CLIENT_H

#include "pgstage/base/log.h"
#include "pgstage/net/stream.h"
#include "pgstage/session/backend.h"
#include "pgstage/session/pin.h"
#include "pgstage/session/reason.h"
#include "pgstage/session/unnamed.h"
#include "pgstage/session/worker.h"

struct cancel_name;
struct exchange;
struct figures;
struct login;
struct statement_names;
struct server;
struct hearing;
struct tracker;

/*
 *  STARTUP ─► LOGIN ─► WELCOME ─► IDLE ◄──────► ACTIVE
 *     │                             └► WAITING ──┘
 *     ├► CANCEL          LOGIN ─► CONSOLE
 *     └─────────────── any ─► CLOSING ─► GONE
 */
enum client_state {
    CLIENT_STARTUP, /* TLS and the startup packet */
    CLIENT_LOGIN,   /* proves who it is */
    CLIENT_WELCOME, /* waits for a server's parameters */
    CLIENT_IDLE,    /* has no server and asks nothing */
    CLIENT_WAITING, /* has asked and waits for a server */
    CLIENT_ACTIVE,  /* has a server */
    CLIENT_CANCEL,  /* sent a CancelRequest, and waits until it has been carried out */
    CLIENT_CONSOLE,
    CLIENT_CLOSING, /* its last bytes are being written */
    CLIENT_GONE,    /* freed at the end of the turn */
};

/* What the audit log knows of a login. */
enum record_state { RECORD_NONE, RECORD_WAITING, RECORD_DONE };

/*
 * There are tens of thousands of them, nearly all idle: what one has no use for while it is idle
 * stands elsewhere (struct exchange, struct login), and fields stand so that no room is lost.
 */
struct client {
    /* fixed */
    struct worker *worker;
    uint64_t id;
    uint64_t connected_us; /* of the wall clock */
    uint32_t secret;       /* of its cancel key */
    /* owner */
    uint8_t state;             /* enum client_state */
    uint8_t tally;             /* enum client_tally: where the share counts it */
    uint8_t recorded;          /* enum record_state */
    uint8_t replication;       /* enum replication: it has a server of its own */
    struct address *address;   /* the peer's, or what a believed PROXY header tells */
    struct login *login;       /* until it is logged in */
    struct exchange *exchange; /* NULL: it is idle, or was never served yet */
    struct server *server;
    struct share *share; /* NULL: none yet, or console */
    struct stream stream;
    struct loop_task task;
    struct list_node node;       /* in worker->clients */
    struct list_node share_node; /* in share->clients */
    struct timer timer;
    /* NULL before the startup packet. While it has a share and they are the same as the pool's,
     * they are the pool's. */
    const char *user;
    const char *database;            /* as it asked */
    struct parameters *parameters;   /* the session parameters that follow it */
    struct parameters *startup;      /* … as they were at its login: what RESET leads back to */
    struct parameters *mode_of;      /* … as they were when own_mode was read; a reference */
    struct cancel_name *cancel_name; /* its key, where peers see it too; NULL: there are none */
    struct hearing *hearing;         /* of notifications; NULL: it has never listened */
    struct tracker *tracker;         /* of its session's state; NULL: it has never changed any */
    struct figures *figures;         /* of its user; the worker's */
    struct statement_names *names;   /* of its prepared statements; NULL: none yet */
    struct unnamed unnamed;          /* its unnamed prepared statement */
    uint8_t *held;                   /* bytes that have come and were not passed on */
    uint32_t held_bytes;             /* of `held` */
    uint32_t body_left;              /* of a message that is passed on in pieces */
    uint8_t body_type;               /* … of this type … */
    uint8_t body_intent;             /* … and intent */
    bool body_dropped;               /* … or that is dropped */
    uint8_t protocol_minor;          /* 0 or 2: of protocol 3 */
    uint32_t held_in;                /* the last trouble of the environment that held it; 0: none */
    uint32_t pins;    /* mask of enum pin: it keeps its server between transactions */
    uint8_t sql_mode; /* enum sql_mode: how its texts are read */
    uint8_t own_mode, own_mode_mask; /* … as far as its own parameters say */
    bool admitted;                   /* counted in registry_admit */
    bool admitted_to;                /* counted in registry_admit_to */
    bool console;
    bool console_busy;   /* its last messages are with the control thread */
    bool parting;        /* gone, with a Terminate at the end of `held` */
    bool awaiting;       /* `held` goes on when more answers have come */
    bool streams;        /* its last read was a full one */
    bool granted;        /* `held` is to be passed on before more is read */
    bool asking;         /* its bytes are being passed on: it is armed behind them */
    bool at_gate;        /* counted among those who wait for a primary */
    bool wait_notified;  /* it has had its query_wait_notify */
    uint64_t request_us; /* monotonic: when the last query or batch began */
    uint64_t active_us;
    uint64_t received_bytes, transactions;
};

/* Takes over an accepted descriptor. The worker's thread. */
void client_accept(struct worker *worker, struct door *door, int fd, const struct address *peer);
/* Its task: reads what it has sent, by its state. */
void client_run(struct loop_task *task);
/* Every change of state goes through here. */
void client_set_state(struct client *client, enum client_state state);
const char *client_state_name(enum client_state state);

/* Ends it without a word (it has gone, or may not be told). The server it had is abandoned. */
void client_close(struct client *client, enum reason reason);
/* Tells it FATAL with the reason's SQLSTATE and text, then ends it. `detail`, when given, stands
 * behind the text as ": detail". */
void client_fail(struct client *client, enum reason reason, const char *detail);
/* The same with an SQLSTATE and text of their own. */
void client_fail_as(struct client *client, enum reason reason, const char *sqlstate,
                    const char *text);
/* CLOSING: sends the farewell that was kept, then ends it. */
void client_farewell(struct client *client);
/* Is there nothing more to do for it? */
static inline bool client_is_over(const struct client *client)
{
    return client->state >= CLIENT_CLOSING;
}
/* Sends bytes made here; false when the client broke (it is closed then). */
bool client_send(struct client *client, const void *bytes, size_t count);
bool client_send_buffer(struct client *client, struct buffer *bytes);

/* Logs in (login.c) is over: counts it in the share, sends the welcome. */
void client_welcome(struct client *client, const struct parameters *server_parameters,
                    const struct buffer *welcome_messages);
/* Its server reports another value of a parameter (NULL: that of its login): it follows the client.
 */
void client_parameter_reported(struct client *client, const char *name, const char *value);
/* What has changed in its parameters is certain. */
void client_parameters_stay(struct client *client);
/* Its transaction is lost: its parameters are what they were before it. */
void client_parameters_undo(struct client *client);
/* Asks the pool for a server; true: it is linked now. Else it waits. */
bool client_borrow(struct client *client);
/* Stops waiting. */
void client_forget_wait(struct client *client);
/* Arms the timer for what its state allows to last. */
void client_arm(struct client *client);
/* Pauses or resumes reading, by the state of both sides. */
void client_update_flow(struct client *client);
/* Keeps bytes that cannot be passed on now; replaces what was held. */
void client_hold(struct client *client, const uint8_t *bytes, size_t count);
/* The worker is stopping, or the client's environment has expired: it ends with its transaction. */
bool client_is_stopping(const struct client *client);
/* Ends it now if its transaction is over; else later. */
void client_stop(struct client *client);
/* "127.0.0.1:5000", its address for people; `text` is returned. */
const char *client_from(const struct client *client, char text[ADDRESS_TEXT_BYTES]);
void client_log(const struct client *client, enum log_rank rank, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
