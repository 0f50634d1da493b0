/*
 * ledger: clients that move money between accounts while hosts die, and a judge who compares
 * afterwards what they were told with what the database holds.
 *
 * Each transfer has an id of its own and one of three outcomes, noted outside the database at the
 * moment its client learns it: acknowledged, unknown (08007, or the connection went while a commit
 * was under way), failed (any other error: it must not be there). The clients use transactions in
 * simple and extended protocol, single statements, named prepared statements, pipelines and strings
 * of several statements in turn. Each has set parameters of its session (application_name,
 * TimeZone, search_path, statement_timeout), and every transfer looks whether they hold. Others are
 * idle all the time, and some listen (listeners.h). The tables are constellation.h's.
 */
#ifndef SUPPORT_LEDGER_H
#define SUPPORT_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "constellation.h"
#include "listeners.h"

struct proxy;
struct ledger;

struct ledger_options {
    int clients;          /* that work; at most 200 */
    int idle;             /* that do nothing; at most 200 */
    int listeners;        /* that listen; at most LISTENERS_MAX */
    int pause_ms;         /* between a client's transfers */
    int first;            /* number of its first client: several ledgers need ranges of their own */
    bool shared;          /* other ledgers write to the same tables */
    bool cut;             /* pgstage itself dies: connections end without a word */
    const char *conninfo; /* extra; NULL: none */
};

struct ledger_verdict {
    long acknowledged, unknown, failed, closed; /* closed: connections lost */
    long arrived;                               /* of the unknown: there after all */
    long missing;                               /* acknowledged, not there */
    int64_t last_missing; /* when the last of them was acknowledged (now_ms) */
    long unexplained;    /* missing, and not among what the old primary had written behind the point
                            from which the new one started: see ledger_explain */
    long doubled;        /* there more than once, of any outcome */
    long ghosts;         /* failed, and there */
    long wrong_accounts; /* whose balance is not what the transfers say */
    int idle_lost;       /* idle clients that were disconnected, or get no answer */
    struct listeners_verdict heard;
    int64_t longest_ms; /* from the beginning of a transfer to its outcome */
    char example[128];  /* one of the doubled or ghosts */
    char problem[512];  /* a client heard what it must not; "" */
};

struct ledger *ledger_start(const struct proxy *proxy, const struct ledger_options *options);
long ledger_acknowledged(const struct ledger *ledger);
long ledger_unknown(const struct ledger *ledger);
long ledger_failed(const struct ledger *ledger);
/* Connections that working clients have lost; each connects again. */
long ledger_closed(const struct ledger *ledger);
/* The last error that a client was told, and how often each SQLSTATE came; allocated. */
char *ledger_last_error(struct ledger *ledger);
/* Forgets the longest pause, and waits for the first transfer that is begun from now on: */
void ledger_mark(struct ledger *ledger);
/* milliseconds from the mark to its acknowledgement; -1: none yet. */
double ledger_first_ms(const struct ledger *ledger);
/* Transfers that were begun after the mark and are in that server's tables: what a client had sent
 * before may still be carried out there, seconds later, when locks or lost packets held it up. */
long ledger_fresh_on(const struct ledger *ledger, const struct cluster *cluster);
/* Waits until at least `count` transfers that are begun after this call have been acknowledged. */
bool ledger_goes_on(struct ledger *ledger, long count, int ms);
/* Ends the working clients, looks whether the idle ones are still there, and whether those that
 * listen hear what is said now. */
void ledger_stop(struct ledger *ledger);

/* Compares with what that server holds, after ledger_stop. */
struct ledger_verdict ledger_judge(struct ledger *ledger, const struct cluster *primary);
/*
 * For those that are missing: asks the old primary, which is stopped and is started for this moment
 * on a Unix socket only, whether their commits stand in its WAL behind `switch_point`: then it was
 * PostgreSQL that lost them. Sets `unexplained`.
 */
void ledger_explain(struct ledger *ledger, struct ledger_verdict *verdict, struct cluster *old,
                    const char *switch_point);

/* What must hold whatever has happened: nothing doubled, no ghost, no wrong account, no idle client
 * lost, no notification missed untold, no problem; and nothing missing unless `may_miss`. */
void ledger_expect_sound(const struct ledger_verdict *verdict, bool may_miss);

#endif
