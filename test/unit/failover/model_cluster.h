/*
 * model_cluster: the servers behind the model's reports, for procedures, which act on them: who
 * runs, who writes, who follows whom and how far; sessions of failover_user there, and the
 * operator's commands. Everything that is asked of them is answered later, when the model says so,
 * and not always with the truth.
 *
 * It stands in for monitor_…, probe_…, hook_… and plane_… .
 */
#ifndef TEST_UNIT_FAILOVER_MODEL_CLUSTER_H
#define TEST_UNIT_FAILOVER_MODEL_CLUSTER_H

#include "model_world.h"

struct registry;
struct snapshot;

struct model_server {
    bool is_running, is_primary;
    bool is_cut;      /* from pgstage alone */
    bool is_detached; /* from whom it follows */
    bool is_starting, refuses_login, may_not_promote;
    uint32_t timeline;
    uint64_t written;  /* a standby: received */
    uint64_t replayed; /* a standby's */
    size_t upstream;   /* MODEL_HOSTS: none */
    size_t next_upstream;
    uint64_t promoted_us; /* when a promotion that was asked for takes place; 0: none was */
    uint64_t heard_us;    /* when its WAL receiver last heard of whom it follows */
    uint64_t lingers_us; /* until then its receiver goes on, though whom it follows has stopped … */
    uint64_t owed;       /* … and then it has received that far */
    uint64_t refused_us;   /* when a login there failed last, because nobody was there */
    unsigned boots;        /* sessions of former ones are lost */
    const void *lock;      /* the session that holds the advisory lock; NULL: nobody */
    uint64_t lock_lost_us; /* when a session that held it was lost last */
    bool wants_probe;      /* of the monitor */
    uint64_t surveyed_us;  /* when a session last said how far it is, in this episode; 0: never */
    uint64_t surveyed_lsn; /* … and what it said */
    uint32_t surveyed_timeline;
    size_t surveyed_from; /* whom it streamed from; MODEL_HOSTS: nobody */
};

struct model_cluster {
    struct model_server servers[MODEL_HOSTS];
    bool is_honest; /* commands and servers do what they are asked, and at once */
    bool disk_hangs;
    struct snapshot *snapshot;          /* that the plane has */
    struct registry *registry;          /* without pools */
    unsigned transactions;              /* that run */
    size_t sessions, hooks, aftermaths; /* that are open, or run */
    /* since the latest episode began */
    unsigned promotions; /* that were asked for */
    unsigned demotes, undemotes, fences;
    bool was_fenced;  /* fence_command has said so */
    bool was_demoted; /* demote_command has said so */
    uint64_t demoted_us;
    bool has_said_end; /* … and where its WAL ends */
    bool has_lied;     /* one of them had done nothing */
    bool misses_none;  /* the candidate streamed when it was demoted, or the end of WAL was said */
};
extern struct model_cluster cluster;

/* a is the primary, the others follow. */
void cluster_init(void);
/* What an episode has done is counted from here. */
void cluster_new_episode(void);
/* WAL flows, promotions come about. */
void cluster_live(void);
/* The monitor looks at those that it has been asked for, and at others now and then. */
void cluster_look(void);
/* The monitor begins anew. */
void cluster_forget(void);
/* Sessions are answered, commands end; `all`: whatever can be. */
void cluster_sessions_go_on(bool all);
void cluster_hooks_go_on(bool all);
/* Something befalls a server. */
void cluster_trouble(void);
/* Every server is well and follows this one. */
void cluster_heal(size_t primary);
/* The WAL that it would have if it were promoted now. */
uint64_t cluster_position(size_t server);

/* ---- for its own files ---- */
bool server_streams(size_t server);
void server_stops(size_t server, bool cleanly);
void server_starts(size_t server);
/* The program's: pg_promote() is about to be carried out. */
void model_check_promotion(size_t server);

#endif
