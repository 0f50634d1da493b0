/*
 * choice.c: picks a host for a new server connection.
 *
 *   hosts of the pool ─► parts (addresses) ─► rank by role ─► not held back ─► the best rank,
 * balanced
 *
 * The control plane's standing of a host says what it may serve. Where that is unknown (nobody can
 * probe it, or nobody has yet) the host is tried, the login tells the role, and a host with the
 * wrong one is left alone for a second by those that want the other. A host whose breaker is open
 * is not tried at all. Hosts of the disaster recovery site are used only when they are allowed by
 * name.
 */
#include "pgstage/session/choice.h"

#include <stdlib.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/net/resolver.h"
#include "pgstage/session/gate.h"

/* How long a host with the wrong role is left alone, and when to look again when nothing else says
 * so. */
#define CHOICE_AGAIN_US CLOCK_SECOND

struct candidate {
    struct host *host;
    enum choice_rank rank;
};

enum choice_rank choice_rank(int target, const struct standing *standing)
{
    enum allowance write = standing->write, standby = standing->standby;

    switch (target) {
    case TARGET_READ_WRITE:
    case TARGET_PRIMARY:
        return write == ALLOW_YES  ? CHOICE_WANTED
               : write == ALLOW_NO ? CHOICE_NONE
                                   : CHOICE_POSSIBLE;
    case TARGET_STANDBY:
        return standby == ALLOW_YES  ? CHOICE_WANTED
               : standby == ALLOW_NO ? CHOICE_NONE
                                     : CHOICE_POSSIBLE;
    case TARGET_READ_ONLY:
        if (standby == ALLOW_NO)
            return write == ALLOW_YES && standing->read_only ? CHOICE_FALLBACK : CHOICE_NONE;
        return standby == ALLOW_YES ? CHOICE_WANTED : CHOICE_POSSIBLE;
    case TARGET_PREFER_STANDBY:
        if (standby == ALLOW_NO)
            return write == ALLOW_NO ? CHOICE_NONE : CHOICE_FALLBACK;
        return standby == ALLOW_YES ? CHOICE_WANTED : CHOICE_POSSIBLE;
    default:
        if (write == ALLOW_NO && standby == ALLOW_NO)
            return CHOICE_NONE;
        return write == ALLOW_YES || standby == ALLOW_YES ? CHOICE_WANTED : CHOICE_POSSIBLE;
    }
}

static bool wants_standby(int target)
{
    return target == TARGET_STANDBY || target == TARGET_READ_ONLY ||
           target == TARGET_PREFER_STANDBY;
}

static void sooner(uint64_t *at_us, uint64_t candidate_us)
{
    if (candidate_us < *at_us)
        *at_us = candidate_us;
}

/* May it be tried now? Otherwise when. */
static bool is_ready(struct host *host, int target, enum choice_rank rank, uint64_t now_us,
                     uint64_t *retry_at_us)
{
    uint64_t at_us = host_retry_at(host);

    if (rank == CHOICE_POSSIBLE && host_misfit_until(host, wants_standby(target)) > at_us)
        at_us = host_misfit_until(host, wants_standby(target));
    if (at_us <= now_us)
        return true;
    sooner(retry_at_us, at_us);
    return false;
}

static enum choice_rank rank_of(const struct host *host, int target, bool dr)
{
    struct standing standing = host_standing(host);
    enum choice_rank rank = choice_rank(target, &standing);

    if (standing.breaker_open || (dr && rank == CHOICE_POSSIBLE))
        return CHOICE_NONE;
    return rank;
}

/* Every host that may be tried now, each used once. Returns how many; `list` has room for all. */
static size_t collect(const struct meaning *meaning, int target, uint64_t now_us,
                      struct candidate *list, uint64_t *retry_at_us)
{
    size_t count = 0;

    for (size_t i = 0; i < meaning->host_count; i++) {
        struct host *parts[RESOLVER_ADDRESSES_MAX];
        size_t part_count = host_use_parts(meaning->hosts[i], parts, RESOLVER_ADDRESSES_MAX);

        for (size_t k = 0; k < part_count; k++) {
            enum choice_rank rank = rank_of(parts[k], target, i >= meaning->dr_from);

            if (rank != CHOICE_NONE && is_ready(parts[k], target, rank, now_us, retry_at_us))
                list[count++] = (struct candidate){parts[k], rank};
            else
                host_unuse(parts[k]);
        }
    }
    return count;
}

/* The best of those with the best rank. */
static size_t choose(struct share *share, const struct candidate *list, size_t count,
                     uint64_t now_us)
{
    enum choice_rank best = CHOICE_NONE;
    size_t equal = 0, nth = 0, chosen = 0;
    uint64_t fewest = UINT64_MAX;
    int balance = share_settings(share)->load_balance_hosts;

    for (size_t i = 0; i < count; i++) {
        if (list[i].rank < best) {
            best = list[i].rank;
            equal = 0;
        }
        equal += list[i].rank == best;
    }
    if (balance == BALANCE_ROUND_ROBIN)
        nth = atomic_fetch_add_explicit(&share->backend->turn, 1, memory_order_relaxed) % equal;
    else if (balance == BALANCE_RANDOM)
        nth = map_hash(&now_us, sizeof(now_us)) % equal;
    for (size_t i = 0; i < count; i++) {
        if (list[i].rank != best)
            continue;
        if (balance == BALANCE_LEAST) {
            if (host_users(list[i].host) < fewest) {
                fewest = host_users(list[i].host);
                chosen = i;
            }
        } else if (nth-- == 0) {
            return i;
        }
    }
    return chosen;
}

struct host *choice_pick(struct share *share, uint64_t now_us, uint64_t *retry_at_us)
{
    const struct meaning *meaning = share->meaning;
    const struct settings *settings = share_settings(share);
    uint64_t again_us = settings->server_login_retry_us;
    struct candidate *list;
    struct host *host = NULL;
    size_t count, chosen;

    if (meaning->effective->environment && again_us > CHOICE_AGAIN_US)
        again_us = CHOICE_AGAIN_US;
    *retry_at_us = now_us + again_us;
    list = memory_get((meaning->host_count + 1) * RESOLVER_ADDRESSES_MAX * sizeof(*list));
    count = collect(meaning, settings->target_session_attrs, now_us, list, retry_at_us);
    if (count == 0 && gate_takes_standby(share))
        count = collect(meaning, TARGET_STANDBY, now_us, list, retry_at_us);
    if (count > 0) {
        chosen = choose(share, list, count, now_us);
        host = list[chosen].host;
        for (size_t i = 0; i < count; i++)
            if (i != chosen)
                host_unuse(list[i].host);
    }
    free(list);
    return host;
}

struct host *choice_pick_any(const struct meaning *meaning, uint64_t now_us, uint64_t *retry_at_us)
{
    struct candidate *list =
        memory_get((meaning->host_count + 1) * RESOLVER_ADDRESSES_MAX * sizeof(*list));
    size_t count, best = 0;
    struct host *host = NULL;

    *retry_at_us = now_us + CHOICE_AGAIN_US;
    count = collect(meaning, TARGET_ANY, now_us, list, retry_at_us);
    for (size_t i = 1; i < count; i++)
        if (list[i].rank < list[best].rank)
            best = i;
    for (size_t i = 0; i < count; i++) {
        if (i == best)
            host = list[i].host;
        else
            host_unuse(list[i].host);
    }
    free(list);
    return host;
}

bool choice_takes_any(const struct host *host)
{
    struct standing standing = host_standing(host);

    return !standing.breaker_open && choice_rank(TARGET_ANY, &standing) != CHOICE_NONE;
}

/* ---- roles ---- */

bool choice_wants_primary(const struct effective *effective)
{
    int target = effective->settings->target_session_attrs;

    return effective->environment && (target == TARGET_READ_WRITE || target == TARGET_PRIMARY);
}

bool choice_knows_no_primary(const struct share *share)
{
    const struct meaning *meaning = share->meaning;
    bool none = true;

    for (size_t i = 0; i < meaning->host_count && none; i++) {
        struct host *parts[RESOLVER_ADDRESSES_MAX];
        size_t count = host_use_parts(meaning->hosts[i], parts, RESOLVER_ADDRESSES_MAX);

        for (size_t k = 0; k < count; k++) {
            none = none && rank_of(parts[k], TARGET_PRIMARY, i >= meaning->dr_from) == CHOICE_NONE;
            host_unuse(parts[k]);
        }
    }
    return none;
}

bool choice_needs_role(const struct server *server)
{
    const struct effective *effective = server->meaning->effective;
    int target = effective->settings->target_session_attrs;

    /* without an environment a database serves as in PgBouncer, unless it asks for a role */
    return effective->environment ? target != TARGET_ANY
                                  : target != TARGET_ANY && target != TARGET_READ_WRITE;
}

/* Is there another host that might be a standby, and could be tried now? */
static bool has_other(struct server *server, uint64_t now_us)
{
    uint64_t retry_at_us = UINT64_MAX;
    struct host *host;
    bool other = false;
    const struct meaning *meaning = server->share->meaning;
    struct candidate *list =
        memory_get((meaning->host_count + 1) * RESOLVER_ADDRESSES_MAX * sizeof(*list));
    size_t count = collect(meaning, TARGET_PREFER_STANDBY, now_us, list, &retry_at_us);

    for (size_t i = 0; i < count; i++) {
        host = list[i].host;
        other = other || (host != server->host && list[i].rank <= CHOICE_POSSIBLE);
        host_unuse(host);
    }
    free(list);
    return other;
}

bool choice_takes_role(struct server *server, bool in_recovery, uint64_t now_us)
{
    int target = server->meaning->effective->settings->target_session_attrs;
    bool standby = wants_standby(target), fits = standby == in_recovery;

    if (target == TARGET_ANY)
        return true;
    if (fits)
        return true;
    if (target == TARGET_READ_ONLY) {
        const char *read_only = parameters_get(server->reported, "default_transaction_read_only");

        fits = read_only && strcmp(read_only, "on") == 0;
    }
    if (!fits)
        host_is_misfit(server->host, standby, now_us + CHOICE_AGAIN_US);
    if (target == TARGET_PREFER_STANDBY)
        fits = !has_other(server, now_us);
    server->stands_in = !fits && in_recovery && gate_takes_standby(server->share);
    return fits || server->stands_in;
}

bool choice_allows(const struct server *server)
{
    int target = server->stands_in ? TARGET_STANDBY
                                   : server->meaning->effective->settings->target_session_attrs;
    struct standing standing = host_standing(server->host);

    return choice_rank(target, &standing) != CHOICE_NONE;
}

/* Would the pool rather have a host of this rank, and is there one that can be used? */
static bool has_better(const struct server *server, int target, enum choice_rank rank)
{
    const struct meaning *meaning = server->share->meaning;
    bool better = false;

    for (size_t i = 0; i < meaning->host_count && !better; i++) {
        struct host *parts[RESOLVER_ADDRESSES_MAX];
        size_t count = host_use_parts(meaning->hosts[i], parts, RESOLVER_ADDRESSES_MAX);

        for (size_t k = 0; k < count; k++) {
            better = better || (rank_of(parts[k], target, i >= meaning->dr_from) == CHOICE_WANTED &&
                                rank != CHOICE_WANTED);
            host_unuse(parts[k]);
        }
    }
    return better;
}

bool choice_fits(const struct server *server)
{
    int target = server->share->meaning->effective->settings->target_session_attrs;
    struct standing standing = host_standing(server->host);
    enum choice_rank rank = choice_rank(target, &standing);

    if (server->stands_in)
        return gate_takes_standby(server->share) && !standing.breaker_open &&
               choice_rank(TARGET_STANDBY, &standing) != CHOICE_NONE &&
               !has_better(server, target, CHOICE_FALLBACK);
    if (standing.breaker_open || rank == CHOICE_NONE)
        return false;
    return rank != CHOICE_FALLBACK || !has_better(server, target, rank);
}
