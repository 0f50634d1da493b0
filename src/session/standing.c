/*
 * standing.c: the control plane's word on hosts, carried out on every worker; and what workers see
 * of hosts, carried to the control plane.
 *
 *   plane_set_standing ─ letter ─► each worker: servers that no longer fit are retired, pools that
 *                                  wait look again
 *   plane_close_host ─ generation + 1 ─ gather ─ gather ─ gather ─► done
 *
 * A server that is on its way from one worker to another in a letter is met by neither of them: so
 * each server knows in which generation of its host it was begun, and is closed where it arrives
 * when that is over. The third round comes after every letter that was sent before the first.
 */
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/cancel.h"
#include "pgstage/session/choice.h"
#include "pgstage/session/gate.h"
#include "pgstage/session/pace.h"
#include "pgstage/session/server.h"
#include "pgstage/session/standing.h"
#include "pgstage/worker/gather.h"

/* Letters about one host. */
#define TROUBLE_AGAIN_US (100 * CLOCK_MS)
#define ROLE_AGAIN_US (10 * CLOCK_SECOND)
#define CLOSE_ROUNDS 3

/* ---- retiring ---- */

/* It goes now, or as soon as it is free. */
static void retire(struct server *server, enum reason reason)
{
    if (server->state == SERVER_IDLE || (server->aside && !server->login))
        server_close(server, reason, NULL);
    else if (!server->login)
        server->close_needed = true;
    else if (host_standing(server->host).breaker_open)
        /* whoever waits for it would wait out the connect timeout */
        server_open_failed(server, REASON_SERVER_CONNECT_FAILED, "08001", "the host is down");
}

void standing_retire(struct share *share)
{
    list_for_each_safe (node, &share->servers) {
        struct server *server = list_entry(node, struct server, share_node);

        if (!choice_fits(server))
            retire(server, REASON_SERVER_WRONG_ROLE);
    }
}

struct standing_letter {
    struct mail mail;
    char *environment;    /* whose servers are looked at; NULL: of none */
    struct host *retired; /* NULL, or whose servers all go (used) */
};

static void standing_letter_free(struct mail *mail)
{
    struct standing_letter *letter = (struct standing_letter *)mail;

    if (letter->retired)
        host_unuse(letter->retired);
    free(letter->environment);
    free(letter);
}

static bool is_of(const struct server *server, const char *environment)
{
    return text_equal(pool_environment(server->backend->pool), environment);
}

static void deliver_standing(struct loop *loop, struct mail *mail)
{
    struct standing_letter *letter = (struct standing_letter *)mail;
    struct worker *worker = worker_of(loop);

    if (!worker->ended) {
        list_for_each_safe (node, &worker->servers) {
            struct server *server = list_entry(node, struct server, node);

            if (letter->retired ? server->host == letter->retired
                                : is_of(server, letter->environment) && !choice_fits(server))
                retire(server, REASON_SERVER_WRONG_ROLE);
        }
    }
    standing_letter_free(mail);
}

static void post_all(struct plane *plane, const char *environment, struct host *retired)
{
    for (unsigned i = 0; i < plane->worker_count; i++) {
        struct standing_letter *letter = memory_new(sizeof(*letter));

        letter->mail.deliver = deliver_standing;
        letter->mail.drop = standing_letter_free;
        letter->environment = text_copy(environment);
        letter->retired = retired;
        if (retired)
            host_use(retired);
        loop_post(plane->loops[i], &letter->mail);
    }
}

/* ---- standing ---- */

struct retrying {
    const char *environment;
    uint64_t now_us;
};

static void retry_pool(struct pool *pool, void *argument)
{
    const struct retrying *retrying = argument;

    if (text_equal(pool_environment(pool), retrying->environment))
        pool_retry(pool, retrying->now_us);
}

void plane_set_standing(struct plane *plane, const char *environment, const char *label,
                        const struct standing *standing)
{
    struct host *host = hosts_find(plane->hosts, environment, label);
    struct retrying retrying = {environment, loop_now_us(plane->control)};
    struct standing before;
    bool opened;

    if (!host)
        return;
    before = host_standing(host);
    if (!host_set_standing(host, standing))
        return;
    opened = (before.breaker_open && !standing->breaker_open) ||
             (before.write != ALLOW_YES && standing->write == ALLOW_YES) ||
             (before.standby != ALLOW_YES && standing->standby == ALLOW_YES);
    post_all(plane, environment, NULL);
    if (!opened)
        return;
    host_forgive(host);
    pace_slow(gate_pace(gates_get(plane->gates, environment)), clock_now_us());
    registry_each(plane->registry, retry_pool, &retrying);
}

static void on_part_gone(void *argument, struct host *part)
{
    post_all(argument, NULL, part);
}

void plane_set_addresses(struct plane *plane, const char *environment,
                         const struct host_config *config, const char *const *addresses,
                         size_t count)
{
    struct host *host = hosts_get(plane->hosts, environment, config);

    hosts_split(plane->hosts, host, addresses, count, on_part_gone, plane);
}

/* ---- closing ---- */

struct closing {
    struct list_node node; /* in plane->closings */
    struct plane *plane;
    struct host *host; /* used; NULL: no pool knows it */
    enum reason reason;
    char *detail;
    unsigned rounds;
    void (*done)(void *context);
    void *context;
};

static void closing_free(struct closing *closing)
{
    if (closing->host)
        host_unuse(closing->host);
    free(closing->detail);
    free(closing);
}

static void close_on_worker(struct loop *loop, unsigned slot, void *argument)
{
    const struct closing *closing = argument;
    struct worker *worker = worker_of(loop);

    (void)slot;
    if (worker->ended || !closing->host)
        return;
    list_for_each_safe (node, &worker->servers) {
        struct server *server = list_entry(node, struct server, node);

        if (server->host != closing->host || !server_is_outdated(server))
            continue;
        /* a host that is cut off must not get the rest of it when the way is open again */
        if (server->state != SERVER_IDLE)
            stream_abort(&server->stream);
        server_close(server, closing->reason, closing->detail);
    }
    /* afterwards: a server that is free of its cancel would be lent again */
    cancel_abort_host(worker, closing->host);
}

static void on_round(struct loop *home, void *argument)
{
    struct closing *closing = argument;

    if (++closing->rounds < CLOSE_ROUNDS) {
        gather_start(home, closing->plane->loops, closing->plane->worker_count, close_on_worker,
                     on_round, closing);
        return;
    }
    list_remove(&closing->plane->closings, &closing->node);
    closing->done(closing->context);
    closing_free(closing);
}

void closings_end(struct plane *plane)
{
    struct list_node *node;

    while ((node = list_pop_front(&plane->closings)))
        closing_free(list_entry(node, struct closing, node));
}

void plane_close_host(struct plane *plane, const char *environment, const char *label,
                      enum reason reason, const char *detail, void (*done)(void *context),
                      void *context)
{
    struct closing *closing = memory_new(sizeof(*closing));

    closing->plane = plane;
    closing->host = hosts_find(plane->hosts, environment, label);
    closing->reason = reason;
    closing->detail = text_copy(detail);
    closing->done = done;
    closing->context = context;
    list_push_back(&plane->closings, &closing->node);
    if (closing->host) {
        host_use(closing->host);
        host_close_generation(closing->host);
    }
    gather_start(plane->control, plane->loops, plane->worker_count, close_on_worker, on_round,
                 closing);
}

/* ---- what workers see ---- */

struct evidence_letter {
    struct mail mail;
    struct plane *plane;
    struct host *host; /* used; a letter that is dropped outlives it */
    enum host_evidence evidence;
};

static void deliver_evidence(struct loop *loop, struct mail *mail)
{
    struct evidence_letter *letter = (struct evidence_letter *)mail;
    struct plane *plane = letter->plane;

    (void)loop;
    plane->heard(plane->heard_context, host_environment(letter->host), host_label(letter->host),
                 letter->evidence);
    host_unuse(letter->host);
    free(letter);
}

static void tell(const struct server *server, enum host_evidence evidence)
{
    struct plane *plane = server->backend->plane;
    struct evidence_letter *letter = memory_new(sizeof(*letter));

    letter->mail.deliver = deliver_evidence;
    letter->plane = plane;
    letter->host = server->host;
    letter->evidence = evidence;
    host_use(server->host);
    loop_post(plane->control, &letter->mail);
}

static bool is_heard(const struct server *server)
{
    return server->backend->plane->heard && host_environment(server->host);
}

void server_saw_trouble(struct server *server)
{
    if (is_heard(server) &&
        host_saw_trouble(server->host, loop_now_us(server->worker->loop), TROUBLE_AGAIN_US))
        tell(server, HOST_TROUBLE);
}

void server_saw_role(struct server *server, bool in_recovery)
{
    if (is_heard(server) &&
        host_saw_role(server->host, in_recovery, loop_now_us(server->worker->loop), ROLE_AGAIN_US))
        tell(server, in_recovery ? HOST_STANDBY : HOST_PRIMARY);
}

void server_role_changed(struct server *server, bool in_recovery)
{
    server_saw_role(server, in_recovery);
    if (choice_needs_role(server) &&
        !choice_takes_role(server, in_recovery, loop_now_us(server->worker->loop)))
        server->close_needed = true;
}

void plane_listen_to_hosts(struct plane *plane,
                           void (*heard)(void *context, const char *environment, const char *host,
                                         enum host_evidence evidence),
                           void *context)
{
    plane->heard = heard;
    plane->heard_context = context;
}
