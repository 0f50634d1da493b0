/*
 * listeners: clients that LISTEN while hosts die, and one that publishes numbers through pgstage.
 *
 * What is promised to them: from the answer of LISTEN on, a listening client hears each published
 * number once and in order, until it is told that it may have missed something (its connection
 * ends with FATAL 57P01, or the WARNING of listen_gap = notice comes). Then it listens anew, as an
 * application does. Two threads; the judge reads what they noted when they have ended.
 */
#ifndef SUPPORT_LISTENERS_H
#define SUPPORT_LISTENERS_H

#include <stdbool.h>

struct listeners;
struct proxy;

struct listeners_verdict {
    long published; /* acknowledged */
    long heard;     /* by all of them together */
    long told;      /* how often one was told that it may have missed something */
    long missed;    /* acknowledged, between two that were heard or after the last, and not heard */
    long untold;    /* connections that ended without a word */
    char problem[256]; /* "", or what else must not be: twice, out of order, never acknowledged … */
};

#define LISTENERS_MAX 32

/* Returns when each of them listens on that channel, which nobody else uses; `extra` is more
 * conninfo, or NULL. */
struct listeners *listeners_start(const struct proxy *proxy, int count, const char *channel,
                                  const char *extra);
/* Waits until each hears a number that is published from now on, then ends them. */
void listeners_stop(struct listeners *listeners);
/* After listeners_stop. */
struct listeners_verdict listeners_judge(struct listeners *listeners);

#endif
