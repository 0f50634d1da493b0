/*
 * delegation: sessions of failover_user on several hosts at once, for one procedure.
 *
 *   delegation_new ─► delegation_open (all hosts in parallel) ─► delegation_ask … ─►
 * delegation_free
 *
 * Each host has a delegate; one that cannot log in, or is lost later, keeps its problem and is not
 * asked any more. The sessions stay open until the end, and with them the advisory locks that they
 * hold. One loop's thread; no callback comes from inside a call, and none after delegation_hush or
 * delegation_free.
 */
#ifndef PGSTAGE_FAILOVER_DELEGATION_H
#define PGSTAGE_FAILOVER_DELEGATION_H

#include <stdbool.h>
#include <stdint.h>

#include "pgstage/base/list.h"
#include "pgstage/conf/snapshot.h"
#include "pgstage/health/probe.h"
#include "pgstage/health/report.h"

struct delegation;

struct delegate {
    /* fixed */
    struct list_node node;
    struct delegation *delegation;
    char *host;           /* key */
    char *name, *address; /* as the configuration says it, and numeric; address may be NULL */
    uint16_t port;
    /* owner */
    struct probe *probe;
    bool is_open;
    bool is_voter;     /* the caller's: its lock counts */
    bool is_pending;   /* it is logging in, or asked something */
    bool is_repointed; /* the caller's: it was told to follow the new primary */
    uint64_t login_us; /* what logging in took */
    bool has_failed;   /* what it was asked last; `problem` says why */
    char problem[PROBE_TEXT_BYTES + 32];
    /* what it was found to be, by delegation_survey */
    bool has_lock, in_recovery;
    uint64_t system_identifier;
    uint64_t received_lsn, replayed_lsn, written_lsn;
    bool has_receiver, streams;
    uint32_t timeline; /* of the receiver, or of the WAL that it writes; 0: not known */
    uint64_t silent_us, receiver_timeout_us;
};

/* Reads one delegate's answer. */
typedef void delegation_answer(void *context, struct delegate *delegate,
                               const struct probe_result *result);
/* All that were asked have answered, or failed to. */
typedef void delegation_done(void *context);

/* `settings` are the environment's; they must live as long. */
struct delegation *delegation_new(struct loop *loop, struct resolver *resolver,
                                  const struct settings *settings, void *context)
    __attribute__((warn_unused_result));
void delegation_free(struct delegation *delegation);
void delegation_add(struct delegation *delegation, const struct host_report *report);
/* Logs in wherever no session is; with `host`, only there. */
void delegation_open(struct delegation *delegation, const char *host, uint64_t deadline_us,
                     delegation_done *done);
/* Asks all that are open; with `host`, only that one. */
void delegation_ask(struct delegation *delegation, const char *host, const char *sql,
                    uint64_t deadline_us, delegation_answer *answer, delegation_done *done);
/* Fills what the delegates are found to be, and tries the lock on those that do not hold it. */
void delegation_survey(struct delegation *delegation, uint64_t deadline_us, delegation_done *done);
/* Nothing that is under way is told any more; the sessions in question are closed. */
void delegation_hush(struct delegation *delegation);
/* Ends the session on one host. */
void delegation_dismiss(struct delegation *delegation, const char *host);

/* NULL: none. */
struct delegate *delegation_find(const struct delegation *delegation, const char *host);
struct list *delegation_list(struct delegation *delegation);
/* An SQL literal, E'…' with blanks around; allocated. */
char *sql_literal(const char *text);

#endif
