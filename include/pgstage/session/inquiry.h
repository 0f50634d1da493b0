/*
 * inquiry: users that stand in no auth_file are asked for on a server (auth_query).
 *
 *   worker: inquiry_send ─► control thread: fresh answer? ─► connections of pgstage's own (libpq)
 *                       ◄─ answered ─┘                            │ one question for all who ask
 *                                    └── secrets (the cache) ◄────┘
 *
 * The connections belong to no pool and no client: they log in as auth_user, under the rules (TLS,
 * hosts, production's border) of the database where auth_query runs, know no parameter of any
 * client, and take no place in a pool. Room-internal.
 */
#ifndef PGSTAGE_SESSION_INQUIRY_H
#define PGSTAGE_SESSION_INQUIRY_H

#include "pgstage/auth/secrets.h"
#include "pgstage/session/worker.h"

struct inquiries;

enum inquiry_result {
    INQUIRY_KNOWN,
    INQUIRY_UNKNOWN,
    INQUIRY_FAILED, /* nobody could be asked, or the answer is no use: `problem` */
};

/* One login's question. Made by the worker, lent to the control thread by inquiry_send, and back
 * when it is answered. */
struct inquiry {
    struct mail mail; /* inquiry's */
    /* fixed */
    struct plane *plane;
    struct loop *home;
    struct setup *setup;         /* a reference */
    struct effective *effective; /* a reference: the database where auth_query runs */
    const char *auth_user, *auth_query;
    char *scope, *user; /* owned */
    /* On `home`; owns the inquiry from then on. */
    void (*answered)(struct inquiry *inquiry);
    void *context; /* home's own */
    /* owner: whoever has it */
    struct list_node node;
    enum inquiry_result result;
    struct fetched fetched; /* KNOWN */
    char *problem;          /* FAILED; owned */
};

struct inquiries *inquiries_new(struct plane *plane) __attribute__((warn_unused_result));
/* The workers have ended. */
void inquiries_free(struct inquiries *inquiries);

/* Where and how a user is asked for under these settings (allocated): the name under which answers
 * are kept. NULL: nowhere, there is no auth_user, or no database to ask in. */
char *inquiry_scope(const struct settings *settings, const char *environment, const char *database);
/* A fresh answer, if there is one. Any thread. */
enum secrets_answer inquiry_recall(struct plane *plane, const struct settings *globals,
                                   const char *scope, const char *user, uint64_t now_us,
                                   struct fetched *fetched) __attribute__((warn_unused_result));
/* All answers of this plane. Any thread. */
struct secrets *inquiries_secrets(struct plane *plane);
/* False: too many wait already; it stays the caller's. The thread of `home`. */
bool inquiry_send(struct inquiry *inquiry) __attribute__((warn_unused_result));
void inquiry_free(struct inquiry *inquiry);
/* RELOAD and RECONNECT: no answer is fresh any more, and new questions go over new connections.
 * Control thread. */
void inquiries_renew(struct plane *plane);

#endif
