/*
 * plane: the data plane as the control plane sees it: workers, pools, listeners, configuration.
 *
 * Everything here is called on the control thread, except what says otherwise.
 */
#ifndef PGSTAGE_SESSION_PLANE_H
#define PGSTAGE_SESSION_PLANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/buffer.h"
#include "pgstage/conf/snapshot.h"
#include "pgstage/session/reason.h"

struct audit;
struct loop;
struct plane;
struct pool;
struct registry;
struct resolver;

/* What a client of the console may do. */
enum console_level { CONSOLE_NONE, CONSOLE_STATS, CONSOLE_ADMIN };

/* The console's side, called on the control loop. A console client is named by its id. */
struct plane_hooks {
    void *context;
    /* `database`: which of the console's names it has asked for. */
    void (*console_opened)(void *context, uint64_t client_id, const char *user,
                           const char *database, enum console_level level, const char *from);
    /* Whole protocol messages (header and body) in order, as many as had arrived. Reading from that
     * client stays paused until plane_console_reply says `resume`. `bytes` are the callee's only
     * during the call. */
    void (*console_input)(void *context, uint64_t client_id, const uint8_t *bytes, size_t length);
    /* A CancelRequest for this client. */
    void (*console_cancelled)(void *context, uint64_t client_id);
    void (*console_closed)(void *context, uint64_t client_id);
    /* A paused pool's last server, or the last obsolete server of a pool, has gone (any number of
     * times, late): look at what WAIT_CLOSE and PAUSE wait for. */
    void (*pools_changed)(void *context);
    /* The last client has left while the plane is stopping (WAIT_FOR_CLIENTS), or the last server.
     */
    void (*idle)(void *context);
};

/* A listening socket handed in from outside (systemd): the descriptor becomes the plane's. */
struct plane_socket {
    int fd;
};

/* Makes workers (threads not yet running) for the snapshot; takes a reference of it. NULL and
 * `problem` when a listener or a TLS file cannot be used. */
struct plane *plane_new(struct loop *control, struct snapshot *snapshot,
                        const struct plane_hooks *hooks, const struct plane_socket *inherited,
                        size_t inherited_count, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* Starts the threads and begins to accept. */
bool plane_start(struct plane *plane) __attribute__((warn_unused_result));
/* Ends the threads, closing whatever is left with FATAL 57P01; frees all. */
void plane_free(struct plane *plane);

/* Swaps the configuration in: new clients get it at once, pools that mean the same keep their
 * servers, others are drained at the end of each transaction. False and `problem` when listeners or
 * TLS files of the new one cannot be used: then nothing has changed. */
bool plane_reload(struct plane *plane, struct snapshot *snapshot, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* The configuration in force (no reference). */
struct snapshot *plane_snapshot(const struct plane *plane);

/* Begins the audit log that the configuration names, if any; before plane_start, as the user that
 * the process stays. False and `problem`: the file cannot be opened. */
bool plane_open_audit(struct plane *plane, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* Any thread. */
struct audit *plane_audit(const struct plane *plane);
struct registry *plane_registry(const struct plane *plane);
struct resolver *plane_resolver(const struct plane *plane);
unsigned plane_worker_count(const struct plane *plane);
/* For gather_start: the workers' loops. */
struct loop *const *plane_loops(const struct plane *plane);
struct loop *plane_control(const struct plane *plane);

/* ---- hosts of production under other names ---- */
struct known_host {
    const char *environment;
    const char *label;          /* tells it from others of the environment */
    const char *name, *address; /* of the configuration; numeric, "": not known */
    uint16_t port;
    bool is_local;              /* a Unix socket */
    uint64_t system_identifier; /* 0: not known */
    bool is_gone;               /* the environment has it no more */
};
/* What has been learned of a host: from then on the address and the cluster of one of a production
 * class are refused to all for which its rules do not hold, and connections that are there are
 * closed. */
void plane_know_host(struct plane *plane, const struct known_host *host);

/* ---- console ---- */
/* Sends bytes to a console client (may be gone: then nothing happens). `resume`: go on reading from
 * it. `close`: close it after these bytes. */
void plane_console_reply(struct plane *plane, uint64_t client_id, struct buffer *bytes, bool resume,
                         bool close);

/* ---- commands ---- */
/* PAUSE / RESUME … are the registry's; these reach into the workers. database NULL: all.
 * Environment NULL: that database in every environment. */
void plane_reconnect(struct plane *plane, const char *database, const char *environment);
/* Ends all clients (FATAL 57P01) and servers of these pools at once. */
void plane_kill(struct plane *plane, const char *database, const char *environment);
/* Ends one client; the answer comes to `done` on the control loop. */
void plane_kill_client(struct plane *plane, uint64_t client_id,
                       void (*done)(void *argument, bool found), void *argument);
/* ---- the gate of an environment (gate.c) ---- */
enum gate_scope {
    GATE_WRITERS, /* pools whose target_session_attrs is read-write or primary */
    GATE_ALL,     /* every pool of the environment */
};
/* From when this returns no new transaction is begun: who asks for a server queues (under
 * failover_wait_timeout), and a client that keeps its server between transactions is held as well.
 * Transactions that run go on. Pools that are made or changed meanwhile are held too. Holding again
 * with another scope replaces the first. An environment that nobody has heard of is remembered. */
void plane_hold(struct plane *plane, const char *environment, enum gate_scope scope);
/* Lets them go: pools open their connections as they do after a failure, a few at first. */
void plane_release(struct plane *plane, const char *environment);
struct gate_counts {
    bool held;
    size_t waiting; /* clients that wait for a server of a pool that writes, now */
    size_t running; /* transactions under way on such servers (and queries whose client has gone);
                       exact while held: 0 stays 0 */
    uint64_t
        queued; /* clients that had to wait since the gate was shut last, or lost its primary */
    uint64_t errored; /* … that were told an error or lost their connection since then */
};
/* All 0 for an environment without pools. */
void plane_gate_counts(struct plane *plane, const char *environment, struct gate_counts *counts);

/* Is any server of these pools still there (PAUSE: any; WAIT_CLOSE: obsolete ones only)? */
bool plane_has_servers(struct plane *plane, const char *database, const char *environment,
                       bool obsolete_only);

enum plane_stop {
    PLANE_STOP_FOR_CLIENTS, /* stop accepting on TCP; leave when the last client has gone */
    PLANE_STOP_FOR_SERVERS, /* also end each client with 57P01 when its transaction is over */
};
/* hooks.idle is called when it is reached. */
void plane_stop(struct plane *plane, enum plane_stop how);
bool plane_is_stopping(const struct plane *plane);

/* ---- views: called on a worker's own thread, in gather_start's `each` ---- */

/* One row of SHOW CLIENTS, SERVERS, SOCKETS. Texts live during the call. */
struct socket_view {
    char type;                                 /* 'C' client, 'S' server */
    const char *user, *database, *environment; /* environment "" when none */
    const char *replication;                   /* "none", "logical", "physical" */
    const char *state;
    char addr[128], local_addr[128];
    uint16_t port, local_port;
    uint64_t connect_wall_us, request_wall_us; /* 0: never */
    uint64_t wait_us;
    bool close_needed;
    const void *self, *link;
    uint32_t remote_pid;
    char tls[96];
    const char *application_name;
    uint32_t prepared_statements;
    uint64_t id;
    unsigned worker;
    const char *host;     /* servers: the host's name as the configuration says it */
    const char *protocol; /* "3.0" or "3.2" */
    char pinned[256];     /* clients: why it keeps its server, "" when it does not */
    /* SOCKETS */
    uint64_t received_bytes_waiting, sent_bytes_waiting;
};
void worker_each_client(struct loop *loop, void (*row)(void *argument, const struct socket_view *),
                        void *argument);
void worker_each_server(struct loop *loop, void (*row)(void *argument, const struct socket_view *),
                        void *argument);

/* This worker's part of one row of SHOW POOLS. */
struct pool_view {
    struct pool *pool;
    uint64_t cl_active, cl_waiting, cl_active_cancel_req, cl_waiting_cancel_req;
    uint64_t sv_active, sv_active_cancel, sv_being_canceled, sv_idle, sv_used, sv_tested, sv_login;
    uint64_t max_wait_us;
};
void worker_each_pool(struct loop *loop, void (*row)(void *argument, const struct pool_view *),
                      void *argument);

/* This worker's part of one row of SHOW PEER_POOLS: requests for a peer. */
struct peer_view {
    int64_t id;
    uint64_t waiting, connecting, sent;
};
void worker_each_peer(struct loop *loop, void (*row)(void *argument, const struct peer_view *),
                      void *argument);

/* This worker's part of SHOW LISTS and SHOW MEM. */
struct worker_totals {
    uint64_t login_clients, used_clients, free_clients, used_servers, free_servers;
    uint64_t client_bytes, server_bytes, buffer_bytes;
    uint64_t used_exchanges, free_exchanges, exchange_bytes; /* of clients that are not idle */
    uint64_t moved_servers; /* so far: handed to a client of another worker */
};
void worker_totals(struct loop *loop, struct worker_totals *totals);

/* Failed logins since the start, attempts of refused addresses, and addresses that are remembered
 * or refused now. Any thread. */
struct login_totals {
    uint64_t failures, refusals;
    size_t addresses, refused_addresses;
};
void plane_login_totals(struct plane *plane, struct login_totals *totals);

/* ---- what monitoring levels count ---- */

enum watch_kind { WATCH_query, WATCH_transaction, WATCH_wait, WATCH_KINDS };
enum figure_kind { FIGURES_OF_USERS, FIGURES_OF_HOSTS, FIGURE_KINDS };
enum figure {
#define FIGURE(name, help) FIGURE_##name,
#include "pgstage/tables/figures.def"
#undef FIGURE
    FIGURE_COUNT,
};
enum security {
#define SECURITY(name, help) SECURITY_##name,
#include "pgstage/tables/security.def"
#undef SECURITY
    SECURITY_COUNT,
};

/* Each bucket of the pool's histograms that has counted something: the most microseconds that it
 * counts (UINT64_MAX: the open one). Control thread. */
void plane_each_bucket(struct plane *plane, struct pool *pool,
                       void (*row)(void *argument, enum watch_kind kind, uint64_t bound_us,
                                   uint64_t count),
                       void *argument);
struct figures_view {
    const char *name, *environment; /* environment NULL: none */
    uint64_t of[FIGURE_COUNT];
};
/* On a worker's own thread; texts live during the call. */
void worker_each_figures(struct loop *loop, enum figure_kind kind,
                         void (*row)(void *argument, const struct figures_view *), void *argument);
/* Each counter of security.def, then the reasons that have refused logins. Control thread. */
void plane_each_security(struct plane *plane,
                         void (*row)(void *argument, const char *name, uint64_t value,
                                     const char *help),
                         void *argument);

/* Each reason of pins.def: clients that are pinned for it now, and how often one was. Control
 * thread. */
void plane_each_pin(struct plane *plane,
                    void (*row)(void *argument, const char *name, uint64_t clients, uint64_t total,
                                const char *help),
                    void *argument);

/* Each user that auth_query has found and that is remembered, once for each place where it was asked
 * for. Control thread. */
void plane_each_fetched_user(struct plane *plane, void (*each)(void *argument, const char *user),
                             void *argument);

/* ---- pools (any thread) ---- */
/* For registry_sweep's `may_go`: true when no worker looks at this unused pool any more; else, with
 * `act`, they are asked to let it go, and a later sweep finds it so. */
bool plane_forget_pool(struct pool *pool, bool act);
/* What a pool means at present; the caller owns the reference. */
struct effective *plane_pool_effective(struct pool *pool);
/* Why the last login on a server of the pool failed; allocated. NULL: it did not. */
char *plane_pool_problem(struct pool *pool);

/* ---- hosts: what the control plane says of them, and hears ---- */

enum allowance {
    ALLOW_UNKNOWN, /* nobody knows: each login finds out whether the host fits */
    ALLOW_YES,
    ALLOW_NO,
};

/* What a host may be used for. All-zero: nothing has been said. */
struct standing {
    enum allowance write;   /* pools that write: it is the accepted primary */
    enum allowance standby; /* pools that ask for a standby: it is one, not too late */
    bool read_only;         /* its sessions are read-only by default though it is no standby */
    bool breaker_open;      /* nobody connects to it */
    /* What a new server connection must find there: behind an address may stand another server from
     * one moment to the next, before any probe has seen it. 0: not known. */
    uint64_t system_identifier;
    uint32_t timeline; /* of a host that takes writes: at least this one */
};
/* Says so of a host, named by its label (see health/report.h); a host that no pool has used yet
 * keeps it for later. Takes effect at once for new server connections; those that no longer fit
 * (the host's role is another, it is too late, its breaker is open, or a standby is there again for
 * pools that prefer one) are closed when they are idle or become free. Pools that wait look again
 * when something is allowed that was not. */
void plane_set_standing(struct plane *plane, const char *environment, const char *host,
                        const struct standing *standing);
/* The name of this host has these addresses (numeric): with several each is a host of its own.
 * Connections to addresses that are gone are closed as soon as they are free. */
void plane_set_addresses(struct plane *plane, const char *environment,
                         const struct host_config *host, const char *const *addresses,
                         size_t count);
/* Closes every server connection to the host on all workers: idle, active, opening, and
 * cancel requests under way; then calls `done` on the control loop (never from inside this call).
 * Nothing is sent on any connection that had begun before, and what was under
 * way to a host that is cut off does not reach it later either. New ones are not kept away: that is
 * the standing's. `reason` stands in the log, `detail` (may be NULL) behind it. */
void plane_close_host(struct plane *plane, const char *environment, const char *host,
                      enum reason reason, const char *detail, void (*done)(void *context),
                      void *context);

/* What live traffic shows of a host; at most one letter of trouble for each host in 100 ms. */
enum host_evidence {
    HOST_TROUBLE, /* refused, reset, 57P01 to 57P03, or a read-only error where writes should be */
    HOST_PRIMARY, /* a login found it out of recovery */
    HOST_STANDBY, /* … in recovery */
};
/* Who hears of it, on the control loop; NULL: nobody. Before plane_start. */
void plane_listen_to_hosts(struct plane *plane,
                           void (*heard)(void *context, const char *environment, const char *host,
                                         enum host_evidence evidence),
                           void *context);

/* One row of SHOW HOSTS: a host as the pools use it. */
struct host_view {
    const char *environment, *label, *name, *address;
    uint16_t port;
    uint64_t connections, failures;
    const char *state; /* up, down (backing off), unknown */
    char last_error[256];
    uint64_t retry_in_us;
    struct standing standing;
    bool is_split; /* its name has several addresses, which have rows of their own */
};
/* Control thread; texts live during the call. */
void plane_each_host(struct plane *plane, void (*row)(void *argument, const struct host_view *),
                     void *argument);
/* The host with this label; false: there is none. The texts live until the control loop goes on;
 * one of them is in the view. */
bool plane_view_host(struct plane *plane, const char *environment, const char *host,
                     struct host_view *view);

#endif
