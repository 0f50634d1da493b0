/*
 * worker: one thread of the data plane with its clients and servers, and the frame that they share.
 *
 * Room-internal: the control plane uses session/plane.h.
 */
#ifndef PGSTAGE_SESSION_WORKER_H
#define PGSTAGE_SESSION_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "pgstage/auth/keys.h"
#include "pgstage/base/buffer.h"
#include "pgstage/base/counter.h"
#include "pgstage/base/list.h"
#include "pgstage/base/slab.h"
#include "pgstage/conf/snapshot.h"
#include "pgstage/net/listener.h"
#include "pgstage/net/resolver.h"
#include "pgstage/net/tls.h"
#include "pgstage/pool/registry.h"
#include "pgstage/session/pin.h"
#include "pgstage/session/plane.h"
#include "pgstage/session/reason.h"
#include "pgstage/worker/loop.h"
#include "pgstage/worker/offload.h"
#include "pgstage/worker/timer.h"

struct client;
struct audit;
struct cancel_name;
struct figures;
struct outgoing;
struct peer;
struct gates;
struct hubs;
struct inquiries;
struct server;

/* Most workers that a cancel key can name. */
#define WORKERS_MAX 128
/* Most clients that one worker can have at a time (their slots stand in 24 bits of a cancel key).
 */
#define WORKER_CLIENTS_MAX (1u << 20)

/* One configuration as the workers use it: immutable, reference-counted. */
struct setup {
    /* fixed */
    _Atomic unsigned references;
    struct snapshot *snapshot;
    struct server_policies *policies; /* TLS to servers: one context for each policy in use */
    size_t door_count;
    struct setup_door {
        const struct listener_config *listener;
        const struct snapshot *snapshot;
        struct tls_context *tls; /* NULL: clients get 'N' */
        /* by the index of the environment: with its own certificate; NULL: it has none */
        struct tls_context **tls_by_environment;
    } doors[];
};

/* A listening socket. Lives as long as the plane. */
struct door {
    /* fixed */
    struct plane *plane;
    struct listener *listener;
    const char *listener_name; /* of the configuration; NULL: [pgstage]'s own; owned */
    unsigned index;
    bool brings_bytes; /* connections come with their first bytes (tcp_defer_accept) */
};

struct worker {
    /* fixed */
    struct plane *plane;
    struct loop *loop;
    unsigned index;
    pthread_t thread;
    /* owner */
    struct setup *setup;
    struct list clients;
    struct list servers;              /* closing one closes no other */
    struct server *servers_by_id;     /* uthash */
    struct list cancels;              /* connections that carry a CancelRequest */
    struct cancel_name *cancel_names; /* uthash: of keys that peers may see */
    struct peer *peers;               /* uthash: those that cancel requests are passed on to */
    struct list shares;               /* the parts of pools that this worker has used */
    struct loop_task refresh;         /* takes the present setup over into … */
    size_t refresh_left;              /* … so many of `shares`, from the front */
    struct client **slots;
    uint32_t slot_count, slot_capacity; /* used so far; there is room for */
    uint32_t slot_free;                 /* + 1; those behind it are chained in the same way … */
    uint32_t *slot_next;                /* … through this; 0: none */
    uint32_t *slot_generation;
    struct figures *figures[FIGURE_KINDS]; /* uthash */
    uint64_t moved_servers;                /* handed to another worker, so far */
    struct outgoing *outgoing;             /* NULL until a message is rewritten */
    struct slab exchanges;                 /* of clients that are not idle */
    struct slab statement_heads;           /* … where slow queries are logged */
    struct buffer context;                 /* of the prepared statement that is looked at */
    bool stopping;                         /* clients end with their transaction */
    bool ended;                            /* all was closed: letters that still come are dropped */
    /* counters: this worker writes, anybody reads */
    struct counter security[SECURITY_COUNT];
    struct counter refused[REASON_COUNT]; /* logins */
    struct counter pins_made[PIN_COUNT], pins_held[PIN_COUNT];
    /* shared: atomic */
    _Atomic uint32_t client_load; /* clients here or on their way here */
};

struct plane {
    /* fixed */
    struct loop *control;
    struct plane_hooks hooks;
    struct registry *registry;
    struct resolver *resolver;
    struct offload *derivations; /* PBKDF2 */
    struct offload *identities;  /* names of system users */
    struct offload *helpers;     /* LDAP and PAM; NULL: no configuration has needed them yet */
    struct key_cache *keys;
    struct border *border;     /* hosts that are production's */
    struct failures *failures; /* of logins, by address */
    struct statement_cache *statements;
    struct audit *audit;
    unsigned worker_count;
    struct worker *workers;
    struct loop **loops;
    size_t door_count;
    struct door *doors;
    struct hosts *hosts;
    struct hubs *hubs;           /* of LISTEN */
    struct inquiries *inquiries; /* auth_query */
    struct gates *gates;
    uint8_t cancel_seed[32]; /* long cancel keys are made from it */
    /* NULL: nobody hears what is seen of hosts */
    void (*heard)(void *context, const char *environment, const char *host,
                  enum host_evidence evidence);
    void *heard_context;
    /* owner: the control thread */
    struct setup *setup;
    struct timer expiry; /* the next look at expires_at */
    uint64_t expiry_looked_us;
    struct list closings; /* plane_close_host under way */
    bool running;
    bool stopping;
    bool listening;
    /* shared: atomic */
    _Atomic int stop; /* 0, or enum plane_stop + 1: new logins are refused */
    _Atomic int64_t console_clients;
    _Atomic unsigned border_epoch; /* counts what border.h has learned */
};

/* A configuration for these doors: NULL and `problem` when a TLS file cannot be used. Control
 * thread. */
struct setup *setup_new(struct snapshot *snapshot, const struct door *doors, size_t door_count,
                        char *problem, size_t size) __attribute__((warn_unused_result));
struct setup *setup_ref(struct setup *setup);
void setup_unref(struct setup *setup);
/* The context for servers under these settings, made on first use and shared by all pools with the
 * same policy; a reference for the caller. NULL and `problem` when a file cannot be used. Any
 * thread. */
struct tls_context *setup_server_tls(struct setup *setup, const struct settings *settings,
                                     char *problem, size_t size)
    __attribute__((warn_unused_result));

static inline struct worker *worker_of(struct loop *loop)
{
    return loop_context(loop);
}

/* Gives the client a slot; false when there is none left. Sets its id: worker, generation, slot. */
bool worker_add_client(struct worker *worker, struct client *client);
void worker_remove_client(struct worker *worker, struct client *client);
/* The client with this id, or NULL when it has gone. */
struct client *worker_client(struct worker *worker, uint64_t id);
/* The client in this slot, or NULL (for cancel keys). */
struct client *worker_client_at(struct worker *worker, uint32_t slot);
void worker_add_server(struct worker *worker, struct server *server);
void worker_remove_server(struct worker *worker, struct server *server);
/* NULL when this worker has no such server. */
struct server *worker_server(struct worker *worker, uint64_t item_id);

static inline unsigned worker_of_id(uint64_t id)
{
    return (unsigned)(id >> 52);
}
static inline uint32_t slot_of_id(uint64_t id)
{
    return (uint32_t)(id & 0xfffff);
}

/* Derives the keys of plain secrets in the background, after a load. Control thread. */
void plane_warm_keys(struct plane *plane);
/* A client has ended: when the plane is stopping and it was the last one, hooks.idle is called. Any
 * thread. */
void plane_client_left(struct plane *plane);

#endif
