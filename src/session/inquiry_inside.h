/*
 * inquiry_inside: what inquiry.c (who is asked for, and who waits for the answer) and inquirer.c
 * (one connection that asks) share.
 */
#ifndef PGSTAGE_SESSION_INQUIRY_INSIDE_H
#define PGSTAGE_SESSION_INQUIRY_INSIDE_H

#include "pgstage/base/map.h"
#include "pgstage/health/probe.h"
#include "pgstage/session/backend.h"
#include "pgstage/session/inquiry.h"

/* Connections of one source at a time. */
#define INQUIRERS_MAX 2

struct inquirer;

/* A user who is asked for, by one login or by many. */
struct question {
    /* fixed */
    struct source *source;
    char *user;
    /* owner: the control thread */
    UT_hash_handle hh;
    struct list inquiries;
    struct list_node node; /* in source->queue while nobody asks it */
    struct timer timer;    /* the deadline of the whole */
    uint64_t deadline_us;
    bool is_repeated; /* its connection was lost; it is asked a second time */
};

/* One place to ask in, with one login and one query: what a scope names. */
struct source {
    /* fixed */
    struct inquiries *inquiries;
    struct plane *plane;
    struct setup *setup;     /* references */
    struct meaning *meaning; /* hosts and TLS of the database where it runs */
    char *scope;
    const char *auth_user, *auth_query,
        *password; /* of the setup's snapshot; password NULL: none */
    /* owner: the control thread */
    UT_hash_handle hh;
    struct list_node node;      /* in inquiries->retired, when it is in the hash no more */
    struct question *questions; /* uthash */
    struct list queue;
    struct inquirer *inquirers[INQUIRERS_MAX];
    struct timer pump;
    char *trouble; /* what the last connection failed with; NULL: none did */
    uint64_t refused_until_us;
};

/* Begins to connect, to a host that may be used now. NULL and `retry_at_us`: there is none. */
struct inquirer *inquirer_open(struct source *source, uint64_t *retry_at_us)
    __attribute__((warn_unused_result));
/* Ends it, whatever it is doing; NULL is nothing. */
void inquirer_close(struct inquirer *inquirer);
/* Is it connected, and does it ask nothing? NULL is not. */
bool inquirer_is_idle(const struct inquirer *inquirer);
/* May an idle one be asked: is its host still one that may be used? */
bool inquirer_is_usable(const struct inquirer *inquirer);
/* The question that it asks; NULL: none. */
struct question *inquirer_question(const struct inquirer *inquirer);
/* Asks. It must be idle and usable. */
void inquirer_ask(struct inquirer *inquirer, struct question *question);

/* What inquirers tell (inquiry.c): it is connected; the server has answered; it is of no use any
 * more, and is closed by the call (PROBE_FINE: it was idle for long, and nothing is wrong). */
void source_connected(struct source *source);
void source_answered(struct source *source, struct question *question,
                     const struct probe_result *result);
void source_lost(struct source *source, struct inquirer *inquirer, struct question *question,
                 enum probe_error error, const char *text);

#endif
